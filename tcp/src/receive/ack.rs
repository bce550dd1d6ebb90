//! "Fifth, check the ACK field": acknowledgments, send window, SACK, RTT samples, loss recovery.

use lockgate_wire::Instant;
use lockgate_wire::tcp::Flags;

use super::Step;
use crate::congestion::{CongestionControl, Delivered};
use crate::options::echoed_rtt;
use crate::recovery::{AckOutcome, DUP_THRESHOLD, Phase};
use crate::timers::{RtxMode, Timer};
use crate::transmit::signed;
use crate::{Connection, Event, SegmentIn, Shared, State, Verdict};

impl Connection {
    pub(super) fn process_ack(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
        verdict: &mut Verdict,
    ) -> Step {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# if the ACK bit is off, drop the segment and return
        if !segment.has(Flags::ACK) {
            return Step::DROP;
        }
        let ack = self.snd.offset(segment.tcp.ack);
        if self.state == State::SynReceived {
            //# If the segment acknowledgment is not acceptable, form a
            //# reset segment
            //#
            //#    <SEQ=SEG.ACK><CTL=RST>
            if ack != 0 {
                sh.counters.bad_acks += 1;
                return Step::Done(crate::reset_for(segment), Event::None);
            }
            self.establish(now, segment, sh);
            verdict.event = Event::Connected;
        }
        //= https://www.rfc-editor.org/rfc/rfc5961#section-5.2
        //# The ACK value is considered acceptable only if
        //# it is in the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <=
        //# SND.NXT).  All incoming segments whose ACK value doesn't satisfy the
        //# above condition MUST be discarded and an ACK sent back.
        let una = signed(self.snd.una);
        if ack > signed(self.snd.nxt) || ack < una - i64::from(self.snd.window_max) {
            sh.counters.bad_acks += 1;
            return Step::Done(self.challenge(now, sh), Event::None);
        }
        if ack >= una {
            self.on_ack(now, u64::try_from(ack).unwrap_or(0), segment, sh);
        }
        self.on_fin_acked(now, sh)
    }

    /// Processes the ACK field of a segment whose payload is old or outside a closed window.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# If the RCV.WND is zero, no segments will be acceptable, but special
    //# allowance should be made to accept valid ACKs, URGs, and RSTs.
    // Old payload included: the ACK of a retransmitted segment may be the only copy (as in BSD).
    pub(super) fn ack_of_unacceptable(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> Event {
        let ack = self.snd.offset(segment.tcp.ack);
        let outcome = signed(self.snd.una) < ack && ack <= signed(self.snd.nxt);
        let bare = segment.has(Flags::ACK) && !segment.has(Flags::SYN);
        if !outcome || !bare || !self.state.is_synchronized() {
            return Event::None;
        }
        self.on_ack(now, u64::try_from(ack).unwrap_or(0), segment, sh);
        match self.on_fin_acked(now, sh) {
            Step::Next => Event::None,
            Step::Done(_, event) => event,
        }
    }

    /// Enters ESTABLISHED: the handshake is complete.
    pub(crate) fn establish(&mut self, now: Instant, segment: &SegmentIn<'_>, sh: &Shared) {
        self.state = if self.snd.closing {
            State::FinWait1
        } else {
            State::Established
        };
        self.timers.stop(Timer::Retransmit);
        self.snd.rtx_mode = RtxMode::Off;
        self.snd.syn_due = false;
        self.snd.progress_at = now;
        self.rcv.last_at = now;
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# SND.WND <- SEG.WND
        //# SND.WL1 <- SEG.SEQ
        //# SND.WL2 <- SEG.ACK
        let window = if segment.has(Flags::SYN) {
            u32::from(segment.tcp.window)
        } else {
            self.negotiated.scaled(segment.tcp.window)
        };
        self.set_window(window, segment);
        self.arm_keepalive(now, sh);
    }

    /// Processes an acceptable ACK: SND.UNA =< SEG.ACK =< SND.NXT.
    fn on_ack(&mut self, now: Instant, ack: u64, segment: &SegmentIn<'_>, sh: &mut Shared) {
        let old_edge = self.snd.edge;
        self.reclaim_ranges(sh);
        self.update_window(segment);
        if self.snd.rtx_mode == RtxMode::Persist {
            // The peer answers window probes, so the connection does not time out.
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.1
            //# As long as the receiving TCP peer continues to send acknowledgments in response
            //# to the probe segments, the sending TCP peer MUST allow the connection to stay open
            //# (MUST-37).
            self.snd.progress_at = now;
        }
        let advanced = ack > self.snd.una;
        let duplicate = self.is_duplicate(segment, advanced, old_edge);
        let mut outcome = AckOutcome::default();
        if advanced {
            self.advance(now, ack, &mut outcome, sh);
        }
        let before = outcome.delivered;
        self.read_sack(segment, &mut outcome, sh);
        sh.counters.sack_splits_refused += u64::from(outcome.splits_refused);
        let reported = outcome.delivered > before;
        self.sample_rtt(now, segment, &outcome);
        if self.snd.window_probes_sent > 0 && !advanced && old_edge <= ack && self.snd.edge > ack {
            // The window opened and the probe's byte was refused: retransmit it now, without a
            // time-out.
            self.board.mark_unsent(ack, ack + 1, &mut sh.ranges);
        }
        if self.board.tree.count == 0 && self.board.phase == Phase::Open {
            self.board.dup_acks = 0;
        } else {
            let advance = advanced.then_some(before);
            self.update_recovery(now, advance, duplicate || (reported && !advanced), sh);
        }
        if advanced {
            self.grow_window(now, &outcome);
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc5681#section-2
    //# DUPLICATE ACKNOWLEDGMENT: An acknowledgment is considered a
    //#    "duplicate" in the following algorithms when (a) the receiver of
    //#    the ACK has outstanding data, (b) the incoming acknowledgment
    //#    carries no data, (c) the SYN and FIN bits are both off, (d) the
    //#    acknowledgment number is equal to the greatest acknowledgment
    //#    received on the given connection (TCP.UNA from [RFC793]) and (e)
    //#    the advertised window in the incoming acknowledgment equals the
    //#    advertised window in the last incoming acknowledgment.
    // With SACK only newly reported data counts. The answer to a window probe is no duplicate ACK.
    fn is_duplicate(&self, segment: &SegmentIn<'_>, advanced: bool, old_edge: u64) -> bool {
        !self.negotiated.sack
            && !advanced
            && self.snd.una < self.snd.nxt.min(self.snd.edge)
            && segment.seq_len() == 0
            && old_edge == self.snd.edge
    }

    /// Advances SND.UNA to `ack`.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        ack: u64,
        outcome: &mut AckOutcome,
        sh: &mut Shared,
    ) {
        self.board.on_ack(ack, outcome, &mut sh.ranges);
        self.snd.una = ack;
        self.snd.progress_at = now;
        //= https://www.rfc-editor.org/rfc/rfc6298#section-5
        //# (5.3) When an ACK is received that acknowledges new data, restart the
        //#       retransmission timer so that it will expire after RTO seconds
        //#       (for the current value of RTO).
        self.snd.rtx_mode = RtxMode::Off;
    }

    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be
    //# updated.  If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and
    //# SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND, set SND.WL1 <-
    //# SEG.SEQ, and set SND.WL2 <- SEG.ACK.
    pub(super) fn update_window(&mut self, segment: &SegmentIn<'_>) {
        let (seq, ack) = (segment.last_seq(), segment.tcp.ack);
        let newer =
            self.snd.wl1.before(seq) || (self.snd.wl1 == seq && self.snd.wl2.at_or_before(ack));
        if newer {
            self.set_window(self.negotiated.scaled(segment.tcp.window), segment);
        }
    }

    fn set_window(&mut self, window: u32, segment: &SegmentIn<'_>) {
        let snd = &mut self.snd;
        snd.wl1 = segment.last_seq();
        snd.wl2 = segment.tcp.ack;
        snd.window_max = snd.window_max.max(window);
        let ack = u64::try_from(snd.offset(segment.tcp.ack)).unwrap_or(0);
        snd.edge = ack + u64::from(window);
    }

    /// Processes the SACK blocks.
    fn read_sack(&mut self, segment: &SegmentIn<'_>, outcome: &mut AckOutcome, sh: &mut Shared) {
        if !self.negotiated.sack || segment.tcp.options.sack.is_empty() {
            return;
        }
        let blocks = &segment.tcp.options.sack;
        let mss = u32::from(self.snd.mss);
        let una = signed(self.snd.una);
        let mut above = None;
        for block in blocks.iter() {
            let (start, end) = (self.snd.offset(block.start), self.snd.offset(block.end));
            let first = *above.get_or_insert((start, end));
            //= https://www.rfc-editor.org/rfc/rfc2883#section-4
            //# (5) If the D-SACK block reports a duplicate contiguous sequence
            //# from a (possibly larger) block of data in the receiver's data
            //# queue above the cumulative acknowledgement, then the second
            //# SACK block in that SACK option should specify that (possibly
            //# larger) block of data.
            let is_first = first == (start, end);
            if (is_first && end <= una) || (!is_first && start <= first.0 && first.1 <= end) {
                sh.counters.dsacks += 1;
            }
            // Blocks beyond SND.NXT are ignored.
            let (Ok(start), Ok(end)) = (u64::try_from(start.max(una)), u64::try_from(end)) else {
                continue;
            };
            if start < end && end <= self.snd.nxt {
                self.board.on_sack(start..end, mss, outcome, &mut sh.ranges);
            }
        }
    }

    /// Takes an RTT sample from this ACK.
    pub(super) fn sample_rtt(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        outcome: &AckOutcome,
    ) {
        if outcome.delivered == 0 {
            return;
        }
        //= https://www.rfc-editor.org/rfc/rfc7323#section-4.2
        //# ExpectedSamples = ceiling(FlightSize / (SMSS * 2))
        let flight = self.snd.flight().saturating_add(outcome.delivered);
        let samples = flight.div_ceil(2 * u32::from(self.snd.mss).max(1));
        if let Some(at) = outcome.sent_at() {
            self.rtt.sample(now.saturating_since(at), samples);
            self.rtt.backoff = 0;
        } else if let (Some(resent_at), Some(ts), true) = (
            outcome.resent_at,
            segment.tcp.options.timestamps,
            self.negotiated.timestamps,
        ) {
            // The timestamp echo tells which transmission was acknowledged. It is coarse, so it is
            // the second choice.
            //= https://www.rfc-editor.org/rfc/rfc7323#section-4.1
            //# RTTM Rule: A TSecr value received in a segment MAY be used to update
            //# the averaged RTT measurement only if the segment advances
            //# the left edge of the send window, i.e., SND.UNA is increased.
            // If the echo gives no sample, the backoff stays, as without timestamps.
            let ts_offset = self.negotiated.ts_offset;
            if let Some(rtt) = echoed_rtt(now, ts_offset, ts.ecr, resent_at) {
                self.rtt.sample(rtt, samples);
                self.rtt.backoff = 0;
            }
        }
    }

    /// Grows the congestion window, outside of fast recovery.
    pub(super) fn grow_window(&mut self, now: Instant, outcome: &AckOutcome) {
        if self.board.phase == Phase::Recovery {
            return;
        }
        self.congestion.on_delivered(
            now,
            Delivered {
                bytes: outcome.delivered,
                mss: u32::from(self.snd.mss),
                srtt: self.rtt.srtt().unwrap_or_default(),
                cwnd_limited: self.snd.cwnd_limited,
            },
        );
    }

    /// Updates loss recovery: detects losses, enters, continues or leaves recovery.
    fn update_recovery(
        &mut self,
        now: Instant,
        advance: Option<u32>,
        duplicate: bool,
        sh: &mut Shared,
    ) {
        let mss = u32::from(self.snd.mss);
        let sack = self.negotiated.sack;
        if duplicate && !sack {
            let flight = self.snd.flight();
            self.board.duplicates = self
                .board
                .duplicates
                .saturating_add(mss)
                .min(flight.saturating_sub(mss));
        }
        match self.board.phase {
            Phase::Open => {
                if advance.is_some() {
                    self.board.dup_acks = 0;
                    self.board.duplicates = 0;
                }
                self.board.dup_acks = self.board.dup_acks.saturating_add(u8::from(duplicate));
                let many = u32::from(self.board.dup_acks) >= DUP_THRESHOLD;
                let lost = sack && self.board.detect_losses(mss, &mut sh.ranges);
                let (una, last) = (self.snd.una, self.board.recovery_point);
                // Without SACK, duplicate ACKs may answer retransmissions of the last recovery.
                //= https://www.rfc-editor.org/rfc/rfc6582#section-3.2
                // Recovery starts only if more than "recover" is acknowledged.
                let fresh = sack || una > last || last == 0;
                if lost || (many && fresh) {
                    if !lost {
                        self.board.mark_first_lost(mss, &mut sh.ranges);
                    }
                    self.start_recovery(now, sh);
                }
            }
            Phase::Recovery | Phase::Loss if self.snd.una >= self.board.recovery_point => {
                self.board.leave_recovery();
            }
            Phase::Recovery => {
                if sack {
                    self.board.detect_losses(mss, &mut sh.ranges);
                } else if let Some(acked) = advance {
                    //= https://www.rfc-editor.org/rfc/rfc6582#section-3.2
                    // Partial ACK: retransmit the first unacknowledged segment and deflate the
                    // window by the acknowledged amount less one segment. The window is not
                    // inflated: duplicate ACKs are subtracted from the pipe instead.
                    let gone = acked.saturating_sub(mss);
                    self.board.duplicates = self.board.duplicates.saturating_sub(gone);
                    self.board.mark_first_lost(mss, &mut sh.ranges);
                    self.board.force = true;
                }
            }
            Phase::Loss => {
                if sack {
                    self.board.detect_losses(mss, &mut sh.ranges);
                }
            }
        }
    }

    /// Starts fast recovery.
    fn start_recovery(&mut self, now: Instant, sh: &mut Shared) {
        let mss = u32::from(self.snd.mss);
        sh.counters.recoveries += 1;
        self.congestion.on_loss(now, self.snd.flight(), mss);
        self.board.enter_recovery(self.snd.nxt);
    }

    /// State transitions when our FIN is acknowledged.
    fn on_fin_acked(&mut self, now: Instant, sh: &Shared) -> Step {
        if !self.snd.fin_acked() {
            return Step::Next;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.arm_fin_wait2_timer(now, sh);
                Step::Next
            }
            State::Closing => {
                self.enter_time_wait(now, sh);
                Step::Done(None, Event::TimeWait)
            }
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
            //# The only thing that can arrive in this state is an
            //# acknowledgment of our FIN.  If our FIN is now
            //# acknowledged, delete the TCB, enter the CLOSED state, and
            //# return.
            State::LastAck => Step::Done(None, Event::Closed),
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait2
            | State::CloseWait
            | State::TimeWait => Step::Next,
        }
    }
}

//! Segment arrival: RFC 9293, section 3.10.7, in its order.
//!
//! - this file: acceptability test, PAWS, RST and SYN
//! - `vars`: receive sequence variables
//! - `fast`: header prediction, the fast path of an established connection
//! - `syn_sent`: the second step of an active open
//! - `ack`: acknowledgments, send window, SACK, loss detection
//! - `text`: payload and FIN
//! - `pieces`: out-of-order payload

mod ack;
mod fast;
mod pieces;
mod syn_sent;
mod text;
mod vars;

pub(crate) use syn_sent::MSS_MIN;
pub(crate) use vars::ReceiveVars;

use lockgate_wire::tcp::{Flags, TcpHeader};
use lockgate_wire::{Instant, StreamOffset};

use crate::options::Negotiated;
use crate::transmit::signed;
use crate::{Connection, Event, SegmentIn, Shared, State, TimeWaitVerdict, Verdict};

/// Position of a segment's payload in the peer's stream; SYN and FIN not counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// First payload byte; negative for what precedes the stream.
    start: i64,
    /// One past the last payload byte.
    end: i64,
    fin: bool,
}

/// Result of a processing step: continue with the next one, or stop with an answer and an event.
pub(crate) enum Step {
    Next,
    Done(Option<TcpHeader>, Event),
}

impl Step {
    const DROP: Self = Self::Done(None, Event::None);
}

impl Connection {
    /// Processes a received segment (RFC 9293, 3.10.7).
    ///
    /// Reserve memory for the payload before the call: the range that [`Verdict::keep`] names
    /// counts as received and is acknowledged.
    pub fn on_segment(&mut self, now: Instant, segment: SegmentIn<'_>, sh: &mut Shared) -> Verdict {
        self.stamp = self.stamp.wrapping_add(1);
        sh.counters.segments_in += u64::from(segment.segments);
        if let Some(verdict) = self.fast_path(now, &segment, sh) {
            return verdict;
        }
        let mut verdict = self.verdict();
        let was_closed = self.rcv.fin_received();
        let (answer, event) = match self.state {
            State::Closed | State::Listen => (crate::reset_for(&segment), Event::None),
            State::SynSent => self.in_syn_sent(now, &segment, sh, &mut verdict),
            State::TimeWait => self.in_time_wait(now, &segment, sh),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => self.in_other_states(now, &segment, sh, &mut verdict),
        };
        if event.is_over() {
            self.end(sh);
        } else {
            self.arm_rtx_timer(now, sh);
        }
        verdict.answer = answer;
        if event == Event::TimeWait && self.rcv.ack_due {
            // The caller may replace the connection by its TIME-WAIT entry now, so the FIN is
            // acknowledged here.
            verdict.answer = Some(self.ack_header(now, sh));
        }
        if event != Event::None {
            verdict.event = event;
        }
        verdict.acked = self.acked();
        verdict.readable = self.received();
        verdict.peer_closed = !was_closed && self.rcv.fin_received();
        verdict
    }

    /// A verdict that keeps nothing.
    pub(crate) fn verdict(&self) -> Verdict {
        let readable = self.received();
        Verdict {
            keep: readable..readable,
            skip_front: 0,
            readable,
            acked: self.acked(),
            answer: None,
            peer_closed: false,
            event: Event::None,
        }
    }

    /// "3.10.7.4. Other States"
    fn in_other_states(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
        verdict: &mut Verdict,
    ) -> (Option<TcpHeader>, Event) {
        if let Step::Done(answer, event) = self.check_sequence(now, segment, sh) {
            return (answer, event);
        }
        if let Step::Done(answer, event) = self.check_reset_and_syn(now, segment, sh) {
            return (answer, event);
        }
        if let Step::Done(answer, event) = self.process_ack(now, segment, sh, verdict) {
            return (answer, event);
        }
        self.update_timestamp(now, segment);
        //= https://www.rfc-editor.org/rfc/rfc6093#section-6
        // Urgent data is not supported: the URG bit is ignored and the data is delivered in line.
        self.process_text(now, segment, sh, verdict)
    }

    /// PAWS and the acceptability test.
    fn check_sequence(&mut self, now: Instant, segment: &SegmentIn<'_>, sh: &mut Shared) -> Step {
        let place = self.place(segment);
        if let Some(refused) = self.check_timestamps(now, segment, &place, sh) {
            return refused;
        }
        if !self.is_acceptable(&place, segment) {
            sh.counters.unacceptable += 1;
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
            //# If an incoming segment is not acceptable, an acknowledgment
            //# should be sent in reply (unless the RST bit is set, if so drop
            //# the segment and return)
            if segment.has(Flags::RST) {
                return Step::DROP;
            }
            // A SYN outside the window gets a challenge ACK, as a SYN inside does below.
            let old = place.end <= signed(self.rcv.nxt);
            let event = if old || self.rcv.window() == 0 {
                self.ack_of_unacceptable(now, segment, sh)
            } else {
                Event::None
            };
            return match self.answer_unacceptable(now, segment, &place, sh) {
                Step::Done(answer, Event::None) => Step::Done(answer, event),
                step @ (Step::Next | Step::Done(..)) => step,
            };
        }
        self.rcv.last_at = now;
        self.snd.keepalives = 0;
        Step::Next
    }

    /// Computes the position of the segment in the peer's stream.
    fn place(&self, segment: &SegmentIn<'_>) -> Place {
        let syn = i64::from(segment.has(Flags::SYN));
        let start = self.rcv.offset(segment.tcp.seq) + syn;
        Place {
            start,
            end: start + i64::from(segment.len),
            fin: segment.has(Flags::FIN),
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# Segment Length  ReceiveVars Window  Test
    //# 0               0               SEG.SEQ = RCV.NXT
    //# 0               >0              RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND
    //# >0              0               not acceptable
    //# >0              >0              RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND
    //#                                 or
    //#                                 RCV.NXT =< SEG.SEQ+SEG.LEN-1 < RCV.NXT+RCV.WND
    // Three departures, as on Linux. (1) An empty segment at the right edge of the window is
    // acceptable: a peer that has filled the window and retransmits acknowledges from there. (2) So
    // is a bare FIN. (3) In SYN-RECEIVED a SYN-ACK that crossed our SYN has an old sequence number,
    // because its SYN has been received already (RFC 9293, figure 7).
    fn is_acceptable(&self, place: &Place, segment: &SegmentIn<'_>) -> bool {
        let (nxt, edge) = (signed(self.rcv.nxt), signed(self.rcv.edge()));
        if self.state == State::SynReceived && segment.has(Flags::SYN | Flags::ACK) {
            return place.start == 0;
        }
        let end = place.end + i64::from(place.fin);
        if end == place.start {
            return nxt <= place.start && place.start <= edge;
        }
        let bare_fin = place.start == place.end;
        end > nxt && (place.start < edge || (bare_fin && place.start == edge))
    }

    /// PAWS (RFC 7323, section 5.3). Returns a step if the segment is dropped.
    fn check_timestamps(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        place: &Place,
        sh: &mut Shared,
    ) -> Option<Step> {
        // RST and SYN are not subject to PAWS: a SYN gets a challenge ACK in any case.
        if !self.negotiated.timestamps || segment.tcp.flags.intersects(Flags::RST | Flags::SYN) {
            return None;
        }
        let Some(ts) = segment.tcp.options.timestamps else {
            //= https://www.rfc-editor.org/rfc/rfc7323#section-3.2
            //# If a non-<RST> segment is received without a TSopt, a TCP SHOULD
            //# silently drop the segment.
            // Departure: the segment is accepted and counted, as Linux does. Middleboxes strip the
            // option and some clients stop sending it; dropping would stall them until they time
            // out. Such a segment has the protection of a connection without timestamps: the
            // window and RFC 5961.
            sh.counters.timestamp_missing += 1;
            return None;
        };
        //= https://www.rfc-editor.org/rfc/rfc7323#section-5.3
        //# R1)  If there is a Timestamps option in the arriving segment,
        //#      SEG.TSval < TS.Recent, TS.Recent is valid (see later
        //#      discussion), and if the RST bit is not set, then treat the
        //#      arriving segment as not acceptable
        let older = ts.val.wrapping_sub(self.rcv.ts_recent) > 1 << 31;
        let valid = self.rcv.is_ts_recent_valid(now);
        if older && valid {
            sh.counters.paws_dropped += 1;
            // A pure ACK that was reordered behind a later one carries nothing new. An answer would
            // look like a duplicate ACK (Linux accepts it for the same reason).
            let lag = self.rcv.ts_recent.wrapping_sub(ts.val);
            let bare = segment.seq_len() == 0 && place.start == signed(self.rcv.nxt);
            if bare && lag < OVERTAKEN_TICKS {
                return Some(Step::DROP);
            }
            return Some(self.answer_unacceptable(now, segment, place, sh));
        }
        None
    }

    //= https://www.rfc-editor.org/rfc/rfc7323#section-4.3
    //# (2)  If:
    //#
    //#      SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent
    //#
    //#      then SEG.TSval is copied to TS.Recent; otherwise, it is ignored.
    // Called only after the acknowledgment number was validated (RFC 5961, section 5). Otherwise an
    // attacker that guesses a sequence number in the window could set TS.Recent and make PAWS drop
    // everything else.
    fn update_timestamp(&mut self, now: Instant, segment: &SegmentIn<'_>) {
        if !self.negotiated.timestamps {
            return;
        }
        // An older timestamp passes PAWS only if TS.Recent was not updated for 24 days.
        if let Some(ts) = segment.tcp.options.timestamps
            && segment
                .tcp
                .seq
                .at_or_before(self.rcv.seq(self.rcv.last_ack()))
        {
            self.rcv.set_ts_recent(now, ts.val);
        }
    }

    /// Answers an unacceptable segment with an ACK, rate limited as a challenge ACK where needed.
    fn answer_unacceptable(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        place: &Place,
        sh: &mut Shared,
    ) -> Step {
        let nxt = signed(self.rcv.nxt);
        // Keepalive and window probes are answered without the challenge limit.
        let probe = segment.len <= 1 && place.end <= nxt && place.start >= nxt - 1;
        if segment.len == 0 && !segment.has(Flags::FIN) && !probe {
            // The limit ends ACK loops between two ends that find each other's empty segments
            // unacceptable.
            return match self.challenge(now, sh) {
                Some(header) => Step::Done(Some(header), Event::None),
                None => Step::DROP,
            };
        }
        //= https://www.rfc-editor.org/rfc/rfc2883#section-4
        //# A D-SACK block is only used to report a duplicate
        //# contiguous sequence of data received by the receiver in the most
        //# recent packet.
        if segment.len > 0 && place.start >= 0 && place.end <= nxt {
            self.record_duplicate(place.start, place.end);
        }
        let answer = if self.rcv.window() == 0 {
            self.probe_answer(now, sh)
        } else {
            self.ack_header(now, sh)
        };
        Step::Done(Some(answer), Event::None)
    }

    /// "Second, check the RST bit" and "Fourth, check the SYN bit".
    fn check_reset_and_syn(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> Step {
        if segment.has(Flags::RST) {
            //= https://www.rfc-editor.org/rfc/rfc5961#section-3.2
            //# 1) If the RST bit is set and the sequence number is outside the
            //#    current receive window, silently drop the segment.
            //#
            //# 2) If the RST bit is set and the sequence number exactly matches the
            //#    next expected sequence number (RCV.NXT), then TCP MUST reset the
            //#    connection.
            //#
            //# 3) If the RST bit is set and the sequence number does not exactly
            //#    match the next expected sequence value, yet is within the current
            //#    receive window, TCP MUST send an acknowledgment (challenge ACK)
            if segment.tcp.seq != self.rcv.seq(self.rcv.nxt) {
                return Step::Done(self.challenge(now, sh), Event::None);
            }
            sh.counters.resets_in += 1;
            let refused = self.state == State::SynReceived;
            return Step::Done(
                None,
                if refused {
                    Event::Refused
                } else {
                    Event::Reset
                },
            );
        }
        //= https://www.rfc-editor.org/rfc/rfc5961#section-4.2
        //# 1) If the SYN bit is set, irrespective of the sequence number, TCP
        //#    MUST send an ACK (also referred to as challenge ACK) to the remote
        //#    peer
        // Simultaneous open: in SYN-RECEIVED the peer's SYN-ACK is expected.
        let crossed = self.state == State::SynReceived && segment.has(Flags::ACK);
        if segment.has(Flags::SYN) && !crossed {
            return Step::Done(self.challenge(now, sh), Event::None);
        }
        Step::Next
    }

    /// Builds a challenge ACK (RFC 5961). `None` if the limit is reached.
    pub(crate) fn challenge(&mut self, now: Instant, sh: &mut Shared) -> Option<TcpHeader> {
        sh.challenge
            .try_consume(now, &mut sh.counters)
            .then(|| self.ack_header(now, sh))
    }

    fn in_time_wait(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> (Option<TcpHeader>, Event) {
        let Some(mut remains) = self.time_wait() else {
            return (None, Event::None);
        };
        let answer = match remains.on_segment(now, segment, sh) {
            TimeWaitVerdict::Reply(header) => Some(header),
            // A full connection in TIME-WAIT can't be reused; only its `TimeWait` entry can.
            TimeWaitVerdict::Drop | TimeWaitVerdict::Reuse { .. } => None,
        };
        self.timers
            .set(crate::timers::Timer::Linger, remains.deadline());
        (answer, Event::None)
    }

    /// Records a range that was received twice, for the D-SACK block of the next ACK.
    pub(crate) fn record_duplicate(&mut self, start: i64, end: i64) {
        if let (true, Ok(start), Ok(end)) = (
            self.negotiated.sack,
            u64::try_from(start),
            u64::try_from(end),
        ) {
            self.rcv.dsack = (self.rcv.seq(start), self.rcv.seq(end));
        }
    }
}

impl Negotiated {
    /// The window in bytes of a received window field.
    pub(crate) fn scaled(&self, field: u16) -> u32 {
        u32::from(field) << self.snd_shift
    }
}

/// Converts `nxt` to an offset for the caller: without the position of the FIN.
pub(crate) const fn without_fin(nxt: u64, fin: u64) -> StreamOffset {
    StreamOffset(if nxt > fin { fin } else { nxt })
}

/// A pure ACK whose timestamp is at most this much older counts as reordered.
const OVERTAKEN_TICKS: u32 = 1000;

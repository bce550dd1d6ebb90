//! Choosing what to send: send sequence variables and `poll_transmit`.

use core::ops::Range;
use core::time::Duration;

use lockgate_wire::{Instant, SeqNum, StreamOffset};

use crate::congestion::{self, CongestionControl};
use crate::header::pieces_reported;
use crate::recovery::Phase;
use crate::timers::RtxMode;
use crate::{Connection, Intent, IntentKind, Shared, State, TcpConfig};

mod commit;

/// The send side of a connection (RFC 9293, 3.3.1).
///
/// ```text
///        acknowledged      in flight         may be sent      not ready
///   0 ----------------- una -------- nxt ------------- ready ------------ queued (FIN)
///                                          edge: where the peer's window ends
/// ```
///
/// Offsets count our FIN as one byte at `queued`.
#[derive(Debug)]
pub(crate) struct SendVars {
    pub(crate) una: u64,
    /// SND.NXT as an offset, a FIN included.
    pub(crate) nxt: u64,
    pub(crate) queued: u64,
    pub(crate) ready: u64,
    pub(crate) edge: u64,
    /// Time of the last transmission that has to be acknowledged.
    pub(crate) last_sent: Instant,
    /// Time of the last progress: an ACK of new data, any ACK while the window is closed, or the
    /// first transmission after everything was acknowledged.
    pub(crate) progress_at: Instant,
    pub(crate) iss: SeqNum,
    /// SND.WL1 and SND.WL2: sequence and acknowledgment numbers of the last window update.
    pub(crate) wl1: SeqNum,
    pub(crate) wl2: SeqNum,
    /// Largest window that the peer advertised.
    pub(crate) window_max: u32,
    pub(crate) user_timeout_ms: u32,
    /// Payload bytes per segment without SACK blocks.
    pub(crate) mss: u16,
    /// Probes of a closed window since it was last open.
    pub(crate) window_probes_sent: u8,
    /// `close` was called: a FIN follows the queued data.
    pub(crate) closing: bool,
    /// A SYN or SYN-ACK is due.
    pub(crate) syn_due: bool,
    /// A window probe is due.
    pub(crate) probe_due: bool,
    /// The override timeout has passed: send despite silly window avoidance.
    pub(crate) override_due: bool,
    pub(crate) keepalive_due: bool,
    /// Unanswered keepalive probes.
    pub(crate) keepalives: u8,
    /// Whether the congestion window is the limit of what is sent.
    pub(crate) cwnd_limited: bool,
    /// What the retransmission timer waits for.
    pub(crate) rtx_mode: RtxMode,
}

impl SendVars {
    pub(crate) fn new(iss: SeqNum, now: Instant, cfg: &TcpConfig) -> Self {
        Self {
            una: 0,
            nxt: 0,
            queued: 0,
            ready: 0,
            edge: 0,
            last_sent: now,
            progress_at: now,
            iss,
            wl1: SeqNum(0),
            wl2: iss,
            window_max: 0,
            user_timeout_ms: millis(cfg.user_timeout),
            mss: 0,
            window_probes_sent: 0,
            closing: false,
            syn_due: false,
            probe_due: false,
            override_due: false,
            keepalive_due: false,
            keepalives: 0,
            cwnd_limited: false,
            rtx_mode: RtxMode::Off,
        }
    }

    /// The sequence number of an offset.
    pub(crate) fn seq(&self, at: u64) -> SeqNum {
        self.iss + 1 + low(at)
    }

    /// The offset of a sequence number near `una`; negative before the start of the stream.
    pub(crate) fn offset(&self, seq: SeqNum) -> i64 {
        signed(self.una) + distance(self.seq(self.una), seq)
    }

    /// Sequence number of segments without payload: SND.NXT, or SND.UNA if only a window probe is
    /// in flight. After a refused probe SND.NXT would not be acceptable, and two ends that probe
    /// each other would enter an ACK loop.
    pub(crate) fn seq_without_payload(&self) -> SeqNum {
        let probe_only =
            self.window_probes_sent > 0 && self.nxt == self.una + 1 && self.edge <= self.una;
        self.seq(if probe_only { self.una } else { self.nxt })
    }

    /// Bytes in flight, a FIN included.
    pub(crate) fn flight(&self) -> u32 {
        u32::try_from(self.nxt - self.una).unwrap_or(u32::MAX)
    }

    /// Whether our FIN was sent.
    pub(crate) fn fin_sent(&self) -> bool {
        self.closing && self.nxt > self.queued
    }

    /// Whether our FIN was acknowledged.
    pub(crate) fn fin_acked(&self) -> bool {
        self.closing && self.una > self.queued
    }

    /// Whether a closed window blocks data or a FIN.
    pub(crate) fn window_closed(&self) -> bool {
        self.edge <= self.una && (self.send_end() > self.una)
    }

    /// End of everything that is ready or in flight, a FIN included.
    fn send_end(&self) -> u64 {
        let sendable = self.ready.max(self.nxt);
        if self.closing && self.ready >= self.queued {
            self.queued + 1
        } else {
            sendable
        }
    }

    /// Whether there is new data or a FIN to send, apart from windows.
    pub(crate) fn has_unsent(&self) -> bool {
        self.send_end() > self.nxt
    }
}

impl Connection {
    /// What to send now, if anything. Changes nothing: a second call returns the same.
    pub fn poll_transmit(&self, now: Instant, sh: &Shared) -> Option<Intent> {
        let (kind, range) = self.next_to_send(now, sh)?;
        let mss = self.mss_now();
        let len = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
        let whole = (BURST_MAX / u32::from(mss)).max(1) * u32::from(mss);
        Some(Intent {
            kind,
            range: StreamOffset(range.start)..StreamOffset(range.end),
            mss,
            burst_max: len.min(whole),
            stamp: self.stamp,
        })
    }

    /// Payload bytes per segment, with the room for SACK blocks taken off.
    //= https://www.rfc-editor.org/rfc/rfc6691#section-2
    // RFC 6691: the MSS is reduced by the length of the options in each segment.
    pub(crate) fn mss_now(&self) -> u16 {
        let blocks = pieces_reported(self);
        let taken = if blocks == 0 { 0 } else { 4 + 8 * blocks };
        self.snd.mss.saturating_sub(taken).max(1)
    }

    fn next_to_send(&self, now: Instant, sh: &Shared) -> Option<(IntentKind, Range<u64>)> {
        let here = self.snd.nxt.min(self.snd.queued);
        match self.state {
            State::SynSent if self.snd.syn_due => return Some((IntentKind::Syn, 0..0)),
            State::SynReceived if self.snd.syn_due => return Some((IntentKind::SynAck, 0..0)),
            State::Established
            | State::CloseWait
            | State::FinWait1
            | State::Closing
            | State::LastAck => {
                if let Some(found) = self.next_bytes(now, sh) {
                    return Some(found);
                }
            }
            State::Closed | State::Listen => return None,
            State::SynSent | State::SynReceived | State::FinWait2 | State::TimeWait => {}
        }
        if self.snd.keepalive_due {
            return Some((IntentKind::Keepalive, here..here));
        }
        self.ack_due().then_some((IntentKind::Ack, here..here))
    }

    /// Data or FIN to send, in the order of RFC 6675's `NextSeg`.
    fn next_bytes(&self, now: Instant, sh: &Shared) -> Option<(IntentKind, Range<u64>)> {
        let snd = &self.snd;
        if snd.window_closed() {
            return if snd.probe_due {
                self.next_probe(sh)
            } else {
                None
            };
        }
        let free = self
            .effective_window(now, sh)
            .saturating_sub(self.board.pipe(snd.flight()));
        if let Some(lost) = self.board.next_pending(&sh.ranges) {
            return self.clamp_retransmit(lost, free, self.board.force);
        }
        if let Some(range) = self.next_new_data(free, sh) {
            return Some((IntentKind::Data, range));
        }
        if self.board.phase == Phase::Recovery && free >= u32::from(snd.mss) {
            let one = u32::from(snd.mss);
            if let Some(range) = self.board.next_speculative(&sh.ranges) {
                return self.clamp_retransmit(range, one, false);
            }
            if self.negotiated.sack
                && let Some(range) = self.board.rescue(one, &sh.ranges)
            {
                return self.clamp_retransmit(range, one, false);
            }
        }
        None
    }

    /// Clamps a retransmission to the congestion window and the send window.
    fn clamp_retransmit(
        &self,
        range: Range<u64>,
        free: u32,
        force: bool,
    ) -> Option<(IntentKind, Range<u64>)> {
        let mss = u32::from(self.snd.mss);
        let wanted = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
        //= https://www.rfc-editor.org/rfc/rfc6675#section-5
        //# (C) If cwnd - pipe >= 1 SMSS, the sender SHOULD transmit one or more segments
        let allowed = if free >= wanted {
            wanted
        } else if free >= mss {
            free / mss * mss
        } else if force {
            mss.min(wanted)
        } else {
            return None;
        };
        let end = (range.start + u64::from(allowed)).min(self.snd.edge);
        let queued = self.snd.queued;
        (end > range.start).then(|| {
            (
                IntentKind::Retransmit,
                range.start.min(queued)..end.min(queued),
            )
        })
    }

    /// New data to send; `free` is what the congestion window allows. Empty: a FIN alone.
    fn next_new_data(&self, free: u32, sh: &Shared) -> Option<Range<u64>> {
        let snd = &self.snd;
        if snd.fin_sent() || !self.board.can_record(&sh.ranges) {
            return None;
        }
        let limit = snd.ready.min(snd.edge).min(snd.nxt + u64::from(free));
        let len = limit.saturating_sub(snd.nxt);
        if len == 0 {
            // A FIN ignores the congestion window but must be inside the send window.
            let alone = snd.closing && snd.nxt == snd.queued && snd.edge > snd.nxt;
            return alone.then_some(snd.nxt..snd.nxt);
        }
        let mss = u64::from(snd.mss);
        let tail = len % mss;
        let len = if tail == 0 || self.may_send_small(limit, len, free) {
            len
        } else {
            len - tail
        };
        (len > 0).then(|| snd.nxt..snd.nxt + len)
    }

    /// Whether a partial segment may be sent as the last one up to `limit` (Nagle; sender's silly
    /// window avoidance, RFC 9293, 3.8.6.2.1).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.2.1
    //# Send data:
    //#
    //# (1) if a maximum-sized segment can be sent, i.e., if:
    //#         min(D,U) >= Eff.snd.MSS;
    //# (2) or if the data is pushed and all queued data can be sent now, i.e., if:
    //#         [SND.NXT = SND.UNA and] PUSHed and D <= U
    //# (3) or if at least a fraction Fs of the maximum window can be sent, i.e., if:
    //#         [SND.NXT = SND.UNA and] min(D,U) >= Fs * Max(SND.WND);
    //# (4) or if the override timeout occurs.
    fn may_send_small(&self, limit: u64, len: u64, free: u32) -> bool {
        let snd = &self.snd;
        let idle = snd.una == snd.nxt;
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.7.4
        //# If there is unacknowledged data (i.e., SND.NXT > SND.UNA), then
        //# the sending TCP endpoint buffers all user data (regardless of the
        //# PSH bit) until the outstanding data has been acknowledged or until
        //# the TCP endpoint can send a full-sized segment (Eff.snd.MSS bytes).
        let unhindered = self.negotiated.nodelay
            || (idle && len < u64::from(snd.mss))
            || (snd.closing && limit == snd.queued);
        if limit == snd.ready {
            return unhindered || snd.override_due;
        }
        // `limit` is set by the send window or by the congestion window. Only the former can stay
        // this small.
        let by_peer = limit == snd.edge && u64::from(free) > len;
        by_peer && (snd.override_due || len >= u64::from(snd.window_max.div_ceil(2)))
    }

    /// A window probe: one byte beyond the closed window, or the FIN.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.1
    //# The sending TCP peer must regularly transmit at least one octet of new
    //# data (if available), or retransmit to the receiving TCP peer even if
    //# the send window is zero, in order to "probe" the window.
    fn next_probe(&self, sh: &Shared) -> Option<(IntentKind, Range<u64>)> {
        let snd = &self.snd;
        if snd.una == snd.nxt && !self.board.can_record(&sh.ranges) {
            return None;
        }
        let end = (snd.una + 1).min(snd.queued);
        Some((IntentKind::WindowProbe, snd.una.min(end)..end))
    }

    /// The congestion window, reduced to the restart window after an idle period.
    fn effective_window(&self, now: Instant, sh: &Shared) -> u32 {
        let window = self.congestion.window();
        if self.is_restart(now, sh) {
            window.min(self.restart_window(sh))
        } else {
            window
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc5681#section-4.1
    //# Therefore, a TCP SHOULD set cwnd to no more than RW before beginning
    //# transmission if the TCP has not sent data in an interval exceeding
    //# the retransmission timeout.
    fn is_restart(&self, now: Instant, sh: &Shared) -> bool {
        self.snd.una == self.snd.nxt
            && now.saturating_since(self.snd.last_sent) > self.rtt.rto_unscaled(&sh.config)
    }

    fn restart_window(&self, sh: &Shared) -> u32 {
        congestion::initial_window(sh.config.initial_window, u32::from(self.snd.mss), false)
    }

    /// Whether an ACK or a window update is due.
    pub fn ack_due(&self) -> bool {
        self.state.is_synchronized() && (self.rcv.ack_due || self.window_update_due())
    }
}

pub(crate) fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

/// Signed distance from `from` to `to`.
pub(crate) fn distance(from: SeqNum, to: SeqNum) -> i64 {
    i64::from(to.since(from).cast_signed())
}

/// Offset as a signed number. Offsets of a connection stay far below 2^63.
pub(crate) fn signed(offset: u64) -> i64 {
    offset.cast_signed()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sequence numbers are modulo 2^32"
)]
pub(crate) const fn low(offset: u64) -> u32 {
    offset as u32
}

/// Most TCP payload in one IP packet, with room for the longest headers.
const BURST_MAX: u32 = 65_535 - 120;

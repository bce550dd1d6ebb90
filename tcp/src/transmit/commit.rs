//! `commit`: records an intent as sent and builds its header.

use lockgate_wire::tcp::{Flags, TcpHeader};
use lockgate_wire::{Instant, StreamOffset};

use super::low;
use crate::congestion::CongestionControl;
use crate::{Connection, Intent, IntentKind, Sent, Shared};

impl Connection {
    /// Records the first `len` bytes of the intent's range as sent. Returns their header.
    ///
    /// `len` may be 0 for an intent with bytes: the result is a pure ACK, for when no buffer is
    /// available and [`ack_due`](Self::ack_due).
    pub fn commit(
        &mut self,
        intent: Intent,
        len: u32,
        now: Instant,
        sh: &mut Shared,
    ) -> (TcpHeader, Sent) {
        debug_assert_eq!(
            intent.stamp, self.stamp,
            "the connection has changed since the intent"
        );
        self.stamp = self.stamp.wrapping_add(1);
        let start = intent.range.start.0;
        let offered = u32::try_from(intent.range.end.0 - start).unwrap_or(u32::MAX);
        let len = len.min(offered);
        sh.counters.bursts_out += 1;
        match intent.kind {
            IntentKind::Syn | IntentKind::SynAck => self.commit_syn(intent.kind, now, sh),
            IntentKind::Keepalive => {
                self.snd.keepalive_due = false;
                sh.counters.keepalives += 1;
                //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.4
                //# An implementation SHOULD send a keep-alive segment with no data
                //# (SHLD-12)
                // The sequence number is SND.NXT-1, so that the peer has to answer.
                let mut header = self.ack_header(now, sh);
                header.seq = header.seq - 1;
                (
                    header,
                    Sent {
                        kind: intent.kind,
                        start: intent.range.start,
                        len: 0,
                        fin: false,
                    },
                )
            }
            IntentKind::Ack => self.commit_ack(intent.kind, start, now, sh),
            IntentKind::Data | IntentKind::Retransmit | IntentKind::WindowProbe
                if len == 0 && offered > 0 =>
            {
                self.commit_ack(IntentKind::Ack, start, now, sh)
            }
            IntentKind::Data => self.commit_new(intent.kind, start, len, now, sh),
            IntentKind::WindowProbe => {
                self.snd.probe_due = false;
                sh.counters.window_probes += 1;
                if start == self.snd.nxt {
                    self.commit_new(intent.kind, start, len, now, sh)
                } else {
                    self.commit_retransmit(intent.kind, start, len, now, sh)
                }
            }
            IntentKind::Retransmit => self.commit_retransmit(intent.kind, start, len, now, sh),
        }
    }

    fn commit_syn(&mut self, kind: IntentKind, now: Instant, sh: &Shared) -> (TcpHeader, Sent) {
        self.snd.syn_due = false;
        self.snd.last_sent = now;
        let header = self.syn_header(kind == IntentKind::SynAck, now, sh);
        (
            header,
            Sent {
                kind,
                start: StreamOffset(0),
                len: 0,
                fin: false,
            },
        )
    }

    fn commit_ack(
        &mut self,
        kind: IntentKind,
        start: u64,
        now: Instant,
        sh: &Shared,
    ) -> (TcpHeader, Sent) {
        let header = self.ack_header(now, sh);
        (
            header,
            Sent {
                kind,
                start: StreamOffset(start),
                len: 0,
                fin: false,
            },
        )
    }

    /// Commits new data or a FIN.
    fn commit_new(
        &mut self,
        kind: IntentKind,
        start: u64,
        len: u32,
        now: Instant,
        sh: &mut Shared,
    ) -> (TcpHeader, Sent) {
        if self.is_restart(now, sh) {
            let restart = self.restart_window(sh);
            self.congestion.on_idle(now, restart);
        }
        let snd = &mut self.snd;
        let end = start + u64::from(len);
        // The FIN goes with the last byte, unless it would be outside the send window.
        let probe = kind == IntentKind::WindowProbe;
        let fits = if probe {
            len == 0
        } else {
            snd.edge > end || len == 0
        };
        let fin = snd.closing && end == snd.queued && fits;
        if snd.una == snd.nxt && !probe {
            snd.progress_at = now;
        }
        snd.nxt = end + u64::from(fin);
        snd.override_due = false;
        snd.last_sent = now;
        let places = len + u32::from(fin);
        self.board.on_sent(start, places, now, &mut sh.ranges);
        self.update_cwnd_limited();
        self.arm_rtx_timer(now, sh);
        sh.counters.bytes_out += u64::from(len);
        self.finish(kind, start, len, fin, now, sh)
    }

    /// Commits a retransmission of data or a FIN.
    fn commit_retransmit(
        &mut self,
        kind: IntentKind,
        start: u64,
        len: u32,
        now: Instant,
        sh: &mut Shared,
    ) -> (TcpHeader, Sent) {
        let end = start + u64::from(len);
        let fin = self.snd.fin_sent() && end == self.snd.queued;
        if kind == IntentKind::Retransmit {
            let speculative = self.board.pending() == 0;
            if speculative && self.board.next_speculative(&sh.ranges).is_none() {
                self.board.rescued = true;
                sh.counters.rescues += 1;
            }
            self.board.force = false;
            self.board
                .on_resent(start, end + u64::from(fin), now, &mut sh.ranges);
        }
        self.snd.last_sent = now;
        self.update_cwnd_limited();
        self.arm_rtx_timer(now, sh);
        sh.counters.bytes_out += u64::from(len);
        sh.counters.bytes_retransmitted += u64::from(len);
        self.finish(kind, start, len, fin, now, sh)
    }

    fn finish(
        &mut self,
        kind: IntentKind,
        start: u64,
        len: u32,
        fin: bool,
        now: Instant,
        sh: &Shared,
    ) -> (TcpHeader, Sent) {
        let mut header = self.ack_header(now, sh);
        header.seq = self.snd.iss + 1 + low(start);
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.1.2
        //# If PUSH flags are not implemented, then the sending TCP peer: (1) MUST
        //# NOT buffer data indefinitely (MUST-60), and (2) MUST set the PSH bit
        //# in the last buffered segment (i.e., when there is no more queued data
        //# to be sent) (MUST-61).
        if len > 0 && start + u64::from(len) == self.snd.queued {
            header.flags |= Flags::PSH;
        }
        if fin {
            header.flags |= Flags::FIN;
        }
        (
            header,
            Sent {
                kind,
                start: StreamOffset(start),
                len,
                fin,
            },
        )
    }

    /// Records whether the congestion window limits the sender.
    //= https://www.rfc-editor.org/rfc/rfc7661#section-4.1
    // An unused congestion window is no information about the path.
    // In slow start a half used window counts as used, since it may double within a round trip.
    fn update_cwnd_limited(&mut self) {
        let window = self.congestion.window();
        let pipe = self.board.pipe(self.snd.flight());
        let slow_start = window < self.congestion.threshold();
        self.snd.cwnd_limited =
            pipe + u32::from(self.snd.mss) > window || (slow_start && pipe >= window / 2);
    }
}

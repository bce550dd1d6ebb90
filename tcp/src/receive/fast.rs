//! Header prediction: the fast path for the two most frequent segments of an established
//! connection, the next in-order payload and the next ACK. It calls the same functions as the slow
//! path and makes no decision of its own.

use lockgate_wire::tcp::Flags;
use lockgate_wire::{Instant, StreamOffset};

use crate::recovery::{AckOutcome, Phase};
use crate::{Connection, Event, SegmentIn, Shared, State, Verdict};

impl Connection {
    /// Whether a segment is predicted: the next payload in order, all of it in the window, or the
    /// next ACK, on an established connection without gaps in either direction.
    ///
    /// Of a predicted segment that merges several, everything is kept, and the connection's state
    /// afterwards is as if they had come one by one. Segments that aren't predicted must not be
    /// merged.
    #[inline]
    pub fn predicts(&self, segment: &SegmentIn<'_>) -> bool {
        let tcp = segment.tcp;
        let nxt = self.rcv.nxt;
        let len = u64::from(segment.len);
        let ack = u64::from(tcp.ack.since(self.snd.seq(self.snd.una)));
        self.state == State::Established
            && tcp.flags.without(Flags::PSH) == Flags::ACK
            && tcp.seq == self.rcv.seq(nxt)
            && tcp.options.sack.is_empty()
            && self.rcv.pieces.count == 0
            && self.board.phase == Phase::Open
            && self.board.dup_acks == 0
            // A refused window probe is sent again when the window opens.
            && self.snd.window_probes_sent == 0
            && nxt + len <= self.rcv.edge()
            && nxt + len < self.rcv.fin
            && ack <= u64::from(self.snd.flight())
            && (len > 0 || ack > 0)
            && !self.rcv.read_shutdown
            && !self.has_older_timestamp(segment)
    }

    /// Processes a predicted segment. `None` if it needs the slow path.
    #[inline]
    pub(super) fn fast_path(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> Option<Verdict> {
        if !self.predicts(segment) {
            return None;
        }
        let (tcp, nxt, len) = (segment.tcp, self.rcv.nxt, segment.len);
        let ack = u64::from(tcp.ack.since(self.snd.seq(self.snd.una)));
        if self.negotiated.timestamps {
            match tcp.options.timestamps {
                Some(_) => self.update_timestamp(now, segment),
                // Accepted, see `check_timestamps`.
                None => sh.counters.timestamp_missing += u64::from(segment.segments),
            }
        }
        self.rcv.last_at = now;
        self.snd.keepalives = 0;
        self.update_window(segment);
        if ack > 0 {
            self.reclaim_ranges(sh);
            let mut outcome = AckOutcome::default();
            self.advance(now, self.snd.una + ack, &mut outcome, sh);
            self.sample_rtt(now, segment, &outcome);
            self.grow_window(now, &outcome);
        }
        if len > 0 {
            self.take_in_order(now, len, segment, sh);
        }
        self.arm_rtx_timer(now, sh);
        let readable = StreamOffset(self.rcv.nxt);
        Some(Verdict {
            keep: StreamOffset(nxt)..readable,
            skip_front: 0,
            readable,
            acked: self.acked(),
            answer: None,
            peer_closed: false,
            event: Event::None,
        })
    }

    /// Whether PAWS has to look at a segment.
    fn has_older_timestamp(&self, segment: &SegmentIn<'_>) -> bool {
        let ts = segment.tcp.options.timestamps;
        self.negotiated.timestamps
            && ts.is_some_and(|ts| ts.val.wrapping_sub(self.rcv.ts_recent) > 1 << 31)
    }
}

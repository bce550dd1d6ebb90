//! "Seventh, process the segment text" and "Eighth, check the FIN bit".

use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};

use super::Place;
use crate::timers::Timer;
use crate::transmit::signed;
use crate::{Connection, Event, SegmentIn, Shared, State, Verdict};

impl Connection {
    pub(super) fn process_text(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
        verdict: &mut Verdict,
    ) -> (Option<TcpHeader>, Event) {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# This should not occur since a FIN has been received from the
        //# remote side.  Ignore the segment text.
        if !self.state.receives_text() || segment.seq_len() == 0 {
            return (None, Event::None);
        }
        let place = self.place(segment);
        let nxt = signed(self.rcv.nxt);
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1
        //# If such a host issues a CLOSE call while received
        //# data is still pending in the TCP connection, or if new data is
        //# received after CLOSE is called, its TCP implementation SHOULD send a
        //# RST to show that data was lost (SHLD-3).
        if self.rcv.read_shutdown && segment.len > 0 && place.end > nxt {
            sh.counters.data_after_close += 1;
            return (
                Some(self.reset_header(self.snd.seq_without_payload())),
                Event::DataLost,
            );
        }
        let in_order = segment.len == 0 || self.take_text(now, segment, &place, sh, verdict);
        self.record_fin(&place, sh);
        let event = self.process_fin(now, sh);
        //= https://www.rfc-editor.org/rfc/rfc5681#section-4.2
        // Each out-of-order segment is acknowledged immediately by an ACK of its own: without SACK
        // the sender counts duplicate ACKs. It covers a FIN as well.
        let answer = (!in_order).then(|| self.ack_header(now, sh));
        (answer, event)
    }

    /// Accepts the new part of the payload. Returns true if it was in order.
    fn take_text(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        place: &Place,
        sh: &mut Shared,
        verdict: &mut Verdict,
    ) -> bool {
        let nxt = signed(self.rcv.nxt);
        let edge = signed(self.rcv.edge().min(self.rcv.fin));
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# In the following it is assumed that the segment is the idealized
        //# segment that begins at RCV.NXT and does not exceed the window.
        let (start, end) = (place.start.max(nxt), place.end.min(edge));
        if place.start < nxt {
            self.record_duplicate(place.start, place.end.min(nxt));
        }
        if start >= end {
            return false;
        }
        let skip = u32::try_from(start - place.start).unwrap_or(segment.len);
        let (start, end) = (start.cast_unsigned(), end.cast_unsigned());
        let len = u32::try_from(end - start).unwrap_or(segment.len);
        if start == self.rcv.nxt {
            self.take_in_order(now, len, segment, sh);
            // Duplicate payload and payload beyond the window are acknowledged immediately.
            self.rcv.ack_due |= skip > 0 || len + skip < segment.len;
        } else {
            let Some(new) = self.insert_piece(start, end, sh) else {
                return false;
            };
            sh.counters.bytes_in += u64::from(new);
        }
        verdict.keep = StreamOffset(start)..StreamOffset(end);
        verdict.skip_front = skip;
        start.cast_signed() == nxt
    }

    /// Advances RCV.NXT by `len` in-order bytes.
    pub(super) fn take_in_order(
        &mut self,
        now: Instant,
        len: u32,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) {
        let rcv = &mut self.rcv;
        rcv.nxt += u64::from(len);
        sh.counters.bytes_in += u64::from(len);
        let segments = segment.segments.max(1);
        let one = match segment.merged {
            Some(merged) => merged.longest,
            None => u16::try_from(len / u32::from(segments)).unwrap_or(u16::MAX),
        };
        rcv.mss_seen = rcv.mss_seen.max(one.min(rcv.mss_out));
        // Of merged segments the first decides, as if it had come alone.
        let is_quick = rcv.quick_acks_left > 1;
        rcv.quick_acks_left = rcv
            .quick_acks_left
            .saturating_sub(u8::try_from(segments).unwrap_or(u8::MAX));
        //= https://www.rfc-editor.org/rfc/rfc5681#section-4.2
        //# a TCP receiver SHOULD send an immediate ACK when it receives a data segment that fills
        //# in all or part of a gap in the sequence space.
        let end = rcv.nxt;
        let filled = rcv.pieces.count > 0;
        if filled {
            let known = self.merge_in_order_pieces(end, sh);
            sh.counters.bytes_in -= u64::from(known);
        }
        let rcv = &mut self.rcv;
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.3
        //# an ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes
        //# of new data (where RMSS is the MSS specified by the TCP endpoint receiving the
        //# segments to be acknowledged, or the default value if not specified) (SHLD-19)
        // Measured in segments of the size seen, which may be smaller than the announced MSS.
        let unacknowledged = rcv.nxt.saturating_sub(rcv.last_ack());
        if filled || is_quick || unacknowledged >= 2 * u64::from(rcv.mss_seen) {
            rcv.ack_due = true;
        } else if !rcv.ack_due && !self.timers.is_set(Timer::DelayedAck) {
            self.timers
                .set(Timer::DelayedAck, now + sh.config.delayed_ack);
        }
    }

    /// Records the offset of the peer's FIN.
    fn record_fin(&mut self, place: &Place, sh: &Shared) {
        if !place.fin || self.rcv.fin != u64::MAX {
            return;
        }
        let Ok(fin) = u64::try_from(place.end) else {
            return;
        };
        // The FIN must be inside the window, and no payload may lie beyond it.
        if fin <= self.rcv.edge() && fin >= self.received_end(sh) {
            self.rcv.fin = fin;
        }
        // A FIN is acknowledged immediately, in order or not.
        self.rcv.ack_due = true;
    }

    /// Processes the FIN once everything before it was received.
    fn process_fin(&mut self, now: Instant, sh: &Shared) -> Event {
        if self.rcv.nxt != self.rcv.fin {
            return Event::None;
        }
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If the FIN bit is set, signal the user "connection closing" and
        //# return any pending RECEIVEs with same message, advance RCV.NXT
        //# over the FIN, and send an acknowledgment for the FIN.
        self.rcv.nxt += 1;
        self.rcv.ack_due = true;
        match self.state {
            State::SynReceived | State::Established => {
                self.state = State::CloseWait;
                Event::None
            }
            //# FIN-WAIT-1 STATE
            //#
            //# -  If our FIN has been ACKed (perhaps in this segment), then
            //#    enter TIME-WAIT, start the time-wait timer, turn off the
            //#    other timers; otherwise, enter the CLOSING state.
            // If our FIN had been acknowledged, the state would be FIN-WAIT-2.
            State::FinWait1 => {
                self.state = State::Closing;
                Event::None
            }
            State::FinWait2 => {
                self.enter_time_wait(now, sh);
                Event::TimeWait
            }
            State::Closed
            | State::Listen
            | State::SynSent
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => Event::None,
        }
    }
}

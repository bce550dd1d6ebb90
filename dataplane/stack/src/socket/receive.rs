//! Received segments: the receive budget, the payload's place, and the receive window.

use core::ops::Range;

use lockgate_ktls::{Ciphers, Deframer};
use lockgate_tcp::{SegmentIn, Verdict};
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};
use pktbuf::{Buffer, PagePool, ReassemblyLimits, Stream};

use super::state::{Application, Linger, PeerStream, ReadNotice};
use super::{Rx, Socket};
use crate::config::Limits;
use crate::context::SocketContext;
use crate::handshakes::{Handshakes, RECORD_BYTES_MAX};
use crate::memory::{PayloadAdmission, RECEIVED_BYTES, ReceiveBudget};
use crate::notice::{CloseReason, Notice, NoticeQueue};

impl Socket {
    /// Handles a segment; `payload` is just its payload. Returns what has to be answered at once.
    pub(crate) fn on_segment(
        &mut self,
        now: Instant,
        segment: SegmentIn<'_>,
        payload: Buffer,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Option<TcpHeader> {
        if self.is_tcp_over() {
            return None;
        }
        // The payload's memory is reserved first: what TCP keeps counts as received.
        match self.apply_receive_budget(&segment, &payload, &cx.memory.receive) {
            PayloadAdmission::Accept => {}
            PayloadAdmission::Refuse => {
                cx.counters.refused_payload += 1;
                return None;
            }
        }
        let payload = match self.reserve_payload(&segment, payload, &cx.limits, pages) {
            Ok(payload) => payload,
            Err(pktbuf::Refused::Limit | pktbuf::Refused::Exhausted) => {
                cx.counters.refused_payload += 1;
                return None;
            }
        };
        let received = self.tcp.received().0;
        let verdict = self.tcp.on_segment(now, segment, &mut cx.tcp);
        if verdict.keep.start < verdict.keep.end {
            // Beyond the budget not even a whole record may pin packet buffers until its step.
            let must_compact = !cx.memory.receive.is_covered();
            let end = self.store_payload(
                received,
                verdict.keep.clone(),
                verdict.skip_front,
                payload,
                must_compact,
            );
            debug_assert!(
                end.is_none_or(|end| end == verdict.readable.0),
                "the chain ends where TCP says it does"
            );
        }
        self.on_verdict(now, received, &verdict, cx);
        verdict.answer
    }

    /// Whether the effect of several segments, handled as one, is that of each alone: TCP expects
    /// them, and there is memory for all. Their packets pin `true_size` bytes.
    pub(crate) fn takes_run(
        &self,
        segment: &SegmentIn<'_>,
        true_size: u32,
        cx: &SocketContext,
    ) -> bool {
        matches!(self.rx, Rx::Plain(_) | Rx::Tls(_))
            && !self.is_tcp_over()
            && self.reassembly.is_empty()
            && self.tcp.predicts(segment)
            && cx.memory.receive.admits_run(self.pinned, true_size)
    }

    /// Handles segments that [`Socket::takes_run`] has accepted. Returns what has to be answered at
    /// once.
    pub(crate) fn on_run(
        &mut self,
        now: Instant,
        segment: SegmentIn<'_>,
        payloads: impl Iterator<Item = Buffer>,
        cx: &mut SocketContext,
    ) -> Option<TcpHeader> {
        let received = self.tcp.received().0;
        let verdict = self.tcp.on_segment(now, segment, &mut cx.tcp);
        debug_assert_eq!(
            verdict.keep.end.0 - verdict.keep.start.0,
            u64::from(segment.len),
            "a predicted segment is kept as a whole"
        );
        match &mut self.rx {
            Rx::Plain(stream) => payloads.for_each(|payload| stream.push_compact(payload)),
            Rx::Tls(deframer) => payloads.for_each(|payload| deframer.push(payload)),
            Rx::Handshake(_) | Rx::Ended(_) => payloads.for_each(drop),
        }
        self.on_verdict(now, received, &verdict, cx);
        verdict.answer
    }

    /// Handles what TCP found in a segment, after its payload was stored. `received` is the end of
    /// the stream before.
    fn on_verdict(
        &mut self,
        now: Instant,
        received: u64,
        verdict: &Verdict,
        cx: &mut SocketContext,
    ) {
        if received / RECEIVED_BYTES < verdict.readable.0 / RECEIVED_BYTES && !self.is_detached() {
            cx.memory.idle.renew(self.id.index);
        }
        let acked = verdict.acked.0.saturating_sub(self.tx.start());
        if acked > 0 {
            self.tx.release(verdict.acked.0);
            let rate_min = cx.limits.send_rate_min;
            self.progress
                .on_acked(now, verdict.acked.0, acked, rate_min);
            self.pending.reachability_confirmed = true;
            self.credit_orphan(now, acked, &cx.limits);
        }
        if self.tx.start() == self.tx.end() && !self.tcp.is_fin_in_flight() {
            self.progress.stop();
        }
        self.on_event(verdict.event, cx);
        // The handshake is over, and its last flight was acknowledged.
        if matches!(self.rx, Rx::Tls(_)) && self.tx.start() == self.tx.end() {
            self.lists.end_flights();
        }
        self.on_stream_advanced(verdict.peer_closed, cx);
        self.update_room(&cx.limits, &mut cx.memory.receive);
        self.make_ready(&mut cx.schedule);
    }

    /// Applies the worker's receive budget to a payload; [`ReceiveBudget`] has the rules.
    fn apply_receive_budget(
        &self,
        segment: &SegmentIn<'_>,
        payload: &Buffer,
        budget: &ReceiveBudget,
    ) -> PayloadAdmission {
        if payload.is_empty() {
            return PayloadAdmission::Accept;
        }
        // A segment that begins before the next byte in order may hold that byte, and is answered
        // even if it doesn't.
        let at = self.tcp.recv_offset(segment.tcp.seq);
        let is_in_order = at.is_none_or(|at| at <= self.tcp.received());
        // Bytes that wait out of order for this payload are no reason to refuse it.
        let out_of_order = self.reassembly.true_size();
        let own = if is_in_order {
            self.pinned.saturating_sub(out_of_order)
        } else {
            out_of_order
        };
        match &self.rx {
            Rx::Ended(_) => PayloadAdmission::Accept,
            Rx::Handshake(state) => budget.admit_handshake(is_in_order, own, state.input.len()),
            Rx::Plain(_) | Rx::Tls(_) => budget.admit(is_in_order, own),
        }
    }

    /// Reserves what a payload takes in the reassembly, before TCP gets the segment. The returned
    /// buffer may be a compact copy.
    fn reserve_payload(
        &self,
        segment: &SegmentIn<'_>,
        payload: Buffer,
        limits: &Limits,
        pages: &mut PagePool,
    ) -> Result<Buffer, pktbuf::Refused> {
        if payload.is_empty() || matches!(self.rx, Rx::Ended(_)) {
            return Ok(payload);
        }
        let next = self.tcp.received();
        let room = match &self.rx {
            Rx::Handshake(_) => REASSEMBLY_MIN,
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => {
                limits.recv_buffer_bytes.max(REASSEMBLY_MIN)
            }
        };
        let limits = ReassemblyLimits {
            true_size: room.saturating_mul(4),
            items: limits.reassembly_items_max,
        };
        // Of a segment with an impossible sequence number TCP keeps nothing: any offset will do.
        let at = self.tcp.recv_offset(segment.tcp.seq).unwrap_or(next);
        self.reassembly.admit(next.0, at.0, payload, &limits, pages)
    }

    /// Puts the part of a payload that TCP keeps into the chain, which ends at `received`, or into
    /// the reassembly. With `must_compact` a handshake copies it, whether it can use it now or not.
    /// Returns the new end of the chain, if there is one.
    fn store_payload(
        &mut self,
        received: u64,
        keep: Range<StreamOffset>,
        skip: u32,
        mut payload: Buffer,
        must_compact: bool,
    ) -> Option<u64> {
        payload.trim_front(skip);
        payload.truncate(u32::try_from(keep.end.0 - keep.start.0).unwrap_or(u32::MAX));
        let at = keep.start.0;
        match &mut self.rx {
            Rx::Plain(stream) => {
                self.reassembly.insert(at, payload, stream);
                Some(stream.end())
            }
            Rx::Handshake(state) => {
                state.input.insert(at, payload, &mut self.reassembly);
                state.settle_input(must_compact);
                Some(state.input.end())
            }
            Rx::Tls(deframer) => {
                let mut in_order = Stream::starting_at(received);
                self.reassembly.insert(at, payload, &mut in_order);
                let end = in_order.end();
                while let Some((buffer, _)) = in_order.pop_front() {
                    deframer.push(buffer);
                }
                Some(end)
            }
            Rx::Ended(_) => None,
        }
    }

    /// Queues a Readable notice or lists the handshake for a step, if there is something new.
    fn on_stream_advanced(&mut self, peer_closed: bool, cx: &mut SocketContext) {
        if matches!(self.rx, Rx::Handshake(_)) {
            self.update_handshake_share(&mut cx.handshakes);
            self.schedule_handshake(&mut cx.handshakes);
        } else if self.is_readable() || peer_closed {
            self.notify_readable(&mut cx.notices);
        }
    }

    /// Starts record reception after the handshake. Records may have arrived already.
    pub(super) fn start_receiving(&mut self, deframer: Deframer, notices: &mut NoticeQueue) {
        self.rx = Rx::Tls(deframer);
        if self.is_readable() || self.tcp.peer_closed() {
            self.notify_readable(notices);
        }
    }

    /// Frees what was received and not read. What comes from now on is dropped.
    pub(super) fn end_receiving(&mut self, handshakes: &mut Handshakes, ciphers: &mut Ciphers) {
        if matches!(self.rx, Rx::Ended(_)) {
            return;
        }
        self.reassembly.clear();
        self.unread = None;
        match core::mem::replace(&mut self.rx, Rx::Ended(Linger::NotStarted)) {
            Rx::Tls(deframer) => deframer.retire(ciphers),
            Rx::Handshake(mut state) => state.end(handshakes),
            Rx::Plain(_) | Rx::Ended(_) => {}
        }
        if let Some(rare) = &mut self.rare {
            rare.tickets = None;
        }
    }

    /// Ends the connection of a socket whose unread bytes pin too much memory. Returns the reset.
    pub(crate) fn reset_unread(&mut self, tcp: &mut lockgate_tcp::Shared) -> Option<TcpHeader> {
        let is_over = self.is_tcp_over();
        self.application = Application::Detached;
        self.end_tcp(CloseReason::Aborted);
        if is_over { None } else { self.tcp.abort(tcp) }
    }

    /// Updates TCP's receive window and the socket's share of the receive budget.
    pub(crate) fn update_room(&mut self, limits: &Limits, budget: &mut ReceiveBudget) {
        // A record can be read only when it is complete, so there is always room for one.
        let (pinned, record) = match &self.rx {
            Rx::Plain(stream) => (stream.true_size(), 0),
            Rx::Handshake(state) => (state.input.pinned(), record_room(state.input.len())),
            Rx::Tls(deframer) => (deframer.true_size(), record_room(deframer.buffered())),
            Rx::Ended(_) => (0, 0),
        };
        let unread = self.unread.as_ref().map_or(0, |chunk| chunk.true_size());
        let out_of_order = self.reassembly.true_size();
        let pinned = pinned.saturating_add(unread).saturating_add(out_of_order);
        self.update_pinned(pinned, budget);
        if self.is_tcp_over() {
            return;
        }
        let room = match &self.rx {
            // A flight, whatever the receive buffer.
            Rx::Handshake(_) => 0,
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => {
                let share = u32::try_from(budget.share()).unwrap_or(u32::MAX);
                limits.recv_buffer_bytes.min(share).saturating_sub(pinned)
            }
        };
        self.tcp.room(room.max(record));
    }

    /// Updates the socket's share of the receive budget.
    pub(super) fn update_pinned(&mut self, bytes: u32, budget: &mut ReceiveBudget) {
        budget.update(self.id.index, self.pinned, bytes);
        self.pinned = bytes;
    }

    /// Whether there are bytes in order that the application, or the TLS library, can read. Of
    /// records, whole ones: a record that comes in ten segments is one notice, not ten.
    pub(super) fn is_readable(&self) -> bool {
        match &self.rx {
            Rx::Plain(stream) => !stream.is_empty(),
            Rx::Handshake(state) => !state.input.is_empty(),
            Rx::Tls(deframer) => deframer.is_readable(),
            Rx::Ended(_) => false,
        }
    }

    /// Queues a Readable notice, unless one was queued since the application last read everything.
    pub(super) fn notify_readable(&mut self, notices: &mut NoticeQueue) {
        if let Application::Attached { readable, .. } = &mut self.application
            && *readable != ReadNotice::Queued
        {
            *readable = ReadNotice::Queued;
            notices.push(Notice::Readable(self.id));
        }
    }

    /// The peer's stream has ended. Counts that and queues the PeerClosed notice, once.
    pub(super) fn on_peer_stream_end(
        &mut self,
        clean: bool,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) {
        if self.peer_stream != PeerStream::Open {
            return;
        }
        if clean {
            self.peer_stream = PeerStream::EndedCleanly;
            cx.counters.peer_closed_clean += 1;
        } else {
            self.peer_stream = PeerStream::Truncated;
            cx.counters.peer_closed_truncated += 1;
        }
        cx.notices.push(Notice::PeerClosed {
            socket: self.id,
            clean,
        });
        self.end_receiving(&mut cx.handshakes, ciphers);
        self.make_ready(&mut cx.schedule);
    }
}

/// The smallest reassembly limit is four times this. The window counts payload, and small segments
/// pin several times their payload until they are in order and can be joined.
const REASSEMBLY_MIN: u32 = 16 * 1024;

/// The room that is needed beside `buffered` bytes of a record that may be incomplete: the tail of
/// the record, and as much again, because the peer isn't told of a window that grows by less than a
/// segment.
fn record_room(buffered: u64) -> u32 {
    let record = RECORD_BYTES_MAX as u64;
    if buffered < record {
        u32::try_from(2 * record - buffered).unwrap_or(0)
    } else {
        0
    }
}

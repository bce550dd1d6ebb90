//! What comes in: payload to its place, data to the application.

use core::ops::Range;

use lockgate_ktls::{Alert, AlertDescription, Ciphers, ContentType, Deframer, Received, RxError};
use lockgate_tcp::SegmentIn;
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};
use pktbuf::{Buffer, PagePool, ReassemblyLimits, Stream};

use super::{RECORD_BYTES_MAX, Rx, Socket};
use crate::common::Core;
use crate::notice::{Chunk, ChunkKind, CloseReason, Notice, Recv, RecvError};

impl Socket {
    /// Takes a segment; `payload` is just its payload. Returns what is to be answered at once.
    pub(crate) fn on_segment(
        &mut self,
        now: Instant,
        segment: SegmentIn<'_>,
        payload: Buffer,
        core: &mut Core,
        pages: &mut PagePool,
    ) -> Option<TcpHeader> {
        if self.flags.over {
            return lockgate_tcp::reset_for(&segment);
        }
        // Room for the payload comes first: what TCP says is kept counts as received.
        if self.is_refused(&segment, &payload, core) {
            core.counters.refused_payload += 1;
            return None;
        }
        let payload = match self.admit(&segment, payload, core, pages) {
            Ok(payload) => payload,
            Err(pktbuf::Refused::Limit | pktbuf::Refused::Exhausted) => {
                core.counters.refused_payload += 1;
                return None;
            }
        };
        let verdict = self.tcp.on_segment(now, segment, &mut core.tcp);
        if verdict.keep.start < verdict.keep.end {
            self.keep(verdict.keep, verdict.skip_front, payload);
        }
        debug_assert!(
            matches!(self.rx, Rx::Ended) || self.received == verdict.readable.0,
            "the chain ends where TCP says it does"
        );
        if verdict.acked.0 > self.tx.start() {
            self.tx.release(verdict.acked.0);
            self.flags.progress = true;
            if let Some(until) = &mut self.orphan_until {
                *until = now + core.limits.orphan_timeout;
            }
        }
        self.on_event(verdict.event, core);
        self.advance(verdict.peer_closed, core);
        self.update_room(core);
        core.make_ready(self);
        verdict.answer
    }

    /// Gives data to the application.
    pub(crate) fn recv(
        &mut self,
        core: &mut Core,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        let result = match &mut self.rx {
            Rx::Plain(stream) => {
                if let Some((mut buffer, skip)) = stream.pop_front() {
                    buffer.trim_front(skip);
                    Ok(Recv::Data(Chunk(ChunkKind::Plain(buffer))))
                } else if self.tcp.peer_closed() {
                    Ok(Recv::End { clean: true })
                } else {
                    Ok(Recv::Nothing)
                }
            }
            Rx::Tls(_) => self.recv_record(core, ciphers, pages),
            Rx::Shaking(_) => Ok(Recv::Nothing),
            Rx::Ended => Ok(Recv::End {
                clean: self.flags.peer_ended != Some(false),
            }),
        };
        match &result {
            // The window may be worth an update.
            Ok(Recv::Data(_)) => core.make_ready(self),
            Ok(Recv::Nothing) => self.flags.readable_told = false,
            Ok(Recv::End { clean }) => self.peer_ended(*clean, core, ciphers),
            Err(_) => self.end_receiving(core, ciphers),
        }
        self.update_room(core);
        result
    }

    /// The next record for the application; everything else is dealt with here.
    fn recv_record(
        &mut self,
        core: &mut Core,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        loop {
            let Rx::Tls(deframer) = &mut self.rx else {
                return Ok(Recv::Nothing);
            };
            match deframer.next(ciphers, pages) {
                //= https://www.rfc-editor.org/rfc/rfc8446#section-5
                //# If a TLS
                //# implementation receives an unexpected record type, it MUST terminate
                //# the connection with an "unexpected_message" alert.
                Ok(Received::Record(record))
                    if record.meta().kind != ContentType::APPLICATION_DATA =>
                {
                    let error = RxError::Unexpected;
                    self.fail_tls(error, core);
                    return Err(error.into());
                }
                Ok(Received::Record(record)) => {
                    return Ok(Recv::Data(Chunk(ChunkKind::Record(record))));
                }
                Ok(Received::NeedBytes) => {
                    if !self.tcp.peer_closed() {
                        return Ok(Recv::Nothing);
                    }
                    // Inside a record or between two: the peer may have been cut off either way.
                    // The record layer counts which.
                    let _ = deframer.finish(ciphers);
                    return Ok(Recv::End { clean: false });
                }
                Ok(Received::NeedPages) if core.release_reserve() => {}
                Ok(Received::NeedPages) => {
                    self.flags.reading_starved = true;
                    core.make_starved(self);
                    return Ok(Recv::Nothing);
                }
                Ok(Received::KeyUpdated { answer }) => {
                    self.flags.key_update_due |= answer;
                    core.make_ready(self);
                }
                Ok(Received::Ticket(body)) => {
                    if let Some(tickets) = &mut self.tickets
                        && tickets.handle_new_session_ticket(&body).is_err()
                    {
                        let error = RxError::Malformed;
                        self.fail_tls(error, core);
                        return Err(error.into());
                    }
                }
                Ok(Received::Renegotiation) => {
                    // If there's no buffer for it, or an answer is on its way, the peer's next
                    // attempt is answered.
                    let no = Alert::warning(AlertDescription::NO_RENEGOTIATION);
                    // Nothing can stand behind the FIN.
                    if self.is_sending()
                        && !self.holds_answers(core)
                        && self.tx.push_alert(no, pages).is_ok()
                    {
                        core.counters.alerts_out += 1;
                        self.tell_queued();
                        core.make_ready(self);
                    }
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => {
                    core.counters.close_notify_in += 1;
                    return Ok(Recv::End { clean: true });
                }
                Err(error) => {
                    self.fail_tls(error, core);
                    return Err(error.into());
                }
            }
        }
    }

    /// The record layer failed on what the peer sent: it's told, and the connection closed.
    fn fail_tls(&mut self, error: RxError, core: &mut Core) {
        self.end.get_or_insert(CloseReason::Tls(error));
        self.ask_close(error.alert().map(Alert::fatal));
        self.flags.detached = true;
        core.make_ready(self);
    }

    /// The peer's stream has ended: said once, counted once.
    fn peer_ended(&mut self, clean: bool, core: &mut Core, ciphers: &mut Ciphers) {
        if self.flags.peer_ended.is_some() {
            return;
        }
        self.flags.peer_ended = Some(clean);
        if clean {
            core.counters.peer_closed_clean += 1;
        } else {
            core.counters.peer_closed_truncated += 1;
        }
        core.notices.push_back(Notice::PeerClosed {
            socket: self.id,
            clean,
        });
        self.end_receiving(core, ciphers);
        core.make_ready(self);
    }

    /// Frees what was received and not read, and whatever comes from now on.
    pub(super) fn end_receiving(&mut self, core: &mut Core, ciphers: &mut Ciphers) {
        self.reassembly.clear();
        match core::mem::replace(&mut self.rx, Rx::Ended) {
            Rx::Tls(deframer) => deframer.retire(ciphers),
            Rx::Shaking(mut shaking) => shaking.end(core),
            Rx::Plain(_) | Rx::Ended => {}
        }
        self.tickets = None;
    }

    /// Reading waited for a page buffer, and there may be one now.
    pub(super) fn retry_reading(&mut self, core: &mut Core) {
        if core::mem::take(&mut self.flags.reading_starved) {
            self.tell_readable(core);
        }
    }

    /// After the handshake: records may be waiting already.
    pub(super) fn start_receiving(&mut self, deframer: Deframer, core: &mut Core) {
        let waiting = deframer.buffered() > 0 || self.tcp.peer_closed();
        self.rx = Rx::Tls(deframer);
        if waiting {
            self.tell_readable(core);
        }
    }

    /// Tells TCP how much more can be received.
    pub(crate) fn update_room(&mut self, core: &mut Core) {
        // A record can be read only when all of it is here, so there's always room for one.
        let (pinned, record) = match &self.rx {
            Rx::Plain(stream) => (stream.true_size(), 0),
            Rx::Shaking(shaking) => (shaking.chain.true_size(), rest(shaking.chain.len())),
            Rx::Tls(deframer) => (deframer.true_size(), rest(deframer.buffered())),
            Rx::Ended => (0, 0),
        };
        let pinned = self.reassembly.true_size().saturating_add(pinned);
        self.pin(pinned, core);
        if self.flags.over {
            return;
        }
        self.tcp.room(
            core.limits
                .recv_buffer_bytes
                .saturating_sub(pinned)
                .max(record),
        );
    }

    /// Keeps the worker's sum of what received bytes pin.
    pub(super) fn pin(&mut self, bytes: u32, core: &mut Core) {
        let before = core::mem::replace(&mut self.pinned, bytes);
        core.pinned = core.pinned - u64::from(before) + u64::from(bytes);
    }

    /// Whether a payload can't be taken because all connections together have as much as they may.
    ///
    /// Who has nothing to be read may still have one segment: most requests are no longer, and are
    /// read before the turn is over. What isn't read then is given up, see [`Socket::drive_close`],
    /// so that peers who send beginnings of records, or requests behind answers that they don't
    /// read, can't keep everybody else's packets out. A handshake has to wait for its turn, and
    /// some begin with two segments; there's half as much memory again for those. What is out of
    /// order can't be read at all, so it gets no more than half.
    fn is_refused(&mut self, segment: &SegmentIn<'_>, payload: &Buffer, core: &Core) -> bool {
        if payload.is_empty() {
            return false;
        }
        let total = core.limits.recv_total_bytes;
        let in_order = self.tcp.recv_offset(segment.tcp.seq) == Some(self.tcp.received());
        if core.pinned < if in_order { total } else { total / 2 } {
            return false;
        }
        let (room, pressed) = match &self.rx {
            Rx::Ended => return false,
            Rx::Shaking(_) => {
                let room = core.pinned < total.saturating_add(total / 2);
                (room && self.pinned < FLIGHT_BYTES, false)
            }
            Rx::Plain(_) | Rx::Tls(_) => (!self.is_readable(), true),
        };
        let taken = room && in_order;
        self.flags.pressed |= pressed && taken;
        !taken
    }

    /// Whether there's anything in order that the application hasn't got.
    pub(super) fn is_readable(&self) -> bool {
        match &self.rx {
            Rx::Plain(stream) => !stream.is_empty(),
            Rx::Shaking(shaking) => !shaking.chain.is_empty(),
            Rx::Tls(deframer) => deframer.buffered() > 0,
            Rx::Ended => false,
        }
    }

    fn admit(
        &self,
        segment: &SegmentIn<'_>,
        payload: Buffer,
        core: &Core,
        pages: &mut PagePool,
    ) -> Result<Buffer, pktbuf::Refused> {
        if payload.is_empty() || matches!(self.rx, Rx::Ended) {
            return Ok(payload);
        }
        let next = self.tcp.received();
        let limits = ReassemblyLimits {
            true_size: core
                .limits
                .recv_buffer_bytes
                .max(REASSEMBLY_MIN)
                .saturating_mul(4),
            items: core.limits.reassembly_items_max,
        };
        // Of a segment with an impossible sequence number TCP keeps nothing: any place will do.
        let at = self.tcp.recv_offset(segment.tcp.seq).unwrap_or(next);
        self.reassembly.admit(next.0, at.0, payload, &limits, pages)
    }

    /// Puts the part of a payload that TCP keeps where it belongs.
    fn keep(&mut self, keep: Range<StreamOffset>, skip: u32, mut payload: Buffer) {
        payload.trim_front(skip);
        payload.truncate(u32::try_from(keep.end.0 - keep.start.0).unwrap_or(u32::MAX));
        let at = keep.start.0;
        self.received = match &mut self.rx {
            Rx::Plain(stream) => {
                self.reassembly.insert(at, payload, stream);
                stream.end()
            }
            Rx::Shaking(shaking) => {
                self.reassembly.insert(at, payload, &mut shaking.chain);
                shaking.chain.end()
            }
            Rx::Tls(deframer) => {
                let mut in_order = Stream::starting_at(self.received);
                self.reassembly.insert(at, payload, &mut in_order);
                let end = in_order.end();
                while let Some((buffer, _)) = in_order.pop_front() {
                    deframer.push(buffer);
                }
                end
            }
            Rx::Ended => self.received,
        };
    }

    /// Something may have become readable.
    fn advance(&mut self, peer_closed: bool, core: &mut Core) {
        let bytes = match &self.rx {
            Rx::Plain(stream) => !stream.is_empty(),
            Rx::Tls(deframer) => deframer.buffered() > 0,
            Rx::Shaking(_) => {
                core.make_stepping(self);
                return;
            }
            Rx::Ended => false,
        };
        if bytes || peer_closed {
            self.tell_readable(core);
        }
    }

    fn tell_readable(&mut self, core: &mut Core) {
        if !self.flags.readable_told && !self.flags.detached {
            self.flags.readable_told = true;
            core.notices.push_back(Notice::Readable(self.id));
        }
    }
}

/// What's promised as a window counts payload; small segments pin several times as much until they
/// are in order and can be joined. Even the smallest window has to be worth that.
const REASSEMBLY_MIN: u32 = 16 * 1024;

/// What the first segment of a long ClientHello pins, at most.
const FLIGHT_BYTES: u32 = 8 * 1024;

/// What has to fit besides `buffered` bytes that may be no whole record: the rest of it, and as
/// much again, because a window that grows by less than a segment isn't told to the peer.
fn rest(buffered: u64) -> u32 {
    let record = RECORD_BYTES_MAX as u64;
    if buffered < record {
        u32::try_from(2 * record - buffered).unwrap_or(0)
    } else {
        0
    }
}

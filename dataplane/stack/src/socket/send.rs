//! Data from the application: the send queue, its limits and low-water mark, and key changes.

use std::sync::Arc;

use lockgate_ktls::{
    Ciphers, ContentType, KeyUse, PLAINTEXT_MAX, Params, Segments, TxError, Version,
};
use pktbuf::{PagePool, SharedSpan};

use super::state::{Application, KeySource};
use super::{Rx, Socket};
use crate::config::Limits;
use crate::context::SocketContext;
use crate::memory::{GUARANTEED_BYTES, Missing, SendShare};
use crate::notice::{CloseReason, Notice, SendError};

impl Socket {
    /// Copies bytes into the queue. Returns how many were taken.
    pub(crate) fn send(
        &mut self,
        parts: &[&[u8]],
        more: bool,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.check_sending()?;
        let given: usize = parts.iter().map(|part| part.len()).sum();
        if given == 0 {
            return self.send_empty(more, cx, pages);
        }
        let segments = self.segments(cx, pages);
        let small_left = self.tx.small_left();
        let pushed = self.push_records(segments, parts, given, more, cx, pages);
        self.count_small_records(small_left, cx);
        let taken = self.after_push(pushed, given, cx)?;
        cx.counters.bytes_by_copy += u64::from(taken);
        Ok(taken)
    }

    /// Queues a record without content: a write of no bytes, which TLS 1.0 alone allows. Returns 0,
    /// or the error `Exhausted` if there is no room for it now.
    fn send_empty(
        &mut self,
        more: bool,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        let room = self.send_room(cx, pages);
        let is_allowed = self.tx.params().is_some_and(Params::can_be_empty);
        let pushed = match room {
            SendRoom::Full | SendRoom::Starved if is_allowed => Ok((0, room)),
            SendRoom::Bytes(_) | SendRoom::Full | SendRoom::Starved => {
                self.tx.push_bytes(&[], more, pages).map(|_| (1, room))
            }
        };
        // A record counts as a byte, so that TCP sends it.
        match self.after_push(pushed, 1, cx)? {
            0 => Err(SendError::Record(TxError::Exhausted)),
            _ => Ok(0),
        }
    }

    /// Queues a part of a shared span by reference. Returns how many bytes were taken.
    pub(crate) fn send_span(
        &mut self,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.check_sending()?;
        let segments = self.segments(cx, pages);
        let small_left = self.tx.small_left();
        let pushed = match self.send_room(cx, pages) {
            SendRoom::Bytes(_) if len == 0 => Err(TxError::Empty),
            SendRoom::Bytes(room) => {
                let len = self.record_room(room, len.into(), &cx.limits).min(len);
                self.push_span(segments, span, at, len, cx, pages)
            }
            none @ (SendRoom::Full | SendRoom::Starved) => Ok((0, none)),
        };
        self.count_small_records(small_left, cx);
        let taken = self.after_push(pushed, len as usize, cx)?;
        cx.counters.bytes_by_reference += u64::from(taken);
        Ok(taken)
    }

    /// Queues a part of a span for which there is room. Returns how many bytes were taken, and the
    /// room after that.
    fn push_span(
        &mut self,
        segments: Segments,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<(u32, SendRoom), TxError> {
        if len == 0 {
            return Ok((0, SendRoom::Full));
        }
        let taken = self.tx.push_span_in(segments, span, at, len, pages)?;
        cx.memory.starved.on_taken(Missing::Pages, &mut self.lists);
        // Fewer bytes than asked for: the pool is exhausted.
        Ok(match taken < len {
            true => (taken, SendRoom::Starved),
            false => (taken, SendRoom::Full),
        })
    }

    /// Queues one record of any type. Returns false if there is no room for it now.
    pub(crate) fn send_record(
        &mut self,
        kind: ContentType,
        content: &[u8],
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        self.check_sending()?;
        let room = self.send_room(cx, pages);
        let pushed = match room {
            SendRoom::Bytes(bytes) if content.len() <= bytes as usize => {
                let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
                let pushed = self.tx.push_message(kind, content, pages);
                pushed.map(|()| (len.max(1), room))
            }
            SendRoom::Bytes(_) | SendRoom::Full => Ok((0, SendRoom::Full)),
            SendRoom::Starved => Ok((0, SendRoom::Starved)),
        };
        let taken = self.after_push(pushed, content.len().max(1), cx)?;
        cx.counters.bytes_by_copy += if taken > 0 { content.len() as u64 } else { 0 };
        Ok(taken > 0)
    }

    /// How many bytes may be queued before the queue is full.
    pub(crate) fn send_space(&self, limits: &Limits) -> u32 {
        // Nothing may come between the pieces of a file.
        if self.check_sending().is_err() || self.has_file() {
            return 0;
        }
        self.queue_space(limits)
    }

    /// Whether the connection holds less than its share of the page pool.
    fn has_share(&self, pages: &PagePool) -> bool {
        SendShare::of(pages.usage()).covers(self.tx.true_size(), self.tx.items())
    }

    /// What the application may queue now, by the limits of the connection and by the worker's page
    /// pool.
    fn send_room(&self, cx: &mut SocketContext, pages: &mut PagePool) -> SendRoom {
        if self.has_file() {
            return SendRoom::Full;
        }
        self.queue_room(cx, pages)
    }

    /// As [`send_room`](Self::send_room), also for a file that is being sent.
    pub(super) fn queue_room(&self, cx: &mut SocketContext, pages: &mut PagePool) -> SendRoom {
        let space = self.queue_space(&cx.limits);
        if space == 0 {
            return SendRoom::Full;
        }
        if !self.has_share(pages) {
            cx.counters.share_limited += 1;
            // What is queued is sent and acknowledged. Without anything queued, memory of others
            // has to be freed.
            return if self.tx.items() == 0 {
                SendRoom::Starved
            } else {
                SendRoom::Full
            };
        }
        let waits = self.tx.true_size() < GUARANTEED_BYTES
            && !cx.memory.starved.admits(Missing::Pages, self.lists);
        if waits || !cx.memory.reserve.fill(pages) {
            return SendRoom::Starved;
        }
        SendRoom::Bytes(space)
    }

    /// Whether more memory is pinned than full records with this many bytes would pin.
    pub(super) fn pins_more_than(&self, bytes: u32) -> bool {
        self.tx.true_size() >= bytes.saturating_mul(2).max(PINNED_MIN)
    }

    /// Whether answers of the record layer (KeyUpdate, alerts) have to wait: an earlier one isn't
    /// acknowledged, or the queue is full. A peer can ask for answers without ever acknowledging
    /// any, so that they must not add up.
    pub(super) fn defers_answers(&self, limits: &Limits) -> bool {
        self.tx.control_end() > self.tx.start() || self.is_full(limits)
    }

    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.pins_more_than(limits.send_buffer_bytes)
    }

    /// Bytes queued and not acknowledged.
    pub(crate) fn send_queued(&self) -> u64 {
        self.tx.end() - self.tx.start() + u64::from(self.tx.open_len())
    }

    /// Queues a Writable notice if the application asked for one and the send queue is below its
    /// low-water mark. A starved socket's notice waits until the socket is woken, and until a
    /// KeyUpdate that the peer asked for is queued.
    pub(crate) fn notify_writable(&mut self, cx: &mut SocketContext, pages: &PagePool) {
        let waits = matches!(
            self.application,
            Application::Attached {
                wants_writable: true,
                ..
            }
        );
        if !waits
            || self.keys_from.owes_key_update()
            || self.has_file()
            || self.lists.memory.is_starved(Missing::Pages)
            || !self.is_below_low_water(&cx.limits)
        {
            return;
        }
        if !self.has_share(pages) {
            // Acknowledgments of what is queued free memory. If nothing is queued, others have to.
            if self.tx.items() == 0 {
                self.make_starved(cx);
            }
            return;
        }
        if let Application::Attached { wants_writable, .. } = &mut self.application {
            *wants_writable = false;
            cx.notices.push(Notice::Writable(self.id));
        }
    }

    /// Changes the sending keys if the peer asked for it or the key is near its usage limit.
    pub(crate) fn advance_keys(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        // The application changes the keys that it set. A key that is used up refuses its writes.
        if self.keys_from == KeySource::Application {
            return;
        }
        let refresh = match (self.tx.key_use(), self.tx.params()) {
            (KeyUse::Fine, _) | (_, None) => false,
            (KeyUse::RefreshDue, Some(params)) if params.version == Version::Tls13 => true,
            // TLS 1.2 has no key update. The last record numbers are for what is queued and for
            // close_notify; the application can send no more.
            (KeyUse::RefreshDue | KeyUse::Spent, Some(_)) if self.is_sending() => {
                self.end.get_or_insert(CloseReason::Crypto);
                self.close(&mut cx.schedule);
                return;
            }
            (KeyUse::RefreshDue | KeyUse::Spent, Some(_)) => false,
        };
        let answer =
            self.keys_from.owes_key_update() && self.can_answer_key_update(&cx.limits, pages);
        if (refresh || answer) && self.is_sending() {
            self.change_keys(cx, ciphers, pages);
        } else if self.keys_from.owes_key_update() && self.tx.items() == 0 && !self.has_share(pages)
        {
            // No acknowledgment will free memory for it.
            self.make_starved(cx);
        }
    }

    /// Whether the KeyUpdate that the peer asked for is to be queued now.
    ///
    /// It waits
    /// - while the queue is full. Nothing is taken from the application then either;
    /// - while an earlier answer isn't acknowledged and nothing was sent or could be sent behind
    ///   it: a peer that acknowledges nothing gets one answer, however often it asks.
    ///
    /// The acknowledgment that it waits for lists the socket for a turn, and so does a send that
    /// took nothing.
    fn can_answer_key_update(&self, limits: &Limits, pages: &PagePool) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3
        //# This mechanism allows either side to force an update to the entire
        //# connection, but causes an implementation which receives multiple
        //# KeyUpdates while it is silent to respond with a single update.
        let has_data = self.tx.control_end() != self.tx.end() || self.tx.open_len() > 0;
        let waits_to_send = matches!(
            self.application,
            Application::Attached {
                wants_writable: true,
                ..
            }
        ) && self.is_below_low_water(limits);
        let silent = !has_data && !waits_to_send;
        let is_full = self.is_full(limits) || !self.has_share(pages);
        !(is_full || silent && self.defers_answers(limits))
    }

    /// Queues a KeyUpdate and changes the sending keys, if memory and the earlier keys allow.
    pub(super) fn change_keys(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        match self.tx.update_keys(false, ciphers, pages) {
            Ok(()) => {
                self.keys_from.set_owes_key_update(false);
                self.update_tcp_queue();
            }
            Err(TxError::Exhausted) => self.make_starved(cx),
            // The previous keys still seal queued records. Acknowledgments will drain those.
            Err(TxError::RekeyBusy) => {}
            Err(TxError::Crypto(_)) => self.abort(CloseReason::Crypto, &mut cx.schedule),
            // Keys without their secret have no next ones: as in TLS 1.2, close_notify follows what
            // is queued, and nothing more is taken.
            Err(TxError::RekeyUnsupported | TxError::KeySpent)
                if !self.keys_from.owes_key_update() =>
            {
                self.end.get_or_insert(CloseReason::Crypto);
                self.close(&mut cx.schedule);
            }
            // Without the answer nothing more may be sent.
            Err(_) if self.keys_from.owes_key_update() => {
                self.abort(CloseReason::Crypto, &mut cx.schedule);
            }
            Err(_) => {}
        }
    }

    /// Changes the sending keys on the application's request.
    pub(crate) fn update_keys(
        &mut self,
        ask_peer: bool,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<(), SendError> {
        self.check_sending()?;
        let updated = self.tx.update_keys(ask_peer, ciphers, pages);
        if matches!(updated, Err(TxError::Crypto(_))) {
            // The KeyUpdate's record number is used up, and no record can follow the gap.
            self.abort(CloseReason::Crypto, &mut cx.schedule);
        }
        updated.map_err(SendError::Record)?;
        self.update_tcp_queue();
        self.make_ready(&mut cx.schedule);
        Ok(())
    }

    pub(super) fn check_sending(&self) -> Result<(), SendError> {
        if !self.is_sending() || self.is_detached() {
            return Err(SendError::Closed);
        }
        if matches!(self.rx, Rx::Handshake(_)) {
            return Err(SendError::NotReady);
        }
        Ok(())
    }

    /// Queues the parts' `given` bytes, one record at a time, as far as there is room. Returns how
    /// many were taken, and the room after that.
    fn push_records(
        &mut self,
        segments: Segments,
        parts: &[&[u8]],
        given: usize,
        more: bool,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<(u32, SendRoom), TxError> {
        let mut taken = 0;
        loop {
            let left = given - taken;
            let room = self.send_room(cx, pages);
            let SendRoom::Bytes(space) = room else {
                return Ok((bytes(taken), room));
            };
            if left == 0 {
                return Ok((bytes(taken), room));
            }
            let space = self.record_room(space, left as u64, &cx.limits);
            if space == 0 {
                return Ok((bytes(taken), SendRoom::Full));
            }
            let (pieces, len) = pieces(parts, taken, left.min(space as usize).min(PLAINTEXT_MAX));
            // A record's memory has the size of what is left, unless more follows in it.
            let is_continued = if len == left {
                more
            } else {
                len < space as usize
            };
            let pushed = self
                .tx
                .push_bytes_in(segments, &pieces, is_continued, pages);
            match pushed {
                Ok(pushed) => taken += pushed as usize,
                Err(TxError::Exhausted) => return Ok((bytes(taken), SendRoom::Starved)),
                Err(error) if taken == 0 => return Err(error),
                Err(_) => return Ok((bytes(taken), SendRoom::Full)),
            }
            cx.memory.starved.on_taken(Missing::Pages, &mut self.lists);
        }
    }

    /// Gives TCP the new end of the queue after a push. If fewer bytes were taken than given, the
    /// application gets a Writable notice later. Returns how many were taken.
    fn after_push(
        &mut self,
        pushed: Result<(u32, SendRoom), TxError>,
        given: usize,
        cx: &mut SocketContext,
    ) -> Result<u32, SendError> {
        let (taken, room) = match pushed {
            Ok(pushed) => pushed,
            Err(TxError::Exhausted) => (0, SendRoom::Starved),
            Err(error) => return Err(SendError::Record(error)),
        };
        let short = (taken as usize) < given;
        if short && !self.keys_from.owes_key_update() {
            // The bytes that an open record waits for can't come before it is sent itself.
            self.tx.flush().map_err(SendError::Record)?;
        }
        if taken > 0 || short {
            self.lists.end_flights();
            self.update_tcp_queue();
            self.make_ready(&mut cx.schedule);
        }
        if short {
            if let Application::Attached { wants_writable, .. } = &mut self.application {
                *wants_writable = true;
            }
            // Otherwise an acknowledgment makes room.
            if room == SendRoom::Starved {
                self.make_starved(cx);
            }
        }
        Ok(taken)
    }
}

/// Converts a number of queued bytes: a queue is far smaller than 4 GiB.
fn bytes(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Up to `len` bytes of the parts, from byte `skip` on, and how many bytes that is: less if they
/// are in more than [`PIECES_MAX`] parts.
fn pieces<'a>(parts: &[&'a [u8]], skip: usize, len: usize) -> ([&'a [u8]; PIECES_MAX], usize) {
    let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
    let (mut skip, mut left) = (skip, len);
    let mut free = pieces.iter_mut();
    for part in parts {
        let rest = part.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(part.len());
        let taken = &rest[..rest.len().min(left)];
        if taken.is_empty() {
            continue;
        }
        let Some(piece) = free.next() else {
            break;
        };
        *piece = taken;
        left -= taken.len();
    }
    (pieces, len - left)
}

/// What an application may queue now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendRoom {
    /// So many bytes.
    Bytes(u32),
    /// Nothing until the peer acknowledges something.
    Full,
    /// Nothing until memory is freed.
    Starved,
}

/// Parts that are copied into one record at a time.
const PIECES_MAX: usize = 4;
/// Memory that a send queue may pin whatever the limits: the record being sealed, the open record,
/// and short ones around them.
const PINNED_MIN: u32 = 64 * 1024;

//! Data from the application: the send queue, its limits and low-water mark, and key changes.

use std::sync::Arc;

use lockgate_ktls::{Ciphers, ContentType, KeyUse, PLAINTEXT_MAX, TxError, Version};
use pktbuf::{PagePool, SharedSpan};

use super::state::Application;
use super::{Rx, Socket};
use crate::config::Limits;
use crate::context::SocketContext;
use crate::notice::{CloseReason, Notice, NoticeQueue, SendError};

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
        let space = self.send_space(&cx.limits) as usize;
        let result = if given == 0 {
            self.tx.push_bytes(parts, more, pages)
        } else {
            self.push_parts(parts, given.min(space), given, more, cx, pages)
        };
        let taken = self.after_push(result, given, cx)?;
        cx.counters.bytes_by_copy += u64::from(taken);
        Ok(taken)
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
        let take = len.min(self.send_space(&cx.limits));
        let result = if len > 0 && (take == 0 || !cx.memory.reserve.fill(pages)) {
            Ok(0)
        } else {
            self.tx.push_span(span, at, take, pages)
        };
        let taken = self.after_push(result, len as usize, cx)?;
        cx.counters.bytes_by_reference += u64::from(taken);
        Ok(taken)
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
        let room = self.send_space(&cx.limits) as usize;
        let taken = if content.len() > room || !cx.memory.reserve.fill(pages) {
            Ok(0)
        } else {
            let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
            self.tx
                .push_message(kind, content, pages)
                .map(|()| len.max(1))
        };
        let taken = self.after_push(taken, content.len().max(1), cx)?;
        cx.counters.bytes_by_copy += if taken > 0 { content.len() as u64 } else { 0 };
        Ok(taken > 0)
    }

    /// How many bytes may be queued before the limit is reached.
    pub(crate) fn send_space(&self, limits: &Limits) -> u32 {
        if self.check_sending().is_err() {
            return 0;
        }
        // A record with a few bytes may pin the memory of a full one. Without this limit, a peer
        // that acknowledges nothing could have all spans pinned by short answers.
        // No application data precedes a KeyUpdate that the peer asked for.
        if self.is_full(limits) || self.pending.key_update {
            return 0;
        }
        let queued = u32::try_from(self.send_queued()).unwrap_or(u32::MAX);
        limits.send_buffer_bytes.saturating_sub(queued)
    }

    /// Whether more memory is pinned than full records with this many bytes would pin.
    fn pins_more_than(&self, bytes: u32) -> bool {
        self.tx.true_size() >= bytes.saturating_mul(2).max(PINNED_MIN)
    }

    /// Whether the queue is below its low-water mark, in bytes and in pinned memory.
    fn is_below_low_water(&self, limits: &Limits) -> bool {
        let low = limits.send_low_water_bytes;
        self.send_queued() < u64::from(low) && !self.pins_more_than(low)
    }

    /// Whether answers of the record layer (KeyUpdate, alerts) have to wait: an earlier one isn't
    /// acknowledged, or the queue is full. A peer can ask for answers without ever acknowledging
    /// any, so that they must not add up.
    pub(super) fn defers_answers(&self, limits: &Limits) -> bool {
        self.tx.control_end() > self.tx.start() || self.is_full(limits)
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.pins_more_than(limits.send_buffer_bytes)
    }

    /// Bytes queued and not acknowledged.
    pub(crate) fn send_queued(&self) -> u64 {
        self.tx.end() - self.tx.start() + u64::from(self.tx.open_len())
    }

    /// Queues a Writable notice if the application asked for one and the send queue is below its
    /// low-water mark. A starved socket's notice waits until the socket is woken, and until a
    /// KeyUpdate that the peer asked for is queued.
    pub(crate) fn notify_writable(&mut self, limits: &Limits, notices: &mut NoticeQueue) {
        let is_low = !self.lists.starved && self.is_below_low_water(limits);
        let owes_key_update = self.pending.key_update;
        if let Application::Attached { wants_writable, .. } = &mut self.application
            && is_low
            && !owes_key_update
            && core::mem::take(wants_writable)
        {
            notices.push(Notice::Writable(self.id));
        }
    }

    /// Changes the sending keys if the peer asked for it or the key is near its usage limit.
    pub(crate) fn advance_keys(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
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
        let answer = self.pending.key_update && self.can_answer_key_update(&cx.limits);
        if (refresh || answer) && self.is_sending() {
            self.change_keys(cx, ciphers, pages);
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
    fn can_answer_key_update(&self, limits: &Limits) -> bool {
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
        !(self.is_full(limits) || silent && self.defers_answers(limits))
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
                self.pending.key_update = false;
                self.update_tcp_queue();
            }
            Err(TxError::Exhausted) => self.make_starved(cx),
            // The previous keys still seal queued records. Acknowledgments will drain those.
            Err(TxError::RekeyBusy) => {}
            Err(TxError::Crypto(_)) => self.abort(CloseReason::Crypto, &mut cx.schedule),
            // Without the answer nothing more may be sent.
            Err(_) if self.pending.key_update => {
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

    fn check_sending(&self) -> Result<(), SendError> {
        if !self.is_sending() || self.is_detached() {
            return Err(SendError::Closed);
        }
        if matches!(self.rx, Rx::Handshake(_)) {
            return Err(SendError::NotReady);
        }
        Ok(())
    }

    /// Queues at most `take` of the parts' `given` bytes, one record at a time, as long as the send
    /// reserve is filled. Returns how many were taken.
    fn push_parts(
        &mut self,
        parts: &[&[u8]],
        take: usize,
        given: usize,
        more: bool,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<u32, TxError> {
        let mut taken = 0;
        let pieces = parts.iter().flat_map(|part| part.chunks(PLAINTEXT_MAX));
        for piece in pieces {
            let piece = &piece[..piece.len().min(take - taken)];
            if piece.is_empty() || !cx.memory.reserve.fill(pages) {
                break;
            }
            let last = taken + piece.len() == given;
            let pushed = match self.tx.push_bytes(&[piece], more || !last, pages) {
                Ok(pushed) => pushed as usize,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => 0,
            };
            taken += pushed;
            if pushed < piece.len() {
                break;
            }
        }
        Ok(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// Gives TCP the new end of the queue after a push. If fewer bytes were taken than given, the
    /// application gets a Writable notice later. Returns how many were taken.
    fn after_push(
        &mut self,
        result: Result<u32, TxError>,
        given: usize,
        cx: &mut SocketContext,
    ) -> Result<u32, SendError> {
        let taken = match result {
            Ok(taken) => taken,
            Err(TxError::Exhausted) => 0,
            Err(error) => return Err(SendError::Record(error)),
        };
        let short = (taken as usize) < given;
        if short && !self.pending.key_update {
            // The bytes that an open record waits for can't come before it is sent itself.
            self.tx.flush().map_err(SendError::Record)?;
        }
        if taken > 0 || short {
            self.update_tcp_queue();
            self.make_ready(&mut cx.schedule);
        }
        if short {
            if let Application::Attached { wants_writable, .. } = &mut self.application {
                *wants_writable = true;
            }
            if self.is_below_low_water(&cx.limits) && !self.pending.key_update {
                // Memory is missing, not room in the queue: no acknowledgment will free any.
                self.make_starved(cx);
            }
        }
        Ok(taken)
    }
}

/// Memory that a send queue may pin whatever the limits: the record being sealed, the open record,
/// and short ones around them.
const PINNED_MIN: u32 = 64 * 1024;

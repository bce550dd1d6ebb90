//! What goes out: data from the application, packets to the interface.

use core::ops::Range;
use std::sync::Arc;

use lockgate_ktls::{
    Ciphers, ContentType, CryptoError, KeyUse, Limits, PLAINTEXT_MAX, TxError, Version,
};
use lockgate_tcp::{Intent, IntentKind};
use lockgate_wire::{Instant, StreamOffset};
use pktbuf::{Output, Packet, PagePool, SharedSpan, Slices};

use super::{Rx, Socket};
use crate::Env;
use crate::common::Core;
use crate::egress::{Path, segment_headers};
use crate::notice::{CloseReason, Notice, SendError};

/// How a socket's turn to send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Everything that may be sent now is.
    Done,
    /// It may send more when it's its turn again.
    Again,
    /// The interface takes no more.
    NoRoom,
    /// Memory is missing.
    Starved,
    /// The neighbour's address is missing.
    Unresolved,
}

/// Frames that one burst is cut into at most. A list of frames that software cuts is of limited
/// length, and a burst that doesn't fit will never do, however often it's tried: to a peer with
/// tiny segments even a short one is many frames. With segments of the default size it's 32 KiB.
const BURST_FRAMES_MAX: u32 = 61;

/// Memory that a socket's queue may pin however small its limits are: the record that's being
/// sealed, the one that's open, and short ones around them.
const PINNED_MIN: u32 = 64 * 1024;

/// What became of one attempt to send a packet.
enum Attempt {
    Sent(u32),
    Stop(Turn),
}

impl Socket {
    /// Copies bytes into the queue.
    pub(crate) fn send(
        &mut self,
        parts: &[&[u8]],
        more: bool,
        core: &mut Core,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.check_sending()?;
        let given: usize = parts.iter().map(|part| part.len()).sum();
        let space = self.send_space(core) as usize;
        let result = if given == 0 {
            self.tx.push_bytes(parts, more, pages)
        } else {
            self.push_parts(parts, given.min(space), given, more, core, pages)
        };
        let taken = self.pushed(result, given, core)?;
        core.counters.bytes_by_copy += u64::from(taken);
        Ok(taken)
    }

    /// Queues a part of a shared span by reference.
    pub(crate) fn send_span(
        &mut self,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        core: &mut Core,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.check_sending()?;
        let take = len.min(self.send_space(core));
        let result = if len > 0 && (take == 0 || !core.has_reserve(pages)) {
            Ok(0)
        } else {
            self.tx.push_span(span, at, take, pages)
        };
        let taken = self.pushed(result, len as usize, core)?;
        core.counters.bytes_by_reference += u64::from(taken);
        Ok(taken)
    }

    /// Queues one record of any type; false if there's no room for it now.
    pub(crate) fn send_record(
        &mut self,
        kind: ContentType,
        content: &[u8],
        core: &mut Core,
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        self.check_sending()?;
        let room = self.send_space(core) as usize;
        let taken = if content.len() > room || !core.has_reserve(pages) {
            Ok(0)
        } else {
            let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
            self.tx
                .push_message(kind, content, pages)
                .map(|()| len.max(1))
        };
        let taken = self.pushed(taken, content.len().max(1), core)?;
        core.counters.bytes_by_copy += if taken > 0 { content.len() as u64 } else { 0 };
        Ok(taken > 0)
    }

    /// How many bytes may be queued before the limit is reached.
    pub(crate) fn send_space(&self, core: &Core) -> u32 {
        if self.check_sending().is_err() {
            return 0;
        }
        // A record with a few bytes may pin the memory of a full one: a peer that takes nothing
        // mustn't have all spans pinned by short answers.
        if self.is_full(core) {
            return 0;
        }
        let queued = u32::try_from(self.send_queued()).unwrap_or(u32::MAX);
        core.limits.send_buffer_bytes.saturating_sub(queued)
    }

    /// Whether more memory is pinned than full records with this many bytes would pin.
    fn pins_more_than(&self, bytes: u32) -> bool {
        self.tx.true_size() >= bytes.saturating_mul(2).max(PINNED_MIN)
    }

    /// Whether so little is queued that more is wanted from the application.
    fn is_low(&self, core: &Core) -> bool {
        let low = core.limits.send_low_water_bytes;
        self.send_queued() < u64::from(low) && !self.pins_more_than(low)
    }

    /// Whether the peer has yet to acknowledge an answer of the record layer, or so much else that
    /// it gets no answers now: it can ask for them without ever taking any.
    pub(super) fn holds_answers(&self, core: &Core) -> bool {
        self.tx.control_end() > self.tx.start() || self.is_full(core)
    }

    fn is_full(&self, core: &Core) -> bool {
        self.pins_more_than(core.limits.send_buffer_bytes)
    }

    /// Bytes queued and not acknowledged.
    pub(crate) fn send_queued(&self) -> u64 {
        self.tx.end() - self.tx.start() + u64::from(self.tx.open_len())
    }

    /// Tells the application that it can send again, if it waits for that and can.
    pub(crate) fn tell_writable(&mut self, core: &mut Core) {
        // One that waits for memory is told once there may be some.
        if self.flags.writable_wanted
            && !self.flags.detached
            && !self.flags.starved
            && self.is_low(core)
        {
            self.flags.writable_wanted = false;
            core.notices.push_back(Notice::Writable(self.id));
        }
    }

    /// Changes the sending keys, if that's due: asked for by the peer, or because of their age.
    pub(crate) fn drive_keys(
        &mut self,
        core: &mut Core,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        let refresh = match (self.tx.key_use(), self.tx.params()) {
            (KeyUse::Fine, _) | (_, None) => false,
            (KeyUse::RefreshDue, Some(params)) if params.version == Version::Tls13 => true,
            // There will be no other key. The last numbers are for what is queued and for saying
            // so, and the application can send no more.
            (KeyUse::RefreshDue | KeyUse::Spent, Some(_)) if self.is_sending() => {
                self.end.get_or_insert(CloseReason::Crypto);
                self.close(core);
                return;
            }
            (KeyUse::RefreshDue | KeyUse::Spent, Some(_)) => false,
        };
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3
        //# This mechanism allows either side to force an update to the entire
        //# connection, but causes an implementation which receives multiple
        //# KeyUpdates while it is silent to respond with a single update.
        // The acknowledgement that an answer waits for brings the next turn.
        let silent = self.tx.control_end() == self.tx.end() && self.tx.open_len() == 0;
        let held = self.is_full(core) || (silent && self.holds_answers(core));
        let answer = self.flags.key_update_due && !held;
        if !(refresh || answer) || !self.is_sending() {
            return;
        }
        match self.tx.update_keys(false, ciphers, pages) {
            Ok(()) => {
                self.flags.key_update_due = false;
                self.tell_queued();
            }
            Err(TxError::Exhausted) => core.make_starved(self),
            // The keys before the current ones are still needed: acknowledgements will drain them.
            Err(TxError::RekeyBusy) => {}
            Err(TxError::Crypto(_)) => self.abort(CloseReason::Crypto, core),
            Err(_) => self.flags.key_update_due = false,
        }
    }

    /// Changes the sending keys because the application wants it.
    pub(crate) fn update_keys(
        &mut self,
        ask_peer: bool,
        core: &mut Core,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<(), SendError> {
        self.check_sending()?;
        let updated = self.tx.update_keys(ask_peer, ciphers, pages);
        if matches!(updated, Err(TxError::Crypto(_))) {
            // The record's number is used up, and nothing more can follow it.
            self.abort(CloseReason::Crypto, core);
        }
        updated.map_err(SendError::Record)?;
        self.tell_queued();
        core.make_ready(self);
        Ok(())
    }

    /// Sends what can be sent, a turn's worth at most. `budget` counts packets.
    pub(crate) fn transmit<N: Output>(
        &mut self,
        now: Instant,
        core: &mut Core,
        env: &mut Env<'_, N>,
        budget: &mut u32,
    ) -> Turn {
        let mut left = core.limits.turn_bytes_max;
        let mut known = None;
        while !self.flags.over {
            let Some(intent) = self.tcp.poll_transmit(now, &core.tcp) else {
                return if self.waits_for_ranges(core) {
                    Turn::Starved
                } else {
                    Turn::Done
                };
            };
            if *budget == 0 || left == 0 {
                return Turn::Again;
            }
            // The neighbour is asked once a turn, and only if there's something to send.
            let path = match known {
                Some(path) => path,
                None => {
                    let confirmed = core::mem::take(&mut self.flags.progress);
                    match core.path(now, self.tuple.remote.addr, confirmed, env.net) {
                        Some(path) => *known.insert(path),
                        None => return Turn::Unresolved,
                    }
                }
            };
            let room = env.net.room(path.iface);
            if room.packets == 0 || room.entries < 2 {
                return Turn::NoRoom;
            }
            let entries = path
                .entries_max
                .min(u16::try_from(room.entries).unwrap_or(u16::MAX))
                - 1;
            match self.transmit_one(now, intent, entries, &path, core, env) {
                Attempt::Sent(len) => left = left.saturating_sub(len),
                Attempt::Stop(turn) => return turn,
            }
            *budget -= 1;
        }
        Turn::Done
    }

    /// One packet: asks the queue how much of the intent can go, and commits.
    fn transmit_one<N: Output>(
        &mut self,
        now: Instant,
        intent: Intent,
        entries: u16,
        path: &Path,
        core: &mut Core,
        env: &mut Env<'_, N>,
    ) -> Attempt {
        let mut range = intent.range.start.0..intent.range.end.0;
        let wanted = !range.is_empty();
        // What was sent before is sealed already and takes no memory.
        let fresh = range.end > self.tcp.sent().0;
        if wanted && fresh && !core.has_reserve(env.pages) {
            range.end = range.start;
        }
        if !range.is_empty() {
            range = match self.prepare(&intent, range, entries, path, env) {
                Ok(range) => range,
                Err(error) => {
                    debug_assert!(
                        error != CryptoError::BadTag,
                        "sealing has no tag to compare"
                    );
                    self.abort(CloseReason::Crypto, core);
                    return Attempt::Stop(Turn::Done);
                }
            };
        }
        let starved = wanted && range.is_empty();
        if starved && !self.tcp.ack_due() {
            return Attempt::Stop(Turn::Starved);
        }
        let sent = self.send_packet(now, intent, &range, entries, path, core, env);
        if starved {
            Attempt::Stop(Turn::Starved)
        } else {
            sent
        }
    }

    /// Shortens a range to what can go in one burst, and seals it.
    fn prepare<N: Output>(
        &mut self,
        intent: &Intent,
        range: Range<u64>,
        entries: u16,
        path: &Path,
        env: &mut Env<'_, N>,
    ) -> Result<Range<u64>, CryptoError> {
        let one = u32::from(intent.mss);
        let bytes = if path.tso_bytes_max > one {
            let most = path.tso_bytes_max.min(BURST_FRAMES_MAX.saturating_mul(one));
            intent.burst_max.min(most).max(one)
        } else {
            one
        };
        let limits = Limits {
            bytes,
            entries,
            mss: intent.mss,
        };
        let range = self.tx.clamp(&range, &limits);
        if range.is_empty() {
            return Ok(range);
        }
        let ready = self.tx.prepare(&range, env.ciphers, env.pages)?;
        if ready >= range.end {
            return Ok(range);
        }
        // The pool ran out on the way. Whole segments can go, or what there is of one: its record's
        // memory comes back only when all of it has been acknowledged.
        let len = ready.saturating_sub(range.start);
        let whole = len - len % u64::from(one);
        Ok(range.start..range.start + if whole == 0 { len } else { whole })
    }

    /// Commits an intent and hands its packet over.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of transmit_one, with its locals"
    )]
    fn send_packet<N: Output>(
        &mut self,
        now: Instant,
        intent: Intent,
        range: &Range<u64>,
        entries: u16,
        path: &Path,
        core: &mut Core,
        env: &mut Env<'_, N>,
    ) -> Attempt {
        let mut slices = Slices::new(usize::from(entries));
        let reached = self.tx.slices(range, &mut slices);
        debug_assert_eq!(reached, range.end, "the range was clamped to what fits");
        let (len, mss) = (slices.bytes(), intent.mss);
        let retransmit = matches!(intent.kind, IntentKind::Retransmit);
        let (header, sent) = self.tcp.commit(intent, len, now, &mut core.tcp);
        if self.tcp.peer_closed() && len > 0 && !retransmit {
            core.counters.half_closed_sends += 1;
        }
        // What can't be delivered counts as sent: TCP's timers then do what they do for any peer
        // that doesn't answer.
        let Some((head, mut meta)) = segment_headers(path, &self.tuple, &header, len) else {
            core.counters.neighbour_unreachable += 1;
            return Attempt::Sent(len);
        };
        meta.hash = self.hash;
        meta.retransmit = retransmit;
        meta.mss = if len > u32::from(mss) { mss } else { 0 };
        match env.net.tx(Packet {
            head: &head,
            payload: slices.as_slice(),
            meta,
        }) {
            Ok(()) => {
                core.counters.packets_out += 1;
                core.counters.payload_bytes_out += u64::from(len);
                Attempt::Sent(len)
            }
            Err(error) => {
                core.counters.tx_failed += 1;
                if error == pktbuf::TxError::Full {
                    self.tcp.on_local_loss(now, sent, &mut core.tcp);
                    return Attempt::Stop(Turn::NoRoom);
                }
                Attempt::Sent(len)
            }
        }
    }

    /// Whether TCP offers nothing only because the slab of sent ranges is used up.
    fn waits_for_ranges(&self, core: &Core) -> bool {
        core.tcp.ranges_used() >= core.tcp.ranges_total()
            && self.tcp.sent() < StreamOffset(self.tx.ready_end())
    }

    fn check_sending(&self) -> Result<(), SendError> {
        if !self.is_sending() || self.flags.detached {
            return Err(SendError::Closed);
        }
        if matches!(self.rx, Rx::Shaking(_)) {
            return Err(SendError::NotReady);
        }
        Ok(())
    }

    /// Queues at most `take` of the parts' `given` bytes, a record's worth at a time, as long as
    /// the pool has more than its reserve.
    fn push_parts(
        &mut self,
        parts: &[&[u8]],
        take: usize,
        given: usize,
        more: bool,
        core: &mut Core,
        pages: &mut PagePool,
    ) -> Result<u32, TxError> {
        let mut taken = 0;
        let pieces = parts.iter().flat_map(|part| part.chunks(PLAINTEXT_MAX));
        for piece in pieces {
            let piece = &piece[..piece.len().min(take - taken)];
            if piece.is_empty() || !core.has_reserve(pages) {
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

    /// After a push: TCP is told, and if less was taken than given, the socket waits.
    fn pushed(
        &mut self,
        result: Result<u32, TxError>,
        given: usize,
        core: &mut Core,
    ) -> Result<u32, SendError> {
        let taken = match result {
            Ok(taken) => taken,
            Err(TxError::Exhausted) => 0,
            Err(error) => return Err(SendError::Record(error)),
        };
        let short = (taken as usize) < given;
        if short {
            // A record left open waits for what can't come before it is sent itself.
            self.tx.flush().map_err(SendError::Record)?;
        }
        if taken > 0 || short {
            self.tell_queued();
            core.make_ready(self);
        }
        if short {
            self.flags.writable_wanted = true;
            if self.is_low(core) {
                // Memory is missing, not room: no acknowledgement will bring it.
                core.make_starved(self);
            }
        }
        Ok(taken)
    }
}

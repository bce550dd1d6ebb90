//! Taking memory back from connections that make no progress, when others wait for it.
//!
//! In this order:
//!
//! 1. Shares shrink: [`SendShare`](crate::memory::SendShare) depends on what is free.
//! 2. When the table of connections is nearly full, idle connections are closed, oldest first. When
//!    it is full, they are reset; if none is idle, the oldest handshake that waits for its peer.
//!    Handshakes that wait for admission come before, if they take more than half of the table, and
//!    last in any case.
//!    While few are idle, a new connection has time for its request
//!    ([`IdleOrder`](crate::memory::IdleOrder)).
//! 3. Ciphertext is dropped that can be made again, while others wait for page buffers.
//! 4. Connections are reset whose peers take less than [`Limits::send_rate_min`], least progress
//!    per byte held first, while others wait for page buffers or for a place in the table. A peer
//!    that keeps its window closed has no progress after a few seconds, whatever it took before
//!    (`socket/progress.rs`).
//!
//! [`Limits::send_rate_min`]: crate::Limits::send_rate_min

use core::time::Duration;

use lockgate_ktls::sealing_reserve;
use lockgate_wire::Instant;
use pktbuf::{LARGE_SPAN, Output};

use super::Stack;
use crate::env::Env;
use crate::memory::GUARANTEED_BYTES;
use crate::notice::{CloseReason, SocketId};
use crate::socket::Socket;

impl Stack {
    /// Sets whether a connection is idle: the application waits for its peer. Its idle time begins
    /// now, also if it was idle before.
    ///
    /// When the table of connections is nearly full, idle connections are closed, oldest first.
    /// While few are idle, a connection stays for a second at least.
    pub fn set_idle(&mut self, socket: SocketId, is_idle: bool) {
        if self
            .socket(socket)
            .is_some_and(|socket| !socket.is_closing_idle)
        {
            self.cx.memory.idle.set(socket.index, is_idle);
            if is_idle {
                self.search_place_at = Instant::ZERO;
            }
        }
    }

    /// Takes memory back, if connections wait for it. Looks at a bounded number of connections.
    pub(super) fn reclaim<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        self.cx.memory.idle.advance(now);
        let connections_max = self.cx.limits.connections_max;
        let limit = connections_max - connections_max / HEADROOM_DIVISOR;
        for _ in 0..IDLE_CLOSES_PER_TURN {
            let staying = self.sockets.len().saturating_sub(self.closing_idle);
            if staying <= limit || !self.close_least_useful(now, env) {
                break;
            }
        }
        if self.cx.memory.starved.is_waiting_for_pages()
            && is_exhausted(env)
            && !self.drop_ciphertext(now, env)
        {
            self.reset_least_progress(now, env);
        }
    }

    /// Drops ciphertext of connections that hold a span or more, of the next [`LOOKS_PER_TURN`] in
    /// the table. Returns whether any memory was freed.
    ///
    /// A connection whose peer acknowledges what was sent doesn't notice. Only what has to be sent
    /// again is sealed again.
    fn drop_ciphertext<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) -> bool {
        if now < self.drop_again_at {
            return false;
        }
        let mut freed = 0;
        let mut tried = 0;
        let slots = self.sockets.slots();
        for _ in 0..LOOKS_PER_TURN.min(slots) {
            if freed >= DROPS_WANTED || tried >= DROP_TRIES {
                break;
            }
            self.reclaim_at = (self.reclaim_at + 1) % slots;
            let Some(socket) = self.sockets.get_mut(self.reclaim_at) else {
                continue;
            };
            if socket.memory_held() >= u64::from(LARGE_SPAN) {
                tried += 1;
                freed += socket.drop_ciphertext(env.pages);
            }
        }
        self.cx.counters.ciphertext_dropped += u64::from(freed);
        if freed == 0 {
            self.drop_again_at = now + DROP_PAUSE;
        }
        freed > 0
    }

    /// Makes room in the full table of connections. Returns whether there is room now.
    ///
    /// A peer can repeat the ACK that opens a connection as often as it likes. So a search that
    /// found nothing isn't repeated for [`SEARCH_PAUSE`], unless a connection becomes idle.
    pub(super) fn reclaim_connection<N: Output>(
        &mut self,
        now: Instant,
        env: &mut Env<'_, N>,
    ) -> bool {
        if self.reclaim_queued_handshake(now, false, env) {
            return true;
        }
        if now < self.search_place_at {
            return self.reclaim_queued_handshake(now, true, env);
        }
        self.reclaim_steps.add(1);
        if let Some(index) = self.pop_oldest_idle() {
            self.abort_reclaimed(index);
            // The reset leaves now, and the socket is removed.
            self.finish_aborted(now, index, env);
        } else if !self.reclaim_handshake(now, env) {
            self.reset_least_progress(now, env);
        }
        let has_room = !self.sockets.is_full() || self.reclaim_queued_handshake(now, true, env);
        if !has_room {
            self.search_place_at = now + SEARCH_PAUSE;
        }
        has_room
    }

    /// Closes a connection because the table is nearly full. Returns whether there was one.
    fn close_least_useful<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) -> bool {
        self.reclaim_queued_handshake(now, false, env) || self.close_oldest_idle()
    }

    /// Closes the connection that is idle for longest. Returns whether there was one.
    fn close_oldest_idle(&mut self) -> bool {
        let Some(index) = self.pop_oldest_idle() else {
            return false;
        };
        match self.sockets.get_mut(index) {
            // It waits for the peer's FIN only.
            Some(socket) if socket.is_detached() => self.abort_reclaimed(index),
            Some(socket) => socket.close(&mut self.cx.schedule),
            None => {}
        }
        true
    }

    fn abort_reclaimed(&mut self, index: u32) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.abort(CloseReason::Reclaimed, &mut self.cx.schedule);
        }
    }

    fn pop_oldest_idle(&mut self) -> Option<u32> {
        let sockets = &self.sockets;
        // The end of a response may be on its way.
        let may_close = |index| sockets.get(index).is_some_and(|s| s.send_queued() == 0);
        let index = self.cx.memory.idle.pop(may_close)?;
        if let Some(socket) = self.sockets.get_mut(index)
            && !core::mem::replace(&mut socket.is_closing_idle, true)
        {
            self.closing_idle += 1;
            self.cx.counters.reclaimed_idle += 1;
        }
        Some(index)
    }

    /// Resets the connection with the least progress per byte held, of the next
    /// [`LOOKS_PER_TURN`] in the table.
    fn reset_least_progress<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let rate_min = u64::from(self.cx.limits.send_rate_min);
        let mut least: Option<(u64, u32)> = None;
        let slots = self.sockets.slots();
        for _ in 0..LOOKS_PER_TURN.min(slots) {
            self.reclaim_at = (self.reclaim_at + 1) % slots;
            self.reclaim_steps.add(1);
            let Some(socket) = self.sockets.get(self.reclaim_at) else {
                continue;
            };
            if let Some(score) = socket.reclaim_score(now, rate_min)
                && least.is_none_or(|(other, _)| score < other)
            {
                least = Some((score, self.reclaim_at));
            }
        }
        if let Some((_, index)) = least {
            self.cx.counters.reclaimed_slow += 1;
            self.abort_reclaimed(index);
            // The reset leaves now, and the socket is removed.
            self.finish_aborted(now, index, env);
        }
    }
}

impl Socket {
    /// Progress per mebibyte held, or `None` if the connection may not be reset.
    fn reclaim_score(&self, now: Instant, rate_min: u64) -> Option<u64> {
        let held = self.memory_held().max(1);
        let waited_min = if held > u64::from(GUARANTEED_BYTES) {
            MEASURED_MILLIS
        } else {
            MEASURED_MILLIS_GUARANTEED
        };
        let rate = self.progress_rate(now, waited_min)?;
        // Rate 0 counts as 1: of two silent peers, the larger holder has the lower score.
        (rate < rate_min).then(|| (rate + 1).saturating_mul(MEBIBYTE) / held)
    }
}

/// Whether the page pool may have nothing left for one of the sockets that wait.
fn is_exhausted<N: Output>(env: &Env<'_, N>) -> bool {
    let usage = env.pages.usage();
    let spans_left = usage.large_spans.saturating_sub(usage.large_spans_used);
    spans_left <= sealing_reserve(&usage) || usage.blocks_used >= usage.blocks - usage.blocks / 16
}

/// Connections that a turn looks at.
const LOOKS_PER_TURN: u32 = 64;
/// Idle connections that a turn closes.
const IDLE_CLOSES_PER_TURN: u32 = 8;
/// Idle connections are closed when less than this part of the table is free.
const HEADROOM_DIVISOR: u32 = 16;
/// Spans that a turn frees by dropping ciphertext.
const DROPS_WANTED: u32 = 64;
/// Connections whose queue a turn walks for that.
const DROP_TRIES: u32 = 8;
/// How long a search that freed nothing isn't repeated.
const DROP_PAUSE: Duration = Duration::from_millis(1);
/// How long a search for a place in the full table that found none isn't repeated. In this time no
/// connection's progress changes much.
const SEARCH_PAUSE: Duration = Duration::from_millis(1);
/// How long a connection has to wait for its peer before its progress counts, in milliseconds: some
/// retransmissions of a lost segment.
const MEASURED_MILLIS: u32 = 2000;
/// The same for a connection that holds no more than what is guaranteed.
const MEASURED_MILLIS_GUARANTEED: u32 = 5000;
const MEBIBYTE: u64 = 1 << 20;

//! The order of TLS handshakes' steps, and the eviction of the oldest ones.

use core::net::IpAddr;

use lockgate_wire::{Endpoint, FourTuple, Instant};
use pktbuf::{Output, PagePool};

use super::Stack;
use crate::admission_queue::network;
use crate::env::Env;
use crate::handshakes::HOLD_TIME;
use crate::socket::Socket;

impl Stack {
    /// Takes one step of one TLS handshake. Returns true if more can be taken.
    ///
    /// A step with a signature takes a hundred microseconds and more, so poll the ports between two
    /// steps.
    pub fn step_handshake<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) -> bool {
        let flight_bytes_max = flight_bytes_max(env.pages);
        self.cx.handshakes.set_flight_bytes_max(flight_bytes_max);
        self.cx.handshakes.advance(now);
        self.evict_overdue_handshakes(now, env);
        let next = if self.cx.handshakes.toggle_admission() {
            let admitted = self.next_admitted_handshake(now, env);
            admitted.or_else(|| self.next_stepping_handshake())
        } else {
            let stepping = self.next_stepping_handshake();
            stepping.or_else(|| self.next_admitted_handshake(now, env))
        };
        if let Some(index) = next
            && let Some(socket) = self.sockets.get_mut(index)
        {
            socket.step_handshake(now, &mut self.cx, env.ciphers, env.pages);
            self.arm_socket_timer(index);
            self.enforce_handshake_bytes(now, env);
        }
        self.cx.handshakes.has_steps(now)
    }

    /// Evicts the oldest handshakes until the received bytes of all are within their limit.
    pub(super) fn enforce_handshake_bytes<N: Output>(
        &mut self,
        now: Instant,
        env: &mut Env<'_, N>,
    ) {
        while self.cx.handshakes.is_over_bytes() {
            let handshakes = &self.cx.handshakes;
            let partial = self.oldest_waiting(handshakes.oldest_partial());
            let active = self.oldest_waiting(handshakes.oldest_active());
            let oldest = [partial, active].into_iter().flatten().min();
            // All examined handshakes may have a step due.
            let any = || {
                let mut all = handshakes
                    .oldest_partial()
                    .chain(handshakes.oldest_active());
                all.next()
            };
            let Some(index) = oldest.map(|(_, index)| index).or_else(any) else {
                return;
            };
            self.evict_handshake(now, index, env);
        }
    }

    /// Evicts the oldest handshake, if it has waited for its peer for [`HOLD_TIME`]. Returns
    /// whether there was one.
    pub(super) fn reclaim_handshake<N: Output>(
        &mut self,
        now: Instant,
        env: &mut Env<'_, N>,
    ) -> bool {
        let oldest = self.oldest_waiting(self.cx.handshakes.oldest_accepted());
        match oldest.filter(|(since, _)| now >= *since + HOLD_TIME) {
            Some((_, index)) => {
                self.evict_handshake(now, index, env);
                true
            }
            None => false,
        }
    }

    /// Evicts handshakes that have waited for admission for half of their time. What is left of it
    /// is for the peer's flights. Evicts a bounded number, so that a step stays short.
    fn evict_overdue_handshakes<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let wait_max = self.config.handshake_timeout / 2;
        // A step evicts more than connections are opened meanwhile.
        for _ in 0..OVERDUE_PER_STEP {
            let overdue = self.cx.handshakes.next_overdue(now - wait_max);
            let Some(index) = overdue else {
                return;
            };
            self.evict_handshake(now, index, env);
        }
    }

    /// Evicts a handshake that waits for admission, if more than half of the table of connections
    /// does, or if `is_full`. Returns whether there was one.
    pub(super) fn reclaim_queued_handshake<N: Output>(
        &mut self,
        now: Instant,
        is_full: bool,
        env: &mut Env<'_, N>,
    ) -> bool {
        let Some(index) = self.cx.handshakes.queued_for_eviction(is_full) else {
            return false;
        };
        self.evict_handshake(now, index, env);
        true
    }

    /// The group of a peer in the queue for admission: a keyed hash of its network.
    pub(super) fn peer_group(&self, peer: IpAddr) -> u8 {
        let network = Endpoint::new(network(peer), 0);
        let [group, ..] = self
            .flows
            .hash(&FourTuple::new(network, network))
            .to_be_bytes();
        group
    }

    /// Returns the first handshake that waits for its peer, and since when.
    fn oldest_waiting(&self, mut list: impl Iterator<Item = u32>) -> Option<(Instant, u32)> {
        list.find_map(|index| {
            let socket = self.sockets.get(index)?;
            let waits = socket.awaits_handshake_of_peer(&self.cx.handshakes);
            Some((socket.handshake_since().filter(|_| waits)?, index))
        })
    }

    /// Resets and removes the connection of a handshake.
    fn evict_handshake<N: Output>(&mut self, now: Instant, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        let tuple = socket.tuple;
        if let Some(reset) = socket.evict_handshake(&mut self.cx) {
            self.egress
                .reply(now, &tuple, &reset, &mut self.cx.counters, env);
        }
        self.remove_socket(index, env);
    }

    /// Takes the handshake that has waited longest for admission, if a handshake may begin. If too
    /// many are active, the oldest active handshake is evicted for it, provided that it has waited
    /// for its peer for [`HOLD_TIME`].
    fn next_admitted_handshake<N: Output>(
        &mut self,
        now: Instant,
        env: &mut Env<'_, N>,
    ) -> Option<u32> {
        while self.cx.handshakes.has_queue() {
            if !self.cx.handshakes.has_capacity() {
                let oldest = self.oldest_waiting(self.cx.handshakes.oldest_active());
                let evictable = oldest.filter(|(since, _)| now >= *since + HOLD_TIME);
                let Some((_, index)) = evictable else {
                    let since = oldest.map_or(now, |(since, _)| since);
                    self.cx.handshakes.retry_admission_at(since + HOLD_TIME);
                    return None;
                };
                self.evict_handshake(now, index, env);
                continue;
            }
            let index = self.cx.handshakes.pop_admitted()?;
            // It may have been closed, or have timed out, while it waited.
            if self.sockets.get(index).is_some_and(Socket::can_step) {
                return Some(index);
            }
        }
        None
    }

    /// Takes the next handshake that has begun and can take a step.
    fn next_stepping_handshake(&mut self) -> Option<u32> {
        while let Some(index) = self.cx.handshakes.pop_stepping() {
            // An index may be listed for a socket that was removed.
            let socket = self.sockets.get_mut(index);
            if socket.is_some_and(Socket::take_stepping) {
                return Some(index);
            }
        }
        None
    }
}

/// What flights that aren't acknowledged may pin: half of the small spans. The other half is for
/// responses.
fn flight_bytes_max(pages: &PagePool) -> u64 {
    u64::from(pages.usage().small_spans) * u64::from(pktbuf::SMALL_SPAN) / 2
}

/// Handshakes that have waited for too long, of which one step evicts so many.
const OVERDUE_PER_STEP: u32 = 16;

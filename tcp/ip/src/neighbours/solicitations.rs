//! Solicitations: which are due, and what becomes of neighbours that don't answer.

use lockgate_wire::{Instant, MacAddr};

use super::Neighbours;
use super::entry::NeighbourState;
use super::events::{NeighbourEvent, Solicitation};
use super::eviction::EvictionClass;

impl Neighbours {
    /// Returns the next solicitation that is due. Call it until it returns `None`.
    pub fn poll_solicit(&mut self, now: Instant) -> Option<Solicitation> {
        while let Some(at) = self.timers.expired(now, &self.entries) {
            let Some((state, to)) = self.on_deadline(now, at) else {
                continue;
            };
            // Known neighbours aren't limited: each is solicited once in RETRANS_TIMER at most.
            if self.eviction.is_known(at)
                || self.timers.first_limited().is_none() && self.solicits.take(now)
            {
                return Some(self.solicit(at, state, to));
            }
            self.counters.solicits_limited += 1;
            self.timers.limit(at);
        }
        let at = self.timers.first_limited()?;
        if !self.solicits.take(now) {
            return None;
        }
        let (state, to) = self.on_deadline(now, at)?;
        Some(self.solicit(at, state, to))
    }

    /// Returns when to call [`Self::poll_solicit`] next. It may be earlier than any solicitation.
    /// Frames to release are available at once, after `on_*`.
    pub fn deadline(&self) -> Option<Instant> {
        let token = self.timers.first_limited();
        let token = token.map(|_| self.solicits.available_at());
        let first = self.timers.first_deadline(&self.entries);
        let next = [token, first].into_iter().flatten().min();
        next.filter(|at| *at != Instant::MAX)
    }

    /// Handles an entry's deadline. Returns the state after a solicitation and its destination, if
    /// one is due.
    fn on_deadline(
        &mut self,
        now: Instant,
        at: usize,
    ) -> Option<(NeighbourState, Option<MacAddr>)> {
        let config = self.config;
        let next = now + config.retransmit_time;
        match self.entries[at].state {
            NeighbourState::Incomplete { sent, .. } if sent < config.multicast_solicits => {
                let sent = sent + 1;
                Some((NeighbourState::Incomplete { sent, next }, None))
            }
            NeighbourState::Delay { mac, .. } if config.unicast_solicits > 0 => {
                Some((NeighbourState::Probe { mac, sent: 1, next }, Some(mac)))
            }
            NeighbourState::Probe { mac, sent, .. } if sent < config.unicast_solicits => {
                let sent = sent + 1;
                Some((NeighbourState::Probe { mac, sent, next }, Some(mac)))
            }
            // Another station may have taken over the IP address. Multicast solicitations, as in a
            // new resolution, find it before the entry fails.
            NeighbourState::Delay { .. } | NeighbourState::Probe { .. } => {
                Some((NeighbourState::Incomplete { sent: 1, next }, None))
            }
            NeighbourState::Incomplete { .. } => {
                self.give_up(now, at);
                None
            }
            // The hold-down is over. The entry stays until a lookup or its eviction.
            NeighbourState::Failed { .. } => {
                self.timers.disarm(at);
                None
            }
            NeighbourState::Reachable { .. } | NeighbourState::Stale { .. } => {
                self.timers.disarm(at);
                None
            }
        }
    }

    /// Changes an entry's state by a solicitation, which is returned.
    fn solicit(&mut self, at: usize, state: NeighbourState, to: Option<MacAddr>) -> Solicitation {
        self.set_state(at, state);
        // It has its class's whole share of time for an answer.
        if self.eviction.is_in(EvictionClass::Unconfirmed, at) {
            self.eviction.move_to(EvictionClass::Unconfirmed, at);
        }
        match to {
            Some(_) => self.counters.unicast_solicits += 1,
            None => self.counters.multicast_solicits += 1,
        }
        let target = self.entries[at].hop;
        Solicitation { target, to }
    }

    fn give_up(&mut self, now: Instant, at: usize) {
        let until = now + self.config.hold_down;
        self.set_state(at, NeighbourState::Failed { until });
        self.promote(EvictionClass::Unused, at);
        self.drop_queue(at);
        self.counters.unreachable += 1;
        self.push_event(NeighbourEvent::Unreachable(self.entries[at].hop));
    }
}

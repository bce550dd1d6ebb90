//! The neighbour table: link-layer addresses of next hops, for ARP (RFC 826) and neighbour
//! discovery (RFC 4861). Both use the states of RFC 4861.
//!
//! ```text
//!               solicit x3, no answer                      use, after REACHABLE_TIME
//!   INCOMPLETE ----------------------> FAILED     REACHABLE ------------------------+
//!    |  |   ^                            |         ^   ^  ^                         v
//!    |  |   +---- hold-down over, use ---+         |   |  |  confirmed (TCP)       DELAY
//!    |  +----- solicited answer -------------------+   |  +------------------------ |
//!    |                                                 |                            | 5 s
//!    +-- unsolicited-> STALE -- use -> DELAY           +---- solicited answer --- PROBE
//!                                                                                   |
//!   INCOMPLETE <------------------------------ probe x3, no answer -----------------+
//! ```
//!
//! Entries are created by our lookups and by neighbours that solicit us. An unsolicited
//! advertisement changes an existing entry at most, and never makes it REACHABLE. Table, waiting
//! frames and events have limits. Memory is allocated when the table is made. Every operation takes
//! a constant number of steps, or one for each change that an entry was due for.

mod config;
mod counters;
mod entry;
mod events;
mod eviction;
mod lists;
mod solicitations;
mod timers;
mod waiting;

use core::time::Duration;
use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use lockgate_wire::{IfaceId, Instant, MacAddr, Xorshift64};

use self::entry::{NeighbourEntry, WaitingSlots};
use self::eviction::{EvictionClass, EvictionOrder};
use self::timers::NeighbourTimers;
use self::waiting::WaitingFrames;
use crate::limit::TokenBucket;
use crate::routes::NextHop;

pub use self::config::NeighbourConfig;
pub use self::counters::NeighbourCounters;
pub use self::entry::NeighbourState;
pub use self::events::{Advertisement, Lookup, NeighbourEvent, Solicitation};

/// The neighbour table.
#[derive(Debug)]
pub struct Neighbours {
    config: NeighbourConfig,
    entries: Vec<NeighbourEntry>,
    index: HashMap<NextHop, usize>,
    gateways: HashSet<NextHop>,
    eviction: EvictionOrder,
    timers: NeighbourTimers,
    waiting: WaitingFrames,
    events: VecDeque<NeighbourEvent>,
    solicits: TokenBucket,
    random: Xorshift64,
    counters: NeighbourCounters,
}

impl Neighbours {
    /// Makes an empty table. The seed determines its random intervals.
    pub fn new(config: NeighbourConfig, seed: u64) -> Self {
        let entries_max = usize::from(config.entries_max.max(1));
        Self {
            config,
            entries: Vec::with_capacity(entries_max),
            index: HashMap::with_capacity(entries_max),
            gateways: HashSet::new(),
            eviction: EvictionOrder::new(entries_max),
            timers: NeighbourTimers::new(entries_max),
            waiting: WaitingFrames::new(config.waiting_max, config.waiting_bytes_max),
            events: VecDeque::with_capacity(2 * entries_max),
            solicits: TokenBucket::new(config.solicit_rate),
            random: Xorshift64::new(seed),
            counters: NeighbourCounters::default(),
        }
    }

    /// Declares `hop` the gateway of a route: its entry is never evicted, it is outside the table's
    /// limit, and its solicitations aren't limited by [`NeighbourConfig::solicit_rate`].
    pub fn add_gateway(&mut self, hop: NextHop) {
        if !self.gateways.insert(hop) {
            return;
        }
        self.entries.reserve(self.gateways.len());
        self.index.reserve(self.gateways.len());
        if let Some(&at) = self.index.get(&hop) {
            self.eviction.move_to(EvictionClass::Gateway, at);
        }
    }

    /// Returns the link-layer address of `hop`, or starts to resolve it.
    ///
    /// A call counts as a packet sent to `hop`: it refreshes the entry's use, and a stale entry
    /// changes to DELAY.
    pub fn lookup(&mut self, now: Instant, hop: NextHop) -> Lookup {
        let Some(&at) = self.index.get(&hop) else {
            let state = NeighbourState::Incomplete { sent: 0, next: now };
            self.create(now, hop, state, EvictionClass::Unconfirmed);
            return Lookup::Pending;
        };
        self.on_used(now, at);
        match self.entries[at].state {
            NeighbourState::Incomplete { .. } => Lookup::Pending,
            NeighbourState::Reachable { mac, until } if now < until => Lookup::Resolved(mac),
            NeighbourState::Delay { mac, .. } | NeighbourState::Probe { mac, .. } => {
                Lookup::Resolved(mac)
            }
            NeighbourState::Failed { until } if now < until => Lookup::Unreachable,
            //= https://www.rfc-editor.org/rfc/rfc4861#section-7.3.3
            //# The first time a node sends a packet to a neighbor whose entry is
            //# STALE, the sender changes the state to DELAY and sets a timer to
            //# expire in DELAY_FIRST_PROBE_TIME seconds.
            NeighbourState::Reachable { mac, .. } | NeighbourState::Stale { mac } => {
                let until = now + self.config.delay_first_probe;
                self.set_state(at, NeighbourState::Delay { mac, until });
                Lookup::Resolved(mac)
            }
            NeighbourState::Failed { .. } => {
                self.set_state(at, NeighbourState::Incomplete { sent: 0, next: now });
                self.promote(EvictionClass::Unconfirmed, at);
                Lookup::Pending
            }
        }
    }

    /// Returns the state of the entry of `hop`, if there is one.
    pub fn state(&self, now: Instant, hop: NextHop) -> Option<NeighbourState> {
        let entry = &self.entries[*self.index.get(&hop)?];
        match entry.state {
            NeighbourState::Reachable { mac, until } if now >= until => {
                Some(NeighbourState::Stale { mac })
            }
            NeighbourState::Reachable { .. }
            | NeighbourState::Incomplete { .. }
            | NeighbourState::Stale { .. }
            | NeighbourState::Delay { .. }
            | NeighbourState::Probe { .. }
            | NeighbourState::Failed { .. } => Some(entry.state),
        }
    }

    /// Returns whether the neighbour's last advertisement had the Router flag.
    pub fn is_router(&self, hop: NextHop) -> bool {
        self.index
            .get(&hop)
            .is_some_and(|at| self.entries[*at].is_router)
    }

    /// Handles reachability confirmation: a connection through `hop` made progress.
    //= https://www.rfc-editor.org/rfc/rfc4861#section-7.3.1
    //# In TCP, for example, receipt of a (new)
    //# acknowledgement indicates that previously sent data reached the peer.
    pub fn confirm(&mut self, now: Instant, hop: NextHop) {
        let Some(&at) = self.index.get(&hop) else {
            return;
        };
        if let Some(mac) = self.entries[at].state.mac() {
            self.set_reachable(now, at, mac);
            self.counters.confirmed += 1;
        }
    }

    /// Handles a request for our address from `hop` at `mac`. Creates an entry: a reply is likely
    /// to be sent there.
    pub fn on_solicited_by(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        let Some(&at) = self.index.get(&hop) else {
            let state = NeighbourState::Stale { mac };
            let at = self.create(now, hop, state, EvictionClass::Unused);
            self.on_resolved(at, mac);
            return;
        };
        let known = self.entries[at].state.mac();
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.3
        //# If an entry already exists, and the
        //# cached link-layer address differs from the one in the received Source
        //# Link-Layer option, the cached address should be replaced by the
        //# received address, and the entry's reachability state MUST be set to
        //# STALE.
        if known != Some(mac) {
            self.set_state(at, NeighbourState::Stale { mac });
            self.on_resolved(at, mac);
        }
    }

    /// Handles an ARP reply, a gratuitous ARP or a neighbour advertisement about `hop` (RFC 4861,
    /// 7.2.5).
    pub fn on_advertisement(&mut self, now: Instant, hop: NextHop, advert: Advertisement) {
        let Some(&at) = self.index.get(&hop) else {
            self.counters.unasked += 1;
            return;
        };
        if let Some(router) = advert.router {
            self.entries[at].is_router = router;
        }
        let state = self.entries[at].state;
        // Only an outstanding solicitation can be answered: a forged answer can't keep an entry
        // REACHABLE.
        let answers = advert.solicited
            && matches!(
                state,
                NeighbourState::Incomplete { .. } | NeighbourState::Probe { .. }
            );
        let Some(known) = state.mac() else {
            if let Some(mac) = advert.mac {
                if answers {
                    self.set_reachable(now, at, mac);
                } else {
                    self.set_state(at, NeighbourState::Stale { mac });
                }
                self.on_resolved(at, mac);
            }
            return;
        };
        let mac = advert.mac.unwrap_or(known);
        if mac != known && !advert.replaces {
            //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.5
            //# If the state of the entry is REACHABLE, set it to STALE, but
            //# do not update the entry in any other way.
            if matches!(state, NeighbourState::Reachable { .. }) {
                self.set_state(at, NeighbourState::Stale { mac: known });
            }
            return;
        }
        if answers {
            self.set_reachable(now, at, mac);
        } else if mac != known {
            self.set_state(at, NeighbourState::Stale { mac });
        }
        if mac != known {
            self.on_resolved(at, mac);
        }
    }

    /// Handles a resolution by another worker's table: `hop` is at `mac`.
    pub fn on_sibling_resolved(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        let advert = Advertisement {
            mac: Some(mac),
            solicited: true,
            replaces: true,
            router: None,
        };
        self.on_advertisement(now, hop, advert);
    }

    /// Queues a complete frame until `hop` is resolved. Returns false if it was dropped.
    ///
    /// With `link` the frame has a link-layer header, whose destination (its first six bytes) is
    /// written then. An entry keeps its newest three frames. Half of the places are kept for
    /// gateways and for neighbours that have answered before.
    pub fn queue(&mut self, hop: NextHop, frame: &[u8], link: bool) -> bool {
        let Some(&at) = self.index.get(&hop) else {
            self.counters.frames_refused += 1;
            return false;
        };
        let is_full = self.waiting.is_full(self.eviction.is_known(at));
        let queue = &mut self.entries[at].queue;
        if frame.len() > self.waiting.bytes_max() {
            self.counters.frames_refused += 1;
            return false;
        }
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.2
        //# When a queue
        //# overflows, the new arrival SHOULD replace the oldest entry.
        if queue.is_full() || is_full {
            match queue.pop() {
                Some(oldest) => {
                    self.waiting.free(oldest);
                    self.counters.frames_displaced += 1;
                }
                None => {
                    self.counters.frames_refused += 1;
                    return false;
                }
            }
        }
        let Some(slot) = self.waiting.put(hop.iface, frame, link) else {
            self.counters.frames_refused += 1;
            return false;
        };
        queue.push(slot);
        self.counters.frames_queued += 1;
        true
    }

    /// Copies the next frame whose neighbour was resolved into `out`. Returns its interface and
    /// length. A frame that doesn't fit is dropped.
    pub fn poll_released(&mut self, out: &mut [u8]) -> Option<(IfaceId, usize)> {
        while self.waiting.has_ready() {
            if let Some(frame) = self.waiting.take_ready(out) {
                self.counters.frames_released += 1;
                return Some(frame);
            }
            self.counters.frames_dropped += 1;
        }
        None
    }

    /// Returns the next event for connections and other workers.
    pub fn poll_event(&mut self) -> Option<NeighbourEvent> {
        self.events.pop_front()
    }

    /// Returns the counters.
    pub fn counters(&self) -> &NeighbourCounters {
        &self.counters
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (NextHop, NeighbourState)> {
        self.entries.iter().map(|e| (e.hop, e.state))
    }

    fn set_state(&mut self, at: usize, state: NeighbourState) {
        self.entries[at].state = state;
        self.timers.arm(at, &state);
    }

    /// Changes an entry to REACHABLE: the neighbour has answered.
    fn set_reachable(&mut self, now: Instant, at: usize, mac: MacAddr) {
        let until = now + self.config.draw_reachable_time(&mut self.random);
        self.set_state(at, NeighbourState::Reachable { mac, until });
        self.promote(EvictionClass::Confirmed, at);
    }

    /// Notes that a packet is sent to an entry's neighbour.
    fn on_used(&mut self, now: Instant, at: usize) {
        if self.eviction.is_in(EvictionClass::Unused, at) {
            // A failed neighbour gets nothing.
            if self.entries[at].state.mac().is_some() {
                self.eviction.move_to(EvictionClass::Unconfirmed, at);
            }
        } else if self.eviction.is_in(EvictionClass::Confirmed, at)
            && now.saturating_since(self.entries[at].used) >= USE_INTERVAL
        {
            self.entries[at].used = now;
            self.eviction.move_to(EvictionClass::Confirmed, at);
        }
    }

    /// Moves an entry to another class, if it isn't a gateway's or in this class.
    fn promote(&mut self, class: EvictionClass, at: usize) {
        if !self.eviction.is_in(EvictionClass::Gateway, at) && !self.eviction.is_in(class, at) {
            self.eviction.move_to(class, at);
        }
    }

    /// Releases waiting frames and reports that an entry has a new link-layer address.
    fn on_resolved(&mut self, at: usize, mac: MacAddr) {
        let entry = &mut self.entries[at];
        let hop = entry.hop;
        while let Some(slot) = entry.queue.pop() {
            self.waiting.make_ready(slot, mac);
        }
        if core::mem::replace(&mut entry.was_resolved, true) {
            self.counters.changed += 1;
        } else {
            self.counters.resolved += 1;
        }
        self.push_event(NeighbourEvent::Resolved(hop, mac));
    }

    fn push_event(&mut self, event: NeighbourEvent) {
        if self.events.len() >= 2 * usize::from(self.config.entries_max.max(1)) {
            self.events.pop_front();
            self.counters.events_lost += 1;
        }
        self.events.push_back(event);
    }

    fn create(
        &mut self,
        now: Instant,
        hop: NextHop,
        state: NeighbourState,
        class: EvictionClass,
    ) -> usize {
        self.counters.created += 1;
        let is_gateway = self.gateways.contains(&hop);
        let class = if is_gateway {
            EvictionClass::Gateway
        } else {
            class
        };
        let entry = NeighbourEntry {
            hop,
            state,
            used: now,
            queue: WaitingSlots::default(),
            is_router: false,
            was_resolved: false,
        };
        let at = match self.eviction.candidate().filter(|_| !is_gateway) {
            Some(at) => {
                self.drop_queue(at);
                self.index.remove(&self.entries[at].hop);
                self.counters.evicted += 1;
                self.entries[at] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.index.insert(hop, at);
        self.eviction.move_to(class, at);
        self.timers.arm(at, &state);
        at
    }

    fn drop_queue(&mut self, at: usize) {
        while let Some(slot) = self.entries[at].queue.pop() {
            self.waiting.free(slot);
            self.counters.frames_dropped += 1;
        }
    }
}

/// How exactly the order of use of confirmed entries is kept.
const USE_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;

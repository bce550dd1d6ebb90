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
//! frames and events have limits. Memory is allocated when the table is made.

mod config;
mod counters;
mod entry;
mod events;
mod waiting;

use std::collections::VecDeque;

use hashbrown::HashMap;
use lockgate_wire::{IfaceId, Instant, MacAddr, Xorshift64};

use self::entry::{NeighbourEntry, WaitingSlots};
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
    waiting: WaitingFrames,
    events: VecDeque<NeighbourEvent>,
    solicits: TokenBucket,
    /// No entry's deadline is earlier.
    next_deadline: Instant,
    /// Index of the next entry that [`Self::poll_solicit`] checks.
    sweep: usize,
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
            waiting: WaitingFrames::new(config.waiting_max, config.waiting_bytes_max),
            events: VecDeque::with_capacity(2 * entries_max),
            solicits: TokenBucket::new(config.solicit_rate),
            next_deadline: Instant::MAX,
            sweep: 0,
            random: Xorshift64::new(seed),
            counters: NeighbourCounters::default(),
        }
    }

    /// Returns the link-layer address of `hop`, or starts to resolve it.
    ///
    /// A call counts as a packet sent to `hop`: it refreshes the entry's use, and a stale entry
    /// changes to DELAY.
    pub fn lookup(&mut self, now: Instant, hop: NextHop) -> Lookup {
        let Some(&at) = self.index.get(&hop) else {
            let at = self.create(now, hop, NeighbourState::Incomplete { sent: 0, next: now });
            self.arm_deadline(at);
            return Lookup::Pending;
        };
        let delay_until = now + self.config.delay_first_probe;
        let entry = &mut self.entries[at];
        entry.used = now;
        let answer = match entry.state {
            NeighbourState::Incomplete { .. } => return Lookup::Pending,
            NeighbourState::Reachable { mac, until } if now < until => {
                return Lookup::Resolved(mac);
            }
            NeighbourState::Delay { mac, .. } | NeighbourState::Probe { mac, .. } => {
                return Lookup::Resolved(mac);
            }
            NeighbourState::Failed { until } if now < until => return Lookup::Unreachable,
            //= https://www.rfc-editor.org/rfc/rfc4861#section-7.3.3
            //# The first time a node sends a packet to a neighbor whose entry is
            //# STALE, the sender changes the state to DELAY and sets a timer to
            //# expire in DELAY_FIRST_PROBE_TIME seconds.
            NeighbourState::Reachable { mac, .. } | NeighbourState::Stale { mac } => {
                entry.state = NeighbourState::Delay {
                    mac,
                    until: delay_until,
                };
                Lookup::Resolved(mac)
            }
            NeighbourState::Failed { .. } => {
                entry.state = NeighbourState::Incomplete { sent: 0, next: now };
                Lookup::Pending
            }
        };
        self.arm_deadline(at);
        answer
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
        let until = now + self.config.draw_reachable_time(&mut self.random);
        let Some(&at) = self.index.get(&hop) else {
            return;
        };
        let entry = &mut self.entries[at];
        if let Some(mac) = entry.state.mac() {
            entry.state = NeighbourState::Reachable { mac, until };
            self.counters.confirmed += 1;
        }
    }

    /// Handles a request for our address from `hop` at `mac`. Creates an entry: a reply is likely
    /// to be sent there.
    pub fn on_solicited_by(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        let Some(&at) = self.index.get(&hop) else {
            let at = self.create(now, hop, NeighbourState::Stale { mac });
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
            self.entries[at].state = NeighbourState::Stale { mac };
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
        let until = now + self.config.draw_reachable_time(&mut self.random);
        let entry = &mut self.entries[at];
        if let Some(router) = advert.router {
            entry.is_router = router;
        }
        // Only an outstanding solicitation can be answered: a forged answer can't keep an entry
        // REACHABLE.
        let answers = advert.solicited
            && matches!(
                entry.state,
                NeighbourState::Incomplete { .. } | NeighbourState::Probe { .. }
            );
        let Some(known) = entry.state.mac() else {
            if let Some(mac) = advert.mac {
                entry.state = if answers {
                    NeighbourState::Reachable { mac, until }
                } else {
                    NeighbourState::Stale { mac }
                };
                self.on_resolved(at, mac);
            }
            return;
        };
        let mac = advert.mac.unwrap_or(known);
        if mac != known && !advert.replaces {
            //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.5
            //# If the state of the entry is REACHABLE, set it to STALE, but
            //# do not update the entry in any other way.
            if matches!(entry.state, NeighbourState::Reachable { .. }) {
                entry.state = NeighbourState::Stale { mac: known };
            }
            return;
        }
        if answers {
            entry.state = NeighbourState::Reachable { mac, until };
        } else if mac != known {
            entry.state = NeighbourState::Stale { mac };
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
    /// written then. An entry keeps its newest three frames.
    pub fn queue(&mut self, hop: NextHop, frame: &[u8], link: bool) -> bool {
        let Some(&at) = self.index.get(&hop) else {
            self.counters.frames_refused += 1;
            return false;
        };
        let queue = &mut self.entries[at].queue;
        if frame.len() > self.waiting.bytes_max() {
            self.counters.frames_refused += 1;
            return false;
        }
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.2
        //# When a queue
        //# overflows, the new arrival SHOULD replace the oldest entry.
        if queue.is_full() || self.waiting.is_full() {
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

    /// Returns the next solicitation that is due. Call it until it returns `None`.
    pub fn poll_solicit(&mut self, now: Instant) -> Option<Solicitation> {
        if now < self.next_deadline {
            return None;
        }
        while let Some(entry) = self.entries.get(self.sweep) {
            let at = self.sweep;
            self.sweep += 1;
            if entry
                .state
                .deadline()
                .is_some_and(|deadline| deadline <= now)
                && let Some(solicit) = self.on_deadline(now, at)
            {
                return Some(solicit);
            }
        }
        self.sweep = 0;
        let deadlines = self.entries.iter().filter_map(|e| e.state.deadline());
        self.next_deadline = deadlines.min().unwrap_or(Instant::MAX);
        None
    }

    /// Returns the next event for connections and other workers.
    pub fn poll_event(&mut self) -> Option<NeighbourEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`Self::poll_solicit`] next. It may be earlier than any solicitation.
    /// Frames to release are available at once, after `on_*`.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.next_deadline).filter(|t| *t != Instant::MAX)
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

    /// Advances an entry whose deadline has passed. Returns a solicitation to send, if any.
    fn on_deadline(&mut self, now: Instant, at: usize) -> Option<Solicitation> {
        let config = self.config;
        let entry = &mut self.entries[at];
        let target = entry.hop;
        let next = now + config.retransmit_time;
        let (state, to) = match entry.state {
            NeighbourState::Incomplete { sent, .. } if sent < config.multicast_solicits => (
                NeighbourState::Incomplete {
                    sent: sent + 1,
                    next,
                },
                None,
            ),
            NeighbourState::Delay { mac, .. } if config.unicast_solicits > 0 => {
                (NeighbourState::Probe { mac, sent: 1, next }, Some(mac))
            }
            NeighbourState::Probe { mac, sent, .. } if sent < config.unicast_solicits => (
                NeighbourState::Probe {
                    mac,
                    sent: sent + 1,
                    next,
                },
                Some(mac),
            ),
            // Another station may have taken over the IP address. Multicast solicitations, as in a
            // new resolution, find it before the entry fails.
            NeighbourState::Delay { .. } | NeighbourState::Probe { .. } => {
                (NeighbourState::Incomplete { sent: 1, next }, None)
            }
            NeighbourState::Incomplete { .. } => {
                self.give_up(now, at);
                return None;
            }
            // The hold-down is over. The entry stays until a lookup or its eviction.
            NeighbourState::Failed { .. } => {
                entry.state = NeighbourState::Failed {
                    until: Instant::ZERO,
                };
                return None;
            }
            NeighbourState::Reachable { .. } | NeighbourState::Stale { .. } => return None,
        };
        if !self.solicits.take(now) {
            self.counters.solicits_limited += 1;
            entry.state.postpone(now + self.solicits.interval());
            return None;
        }
        entry.state = state;
        match to {
            Some(_) => self.counters.unicast_solicits += 1,
            None => self.counters.multicast_solicits += 1,
        }
        Some(Solicitation { target, to })
    }

    fn give_up(&mut self, now: Instant, at: usize) {
        let until = now + self.config.hold_down;
        self.entries[at].state = NeighbourState::Failed { until };
        self.drop_queue(at);
        self.counters.unreachable += 1;
        self.push_event(NeighbourEvent::Unreachable(self.entries[at].hop));
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

    fn create(&mut self, now: Instant, hop: NextHop, state: NeighbourState) -> usize {
        self.counters.created += 1;
        let entry = NeighbourEntry {
            hop,
            state,
            used: now,
            queue: WaitingSlots::default(),
            is_router: false,
            was_resolved: false,
        };
        let at = if self.entries.len() < usize::from(self.config.entries_max.max(1)) {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let at = self.eviction_candidate(now);
            self.drop_queue(at);
            self.index.remove(&self.entries[at].hop);
            self.counters.evicted += 1;
            self.entries[at] = entry;
            at
        };
        self.index.insert(hop, at);
        at
    }

    /// Returns the entry to evict. In this order: FAILED, INCOMPLETE, STALE, then those in use;
    /// within a class the least recently used. A scan of addresses so evicts its own entries first.
    fn eviction_candidate(&self, now: Instant) -> usize {
        let priority = |e: &NeighbourEntry| {
            let class = match e.state {
                NeighbourState::Failed { .. } => 0,
                NeighbourState::Incomplete { .. } => 1,
                NeighbourState::Stale { .. } => 2,
                NeighbourState::Reachable { until, .. } if now >= until => 2,
                NeighbourState::Reachable { .. }
                | NeighbourState::Delay { .. }
                | NeighbourState::Probe { .. } => 3,
            };
            (class, e.used)
        };
        let least = self
            .entries
            .iter()
            .enumerate()
            .min_by_key(|(_, e)| priority(e));
        least.map_or(0, |(at, _)| at)
    }

    fn drop_queue(&mut self, at: usize) {
        while let Some(slot) = self.entries[at].queue.pop() {
            self.waiting.free(slot);
            self.counters.frames_dropped += 1;
        }
    }

    fn arm_deadline(&mut self, at: usize) {
        if let Some(deadline) = self.entries[at].state.deadline() {
            self.next_deadline = self.next_deadline.min(deadline);
        }
    }
}

#[cfg(test)]
mod tests;

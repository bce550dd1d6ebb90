//! Which TLS handshakes may begin, which can take a step, and which are evicted.
//!
//! A handshake with state in the TLS library is *active*; there are `active_max` of them at most.
//! Before that it waits for its first record, and then for admission
//! ([`AdmissionQueue`]). Admission and the steps of active handshakes take turns, so a flood of
//! ClientHellos doesn't stop the handshakes that have begun.
//!
//! # More ClientHellos than a core signs
//!
//! - Networks of peers are admitted in turn, so a flood from one delays its own handshakes.
//! - A handshake that has waited for admission for half of its time isn't begun: its connection is
//!   reset. Without this rule, a queue that is longer than `handshake_timeout` would let every
//!   handshake time out right after its signature, and no client would be served.
//! - Queued handshakes take half of the table of connections at most. Beyond that, and when a full
//!   table has nothing else to give, the oldest of the group that has the most is evicted.
//!
//! # What unfinished handshakes may hold
//!
//! | resource | limit |
//! |---|---|
//! | state in the TLS library | `handshakes_max` handshakes |
//! | flights that aren't acknowledged | half of the small spans |
//! | received bytes of records and messages that aren't complete | `handshake_bytes_max` bytes |
//! | connections | `connections_max` |
//!
//! At each limit the oldest handshake that waits for its peer is evicted: its connection is reset.
//! Its age counts from its connection, and anew from the step that begins it and from each flight
//! that it sends (two at most). Received bytes don't make it younger. Handshakes that
//! haven't begun are in the order of their first bytes.
//!
//! All limits but that of bytes leave a handshake [`HOLD_TIME`] in any case; what needs its place
//! waits. Beyond that, a flood evicts a handshake only if it brings as much as the limit within one
//! round-trip time of that handshake:
//!
//! - `handshakes_max` ClientHellos. Each costs this worker a signature of about 100 µs, so with the
//!   default of 4 096 that takes 0.4 s, whatever the rate of the flood.
//! - ClientHellos whose flights take half of the small spans. With 8 192 spans and two for each
//!   flight, 2 048 in [`HOLD_TIME`] are 8 000 a second, which is about what a core signs.
//! - `handshake_bytes_max` bytes. With the default of 32 MiB and a round-trip time of 200 ms that
//!   is a rate of 1.3 Gbit/s for each worker.
//!
//! Handshakes of connections that were opened from here count as active and are never evicted.

use core::time::Duration;
use std::collections::VecDeque;

use lockgate_wire::Instant;

use crate::admission_queue::AdmissionQueue;
use crate::arrival_order::{ArrivalLinks, ArrivalList};
use crate::config::Limits;
use crate::notice::SocketId;
use crate::socket::OpenedBy;
use crate::tls::CIPHERTEXT_MAX;

/// Admission, scheduling and limits of one worker's TLS handshakes. Sockets are named by their
/// indices, and handshakes by their places.
///
/// A handshake has its place from its connection to its end. Places are used again, so that the
/// links take memory for as many handshakes as there were at a time, and an established connection
/// has none.
#[derive(Debug)]
pub(crate) struct Handshakes {
    /// The sockets of all places.
    sockets: Vec<u32>,
    /// Places that are free.
    free: Vec<u32>,
    /// Handshakes that have state in the TLS library.
    active: u32,
    active_max: u32,
    /// What unfinished handshakes hold together: the sum of what each reported last.
    held: Holding,
    bytes_max: u64,
    flight_bytes_max: u64,
    /// Active handshakes that can take a step, in order of their turns.
    stepping: VecDeque<u32>,
    admission_is_next: bool,
    /// Handshakes that wait for admission.
    queue: AdmissionQueue,
    queue_max: u32,
    /// The time of the last call of the stack.
    now: Instant,
    /// All handshakes that peers opened, from the connection on.
    accepted: ArrivalList,
    accepted_links: ArrivalLinks,
    /// Handshakes that hold bytes of their first record, and active ones. No handshake is in both.
    partial: ArrivalList,
    begun: ArrivalList,
    links: ArrivalLinks,
    /// When the oldest active handshake may be evicted, if another waits for its place.
    retry_at: Option<Instant>,
    /// Memory for one record of a handshake.
    pub(crate) record: Box<[u8]>,
}

/// Memory that an unfinished handshake holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// On the heap: received bytes.
    pub(crate) bytes: u64,
    /// In page buffers: what the peer hasn't acknowledged.
    pub(crate) flight_bytes: u64,
}

impl Handshakes {
    pub(crate) fn new(limits: &Limits) -> Self {
        let links = || ArrivalLinks::new(limits.connections_max);
        Self {
            sockets: Vec::new(),
            free: Vec::new(),
            active: 0,
            active_max: limits.handshakes_max,
            held: Holding::default(),
            bytes_max: limits.handshake_bytes_max,
            flight_bytes_max: u64::MAX,
            stepping: VecDeque::new(),
            admission_is_next: false,
            queue: AdmissionQueue::new(limits.connections_max),
            queue_max: limits.connections_max / 2,
            now: Instant::ZERO,
            accepted: ArrivalList::new(),
            accepted_links: links(),
            partial: ArrivalList::new(),
            begun: ArrivalList::new(),
            links: links(),
            retry_at: None,
            record: vec![0; RECORD_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// The number of active handshakes.
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// What unfinished handshakes hold together.
    pub(crate) fn held(&self) -> Holding {
        self.held
    }

    /// Sets what flights that aren't acknowledged may pin.
    pub(crate) fn set_flight_bytes_max(&mut self, bytes: u64) {
        self.flight_bytes_max = bytes;
    }

    /// Whether one more handshake may become active. Its flight may exceed the limit of flights.
    pub(crate) fn has_capacity(&self) -> bool {
        let has_flights = self.held.flight_bytes > 0;
        self.active < self.active_max
            && (!has_flights || self.held.flight_bytes < self.flight_bytes_max)
    }

    /// Whether any handshake can take a step, or may be able to once the oldest active one is
    /// evicted.
    pub(crate) fn has_steps(&self, now: Instant) -> bool {
        let may_admit = self.has_capacity() || self.retry_at.is_none_or(|at| now >= at);
        !self.stepping.is_empty() || (may_admit && !self.queue.is_empty())
    }

    /// When a handshake that waits for admission may take the place of the oldest active one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.queue.is_empty())
    }

    /// Gives the handshake of socket `index` its place. A handshake that a peer opened may be
    /// evicted.
    pub(crate) fn register(&mut self, index: u32, opened_by: OpenedBy) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(index);
            u32::try_from(self.sockets.len() - 1).unwrap_or(UNPLACED)
        });
        if let Some(socket) = self.sockets.get_mut(place as usize) {
            *socket = index;
        }
        if opened_by == OpenedBy::Peer {
            self.accepted_links.push(&mut self.accepted, place);
        }
        place
    }

    /// A handshake that a peer opened holds the first bytes of its first record.
    pub(crate) fn on_partial(&mut self, place: u32) {
        if self.accepted_links.is_listed(place) && !self.links.is_listed(place) {
            self.links.push(&mut self.partial, place);
        }
    }

    /// A handshake has got state in the TLS library.
    pub(crate) fn on_begun(&mut self, place: u32) {
        self.active += 1;
        self.links.remove(&mut self.partial, place);
        if self.accepted_links.is_listed(place) {
            self.links.push(&mut self.begun, place);
        }
    }

    /// An active handshake has sent a flight and waits for the peer's.
    pub(crate) fn on_flight(&mut self, place: u32) {
        if self.links.is_listed(place) {
            self.links.remove(&mut self.begun, place);
            self.links.push(&mut self.begun, place);
        }
    }

    /// A handshake has ended, and its place is free.
    pub(crate) fn on_ended(&mut self, place: u32, was_active: bool) {
        self.queue.remove(place);
        self.accepted_links.remove(&mut self.accepted, place);
        if was_active {
            self.active -= 1;
            self.links.remove(&mut self.begun, place);
            self.retry_at = None;
        } else {
            self.links.remove(&mut self.partial, place);
        }
        if place != UNPLACED {
            self.free.push(place);
        }
    }

    /// Replaces a handshake's share of what all hold.
    pub(crate) fn update_held(&mut self, before: Holding, now: Holding) {
        let held = &mut self.held;
        held.bytes = held.bytes - before.bytes + now.bytes;
        held.flight_bytes = held.flight_bytes - before.flight_bytes + now.flight_bytes;
    }

    /// Whether handshakes hold more received bytes than they may.
    pub(crate) fn is_over_bytes(&self) -> bool {
        self.held.bytes > self.bytes_max
    }

    /// The oldest handshakes that hold bytes of their first record.
    pub(crate) fn oldest_partial(&self) -> impl Iterator<Item = u32> {
        self.sockets_of(&self.links, &self.partial)
    }

    /// The oldest active handshakes.
    pub(crate) fn oldest_active(&self) -> impl Iterator<Item = u32> {
        self.sockets_of(&self.links, &self.begun)
    }

    /// The oldest handshakes, including handshakes without a first byte.
    pub(crate) fn oldest_accepted(&self) -> impl Iterator<Item = u32> {
        self.sockets_of(&self.accepted_links, &self.accepted)
    }

    /// The sockets of the first handshakes of a list.
    fn sockets_of(&self, links: &ArrivalLinks, list: &ArrivalList) -> impl Iterator<Item = u32> {
        let places = links.iter(list).take(EXAMINED_MAX);
        places.filter_map(|place| self.socket_of(place))
    }

    /// The socket of a handshake.
    fn socket_of(&self, place: u32) -> Option<u32> {
        self.sockets.get(place as usize).copied()
    }

    /// Lists a socket whose active handshake can take a step, unless it is listed.
    pub(crate) fn add_stepping(&mut self, id: SocketId, is_listed: &mut bool) {
        if !core::mem::replace(is_listed, true) {
            self.stepping.push_back(id.index);
        }
    }

    /// Takes the next socket whose handshake can take a step. The caller tests and clears whether
    /// it is still listed: [`Socket::take_stepping`](crate::socket::Socket::take_stepping).
    pub(crate) fn pop_stepping(&mut self) -> Option<u32> {
        self.stepping.pop_front()
    }

    /// Sets the time.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// Queues a handshake for admission, unless it is queued. `group` is that of its peer.
    pub(crate) fn enqueue(&mut self, place: u32, group: u8) {
        self.queue.push(self.now, place, group);
    }

    /// Whether a handshake waits for admission.
    pub(crate) fn is_queued(&self, place: u32) -> bool {
        self.queue.contains(place)
    }

    /// Whether any handshake waits for admission.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns the socket that is admitted next, if it has waited since before `limit`. The
    /// application's own handshakes may wait for longer.
    pub(crate) fn next_overdue(&self, limit: Instant) -> Option<u32> {
        let (place, since) = self.queue.next()?;
        let is_overdue = since < limit && self.accepted_links.is_listed(place);
        self.socket_of(place).filter(|_| is_overdue)
    }

    /// Returns the socket of a queued handshake that may be evicted for a place in the table of
    /// connections, if more than half of the table is queued, or `is_full` and nothing else can
    /// make room.
    pub(crate) fn queued_for_eviction(&self, is_full: bool) -> Option<u32> {
        if !is_full && self.queue.len() <= self.queue_max {
            return None;
        }
        let oldest = self.queue.oldest_of_largest();
        let oldest = oldest.filter(|place| self.accepted_links.is_listed(*place));
        self.socket_of(oldest?)
    }

    /// Takes the next socket in turn, if one more handshake may become active.
    pub(crate) fn pop_admitted(&mut self) -> Option<u32> {
        if !self.has_capacity() {
            return None;
        }
        let place = self.queue.pop()?;
        self.socket_of(place)
    }

    /// Sets when admission is tried again: no active handshake may be evicted before.
    pub(crate) fn retry_admission_at(&mut self, at: Instant) {
        self.retry_at = Some(at);
    }

    /// Whether admission comes before the steps of active handshakes this time; it alternates.
    pub(crate) fn toggle_admission(&mut self) -> bool {
        self.admission_is_next = !self.admission_is_next;
        self.admission_is_next
    }
}

/// No place: the handshake has ended.
pub(crate) const UNPLACED: u32 = u32::MAX;

/// The longest record, header included.
pub(crate) const RECORD_BYTES_MAX: usize = lockgate_ktls::HEADER_LEN + CIPHERTEXT_MAX;

/// How long a handshake may wait for its peer before another may take its place: most round trips
/// are shorter. Without it, clients that come at once would evict each other.
pub(crate) const HOLD_TIME: Duration = Duration::from_millis(250);

/// How many of the oldest handshakes are examined to find a handshake that waits for its peer. A
/// handshake that waits for a step is skipped: the step moves it to the end of its list, or ends
/// it.
const EXAMINED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes(active_max: u32) -> Handshakes {
        Handshakes::new(&Limits {
            handshakes_max: active_max,
            handshake_bytes_max: 1000,
            connections_max: 8,
            ..Limits::default()
        })
    }

    #[test]
    fn handshakes_are_admitted_in_order_of_arrival_up_to_the_limit() {
        let mut handshakes = handshakes(1);
        let now = Instant::ZERO;
        assert!(!handshakes.has_steps(now));
        for place in 0..4 {
            let registered = handshakes.register(place + 100, OpenedBy::Application);
            assert_eq!(registered, place);
        }
        for place in [3, 0, 1, 2, 0] {
            handshakes.enqueue(place, 0);
        }
        assert_eq!(handshakes.pop_admitted(), Some(103));
        handshakes.on_begun(3);
        assert_eq!(handshakes.pop_admitted(), None, "the only place is taken");
        handshakes.retry_admission_at(now + HOLD_TIME);
        assert!(!handshakes.has_steps(now) && handshakes.has_steps(now + HOLD_TIME));
        assert_eq!(handshakes.deadline(), Some(now + HOLD_TIME));

        // The first in the queue ends.
        handshakes.on_ended(0, false);
        handshakes.on_ended(3, true);
        assert!(handshakes.has_steps(now));
        assert_eq!(handshakes.pop_admitted(), Some(101));
        handshakes.on_begun(1);
        handshakes.on_ended(1, true);
        assert_eq!(handshakes.pop_admitted(), Some(102));
        assert_eq!(handshakes.deadline(), None);
        assert_eq!((handshakes.active(), handshakes.has_queue()), (0, false));
    }

    /// What makes a handshake younger: its first byte and its flights, and nothing else.
    #[test]
    fn the_oldest_handshakes_are_those_that_sent_a_flight_longest_ago() {
        let mut handshakes = handshakes(8);
        let oldest = |handshakes: &Handshakes| {
            (
                handshakes.oldest_partial().collect::<Vec<_>>(),
                handshakes.oldest_active().collect::<Vec<_>>(),
                handshakes.oldest_accepted().collect::<Vec<_>>(),
            )
        };
        for place in 0..8 {
            let opened_by = if place < 4 {
                OpenedBy::Peer
            } else {
                OpenedBy::Application
            };
            assert_eq!(handshakes.register(place, opened_by), place);
        }
        for place in [3, 1, 0, 3] {
            handshakes.on_partial(place);
        }
        // Opened from here.
        handshakes.on_partial(7);
        handshakes.on_begun(7);
        handshakes.on_flight(7);
        assert_eq!(
            oldest(&handshakes),
            (vec![3, 1, 0], vec![], vec![0, 1, 2, 3])
        );
        handshakes.on_begun(1);
        handshakes.on_begun(3);
        handshakes.on_partial(1);
        assert_eq!(oldest(&handshakes), (vec![0], vec![1, 3], vec![0, 1, 2, 3]));
        handshakes.on_flight(1);
        assert_eq!(oldest(&handshakes).1, [3, 1]);
        handshakes.on_ended(3, true);
        handshakes.on_ended(0, false);
        handshakes.on_ended(7, true);
        assert_eq!(oldest(&handshakes), (vec![], vec![1], vec![1, 2]));
        assert_eq!(handshakes.active(), 1);

        // Free places are used again, by other sockets.
        assert_eq!(handshakes.register(50, OpenedBy::Peer), 7);
        assert_eq!(handshakes.register(51, OpenedBy::Peer), 0);
        handshakes.on_partial(0);
        assert_eq!(oldest(&handshakes), (vec![51], vec![1], vec![1, 2, 50, 51]));
        handshakes.on_ended(UNPLACED, false);
        assert_eq!(handshakes.register(52, OpenedBy::Application), 3);
        assert_eq!(handshakes.register(53, OpenedBy::Application), 8);
    }

    #[test]
    fn the_limits_hold_for_the_sum() {
        let mut handshakes = handshakes(8);
        let holding = |bytes, flight_bytes| Holding {
            bytes,
            flight_bytes,
        };
        handshakes.set_flight_bytes_max(100);
        handshakes.update_held(Holding::default(), holding(600, 50));
        handshakes.update_held(Holding::default(), holding(400, 49));
        assert!(handshakes.has_capacity() && !handshakes.is_over_bytes());
        handshakes.update_held(holding(400, 49), holding(401, 50));
        assert!(!handshakes.has_capacity() && handshakes.is_over_bytes());
        handshakes.update_held(holding(401, 50), Holding::default());
        handshakes.update_held(holding(600, 50), Holding::default());
        assert_eq!(handshakes.held(), Holding::default());
        handshakes.set_flight_bytes_max(0);
        assert!(handshakes.has_capacity(), "one flight is always possible");
    }
}

//! TLS handshakes that wait for admission, a queue for each group of peers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::VecDeque;

use lockgate_wire::Instant;

use crate::arrival_order::{ArrivalLinks, ArrivalList};

/// Handshakes that wait for admission, named by their places
/// ([`Handshakes`](crate::handshakes::Handshakes)).
///
/// Peers are in [`GROUPS`] groups by a keyed hash of their network ([`network`]). Groups are served
/// in turn, and each in order of arrival (stochastic fairness queueing, McKenney 1990). So a flood
/// of ClientHellos from a few networks delays a client of another network by [`GROUPS`] steps at
/// most.
#[derive(Debug)]
pub(crate) struct AdmissionQueue {
    groups: Box<[ArrivalList]>,
    links: ArrivalLinks,
    /// Of each handshake, by its place.
    entries: Vec<QueuedHandshake>,
    /// The groups with entries, in the order in which they are served.
    turns: VecDeque<u8>,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct QueuedHandshake {
    group: u8,
    since: Instant,
}

impl AdmissionQueue {
    /// An empty queue for `capacity` handshakes.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            groups: vec![ArrivalList::new(); GROUPS].into_boxed_slice(),
            links: ArrivalLinks::new(capacity),
            entries: Vec::new(),
            turns: VecDeque::with_capacity(GROUPS),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn contains(&self, place: u32) -> bool {
        self.links.is_listed(place)
    }

    /// Appends a handshake to its group, unless it is queued.
    pub(crate) fn push(&mut self, now: Instant, place: u32, group: u8) {
        let Some(list) = self.groups.get_mut(usize::from(group)) else {
            return;
        };
        if self.links.is_listed(place) {
            return;
        }
        if list.is_empty() {
            self.turns.push_back(group);
        }
        self.links.push(list, place);
        let at = place as usize;
        let entry = QueuedHandshake { group, since: now };
        if at >= self.entries.len() {
            self.entries.resize(at + 1, entry);
        }
        if let Some(slot) = self.entries.get_mut(at) {
            *slot = entry;
        }
        self.len += 1;
    }

    /// Removes a handshake, if it is queued. An empty group stays in turn until it is served.
    pub(crate) fn remove(&mut self, place: u32) {
        let entry = self.entries.get(place as usize);
        let list = entry.and_then(|entry| self.groups.get_mut(usize::from(entry.group)));
        if let Some(list) = list
            && self.links.is_listed(place)
        {
            self.links.remove(list, place);
            self.len -= 1;
            if list.is_empty()
                && let Some(group) = entry.map(|entry| entry.group)
            {
                self.turns.retain(|turn| *turn != group);
            }
        }
    }

    /// Returns the handshake that is served next, and since when it is queued.
    pub(crate) fn next(&self) -> Option<(u32, Instant)> {
        let group = *self.turns.front()?;
        self.oldest_of(group)
    }

    /// Takes the handshake that is served next. Its group is served again after all others.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let (place, _) = self.next()?;
        self.turns.rotate_left(1);
        self.remove(place);
        Some(place)
    }

    /// Returns the oldest handshake of the group that has the most.
    pub(crate) fn oldest_of_largest(&self) -> Option<u32> {
        let len = |group: &u8| self.groups.get(usize::from(*group)).map(ArrivalList::len);
        let largest = self.turns.iter().max_by_key(|group| len(group))?;
        self.oldest_of(*largest).map(|(place, _)| place)
    }

    fn oldest_of(&self, group: u8) -> Option<(u32, Instant)> {
        let place = self.groups.get(usize::from(group))?.oldest()?;
        let entry = self.entries.get(place as usize)?;
        Some((place, entry.since))
    }
}

/// The network that stands for a peer: what one subscriber or host is usually given.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 72)).into(),
    }
}

const GROUPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_served_in_turn_and_each_in_order() {
        let mut queue = AdmissionQueue::new(16);
        let at = Instant::from_millis;
        for place in [3, 1, 4, 0] {
            queue.push(at(u64::from(place)), place, 7);
        }
        // It is queued already.
        queue.push(at(99), 3, 7);
        queue.push(at(10), 9, 200);
        queue.push(at(11), 8, 200);
        assert_eq!((queue.len(), queue.next()), (6, Some((3, at(3)))));
        assert_eq!(queue.oldest_of_largest(), Some(3));
        let order: Vec<u32> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [3, 9, 1, 8, 4, 0]);
        assert!(queue.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_handshake_that_ends_leaves_the_queue() {
        let mut queue = AdmissionQueue::new(16);
        let now = Instant::ZERO;
        for (place, group) in [(0, 1), (1, 2), (2, 2), (3, 3)] {
            queue.push(now, place, group);
        }
        queue.remove(0);
        queue.remove(0);
        queue.remove(15);
        assert!(!queue.contains(0) && queue.contains(1));
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.pop(), Some(1));
        // The group is in turn once, though it was empty in between.
        queue.push(now, 0, 1);
        queue.remove(3);
        queue.push(now, 3, 3);
        assert_eq!(queue.turns.len(), 3);
        let order: Vec<u32> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [2, 0, 3]);
    }

    #[test]
    fn a_network_is_24_bits_or_56() {
        let network_of = |peer: &str| network(peer.parse().unwrap()).to_string();
        assert_eq!(network_of("198.51.100.77"), "198.51.100.0");
        assert_eq!(network_of("2001:db8:1:2ff::9"), "2001:db8:1:200::");
    }
}

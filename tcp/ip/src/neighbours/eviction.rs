//! Which entry of a full table makes room for a new one.
//!
//! The adversary is a station on the link, or a host that sends with sources on the link: it makes
//! entries as fast as it can send packets, of addresses that exist and that don't. It must not
//! displace neighbours that carry traffic, nor a neighbour between its first packet and the first
//! answer to us.
//!
//! | class | an entry is in it | share of the table |
//! |---|---|---|
//! | unused | that a solicitation made, and that no packet was sent to; that failed | a quarter |
//! | unconfirmed | that a packet was sent to | a quarter |
//! | confirmed | after an answer to our solicitation, or progress of a connection | a half |
//! | gateway | of a route | outside the limit: never evicted |
//!
//! The first class in this order that has more than its share loses its oldest entry, or, if it is
//! the confirmed class, the entry that wasn't used for longest. So each class keeps its share
//! whatever the others do.

use super::lists::EntryLists;

/// Why an entry is worth its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionClass {
    Unused,
    Unconfirmed,
    Confirmed,
    Gateway,
}

/// The entries of the table, by class.
#[derive(Debug)]
pub(super) struct EvictionOrder {
    classes: EntryLists<4>,
    entries_max: usize,
}

impl EvictionOrder {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            classes: EntryLists::new(entries_max),
            entries_max,
        }
    }

    /// Moves an entry to the end of a class. It is the last of this class to be evicted.
    pub(super) fn move_to(&mut self, class: EvictionClass, at: usize) {
        self.classes.push(class as usize, at);
    }

    /// Returns whether an entry is in a class.
    pub(super) fn is_in(&self, class: EvictionClass, at: usize) -> bool {
        self.classes.list_of(at) == Some(class as usize)
    }

    /// Returns whether the neighbour has answered, or is a gateway.
    pub(super) fn is_known(&self, at: usize) -> bool {
        self.is_in(EvictionClass::Confirmed, at) || self.is_in(EvictionClass::Gateway, at)
    }

    /// Returns the entry to evict, if the table is full.
    pub(super) fn candidate(&self) -> Option<usize> {
        let len = |class| self.classes.len(class as usize);
        if EVICTED.into_iter().map(len).sum::<usize>() < self.entries_max {
            return None;
        }
        let above_share = |class: &EvictionClass| len(*class) > self.share(*class);
        let class = EVICTED.into_iter().find(above_share);
        let class = class.or_else(|| EVICTED.into_iter().find(|class| len(*class) > 0))?;
        self.classes.first(class as usize)
    }

    fn share(&self, class: EvictionClass) -> usize {
        let quarter = self.entries_max / 4;
        match class {
            EvictionClass::Unused | EvictionClass::Unconfirmed => quarter,
            EvictionClass::Confirmed => self.entries_max - 2 * quarter,
            EvictionClass::Gateway => usize::MAX,
        }
    }
}

/// The classes that lose entries, in this order.
const EVICTED: [EvictionClass; 3] = [
    EvictionClass::Unused,
    EvictionClass::Unconfirmed,
    EvictionClass::Confirmed,
];

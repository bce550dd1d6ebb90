//! Half-open connections: those whose SYN was answered and whose handshake isn't complete.

use lockgate_tcp::HalfOpen;
use lockgate_wire::FourTuple;

use crate::arrival_order::{ArrivalLinks, ArrivalList};
use crate::slab::Slab;

/// The half-open connections of all listeners, each listener's in order of arrival.
///
/// A full table evicts the oldest entry of the listener that has the most, so a flood of one
/// listener costs the others nothing once it has more than their entries. Within a listener, a peer
/// loses its entry only if the flood fills the listener's share of the table within that peer's
/// round-trip time.
#[derive(Debug)]
pub(crate) struct HalfOpenTable {
    entries: Slab<HalfOpenEntry>,
    links: ArrivalLinks,
    /// The entries of each listener, by its number.
    lists: Vec<ArrivalList>,
}

/// A half-open connection.
#[derive(Debug)]
pub(crate) struct HalfOpenEntry {
    pub(crate) tuple: FourTuple,
    /// The flow table's hash.
    pub(crate) hash: u32,
    /// The listener's number.
    pub(crate) listener: u32,
    pub(crate) state: HalfOpen,
}

const _: () = assert!(size_of::<HalfOpenEntry>() <= 104);

impl HalfOpenTable {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            entries: Slab::new(capacity),
            links: ArrivalLinks::new(capacity),
            lists: Vec::new(),
        }
    }

    /// Adds an entry. Returns its index, or `None` if the table is full.
    pub(crate) fn insert(&mut self, entry: HalfOpenEntry) -> Option<u32> {
        let listener = entry.listener as usize;
        let index = self.entries.insert(entry).ok()?;
        if listener >= self.lists.len() {
            self.lists.resize(listener + 1, ArrivalList::new());
        }
        if let Some(list) = self.lists.get_mut(listener) {
            self.links.push(list, index);
        }
        Some(index)
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, index: u32) -> Option<HalfOpenEntry> {
        let entry = self.entries.remove(index)?;
        if let Some(list) = self.lists.get_mut(entry.listener as usize) {
            self.links.remove(list, index);
        }
        Some(entry)
    }

    /// Removes the oldest entry of a listener and returns it with its index.
    pub(crate) fn evict_oldest_of(&mut self, listener: u32) -> Option<(u32, HalfOpenEntry)> {
        let index = self.lists.get(listener as usize)?.oldest()?;
        Some((index, self.remove(index)?))
    }

    /// Returns the listener with the most entries. Takes a step for each listener.
    pub(crate) fn largest_listener(&self) -> Option<u32> {
        let sizes = (0..).zip(self.lists.iter().map(ArrivalList::len));
        sizes.max_by_key(|(_, len)| *len).map(|(number, _)| number)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&HalfOpenEntry> {
        self.entries.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut HalfOpenEntry> {
        self.entries.get_mut(index)
    }

    pub(crate) fn len(&self) -> u32 {
        self.entries.len()
    }

    /// The number of a listener's entries.
    pub(crate) fn len_of(&self, listener: u32) -> u32 {
        let list = self.lists.get(listener as usize);
        list.map_or(0, ArrivalList::len)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.is_full()
    }
}

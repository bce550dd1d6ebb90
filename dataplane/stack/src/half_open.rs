//! Half-open connections: those whose SYN was answered and whose handshake isn't complete.

use lockgate_tcp::HalfOpen;
use lockgate_wire::FourTuple;

use crate::arrival_order::ArrivalOrder;
use crate::slab::Slab;

/// The half-open connections of all listeners, in order of arrival.
///
/// Invariant: every live entry is in `order` once. Only [`HalfOpenTable::evict_oldest`] takes an
/// entry out of `order`; other removals leave a tombstone.
#[derive(Debug)]
pub(crate) struct HalfOpenTable {
    entries: Slab<HalfOpenEntry>,
    order: ArrivalOrder,
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
            order: ArrivalOrder::default(),
        }
    }

    /// Adds an entry. Returns its index, or `None` if the table is full.
    pub(crate) fn insert(&mut self, entry: HalfOpenEntry) -> Option<u32> {
        let index = self.entries.insert(entry).ok()?;
        self.order.push(self.entries.key(index));
        Some(index)
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, index: u32) -> Option<HalfOpenEntry> {
        let entry = self.entries.remove(index)?;
        let entries = &self.entries;
        self.order.on_removed(|key| entries.contains(key));
        Some(entry)
    }

    /// Removes the oldest entry and returns it with its index.
    pub(crate) fn evict_oldest(&mut self) -> Option<(u32, HalfOpenEntry)> {
        while let Some(oldest) = self.order.pop() {
            if self.entries.contains(oldest) {
                let entry = self.entries.remove(oldest.index)?;
                return Some((oldest.index, entry));
            }
            self.order.discard_tombstone();
        }
        None
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

    pub(crate) fn is_full(&self) -> bool {
        self.entries.is_full()
    }
}

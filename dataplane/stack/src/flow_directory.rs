//! Which workers of a host may have a connection.

use core::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

use crate::config::Limits;

/// Connections of all workers of a host, by their hashes: a counting Bloom filter with one hash
/// function for each worker.
///
/// A worker that receives a segment of a connection that it doesn't know finds the worker that has
/// it, without asking any. An answer may be wrong in one direction: a worker that is named may not
/// have the connection. With `SLOTS_PER_ENTRY` that is rarer than one in four for each worker.
/// The hash is keyed, so that peers can't choose such segments.
///
/// A filter is written by its own worker only.
pub struct FlowDirectory {
    filters: Box<[Box<[AtomicU8]>]>,
    /// Keys the hash.
    secret: u64,
}

/// A worker's place among the workers of a host.
#[derive(Debug, Clone)]
pub struct SiblingPlace {
    /// The directory that all workers of the host share.
    pub directory: Arc<FlowDirectory>,
    /// The worker's number, from 0.
    pub number: u16,
}

impl FlowDirectory {
    /// A directory of `workers` workers with these limits. It takes between four and eight bytes
    /// for each connection, half-open connection and connection in TIME-WAIT that they may have.
    /// `secret` keys the hash.
    pub fn new(workers: u16, limits: &Limits, secret: u64) -> Arc<Self> {
        let tables = [
            limits.connections_max,
            limits.half_open_max,
            limits.time_wait_max,
        ];
        let entries: usize = tables.iter().map(|entries| *entries as usize).sum();
        let slots = (entries * SLOTS_PER_ENTRY).next_power_of_two();
        let filter = |_| (0..slots).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Self {
            filters: (0..workers).map(filter).collect(),
            secret,
        })
    }

    /// The key of the hash of all workers' flow tables.
    pub(crate) fn secret(&self) -> u64 {
        self.secret
    }

    fn slot(&self, worker: u16, hash: u32) -> Option<&AtomicU8> {
        let filter = self.filters.get(usize::from(worker))?;
        filter.get(hash as usize & (filter.len() - 1))
    }
}

impl SiblingPlace {
    /// Adds a connection of this worker.
    pub(crate) fn insert(&self, hash: u32) {
        if let Some(slot) = self.directory.slot(self.number, hash) {
            let count = slot.load(Ordering::Relaxed);
            slot.store(count.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Removes a connection of this worker.
    pub(crate) fn remove(&self, hash: u32) {
        if let Some(slot) = self.directory.slot(self.number, hash) {
            // A counter that was full no longer knows how many there are.
            let count = slot.load(Ordering::Relaxed);
            if (1..u8::MAX).contains(&count) {
                slot.store(count - 1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the next worker that may have a connection: of those after this one, in a ring that
    /// ends before worker `origin`. Also returns the number of filters examined.
    pub(crate) fn next_owner(&self, hash: u32, origin: u16) -> (Option<u16>, u32) {
        let workers = u16::try_from(self.directory.filters.len()).unwrap_or(u16::MAX);
        let mut steps = 0;
        let mut worker = self.number;
        loop {
            worker = if worker + 1 < workers { worker + 1 } else { 0 };
            if worker == origin || steps >= u32::from(workers) {
                return (None, steps);
            }
            steps += 1;
            let slot = self.directory.slot(worker, hash);
            if slot.is_some_and(|slot| slot.load(Ordering::Relaxed) > 0) {
                return (Some(worker), steps);
            }
        }
    }
}

impl core::fmt::Debug for FlowDirectory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FlowDirectory")
            .field("workers", &self.filters.len())
            .finish_non_exhaustive()
    }
}

/// Slots of a filter for each connection that a worker may have.
const SLOTS_PER_ENTRY: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two entries: a filter has eight slots.
    fn limits() -> Limits {
        Limits {
            connections_max: 1,
            half_open_max: 1,
            time_wait_max: 0,
            ..Limits::default()
        }
    }

    #[test]
    fn the_workers_that_may_have_a_connection_are_found_in_a_ring() {
        let directory = FlowDirectory::new(4, &limits(), 7);
        let workers: Vec<SiblingPlace> = (0..4)
            .map(|number| SiblingPlace {
                directory: Arc::clone(&directory),
                number,
            })
            .collect();
        assert_eq!(workers[2].next_owner(5, 2), (None, 3));
        workers[0].insert(5);
        workers[3].insert(5 + 8);
        assert_eq!(workers[2].next_owner(5, 2), (Some(3), 1));
        assert_eq!(workers[3].next_owner(5, 2), (Some(0), 1));
        assert_eq!(workers[0].next_owner(5, 2), (None, 1));
        assert_eq!(workers[2].next_owner(6, 2), (None, 3));
        workers[3].remove(5 + 8);
        assert_eq!(workers[2].next_owner(5, 2), (Some(0), 2));
        workers[0].remove(5);
        assert_eq!(workers[2].next_owner(5, 2), (None, 3));
    }

    /// A connection in a directory is always found.
    #[test]
    fn a_full_counter_stays() {
        let directory = FlowDirectory::new(2, &limits(), 7);
        let [own, other] = [0, 1].map(|number| SiblingPlace {
            directory: Arc::clone(&directory),
            number,
        });
        for _ in 0..300 {
            other.insert(1);
        }
        for _ in 0..299 {
            other.remove(1);
        }
        assert_eq!(own.next_owner(1, 0), (Some(1), 1));
    }
}

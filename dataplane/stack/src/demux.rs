//! The flow table: from a four-tuple to the connection.

use hashbrown::HashTable;
use lockgate_wire::FourTuple;

use crate::flow_directory::SiblingPlace;

/// Where a connection is kept: the index of a socket, a half-open entry or a TIME-WAIT entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowTarget {
    Socket(u32),
    HalfOpen(u32),
    TimeWait(u32),
}

/// The flow table. An entry has eight bytes; the four-tuple itself is in the slab.
///
/// The hash is keyed with a secret, so that peers can't choose four-tuples that collide. The hash
/// of a NIC isn't used, because its key is known.
#[derive(Debug)]
pub(crate) struct FlowTable {
    table: HashTable<FlowEntry>,
    secret: u64,
    /// Where sibling workers find what is in the table.
    siblings: Option<SiblingPlace>,
}

#[derive(Debug, Clone, Copy)]
struct FlowEntry {
    hash: u32,
    /// The kind in the two highest bits, the index in the others.
    target: u32,
}

const _: () = assert!(size_of::<FlowEntry>() == 8);

impl FlowTable {
    /// Allocates the table. With siblings their directory's secret keys the hash, else `secret`.
    pub(crate) fn new(capacity: usize, secret: u64, siblings: Option<SiblingPlace>) -> Self {
        Self {
            table: HashTable::with_capacity(capacity),
            secret: siblings.as_ref().map_or(secret, |s| s.directory.secret()),
            siblings,
        }
    }

    pub(crate) fn hash(&self, tuple: &FourTuple) -> u32 {
        tuple.hash(self.secret)
    }

    /// Finds a connection. `is_match` compares a target's four-tuple.
    pub(crate) fn find(
        &self,
        hash: u32,
        is_match: impl Fn(FlowTarget) -> bool,
    ) -> Option<FlowTarget> {
        self.table
            .find(u64::from(hash).wrapping_mul(SPREAD), |e| {
                e.hash == hash && is_match(e.unpack())
            })
            .map(|e| e.unpack())
    }

    /// Adds a connection. It must not be in the table.
    pub(crate) fn insert(&mut self, hash: u32, target: FlowTarget) {
        if let Some(siblings) = &self.siblings {
            siblings.insert(hash);
        }
        let spread = |e: &FlowEntry| u64::from(e.hash).wrapping_mul(SPREAD);
        self.table.insert_unique(
            u64::from(hash).wrapping_mul(SPREAD),
            FlowEntry {
                hash,
                target: target.pack(),
            },
            spread,
        );
    }

    /// Removes a connection.
    pub(crate) fn remove(&mut self, hash: u32, target: FlowTarget) {
        let packed = target.pack();
        let found = self
            .table
            .find_entry(u64::from(hash).wrapping_mul(SPREAD), |e| e.target == packed);
        debug_assert!(
            found.is_ok(),
            "a target is removed once, after it was inserted"
        );
        if let Ok(entry) = found {
            entry.remove();
            if let Some(siblings) = &self.siblings {
                siblings.remove(hash);
            }
        }
    }
}

impl FlowEntry {
    fn unpack(self) -> FlowTarget {
        let index = self.target & TARGET_INDEX_MAX;
        match self.target >> INDEX_BITS {
            0 => FlowTarget::Socket(index),
            1 => FlowTarget::HalfOpen(index),
            _ => FlowTarget::TimeWait(index),
        }
    }
}

impl FlowTarget {
    fn pack(self) -> u32 {
        let (kind, index) = match self {
            Self::Socket(index) => (0, index),
            Self::HalfOpen(index) => (1, index),
            Self::TimeWait(index) => (2, index),
        };
        debug_assert!(index <= TARGET_INDEX_MAX, "bounded when the stack was made");
        kind << INDEX_BITS | index
    }
}

const INDEX_BITS: u32 = 30;
/// The greatest index of an entry.
pub(crate) const TARGET_INDEX_MAX: u32 = (1 << INDEX_BITS) - 1;
/// The table takes control bits from the top of 64: an odd factor (the golden ratio) puts the
/// hash's own there.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use lockgate_wire::Endpoint;

    use super::*;

    fn tuple(n: u32) -> FourTuple {
        let end = |a: u32, port| Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(a)), port);
        FourTuple::new(end(1, 443), end(n, 7))
    }

    #[test]
    fn entries_are_found_by_tuple_and_kept_apart_by_kind() {
        let tuples: Vec<FourTuple> = (0..3000).map(tuple).collect();
        let mut flows = FlowTable::new(3000, 99, None);
        let target = |n: u32| match n % 3 {
            0 => FlowTarget::Socket(n),
            1 => FlowTarget::HalfOpen(n),
            _ => FlowTarget::TimeWait(n),
        };
        let index = |target| match target {
            FlowTarget::Socket(n) | FlowTarget::HalfOpen(n) | FlowTarget::TimeWait(n) => n as usize,
        };
        for n in 0..3000 {
            flows.insert(flows.hash(&tuples[n as usize]), target(n));
        }
        for n in (0..3000).step_by(2) {
            flows.remove(flows.hash(&tuples[n as usize]), target(n));
        }
        for n in 0..3000 {
            let wanted = &tuples[n as usize];
            let found = flows.find(flows.hash(wanted), |p| tuples[index(p)] == *wanted);
            assert_eq!(found, (n % 2 == 1).then_some(target(n)));
        }
        assert_eq!(flows.table.len(), 1500);
    }
}

//! The order in which entries came into a slab.

use std::collections::VecDeque;

use crate::slab::SlabKey;

/// Arrival order of slab entries. Removed entries stay as tombstones; the generation distinguishes
/// a reused slot.
///
/// When more than half of the keys are tombstones, all tombstones are discarded. So the list is at
/// most twice as long as the largest number of live entries, and an operation costs a few steps on
/// average.
#[derive(Debug, Default)]
pub(crate) struct ArrivalOrder {
    list: VecDeque<SlabKey>,
    tombstones: usize,
}

impl ArrivalOrder {
    /// Whether there is no live entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.len() == self.tombstones
    }

    /// Adds a new entry. It must not be in the list.
    pub(crate) fn push(&mut self, key: SlabKey) {
        self.list.push_back(key);
    }

    /// Takes the oldest key, which may be a tombstone: then the caller reports it by
    /// [`ArrivalOrder::discard_tombstone`].
    pub(crate) fn pop(&mut self) -> Option<SlabKey> {
        self.list.pop_front()
    }

    /// The key popped last was a tombstone.
    pub(crate) fn discard_tombstone(&mut self) {
        self.tombstones = self.tombstones.saturating_sub(1);
    }

    /// An entry in the list was removed from its slab. `is_live` tells whether an entry is still in
    /// the slab.
    pub(crate) fn on_removed(&mut self, is_live: impl Fn(SlabKey) -> bool) {
        self.tombstones += 1;
        if self.tombstones > self.list.len() / 2 {
            self.list.retain(|key| is_live(*key));
            self.tombstones = 0;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> SlabKey {
        // Slots are reused.
        SlabKey {
            index: n % 3,
            generation: n,
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        /// Behaves as a list from which removed entries are taken at once, and isn't much longer.
        #[test]
        fn order_is_kept_and_length_is_bounded(
            steps in proptest::collection::vec(0_u8..4, 0..300),
        ) {
            let mut queue = ArrivalOrder::default();
            let mut model: VecDeque<SlabKey> = VecDeque::new();
            let mut most = 0;
            for (n, step) in (0_u32..).zip(steps) {
                match step {
                    0 | 1 => {
                        queue.push(key(n));
                        model.push_back(key(n));
                    }
                    2 => {
                        let at = n as usize % model.len().max(1);
                        if model.remove(at).is_some() {
                            queue.on_removed(|key| model.contains(&key));
                        }
                    }
                    _ => {
                        let popped = loop {
                            match queue.pop() {
                                Some(key) if !model.contains(&key) => queue.discard_tombstone(),
                                other => break other,
                            }
                        };
                        prop_assert_eq!(popped, model.pop_front());
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                most = most.max(model.len());
                prop_assert!(queue.len() <= 2 * most);
            }
        }
    }
}

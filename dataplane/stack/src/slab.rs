//! A table with stable indices and generations.

/// A bounded table whose entries keep their index. Its memory is allocated at once and touched as
/// slots are used; no entry ever moves.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    capacity: u32,
    free: u32,
    len: u32,
}

/// Names one entry for good: a slot, and which of the slot's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    /// The number of entries removed from this slot.
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// What an entry takes of memory.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Slot<T>>();

    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            slots: Vec::with_capacity(capacity as usize),
            capacity,
            free: NONE,
            len: 0,
        }
    }

    /// Inserts a value. Returns its index, or the value if the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, T> {
        let index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            self.free = slot.next_free;
            slot.value = Some(value);
        } else {
            let next = u32::try_from(self.slots.len()).unwrap_or(NONE);
            if next >= self.capacity {
                return Err(value);
            }
            self.slots.push(Slot {
                generation: 0,
                next_free: NONE,
                value: Some(value),
            });
            self.len += 1;
            return Ok(next);
        }
        self.len += 1;
        Ok(index)
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The number of slots that were ever used: all indices are below.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(self.capacity)
    }

    /// The generation of a slot: how many entries it had before.
    pub(crate) fn generation(&self, index: u32) -> u32 {
        self.slots
            .get(index as usize)
            .map_or(0, |slot| slot.generation)
    }

    /// The key of a slot's present entry.
    pub(crate) fn key(&self, index: u32) -> SlabKey {
        SlabKey {
            index,
            generation: self.generation(index),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// Every index that may be in use.
    pub(crate) fn indices(&self) -> core::ops::Range<u32> {
        0..u32::try_from(self.slots.len()).unwrap_or(NONE)
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn indices_are_stable_and_generations_differ(
            steps in proptest::collection::vec(0_u32..8, 1..200),
        ) {
            let mut slab = Slab::new(5);
            let mut model: Vec<(u32, u32, u32)> = Vec::new();
            for (n, step) in (0_u32..).zip(steps) {
                if step < 5 && let Some(at) = model.iter().position(|m| m.0 == step) {
                    let (index, generation, value) = model.swap_remove(at);
                    prop_assert_eq!(slab.generation(index), generation);
                    prop_assert_eq!(slab.remove(index), Some(value));
                    prop_assert_eq!(slab.get(index), None);
                    prop_assert_ne!(slab.generation(index), generation);
                } else if model.len() < 5 {
                    let index = slab.insert(n).unwrap();
                    prop_assert!(model.iter().all(|m| m.0 != index));
                    model.push((index, slab.generation(index), n));
                } else {
                    prop_assert_eq!(slab.insert(n), Err(n));
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                prop_assert_eq!(slab.is_full(), model.len() == 5);
                for (index, _, value) in &model {
                    prop_assert_eq!(slab.get(*index), Some(value));
                }
            }
        }
    }
}

//! A table with stable indices.

/// A bounded table whose entries keep their index. Its memory is allocated at once and touched as
/// slots are used; no entry ever moves.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    capacity: u32,
    free: u32,
    len: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    Free { next: u32 },
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
        let index = if let Some(slot) = self.slots.get_mut(self.free as usize)
            && let Slot::Free { next } = *slot
        {
            *slot = Slot::Used(value);
            core::mem::replace(&mut self.free, next)
        } else {
            let index = u32::try_from(self.slots.len()).unwrap_or(NONE);
            if index >= self.capacity {
                return Err(value);
            }
            self.slots.push(Slot::Used(value));
            index
        };
        self.len += 1;
        Ok(index)
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if let Slot::Free { .. } = slot {
            return None;
        }
        match core::mem::replace(slot, Slot::Free { next: self.free }) {
            Slot::Used(value) => {
                self.free = index;
                self.len -= 1;
                Some(value)
            }
            Slot::Free { .. } => None,
        }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The number of slots that were ever used: all indices are below.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(self.capacity)
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
        fn indices_are_stable(
            steps in proptest::collection::vec(0_u32..8, 1..200),
        ) {
            let mut slab = Slab::new(5);
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (n, step) in (0_u32..).zip(steps) {
                if step < 5 && let Some(at) = model.iter().position(|m| m.0 == step) {
                    let (index, value) = model.swap_remove(at);
                    prop_assert_eq!(slab.remove(index), Some(value));
                    prop_assert_eq!(slab.get(index), None);
                    prop_assert_eq!(slab.remove(index), None);
                } else if model.len() < 5 {
                    let index = slab.insert(n).unwrap();
                    prop_assert!(model.iter().all(|m| m.0 != index));
                    model.push((index, n));
                } else {
                    prop_assert_eq!(slab.insert(n), Err(n));
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                prop_assert_eq!(slab.is_full(), model.len() == 5);
                for (index, value) in &model {
                    prop_assert_eq!(slab.get(*index), Some(value));
                }
            }
        }
    }
}

//! The order in which entries of a table came into a list.

/// Entries of a table in order of arrival, by their indices. Every operation takes constant time.
///
/// Lists that have no entry in common can share their links ([`ArrivalLinks`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalList {
    oldest: u32,
    newest: u32,
    len: u32,
}

/// The links of all entries of a table.
///
/// Invariant: an entry is in one [`ArrivalList`] at most, which the caller knows.
#[derive(Debug)]
pub(crate) struct ArrivalLinks {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    /// The entry that came before; [`UNLISTED`] if this entry is in no list.
    older: u32,
    newer: u32,
}

impl ArrivalLinks {
    /// What an entry takes of memory.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Link>();

    /// Links for a table of `capacity` entries. Their memory is touched as entries are used.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            links: Vec::with_capacity(capacity as usize),
        }
    }

    /// Appends an entry as the newest. It must be in no list.
    pub(crate) fn push(&mut self, list: &mut ArrivalList, index: u32) {
        debug_assert!(!self.is_listed(index), "an entry is in one list at most");
        let at = index as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link::UNLISTED);
        }
        let older = list.newest;
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = index,
            None => list.oldest = index,
        }
        list.newest = index;
        list.len += 1;
        if let Some(link) = self.links.get_mut(at) {
            *link = Link { older, newer: NONE };
        }
    }

    /// Removes an entry from the list that it is in, if it is in any.
    pub(crate) fn remove(&mut self, list: &mut ArrivalList, index: u32) {
        if !self.is_listed(index) {
            return;
        }
        let Some(slot) = self.links.get_mut(index as usize) else {
            return;
        };
        let Link { older, newer } = core::mem::replace(slot, Link::UNLISTED);
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = newer,
            None => list.oldest = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(link) => link.older = older,
            None => list.newest = older,
        }
        list.len -= 1;
    }

    /// Whether an entry is in a list.
    pub(crate) fn is_listed(&self, index: u32) -> bool {
        self.links
            .get(index as usize)
            .is_some_and(|link| link.older != UNLISTED)
    }

    /// Iterates over a list, the oldest entry first.
    pub(crate) fn iter(&self, list: &ArrivalList) -> impl Iterator<Item = u32> {
        let mut next = list.oldest();
        core::iter::from_fn(move || {
            let index = next?;
            let link = self.links.get(index as usize);
            next = link.map(|link| link.newer).filter(|index| *index != NONE);
            Some(index)
        })
    }
}

impl ArrivalList {
    pub(crate) const fn new() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }

    /// The entry that came first.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Link {
    const UNLISTED: Self = Self {
        older: UNLISTED,
        newer: UNLISTED,
    };
}

/// No entry.
const NONE: u32 = u32::MAX;
/// The mark of an entry that is in no list. Tables have fewer entries.
const UNLISTED: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        /// Two lists that share their links behave as two vectors.
        #[test]
        fn entries_leave_in_order_of_arrival_from_any_place(
            steps in proptest::collection::vec((0_u32..12, any::<bool>()), 0..200),
        ) {
            let mut links = ArrivalLinks::new(4);
            let mut lists = [ArrivalList::new(), ArrivalList::new()];
            let mut models: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
            for (index, second) in steps {
                let list = models.iter().position(|model| model.contains(&index));
                match list {
                    Some(list) => {
                        links.remove(&mut lists[list], index);
                        models[list].retain(|listed| *listed != index);
                    }
                    None => {
                        links.push(&mut lists[usize::from(second)], index);
                        models[usize::from(second)].push(index);
                    }
                }
                // An entry that isn't listed can be removed.
                links.remove(&mut lists[0], 12);
                prop_assert_eq!(links.is_listed(index), list.is_none());
                for (list, model) in lists.iter().zip(&models) {
                    prop_assert_eq!(list.oldest(), model.first().copied());
                    prop_assert_eq!(list.len() as usize, model.len());
                    prop_assert_eq!(&links.iter(list).collect::<Vec<_>>(), model);
                }
            }
        }
    }
}

//! Lists of the table's entries, each in the order in which entries came into it.

/// `N` lists of entries, which are named by their index in the table. An entry is in one of them at
/// most. Every operation takes constant time.
#[derive(Debug)]
pub(super) struct EntryLists<const N: usize> {
    lists: [List; N],
    /// The links of each entry; `None` for an entry that is in no list.
    links: Vec<Option<Link>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<u32>,
    last: Option<u32>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    list: usize,
    before: Option<u32>,
    after: Option<u32>,
}

impl<const N: usize> EntryLists<N> {
    /// Makes empty lists, with memory for the links of `entries` entries.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            lists: [List::default(); N],
            links: Vec::with_capacity(entries),
        }
    }

    /// Moves an entry to the end of a list.
    pub(super) fn push(&mut self, list: usize, at: usize) {
        self.remove(at);
        if at >= self.links.len() {
            self.links.resize(at + 1, None);
        }
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        let List { first, last, len } = &mut self.lists[list];
        let before = last.replace(index);
        first.get_or_insert(index);
        *len += 1;
        self.links[at] = Some(Link {
            list,
            before,
            after: None,
        });
        if let Some(link) = self.link_mut(before) {
            link.after = Some(index);
        }
    }

    /// Removes an entry from its list, if it is in one.
    pub(super) fn remove(&mut self, at: usize) {
        let Some(link) = self.links.get_mut(at).and_then(Option::take) else {
            return;
        };
        match self.link_mut(link.before) {
            Some(before) => before.after = link.after,
            None => self.lists[link.list].first = link.after,
        }
        match self.link_mut(link.after) {
            Some(after) => after.before = link.before,
            None => self.lists[link.list].last = link.before,
        }
        self.lists[link.list].len -= 1;
    }

    /// Returns the entry that came into a list first.
    pub(super) fn first(&self, list: usize) -> Option<usize> {
        self.lists[list].first.map(|index| index as usize)
    }

    /// Returns the number of a list's entries.
    pub(super) fn len(&self, list: usize) -> usize {
        self.lists[list].len
    }

    /// Returns the list that an entry is in.
    pub(super) fn list_of(&self, at: usize) -> Option<usize> {
        self.links.get(at).copied().flatten().map(|link| link.list)
    }

    fn link_mut(&mut self, index: Option<u32>) -> Option<&mut Link> {
        self.links.get_mut(index? as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn lists_are_queues(
            steps in prop::collection::vec((0usize..8, prop::option::of(0usize..3)), 0..100),
        ) {
            let mut lists = EntryLists::<3>::new(4);
            let mut model = [const { VecDeque::new() }; 3];
            for (at, list) in steps {
                for queue in &mut model {
                    queue.retain(|other| *other != at);
                }
                match list {
                    Some(list) => {
                        lists.push(list, at);
                        model[list].push_back(at);
                    }
                    None => lists.remove(at),
                }
                prop_assert_eq!(lists.list_of(at), list);
                for (list, queue) in model.iter().enumerate() {
                    prop_assert_eq!(lists.first(list), queue.front().copied());
                    prop_assert_eq!(lists.len(list), queue.len());
                }
            }
            for (list, queue) in model.into_iter().enumerate() {
                for at in queue {
                    prop_assert_eq!(lists.first(list), Some(at));
                    lists.remove(at);
                }
                prop_assert_eq!(lists.first(list), None);
            }
        }
    }
}

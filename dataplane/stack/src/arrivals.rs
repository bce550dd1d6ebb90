//! Entries of a table in the order in which they came.

use std::collections::VecDeque;

use crate::slab::Entry;

/// Who came first? One that leaves its table leaves an entry behind here, which no later one in the
/// same place can be taken for. When more than half of the entries are such, all of them are thrown
/// out: the list is never longer than twice as many as were in it at the same time, and each of
/// them costs a few steps only.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    list: VecDeque<Entry>,
    /// Entries of those that left.
    gone: usize,
}

impl Arrivals {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.len() == self.gone
    }

    /// One comes. It must not be in the list.
    pub(crate) fn push(&mut self, id: Entry) {
        self.list.push_back(id);
    }

    /// Takes the first entry out; if it's of one that left, say so by [`Arrivals::was_gone`].
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.list.pop_front()
    }

    /// An entry that was popped was of one that left.
    pub(crate) fn was_gone(&mut self) {
        self.gone = self.gone.saturating_sub(1);
    }

    /// One in the list left its table.
    pub(crate) fn left(&mut self, is_there: impl Fn(Entry) -> bool) {
        self.gone += 1;
        if self.gone > self.list.len() / 2 {
            self.list.retain(|id| is_there(*id));
            self.gone = 0;
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

    fn id(n: u32) -> Entry {
        // Places are used again and again.
        Entry {
            index: n % 3,
            generation: n,
        }
    }

    proptest! {
        /// As a list from which those that leave are taken out at once, and not much longer.
        #[test]
        fn order_is_kept_and_length_is_bounded(
            steps in proptest::collection::vec(0_u8..4, 0..300),
        ) {
            let mut queue = Arrivals::default();
            let mut model: VecDeque<Entry> = VecDeque::new();
            let mut most = 0;
            for (n, step) in (0_u32..).zip(steps) {
                match step {
                    0 | 1 => {
                        queue.push(id(n));
                        model.push_back(id(n));
                    }
                    2 => {
                        let at = n as usize % model.len().max(1);
                        if model.remove(at).is_some() {
                            queue.left(|id| model.contains(&id));
                        }
                    }
                    _ => {
                        let popped = loop {
                            match queue.pop() {
                                Some(id) if !model.contains(&id) => queue.was_gone(),
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

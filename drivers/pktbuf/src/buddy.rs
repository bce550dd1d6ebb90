//! Buddy allocator of an arena's pages, with runs of exact lengths.

/// Free pages, in aligned blocks of 2^order pages that merge with their buddies. A run of any
/// length is cut from a block, and the remainder is freed at once.
pub(crate) struct Buddy {
    /// For each page: the order of the free block that begins there, or none.
    order: Vec<u8>,
    /// Links of the free blocks, by first page.
    next: Vec<u32>,
    prev: Vec<u32>,
    heads: [u32; ORDERS],
}

impl Buddy {
    /// Makes an allocator of which no page is free yet: [`Buddy::free`] adds those that there are.
    pub(crate) fn new(pages: u32) -> Self {
        let n = pages as usize;
        Self {
            order: vec![NOT_FREE; n],
            next: vec![NIL; n],
            prev: vec![NIL; n],
            heads: [NIL; ORDERS],
        }
    }

    /// Allocates a run of `pages`. Returns its first page, or `None` if no block is long enough.
    pub(crate) fn alloc(&mut self, pages: u32) -> Option<u32> {
        let wanted = order_for(pages)?;
        let found = (wanted..ORDERS).find(|order| self.heads[*order] != NIL)?;
        let first = self.heads[found];
        self.unlink(first);
        self.free(first + pages, (1 << found) - pages);
        Some(first)
    }

    /// Frees a run.
    pub(crate) fn free(&mut self, mut first: u32, mut pages: u32) {
        while pages > 0 {
            let aligned = first.trailing_zeros().min(MAX_ORDER);
            let order = aligned.min(pages.ilog2());
            self.free_block(first, order as usize);
            first += 1 << order;
            pages -= 1 << order;
        }
    }

    fn free_block(&mut self, mut first: u32, mut order: usize) {
        debug_assert_eq!(self.order[first as usize], NOT_FREE, "pages freed twice");
        while order + 1 < ORDERS {
            let buddy = first ^ 1 << order;
            if self
                .order
                .get(buddy as usize)
                .is_none_or(|o| usize::from(*o) != order)
            {
                break;
            }
            self.unlink(buddy);
            first = first.min(buddy);
            order += 1;
        }
        self.link(first, order);
    }

    fn link(&mut self, first: u32, order: usize) {
        let head = self.heads[order];
        #[expect(clippy::cast_possible_truncation, reason = "less than ORDERS")]
        let mark = order as u8;
        self.order[first as usize] = mark;
        self.next[first as usize] = head;
        self.prev[first as usize] = NIL;
        if head != NIL {
            self.prev[head as usize] = first;
        }
        self.heads[order] = first;
    }

    fn unlink(&mut self, first: u32) {
        let i = first as usize;
        let order = usize::from(self.order[i]);
        let (next, prev) = (self.next[i], self.prev[i]);
        match prev {
            NIL => self.heads[order] = next,
            _ => self.next[prev as usize] = next,
        }
        if next != NIL {
            self.prev[next as usize] = prev;
        }
        self.order[i] = NOT_FREE;
    }

    /// The longest run that [`Buddy::alloc`] would find.
    #[cfg(test)]
    fn longest(&self) -> u32 {
        (0..ORDERS)
            .rev()
            .find(|o| self.heads[*o] != NIL)
            .map_or(0, |o| 1 << o)
    }
}

/// The order of the smallest block with that many pages.
fn order_for(pages: u32) -> Option<usize> {
    (1..=RUN_MAX)
        .contains(&pages)
        .then(|| pages.next_power_of_two().ilog2() as usize)
}

/// Pages of the longest run.
pub(crate) const RUN_MAX: u32 = 1 << MAX_ORDER;
const MAX_ORDER: u32 = 6;
const ORDERS: usize = MAX_ORDER as usize + 1;
const NOT_FREE: u8 = u8::MAX;
const NIL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use lockgate_testing::proptest_config;
    use proptest::prelude::*;

    use super::*;

    impl Buddy {
        fn full(pages: u32) -> Self {
            let mut buddy = Self::new(pages);
            buddy.free(0, pages);
            buddy
        }

        fn free_pages(&self) -> Vec<bool> {
            let mut free = vec![false; self.order.len()];
            for (first, order) in self.order.iter().enumerate() {
                if *order != NOT_FREE {
                    assert_eq!(first % (1 << order), 0, "aligned");
                    for page in &mut free[first..first + (1 << order)] {
                        assert!(!*page, "blocks are disjoint");
                        *page = true;
                    }
                }
            }
            free
        }
    }

    #[test]
    fn all_of_it_can_be_had_and_merges_again() {
        let mut b = Buddy::full(200);
        let mut runs: Vec<u32> = (0..200).map(|_| b.alloc(1).unwrap()).collect();
        assert_eq!(b.alloc(1), None);
        runs.sort_unstable();
        assert_eq!(runs, (0..200).collect::<Vec<_>>());
        for run in runs {
            b.free(run, 1);
        }
        assert_eq!(b.longest(), RUN_MAX);
        assert_eq!((0..3).map(|_| b.alloc(RUN_MAX).unwrap()).max(), Some(128));
    }

    #[test]
    fn lengths() {
        let mut b = Buddy::full(64);
        assert_eq!(b.alloc(0), None);
        assert_eq!(b.alloc(65), None);
        assert_eq!(b.alloc(33), Some(0));
        assert_eq!(b.alloc(31), None, "33..64 is no aligned block");
        assert_eq!(b.alloc(16), Some(48));
        assert_eq!(Buddy::full(0).alloc(1), None);
        assert_eq!(Buddy::new(64).alloc(1), None);
    }

    proptest! {
        #![proptest_config(proptest_config(256))]

        #[test]
        fn runs_are_disjoint_and_come_back(
            pages in 1u32..300,
            steps in prop::collection::vec(
                (any::<bool>(), 1u32..80, any::<prop::sample::Index>()),
                1..300,
            ),
        ) {
            let mut b = Buddy::full(pages);
            let mut out: Vec<(u32, u32)> = Vec::new();
            for (alloc, n, pick) in steps {
                if alloc {
                    let longest = b.longest();
                    if let Some(first) = b.alloc(n) {
                        out.push((first, n));
                    } else {
                        prop_assert!(n > RUN_MAX || n.next_power_of_two() > longest);
                    }
                } else if !out.is_empty() {
                    let (first, n) = out.swap_remove(pick.index(out.len()));
                    b.free(first, n);
                }
                let mut used = vec![false; pages as usize];
                for (first, n) in &out {
                    for page in &mut used[*first as usize..(*first + *n) as usize] {
                        prop_assert!(!*page);
                        *page = true;
                    }
                }
                let free = b.free_pages();
                prop_assert!(used.iter().zip(&free).all(|(used, free)| used != free));
            }
            for (first, n) in out {
                b.free(first, n);
            }
            let fresh = Buddy::full(pages);
            prop_assert_eq!(b.order, fresh.order, "everything merged");
        }
    }
}

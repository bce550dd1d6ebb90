//! The worker's slab of ranges: sent ranges and out-of-order received pieces of all connections.
//! Its size is fixed at start-up; a free list links unused entries.

use core::ops::{Index, IndexMut};

use lockgate_wire::Instant;

/// One range of a stream.
///
/// For a sent range it also keeps what RACK (RFC 8985) and delivery rate samples need. Out-of-order
/// received pieces use the offsets only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRange {
    /// First offset.
    pub(crate) start: u64,
    /// Time of the last transmission.
    pub(crate) last_sent: Instant,
    /// The connection's `delivered` counter at that time.
    pub(crate) delivered: u64,
    /// Length in bytes; a FIN counts as one.
    pub(crate) len: u32,
    pub(crate) next: Link,
    pub(crate) prev: Link,
    /// Number of transmissions, saturating.
    pub(crate) times_sent: u8,
    /// Reported by SACK.
    pub(crate) sacked: bool,
    /// Marked lost.
    pub(crate) lost: bool,
    /// Retransmitted since it was last marked lost.
    pub(crate) resent: bool,
}

const _: () = assert!(size_of::<SentRange>() <= 48);

impl SentRange {
    pub(crate) const UNUSED: Self = Self {
        start: 0,
        last_sent: Instant::ZERO,
        delivered: 0,
        len: 0,
        next: Link::NONE,
        prev: Link::NONE,
        times_sent: 0,
        sacked: false,
        lost: false,
        resent: false,
    };

    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// Index of a range in the slab, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn get(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A doubly linked list of ranges in the slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub(crate) head: Link,
    pub(crate) tail: Link,
    pub(crate) count: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        head: Link::NONE,
        tail: Link::NONE,
        count: 0,
    };
}

/// The slab.
#[derive(Debug)]
pub(crate) struct Ranges {
    nodes: Box<[SentRange]>,
    free: Link,
    used: u32,
    /// Entries used by received pieces. Limited to half of the slab, so that peers that send out of
    /// order can't stop transmission.
    pieces: u32,
}

impl Ranges {
    pub(crate) fn new(total: u32) -> Self {
        let nodes: Box<[SentRange]> = (0..total)
            .map(|i| {
                let next = if i + 1 < total {
                    Link(i + 1)
                } else {
                    Link::NONE
                };
                SentRange {
                    next,
                    ..SentRange::UNUSED
                }
            })
            .collect();
        let free = if total == 0 { Link::NONE } else { Link(0) };
        Self {
            nodes,
            free,
            used: 0,
            pieces: 0,
        }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    pub(crate) fn total(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.nodes)
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_none()
    }

    /// Appends a range to a list. `None` if the slab is exhausted.
    pub(crate) fn push_back(&mut self, list: &mut List, range: SentRange) -> Option<Link> {
        self.insert_after(list, list.tail, range)
    }

    /// Prepends a received piece to a list. `None` if the pieces' half of the slab is used up.
    pub(crate) fn push_piece(&mut self, list: &mut List, start: u64, len: u32) -> Option<Link> {
        if self.pieces >= self.total() / 2 {
            return None;
        }
        let piece = SentRange {
            start,
            len,
            ..SentRange::UNUSED
        };
        let at = self.insert_after(list, Link::NONE, piece)?;
        self.pieces += 1;
        Some(at)
    }

    /// Inserts a range after another one, or at the front of the list.
    pub(crate) fn insert_after(
        &mut self,
        list: &mut List,
        after: Link,
        range: SentRange,
    ) -> Option<Link> {
        let at = self.free.get()?;
        self.free = self[at].next;
        self.used += 1;
        self[at] = range;
        self.link_after(list, after, at);
        Some(at)
    }

    /// Removes a range from its list and frees it.
    pub(crate) fn remove(&mut self, list: &mut List, at: Link) {
        self.unlink(list, at);
        self[at] = SentRange {
            next: self.free,
            ..SentRange::UNUSED
        };
        self.free = at;
        self.used -= 1;
    }

    /// Removes a received piece from its list and frees it.
    pub(crate) fn remove_piece(&mut self, list: &mut List, at: Link) {
        self.remove(list, at);
        self.pieces -= 1;
    }

    /// Moves a range to the front of its list.
    pub(crate) fn move_to_front(&mut self, list: &mut List, at: Link) {
        if list.head != at {
            self.unlink(list, at);
            self.link_after(list, Link::NONE, at);
        }
    }

    /// Iterates over a list, beginning at `from`.
    pub(crate) fn iter_from(&self, from: Link) -> impl Iterator<Item = (Link, &SentRange)> {
        let mut at = from;
        core::iter::from_fn(move || {
            let here = at.get()?;
            at = self[here].next;
            Some((here, &self[here]))
        })
    }

    fn link_after(&mut self, list: &mut List, after: Link, at: Link) {
        let next = if after.is_none() {
            list.head
        } else {
            self[after].next
        };
        self[at].prev = after;
        self[at].next = next;
        match after.get() {
            Some(after) => self[after].next = at,
            None => list.head = at,
        }
        match next.get() {
            Some(next) => self[next].prev = at,
            None => list.tail = at,
        }
        list.count += 1;
    }

    fn unlink(&mut self, list: &mut List, at: Link) {
        let SentRange { prev, next, .. } = self[at];
        match prev.get() {
            Some(prev) => self[prev].next = next,
            None => list.head = next,
        }
        match next.get() {
            Some(next) => self[next].prev = prev,
            None => list.tail = prev,
        }
        list.count -= 1;
    }
}

impl Index<Link> for Ranges {
    type Output = SentRange;

    fn index(&self, at: Link) -> &SentRange {
        &self.nodes[at.0 as usize]
    }
}

impl IndexMut<Link> for Ranges {
    fn index_mut(&mut self, at: Link) -> &mut SentRange {
        &mut self.nodes[at.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(ranges: &Ranges, list: &List) -> Vec<u64> {
        ranges.iter_from(list.head).map(|(_, r)| r.start).collect()
    }

    fn range(start: u64) -> SentRange {
        SentRange {
            start,
            len: 1,
            ..SentRange::UNUSED
        }
    }

    #[test]
    fn lists_share_the_slab_until_it_is_exhausted() {
        let mut ranges = Ranges::new(4);
        let (mut a, mut b) = (List::EMPTY, List::EMPTY);
        let first = ranges.push_back(&mut a, range(1)).unwrap();
        ranges.push_back(&mut b, range(10)).unwrap();
        ranges.push_back(&mut a, range(3)).unwrap();
        let middle = ranges.insert_after(&mut a, first, range(2)).unwrap();
        assert_eq!(starts(&ranges, &a), [1, 2, 3]);
        assert_eq!((ranges.used(), ranges.has_free()), (4, false));
        assert!(ranges.push_back(&mut b, range(11)).is_none());
        ranges.remove(&mut a, middle);
        assert_eq!(starts(&ranges, &a), [1, 3]);
        assert_eq!(starts(&ranges, &b), [10]);
        let last = a.tail;
        ranges.move_to_front(&mut a, last);
        assert_eq!(starts(&ranges, &a), [3, 1]);
        assert_eq!(a.count, 2);
        while let Some(at) = a.head.get() {
            ranges.remove(&mut a, at);
        }
        assert_eq!((a.count, ranges.used()), (0, 1));
        assert!(a.tail.is_none());
    }

    #[test]
    fn pieces_take_half_at_most() {
        let mut ranges = Ranges::new(4);
        let mut list = List::EMPTY;
        assert!(ranges.push_piece(&mut list, 0, 1).is_some());
        assert!(ranges.push_piece(&mut list, 2, 1).is_some());
        assert!(ranges.push_piece(&mut list, 4, 1).is_none());
        let newest = list.head;
        ranges.remove_piece(&mut list, newest);
        assert!(ranges.push_piece(&mut list, 4, 1).is_some());
        assert_eq!(starts(&ranges, &list), [4, 0]);
    }

    #[test]
    fn an_empty_slab_gives_nothing() {
        let mut ranges = Ranges::new(0);
        assert!(
            ranges
                .push_back(&mut List::EMPTY.clone(), range(0))
                .is_none()
        );
        assert_eq!(ranges.memory_bytes(), 0);
    }
}

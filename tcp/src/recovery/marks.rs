//! Maintenance of the scoreboard: find, split, merge, mark and count ranges.

use super::{AckOutcome, Scoreboard, part};
use crate::ranges::{Link, Ranges, SentRange};

impl Scoreboard {
    /// The range that contains `at`, or the first one after it.
    pub(super) fn find(&self, at: u64, ranges: &Ranges) -> Link {
        let mut here = if self.sack_hint.is_none() {
            self.list.head
        } else {
            self.sack_hint
        };
        // Walks back until the previous range ends at or before `at`, then forward until one ends
        // after it.
        while let Some(link) = here.get() {
            match ranges[link].prev.get() {
                Some(prev) if ranges[prev].end() > at => here = prev,
                Some(_) | None => break,
            }
        }
        while let Some(link) = here.get() {
            if ranges[link].end() > at {
                break;
            }
            here = ranges[link].next;
        }
        here
    }

    /// Splits a range at an offset inside it. Returns the second part, or `None` if the slab is
    /// exhausted.
    pub(super) fn split(&mut self, link: Link, at: u64, ranges: &mut Ranges) -> Option<Link> {
        let first = ranges[link];
        debug_assert!(
            first.start < at && at < first.end(),
            "a split is inside the range"
        );
        let keep = part(at - first.start);
        let second = SentRange {
            start: at,
            len: first.len - keep,
            ..first
        };
        let rest = ranges.insert_after(&mut self.list, link, second)?;
        ranges[link].len = keep;
        if self.highest_sacked == link {
            self.highest_sacked = rest;
        }
        Some(rest)
    }

    /// Splits a range at the edge of a SACK block. `None` also if the receiver reports more pieces
    /// than segments in flight can explain.
    pub(super) fn split_for_sack(
        &mut self,
        link: Link,
        at: u64,
        mss: u32,
        ranges: &mut Ranges,
    ) -> Option<Link> {
        let honest = self.flight(ranges) / mss.max(1) * 2 + SPLITS_FREE;
        if self.list.count > honest {
            None
        } else {
            self.split(link, at, ranges)
        }
    }

    /// Marks a range as SACKed and merges it with SACKed neighbours. `sack_hint` is the result.
    pub(super) fn mark_sacked(
        &mut self,
        link: Link,
        outcome: &mut AckOutcome,
        ranges: &mut Ranges,
    ) {
        let range = ranges[link];
        self.subtract_sums(&range, range.len);
        outcome.add(&range, range.len);
        self.sacked += range.len;
        self.delivered += u64::from(range.len);
        let marked = &mut ranges[link];
        marked.sacked = true;
        marked.lost = false;
        marked.resent = false;

        let mut joined = link;
        if let Some(prev) = range.prev.get().filter(|p| ranges[*p].sacked) {
            self.join(prev, link, ranges);
            joined = prev;
        }
        if let Some(next) = ranges[joined].next.get().filter(|n| ranges[*n].sacked) {
            self.join(joined, next, ranges);
        }
        let higher = match self.highest_sacked.get() {
            Some(highest) => ranges[highest].start < ranges[joined].start,
            None => true,
        };
        if higher {
            self.highest_sacked = joined;
        }
        self.sack_hint = joined;
    }

    /// Merges `second` into `first`, the range before it.
    fn join(&mut self, first: Link, second: Link, ranges: &mut Ranges) {
        ranges[first].len = ranges[first].len.saturating_add(ranges[second].len);
        if self.highest_sacked == second {
            self.highest_sacked = first;
        }
        if self.pending_from == second {
            self.pending_from = first;
        }
        if self.sack_hint == second {
            self.sack_hint = first;
        }
        ranges.remove(&mut self.list, second);
    }

    /// Marks everything before `link` lost that is not SACKed. Returns true if any was newly
    /// marked.
    pub(super) fn mark_lost_below(&mut self, link: Link, ranges: &mut Ranges) -> bool {
        let old = core::mem::replace(&mut self.lost_below, ranges[link].start);
        let before = self.lost;
        let mut here = ranges[link].prev;
        while let Some(link) = here.get() {
            if ranges[link].end() <= old {
                break;
            }
            here = ranges[link].prev;
            self.mark_lost(link, ranges);
        }
        self.lost > before
    }

    /// Marks a range lost unless it is SACKed or marked lost already.
    pub(super) fn mark_lost(&mut self, link: Link, ranges: &mut Ranges) {
        let range = &mut ranges[link];
        if range.sacked || range.lost {
            return;
        }
        range.lost = true;
        let (start, len, resent) = (range.start, range.len, range.resent);
        self.lost += len;
        if !resent {
            self.add_pending(link, start, len, ranges);
        }
    }

    /// Marks a range lost, also one that was retransmitted, unless it is SACKed.
    pub(super) fn mark_lost_again(&mut self, link: Link, ranges: &mut Ranges) {
        let range = ranges[link];
        if range.sacked || (range.lost && !range.resent) {
            return;
        }
        self.subtract_sums(&range, range.len);
        self.lost += range.len;
        let marked = &mut ranges[link];
        marked.lost = true;
        marked.resent = false;
        self.add_pending(link, range.start, range.len, ranges);
    }

    /// Adds a range to those pending retransmission.
    fn add_pending(&mut self, link: Link, start: u64, len: u32, ranges: &Ranges) {
        self.pending += len;
        if self
            .pending_from
            .get()
            .is_none_or(|from| start < ranges[from].start)
        {
            self.pending_from = link;
        }
    }

    /// Subtracts `bytes` of a range from the sums that include them.
    pub(super) fn subtract_sums(&mut self, range: &SentRange, bytes: u32) {
        if range.sacked {
            self.sacked -= bytes;
        }
        if range.lost {
            self.lost -= bytes;
            if !range.resent {
                self.pending -= bytes;
            }
        }
        if range.resent {
            self.resent -= bytes;
        }
    }

    /// Removes the first range of the list.
    pub(super) fn remove_first(&mut self, head: Link, next: Link, ranges: &mut Ranges) {
        for hint in [&mut self.sack_hint, &mut self.pending_from] {
            if *hint == head {
                *hint = next;
            }
        }
        if self.highest_sacked == head {
            self.highest_sacked = Link::NONE;
        }
        ranges.remove(&mut self.list, head);
    }

    /// Bytes outstanding: the extent of the list.
    pub(crate) fn flight(&self, ranges: &Ranges) -> u32 {
        match (self.list.head.get(), self.list.tail.get()) {
            (Some(head), Some(tail)) => part(ranges[tail].end() - ranges[head].start),
            _ => 0,
        }
    }

    /// Checks the invariants of the list.
    pub(crate) fn check(&self, ranges: &Ranges) {
        let (mut sacked, mut lost, mut pending, mut resent, mut count) = (0, 0, 0, 0, 0);
        let mut end = None;
        let mut highest = Link::NONE;
        let mut first_pending = None;
        let mut was_sacked = false;
        for (link, r) in ranges.iter_from(self.list.head) {
            assert!(end.is_none_or(|e| e == r.start), "no gaps");
            assert!(r.len > 0 && r.times_sent > 0);
            assert!(
                !(r.sacked && (r.lost || r.resent)),
                "received is neither lost nor sent again"
            );
            assert!(!(was_sacked && r.sacked), "received neighbours are joined");
            was_sacked = r.sacked;
            end = Some(r.end());
            count += 1;
            if r.sacked {
                sacked += r.len;
                highest = link;
            }
            lost += if r.lost { r.len } else { 0 };
            resent += if r.resent { r.len } else { 0 };
            if r.lost && !r.resent {
                pending += r.len;
                first_pending = first_pending.or(Some(r.start));
            }
        }
        assert_eq!(self.list.count, count);
        assert_eq!(
            (self.sacked, self.lost, self.pending, self.resent),
            (sacked, lost, pending, resent)
        );
        assert_eq!(self.highest_sacked, highest);
        if let Some(first) = first_pending {
            assert!(ranges[self.pending_from].start <= first);
            assert_eq!(self.next_pending(ranges).map(|r| r.start), Some(first));
        } else {
            assert_eq!(self.next_pending(ranges), None);
        }
    }
}

/// Ranges allowed to a connection by SACK, beyond two per segment in flight.
const SPLITS_FREE: u32 = 64;

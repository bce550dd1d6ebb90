//! Maintenance of the scoreboard: split, merge, mark and count ranges.

use super::{AckOutcome, Scoreboard, part};
use crate::ranges::{Link, Ranges, SentRange};

impl Scoreboard {
    /// Splits a range to record which part of it is lost or retransmitted. Returns the second part,
    /// or `None` if the connection may not hold another range.
    pub(super) fn split_for_repair(
        &mut self,
        link: Link,
        at: u64,
        ranges: &mut Ranges,
    ) -> Option<Link> {
        if ranges.may_split_for_repair(self.tree.count) {
            self.split(link, at, ranges)
        } else {
            None
        }
    }

    /// Splits a range at the edge of a SACK block. `None` if the connection may not hold another
    /// range, or if the receiver reports more pieces than segments in flight can explain.
    pub(super) fn split_for_sack(
        &mut self,
        link: Link,
        at: u64,
        mss: u32,
        ranges: &mut Ranges,
    ) -> Option<Link> {
        let honest = self.flight(ranges) / mss.max(1) * 2 + SPLITS_FREE;
        if self.tree.count <= honest && ranges.may_grow(self.tree.count) {
            self.split(link, at, ranges)
        } else {
            None
        }
    }

    /// Splits a range at an offset inside it. Returns the second part.
    fn split(&mut self, link: Link, at: u64, ranges: &mut Ranges) -> Option<Link> {
        let first = ranges[link];
        debug_assert!(
            first.start < at && at < first.end(),
            "a split is inside the range"
        );
        let keep = part(at - first.start);
        let mut second = first;
        second.start = at;
        second.len -= keep;
        let rest = ranges.insert_after(&mut self.tree, link, second)?;
        ranges[link].len = keep;
        Some(rest)
    }

    /// Marks a range as SACKed and merges it with SACKed neighbours. Returns the result.
    pub(super) fn mark_sacked(
        &mut self,
        link: Link,
        outcome: &mut AckOutcome,
        ranges: &mut Ranges,
    ) -> Link {
        let range = ranges[link];
        self.subtract_sums(&range, range.len);
        outcome.add(&range, range.len);
        self.sacked += range.len;
        self.delivered += u64::from(range.len);
        ranges.mark(link, |range| {
            range.sacked = true;
            range.lost = false;
            range.resent = false;
        });
        let mut joined = link;
        if let Some(prev) = ranges.prev(link).get().filter(|p| ranges[*p].sacked) {
            self.join(prev, link, ranges);
            joined = prev;
        }
        if let Some(next) = ranges.next(joined).get().filter(|n| ranges[*n].sacked) {
            self.join(joined, next, ranges);
        }
        joined
    }

    /// Merges a range with the one before it if they have the same marks and were sent at the same
    /// times. Returns the result.
    pub(super) fn join_equal(&mut self, link: Link, ranges: &mut Ranges) -> Link {
        let range = ranges[link];
        let equal = ranges.prev(link).get().filter(|prev| {
            let prev = &ranges[*prev];
            prev.is_marked_like(&range) && prev.is_sent_like(&range)
        });
        match equal {
            Some(prev) => {
                self.join(prev, link, ranges);
                prev
            }
            None => link,
        }
    }

    /// Merges `second` into `first`, the range before it, which has the same marks.
    pub(super) fn join(&mut self, first: Link, second: Link, ranges: &mut Ranges) {
        let next = ranges[second];
        ranges[first].append(&next);
        ranges.remove(&mut self.tree, second);
    }

    /// Gives all ranges that are not SACKed the same marks, and joins neighbours.
    pub(super) fn mark_and_join_unsacked(&mut self, lost: bool, ranges: &mut Ranges) {
        let mut here = self.tree.first;
        let mut before = Link::NONE;
        while let Some(link) = here.get() {
            here = ranges.next(link);
            if ranges[link].sacked {
                before = Link::NONE;
                continue;
            }
            ranges.mark(link, |range| {
                range.lost = lost;
                range.resent = false;
            });
            match before.get() {
                Some(before) => self.join(before, link, ranges),
                None => before = link,
            }
        }
        self.resent = 0;
        self.resume_at = u64::MAX;
    }

    /// Marks everything before `link` lost that is not SACKed. Returns true if any was newly
    /// marked.
    pub(super) fn mark_lost_below(&mut self, link: Link, ranges: &mut Ranges) -> bool {
        let old = core::mem::replace(&mut self.lost_below, ranges[link].start);
        let before = self.lost;
        let mut here = ranges.prev(link);
        while let Some(link) = here.get() {
            if ranges[link].end() <= old {
                break;
            }
            self.mark_lost(link, ranges);
            here = ranges.prev(link);
        }
        self.lost > before
    }

    /// Marks a range lost unless it is SACKed or marked lost already.
    pub(super) fn mark_lost(&mut self, link: Link, ranges: &mut Ranges) {
        let range = ranges[link];
        if range.sacked || range.lost {
            return;
        }
        self.lost += range.len;
        if !range.resent {
            self.pending += range.len;
        }
        ranges.mark(link, |range| range.lost = true);
    }

    /// Marks a range lost, also one that was retransmitted, unless it is SACKed.
    pub(super) fn mark_lost_again(&mut self, link: Link, ranges: &mut Ranges) {
        let range = ranges[link];
        if range.sacked || (range.lost && !range.resent) {
            return;
        }
        self.subtract_sums(&range, range.len);
        self.lost += range.len;
        self.pending += range.len;
        ranges.mark(link, |range| {
            range.lost = true;
            range.resent = false;
        });
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

    /// Bytes outstanding: the extent of the list.
    pub(crate) fn flight(&self, ranges: &Ranges) -> u32 {
        match (self.tree.first.get(), self.tree.last.get()) {
            (Some(head), Some(tail)) => part(ranges[tail].end() - ranges[head].start),
            _ => 0,
        }
    }

    /// Checks the invariants of the ranges.
    pub(crate) fn check(&self, ranges: &Ranges) {
        let (mut sacked, mut lost, mut pending, mut resent) = (0, 0, 0, 0);
        let mut end = None;
        let mut first_pending = None;
        let mut was_sacked = false;
        ranges.check_tree(&self.tree);
        for (_, r) in ranges.iter_from(self.tree.first) {
            assert!(end.is_none_or(|e| e == r.start), "no gaps");
            assert!(r.len > 0 && r.times_sent > 0);
            assert!(
                !(r.sacked && (r.lost || r.resent)),
                "received is neither lost nor sent again"
            );
            assert!(!(was_sacked && r.sacked), "received neighbours are joined");
            was_sacked = r.sacked;
            end = Some(r.end());
            if r.sacked {
                sacked += r.len;
            }
            lost += if r.lost { r.len } else { 0 };
            resent += if r.resent { r.len } else { 0 };
            if r.lost && !r.resent {
                pending += r.len;
                first_pending = first_pending.or(Some(r.start));
            }
        }
        assert_eq!(
            (self.sacked, self.lost, self.pending, self.resent),
            (sacked, lost, pending, resent)
        );
        let next = self.next_pending(ranges).map(|range| range.start);
        assert_eq!(next, first_pending);
        assert_eq!(self.pending == 0, first_pending.is_none());
    }
}

/// Ranges allowed to a connection by SACK, beyond two per segment in flight.
const SPLITS_FREE: u32 = 16;

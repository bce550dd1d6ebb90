//! The scoreboard: which sent ranges were SACKed, lost and retransmitted (RFC 6675).
//!
//! Invariants: the ranges cover SND.UNA to SND.NXT in order and without gaps; adjacent SACKed
//! ranges are merged. Byte sums per kind make `pipe` a subtraction. The scoreboard knows offsets
//! only: no sequence numbers, windows or congestion control.
//!
//! Costs: finding a range, marking one and choosing the next one to retransmit take logarithmic
//! time. A SACK block, an ACK, a retransmission and a loss take that for each range that they mark,
//! split, join or free, and no more. Only time-outs, a smaller path MTU and
//! [`shrink`](Scoreboard::shrink) visit all ranges.

use core::ops::Range;

use lockgate_wire::Instant;

use crate::ranges::{Kinds, Ranges, SentRange, Tree};

mod marks;
mod next;

/// State of loss recovery, as Linux's `tcp_ca_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No known loss.
    Open,
    /// Fast recovery, until everything outstanding at its start is acknowledged.
    Recovery,
    /// After a retransmission time-out: everything counts as lost and is retransmitted in slow
    /// start.
    Loss,
}

/// The sent ranges of a connection and their state.
#[derive(Debug)]
pub(crate) struct Scoreboard {
    pub(crate) tree: Tree,
    /// Bytes SACKed above the cumulative ACK.
    sacked: u32,
    /// Bytes marked lost, retransmitted or not.
    lost: u32,
    /// Bytes marked lost and not yet retransmitted.
    pending: u32,
    /// Bytes retransmitted and not acknowledged.
    resent: u32,
    /// Without SACK: bytes that have left the network by the count of duplicate ACKs.
    pub(crate) duplicates: u32,
    /// Everything below this offset that is not SACKed has been marked lost.
    lost_below: u64,
    /// End of the retransmitted part of a range that could not be split for want of an entry. The
    /// rest follows when the part is acknowledged. Otherwise `u64::MAX`.
    resume_at: u64,
    /// RFC 6675's RecoveryPoint: recovery ends when this offset is acknowledged.
    pub(crate) recovery_point: u64,
    /// Bytes delivered over the life of the connection.
    pub(crate) delivered: u64,
    pub(crate) phase: Phase,
    /// Consecutive duplicate ACKs.
    pub(crate) dup_acks: u8,
    /// The first retransmission of a recovery ignores the congestion window.
    pub(crate) force: bool,
    /// The rescue retransmission of this recovery has been sent.
    pub(crate) rescued: bool,
}

/// What an ACK and its SACK blocks newly delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckOutcome {
    /// Bytes delivered for the first time.
    pub(crate) delivered: u32,
    /// Latest send time of the delivered ranges that were sent once.
    sent_once_at: Option<Instant>,
    /// Last send time of the first delivered range that was retransmitted. Which transmission
    /// arrived is ambiguous then, and later ranges may have arrived long before.
    pub(crate) resent_at: Option<Instant>,
    /// Ranges not split at the edge of a SACK block: no memory, or too many pieces.
    pub(crate) splits_refused: u32,
}

impl AckOutcome {
    fn add(&mut self, range: &SentRange, bytes: u32) {
        self.delivered += bytes;
        //= https://www.rfc-editor.org/rfc/rfc6298#section-3
        //# TCP MUST use Karn's algorithm [KP87] for taking RTT samples.  That
        //# is, RTT samples MUST NOT be made using segments that were
        //# retransmitted (and thus for which it is ambiguous whether the reply
        //# was for the first instance of the packet or a later instance).
        if range.times_sent == 1 {
            self.sent_once_at = self.sent_once_at.max(Some(range.last_sent));
        } else {
            self.resent_at.get_or_insert(range.last_sent);
        }
    }

    /// Send time of what was delivered, if it is unambiguous (Karn's algorithm).
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.sent_once_at.filter(|_| self.resent_at.is_none())
    }
}

impl Scoreboard {
    pub(crate) const EMPTY: Self = Self {
        tree: Tree::EMPTY,
        sacked: 0,
        lost: 0,
        pending: 0,
        resent: 0,
        duplicates: 0,
        lost_below: 0,
        resume_at: u64::MAX,
        recovery_point: 0,
        delivered: 0,
        phase: Phase::Open,
        dup_acks: 0,
        force: false,
        rescued: false,
    };

    /// `pipe`: the estimate of bytes in the network, of `flight` outstanding ones.
    //= https://www.rfc-editor.org/rfc/rfc6675#section-4
    // SetPipe counts what is neither SACKed nor lost, and what was retransmitted. The sums are kept
    // incrementally.
    pub(crate) fn pipe(&self, flight: u32) -> u32 {
        (flight + self.resent)
            .saturating_sub(self.sacked)
            .saturating_sub(self.lost)
            .saturating_sub(self.duplicates)
    }

    /// Bytes pending retransmission.
    pub(crate) fn pending(&self) -> u32 {
        self.pending
    }

    /// Whether one more transmission can be recorded, in a range of its own or in the last one.
    pub(crate) fn can_record(&self, ranges: &Ranges) -> bool {
        if ranges.may_grow(self.tree.count) {
            return true;
        }
        let last = self.tree.last.get().map(|last| &ranges[last]);
        last.is_some_and(|last| last.kind() == Kinds::PLAIN && last.len < RANGE_MAX)
    }

    /// Records new bytes as sent.
    ///
    /// They are merged with the last range if both were sent at the same time, up to `RANGE_MAX`,
    /// or if the connection may not hold another range.
    pub(crate) fn on_sent(&mut self, start: u64, len: u32, now: Instant, ranges: &mut Ranges) {
        let range = SentRange::new(start, len, now, self.delivered);
        if let Some(last) = self.tree.last.get()
            && ranges[last].kind() == Kinds::PLAIN
        {
            let sum = ranges[last].len.saturating_add(len);
            let same_turn = ranges[last].is_sent_like(&range) && sum <= RANGE_MAX;
            if same_turn || !ranges.may_grow(self.tree.count) {
                ranges[last].append(&range);
                return;
            }
        }
        let pushed = ranges.push_last(&mut self.tree, range);
        debug_assert!(
            pushed.is_some(),
            "nothing new is offered that can't be recorded"
        );
    }

    /// Records the retransmission of `at..end`.
    pub(crate) fn on_resent(&mut self, at: u64, end: u64, now: Instant, ranges: &mut Ranges) {
        let delivered = self.delivered;
        let mut here = ranges.find(&self.tree, at);
        while let Some(link) = here.get() {
            let range = ranges[link];
            if range.start >= end {
                break;
            }
            if range.sacked {
                here = ranges.next(link);
                continue;
            }
            if range.start < at {
                match self.split_for_repair(link, at, ranges) {
                    Some(rest) => here = rest,
                    None => break,
                }
                continue;
            }
            if range.end() > end && self.split_for_repair(link, end, ranges).is_none() {
                // The whole range counts as retransmitted.
                self.resume_at = self.resume_at.min(end);
            }
            let range = ranges[link];
            if !range.resent {
                self.resent += range.len;
                if range.lost {
                    self.pending -= range.len;
                }
            }
            ranges.mark(link, |range| {
                range.last_sent = now;
                range.delivered = delivered;
                range.times_sent = range.times_sent.saturating_add(1);
                range.resent = true;
            });
            let joined = self.join_equal(link, ranges);
            here = ranges.next(joined);
        }
    }

    /// Removes everything below `ack`.
    pub(crate) fn on_ack(&mut self, ack: u64, outcome: &mut AckOutcome, ranges: &mut Ranges) {
        while let Some(head) = self.tree.first.get() {
            let range = ranges[head];
            if range.start >= ack {
                break;
            }
            let whole = range.end() <= ack;
            let gone = if whole {
                range.len
            } else {
                part(ack - range.start)
            };
            self.subtract_sums(&range, gone);
            if !range.sacked {
                outcome.add(&range, gone);
                self.delivered += u64::from(gone);
            }
            if whole {
                ranges.remove(&mut self.tree, head);
            } else {
                let rest = &mut ranges[head];
                rest.start += u64::from(gone);
                rest.len -= gone;
            }
        }
        if ack >= self.resume_at {
            self.resume_at = u64::MAX;
            if let Some(head) = self.tree.first.get().filter(|head| ranges[*head].resent) {
                self.mark_lost_again(head, ranges);
            }
        }
    }

    /// Marks `block` as SACKed. It lies between SND.UNA and SND.NXT. `mss` bounds the number of
    /// splits.
    pub(crate) fn on_sack(
        &mut self,
        block: Range<u64>,
        mss: u32,
        outcome: &mut AckOutcome,
        ranges: &mut Ranges,
    ) {
        let mut here = ranges.find(&self.tree, block.start);
        while let Some(link) = here.get() {
            let range = ranges[link];
            if range.start >= block.end {
                break;
            }
            if range.sacked {
                here = ranges.next(link);
                continue;
            }
            // The block covers part of a range: split it. If the connection may not hold another
            // range, or the receiver asks for too many splits, the part is ignored: it is at most
            // retransmitted in vain.
            //= https://www.rfc-editor.org/rfc/rfc2018#section-3
            //# The SACK option is advisory, in that, while it notifies the data
            //# sender that the data receiver has received the indicated segments,
            //# the data receiver is permitted to later discard data which have been
            //# reported in a SACK option.
            if range.start < block.start {
                here = match self.split_for_sack(link, block.start, mss, ranges) {
                    Some(rest) => rest,
                    None => {
                        outcome.splits_refused += 1;
                        ranges.next(link)
                    }
                };
                continue;
            }
            if range.end() > block.end
                && self.split_for_sack(link, block.end, mss, ranges).is_none()
            {
                outcome.splits_refused += 1;
                // The split at the block's start is of no use alone.
                self.join_equal(link, ranges);
                break;
            }
            let joined = self.mark_sacked(link, outcome, ranges);
            here = ranges.next(joined);
        }
    }

    /// Marks lost ranges by RFC 6675's IsLost. Returns true if any was newly marked.
    //= https://www.rfc-editor.org/rfc/rfc6675#section-4
    //# IsLost (SeqNum):
    //#    This routine returns whether the given sequence number is
    //#    considered to be lost.  The routine returns true when either
    //#    DupThresh discontiguous SACKed sequences have arrived above
    //#    'SeqNum' or more than (DupThresh - 1) * SMSS bytes with sequence
    //#    numbers greater than 'SeqNum' have been SACKed.
    pub(crate) fn detect_losses(&mut self, mss: u32, ranges: &mut Ranges) -> bool {
        let (mut bytes, mut blocks) = (0, 0);
        let mut here = ranges.last_of(&self.tree, Kinds::SACKED);
        while let Some(link) = here.get() {
            let range = ranges[link];
            bytes += range.len;
            blocks += 1;
            if range.start <= self.lost_below {
                return false;
            }
            if bytes > (DUP_THRESHOLD - 1) * mss || blocks >= DUP_THRESHOLD {
                return self.mark_lost_below(link, ranges);
            }
            here = ranges.last_before(link, Kinds::SACKED);
        }
        false
    }

    /// Marks the first `len` outstanding bytes lost.
    pub(crate) fn mark_first_lost(&mut self, len: u32, ranges: &mut Ranges) {
        let Some(head) = self.tree.first.get() else {
            return;
        };
        let end = ranges[head].start + u64::from(len);
        if ranges[head].lost || ranges[head].sacked {
            return;
        }
        if ranges[head].end() > end {
            // Without an entry for a split the whole range is retransmitted.
            self.split_for_repair(head, end, ranges);
        }
        self.mark_lost(head, ranges);
    }

    /// Marks outstanding ranges longer than `mss` lost: they exceed the new path MTU.
    pub(crate) fn mark_longer_lost(&mut self, mss: u32, ranges: &mut Ranges) {
        let mut here = self.tree.first;
        while let Some(link) = here.get() {
            if ranges[link].len > mss {
                self.mark_lost_again(link, ranges);
            }
            here = ranges.next(link);
        }
    }

    /// Marks `at..end` lost, retransmitted or not: it never left the host.
    pub(crate) fn mark_unsent(&mut self, at: u64, end: u64, ranges: &mut Ranges) {
        let mut here = ranges.find(&self.tree, at);
        while let Some(link) = here.get() {
            let range = ranges[link];
            if range.start >= end {
                break;
            }
            if range.sacked {
                here = ranges.next(link);
                continue;
            }
            // Without an entry for a split the whole range is retransmitted.
            if range.start < at
                && let Some(rest) = self.split_for_repair(link, at, ranges)
            {
                here = rest;
                continue;
            }
            if range.end() > end {
                self.split_for_repair(link, end, ranges);
            }
            self.mark_lost_again(link, ranges);
            here = ranges.next(link);
        }
    }

    /// Handles a retransmission time-out: marks everything that is not SACKed lost. Neighbours are
    /// joined.
    pub(crate) fn on_timeout(&mut self, sent: u64, ranges: &mut Ranges) {
        self.mark_and_join_unsacked(true, ranges);
        self.lost = self.flight(ranges) - self.sacked;
        self.pending = self.lost;
        self.duplicates = 0;
        self.dup_acks = 0;
        self.force = false;
        self.lost_below = sent;
        //= https://www.rfc-editor.org/rfc/rfc6675#section-5.1
        // Fast recovery can start again once everything outstanding now is acknowledged.
        self.recovery_point = sent;
        self.phase = Phase::Loss;
    }

    /// Joins ranges until `target` of them are left at most.
    ///
    /// Neighbours with the same marks are joined first. If that isn't enough, all marks are
    /// cleared: SACK is advisory, and what was lost is found again by later reports or by the
    /// retransmission time-out. One call takes steps for all ranges and frees most of them, each of
    /// which took a step to add.
    pub(crate) fn shrink(&mut self, target: u32, ranges: &mut Ranges) {
        let mut here = self.tree.first;
        while let Some(link) = here.get() {
            let next = ranges.next(link);
            let alike = next
                .get()
                .filter(|n| ranges[*n].is_marked_like(&ranges[link]));
            here = match alike {
                Some(next) => {
                    self.join(link, next, ranges);
                    link
                }
                None => next,
            };
        }
        if self.tree.count > target {
            self.clear_sack(ranges);
            self.mark_and_join_unsacked(false, ranges);
            self.lost = 0;
            self.pending = 0;
        }
    }

    /// Whether the receiver reneged: the first unacknowledged range is SACKed (RFC 2018, 8).
    //= https://www.rfc-editor.org/rfc/rfc2018#section-8
    //# The data receiver is permitted to discard data in its queue that has not
    //# been acknowledged to the data sender, even if the data has already been reported
    //# in a SACK option.
    pub(crate) fn has_reneged(&self, ranges: &Ranges) -> bool {
        let first = self.tree.first.get();
        first.is_some_and(|first| ranges[first].sacked)
    }

    /// Clears all SACK marks.
    pub(crate) fn clear_sack(&mut self, ranges: &mut Ranges) {
        let mut here = ranges.first_of(&self.tree, Kinds::SACKED);
        while let Some(link) = here.get() {
            self.delivered = self.delivered.saturating_sub(u64::from(ranges[link].len));
            ranges.mark(link, |range| {
                range.sacked = false;
                range.times_sent = range.times_sent.max(2);
            });
            here = ranges.first_of(&self.tree, Kinds::SACKED);
        }
        self.sacked = 0;
        self.lost_below = 0;
    }

    /// Enters fast recovery.
    pub(crate) fn enter_recovery(&mut self, sent: u64) {
        self.phase = Phase::Recovery;
        self.recovery_point = sent;
        self.force = true;
        self.rescued = false;
    }

    /// Leaves recovery.
    pub(crate) fn leave_recovery(&mut self) {
        self.phase = Phase::Open;
        self.duplicates = 0;
        self.dup_acks = 0;
        self.force = false;
    }

    /// Frees all ranges.
    pub(crate) fn clear(&mut self, ranges: &mut Ranges) {
        while let Some(head) = self.tree.first.get() {
            ranges.remove(&mut self.tree, head);
        }
        *self = Self {
            delivered: self.delivered,
            ..Self::EMPTY
        };
    }
}

/// Converts a byte count to the length of a range.
fn part(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

//= https://www.rfc-editor.org/rfc/rfc6675#section-2
// DupThresh.
pub(crate) const DUP_THRESHOLD: u32 = 3;
/// Longest range formed by merging bursts: long enough for a short scoreboard, short enough that
/// its retransmission as a whole is tolerable.
const RANGE_MAX: u32 = 1 << 16;

#[cfg(test)]
mod tests;

//! The worker's slab of ranges: sent ranges and out-of-order received pieces of all connections.
//!
//! Its memory is reserved at start-up and touched when it is first used; a free list links unused
//! entries. Peers decide how many ranges a connection needs, so the slab is shared by these rules:
//!
//! - The first sent range of each connection has an entry of its own. A connection that has nothing
//!   in flight can always send, whatever the others hold.
//! - All other entries are shared. A connection may take another one while it holds less than
//!   [`Ranges::allowance`]: max([`ALLOWANCE_MIN`], 1 / [`ALLOWANCE_SHARE`] of the free entries),
//!   and at most `per_connection_max`. This is the dynamic threshold of Choudhury and Hahne (1998)
//!   for shared buffers. The adversary is a peer with tiny segments that reports one byte of each
//!   by SACK.
//! - The last [`RESERVE_SHARE`]th of the free entries is only for connections below
//!   `ALLOWANCE_MIN`.
//! - A connection that holds more than twice its allowance, because others have taken entries
//!   since, joins its ranges at its next acknowledgment or time-out.

mod pieces;
mod tree;

#[cfg(debug_assertions)]
use core::cell::Cell;
use core::ops::{Index, IndexMut};

use lockgate_wire::{Instant, Xorshift64};

pub(crate) use pieces::PieceList;
pub(crate) use tree::Tree;

/// One range of a stream.
///
/// For a sent range it also keeps what RACK (RFC 8985) and delivery rate samples need. Out-of-order
/// received pieces use the offsets only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRange {
    /// First offset.
    pub(crate) start: u64,
    /// Time of the last transmission; of joined ranges the earliest of these.
    pub(crate) last_sent: Instant,
    /// The connection's `delivered` counter at that time.
    pub(crate) delivered: u64,
    /// Length in bytes; a FIN counts as one.
    pub(crate) len: u32,
    /// In a tree: children and parent. In a list of pieces: the previous and the next one.
    left: Link,
    right: Link,
    up: Link,
    /// Number of transmissions, saturating. At least 2 for a range that was joined of ranges sent
    /// at different times: an acknowledgment of it can't be measured without timestamps.
    pub(crate) times_sent: u8,
    /// Reported by SACK.
    pub(crate) sacked: bool,
    /// Marked lost.
    pub(crate) lost: bool,
    /// Retransmitted since it was last marked lost.
    pub(crate) resent: bool,
    /// The kinds of the ranges in the subtree.
    kinds: Kinds,
    /// Random order of the tree's levels: a parent's is at least its children's.
    priority: u16,
}

const _: () = assert!(size_of::<SentRange>() <= 48);

impl SentRange {
    /// What is sent for the first time.
    pub(crate) fn new(start: u64, len: u32, now: Instant, delivered: u64) -> Self {
        Self {
            start,
            len,
            last_sent: now,
            delivered,
            times_sent: 1,
            ..Self::UNUSED
        }
    }

    const UNUSED: Self = Self {
        start: 0,
        last_sent: Instant::ZERO,
        delivered: 0,
        len: 0,
        left: Link::NONE,
        right: Link::NONE,
        up: Link::NONE,
        times_sent: 0,
        sacked: false,
        lost: false,
        resent: false,
        kinds: Kinds::NONE,
        priority: 0,
    };

    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// What the range is to loss recovery.
    pub(crate) fn kind(&self) -> Kinds {
        if self.sacked {
            Kinds::SACKED
        } else if self.resent {
            Kinds::NONE
        } else if self.lost {
            Kinds::PENDING
        } else {
            Kinds::PLAIN
        }
    }

    /// Whether both ranges have the same marks.
    pub(crate) fn is_marked_like(&self, other: &Self) -> bool {
        (self.sacked, self.lost, self.resent) == (other.sacked, other.lost, other.resent)
    }

    /// Whether both ranges were sent at the same times.
    pub(crate) fn is_sent_like(&self, other: &Self) -> bool {
        (self.last_sent, self.delivered, self.times_sent)
            == (other.last_sent, other.delivered, other.times_sent)
    }

    /// Adds the range that follows.
    pub(crate) fn append(&mut self, next: &Self) {
        if !self.is_sent_like(next) {
            self.last_sent = self.last_sent.min(next.last_sent);
            self.delivered = self.delivered.min(next.delivered);
            self.times_sent = self.times_sent.max(next.times_sent).max(2);
        }
        self.len = self.len.saturating_add(next.len);
    }
}

/// A set of the kinds of ranges that loss recovery looks for. A range that was retransmitted is of
/// none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const NONE: Self = Self(0);
    /// Reported by SACK.
    pub(crate) const SACKED: Self = Self(1);
    /// Marked lost and not retransmitted since.
    pub(crate) const PENDING: Self = Self(2);
    /// Neither SACKed, lost nor retransmitted.
    pub(crate) const PLAIN: Self = Self(4);

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
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
}

/// Sizes of a slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlabSizes {
    /// Entries that all connections share.
    pub(crate) shared: u32,
    /// Connections, each of which has an entry of its own.
    pub(crate) connections: u32,
    /// Limit of sent ranges per connection.
    pub(crate) per_connection_max: u32,
}

/// The slab.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// The entries that were used at least once. Never longer than its first capacity.
    nodes: Vec<SentRange>,
    free: Link,
    sizes: SlabSizes,
    used: u32,
    /// Connections with a sent range in flight: entries in use that are not shared.
    firsts: u32,
    /// Entries used by received pieces. Limited to half of the shared ones, so that peers that send
    /// out of order can't take all memory from loss recovery.
    pieces: u32,
    /// Draws priorities. Peers can't predict which level of a tree a range has.
    random: Xorshift64,
    /// Accesses to entries.
    #[cfg(debug_assertions)]
    steps: Cell<u64>,
}

impl Ranges {
    pub(crate) fn new(sizes: SlabSizes, seed: u64) -> Self {
        let total = sizes.shared.saturating_add(sizes.connections);
        Self {
            nodes: Vec::with_capacity(total as usize),
            free: Link::NONE,
            sizes,
            used: 0,
            firsts: 0,
            pieces: 0,
            random: Xorshift64::new(seed),
            #[cfg(debug_assertions)]
            steps: Cell::new(0),
        }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    #[inline]
    pub(crate) fn total(&self) -> u32 {
        self.sizes.shared.saturating_add(self.sizes.connections)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<SentRange>()
    }

    /// Accesses to entries so far. Counted in debug builds only.
    pub(crate) fn steps(&self) -> u64 {
        #[cfg(debug_assertions)]
        return self.steps.get();
        #[cfg(not(debug_assertions))]
        return 0;
    }

    /// How many ranges one connection may hold now.
    #[inline]
    pub(crate) fn allowance(&self) -> u32 {
        let reserve = self.sizes.shared / RESERVE_SHARE;
        let share = self.shared_free().saturating_sub(reserve) / ALLOWANCE_SHARE;
        share.max(ALLOWANCE_MIN).min(self.sizes.per_connection_max)
    }

    /// Whether a connection that holds `count` sent ranges may take another one.
    #[inline]
    pub(crate) fn may_grow(&self, count: u32) -> bool {
        if count == 0 {
            self.used < self.total()
        } else {
            self.shared_free() > 0 && count < self.allowance()
        }
    }

    /// Whether a connection that holds `count` sent ranges has to give some back.
    #[inline]
    pub(crate) fn is_far_too_many(&self, count: u32) -> bool {
        count > 2 * ALLOWANCE_MIN && count > self.allowance().saturating_mul(2)
    }

    /// Whether a connection that holds `count` sent ranges may split one to record which part of it
    /// was retransmitted. Half more than for other purposes: the split repairs a loss.
    pub(crate) fn may_split_for_repair(&self, count: u32) -> bool {
        let allowance = self.allowance();
        self.shared_free() > 0 && count < allowance.saturating_add(allowance / 2)
    }

    /// Shared entries that are free.
    #[inline]
    fn shared_free(&self) -> u32 {
        let shared_used = self.used.saturating_sub(self.firsts);
        self.sizes.shared.saturating_sub(shared_used)
    }

    /// Takes an entry. `None` if there is none.
    fn take(&mut self, range: SentRange) -> Option<Link> {
        let at = match self.free.get() {
            Some(at) => {
                self.free = self[at].right;
                at
            }
            None if self.nodes.len() < self.total() as usize => {
                let at = Link(u32::try_from(self.nodes.len()).ok()?);
                self.nodes.push(SentRange::UNUSED);
                at
            }
            None => return None,
        };
        self.used += 1;
        let priority = u16::try_from(self.random.next() >> 48).unwrap_or(0);
        self[at] = SentRange {
            left: Link::NONE,
            right: Link::NONE,
            up: Link::NONE,
            kinds: range.kind(),
            priority,
            ..range
        };
        Some(at)
    }

    /// Returns an entry that is linked nowhere.
    fn give_back(&mut self, at: Link) {
        self[at].right = self.free;
        self.free = at;
        self.used -= 1;
    }

    #[inline]
    fn count_step(&self) {
        #[cfg(debug_assertions)]
        self.steps.set(self.steps.get() + 1);
    }
}

impl Index<Link> for Ranges {
    type Output = SentRange;

    #[inline]
    fn index(&self, at: Link) -> &SentRange {
        self.count_step();
        &self.nodes[at.0 as usize]
    }
}

impl IndexMut<Link> for Ranges {
    #[inline]
    fn index_mut(&mut self, at: Link) -> &mut SentRange {
        self.count_step();
        &mut self.nodes[at.0 as usize]
    }
}

/// Ranges that a connection may hold while any shared entry is free.
pub(crate) const ALLOWANCE_MIN: u32 = 4;
/// A connection may hold this fraction of the free entries. The default slab of 65 536 entries
/// allows 3 584 ranges: more than a window of 4 MiB has segments.
const ALLOWANCE_SHARE: u32 = 16;
/// The fraction of the shared entries that is only for connections below [`ALLOWANCE_MIN`].
const RESERVE_SHARE: u32 = 8;

#[cfg(test)]
mod tests;

//! Sockets that wait for memory, and when they are woken.

use core::time::Duration;
use std::collections::VecDeque;

use lockgate_wire::Instant;
use pktbuf::PoolUsage;

use super::send_share::free_blocks;
use crate::notice::SocketId;
use crate::schedule::{Membership, SendClass};

/// What a starved socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Page buffers, to queue something or to open a record.
    Pages,
    /// Spans, to seal what is queued.
    Spans,
}

impl Missing {
    pub(crate) const ALL: [Self; 2] = [Self::Pages, Self::Spans];
}

/// Which memory a socket waits for, and which it was woken for and hasn't taken since: two bits of
/// each, by the number of [`Missing`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryWaits(u8);

impl MemoryWaits {
    /// Whether it is in any queue of [`StarvedSockets`].
    pub(crate) fn is_starving(self) -> bool {
        Missing::ALL
            .into_iter()
            .any(|missing| self.is_starved(missing))
    }

    /// Whether it is in this queue of [`StarvedSockets`].
    pub(crate) fn is_starved(self, missing: Missing) -> bool {
        self.0 & starved_bit(missing) != 0
    }

    /// It is woken, if it is in this queue of [`StarvedSockets`]. Returns whether it was.
    pub(crate) fn grant(&mut self, missing: Missing) -> bool {
        let was_starved = self.is_starved(missing);
        if was_starved {
            self.0 ^= starved_bit(missing) | granted_bit(missing);
        }
        was_starved
    }

    fn is_granted(self, missing: Missing) -> bool {
        self.0 & granted_bit(missing) != 0
    }

    /// Returns whether it wasn't listed yet.
    fn starve(&mut self, missing: Missing) -> bool {
        let is_new = !self.is_starved(missing);
        self.0 |= starved_bit(missing);
        is_new
    }

    /// Returns whether it had a grant.
    fn take_grant(&mut self, missing: Missing) -> bool {
        let had_grant = self.is_granted(missing);
        self.0 &= !granted_bit(missing);
        had_grant
    }
}

const fn starved_bit(missing: Missing) -> u8 {
    1 << missing as u8
}

const fn granted_bit(missing: Missing) -> u8 {
    4 << missing as u8
}

/// The starved sockets: a queue for each kind of memory.
///
/// - Sockets are woken in order of arrival, as many as there is room for, [`WAKE_MAX`] of each
///   queue a turn at most. So a freed span costs one wake-up, however many sockets wait.
/// - They are woken when memory was freed since the last check, and every [`RETRY_INTERVAL`] in any
///   case: another worker may have freed memory since.
/// - A woken socket has a *grant* until it has taken memory of that kind. While others wait, a
///   socket below its guaranteed memory takes none without a grant, so that it doesn't overtake
///   them.
/// - Sockets that have sent little ([`SendClass::New`]) have a queue of their own. The two queues
///   take turns, and without a new socket in its queue another one takes what is free at once: a
///   short response doesn't wait for the records of all downloads. New sockets overtake
///   [`OVERTAKES_MAX`] more often than old sockets take memory, at most.
#[derive(Debug, Default)]
pub(crate) struct StarvedSockets {
    /// For each of [`Missing::ALL`] a queue for each [`SendClass`].
    queues: [[VecDeque<u32>; 2]; 2],
    /// Whether an old socket is woken next, for each of [`Missing::ALL`].
    is_old_next: [bool; 2],
    /// How often new sockets took what old ones waited for, less how often old ones took it.
    overtakes: [u32; 2],
    /// Whether an old socket was woken in the time since no socket waited.
    is_old_woken: [bool; 2],
    /// Memory in use at the last check.
    usage: PoolUsage,
    retry_at: Option<Instant>,
}

impl StarvedSockets {
    /// Lists a starved socket. Returns true if it wasn't listed yet, and wasn't woken in vain.
    pub(crate) fn add(&mut self, id: SocketId, missing: Missing, lists: &mut Membership) -> bool {
        let was_woken = lists.memory.take_grant(missing);
        let is_new = lists.memory.starve(missing);
        if is_new {
            self.queues[missing as usize][lists.class() as usize].push_back(id.index);
        }
        is_new && !was_woken
    }

    /// Takes the next socket that waits for this.
    pub(crate) fn pop(&mut self, missing: Missing) -> Option<u32> {
        let at = missing as usize;
        let [new, old] = &mut self.queues[at];
        let is_old = new.is_empty() || (self.is_old_next[at] && !old.is_empty());
        self.is_old_next[at] = !is_old;
        if !is_old {
            return new.pop_front();
        }
        self.is_old_woken[at] |= !old.is_empty();
        old.pop_front()
    }

    /// Whether a socket may take such memory now: it was woken to take some, or none waits for it
    /// that comes before.
    pub(crate) fn admits(&self, missing: Missing, lists: Membership) -> bool {
        let [new, old] = &self.queues[missing as usize];
        if lists.memory.is_granted(missing) {
            return true;
        }
        // Old sockets that were woken aren't in their queue, and may not have taken anything yet.
        let may_overtake = self.overtakes[missing as usize] < OVERTAKES_MAX;
        new.is_empty()
            && match lists.class() {
                SendClass::New => may_overtake,
                SendClass::Old => old.is_empty(),
            }
    }

    /// A socket has taken such memory.
    pub(crate) fn on_taken(&mut self, missing: Missing, lists: &mut Membership) {
        let overtakes = &mut self.overtakes[missing as usize];
        let had_grant = lists.memory.take_grant(missing);
        let is_old_waiting = !self.queues[missing as usize][SendClass::Old as usize].is_empty()
            || self.is_old_woken[missing as usize];
        match lists.class() {
            SendClass::Old if had_grant => *overtakes = overtakes.saturating_sub(1),
            SendClass::New if !had_grant && is_old_waiting => *overtakes += 1,
            SendClass::Old | SendClass::New => {}
        }
    }

    /// Whether any socket waits for page buffers or spans.
    pub(crate) fn is_waiting_for_pages(&self) -> bool {
        !self.is_empty()
    }

    /// Compares what is in use with the last check. Returns how many sockets at the front of each
    /// queue the caller has to wake, in the order of [`Missing::ALL`].
    pub(crate) fn count_to_wake(
        &mut self,
        now: Instant,
        is_reserve_filled: bool,
        usage: impl FnOnce() -> PoolUsage,
    ) -> [usize; 2] {
        if self.is_empty() {
            self.overtakes = [0; 2];
            self.is_old_woken = [false; 2];
            return [0; 2];
        }
        let usage = usage();
        let before = core::mem::replace(&mut self.usage, usage);
        let is_freed = usage.blocks_used < before.blocks_used
            || usage.small_spans_used < before.small_spans_used
            || usage.large_spans_used < before.large_spans_used;
        // The sockets that were woken last have taken something.
        let is_taken = usage.blocks_used > before.blocks_used
            || usage.small_spans_used > before.small_spans_used
            || usage.large_spans_used > before.large_spans_used;
        let is_due = self.retry_at.is_none_or(|at| now >= at);
        if !is_freed && !is_due {
            return [0; 2];
        }
        let spans = free_spans(usage);
        // A socket may wait to read, for which there is the reserve.
        let pages = free_blocks(&usage).min(spans);
        let rooms = [pages.max(u32::from(is_reserve_filled)), spans];
        let mut is_rest_due = false;
        let mut counts = [0; 2];
        for ((count, queues), room) in counts.iter_mut().zip(&self.queues).zip(rooms) {
            let waiting: usize = queues.iter().map(VecDeque::len).sum();
            let wanted = waiting.min(room as usize);
            *count = wanted.min(WAKE_MAX);
            is_rest_due |= wanted > WAKE_MAX;
        }
        self.retry_at = Some(if is_rest_due && is_taken {
            now
        } else {
            now + RETRY_INTERVAL
        });
        counts
    }

    /// When starved sockets are woken though nothing was freed here.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.is_empty()).then(|| self.retry_at.unwrap_or(Instant::ZERO))
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().flatten().all(VecDeque::is_empty)
    }
}

fn free_spans(usage: PoolUsage) -> u32 {
    let large = usage.large_spans.saturating_sub(usage.large_spans_used);
    let small = usage.small_spans.saturating_sub(usage.small_spans_used);
    large.saturating_add(small)
}

const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// Sockets of each queue that are woken in one turn.
const WAKE_MAX: usize = 64;
/// See [`StarvedSockets`].
const OVERTAKES_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn add(starved: &mut StarvedSockets, index: u32, missing: Missing) {
        let id = SocketId { index, serial: 0 };
        let mut lists = Membership::default();
        assert!(starved.add(id, missing, &mut lists) && lists.memory.is_starved(missing));
        assert!(
            !starved.add(id, missing, &mut lists),
            "a socket is listed once"
        );
    }

    fn used(large_spans_used: u32) -> PoolUsage {
        PoolUsage {
            blocks: 100,
            large_spans: 10,
            large_spans_used,
            ..PoolUsage::default()
        }
    }

    #[test]
    fn starved_sockets_are_woken_by_freed_memory_and_by_time() {
        let ms = Instant::from_millis;
        let us = Instant::from_micros;
        let mut starved = StarvedSockets::default();
        assert_eq!(starved.deadline(), None);
        assert_eq!(
            starved.count_to_wake(ms(0), false, || unreachable!()),
            [0; 2]
        );

        add(&mut starved, 7, Missing::Pages);
        add(&mut starved, 3, Missing::Pages);
        add(&mut starved, 4, Missing::Spans);
        assert_eq!(starved.deadline(), Some(Instant::ZERO));
        let mut wake = |now, spans| starved.count_to_wake(now, false, || used(spans));
        // The first check has nothing to compare with.
        assert_eq!(wake(ms(1), 10), [0, 0], "there is no room");
        assert_eq!(wake(us(1100), 9), [1, 1], "one span was freed");
        assert_eq!(wake(us(1200), 9), [0, 0], "nothing was freed");
        assert_eq!(wake(us(1300), 8), [2, 1], "two are free");
        assert_eq!(wake(us(2299), 8), [0, 0]);
        assert_eq!(wake(us(2300), 8), [2, 1], "time");
        assert_eq!(starved.deadline(), Some(us(3300)));
        assert_eq!(starved.pop(Missing::Pages), Some(7));
        assert_eq!(starved.pop(Missing::Spans), Some(4));
        assert_eq!(starved.pop(Missing::Pages), Some(3));
        assert_eq!(starved.deadline(), None);
    }

    /// With the buffer that sending leaves to receiving, a reader can go on in a full pool.
    #[test]
    fn the_reserve_is_room_for_a_reader() {
        let mut starved = StarvedSockets::default();
        add(&mut starved, 1, Missing::Pages);
        add(&mut starved, 2, Missing::Pages);
        add(&mut starved, 3, Missing::Spans);
        let mut wake = |ms, reserve| {
            let now = Instant::from_millis(ms);
            starved.count_to_wake(now, reserve, || used(10))
        };
        assert_eq!(wake(1, false), [0, 0]);
        assert_eq!(wake(2, true), [1, 0]);
    }

    /// Without a free block, what is queued already can still be sealed.
    #[test]
    fn sealing_needs_no_block() {
        let mut starved = StarvedSockets::default();
        add(&mut starved, 1, Missing::Pages);
        add(&mut starved, 2, Missing::Spans);
        let usage = PoolUsage {
            blocks_used: 100,
            ..used(2)
        };
        let counts = starved.count_to_wake(Instant::from_millis(1), false, || usage);
        assert_eq!(counts, [0, 1]);
    }

    /// A turn wakes a bounded number of sockets. If they took memory, the next turn wakes more.
    /// Otherwise the free memory is of the wrong size, and the next wake-up waits.
    #[test]
    fn a_turn_wakes_no_more_than_its_share() {
        let mut starved = StarvedSockets::default();
        let sockets = u32::try_from(2 * WAKE_MAX).unwrap() + 1;
        for index in 0..sockets {
            add(&mut starved, index, Missing::Pages);
        }
        let with_used = |large_spans_used| PoolUsage {
            blocks: 2000,
            large_spans: 1000,
            large_spans_used,
            ..PoolUsage::default()
        };
        let now = Instant::from_millis(5);
        let later = Instant::from_millis(6);
        assert_eq!(
            starved.count_to_wake(now, false, || with_used(0)),
            [WAKE_MAX, 0]
        );
        assert_eq!(starved.deadline(), Some(later));
        for _ in 0..WAKE_MAX {
            assert!(starved.pop(Missing::Pages).is_some());
        }
        assert_eq!(
            starved.count_to_wake(later, false, || with_used(60)),
            [WAKE_MAX, 0]
        );
        assert_eq!(starved.deadline(), Some(later), "the rest is due");
        for _ in 0..WAKE_MAX {
            assert!(starved.pop(Missing::Pages).is_some());
        }
        assert_eq!(
            starved.count_to_wake(later, false, || with_used(60)),
            [1, 0]
        );
    }

    #[test]
    fn a_socket_that_was_woken_in_vain_is_listed_again_and_not_counted() {
        let mut starved = StarvedSockets::default();
        let id = SocketId {
            index: 1,
            serial: 0,
        };
        let mut lists = Membership::default();
        lists.memory.starve(Missing::Pages);
        assert!(lists.memory.grant(Missing::Pages));
        assert!(!starved.add(id, Missing::Pages, &mut lists));
        assert!(!lists.memory.is_granted(Missing::Pages));
        assert_eq!(starved.pop(Missing::Pages), Some(1));
    }

    #[test]
    fn a_waiting_socket_is_not_overtaken() {
        let mut starved = StarvedSockets::default();
        let (plain, mut granted) = (Membership::default(), Membership::default());
        granted.memory.starve(Missing::Pages);
        granted.memory.grant(Missing::Pages);
        assert!(starved.admits(Missing::Pages, plain));
        add(&mut starved, 1, Missing::Spans);
        assert!(starved.admits(Missing::Pages, plain), "it waits for spans");
        add(&mut starved, 2, Missing::Pages);
        assert!(!starved.admits(Missing::Pages, plain));
        assert!(starved.admits(Missing::Pages, granted));
        assert!(!starved.admits(Missing::Spans, plain));
    }

    /// An old socket that was woken isn't in its queue any more. New sockets take what it was woken
    /// for a bounded number of times, however many they are.
    #[test]
    fn new_sockets_overtake_a_woken_socket_a_bounded_number_of_times() {
        let mut starved = StarvedSockets::default();
        let id = SocketId {
            index: 1,
            serial: 0,
        };
        let (mut download, mut taken) = (old(), 0);
        for _ in 0..10 {
            starved.add(id, Missing::Spans, &mut download);
            assert_eq!(starved.pop(Missing::Spans), Some(1));
            assert!(download.memory.grant(Missing::Spans));
            // They come first in the turn, and one takes the span that was freed.
            for _ in 0..20 {
                let mut new = Membership::default();
                if starved.admits(Missing::Spans, new) {
                    starved.on_taken(Missing::Spans, &mut new);
                    taken += 1;
                }
            }
        }
        assert!(taken <= OVERTAKES_MAX + 20, "{taken}");
        assert!(starved.admits(Missing::Spans, download));
        starved.on_taken(Missing::Spans, &mut download);
        assert!(starved.admits(Missing::Spans, Membership::default()));
        // Nothing waits: what was counted is over.
        starved.count_to_wake(Instant::ZERO, false, PoolUsage::default);
        assert_eq!(starved.overtakes, [0; 2]);
    }

    fn old() -> Membership {
        let mut lists = Membership::default();
        lists.become_old();
        lists
    }

    /// A short response takes a free buffer though downloads wait for some, and is woken before
    /// them. They have every second wake-up, and short responses without end overtake them a
    /// bounded number of times.
    #[test]
    fn new_sockets_wait_for_new_ones_only() {
        let mut starved = StarvedSockets::default();
        let mut add = |index, mut lists| {
            let id = SocketId { index, serial: 0 };
            assert!(starved.add(id, Missing::Pages, &mut lists));
        };
        (0..4).for_each(|index| add(index, old()));
        let mut new = Membership::default();
        let mut overtaken = 0;
        while starved.admits(Missing::Pages, new) {
            starved.on_taken(Missing::Pages, &mut new);
            overtaken += 1;
        }
        assert_eq!(overtaken, OVERTAKES_MAX);
        assert!(!starved.admits(Missing::Pages, old()));
        let mut add = |index, mut lists| {
            let id = SocketId { index, serial: 0 };
            assert!(starved.add(id, Missing::Pages, &mut lists));
        };
        (10..13).for_each(|index| add(index, new));
        let woken: Vec<u32> = core::iter::from_fn(|| starved.pop(Missing::Pages)).collect();
        assert_eq!(woken, [10, 0, 11, 1, 12, 2, 3]);
        assert!(starved.admits(Missing::Pages, old()));
    }
}

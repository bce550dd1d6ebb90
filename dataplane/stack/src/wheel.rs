//! A hierarchical timer wheel.
//!
//! Nine levels of 64 slots over ticks of 4.096 µs cover every [`Instant`], so no deadline is ever
//! clamped and nothing wraps. A timer's level is the highest group of six bits in which its tick
//! differs from the wheel's. In that group it is ahead of the wheel, and above it equal, so the
//! earliest slot of a level is the first set bit of its bitmap.
//!
//! Timers are entries of an array indexed by the caller's [`TimerKey`]; arming, moving and
//! cancelling are O(1) and allocate nothing. A deadline that moves later only changes the entry,
//! which is moved when its old slot comes up. That is the usual case: every acknowledgment pushes
//! the retransmission timer back.

use lockgate_wire::time::Instant;

/// Names one timer: a dense index given by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey(pub u32);

/// A timer wheel. Its time only moves in [`Wheel::expire`].
#[derive(Debug)]
pub struct Wheel {
    /// The current tick. All earlier ticks are done; entries of this one may be left.
    tick: u64,
    entries: Vec<TimerEntry>,
    /// The first entry of each slot, level by level.
    heads: Box<[u32]>,
    occupied: [u64; LEVELS],
    armed: u32,
}

/// One timer. `prev` of the first entry of a slot is the slot itself, with [`IN_SLOT`] set.
#[derive(Debug, Clone, Copy)]
struct TimerEntry {
    deadline: Instant,
    prev: u32,
    next: u32,
}

impl Wheel {
    /// Bytes of memory of each timer.
    pub const ENTRY_BYTES: usize = size_of::<TimerEntry>();

    /// Creates a wheel for keys below `capacity` that starts at `now`.
    pub fn new(now: Instant, capacity: u32) -> Self {
        let idle = TimerEntry {
            deadline: Instant::ZERO,
            prev: NONE,
            next: NONE,
        };
        Self {
            tick: tick_floor(now),
            entries: vec![idle; capacity as usize],
            heads: vec![NONE; LEVELS * SLOTS as usize].into_boxed_slice(),
            occupied: [0; LEVELS],
            armed: 0,
        }
    }

    /// Arms, moves or (with `None`) cancels a timer.
    ///
    /// # Panics
    /// If the key is not below the capacity.
    pub fn set(&mut self, key: TimerKey, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.arm(key, deadline),
            None => self.cancel(key),
        }
    }

    /// Disarms and returns one timer that is due at `now`. Returns `None` when nothing is due, or
    /// when `budget` is used up: every entry that is fired or moved to a lower level costs one.
    pub fn expire(&mut self, now: Instant, budget: &mut u32) -> Option<TimerKey> {
        let now_tick = tick_floor(now).max(self.tick);
        loop {
            let Some(Slot {
                index: slot_index,
                start,
            }) = self.first_slot().filter(|s| s.start <= now_tick)
            else {
                self.tick = now_tick;
                return None;
            };
            if *budget == 0 {
                return None;
            }
            *budget -= 1;
            self.tick = start;
            let key = self.heads[slot_index as usize];
            let deadline = self.entries[key as usize].deadline;
            self.unlink(key);
            if slot_index < SLOTS && deadline <= now {
                self.armed -= 1;
                return Some(TimerKey(key));
            }
            self.link(key, deadline);
        }
    }

    /// When [`Wheel::expire`] has to be called next. Never later than the earliest deadline rounded
    /// up to a tick. Earlier if entries have to be moved to a lower level first.
    pub fn next_timer(&self) -> Option<Instant> {
        self.first_slot()
            .map(|slot| Instant::from_nanos(slot.start << TICK_SHIFT))
    }

    /// The number of armed timers.
    pub fn armed(&self) -> u32 {
        self.armed
    }

    /// The deadline of a timer, if it is armed.
    pub fn deadline(&self, key: TimerKey) -> Option<Instant> {
        let entry = self.entries[key.0 as usize];
        (entry.prev != NONE).then_some(entry.deadline)
    }

    fn arm(&mut self, key: TimerKey, deadline: Instant) {
        let entry = &mut self.entries[key.0 as usize];
        if entry.prev != NONE {
            let later = deadline >= entry.deadline;
            entry.deadline = deadline;
            if later {
                return;
            }
            self.unlink(key.0);
        } else {
            self.armed += 1;
        }
        self.link(key.0, deadline);
    }

    fn cancel(&mut self, key: TimerKey) {
        if self.entries[key.0 as usize].prev != NONE {
            self.unlink(key.0);
            self.armed -= 1;
        }
    }

    fn link(&mut self, key: u32, deadline: Instant) {
        let tick = tick_ceil(deadline).max(self.tick);
        let differ = (tick ^ self.tick) | u64::from(SLOTS - 1);
        let level = (63 - differ.leading_zeros()) / SLOT_BITS;
        let slot = low_bits(tick >> (level * SLOT_BITS));
        let slot_index = level * SLOTS + slot;

        let next = self.heads[slot_index as usize];
        self.entries[key as usize] = TimerEntry {
            deadline,
            prev: IN_SLOT | slot_index,
            next,
        };
        if next != NONE {
            self.entries[next as usize].prev = key;
        }
        self.heads[slot_index as usize] = key;
        self.occupied[level as usize] |= 1 << slot;
    }

    fn unlink(&mut self, key: u32) {
        let TimerEntry { prev, next, .. } = self.entries[key as usize];
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev & IN_SLOT == 0 {
            self.entries[prev as usize].next = next;
        } else {
            let slot_index = prev & !IN_SLOT;
            self.heads[slot_index as usize] = next;
            if next == NONE {
                self.occupied[(slot_index / SLOTS) as usize] &= !(1 << (slot_index % SLOTS));
            }
        }
        self.entries[key as usize].prev = NONE;
        self.entries[key as usize].next = NONE;
    }

    /// The earliest slot that has entries. Of two slots that begin at the same tick, the one of the
    /// higher level comes first, because its entries may belong in the other.
    fn first_slot(&self) -> Option<Slot> {
        let mut first: Option<Slot> = None;
        for (level, slots) in (0..).zip(self.occupied).filter(|(_, slots)| *slots != 0) {
            let slot = slots.trailing_zeros();
            let shift = level * SLOT_BITS;
            let above = (self.tick >> shift) & !u64::from(SLOTS - 1);
            let start = (above | u64::from(slot)) << shift;
            if first.is_none_or(|earliest| start <= earliest.start) {
                first = Some(Slot {
                    index: level * SLOTS + slot,
                    start,
                });
            }
        }
        first
    }
}

/// A slot that has entries.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Its index among all slots, level by level.
    index: u32,
    /// The tick at which it begins.
    start: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "six bits are kept")]
const fn low_bits(n: u64) -> u32 {
    n as u32 & (SLOTS - 1)
}

fn tick_floor(at: Instant) -> u64 {
    at.as_nanos() >> TICK_SHIFT
}

fn tick_ceil(at: Instant) -> u64 {
    at.as_nanos().div_ceil(1 << TICK_SHIFT).min(LAST_TICK)
}

const TICK_SHIFT: u32 = 12;
const LAST_TICK: u64 = u64::MAX >> TICK_SHIFT;
const SLOT_BITS: u32 = 6;
const SLOTS: u32 = 1 << SLOT_BITS;
/// 9 * 6 bits hold every tick: an `Instant` has 64 bits, a tick 52.
const LEVELS: usize = 9;
const NONE: u32 = u32::MAX;
const IN_SLOT: u32 = 1 << 31;

const _: () = assert!(LEVELS * SLOT_BITS as usize >= 64 - TICK_SHIFT as usize);
const _: () = assert!(size_of::<TimerEntry>() == 16);

#[cfg(test)]
mod tests;

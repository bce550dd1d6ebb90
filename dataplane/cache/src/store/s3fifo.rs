//! S3-FIFO: which of the items in a memory is evicted next.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi: *FIFO queues are all you need for cache eviction* (SOSP 2023).
//! A new item is on probation in a *small* queue. At the end of that it moves to the *main* queue
//! if it was used more than once, else it is evicted, and a *ghost* of it is kept: its hash. An
//! item whose ghost is known is inserted into the main queue. So a scan, or requests that come
//! once, evict each other and not what is in demand.
//!
//! What differs from the paper:
//!
//! - Items have lengths. The small queue is to have a tenth of all bytes, but
//!   [`SMALL_BYTES_MIN`] of them and at most a half: what is read ahead waits there.
//! - Each site has a small queue of its own, and the longest one is evicted from. So the scan of a
//!   site takes no probation from another's items.
//! - Items that are pinned by a sender stay where they are.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

/// What S3-FIFO has to know of an item.
pub(super) trait Cached {
    fn usage(&self) -> Usage;

    /// Sets the number of uses.
    fn set_uses(&self, uses: u8);
}

/// Whether an item can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// It isn't in memory any more.
    Gone,
    /// No: evicting it would free nothing.
    Pinned,
    /// Yes. It was used so many times, up to [`USES_MAX`], since it was inserted or last looked at.
    Uses(u8),
}

/// The order of eviction of items.
pub(super) struct S3Fifo<T> {
    /// By site.
    small: Vec<Queue<T>>,
    /// Bytes and site of the small queues that aren't empty.
    by_bytes: BTreeSet<(u64, usize)>,
    small_bytes: u64,
    small_len: usize,
    small_bytes_min: u64,
    main: Queue<T>,
    ghosts: Ghosts,
}

/// An item, with what its eviction depends on.
pub(super) struct Entry<T> {
    pub(super) item: T,
    pub(super) bytes: u64,
    /// Identifies it, also after it was evicted and read again.
    pub(super) hash: u64,
    pub(super) site: usize,
}

/// What a step did.
pub(super) enum Step<T> {
    /// This one is to be evicted.
    Evict(Entry<T>),
    /// One was moved.
    Moved,
    /// All were looked at.
    End,
}

/// Steps for one purpose: how many more there may be.
pub(super) struct Sweep {
    small_left: usize,
    main_left: usize,
}

struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    bytes: u64,
}

impl<T: Cached> S3Fifo<T> {
    pub(super) fn new(small_bytes_min: u64) -> Self {
        Self {
            small: Vec::new(),
            by_bytes: BTreeSet::new(),
            small_bytes: 0,
            small_len: 0,
            small_bytes_min,
            main: Queue::default(),
            ghosts: Ghosts::default(),
        }
    }

    /// Inserts an item that wasn't in memory.
    pub(super) fn insert(&mut self, entry: Entry<T>) {
        if self.ghosts.remove(entry.hash) {
            self.main.push(entry);
        } else {
            self.push_small(entry);
        }
    }

    /// Returns an item that wasn't evicted after all: other items lie in the way.
    pub(super) fn put_back(&mut self, entry: Entry<T>) {
        self.main.push(entry);
    }

    /// Keeps a ghost of an item that was evicted.
    pub(super) fn remember(&mut self, hash: u64) {
        let max = self.small_len + self.main.entries.len();
        self.ghosts.insert(hash, max.max(GHOSTS_MIN));
    }

    /// Begins to look for items to evict: each of them is looked at as often as it may take to find
    /// that it can be, up to [`STEPS_MAX`] in all.
    pub(super) fn sweep(&self) -> Sweep {
        let rounds = usize::from(USES_MAX) + 1;
        Sweep {
            small_left: self.small_len.min(STEPS_MAX),
            main_left: (rounds * (self.main.entries.len() + self.small_len)).min(STEPS_MAX),
        }
    }

    /// Looks at the next item. Items that are gone don't count as looked at.
    pub(super) fn step(&mut self, sweep: &mut Sweep) -> Step<T> {
        let is_long = self.small_bytes >= self.small_bytes_max();
        if sweep.small_left > 0
            && (is_long || self.main.entries.is_empty() || sweep.main_left == 0)
            && let Some(entry) = self.pop_small()
        {
            return self.leave_small(entry, sweep);
        }
        if sweep.main_left > 0
            && let Some(entry) = self.main.pop()
        {
            return self.leave_main(entry, sweep);
        }
        Step::End
    }

    /// Removes the entries of items that are gone. Takes as long as there are entries.
    pub(super) fn forget_gone(&mut self) {
        let sites: Vec<_> = self.by_bytes.iter().map(|(_, site)| *site).collect();
        for site in sites {
            let (entries, bytes) = self.change_small(site, Queue::forget_gone);
            self.small_len -= entries;
            self.small_bytes -= bytes;
        }
        self.main.forget_gone();
    }

    /// The number of entries. Entries of items that are gone count, too.
    pub(super) fn len(&self) -> usize {
        self.small_len + self.main.entries.len()
    }

    fn leave_small(&mut self, entry: Entry<T>, sweep: &mut Sweep) -> Step<T> {
        let usage = entry.item.usage();
        if usage != Usage::Gone {
            sweep.small_left -= 1;
        }
        match usage {
            Usage::Gone => {}
            Usage::Pinned => self.push_small(entry),
            Usage::Uses(uses) if uses > PROBATION_USES => {
                entry.item.set_uses(0);
                self.main.push(entry);
            }
            Usage::Uses(_) => return Step::Evict(entry),
        }
        Step::Moved
    }

    fn leave_main(&mut self, entry: Entry<T>, sweep: &mut Sweep) -> Step<T> {
        let usage = entry.item.usage();
        if usage != Usage::Gone {
            sweep.main_left -= 1;
        }
        match usage {
            Usage::Gone => {}
            Usage::Pinned => self.main.push(entry),
            Usage::Uses(0) => return Step::Evict(entry),
            Usage::Uses(uses) => {
                entry.item.set_uses(uses - 1);
                self.main.push(entry);
            }
        }
        Step::Moved
    }

    fn small_bytes_max(&self) -> u64 {
        let all = self.small_bytes + self.main.bytes;
        (all / SMALL_DIVISOR).max(self.small_bytes_min.min(all / 2))
    }

    fn push_small(&mut self, entry: Entry<T>) {
        let site = entry.site;
        if self.small.len() <= site {
            self.small.resize_with(site + 1, Queue::default);
        }
        self.small_bytes += entry.bytes;
        self.small_len += 1;
        self.change_small(site, |queue| queue.push(entry));
    }

    fn pop_small(&mut self) -> Option<Entry<T>> {
        let (_, site) = *self.by_bytes.last()?;
        let entry = self.change_small(site, Queue::pop)?;
        self.small_bytes -= entry.bytes;
        self.small_len -= 1;
        Some(entry)
    }

    fn change_small<R>(&mut self, site: usize, change: impl FnOnce(&mut Queue<T>) -> R) -> R {
        let queue = &mut self.small[site];
        self.by_bytes.remove(&(queue.bytes, site));
        let result = change(queue);
        if !queue.entries.is_empty() {
            self.by_bytes.insert((queue.bytes, site));
        }
        result
    }
}

impl<T> Queue<T> {
    fn push(&mut self, entry: Entry<T>) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

impl<T: Cached> Queue<T> {
    /// Removes the entries of items that are gone. Returns how many, and their bytes.
    fn forget_gone(&mut self) -> (usize, u64) {
        let (len, bytes) = (self.entries.len(), self.bytes);
        self.entries.retain(|entry| {
            let is_gone = entry.item.usage() == Usage::Gone;
            self.bytes -= if is_gone { entry.bytes } else { 0 };
            !is_gone
        });
        (len - self.entries.len(), bytes - self.bytes)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// Hashes of items that were evicted last.
#[derive(Default)]
struct Ghosts {
    /// By age, with numbers. One whose number isn't that of `numbers` was removed.
    order: VecDeque<(u64, u64)>,
    /// By hash.
    numbers: HashMap<u64, u64>,
    next: u64,
}

impl Ghosts {
    fn insert(&mut self, hash: u64, max: usize) {
        self.next += 1;
        self.numbers.insert(hash, self.next);
        self.order.push_back((hash, self.next));
        while self.order.len() > max {
            let Some((hash, number)) = self.order.pop_front() else {
                return;
            };
            if self.numbers.get(&hash) == Some(&number) {
                self.numbers.remove(&hash);
            }
        }
    }

    /// Returns whether it was there.
    fn remove(&mut self, hash: u64) -> bool {
        self.numbers.remove(&hash).is_some()
    }
}

/// The uses that are counted.
pub(super) const USES_MAX: u8 = 3;

/// More uses than these on probation lead to the main queue.
const PROBATION_USES: u8 = 1;

/// The small queues are to have this part of all bytes.
const SMALL_DIVISOR: u64 = 10;

/// The small queues have so many bytes in any case, or half of all.
pub(super) const SMALL_BYTES_MIN: u64 = 2 << 20;

/// Items that are looked at for one allocation. The next one continues behind them.
const STEPS_MAX: usize = 4_096;

/// Ghosts that are kept of a few large items.
const GHOSTS_MIN: usize = 16;

#[cfg(test)]
mod tests;

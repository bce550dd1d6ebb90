//! A worker's pool of page buffers: blocks, and spans for their bodies.

mod alloc;
pub(crate) mod inner;

use std::fmt;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::Ordering;

use self::inner::{CLOSED, PoolInner};
use crate::block::{Block, Memory};
#[cfg(feature = "fault-injection")]
use crate::injection::Injection;
use crate::region::{BORDER, PAGE, Region, RegionFull, carve_items, left_in};
use crate::spans::{LARGE_SPAN, SMALL_SPAN, Spans};
use crate::thread;

/// Sizes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Number of page buffers, whether their body is a small span, a large one or page cache.
    pub blocks: u32,
    /// Number of spans of [`SMALL_SPAN`] bytes.
    pub small_spans: u32,
    /// Number of spans of [`LARGE_SPAN`] bytes, for one record each.
    pub large_spans: u32,
}

/// A pool of page buffers that belongs to the thread that made it.
///
/// Its buffers may be dropped on any thread. Those dropped on other threads return with the next
/// [`PagePool::reclaim`]. A pool that is dropped while buffers are in use stays in memory until the
/// last of them is dropped.
pub struct PagePool {
    inner: NonNull<PoolInner>,
}

impl PagePool {
    /// Carves a pool out of a region, for the calling thread.
    ///
    /// # Errors
    /// [`RegionFull`] if the region has less than [`PagePool::bytes_needed`] left.
    pub fn new(region: &mut Region, config: PoolConfig) -> Result<Self, RegionFull> {
        Self::from_regions(slice::from_mut(region), config)
    }

    /// Carves a pool out of several regions, for the calling thread. No span crosses a border of
    /// 2 MiB, so a device sees each in one piece, also by physical addresses.
    ///
    /// # Errors
    /// [`RegionFull`] if the regions have less than [`PagePool::bytes_needed`] left, and 64 KiB
    /// more for each region but the first.
    pub fn from_regions(regions: &mut [Region], config: PoolConfig) -> Result<Self, RegionFull> {
        let (wanted, left) = (Self::bytes_needed(config), left_in(regions));
        if left < wanted {
            return Err(RegionFull { wanted, left });
        }
        let blocks = carve_items(regions, size_of::<Block>(), CACHE_LINE, config.blocks)?;
        let small = SMALL_SPAN as usize;
        let small = carve_items(regions, small, small, config.small_spans)?;
        let large = carve_items(regions, LARGE_SPAN as usize, PAGE, config.large_spans)?;
        let spans = [
            Spans::new(&small, SMALL_SPAN),
            Spans::new(&large, LARGE_SPAN),
        ];
        let parts = small.into_iter().chain(large).map(|run| run.part).collect();
        // SAFETY: the blocks were carved just now.
        let inner = unsafe { PoolInner::new(blocks, spans, parts) };
        Ok(Self { inner })
    }

    /// Returns the bytes that a pool of this size takes out of a region, at most.
    pub fn bytes_needed(config: PoolConfig) -> usize {
        let (small, large) = (SMALL_SPAN as usize, LARGE_SPAN as usize);
        let aligned = CACHE_LINE + small + PAGE;
        // Up to a span is lost in front of the first border, and the same number of bytes in front
        // of each further one.
        let borders = (config.large_spans as usize).div_ceil(BORDER / large);
        let lost = large + borders * (BORDER % large);
        let blocks = config.blocks as usize * size_of::<Block>();
        let spans = config.small_spans as usize * small + config.large_spans as usize * large;
        blocks + spans + aligned + lost
    }

    /// Returns buffers freed on other threads to the free lists. To be called once a turn;
    /// allocation does it when a free list is empty.
    pub fn reclaim(&mut self) {
        self.inner().reclaim();
    }

    /// Returns the usage.
    pub fn usage(&self) -> PoolUsage {
        let pool = self.inner();
        PoolUsage {
            blocks: pool.blocks,
            blocks_used: pool.blocks_used.get(),
            small_spans: pool.small.count,
            small_spans_used: pool.small.used(),
            large_spans: pool.large.count,
            large_spans_used: pool.large.used(),
            failures: pool.failures.get(),
        }
    }

    /// Returns whether nothing is in use, as of the last [`PagePool::reclaim`].
    pub fn is_full(&self) -> bool {
        let u = self.usage();
        u.blocks_used == 0 && u.small_spans_used == 0 && u.large_spans_used == 0
    }

    /// Gives up ownership, so that another thread can take the pool over. Until then every buffer
    /// that is dropped waits for [`DetachedPool::adopt`].
    pub fn detach(self) -> DetachedPool {
        // From now on frees on this thread, too, go to the list of returned blocks.
        self.inner().owner.store(NO_THREAD, Ordering::Relaxed);
        DetachedPool(self)
    }

    /// Makes about one allocation in `one_in` fail from now on, drawn from `seed`; 0: none.
    #[cfg(feature = "fault-injection")]
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        self.inner().injection.set(Injection::new(seed, one_in));
    }

    /// Takes a span with room for `capacity` bytes, to seal into. Returns it and its body's
    /// address.
    pub(crate) fn take_span(&self, capacity: u32) -> Option<(Memory, NonNull<u8>)> {
        let pool = self.inner();
        if pool.draw_failure() {
            None
        } else {
            pool.take_span(capacity)
        }
    }

    /// Returns an unused span to the pool.
    pub(crate) fn put_span(&self, memory: &Memory) {
        self.inner().put_span(memory);
    }

    pub(crate) fn owns(&self, block: &Block) -> bool {
        block.pool == self.inner
    }

    fn inner(&self) -> &PoolInner {
        // SAFETY: it lives at least as long as this.
        unsafe { self.inner.as_ref() }
    }
}

impl Drop for PagePool {
    fn drop(&mut self) {
        let pool = self.inner();
        // From now on every free, also on this thread, finds the return list closed.
        pool.owner.store(NO_THREAD, Ordering::Relaxed);
        pool.take_back_list(pool.returned.swap(CLOSED, Ordering::Acquire));
        let home = pool.blocks - pool.blocks_used.get();
        // SAFETY: these blocks and the pool's handle aren't used any more.
        unsafe { PoolInner::release_uses(self.inner, home + 1) }
    }
}

/// A pool that no thread owns: one thread has given it up, and another may [adopt](Self::adopt) it.
/// A worker's pool is counted so after its ports are closed, since their rings hold buffers.
#[derive(Debug)]
pub struct DetachedPool(PagePool);

// SAFETY: the value is the only access to the pool's cells: no thread is the owner, so frees on any
// thread only push to the list of returned blocks. Whatever passes the value between two threads
// orders what they do.
unsafe impl Send for DetachedPool {}

impl DetachedPool {
    /// Makes the calling thread the pool's owner, and returns buffers to the free lists that were
    /// dropped meanwhile.
    pub fn adopt(self) -> PagePool {
        let Self(mut pool) = self;
        pool.inner()
            .owner
            .store(thread::current(), Ordering::Relaxed);
        pool.reclaim();
        pool
    }
}

impl fmt::Debug for PagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.usage(), f)
    }
}

/// Usage of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Number of blocks.
    pub blocks: u32,
    /// Blocks in use.
    pub blocks_used: u32,
    /// Number of small spans.
    pub small_spans: u32,
    /// Small spans in use.
    pub small_spans_used: u32,
    /// Number of large spans.
    pub large_spans: u32,
    /// Large spans in use.
    pub large_spans_used: u32,
    /// Failed allocations since the start, injected failures included.
    pub failures: u64,
}

/// No buffer is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no buffer is free")
    }
}

impl std::error::Error for Exhausted {}

const CACHE_LINE: usize = 64;
/// The owner of a pool that no thread owns. Threads are numbered from 1.
const NO_THREAD: u64 = 0;

#[cfg(test)]
mod tests;

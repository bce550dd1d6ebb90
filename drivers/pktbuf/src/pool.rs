//! A worker's pool of blocks and spans.

use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::arena::SharedSpan;
use crate::block::{BLOCK_SIZE, Block, Fields, Memory};
use crate::buffer::Buffer;
#[cfg(feature = "fault-injection")]
use crate::injection::Injection;
use crate::page::PageBuf;
use crate::region::{Part, Region, RegionFull};
use crate::spans::Spans;
use crate::thread;

/// How much a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Page buffers, of either kind of span or of none of their own (page cache).
    pub blocks: u32,
    /// Spans of [`SMALL_SPAN`] bytes.
    pub small_spans: u32,
    /// Spans of [`LARGE_SPAN`] bytes: a record each.
    pub large_spans: u32,
}

/// A pool of page buffers. It belongs to the thread that made it; the buffers may go anywhere, and
/// what is dropped elsewhere comes back with the next [`PagePool::reclaim`].
///
/// A pool that is dropped while buffers are out stays in memory until the last of them is dropped.
pub struct PagePool {
    inner: NonNull<PoolInner>,
}

impl PagePool {
    /// Carves a pool out of a region, for this thread.
    pub fn new(region: &mut Region, config: PoolConfig) -> Result<Self, RegionFull> {
        let part = region.carve(Self::bytes_needed(config), CACHE_LINE)?;
        let blocks = part.base.cast::<Block>();
        let block_bytes = config.blocks as usize * size_of::<Block>();
        // SAFETY: `bytes_needed` has the blocks first,
        let small = unsafe { part.base.add(block_bytes) };
        // SAFETY: then the small spans, then the large ones.
        let large = unsafe { small.add(config.small_spans as usize * SMALL_SPAN as usize) };
        let inner = NonNull::from(Box::leak(Box::new(PoolInner {
            owner: AtomicU64::new(thread::current()),
            returned: AtomicPtr::new(ptr::null_mut()),
            users: AtomicU32::new(config.blocks + 1),
            free: Cell::new(ptr::null_mut()),
            blocks_used: Cell::new(config.blocks),
            small: Spans::new(small, SMALL_SPAN, config.small_spans),
            large: Spans::new(large, LARGE_SPAN, config.large_spans),
            failures: Cell::new(0),
            #[cfg(feature = "fault-injection")]
            injection: Cell::new(Injection::new(0, 0)),
            config,
            _part: part,
        })));
        for i in (0..config.blocks as usize).rev() {
            // SAFETY: within the blocks' memory.
            let block = unsafe { blocks.add(i) };
            // SAFETY: as above, and aligned.
            unsafe { block.write(Block::new(inner, block)) };
            // SAFETY: made just now, and so was the block.
            let pool = unsafe { inner.as_ref() };
            pool.put_block(block);
        }
        Ok(Self { inner })
    }

    /// How much memory a pool of this size takes out of a region (and up to a cache line more, for
    /// its alignment).
    pub fn bytes_needed(config: PoolConfig) -> usize {
        let spans = config.small_spans as usize * SMALL_SPAN as usize
            + config.large_spans as usize * LARGE_SPAN as usize;
        config.blocks as usize * size_of::<Block>() + spans
    }

    /// An empty plain buffer with room for `capacity` bytes and for record header and trailer.
    /// `None` if none is free, or if `capacity` is more than [`LARGE_CAPACITY`].
    pub fn alloc(&mut self, capacity: u32) -> Option<PageBuf> {
        self.inner().alloc(capacity)
    }

    /// A plain buffer whose body is `len` bytes of the page cache from `at`, by reference. `None`
    /// if no block is free, or if the range isn't in the span.
    pub fn alloc_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> Option<PageBuf> {
        let end = (at as usize).checked_add(len as usize)?;
        let body = span.get(at as usize..end)?.as_ptr().cast_mut();
        let pool = self.inner();
        if pool.fails() {
            return None;
        }
        let block = pool.take_block()?;
        Some(PoolInner::lend(
            block,
            Memory::Shared(Arc::clone(span)),
            body,
            len,
        ))
    }

    /// A compact received buffer with a copy of `bytes`.
    pub fn alloc_buffer(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let mut page = self.alloc(u32::try_from(bytes.len()).ok()?)?;
        page.append(bytes);
        page.into_buffer().ok()
    }

    /// Takes back what was freed on other threads. Once a turn; allocation does it too when a free
    /// list is empty.
    pub fn reclaim(&mut self) {
        self.inner().reclaim();
    }

    /// How much is in use.
    pub fn usage(&self) -> PoolUsage {
        let pool = self.inner();
        PoolUsage {
            blocks: pool.config.blocks,
            blocks_used: pool.blocks_used.get(),
            small_spans: pool.small.count,
            small_spans_used: pool.small.used(),
            large_spans: pool.large.count,
            large_spans_used: pool.large.used(),
            failures: pool.failures.get(),
        }
    }

    /// Whether everything is back (after a [`PagePool::reclaim`]).
    pub fn is_full(&self) -> bool {
        let u = self.usage();
        u.blocks_used == 0 && u.small_spans_used == 0 && u.large_spans_used == 0
    }

    /// From now on about one allocation in `one_in` fails, chosen by `seed`; 0: none does.
    #[cfg(feature = "fault-injection")]
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        self.inner().injection.set(Injection::new(seed, one_in));
    }

    /// What a buffer of its own memory with this capacity pins, if small enough for any.
    pub(crate) fn true_size_for(capacity: u32) -> Option<u32> {
        let span = if capacity <= SMALL_CAPACITY {
            SMALL_SPAN
        } else {
            LARGE_SPAN
        };
        (capacity <= LARGE_CAPACITY).then_some(BLOCK_SIZE + span)
    }

    /// A span of the pool with room for `capacity` bytes, to seal into, and where its body begins.
    pub(crate) fn take_span(&self, capacity: u32) -> Option<(Memory, NonNull<u8>)> {
        let pool = self.inner();
        if pool.fails() {
            None
        } else {
            pool.take_span(capacity)
        }
    }

    /// Gives back a span that was taken and not used.
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
        // From now on every free, on this thread too, finds the return list closed.
        pool.owner.store(0, Ordering::Relaxed);
        pool.take_in(pool.returned.swap(CLOSED, Ordering::Acquire));
        let home = pool.config.blocks - pool.blocks_used.get();
        // SAFETY: these blocks and the pool's handle aren't used any more.
        unsafe { PoolInner::leave(self.inner, home + 1) }
    }
}

impl fmt::Debug for PagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.usage(), f)
    }
}

/// What a pool has and what is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Blocks in all.
    pub blocks: u32,
    /// Blocks out.
    pub blocks_used: u32,
    /// Small spans in all.
    pub small_spans: u32,
    /// Small spans out.
    pub small_spans_used: u32,
    /// Large spans in all.
    pub large_spans: u32,
    /// Large spans out.
    pub large_spans_used: u32,
    /// Allocations that failed since the start, injected failures included.
    pub failures: u64,
}

/// Nothing is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no buffer is free")
    }
}

impl std::error::Error for Exhausted {}

/// The pool as its blocks know it. All but `owner` and `returned` is the owner thread's alone.
pub(crate) struct PoolInner {
    owner: AtomicU64,
    /// Blocks freed on other threads, linked. Any thread pushes one, the owner takes all: so a push
    /// needs no memory and can't fail, and a block can't come back between load and exchange.
    returned: AtomicPtr<Block>,
    /// The handle and all blocks; since the handle was dropped, only blocks that are out.
    users: AtomicU32,
    free: Cell<*mut Block>,
    blocks_used: Cell<u32>,
    small: Spans,
    large: Spans,
    failures: Cell<u64>,
    #[cfg(feature = "fault-injection")]
    injection: Cell<Injection>,
    config: PoolConfig,
    _part: Part,
}

impl PoolInner {
    /// Takes a block whose last count is gone.
    ///
    /// # Safety
    ///
    /// Nobody uses the block any more, and it's freed once.
    pub(crate) unsafe fn free(block: NonNull<Block>) {
        // SAFETY: nobody else uses the block.
        let inner = unsafe { block.as_ref() }.pool;
        // SAFETY: a block that is out keeps its pool.
        let pool = unsafe { inner.as_ref() };
        if pool.is_owner() {
            // SAFETY: the caller's promise, on the owner's thread.
            unsafe { pool.take_back(block) };
            return;
        }
        // SAFETY: nobody else uses the block.
        let fields = unsafe { &mut (*block.as_ptr()).fields };
        let mut head = pool.returned.load(Ordering::Relaxed);
        while !ptr::eq(head, CLOSED) {
            fields.links.next = head;
            // After this succeeds neither block nor pool is ours to touch.
            match pool.returned.compare_exchange_weak(
                head,
                block.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
        // The pool's handle is gone.
        fields.memory = Memory::None;
        // SAFETY: the block isn't used any more.
        unsafe { Self::leave(inner, 1) }
    }

    /// Gives up `count` uses of the pool; with the last of all it's freed.
    ///
    /// # Safety
    ///
    /// The caller has them, and the pool was closed.
    unsafe fn leave(inner: NonNull<Self>, count: u32) {
        // SAFETY: the caller's uses keep it.
        let users = unsafe { &(*inner.as_ptr()).users };
        if users.fetch_sub(count, Ordering::AcqRel) == count {
            // SAFETY: made by Box::leak, and nobody uses it any more.
            drop(unsafe { Box::from_raw(inner.as_ptr()) });
        }
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread::current()
    }

    fn alloc(&self, capacity: u32) -> Option<PageBuf> {
        if self.fails() {
            return None;
        }
        let block = self.take_block()?;
        let Some((memory, body)) = self.take_span(capacity) else {
            self.put_block(block);
            return None;
        };
        Some(Self::lend(block, memory, body.as_ptr(), 0))
    }

    /// Makes a free block a plain buffer with this body, counted once.
    fn lend(block: NonNull<Block>, memory: Memory, body: *mut u8, body_len: u32) -> PageBuf {
        let ptr = block.as_ptr();
        // SAFETY: a free block is ours alone.
        let fields = unsafe { &mut (*ptr).fields };
        *fields = Fields {
            memory,
            body,
            body_len,
            ..Fields::free()
        };
        // SAFETY: as above.
        let shared = unsafe { &(*ptr).shared };
        shared.refcnt.store(1, Ordering::Relaxed);
        PageBuf(block)
    }

    fn reclaim(&self) {
        if self.returned.load(Ordering::Relaxed).is_null() {
            return;
        }
        self.take_in(self.returned.swap(ptr::null_mut(), Ordering::Acquire));
    }

    /// Takes in a list of returned blocks, which are the owner's now.
    fn take_in(&self, mut next: *mut Block) {
        while let Some(block) = NonNull::new(next) {
            // SAFETY: a returned block is the owner's.
            next = unsafe { block.as_ref() }.fields.links.next;
            // SAFETY: its last count is gone.
            unsafe { self.take_back(block) };
        }
    }

    /// Puts a block into the free list, and what it holds where it belongs.
    ///
    /// # Safety
    ///
    /// On the owner's thread; the block is this pool's, not free, and nobody uses it any more.
    unsafe fn take_back(&self, block: NonNull<Block>) {
        // SAFETY: the caller's promise.
        let fields = unsafe { &mut (*block.as_ptr()).fields };
        let memory = std::mem::replace(&mut fields.memory, Memory::None);
        // Page cache is released last: it may free a file's span.
        self.put_span(&memory);
        // SAFETY: as above.
        let shared = unsafe { &(*block.as_ptr()).shared };
        shared.refcnt.store(0, Ordering::Relaxed);
        self.put_block(block);
    }

    fn take_block(&self) -> Option<NonNull<Block>> {
        if self.free.get().is_null() {
            self.reclaim();
        }
        let Some(block) = NonNull::new(self.free.get()) else {
            self.count_failure();
            return None;
        };
        // SAFETY: a free block is ours.
        self.free.set(unsafe { block.as_ref() }.fields.links.next);
        self.blocks_used.set(self.blocks_used.get() + 1);
        Some(block)
    }

    fn put_block(&self, block: NonNull<Block>) {
        // SAFETY: a free block is ours.
        unsafe { (*block.as_ptr()).fields.links.next = self.free.get() };
        self.free.set(block.as_ptr());
        self.blocks_used.set(self.blocks_used.get() - 1);
    }

    /// A span with room for `capacity`, and where its body begins. When small ones are out, a large
    /// one serves.
    fn take_span(&self, capacity: u32) -> Option<(Memory, NonNull<u8>)> {
        let taken = self.pick_span(capacity).or_else(|| {
            self.reclaim();
            self.pick_span(capacity)
        });
        let Some((memory, span)) = taken else {
            self.count_failure();
            return None;
        };
        // SAFETY: every span is longer than the head room.
        Some((memory, unsafe { span.add(HEAD_ROOM as usize) }))
    }

    fn pick_span(&self, capacity: u32) -> Option<(Memory, NonNull<u8>)> {
        if capacity <= SMALL_CAPACITY
            && let Some(span) = self.small.pop()
        {
            return Some((Memory::Small(span), span));
        }
        if capacity <= LARGE_CAPACITY
            && let Some(span) = self.large.pop()
        {
            return Some((Memory::Large(span), span));
        }
        None
    }

    fn put_span(&self, memory: &Memory) {
        if cfg!(debug_assertions)
            && let Some((span, _)) = memory.own()
        {
            // SAFETY: every span is longer than the head room.
            let body = unsafe { span.add(HEAD_ROOM as usize) };
            // Who reads it after the last free reads this.
            // SAFETY: there's room for more, and nobody uses it.
            unsafe { body.write_bytes(FREED, 256) };
        }
        match memory {
            Memory::Small(span) => self.small.push(*span),
            Memory::Large(span) => self.large.push(*span),
            Memory::None | Memory::Shared(_) => {}
        }
    }

    /// Whether this allocation is one that the injection makes fail.
    #[cfg(feature = "fault-injection")]
    fn fails(&self) -> bool {
        let mut injection = self.injection.get();
        if injection.is_off() {
            return false;
        }
        let failed = injection.strikes();
        self.injection.set(injection);
        if failed {
            self.count_failure();
        }
        failed
    }

    /// Without `fault-injection` none does.
    #[cfg(not(feature = "fault-injection"))]
    const fn fails(&self) -> bool {
        false
    }

    fn count_failure(&self) {
        self.failures.set(self.failures.get() + 1);
    }
}

/// Bytes of a small span.
pub const SMALL_SPAN: u32 = 2048;
/// Bytes of a large span: the longest record there is, received ones with their expansion included,
/// in whole pages. Spans that share pages with each other would be shorter, and sealing into them
/// a twentieth slower.
pub const LARGE_SPAN: u32 = 5 * 4096;
/// What fits into a small span's body.
pub const SMALL_CAPACITY: u32 = SMALL_SPAN - HEAD_ROOM - TAIL_ROOM;
/// What fits into a large span's body.
pub const LARGE_CAPACITY: u32 = LARGE_SPAN - HEAD_ROOM - TAIL_ROOM;
/// In front of a body: a record's header right before it, or the description of a received
/// buffer at the span's begin. A multiple of a cache line, as spans are, so bodies are aligned.
pub(crate) const HEAD_ROOM: u32 = 128;
/// Behind a body: a record's trailer.
pub(crate) const TAIL_ROOM: u32 = 64;

const CACHE_LINE: usize = 64;
const FREED: u8 = 0xdd;
/// Where no block is: the end of a return list that takes no more.
const CLOSED: *mut Block = ptr::without_provenance_mut(1);
const _: () = assert!(HEAD_ROOM.is_multiple_of(64) && BLOCK_SIZE.is_multiple_of(64));
const _: () = assert!(SMALL_SPAN.is_multiple_of(64) && LARGE_SPAN.is_multiple_of(64));
// RFC 8446, 5.2: a record of 2^14 + 256 bytes behind a header of 5.
const _: () = assert!(LARGE_CAPACITY >= 16_384 + 256 + 5);

#[cfg(test)]
mod tests;

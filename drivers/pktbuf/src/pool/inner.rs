//! State of a pool that its blocks refer to: the free lists, and the list of blocks that other
//! threads freed.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::block::{Block, Memory, Source};
#[cfg(feature = "fault-injection")]
use crate::injection::Injection;
use crate::region::{Part, Run};
use crate::spans::{HEAD_ROOM, LARGE_CAPACITY, SMALL_CAPACITY, Spans};
use crate::thread;

/// State that a pool's handle and its blocks share. Only the owner thread accesses it, except for
/// `owner`, `returned` and `users`.
pub(crate) struct PoolInner {
    pub(super) owner: AtomicU64,
    /// List of blocks freed on other threads. Any thread pushes one block, the owner takes the
    /// whole list. So a push allocates nothing, can't fail, and has no ABA problem.
    pub(super) returned: AtomicPtr<Block>,
    /// Uses of this state: the handle and all blocks; after the handle is dropped, blocks in use.
    pub(super) users: AtomicU32,
    pub(super) free: Cell<*mut Block>,
    pub(super) blocks_used: Cell<u32>,
    pub(super) small: Spans,
    pub(super) large: Spans,
    pub(super) failures: Cell<u64>,
    #[cfg(feature = "fault-injection")]
    pub(super) injection: Cell<Injection>,
    pub(super) blocks: u32,
    /// Memory of the blocks and spans.
    _parts: Vec<Part>,
}

impl PoolInner {
    /// A pool for this thread, with all blocks and spans free.
    ///
    /// # Safety
    ///
    /// The runs have memory for blocks, which nothing else uses; `spans` are in `parts`.
    pub(super) unsafe fn new(
        runs: Vec<Run>,
        [small, large]: [Spans; 2],
        mut parts: Vec<Part>,
    ) -> NonNull<Self> {
        let blocks = |run: &Run| {
            let first = run.part.base.cast::<Block>();
            (0..run.items).rev().map(move |i| {
                // SAFETY: within the run's memory.
                unsafe { first.add(i) }
            })
        };
        let blocks: Vec<NonNull<Block>> = runs.iter().rev().flat_map(blocks).collect();
        let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        parts.extend(runs.into_iter().map(|run| run.part));
        let inner = NonNull::from(Box::leak(Box::new(Self {
            owner: AtomicU64::new(thread::current()),
            returned: AtomicPtr::new(ptr::null_mut()),
            users: AtomicU32::new(count + 1),
            free: Cell::new(ptr::null_mut()),
            blocks_used: Cell::new(count),
            small,
            large,
            failures: Cell::new(0),
            #[cfg(feature = "fault-injection")]
            injection: Cell::new(Injection::new(0, 0)),
            blocks: count,
            _parts: parts,
        })));
        for block in blocks {
            // SAFETY: memory for a block, and aligned.
            unsafe { block.write(Block::new(inner, block)) };
            // SAFETY: made just now, and so was the block.
            let pool = unsafe { inner.as_ref() };
            pool.put_block(block);
        }
        inner
    }

    /// Frees a block whose last reference was released.
    ///
    /// # Safety
    ///
    /// The block isn't used any more, and is freed once.
    pub(crate) unsafe fn free(block: NonNull<Block>) {
        // SAFETY: the caller has the only use of the block.
        let inner = unsafe { block.as_ref() }.pool;
        // SAFETY: a block in use keeps its pool.
        let pool = unsafe { inner.as_ref() };
        if pool.is_owner() {
            // SAFETY: the caller's promise, on the owner's thread.
            unsafe { pool.take_back(block) };
            return;
        }
        // SAFETY: the caller has the only use of the block.
        let fields = unsafe { &mut (*block.as_ptr()).fields };
        let mut head = pool.returned.load(Ordering::Relaxed);
        while !ptr::eq(head, CLOSED) {
            fields.links.next = head;
            // After success neither block nor pool may be accessed.
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
        // The pool's handle was dropped.
        fields.memory = Memory::None;
        fields.source = Source::None;
        // SAFETY: the block isn't used any more.
        unsafe { Self::release_uses(inner, 1) }
    }

    /// Releases `count` uses of the pool; with the last one it is freed.
    ///
    /// # Safety
    ///
    /// The caller has them, and the pool was closed.
    pub(super) unsafe fn release_uses(inner: NonNull<Self>, count: u32) {
        // SAFETY: the caller's uses keep it.
        let users = unsafe { &(*inner.as_ptr()).users };
        if users.fetch_sub(count, Ordering::AcqRel) == count {
            // SAFETY: made by Box::leak, and that was the last use.
            drop(unsafe { Box::from_raw(inner.as_ptr()) });
        }
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread::current()
    }

    pub(super) fn reclaim(&self) {
        if self.returned.load(Ordering::Relaxed).is_null() {
            return;
        }
        self.take_back_list(self.returned.swap(ptr::null_mut(), Ordering::Acquire));
    }

    /// Returns a list of blocks that other threads freed to the free lists.
    pub(super) fn take_back_list(&self, mut next: *mut Block) {
        while let Some(block) = NonNull::new(next) {
            // SAFETY: a returned block is the owner's.
            next = unsafe { block.as_ref() }.fields.links.next;
            // SAFETY: its last reference was released.
            unsafe { self.take_back(block) };
        }
    }

    /// Returns a block and the span of its body to the free lists.
    ///
    /// # Safety
    ///
    /// On the owner's thread; the block is this pool's, not free, and not used any more.
    unsafe fn take_back(&self, block: NonNull<Block>) {
        // SAFETY: the caller's promise.
        let fields = unsafe { &mut (*block.as_ptr()).fields };
        let memory = std::mem::replace(&mut fields.memory, Memory::None);
        // A span of the page cache is released last, because that may free it.
        let source = fields.take_source();
        self.put_span(&memory);
        if let Some((memory, _)) = &source {
            self.put_span(memory);
        }
        // SAFETY: as above.
        let shared = unsafe { &(*block.as_ptr()).shared };
        shared.refcnt.store(0, Ordering::Relaxed);
        self.put_block(block);
        drop(source);
    }

    pub(super) fn take_block(&self) -> Option<NonNull<Block>> {
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

    pub(super) fn put_block(&self, block: NonNull<Block>) {
        // SAFETY: a free block is ours.
        unsafe { (*block.as_ptr()).fields.links.next = self.free.get() };
        self.free.set(block.as_ptr());
        self.blocks_used.set(self.blocks_used.get() - 1);
    }

    /// Takes a span with room for `capacity` bytes: a small one if that is long enough and free,
    /// else a large one. Returns it and its body's address.
    pub(super) fn take_span(&self, capacity: u32) -> Option<(Memory, NonNull<u8>)> {
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

    pub(super) fn put_span(&self, memory: &Memory) {
        if cfg!(debug_assertions)
            && let Some((span, _)) = memory.own()
        {
            // SAFETY: every span is longer than the head room.
            let body = unsafe { span.add(HEAD_ROOM as usize) };
            // A read after the last free finds this pattern.
            // SAFETY: the span is longer than that, and free.
            unsafe { body.write_bytes(FREED, 256) };
        }
        match memory {
            Memory::Small(span) => self.small.push(*span),
            Memory::Large(span) => self.large.push(*span),
            Memory::None | Memory::Shared(_) => {}
        }
    }

    /// Draws whether this allocation fails on purpose, and counts that.
    #[cfg(feature = "fault-injection")]
    pub(super) fn draw_failure(&self) -> bool {
        let mut injection = self.injection.get();
        if injection.is_off() {
            return false;
        }
        let failed = injection.draw();
        self.injection.set(injection);
        if failed {
            self.count_failure();
        }
        failed
    }

    /// No allocation fails on purpose without the feature `fault-injection`.
    #[cfg(not(feature = "fault-injection"))]
    pub(super) const fn draw_failure(&self) -> bool {
        false
    }

    pub(super) fn count_failure(&self) {
        self.failures.set(self.failures.get() + 1);
    }
}

pub(super) const FREED: u8 = 0xdd;
/// Head of a return list that is closed; no block has this address.
pub(super) const CLOSED: *mut Block = ptr::without_provenance_mut(1);

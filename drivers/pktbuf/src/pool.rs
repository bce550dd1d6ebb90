//! A worker's pool of blocks and spans.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::arena::SharedSpan;
use crate::buffer::Buffer;
use crate::page::PageBuf;
use crate::region::{Region, RegionFull};

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
pub struct PagePool {
    inner: NonNull<PoolInner>,
}

impl PagePool {
    /// Carves a pool out of a region, for this thread.
    pub fn new(region: &mut Region, config: PoolConfig) -> Result<Self, RegionFull> {
        let _ = (region, config);
        todo!()
    }

    /// How much memory a pool of this size takes out of a region.
    pub fn bytes_needed(config: PoolConfig) -> usize {
        let _ = config;
        todo!()
    }

    /// An empty plain buffer with room for `capacity` bytes and for record header and trailer.
    /// `None` if none is free, or if `capacity` is more than [`LARGE_CAPACITY`].
    pub fn alloc(&mut self, capacity: u32) -> Option<PageBuf> {
        let _ = capacity;
        todo!()
    }

    /// A plain buffer whose body is `len` bytes of the page cache from `at`, by reference. `None` if
    /// no block is free, or if the range isn't in the span.
    pub fn alloc_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> Option<PageBuf> {
        let _ = (span, at, len);
        todo!()
    }

    /// A compact received buffer with a copy of `bytes`.
    pub fn alloc_buffer(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let _ = bytes;
        todo!()
    }

    /// Takes back what was freed on other threads. Once a turn; allocation does it too when a free
    /// list is empty.
    pub fn reclaim(&mut self) {
        todo!()
    }

    /// How much is in use.
    pub fn usage(&self) -> PoolUsage {
        todo!()
    }

    /// Whether everything is back (after a [`PagePool::reclaim`]).
    pub fn is_full(&self) -> bool {
        todo!()
    }

    /// From now on about one allocation in `one_in` fails, chosen by `seed`; 0: none does.
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        let _ = (seed, one_in);
        todo!()
    }
}

impl fmt::Debug for PagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagePool").finish_non_exhaustive()
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
    /// Allocations that failed since the start, injected ones included.
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

pub(crate) struct PoolInner {}

/// Bytes of a small span.
pub const SMALL_SPAN: u32 = 2048;
/// Bytes of a large span: the longest record there is, received ones with their expansion included.
pub const LARGE_SPAN: u32 = 16_384 + 512;
/// What fits into a small span's body.
pub const SMALL_CAPACITY: u32 = SMALL_SPAN - HEAD_ROOM - TAIL_ROOM;
/// What fits into a large span's body.
pub const LARGE_CAPACITY: u32 = LARGE_SPAN - HEAD_ROOM - TAIL_ROOM;
pub(crate) const HEAD_ROOM: u32 = 128;
pub(crate) const TAIL_ROOM: u32 = 64;

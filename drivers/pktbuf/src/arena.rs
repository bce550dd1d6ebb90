//! The page cache's memory.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::region::{Region, RegionFull};

/// Page-aligned memory for file contents, shared by all threads, bounded.
#[derive(Clone)]
pub struct PageArena {
    inner: Arc<()>,
}

impl PageArena {
    /// The longest span.
    pub const SPAN_MAX: usize = 256 * 1024;

    /// An arena of `len` bytes (rounded down to pages) of a region.
    pub fn new(region: &mut Region, len: usize) -> Result<Self, RegionFull> {
        let _ = (region, len);
        todo!()
    }

    /// Zeroed memory of `len` bytes, in whole pages; `None` if there's no free run of that many, or
    /// `len` is 0 or more than [`PageArena::SPAN_MAX`].
    pub fn alloc(&self, len: usize) -> Option<PageMut> {
        let _ = len;
        todo!()
    }

    /// How much is in use.
    pub fn usage(&self) -> ArenaUsage {
        todo!()
    }
}

impl fmt::Debug for PageArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageArena").field("inner", &self.inner).finish()
    }
}

/// How much of an arena is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUsage {
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes in spans that live, in whole pages.
    pub bytes_used: usize,
}

/// A span being filled: writable, owned.
#[derive(Debug)]
pub struct PageMut {
    span: SharedSpan,
}

impl PageMut {
    /// The first `len` bytes, immutable from now on, to be shared. Pages behind them go back.
    pub fn freeze(self, len: usize) -> Arc<SharedSpan> {
        let _ = len;
        todo!()
    }
}

impl Deref for PageMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.span
    }
}

impl DerefMut for PageMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        todo!()
    }
}

/// A span of the page cache: immutable, page-aligned. When the last [`Arc`] of it goes, its pages
/// are free.
#[derive(Debug)]
pub struct SharedSpan {
    len: usize,
}

impl Deref for SharedSpan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let _ = self.len;
        todo!()
    }
}

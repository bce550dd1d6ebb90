//! Regions: memory that pools and arenas are carved from.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// Memory that pools and arenas are carved from, front to back.
///
/// Memory from [`Region::from_raw`] is never freed. Memory from [`Region::heap`] is freed with the
/// last of the region and every pool, arena and buffer in it.
pub struct Region {
    memory: Arc<Memory>,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is the only way to the part of memory that it still has.
unsafe impl Send for Region {}

impl Region {
    /// Allocates zeroed heap memory, for tests and simulators.
    pub fn heap(len: usize) -> Result<Self, RegionFull> {
        let full = RegionFull {
            wanted: len,
            left: 0,
        };
        let layout = Layout::from_size_align(len.max(1), PAGE).map_err(|_| full)?;
        // SAFETY: the size isn't zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(full)?;
        Ok(Self {
            memory: Arc::new(Memory {
                heap: Some((base, layout)),
            }),
            base,
            len,
        })
    }

    /// Wraps memory that was allocated elsewhere, such as the EAL's.
    ///
    /// # Safety
    ///
    /// `base..base + len` is initialised, readable, writable, not otherwise used, and stays so
    /// until the process ends.
    pub unsafe fn from_raw(base: NonNull<u8>, len: usize) -> Self {
        Self {
            memory: Arc::new(Memory { heap: None }),
            base,
            len,
        }
    }

    /// The first `len` bytes (after aligning to a page) as a region of its own: one worker's share.
    pub fn split(&mut self, len: usize) -> Result<Self, RegionFull> {
        let part = self.carve(len, PAGE)?;
        Ok(Self {
            memory: Arc::clone(&self.memory),
            base: part.base,
            len,
        })
    }

    /// Returns the bytes that are left.
    pub fn left(&self) -> usize {
        self.len
    }

    pub(crate) fn carve(&mut self, len: usize, align: usize) -> Result<Part, RegionFull> {
        let pad = self.base.align_offset(align);
        let full = RegionFull {
            wanted: len,
            left: self.len,
        };
        let total = pad.checked_add(len).ok_or(full)?;
        self.len = self.len.checked_sub(total).ok_or(full)?;
        // SAFETY: pad + len bytes were left.
        let base = unsafe { self.base.add(pad) };
        // SAFETY: as above.
        self.base = unsafe { self.base.add(total) };
        Ok(Part {
            base,
            _memory: Arc::clone(&self.memory),
        })
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("left", &self.len)
            .finish_non_exhaustive()
    }
}

/// A region has less memory left than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionFull {
    /// Bytes wanted.
    pub wanted: usize,
    /// Bytes that were left.
    pub left: usize,
}

impl fmt::Display for RegionFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "out of memory: {} bytes wanted, {} left",
            self.wanted, self.left
        )
    }
}

impl std::error::Error for RegionFull {}

/// Carved memory. Only its owner uses the bytes; it keeps the memory alive.
pub(crate) struct Part {
    pub(crate) base: NonNull<u8>,
    _memory: Arc<Memory>,
}

struct Memory {
    heap: Option<(NonNull<u8>, Layout)>,
}

// SAFETY: the pointer is only used to free the memory, once.
unsafe impl Send for Memory {}
// SAFETY: nothing is done through a shared reference.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some((base, layout)) = self.heap {
            // SAFETY: allocated with this layout; every part held a count of this, so none is left.
            unsafe { dealloc(base.as_ptr(), layout) }
        }
    }
}

pub(crate) const PAGE: usize = 4096;

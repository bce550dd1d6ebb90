//! Regions: memory that pools and arenas are carved from.
//!
//! A device may see a region page by page: without an IOMMU the pages have unrelated addresses. So
//! whatever is sent in one piece lies within one [`BORDER`].

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
        let layout = Layout::from_size_align(len.max(1), HEAP_ALIGN).map_err(|_| full)?;
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

    /// Returns the whole pages that are left.
    pub(crate) fn pages_left(&self) -> usize {
        self.len.saturating_sub(self.base.align_offset(PAGE)) / PAGE
    }

    /// Carves as many items of `size` bytes as fit in front of the next border, `count` at most.
    /// None if no further item fits into the region.
    pub(crate) fn carve_run(&mut self, size: usize, align: usize, count: usize) -> Option<Run> {
        if count == 0 {
            return None;
        }
        let mut pad = self.base.align_offset(align);
        let at = self.base.addr().get() + pad;
        let mut room = BORDER - at % BORDER;
        if room < size {
            pad += room;
            room = BORDER;
        }
        let left = self.len.checked_sub(pad)?;
        let items = count.min(room.min(left) / size);
        if items == 0 {
            return None;
        }
        // The pad ends at a multiple of `align`, which divides a border.
        self.carve(pad, 1).ok()?;
        let part = self.carve(items * size, 1).ok()?;
        Some(Run { part, items })
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

/// Items that were carved one behind the other.
pub(crate) struct Run {
    pub(crate) part: Part,
    pub(crate) items: usize,
}

/// Carves `count` items of `size` bytes out of regions, in runs that cross no border.
pub(crate) fn carve_items(
    regions: &mut [Region],
    size: usize,
    align: usize,
    count: u32,
) -> Result<Vec<Run>, RegionFull> {
    let mut wanted = count as usize;
    let mut runs = Vec::new();
    for region in regions.iter_mut() {
        while let Some(run) = region.carve_run(size, align, wanted) {
            wanted -= run.items;
            runs.push(run);
        }
    }
    if wanted == 0 {
        Ok(runs)
    } else {
        Err(RegionFull {
            wanted: wanted * size,
            left: left_in(regions),
        })
    }
}

/// Returns the bytes that are left in all regions.
pub(crate) fn left_in(regions: &[Region]) -> usize {
    regions.iter().map(Region::left).sum()
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

/// Memory within multiples of this is contiguous for a device: the smallest huge page, which
/// divides the others.
pub(crate) const BORDER: usize = 2 << 20;

/// Alignment of heap memory: the longest run of an arena.
const HEAP_ALIGN: usize = 256 << 10;

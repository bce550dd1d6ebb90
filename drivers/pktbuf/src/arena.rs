//! The page cache's memory: a bounded arena of page-aligned spans.

mod fill;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use self::fill::PageFill;
use crate::buddy::{Buddy, RUN_MAX};
use crate::region::{PAGE, Part, Region, RegionFull, left_in};

/// Bounded, page-aligned memory for file contents, shared by all threads.
///
/// Allocation takes a lock. Freeing doesn't: freed spans are pushed to a list that the next
/// allocation takes over. So a worker never waits for a thread that loads files.
#[derive(Clone)]
pub struct PageArena {
    inner: Arc<Inner>,
}

impl PageArena {
    /// Bytes of the longest span.
    pub const SPAN_MAX: usize = RUN_MAX as usize * PAGE;

    /// Carves an arena of `len` bytes (rounded down to pages) out of a region.
    ///
    /// # Errors
    /// See [`PageArena::from_regions`].
    pub fn new(region: &mut Region, len: usize) -> Result<Self, RegionFull> {
        Self::from_regions(slice::from_mut(region), len)
    }

    /// Carves an arena of `len` bytes (rounded down to pages) out of several regions. No span
    /// crosses a border of 2 MiB, so a device sees each in one piece, also by physical addresses.
    ///
    /// # Errors
    /// [`RegionFull`] if the regions have fewer pages left.
    pub fn from_regions(regions: &mut [Region], len: usize) -> Result<Self, RegionFull> {
        let full = RegionFull {
            wanted: len,
            left: left_in(regions),
        };
        let mut wanted = len / PAGE;
        if regions.iter().map(Region::pages_left).sum::<usize>() < wanted {
            return Err(full);
        }
        let mut parts: Vec<ArenaPart> = Vec::new();
        // Pages are numbered through all parts. A run lies in a block of pages whose numbers begin
        // at a multiple of its length, and so do the addresses.
        let mut end = 0_usize;
        for region in regions {
            let pages = wanted.min(region.pages_left());
            if pages == 0 {
                continue;
            }
            let part = region.carve(pages * PAGE, PAGE)?;
            let run = RUN_MAX as usize;
            let first = end.next_multiple_of(run) + part.base.addr().get() / PAGE % run;
            end = first + pages;
            wanted -= pages;
            // 16 TiB; more isn't looked at.
            let number = |n: usize| u32::try_from(n).ok().filter(|n| *n < NIL).ok_or(full);
            parts.push(ArenaPart {
                first: number(first)?,
                pages: number(end)? - number(first)?,
                memory: part,
            });
        }
        Ok(Self {
            inner: Arc::new(Inner::new(parts)),
        })
    }

    /// Allocates zeroed memory of `len` bytes, in whole pages. Returns `None` if no run of that
    /// many pages is free, or if `len` is 0 or more than [`PageArena::SPAN_MAX`].
    pub fn alloc(&self, len: usize) -> Option<PageMut> {
        let mut span = PageMut(self.alloc_span(len)?);
        // The content of the file that was here before must not leak.
        span.fill(0);
        Some(span)
    }

    fn alloc_span(&self, len: usize) -> Option<SharedSpan> {
        let pages = u32::try_from(len.div_ceil(PAGE)).ok()?;
        let first = self.inner.take(pages)?;
        Some(SharedSpan {
            base: self.inner.address(first),
            arena: Arc::clone(&self.inner),
            first,
            pages,
            len,
        })
    }

    /// Returns the usage.
    pub fn usage(&self) -> ArenaUsage {
        ArenaUsage {
            bytes: self.inner.pages as usize * PAGE,
            bytes_used: self.inner.used.load(Ordering::Relaxed) as usize * PAGE,
        }
    }
}

impl fmt::Debug for PageArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.usage(), f)
    }
}

/// Usage of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUsage {
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes in spans that live, in whole pages.
    pub bytes_used: usize,
}

/// A span that is being filled: writable, with one owner.
#[derive(Debug)]
pub struct PageMut(SharedSpan);

impl PageMut {
    /// Makes the first `len` bytes (all, if there are fewer) immutable and shareable. Pages behind
    /// them are freed.
    pub fn freeze(mut self, len: usize) -> Arc<SharedSpan> {
        self.0.shorten(len);
        Arc::new(self.0)
    }
}

impl Deref for PageMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for PageMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the span's memory is initialised with the region, and has one owner.
        unsafe { slice::from_raw_parts_mut(self.0.base.as_ptr(), self.0.len) }
    }
}

/// An immutable, page-aligned span of the page cache. Its pages are freed with its last [`Arc`].
pub struct SharedSpan {
    arena: Arc<Inner>,
    base: NonNull<u8>,
    first: u32,
    pages: u32,
    len: usize,
}

// SAFETY: `base` is memory that nothing writes to while the span lives; the rest is Sync by itself.
unsafe impl Sync for SharedSpan {}
// SAFETY: as above.
unsafe impl Send for SharedSpan {}

impl SharedSpan {
    /// Shortens the span to `len` bytes, if it is longer, and frees the pages behind them.
    fn shorten(&mut self, len: usize) {
        self.len = self.len.min(len);
        let pages = u32::try_from(self.len.div_ceil(PAGE))
            .unwrap_or(self.pages)
            .min(self.pages);
        self.arena.give_back(self.first + pages, self.pages - pages);
        self.pages = pages;
    }
}

impl Deref for SharedSpan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the span's pages have one owner, are initialised, and are never written to.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for SharedSpan {
    fn drop(&mut self) {
        self.arena.give_back(self.first, self.pages);
    }
}

impl fmt::Debug for SharedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSpan({} bytes at page {})", self.len, self.first)
    }
}

/// Pages of one region.
struct ArenaPart {
    /// Number of the first one.
    first: u32,
    pages: u32,
    memory: Part,
}

struct Inner {
    /// Ordered by the numbers of their pages. Numbers between two parts are no pages.
    parts: Box<[ArenaPart]>,
    pages: u32,
    free: Mutex<Buddy>,
    /// Pages in spans that live.
    used: AtomicU32,
    /// First page of the run that was freed last, and not taken in yet. Only whole lists are taken
    /// off, so an exchange can't mistake one state for another.
    returned: AtomicU32,
    /// By first page of a freed run: its pages,
    runs: Box<[AtomicU32]>,
    /// and the run that was freed before.
    links: Box<[AtomicU32]>,
}

// SAFETY: `parts` are memory whose pages belong to one span each; the rest is Sync by itself.
unsafe impl Sync for Inner {}
// SAFETY: as above.
unsafe impl Send for Inner {}

impl Inner {
    fn new(parts: Vec<ArenaPart>) -> Self {
        let end = parts.last().map_or(0, |part| part.first + part.pages);
        let mut free = Buddy::new(end);
        for part in &parts {
            free.free(part.first, part.pages);
        }
        let zeroes = || (0..end).map(|_| AtomicU32::new(0)).collect();
        Self {
            pages: parts.iter().map(|part| part.pages).sum(),
            parts: parts.into(),
            free: Mutex::new(free),
            used: AtomicU32::new(0),
            returned: AtomicU32::new(NIL),
            runs: zeroes(),
            links: zeroes(),
        }
    }

    /// Returns the address of a page.
    fn address(&self, page: u32) -> NonNull<u8> {
        // A page has a part, because only those were freed.
        let part = self.parts.partition_point(|part| part.first <= page) - 1;
        let part = &self.parts[part];
        debug_assert!(page - part.first < part.pages, "a page of no part");
        // SAFETY: the page is within the part's memory.
        unsafe { part.memory.base.add((page - part.first) as usize * PAGE) }
    }

    fn take(&self, pages: u32) -> Option<u32> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.returned.swap(NIL, Ordering::Acquire);
        while next != NIL {
            let first = next;
            next = self.links[first as usize].load(Ordering::Relaxed);
            free.free(first, self.runs[first as usize].load(Ordering::Relaxed));
        }
        let first = free.alloc(pages)?;
        self.used.fetch_add(pages, Ordering::Relaxed);
        Some(first)
    }

    fn give_back(&self, first: u32, pages: u32) {
        if pages == 0 {
            return;
        }
        self.used.fetch_sub(pages, Ordering::Relaxed);
        self.runs[first as usize].store(pages, Ordering::Relaxed);
        let mut head = self.returned.load(Ordering::Relaxed);
        loop {
            self.links[first as usize].store(head, Ordering::Relaxed);
            match self.returned.compare_exchange_weak(
                head,
                first,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }
}

const NIL: u32 = u32::MAX;

#[cfg(test)]
mod tests;

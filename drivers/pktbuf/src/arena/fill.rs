//! Spans that are filled from their front, without being zeroed first.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use super::{PAGE, PageArena, SharedSpan};

/// A span that is being filled, from its front. It isn't zeroed: only what was filled can be read.
///
/// The memory belongs to this handle wherever the handle is moved to. So a reader that takes the
/// handle may have the kernel write to [`PageFill::spare_parts`] until it gives the handle back.
pub struct PageFill {
    span: SharedSpan,
    filled: usize,
}

impl PageArena {
    /// Allocates memory for `len` bytes, in whole pages, none of which can be read before it was
    /// filled. Returns `None` as [`PageArena::alloc`] does.
    pub fn alloc_unfilled(&self, len: usize) -> Option<PageFill> {
        let span = self.alloc_span(len)?;
        Some(PageFill { span, filled: 0 })
    }
}

impl PageFill {
    /// Returns the number of bytes that have room, which is a multiple of the page size.
    pub fn capacity(&self) -> usize {
        self.span.pages as usize * PAGE
    }

    /// Returns what was filled.
    pub fn filled(&self) -> &[u8] {
        // SAFETY: the pages belong to this handle, and so many bytes of them were filled.
        unsafe { slice::from_raw_parts(self.span.base.as_ptr(), self.filled) }
    }

    /// Forgets what was filled.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Has `read` fill the front of up to `len` bytes behind what was filled. It returns the part
    /// that it has initialised. Returns the length of that part.
    ///
    /// # Errors
    /// The error of `read`.
    ///
    /// # Panics
    /// If `read` returns another slice than the front of its argument.
    pub fn fill_with<E>(
        &mut self,
        len: usize,
        read: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a mut [u8], E>,
    ) -> Result<usize, E> {
        let (base, room) = self.spare_parts();
        let room = room.min(len);
        // SAFETY: the pages belong to this handle, which is borrowed exclusively; any bytes are
        // valid as `MaybeUninit`.
        let spare = unsafe { slice::from_raw_parts_mut(base.as_ptr().cast(), room) };
        let initialised = read(spare)?;
        let is_front = initialised.is_empty() || initialised.as_ptr() == base.as_ptr();
        assert!(is_front, "the slice isn't the front of the page");
        let count = initialised.len();
        self.filled += count;
        Ok(count)
    }

    /// Returns the address of the first byte that isn't filled, and the number of bytes from there.
    pub fn spare_parts(&mut self) -> (NonNull<u8>, usize) {
        let room = self.capacity() - self.filled;
        // SAFETY: as many bytes of the pages are filled, at most all of them.
        let base = unsafe { self.span.base.add(self.filled) };
        (base, room)
    }

    /// Notes that the first `count` bytes behind what was filled are initialised.
    ///
    /// # Safety
    /// They are, there are that many, and nothing writes to them any more.
    pub unsafe fn add_filled(&mut self, count: usize) {
        debug_assert!(
            count <= self.capacity() - self.filled,
            "more than there are"
        );
        self.filled += count;
    }

    /// Makes the first `len` bytes that were filled (all, if there are fewer) immutable and
    /// shareable. Pages behind them are freed.
    pub fn freeze(self, len: usize) -> Arc<SharedSpan> {
        let mut span = self.span;
        span.len = self.filled;
        span.shorten(len);
        Arc::new(span)
    }
}

impl fmt::Debug for PageFill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageFill({} of {} bytes)", self.filled, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;

    fn arena() -> PageArena {
        PageArena::new(&mut Region::heap(1 << 20).unwrap(), 1 << 20).unwrap()
    }

    /// Fills the next bytes of a page.
    fn append(page: &mut PageFill, bytes: &[u8]) -> usize {
        let count = page.fill_with(bytes.len(), |spare| {
            Ok::<_, ()>(spare.write_copy_of_slice(bytes))
        });
        count.unwrap()
    }

    #[test]
    fn only_what_was_filled_can_be_read() {
        let arena = arena();
        let mut old = arena.alloc(8_192).unwrap();
        old.fill(b's');
        drop(old);
        let mut page = arena.alloc_unfilled(5_000).unwrap();
        assert_eq!((page.capacity(), page.filled()), (8_192, &b""[..]));
        assert_eq!(append(&mut page, b"first"), 5);
        assert_eq!(append(&mut page, b" second"), 7);
        assert_eq!(page.filled(), b"first second");
        let failed = page.fill_with(100, |_| Err(()));
        assert_eq!((failed, page.filled().len()), (Err(()), 12));
        let nothing = page.fill_with(100, |_| Ok::<_, ()>(&mut []));
        assert_eq!((nothing, page.filled().len()), (Ok(0), 12));
        page.clear();
        append(&mut page, b"new");
        let span = page.freeze(usize::MAX);
        assert_eq!(**span, *b"new");
        assert_eq!(arena.usage().bytes_used, 4_096);
        drop(span);
        assert_eq!(arena.usage().bytes_used, 0);
    }

    #[test]
    #[should_panic(expected = "front of the page")]
    fn another_slice_isnt_taken_for_what_was_filled() {
        let mut page = arena().alloc_unfilled(100).unwrap();
        let _ = page.fill_with(100, |_| {
            Ok::<_, ()>(Box::leak(Box::new([0_u8; 100])).as_mut_slice())
        });
    }

    #[test]
    fn a_reader_fills_by_address() {
        let mut page = arena().alloc_unfilled(100).unwrap();
        let (base, room) = page.spare_parts();
        assert_eq!(room, 4_096);
        // SAFETY: the page has room for so many bytes.
        unsafe { base.as_ptr().write_bytes(b'x', 50) };
        // SAFETY: they were just written.
        unsafe { page.add_filled(50) };
        assert_eq!(page.spare_parts().1, 4_046);
        assert_eq!(**page.freeze(20), [b'x'; 20]);
    }
}

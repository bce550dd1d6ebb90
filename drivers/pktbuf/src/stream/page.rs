//! What can be done with page buffers in a stream.

use std::cell::Cell;
use std::fmt;
use std::iter;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use super::Stream;
use crate::block::Block;
use crate::packet::{Slice, Slices};
use crate::page::{PageBuf, SealError, SealParts};
use crate::pool::PagePool;

impl Stream<PageBuf> {
    /// Copies bytes into the last buffer's room, if it's plain; returns how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(tail) = NonNull::new(self.tail) else {
            return 0;
        };
        // The stream keeps the handle.
        let n = ManuallyDrop::new(PageBuf(tail)).append(bytes);
        self.end += n as u64;
        n
    }

    /// Adds slices for `range` (what of it is in the stream) to `out`, as many as it takes; returns
    /// the offset they reach.
    pub fn slices<'a>(&'a self, range: Range<u64>, out: &mut Slices<'a>) -> u64 {
        let end = range.end.min(self.end);
        let mut at = range.start.max(self.start);
        for (offset, buf) in self.iter_from(at) {
            if at >= end {
                break;
            }
            let item_end = offset + u64::from(buf.len());
            let len = item_end.min(end) - at;
            // Both are within the item, whose length has 32 bits.
            let (Ok(from), Ok(len)) = (u32::try_from(at - offset), u32::try_from(len)) else {
                break;
            };
            if !out.push(Slice { buf, at: from, len }) {
                break;
            }
            at += u64::from(len);
        }
        at
    }

    /// The buffers from the one that holds `offset`, each with the stream offset of its first byte,
    /// to seal them.
    pub fn iter_mut_from(&mut self, offset: u64) -> impl Iterator<Item = (u64, Queued<'_>)> {
        let mut next = self.first_from(offset);
        let true_size = &self.true_size;
        iter::from_fn(move || {
            let node = next?;
            next = NonNull::new(Self::next_of(node));
            let page = ManuallyDrop::new(PageBuf(node));
            Some((
                Self::offset_of(node),
                Queued {
                    page,
                    true_size,
                    _stream: PhantomData,
                },
            ))
        })
    }
}

/// A page buffer in a stream: it can be sealed, which doesn't change its length, and nothing else.
pub struct Queued<'a> {
    /// The stream keeps the handle; this one never gets out.
    page: ManuallyDrop<PageBuf>,
    true_size: &'a Cell<u32>,
    _stream: PhantomData<&'a mut PageBuf>,
}

impl Queued<'_> {
    /// [`PageBuf::seal_with`].
    pub fn seal_with<E>(
        &mut self,
        pool: &mut PagePool,
        seal: impl FnOnce(SealParts<'_>) -> Result<(), E>,
    ) -> Result<(), SealError<E>> {
        let before = self.page.true_size();
        let result = self.page.seal_with(pool, seal);
        let grown = self.page.true_size().wrapping_sub(before);
        self.true_size.set(self.true_size.get().wrapping_add(grown));
        result
    }
}

impl Deref for Queued<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.page
    }
}

impl fmt::Debug for Queued<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

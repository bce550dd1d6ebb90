//! Operations on streams of page buffers.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

use super::Stream;
use crate::block::Block;
use crate::packet::{Slice, Slices};
use crate::page::{PageBuf, SealError, SealParts, Sealing, Unsealable};
use crate::pool::PagePool;

const _: () = assert!(size_of::<Stream<PageBuf>>() == 56);

impl Stream<PageBuf> {
    /// Copies bytes into the room of the last buffer, if it is plain. Returns the number of bytes
    /// copied.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(tail) = NonNull::new(self.tail) else {
            return 0;
        };
        let n = queued(tail).append(bytes);
        self.end += n as u64;
        n
    }

    /// Adds slices for the part of `range` that is in the stream to `out`, until it is full.
    /// Returns the offset behind the last slice.
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

    /// Seals the framed records that `range` overlaps, each as a whole, in order. Skips what isn't
    /// framed. Returns the offset that it reached, and the error that stopped it.
    ///
    /// `seal` gets up to 8 records and returns how many of them it sealed. The bookkeeping of all
    /// of them is done before and after, because between two records it would keep the processor
    /// from prefetching the content.
    ///
    /// # Panics
    ///
    /// If a buffer belongs to another pool.
    pub fn seal<E>(
        &mut self,
        range: Range<u64>,
        pool: &mut PagePool,
        mut seal: impl FnMut(&mut [SealParts<'_>]) -> (usize, Result<(), E>),
    ) -> (u64, Result<(), SealError<E>>) {
        let mut next = self.first_from(range.start);
        let mut run: [Option<(NonNull<Block>, Sealing)>; RUN] = [const { None }; RUN];
        loop {
            let mut parts: [MaybeUninit<SealParts<'_>>; RUN] =
                [const { MaybeUninit::uninit() }; RUN];
            let mut stopped = Ok(());
            let mut begun = 0;
            while begun < RUN
                && let Some(node) = next
                && Self::offset_of(node) < range.end
            {
                let page = queued(node);
                match page.begin_seal(pool) {
                    Ok(sealing) => {
                        // SAFETY: once for each, and not used any more behind the call of `seal`.
                        parts[begun].write(unsafe { page.seal_parts(&sealing) });
                        run[begun] = Some((node, sealing));
                        begun += 1;
                    }
                    Err(Unsealable::NotFramed) => {}
                    Err(error) => {
                        stopped = Err(error.into());
                        break;
                    }
                }
                next = NonNull::new(Self::next_of(node));
            }
            let parts = parts[..begun].as_mut_ptr().cast::<SealParts<'_>>();
            // SAFETY: so many were written.
            let (sealed, result) = seal(unsafe { slice::from_raw_parts_mut(parts, begun) });
            if let Err(error) = result {
                stopped = Err(SealError::Cipher(error));
                next = run[sealed].as_ref().map(|(node, _)| *node);
            }
            for (at, slot) in run[..begun].iter_mut().enumerate() {
                match slot.take() {
                    Some((node, sealing)) if at < sealed => self.end_seal(node, sealing),
                    Some((_, sealing)) => sealing.give_back(pool),
                    None => {}
                }
            }
            if begun == 0 || stopped.is_err() {
                return (next.map_or(self.end, Self::offset_of), stopped);
            }
        }
    }

    /// Drops the ciphertext of the records that `range` overlaps, where that is possible
    /// ([`Stream::seal`] seals them again). Looks at 256 buffers at most. Returns the number of
    /// spans that it freed, and the offset of the first record that is framed now.
    pub fn drop_ciphertext(
        &mut self,
        range: Range<u64>,
        pool: &mut PagePool,
    ) -> (u32, Option<u64>) {
        let (mut freed, mut first) = (0, None);
        let mut next = self.first_from(range.start);
        for _ in 0..DROP_WALK_MAX {
            let Some(node) = next.filter(|node| Self::offset_of(*node) < range.end) else {
                break;
            };
            let mut page = queued(node);
            let before = page.true_size();
            if page.drop_ciphertext(pool) {
                let shrunk = before.wrapping_sub(page.true_size());
                self.true_size
                    .set(self.true_size.get().wrapping_sub(shrunk));
                first = first.or_else(|| Some(Self::offset_of(node)));
                freed += 1;
            }
            next = NonNull::new(Self::next_of(node));
        }
        (freed, first)
    }

    /// Returns the offset of the first buffer, which may begin before [`Stream::start`], or the end
    /// of the stream.
    pub fn first_offset(&self) -> u64 {
        NonNull::new(self.head).map_or(self.end, Self::offset_of)
    }

    fn end_seal(&self, node: NonNull<Block>, sealing: Sealing) {
        let mut page = queued(node);
        let before = page.true_size();
        page.end_seal(sealing);
        let grown = page.true_size().wrapping_sub(before);
        self.true_size.set(self.true_size.get().wrapping_add(grown));
    }
}

/// Returns a handle to a buffer that stays in its stream.
fn queued(node: NonNull<Block>) -> ManuallyDrop<PageBuf> {
    ManuallyDrop::new(PageBuf(node))
}

/// Buffers that one call of `drop_ciphertext` looks at.
const DROP_WALK_MAX: u32 = 256;
/// Records sealed in one call of `seal`: a few more than one burst has.
const RUN: usize = 8;

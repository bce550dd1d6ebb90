//! Operations on streams of page buffers.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::Stream;
use crate::block::{Block, RecordFields, State};
use crate::links::{Link, Links};
use crate::packet::{Slice, Slices};
use crate::page::PageBuf;
use crate::pool::PagePool;
use crate::seal::{Placement, SealMemory, SealOutcome, Unsealable};

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

    /// Visits the framed records that `range` overlaps, in order, until `visit` returns false.
    /// Returns the offset of the record at which it did, or of what is behind the last one.
    pub fn visit_framed(
        &mut self,
        range: Range<u64>,
        mut visit: impl FnMut(FramedRecord<'_>) -> bool,
    ) -> u64 {
        let mut next = self.first_from(range.start);
        while let Some(node) = next
            && Self::offset_of(node) < range.end
        {
            let page = queued(node);
            if page.state() == State::Framed {
                let record = FramedRecord {
                    page,
                    offset: Self::offset_of(node),
                    true_size: &self.true_size,
                };
                if !visit(record) {
                    break;
                }
            }
            next = NonNull::new(Self::next_of(node));
        }
        next.map_or(self.end, Self::offset_of)
    }

    /// Takes over how sealing of the records that `range` overlaps ended, in order, up to the first
    /// record that is still away.
    pub fn end_seal(&mut self, range: Range<u64>, pool: &mut PagePool) -> EndedSeals {
        let mut ended = EndedSeals::default();
        let mut next = self.first_from(range.start);
        while let Some(node) = next
            && Self::offset_of(node) < range.end
        {
            let mut page = queued(node);
            if page.state() == State::Away {
                let before = page.true_size();
                let outcome = page.end_seal(pool);
                let shrunk = before.wrapping_sub(page.true_size());
                self.true_size
                    .set(self.true_size.get().wrapping_sub(shrunk));
                let offset = Self::offset_of(node);
                match outcome {
                    Some(SealOutcome::Sealed) => {}
                    Some(SealOutcome::Framed) => _ = ended.framed.get_or_insert(offset),
                    Some(SealOutcome::Lost) | None => {
                        ended.away = Some(offset);
                        ended.is_lost = outcome.is_some();
                        break;
                    }
                }
            }
            next = NonNull::new(Self::next_of(node));
        }
        ended
    }

    /// Puts a new framed buffer in the place of each record of `range` that is away. What was taken
    /// out of the old one to be sealed has its memory to itself, and changes nothing here.
    ///
    /// # Errors
    /// [`Unsealable::NotFramed`] for a record that is sealed in place, [`Unsealable::Exhausted`]
    /// without a free buffer. Earlier records have new buffers then.
    pub fn renew_away(&mut self, range: Range<u64>, pool: &mut PagePool) -> Result<(), Unsealable> {
        let (mut before, mut next) = (None, NonNull::new(self.head));
        while let Some(node) = next
            && Self::offset_of(node) < range.end
        {
            let mut old = queued(node);
            let mut kept = node;
            let before_end = old.true_size();
            // It may be back by now.
            let is_back = matches!(
                old.end_seal(pool),
                Some(SealOutcome::Sealed | SealOutcome::Framed)
            );
            let shrunk = before_end.wrapping_sub(old.true_size());
            self.true_size
                .set(self.true_size.get().wrapping_sub(shrunk));
            if !is_back && old.state() == State::Away && Self::end_of(node) > range.start {
                let page = old.renewed(pool)?;
                let grown = page.true_size().wrapping_sub(old.true_size());
                self.true_size.set(self.true_size.get().wrapping_add(grown));
                kept = self.replace(before, node, page);
            }
            before = Some(kept);
            next = NonNull::new(Self::next_of(kept));
        }
        Ok(())
    }

    /// Puts `page` in the place of `old`, which is behind `before` and as long, and drops `old`.
    fn replace(
        &mut self,
        before: Option<NonNull<Block>>,
        old: NonNull<Block>,
        page: PageBuf,
    ) -> NonNull<Block> {
        let new = page.into_node();
        let links = Links {
            next: Self::next_of(old),
            offset: Self::offset_of(old),
        };
        // SAFETY: the node is the stream's now.
        unsafe { PageBuf::links(new).write(links) };
        match before {
            // SAFETY: the stream's node.
            Some(before) => unsafe { (*PageBuf::links(before)).next = new.as_ptr() },
            None => self.head = new.as_ptr(),
        }
        if ptr::eq(self.tail, old.as_ptr()) {
            self.tail = new.as_ptr();
        }
        for cursor in [&self.cursor, &self.back] {
            if ptr::eq(cursor.get(), old.as_ptr()) {
                cursor.set(new.as_ptr());
            }
        }
        // SAFETY: `push` made it of a handle, and it is unlinked.
        drop(unsafe { PageBuf::from_node(old) });
        new
    }

    /// Drops the ciphertext of the records that `range` overlaps, where that is possible
    /// (they can be sealed again). Looks at 256 buffers at most. Returns the number of
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
}

/// A framed record of a stream.
#[derive(Debug)]
pub struct FramedRecord<'a> {
    page: ManuallyDrop<PageBuf>,
    offset: u64,
    true_size: &'a Cell<u32>,
}

impl FramedRecord<'_> {
    /// Returns the stream offset of its first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns its number, type and epoch.
    pub fn record(&self) -> RecordFields {
        self.page.record().unwrap_or_default()
    }

    /// Returns whether it was sealed before, and its ciphertext dropped.
    pub fn was_sealed(&self) -> bool {
        self.page.fields.was_sealed
    }

    /// Takes it out to be sealed, see [`PageBuf::begin_seal`].
    ///
    /// # Errors
    /// See [`Unsealable`]; the record is unchanged.
    ///
    /// # Panics
    ///
    /// If the buffer belongs to another pool.
    pub fn begin_seal(
        mut self,
        placement: Placement,
        pool: &mut PagePool,
    ) -> Result<SealMemory, Unsealable> {
        let before = self.page.true_size();
        let sealing = self.page.begin_seal(placement, pool)?;
        let grown = self.page.true_size().wrapping_sub(before);
        self.true_size.set(self.true_size.get().wrapping_add(grown));
        Ok(sealing)
    }
}

/// What [`Stream::end_seal`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedSeals {
    /// Offset of the first record that is still away.
    pub away: Option<u64>,
    /// Offset of the first record before that which wasn't sealed, and is framed again.
    pub framed: Option<u64>,
    /// Whether the one at `away` is lost: it stays there for ever.
    pub is_lost: bool,
}

/// Returns a handle to a buffer that stays in its stream.
fn queued(node: NonNull<Block>) -> ManuallyDrop<PageBuf> {
    ManuallyDrop::new(PageBuf(node))
}

/// Buffers that one call of `drop_ciphertext` looks at.
const DROP_WALK_MAX: u32 = 256;

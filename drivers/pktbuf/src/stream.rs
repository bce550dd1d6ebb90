//! Byte streams: queues of buffers by stream offset.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use crate::block::Block;
use crate::buffer::Buffer;
use crate::frag::Frag;
use crate::packet::Slices;
use crate::page::{PageBuf, SealError, SealParts};
use crate::pool::PagePool;

/// A queue of buffers that are consecutive in a stream of bytes, linked through the buffers: an
/// empty one owns no memory. It covers `start()..end()`; the first buffer may begin before
/// `start()`, because only whole buffers are released.
pub struct Stream<T: Link> {
    start: u64,
    end: u64,
    _items: PhantomData<T>,
}

/// What a [`Stream`] can hold: [`PageBuf`] and [`Buffer`].
pub trait Link: Deref<Target = Self::Node> {
    /// What the handle points to.
    type Node;
}

impl Link for PageBuf {
    type Node = Block;
}

impl Link for Buffer {
    type Node = Frag;
}

impl<T: Link> Stream<T> {
    /// An empty stream at offset 0.
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty stream at an offset.
    pub const fn starting_at(offset: u64) -> Self {
        Self { start: offset, end: offset, _items: PhantomData }
    }

    /// Offset of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes in the stream.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many buffers there are.
    pub fn items(&self) -> u32 {
        todo!()
    }

    /// Bytes of memory that the buffers pin.
    pub fn true_size(&self) -> u32 {
        todo!()
    }

    /// Adds a buffer at the end. (An empty one is dropped.)
    pub fn push(&mut self, item: T) {
        let _ = item;
        todo!()
    }

    /// Moves the start to `to` (at most to the end) and frees the buffers that end there or
    /// before.
    pub fn release(&mut self, to: u64) {
        let _ = to;
        todo!()
    }

    /// Frees the buffers that begin at `to` or behind; one that `to` cuts stays whole. Returns the
    /// new end.
    pub fn truncate(&mut self, to: u64) -> u64 {
        let _ = to;
        todo!()
    }

    /// Takes the first buffer out, with the number of its first bytes that were already released.
    pub fn pop_front(&mut self) -> Option<(T, u32)> {
        todo!()
    }

    /// The buffer that holds the byte at `offset`, and where in it. Remembers the place: asking for
    /// growing offsets doesn't walk from the front.
    pub fn find(&self, offset: u64) -> Option<(&T::Node, u32)> {
        let _ = offset;
        todo!()
    }

    /// All buffers, each with the stream offset of its first byte.
    pub fn iter(&self) -> Iter<'_, T> {
        todo!()
    }

    /// The buffers from the one that holds `offset`.
    pub fn iter_from(&self, offset: u64) -> Iter<'_, T> {
        let _ = offset;
        todo!()
    }

    /// Every invariant; what's broken, if anything is.
    pub fn check(&self) -> Result<(), &'static str> {
        todo!()
    }
}

impl<T: Link> Default for Stream<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream<PageBuf> {
    /// Copies bytes into the last buffer's room, if it's plain; returns how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let _ = bytes;
        todo!()
    }

    /// Adds slices for `range` to `out`, as many as it takes; returns the offset they reach.
    pub fn slices<'a>(&'a self, range: Range<u64>, out: &mut Slices<'a>) -> u64 {
        let _ = (range, out);
        todo!()
    }

    /// The buffers from the one that holds `offset`, to seal them.
    pub fn iter_mut_from(&mut self, offset: u64) -> IterMut<'_> {
        let _ = offset;
        todo!()
    }
}

impl Stream<Buffer> {
    /// Adds a buffer at the end; if it's short and the last one has room for it, by copying.
    pub fn push_compact(&mut self, buffer: Buffer) {
        let _ = buffer;
        todo!()
    }

    /// Copies `out.len()` bytes from `offset` on; returns how many there were.
    pub fn copy_to(&self, offset: u64, out: &mut [u8]) -> usize {
        let _ = (offset, out);
        todo!()
    }

    /// The bytes from the start that are in one piece.
    pub fn front(&self) -> &[u8] {
        todo!()
    }

    /// The first `len` bytes, to change them, if they are in one piece that may be written to.
    pub fn front_mut(&mut self, len: u32) -> Option<&mut [u8]> {
        let _ = len;
        todo!()
    }
}

/// The buffers of a stream.
#[derive(Debug)]
pub struct Iter<'a, T: Link> {
    _stream: PhantomData<&'a T>,
}

impl<'a, T: Link> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T::Node);

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// The page buffers of a stream, to seal them.
#[derive(Debug)]
pub struct IterMut<'a> {
    _stream: PhantomData<&'a mut PageBuf>,
}

impl<'a> Iterator for IterMut<'a> {
    type Item = (u64, Queued<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// A page buffer in a stream: it can be sealed, which doesn't change its length, and nothing else.
#[derive(Debug)]
pub struct Queued<'a> {
    block: &'a mut PageBuf,
}

impl Queued<'_> {
    /// [`PageBuf::seal_with`].
    pub fn seal_with<E>(
        &mut self,
        pool: &mut PagePool,
        seal: impl FnOnce(SealParts<'_>) -> Result<(), E>,
    ) -> Result<(), SealError<E>> {
        self.block.seal_with(pool, seal)
    }
}

impl Deref for Queued<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        self.block
    }
}

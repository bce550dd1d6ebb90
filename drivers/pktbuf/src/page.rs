//! The handle of a page buffer: what its owner alone may do.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::block::{Block, RecordFields};
use crate::buffer::Buffer;
use crate::pool::PagePool;

/// A page buffer: an 8-byte handle to a [`Block`], move-only. Dropping it gives its count back; the
/// memory is free when every port has given back its own.
pub struct PageBuf(pub(crate) NonNull<Block>);

const _: () = assert!(size_of::<PageBuf>() == 8);
const _: () = assert!(size_of::<Option<PageBuf>>() == 8);

// SAFETY: whoever has the handle has the block; a block freed on a foreign thread goes back by the
// pool's return list.
unsafe impl Send for PageBuf {}

impl PageBuf {
    /// How many bytes can still be appended: 0 unless plain and of its own memory.
    pub fn room(&self) -> u32 {
        todo!()
    }

    /// Copies as much of `bytes` as there is room for behind the body; returns how much (for the
    /// counter of copied bytes).
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let _ = bytes;
        todo!()
    }

    /// Lets `fill` write up to `len` bytes (less, if there's less room) behind the body. It
    /// returns how many it wrote, from the front; they are added. What it's given holds old bytes of
    /// somebody else: it may only be written to.
    pub fn append_with(&mut self, len: u32, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let _ = (len, fill);
        todo!()
    }

    /// The body, to change it: plain, of its own memory, and never shown to a port.
    pub fn body_mut(&mut self) -> Option<&mut [u8]> {
        todo!()
    }

    /// Drops the body's bytes from `len` on (plain buffers).
    pub fn truncate(&mut self, len: u32) {
        let _ = len;
        todo!()
    }

    /// Drops the body's first `n` bytes (plain buffers).
    pub fn trim_front(&mut self, n: u32) {
        let _ = n;
        todo!()
    }

    /// Makes a plain buffer a record's plaintext: header and trailer count from now on, and nothing
    /// can be read or appended any more.
    pub fn frame(
        &mut self,
        record: RecordFields,
        head: &[u8],
        tail_len: u8,
    ) -> Result<(), FrameError> {
        let _ = (record, head, tail_len);
        todo!()
    }

    /// Seals a framed record by `seal`: in place if the body is its own memory, else out of place
    /// into a span newly taken from the pool, and the page cache is released. After it the bytes
    /// are one readable piece. On failure the buffer is framed as it was; a `seal` that fails must
    /// have left the body alone ([`SealParts::body`], in place).
    pub fn seal_with<E>(
        &mut self,
        pool: &mut PagePool,
        seal: impl FnOnce(SealParts<'_>) -> Result<(), E>,
    ) -> Result<(), SealError<E>> {
        let _ = (pool, seal);
        todo!()
    }

    /// Turns a plain buffer of its own memory, never shown, into a received one: compact copies.
    pub fn into_buffer(self) -> Result<Buffer, Self> {
        todo!()
    }
}

impl Deref for PageBuf {
    type Target = Block;

    fn deref(&self) -> &Block {
        // SAFETY: the handle's count keeps the block.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        todo!()
    }
}

impl fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A record's memory while it's sealed: disjoint pieces, one behind the other on the wire.
#[derive(Debug)]
pub struct SealParts<'a> {
    /// The record header, as framed.
    pub head: &'a mut [u8],
    /// The plaintext, if it isn't in `body`: then `body` is only written to.
    pub from: Option<&'a [u8]>,
    /// Where the ciphertext goes; without `from` it holds the plaintext.
    pub body: &'a mut [u8],
    /// The trailer, to be written whole.
    pub tail: &'a mut [u8],
}

/// Why a record wasn't sealed. It's still framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError<E> {
    /// No span is free to seal into; try again when the pool has one.
    Exhausted,
    /// It isn't a framed record.
    NotFramed,
    /// A port has, or had, its plaintext by reference.
    Shown,
    /// What `seal` said.
    Cipher(E),
}

/// Why a buffer wasn't framed. It's as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It's a record already.
    NotPlain,
    /// A port has, or had, it by reference.
    Shown,
    /// Header or trailer longer than there's room for.
    TooLong,
}

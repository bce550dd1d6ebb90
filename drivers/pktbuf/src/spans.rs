//! The sizes of spans, and lists of free ones.

use std::cell::RefCell;
use std::ptr::NonNull;

/// The free spans of one size.
pub(crate) struct Spans {
    /// Holds all of them at most: it never grows.
    free: RefCell<Vec<NonNull<u8>>>,
    pub(crate) count: u32,
}

impl Spans {
    pub(crate) fn new(base: NonNull<u8>, size: u32, count: u32) -> Self {
        let span = |i: u32| {
            // SAFETY: the caller carved `count` spans at `base`.
            unsafe { base.add(i as usize * size as usize) }
        };
        Self {
            free: RefCell::new((0..count).rev().map(span).collect()),
            count,
        }
    }

    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        self.free.borrow_mut().pop()
    }

    pub(crate) fn push(&self, span: NonNull<u8>) {
        self.free.borrow_mut().push(span);
    }

    pub(crate) fn used(&self) -> u32 {
        let free = u32::try_from(self.free.borrow().len()).unwrap_or(u32::MAX);
        self.count.saturating_sub(free)
    }
}

/// Bytes of a small span: a frame of usual size.
pub const SMALL_SPAN: u32 = 2048;
/// Bytes of a large span: the longest TLS record, with the expansion of received ones, in whole
/// pages. Sealing into spans that share pages with each other is 5 % slower.
pub const LARGE_SPAN: u32 = 5 * 4096;
/// Bytes that fit into the body of a small span.
pub const SMALL_CAPACITY: u32 = SMALL_SPAN - HEAD_ROOM - TAIL_ROOM;
/// Bytes that fit into the body of a large span.
pub const LARGE_CAPACITY: u32 = LARGE_SPAN - HEAD_ROOM - TAIL_ROOM;
/// Bytes in front of a body, for a record's header or the description of a received buffer. It is a
/// multiple of a cache line, as spans are, so bodies are aligned.
pub(crate) const HEAD_ROOM: u32 = 128;
/// Bytes behind a body, for a record's trailer.
pub(crate) const TAIL_ROOM: u32 = 64;

const _: () = assert!(HEAD_ROOM.is_multiple_of(64));
const _: () = assert!(SMALL_SPAN.is_multiple_of(64) && LARGE_SPAN.is_multiple_of(64));
// RFC 8446, 5.2: a record of 2^14 + 256 bytes behind a header of 5.
const _: () = assert!(LARGE_CAPACITY >= 16_384 + 256 + 5);

//! The sizes of spans, and lists of free ones.

use std::cell::RefCell;
use std::ptr::NonNull;

use crate::region::Run;

/// The free spans of one size.
pub(crate) struct Spans {
    /// Holds all of them at most: it never grows.
    free: RefCell<Vec<NonNull<u8>>>,
    pub(crate) count: u32,
}

impl Spans {
    /// Makes a list of the spans of `size` bytes in these runs, all free.
    pub(crate) fn new(runs: &[Run], size: u32) -> Self {
        let spans = |run: &Run| {
            let base = run.part.base;
            let span = move |i: usize| {
                // SAFETY: so many spans were carved at `base`.
                unsafe { base.add(i * size as usize) }
            };
            (0..run.items).rev().map(span)
        };
        let free: Vec<NonNull<u8>> = runs.iter().rev().flat_map(spans).collect();
        Self {
            count: u32::try_from(free.len()).unwrap_or(u32::MAX),
            free: RefCell::new(free),
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

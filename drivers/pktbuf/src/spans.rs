//! Lists of free spans.

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

//! Parts of a pool: lists of free spans, and failures made on purpose.

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

/// Which allocations are made to fail.
#[derive(Clone, Copy)]
pub(crate) struct Injection {
    state: u64,
    one_in: u32,
}

impl Injection {
    /// About one in `one_in`; 0: none.
    pub(crate) fn new(seed: u64, one_in: u32) -> Self {
        // Near seeds begin far apart, and never at zero.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            one_in,
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.one_in == 0
    }

    /// Whether the next one fails.
    pub(crate) fn strikes(&mut self) -> bool {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        random.is_multiple_of(u64::from(self.one_in))
    }
}

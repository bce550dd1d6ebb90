//! What arrived out of order.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::pool::PagePool;
use crate::stream::Stream;

/// Received buffers ahead of the stream's end, sorted, disjoint. The first copy of each byte wins.
///
/// For each segment with payload, before TCP is told of it: [`Reassembly::admit`]. If that refuses,
/// the segment is dropped as if it had been lost. After TCP's verdict the buffer, trimmed to what the
/// verdict keeps, goes to [`Reassembly::insert`], which cannot fail.
#[derive(Debug, Default)]
pub struct Reassembly {
    true_size: u32,
    items: u16,
}

/// How much may wait out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReassemblyLimits {
    /// Bytes of memory pinned.
    pub true_size: u32,
    /// Buffers.
    pub items: u16,
}

/// Why a buffer wasn't admitted. (It has been freed.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too much is waiting out of order.
    Limit,
    /// It spans buffers that are already here, may not be written to, and there's no memory to copy
    /// it.
    Exhausted,
}

impl Reassembly {
    /// Nothing.
    pub const fn new() -> Self {
        Self { true_size: 0, items: 0 }
    }

    /// Makes sure that a buffer whose first byte has stream offset `at` can be held, whatever part
    /// of it TCP wants; `next` is the stream's end. A segment that brings the next byte in order is
    /// never refused for a limit.
    pub fn admit(
        &self,
        next: u64,
        at: u64,
        buffer: Buffer,
        limits: &ReassemblyLimits,
        pool: &mut PagePool,
    ) -> Result<Buffer, Refused> {
        let _ = (next, at, buffer, limits, pool);
        todo!()
    }

    /// Holds an admitted buffer whose first byte has stream offset `at`, less what is here already
    /// and what lies before the stream's end, and moves to the stream what is in order now.
    pub fn insert(&mut self, at: u64, buffer: Buffer, stream: &mut Stream<Buffer>) {
        let _ = (at, buffer, stream);
        todo!()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// How many buffers wait.
    pub fn items(&self) -> u16 {
        self.items
    }

    /// Bytes of memory that they pin.
    pub fn true_size(&self) -> u32 {
        self.true_size
    }

    /// The ranges that are here, in order, each as long as it goes.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        std::iter::empty()
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        todo!()
    }

    /// Every invariant; what's broken, if anything is.
    pub fn check(&self) -> Result<(), &'static str> {
        todo!()
    }
}

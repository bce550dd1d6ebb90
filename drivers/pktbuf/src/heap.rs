//! Received buffers on the heap.

use crate::buffer::Buffer;
use crate::pool::PoolUsage;

/// A pool of received buffers on the heap, for tests, simulators and doors. It belongs to its
/// thread, as a [`PagePool`](crate::PagePool) does.
#[derive(Debug)]
pub struct HeapBuffers {
    pool: crate::PagePool,
}

impl HeapBuffers {
    /// A pool of `count` buffers of up to 1856 bytes and a quarter as many of up to 16 704.
    pub fn new(count: u32) -> Self {
        let _ = count;
        todo!()
    }

    /// A writable buffer with a copy of `bytes`, in one piece if it fits into one.
    pub fn alloc(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let _ = bytes;
        todo!()
    }

    /// A writable buffer of several fragments, a copy of one piece each.
    pub fn alloc_chain(&mut self, pieces: &[&[u8]]) -> Option<Buffer> {
        let _ = pieces;
        todo!()
    }

    /// How much is in use.
    pub fn usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// Whether everything is back.
    pub fn is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// From now on about one allocation in `one_in` fails, chosen by `seed`; 0: none does.
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        self.pool.inject_failures(seed, one_in);
    }
}

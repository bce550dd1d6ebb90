//! A pool of received buffers on the heap.

use crate::buffer::Buffer;
use crate::pool::{PagePool, PoolConfig, PoolUsage};
use crate::region::Region;
use crate::spans::LARGE_CAPACITY;

/// A pool of received buffers on the heap, for tests and simulators. It belongs to the thread that
/// made it, as a [`PagePool`] does.
#[derive(Debug)]
pub struct HeapBuffers {
    pool: PagePool,
}

impl HeapBuffers {
    /// A pool of `count` buffers for frames of usual size
    /// ([`SMALL_CAPACITY`](crate::SMALL_CAPACITY)) and a quarter as many large ones
    /// ([`LARGE_CAPACITY`]).
    ///
    /// # Panics
    ///
    /// If the heap has not enough memory.
    pub fn new(count: u32) -> Self {
        let large_spans = count.div_ceil(4);
        let config = PoolConfig {
            blocks: count + large_spans,
            small_spans: count,
            large_spans,
        };
        let pool = Region::heap(PagePool::bytes_needed(config))
            .and_then(|mut region| PagePool::new(&mut region, config));
        Self {
            pool: pool.expect("memory for buffers"),
        }
    }

    /// Allocates a writable buffer with a copy of `bytes`, in as few fragments as possible. Returns
    /// `None` if no buffer is free.
    pub fn alloc(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let (first, rest) = bytes.split_at(bytes.len().min(LARGE_CAPACITY as usize));
        let mut buffer = self.pool.alloc_buffer(first)?;
        for piece in rest.chunks(LARGE_CAPACITY as usize) {
            buffer.chain(self.pool.alloc_buffer(piece)?);
        }
        Some(buffer)
    }

    /// Allocates a writable buffer with a fragment for each of `pieces`. Returns `None` if no
    /// buffer is free.
    pub fn alloc_chain(&mut self, pieces: &[&[u8]]) -> Option<Buffer> {
        let (first, rest) = pieces.split_first()?;
        let mut buffer = self.pool.alloc_buffer(first)?;
        for piece in rest {
            buffer.chain(self.pool.alloc_buffer(piece)?);
        }
        Some(buffer)
    }

    /// Returns buffers freed on other threads to the free lists.
    pub fn reclaim(&mut self) {
        self.pool.reclaim();
    }

    /// Returns the usage.
    pub fn usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// Returns whether nothing is in use.
    pub fn is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// Makes about one allocation in `one_in` fail from now on, drawn from `seed`; 0: none.
    #[cfg(feature = "fault-injection")]
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        self.pool.inject_failures(seed, one_in);
    }
}

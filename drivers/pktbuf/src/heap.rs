//! Received buffers on the heap.

use crate::buffer::Buffer;
use crate::pool::{PagePool, PoolConfig, PoolUsage};
use crate::region::Region;
use crate::spans::LARGE_CAPACITY;

/// A pool of received buffers on the heap, for tests, simulators and doors. It belongs to its
/// thread, as a [`PagePool`] does.
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
    /// If there isn't that much memory.
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

    /// A writable buffer with a copy of `bytes`, in one fragment if they fit into one.
    pub fn alloc(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let (first, rest) = bytes.split_at(bytes.len().min(LARGE_CAPACITY as usize));
        let mut buffer = self.pool.alloc_buffer(first)?;
        for piece in rest.chunks(LARGE_CAPACITY as usize) {
            buffer.chain(self.pool.alloc_buffer(piece)?);
        }
        Some(buffer)
    }

    /// A writable buffer of several fragments, a copy of one piece each.
    pub fn alloc_chain(&mut self, pieces: &[&[u8]]) -> Option<Buffer> {
        let (first, rest) = pieces.split_first()?;
        let mut buffer = self.pool.alloc_buffer(first)?;
        for piece in rest {
            buffer.chain(self.pool.alloc_buffer(piece)?);
        }
        Some(buffer)
    }

    /// Takes back what was freed on other threads.
    pub fn reclaim(&mut self) {
        self.pool.reclaim();
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
    #[cfg(feature = "fault-injection")]
    pub fn inject_failures(&mut self, seed: u64, one_in: u32) {
        self.pool.inject_failures(seed, one_in);
    }
}

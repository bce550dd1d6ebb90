//! Allocation of page buffers.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PagePool;
use crate::arena::SharedSpan;
use crate::block::{Block, Fields, Memory};
use crate::page::PageBuf;

impl PagePool {
    /// Allocates an empty plain buffer with room for `capacity` bytes, and for record header and
    /// trailer. Returns `None` if none is free, or if `capacity` is more than
    /// [`LARGE_CAPACITY`](crate::LARGE_CAPACITY).
    pub fn alloc(&mut self, capacity: u32) -> Option<PageBuf> {
        let pool = self.inner();
        if pool.draw_failure() {
            return None;
        }
        let block = pool.take_block()?;
        let Some((memory, body)) = pool.take_span(capacity) else {
            pool.put_block(block);
            return None;
        };
        Some(new_page(block, memory, body.as_ptr(), 0))
    }

    /// Allocates a plain buffer that refers to `len` bytes of the page cache, from `at` on. Returns
    /// `None` if no block is free, or if the range isn't in the span.
    pub fn alloc_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> Option<PageBuf> {
        let end = (at as usize).checked_add(len as usize)?;
        let body = span.get(at as usize..end)?.as_ptr().cast_mut();
        self.alloc_shared(span, body, len)
    }

    /// As [`alloc_span`](Self::alloc_span), of the `len` bytes at `body`, which are in the span.
    pub(crate) fn alloc_shared(
        &self,
        span: &Arc<SharedSpan>,
        body: *mut u8,
        len: u32,
    ) -> Option<PageBuf> {
        let pool = self.inner();
        if pool.draw_failure() {
            return None;
        }
        let block = pool.take_block()?;
        let memory = Memory::Shared(Arc::clone(span));
        Some(new_page(block, memory, body, len))
    }
}

/// Makes a free block a plain buffer with this body and one reference.
fn new_page(block: NonNull<Block>, memory: Memory, body: *mut u8, body_len: u32) -> PageBuf {
    let ptr = block.as_ptr();
    // SAFETY: a free block has no other use.
    let fields = unsafe { &mut (*ptr).fields };
    *fields = Fields {
        memory,
        body,
        body_len,
        ..Fields::free()
    };
    // SAFETY: as above.
    let shared = unsafe { &(*ptr).shared };
    shared.refcnt.store(1, Ordering::Relaxed);
    shared.attached.store(false, Ordering::Relaxed);
    PageBuf(block)
}

//! Page buffers as received packets: copies of packets in the pool's memory.

use std::mem;
use std::ptr::NonNull;

use crate::block::{self, BLOCK_SIZE, Block, State};
use crate::buffer::Buffer;
use crate::frag::{Frag, FragInit, FragOps, flags};
use crate::page::PageBuf;
use crate::pool::PagePool;
use crate::spans::{HEAD_ROOM, LARGE_CAPACITY, LARGE_SPAN, SMALL_CAPACITY, SMALL_SPAN, TAIL_ROOM};

impl PagePool {
    /// Allocates a received buffer with a copy of `bytes`, in one fragment. Returns `None` if no
    /// buffer is free, or if they are more than [`LARGE_CAPACITY`].
    pub fn alloc_buffer(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let mut page = self.alloc(u32::try_from(bytes.len()).ok()?)?;
        page.append(bytes);
        page.into_buffer().ok()
    }
}

impl Buffer {
    /// Returns a writable copy in one fragment of the pool's memory, with the packet's port, hash,
    /// VLAN tag and verdicts. Returns `None` if no buffer is free, or if the packet has more than
    /// [`LARGE_CAPACITY`] bytes.
    pub fn copied(&self, pool: &mut PagePool) -> Option<Self> {
        let len = self.len();
        let mut page = pool.alloc(len)?;
        page.append_with(len, |to| self.copy_to(0, to));
        let mut copy = page.into_buffer().ok()?;
        copy.head_mut().copy_meta(self);
        Some(copy)
    }

    /// Returns a copy if that pins less memory and a buffer is free, else the buffer itself.
    pub fn compact(self, pool: &mut PagePool) -> Self {
        let gain = true_size_for(self.len()).is_some_and(|size| size < self.true_size());
        if gain && let Some(copy) = self.copied(pool) {
            copy
        } else {
            self
        }
    }
}

impl PageBuf {
    /// Converts a plain, never attached buffer with a span of its own into a received one.
    ///
    /// # Errors
    /// The buffer itself, if it is another kind of buffer.
    pub fn into_buffer(self) -> Result<Buffer, Self> {
        let convertible = self.fields.state == State::Plain && self.was_never_attached();
        let Some((span, _)) = self.fields.memory.own().filter(|_| convertible) else {
            return Err(self);
        };
        let Some(data) = NonNull::new(self.fields.body) else {
            return Err(self);
        };
        let init = FragInit {
            data,
            len: self.fields.body_len,
            true_size: self.true_size(),
            flags: flags::WRITABLE,
            ops: &PAGE_OPS,
        };
        let frag = span.cast::<PageFrag>();
        // SAFETY: the span begins with head room for it, aligned to a cache line.
        let block = unsafe { &raw mut (*frag.as_ptr()).block };
        // SAFETY: as above.
        unsafe { block.write(self.0) };
        // SAFETY: as above; the body is this handle's alone, whose count goes with the fragment.
        unsafe { Frag::write(frag.cast(), init) };
        mem::forget(self);
        // SAFETY: one fragment, described just now.
        Ok(unsafe { Buffer::from_raw(frag.cast()) })
    }
}

/// Description of a page buffer as a received one. It stands at the begin of the buffer's span.
#[repr(C)]
struct PageFrag {
    frag: Frag,
    block: NonNull<Block>,
}

const _: () = assert!(size_of::<PageFrag>() <= HEAD_ROOM as usize);

static PAGE_OPS: FragOps = FragOps {
    release: page_release,
    tailroom: page_tailroom,
};

unsafe extern "C" fn page_release(frag: *mut Frag) {
    // SAFETY: a fragment with these operations is a PageFrag's.
    let block = unsafe { (*frag.cast::<PageFrag>()).block };
    // SAFETY: the fragment has the handle's count.
    unsafe { block::put(block) }
}

unsafe extern "C" fn page_tailroom(frag: *const Frag) -> u32 {
    // SAFETY: a fragment with these operations is a PageFrag's.
    let block = unsafe { (*frag.cast::<PageFrag>()).block };
    // SAFETY: the fragment has the handle's count.
    let Some((span, len)) = (unsafe { block.as_ref() }).fields.memory.own() else {
        return 0;
    };
    // SAFETY: the caller's fragment.
    let end = unsafe { (*frag).end() };
    let used = u32::try_from(end - span.addr().get()).unwrap_or(u32::MAX);
    (len - TAIL_ROOM).saturating_sub(used)
}

/// Returns the bytes that a buffer of this capacity pins; `None` if no buffer is that large.
fn true_size_for(capacity: u32) -> Option<u32> {
    let span = if capacity <= SMALL_CAPACITY {
        SMALL_SPAN
    } else {
        LARGE_SPAN
    };
    (capacity <= LARGE_CAPACITY).then_some(BLOCK_SIZE + span)
}

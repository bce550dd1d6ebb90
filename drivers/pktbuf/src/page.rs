//! The handle of a page buffer, with the operations that only its owner may do.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::Ordering;

use crate::block::{self, Block, Fields, HEAD_MAX, RecordFields, State};
use crate::links::{Link, Links};
use crate::spans::{LARGE_CAPACITY, TAIL_ROOM};

/// A page buffer: an 8-byte, move-only handle to a [`Block`].
///
/// Dropping it releases the handle's reference. The memory is freed when every port has released
/// its own, too.
pub struct PageBuf(pub(crate) NonNull<Block>);

const _: () = assert!(size_of::<PageBuf>() == 8);
const _: () = assert!(size_of::<Option<PageBuf>>() == 8);

// SAFETY: the handle owns the block; a block freed on another thread returns by the pool's return
// list.
unsafe impl Send for PageBuf {}

impl PageBuf {
    /// Returns how many bytes can be appended: 0 unless it is plain and has a span of its own.
    pub fn room(&self) -> u32 {
        if self.fields.state != State::Plain {
            return 0;
        }
        let Some((span, len)) = self.fields.memory.own() else {
            return 0;
        };
        let used = self.fields.body.addr() + self.fields.body_len as usize - span.addr().get();
        (len - TAIL_ROOM).saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Copies as much of `bytes` as there is room for behind the body. Returns the number of bytes
    /// copied.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.append_with(len, |to| {
            to.copy_from_slice(&bytes[..to.len()]);
            to.len()
        })
    }

    /// Appends what `fill` writes. It gets up to `len` bytes of memory (fewer if there is less
    /// room) and returns how many it wrote, from the front. The memory holds old bytes of other
    /// connections: `fill` must not read it.
    pub fn append_with(&mut self, len: u32, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let len = len.min(self.room());
        let fields = self.fields_mut();
        let to = fields.body.wrapping_add(fields.body_len as usize);
        // SAFETY: `len` bytes of the span, initialised at least when the region was made. Ports may
        // have bytes of the body, never of the room behind it.
        let to = unsafe { slice::from_raw_parts_mut(to, len as usize) };
        let n = fill(to).min(len as usize);
        fields.body_len += u32::try_from(n).unwrap_or(0);
        n
    }

    /// Returns the body for writing, if the buffer is plain, has a span of its own and was never
    /// attached.
    pub fn body_mut(&mut self) -> Option<&mut [u8]> {
        let changeable = self.fields.state == State::Plain
            && self.fields.memory.own().is_some()
            && self.was_never_attached();
        if !changeable {
            return None;
        }
        let fields = self.fields_mut();
        // SAFETY: the body is this handle's alone.
        Some(unsafe { slice::from_raw_parts_mut(fields.body, fields.body_len as usize) })
    }

    /// Removes the bytes from `len` on. No effect unless it is plain and was never attached.
    pub fn truncate(&mut self, len: u32) {
        // An attached byte must not be overwritten by a later append.
        if self.fields.state == State::Plain && self.was_never_attached() {
            let fields = self.fields_mut();
            fields.body_len = fields.body_len.min(len);
        }
    }

    /// Removes the first `n` bytes (all, if there are fewer). No effect unless it is plain.
    pub fn trim_front(&mut self, n: u32) {
        if self.fields.state == State::Plain {
            let fields = self.fields_mut();
            let n = n.min(fields.body_len);
            fields.body = fields.body.wrapping_add(n as usize);
            fields.body_len -= n;
        }
    }

    /// Makes a plain buffer the plaintext of a record. From now on header and trailer count, and
    /// nothing can be read or appended.
    ///
    /// # Errors
    /// See [`FrameError`]; the buffer is unchanged.
    pub fn frame(
        &mut self,
        record: RecordFields,
        head: &[u8],
        tail_len: u8,
    ) -> Result<(), FrameError> {
        if self.fields.state != State::Plain {
            return Err(FrameError::NotPlain);
        }
        if !self.was_never_attached() {
            return Err(FrameError::Attached);
        }
        let head_len = u8::try_from(head.len()).map_err(|_| FrameError::TooLong)?;
        if head.len() > HEAD_MAX
            || u32::from(tail_len) > TAIL_ROOM
            || self.fields.body_len > LARGE_CAPACITY
        {
            return Err(FrameError::TooLong);
        }
        let fields = self.fields_mut();
        fields.head[HEAD_MAX - head.len()..].copy_from_slice(head);
        fields.head_len = head_len;
        fields.tail_len = tail_len;
        fields.set_record(record);
        fields.state = State::Framed;
        Ok(())
    }

    /// Returns whether it isn't attached to a packet and never was.
    pub(crate) fn was_never_attached(&self) -> bool {
        self.is_sole() && !self.shared.attached.load(Ordering::Relaxed)
    }

    /// Not the whole block: ports decrement the count in `shared` at any time, and a
    /// [`SealMemory`](crate::SealMemory) stores its outcome.
    pub(crate) fn fields_mut(&mut self) -> &mut Fields {
        // SAFETY: only the handle accesses them.
        unsafe { &mut (*self.0.as_ptr()).fields }
    }
}

// SAFETY: a handle is a pointer to its block; a block's links are used in free lists otherwise.
unsafe impl Link for PageBuf {
    type Node = Block;

    fn into_node(self) -> NonNull<Block> {
        let node = self.0;
        std::mem::forget(self);
        node
    }

    unsafe fn from_node(node: NonNull<Block>) -> Self {
        Self(node)
    }

    fn links(node: NonNull<Block>) -> *mut Links<Block> {
        // SAFETY: the address of a field of a block.
        unsafe { &raw mut (*node.as_ptr()).fields.links }
    }

    fn len_of(node: &Block) -> u32 {
        node.len()
    }

    fn true_size_of(node: &Block) -> u32 {
        node.true_size()
    }
}

impl Deref for PageBuf {
    type Target = Block;

    fn deref(&self) -> &Block {
        // SAFETY: the handle's reference keeps the block.
        let block = unsafe { self.0.as_ref() };
        debug_assert_ne!(
            block.shared.refcnt.load(Ordering::Relaxed),
            0,
            "used after the last free"
        );
        block
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        // SAFETY: the handle holds one reference.
        unsafe { block::put(self.0) }
    }
}

impl fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Why a buffer wasn't framed. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It is a record already.
    NotPlain,
    /// It is, or was, attached to a packet.
    Attached,
    /// The header is longer than [`RECORD_HEAD_MAX`](crate::RECORD_HEAD_MAX), the trailer than
    /// [`RECORD_TAIL_MAX`](crate::RECORD_TAIL_MAX), or the body than [`LARGE_CAPACITY`].
    TooLong,
}

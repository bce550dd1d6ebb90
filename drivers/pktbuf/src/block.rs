//! The block behind a page buffer.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::arena::SharedSpan;
use crate::pool::PoolInner;

/// The memory layout of DPDK's `rte_mbuf_ext_shared_info`, by which an external-buffer mbuf gives
/// its count back. (Drivers assert the layout against the installed headers.)
#[repr(C)]
#[derive(Debug)]
pub struct SharedInfo {
    /// Called when the last count is given back, with the memory's address and `fcb_opaque`; on
    /// any thread.
    pub free_cb: Option<unsafe extern "C" fn(addr: *mut c_void, opaque: *mut c_void)>,
    /// The block.
    pub fcb_opaque: *mut c_void,
    /// How many hold the memory: the handle, and each attachment.
    pub refcnt: AtomicU16,
}

/// What a page buffer's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not a record: plain HTTP, handshake messages, received bytes.
    Plain,
    /// The plaintext of a record: all lengths are fixed, not readable.
    Framed,
    /// A sealed record: one piece of header, ciphertext and trailer.
    Sealed,
}

/// What a record's cipher needs to know besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFields {
    /// Record sequence number.
    pub number: u64,
    /// Content type.
    pub kind: u8,
    /// Which of the queue's key epochs seals it.
    pub epoch: u8,
}

/// A page buffer as its handle and its borrowers see it: lengths, state, and the bytes if they may
/// be read.
///
/// On the wire it is `head | body | tail`; a framed record's header and trailer already count.
/// Offsets in a page buffer are offsets in that.
#[repr(C, align(64))]
pub struct Block {
    pub(crate) shared: SharedInfo,
    pub(crate) pool: NonNull<PoolInner>,
    /// Next in a stream, in the free list or in the return list.
    pub(crate) next: *mut Self,
    /// Stream offset while queued.
    pub(crate) offset: u64,
    pub(crate) body: *mut u8,
    pub(crate) memory: Memory,
    pub(crate) body_len: u32,
    pub(crate) record: RecordFields,
    pub(crate) head: [u8; HEAD_MAX],
    pub(crate) head_len: u8,
    pub(crate) tail_len: u8,
    pub(crate) state: State,
    pub(crate) shown: AtomicBool,
}

const _: () = assert!(size_of::<Block>() <= 192);

/// What holds a block's body.
pub(crate) enum Memory {
    /// In the free list.
    None,
    /// A span of the pool: its first byte.
    Small(NonNull<u8>),
    /// A span of the pool: its first byte.
    Large(NonNull<u8>),
    /// Page cache.
    Shared(Arc<SharedSpan>),
}

impl Block {
    /// Bytes on the wire.
    pub fn len(&self) -> u32 {
        u32::from(self.head_len) + self.body_len + u32::from(self.tail_len)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of record header; 0 if it isn't a record.
    pub fn head_len(&self) -> u32 {
        u32::from(self.head_len)
    }

    /// Bytes between header and trailer.
    pub fn body_len(&self) -> u32 {
        self.body_len
    }

    /// Bytes of record trailer; 0 if it isn't a record.
    pub fn tail_len(&self) -> u32 {
        u32::from(self.tail_len)
    }

    /// What the bytes are.
    pub fn state(&self) -> State {
        self.state
    }

    /// The record's number, type and epoch; `None` if it isn't one.
    pub fn record(&self) -> Option<RecordFields> {
        (self.state != State::Plain).then_some(self.record)
    }

    /// The record's header; empty if it isn't one.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Whether the body is page cache (never written to) rather than memory of its own.
    pub fn is_by_reference(&self) -> bool {
        matches!(self.memory, Memory::Shared(_))
    }

    /// The bytes on the wire; `None` exactly while they are a framed record's plaintext.
    pub fn bytes(&self) -> Option<&[u8]> {
        if self.state == State::Framed {
            return None;
        }
        // SAFETY: see `wire_start`; nothing writes there while the block is borrowed.
        Some(unsafe { slice::from_raw_parts(self.wire_start(), self.len() as usize) })
    }

    /// Bytes of memory that the page buffer pins (page cache not counted: it's shared).
    pub fn true_size(&self) -> u32 {
        todo!()
    }

    /// Whether a port took some of it by reference at any time.
    pub fn is_shown(&self) -> bool {
        self.shown.load(Ordering::Relaxed)
    }

    /// Adds one count for `len` bytes from `at`, to hand them to a port by reference.
    pub fn attach(&self, at: u32, len: u32) -> Result<Attachment, AttachError> {
        let _ = (at, len);
        todo!()
    }

    /// Where the bytes on the wire begin, unless framed: the body of a plain buffer, and a sealed
    /// record's header in front of its body.
    pub(crate) fn wire_start(&self) -> *mut u8 {
        self.body.wrapping_sub(usize::from(self.head_len))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("state", &self.state)
            .field("head", &self.head_len)
            .field("body", &self.body_len)
            .field("tail", &self.tail_len)
            .finish_non_exhaustive()
    }
}

/// One count of a page buffer that is on its way to a port, with the memory it stands for. Dropping
/// it gives the count back.
#[derive(Debug)]
pub struct Attachment {
    shared: NonNull<SharedInfo>,
    data: NonNull<u8>,
    len: u32,
}

impl Attachment {
    /// First byte.
    pub fn data(&self) -> NonNull<u8> {
        self.data
    }

    /// Bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Passes the count to whoever gets the pointer, such as an external-buffer mbuf: it gives it
    /// back by lowering `refcnt` and calling `free_cb` with `fcb_opaque` when that was the last, on
    /// any thread.
    pub fn into_raw(self) -> NonNull<SharedInfo> {
        let shared = self.shared;
        std::mem::forget(self);
        shared
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        todo!()
    }
}

/// Why a page buffer couldn't be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachError {
    /// It's a record's plaintext.
    Plaintext,
    /// The range isn't in the buffer.
    OutOfRange,
    /// Too many counts are out already: send this one by copy.
    TooMany,
    /// Not on the thread that owns the pool: only it adds counts.
    NotOwner,
}

pub(crate) const HEAD_MAX: usize = 16;

#[expect(dead_code, reason = "filled next")]
fn unused() {
    let _ = ptr::null::<u8>();
}

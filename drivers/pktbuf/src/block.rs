//! The block behind a page buffer.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::arena::SharedSpan;
use crate::links::Links;
use crate::pool::inner::PoolInner;
use crate::spans::{LARGE_SPAN, SMALL_SPAN};

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
    /// What the holder of the handle alone touches, apart from what ports touch (`shared`).
    pub(crate) fields: Fields,
}

const _: () = assert!(size_of::<Block>() == 128);

pub(crate) struct Fields {
    /// Next in a stream, in the free list or in the return list; offset while queued.
    pub(crate) links: Links<Block>,
    /// First byte of the body.
    pub(crate) body: *mut u8,
    pub(crate) memory: Memory,
    pub(crate) record: RecordFields,
    pub(crate) body_len: u32,
    /// At its end, the record's header.
    pub(crate) head: [u8; HEAD_MAX],
    pub(crate) head_len: u8,
    pub(crate) tail_len: u8,
    pub(crate) state: State,
    /// Atomic only to be set through a shared reference.
    pub(crate) shown: AtomicBool,
}

impl Fields {
    /// A free block's.
    pub(crate) fn free() -> Self {
        Self {
            links: Links::new(),
            body: ptr::null_mut(),
            memory: Memory::None,
            record: RecordFields::default(),
            body_len: 0,
            head: [0; HEAD_MAX],
            head_len: 0,
            tail_len: 0,
            state: State::Plain,
            shown: AtomicBool::new(false),
        }
    }
}

/// What holds a block's body.
pub(crate) enum Memory {
    /// Nothing: the block is in the free list.
    None,
    /// A small span of the pool, by its first byte.
    Small(NonNull<u8>),
    /// A large one.
    Large(NonNull<u8>),
    /// Page cache.
    Shared(#[expect(dead_code, reason = "held, not looked at")] Arc<SharedSpan>),
}

impl Memory {
    /// First byte and length of a span of the pool.
    pub(crate) fn own(&self) -> Option<(NonNull<u8>, u32)> {
        match self {
            Self::Small(span) => Some((*span, SMALL_SPAN)),
            Self::Large(span) => Some((*span, LARGE_SPAN)),
            Self::None | Self::Shared(_) => None,
        }
    }
}

impl Block {
    /// A free block at `at`.
    pub(crate) fn new(pool: NonNull<PoolInner>, at: NonNull<Self>) -> Self {
        let shared = SharedInfo {
            free_cb: Some(free_cb),
            fcb_opaque: at.as_ptr().cast(),
            refcnt: AtomicU16::new(0),
        };
        Self {
            shared,
            pool,
            fields: Fields::free(),
        }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> u32 {
        self.head_len() + self.body_len() + self.tail_len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of record header; 0 if it isn't a record.
    pub fn head_len(&self) -> u32 {
        u32::from(self.fields.head_len)
    }

    /// Bytes between header and trailer.
    pub fn body_len(&self) -> u32 {
        self.fields.body_len
    }

    /// Bytes of record trailer; 0 if it isn't a record.
    pub fn tail_len(&self) -> u32 {
        u32::from(self.fields.tail_len)
    }

    /// What the bytes are.
    pub fn state(&self) -> State {
        self.fields.state
    }

    /// The record's number, type and epoch; `None` if it isn't one.
    pub fn record(&self) -> Option<RecordFields> {
        (self.fields.state != State::Plain).then_some(self.fields.record)
    }

    /// The record's header, as it was framed; empty if it isn't a record.
    pub fn head(&self) -> &[u8] {
        &self.fields.head[HEAD_MAX - usize::from(self.fields.head_len)..]
    }

    /// Whether the body is page cache (never written to) rather than memory of its own.
    pub fn is_by_reference(&self) -> bool {
        matches!(self.fields.memory, Memory::Shared(_))
    }

    /// The bytes on the wire; `None` exactly while they are a framed record's plaintext.
    pub fn bytes(&self) -> Option<&[u8]> {
        if self.fields.state == State::Framed {
            return None;
        }
        // SAFETY: `wire_start` begins `len` initialised bytes, and nothing writes to them while the
        // block is borrowed.
        Some(unsafe { slice::from_raw_parts(self.wire_start(), self.len() as usize) })
    }

    /// Bytes of memory that the page buffer pins. Page cache doesn't count: it's shared.
    pub fn true_size(&self) -> u32 {
        BLOCK_SIZE + self.fields.memory.own().map_or(0, |(_, len)| len)
    }

    /// Whether a port took some of it by reference at any time.
    pub fn is_shown(&self) -> bool {
        self.fields.shown.load(Ordering::Relaxed)
    }

    /// Adds one count for `len` bytes from `at`, to hand them to a port by reference.
    pub fn attach(&self, at: u32, len: u32) -> Result<Attachment, AttachError> {
        if self.fields.state == State::Framed {
            return Err(AttachError::Plaintext);
        }
        if at.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(AttachError::OutOfRange);
        }
        // SAFETY: the pool lives while a block of it is out.
        if !unsafe { self.pool.as_ref() }.is_owner() {
            return Err(AttachError::NotOwner);
        }
        let data = self.wire_start().wrapping_add(at as usize);
        let data = NonNull::new(data).ok_or(AttachError::OutOfRange)?;
        // Only this thread adds counts, so what is read can only be lowered meanwhile.
        match self.shared.refcnt.load(Ordering::Relaxed) {
            // Nobody else holds one.
            1 => self.shared.refcnt.store(2, Ordering::Relaxed),
            u16::MAX => return Err(AttachError::TooMany),
            _ => _ = self.shared.refcnt.fetch_add(1, Ordering::Relaxed),
        }
        self.fields.shown.store(true, Ordering::Relaxed);
        // Not from `self`: whoever gives back the last count writes to the block.
        let block = NonNull::new(self.shared.fcb_opaque.cast()).ok_or(AttachError::OutOfRange)?;
        Ok(Attachment { block, data, len })
    }

    /// Whether the handle's count is the only one.
    pub(crate) fn is_sole(&self) -> bool {
        self.shared.refcnt.load(Ordering::Acquire) == 1
    }

    /// Where the bytes on the wire begin, unless framed: the body of a plain buffer; in a sealed
    /// record the header is in front of the body.
    fn wire_start(&self) -> *mut u8 {
        self.fields
            .body
            .wrapping_sub(usize::from(self.fields.head_len))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("state", &self.fields.state)
            .field("head", &self.fields.head_len)
            .field("body", &self.fields.body_len)
            .field("tail", &self.fields.tail_len)
            .finish_non_exhaustive()
    }
}

/// One count of a page buffer that is on its way to a port, with the memory it stands for. Dropping
/// it gives the count back.
#[derive(Debug)]
pub struct Attachment {
    block: NonNull<Block>,
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
    /// back by lowering `refcnt` and, if that was the last, calling `free_cb` with `fcb_opaque`;
    /// on any thread.
    pub fn into_raw(self) -> NonNull<SharedInfo> {
        let shared = self.block.cast();
        std::mem::forget(self);
        shared
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: it holds one count.
        unsafe { put(self.block) }
    }
}

/// Why a page buffer couldn't be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachError {
    /// It's a record's plaintext.
    Plaintext,
    /// The range isn't in the buffer.
    OutOfRange,
    /// As many counts are out as can be: send this one by copy.
    TooMany,
    /// Not on the thread that owns the pool: only it adds counts.
    NotOwner,
}

/// Gives back one count.
///
/// # Safety
///
/// The caller holds one, and doesn't use the block any more.
pub(crate) unsafe fn put(block: NonNull<Block>) {
    // SAFETY: the caller's count keeps the block.
    let shared = unsafe { &block.as_ref().shared };
    debug_assert_ne!(
        shared.refcnt.load(Ordering::Relaxed),
        0,
        "a freed page buffer is freed"
    );
    // Who sees 1 holds the only one, and nobody can add one: no need to lower it.
    if shared.refcnt.load(Ordering::Acquire) == 1
        || shared.refcnt.fetch_sub(1, Ordering::AcqRel) == 1
    {
        // SAFETY: that was the last count.
        unsafe { PoolInner::free(block) }
    }
}

/// The `free_cb` of every block: DPDK has lowered the count to zero.
pub(crate) unsafe extern "C" fn free_cb(_addr: *mut c_void, opaque: *mut c_void) {
    if let Some(block) = NonNull::new(opaque.cast::<Block>()) {
        // SAFETY: `opaque` is the block, and its last count is gone.
        unsafe { PoolInner::free(block) }
    }
}

pub(crate) const HEAD_MAX: usize = 16;
#[expect(clippy::cast_possible_truncation, reason = "asserted above")]
pub(crate) const BLOCK_SIZE: u32 = size_of::<Block>() as u32;

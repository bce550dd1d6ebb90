//! The block behind a page buffer: its state, its reference count, its body.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use crate::arena::SharedSpan;
use crate::links::Links;
use crate::pool::inner::PoolInner;
use crate::spans::{LARGE_SPAN, SMALL_SPAN};

/// Reference count of external memory, with the layout of DPDK's `rte_mbuf_ext_shared_info`.
///
/// `lockgate-drivers` asserts the layout against the installed headers.
#[repr(C)]
#[derive(Debug)]
pub struct SharedInfo {
    /// Called with the memory's address and `fcb_opaque` when the last reference is released; on
    /// any thread.
    pub free_cb: Option<unsafe extern "C" fn(addr: *mut c_void, opaque: *mut c_void)>,
    /// The block.
    pub fcb_opaque: *mut c_void,
    /// Number of references: the handle's, and one for each attachment.
    pub refcnt: AtomicU16,
    // From here on padding in DPDK's struct: what is written by threads other than the handle's.
    /// How sealing ended, a [`SealOutcome`](crate::SealOutcome). Written by the
    /// [`SealMemory`](crate::SealMemory) before it releases its reference, and read after that.
    pub(crate) outcome: AtomicU8,
    /// Whether the block was ever attached. Atomic because it is set through a shared reference.
    pub(crate) attached: AtomicBool,
}

/// State of a page buffer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not a record: plain HTTP, handshake messages, received bytes.
    Plain,
    /// The plaintext of a record: all lengths are fixed, not readable.
    Framed,
    /// A record that is being sealed: a [`SealMemory`](crate::SealMemory) has its bytes, and maybe
    /// another thread the `SealMemory`.
    Away,
    /// A sealed record: one piece of header, ciphertext and trailer.
    Sealed,
}

/// What sealing a record needs besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFields {
    /// Record sequence number.
    pub number: u64,
    /// Content type.
    pub kind: u8,
    /// Key epoch of the queue that seals it.
    pub epoch: u8,
}

/// A page buffer's lengths, its state, and its bytes if they can be read.
///
/// On the wire it is `head | body | tail`; header and trailer count as soon as the record is
/// framed. Offsets in a page buffer are offsets into that.
#[repr(C, align(64))]
pub struct Block {
    pub(crate) shared: SharedInfo,
    pub(crate) pool: NonNull<PoolInner>,
    /// Only accessed by the owner of the handle; `shared` is accessed by ports and ciphers, too.
    pub(crate) fields: Fields,
}

const _: () = assert!(size_of::<Block>() == 128);

pub(crate) struct Fields {
    /// Next block in a stream, in the free list or in the return list; stream offset while queued.
    pub(crate) links: Links<Block>,
    /// First byte of the body.
    pub(crate) body: *mut u8,
    pub(crate) memory: Memory,
    /// The plaintext of a record that is or was sealed into `memory`.
    pub(crate) source: Source,
    pub(crate) number: u64,
    pub(crate) body_len: u32,
    pub(crate) kind: u8,
    pub(crate) epoch: u8,
    /// At its end, the record's header.
    pub(crate) head: [u8; HEAD_MAX],
    pub(crate) head_len: u8,
    pub(crate) tail_len: u8,
    pub(crate) state: State,
    /// Whether it was sealed before, so that ports may have sent it.
    pub(crate) was_sealed: bool,
}

impl Fields {
    /// Returns the fields of a free block.
    pub(crate) fn free() -> Self {
        Self {
            links: Links::new(),
            body: ptr::null_mut(),
            memory: Memory::None,
            source: Source::None,
            number: 0,
            body_len: 0,
            kind: 0,
            epoch: 0,
            head: [0; HEAD_MAX],
            head_len: 0,
            tail_len: 0,
            state: State::Plain,
            was_sealed: false,
        }
    }

    /// Returns the record's number, type and epoch.
    pub(crate) fn record(&self) -> RecordFields {
        RecordFields {
            number: self.number,
            kind: self.kind,
            epoch: self.epoch,
        }
    }

    /// Removes the source.
    pub(crate) fn take_source(&mut self) -> Option<(Memory, *mut u8)> {
        std::mem::replace(&mut self.source, Source::None).into_parts()
    }

    pub(crate) fn set_record(&mut self, record: RecordFields) {
        self.number = record.number;
        self.kind = record.kind;
        self.epoch = record.epoch;
    }
}

/// Where the plaintext of a record is that is sealed out of place. It doesn't change. A span, and
/// the first byte's offset in it.
pub(crate) enum Source {
    /// The record isn't sealed out of place, or its plaintext is gone.
    None,
    Small {
        at: u32,
        span: NonNull<u8>,
    },
    Large {
        at: u32,
        span: NonNull<u8>,
    },
    Shared {
        at: u32,
        span: Arc<SharedSpan>,
    },
}

impl Source {
    /// The plaintext that begins at `body`, in `memory`.
    pub(crate) fn new(memory: Memory, body: *mut u8) -> Self {
        // A span is far shorter than 4 GiB.
        let offset = |base: usize| u32::try_from(body.addr() - base).unwrap_or(u32::MAX);
        match memory {
            Memory::None => Self::None,
            Memory::Small(span) => {
                let at = offset(span.addr().get());
                Self::Small { at, span }
            }
            Memory::Large(span) => {
                let at = offset(span.addr().get());
                Self::Large { at, span }
            }
            Memory::Shared(span) => {
                let at = offset(span.as_ptr().addr());
                Self::Shared { at, span }
            }
        }
    }

    /// Returns the memory, and the address of the first byte.
    pub(crate) fn into_parts(self) -> Option<(Memory, *mut u8)> {
        let body = self.body()?;
        let memory = match self {
            Self::None => return None,
            Self::Small { span, .. } => Memory::Small(span),
            Self::Large { span, .. } => Memory::Large(span),
            Self::Shared { span, .. } => Memory::Shared(span),
        };
        Some((memory, body))
    }

    /// Returns the address of the first byte.
    pub(crate) fn body(&self) -> Option<*mut u8> {
        match self {
            Self::None => None,
            Self::Small { at, span } | Self::Large { at, span } => {
                Some(span.as_ptr().wrapping_add(*at as usize))
            }
            Self::Shared { at, span } => {
                let first = span.as_ptr().wrapping_add(*at as usize);
                Some(first.cast_mut())
            }
        }
    }

    /// Returns the length of the span, if it is the pool's.
    pub(crate) fn own_len(&self) -> u32 {
        match self {
            Self::Small { .. } => SMALL_SPAN,
            Self::Large { .. } => LARGE_SPAN,
            Self::None | Self::Shared { .. } => 0,
        }
    }
}

/// Memory of a block's body.
pub(crate) enum Memory {
    /// None: the block is in the free list.
    None,
    /// A small span of the pool, by its first byte.
    Small(NonNull<u8>),
    /// A large span of the pool, by its first byte.
    Large(NonNull<u8>),
    /// A span of the page cache.
    Shared(Arc<SharedSpan>),
}

impl Memory {
    /// Returns the first byte and the length, if it is a span of the pool.
    pub(crate) fn own(&self) -> Option<(NonNull<u8>, u32)> {
        match self {
            Self::Small(span) => Some((*span, SMALL_SPAN)),
            Self::Large(span) => Some((*span, LARGE_SPAN)),
            Self::None | Self::Shared(_) => None,
        }
    }
}

impl Block {
    /// Returns a free block that will be at `at`.
    pub(crate) fn new(pool: NonNull<PoolInner>, at: NonNull<Self>) -> Self {
        let shared = SharedInfo {
            free_cb: Some(free_cb),
            fcb_opaque: at.as_ptr().cast(),
            refcnt: AtomicU16::new(0),
            outcome: AtomicU8::new(0),
            attached: AtomicBool::new(false),
        };
        Self {
            shared,
            pool,
            fields: Fields::free(),
        }
    }

    /// Returns the bytes on the wire.
    pub fn len(&self) -> u32 {
        self.head_len() + self.body_len() + self.tail_len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of record header; 0 if it isn't a record.
    pub fn head_len(&self) -> u32 {
        u32::from(self.fields.head_len)
    }

    /// Returns the bytes between header and trailer.
    pub fn body_len(&self) -> u32 {
        self.fields.body_len
    }

    /// Returns the bytes of record trailer; 0 if it isn't a record.
    pub fn tail_len(&self) -> u32 {
        u32::from(self.fields.tail_len)
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.fields.state
    }

    /// Returns the record's number, type and epoch; `None` if it isn't a record.
    pub fn record(&self) -> Option<RecordFields> {
        (self.fields.state != State::Plain).then(|| self.fields.record())
    }

    /// Returns the record's header as it was framed; empty if it isn't a record.
    pub fn head(&self) -> &[u8] {
        &self.fields.head[HEAD_MAX - usize::from(self.fields.head_len)..]
    }

    /// Returns whether the body is in the page cache (never written to), not in a span of the pool.
    pub fn is_by_reference(&self) -> bool {
        matches!(self.fields.memory, Memory::Shared(_))
    }

    /// Returns whether it is a framed record that was never sealed.
    pub fn is_unsealed(&self) -> bool {
        self.state() == State::Framed && !self.fields.was_sealed
    }

    /// Returns the bytes on the wire, or `None` while it is the plaintext of a record:
    /// [`State::Framed`] or [`State::Away`].
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.is_readable() {
            return None;
        }
        // SAFETY: `wire_start` begins `len` initialised bytes, and nothing writes to them while the
        // block is borrowed.
        Some(unsafe { slice::from_raw_parts(self.wire_start(), self.len() as usize) })
    }

    /// Returns the bytes of memory that the page buffer pins, without page cache, which is shared.
    pub fn true_size(&self) -> u32 {
        let own = self.fields.memory.own().map_or(0, |(_, len)| len);
        BLOCK_SIZE + own + self.fields.source.own_len()
    }

    /// Returns whether any of it was ever attached to a packet.
    pub fn was_attached(&self) -> bool {
        self.shared.attached.load(Ordering::Relaxed)
    }

    /// Adds a reference for `len` bytes from `at`, so that a port can send them without a copy.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, at: u32, len: u32) -> Result<Attachment, AttachError> {
        if !self.is_readable() {
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
            // Only the handle holds one: no atomic operation is needed.
            1 => self.shared.refcnt.store(2, Ordering::Relaxed),
            u16::MAX => return Err(AttachError::TooMany),
            _ => _ = self.shared.refcnt.fetch_add(1, Ordering::Relaxed),
        }
        self.shared.attached.store(true, Ordering::Relaxed);
        // Not from `self`: releasing the last reference writes to the block.
        let block = NonNull::new(self.shared.fcb_opaque.cast()).ok_or(AttachError::OutOfRange)?;
        Ok(Attachment { block, data, len })
    }

    fn is_readable(&self) -> bool {
        match self.fields.state {
            State::Plain | State::Sealed => true,
            State::Framed | State::Away => false,
        }
    }

    /// Returns whether the handle's reference is the only one.
    pub(crate) fn is_sole(&self) -> bool {
        self.shared.refcnt.load(Ordering::Acquire) == 1
    }

    /// Returns the address of the first byte on the wire, unless framed. A sealed record has its
    /// header in front of the body.
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

/// A reference to bytes of a page buffer, for a port. Dropping it releases the reference.
#[derive(Debug)]
pub struct Attachment {
    block: NonNull<Block>,
    data: NonNull<u8>,
    len: u32,
}

impl Attachment {
    /// Returns the address of the first byte.
    pub fn data(&self) -> NonNull<u8> {
        self.data
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Converts it into the pointer that an external-buffer mbuf takes
    /// (`rte_pktmbuf_attach_extbuf`).
    ///
    /// The new owner releases the reference by decrementing `refcnt` and, if that was the last one,
    /// calling `free_cb` with `fcb_opaque`; on any thread.
    pub fn into_raw(self) -> NonNull<SharedInfo> {
        let shared = self.block.cast();
        std::mem::forget(self);
        shared
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: it holds one reference.
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
    /// The reference count is at its limit of 65 535: copy the bytes instead.
    TooMany,
    /// Not on the thread that owns the pool: only it may add references.
    NotOwner,
}

/// Releases one reference; with the last one the block returns to its pool.
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
    // With 1 this is the only reference, and no other thread can add one: no need to decrement.
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

pub(crate) const HEAD_MAX: usize = 22;
#[expect(clippy::cast_possible_truncation, reason = "asserted above")]
pub(crate) const BLOCK_SIZE: u32 = size_of::<Block>() as u32;

//! The handle of a page buffer, with the operations that only its owner may do.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::Ordering;

use crate::block::{self, Block, Fields, HEAD_MAX, Memory, RecordFields, Source, State};
use crate::links::{Link, Links};
use crate::pool::PagePool;
use crate::spans::{HEAD_ROOM, LARGE_CAPACITY, TAIL_ROOM};

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
        fields.record = record;
        fields.state = State::Framed;
        Ok(())
    }

    /// Seals a framed record by `seal`. Afterwards its bytes are one readable piece.
    ///
    /// A body in a span of its own is sealed in place. Page cache is sealed into a span taken from
    /// the pool, and released.
    ///
    /// # Errors
    /// See [`SealError`]; the buffer is still framed. A `seal` that fails must not have changed
    /// [`SealParts::body`] if that held the plaintext.
    ///
    /// # Panics
    ///
    /// If the buffer belongs to another pool.
    pub fn seal_with<E>(
        &mut self,
        pool: &mut PagePool,
        seal: impl FnOnce(&mut SealParts<'_>) -> Result<(), E>,
    ) -> Result<(), SealError<E>> {
        let sealing = self.begin_seal(pool)?;
        // SAFETY: begun just now; the parts aren't used after the call of `seal`.
        let mut parts = unsafe { self.seal_parts(&sealing) };
        if let Err(error) = seal(&mut parts) {
            sealing.give_back(pool);
            return Err(SealError::Cipher(error));
        }
        self.end_seal(sealing);
        Ok(())
    }

    /// Checks that the record can be sealed, and takes the memory for it.
    pub(crate) fn begin_seal(&self, pool: &PagePool) -> Result<Sealing, Unsealable> {
        assert!(
            pool.owns(self),
            "a record is sealed with another worker's pool"
        );
        if self.fields.state != State::Framed {
            return Err(Unsealable::NotFramed);
        }
        if !self.was_never_attached() {
            return Err(Unsealable::Attached);
        }
        if self.fields.memory.own().is_some() {
            let body = NonNull::new(self.fields.body).ok_or(Unsealable::NotFramed)?;
            let memory = Memory::None;
            return Ok(Sealing { memory, body });
        }
        let (memory, body) = pool
            .take_span(self.fields.body_len)
            .ok_or(Unsealable::Exhausted)?;
        debug_assert!(
            memory
                .own()
                .is_some_and(|(_, len)| { len >= HEAD_ROOM + self.fields.body_len + TAIL_ROOM })
        );
        Ok(Sealing { memory, body })
    }

    /// Returns what a cipher needs to seal the record into the memory that [`PageBuf::begin_seal`]
    /// took. It stays framed.
    ///
    /// # Safety
    ///
    /// The parts aren't used after `end_seal` or `give_back`, and no other parts of this record
    /// exist meanwhile.
    pub(crate) unsafe fn seal_parts<'a>(&self, sealing: &Sealing) -> SealParts<'a> {
        let fields = &self.fields;
        let (body_len, tail_len) = (fields.body_len as usize, usize::from(fields.tail_len));
        let from = match sealing.memory {
            Memory::None => None,
            // SAFETY: page cache that the block holds a count of; it's immutable.
            _ => Some(unsafe { slice::from_raw_parts(fields.body.cast_const(), body_len) }),
        };
        // SAFETY: a body in a span has tail room; the span is new, or only this handle's.
        let tail = unsafe { sealing.body.add(body_len) };
        SealParts {
            record: fields.record,
            head: RecordHead {
                bytes: fields.head,
                len: fields.head_len,
            },
            from,
            // SAFETY: as above, and by the caller's promise borrowed once.
            body: unsafe { slice::from_raw_parts_mut(sealing.body.as_ptr(), body_len) },
            // SAFETY: as above.
            tail: unsafe { slice::from_raw_parts_mut(tail.as_ptr(), tail_len) },
        }
    }

    /// Marks the record as sealed: its bytes can be read from now on.
    pub(crate) fn end_seal(&mut self, sealing: Sealing) {
        let fields = self.fields_mut();
        // The whole array in one store: the head room is longer.
        // SAFETY: a body in a span has head room, and the span is only this handle's.
        let head = unsafe { sealing.body.sub(HEAD_MAX) }.cast::<[u8; HEAD_MAX]>();
        // SAFETY: as above; bytes have no alignment.
        unsafe { head.write(fields.head) };
        if !matches!(sealing.memory, Memory::None) {
            let body = std::mem::replace(&mut fields.body, sealing.body.as_ptr());
            if let Memory::Shared(span) = std::mem::replace(&mut fields.memory, sealing.memory) {
                fields.source = Some(Source { span, body });
            }
        }
        fields.state = State::Sealed;
    }

    /// Makes a sealed record framed again, and returns the span of its ciphertext to the pool.
    /// Returns whether that was possible: the record was sealed from the page cache, and no port
    /// refers to it.
    ///
    /// Sealing it again gives the same bytes: record number, type and plaintext are the same.
    pub(crate) fn drop_ciphertext(&mut self, pool: &PagePool) -> bool {
        if self.fields.state != State::Sealed || !self.is_sole() || !pool.owns(self) {
            return false;
        }
        let fields = self.fields_mut();
        let Some(Source { span, body }) = fields.source.take() else {
            return false;
        };
        fields.body = body;
        let memory = std::mem::replace(&mut fields.memory, Memory::Shared(span));
        fields.state = State::Framed;
        fields.attached.store(false, Ordering::Relaxed);
        pool.put_span(&memory);
        true
    }

    /// Returns whether it isn't attached to a packet and never was.
    pub(crate) fn was_never_attached(&self) -> bool {
        self.is_sole() && !self.fields.attached.load(Ordering::Relaxed)
    }

    /// Not the whole block, because ports decrement the count in `shared` at any time.
    fn fields_mut(&mut self) -> &mut Fields {
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

/// A record while it is sealed: its fields, and the memory to read and write.
#[derive(Debug)]
pub struct SealParts<'a> {
    /// The record's number, type and epoch.
    pub record: RecordFields,
    /// The record header as framed. It is put in front of the ciphertext afterwards.
    pub head: RecordHead,
    /// The plaintext, if it isn't in `body`; `body` must not be read then.
    pub from: Option<&'a [u8]>,
    /// Memory for the ciphertext; without `from` it holds the plaintext.
    pub body: &'a mut [u8],
    /// Memory for the trailer, all of which has to be written.
    pub tail: &'a mut [u8],
}

/// A record's header.
#[derive(Clone, Copy, Debug)]
pub struct RecordHead {
    bytes: [u8; HEAD_MAX],
    len: u8,
}

impl RecordHead {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[HEAD_MAX - usize::from(self.len)..]
    }
}

/// Memory that a record is sealed into.
pub(crate) struct Sealing {
    /// Span taken for it; none if it is sealed in place.
    memory: Memory,
    body: NonNull<u8>,
}

impl Sealing {
    /// Returns the span to the pool: the record wasn't sealed.
    pub(crate) fn give_back(self, pool: &PagePool) {
        pool.put_span(&self.memory);
    }
}

/// Why a record can't be sealed now.
#[derive(Clone, Copy)]
pub(crate) enum Unsealable {
    Exhausted,
    NotFramed,
    Attached,
}

/// Why a record wasn't sealed. It is still framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError<E> {
    /// No span is free to seal into; retry when the pool has one.
    Exhausted,
    /// It isn't framed.
    NotFramed,
    /// Its plaintext was attached to a packet before it was framed.
    Attached,
    /// The error of `seal`.
    Cipher(E),
}

impl<E> From<Unsealable> for SealError<E> {
    fn from(refusal: Unsealable) -> Self {
        match refusal {
            Unsealable::Exhausted => Self::Exhausted,
            Unsealable::NotFramed => Self::NotFramed,
            Unsealable::Attached => Self::Attached,
        }
    }
}

/// Why a buffer wasn't framed. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It is a record already.
    NotPlain,
    /// It is, or was, attached to a packet.
    Attached,
    /// The header is longer than 16 bytes, the trailer than 64, or the body than
    /// [`LARGE_CAPACITY`].
    TooLong,
}

//! The handle of a page buffer: what its owner alone may do.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::Ordering;

use crate::block::{self, Block, Fields, HEAD_MAX, Memory, RecordFields, State};
use crate::links::{Link, Links};
use crate::pool::PagePool;
use crate::spans::{HEAD_ROOM, LARGE_CAPACITY, TAIL_ROOM};

/// A page buffer: an 8-byte handle to a [`Block`], move-only. Dropping it gives its count back; the
/// memory is free when every port has given back its own.
pub struct PageBuf(pub(crate) NonNull<Block>);

const _: () = assert!(size_of::<PageBuf>() == 8);
const _: () = assert!(size_of::<Option<PageBuf>>() == 8);

// SAFETY: whoever has the handle has the block; a block freed on a foreign thread goes back by the
// pool's return list.
unsafe impl Send for PageBuf {}

impl PageBuf {
    /// How many bytes can still be appended: 0 unless plain and of its own memory.
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

    /// Copies as much of `bytes` as there is room for behind the body; returns how much (for the
    /// counter of copied bytes).
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.append_with(len, |to| {
            to.copy_from_slice(&bytes[..to.len()]);
            to.len()
        })
    }

    /// Lets `fill` write up to `len` bytes (less, if there's less room) behind the body. It
    /// returns how many it wrote, from the front; they are added. What it's given holds old bytes
    /// of somebody else: it may only be written to.
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

    /// The body, to change it: plain, of its own memory, and never shown to a port.
    pub fn body_mut(&mut self) -> Option<&mut [u8]> {
        let changeable = self.fields.state == State::Plain
            && self.fields.memory.own().is_some()
            && self.is_unseen();
        if !changeable {
            return None;
        }
        let fields = self.fields_mut();
        // SAFETY: the body is this handle's alone.
        Some(unsafe { slice::from_raw_parts_mut(fields.body, fields.body_len as usize) })
    }

    /// Drops a plain buffer's bytes from `len` on; no effect on others.
    pub fn truncate(&mut self, len: u32) {
        // A shown byte must not be overwritten by a later append.
        if self.fields.state == State::Plain && self.is_unseen() {
            let fields = self.fields_mut();
            fields.body_len = fields.body_len.min(len);
        }
    }

    /// Drops a plain buffer's first `n` bytes; no effect on others.
    pub fn trim_front(&mut self, n: u32) {
        if self.fields.state == State::Plain {
            let fields = self.fields_mut();
            let n = n.min(fields.body_len);
            fields.body = fields.body.wrapping_add(n as usize);
            fields.body_len -= n;
        }
    }

    /// Makes a plain buffer a record's plaintext: header and trailer count from now on, and nothing
    /// can be read or appended any more.
    pub fn frame(
        &mut self,
        record: RecordFields,
        head: &[u8],
        tail_len: u8,
    ) -> Result<(), FrameError> {
        if self.fields.state != State::Plain {
            return Err(FrameError::NotPlain);
        }
        if !self.is_unseen() {
            return Err(FrameError::Shown);
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

    /// Seals a framed record by `seal`: in place if the body is its own memory, else out of place
    /// into a span newly taken from the pool, and the page cache is released. After it the bytes
    /// are one readable piece. On failure the buffer is framed as it was; a `seal` that fails must
    /// have left [`SealParts::body`] alone if it held the plaintext.
    ///
    /// # Panics
    ///
    /// If the buffer is of another pool.
    pub fn seal_with<E>(
        &mut self,
        pool: &mut PagePool,
        seal: impl FnOnce(&mut SealParts<'_>) -> Result<(), E>,
    ) -> Result<(), SealError<E>> {
        let sealing = self.begin_seal(pool)?;
        // SAFETY: begun just now, and ended or given back behind.
        let mut parts = unsafe { self.seal_parts(&sealing) };
        if let Err(error) = seal(&mut parts) {
            sealing.give_back(pool);
            return Err(SealError::Cipher(error));
        }
        self.end_seal(sealing);
        Ok(())
    }

    /// Looks whether it's a record that can be sealed, and takes the memory for it.
    pub(crate) fn begin_seal(&self, pool: &PagePool) -> Result<Sealing, Unsealable> {
        assert!(
            pool.owns(self),
            "a record is sealed with another worker's pool"
        );
        if self.fields.state != State::Framed {
            return Err(Unsealable::NotFramed);
        }
        if !self.is_unseen() {
            return Err(Unsealable::Shown);
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

    /// What a cipher needs to seal the record where [`PageBuf::begin_seal`] said. It stays framed.
    ///
    /// # Safety
    ///
    /// The parts aren't used any more when sealing ends or is given up, and there are no others
    /// of this record meanwhile.
    pub(crate) unsafe fn seal_parts<'a>(&self, sealing: &Sealing) -> SealParts<'a> {
        let fields = &self.fields;
        let (body_len, tail_len) = (fields.body_len as usize, usize::from(fields.tail_len));
        let from = match sealing.memory {
            Memory::None => None,
            // SAFETY: page cache that the block holds a count of; it's immutable.
            _ => Some(unsafe { slice::from_raw_parts(fields.body.cast_const(), body_len) }),
        };
        // SAFETY: a body of the pool's, this handle's alone or in a new span, has tail room.
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

    /// The record was sealed: its bytes can be read from now on.
    pub(crate) fn end_seal(&mut self, sealing: Sealing) {
        let fields = self.fields_mut();
        // All of it in one store: there's more head room than that.
        // SAFETY: a body of the pool's has head room, and it's this handle's alone.
        let head = unsafe { sealing.body.sub(HEAD_MAX) }.cast::<[u8; HEAD_MAX]>();
        // SAFETY: as above; bytes have no alignment.
        unsafe { head.write(fields.head) };
        if !matches!(sealing.memory, Memory::None) {
            fields.body = sealing.body.as_ptr();
            fields.memory = sealing.memory;
        }
        fields.state = State::Sealed;
    }

    /// Whether no port has it by reference, or ever had.
    pub(crate) fn is_unseen(&self) -> bool {
        self.is_sole() && !self.fields.shown.load(Ordering::Relaxed)
    }

    /// Not the whole block: ports lower the count in `shared` at any time.
    fn fields_mut(&mut self) -> &mut Fields {
        // SAFETY: the handle alone touches them.
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
        // SAFETY: the handle's count keeps the block.
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
        // SAFETY: the handle holds one count.
        unsafe { block::put(self.0) }
    }
}

impl fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A record while it's sealed: what there is to know, and its memory.
#[derive(Debug)]
pub struct SealParts<'a> {
    /// The record's number, type and epoch.
    pub record: RecordFields,
    /// The record header, as framed; it's in front of the ciphertext afterwards.
    pub head: RecordHead,
    /// The plaintext, if it isn't in `body`: then `body` is only written to.
    pub from: Option<&'a [u8]>,
    /// Where the ciphertext goes; without `from` it holds the plaintext.
    pub body: &'a mut [u8],
    /// The trailer, to be written whole.
    pub tail: &'a mut [u8],
}

/// A record's header.
#[derive(Clone, Copy, Debug)]
pub struct RecordHead {
    bytes: [u8; HEAD_MAX],
    len: u8,
}

impl RecordHead {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[HEAD_MAX - usize::from(self.len)..]
    }
}

/// Where a record is about to be sealed.
pub(crate) struct Sealing {
    /// Taken for it; none if it's sealed in place.
    memory: Memory,
    body: NonNull<u8>,
}

impl Sealing {
    /// It wasn't sealed after all.
    pub(crate) fn give_back(self, pool: &PagePool) {
        pool.put_span(&self.memory);
    }
}

/// Why sealing a record didn't begin.
#[derive(Clone, Copy)]
pub(crate) enum Unsealable {
    Exhausted,
    NotFramed,
    Shown,
}

/// Why a record wasn't sealed. It's still framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError<E> {
    /// No span is free to seal into; try again when the pool has one.
    Exhausted,
    /// It isn't a framed record.
    NotFramed,
    /// A port has, or had, its plaintext by reference.
    Shown,
    /// What `seal` said.
    Cipher(E),
}

impl<E> From<Unsealable> for SealError<E> {
    fn from(refusal: Unsealable) -> Self {
        match refusal {
            Unsealable::Exhausted => Self::Exhausted,
            Unsealable::NotFramed => Self::NotFramed,
            Unsealable::Shown => Self::Shown,
        }
    }
}

/// Why a buffer wasn't framed. It's as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It's a record already.
    NotPlain,
    /// A port has, or had, it by reference.
    Shown,
    /// Header, body or trailer longer than there's room for.
    TooLong,
}

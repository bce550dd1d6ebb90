//! Sealing of records: what a cipher needs of a page buffer, and putting the ciphertext in place.

use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::Ordering;

use crate::block::{self, Block, HEAD_MAX, RecordFields, Source, State};
use crate::page::PageBuf;
use crate::pool::PagePool;
use crate::spans::{HEAD_ROOM, TAIL_ROOM};

/// Where the ciphertext of a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Over the plaintext, if that is in a span of the pool. Page cache is sealed into a span of
    /// the pool. A cipher that fails must leave the plaintext as it was.
    InPlace,
    /// Always into another span, so that the plaintext stays whatever the cipher does: for devices.
    Separate,
}

/// A record that is being sealed: its plaintext, and memory for its ciphertext.
///
/// It holds a reference of the block, and nothing of the queue that has the record: it may go to
/// another thread, and be dropped there, while the record is cut or the queue is dropped. Until it
/// is gone the record is [`State::Away`].
///
/// | ended by | plaintext separate | in place |
/// |---|---|---|
/// | [`finish`](Self::finish) | sealed | sealed |
/// | [`give_back`](Self::give_back), or dropped before [`parts`](Self::parts) | framed | framed |
/// | dropped after `parts` | framed | lost: part of it may be ciphertext |
///
/// A record that is lost can't be sealed any more: its number would seal other bytes.
pub struct SealMemory {
    block: NonNull<Block>,
    /// First byte of the plaintext; null if it is in `body`.
    from: *const u8,
    body: NonNull<u8>,
    body_len: u32,
    tail_len: u8,
    head: RecordHead,
    record: RecordFields,
}

// SAFETY: it has the only access to the memory that it writes to, and the plaintext doesn't change;
// a block freed on another thread returns by the pool's return list.
unsafe impl Send for SealMemory {}

/// How sealing of a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SealOutcome {
    /// It is framed again: its plaintext is as it was.
    Framed = 0,
    /// It is sealed.
    Sealed = 1,
    /// Its plaintext was partly overwritten. It stays [`State::Away`].
    Lost = 2,
}

impl SealMemory {
    /// Returns the record's number, type and epoch.
    pub fn record(&self) -> RecordFields {
        self.record
    }

    /// Returns the record's header as framed.
    pub fn head(&self) -> &[u8] {
        self.head.as_bytes()
    }

    /// Returns the bytes of plaintext.
    pub fn body_len(&self) -> u32 {
        self.body_len
    }

    /// Whether the ciphertext replaces the plaintext.
    pub fn is_in_place(&self) -> bool {
        self.from.is_null()
    }

    /// Returns the memory to read and write.
    pub fn parts(&mut self) -> SealParts<'_> {
        let (body_len, tail_len) = (self.body_len as usize, usize::from(self.tail_len));
        let from = if self.is_in_place() {
            self.set_outcome(SealOutcome::Lost);
            None
        } else {
            // SAFETY: the plaintext's memory is the block's, which this has a reference of, and
            // nothing writes to it.
            Some(unsafe { slice::from_raw_parts(self.from, body_len) })
        };
        // SAFETY: a body in a span has tail room.
        let tail = unsafe { self.body.add(body_len) };
        SealParts {
            record: self.record,
            head: self.head,
            from,
            // SAFETY: only this has access while the record is away.
            body: unsafe { slice::from_raw_parts_mut(self.body.as_ptr(), body_len) },
            // SAFETY: as above.
            tail: unsafe { slice::from_raw_parts_mut(tail.as_ptr(), tail_len) },
        }
    }

    /// Marks the record as sealed: all bytes of `body` and `tail` were written.
    pub fn finish(self) {
        // The whole array in one store: the head room is longer.
        // SAFETY: a body in a span has head room, and only this has access.
        let head = unsafe { self.body.sub(HEAD_MAX) }.cast::<[u8; HEAD_MAX]>();
        // SAFETY: as above; bytes have no alignment.
        unsafe { head.write(self.head.bytes) };
        self.set_outcome(SealOutcome::Sealed);
    }

    /// Gives the record back unsealed. If it was to be sealed in place, its plaintext must be as it
    /// was.
    pub fn give_back(self) {
        self.set_outcome(SealOutcome::Framed);
    }

    fn set_outcome(&self, outcome: SealOutcome) {
        // Not the whole block, whose fields are the handle's.
        // SAFETY: the reference keeps the block.
        let shared = unsafe { &(*self.block.as_ptr()).shared };
        // Released with the reference.
        shared.outcome.store(outcome as u8, Ordering::Relaxed);
    }
}

impl Drop for SealMemory {
    fn drop(&mut self) {
        // SAFETY: it holds one reference.
        unsafe { block::put(self.block) }
    }
}

impl fmt::Debug for SealMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealMemory")
            .field("record", &self.record)
            .field("body", &self.body_len)
            .field("in_place", &self.is_in_place())
            .finish_non_exhaustive()
    }
}

/// The memory of a record that is being sealed.
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

impl PageBuf {
    /// Takes a framed record out to be sealed, with memory for its ciphertext. It is
    /// [`State::Away`] until the result is dropped and [`end_seal`](Self::end_seal) is called.
    ///
    /// # Errors
    /// See [`Unsealable`]; the buffer is unchanged.
    ///
    /// # Panics
    ///
    /// If the buffer belongs to another pool.
    pub fn begin_seal(
        &mut self,
        placement: Placement,
        pool: &mut PagePool,
    ) -> Result<SealMemory, Unsealable> {
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
        let mut from = ptr::null();
        if placement == Placement::Separate || self.fields.memory.own().is_none() {
            let taken = pool.take_span(self.fields.body_len);
            let (memory, body) = taken.ok_or(Unsealable::Exhausted)?;
            debug_assert!(
                memory.own().is_some_and(|(_, len)| {
                    len >= HEAD_ROOM + self.fields.body_len + TAIL_ROOM
                })
            );
            let fields = self.fields_mut();
            let plaintext = std::mem::replace(&mut fields.body, body.as_ptr());
            let source = std::mem::replace(&mut fields.memory, memory);
            fields.source = Source::new(source, plaintext);
            from = plaintext.cast_const();
        }
        let body = NonNull::new(self.fields.body).ok_or(Unsealable::NotFramed)?;
        let fields = self.fields_mut();
        fields.state = State::Away;
        let sealing = SealMemory {
            from,
            body,
            body_len: fields.body_len,
            tail_len: fields.tail_len,
            head: RecordHead {
                bytes: fields.head,
                len: fields.head_len,
            },
            record: fields.record(),
            block: self.0,
        };
        sealing.set_outcome(SealOutcome::Framed);
        // The handle's reference is the only one, and no other thread can add one.
        self.shared.refcnt.store(2, Ordering::Relaxed);
        Ok(sealing)
    }

    /// Takes over how sealing ended. Returns `None` while the [`SealMemory`] exists, and if the
    /// record isn't away.
    pub fn end_seal(&mut self, pool: &mut PagePool) -> Option<SealOutcome> {
        // Pairs with the release of the reference: whatever was written before is visible.
        if self.fields.state != State::Away || !self.is_sole() || !pool.owns(self) {
            return None;
        }
        let outcome = self.shared.outcome.load(Ordering::Relaxed);
        let fields = self.fields_mut();
        if outcome == SealOutcome::Sealed as u8 {
            fields.state = State::Sealed;
            fields.was_sealed = true;
            // The plaintext of page cache stays, to be sealed again.
            if fields.source.own_len() > 0
                && let Some((memory, _)) = fields.take_source()
            {
                pool.put_span(&memory);
            }
            Some(SealOutcome::Sealed)
        } else if outcome == SealOutcome::Framed as u8 {
            self.restore_plaintext(pool);
            Some(SealOutcome::Framed)
        } else {
            Some(SealOutcome::Lost)
        }
    }

    /// Seals a framed record by `seal`. Afterwards its bytes are one readable piece.
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
        let mut sealing = self.begin_seal(Placement::InPlace, pool)?;
        let sealed = seal(&mut sealing.parts());
        match sealed {
            Ok(()) => sealing.finish(),
            Err(_) => sealing.give_back(),
        }
        let outcome = self.end_seal(pool);
        debug_assert!(outcome.is_some(), "nothing else has a reference");
        sealed.map_err(SealError::Cipher)
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
        // Only page cache: the plaintext of others is gone.
        if matches!(self.fields.source, Source::None) {
            return false;
        }
        self.restore_plaintext(pool);
        self.shared.attached.store(false, Ordering::Relaxed);
        true
    }

    /// Makes a new framed buffer with the same record. This buffer is away and may never come back:
    /// a cipher may still write to its memory.
    ///
    /// # Errors
    /// [`Unsealable::NotFramed`] if it isn't away, or is sealed in place: its plaintext may be
    /// gone.
    pub(crate) fn renewed(&self, pool: &mut PagePool) -> Result<Self, Unsealable> {
        assert!(
            pool.owns(self),
            "a record is sealed with another worker's pool"
        );
        let away = self.fields.state == State::Away;
        let body = self.fields.source.body().filter(|_| away);
        let body = body.ok_or(Unsealable::NotFramed)?;
        let len = self.fields.body_len;
        let mut page = match &self.fields.source {
            Source::Shared { span, .. } => pool.alloc_shared(span, body, len),
            Source::None | Source::Small { .. } | Source::Large { .. } => {
                // SAFETY: the plaintext is in the block's memory, and nothing writes to it.
                let text = unsafe { slice::from_raw_parts(body, len as usize) };
                pool.alloc(len).map(|mut page| {
                    page.append(text);
                    page
                })
            }
        }
        .ok_or(Unsealable::Exhausted)?;
        let (old, new) = (&self.fields, page.fields_mut());
        new.set_record(old.record());
        (new.head, new.head_len) = (old.head, old.head_len);
        new.tail_len = old.tail_len;
        new.state = State::Framed;
        Ok(page)
    }

    /// Makes the plaintext the body again, and returns the span of the ciphertext to the pool.
    fn restore_plaintext(&mut self, pool: &PagePool) {
        let fields = self.fields_mut();
        fields.state = State::Framed;
        if let Some((memory, body)) = fields.take_source() {
            fields.body = body;
            pool.put_span(&std::mem::replace(&mut fields.memory, memory));
        }
    }
}

/// Why a record can't be sealed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealable {
    /// No span is free to seal into; retry when the pool has one.
    Exhausted,
    /// It isn't framed.
    NotFramed,
    /// Its plaintext was attached to a packet before it was framed.
    Attached,
}

/// Why a record wasn't sealed. It is still framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError<E> {
    /// It can't be sealed now.
    Unsealable(Unsealable),
    /// The error of `seal`.
    Cipher(E),
}

impl<E> From<Unsealable> for SealError<E> {
    fn from(refusal: Unsealable) -> Self {
        Self::Unsealable(refusal)
    }
}

#[cfg(test)]
mod tests;

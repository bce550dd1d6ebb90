//! Operations on streams of received buffers.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::Stream;
use crate::buffer::Buffer;
use crate::frag::Frag;
use crate::links::Link;

impl Stream<Buffer> {
    /// Appends a buffer: by copying, if it is short and the last one has room for it. So many small
    /// segments pin little memory.
    pub fn push_compact(&mut self, buffer: Buffer) {
        let len = buffer.len();
        match NonNull::new(self.tail) {
            Some(tail) if push_compact(tail, &buffer) => self.end += u64::from(len),
            Some(_) | None => self.push(buffer),
        }
    }

    /// Copies up to `out.len()` bytes, from `offset` on, into `out`. Returns the number of bytes
    /// copied.
    pub fn copy_to(&self, offset: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        if offset < self.start {
            return 0;
        }
        for (first, buffer) in self.iter_from(offset) {
            let skip = (offset + done as u64).saturating_sub(first);
            let Ok(skip) = u32::try_from(skip) else { break };
            done += buffer.copy_to(skip, &mut out[done..]);
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Returns the bytes at the start that are contiguous; empty if the stream is.
    pub fn front(&self) -> &[u8] {
        let Some((offset, buffer)) = self.iter().next() else {
            return &[];
        };
        let mut skip = usize::try_from(self.start - offset).unwrap_or(usize::MAX);
        for piece in buffer.fragments() {
            match piece.get(skip..) {
                Some(rest) if !rest.is_empty() => return rest,
                Some(_) | None => skip -= piece.len(),
            }
        }
        &[]
    }

    /// Returns the first `len` bytes for writing, if they are in one writable fragment, the first
    /// of its buffer.
    pub fn front_mut(&mut self, len: u32) -> Option<&mut [u8]> {
        let mut head = NonNull::new(self.head)?;
        let skip = usize::try_from(self.start - Self::offset_of(head)).ok()?;
        // SAFETY: the stream owns the buffer and its fragments.
        let front = unsafe { head.as_mut() }.bytes_mut()?;
        front.get_mut(skip..skip.checked_add(len as usize)?)
    }
}

/// Copies a short buffer into the tail room of a queued one, if it fits. Returns whether it did.
pub(crate) fn push_compact(queued: NonNull<Frag>, buffer: &Buffer) -> bool {
    if buffer.len() > COMPACT_MAX {
        return false;
    }
    // SAFETY: a queued node is a handle's; the queue keeps it.
    let mut queued = ManuallyDrop::new(unsafe { Buffer::from_node(queued) });
    if queued.tailroom() < buffer.len() {
        return false;
    }
    for piece in buffer.fragments() {
        queued.append(piece);
    }
    true
}

/// Longest buffer that is copied, in bytes: copying costs less than the memory that a reference
/// pins (a quarter of a packet buffer, as in BSD's `sbcompress`).
const COMPACT_MAX: u32 = 512;

//! The handle of a received packet.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;

use crate::frag::{Checksum, Frag, flags};
use crate::links::{Link, Links};

/// A received packet: an 8-byte, move-only handle to a chain of [`Frag`]s.
///
/// Dropping it frees the memory. It dereferences to the first [`Frag`], which has the methods that
/// only read.
pub struct Buffer(NonNull<Frag>);

const _: () = assert!(size_of::<Buffer>() == 8);
const _: () = assert!(size_of::<Option<Buffer>>() == 8);

// SAFETY: the handle owns its fragments, and they may be released on any thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Takes ownership of a packet.
    ///
    /// # Safety
    ///
    /// - `head` is the first of a chain of fragments (linked by `next`, the last one's is null),
    ///   each described correctly and owned by the caller; `pkt_len` of the first is their sum.
    /// - `ops.release` may be called on any thread.
    /// - A fragment marked writable has no other reference.
    pub unsafe fn from_raw(head: NonNull<Frag>) -> Self {
        Self(head)
    }

    /// Releases ownership of the packet: the caller has to free it, by [`Buffer::from_raw`].
    pub fn into_raw(self) -> NonNull<Frag> {
        let head = self.0;
        mem::forget(self);
        head
    }

    /// Returns the bytes of the first fragment for writing, or `None` if it is read-only.
    pub fn front_mut(&mut self) -> Option<&mut [u8]> {
        self.head_mut().bytes_mut()
    }

    /// Removes the first `n` bytes (all, if there are fewer), and frees fragments that become
    /// empty.
    pub fn trim_front(&mut self, n: u32) {
        let mut n = n.min(self.len());
        loop {
            let head = self.head_mut();
            let Some(next) = NonNull::new(head.next).filter(|_| n >= head.data_len) else {
                head.data = head.data.wrapping_add(n as usize);
                head.data_len -= n;
                head.pkt_len -= n;
                return;
            };
            n -= head.data_len;
            // SAFETY: the next fragment is the packet's too.
            let new_head = unsafe { &mut *next.as_ptr() };
            new_head.pkt_len = head.pkt_len - head.data_len;
            new_head.copy_meta(head);
            head.next = ptr::null_mut();
            *self = Self(next);
        }
    }

    /// Removes the bytes from `len` on, and frees the fragments behind.
    pub fn truncate(&mut self, len: u32) {
        if len >= self.len() {
            return;
        }
        self.head_mut().pkt_len = len;
        let mut left = len;
        let mut frag = self.head_mut();
        while left > frag.data_len {
            left -= frag.data_len;
            // SAFETY: the packet was longer than what's left, so there's a next fragment.
            let Some(next) = (unsafe { frag.next.as_mut() }) else {
                return;
            };
            frag = next;
        }
        frag.data_len = left;
        let rest = mem::replace(&mut frag.next, ptr::null_mut());
        // Freed by its handle.
        drop(NonNull::new(rest).map(Self));
    }

    /// Returns how many bytes [`Buffer::append`] can add; 0 if the last fragment is read-only.
    pub fn tailroom(&self) -> u32 {
        tailroom(self.last())
    }

    /// Copies as much of `bytes` as fits into the tail room. Returns the number of bytes copied.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let last = self.last();
        let n = tailroom(last).min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        // SAFETY: the handle owns its fragments.
        let last = unsafe { &mut *last.as_ptr() };
        let to = last.data.wrapping_add(last.data_len as usize);
        // SAFETY: the tail room belongs to the fragment and may be written to.
        let to = unsafe { slice::from_raw_parts_mut(to, n as usize) };
        to.copy_from_slice(&bytes[..n as usize]);
        last.data_len += n;
        self.head_mut().pkt_len += n;
        n as usize
    }

    /// Appends the fragments of another packet.
    pub fn chain(&mut self, other: Self) {
        self.head_mut().pkt_len += other.len();
        // SAFETY: the handle owns its fragments.
        unsafe { (*self.last().as_ptr()).next = other.into_raw().as_ptr() };
    }

    /// Sets the verdicts on the checksums.
    pub fn set_checksums(&mut self, ip: Checksum, l4: Checksum) {
        let head = self.head_mut();
        head.set_verdict(ip, flags::IP_CSUM_GOOD, flags::IP_CSUM_BAD);
        head.set_verdict(l4, flags::L4_CSUM_GOOD, flags::L4_CSUM_BAD);
    }

    /// Sets the port that the packet was received on.
    pub fn set_port(&mut self, port: u16) {
        self.head_mut().port = port;
    }

    /// Sets or clears the flow hash.
    pub fn set_hash(&mut self, hash: Option<u32>) {
        let head = self.head_mut();
        head.hash = hash.unwrap_or(0);
        head.set_flag(flags::HAS_HASH, hash.is_some());
    }

    /// Sets or clears the stripped VLAN tag.
    pub fn set_vlan(&mut self, tci: Option<u16>) {
        let head = self.head_mut();
        head.vlan = tci.unwrap_or(0);
        head.set_flag(flags::HAS_VLAN, tci.is_some());
    }

    /// Sets the number of segments that were merged into this packet.
    pub fn set_segments(&mut self, segments: u16) {
        self.head_mut().segs = segments;
    }

    /// Makes all fragments read-only. This can't be undone.
    pub fn set_read_only(&mut self) {
        let mut frag = Some(self.head_mut());
        while let Some(f) = frag {
            f.set_flag(flags::WRITABLE, false);
            // SAFETY: null or the packet's next fragment.
            frag = unsafe { f.next.as_mut() };
        }
    }

    /// Overwrites the bytes from `at` on with all of `from`. Returns false, with nothing written,
    /// if the buffer is read-only or too short.
    pub(crate) fn overwrite(&mut self, at: u32, from: &Frag) -> bool {
        if !self.is_writable()
            || at
                .checked_add(from.len())
                .is_none_or(|end| end > self.len())
        {
            return false;
        }
        let mut skip = at as usize;
        let mut done = 0;
        let mut frag = Some(self.head_mut());
        while let Some(f) = frag {
            if let Some(to) = f.bytes_mut() {
                let n = to.len();
                if let Some(to) = to.get_mut(skip..) {
                    skip = 0;
                    done += u32::try_from(from.copy_to(done, to)).unwrap_or(u32::MAX);
                } else {
                    skip -= n;
                }
            }
            // SAFETY: null or the packet's next fragment.
            frag = unsafe { f.next.as_mut() };
        }
        true
    }

    pub(crate) fn head_mut(&mut self) -> &mut Frag {
        // SAFETY: the handle owns the fragment.
        unsafe { self.0.as_mut() }
    }

    fn last(&self) -> NonNull<Frag> {
        let mut last = self.0;
        // SAFETY: the handle owns its fragments.
        while let Some(next) = NonNull::new(unsafe { last.as_ref() }.next) {
            last = next;
        }
        last
    }
}

// SAFETY: a handle is a pointer to its first fragment, whose links have no other use.
unsafe impl Link for Buffer {
    type Node = Frag;

    fn into_node(self) -> NonNull<Frag> {
        self.into_raw()
    }

    unsafe fn from_node(node: NonNull<Frag>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(node) }
    }

    fn links(node: NonNull<Frag>) -> *mut Links<Frag> {
        // SAFETY: the address of a field of a fragment.
        unsafe { &raw mut (*node.as_ptr()).links }
    }

    fn len_of(node: &Frag) -> u32 {
        node.len()
    }

    fn true_size_of(node: &Frag) -> u32 {
        node.true_size()
    }
}

impl Deref for Buffer {
    type Target = Frag;

    fn deref(&self) -> &Frag {
        // SAFETY: the handle owns the fragment.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut next = Some(self.0);
        while let Some(frag) = next {
            // SAFETY: the handle owns its fragments.
            let f = unsafe { frag.as_ref() };
            next = NonNull::new(f.next);
            // SAFETY: every fragment has its operations.
            let release = unsafe { &*f.ops }.release;
            // SAFETY: the fragment isn't used any more.
            unsafe { release(frag.as_ptr()) }
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Returns the free bytes behind a fragment. It takes a pointer because the operation may read
/// memory beside the fragment.
fn tailroom(frag: NonNull<Frag>) -> u32 {
    // SAFETY: called with fragments of a handle.
    let f = unsafe { frag.as_ref() };
    if f.flags & flags::WRITABLE == 0 {
        return 0;
    }
    // SAFETY: every fragment has its operations.
    let tailroom = unsafe { &*f.ops }.tailroom;
    // SAFETY: the fragment is alive.
    unsafe { tailroom(frag.as_ptr()) }
}

#[cfg(test)]
mod tests;

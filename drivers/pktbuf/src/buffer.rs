//! The handle of a received packet.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::frag::{Checksum, Frag};
use crate::pool::PagePool;

/// A received packet: an 8-byte handle to a chain of fragments, move-only. Dropping it gives the
/// memory back. What can be read through a shared reference is in [`Frag`].
pub struct Buffer(NonNull<Frag>);

const _: () = assert!(size_of::<Buffer>() == 8);

// SAFETY: the handle owns its fragments, and they may be released on any thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Takes over a packet from a driver.
    ///
    /// # Safety
    ///
    /// - `head` is the first of a chain of fragments (linked by `next`, the last one's is null),
    ///   each described truly and owned by nobody else; `pkt_len` of the first is their sum.
    /// - `ops.release` may be called on any thread.
    /// - A fragment marked writable is referenced by nobody else.
    pub unsafe fn from_raw(head: NonNull<Frag>) -> Self {
        Self(head)
    }

    /// Gives the packet away; whoever gets it releases it.
    pub fn into_raw(self) -> NonNull<Frag> {
        let head = self.0;
        std::mem::forget(self);
        head
    }

    /// The first fragment's bytes, if they may be written to.
    pub fn front_mut(&mut self) -> Option<&mut [u8]> {
        todo!()
    }

    /// Drops the first `n` bytes (all, if there are fewer), and fragments that become empty.
    pub fn trim_front(&mut self, n: u32) {
        let _ = n;
        todo!()
    }

    /// Drops the bytes from `len` on, and the fragments behind.
    pub fn truncate(&mut self, len: u32) {
        let _ = len;
        todo!()
    }

    /// How many bytes can be added behind the last one, in memory that may be written to.
    pub fn tailroom(&self) -> u32 {
        todo!()
    }

    /// Copies as much of `bytes` as there's tail room for behind the last byte; returns how much.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let _ = bytes;
        todo!()
    }

    /// The same bytes in less memory, if a copy pins less and the pool has room; else itself. Port,
    /// hash and verdicts go with it.
    pub fn compact(self, pool: &mut PagePool) -> Self {
        let _ = pool;
        todo!()
    }

    /// Sets what the port says about checksums.
    pub fn set_checksums(&mut self, ip: Checksum, l4: Checksum) {
        let _ = (ip, l4);
        todo!()
    }

    /// Sets the leaf port.
    pub fn set_port(&mut self, port: u16) {
        let _ = port;
        todo!()
    }

    /// Sets or clears the flow hash.
    pub fn set_hash(&mut self, hash: Option<u32>) {
        let _ = hash;
        todo!()
    }

    /// Sets or clears the stripped VLAN tag.
    pub fn set_vlan(&mut self, tci: Option<u16>) {
        let _ = tci;
        todo!()
    }

    /// Sets how many segments were merged.
    pub fn set_segments(&mut self, segments: u16) {
        let _ = segments;
        todo!()
    }

    /// Forbids writing to the memory, for good.
    pub fn set_read_only(&mut self) {
        todo!()
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
        todo!()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

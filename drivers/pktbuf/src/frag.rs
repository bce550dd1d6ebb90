//! One fragment of a received packet, as a driver describes it.

use std::fmt;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::slice;

use crate::links::Links;

/// A fragment of a received packet: where its bytes are and what they pin.
///
/// Drivers keep one beside each packet memory (DPDK: in the mbuf's private area) and write it from
/// C; [`Frag::LAYOUT`] says where each field is. The first fragment of a packet also carries what
/// is known about all of it.
#[repr(C)]
pub struct Frag {
    /// The packet's next fragment.
    pub(crate) next: *mut Self,
    /// The next packet of a queue; offset while queued. Only the first fragment's count.
    pub(crate) links: Links<Self>,
    pub(crate) data: *mut u8,
    pub(crate) ops: *const FragOps,
    /// Of this fragment.
    pub(crate) data_len: u32,
    /// Of the packet; from here on only the first fragment's count, but for `true_size` and the
    /// writable flag.
    pub(crate) pkt_len: u32,
    pub(crate) true_size: u32,
    pub(crate) hash: u32,
    pub(crate) port: u16,
    pub(crate) vlan: u16,
    pub(crate) flags: u16,
    pub(crate) segs: u16,
}

const _: () = assert!(size_of::<Frag>() <= 64);

/// What can be done with a fragment's memory.
#[repr(C)]
#[derive(Debug)]
pub struct FragOps {
    /// Gives back the memory of this one fragment (not of the ones after it), on any thread.
    pub release: unsafe extern "C" fn(*mut Frag),
    /// How many bytes could be added behind the data of this (writable) fragment.
    pub tailroom: unsafe extern "C" fn(*const Frag) -> u32,
}

/// Bits of a fragment's flags.
pub mod flags {
    /// The IP header checksum was verified.
    pub const IP_CSUM_GOOD: u16 = 1 << 0;
    /// The IP header checksum is wrong.
    pub const IP_CSUM_BAD: u16 = 1 << 1;
    /// The TCP or UDP checksum was verified.
    pub const L4_CSUM_GOOD: u16 = 1 << 2;
    /// The TCP or UDP checksum is wrong.
    pub const L4_CSUM_BAD: u16 = 1 << 3;
    /// The memory may be written to: direct, of our own pool, referenced once when it came in.
    pub const WRITABLE: u16 = 1 << 4;
    /// The hash field is valid.
    pub const HAS_HASH: u16 = 1 << 5;
    /// A VLAN tag was stripped into the vlan field.
    pub const HAS_VLAN: u16 = 1 << 6;
}

/// Where the fields of a [`Frag`] are, for the C side's compile-time checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the offset of the field of its name")]
pub struct FragLayout {
    pub size: usize,
    pub next: usize,
    pub link: usize,
    pub data: usize,
    pub ops: usize,
    pub offset: usize,
    pub len: usize,
    pub pkt_len: usize,
    pub true_size: usize,
    pub hash: usize,
    pub port: usize,
    pub vlan: usize,
    pub flags: usize,
    pub segs: usize,
}

/// What a driver says about one fragment ([`Frag::write`]).
#[derive(Clone, Copy, Debug)]
pub struct FragInit {
    /// First byte.
    pub data: NonNull<u8>,
    /// Bytes.
    pub len: u32,
    /// What the fragment pins, its bookkeeping included.
    pub true_size: u32,
    /// Bits of [`flags`].
    pub flags: u16,
    /// What to do with the memory.
    pub ops: &'static FragOps,
}

/// What is known about a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// Nobody looked.
    Unknown,
    /// Verified.
    Good,
    /// Wrong.
    Bad,
}

impl Frag {
    /// Field offsets.
    pub const LAYOUT: FragLayout = FragLayout {
        size: size_of::<Self>(),
        next: offset_of!(Self, next),
        link: offset_of!(Self, links.next),
        data: offset_of!(Self, data),
        ops: offset_of!(Self, ops),
        offset: offset_of!(Self, links.offset),
        len: offset_of!(Self, data_len),
        pkt_len: offset_of!(Self, pkt_len),
        true_size: offset_of!(Self, true_size),
        hash: offset_of!(Self, hash),
        port: offset_of!(Self, port),
        vlan: offset_of!(Self, vlan),
        flags: offset_of!(Self, flags),
        segs: offset_of!(Self, segs),
    };

    /// Writes a single-fragment packet's description to `at`: what the C side does, for drivers in
    /// Rust.
    ///
    /// # Safety
    ///
    /// - `at` is valid for writes of a `Frag`, aligned, and belongs to the packet memory.
    /// - `init` describes memory that is readable (writable, if it says so) until `release`.
    pub unsafe fn write(at: NonNull<Self>, init: FragInit) {
        let frag = Self {
            next: ptr::null_mut(),
            links: Links::new(),
            data: init.data.as_ptr(),
            ops: init.ops,
            data_len: init.len,
            pkt_len: init.len,
            true_size: init.true_size,
            hash: 0,
            port: 0,
            vlan: 0,
            flags: init.flags,
            segs: 1,
        };
        // SAFETY: the caller's promise.
        unsafe { at.write(frag) }
    }

    /// Bytes of the whole packet.
    pub fn len(&self) -> u32 {
        self.pkt_len
    }

    /// Whether the packet has no bytes.
    pub fn is_empty(&self) -> bool {
        self.pkt_len == 0
    }

    /// The first fragment's bytes.
    pub fn front(&self) -> &[u8] {
        // SAFETY: the driver's promise when it described the fragment.
        unsafe { slice::from_raw_parts(self.data, self.data_len as usize) }
    }

    /// Every fragment's bytes, in order.
    pub fn fragments(&self) -> Fragments<'_> {
        Fragments { next: Some(self) }
    }

    /// Whether one fragment holds all bytes.
    pub fn is_contiguous(&self) -> bool {
        self.data_len == self.pkt_len
    }

    /// Whether the bytes may be written to (by the buffer's owner).
    pub fn is_writable(&self) -> bool {
        let mut frag = Some(self);
        while let Some(f) = frag {
            if f.flags & flags::WRITABLE == 0 {
                return false;
            }
            frag = f.next_frag();
        }
        true
    }

    /// Copies up to `out.len()` bytes from `at` on; returns how many there were.
    pub fn copy_to(&self, at: u32, out: &mut [u8]) -> usize {
        let mut skip = at as usize;
        let mut done = 0;
        for piece in self.fragments() {
            let Some(piece) = piece.get(skip..) else {
                skip -= piece.len();
                continue;
            };
            skip = 0;
            let n = piece.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&piece[..n]);
            done += n;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Bytes of memory that the packet pins.
    pub fn true_size(&self) -> u32 {
        let mut sum = 0u32;
        let mut frag = Some(self);
        while let Some(f) = frag {
            sum = sum.saturating_add(f.true_size);
            frag = f.next_frag();
        }
        sum
    }

    /// The leaf port it came in on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The hash that the port computed.
    pub fn hash(&self) -> Option<u32> {
        (self.flags & flags::HAS_HASH != 0).then_some(self.hash)
    }

    /// The VLAN tag (TCI) that the port stripped.
    pub fn vlan(&self) -> Option<u16> {
        (self.flags & flags::HAS_VLAN != 0).then_some(self.vlan)
    }

    /// What the port says about the IP header checksum.
    pub fn ip_checksum(&self) -> Checksum {
        self.verdict(flags::IP_CSUM_GOOD, flags::IP_CSUM_BAD)
    }

    /// What the port says about the transport checksum.
    pub fn l4_checksum(&self) -> Checksum {
        self.verdict(flags::L4_CSUM_GOOD, flags::L4_CSUM_BAD)
    }

    /// How many segments of the wire were merged into this one.
    pub fn segments(&self) -> u16 {
        self.segs
    }

    fn verdict(&self, good: u16, bad: u16) -> Checksum {
        match (self.flags & good != 0, self.flags & bad != 0) {
            (_, true) => Checksum::Bad,
            (true, false) => Checksum::Good,
            (false, false) => Checksum::Unknown,
        }
    }

    /// Address behind the last byte of this fragment.
    pub(crate) fn end(&self) -> usize {
        self.data.addr() + self.data_len as usize
    }

    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.flags & flags::WRITABLE == 0 {
            return None;
        }
        // SAFETY: the fragment is its buffer's alone, and may be written to.
        Some(unsafe { slice::from_raw_parts_mut(self.data, self.data_len as usize) })
    }

    /// What is known about the whole packet.
    pub(crate) fn copy_meta(&mut self, from: &Self) {
        self.hash = from.hash;
        self.port = from.port;
        self.vlan = from.vlan;
        self.segs = from.segs;
        self.flags = from.flags & !flags::WRITABLE | self.flags & flags::WRITABLE;
    }

    pub(crate) fn set_flag(&mut self, bit: u16, on: bool) {
        self.flags = if on {
            self.flags | bit
        } else {
            self.flags & !bit
        };
    }

    pub(crate) fn set_verdict(&mut self, verdict: Checksum, good: u16, bad: u16) {
        self.set_flag(good, verdict == Checksum::Good);
        self.set_flag(bad, verdict == Checksum::Bad);
    }

    pub(crate) fn next_frag(&self) -> Option<&Self> {
        // SAFETY: null or the next fragment of this packet, which lives as long as this one.
        unsafe { self.next.as_ref() }
    }
}

impl fmt::Debug for Frag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frag")
            .field("len", &self.pkt_len)
            .field("front", &self.data_len)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// A packet's fragments.
#[derive(Debug)]
pub struct Fragments<'a> {
    next: Option<&'a Frag>,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let frag = self.next?;
        self.next = frag.next_frag();
        Some(frag.front())
    }
}

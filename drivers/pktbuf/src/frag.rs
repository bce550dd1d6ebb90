//! The description of one fragment of a received packet.

use std::fmt;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::slice;

use crate::links::Links;

/// Description of one fragment of a received packet: its bytes, and the memory that they pin.
///
/// It stands beside the packet memory; with DPDK, in the mbuf's private area, where the C shim
/// writes it. [`Frag::LAYOUT`] has the offset of each field. The first fragment of a packet also
/// describes the whole packet.
#[repr(C)]
pub struct Frag {
    /// The packet's next fragment.
    pub(crate) next: *mut Self,
    /// Next packet in a queue, and stream offset while queued. Only used in the first fragment.
    pub(crate) links: Links<Self>,
    pub(crate) data: *mut u8,
    pub(crate) ops: *const FragOps,
    /// Bytes of this fragment.
    pub(crate) data_len: u32,
    /// Bytes of the packet. This field and those below are only valid in the first fragment, except
    /// `true_size` and the writable flag.
    pub(crate) pkt_len: u32,
    pub(crate) true_size: u32,
    pub(crate) hash: u32,
    pub(crate) port: u16,
    pub(crate) vlan: u16,
    pub(crate) flags: u16,
    pub(crate) segs: u16,
}

const _: () = assert!(size_of::<Frag>() <= 64);

/// Operations on the memory behind a fragment.
#[repr(C)]
#[derive(Debug)]
pub struct FragOps {
    /// Frees the memory of this fragment, not of the ones after it. Called on any thread.
    pub release: unsafe extern "C" fn(*mut Frag),
    /// Returns the number of free bytes behind the data of this (writable) fragment.
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

/// Offsets of the fields of a [`Frag`], in bytes, for compile-time checks against the C shim.
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

/// Arguments of [`Frag::write`].
#[derive(Clone, Copy, Debug)]
pub struct FragInit {
    /// First byte.
    pub data: NonNull<u8>,
    /// Bytes.
    pub len: u32,
    /// Bytes of memory that the fragment pins, bookkeeping included.
    pub true_size: u32,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Operations on the memory.
    pub ops: &'static FragOps,
}

/// A port's verdict on a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// Not verified.
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

    /// Writes the description of a packet of one fragment to `at`.
    ///
    /// # Safety
    ///
    /// - `at` is valid for writes of a `Frag`, aligned, and belongs to the packet memory.
    /// - `init` describes memory that is readable (and writable, if flagged so) until `release`.
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

    /// Returns the bytes of the first fragment.
    pub fn front(&self) -> &[u8] {
        // SAFETY: promised when the fragment was described.
        unsafe { slice::from_raw_parts(self.data, self.data_len as usize) }
    }

    /// Returns the bytes of each fragment, in order.
    pub fn fragments(&self) -> Fragments<'_> {
        Fragments { next: Some(self) }
    }

    /// Returns whether one fragment holds all bytes.
    pub fn is_contiguous(&self) -> bool {
        self.data_len == self.pkt_len
    }

    /// Returns whether the owner of the buffer may write to all of its bytes.
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

    /// Copies up to `out.len()` bytes, starting at `at`, into `out`. Returns the number of bytes
    /// copied.
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

    /// Tells the processor that the packet's bytes will be read soon, so that it fetches them into
    /// its cache meanwhile: the first fragment's, at most 1536.
    pub fn prefetch(&self) {
        let bytes = self.front();
        for line in bytes[..bytes.len().min(PREFETCH_MAX)].chunks(CACHE_LINE) {
            prefetch_line(line);
        }
    }

    /// Returns the bytes of memory that the packet pins.
    pub fn true_size(&self) -> u32 {
        let mut sum = 0u32;
        let mut frag = Some(self);
        while let Some(f) = frag {
            sum = sum.saturating_add(f.true_size);
            frag = f.next_frag();
        }
        sum
    }

    /// Returns the DPDK port that the packet was received on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the RSS hash that the port computed, if any.
    pub fn hash(&self) -> Option<u32> {
        (self.flags & flags::HAS_HASH != 0).then_some(self.hash)
    }

    /// Returns the VLAN tag (TCI) that the port stripped, if any.
    pub fn vlan(&self) -> Option<u16> {
        (self.flags & flags::HAS_VLAN != 0).then_some(self.vlan)
    }

    /// Returns the port's verdict on the IP header checksum.
    pub fn ip_checksum(&self) -> Checksum {
        self.verdict(flags::IP_CSUM_GOOD, flags::IP_CSUM_BAD)
    }

    /// Returns the port's verdict on the TCP or UDP checksum.
    pub fn l4_checksum(&self) -> Checksum {
        self.verdict(flags::L4_CSUM_GOOD, flags::L4_CSUM_BAD)
    }

    /// Returns the number of segments that the port merged into this packet (LRO); at least 1.
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

    /// Copies what describes the whole packet; the writable flag stays.
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

#[cfg(target_arch = "x86_64")]
fn prefetch_line(line: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction is in every x86-64 processor. It reads nothing into a register, and
    // ignores addresses that it can't read.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch_line(_line: &[u8]) {}

/// Bytes that are fetched ahead of a packet: a frame of usual size.
const PREFETCH_MAX: usize = 1536;
const CACHE_LINE: usize = 64;

/// Iterator over the bytes of a packet's fragments.
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

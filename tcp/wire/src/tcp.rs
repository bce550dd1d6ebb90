//! TCP headers and options.

mod options;

pub use options::{SackBlock, SackList, TcpOptions, Timestamps};

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, Result, SeqNum};

/// The control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer field is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);
    /// No control bits.
    pub const NONE: Self = Self(0);

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the union of both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns these bits without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Debug for Flags {
    /// Prints the bits as tcpdump does: `[S.]` for SYN and ACK.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (flag, letter) in [
            (Self::FIN, "F"),
            (Self::SYN, "S"),
            (Self::RST, "R"),
            (Self::PSH, "P"),
            (Self::URG, "U"),
            (Self::ECE, "E"),
            (Self::CWR, "W"),
            (Self::ACK, "."),
        ] {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        f.write_str("]")
    }
}

/// The representation of a TCP header, without reserved bits and unknown options.
///
/// The checksum isn't part of it: it covers the whole segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: SeqNum,
    /// Next sequence number expected; significant only with [`Flags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Urgent pointer; significant only with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpHeader {
    /// Returns the bytes that `emit` writes: 20 to 60, a multiple of 4.
    pub fn emitted_len(&self) -> usize {
        HEADER_LEN + self.options.emitted_len()
    }

    /// Writes the header with a checksum field of zero to `out` and returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::emitted_len`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let len = self.emitted_len();
        let (fixed, options) = out[..len].split_at_mut(HEADER_LEN);
        let words = u8::try_from(len / 4).unwrap_or(MAX_WORDS);
        let raw = Raw {
            src_port: self.src_port.into(),
            dst_port: self.dst_port.into(),
            seq: self.seq.0.into(),
            ack: self.ack.0.into(),
            offset: words << 4,
            flags: self.flags.0,
            window: self.window.into(),
            checksum: U16::ZERO,
            urgent: self.urgent.into(),
        };
        fixed.copy_from_slice(raw.as_bytes());
        self.options.emit(options);
        len
    }
}

/// A view of a contiguous TCP header. Its length is checked.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    raw: &'a Raw,
    options: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// Checks the header that `bytes` begin with.
    ///
    /// # Errors
    /// `Truncated`; `Length` if the data offset is below 5.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        let options_len = (usize::from(raw.offset >> 4) * 4)
            .checked_sub(HEADER_LEN)
            .ok_or(ParseError::Length)?;
        let options = rest.get(..options_len).ok_or(ParseError::Truncated)?;
        Ok(Self { raw, options })
    }

    /// Parses the header that `bytes` begin with. Returns it and its length.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(bytes: &'a [u8]) -> Result<(TcpHeader, usize)> {
        let view = Self::new(bytes)?;
        Ok((view.header(), view.header_len()))
    }

    /// Returns the representation.
    pub fn header(&self) -> TcpHeader {
        TcpHeader {
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            seq: self.seq(),
            ack: SeqNum(self.raw.ack.get()),
            flags: Flags(self.raw.flags),
            window: self.raw.window.get(),
            urgent: self.raw.urgent.get(),
            options: TcpOptions::parse(self.options),
        }
    }

    /// Returns the length of the header with its options: 20 to 60 bytes.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Returns the source port.
    pub fn src_port(&self) -> u16 {
        self.raw.src_port.get()
    }

    /// Returns the destination port.
    pub fn dst_port(&self) -> u16 {
        self.raw.dst_port.get()
    }

    /// Returns the sequence number.
    pub fn seq(&self) -> SeqNum {
        SeqNum(self.raw.seq.get())
    }

    /// Returns the checksum field.
    pub fn checksum(&self) -> u16 {
        self.raw.checksum.get()
    }

    /// Returns the bytes of the options.
    pub fn options(&self) -> &'a [u8] {
        self.options
    }
}

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;
/// Length of the longest header, in bytes.
pub const MAX_HEADER_LEN: usize = 60;
/// Offset of the checksum field, in bytes.
pub const CHECKSUM_AT: usize = 16;

const MAX_WORDS: u8 = 15;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

const _: () = assert!(size_of::<Raw>() == HEADER_LEN);

#[cfg(test)]
mod tests;

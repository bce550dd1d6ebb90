//! IPv6 headers, and the walk over extension headers (RFC 8200).

mod extension;

pub use extension::{ExtensionError, Fragment, ParameterProblem, UpperLayer, walk};

use core::net::Ipv6Addr;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ip::{IpProtocol, TrafficClass};
use crate::{ParseError, Result};

/// The representation of an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// The next header: an extension header or the payload's protocol.
    pub next_header: IpProtocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub class: TrafficClass,
    /// The flow label.
    pub flow_label: FlowLabel,
    /// Bytes of payload, extension headers included.
    pub payload_len: u16,
}

/// A 20-bit flow label (RFC 6437). 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowLabel(u32);

impl FlowLabel {
    /// Makes a label of the low 20 bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & 0xf_ffff)
    }

    /// Returns the label's value.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Ipv6Header {
    /// Writes the header to `out` and returns its length, [`HEADER_LEN`].
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let raw = Raw {
            version: U32::new(6 << 28 | u32::from(self.class.0) << 20 | self.flow_label.0),
            payload_len: self.payload_len.into(),
            next_header: self.next_header.0,
            hop_limit: self.hop_limit,
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        out[..HEADER_LEN].copy_from_slice(raw.as_bytes());
        HEADER_LEN
    }
}

/// A view of an IPv6 header. Its length and version are checked.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6View<'a> {
    raw: &'a Raw,
}

impl<'a> Ipv6View<'a> {
    /// Checks the header that `bytes` begin with, but not whether they hold the payload: that may
    /// be in another segment of the buffer.
    ///
    /// # Errors
    /// `Truncated`; `Version`.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        if raw.version.get() >> 28 != 6 {
            return Err(ParseError::Version);
        }
        Ok(Self { raw })
    }

    /// Parses the header that `bytes` begin with. Returns it and its length, [`HEADER_LEN`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(bytes: &'a [u8]) -> Result<(Ipv6Header, usize)> {
        Ok((Self::new(bytes)?.header(), HEADER_LEN))
    }

    /// Returns the representation.
    pub fn header(&self) -> Ipv6Header {
        let [version_class, class_label, ..] = self.raw.version.to_bytes();
        Ipv6Header {
            src: self.raw.src.into(),
            dst: self.raw.dst.into(),
            next_header: IpProtocol(self.raw.next_header),
            hop_limit: self.raw.hop_limit,
            class: TrafficClass(version_class << 4 | class_label >> 4),
            flow_label: FlowLabel::from_bits(self.raw.version.get()),
            payload_len: self.raw.payload_len.get(),
        }
    }
}

/// Length of the fixed header, in bytes.
pub const HEADER_LEN: usize = 40;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    version: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

const _: () = assert!(size_of::<Raw>() == HEADER_LEN);

#[cfg(test)]
mod tests;

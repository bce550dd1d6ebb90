//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{MacAddr, ParseError, Result};

/// The operation of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Asks for the link-layer address of the target's IPv4 address.
    Request,
    /// Answers a request: the sender's link-layer address belongs to the sender's IPv4 address.
    Reply,
}

/// The representation of an ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's link-layer address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's link-layer address, zero in requests.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Writes the packet to `out` and returns its length, [`LEN`].
    ///
    /// # Panics
    /// If `out` is shorter than [`LEN`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let raw = Raw {
            hardware: HARDWARE_ETHERNET.into(),
            protocol: PROTOCOL_IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: match self.operation {
                Operation::Request => U16::new(REQUEST),
                Operation::Reply => U16::new(REPLY),
            },
            sender_mac: self.sender_mac,
            sender_ip: self.sender_ip.octets(),
            target_mac: self.target_mac,
            target_ip: self.target_ip.octets(),
        };
        out[..LEN].copy_from_slice(raw.as_bytes());
        LEN
    }
}

/// A view of an ARP packet for IPv4 over Ethernet. Its length, types and operation are checked.
#[derive(Clone, Copy, Debug)]
pub struct ArpView<'a> {
    raw: &'a Raw,
    operation: Operation,
}

impl<'a> ArpView<'a> {
    /// Checks the packet that `bytes` begin with. Padding may follow it.
    ///
    /// # Errors
    /// `Truncated`; `Version` for other hardware or protocol types; `Field` for other operations.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        let kind = (
            raw.hardware.get(),
            raw.protocol.get(),
            raw.hardware_len,
            raw.protocol_len,
        );
        if kind != (HARDWARE_ETHERNET, PROTOCOL_IPV4, 6, 4) {
            return Err(ParseError::Version);
        }
        let operation = match raw.operation.get() {
            REQUEST => Operation::Request,
            REPLY => Operation::Reply,
            _ => return Err(ParseError::Field),
        };
        Ok(Self { raw, operation })
    }

    /// Parses the packet that `bytes` begin with. Returns it and its length, [`LEN`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(bytes: &'a [u8]) -> Result<(ArpPacket, usize)> {
        Ok((Self::new(bytes)?.packet(), LEN))
    }

    /// Returns the representation.
    pub fn packet(&self) -> ArpPacket {
        ArpPacket {
            operation: self.operation,
            sender_mac: self.raw.sender_mac,
            sender_ip: self.raw.sender_ip.into(),
            target_mac: self.raw.target_mac,
            target_ip: self.raw.target_ip.into(),
        }
    }
}

/// Length of a packet in bytes.
pub const LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender_ip: [u8; 4],
    target_mac: MacAddr,
    target_ip: [u8; 4],
}

const _: () = assert!(size_of::<Raw>() == LEN);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST_BYTES: [u8; 28] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
    ];

    #[test]
    fn request() {
        let (p, len) = ArpView::parse(&REQUEST_BYTES).unwrap();
        assert_eq!(len, 28);
        assert_eq!(
            p,
            ArpPacket {
                operation: Operation::Request,
                sender_mac: MacAddr([2, 0, 0, 0, 0, 2]),
                sender_ip: Ipv4Addr::new(10, 0, 0, 2),
                target_mac: MacAddr::ZERO,
                target_ip: Ipv4Addr::new(10, 0, 0, 1),
            }
        );
    }

    #[test]
    fn refuses_other_kinds() {
        for (at, value, error) in [
            (1, 6, ParseError::Version),
            (2, 0x86, ParseError::Version),
            (4, 8, ParseError::Version),
            (5, 16, ParseError::Version),
            (7, 0, ParseError::Field),
            (7, 3, ParseError::Field),
        ] {
            let mut bytes = REQUEST_BYTES;
            bytes[at] = value;
            assert_eq!(ArpView::parse(&bytes), Err(error), "byte {at}");
        }
        for len in 0..28 {
            assert_eq!(
                ArpView::parse(&REQUEST_BYTES[..len]),
                Err(ParseError::Truncated)
            );
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn emit_then_parse(reply: bool, a: [u8; 6], b: [u8; 4], c: [u8; 6], d: [u8; 4]) {
            let p = ArpPacket {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: MacAddr(a),
                sender_ip: b.into(),
                target_mac: MacAddr(c),
                target_ip: d.into(),
            };
            let mut out = [0; LEN + 3];
            prop_assert_eq!(p.emit(&mut out), LEN);
            prop_assert_eq!(ArpView::parse(&out), Ok((p, LEN)));
        }

        #[test]
        fn parse_then_emit(mut bytes in prop::collection::vec(any::<u8>(), 0..40), op in 0u8..4) {
            if bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, op]);
            }
            if let Ok((p, len)) = ArpView::parse(&bytes) {
                let mut out = [0; LEN];
                p.emit(&mut out);
                prop_assert_eq!(&out[..], &bytes[..len]);
            }
        }
    }
}

//! ICMP for IPv4 (RFC 792): echo and errors.

use crate::checksum;
use crate::{ParseError, Result};

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Identifier, chosen by the requester.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// Data that the reply repeats unchanged.
    pub data: &'a [u8],
}

/// The representation of an ICMP message, without unused fields.
///
/// `quoted` is the beginning of the packet that an error is about, from its IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4Message<'a> {
    /// Echo request (type 8).
    EchoRequest(Echo<'a>),
    /// Echo reply (type 0).
    EchoReply(Echo<'a>),
    /// Destination Unreachable (type 3).
    DestinationUnreachable {
        /// One of [`mod@unreachable`].
        code: u8,
        /// With code [`unreachable::FRAGMENTATION_NEEDED`], the next hop's MTU in bytes (RFC 1191);
        /// zero if the router doesn't know that RFC.
        next_hop_mtu: u16,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Time Exceeded (type 11).
    TimeExceeded {
        /// 0: time to live exceeded in transit. 1: fragment reassembly time exceeded.
        code: u8,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Parameter Problem (type 12).
    ParameterProblem {
        /// 0 if the pointer is valid.
        code: u8,
        /// Offset of the wrong byte in the packet.
        pointer: u8,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
}

impl<'a> Icmpv4Message<'a> {
    /// Parses `bytes`, the whole payload of an IPv4 packet.
    ///
    /// # Errors
    /// `Truncated` below eight bytes; `Checksum`; `Unsupported` for other types.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let &[kind, code, _, _, a, b, c, d, ref body @ ..] = bytes else {
            return Err(ParseError::Truncated);
        };
        if !checksum::is_valid(bytes) {
            return Err(ParseError::Checksum);
        }
        let low = u16::from_be_bytes([c, d]);
        let echo = Echo {
            ident: u16::from_be_bytes([a, b]),
            seq: low,
            data: body,
        };
        match (kind, code) {
            (kind::ECHO_REQUEST, 0) => Ok(Self::EchoRequest(echo)),
            (kind::ECHO_REPLY, 0) => Ok(Self::EchoReply(echo)),
            (kind::DESTINATION_UNREACHABLE, code) => Ok(Self::DestinationUnreachable {
                code,
                next_hop_mtu: low,
                quoted: body,
            }),
            (kind::TIME_EXCEEDED, code) => Ok(Self::TimeExceeded { code, quoted: body }),
            (kind::PARAMETER_PROBLEM, code) => Ok(Self::ParameterProblem {
                code,
                pointer: a,
                quoted: body,
            }),
            _ => Err(ParseError::Unsupported),
        }
    }

    /// Returns the bytes that `emit` writes.
    pub const fn emitted_len(&self) -> usize {
        HEADER_LEN + self.body().len()
    }

    /// Writes the message with its checksum to `out` and returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::emitted_len`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let out = &mut out[..self.emitted_len()];
        let (kind, code, [a, b, c, d]) = self.header();
        out[..HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
        out[HEADER_LEN..].copy_from_slice(self.body());
        let sum = checksum::of(out);
        out[2..4].copy_from_slice(&sum.to_be_bytes());
        out.len()
    }

    const fn body(&self) -> &'a [u8] {
        match *self {
            Self::EchoRequest(echo) | Self::EchoReply(echo) => echo.data,
            Self::DestinationUnreachable { quoted, .. }
            | Self::TimeExceeded { quoted, .. }
            | Self::ParameterProblem { quoted, .. } => quoted,
        }
    }

    /// Returns type, code and the four bytes behind the checksum.
    const fn header(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::EchoRequest(echo) => (kind::ECHO_REQUEST, 0, echo.words()),
            Self::EchoReply(echo) => (kind::ECHO_REPLY, 0, echo.words()),
            Self::DestinationUnreachable {
                code, next_hop_mtu, ..
            } => {
                let [c, d] = next_hop_mtu.to_be_bytes();
                (kind::DESTINATION_UNREACHABLE, code, [0, 0, c, d])
            }
            Self::TimeExceeded { code, .. } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer, .. } => {
                (kind::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
        }
    }
}

impl Echo<'_> {
    pub(crate) const fn words(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.ident.to_be_bytes(), self.seq.to_be_bytes());
        [a, b, c, d]
    }
}

/// Returns whether a message of this type is an error, or may be one because the type is unknown.
/// No error is sent about an error.
pub const fn is_error_type(message_type: u8) -> bool {
    // Everything but the queries: echo, router discovery, timestamp, information, address mask.
    !matches!(message_type, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43)
}

/// Codes of Destination Unreachable (RFC 792, RFC 1122 3.2.2.1).
pub mod unreachable {
    /// Network unreachable.
    pub const NETWORK: u8 = 0;
    /// Host unreachable.
    pub const HOST: u8 = 1;
    /// Protocol unreachable.
    pub const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 13;
}

/// Length of a message without its body, in bytes.
pub const HEADER_LEN: usize = 8;

mod kind {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const DESTINATION_UNREACHABLE: u8 = 3;
    pub(super) const ECHO_REQUEST: u8 = 8;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = 12;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ping() {
        let bytes = [8, 0, 0xf7, 0xfb, 0, 1, 0, 2];
        let m = Icmpv4Message::parse(&bytes).map(|m| match m {
            Icmpv4Message::EchoRequest(e) => (e.ident, e.seq, e.data.len()),
            other => panic!("{other:?}"),
        });
        assert!(matches!(m, Err(ParseError::Checksum)));
        let mut out = [0; 8];
        Icmpv4Message::EchoRequest(Echo {
            ident: 1,
            seq: 2,
            data: &[],
        })
        .emit(&mut out);
        assert_eq!(out, [8, 0, 0xf7, 0xfc, 0, 1, 0, 2]);
    }

    #[test]
    fn short_and_unknown() {
        for len in 0..8 {
            assert_eq!(
                Icmpv4Message::parse(&[0; 8][..len]),
                Err(ParseError::Truncated)
            );
        }
        // A timestamp request, and an echo request of an unknown code.
        for (kind, code) in [(13, 0), (8, 1), (5, 0)] {
            let mut bytes = [kind, code, 0, 0, 0, 0, 0, 0];
            let sum = checksum::of(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(Icmpv4Message::parse(&bytes), Err(ParseError::Unsupported));
        }
    }

    #[test]
    fn error_types() {
        for error in [3, 4, 5, 11, 12, 40, 99, 255] {
            assert!(is_error_type(error), "{error}");
        }
        for query in [0, 8, 9, 10, 13, 14, 15, 16, 17, 18] {
            assert!(!is_error_type(query), "{query}");
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn emit_then_parse(
            which in 0..5, a: u16, b: u16, code: u8, pointer: u8,
            data in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let echo = Echo { ident: a, seq: b, data: &data };
            let quoted = &data[..];
            let m = match which {
                0 => Icmpv4Message::EchoRequest(echo),
                1 => Icmpv4Message::EchoReply(echo),
                2 => Icmpv4Message::DestinationUnreachable { code, next_hop_mtu: b, quoted },
                3 => Icmpv4Message::TimeExceeded { code, quoted },
                _ => Icmpv4Message::ParameterProblem { code, pointer, quoted },
            };
            let mut out = vec![0; m.emitted_len()];
            prop_assert_eq!(m.emit(&mut out), out.len());
            prop_assert_eq!(Icmpv4Message::parse(&out), Ok(m));
        }

        #[test]
        fn parses_anything(
            mut bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0u8..20, fix: bool,
        ) {
            if fix && bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
                let sum = checksum::of(&bytes);
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            if let Ok(m) = Icmpv4Message::parse(&bytes) {
                let mut out = vec![0; m.emitted_len()];
                m.emit(&mut out);
                prop_assert_eq!(Icmpv4Message::parse(&out), Ok(m));
            }
        }
    }
}

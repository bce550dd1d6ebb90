//! ICMP for IPv6 (RFC 4443): echo, errors and neighbour discovery.

mod ndp;

pub use ndp::{NdOptions, PrefixInformation, RouterAdvertisement};

use core::net::Ipv6Addr;

use crate::checksum::Sum;
use crate::icmpv4::Echo;
use crate::ip::IpProtocol;
use crate::mac::MacAddr;
use crate::{ParseError, Result};

/// The representation of an ICMPv6 message, without unused fields and unknown options.
///
/// `quoted` is the beginning of the packet that an error is about, from its IPv6 header on.
///
/// The parser checks neighbour discovery's rules about the message. Those about the packet around
/// it (hop limit, addresses) are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Message<'a> {
    /// Destination Unreachable (type 1).
    DestinationUnreachable {
        /// One of [`mod@unreachable`].
        code: u8,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Packet Too Big (type 2).
    PacketTooBig {
        /// The next hop's MTU in bytes.
        mtu: u32,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Time Exceeded (type 3).
    TimeExceeded {
        /// 0: hop limit exceeded in transit. 1: fragment reassembly time exceeded.
        code: u8,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Parameter Problem (type 4).
    ParameterProblem {
        /// 0: erroneous field. 1: unrecognised next header. 2: unrecognised option.
        code: u8,
        /// Offset of the wrong byte in the packet.
        pointer: u32,
        /// The beginning of the packet.
        quoted: &'a [u8],
    },
    /// Echo request (type 128).
    EchoRequest(Echo<'a>),
    /// Echo reply (type 129).
    EchoReply(Echo<'a>),
    /// Router solicitation (type 133).
    RouterSolicitation {
        /// The sender's link-layer address.
        source: Option<MacAddr>,
    },
    /// Router advertisement (type 134).
    RouterAdvertisement(RouterAdvertisement),
    /// Neighbour solicitation (type 135): asks for the link-layer address of `target`.
    NeighborSolicitation {
        /// The address asked for or answered, never multicast.
        target: Ipv6Addr,
        /// The sender's link-layer address.
        source: Option<MacAddr>,
    },
    /// Neighbour advertisement (type 136): the link-layer address of `target`.
    NeighborAdvertisement {
        /// The address asked for or answered, never multicast.
        target: Ipv6Addr,
        /// Whether the sender is a router.
        router: bool,
        /// The Solicited flag: whether this answers a solicitation.
        solicited: bool,
        /// The Override flag: whether this replaces a cached address.
        replaces: bool,
        /// The target's link-layer address.
        mac: Option<MacAddr>,
    },
    /// Redirect (type 137): a better first hop.
    Redirect {
        /// The better first hop.
        target: Ipv6Addr,
        /// The destination that it is for.
        destination: Ipv6Addr,
        /// The target's link-layer address.
        mac: Option<MacAddr>,
    },
}

impl<'a> Icmpv6Message<'a> {
    /// Parses `bytes`, the whole payload of an IPv6 packet from `src` to `dst`.
    ///
    /// # Errors
    /// `Truncated`; `Checksum`; `Unsupported` for other types; `Field` and `Length` for invalid
    /// messages of neighbour discovery.
    pub fn parse(src: Ipv6Addr, dst: Ipv6Addr, bytes: &'a [u8]) -> Result<Self> {
        let &[kind, code, _, _, a, b, c, d, ref body @ ..] = bytes else {
            return Err(ParseError::Truncated);
        };
        if !sum(src, dst, bytes).is_valid() {
            return Err(ParseError::Checksum);
        }
        let word = u32::from_be_bytes([a, b, c, d]);
        let echo = Echo {
            ident: u16::from_be_bytes([a, b]),
            seq: u16::from_be_bytes([c, d]),
            data: body,
        };
        match (kind, code) {
            (kind::DESTINATION_UNREACHABLE, _) => {
                Ok(Self::DestinationUnreachable { code, quoted: body })
            }
            (kind::PACKET_TOO_BIG, _) => Ok(Self::PacketTooBig {
                mtu: word,
                quoted: body,
            }),
            (kind::TIME_EXCEEDED, _) => Ok(Self::TimeExceeded { code, quoted: body }),
            (kind::PARAMETER_PROBLEM, _) => Ok(Self::ParameterProblem {
                code,
                pointer: word,
                quoted: body,
            }),
            (kind::ECHO_REQUEST, 0) => Ok(Self::EchoRequest(echo)),
            (kind::ECHO_REPLY, 0) => Ok(Self::EchoReply(echo)),
            (kind::ROUTER_SOLICITATION..=kind::REDIRECT, 0) => ndp::parse(kind, word, body),
            //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
            //# A node MUST silently discard any received Neighbor Solicitation
            //# messages that do not satisfy all of the following validity checks
            // Among them "ICMP Code is 0", for all five message types.
            (kind::ROUTER_SOLICITATION..=kind::REDIRECT, _) => Err(ParseError::Field),
            _ => Err(ParseError::Unsupported),
        }
    }

    /// Returns the bytes that `emit` writes.
    pub fn emitted_len(&self) -> usize {
        HEADER_LEN
            + self
                .body()
                .map_or_else(|| ndp::emitted_len(self), <[u8]>::len)
    }

    /// Writes the message with its checksum to `out` and returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::emitted_len`].
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, out: &mut [u8]) -> usize {
        let out = &mut out[..self.emitted_len()];
        let (kind, code, [a, b, c, d]) = self.header();
        out[..HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
        match self.body() {
            Some(body) => out[HEADER_LEN..].copy_from_slice(body),
            None => ndp::emit(self, &mut out[HEADER_LEN..]),
        }
        let checksum = sum(src, dst, out).finish();
        out[2..4].copy_from_slice(&checksum.to_be_bytes());
        out.len()
    }

    /// Returns whether this is neighbour discovery, which is valid with hop limit 255 only.
    pub const fn is_neighbor_discovery(&self) -> bool {
        self.body().is_none()
    }

    /// Returns the body; `None` if it is structured, as neighbour discovery's is.
    const fn body(&self) -> Option<&'a [u8]> {
        match *self {
            Self::EchoRequest(echo) | Self::EchoReply(echo) => Some(echo.data),
            Self::DestinationUnreachable { quoted, .. }
            | Self::PacketTooBig { quoted, .. }
            | Self::TimeExceeded { quoted, .. }
            | Self::ParameterProblem { quoted, .. } => Some(quoted),
            Self::RouterSolicitation { .. }
            | Self::RouterAdvertisement(_)
            | Self::NeighborSolicitation { .. }
            | Self::NeighborAdvertisement { .. }
            | Self::Redirect { .. } => None,
        }
    }

    /// Returns type, code and the four bytes behind the checksum.
    const fn header(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::DestinationUnreachable { code, .. } => {
                (kind::DESTINATION_UNREACHABLE, code, [0; 4])
            }
            Self::PacketTooBig { mtu, .. } => (kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { code, .. } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer, .. } => {
                (kind::PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Self::EchoRequest(echo) => (kind::ECHO_REQUEST, 0, echo.words()),
            Self::EchoReply(echo) => (kind::ECHO_REPLY, 0, echo.words()),
            Self::RouterSolicitation { .. } => (kind::ROUTER_SOLICITATION, 0, [0; 4]),
            Self::RouterAdvertisement(ra) => (kind::ROUTER_ADVERTISEMENT, 0, ra.word()),
            Self::NeighborSolicitation { .. } => (kind::NEIGHBOR_SOLICITATION, 0, [0; 4]),
            Self::NeighborAdvertisement {
                router,
                solicited,
                replaces,
                ..
            } => {
                let flags = (router as u8) << 7 | (solicited as u8) << 6 | (replaces as u8) << 5;
                (kind::NEIGHBOR_ADVERTISEMENT, 0, [flags, 0, 0, 0])
            }
            Self::Redirect { .. } => (kind::REDIRECT, 0, [0; 4]),
        }
    }
}

/// Returns whether a message of this type is an error, or a redirect. No error is sent about it.
//= https://www.rfc-editor.org/rfc/rfc4443#section-2.1
//# Error messages are identified as such by a zero in the
//# high-order bit of their message Type field values.
pub const fn is_error_type(message_type: u8) -> bool {
    message_type < 128 || message_type == kind::REDIRECT
}

fn sum(src: Ipv6Addr, dst: Ipv6Addr, bytes: &[u8]) -> Sum {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut sum = Sum::pseudo_v6(src, dst, IpProtocol::ICMPV6, len);
    sum.add(bytes);
    sum
}

/// Codes of Destination Unreachable (RFC 4443, 3.1).
pub mod unreachable {
    /// No route to destination.
    pub const NO_ROUTE: u8 = 0;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Address unreachable.
    pub const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub const PORT: u8 = 4;
}

/// Length of a message without its body, in bytes.
pub const HEADER_LEN: usize = 8;

mod kind {
    pub(super) const DESTINATION_UNREACHABLE: u8 = 1;
    pub(super) const PACKET_TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const PARAMETER_PROBLEM: u8 = 4;
    pub(super) const ECHO_REQUEST: u8 = 128;
    pub(super) const ECHO_REPLY: u8 = 129;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
}

#[cfg(test)]
mod tests;

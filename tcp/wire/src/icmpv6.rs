//! ICMP for IPv6 (RFC 4443): echo, errors and neighbour discovery.

mod ndp;

pub use ndp::{NdOptions, PrefixInformation, RouterAdvertisement};

use core::net::Ipv6Addr;

use crate::checksum::Sum;
use crate::icmpv4::Echo;
use crate::ip::IpProtocol;
use crate::mac::MacAddr;
use crate::{ParseError, Result};

/// What an ICMPv6 message says. `quoted` is the beginning of the packet that an error is about,
/// from its IPv6 header on.
///
/// Neighbour discovery's rules about the packet around the message (hop limit, addresses) are for
/// whoever handles it; those about the message itself are checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Message<'a> {
    /// A packet couldn't be delivered.
    DestinationUnreachable {
        /// Why, see [`mod@unreachable`].
        code: u8,
        /// The packet.
        quoted: &'a [u8],
    },
    /// A packet was larger than a link on its way takes.
    PacketTooBig {
        /// The largest that would have passed.
        mtu: u32,
        /// The packet.
        quoted: &'a [u8],
    },
    /// A packet went around for too long (code 0), or its pieces didn't come in time (1).
    TimeExceeded {
        /// Which of these.
        code: u8,
        /// The packet.
        quoted: &'a [u8],
    },
    /// A packet's header is wrong.
    ParameterProblem {
        /// What is wrong with it.
        code: u8,
        /// The byte that is wrong.
        pointer: u32,
        /// The packet.
        quoted: &'a [u8],
    },
    /// Ping.
    EchoRequest(Echo<'a>),
    /// Answer to a ping.
    EchoReply(Echo<'a>),
    /// Asks for routers.
    RouterSolicitation {
        /// The asker's link-layer address.
        source: Option<MacAddr>,
    },
    /// A router says what the link is like.
    RouterAdvertisement(RouterAdvertisement),
    /// Asks who has an address.
    NeighborSolicitation {
        /// The address, never a group's.
        target: Ipv6Addr,
        /// The asker's link-layer address.
        source: Option<MacAddr>,
    },
    /// Says who has an address.
    NeighborAdvertisement {
        /// The address, never a group's.
        target: Ipv6Addr,
        /// Whether the sender is a router.
        router: bool,
        /// Whether this answers a solicitation.
        solicited: bool,
        /// Whether this replaces what was known before.
        replaces: bool,
        /// The link-layer address.
        mac: Option<MacAddr>,
    },
    /// Names a better first hop.
    Redirect {
        /// The better first hop.
        target: Ipv6Addr,
        /// For this destination.
        destination: Ipv6Addr,
        /// The target's link-layer address.
        mac: Option<MacAddr>,
    },
}

impl<'a> Icmpv6Message<'a> {
    /// The message that `bytes` are: the whole payload of an IPv6 packet between these addresses.
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
            // Among them "ICMP Code is 0", for all five kinds of message.
            (kind::ROUTER_SOLICITATION..=kind::REDIRECT, _) => Err(ParseError::Field),
            _ => Err(ParseError::Unsupported),
        }
    }

    /// Bytes that `emit` writes.
    pub fn emitted_len(&self) -> usize {
        HEADER_LEN
            + self
                .body()
                .map_or_else(|| ndp::emitted_len(self), <[u8]>::len)
    }

    /// Writes the message with its checksum; returns its length.
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

    /// Whether this is neighbour discovery, which is only valid with hop limit 255.
    pub const fn is_neighbor_discovery(&self) -> bool {
        self.body().is_none()
    }

    /// The bytes behind the header, unless they have structure.
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

    /// Type, code and the four bytes behind the checksum.
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

/// Whether a message of this type is an error (or a redirect), about which no error may be sent.
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

/// Length of a message without its body.
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

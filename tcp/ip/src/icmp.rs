//! ICMP errors: parsing of received ones, and the rules for sending them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockgate_wire::icmpv4::{self, Icmpv4Message};
use lockgate_wire::icmpv6::{self, Icmpv6Message};
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::ipv4::{self, Ipv4View};
use lockgate_wire::ipv6::{self, Ipv6View};
use lockgate_wire::{Endpoint, FourTuple, SeqNum};

use crate::frame::IpPair;
use crate::ingress::{IpPacket, RejectReason};

/// An ICMP error about a TCP segment of ours. It may be forged.
///
/// The connection has to check that the quoted sequence number is in flight (RFC 5927, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The connection.
    pub flow: FourTuple,
    /// The sequence number of the quoted segment.
    pub seq: SeqNum,
    /// What the error reports.
    pub kind: IcmpErrorKind,
}

/// What an ICMP error reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// The packet was too big. The next hop's MTU in bytes: at least 68 for IPv4, 1280 for IPv6.
    TooBig(u16),
    /// Destination unreachable.
    Unreachable {
        /// The code of ICMP or ICMPv6, by the flow's IP version.
        code: u8,
        /// Whether the error is permanent: protocol or port unreachable, or prohibited.
        hard: bool,
    },
    /// Time exceeded.
    TimeExceeded,
    /// A router or the peer rejected the header.
    ParameterProblem,
}

/// Parses an ICMPv4 error to our address `our`. `None` if it doesn't quote a TCP segment from
/// there.
pub(crate) fn error_v4(our: Ipv4Addr, message: &Icmpv4Message<'_>) -> Option<IcmpError> {
    use icmpv4::unreachable as code;
    let (quoted, kind) = match *message {
        Icmpv4Message::DestinationUnreachable {
            code: code::FRAGMENTATION_NEEDED,
            next_hop_mtu,
            quoted,
        } => {
            let mtu = if next_hop_mtu == 0 {
                plateau_below(total_len(quoted)?)
            } else {
                next_hop_mtu
            };
            (quoted, IcmpErrorKind::TooBig(mtu.max(MTU_MIN_V4)))
        }
        Icmpv4Message::DestinationUnreachable { code, quoted, .. } => {
            let hard = matches!(code, code::PROTOCOL | code::PORT | code::PROHIBITED);
            (quoted, IcmpErrorKind::Unreachable { code, hard })
        }
        Icmpv4Message::TimeExceeded { quoted, .. } => (quoted, IcmpErrorKind::TimeExceeded),
        Icmpv4Message::ParameterProblem { quoted, .. } => (quoted, IcmpErrorKind::ParameterProblem),
        Icmpv4Message::EchoRequest(_) | Icmpv4Message::EchoReply(_) => return None,
    };
    let (header, header_len) = Ipv4View::parse(quoted).ok()?;
    if header.protocol != IpProtocol::TCP || !header.fragment.is_first() || header.src != our {
        return None;
    }
    let tcp = quoted.get(header_len..)?;
    quoted_segment(header.src.into(), header.dst.into(), tcp, kind)
}

/// Parses an ICMPv6 error to our address `our`. `None` if it doesn't quote a TCP segment from
/// there.
pub(crate) fn error_v6(our: Ipv6Addr, message: &Icmpv6Message<'_>) -> Option<IcmpError> {
    use icmpv6::unreachable as code;
    let (quoted, kind) = match *message {
        //= https://www.rfc-editor.org/rfc/rfc8201#section-4
        //# If a node receives a Packet Too Big message reporting a next-hop MTU
        //# that is less than the IPv6 minimum link MTU, it must discard it.
        Icmpv6Message::PacketTooBig { mtu, quoted } if mtu >= u32::from(MTU_MIN_V6) => (
            quoted,
            IcmpErrorKind::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX)),
        ),
        Icmpv6Message::DestinationUnreachable { code, quoted } => {
            let hard = matches!(code, code::PROHIBITED | code::PORT);
            (quoted, IcmpErrorKind::Unreachable { code, hard })
        }
        Icmpv6Message::TimeExceeded { quoted, .. } => (quoted, IcmpErrorKind::TimeExceeded),
        Icmpv6Message::ParameterProblem { quoted, .. } => (quoted, IcmpErrorKind::ParameterProblem),
        Icmpv6Message::PacketTooBig { .. }
        | Icmpv6Message::EchoRequest(_)
        | Icmpv6Message::EchoReply(_)
        | Icmpv6Message::RouterSolicitation { .. }
        | Icmpv6Message::RouterAdvertisement(_)
        | Icmpv6Message::NeighborSolicitation { .. }
        | Icmpv6Message::NeighborAdvertisement { .. }
        | Icmpv6Message::Redirect { .. } => return None,
    };
    let (header, header_len) = Ipv6View::parse(quoted).ok()?;
    // We send no extension headers, so a quoted segment of ours has none.
    if header.next_header != IpProtocol::TCP || header.src != our {
        return None;
    }
    quoted_segment(
        header.src.into(),
        header.dst.into(),
        quoted.get(header_len..)?,
        kind,
    )
}

//= https://www.rfc-editor.org/rfc/rfc792#page-5
//# The internet header plus the first 64 bits of the original
//# datagram's data.
// So only ports and sequence number are certain to be quoted.
fn quoted_segment(
    local: IpAddr,
    remote: IpAddr,
    tcp: &[u8],
    kind: IcmpErrorKind,
) -> Option<IcmpError> {
    let &[s0, s1, d0, d1, a, b, c, d, ..] = tcp else {
        return None;
    };
    let local = Endpoint::new(local, u16::from_be_bytes([s0, s1]));
    let remote = Endpoint::new(remote, u16::from_be_bytes([d0, d1]));
    let seq = SeqNum(u32::from_be_bytes([a, b, c, d]));
    Some(IcmpError {
        flow: FourTuple::new(local, remote),
        seq,
        kind,
    })
}

fn total_len(quoted: &[u8]) -> Option<u16> {
    let (header, header_len) = Ipv4View::parse(quoted).ok()?;
    header
        .payload_len
        .checked_add(u16::try_from(header_len).ok()?)
}

/// Returns the MTU for an error without one, from an old router: the next smaller plateau.
//= https://www.rfc-editor.org/rfc/rfc1191#section-5
//# The strategy we recommend, then, is to use as the next PMTU estimate
//# the greatest plateau value that is less than the returned Total
//# Length field (corrected, if necessary, according to the Note above).
fn plateau_below(total_len: u16) -> u16 {
    const PLATEAUS: [u16; 10] = [
        32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68,
    ];
    PLATEAUS
        .into_iter()
        .find(|p| *p < total_len)
        .unwrap_or(MTU_MIN_V4)
}

/// Returns whether an error may be sent about a packet. `message` are its upper-layer bytes.
pub(crate) fn may_send_error(packet: &IpPacket, refusal: RejectReason, message: &[u8]) -> bool {
    let even_if_group =
        matches!(refusal, RejectReason::Parameter(problem) if problem.even_if_multicast);
    match packet.addrs {
        //= https://www.rfc-editor.org/rfc/rfc1122#section-3.2.2
        //# An ICMP error message MUST NOT be sent as the result of
        //# receiving:
        //# *    an ICMP error message, or
        //# *    a datagram destined to an IP broadcast or IP multicast
        //#      address, or
        //# *    a datagram sent as a link-layer broadcast, or
        //# *    a non-initial fragment, or
        //# *    a datagram whose source address does not define a single
        //#      host
        // Fragments and invalid sources were dropped before.
        IpPair::V4 { .. } => {
            !packet.is_group
                && (packet.protocol != IpProtocol::ICMP
                    || message
                        .first()
                        .is_some_and(|kind| !icmpv4::is_error_type(*kind)))
        }
        //= https://www.rfc-editor.org/rfc/rfc4443#section-2.4
        //# An ICMPv6 error message MUST NOT be originated as a result of
        //# receiving the following:
        // (e.1) and (e.2) an error or a redirect, (e.3) and (e.4) a group, except for code 2 of
        // Parameter Problem, (e.6) a source that isn't one node.
        IpPair::V6 { src, .. } => {
            (!packet.is_group || even_if_group)
                && !src.is_unspecified()
                && (packet.protocol != IpProtocol::ICMPV6
                    || message
                        .first()
                        .is_some_and(|kind| !icmpv6::is_error_type(*kind)))
        }
    }
}

/// Returns the error about an IPv4 packet, whose beginning is `quoted`.
pub(crate) fn error_about_v4(refusal: RejectReason, quoted: &[u8]) -> Icmpv4Message<'_> {
    //= https://www.rfc-editor.org/rfc/rfc1812#section-4.3.2.3
    //# the ICMP datagram SHOULD contain as much of the original
    //# datagram as possible without the length of the ICMP datagram
    //# exceeding 576 bytes.
    let quoted = &quoted[..quoted
        .len()
        .min(576 - ipv4::HEADER_LEN - icmpv4::HEADER_LEN)];
    let code = match refusal {
        RejectReason::Port => icmpv4::unreachable::PORT,
        // Only IPv6 packets are rejected for a parameter.
        RejectReason::Protocol | RejectReason::Parameter(_) => icmpv4::unreachable::PROTOCOL,
    };
    Icmpv4Message::DestinationUnreachable {
        code,
        next_hop_mtu: 0,
        quoted,
    }
}

/// Returns the error about an IPv6 packet, whose beginning is `quoted`.
//= https://www.rfc-editor.org/rfc/rfc4443#section-2.4
//# Every ICMPv6 error message (type < 128) MUST include as much of
//# the IPv6 offending (invoking) packet (the packet that caused the
//# error) as possible without making the error message packet exceed
//# the minimum IPv6 MTU
pub(crate) fn error_about_v6(refusal: RejectReason, quoted: &[u8]) -> Icmpv6Message<'_> {
    let room = usize::from(MTU_MIN_V6) - ipv6::HEADER_LEN - icmpv6::HEADER_LEN;
    let quoted = &quoted[..quoted.len().min(room)];
    match refusal {
        // An unknown protocol is a parameter problem in IPv6, so `Protocol` doesn't occur.
        RejectReason::Port | RejectReason::Protocol => Icmpv6Message::DestinationUnreachable {
            code: icmpv6::unreachable::PORT,
            quoted,
        },
        RejectReason::Parameter(problem) => Icmpv6Message::ParameterProblem {
            code: problem.code,
            pointer: problem.pointer,
            quoted,
        },
    }
}

/// The minimum MTU of an IPv4 link (RFC 791).
const MTU_MIN_V4: u16 = 68;
/// The minimum MTU of an IPv6 link (RFC 8200, 5).
const MTU_MIN_V6: u16 = 1280;

#[cfg(test)]
mod tests;

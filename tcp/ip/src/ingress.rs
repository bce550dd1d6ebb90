//! Classification of received frames: a packet for us, or the reason to drop or reject it.

use core::net::IpAddr;

use lockgate_wire::arp::{ArpPacket, ArpView};
use lockgate_wire::ethernet::{EtherType, EthernetView, VlanTag};
use lockgate_wire::ip::{IpProtocol, TrafficClass};
use lockgate_wire::ipv4::Ipv4View;
use lockgate_wire::ipv6::{self, ExtensionError, Ipv6View, ParameterProblem};
use lockgate_wire::{IfaceId, MacAddr, ParseError};

use crate::frame::IpPair;
use crate::interfaces::{Interface, Interfaces};

/// Metadata of a received frame, from the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// Length of the whole frame in bytes. [`classify`] may get only its first segment.
    pub len: usize,
    /// Whether the NIC found the IPv4 header checksum valid.
    pub ip_checksum_good: bool,
    /// The tag control information of an 802.1Q tag that the NIC stripped.
    pub vlan: Option<u16>,
}

/// The class of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// A TCP segment for us. Its header and checksum aren't checked yet.
    Tcp(IpPacket),
    /// An ICMP message for us, or for a group we joined. Its checksum isn't checked yet.
    Icmp(IpPacket),
    /// An ARP packet from another station.
    Arp(ArpIngress),
    /// A packet for us that can't be processed. [`IpLayer::reject`](crate::IpLayer::reject) sends
    /// an ICMP error.
    Reject(IpPacket, RejectReason),
    /// A frame to drop.
    Drop(DropReason),
}

/// A received IP packet; offsets count from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// The interface that received it: the VLAN's, if it had a tag.
    pub iface: IfaceId,
    /// Source and destination.
    pub addrs: IpPair,
    /// The upper-layer protocol.
    pub protocol: IpProtocol,
    /// DSCP and ECN.
    pub class: TrafficClass,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Offset of the IP header.
    pub l3_at: usize,
    /// Offset of the upper-layer header.
    pub l4_at: usize,
    /// Bytes of upper-layer header and payload. What follows in the frame is padding.
    pub l4_len: usize,
    /// Whether its IP or link-layer destination is a group: multicast or broadcast.
    pub is_group: bool,
}

/// A received ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpIngress {
    /// The interface that received it.
    pub iface: IfaceId,
    /// The packet.
    pub packet: ArpPacket,
}

/// Why a packet is rejected, which selects the ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The protocol is UDP, of which no port is open.
    Port,
    /// The IPv4 protocol isn't supported.
    Protocol,
    /// An IPv6 header or option can't be processed.
    Parameter(ParameterProblem),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The frame ends before its headers do.
    Truncated,
    /// The interface, VLAN or tag isn't configured.
    NoInterface,
    /// The destination MAC address is another station's.
    OtherStation,
    /// The source MAC address is a group address or ours.
    LinkSource,
    /// Neither IP nor ARP.
    EtherType,
    /// Not a valid ARP packet for IPv4 over Ethernet.
    BadArp,
    /// An invalid IP header: its version isn't the EtherType's, or its lengths are too small.
    BadHeader,
    /// A wrong IPv4 header checksum.
    BadChecksum,
    /// The frame is shorter than the IP header says.
    Cut,
    /// An invalid source address (RFC 1122, 3.2.1.3), or one of ours.
    Martian,
    /// The destination address isn't the interface's.
    NotLocal,
    /// Broadcast, or a multicast group that isn't joined.
    Group,
    /// A unicast IP destination in a broadcast or multicast frame (RFC 1122, 3.3.6).
    LinkGroup,
    /// A fragment: there's no reassembly.
    Fragment,
    /// A source route, or IPv4 options of invalid length.
    SourceRoute,
    /// Too many IPv6 extension headers, truncated ones, or an option that asks to discard.
    Extensions,
}

/// Classifies a received frame, without knowledge of connections.
///
/// `on` is the port's interface. `bytes` are the frame's first segment and hold its headers.
///
/// Checks in this order: link-layer destination and source, VLAN, IP version and lengths, header
/// checksum, source, destination, fragment, extension headers.
pub fn classify(interfaces: &Interfaces, on: IfaceId, bytes: &[u8], meta: &FrameMeta) -> Ingress {
    match find_packet(interfaces, on, bytes, meta) {
        Ok(PacketInFrame {
            interface,
            group,
            at,
            ethertype: EtherType::IPV4,
        }) => {
            let ctx = Classifier {
                interfaces,
                interface,
                group,
                bytes,
                meta,
            };
            ctx.ipv4(at).unwrap_or_else(Ingress::Drop)
        }
        Ok(PacketInFrame {
            interface,
            group,
            at,
            ethertype: EtherType::IPV6,
        }) => {
            let ctx = Classifier {
                interfaces,
                interface,
                group,
                bytes,
                meta,
            };
            ctx.ipv6(at).unwrap_or_else(Ingress::Drop)
        }
        Ok(PacketInFrame {
            interface,
            at,
            ethertype: EtherType::ARP,
            ..
        }) => match ArpView::parse(bytes.get(at..).unwrap_or_default()) {
            Ok((packet, _)) => Ingress::Arp(ArpIngress {
                iface: interface.id,
                packet,
            }),
            Err(ParseError::Truncated) => Ingress::Drop(DropReason::Truncated),
            Err(_) => Ingress::Drop(DropReason::BadArp),
        },
        Ok(_) => Ingress::Drop(DropReason::EtherType),
        Err(reason) => Ingress::Drop(reason),
    }
}

/// A packet found in a frame.
struct PacketInFrame<'a> {
    interface: &'a Interface,
    /// Whether the frame was sent to a group.
    group: bool,
    /// Offset of the packet in the frame.
    at: usize,
    ethertype: EtherType,
}

fn find_packet<'a>(
    interfaces: &'a Interfaces,
    on: IfaceId,
    bytes: &[u8],
    meta: &FrameMeta,
) -> Result<PacketInFrame<'a>, DropReason> {
    let Some(mac) = interfaces.interface(on).ok_or(DropReason::NoInterface)?.mac else {
        return find_bare_packet(interfaces, on, bytes);
    };
    let (header, at) = EthernetView::parse(bytes).map_err(|e| match e {
        ParseError::Truncated => DropReason::Truncated,
        ParseError::Version
        | ParseError::Length
        | ParseError::Checksum
        | ParseError::Field
        | ParseError::Unsupported => DropReason::NoInterface,
    })?;
    let group = header.dst.is_multicast();
    if !group && header.dst != mac {
        return Err(DropReason::OtherStation);
    }
    if !is_possible_source(header.src, mac) {
        return Err(DropReason::LinkSource);
    }
    let tag = match (meta.vlan, header.vlan) {
        (None, tag) => tag,
        (Some(tci), None) => Some(VlanTag::from_tci(tci).ok_or(DropReason::NoInterface)?),
        // Two tags (QinQ) aren't supported.
        (Some(_), Some(_)) => return Err(DropReason::NoInterface),
    };
    let interface = interfaces.resolve(on, tag).ok_or(DropReason::NoInterface)?;
    Ok(PacketInFrame {
        interface,
        group,
        at,
        ethertype: header.ethertype,
    })
}

/// Finds the packet of a frame without a link layer. The version field replaces the EtherType.
fn find_bare_packet<'a>(
    interfaces: &'a Interfaces,
    on: IfaceId,
    bytes: &[u8],
) -> Result<PacketInFrame<'a>, DropReason> {
    let interface = interfaces
        .resolve(on, None)
        .ok_or(DropReason::NoInterface)?;
    let ethertype = match bytes.first().ok_or(DropReason::Truncated)? >> 4 {
        4 => EtherType::IPV4,
        6 => EtherType::IPV6,
        _ => return Err(DropReason::EtherType),
    };
    Ok(PacketInFrame {
        interface,
        group: false,
        at: 0,
        ethertype,
    })
}

/// Returns whether another station can have sent a frame from `src`. Our own frames may come back
/// from a loop or a hub.
fn is_possible_source(src: MacAddr, own: MacAddr) -> bool {
    src.is_unicast() && src != own
}

struct Classifier<'a> {
    interfaces: &'a Interfaces,
    interface: &'a Interface,
    group: bool,
    bytes: &'a [u8],
    meta: &'a FrameMeta,
}

impl Classifier<'_> {
    fn ipv4(&self, l3_at: usize) -> Result<Ingress, DropReason> {
        let view = Ipv4View::new(self.from(l3_at)).map_err(bad_header)?;
        if !self.meta.ip_checksum_good && !view.checksum_is_valid() {
            return Err(DropReason::BadChecksum);
        }
        let header = view.header();
        let l4_at = l3_at + view.header_len();
        let l4_len = self.payload(l4_at, header.payload_len)?;
        let id = self.interface.id;

        //= https://www.rfc-editor.org/rfc/rfc1122#section-3.2.1.3
        //# A host MUST silently discard an incoming datagram containing
        //# an IP source address that is invalid by the rules of this
        //# section.
        if header.src.octets()[0] == 0
            || header.src.is_loopback()
            || header.src.octets()[0] >= 224
            || self.interfaces.is_broadcast(id, header.src)
            || self.interfaces.is_local(header.src.into())
        {
            return Err(DropReason::Martian);
        }
        if !self.interfaces.has(id, header.dst.into()) {
            let is_group =
                header.dst.is_multicast() || self.interfaces.is_broadcast(id, header.dst);
            return Err(if is_group {
                DropReason::Group
            } else {
                DropReason::NotLocal
            });
        }
        //= https://www.rfc-editor.org/rfc/rfc1122#section-3.3.6
        //# A host SHOULD silently discard a datagram that is received via
        //# a link-layer broadcast (see Section 2.4) but does not specify
        //# an IP multicast or broadcast destination address.
        if self.group {
            return Err(DropReason::LinkGroup);
        }
        if !header.fragment.is_whole() {
            return Err(DropReason::Fragment);
        }
        if view.has_source_route() {
            return Err(DropReason::SourceRoute);
        }
        let packet = IpPacket {
            iface: id,
            addrs: IpPair::V4 {
                src: header.src,
                dst: header.dst,
            },
            protocol: header.protocol,
            class: header.class,
            hop_limit: header.ttl,
            l3_at,
            l4_at,
            l4_len,
            is_group: false,
        };
        Ok(match header.protocol {
            IpProtocol::TCP => Ingress::Tcp(packet),
            IpProtocol::ICMP => Ingress::Icmp(packet),
            IpProtocol::UDP => Ingress::Reject(packet, RejectReason::Port),
            _ => Ingress::Reject(packet, RejectReason::Protocol),
        })
    }

    fn ipv6(&self, l3_at: usize) -> Result<Ingress, DropReason> {
        let (header, header_len) = Ipv6View::parse(self.from(l3_at)).map_err(bad_header)?;
        let next_at = l3_at + header_len;
        let payload_len = self.payload(next_at, header.payload_len)?;
        let id = self.interface.id;
        let is_group = header.dst.is_multicast();
        if header.src.is_multicast()
            || header.src.is_loopback()
            || header.src.to_ipv4_mapped().is_some()
            || self.interfaces.is_local(header.src.into())
        {
            return Err(DropReason::Martian);
        }
        if is_group && !self.interfaces.is_joined(id, header.dst) {
            return Err(DropReason::Group);
        }
        if !is_group && !self.interfaces.has(id, header.dst.into()) {
            return Err(DropReason::NotLocal);
        }
        if self.group && !is_group {
            return Err(DropReason::LinkGroup);
        }
        let mut packet = IpPacket {
            iface: id,
            addrs: IpPair::V6 {
                src: header.src,
                dst: header.dst,
            },
            protocol: header.next_header,
            class: header.class,
            hop_limit: header.hop_limit,
            l3_at,
            l4_at: next_at,
            l4_len: payload_len,
            is_group,
        };
        let rest = self.from(next_at);
        let upper = match ipv6::walk(header.next_header, &rest[..payload_len.min(rest.len())]) {
            Ok(upper) => upper,
            // The packet is longer than `bytes`: its first segment doesn't hold all headers.
            Err(ExtensionError::Truncated) if rest.len() < payload_len => {
                return Err(DropReason::Truncated);
            }
            Err(ExtensionError::ParameterProblem(problem)) if !header.src.is_unspecified() => {
                return Ok(Ingress::Reject(packet, RejectReason::Parameter(problem)));
            }
            Err(_) => return Err(DropReason::Extensions),
        };
        if upper.fragment.is_some_and(|f| !f.is_atomic()) {
            return Err(DropReason::Fragment);
        }
        packet.protocol = upper.protocol;
        packet.l4_at += upper.at;
        packet.l4_len = payload_len.saturating_sub(upper.at);
        match upper.protocol {
            IpProtocol::ICMPV6 => Ok(Ingress::Icmp(packet)),
            // Only ICMPv6 (neighbour discovery) may have the unspecified source.
            _ if header.src.is_unspecified() => Err(DropReason::Martian),
            _ if is_group => Err(DropReason::Group),
            IpProtocol::TCP => Ok(Ingress::Tcp(packet)),
            IpProtocol::NO_NEXT => Err(DropReason::Extensions),
            IpProtocol::UDP => Ok(Ingress::Reject(packet, RejectReason::Port)),
            //= https://www.rfc-editor.org/rfc/rfc8200#section-4
            //# If, as a result of processing a header, the destination node is
            //# required to proceed to the next header but the Next Header value in
            //# the current header is unrecognized by the node, it should discard the
            //# packet and send an ICMP Parameter Problem message
            _ => {
                let pointer = u32::try_from(upper.next_header_at).unwrap_or(u32::MAX);
                let problem = ParameterProblem {
                    code: 1,
                    pointer,
                    even_if_multicast: false,
                };
                Ok(Ingress::Reject(packet, RejectReason::Parameter(problem)))
            }
        }
    }

    fn from(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Returns the length of a payload at `at`, if the frame holds all of it.
    fn payload(&self, at: usize, len: u16) -> Result<usize, DropReason> {
        let len = usize::from(len);
        if at + len > self.meta.len {
            Err(DropReason::Cut)
        } else {
            Ok(len)
        }
    }
}

impl IpPacket {
    /// Returns the source.
    pub const fn src(&self) -> IpAddr {
        self.addrs.src()
    }

    /// Returns the destination: our address, or a group.
    pub const fn dst(&self) -> IpAddr {
        self.addrs.dst()
    }
}

const fn bad_header(e: ParseError) -> DropReason {
    match e {
        ParseError::Truncated => DropReason::Truncated,
        ParseError::Version
        | ParseError::Length
        | ParseError::Checksum
        | ParseError::Field
        | ParseError::Unsupported => DropReason::BadHeader,
    }
}

#[cfg(test)]
mod tests;

//! Test support: a host with an Ethernet interface, a VLAN and an interface without a link layer,
//! and frames for it.

use lockgate_wire::arp::{ArpPacket, LEN, Operation};
use lockgate_wire::ethernet::{EtherType, EthernetHeader, VlanId, VlanTag};
use lockgate_wire::icmpv4::Icmpv4Message;
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::{IfaceId, Instant, MacAddr};

use super::*;

pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

pub(crate) const ETH: IfaceId = IfaceId(0);
pub(crate) const VLAN: IfaceId = IfaceId(1);
pub(crate) const BARE: IfaceId = IfaceId(2);

pub(crate) fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000_000 + ms)
}

pub(crate) fn tag(n: u16) -> VlanTag {
    VlanTag::new(VlanId::new(n).unwrap())
}

pub(crate) fn host() -> IpLayer {
    host_with(&IpConfig::default())
}

pub(crate) fn host_with(config: &IpConfig) -> IpLayer {
    let mut host = IpLayer::new(config, 1);
    for (id, mac, vlan) in [
        (ETH, Some(US), None),
        (VLAN, Some(US), Some((ETH, tag(42)))),
        (BARE, None, None),
    ] {
        host.add_interface(Interface {
            id,
            mac,
            mtu: 1500,
            vlan,
        })
        .unwrap();
    }
    for (id, addr) in [
        (ETH, "10.0.0.1/24"),
        (ETH, "2001:db8::1/64"),
        (VLAN, "10.42.0.1/24"),
        (BARE, "10.9.0.1/24"),
        (BARE, "2001:db8:9::1/64"),
    ] {
        host.add_address(id, addr.parse().unwrap()).unwrap();
    }
    let default = |to: &str, via: &str| Route {
        to: to.parse().unwrap(),
        via: Some(via.parse().unwrap()),
        iface: ETH,
    };
    host.add_route(default("0.0.0.0/0", "10.0.0.254")).unwrap();
    host.add_route(default("::/0", "fe80::fe")).unwrap();
    host
}

pub(crate) fn pair(src: &str, dst: &str) -> IpPair {
    IpPair::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap()
}

pub(crate) fn link(src: MacAddr, dst: MacAddr) -> Option<LinkHeader> {
    Some(LinkHeader {
        dst,
        src,
        vlan: None,
    })
}

/// Returns a frame of these headers and `payload`.
pub(crate) fn frame(header: &FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; header.emitted_len() + payload.len()];
    let at = header.emit(&mut out);
    out[at..].copy_from_slice(payload);
    out
}

pub(crate) fn packet(
    link: Option<LinkHeader>,
    addrs: IpPair,
    protocol: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap();
    frame(&FrameHeader::new(link, addrs, protocol, len), payload)
}

/// Returns a frame from the peer to us.
pub(crate) fn from_peer(src: &str, dst: &str, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    packet(link(PEER, US), pair(src, dst), protocol, payload)
}

/// Returns a frame with an ICMP message from the peer to us.
pub(crate) fn icmp_v4(src: &str, dst: &str, m: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; m.emitted_len()];
    m.emit(&mut bytes);
    from_peer(src, dst, IpProtocol::ICMP, &bytes)
}

pub(crate) fn icmp_v6_to(
    link: Option<LinkHeader>,
    hop_limit: u8,
    addrs: IpPair,
    m: &Icmpv6Message<'_>,
) -> Vec<u8> {
    let IpPair::V6 { src, dst } = addrs else {
        panic!("IPv6 addresses")
    };
    let mut bytes = vec![0; m.emitted_len()];
    m.emit(src, dst, &mut bytes);
    let len = u16::try_from(bytes.len()).unwrap();
    let header = FrameHeader {
        hop_limit,
        ..FrameHeader::new(link, addrs, IpProtocol::ICMPV6, len)
    };
    frame(&header, &bytes)
}

pub(crate) fn icmp_v6(src: &str, dst: &str, m: &Icmpv6Message<'_>) -> Vec<u8> {
    icmp_v6_to(link(PEER, US), 255, pair(src, dst), m)
}

pub(crate) fn arp_frame(dst: MacAddr, p: &ArpPacket) -> Vec<u8> {
    let mut out = vec![0; 60];
    let header = EthernetHeader {
        dst,
        src: p.sender_mac,
        vlan: None,
        ethertype: EtherType::ARP,
    };
    let at = header.emit(&mut out);
    p.emit(&mut out[at..at + LEN]);
    out
}

pub(crate) fn arp(
    operation: Operation,
    (sender_mac, sender_ip): (MacAddr, &str),
    (target_mac, target_ip): (MacAddr, &str),
) -> ArpPacket {
    ArpPacket {
        operation,
        sender_mac,
        sender_ip: sender_ip.parse().unwrap(),
        target_mac,
        target_ip: target_ip.parse().unwrap(),
    }
}

pub(crate) fn meta(frame: &[u8]) -> FrameMeta {
    FrameMeta {
        len: frame.len(),
        ..FrameMeta::default()
    }
}

/// The response to a frame: a reply, or an error for a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    None,
    Frame(IfaceId, Vec<u8>),
    Error(IcmpError),
}

/// Passes a frame through the layer as a stack does.
pub(crate) fn run(host: &mut IpLayer, now: Instant, on: IfaceId, frame: &[u8]) -> Answer {
    let mut out = [0; 2048];
    let sent = match host.receive(on, frame, &meta(frame)) {
        Ingress::Arp(arp) => host.on_arp(now, &arp, &mut out),
        Ingress::Icmp(p) => {
            match host.on_icmp(now, &p, &frame[p.l4_at..p.l4_at + p.l4_len], &mut out) {
                IcmpOutcome::Done => None,
                IcmpOutcome::Reply(sent) => Some(sent),
                IcmpOutcome::Error(e) => return Answer::Error(e),
            }
        }
        Ingress::Reject(p, why) => host.reject(now, &p, why, &frame[p.l3_at..], &mut out),
        Ingress::Tcp(_) | Ingress::Drop(_) => None,
    };
    sent.map_or(Answer::None, |t| {
        Answer::Frame(t.iface, out[..t.len].to_vec())
    })
}

/// Returns all frames that are due.
pub(crate) fn flush(host: &mut IpLayer, now: Instant) -> Vec<(IfaceId, Vec<u8>)> {
    let mut out = [0; 2048];
    let mut all = Vec::new();
    while let Some(t) = host.poll_transmit(now, &mut out) {
        all.push((t.iface, out[..t.len].to_vec()));
    }
    all
}

/// Resolves the peer, so that replies are sent at once.
pub(crate) fn add_neighbour(host: &mut IpLayer, addr: &str) {
    let hop = NextHop {
        iface: ETH,
        addr: addr.parse().unwrap(),
    };
    host.neighbours.on_solicited_by(at(0), hop, PEER);
    while host.poll_event().is_some() {}
}

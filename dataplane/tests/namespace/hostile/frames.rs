//! Frames of a hostile station, from random senders on the link.

use std::net::{Ipv4Addr, Ipv6Addr};

use lockgate_ip::{FrameHeader, IpPair, LinkHeader};
use lockgate_testing::Random;
use lockgate_testing::network::{SERVER4, SERVER6};
use lockgate_wire::arp::{self, ArpPacket, Operation};
use lockgate_wire::ethernet::{EtherType, EthernetHeader};
use lockgate_wire::icmpv4::{Echo, Icmpv4Message};
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::tcp::{Flags, TcpHeader};
use lockgate_wire::{MacAddr, SeqNum};

/// Makes frames to the appliance.
pub(super) struct Frames {
    random: Random,
    to: MacAddr,
}

/// Who sends a frame.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A random address of the link that no host has.
    Stranger,
    /// The IPv4 address of the fair clients.
    FairClient,
}

impl Frames {
    /// Frames to the station with this MAC address.
    pub(super) fn new(to: MacAddr) -> Self {
        let random = Random::new(1);
        Self { random, to }
    }

    pub(super) fn arp_request(&mut self) -> Vec<u8> {
        let sender = self.stranger4();
        self.arp(Operation::Request, sender, server4())
    }

    pub(super) fn arp_reply(&mut self) -> Vec<u8> {
        let sender = self.stranger4();
        self.arp(Operation::Reply, sender, server4())
    }

    pub(super) fn arp_announcement(&mut self) -> Vec<u8> {
        let sender = self.stranger4();
        self.arp(Operation::Request, sender, sender)
    }

    pub(super) fn solicitation(&mut self) -> Vec<u8> {
        let (source, target) = (Some(self.mac()), server6());
        self.icmpv6(255, &Icmpv6Message::NeighborSolicitation { target, source })
    }

    /// A solicitation without its sender's MAC address: the answer waits for its resolution.
    pub(super) fn solicitation_to_resolve(&mut self) -> Vec<u8> {
        let (source, target) = (None, server6());
        self.icmpv6(255, &Icmpv6Message::NeighborSolicitation { target, source })
    }

    pub(super) fn advertisement(&mut self) -> Vec<u8> {
        let message = Icmpv6Message::NeighborAdvertisement {
            target: self.stranger6(),
            router: false,
            solicited: true,
            replaces: true,
            mac: Some(self.mac()),
        };
        self.icmpv6(255, &message)
    }

    pub(super) fn echo_request(&mut self) -> Vec<u8> {
        let data = [0; 1000];
        self.icmpv4(&Icmpv4Message::EchoRequest(Echo {
            ident: 1,
            seq: 1,
            data: &data,
        }))
    }

    pub(super) fn echo_request6(&mut self) -> Vec<u8> {
        let data = [0; 1000];
        self.icmpv6(
            64,
            &Icmpv6Message::EchoRequest(Echo {
                ident: 1,
                seq: 1,
                data: &data,
            }),
        )
    }

    /// Errors about segments to the fair clients: a small MTU, and a port that is unreachable.
    pub(super) fn icmp_error(&mut self) -> Vec<u8> {
        let fair = IpPair::V4 {
            src: server4(),
            dst: FAIR4,
        };
        let header = FrameHeader::new(None, fair, IpProtocol::TCP, 1480);
        let tcp = TcpHeader {
            src_port: self.random.pick(&[80, 443]),
            dst_port: self.ephemeral_port(),
            seq: SeqNum(self.random.between_u32(0, u32::MAX)),
            ..TcpHeader::default()
        };
        let mut quoted = vec![0; header.emitted_len() + tcp.emitted_len()];
        let at = header.emit(&mut quoted);
        tcp.emit(&mut quoted[at..]);
        let code = self.random.pick(&[3, 4]);
        self.icmpv4(&Icmpv4Message::DestinationUnreachable {
            code,
            next_hop_mtu: 68,
            quoted: &quoted,
        })
    }

    /// Fragments that overlap and never make a packet.
    pub(super) fn fragment(&mut self) -> Vec<u8> {
        let mut frame = self.ipv4(IpProtocol::TCP, &[0; 600]);
        let offset = u16::try_from(self.random.index(32)).expect("it is below 32");
        let ip = &mut frame[14..34];
        ip[6..8].copy_from_slice(&(0x2000 | offset).to_be_bytes());
        ip[10..12].fill(0);
        let sum = lockgate_wire::checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    pub(super) fn fragment6(&mut self) -> Vec<u8> {
        let mut payload = vec![0; 608];
        let offset = u8::try_from(self.random.index(32)).expect("it is below 32");
        (payload[0], payload[3]) = (IpProtocol::TCP.0, offset << 3 | 1);
        let dst = server6();
        self.ipv6(IpProtocol(44), 64, dst, &payload)
    }

    /// A chain of options headers without an end.
    pub(super) fn extension_headers(&mut self) -> Vec<u8> {
        let payload = [60, 0, 1, 4, 0, 0, 0, 0].repeat(150);
        let dst = server6();
        self.ipv6(IpProtocol::DEST_OPTIONS, 64, dst, &payload)
    }

    pub(super) fn multicast(&mut self) -> Vec<u8> {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut frame = self.ipv6(IpProtocol::UDP, 1, group, &[0; 200]);
        frame[..6].copy_from_slice(&MacAddr::multicast_v6(group).0);
        frame
    }

    pub(super) fn broadcast(&mut self) -> Vec<u8> {
        let src = self.stranger4();
        let dst = Ipv4Addr::BROADCAST;
        let mut frame = self.packet(IpPair::V4 { src, dst }, IpProtocol::UDP, 1, &[0; 200]);
        frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
        frame
    }

    pub(super) fn udp(&mut self) -> Vec<u8> {
        self.ipv4(IpProtocol::UDP, &[0; 200])
    }

    pub(super) fn unknown_protocol(&mut self) -> Vec<u8> {
        self.ipv4(IpProtocol(200), &[0; 200])
    }

    pub(super) fn garbage(&mut self) -> Vec<u8> {
        let mut frame = self.udp();
        self.random.fill(&mut frame[14..]);
        frame
    }

    /// A TCP segment with random numbers.
    pub(super) fn segment(&mut self, from: Source, port: u16, flags: Flags) -> Vec<u8> {
        let (src, dst) = match from {
            Source::Stranger => (self.stranger4(), server4()),
            Source::FairClient => (FAIR4, server4()),
        };
        let ports = (self.ephemeral_port(), port);
        self.tcp(IpPair::V4 { src, dst }, ports, flags)
    }

    /// As above, over IPv6, from a stranger.
    pub(super) fn segment6(&mut self, port: u16, flags: Flags) -> Vec<u8> {
        let (src, dst) = (self.stranger6(), server6());
        let ports = (self.ephemeral_port(), port);
        self.tcp(IpPair::V6 { src, dst }, ports, flags)
    }

    /// A segment of no connection, always with the same addresses and ports.
    pub(super) fn segment_of_one_flow(&mut self) -> Vec<u8> {
        let (src, dst) = (FAIR4, server4());
        self.tcp(IpPair::V4 { src, dst }, (9999, 8080), Flags::ACK)
    }

    pub(super) fn any_port(&mut self) -> u16 {
        u16::try_from(1 + self.random.index(65_535)).expect("it is below 65 536")
    }

    fn tcp(&mut self, addrs: IpPair, (src_port, dst_port): (u16, u16), flags: Flags) -> Vec<u8> {
        let tcp = TcpHeader {
            src_port,
            dst_port,
            seq: SeqNum(self.random.between_u32(0, u32::MAX)),
            ack: SeqNum(self.random.between_u32(0, u32::MAX)),
            flags,
            window: 1000,
            ..TcpHeader::default()
        };
        let mut bytes = vec![0; tcp.emitted_len()];
        tcp.emit(&mut bytes);
        let len = u32::try_from(bytes.len()).expect("a header is short");
        let mut sum = addrs.pseudo_sum(IpProtocol::TCP, len);
        sum.add(&bytes);
        bytes[16..18].copy_from_slice(&sum.finish().to_be_bytes());
        self.packet(addrs, IpProtocol::TCP, 64, &bytes)
    }

    fn arp(&mut self, operation: Operation, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let header = EthernetHeader {
            dst: self.to,
            src: self.mac(),
            vlan: None,
            ethertype: EtherType::ARP,
        };
        let mut frame = vec![0; header.emitted_len() + arp::LEN];
        let at = header.emit(&mut frame);
        let packet = ArpPacket {
            operation,
            sender_mac: header.src,
            sender_ip: sender,
            target_mac: self.to,
            target_ip: target,
        };
        packet.emit(&mut frame[at..]);
        frame
    }

    fn icmpv4(&mut self, message: &Icmpv4Message<'_>) -> Vec<u8> {
        let mut bytes = vec![0; message.emitted_len()];
        message.emit(&mut bytes);
        self.ipv4(IpProtocol::ICMP, &bytes)
    }

    fn icmpv6(&mut self, hop_limit: u8, message: &Icmpv6Message<'_>) -> Vec<u8> {
        let (src, dst) = (self.stranger6(), server6());
        let mut bytes = vec![0; message.emitted_len()];
        message.emit(src, dst, &mut bytes);
        let addrs = IpPair::V6 { src, dst };
        self.packet(addrs, IpProtocol::ICMPV6, hop_limit, &bytes)
    }

    fn ipv4(&mut self, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = (self.stranger4(), server4());
        self.packet(IpPair::V4 { src, dst }, protocol, 64, payload)
    }

    fn ipv6(
        &mut self,
        protocol: IpProtocol,
        hop_limit: u8,
        dst: Ipv6Addr,
        payload: &[u8],
    ) -> Vec<u8> {
        let src = self.stranger6();
        self.packet(IpPair::V6 { src, dst }, protocol, hop_limit, payload)
    }

    fn packet(
        &mut self,
        addrs: IpPair,
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let link = LinkHeader {
            dst: self.to,
            src: self.mac(),
            vlan: None,
        };
        let len = u16::try_from(payload.len()).expect("a frame is short");
        let header = FrameHeader {
            hop_limit,
            ..FrameHeader::new(Some(link), addrs, protocol, len)
        };
        let mut frame = vec![0; header.emitted_len() + payload.len()];
        let at = header.emit(&mut frame);
        frame[at..].copy_from_slice(payload);
        frame
    }

    /// The /24 has no other addresses.
    fn stranger4(&mut self) -> Ipv4Addr {
        let host = self.random.between_u32(3, 254);
        Ipv4Addr::from_bits(server4().to_bits() & !0xff | host)
    }

    fn stranger6(&mut self) -> Ipv6Addr {
        let host = u64::from_be_bytes(self.random.array()) | 1 << 63;
        Ipv6Addr::from_bits(server6().to_bits() & !u128::from(u64::MAX) | u128::from(host))
    }

    fn mac(&mut self) -> MacAddr {
        let [_, b, c, d, e, f]: [u8; 6] = self.random.array();
        MacAddr([2, b, c, d, e, f])
    }

    fn ephemeral_port(&mut self) -> u16 {
        u16::try_from(self.random.between_u32(32_768, 60_999)).expect("it is below 65 536")
    }
}

fn server4() -> Ipv4Addr {
    SERVER4.parse().expect("it's an address")
}

fn server6() -> Ipv6Addr {
    SERVER6.parse().expect("it's an address")
}

/// The fair clients' address on the link.
const FAIR4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

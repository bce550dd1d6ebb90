//! A port whose peer is simulated: it forges acknowledgments.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use lockgate_drivers::WorkerPorts;
use lockgate_wire::arp::{self, ArpPacket, ArpView, Operation};
use lockgate_wire::checksum::Sum;
use lockgate_wire::ethernet::{self, EtherType, EthernetHeader, EthernetView};
use lockgate_wire::ip::{IpProtocol, TrafficClass};
use lockgate_wire::ipv4::{self, Fragment, Ipv4Header, Ipv4View};
use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions, TcpView, Timestamps};
use lockgate_wire::{IfaceId, MacAddr, SeqNum};
use pktbuf::{Info, L4, NotSent, Output, Packet, Room, TxError, gso};

/// How the simulated peer answers packets. The port sends them in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No answer.
    None,
    /// Answers ARP only.
    Arp,
    /// Kept for decoding.
    Keep,
    /// Acknowledges data when [`ForgedPeer::acknowledge`] is called.
    Acknowledge,
}

/// An output that sends packets to a port and answers them in place of a peer.
#[derive(Debug)]
pub(crate) struct ForgedPeer {
    ports: WorkerPorts,
    pub(crate) answer: Answer,
    /// Frames kept for decoding.
    pub(crate) kept: VecDeque<Vec<u8>>,
    /// Answers, for the stack to receive.
    pub(crate) answers: VecDeque<Vec<u8>>,
    /// SYN segments that were sent.
    pub(crate) syns: u64,
    /// Payload bytes in TCP segments.
    pub(crate) payload: u64,
    peer: Peer,
}

/// State of the forged peer.
#[derive(Debug, Default)]
struct Peer {
    /// The last segment of the real peer, with the headers before it.
    last: Option<(EthernetHeader, Ipv4Header, TcpHeader)>,
    /// Its last timestamp.
    clock: u32,
    /// End of the data that was sent to it.
    end: Option<SeqNum>,
    acknowledged: Option<SeqNum>,
    /// The sequence number that the sender expects next, and the sender's last timestamp.
    next: SeqNum,
    clock_of_sender: u32,
}

impl ForgedPeer {
    pub(crate) fn new(ports: WorkerPorts, answer: Answer) -> Self {
        Self {
            ports,
            answer,
            kept: VecDeque::new(),
            answers: VecDeque::new(),
            syns: 0,
            payload: 0,
            peer: Peer::default(),
        }
    }

    /// Polls the port. Returns the number of received packets, which is 0 with `no-rx=1`.
    pub(crate) fn received(&mut self) -> usize {
        self.ports.rx_burst(|_, _| ())
    }

    pub(crate) fn flush(&mut self) -> bool {
        self.ports.flush()
    }

    /// Takes over the headers of a real peer's frame, for forged acknowledgments.
    pub(crate) fn learn(&mut self, frame: &[u8]) {
        let Some(headers) = headers(frame) else {
            return;
        };
        if let Some(timestamps) = headers.2.options.timestamps {
            self.peer.clock = timestamps.val;
        }
        self.peer.last = Some(headers);
    }

    /// Returns an acknowledgment of everything sent since the last one, if there was any.
    pub(crate) fn acknowledge(&mut self) -> Option<Vec<u8>> {
        let peer = &mut self.peer;
        let (ethernet, ip, last) = peer.last?;
        if peer.acknowledged == peer.end {
            return None;
        }
        peer.acknowledged = peer.end;
        let timestamps = last.options.timestamps.map(|_| Timestamps {
            val: peer.clock,
            ecr: peer.clock_of_sender,
        });
        let tcp = TcpHeader {
            seq: peer.next,
            ack: peer.end?,
            flags: Flags::ACK,
            window: u16::MAX,
            options: TcpOptions {
                timestamps,
                ..TcpOptions::default()
            },
            ..last
        };
        Some(frame(ethernet, ip, &tcp))
    }

    fn note(&mut self, packet: &Packet<'_>) {
        // What isn't of a connection (a SYN-ACK, a reset) is a complete frame.
        let Some((_, _, tcp)) = headers(packet.head.bytes()) else {
            return;
        };
        let len = u32::try_from(packet.payload_len()).expect("shorter than a packet");
        self.payload += u64::from(len);
        self.syns += u64::from(tcp.flags.contains(Flags::SYN));
        let end = tcp.seq + len;
        if self.peer.end.is_none_or(|seen| end.after(seen)) {
            self.peer.end = Some(end);
        }
        self.peer.next = tcp.ack;
        if let Some(timestamps) = tcp.options.timestamps {
            self.peer.clock_of_sender = timestamps.val;
        }
    }
}

impl Output for ForgedPeer {
    fn info(&self, on: IfaceId) -> Info {
        self.ports.info(on)
    }

    fn room(&self, on: IfaceId) -> Room {
        self.ports.room(on)
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        self.note(&packet);
        match self.answer {
            Answer::None | Answer::Acknowledge => {}
            Answer::Arp => self.answers.extend(arp_reply(packet.head.bytes())),
            Answer::Keep => frames(&packet, |frame| self.kept.push_back(frame))?,
        }
        self.ports.tx(packet)
    }
}

/// The frames that a packet makes on the wire, as bytes.
pub(crate) fn frames(packet: &Packet<'_>, mut each: impl FnMut(Vec<u8>)) -> Result<(), TxError> {
    gso::segment(packet, |head, payload| {
        if packet.meta.protocol == L4::Tcp {
            gso::finish_checksum(head, payload)?;
        }
        let len = head.len()
            + payload
                .iter()
                .map(|slice| slice.len as usize)
                .sum::<usize>();
        let mut frame = vec![0; len];
        pktbuf::copy_frame(head, payload, &mut frame)?;
        each(frame);
        Ok::<(), NotSent>(())
    })?;
    Ok(())
}

/// A frame without payload.
fn frame(ethernet: EthernetHeader, mut ip: Ipv4Header, tcp: &TcpHeader) -> Vec<u8> {
    let tcp_len = tcp.emitted_len();
    ip.payload_len = u16::try_from(tcp_len).expect("a header is short");
    let mut frame = vec![0; ethernet.emitted_len() + ipv4::HEADER_LEN + tcp_len];
    let l3 = ethernet.emit(&mut frame);
    let l4 = l3 + ip.emit(&mut frame[l3..]);
    tcp.emit(&mut frame[l4..]);
    let mut sum = Sum::pseudo_v4(ip.src, ip.dst, IpProtocol::TCP, u32::from(ip.payload_len));
    sum.add(&frame[l4..]);
    frame[l4 + 16..l4 + 18].copy_from_slice(&sum.finish().to_be_bytes());
    frame
}

/// The headers of a frame with TCP over IPv4 in it.
fn headers(frame: &[u8]) -> Option<(EthernetHeader, Ipv4Header, TcpHeader)> {
    let (ethernet, l2) = EthernetView::parse(frame).ok()?;
    if ethernet.ethertype != EtherType::IPV4 {
        return None;
    }
    let (ip, l3) = Ipv4View::parse(&frame[l2..]).ok()?;
    let (tcp, _) = TcpView::parse(&frame[l2 + l3..]).ok()?;
    Some((ethernet, ip, tcp))
}

/// Returns the reply to an ARP request, for any address.
fn arp_reply(frame: &[u8]) -> Option<Vec<u8>> {
    let (ethernet, l2) = EthernetView::parse(frame).ok()?;
    if ethernet.ethertype != EtherType::ARP {
        return None;
    }
    let (asked, _) = ArpView::parse(&frame[l2..]).ok()?;
    if asked.operation != Operation::Request || asked.target_ip == asked.sender_ip {
        return None;
    }
    let header = EthernetHeader {
        dst: asked.sender_mac,
        src: PEER_MAC,
        vlan: None,
        ethertype: EtherType::ARP,
    };
    let reply = ArpPacket {
        operation: Operation::Reply,
        sender_mac: PEER_MAC,
        sender_ip: asked.target_ip,
        target_mac: asked.sender_mac,
        target_ip: asked.sender_ip,
    };
    let mut frame = vec![0; ethernet::HEADER_LEN + arp::LEN];
    let at = header.emit(&mut frame);
    reply.emit(&mut frame[at..]);
    Some(frame)
}

/// A SYN to `to` from a client that never continues.
pub(crate) fn abandoned_syn(to: (MacAddr, Ipv4Addr), port: u16) -> Vec<u8> {
    let tcp = TcpHeader {
        src_port: port,
        dst_port: 443,
        seq: SeqNum(u32::from(port) << 16),
        flags: Flags::SYN,
        window: 1024,
        options: TcpOptions {
            mss: Some(1460),
            ..TcpOptions::default()
        },
        ..TcpHeader::default()
    };
    let ip = Ipv4Header {
        src: [198, 18, 0, 77].into(),
        dst: to.1,
        protocol: IpProtocol::TCP,
        ttl: 64,
        class: TrafficClass::default(),
        id: 0,
        dont_fragment: true,
        fragment: Fragment::WHOLE,
        payload_len: 0,
    };
    let ethernet = EthernetHeader {
        dst: to.0,
        src: PEER_MAC,
        vlan: None,
        ethertype: EtherType::IPV4,
    };
    frame(ethernet, ip, &tcp)
}

const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 77]);

//! What isn't TCP: pings, refusals, and errors about segments of ours.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use lockgate_ip::{FrameHeader, IpPair, LinkHeader};
use lockgate_stack::{CloseReason, ConnectConfig, ListenConfig, Notice, SocketId};
use lockgate_wire::MacAddr;
use lockgate_wire::icmpv4::{Echo, Icmpv4Message};
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use support::{HostSpec, World, link};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A packet from A's address to B, with its upper-layer part.
fn packet(world: &World, protocol: IpProtocol, upper: &[u8]) -> Vec<u8> {
    from_addr(world.a.addr, world.b.addr, protocol, upper)
}

fn from_addr(src: IpAddr, dst: IpAddr, protocol: IpProtocol, upper: &[u8]) -> Vec<u8> {
    let link = LinkHeader {
        dst: B,
        src: A,
        vlan: None,
    };
    let addrs = IpPair::new(src, dst).unwrap();
    let len = u16::try_from(upper.len()).unwrap();
    let header = FrameHeader::new(Some(link), addrs, protocol, len);
    let mut frame = vec![0; header.emitted_len() + upper.len()];
    let at = header.emit(&mut frame);
    frame[at..].copy_from_slice(upper);
    frame
}

fn v4(message: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.emitted_len()];
    message.emit(&mut bytes);
    bytes
}

/// What B sends within a moment, A's stack not answering.
fn answers(world: &mut World) -> Vec<Vec<u8>> {
    for _ in 0..4 {
        world.b.turn(world.now);
    }
    world.b.net.frames.drain(..).collect()
}

#[test]
fn pings_of_every_size_are_answered() {
    for size in [0, 1, 64, 100, 500, 1472] {
        let mut world = World::simple();
        // Puts A into B's neighbour cache.
        let at = world.b_addr(9);
        world
            .a
            .stack
            .connect(world.now, at, ConnectConfig::default())
            .unwrap();
        world.run(Duration::from_millis(10));

        let data: Vec<u8> = (0..size).map(|n: u16| n.to_le_bytes()[0]).collect();
        let echo = Echo {
            ident: 7,
            seq: 9,
            data: &data,
        };
        let ping = packet(
            &world,
            IpProtocol::ICMP,
            &v4(&Icmpv4Message::EchoRequest(echo)),
        );
        world.b.receive(world.now, &ping);
        let frames = answers(&mut world);
        assert_eq!(frames.len(), 1, "{size}");
        let reply = Icmpv4Message::parse(&frames[0][34..]).unwrap();
        assert_eq!(reply, Icmpv4Message::EchoReply(echo), "{size}");
        world.b.assert_full();
    }
}

#[test]
fn pings_over_ipv6_are_answered() {
    let link = link::Link::perfect();
    let mut world = World::new(HostSpec::v6(1), HostSpec::v6(2), link);
    let at = world.b_addr(9);
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    world.run(Duration::from_millis(10));
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (world.a.addr, world.b.addr) else {
        panic!("two addresses of IPv6");
    };
    let echo = Echo {
        ident: 7,
        seq: 9,
        data: b"ping",
    };
    let message = Icmpv6Message::EchoRequest(echo);
    let mut bytes = vec![0; message.emitted_len()];
    message.emit(src, dst, &mut bytes);
    let ping = packet(&world, IpProtocol::ICMPV6, &bytes);
    world.b.receive(world.now, &ping);
    let frames = answers(&mut world);
    let reply = Icmpv6Message::parse(dst, src, &frames[0][54..]).unwrap();
    assert_eq!(reply, Icmpv6Message::EchoReply(echo));
}

#[test]
fn udp_is_refused() {
    let mut world = World::simple();
    let at = world.b_addr(9);
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    world.run(Duration::from_millis(10));
    let datagram = [0, 53, 0, 99, 0, 8, 0, 0];
    let frame = packet(&world, IpProtocol::UDP, &datagram);
    world.b.receive(world.now, &frame);
    let frames = answers(&mut world);
    let unreachable = Icmpv4Message::parse(&frames[0][34..]).unwrap();
    assert!(
        matches!(
            unreachable,
            Icmpv4Message::DestinationUnreachable { code: 3, .. }
        ),
        "{unreachable:?}"
    );
}

/// A connection from A to B, and what B sent last of it.
fn sending(world: &mut World) -> (SocketId, Vec<u8>) {
    let at = world.b_addr(80);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    world.run(Duration::from_millis(10));
    world.b.send(b, &[1; 100_000]);
    let frames = answers(world);
    (b, frames.last().unwrap().clone())
}

#[test]
fn a_packet_that_is_too_big_makes_smaller_segments() {
    let mut world = World::simple();
    let (b, sent) = sending(&mut world);
    let before = world.b.stack.tcp_info(b).unwrap().mss;
    let quoted = &sent[14..14 + 28];
    let too_big = Icmpv4Message::DestinationUnreachable {
        code: 4,
        next_hop_mtu: 1000,
        quoted,
    };
    // The error comes from a router on the path.
    let router = IpAddr::from([10, 0, 0, 200]);
    let frame = from_addr(router, world.b.addr, IpProtocol::ICMP, &v4(&too_big));
    world.b.receive(world.now, &frame);
    let after = world.b.stack.tcp_info(b).unwrap().mss;
    assert_eq!((before, after), (1448, 948));
    let frames = answers(&mut world);
    assert!(
        !frames.is_empty() && frames.iter().all(|f| f.len() <= 1014),
        "resent, and smaller"
    );
    assert_eq!(world.b.stack.tcp_counters().too_big, 1);
}

#[test]
fn an_error_that_quotes_nothing_of_ours_is_ignored() {
    let mut world = World::simple();
    let (b, sent) = sending(&mut world);
    let mut quoted = sent[14..14 + 28].to_vec();
    // Another sequence number: far from what is in flight.
    quoted[24] ^= 0x40;
    let too_big = Icmpv4Message::DestinationUnreachable {
        code: 4,
        next_hop_mtu: 1000,
        quoted: &quoted,
    };
    let frame = packet(&world, IpProtocol::ICMP, &v4(&too_big));
    world.b.receive(world.now, &frame);
    assert_eq!(world.b.stack.tcp_info(b).unwrap().mss, 1448);
    assert_eq!(world.b.stack.tcp_counters().icmp_ignored, 1);
}

#[test]
fn a_connection_attempt_to_an_unreachable_port_is_refused() {
    let mut world = World::simple();
    // An address that A claims and then reports as unreachable.
    let far = "10.0.0.50:80".parse().unwrap();
    let socket = world
        .b
        .stack
        .connect(world.now, far, ConnectConfig::default())
        .unwrap();
    world.settle();
    // The address is claimed by an ARP reply to B's question.
    let reply = {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&B.0);
        frame[6..12].copy_from_slice(&A.0);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame[22..28].copy_from_slice(&A.0);
        frame[28..32].copy_from_slice(&[10, 0, 0, 50]);
        frame[32..38].copy_from_slice(&B.0);
        frame[38..42].copy_from_slice(&[10, 0, 0, 2]);
        frame
    };
    world.b.receive(world.now, &reply);
    let frames = answers(&mut world);
    let syn = frames.last().unwrap();
    let unreachable = Icmpv4Message::DestinationUnreachable {
        code: 3,
        next_hop_mtu: 0,
        quoted: &syn[14..14 + 28],
    };
    let frame = from_addr(far.ip(), world.b.addr, IpProtocol::ICMP, &v4(&unreachable));
    world.b.receive(world.now, &frame);
    let reason = world.expect(1, "Closed", |n| match n {
        Notice::Closed(closed, reason) if *closed == socket => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::Refused);
}

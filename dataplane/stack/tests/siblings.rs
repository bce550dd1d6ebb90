//! Frames exchanged by sibling workers.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{
    ConnectConfig, FlowDirectory, ListenConfig, Notice, SiblingPlace, SocketId, StackConfig,
};
use lockgate_wire::Instant;

use self::support::{Host, HostSpec, pki};

const NOW: Instant = Instant::from_millis(1000);

/// Two workers with the same addresses, and a client.
fn two_workers_and_a_client(spec: fn(u8) -> HostSpec) -> (Host, Host, Host) {
    let directory = FlowDirectory::new(2, &StackConfig::default().limits, 99);
    let worker = |number| {
        let mut worker = spec(2);
        worker.config.siblings = Some(SiblingPlace {
            directory: Arc::clone(&directory),
            number,
        });
        worker.secret = u64::from(number) + 7;
        worker.build()
    };
    (worker(0), worker(1), spec(1).build())
}

fn frames(host: &mut Host) -> Vec<Vec<u8>> {
    while host.turn(NOW) {}
    host.net.frames.drain(..).collect()
}

/// What one worker gave to the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exchanged {
    frames: usize,
    packets: usize,
    resolutions: usize,
}

/// Delivers what one worker has for its sibling to the other.
fn exchange(from: &mut Host, to: &mut Host) -> Exchanged {
    let mut exchanged = Exchanged::default();
    while let Some(frame) = from.stack.poll_sibling_frame() {
        to.with(|stack, env| stack.on_sibling_frame(NOW, &frame, env));
        exchanged.frames += 1;
    }
    while let Some(resolution) = from.stack.poll_sibling_resolution() {
        to.with(|stack, env| stack.on_sibling_resolution(NOW, &resolution, env));
        exchanged.resolutions += 1;
    }
    while let Some(packet) = from.stack.poll_misdirected_packet(|_| true) {
        to.with(|stack, env| stack.on_misdirected_packet(NOW, packet, env));
        exchanged.packets += 1;
    }
    exchanged
}

/// Whether a frame is a TCP segment.
fn is_tcp(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame[23] == 6,
        [0x86, 0xdd] => frame[20] == 6,
        _ => false,
    }
}

/// Packets without frames.
fn packets(packets: usize) -> Exchanged {
    Exchanged {
        packets,
        ..Exchanged::default()
    }
}

/// A client connects to the second worker, and everything that belongs to no connection comes to
/// the first.
fn connects(spec: fn(u8) -> HostSpec) {
    let (mut first, mut second, mut client) = two_workers_and_a_client(spec);
    let at = SocketAddr::new(second.addr, 80);
    for worker in [&mut first, &mut second] {
        worker.stack.listen(at, ListenConfig::default()).unwrap();
    }
    let socket = client
        .stack
        .connect(NOW, at, ConnectConfig::default())
        .unwrap();

    let mut connected = false;
    for _ in 0..8 {
        for frame in frames(&mut client) {
            let worker = if is_tcp(&frame) {
                &mut second
            } else {
                &mut first
            };
            worker.receive(NOW, &frame);
        }
        exchange(&mut first, &mut second);
        for frame in frames(&mut first).into_iter().chain(frames(&mut second)) {
            client.receive(NOW, &frame);
        }
        while client.turn(NOW) {}
        while let Some(notice) = client.stack.poll_notice() {
            connected |= matches!(notice, Notice::Connected(s) if s == socket);
        }
    }
    assert!(
        connected,
        "the second worker has no neighbour entry for the client"
    );
    assert!(second.stack.counters().sibling_frames_in > 0);
    assert_eq!(second.stack.counters().sibling_frames_lost, 0);
    assert_eq!(first.stack.counters().accepted, 0);
}

#[test]
fn a_worker_learns_a_neighbour_from_a_siblings_arp_reply() {
    connects(HostSpec::new);
}

#[test]
fn a_worker_learns_a_neighbour_from_a_siblings_advertisement() {
    connects(HostSpec::v6);
}

#[test]
fn without_siblings_nothing_is_kept() {
    let (mut alone, mut other) = (HostSpec::new(2).build(), HostSpec::new(1).build());
    let at = SocketAddr::new(alone.addr, 80);
    other
        .stack
        .connect(NOW, at, ConnectConfig::default())
        .unwrap();
    for frame in frames(&mut other) {
        alone.receive(NOW, &frame);
    }
    assert!(alone.stack.poll_sibling_frame().is_none());
    assert!(alone.stack.poll_misdirected_packet(|_| true).is_none());
}

#[test]
fn an_icmp_error_is_forwarded_to_the_sibling() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let remote = SocketAddr::new(client.addr, 81);
    client
        .stack
        .listen(remote, ListenConfig::default())
        .unwrap();
    let socket = second
        .stack
        .connect(NOW, remote, ConnectConfig::default())
        .unwrap();
    for _ in 0..6 {
        for frame in frames(&mut second) {
            client.receive(NOW, &frame);
        }
        for frame in frames(&mut client) {
            second.receive(NOW, &frame);
        }
    }
    second.send(socket, &[7; 1400]);
    let sent = frames(&mut second)
        .into_iter()
        .find(|frame| frame.len() > 1400);
    let sent = sent.expect("a full segment");

    // A router reports an MTU of 1280 bytes.
    let too_big = too_big(&sent, client.addr, second.addr, 1280);
    first.receive(NOW, &too_big);
    assert_eq!(
        first.stack.tcp_counters().too_big,
        0,
        "it isn't the first worker's connection"
    );
    assert_eq!(exchange(&mut first, &mut second), packets(1));
    assert_eq!(second.stack.tcp_counters().too_big, 1);
    let again = NOW + Duration::from_secs(2);
    second.with(|stack, env| stack.on_timer(again, env));
    let resent = frames(&mut second);
    assert!(
        !resent.is_empty() && resent.iter().all(|frame| frame.len() <= 1280 + 14),
        "segments fit the link now"
    );
}

/// "Fragmentation needed" about a frame, from `from` to `to`.
fn too_big(about: &[u8], from: IpAddr, to: IpAddr, mtu: u16) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
        panic!("IPv4 only");
    };
    let quoted = &about[14..14 + 48];
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend_from_slice(&mtu.to_be_bytes());
    icmp.extend_from_slice(quoted);
    let sum = internet_checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&u16::try_from(20 + icmp.len()).unwrap().to_be_bytes());
    ip.extend_from_slice(&[0, 1, 0, 0, 64, 1, 0, 0]);
    ip.extend_from_slice(&from.octets());
    ip.extend_from_slice(&to.octets());
    let sum = internet_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    // Addresses swapped.
    let mut frame = about[6..12].to_vec();
    frame.extend_from_slice(&about[..6]);
    frame.extend_from_slice(&[0x08, 0x00]);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&icmp);
    frame
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A connection of the client to the second worker. Returns both ends.
fn connect_to_second(
    first: &mut Host,
    second: &mut Host,
    client: &mut Host,
) -> (SocketId, SocketId) {
    let at = SocketAddr::new(second.addr, 80);
    for worker in [first, &mut *second] {
        worker.stack.listen(at, ListenConfig::default()).unwrap();
    }
    connect_again(second, client)
}

/// As [`connect_to_second`], with a worker that listens.
fn connect_again(second: &mut Host, client: &mut Host) -> (SocketId, SocketId) {
    let at = SocketAddr::new(second.addr, 80);
    let config = ConnectConfig::default();
    let socket = client.stack.connect(NOW, at, config).unwrap();
    for _ in 0..6 {
        for frame in frames(client) {
            second.receive(NOW, &frame);
        }
        for frame in frames(second) {
            client.receive(NOW, &frame);
        }
    }
    let mut accepted = None;
    while let Some(notice) = second.stack.poll_notice() {
        if let Notice::Accepted { socket, .. } = notice {
            accepted = Some(socket);
        }
    }
    while second.stack.poll_sibling_frame().is_some() {}
    (socket, accepted.expect("a connection"))
}

#[test]
fn a_segment_at_the_wrong_worker_is_moved() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (socket, accepted) = connect_to_second(&mut first, &mut second, &mut client);

    client.send(socket, b"to the wrong one");
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    assert!(frames(&mut first).is_empty(), "no reset");
    assert_eq!(first.stack.counters().misdirected_out, 1);
    assert_eq!(exchange(&mut first, &mut second), packets(1));
    assert!(first.buffers.is_full(), "the receiver has a copy");
    assert_eq!(second.drain(accepted).0, b"to the wrong one");

    // A segment without a connection goes nowhere.
    second.stack.abort_all();
    drop(frames(&mut second));
    client.send(socket, b"no connection");
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    assert_eq!(exchange(&mut first, &mut second), packets(0));
    assert_eq!(first.stack.counters().resets_out, 1);
    assert_eq!(second.stack.counters().misdirected_in, 1);
    for host in [&mut first, &mut second] {
        host.stack.abort_all();
        drop(frames(host));
        host.assert_full();
    }
}

/// A worker that hasn't the connection that the directory has for it passes the packet on to the
/// next worker that may have it, but never back.
#[test]
fn a_packet_is_given_to_each_worker_once() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (socket, _) = connect_to_second(&mut first, &mut second, &mut client);
    client.send(socket, b"late");
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    // The connection ends while the segment is on its way.
    second.stack.abort_all();
    drop(frames(&mut second));
    assert_eq!(exchange(&mut first, &mut second), packets(1));
    assert_eq!(exchange(&mut second, &mut first), packets(0));
    assert_eq!(first.stack.counters().resets_out, 0);
    assert_eq!(second.stack.counters().resets_out, 1);
}

/// A flood of acknowledgments for no connection costs the sibling nothing, and a flood for one of
/// its connections takes its own queue only: the ARP reply that the sibling needs comes through.
#[test]
fn a_flood_at_one_worker_does_not_reach_the_sibling() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (socket, accepted) = connect_to_second(&mut first, &mut second, &mut client);
    client.send(socket, b"x");
    let segment = frames(&mut client).pop().expect("a segment");

    for n in 0..10_000_u16 {
        // Another port: the checksum stays valid by the opposite change of the window.
        let mut frame = segment.clone();
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        let window = u16::from_be_bytes([frame[48], frame[49]]);
        let (port, window) = add_opposite(port, window, n + 1);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[48..50].copy_from_slice(&window.to_be_bytes());
        first.receive(NOW, &frame);
    }
    assert_eq!(exchange(&mut first, &mut second), packets(0));
    assert_eq!(second.stack.counters().misdirected_in, 0);
    let counters = first.stack.counters();
    assert_eq!(counters.bad_checksum, 0);
    // Each is looked up once in the other worker's part of the directory.
    if cfg!(debug_assertions) {
        assert_eq!(first.stack.misdirected_steps(), 10_000);
        assert_eq!(second.stack.misdirected_steps(), 0);
    }
    // The limit of resets counts what it withholds.
    assert_eq!((counters.resets_out, counters.resets_limited), (1000, 9000));

    // A flood for a connection of the sibling fills the queue of packets.
    for _ in 0..1000 {
        first.receive(NOW, &segment);
    }
    let arp = arp_request([10, 0, 0, 9]);
    first.receive(NOW, &arp);
    let exchanged = exchange(&mut first, &mut second);
    assert_eq!(
        exchanged,
        Exchanged {
            frames: 1,
            packets: 64,
            // The first worker solicits the sender.
            resolutions: 1
        }
    );
    assert_eq!(first.stack.counters().misdirected_lost, 936);
    assert_eq!(first.stack.counters().sibling_frames_lost, 0);
    assert_eq!(second.drain(accepted).0, b"x");
    if cfg!(debug_assertions) {
        assert!(first.stack.misdirected_steps() <= 10_000 + 2 * 1000);
        assert_eq!(second.stack.misdirected_steps(), 64);
    }
}

/// The first worker gets more ARP replies and advertisements in each turn than it gives to its
/// sibling, and the answer to the sibling's solicitation is among the last.
fn resolves_beside_a_flood(spec: fn(u8) -> HostSpec, answer_of_another: fn(&[u8]) -> Vec<u8>) {
    let (mut first, mut second, mut client) = two_workers_and_a_client(spec);
    let remote = SocketAddr::new(client.addr, 80);
    client
        .stack
        .listen(remote, ListenConfig::default())
        .unwrap();
    let config = ConnectConfig::default();
    let socket = second.stack.connect(NOW, remote, config).unwrap();
    let mut connected = false;
    for _ in 0..8 {
        for frame in frames(&mut second) {
            client.receive(NOW, &frame);
        }
        exchange(&mut second, &mut first);
        for frame in frames(&mut client) {
            if is_tcp(&frame) {
                second.receive(NOW, &frame);
                continue;
            }
            for _ in 0..1000 {
                first.receive(NOW, &answer_of_another(&frame));
            }
            first.receive(NOW, &frame);
        }
        exchange(&mut first, &mut second);
        drop(frames(&mut first));
        while let Some(notice) = second.stack.poll_notice() {
            connected |= matches!(notice, Notice::Connected(s) if s == socket);
        }
    }
    assert!(first.stack.counters().sibling_frames_lost > 900);
    assert!(connected, "the answer is lost among those of others");
}

#[test]
fn a_worker_gets_the_answer_to_its_arp_request_beside_a_flood_of_others() {
    resolves_beside_a_flood(HostSpec::new, |frame| {
        let mut other = frame.to_vec();
        // The sender's protocol address.
        other[14 + 14 + 3] ^= 0x55;
        other
    });
}

#[test]
fn a_worker_gets_the_answer_to_its_solicitation_beside_a_flood_of_others() {
    resolves_beside_a_flood(HostSpec::v6, |frame| {
        let mut other = frame.to_vec();
        // The target, and the checksum by the opposite change of another word of it.
        let at = 14 + 40 + 8;
        let words = [at, at + 2].map(|at| u16::from_be_bytes([other[at], other[at + 1]]));
        let (low, high) = add_opposite(words[0], words[1], 3);
        other[at..at + 2].copy_from_slice(&low.to_be_bytes());
        other[at + 2..at + 4].copy_from_slice(&high.to_be_bytes());
        other
    });
}

/// A TLS client of the second worker, half of whose segments come to the first: it gets its data
/// while the first is flooded by acknowledgments for no connection and by ICMP errors.
#[test]
fn a_client_is_served_by_two_workers_in_a_flood() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let options = TlsOptions::default();
    let at = SocketAddr::new(second.addr, 443);
    for worker in [&mut first, &mut second] {
        let listen = ListenConfig {
            tls: Some(pki::server(&options)),
            ..ListenConfig::default()
        };
        worker.stack.listen(at, listen).unwrap();
    }
    let config = ConnectConfig {
        tls: Some((pki::client(&options), pki::name())),
        ..ConnectConfig::default()
    };
    let socket = client.stack.connect(NOW, at, config).unwrap();
    let (mut count, mut port) = (0, 0);
    let (mut received, mut requests) = (0, 0);
    for _ in 0..200 {
        for frame in frames(&mut client) {
            count += 1;
            let is_syn = frame[12..14] == [8, 0] && frame[47] & 2 != 0;
            if count % 2 == 0 && !is_syn && frame[12..14] == [8, 0] {
                for _ in 0..200 {
                    port += 1;
                    let mut unknown = frame.clone();
                    let window = u16::from_be_bytes([frame[48], frame[49]]);
                    let own = u16::from_be_bytes([frame[34], frame[35]]);
                    let (own, window) = add_opposite(own, window, port);
                    unknown[34..36].copy_from_slice(&own.to_be_bytes());
                    unknown[48..50].copy_from_slice(&window.to_be_bytes());
                    first.receive(NOW, &unknown);
                }
                first.receive(NOW, &frame);
            } else {
                second.receive(NOW, &frame);
            }
            exchange(&mut first, &mut second);
            exchange(&mut second, &mut first);
        }
        for frame in frames(&mut second) {
            client.receive(NOW, &frame);
        }
        drop(frames(&mut first));
        let is_done = matches!(client.stack.poll_notice(), Some(Notice::HandshakeDone(..)));
        if is_done || (requests > 0 && requests < 5 && received == requests * 20_000) {
            requests += 1;
            client.send(socket, b"request");
        }
        while let Some(notice) = second.stack.poll_notice() {
            if let Notice::Readable(socket) = notice {
                assert_eq!(second.drain(socket).0, b"request");
                assert_eq!(second.send(socket, &[9; 20_000]), 20_000);
            }
        }
        received += client.drain(socket).0.len();
    }
    assert_eq!(received, 100_000);
    let (first, second) = (first.stack.counters(), second.stack.counters());
    assert!(port > 1000 && first.misdirected_out > 5, "{port} {first}");
    assert_eq!(second.misdirected_in, first.misdirected_out);
    assert_eq!(first.misdirected_lost, 0);
}

/// ICMP errors about no connection of the host stay where they came to.
#[test]
fn icmp_errors_about_no_connection_cost_the_sibling_nothing() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (socket, accepted) = connect_to_second(&mut first, &mut second, &mut client);
    second.send(accepted, &[7; 1400]);
    let mut sent = frames(&mut second).pop().expect("a segment");
    let known = too_big(&sent, client.addr, second.addr, 1280);
    for port in 0..1000_u16 {
        sent[36..38].copy_from_slice(&port.to_be_bytes());
        first.receive(NOW, &too_big(&sent, client.addr, second.addr, 1280));
    }
    assert_eq!(exchange(&mut first, &mut second), packets(0));
    first.receive(NOW, &known);
    assert_eq!(exchange(&mut first, &mut second), packets(1));
    assert_eq!(second.stack.tcp_counters().too_big, 1);
    client.stack.abort(socket);
}

/// An ICMP error about the segment that a worker sends on a connection: the link to its peer takes
/// 1280 bytes.
fn error_about(worker: &mut Host, socket: SocketId, peer: IpAddr) -> Vec<u8> {
    worker.send(socket, &[7; 1400]);
    let sent = frames(worker).pop().expect("a segment");
    too_big(&sent, peer, worker.addr, 1280)
}

/// A peer causes ICMP errors about its own connection without end, or about each of its many
/// connections. The error about the connection of another peer, or about another connection of its
/// network, comes through.
fn gets_its_error_beside_a_flood(fair_addr: [u8; 4], connections: usize) {
    let wide = |number| HostSpec {
        length: Some(8),
        ..HostSpec::new(number)
    };
    let (mut first, mut second, mut hostile) = two_workers_and_a_client(wide);
    let mut fair = HostSpec {
        addr: fair_addr.into(),
        ..wide(3)
    }
    .build();
    let (_, accepted) = connect_to_second(&mut first, &mut second, &mut hostile);
    let mut errors = vec![error_about(&mut second, accepted, hostile.addr)];
    for _ in 1..connections {
        let (_, accepted) = connect_again(&mut second, &mut hostile);
        errors.push(error_about(&mut second, accepted, hostile.addr));
    }
    let (_, accepted) = connect_again(&mut second, &mut fair);
    let mss = |second: &Host| second.stack.tcp_info(accepted).unwrap().mss;
    let before = mss(&second);
    let known = error_about(&mut second, accepted, fair.addr);
    for error in errors.iter().cycle().take(1000) {
        first.receive(NOW, error);
    }
    first.receive(NOW, &known);
    for error in errors.iter().cycle().take(1000) {
        first.receive(NOW, error);
    }
    assert_eq!(exchange(&mut first, &mut second), packets(64));
    assert!(
        mss(&second) < before,
        "the error is lost among those of others"
    );
    let counters = first.stack.counters();
    assert_eq!(
        (counters.misdirected_out, counters.misdirected_lost),
        (64, 2001 - 64)
    );
    assert!(first.buffers.is_full());
}

#[test]
fn a_peer_gets_its_icmp_error_beside_a_flood_about_one_connection_of_its_network() {
    gets_its_error_beside_a_flood([10, 0, 0, 3], 1);
}

#[test]
fn a_peer_gets_its_icmp_error_beside_a_flood_about_many_connections_of_another() {
    gets_its_error_beside_a_flood([10, 0, 9, 3], 100);
}

/// Packets for a worker whose channel is full wait, and those for another worker don't wait for
/// them.
#[test]
fn misdirected_packets_wait_for_room() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (_, accepted) = connect_to_second(&mut first, &mut second, &mut client);
    let error = error_about(&mut second, accepted, client.addr);
    for _ in 0..10 {
        first.receive(NOW, &error);
    }
    assert!(first.stack.poll_misdirected_packet(|to| to != 1).is_none());
    assert_eq!(exchange(&mut first, &mut second), packets(10));
    assert_eq!(first.stack.counters().misdirected_lost, 0);
}

/// The worker that received a frame counts it. The worker that the frame is moved to doesn't.
#[test]
fn moved_packets_and_copied_frames_are_counted_once() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let (socket, accepted) = connect_to_second(&mut first, &mut second, &mut client);
    let error = error_about(&mut second, accepted, client.addr);
    client.send(socket, b"to the wrong one");
    let before = second.stack.ip_counters();
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    first.receive(NOW, &error);
    first.receive(NOW, &arp_request([10, 0, 0, 9]));
    let exchanged = exchange(&mut first, &mut second);
    assert_eq!((exchanged.packets, exchanged.frames), (2, 1));
    assert_eq!(second.drain(accepted).0, b"to the wrong one");
    assert_eq!(second.stack.tcp_counters().too_big, 1);
    let (first, second) = (first.stack.ip_counters(), second.stack.ip_counters());
    assert_eq!((first.tcp_in, first.icmp_in, first.arp_in), (1, 1, 1));
    assert_eq!(first.icmp.errors_in, 1);
    assert_eq!(
        (second.tcp_in, second.icmp_in, second.arp_in),
        (before.tcp_in, before.icmp_in, before.arp_in)
    );
    assert_eq!(second.icmp.errors_in, 0);
}

/// Adds `n` to the one and subtracts it from the other, in one's complement.
fn add_opposite(one: u16, other: u16, n: u16) -> (u16, u16) {
    let add = |a: u16, b: u16| {
        let sum = u32::from(a) + u32::from(b);
        u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    };
    (add(one, n), add(other, !n))
}

/// An ARP request for B's address from `from`.
fn arp_request(from: [u8; 4]) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, from[3]];
    let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&[0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame
}

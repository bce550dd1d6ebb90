//! Frames exchanged by sibling workers.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use lockgate_stack::{ConnectConfig, ListenConfig, Notice};
use lockgate_wire::Instant;

use self::support::{Host, HostSpec};

const NOW: Instant = Instant::from_millis(1000);

/// Two workers with the same addresses, and a client.
fn two_workers_and_a_client(spec: fn(u8) -> HostSpec) -> (Host, Host, Host) {
    let worker = |number| {
        let mut worker = spec(2);
        worker.config.siblings = 1;
        worker.secret = number;
        worker.build()
    };
    (worker(7), worker(8), spec(1).build())
}

fn frames(host: &mut Host) -> Vec<Vec<u8>> {
    while host.turn(NOW) {}
    host.net.frames.drain(..).collect()
}

/// Delivers the sibling frames of one worker to the other. Returns their number.
fn exchange_sibling_frames(from: &mut Host, to: &mut Host) -> usize {
    let mut count = 0;
    while let Some(frame) = from.stack.poll_sibling_frame() {
        to.with(|stack, env| stack.on_sibling_frame(NOW, &frame, env));
        count += 1;
    }
    count
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

    let is_tcp = |frame: &[u8]| match frame[12..14] {
        [0x08, 0x00] => frame[23] == 6,
        [0x86, 0xdd] => frame[20] == 6,
        _ => false,
    };
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
        exchange_sibling_frames(&mut first, &mut second);
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
    assert_eq!(exchange_sibling_frames(&mut first, &mut second), 1);
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

#[test]
fn a_segment_at_the_wrong_worker_is_forwarded() {
    let (mut first, mut second, mut client) = two_workers_and_a_client(HostSpec::new);
    let at = SocketAddr::new(second.addr, 80);
    for worker in [&mut first, &mut second] {
        worker.stack.listen(at, ListenConfig::default()).unwrap();
    }
    let socket = client
        .stack
        .connect(NOW, at, ConnectConfig::default())
        .unwrap();
    let exchange = |second: &mut Host, client: &mut Host| {
        for _ in 0..6 {
            for frame in frames(client) {
                second.receive(NOW, &frame);
            }
            for frame in frames(second) {
                client.receive(NOW, &frame);
            }
        }
    };
    exchange(&mut second, &mut client);
    let mut accepted = None;
    while let Some(notice) = second.stack.poll_notice() {
        if let Notice::Accepted { socket, .. } = notice {
            accepted = Some(socket);
        }
    }
    let accepted = accepted.expect("a connection");

    client.send(socket, b"to the wrong one");
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    assert!(frames(&mut first).is_empty(), "no reset");
    assert_eq!(first.stack.counters().segments_forwarded, 1);
    assert_eq!(exchange_sibling_frames(&mut first, &mut second), 1);
    assert_eq!(second.drain(accepted).0, b"to the wrong one");

    // A segment without a connection visits each worker once; the last one answers.
    second.stack.abort_all();
    drop(frames(&mut second));
    while second.stack.poll_sibling_frame().is_some() {}
    client.send(socket, b"no connection");
    for frame in frames(&mut client) {
        first.receive(NOW, &frame);
    }
    assert_eq!(exchange_sibling_frames(&mut first, &mut second), 1);
    assert_eq!(
        exchange_sibling_frames(&mut second, &mut first),
        0,
        "it isn't forwarded again"
    );
    assert_eq!(first.stack.counters().resets_out, 0);
    assert_eq!(second.stack.counters().resets_out, 1);
}

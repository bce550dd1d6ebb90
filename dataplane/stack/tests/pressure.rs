//! Received bytes of all connections together pin only so much memory.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{CipherSuite, TlsClient, TlsOptions, TlsVersions};
use lockgate_stack::{Chunk, ConnectConfig, Notice, Recv, SocketId, TlsInfo};
use pktbuf::PoolConfig;
use support::app::{App, stretch};
use support::link::{Link, payload};
use support::peer::{self, Peer};
use support::{HostSpec, World, pki};

fn world() -> World {
    world_of(TOTAL)
}

/// A world whose host B keeps this much at most of what it received.
fn world_of(recv_total_bytes: u64) -> World {
    let mut b = HostSpec::new(2);
    b.config.limits.recv_total_bytes = recv_total_bytes;
    let mut a = HostSpec::new(1);
    // A write of the client is a record.
    a.config.dynamic_records.small_records = 0;
    let mut world = World::new(a, b, Link::perfect());
    world.listen(80, None);
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    world
}

/// A's end and B's end of a connection without TLS.
fn connect(world: &mut World) -> (SocketId, SocketId) {
    let at = world.b_addr(80);
    let config = ConnectConfig::default();
    let a = world.a.stack.connect(world.now, at, config).unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    world.run(Duration::from_millis(1));
    (a, b)
}

/// B listens with TLS. Returns the configuration of its clients.
fn listen_with_tls(world: &mut World) -> Arc<TlsClient> {
    let options = TlsOptions::default();
    world.listen(443, Some(pki::server(&options)));
    pki::client(&options)
}

/// The next handshake that a host has done.
fn done(world: &mut World, of: usize) -> (SocketId, Box<TlsInfo>) {
    world.expect(of, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, info) => Some((*socket, info.clone())),
        _ => None,
    })
}

/// Brings what A has sent to B, whose application reads it in the same turn.
fn deliver_and_read(world: &mut World, b: SocketId) -> Vec<u8> {
    world.deliver();
    let (bytes, _) = world.b.drain(b);
    world.settle();
    bytes
}

/// An unread socket takes its share of the receive budget, and leaves as much to others: requests
/// in one segment, in several, and later ones. No byte is missing in the end.
#[test]
fn unread_sockets_do_not_block_others() {
    let mut world = world();
    let (hog_a, hog_b) = connect(&mut world);
    let (a, b) = connect(&mut world);
    let (slow_a, slow_b) = connect(&mut world);
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut sent = world.a.send(hog_a, &bytes) as usize;
    world.run(Duration::from_millis(20));
    assert!(world.b.stack.counters().refused_payload > 0);
    let pinned = world.b.stack.received_bytes_pinned();
    assert!((TOTAL / 2..TOTAL * 3 / 4).contains(&pinned), "{pinned}");

    for request in [&b"one"[..], b"two", b"three"] {
        world.a.send(a, request);
        assert_eq!(deliver_and_read(&mut world, b), request);
    }
    world.a.send(slow_a, b"the beginning of");
    world.run(Duration::from_millis(20));
    world.a.send(slow_a, b" a request");
    world.run(Duration::from_millis(20));
    assert_eq!(world.b.drain(slow_b).0, b"the beginning of a request");
    assert_eq!(world.b.stack.counters().receive_budget_resets, 0);

    let mut read = Vec::new();
    assert!(world.run_until(Duration::from_secs(100), |world| {
        read.extend(world.b.drain(hog_b).0);
        sent += world.a.send(hog_a, &bytes[sent..]) as usize;
        read.len() >= bytes.len()
    }));
    assert!(read == bytes, "{} bytes", read.len());
    for socket in [hog_a, a, slow_a] {
        world.a.stack.close(socket);
    }
    for socket in [hog_b, b, slow_b] {
        world.b.stack.close(socket);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.b.stack.received_bytes_pinned(), 0);
    world.b.assert_full();
}

/// Peers that send half a request and stop pin more than the receive budget. They are reset, the
/// oldest first, and a client whose request comes in two halves is served.
#[test]
fn half_requests_keep_no_client_out() {
    let mut world = world();
    let mut hostile = Vec::new();
    for round in 0..30 {
        for _ in 0..10 {
            let (a, _) = connect(&mut world);
            world.a.send(a, b"GET / HT");
            hostile.push(a);
        }
        let (a, b) = connect(&mut world);
        world.a.send(a, b"first half, ");
        world.run(Duration::from_millis(40));
        world.a.send(a, b"second half");
        world.run(Duration::from_millis(40));
        assert_eq!(world.b.drain(b).0, b"first half, second half", "{round}");
        world.b.stack.close(b);
        world.a.stack.close(a);
    }
    let counters = world.b.stack.counters();
    assert!(
        (200..300).contains(&counters.receive_budget_resets),
        "{counters}"
    );
    assert_eq!(counters.refused_payload, 0);
    world.a.stack.abort_all();
    world.run(Duration::from_secs(100));
    assert_eq!(world.b.stack.connections(), 0);
    assert_eq!(world.b.stack.received_bytes_pinned(), 0);
    world.b.assert_full();
}

/// The same with TLS: peers that send most of a long record pin several times the receive budget. A
/// client whose request is a record in two segments is served, whenever it comes.
#[test]
fn half_records_keep_no_client_out() {
    let mut world = world_of(200_000);
    let config = peer::config(CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls13);
    let connect = |world: &mut World| {
        let mut peer = Peer::connect(world, &config);
        peer.pump(world);
        let socket = world.handshake_done(1);
        (peer, socket)
    };
    for round in 0..80 {
        let (mut hostile, _) = connect(&mut world);
        hostile.write(&[1; 16_000]);
        let record = hostile.outgoing();
        hostile.send_raw(&mut world, &record[..10_000]);
        world.run(Duration::from_millis(10));
        if round % 4 > 0 {
            continue;
        }
        let (mut fair, socket) = connect(&mut world);
        fair.write(&[2; 3000]);
        let record = fair.outgoing();
        fair.send_raw(&mut world, &record[..1500]);
        world.run(Duration::from_millis(40));
        fair.send_raw(&mut world, &record[1500..]);
        world.run(Duration::from_millis(1));
        assert_eq!(world.b.drain(socket).0, [2; 3000], "{round}");
        world.b.stack.close(socket);
        world.a.stack.close(fair.socket);
    }
    let counters = world.b.stack.counters();
    assert!(
        (50..80).contains(&counters.receive_budget_resets),
        "{counters}"
    );
    assert_eq!(counters.refused_payload, 0);
    world.a.stack.abort_all();
    world.run(Duration::from_secs(100));
    assert_eq!(world.b.stack.received_bytes_pinned(), 0);
    world.b.assert_full();
}

/// A segment that was received before is answered though the receive budget is used up: its peer
/// sends it again until it is acknowledged.
#[test]
fn old_segments_are_answered_without_room() {
    let mut world = world();
    let (a, b) = connect(&mut world);
    let hostile: Vec<SocketId> = (0..25).map(|_| connect(&mut world).0).collect();
    for socket in hostile {
        world.a.send(socket, b"GET / HT");
    }
    world.run(Duration::from_millis(1));
    let port = world.a.stack.local_addr(a).unwrap().port();
    world.link.filter = Some(Box::new(move |from, frame| {
        from == 1 && frame[36..38] == port.to_be_bytes()
    }));
    world.a.send(a, b"request");
    assert_eq!(deliver_and_read(&mut world, b), b"request");
    world.run(Duration::from_millis(100));
    world.link.filter = None;
    world.run(Duration::from_millis(140));
    assert!(world.b.stack.received_bytes_pinned() > TOTAL);
    assert_eq!(world.a.stack.send_queued(a), 0, "the acknowledgment came");
}

/// Peers whose first segment never comes pin as much as they can out of order. A client that loses
/// a segment can still send the others before that comes.
#[test]
fn bytes_out_of_order_leave_room_for_those_of_others() {
    let mut world = world_of(1_000_000);
    let hogs: Vec<SocketId> = (0..20).map(|_| connect(&mut world).0).collect();
    let (a, b) = connect(&mut world);
    let mut is_lost = false;
    world.link.filter = Some(Box::new(move |from, frame| {
        let is_hog = payload(frame).starts_with(b"hog");
        let is_fair = payload(frame).starts_with(b"fair");
        let is_first = is_fair && !core::mem::replace(&mut is_lost, true);
        from == 0 && (is_hog || is_first)
    }));
    let stream = |mark: &[u8]| [mark, &[0; 64_000]].concat();
    for hog in &hogs {
        for _ in 0..3 {
            world.a.send(*hog, &stream(b"hog"));
        }
    }
    world.run(Duration::from_millis(100));
    assert!(world.b.stack.received_bytes_pinned() > 500_000);
    let refused = world.b.stack.counters().refused_payload;
    assert!(refused > 0, "the hogs would take more");
    world.a.send(a, &stream(b"fair")[..12_000]);
    world.run(Duration::from_millis(5));
    assert_eq!(world.b.drain(b).0, stream(b"fair")[..12_000]);
    assert_eq!(world.b.stack.counters().refused_payload, refused);
    assert_eq!(world.b.stack.counters().receive_budget_resets, 0);
}

/// Sockets that pin the most are reset first: a small unread request outlives larger ones that came
/// after it.
#[test]
fn the_largest_unread_sockets_are_reset_first() {
    let mut world = world();
    let (small_a, small_b) = connect(&mut world);
    world.a.send(small_a, b"pipelined");
    world.run(Duration::from_millis(300));
    for _ in 0..6 {
        let (a, _) = connect(&mut world);
        world.a.send(a, &[7; 8000]);
        world.run(Duration::from_millis(10));
    }
    world.run(Duration::from_secs(1));
    assert!(world.b.stack.counters().receive_budget_resets > 0);
    assert!(world.b.stack.received_bytes_pinned() <= TOTAL);
    assert_eq!(world.b.drain(small_b).0, b"pipelined");
}

/// A ClientHello is kept whatever the receive budget, because handshakes are queued.
#[test]
fn handshakes_are_done_while_there_is_no_room_for_more() {
    let mut world = world();
    let (hog_a, _) = connect(&mut world);
    for _ in 0..10 {
        world.a.send(hog_a, &[1; 200_000]);
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_millis(20));
    for _ in 0..3 {
        world.tls_pair(pki::client(&TlsOptions::default()));
    }
    assert!(world.b.stack.counters().refused_payload > 0);
    assert_eq!(world.b.stack.counters().receive_budget_resets, 0);
}

/// A record whose tail the application has put back, because a peer has pipelined requests, counts
/// in the receive budget. When such records exceed it, the oldest connection is reset, and a client
/// that sends a request in two halves is served.
#[test]
fn tails_of_records_count_against_the_receive_budget() {
    const BUDGET: u64 = 60_000;
    let mut world = world_of(BUDGET);
    let mut peers = Vec::new();
    for peer in 0..3 {
        let (a, b) = connect_with_tls(&mut world);
        let pinned = world.b.stack.received_bytes_pinned();
        let content = [peer; 5000];
        assert_eq!(world.a.send(a, &content), 5000);
        world.run(Duration::from_millis(1));
        for (used, left) in [(100, 5000), (1, 4900)] {
            let mut chunk = recv(&mut world, b);
            assert!(chunk.pieces().eq([&content[..left]]), "{chunk:?}");
            chunk.advance(used);
            world.b.stack.unread(b, chunk);
        }
        let more = world.b.stack.received_bytes_pinned() - pinned;
        assert!((5_000..25_000).contains(&more), "{more} bytes");
        peers.push((a, b));
    }
    assert!(world.b.stack.received_bytes_pinned() > BUDGET);
    assert_eq!(world.b.stack.counters().receive_budget_resets, 0);

    let (fair_a, fair_b) = connect(&mut world);
    world.a.send(fair_a, b"half of");
    world.run(Duration::from_millis(300));
    world.a.send(fair_a, b" a request");
    world.run(Duration::from_millis(20));
    assert_eq!(world.b.drain(fair_b).0, b"half of a request");
    assert_eq!(world.b.stack.counters().receive_budget_resets, 1);
    assert!(world.b.stack.received_bytes_pinned() <= BUDGET);
    let (_, oldest) = peers[0];
    assert_eq!(world.b.stack.remote_addr(oldest), None, "it is reset");

    // The tail is what is left of the stream.
    let (tail, _) = world.b.drain(peers[1].1);
    assert!(tail == [1; 4899], "{} bytes", tail.len());
    for (_, b) in peers {
        world.b.stack.close(b);
    }
    world.run(Duration::from_millis(20));
    assert_eq!(world.b.stack.received_bytes_pinned(), 0);
    world.b.stack.abort_all();
    world.run(Duration::from_millis(20));
    world.b.assert_full();
}

/// Both ends of a connection with TLS, the handshake done.
fn connect_with_tls(world: &mut World) -> (SocketId, SocketId) {
    let ends = world.tls_pair(pki::client(&TlsOptions::default()));
    world.run(Duration::from_millis(5));
    ends
}

/// The next chunk that B's application receives.
fn recv(world: &mut World, socket: SocketId) -> Chunk {
    let host = &mut world.b;
    let received = host
        .stack
        .recv(socket, &mut host.ciphers, &mut host.pages)
        .unwrap();
    match received {
        Recv::Data(chunk) => chunk,
        Recv::Nothing | Recv::End { .. } => panic!("{received:?}"),
    }
}

/// With the whole pool in use, records that have to be gathered are read one after the other, in
/// the buffer that sending leaves to receiving.
#[test]
fn records_are_read_though_the_pool_is_empty() {
    let mut world = world_of(1 << 20);
    let (a, b) = connect_with_tls(&mut world);
    let _held = world.b.hold_pages();
    for n in 0..3 {
        assert_eq!(world.a.send(a, &[n; 10_000]), 10_000);
        world.run(Duration::from_millis(1));
        assert_eq!(world.a.send(a, &[n; 5000]), 5000);
        world.run(Duration::from_millis(1));
        let (bytes, _) = world.b.drain(b);
        assert!(bytes == [n; 15_000], "{} bytes", bytes.len());
    }
}

/// Peers send records that take a page buffer each, and the application keeps them, as it does
/// pipelined requests. However many there are, what is sent by reference can still be sealed.
#[test]
fn records_that_an_application_keeps_leave_memory_for_sealing() {
    let mut b = HostSpec::new(2);
    b.pool = PoolConfig {
        blocks: 256,
        small_spans: 32,
        large_spans: 16,
    };
    let mut a = HostSpec::new(1);
    // The clients' records are of a large span each.
    a.config.dynamic_records.small_records = 0;
    let mut world = World::new(a, b, Link::perfect());
    let client = listen_with_tls(&mut world);
    let mut pairs = Vec::new();
    for _ in 0..30 {
        world.connect(Some(client.clone()));
        let ((a, _), (b, info)) = (done(&mut world, 0), done(&mut world, 1));
        pairs.push((a, b, info));
    }
    world.run(Duration::from_millis(5));
    let (fair_a, fair_b, info) = pairs.pop().unwrap();
    for (a, _, _) in &pairs {
        assert_eq!(world.a.send(*a, &[5; 5000]), 5000);
    }
    world.run(Duration::from_millis(20));
    let mut kept = Vec::new();
    for _ in 0..3 {
        for (_, b, _) in &pairs {
            let host = &mut world.b;
            if let Ok(Recv::Data(chunk)) = host.stack.recv(*b, &mut host.ciphers, &mut host.pages) {
                kept.push(chunk);
            }
            world.run(Duration::from_micros(10));
        }
    }
    assert!((10..16).contains(&kept.len()), "{} are kept", kept.len());

    world.a.send(fair_a, b"request");
    world.run(Duration::from_millis(1));
    assert_eq!(world.b.drain(fair_b).0, b"request");
    let mut app = App::new(7, 100_000, 0, true).by_reference(true);
    app.socket = Some(fair_b);
    app.closes = false;
    app.on_notice(&Notice::HandshakeDone(fair_b, info));
    let mut received = Vec::new();
    let served = world.run_until(Duration::from_secs(10), |world| {
        app.turn(world.now, &mut world.b);
        world.settle();
        received.extend(world.a.drain(fair_a).0);
        received.len() == 100_000
    });
    assert!(served, "{} bytes", received.len());
    assert!(received == stretch(7, 0, 100_000));

    drop(kept);
    world.run(Duration::from_millis(100));
    for (_, b, _) in &pairs {
        world.b.drain(*b);
    }
    for host in [&mut world.a, &mut world.b] {
        host.stack.abort_all();
    }
    world.run(Duration::from_millis(10));
    drop(app);
    world.a.assert_full();
    world.b.assert_full();
}

/// Both hosts send more than their pools hold, by records that the other side's window takes only
/// in part. A record is read in the buffer that sending leaves to readers, so every byte arrives.
#[test]
fn readers_have_a_buffer_though_both_pools_are_full_of_what_is_sent() {
    for large_spans in [2, 3, 4] {
        let spec = |number| {
            let mut spec = HostSpec::new(number);
            spec.pool = PoolConfig {
                blocks: 64,
                small_spans: 8,
                large_spans,
            };
            spec.config.limits.recv_buffer_bytes = 8 * 1024;
            spec
        };
        let mut world = World::new(spec(1), spec(2), Link::perfect());
        let client = listen_with_tls(&mut world);
        let mut pairs: Vec<[App; 2]> = Vec::new();
        for n in 0..4 {
            let app = |n, peer| App::new(n, BOTH_WAYS, peer, true).by_reference(true);
            let (mut a, mut b) = (app(n, !n), app(!n, n));
            // Windows close, at different times.
            a.lazy = Duration::from_micros(2000 + 300 * n);
            b.lazy = Duration::from_micros(3000 - 300 * n);
            world.connect(Some(client.clone()));
            for (of, app) in [(0, &mut a), (1, &mut b)] {
                let (socket, info) = done(&mut world, of);
                app.socket = Some(socket);
                app.on_notice(&Notice::HandshakeDone(socket, info));
            }
            pairs.push([a, b]);
        }
        let done = world.run_until(Duration::from_secs(300), |world| {
            for (of, notices) in [&mut world.notices_a, &mut world.notices_b]
                .into_iter()
                .enumerate()
            {
                for notice in std::mem::take(notices) {
                    pairs
                        .iter_mut()
                        .for_each(|pair| pair[of].on_notice(&notice));
                }
            }
            let mut any = true;
            while any {
                any = false;
                for [a, b] in &mut pairs {
                    any |= a.turn(world.now, &mut world.a);
                    any |= b.turn(world.now, &mut world.b);
                }
                world.settle();
            }
            let apps = pairs.iter().flatten();
            world.wake = apps.filter_map(App::wake).min();
            pairs.iter().flatten().all(|app| app.closed.is_some())
        });
        assert!(done, "{large_spans} spans: {pairs:#?}");
        for app in pairs.iter().flatten() {
            assert_eq!((app.received, app.wrong), (BOTH_WAYS, None), "{app:?}");
        }
        assert!(world.b.stack.counters().starved > 0, "nothing was scarce");
        world.wake = None;
        world.run(Duration::from_secs(90));
        world.a.assert_full();
        world.b.assert_full();
    }
}

const TOTAL: u64 = 40_000;
const BOTH_WAYS: u64 = 150_000;

//! Floods of short records: a turn opens a limited number of them, and other clients are served.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_ktls::{ContentType, Counter};
use lockgate_stack::tls::{CipherSuite, TlsOptions, TlsVersions};
use lockgate_stack::{Notice, SocketId};
use support::link::Link;
use support::peer::{self, Peer};
use support::{HostSpec, World, pki};

/// Both ends of a connection with one suite.
fn pair(world: &mut World, n: usize) -> (SocketId, SocketId) {
    let (suite, versions) = pki::SUITES[n];
    world.tls_pair(pki::client(&pki::only(suite, versions)))
}

/// Records that B has opened.
fn opened(world: &World) -> u64 {
    let counters = &world.b.ciphers.counters;
    counters.value(Counter::OcfTls12GcmDecrypts) + counters.value(Counter::OcfTls13GcmDecrypts)
}

/// One turn of B's worker: what the notices say is read, and a request is answered. Returns the
/// sockets that were readable.
fn turn(world: &mut World, fair: SocketId) -> Vec<SocketId> {
    world.b.turn(world.now);
    let mut readable = Vec::new();
    let mut notices = std::mem::take(&mut world.notices_b);
    notices.extend(std::iter::from_fn(|| world.b.stack.poll_notice()));
    for notice in notices {
        if let Notice::Readable(socket) = notice {
            readable.push(socket);
            let (bytes, _) = world.b.drain(socket);
            if socket == fair && !bytes.is_empty() {
                world.b.send(fair, b"response");
            }
        }
    }
    readable
}

/// Sends each byte from A as a record of its own. B doesn't read.
fn flood(world: &mut World, a: SocketId, kind: ContentType, content: &[u8]) {
    for byte in content {
        let mut waited = 0;
        loop {
            let host = &mut world.a;
            let sent = host.stack.send_record(a, kind, &[*byte], &mut host.pages);
            if sent.unwrap() {
                break;
            }
            waited += 1;
            assert!(waited < 1000, "a record was never sent");
            world.run(Duration::from_millis(1));
        }
    }
    world.run(Duration::from_millis(20));
}

/// Two kinds of flood: data of one byte each, and a ClientHello (of a renegotiation) in pieces of
/// one byte. Neither costs more than so many records a turn and socket.
#[test]
fn a_flood_of_short_records_leaves_turns_to_others() {
    let hello = [&[1, 0, 8, 0][..], &[9; 2048]].concat();
    let rows = [
        (0, ContentType::APPLICATION_DATA, vec![b'x'; 2052]),
        (3, ContentType::APPLICATION_DATA, vec![b'x'; 2052]),
        (3, ContentType::HANDSHAKE, hello),
    ];
    for (suite, kind, content) in rows {
        let mut world = World::simple();
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let floods: Vec<_> = (0..5).map(|_| pair(&mut world, suite)).collect();
        let (fair_a, fair_b) = pair(&mut world, 0);
        world.run(Duration::from_millis(10));
        let start = opened(&world);
        for (a, _) in &floods {
            flood(&mut world, *a, kind, &content);
        }
        world.notices_b.clear();
        for (_, b) in &floods {
            // As if the notice had come only now.
            assert_eq!(world.b.drain(*b).1, None);
        }
        let first = opened(&world) - start;
        assert!(first <= 5 * PER_TURN, "{first} records in one turn");

        world.a.send(fair_a, b"request");
        world.deliver();
        let mut turns = 0;
        let mut served = None;
        let mut before = opened(&world);
        let total = start + 5 * content.len() as u64 + 1;
        while before < total {
            turns += 1;
            assert!(turns < 100, "{} of {total} records", before - start);
            if turn(&mut world, fair_b).contains(&fair_b) {
                served.get_or_insert(turns);
            }
            let now = opened(&world);
            assert!(now - before <= 5 * PER_TURN + 1, "{} records", now - before);
            before = now;
        }
        assert_eq!(
            served,
            Some(1),
            "the fair client is served in the first turn"
        );
        assert!(turns >= content.len() as u64 / PER_TURN - 1);
        world.run(Duration::from_millis(5));
        assert_eq!(world.a.drain(fair_a).0, b"response");
    }
}

/// Peers that announce records of 16 KiB, and then send a byte at a time: each pins the packet
/// buffer that its bytes are in, and no page buffer. A fair client beside them is served.
#[test]
fn announced_records_pin_no_more_than_what_has_arrived() {
    let mut b = HostSpec::new(2);
    b.config.limits.recv_total_bytes = 200_000;
    let mut world = World::new(HostSpec::new(1), b, Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let config = peer::config(CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls13);
    let connect = |world: &mut World| {
        let mut peer = Peer::connect(world, &config);
        peer.pump(world);
        let socket = world.handshake_done(1);
        (peer, socket)
    };
    let hostile: Vec<_> = (0..40).map(|_| connect(&mut world)).collect();
    let (mut fair, served) = connect(&mut world);
    let large_before = world.b.pages.usage().large_spans_used;
    for (peer, _) in &hostile {
        peer.send_raw(&mut world, &[23, 3, 3, 0x40, 0x11]);
    }
    for round in 0..60 {
        for (peer, socket) in &hostile {
            peer.send_raw(&mut world, &[7]);
            assert_eq!(world.b.drain(*socket), (Vec::new(), None));
        }
        let pinned = world.b.stack.received_bytes_pinned();
        assert!(
            pinned <= hostile.len() as u64 * PACKET_BYTES,
            "{pinned} bytes are pinned"
        );
        assert_eq!(world.b.pages.usage().large_spans_used, large_before);
        if round % 10 == 0 {
            fair.write(&[2; 16_000]);
            let record = fair.outgoing();
            let (first, last) = record.split_at(8000);
            fair.send_raw(&mut world, first);
            assert_eq!(world.b.drain(served), (Vec::new(), None));
            fair.send_raw(&mut world, last);
            world.run(Duration::from_millis(1));
            assert_eq!(world.b.drain(served).0, [2; 16_000]);
        }
    }
    let counters = world.b.stack.counters();
    assert_eq!(
        (counters.receive_budget_resets, counters.refused_payload),
        (0, 0)
    );
    world.a.stack.abort_all();
    world.run(Duration::from_secs(100));
    assert_eq!(world.b.stack.received_bytes_pinned(), 0);
    world.b.assert_full();
}

/// Records that one socket opens in a turn, at most.
const PER_TURN: u64 = 64;
/// Memory of a packet of usual size, with its description.
const PACKET_BYTES: u64 = 2048 + 128;

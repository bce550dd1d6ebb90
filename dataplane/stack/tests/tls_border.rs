//! The border between the TLS library and the record layer: no byte is lost or decrypted twice,
//! wherever the client's bytes are cut into segments.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{ListenConfig, Notice, SocketId};
use lockgate_testing::Random;
use rustls::ClientConfig;
use support::link::{Faults, Link};
use support::peer::{Peer, config};
use support::{HostSpec, World, pki};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: server.test\r\n\r\n";

fn world() -> World {
    let link = Link::new(
        1,
        Faults {
            delay: Duration::from_micros(10),
            ..Faults::default()
        },
    );
    let mut world = World::new(HostSpec::new(1), HostSpec::new(2), link);
    let at = world.b_addr(443);
    let tls = Some(pki::server(&TlsOptions::default()));
    world
        .b
        .stack
        .listen(
            at,
            ListenConfig {
                tls,
                ..ListenConfig::default()
            },
        )
        .unwrap();
    world
}

fn server_socket(world: &mut World) -> SocketId {
    world.expect(1, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, _) => Some(*socket),
        _ => None,
    })
}

/// The request arrives once and whole, the answer too; then both ends close.
fn finish(world: &mut World, mut peer: Peer, what: &str) {
    world.run(Duration::from_micros(300));
    let socket = server_socket(world);
    let (got, _) = world.b.drain(socket);
    assert_eq!(got, REQUEST, "{what}");
    world.b.send(socket, b"answer");
    world.b.stack.close(socket);
    peer.read(world);
    assert_eq!(
        (peer.received.as_slice(), &peer.error),
        (&b"answer"[..], &None),
        "{what}"
    );
    assert!(peer.clean_end, "{what}: close_notify");
    peer.tls.send_close_notify();
    let bytes = peer.outgoing();
    peer.send_raw(world, &bytes);
    world.a.stack.close(peer.socket);
    world.run(Duration::from_millis(1));
}

/// Goes up to the client's last flight and returns it with the request behind it.
fn last_flight(world: &mut World, config: &Arc<ClientConfig>) -> (Peer, Vec<u8>) {
    let mut peer = Peer::connect(world, config);
    let hello = peer.outgoing();
    peer.send_raw(world, &hello);
    peer.read(world);
    if peer.tls.is_handshaking() {
        // TLS 1.2: the request can't be encrypted before the server's Finished, but what the
        // client sends before is still cut everywhere.
        let flight = peer.outgoing();
        return (peer, flight);
    }
    peer.write(REQUEST);
    let flight = peer.outgoing();
    (peer, flight)
}

/// In TLS 1.2 the request follows the server's last flight.
fn request_if_due(world: &mut World, peer: &mut Peer) {
    peer.read(world);
    if peer.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2) {
        assert!(!peer.tls.is_handshaking());
        peer.write(REQUEST);
        let bytes = peer.outgoing();
        peer.send_raw(world, &bytes);
    }
}

#[test]
fn the_last_flight_and_the_request_are_cut_at_every_byte() {
    for (suite, versions) in pki::SUITES {
        let config = config(suite, versions);
        let mut world = world();
        let (peer, flight) = last_flight(&mut world, &config);
        let length = flight.len();
        world.a.stack.abort(peer.socket);
        world.run(Duration::from_millis(1));
        for cut in 0..=length {
            let what = format!("{suite:?} cut at {cut} of {length}");
            let (mut peer, flight) = last_flight(&mut world, &config);
            assert_eq!(flight.len(), length, "{what}");
            peer.send_raw(&mut world, &flight[..cut]);
            peer.send_raw(&mut world, &flight[cut..]);
            request_if_due(&mut world, &mut peer);
            finish(&mut world, peer, &what);
        }
        world.run(Duration::from_secs(70));
        assert_eq!(world.b.stack.handshakes(), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// TLS 1.2 resumed: there the client's Finished comes last, and the request may be joined to it.
#[test]
fn a_resumed_tls12_flight_and_the_request_are_cut_at_every_byte() {
    for (suite, versions) in pki::SUITES.into_iter().skip(3) {
        let mut config = Arc::unwrap_or_clone(config(suite, versions));
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let mut world = world();
        let mut first = Peer::connect(&mut world, &config);
        first.pump(&mut world);
        server_socket(&mut world);

        let (_, flight) = last_flight(&mut world, &config);
        for cut in 0..=flight.len() {
            let what = format!("{suite:?} resumed, cut at {cut} of {}", flight.len());
            let (peer, flight) = last_flight(&mut world, &config);
            assert_eq!(
                peer.tls.handshake_kind(),
                Some(rustls::HandshakeKind::Resumed),
                "{what}"
            );
            peer.send_raw(&mut world, &flight[..cut]);
            peer.send_raw(&mut world, &flight[cut..]);
            finish(&mut world, peer, &what);
        }
        assert!(world.b.stack.counters().handshakes_resumed > flight.len() as u64);
    }
}

#[test]
fn the_first_flight_is_cut_at_every_byte() {
    for (suite, versions) in [pki::SUITES[0], pki::SUITES[3]] {
        let config = config(suite, versions);
        let mut world = world();
        let mut cut = 0;
        loop {
            let what = format!("{suite:?} hello cut at {cut}");
            let mut peer = Peer::connect(&mut world, &config);
            let hello = peer.outgoing();
            if cut > hello.len() {
                break;
            }
            peer.send_raw(&mut world, &hello[..cut]);
            peer.send_raw(&mut world, &hello[cut..]);
            peer.pump(&mut world);
            assert!(!peer.tls.is_handshaking(), "{what}");
            peer.write(REQUEST);
            let bytes = peer.outgoing();
            peer.send_raw(&mut world, &bytes);
            finish(&mut world, peer, &what);
            cut += 1;
        }
    }
}

#[test]
fn one_byte_at_a_time_and_random_cuts() {
    let mut random = Random::new(7);
    for (suite, versions) in pki::SUITES {
        let config = config(suite, versions);
        let mut world = world();
        for round in 0..20 {
            let longest = if round == 0 { 1 } else { random.between(2, 40) };
            let what = format!("{suite:?}, pieces of up to {longest}");
            let mut peer = Peer::connect(&mut world, &config);
            let mut asked = false;
            while !asked || peer.tls.wants_write() {
                if !peer.tls.is_handshaking() && !asked {
                    asked = true;
                    peer.write(REQUEST);
                }
                let bytes = peer.outgoing();
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let len = usize::try_from(random.between(1, longest))
                        .unwrap()
                        .min(rest.len());
                    peer.send_raw(&mut world, &rest[..len]);
                    rest = &rest[len..];
                }
                peer.read(&mut world);
            }
            finish(&mut world, peer, &what);
        }
    }
}

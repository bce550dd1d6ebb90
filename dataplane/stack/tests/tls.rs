//! TLS on whole stacks: what is agreed on, what is refused, and what comes after the handshake.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lockgate_ktls::{AlertDescription, ContentType, Counter, RxError, Version};
use lockgate_stack::tls::{TlsClient, TlsOptions, TlsServer, TlsVersions};
use lockgate_stack::{
    CloseReason, ConnectConfig, Failure, ListenConfig, Notice, SocketId, TlsInfo,
};
use support::peer::{Peer, config};
use support::{World, pki};

fn listen(world: &mut World, options: &TlsOptions) {
    listen_with(world, pki::server(options));
}

fn listen_with(world: &mut World, tls: Arc<TlsServer>) {
    let at = world.b_addr(443);
    world
        .b
        .stack
        .listen(
            at,
            ListenConfig {
                tls: Some(tls),
                ..ListenConfig::default()
            },
        )
        .unwrap();
}

fn connect(world: &mut World, tls: &Arc<TlsClient>) -> SocketId {
    let at = world.b_addr(443);
    let tls = Some((tls.clone(), pki::name()));
    let config = ConnectConfig {
        tls,
        ..ConnectConfig::default()
    };
    world.a.stack.connect(world.now, at, config).unwrap()
}

fn agreed(world: &mut World, of: usize) -> (SocketId, TlsInfo) {
    world.expect(of, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, info) => Some((*socket, (**info).clone())),
        _ => None,
    })
}

fn closed(world: &mut World, of: usize) -> CloseReason {
    world.expect(of, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    })
}

/// A rustls client with its handshake done, and the server's socket.
fn rustls_peer(world: &mut World, n: usize) -> (Peer, SocketId) {
    listen(world, &TlsOptions::default());
    let (suite, versions) = pki::SUITES[n];
    let mut peer = Peer::connect(world, &config(suite, versions));
    peer.pump(world);
    let (b, _) = agreed(world, 1);
    (peer, b)
}

#[test]
fn both_ends_agree_on_what_was_agreed() {
    let alpn = |names: &[&str]| TlsOptions {
        alpn: names.iter().map(|n| n.as_bytes().to_vec()).collect(),
        ..TlsOptions::default()
    };
    for (versions, version) in [
        (TlsVersions::Tls12, Version::Tls12),
        (TlsVersions::Both, Version::Tls13),
    ] {
        let mut world = World::simple();
        listen(&mut world, &alpn(&["http/1.1", "x"]));
        let client = TlsOptions {
            versions,
            ..alpn(&["h2", "http/1.1"])
        };
        connect(&mut world, &pki::client(&client));
        let ((_, a), (_, b)) = (agreed(&mut world, 0), agreed(&mut world, 1));
        assert_eq!(
            (a.params, &a.alpn, a.resumed),
            (b.params, &b.alpn, b.resumed)
        );
        assert_eq!(a.params.version, version);
        assert_eq!(a.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(
            (a.sni.as_deref(), b.sni.as_deref()),
            (None, Some(pki::NAME))
        );
    }
}

/// Session tickets: TLS 1.3's come as records after the handshake, 1.2's inside it.
#[test]
fn tickets_resume_sessions() {
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let mut world = World::simple();
        let options = TlsOptions {
            versions,
            ..TlsOptions::default()
        };
        listen(&mut world, &options);
        let client = pki::client(&options);
        for resumed in [false, true, true] {
            let a = connect(&mut world, &client);
            let ((_, info_a), (b, info_b)) = (agreed(&mut world, 0), agreed(&mut world, 1));
            assert_eq!(
                (info_a.resumed, info_b.resumed),
                (resumed, resumed),
                "{versions:?}"
            );
            world.b.send(b, b"hello");
            world.run(Duration::from_millis(5));
            assert_eq!(world.a.drain(a).0, b"hello");
            world.a.stack.close(a);
            world.b.stack.close(b);
            world.run(Duration::from_millis(5));
        }
        assert_eq!(world.b.stack.counters().handshakes_resumed, 2);

        // A server that doesn't know the ticket's key does a full handshake.
        world.run(Duration::from_secs(70));
        let mut other = World::simple();
        listen(&mut other, &options);
        connect(&mut other, &client);
        assert!(!agreed(&mut other, 0).1.resumed);
    }
}

#[test]
fn a_server_that_cannot_prove_its_name_is_refused() {
    let mut world = World::simple();
    listen(&mut world, &TlsOptions::default());
    let no_roots = Arc::new(TlsClient::new([], &TlsOptions::default()).unwrap());
    connect(&mut world, &no_roots);
    let refused = CloseReason::Handshake(Failure::BadCertificate);
    assert_eq!(closed(&mut world, 0), refused);
    let told = closed(&mut world, 1);
    assert_eq!(
        told,
        CloseReason::Handshake(Failure::PeerAlert(48)),
        "unknown_ca"
    );
    assert_eq!(world.a.stack.counters().handshakes_failed_certificate, 1);
    assert_eq!(world.b.stack.counters().handshakes_failed_peer_alert, 1);
    let alerts = [&world.a, &world.b].map(|host| host.stack.counters().alerts_out);
    assert_eq!(alerts, [1, 0], "one says it, the other one heard it");
    world.run(Duration::from_secs(70));
    world.a.assert_full();
    world.b.assert_full();
}

#[test]
fn nothing_in_common_is_said_by_an_alert() {
    let mut world = World::simple();
    listen(
        &mut world,
        &TlsOptions {
            versions: TlsVersions::Tls13,
            ..TlsOptions::default()
        },
    );
    let old = TlsOptions {
        versions: TlsVersions::Tls12,
        ..TlsOptions::default()
    };
    connect(&mut world, &pki::client(&old));
    assert_eq!(
        closed(&mut world, 0),
        CloseReason::Handshake(Failure::PeerAlert(70))
    );
    assert_eq!(
        closed(&mut world, 1),
        CloseReason::Handshake(Failure::Incompatible)
    );
    assert_eq!(world.b.stack.counters().handshakes_failed_incompatible, 1);
}

/// What a plain client gets from B's TLS port for these bytes.
fn raw(bytes: &[u8]) -> (World, Vec<u8>, CloseReason) {
    let mut world = World::simple();
    listen(&mut world, &TlsOptions::default());
    let peer = Peer::connect(&mut world, &config(pki::SUITES[0].0, pki::SUITES[0].1));
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = world
            .a
            .stack
            .send(peer.socket, rest, false, &mut world.a.pages);
        rest = &rest[taken.map_or(rest.len(), |n| n as usize)..];
        peer.send_raw(&mut world, &[]);
    }
    world.run(Duration::from_millis(5));
    let answer = world.a.drain(peer.socket).0;
    world.a.stack.close(peer.socket);
    let reason = closed(&mut world, 1);
    (world, answer, reason)
}

#[test]
fn garbage_gets_an_alert_and_an_end() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x00\x05hello",
        &[0; 600],
    ] {
        let (mut world, answer, reason) = raw(bytes);
        assert!(
            matches!(
                reason,
                CloseReason::Handshake(Failure::Malformed | Failure::Misbehaved)
            ),
            "{reason:?}"
        );
        assert_eq!(answer.len(), 7, "{answer:?}");
        assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert");
        assert_eq!(world.b.stack.counters().handshakes_failed_protocol, 1);
        world.run(Duration::from_secs(70));
        assert_eq!(
            (world.b.stack.connections(), world.b.stack.handshakes()),
            (0, 0)
        );
        world.b.assert_full();
    }
}

#[test]
fn an_endless_handshake_message_is_cut_off() {
    // One message of 16 MiB in records of the greatest length.
    let mut bytes = Vec::new();
    for n in 0..8 {
        bytes.extend([22, 3, 1, 0x40, 0]);
        bytes.extend(if n == 0 {
            [1, 0xff, 0xff, 0xff]
        } else {
            [0; 4]
        });
        bytes.extend([0; 16_380]);
    }
    let (world, _, reason) = raw(&bytes);
    assert!(matches!(reason, CloseReason::Handshake(_)), "{reason:?}");
    assert_eq!(world.b.stack.counters().handshakes_failed_protocol, 1);
}

#[test]
fn a_handshake_that_takes_too_long_is_cut_off() {
    for hello in [false, true] {
        let mut world = World::simple();
        listen(&mut world, &TlsOptions::default());
        let mut peer = Peer::connect(&mut world, &config(pki::SUITES[0].0, pki::SUITES[0].1));
        if hello {
            let bytes = peer.outgoing();
            peer.send_raw(&mut world, &bytes);
            assert_eq!(world.b.stack.handshakes(), 1);
        } else {
            assert_eq!(world.b.stack.handshakes(), 0, "a silent peer costs little");
        }
        let before = world.now;
        assert!(world.run_until(Duration::from_secs(30), |w| {
            w.b.stack.counters().handshakes_failed_timeout == 1
        }));
        let took = world.now.saturating_since(before);
        assert!((9..=11).contains(&took.as_secs()), "{took:?}");
        world.a.stack.close(peer.socket);
        let timed_out = CloseReason::Handshake(Failure::TimedOut);
        assert_eq!(closed(&mut world, 1), timed_out);
        world.run(Duration::from_secs(70));
        assert_eq!(world.b.stack.counters().end_handshake, 1);
        assert_eq!(world.b.stack.handshakes(), 0);
        world.b.assert_full();
    }
}

/// KeyUpdate: rustls changes its keys and requests ours, repeatedly, with data between.
#[test]
fn key_updates_are_answered() {
    let (n, mut world) = (0, World::simple());
    let (mut peer, b) = rustls_peer(&mut world, n);
    for round in 0..20 {
        peer.tls.refresh_traffic_keys().unwrap();
        let text = format!("round {round}");
        peer.write(text.as_bytes());
        let bytes = peer.outgoing();
        peer.send_raw(&mut world, &bytes);
        assert_eq!(world.b.drain(b).0, text.as_bytes());
        world.b.send(b, text.as_bytes());
        peer.read(&mut world);
        assert_eq!(peer.received, text.as_bytes());
        assert_eq!(peer.error, None);
        peer.received.clear();
    }
    let counters = &world.b.ciphers.counters;
    assert_eq!(counters.value(Counter::RxRekeyReceived), 20);
    assert_eq!(counters.value(Counter::RxRekeyOk), 20);
}

/// KeyUpdate from our side, with a queue full of records of the old keys.
#[test]
fn our_key_updates_are_understood() {
    let mut world = World::simple();
    let (mut peer, b) = rustls_peer(&mut world, 1);
    let mut sent = Vec::new();
    for round in 0..10_u8 {
        for _ in 0..4 {
            let bytes = vec![round; 20_000];
            let taken = world.b.send(b, &bytes) as usize;
            sent.extend(&bytes[..taken]);
        }
        let host = &mut world.b;
        host.stack
            .update_keys(b, round % 2 == 0, &mut host.ciphers, &mut host.pages)
            .unwrap();
        for _ in 0..40 {
            peer.read(&mut world);
        }
        // Asked for its keys, the peer changes them before it next says something; we follow.
        peer.write(&[round]);
        let bytes = peer.outgoing();
        peer.send_raw(&mut world, &bytes);
        assert_eq!(world.b.drain(b), (vec![round], None));
    }
    assert_eq!(peer.error, None);
    assert_eq!(peer.received.len(), sent.len());
    assert!(peer.received == sent);
    assert_eq!(world.b.ciphers.counters.value(Counter::TxRekeyOk), 10);
    assert_eq!(world.b.ciphers.counters.value(Counter::RxRekeyOk), 5);
}

/// What the checksum can't see, the AEAD does: two flips of opposite direction in the same column
/// of the 16-bit sum. Wrong bytes are never delivered; the peer gets an alert.
#[test]
fn corruption_that_fools_the_checksum_is_caught_by_the_aead() {
    for (suite, versions) in pki::SUITES {
        let mut world = World::simple();
        let options = pki::only(suite, versions);
        listen(&mut world, &options);
        let a = connect(&mut world, &pki::client(&options));
        agreed(&mut world, 0);
        let (b, _) = agreed(&mut world, 1);
        world.run(Duration::from_millis(10));
        let mut armed = true;
        world.link.filter = Some(Box::new(move |from, frame| {
            if from == 0 && armed && frame.len() > 500 {
                // Payload words in the middle of the record.
                let at = frame.len() & !1;
                for word in (300..at - 60).step_by(2) {
                    if frame[word] & 1 == 1 && frame[word + 2] & 1 == 0 {
                        frame[word] ^= 1;
                        frame[word + 2] ^= 1;
                        armed = false;
                        break;
                    }
                }
                assert!(!armed, "no two bytes to swap a bit between");
            }
            false
        }));
        world.a.send(a, &[9; 1000]);
        world.run(Duration::from_millis(10));
        assert_eq!(
            world.b.stack.counters().bad_checksum,
            0,
            "it has to get through"
        );
        let host = &mut world.b;
        let got = host.stack.recv(b, &mut host.ciphers, &mut host.pages);
        let error = lockgate_stack::RecvError::Tls(RxError::BadRecord);
        assert!(matches!(got, Err(e) if e == error), "{got:?}");
        world.run(Duration::from_millis(10));
        let host = &mut world.a;
        match host.stack.recv(a, &mut host.ciphers, &mut host.pages) {
            Err(lockgate_stack::RecvError::Tls(RxError::PeerAlert(alert))) => {
                assert_eq!(alert, AlertDescription::BAD_RECORD_MAC);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(closed(&mut world, 1), CloseReason::Tls(RxError::BadRecord));
        assert_eq!(world.b.stack.counters().alerts_out, 1);
        assert_eq!(world.b.stack.counters().end_tls, 1);
        world.run(Duration::from_secs(70));
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// Data before a record of an unknown type arrives; the record ends the connection.
#[test]
fn a_record_of_an_unknown_type_ends_the_connection() {
    for n in [0, 3] {
        let mut world = World::simple();
        listen(&mut world, &TlsOptions::default());
        let (suite, versions) = pki::SUITES[n];
        let a = connect(&mut world, &pki::client(&pki::only(suite, versions)));
        agreed(&mut world, 0);
        let (b, _) = agreed(&mut world, 1);
        let host = &mut world.a;
        let odd = ContentType(99);
        host.stack.send(a, b"data", true, &mut host.pages).unwrap();
        let sent = host.stack.send_record(a, odd, b"odd", &mut host.pages);
        assert!(sent.unwrap());
        host.stack.send(a, b"more", false, &mut host.pages).unwrap();
        world.run(Duration::from_millis(5));
        assert_eq!(world.b.drain(b), (b"data".to_vec(), None));
        assert_eq!(world.b.drain(b).0, b"");
        world.run(Duration::from_millis(5));
        world.a.drain(a);
        let alert = AlertDescription::UNEXPECTED_MESSAGE;
        assert_eq!(
            closed(&mut world, 0),
            CloseReason::Tls(RxError::PeerAlert(alert))
        );
        assert_eq!(closed(&mut world, 1), CloseReason::Tls(RxError::Unexpected));
    }
}

#[test]
fn a_message_longer_than_a_record_is_refused() {
    let mut world = World::simple();
    listen(&mut world, &TlsOptions::default());
    let a = connect(&mut world, &pki::client(&TlsOptions::default()));
    agreed(&mut world, 0);
    let odd = ContentType(99);
    // Longer than a record: refused, not cut.
    let host = &mut world.a;
    let long = host
        .stack
        .send_record(a, odd, &[0; 20_000], &mut host.pages);
    assert!(
        matches!(long, Err(lockgate_stack::SendError::Record(_))),
        "{long:?}"
    );
}

/// While as many handshakes are under way as may be, others wait, and then get their turn.
#[test]
fn handshakes_are_limited_and_none_is_lost() {
    let mut spec = support::HostSpec::new(2);
    spec.config.limits.handshakes_max = 3;
    let mut world = World::new(
        support::HostSpec::new(1),
        spec,
        support::link::Link::perfect(),
    );
    listen(&mut world, &TlsOptions::default());
    let tls = pki::client(&TlsOptions::default());
    let sockets: Vec<SocketId> = (0..40).map(|_| connect(&mut world, &tls)).collect();
    let mut most = 0;
    assert!(world.run_until(Duration::from_secs(5), |w| {
        most = most.max(w.b.stack.handshakes());
        w.b.stack.counters().handshakes_tls13 == 40
    }));
    assert_eq!(most, 3);
    assert_eq!(world.b.stack.handshakes(), 0);
    for socket in sockets {
        world.a.stack.abort(socket);
    }
    world.run(Duration::from_secs(1));
    world.a.assert_full();
    world.b.assert_full();
}

/// Without the record layer there is no TLS: the handshake's end is refused, and counted.
#[test]
fn switched_off_means_off() {
    let mut spec = support::HostSpec::new(2);
    spec.config.ktls = false;
    let mut world = World::new(
        support::HostSpec::new(1),
        spec,
        support::link::Link::perfect(),
    );
    listen(&mut world, &TlsOptions::default());
    let a = connect(&mut world, &pki::client(&TlsOptions::default()));
    world.run(Duration::from_millis(10));
    assert_eq!(world.a.drain(a), (Vec::new(), Some(false)));
    world.a.stack.close(a);
    assert_eq!(
        closed(&mut world, 1),
        CloseReason::Handshake(Failure::Internal)
    );
    assert_eq!(world.b.stack.counters().handshakes_failed_internal, 1);
}

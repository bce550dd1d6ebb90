//! What comes while records are sealed and opened elsewhere: key changes, alerts, a closed window,
//! ends inside a record, and threads that give their records up.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_ktls::{AlertDescription, ContentType, Counter, Errno, RxError};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, Notice, Recv, RecvError, SocketId};
use support::app::stretch;
use support::away::die;
use support::link::Link;
use support::peer::{Peer, config};
use support::raw::{Got, RawPair};
use support::records::{DATA, GCM_128_12, GCM_128_13, HANDSHAKE, TestKeys};
use support::{HostSpec, World, pki};

/// B's records are sealed and opened elsewhere, by queues that take so many.
fn away(room: usize) -> HostSpec {
    HostSpec {
        away: Some(room),
        ..HostSpec::new(2)
    }
}

/// A rustls client of TLS 1.3 (suite 0) or another suite on host A, and the server's socket.
fn connect(room: usize, suite: usize) -> (World, Peer, SocketId) {
    let mut world = World::new(HostSpec::new(1), away(room), Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let (peer, b) = another(&mut world, suite);
    (world, peer, b)
}

fn another(world: &mut World, suite: usize) -> (Peer, SocketId) {
    let (suite, versions) = pki::SUITES[suite];
    let mut peer = Peer::connect(world, &config(suite, versions));
    peer.pump(world);
    let b = world.handshake_done(1);
    world.run(Duration::from_millis(5));
    (peer, b)
}

/// Brings TLS bytes of the peer to B, which isn't given a turn.
fn arrive(world: &mut World, peer: &mut Peer) {
    let bytes = peer.outgoing();
    assert_eq!(world.a.send(peer.socket, &bytes) as usize, bytes.len());
    world.deliver();
}

/// Reads once, without a turn.
fn recv(world: &mut World, b: SocketId) -> Result<Recv, RecvError> {
    let host = &mut world.b;
    host.stack.recv(b, &mut host.ciphers, &mut host.pages)
}

/// Reads until B has so many bytes.
fn read(world: &mut World, b: SocketId, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(world.run_until(Duration::from_secs(10), |world| {
        bytes.extend(world.b.drain(b).0);
        bytes.len() >= len
    }));
    bytes
}

/// Lets the peer read until it has so many bytes, or an error.
fn read_peer(world: &mut World, peer: &mut Peer, len: usize) {
    for _ in 0..200 {
        if peer.received.len() >= len || peer.error.is_some() {
            return;
        }
        peer.read(world);
    }
    panic!("{} of {len} bytes", peer.received.len());
}

/// Data, KeyUpdate, data, again and again in one segment each, while B sends a stream of its own
/// whose records are away: everything arrives in order, and each answer precedes the next data.
#[test]
fn key_updates_both_ways_while_records_are_away() {
    for room in [1, 3, 64] {
        let (mut world, mut peer, b) = connect(room, 0);
        let mut expected = Vec::new();
        for round in 0..20_u8 {
            let before = stretch(u64::from(round), 0, 60_000);
            let sent = world.b.send(b, &before) as usize;
            expected.extend_from_slice(&before[..sent]);
            // Part of it is sealed, part is away, part is framed.
            world.b.turn(world.now);
            peer.write(&[round; 3000]);
            peer.tls.refresh_traffic_keys().unwrap();
            peer.write(&[round, 1]);
            arrive(&mut world, &mut peer);
            let request = [&[round; 3000][..], &[round, 1]].concat();
            assert_eq!(read(&mut world, b, 3002), request, "room {room}");
            let response = [round; 100];
            let mut sent = 0;
            assert!(world.run_until(Duration::from_secs(1), |world| {
                if sent == 0 {
                    sent = world.b.send(b, &response);
                }
                sent > 0
            }));
            assert_eq!(sent, 100);
            expected.extend_from_slice(&response);
            read_peer(&mut world, &mut peer, expected.len());
            assert_eq!(peer.error, None, "room {room}");
        }
        assert!(peer.received == expected);
        let counters = &world.b.ciphers.counters;
        assert_eq!(counters.value(Counter::RxRekeyOk), 20);
        assert_eq!(counters.value(Counter::TxRekeyOk), 20);
        assert_eq!(world.b.ciphers.in_flight(), 0);
    }
}

/// Our own key change with both keys' records away: a third key waits until the first has drained.
#[test]
fn keys_change_while_records_of_both_are_away() {
    let (mut world, mut peer, b) = connect(64, 0);
    let update = |world: &mut World| {
        let host = &mut world.b;
        host.stack
            .update_keys(b, false, &mut host.ciphers, &mut host.pages)
    };
    let first = &stretch(1, 0, 20_000)[..];
    assert_eq!(world.b.send(b, first), 20_000);
    world.b.turn(world.now);
    update(&mut world).unwrap();
    let second = world.b.send(b, &[2; 500]) as usize;
    assert_eq!(second, 500);
    let busy = update(&mut world).unwrap_err();
    assert_eq!(busy.errno(), Errno::Ebusy);
    let expected = [first, &[2; 500], b"third"].concat();
    read_peer(&mut world, &mut peer, first.len() + 500);
    update(&mut world).unwrap();
    world.b.send(b, b"third");
    read_peer(&mut world, &mut peer, expected.len());
    assert!(peer.error.is_none() && peer.received == expected);
}

/// close_notify behind data whose record is away: the data first, then the clean end. TLS 1.2, too.
#[test]
fn an_end_comes_behind_the_records_that_are_away() {
    for suite in [0, 3] {
        let (mut world, mut peer, b) = connect(8, suite);
        peer.write(&[1; 5000]);
        peer.write(&[2; 5000]);
        peer.tls.send_close_notify();
        arrive(&mut world, &mut peer);
        world.a.stack.shutdown(peer.socket);
        world.deliver();
        assert!(matches!(recv(&mut world, b), Ok(Recv::Nothing)));
        assert!(world.b.stack.awaits_record(b));
        let (mut bytes, mut end) = (Vec::new(), None);
        assert!(world.run_until(Duration::from_secs(1), |world| {
            let (more, ended) = world.b.drain(b);
            bytes.extend(more);
            end = end.or(ended);
            end.is_some()
        }));
        assert_eq!((bytes, end), ([[1; 5000], [2; 5000]].concat(), Some(true)));
    }
}

/// A record that isn't authentic, while B's own records are away: the alert comes behind them,
/// under the number that follows theirs, and the client reads both.
#[test]
fn an_alert_comes_behind_the_records_that_are_away() {
    for room in [1, 4, 64] {
        let (mut world, mut peer, b) = connect(room, 0);
        let bytes = stretch(3, 0, 200_000);
        let sent = world.b.send(b, &bytes) as usize;
        world.b.turn(world.now);
        assert!(world.b.ciphers.in_flight() > 0);
        peer.write(b"changed on the way");
        let mut wire = peer.outgoing();
        *wire.last_mut().unwrap() ^= 1;
        assert_eq!(world.a.send(peer.socket, &wire) as usize, wire.len());
        world.deliver();
        let mut failed = None;
        assert!(world.run_until(Duration::from_secs(1), |world| {
            failed = recv(world, b).err();
            failed.is_some()
        }));
        assert_eq!(failed, Some(RecvError::Tls(RxError::BadRecord)));
        for _ in 0..200 {
            peer.read(&mut world);
        }
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
        assert_eq!(peer.error, Some(alert), "room {room}");
        world.a.stack.shutdown(peer.socket);
        // What was sealed, or away, was sent: nothing but whole records, in order.
        assert!(peer.received.len() <= sent && bytes.starts_with(&peer.received));
        assert_eq!(world.b.ciphers.in_flight(), 0);
        let reason = world.expect(1, "Closed", |n| match n {
            Notice::Closed(socket, reason) if *socket == b => Some(*reason),
            _ => None,
        });
        assert_eq!(reason, CloseReason::Tls(RxError::BadRecord));
    }
}

/// A fatal alert of the client while B's records are away ends the connection, and no memory stays.
#[test]
fn a_fatal_alert_ends_a_connection_whose_records_are_away() {
    for reads in [false, true] {
        let spec = HostSpec {
            away: Some(64),
            ..HostSpec::new(1)
        };
        let mut world = World::new(spec, away(64), Link::perfect());
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let (a, b) = world.tls_pair(pki::client(&TlsOptions::default()));
        world.run(Duration::from_millis(10));
        world.b.send(b, &stretch(4, 0, 200_000));
        world.b.turn(world.now);
        let host = &mut world.a;
        let alert = [2, AlertDescription::INTERNAL_ERROR.0];
        let sent = host
            .stack
            .send_record(a, ContentType::ALERT, &alert, &mut host.pages);
        assert_eq!(sent, Ok(true));
        if reads {
            world.a.send(a, b"behind the alert");
        }
        let mut failed = None;
        assert!(world.run_until(Duration::from_secs(1), |world| {
            failed = recv(world, b).err();
            failed.is_some()
        }));
        let expected = RxError::PeerAlert(AlertDescription::INTERNAL_ERROR);
        assert_eq!(failed, Some(RecvError::Tls(expected)));
        world.a.stack.abort(a);
        world.run(Duration::from_secs(100));
        assert_eq!(world.b.ciphers.in_flight(), 0);
        assert_eq!(world.b.ciphers.counters.value(Counter::Active), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// A client whose window is closed gets what fits, and B holds a few records for it. The rest comes
/// when the window opens, also behind a key change that was asked for meanwhile.
#[test]
fn a_closed_window_with_records_away() {
    let mut a = HostSpec::new(1);
    a.config.limits.recv_buffer_bytes = 40_000;
    let mut world = World::new(a, away(64), Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let (mut peer, b) = another(&mut world, 0);
    let bytes = stretch(5, 0, 400_000);
    let mut sent = 0;
    for _ in 0..100 {
        sent += world.b.send(b, &bytes[sent..]) as usize;
        world.run(Duration::from_millis(1));
    }
    assert_eq!(
        world.b.ciphers.in_flight(),
        0,
        "nothing is submitted in vain"
    );
    assert!((40_000..120_000).contains(&sent), "{sent} bytes");
    let held = world.b.pages.usage().large_spans_used;
    assert!(held <= 6, "{held} spans");
    // Probes change nothing.
    world.run(Duration::from_secs(30));
    assert_eq!(world.b.pages.usage().large_spans_used, held);

    peer.tls.refresh_traffic_keys().unwrap();
    peer.write(b"GET");
    let update = peer.outgoing();
    assert_eq!(world.a.send(peer.socket, &update) as usize, update.len());
    assert_eq!(read(&mut world, b, 3), b"GET");
    for _ in 0..2000 {
        sent += world.b.send(b, &bytes[sent..]) as usize;
        peer.read(&mut world);
        if peer.received.len() == bytes.len() {
            break;
        }
    }
    assert!(peer.error.is_none() && peer.received == bytes);
    assert_eq!(world.b.ciphers.counters.value(Counter::TxRekeyOk), 1);
}

/// The stream ends inside a record, while the one before is away: that one is read first. Keys of
/// the handshake: an end without close_notify. Keys of the application: EMSGSIZE, then the end.
#[test]
fn a_truncated_end_comes_behind_the_record_that_is_away() {
    let (mut world, mut peer, b) = connect(8, 0);
    peer.write(&[1; 5000]);
    peer.write(&[2; 5000]);
    let mut wire = peer.outgoing();
    wire.truncate(wire.len() - 100);
    assert_eq!(world.a.send(peer.socket, &wire) as usize, wire.len());
    world.deliver();
    world.a.stack.shutdown(peer.socket);
    world.deliver();
    assert!(matches!(recv(&mut world, b), Ok(Recv::Nothing)));
    assert!(world.b.stack.awaits_record(b));
    let (mut bytes, mut end) = (Vec::new(), None);
    assert!(world.run_until(Duration::from_secs(1), |world| {
        let (more, ended) = world.b.drain(b);
        bytes.extend(more);
        end = end.or(ended);
        end.is_some()
    }));
    assert_eq!((bytes, end), (vec![1; 5000], Some(false)));
    assert_eq!(world.b.ciphers.counters.value(Counter::RxTruncated), 1);

    let mut pair = RawPair::with(away(8));
    let mut keys = TestKeys::new(GCM_128_12, &mut pair.random);
    pair.set_rx(&keys).unwrap();
    let whole = keys.seal(DATA, &[1; 3000]);
    let half = keys.seal(DATA, &[2; 3000]);
    pair.feed(&[whole, half[..1000].to_vec()].concat());
    pair.finish();
    let mut got = Vec::new();
    while !matches!(got.last(), Some(Got::End(_))) {
        match pair.recv() {
            Got::Nothing => pair.run(),
            next => got.push(next),
        }
    }
    let expected = [
        Got::Record(DATA, vec![1; 3000]),
        Got::Error(Errno::Emsgsize),
        Got::End(false),
    ];
    assert_eq!(got, expected);
}

/// Receiving keys that are replaced while a record is away: that record is read first, under its
/// own key, then those of the new key. Nothing is refused and nothing stays stuck.
#[test]
fn keys_are_replaced_while_a_record_is_away() {
    for is_back in [false, true] {
        let mut pair = RawPair::with(away(8));
        let mut old = TestKeys::new(GCM_128_13, &mut pair.random);
        let mut new = TestKeys::new(GCM_128_13, &mut pair.random);
        pair.set_rx(&old).unwrap();
        let wire = old.seal(DATA, b"old key");
        pair.feed(&wire);
        assert_eq!(pair.try_recv(), Got::Nothing);
        assert!(pair.world.b.stack.awaits_record(pair.app));
        if is_back {
            pair.run();
            assert_eq!(pair.world.b.ciphers.in_flight(), 0);
            assert!(pair.world.b.stack.awaits_record(pair.app));
        }
        pair.set_rx(&new).unwrap();
        let wire = [
            new.seal(DATA, b"new key"),
            new.seal(HANDSHAKE, &[24, 0, 0, 1, 0]),
        ];
        pair.feed(&wire.concat());
        let mut got = Vec::new();
        for _ in 0..20 {
            match pair.recv() {
                Got::Nothing => pair.run(),
                next => got.push(next),
            }
        }
        let expected = [
            Got::Record(DATA, b"old key".to_vec()),
            Got::Record(DATA, b"new key".to_vec()),
            Got::Record(HANDSHAKE, vec![24, 0, 0, 1, 0]),
        ];
        assert_eq!(got[..3], expected, "{is_back}");
        assert!(
            got[3..]
                .iter()
                .all(|got| *got == Got::Error(Errno::Ekeyexpired))
        );
        assert!(!pair.world.b.stack.awaits_record(pair.app));
    }
}

/// The threads give up what they have, in the middle of uploads and downloads: the worker seals and
/// opens the rest itself, and every byte arrives.
#[test]
fn records_that_are_given_up_are_done_by_the_worker() {
    let spec = |number| HostSpec {
        away: Some(64),
        buffers: 8192,
        ..HostSpec::new(number)
    };
    let mut world = World::new(spec(1), spec(2), Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let client = pki::client(&TlsOptions::default());
    let pairs: Vec<_> = (0..4).map(|_| world.tls_pair(client.clone())).collect();
    let bytes = stretch(6, 0, 300_000);
    let mut states: Vec<_> = pairs.iter().map(|_| ([0; 2], [vec![], vec![]])).collect();
    let mut advance = |world: &mut World, until: usize| {
        assert!(world.run_until(Duration::from_secs(100), |world| {
            for ((a, b), (sent, read)) in pairs.iter().zip(&mut states) {
                if sent[0] < bytes.len() {
                    sent[0] += world.a.send(*a, &bytes[sent[0]..]) as usize;
                }
                if sent[1] < bytes.len() {
                    sent[1] += world.b.send(*b, &bytes[sent[1]..]) as usize;
                }
                read[0].extend(world.b.drain(*b).0);
                read[1].extend(world.a.drain(*a).0);
            }
            let least = states.iter().flat_map(|(_, read)| read).map(Vec::len).min();
            least >= Some(until)
        }));
    };
    advance(&mut world, 20_000);
    assert!(world.a.ciphers.in_flight() + world.b.ciphers.in_flight() > 0);
    die();
    advance(&mut world, bytes.len());
    for (_, read) in &states {
        assert!(read[0] == bytes && read[1] == bytes);
    }
    let hosts = [&world.a, &world.b];
    let retries = hosts.map(|host| host.ciphers.counters.value(Counter::OcfRetries));
    assert!(retries.iter().sum::<u64>() > 0, "{retries:?}");
    for host in hosts {
        assert_eq!(host.ciphers.in_flight(), 0);
        assert_eq!(host.ciphers.counters.value(Counter::FailedCrypto), 0);
    }
    for (a, b) in pairs {
        world.a.stack.close(a);
        world.b.stack.close(b);
    }
    world.run(Duration::from_secs(200));
    world.a.assert_full();
    world.b.assert_full();
}

/// While the receive budget is exceeded, the connection that pins the most is reset, but not while
/// its record is away: the application couldn't read it yet. Another one is reset then.
#[test]
fn the_receive_budget_spares_records_that_are_away() {
    for is_read in [true, false] {
        let mut spec = away(8);
        spec.config.limits.recv_total_bytes = 20_000;
        let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let (mut peer, b) = another(&mut world, 0);
        let mut others: Vec<_> = (0..4).map(|_| another(&mut world, 0)).collect();
        for _ in 0..3 {
            peer.write(&[1; 3000]);
        }
        arrive(&mut world, &mut peer);
        if is_read {
            assert!(matches!(recv(&mut world, b), Ok(Recv::Nothing)));
            assert!(world.b.stack.awaits_record(b));
        }
        for (other, _) in &mut others {
            other.write(&[2; 4000]);
            arrive(&mut world, other);
        }
        let pinned = world.b.stack.received_bytes_pinned();
        assert!(pinned > 20_000, "{pinned}");
        // The budget is enforced in a turn. The record comes back meanwhile, and isn't read yet.
        world.run(Duration::from_millis(2500));
        let resets = world.b.stack.counters().receive_budget_resets;
        assert!(resets > 0, "{pinned}");
        let is_reset = world.notices_b.iter().any(|notice| match notice {
            Notice::Closed(socket, _) => *socket == b,
            _ => false,
        });
        assert_eq!(is_reset, !is_read);
        if is_read {
            assert_eq!(read(&mut world, b, 9000), [1; 9000]);
        }
    }
}

//! KeyUpdates of the peer: the answer comes before the next application data, and answers don't add
//! up.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lockgate_ktls::Counter;
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, Notice, SocketId};
use support::link::{Link, payload};
use support::peer::{Peer, config};
use support::{HostSpec, World, pki};

/// A rustls client of TLS 1.3 on host A, and the server's socket.
fn connect(world: &mut World) -> (Peer, SocketId) {
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    another(world)
}

/// One more client.
fn another(world: &mut World) -> (Peer, SocketId) {
    let (suite, versions) = pki::SUITES[0];
    let mut peer = Peer::connect(world, &config(suite, versions));
    peer.pump(world);
    let b = world.handshake_done(1);
    world.run(Duration::from_millis(5));
    (peer, b)
}

/// Sends KeyUpdate(update_requested) and a request in one segment. B reads both.
fn ask(world: &mut World, peer: &mut Peer, b: SocketId) {
    peer.tls.refresh_traffic_keys().unwrap();
    peer.write(b"GET");
    let bytes = peer.outgoing();
    peer.send_raw(world, &bytes);
    assert_eq!(world.b.drain(b), (b"GET".to_vec(), None));
}

/// The payload that B sends from now on; the link loses nothing.
fn watch(world: &mut World) -> Rc<RefCell<Vec<u8>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let stream = seen.clone();
    world.link.filter = Some(Box::new(move |from, frame| {
        if from == 1 {
            stream.borrow_mut().extend_from_slice(payload(frame));
        }
        false
    }));
    seen
}

/// Bytes of content of each record of TLS 1.3.
fn contents(mut stream: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    while let [23, 3, 3, high, low, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        found.push(length - 17);
        stream = &rest[length..];
    }
    assert!(stream.is_empty(), "whole records");
    found
}

fn answers(world: &World) -> u64 {
    world.b.ciphers.counters.value(Counter::TxRekeyOk)
}

/// The application answers in the same call that read the request, before the socket's turn.
#[test]
fn the_answer_precedes_the_response_in_the_same_flight() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    for _ in 0..3 {
        let seen = watch(&mut world);
        ask(&mut world, &mut peer, b);
        assert_eq!(world.b.send(b, &[7; 100]), 100, "nothing has to wait");
        peer.read(&mut world);
        assert_eq!(contents(&seen.borrow()), [KEY_UPDATE, 100]);
        assert_eq!(peer.error, None);
    }
    assert_eq!(peer.received, [7; 300]);
}

/// What the application has written to an open record wasn't sent: the KeyUpdate precedes it.
#[test]
fn the_answer_precedes_an_open_record() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    let seen = watch(&mut world);
    let host = &mut world.b;
    let taken = host.stack.send(b, b"head, ", true, &mut host.pages);
    assert_eq!(taken, Ok(6));
    ask(&mut world, &mut peer, b);
    assert_eq!(world.b.send(b, b"body"), 4);
    peer.read(&mut world);
    assert_eq!(contents(&seen.borrow()), [KEY_UPDATE, 10]);
    assert_eq!(
        (peer.received.as_slice(), &peer.error),
        (&b"head, body"[..], &None)
    );
}

/// Without memory for the KeyUpdate nothing is taken from the application, and closing waits, too.
#[test]
fn application_data_waits_while_the_answer_has_no_buffer() {
    for shut in [false, true] {
        let mut world = World::simple();
        let (mut peer, b) = connect(&mut world);
        let seen = watch(&mut world);
        let host = &mut world.b;
        let taken = host.stack.send(b, b"head", true, &mut host.pages);
        assert_eq!(taken, Ok(4));
        let mut held = world.b.hold_pages();
        ask(&mut world, &mut peer, b);
        // There is memory for a response now, but the KeyUpdate comes first.
        held.truncate(1);
        assert_eq!(world.b.stack.send_space(b), 0);
        assert_eq!(world.b.send(b, &[7; 100]), 0);
        if shut {
            world.b.stack.shutdown(b);
        } else {
            world.expect(1, "Writable", |n| {
                matches!(n, Notice::Writable(_)).then_some(())
            });
            assert_eq!(world.b.send(b, &[7; 100]), 100);
        }
        drop(held);
        peer.read(&mut world);
        assert_eq!(peer.error, None);
        let expected = if shut {
            vec![KEY_UPDATE, 4, 2]
        } else {
            vec![KEY_UPDATE, 104]
        };
        assert_eq!(contents(&seen.borrow()), expected);
        assert_eq!(peer.clean_end, shut);
    }
}

/// Closing with an open record waits for the KeyUpdate's buffer.
#[test]
fn closing_waits_for_the_answer_if_a_record_is_open() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    let seen = watch(&mut world);
    let host = &mut world.b;
    let taken = host.stack.send(b, b"head", true, &mut host.pages);
    assert_eq!(taken, Ok(4));
    let held = world.b.hold_pages();
    ask(&mut world, &mut peer, b);
    world.b.stack.shutdown(b);
    peer.read(&mut world);
    assert_eq!(contents(&seen.borrow()), []);
    drop(held);
    peer.read(&mut world);
    assert_eq!(contents(&seen.borrow()), [KEY_UPDATE, 4, 2]);
    assert!(peer.error.is_none() && peer.clean_end);
    assert_eq!(peer.received, b"head");
}

/// A peer acknowledges nothing and asks with every request: two keys live at most, the queue stays
/// short, and nothing is lost once it acknowledges again.
#[test]
fn answers_to_a_peer_that_acknowledges_nothing_are_bounded() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    world.lose_answers();
    // Much more than the congestion window: it stays unsealed.
    let old = world.b.send(b, &[1; 100_000]) as usize;
    assert!(old > 30_000, "{old}");
    world.run(Duration::from_micros(100));
    ask(&mut world, &mut peer, b);
    assert_eq!(answers(&world), 1);
    // Under the second key, behind the KeyUpdate.
    let new = world.b.send(b, &[2; 100]) as usize;

    let queued = world.b.stack.send_queued(b);
    let pinned = world.b.pages.usage();
    for _ in 0..100 {
        ask(&mut world, &mut peer, b);
        assert_eq!(world.b.send(b, &[3; 100]), 0, "a third key has to wait");
    }
    assert_eq!(answers(&world), 1);
    assert_eq!(world.b.stack.send_queued(b), queued);
    let after = world.b.pages.usage();
    assert_eq!(after.small_spans_used, pinned.small_spans_used);
    assert_eq!(after.large_spans_used, pinned.large_spans_used);

    world.link.filter = None;
    world.expect(1, "Writable", |n| {
        matches!(n, Notice::Writable(_)).then_some(())
    });
    assert_eq!(answers(&world), 2, "one answer to all of them");
    assert_eq!(world.b.send(b, &[3; 100]), 100);
    for _ in 0..100 {
        peer.read(&mut world);
    }
    assert_eq!(peer.error, None);
    let expected = [&vec![1; old][..], &vec![2; new], &[3; 100]].concat();
    assert!(peer.received == expected, "{} bytes", peer.received.len());
}

/// The same with short answers, which are sealed at once: what the peer may have in flight, and
/// then the two keys, are the limit. A client beside it is served.
#[test]
fn short_answers_with_key_updates_are_bounded() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    let (mut fair, fair_b) = another(&mut world);

    // Only the first one's answers are lost.
    let port = world.a.stack.local_addr(peer.socket).unwrap().port();
    world.link.filter = Some(Box::new(move |from, frame| {
        from == 1 && !payload(frame).is_empty() && frame[36..38] == port.to_be_bytes()
    }));
    let mut taken = 0;
    for _ in 0..300 {
        ask(&mut world, &mut peer, b);
        taken += world.b.send(b, &[5; 100]);
        fair.write(b"hello");
        let bytes = fair.outgoing();
        fair.send_raw(&mut world, &bytes);
        assert_eq!(world.b.drain(fair_b).0, b"hello");
        assert_eq!(world.b.send(fair_b, b"there"), 5);
        fair.read(&mut world);
        assert_eq!(std::mem::take(&mut fair.received), b"there");
    }
    // A congestion window of 14,600 bytes, in pairs of a KeyUpdate and a response.
    assert!((10..=120).contains(&answers(&world)), "{}", answers(&world));
    assert!(taken <= 12_000, "{taken}");

    world.link.filter = None;
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        peer.read(&mut world);
    }
    assert_eq!(peer.error, None);
    assert_eq!(peer.received.len(), taken as usize);
}

/// A peer that asks for new keys and acknowledges nothing: what waits for the answer is bounded,
/// and so is the time. TCP gives the peer up, and nothing of it stays.
#[test]
fn the_wait_for_an_answer_ends_with_a_peer_that_acknowledges_nothing() {
    let mut world = World::simple();
    let (mut peer, b) = connect(&mut world);
    let port = world.a.stack.local_addr(peer.socket).unwrap().port();
    let (mut fair, fair_b) = another(&mut world);
    world.link.filter = Some(Box::new(move |from, frame| {
        from == 1 && !payload(frame).is_empty() && frame[36..38] == port.to_be_bytes()
    }));
    let queued = world.b.send(b, &[1; 100_000]);
    assert!(queued > 30_000);
    world.run(Duration::from_micros(100));
    // The first answer is the last: its key has to seal what is queued.
    ask(&mut world, &mut peer, b);
    ask(&mut world, &mut peer, b);
    assert_eq!(answers(&world), 1);
    let pinned = world.b.stack.send_queued(b);
    let mut reason = None;
    let mut seconds = 0;
    while reason.is_none() {
        seconds += 10;
        assert!(seconds < 1000, "the connection is never given up");
        world.run(Duration::from_secs(10));
        assert!(world.b.stack.send_queued(b) <= pinned);
        fair.write(b"hello");
        let bytes = fair.outgoing();
        fair.send_raw(&mut world, &bytes);
        assert_eq!(world.b.drain(fair_b).0, b"hello");
        assert_eq!(world.b.send(fair_b, b"there"), 5);
        fair.read(&mut world);
        assert_eq!(std::mem::take(&mut fair.received), b"there");
        reason = world.notices_b.drain(..).find_map(|notice| match notice {
            Notice::Closed(socket, reason) if socket == b => Some(reason),
            _ => None,
        });
    }
    assert_eq!(reason, Some(CloseReason::TimedOut));
    assert_eq!(answers(&world), 1);
    world.a.stack.abort(peer.socket);
    world.a.stack.abort(fair.socket);
    world.b.stack.abort(fair_b);
    world.run(Duration::from_secs(100));
    world.b.assert_full();
}

/// Ten peers send as many KeyUpdates as the record layer allows, each with a request for an answer,
/// and acknowledge everything. A client beside them is served in its first turn, each turn opens a
/// bounded number of records, and each peer gets one answer for each of its data records at most.
#[test]
fn a_storm_of_key_updates_leaves_turns_to_others() {
    for away in [None, Some(16)] {
        let spec = HostSpec {
            away,
            buffers: 16_384,
            ..HostSpec::new(2)
        };
        let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let mut storm: Vec<_> = (0..10).map(|_| another(&mut world)).collect();
        let (mut fair, fair_b) = another(&mut world);
        for round in 0..20_u32 {
            for (peer, _) in &mut storm {
                for _ in 0..30 {
                    peer.tls.refresh_traffic_keys().unwrap();
                }
                peer.write(b"x");
                let bytes = peer.outgoing();
                assert_eq!(world.a.send(peer.socket, &bytes) as usize, bytes.len());
            }
            fair.write(b"hello");
            let bytes = fair.outgoing();
            assert_eq!(world.a.send(fair.socket, &bytes) as usize, bytes.len());
            world.deliver();
            let mut served = None;
            let mut data = 0;
            for turn in 0..100 {
                let before = opened(&world);
                for (_, b) in &storm {
                    data += world.b.drain(*b).0.len();
                }
                if world.b.drain(fair_b).0 == b"hello" {
                    served.get_or_insert(turn);
                    assert_eq!(world.b.send(fair_b, b"there"), 5);
                }
                assert!(opened(&world) - before <= 11 * 64);
                world.run(Duration::from_micros(10));
                if data == storm.len() && served.is_some() {
                    break;
                }
            }
            let bound = if away.is_some() { 20 } else { 1 };
            assert!(served.is_some_and(|turn| turn <= bound), "{served:?}");
            assert_eq!(data, storm.len(), "round {round}");
            fair.read(&mut world);
            assert_eq!(std::mem::take(&mut fair.received), b"there");
            for (peer, _) in &mut storm {
                peer.read(&mut world);
                assert_eq!(peer.error, None);
            }
        }
        let updates = world.b.ciphers.counters.value(Counter::RxRekeyOk);
        assert_eq!(updates, 10 * 20 * 30);
        assert!(answers(&world) <= 10 * 20 * 2, "{}", answers(&world));
        // One more than the record layer allows ends the connection.
        let (mut peer, b) = storm.pop().unwrap();
        for _ in 0..33 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        let bytes = peer.outgoing();
        peer.send_raw(&mut world, &bytes);
        world.run_until(Duration::from_secs(1), |world| {
            world.b.drain(b);
            world.b.ciphers.counters.value(Counter::RxFlood) > 0
        });
        assert_eq!(world.b.ciphers.counters.value(Counter::RxFlood), 1);
    }
}

/// Records that B has opened, on its own thread or elsewhere.
fn opened(world: &World) -> u64 {
    let counters = &world.b.ciphers.counters;
    counters.value(Counter::OcfTls13GcmDecrypts) + counters.value(Counter::OcfTls13Chacha20Decrypts)
}

/// Bytes of a KeyUpdate message.
const KEY_UPDATE: usize = 5;

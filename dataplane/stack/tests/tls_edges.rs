//! Where TLS meets TCP: handshakes that wait, alerts that must arrive, lengths of records.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lockgate_ktls::{
    Ciphers, ContentType, Counter, CryptoError, OpenJob, Params, RecordCipher, RxError, SealJob,
    SessionId, TxError, Version,
};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, Failure, Notice, SendError, SocketId};
use rustls::AlertDescription;
use support::link::{Link, payload};
use support::peer::{Peer, config};
use support::{HostSpec, World, pki};

fn world(spec: HostSpec) -> World {
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    world
}

fn peer(world: &mut World, n: usize) -> Peer {
    let (suite, versions) = pki::SUITES[n];
    Peer::connect(world, &config(suite, versions))
}

fn rustls_peer(world: &mut World, n: usize) -> (Peer, SocketId) {
    let mut peer = peer(world, n);
    peer.pump(world);
    let b = world.handshake_done(1);
    (peer, b)
}

/// Both ends on whole stacks, with one suite.
fn pair(world: &mut World, n: usize) -> (SocketId, SocketId) {
    let (suite, versions) = pki::SUITES[n];
    world.tls_pair(pki::client(&pki::only(suite, versions)))
}

fn closed(world: &mut World, of: usize) -> CloseReason {
    world.expect(of, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    })
}

/// What B sends from now on: its stream (the link loses nothing), and how many resets.
#[derive(Default)]
struct Seen {
    stream: Vec<u8>,
    resets: u32,
}

fn watch(world: &mut World) -> Rc<RefCell<Seen>> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let list = seen.clone();
    world.link.filter = Some(Box::new(move |from, frame| {
        if from == 1 && frame[12..14] == [8, 0] {
            let mut seen = list.borrow_mut();
            seen.resets += u32::from(frame[47] & 4 != 0);
            seen.stream.extend_from_slice(payload(frame));
        }
        false
    }));
    seen
}

/// Type and length of each record in a stream.
fn records(mut stream: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    while let [kind, 3, 3, high, low, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        found.push((*kind, length));
        stream = &rest[length..];
    }
    assert!(stream.is_empty(), "whole records");
    found
}

/// An aborted waiting handshake frees its place in the queue.
#[test]
fn an_aborted_waiting_handshake_frees_its_place() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.handshakes_max = 1;
    let mut world = world(spec);
    let mut peers: Vec<Peer> = (0..4).map(|_| peer(&mut world, 0)).collect();
    for peer in &mut peers {
        let hello = peer.outgoing();
        peer.send_raw(&mut world, &hello);
    }
    assert_eq!(world.b.stack.handshakes(), 1);
    // The second and third are aborted while they wait; a new connection reuses a slot.
    for gone in [1, 2] {
        world.a.stack.abort(peers[gone].socket);
        world.run(Duration::from_millis(1));
    }
    let mut late = peer(&mut world, 0);
    let hello = late.outgoing();
    late.send_raw(&mut world, &hello);
    // The first is aborted. The fourth starts before the later one.
    world.a.stack.abort(peers[0].socket);
    world.run(Duration::from_millis(1));
    assert_eq!(world.b.stack.handshakes(), 1);
    assert_eq!(world.a.drain(late.socket).0, b"", "it has to wait");
    peers[3].pump(&mut world);
    assert!(!peers[3].tls.is_handshaking());
    late.pump(&mut world);
    assert!(!late.tls.is_handshaking());
    assert_eq!(world.b.stack.handshakes(), 0);
}

/// New data on a handshake that waits doesn't move it, and doesn't stop it.
#[test]
fn a_waiting_handshake_keeps_its_place() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.handshakes_max = 1;
    let mut world = world(spec);
    let mut peers: Vec<Peer> = (0..3).map(|_| peer(&mut world, 0)).collect();
    for peer in &mut peers {
        let hello = peer.outgoing();
        peer.send_raw(&mut world, &hello);
    }
    // An alert behind the hello of the second; garbage behind the third's.
    peers[1].send_raw(&mut world, &[21, 3, 3, 0, 2, 2, 40]);
    peers[2].send_raw(&mut world, b"garbage");
    world.a.stack.abort(peers[0].socket);
    world.run(Duration::from_millis(5));
    // Both were admitted and failed by timeout or fault.
    assert_eq!(world.b.stack.counters().handshakes_failed, 2);
    world.run(Duration::from_secs(70));
    assert_eq!(
        (world.b.stack.connections(), world.b.stack.handshakes()),
        (0, 0)
    );
    world.b.assert_full();
}

/// RFC 5246, 7.2.2: "a warning alert" answers renegotiation, even if nothing else is to be sent.
#[test]
fn renegotiation_is_refused_on_an_idle_connection() {
    let mut world = world(HostSpec::new(2));
    let (a, b) = pair(&mut world, 3);
    world.run(Duration::from_millis(10));
    let seen = watch(&mut world);
    let hello = [&[1, 0, 0, 40][..], &[9; 40]].concat();
    let ask = |world: &mut World| {
        let host = &mut world.a;
        let kind = ContentType::HANDSHAKE;
        let sent = host.stack.send_record(a, kind, &hello, &mut host.pages);
        assert!(sent.unwrap());
        world.run(Duration::from_millis(2));
        assert_eq!(world.b.drain(b).1, None);
        world.run(Duration::from_millis(2));
    };
    ask(&mut world);
    let kinds: Vec<u8> = records(&seen.borrow().stream).iter().map(|r| r.0).collect();
    assert_eq!(kinds, [21]);
    assert_eq!(world.b.stack.counters().alerts_out, 1);
    // Behind our FIN there's no place for one.
    world.b.stack.shutdown(b);
    world.run(Duration::from_millis(2));
    ask(&mut world);
    assert_eq!(world.b.stack.counters().alerts_out, 1);
    world.a.stack.close(a);
    world.run(Duration::from_millis(2));
    assert_eq!(world.b.drain(b).1, Some(true));
    world.b.stack.close(b);
    assert_eq!(closed(&mut world, 1), CloseReason::Clean);
}

/// Sends answers of 272 bytes in two pieces until the stack refuses. Returns the bytes accepted.
fn answer_shortly(world: &mut World, b: SocketId) -> usize {
    let host = &mut world.b;
    let mut taken = 0;
    for n in 0..10_000 {
        let (more, len) = if n % 2 == 0 { (true, 262) } else { (false, 10) };
        let sent = host
            .stack
            .send(b, &[7; 262][..len], more, &mut host.pages)
            .unwrap() as usize;
        taken += sent;
        if sent < len {
            break;
        }
    }
    taken
}

/// Receives everything at A, in as many turns as that takes. Returns the number of bytes.
fn drain_in_turns(world: &mut World, a: SocketId) -> usize {
    let mut received = 0;
    loop {
        let (bytes, _) = world.a.drain(a);
        if bytes.is_empty() {
            return received;
        }
        received += bytes.len();
        world.run(Duration::from_millis(5));
    }
}

/// A record that's opened for more is as large as any: a peer that asks for many short answers and
/// takes none could have all of them.
#[test]
fn short_answers_pin_no_more_memory_than_long_ones() {
    let mut world = world(HostSpec::new(2));
    let (a, b) = pair(&mut world, 0);
    world.run(Duration::from_millis(5));
    let mut sent = answer_shortly(&mut world, b);
    let pinned = world.b.pages.usage().large_spans_used;
    // A fifth of the pool: a quarter of what it leaves free.
    assert!((45..=55).contains(&pinned), "{pinned}");
    let mut received = 0;
    for _ in 0..20 {
        world.expect(1, "Writable", |n| {
            matches!(n, Notice::Writable(_)).then_some(())
        });
        sent += answer_shortly(&mut world, b);
        world.run(Duration::from_millis(5));
        received += drain_in_turns(&mut world, a);
    }
    assert_eq!(received, sent);
    assert!(sent > 20 * 50 * 272, "{sent}");
    assert_eq!(world.b.stack.counters().starved, 0, "there was memory");
}

/// A peer that requests key updates without acknowledging gets one answer, and another later.
#[test]
fn requests_for_keys_are_answered_once_the_peer_takes_answers() {
    for full in [false, true] {
        let mut world = world(HostSpec::new(2));
        let (a, b) = pair(&mut world, 0);
        world.run(Duration::from_millis(5));
        world.lose_answers();
        let mut sent = if full {
            answer_shortly(&mut world, b)
        } else {
            0
        };
        let answers = |world: &World| world.b.ciphers.counters.value(Counter::TxRekeyOk);
        for _ in 0..50 {
            let host = &mut world.a;
            host.stack
                .update_keys(a, true, &mut host.ciphers, &mut host.pages)
                .unwrap();
            host.send(a, b"x");
            world.run(Duration::from_micros(200));
            assert_eq!(world.b.drain(b).0, b"x");
        }
        world.run(Duration::from_millis(1));
        assert_eq!(answers(&world), u64::from(!full));
        world.link.filter = None;
        world.run(Duration::from_secs(20));
        assert_eq!(answers(&world), if full { 1 } else { 2 });
        sent += world.b.send(b, b"under the new keys") as usize;
        world.run(Duration::from_millis(5));
        assert_eq!(drain_in_turns(&mut world, a), sent);
        world.run(Duration::from_millis(5));
        assert_eq!(answers(&world), if full { 1 } else { 2 });
    }
}

/// A peer that requests renegotiation without acknowledging gets one answer.
#[test]
fn renegotiation_is_refused_once_the_peer_takes_answers() {
    let mut world = world(HostSpec::new(2));
    let (a, b) = pair(&mut world, 3);
    world.run(Duration::from_millis(5));
    let hello = [&[1, 0, 0, 40][..], &[9; 40]].concat();
    let ask = |world: &mut World| {
        let host = &mut world.a;
        let kind = ContentType::HANDSHAKE;
        let asked = host.stack.send_record(a, kind, &hello, &mut host.pages);
        assert!(asked.unwrap());
        host.send(a, b"x");
        world.run(Duration::from_micros(200));
        assert_eq!(world.b.drain(b).0, b"x");
    };
    world.lose_answers();
    for _ in 0..50 {
        ask(&mut world);
    }
    assert_eq!(world.b.stack.counters().alerts_out, 1);
    world.link.filter = None;
    world.run(Duration::from_secs(5));
    ask(&mut world);
    assert_eq!(world.b.stack.counters().alerts_out, 2);
}

/// Its last flight waits for page buffers, and there are some when it's too late.
#[test]
fn a_handshake_that_timed_out_is_not_finished_later() {
    let mut world = world(HostSpec::new(2));
    let mut peer = peer(&mut world, 0);
    let hello = peer.outgoing();
    peer.send_raw(&mut world, &hello);
    peer.read(&mut world);
    let finished = peer.outgoing();
    let held = world.b.hold_pages();
    peer.send_raw(&mut world, &finished);
    assert!(world.b.stack.counters().starved > 0, "tickets wait");
    world.run(Duration::from_secs(11));
    assert_eq!(world.b.stack.counters().handshakes_failed_timeout, 1);
    drop(held);
    world.run(Duration::from_millis(10));
    assert_eq!(world.b.stack.counters().handshakes_tls13, 0);
    world.a.stack.close(peer.socket);
    let reason = CloseReason::Handshake(Failure::TimedOut);
    assert_eq!(closed(&mut world, 1), reason);
    world.run(Duration::from_secs(70));
    world.b.assert_full();
}

/// A reset would take the alert away from a peer that is busy sending.
#[test]
fn an_alert_arrives_in_the_middle_of_an_upload() {
    for n in [0, 3] {
        let mut world = world(HostSpec::new(2));
        let (mut peer, b) = rustls_peer(&mut world, n);
        let seen = watch(&mut world);
        peer.tls.set_buffer_limit(None);
        peer.write(&vec![7; 400_000]);
        let mut bytes = peer.outgoing();
        bytes[100_000] ^= 1;
        let mut sent = 0;
        for _ in 0..1000 {
            if sent < bytes.len() {
                sent += world.a.send(peer.socket, &bytes[sent..]) as usize;
            }
            world.run(Duration::from_micros(30));
            world.b.drain(b);
        }
        assert_eq!(sent, bytes.len());
        assert_eq!(seen.borrow().resets, 0);
        peer.read(&mut world);
        let alert = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(peer.error, Some(alert));
        world.a.stack.close(peer.socket);
        assert_eq!(closed(&mut world, 1), CloseReason::Tls(RxError::BadRecord));
        world.run(Duration::from_secs(70));
        world.b.assert_full();
    }
}

/// The same for one that was never understood.
#[test]
fn an_alert_arrives_when_garbage_comes_in_many_segments() {
    let mut world = world(HostSpec::new(2));
    let peer = peer(&mut world, 0);
    let seen = watch(&mut world);
    for _ in 0..50 {
        peer.send_raw(&mut world, &[b'G'; 700]);
    }
    world.run(Duration::from_millis(5));
    assert_eq!(seen.borrow().resets, 0);
    let answer = world.a.drain(peer.socket).0;
    assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "fatal");
    world.a.stack.close(peer.socket);
    let reason = closed(&mut world, 1);
    assert!(
        matches!(
            reason,
            CloseReason::Handshake(Failure::Malformed | Failure::Misbehaved)
        ),
        "{reason:?}"
    );
}

/// However it's given, and never longer on the wire than was configured.
#[test]
fn records_are_as_short_as_configured() {
    for (configured, limit) in [(1000, 1000), (1, 64), (16_384, 16_384), (u16::MAX, 16_384)] {
        for n in [0, 3] {
            let mut spec = HostSpec::new(2);
            spec.config.record_len_max = configured;
            spec.config.dynamic_records.small_records = 0;
            let mut world = world(spec);
            let (mut peer, b) = rustls_peer(&mut world, n);
            let overhead = if n == 0 { 17 } else { 24 };
            let seen = watch(&mut world);
            let mut left = 40_000;
            for _ in 0..20 {
                if left > 0 {
                    left -= world.b.send(b, &vec![3; left]) as usize;
                }
                peer.read(&mut world);
            }
            assert_eq!(peer.received, [3; 40_000]);
            let records = records(&seen.borrow().stream);
            let longest = records.iter().map(|r| r.1).max();
            assert_eq!(longest, Some(limit + overhead), "{configured}");
            world.b.stack.close(b);
            peer.read(&mut world);
            assert!(peer.clean_end);
        }
    }
}

/// A cipher that hides nothing, and fails if asked to.
struct Toy {
    fails: bool,
}

impl RecordCipher for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn priority(&self) -> u8 {
        1
    }

    fn supports(&self, _params: Params) -> bool {
        true
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        for job in run {
            if self.fails {
                return job.set_result(Err(CryptoError::Backend));
            }
            let is_tls13 = job.session().params().version == Version::Tls13;
            let parts = job.parts();
            if let Some(from) = parts.from {
                parts.body.copy_from_slice(from);
            }
            parts.tail.fill(0);
            if is_tls13 {
                parts.tail[0] = parts.record.kind;
            }
            job.set_result(Ok(()))?;
        }
        Ok(())
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        let len = job.parts().map(|parts| parts.body.len() - 16);
        job.set_result(len)
    }

    fn forget(&mut self, _id: SessionId) {}
}

/// A KeyUpdate that can't be sealed has used its number up: nothing can follow it.
#[test]
fn a_key_update_that_cannot_be_sealed_ends_the_connection() {
    for asked_by_peer in [false, true] {
        let mut world = world(HostSpec::new(2));
        world.a.ciphers = Ciphers::with_backends(vec![Box::new(Toy { fails: false })]);
        world.b.ciphers = Ciphers::with_backends(vec![Box::new(Toy { fails: true })]);
        let (a, b) = pair(&mut world, 0);
        world.run(Duration::from_millis(5));
        if asked_by_peer {
            let host = &mut world.a;
            host.stack
                .update_keys(a, true, &mut host.ciphers, &mut host.pages)
                .unwrap();
            world.run(Duration::from_millis(5));
            world.b.drain(b);
        } else {
            let host = &mut world.b;
            let failed = host
                .stack
                .update_keys(b, false, &mut host.ciphers, &mut host.pages);
            let error = SendError::Record(TxError::Crypto(CryptoError::Backend));
            assert_eq!(failed, Err(error));
        }
        assert_eq!(closed(&mut world, 1), CloseReason::Crypto);
        assert_eq!(world.b.stack.counters().end_crypto, 1);
        assert_eq!(closed(&mut world, 0), CloseReason::Reset);
    }
}

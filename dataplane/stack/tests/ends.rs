//! How connections end: each end has a stated result and a counter.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{
    CloseReason, ConnectConfig, ConnectError, ListenConfig, Notice, Recv, SocketId,
};
use support::link::Link;
use support::peer::{self, Peer};
use support::{HostSpec, World, pki};

/// A connected pair: A's socket, B's socket.
fn connected(world: &mut World, tls: Option<&TlsOptions>) -> (SocketId, SocketId) {
    let listen = ListenConfig {
        tls: tls.map(pki::server),
        ..ListenConfig::default()
    };
    let at = world.b_addr(443);
    world.b.stack.listen(at, listen).unwrap();
    connect(world, tls)
}

fn connect(world: &mut World, tls: Option<&TlsOptions>) -> (SocketId, SocketId) {
    let at = world.b_addr(443);
    let config = ConnectConfig {
        tls: tls.map(|tls| (pki::client(tls), pki::name())),
        ..ConnectConfig::default()
    };
    let a = world.a.stack.connect(world.now, at, config).unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    let done = |n: &Notice| matches!(n, Notice::HandshakeDone(..)).then_some(());
    if tls.is_some() {
        world.expect(0, "HandshakeDone", done);
        world.expect(1, "HandshakeDone", done);
    } else {
        world.expect(0, "Connected", |n| {
            matches!(n, Notice::Connected(_)).then_some(())
        });
    }
    (a, b)
}

fn closed(world: &mut World, of: usize) -> CloseReason {
    world.expect(of, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    })
}

fn modes() -> [Option<TlsOptions>; 2] {
    [None, Some(TlsOptions::default())]
}

#[test]
fn request_and_response_and_a_clean_end() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, b) = connected(&mut world, tls.as_ref());
        world.a.send(a, b"request");
        world.run(Duration::from_millis(10));
        assert_eq!(world.b.drain(b), (b"request".to_vec(), None));
        world.b.send(b, b"response");
        world.b.stack.close(b);
        world.run(Duration::from_millis(10));
        assert_eq!(world.a.drain(a), (b"response".to_vec(), Some(true)));
        world.a.stack.close(a);
        assert_eq!(closed(&mut world, 0), CloseReason::Clean);
        assert_eq!(closed(&mut world, 1), CloseReason::Clean);
        assert_eq!(world.a.stack.counters().end_clean, 1);
        assert_eq!(world.b.stack.counters().end_clean, 1);
        assert_eq!(world.b.stack.in_time_wait(), 1);
        world.run(Duration::from_secs(70));
        assert_eq!(world.b.stack.in_time_wait(), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// FIN without close_notify: reported as truncated.
#[test]
fn a_tls_stream_that_just_stops_is_truncated() {
    let config = peer::config(pki::SUITES[0].0, pki::SUITES[0].1);
    let mut world = World::simple();
    let (mut peer, b) = rustls_peer(&mut world, &config);
    peer.write(b"half a st");
    let bytes = peer.outgoing();
    peer.send_raw(&mut world, &bytes);
    world.a.stack.shutdown(peer.socket);
    world.run(Duration::from_millis(10));
    assert_eq!(world.b.drain(b), (b"half a st".to_vec(), Some(false)));
    let clean = world.expect(1, "PeerClosed", |n| match n {
        Notice::PeerClosed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(!clean);
    // The answer still arrives.
    world.b.send(b, b"still here");
    world.b.stack.close(b);
    peer.read(&mut world);
    assert_eq!(peer.received, b"still here");
    assert!(peer.clean_end);
    world.a.stack.close(peer.socket);
    assert_eq!(closed(&mut world, 1), CloseReason::Truncated);
    let counters = world.b.stack.counters();
    assert_eq!(
        (counters.peer_closed_truncated, counters.end_truncated),
        (1, 1)
    );
    assert_eq!((counters.peer_closed_clean, counters.end_clean), (0, 0));
    assert_eq!(counters.half_closed_sends, 1);
}

/// Cut inside a record: the same, and the record layer counts it.
#[test]
fn a_stream_cut_inside_a_record_is_truncated() {
    let config = peer::config(pki::SUITES[0].0, pki::SUITES[0].1);
    let mut world = World::simple();
    let (mut peer, b) = rustls_peer(&mut world, &config);
    peer.write(b"never read");
    let bytes = peer.outgoing();
    peer.send_raw(&mut world, &bytes[..bytes.len() - 3]);
    world.a.stack.shutdown(peer.socket);
    world.run(Duration::from_millis(10));
    assert_eq!(world.b.drain(b), (Vec::new(), Some(false)));
    world.b.stack.close(b);
    peer.read(&mut world);
    world.a.stack.close(peer.socket);
    assert_eq!(closed(&mut world, 1), CloseReason::Truncated);
    let truncated = world
        .b
        .ciphers
        .counters
        .value(lockgate_ktls::Counter::RxTruncated);
    assert_eq!(truncated, 1);
}

/// A client that has sent its FIN still gets the response.
#[test]
fn a_half_closed_client_gets_its_response() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, b) = connected(&mut world, tls.as_ref());
        world.a.send(a, b"request");
        world.a.stack.shutdown(a);
        world.run(Duration::from_millis(10));
        assert_eq!(world.b.drain(b), (b"request".to_vec(), Some(true)));
        let response = vec![7; 300_000];
        let mut sent = 0;
        let mut got = Vec::new();
        while got.len() < response.len() {
            if sent < response.len() {
                sent += world.b.send(b, &response[sent..]) as usize;
            }
            world.run(Duration::from_millis(1));
            got.extend(world.a.drain(a).0);
        }
        assert_eq!(got, response);
        world.b.stack.close(b);
        world.run(Duration::from_millis(10));
        assert_eq!(world.a.drain(a), (Vec::new(), Some(true)));
        world.a.stack.close(a);
        assert_eq!(closed(&mut world, 1), CloseReason::Clean);
        assert_eq!(closed(&mut world, 0), CloseReason::Clean);
        assert!(world.b.stack.counters().half_closed_sends > 0);
        assert_eq!(world.b.stack.counters().peer_closed_clean, 1);
        // The client closed first: TIME-WAIT is the client's.
        assert_eq!(world.a.stack.counters().time_wait, 1);
        assert_eq!(world.b.stack.counters().time_wait, 0);
    }
}

#[test]
fn a_reset_is_reported_and_counted_on_both_sides() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, b) = connected(&mut world, tls.as_ref());
        world.b.send(b, &[1; 5000]);
        world.a.stack.abort(a);
        assert_eq!(closed(&mut world, 0), CloseReason::Aborted);
        assert_eq!(closed(&mut world, 1), CloseReason::Reset);
        assert_eq!(world.a.stack.counters().end_aborted, 1);
        assert_eq!(world.b.stack.counters().end_reset, 1);
        assert_eq!(
            world.a.stack.in_time_wait() + world.b.stack.in_time_wait(),
            0
        );
        assert_eq!(world.b.stack.connections(), 0);
        assert!(
            world
                .b
                .stack
                .send(b, b"x", false, &mut world.b.pages)
                .is_err()
        );
        world.run(Duration::from_millis(10));
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// A client that closes its socket after its close_notify: its kernel answers ours by a reset. The
/// end is clean, unless more than our close_notify is lost.
#[test]
fn a_reset_after_both_close_notifies_is_clean() {
    for (suite, versions) in pki::SUITES {
        for (answer, reason) in [(None, CloseReason::Clean), (Some(b"!"), CloseReason::Reset)] {
            let mut world = World::simple();
            let (mut peer, b) = rustls_peer(&mut world, &peer::config(suite, versions));
            peer.tls.send_close_notify();
            let bytes = peer.outgoing();
            peer.send_raw(&mut world, &bytes);
            world.a.stack.close(peer.socket);
            world.run(Duration::from_millis(10));
            assert_eq!(world.b.drain(b), (Vec::new(), Some(true)));
            if let Some(answer) = answer {
                assert_eq!(world.b.send(b, answer), 1);
            }
            world.b.stack.close(b);
            assert_eq!(closed(&mut world, 1), reason, "{suite:?} {answer:?}");
            assert_eq!(closed(&mut world, 0), CloseReason::Aborted);
            let counters = world.b.stack.counters();
            assert_eq!(counters.close_notify_out, 1);
            assert_eq!(counters.end_clean + counters.end_reset, 1);
            world.b.assert_full();
        }
    }
}

#[test]
fn a_vanished_peer_times_out() {
    for tls in modes() {
        let mut world = World::simple();
        let (_, b) = connected(&mut world, tls.as_ref());
        world.link.faults.dead_from = Some(world.now);
        world.b.send(b, &[1; 5000]);
        let before = world.now;
        assert!(world.run_until(Duration::from_secs(400), |w| {
            w.notices_b.iter().any(|n| matches!(n, Notice::Closed(..)))
        }));
        assert_eq!(closed(&mut world, 1), CloseReason::TimedOut);
        let took = world.now.saturating_since(before);
        // TcpConfig's user timeout, and the last retransmission's wait.
        assert!((300..400).contains(&took.as_secs()), "{took:?}");
        assert_eq!(world.b.stack.counters().end_timed_out, 1);
        world.b.assert_full();
    }
}

/// The application has closed, and the peer answers every probe of its closed window: TCP alone
/// would wait for ever.
#[test]
fn a_peer_that_takes_nothing_of_what_is_left_is_reset() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, b) = connected(&mut world, tls.as_ref());
        // As much as A's window takes, and what may be queued ahead of a closed one.
        let mut sent = 0;
        for _ in 0..1000 {
            sent += world.b.send(b, &[1; 100_000]);
            world.run(Duration::from_millis(5));
        }
        assert!(sent > 300_000, "{sent} bytes are A's window and a record");
        world.b.stack.close(b);
        let before = world.now;
        world.run(Duration::from_secs(50));
        assert_eq!(world.b.stack.connections(), 1);
        // What is taken pays for its own time only. (With TLS a chunk is all that is left.)
        if tls.is_none() {
            let host = &mut world.a;
            let taken = host.stack.recv(a, &mut host.ciphers, &mut host.pages);
            assert!(matches!(taken, Ok(Recv::Data(_))), "{taken:?}");
        }
        assert!(world.run_until(Duration::from_secs(300), |world| {
            world.b.stack.connections() == 0
        }));
        let took = world.now.saturating_since(before);
        assert!((60..=75).contains(&took.as_secs()), "{took:?}");
        assert_eq!(closed(&mut world, 1), CloseReason::TimedOut);
        assert_eq!(closed(&mut world, 0), CloseReason::Reset);
        assert_eq!(world.b.stack.counters().end_timed_out, 1);
        world.b.assert_full();
    }
}

/// The peer takes a segment every 50 seconds of what a closed connection has left. That is progress
/// to TCP each time, and holds the connection for as long as the bytes pay for.
#[test]
fn a_peer_that_takes_little_of_what_is_left_is_reset() {
    let (mut world, a, _) = orphan(16 << 10, 40_000);
    let before = world.now;
    let mut taken = 0;
    while world.b.stack.connections() > 0 {
        assert!(taken < 10, "it is held for ever");
        take_one(&mut world, a);
        taken += 1;
        world.run(Duration::from_secs(50));
    }
    assert!(taken >= 2, "{taken}");
    let took = world.now.saturating_since(before);
    assert!(took <= Duration::from_secs(100), "{took:?}");
    assert_eq!(closed(&mut world, 1), CloseReason::TimedOut);
    world.run(Duration::from_secs(1));
    world.b.assert_full();
}

/// A reader a little above the least rate gets everything, however long it takes.
#[test]
fn a_slow_reader_gets_all_that_is_left() {
    let (mut world, a, left) = orphan(16 << 10, 60_000);
    let before = world.now;
    let mut received = 0;
    while received < left {
        received += take_one(&mut world, a);
        world.run(Duration::from_millis(2500));
    }
    let took = world.now.saturating_since(before);
    assert!(took > Duration::from_secs(75), "{took:?}");
    assert_eq!(world.a.drain(a), (Vec::new(), Some(true)));
    world.a.stack.close(a);
    assert_eq!(closed(&mut world, 1), CloseReason::Clean);
    world.run(Duration::from_secs(1));
    world.b.assert_full();
}

/// The window is open, and the peer acknowledges a byte every 40 seconds, as if it had lost the
/// others. TCP's own time-out would never come.
#[test]
fn a_peer_that_acknowledges_byte_by_byte_is_reset() {
    let mut world = World::simple();
    let (_, b) = connected(&mut world, None);
    let taken = Rc::new(Cell::new(0));
    let (more, mut first) = (Rc::clone(&taken), None);
    world.link.filter = Some(Box::new(move |from, frame| {
        if frame[12..14] != [8, 0] {
            return false;
        }
        if from == 1 {
            let seq = u32::from_be_bytes(frame[38..42].try_into().unwrap());
            first.get_or_insert(seq);
        } else if let Some(first) = first {
            set_ack(frame, first.wrapping_add(more.get()));
        }
        false
    }));
    world.b.send(b, &[1; 5000]);
    world.b.stack.close(b);
    let before = world.now;
    while world.b.stack.connections() > 0 {
        assert!(taken.get() < 30, "it is held for ever");
        world.run(Duration::from_secs(40));
        taken.set(taken.get() + 1);
    }
    let took = world.now.saturating_since(before).as_secs();
    // The user timeout, and the turn in which it is noticed.
    assert!((300..=360).contains(&took), "{took}");
    assert_eq!(closed(&mut world, 1), CloseReason::TimedOut);
    world.run(Duration::from_secs(1));
    world.b.assert_full();
}

/// Everything is acknowledged but the FIN, which a closed window keeps back for ever.
#[test]
fn a_peer_that_does_not_take_the_fin_is_reset() {
    let mut world = World::simple();
    let (_, b) = connected(&mut world, None);
    let is_closed = Rc::new(Cell::new(false));
    let (closing, mut acked) = (Rc::clone(&is_closed), 0);
    world.link.filter = Some(Box::new(move |from, frame| {
        if frame[12..14] == [8, 0] && from == 0 {
            if !closing.get() {
                acked = u32::from_be_bytes(frame[42..46].try_into().unwrap());
            }
            set_ack(frame, acked);
            set_word(frame, 48, 0);
        }
        false
    }));
    world.b.send(b, &[1; 1000]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.b.stack.send_queued(b), 0);
    assert_eq!(world.b.stack.tcp_info(b).unwrap().send_window, 0);
    is_closed.set(true);
    world.b.stack.close(b);
    let before = world.now;
    assert!(world.run_until(Duration::from_secs(300), |world| {
        world.b.stack.connections() == 0
    }));
    let took = world.now.saturating_since(before);
    assert!((60..=75).contains(&took.as_secs()), "{took:?}");
    assert_eq!(closed(&mut world, 1), CloseReason::TimedOut);
    world.run(Duration::from_secs(1));
    world.b.assert_full();
}

/// Replaces the acknowledgment number of an IPv4 frame.
fn set_ack(frame: &mut [u8], ack: u32) {
    for (n, word) in ack.to_be_bytes().chunks(2).enumerate() {
        set_word(frame, 42 + 2 * n, u16::from_be_bytes([word[0], word[1]]));
    }
}

/// Replaces a word of the TCP header of an IPv4 frame, and updates the checksum (RFC 1624).
fn set_word(frame: &mut [u8], at: usize, new: u16) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let sum = u32::from(!word(CHECKSUM_AT)) + u32::from(!word(at)) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
    let checksum = !u16::try_from(sum).unwrap();
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// B's application has sent this much at most to an A that reads nothing, and has closed. Returns
/// A's socket, and how much was sent.
fn orphan(recv_buffer_bytes: u32, bytes: usize) -> (World, SocketId, usize) {
    let mut a = HostSpec::new(1);
    a.config.limits.recv_buffer_bytes = recv_buffer_bytes;
    let mut world = World::new(a, HostSpec::new(2), Link::perfect());
    let (a, b) = connected(&mut world, None);
    let mut sent = 0;
    for _ in 0..100 {
        sent += world.b.send(b, &vec![1; bytes - sent]) as usize;
        world.run(Duration::from_millis(5));
    }
    world.b.stack.close(b);
    world.run(Duration::from_millis(5));
    assert!(sent > recv_buffer_bytes as usize, "{sent}");
    (world, a, sent)
}

/// A reads one segment. Returns its length.
fn take_one(world: &mut World, a: SocketId) -> usize {
    let host = &mut world.a;
    match host.stack.recv(a, &mut host.ciphers, &mut host.pages) {
        Ok(Recv::Data(chunk)) => chunk.pieces().map(<[u8]>::len).sum(),
        Ok(_) => 0,
        Err(error) => panic!("{error}"),
    }
}

/// An orphan without unacknowledged data waits for the peer's FIN.
#[test]
fn a_fully_acknowledged_orphan_is_kept() {
    let mut world = World::simple();
    let (a, b) = connected(&mut world, None);
    world.b.send(b, b"all");
    world.b.stack.shutdown(b);
    world.run(Duration::from_secs(200));
    assert_eq!(world.a.drain(a), (b"all".to_vec(), Some(true)));
    assert_eq!(
        world.b.stack.connections(),
        1,
        "not closed by its application"
    );
    world.a.stack.close(a);
    world.run(Duration::from_secs(1));
    world.b.stack.close(b);
    assert_eq!(closed(&mut world, 1), CloseReason::Clean);
    assert_eq!(closed(&mut world, 0), CloseReason::Clean);
}

#[test]
fn a_connection_without_a_peer_times_out_or_is_refused() {
    let mut world = World::simple();
    // No host has the address.
    let unused = "10.0.0.99:80".parse().unwrap();
    world
        .a
        .stack
        .connect(world.now, unused, ConnectConfig::default())
        .unwrap();
    assert!(world.run_until(Duration::from_secs(300), |w| {
        w.notices_a.iter().any(|n| matches!(n, Notice::Closed(..)))
    }));
    assert_eq!(closed(&mut world, 0), CloseReason::TimedOut);
    // No listener.
    let at = world.b_addr(81);
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    assert_eq!(closed(&mut world, 0), CloseReason::Refused);
    let counters = world.a.stack.counters();
    assert_eq!((counters.end_timed_out, counters.end_refused), (1, 1));
    assert_eq!(
        (
            world.b.stack.counters().no_connection,
            world.b.stack.counters().resets_out
        ),
        (1, 1)
    );
    // No way leads there.
    let far = "192.0.2.1:80".parse().unwrap();
    let refused = world
        .a
        .stack
        .connect(world.now, far, ConnectConfig::default());
    assert_eq!(refused, Err(ConnectError::NoRoute));
}

/// A worker that stops: what was not over is reset, and counted as drained.
#[test]
fn draining_ends_everything() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, _) = connected(&mut world, tls.as_ref());
        let (_, b2) = connect(&mut world, tls.as_ref());
        // One is in mid-response, one at rest.
        world.b.send(b2, &[3; 100_000]);
        world.b.stack.abort_all();
        world.run(Duration::from_millis(10));
        assert_eq!(world.b.stack.counters().end_drained, 2);
        assert_eq!(world.b.stack.connections(), 0);
        assert_eq!(world.a.stack.counters().end_reset, 2);
        let at = world.b_addr(443);
        world
            .a
            .stack
            .connect(world.now, at, ConnectConfig::default())
            .unwrap();
        world.run(Duration::from_millis(10));
        assert_eq!(
            world.a.stack.counters().end_refused,
            1,
            "the listener is closed"
        );
        assert!(world.a.stack.remote_addr(a).is_none());
        world.run(Duration::from_secs(1));
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// Both begin at once: one connection, SYN against SYN.
#[test]
fn a_simultaneous_open_makes_one_connection() {
    let mut world = World::simple();
    let (a, b) = (world.a.addr, world.b.addr);
    let from = |ip, port| ConnectConfig {
        local: Some(std::net::SocketAddr::new(ip, port)),
        ..ConnectConfig::default()
    };
    let at_b = std::net::SocketAddr::new(b, 2000);
    let at_a = std::net::SocketAddr::new(a, 1000);
    let a_socket = world
        .a
        .stack
        .connect(world.now, at_b, from(a, 1000))
        .unwrap();
    let b_socket = world
        .b
        .stack
        .connect(world.now, at_a, from(b, 2000))
        .unwrap();
    world.run(Duration::from_secs(3));
    world.a.send(a_socket, b"from a");
    world.b.send(b_socket, b"from b");
    world.run(Duration::from_millis(100));
    assert_eq!(world.a.drain(a_socket).0, b"from b");
    assert_eq!(world.b.drain(b_socket).0, b"from a");
    world.a.stack.close(a_socket);
    world.b.stack.close(b_socket);
    assert_eq!(closed(&mut world, 0), CloseReason::Clean);
    assert_eq!(closed(&mut world, 1), CloseReason::Clean);
    world.run(Duration::from_secs(70));
    world.a.assert_full();
    world.b.assert_full();
}

/// A server that closes first and a client that answers with close_notify end without a reset.
/// Without TLS, data after close: reset.
#[test]
fn data_after_close_is_reset() {
    let mut world = World::simple();
    let tls = TlsOptions::default();
    let (a, b) = connected(&mut world, Some(&tls));
    world.b.stack.close(b);
    world.run(Duration::from_millis(10));
    world.a.send(a, b"too late");
    world.run(Duration::from_millis(10));
    world.a.stack.close(a);
    assert_eq!(closed(&mut world, 0), CloseReason::Clean);
    assert_eq!(closed(&mut world, 1), CloseReason::Clean);

    let mut world = World::simple();
    let (a, b) = connected(&mut world, None);
    world.b.stack.close(b);
    world.run(Duration::from_millis(10));
    world.a.send(a, b"too late");
    assert_eq!(closed(&mut world, 0), CloseReason::Reset);
    // Nor is the end clean for the side that sent the reset.
    assert_eq!(closed(&mut world, 1), CloseReason::Aborted);
    let counters = world.b.stack.counters();
    assert_eq!((counters.end_aborted, counters.end_clean), (1, 0));
}

/// A peer that never closes times out.
#[test]
fn a_peer_that_never_closes_times_out() {
    for tls in modes() {
        let mut world = World::simple();
        let (_, b) = connected(&mut world, tls.as_ref());
        world.b.stack.close(b);
        assert!(world.run_until(Duration::from_secs(90), |w| w.b.stack.connections() == 0));
        world.b.assert_full();
    }
}

fn rustls_peer(
    world: &mut World,
    config: &std::sync::Arc<rustls::ClientConfig>,
) -> (Peer, SocketId) {
    let tls = Some(pki::server(&TlsOptions::default()));
    let at = world.b_addr(443);
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
    let mut peer = Peer::connect(world, config);
    peer.pump(world);
    let b = world.expect(1, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, _) => Some(*socket),
        _ => None,
    });
    (peer, b)
}

/// The checksum of TCP in an IPv4 frame.
const CHECKSUM_AT: usize = 50;

//! Records that are sealed and opened elsewhere than on the worker's thread.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_ktls::{Counter, CryptoError};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, Notice, Recv, SocketId};
use support::app::stretch;
use support::away::fail_next;
use support::link::Link;
use support::{HostSpec, World, pki};

/// Both hosts have their records sealed and opened elsewhere, by queues that take so many.
fn world(room: usize) -> World {
    let spec = |number| HostSpec {
        away: Some(room),
        // Downloads aren't read while another connection is opened.
        buffers: 16_384,
        ..HostSpec::new(number)
    };
    let mut world = World::new(spec(1), spec(2), Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    world
}

fn pair(world: &mut World) -> (SocketId, SocketId) {
    world.tls_pair(pki::client(&TlsOptions::default()))
}

/// Reads what A has received, once.
fn read_all(world: &mut World, socket: SocketId, bytes: &mut Vec<u8>) -> Option<bool> {
    let (more, end) = world.a.drain(socket);
    bytes.extend(more);
    end
}

/// A stream that B sends, and what A has of it.
struct Download {
    a: SocketId,
    b: SocketId,
    bytes: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    end: Option<bool>,
}

impl Download {
    fn begin(world: &mut World, seed: u64, len: u64) -> Self {
        let (a, b) = pair(world);
        Self {
            a,
            b,
            bytes: stretch(seed, 0, len),
            sent: 0,
            received: Vec::new(),
            end: None,
        }
    }

    /// Sends what the socket takes, and reads what came.
    fn advance(&mut self, world: &mut World) {
        if self.sent < self.bytes.len() {
            self.sent += world.b.send(self.b, &self.bytes[self.sent..]) as usize;
            if self.sent == self.bytes.len() {
                world.b.stack.close(self.b);
            }
        }
        let end = read_all(world, self.a, &mut self.received);
        self.end = self.end.or(end);
    }

    fn is_done(&self) -> bool {
        self.end.is_some()
    }

    fn assert_whole(&self) {
        assert_eq!(self.end, Some(true));
        assert!(self.received == self.bytes, "{} bytes", self.received.len());
    }
}

/// The stream ends behind its last record, which may be opened later than the FIN comes.
#[test]
fn streams_are_whole_and_end_behind_their_last_record() {
    for room in [1, 2, 8, 100] {
        let mut world = world(room);
        let mut downloads: Vec<_> = (0..4)
            .map(|seed| Download::begin(&mut world, seed, 300_000))
            .collect();
        assert!(world.run_until(Duration::from_secs(100), |world| {
            for download in &mut downloads {
                download.advance(world);
            }
            downloads.iter().all(Download::is_done)
        }));
        downloads.iter().for_each(Download::assert_whole);
        let sealed = world.b.ciphers.counters.value(Counter::OcfInplace);
        assert!(sealed >= 4 * 300_000 / 16_384, "counted by its worker");
        for download in downloads {
            world.a.stack.close(download.a);
        }
        world.run(Duration::from_secs(100));
        assert_eq!(world.b.ciphers.counters.value(Counter::Active), 0);
        assert_eq!(world.b.ciphers.in_flight(), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// Forty downloads fill queues that take four records. A client that comes then is served while
/// they last, and all of them end.
#[test]
fn downloads_that_fill_the_queues_keep_no_client_out() {
    let mut world = world(4);
    let mut downloads: Vec<_> = (0..40)
        .map(|seed| Download::begin(&mut world, seed, 2_000_000))
        .collect();
    for round in 0..2 {
        let mut fair = Download::begin(&mut world, 1000 + round, 2_000);
        assert!(world.run_until(Duration::from_secs(100), |world| {
            for download in &mut downloads {
                download.advance(world);
            }
            fair.advance(world);
            fair.is_done()
        }));
        fair.assert_whole();
        world.a.stack.close(fair.a);
        let done = downloads.iter().filter(|d| d.is_done()).count();
        assert!(done < downloads.len(), "round {round}");
    }
    let counters = world.b.stack.counters();
    assert!(counters.away_full > 0, "the worker sealed the rest");
    assert!(world.run_until(Duration::from_secs(1000), |world| {
        for download in &mut downloads {
            download.advance(world);
        }
        downloads.iter().all(Download::is_done)
    }));
    downloads.iter().for_each(Download::assert_whole);
}

/// Sockets that are gone leave records that come back later. Nothing is lost, and a socket that has
/// the place of one gets none of them.
#[test]
fn connections_end_while_their_records_are_away() {
    let mut world = world(64);
    for round in 0..40 {
        let (a, b) = pair(&mut world);
        let bytes = stretch(round, 0, 100_000);
        world.b.send(b, &bytes);
        world.a.send(a, &bytes);
        // Part of the work is under way.
        world.a.turn(world.now);
        world.b.turn(world.now);
        if round % 2 == 0 {
            world.b.stack.abort(b);
        } else {
            world.a.stack.abort(a);
        }
        world.b.turn(world.now);
        world.a.turn(world.now);
    }
    world.a.stack.abort_all();
    world.b.stack.abort_all();
    world.run(Duration::from_secs(100));
    assert_eq!(
        (world.a.ciphers.in_flight(), world.b.ciphers.in_flight()),
        (0, 0)
    );
    for host in [&mut world.a, &mut world.b] {
        assert_eq!(host.stack.connections(), 0);
        assert_eq!(host.ciphers.counters.value(Counter::Active), 0);
        host.assert_full();
    }
}

/// A cipher that fails ends its connection, and no other.
#[test]
fn a_cipher_that_fails_elsewhere_ends_its_connection_only() {
    let mut world = world(8);
    let mut other = Download::begin(&mut world, 1, 100_000);
    let mut failing = Download::begin(&mut world, 2, 100_000);
    fail_next(CryptoError::Backend);
    failing.advance(&mut world);
    let reason = world.expect(1, "Closed", |n| match n {
        Notice::Closed(socket, reason) if *socket == failing.b => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::Crypto);
    assert!(world.run_until(Duration::from_secs(100), |world| {
        other.advance(world);
        other.is_done()
    }));
    other.assert_whole();
    assert_eq!(world.b.ciphers.counters.value(Counter::FailedCrypto), 1);
}

/// A record with a wrong tag is found elsewhere, and ends the connection by an alert.
#[test]
fn a_wrong_tag_that_is_found_elsewhere_is_an_alert() {
    let mut world = world(8);
    let (a, b) = pair(&mut world);
    let before = world.a.send(a, b"before");
    assert_eq!(before, 6);
    world.run(Duration::from_millis(10));
    assert_eq!(world.b.drain(b).0, b"");
    world.run(Duration::from_millis(10));
    assert_eq!(world.b.drain(b).0, b"before");
    world.a.send(a, b"changed on the way");
    world.run(Duration::from_millis(10));
    fail_next(CryptoError::BadTag);
    let first = world
        .b
        .stack
        .recv(b, &mut world.b.ciphers, &mut world.b.pages);
    assert!(matches!(first, Ok(Recv::Nothing)), "it is opened elsewhere");
    world.run(Duration::from_millis(10));
    let second = world
        .b
        .stack
        .recv(b, &mut world.b.ciphers, &mut world.b.pages);
    assert!(second.is_err());
    world.run(Duration::from_secs(100));
    assert_eq!(world.b.ciphers.counters.value(Counter::RxBadRecord), 1);
}

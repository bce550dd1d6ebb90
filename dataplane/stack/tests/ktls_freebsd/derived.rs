//! Cases that `ktls_test.c` doesn't have, but that FreeBSD's code and its commits state.

use std::sync::Arc;
use std::time::Duration;

use lockgate_ktls::{Counter, Errno};
use lockgate_stack::{CloseReason, Notice};

use crate::support::HostSpec;
use crate::support::file::{File, SPAN};
use crate::support::raw::{Got, RawPair};
use crate::support::records::{DATA, TestKeys, TestSuite};
use crate::{ALL, Case, RECEIVED, Setup, TLS13, case, data, pair, receiving, transmitting};

pub(crate) const DERIVED: &[Case] = &[
    case(
        "derived_<suite>_enable_twice",
        ALL,
        "EALREADY before TLS 1.3, where keys can be changed",
        enable_twice,
    ),
    case(
        "derived_<suite>_switched_off",
        ALL,
        "ENOTSUP with `enable` off, and for CBC with `cbc_enable` off",
        switched_off,
    ),
    case(
        "derived_<suite>_two_writers",
        ALL,
        "writes of two applications by turns: numbers in order, nothing mixed",
        two_writers,
    ),
    case(
        "derived_<suite>_sendfile_slow",
        ALL,
        "pieces of a file that come into memory in any order are sent in order",
        sendfile_slow,
    ),
    case(
        "derived_<suite>_sendfile_error",
        ALL,
        "a piece that can't be read: EIO, a reset, no leak",
        sendfile_error,
    ),
    case(
        "derived_<suite>_close_in_flight",
        RECEIVED,
        "closed and reset with records at KTLS workers, both directions: `active` is 0, no leak",
        close_in_flight,
    ),
    case(
        "derived_<suite>_all_zero",
        TLS13,
        "an authentic record of zeroes alone: EBADMSG; the next record is readable",
        all_zero,
    ),
];

fn enable_twice(with: Setup, suite: TestSuite) {
    let (mut pair, first) = transmitting(with, suite);
    let second = TestKeys::new(suite, &mut pair.random);
    let expected = if suite.is_tls13() {
        Ok(())
    } else {
        Err(Errno::Ealready)
    };
    let again = pair.set_tx(&second).map_err(|error| error.errno());
    assert_eq!(again, expected);
    pair.send(b"sealed", false);
    let wire = pair.wire();
    let mut keys = if suite.is_tls13() { second } else { first };
    assert_eq!(keys.open_all(&wire), [(DATA, b"sealed".to_vec())]);
    if suite.minor > 1 {
        let first = TestKeys::new(suite, &mut pair.random);
        pair.set_rx(&first).unwrap();
        let second = TestKeys::new(suite, &mut pair.random);
        let again = pair.set_rx(&second).map_err(|error| error.errno());
        assert_eq!(again, expected);
    }
}

fn switched_off(with: Setup, suite: TestSuite) {
    for (ktls, cbc) in [(false, true), (true, false)] {
        let mut host = HostSpec {
            away: with.away,
            ..HostSpec::new(2)
        };
        (host.config.ktls, host.config.cbc) = (ktls, cbc);
        let mut pair = RawPair::with(host);
        let keys = TestKeys::new(suite, &mut pair.random);
        let set = [pair.set_tx(&keys), pair.set_rx(&keys)];
        if !ktls || suite.is_cbc() {
            let set = set.map(|set| set.map_err(|error| error.errno()));
            assert_eq!(set, [Err(Errno::Enotsup); 2]);
        } else {
            assert_eq!(set, [Ok(()); 2]);
        }
        let calls = if ktls { 2 } else { 0 };
        let counters = &pair.world.b.ciphers.counters;
        assert_eq!(counters.value(Counter::EnableCalls), calls);
    }
}

fn two_writers(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let mut expected = Vec::new();
    let mut wire = Vec::new();
    for round in 0..30 {
        let len = usize::try_from(pair.random.between(1, 3000)).unwrap();
        let piece = vec![u8::try_from(round % 2 + 1).unwrap(); len];
        pair.send(&piece, false);
        expected.push((DATA, piece));
        if round % 3 == 0 {
            wire.extend_from_slice(&pair.wire());
        }
    }
    wire.extend_from_slice(&pair.wire());
    // A record that opens has the number that follows that of the record before.
    assert!(keys.open_all(&wire) == expected);
}

fn sendfile_slow(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let content = pair.random.bytes(5 * SPAN - 1000);
    let file = File::new(&content);
    let mut missing: Vec<_> = file
        .spans
        .lock()
        .unwrap()
        .iter_mut()
        .map(Option::take)
        .collect();
    let host = &mut pair.world.b;
    let len = content.len() as u64;
    let started = host
        .stack
        .sendfile(pair.app, file.clone(), 0..len, false, &mut host.pages);
    assert_eq!(started, Ok(true));
    let mut wire = Vec::new();
    for (at, sent) in [
        (3, 0),
        (1, 0),
        (0, 2 * SPAN),
        (4, 2 * SPAN),
        (2, content.len()),
    ] {
        file.spans.lock().unwrap()[at] = missing[at].take();
        pair.world.b.stack.resume_sendfile(pair.app);
        for _ in 0..20 {
            wire.extend_from_slice(&pair.wire());
        }
        let records = keys.clone().open_all(&wire);
        let bytes: Vec<u8> = records.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert!(
            bytes == content[..sent],
            "{} instead of {sent}",
            bytes.len()
        );
    }
    assert_eq!(pair.world.b.ciphers.in_flight(), 0);
    keys.open_all(&wire);
    // What follows has the next number.
    pair.send(b"next", false);
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire), [(DATA, b"next".to_vec())]);
}

fn sendfile_error(with: Setup, suite: TestSuite) {
    let (mut pair, _) = transmitting(with, suite);
    let content = pair.random.bytes(3 * SPAN);
    let file = Arc::new(File::with(&content, Some(100_000)));
    let host = &mut pair.world.b;
    let started = host
        .stack
        .sendfile(pair.app, file.clone(), 0..200_000, false, &mut host.pages);
    assert_eq!(started, Ok(true));
    for _ in 0..20 {
        pair.wire();
    }
    let reason = pair.notices().into_iter().find_map(|notice| match notice {
        Notice::Closed(_, reason) => Some(reason),
        _ => None,
    });
    assert_eq!(reason, Some(CloseReason::File));
    assert_eq!(reason.and_then(CloseReason::errno), Some(Errno::Eio));
    end(pair);
    assert_eq!(Arc::strong_count(&file), 1);
}

fn close_in_flight(with: Setup, suite: TestSuite) {
    for resets in [false, true] {
        for turns in 0..3 {
            let (mut pair, tx) = pair(with, suite);
            let mut rx = TestKeys::new(suite, &mut pair.random);
            pair.set_tx(&tx).unwrap();
            pair.set_rx(&rx).unwrap();
            let records: Vec<u8> = (0..4).flat_map(|n| rx.seal(DATA, &[n; 9000])).collect();
            pair.feed(&records);
            let sent = pair.random.bytes(60_000);
            let host = &mut pair.world.b;
            let taken = host.stack.send(pair.app, &sent, false, &mut host.pages);
            assert!(taken.unwrap() > 16_384);
            // One received record and many sent ones are away, some of them ready.
            let got = host
                .stack
                .recv_record(pair.app, &mut host.ciphers, &mut host.pages);
            drop(got);
            for _ in 0..turns {
                host.turn(pair.world.now);
            }
            if resets {
                pair.world.b.stack.abort(pair.app);
            } else {
                pair.world.b.stack.close(pair.app);
            }
            end(pair);
        }
    }
}

/// Ends a connection: everything must be free then.
fn end(mut pair: RawPair) {
    pair.world.a.stack.close(pair.peer);
    pair.world.run(Duration::from_secs(300));
    assert_eq!(pair.world.b.ciphers.in_flight(), 0);
    assert_eq!(pair.world.b.ciphers.counters.value(Counter::Active), 0);
    assert_eq!(pair.world.b.stack.connections(), 0);
    pair.world.b.assert_full();
}

fn all_zero(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = receiving(with, suite);
    for len in [1, 2, 15, 16, 17, 255, 256, 257, 16_385] {
        let record = keys.seal_inner(DATA, &vec![0; len]);
        let next = keys.seal(DATA, b"next");
        pair.feed(&[record, next].concat());
        let expected = [Got::Error(Errno::Ebadmsg), data(b"next")];
        assert_eq!(pair.recv_all(), expected, "{len}");
    }
    let counters = &pair.world.b.ciphers.counters;
    assert_eq!(counters.value(Counter::RxNoContentType), 9);
}

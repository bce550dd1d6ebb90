//! Keys that an application brings: rules of setting them, of what is sent and received with them,
//! and the errors of `docs/ktls.md`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "ktls_sockets/error_table.rs"]
mod error_table;

use std::sync::Arc;
use std::time::Duration;

use lockgate_ktls::{
    CipherAlgorithm, Ciphers, Counter, CryptoError, EnableError, Errno, InvalidKeys, KeyInfo, Mode,
    OpenJob, Params, RecordCipher, RxError, SealJob, SessionId, Suite, TlsEnable, TxError, Version,
};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{
    CloseReason, ConnectConfig, ListenConfig, Notice, RecvRecord, SendError, SocketError, SocketId,
};
use lockgate_testing::Random;
use support::file::{File, SPAN};
use support::raw::{Got, RawPair};
use support::records::{
    AEAD_SUITES, ALERT, CBC_SUITES, CONTROL, DATA, GCM_128_12, GCM_128_13, GCM_256_13, HANDSHAKE,
    TestKeys, split_records,
};
use support::{HostSpec, World, pki};

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

fn counter(pair: &RawPair, counter: Counter) -> u64 {
    pair.world.b.ciphers.counters.value(counter)
}

fn data(bytes: &[u8]) -> Got {
    Got::Record(DATA, bytes.to_vec())
}

/// The reason of the application's Closed notice, if there was one.
fn closed(pair: &mut RawPair) -> Option<CloseReason> {
    let mut notices = pair.notices().into_iter();
    notices.find_map(|notice| match notice {
        Notice::Closed(socket, reason) if socket == pair.app => Some(reason),
        _ => None,
    })
}

// ---- setting keys

/// Both directions, each with its own keys and numbers.
#[test]
fn records_go_both_ways_with_the_keys_of_the_application() {
    for suite in AEAD_SUITES {
        let (mut pair, mut tx) = RawPair::sending(suite);
        let mut rx = TestKeys::new(suite, &mut pair.random);
        pair.set_rx(&rx).unwrap();
        pair.send(b"hello", false);
        let wire = pair.wire();
        assert_eq!(tx.open_all(&wire), [(DATA, b"hello".to_vec())]);
        let record = rx.seal(DATA, b"there");
        pair.feed(&record);
        assert_eq!(pair.recv(), data(b"there"), "{}", suite.name);
        assert_eq!(pair.recv(), Got::Nothing);
        let modes = (
            pair.world.b.stack.txtls_mode(pair.app),
            pair.world.b.stack.rxtls_mode(pair.app),
        );
        assert_eq!(modes, (Ok(Mode::Sw), Ok(Mode::Sw)));
        assert_eq!(counter(&pair, Counter::Active), 2);
        pair.world.b.stack.abort(pair.app);
        pair.run();
        assert_eq!(counter(&pair, Counter::Active), 0);
    }
}

/// Bytes that are queued before the keys precede the first record, sent or not.
#[test]
fn queued_bytes_stay_plain() {
    let mut pair = RawPair::new();
    let plain = pair.random.bytes(60_000);
    let host = &mut pair.world.b;
    let queued = host.stack.send(pair.app, &plain, false, &mut host.pages);
    let queued = queued.unwrap() as usize;
    assert!(queued > 20_000, "more than the first window: {queued}");
    pair.world.settle();
    let mut keys = TestKeys::new(GCM_128_13, &mut pair.random);
    pair.set_tx(&keys).unwrap();
    pair.send(b"sealed", false);
    let wire = pair.wire();
    let (before, records) = wire.split_at(queued);
    assert!(before == &plain[..queued]);
    assert_eq!(keys.open_all(records), [(DATA, b"sealed".to_vec())]);
}

/// Bytes that came before the keys are records, and so is what the application has read too much.
#[test]
fn bytes_from_before_the_keys_are_records() {
    for returned in [false, true] {
        let mut pair = RawPair::new();
        let mut keys = TestKeys::new(GCM_128_12, &mut pair.random);
        let enable = keys.clone();
        let mut wire = b"Finished".to_vec();
        for at in 0..5 {
            wire.extend_from_slice(&keys.seal(DATA, &[at; 4000]));
        }
        let half = wire.len() - 2000;
        pair.feed(&wire[..half]);
        let mut rest = wire.len() - half;
        if returned {
            let host = &mut pair.world.b;
            let recv = host
                .stack
                .recv(pair.app, &mut host.ciphers, &mut host.pages);
            let Ok(lockgate_stack::Recv::Data(mut chunk)) = recv else {
                panic!("{recv:?}");
            };
            chunk.advance(8);
            host.stack.unread(pair.app, chunk);
        } else {
            // The application of this case begins with the first record's bytes.
            pair = RawPair::new();
            pair.feed(&wire[8..half]);
            rest = wire.len() - half;
        }
        pair.set_rx(&enable).unwrap();
        assert!(matches!(pair.notices().last(), Some(Notice::Readable(s)) if *s == pair.app));
        for at in 0..4 {
            assert_eq!(pair.recv(), data(&[at; 4000]), "{returned}");
        }
        assert_eq!(pair.recv(), Got::Nothing);
        pair.feed(&wire[wire.len() - rest..]);
        assert_eq!(pair.recv(), data(&[4; 4000]));
    }
}

/// Segments in flight while the keys are set: lost ones are retransmitted as they were.
#[test]
fn keys_on_a_connection_with_data_in_flight() {
    let mut pair = RawPair::new();
    let mut lost = 0;
    pair.world.link.filter = Some(Box::new(move |from, frame| {
        let has_data = !support::link::payload(frame).is_empty();
        lost += u32::from(from == 1 && has_data);
        from == 1 && has_data && lost <= 3
    }));
    let plain = pair.random.bytes(5000);
    pair.send(&plain, false);
    pair.world.settle();
    let mut keys = TestKeys::new(GCM_256_13, &mut pair.random);
    pair.set_tx(&keys).unwrap();
    let secret = pair.random.bytes(5000);
    pair.send(&secret, false);
    pair.world.run(Duration::from_secs(5));
    let wire = pair.wire();
    assert!(wire[..5000] == plain);
    let records = keys.open_all(&wire[5000..]);
    assert!(records == [(DATA, secret)], "{} records", records.len());
}

/// ktls(4)'s order: parameters before the state of the connection.
#[test]
fn connections_that_are_not_established_take_no_keys() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let listener = world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
    let enable = keys.enable();
    let invalid = TlsEnable { flags: 1, ..enable };
    let bad = Err(SocketError::Enable(EnableError::Invalid(
        InvalidKeys::Flags,
    )));

    // `ktls_listening_socket`. A connection can't become a listener.
    let b = &mut world.b;
    let tx = b.stack.set_txtls(listener, &enable, &mut b.ciphers);
    let rx = b.stack.set_rxtls(listener, &enable, &mut b.ciphers);
    assert_eq!(
        (tx, rx),
        (Err(SocketError::NotConnected), Err(SocketError::Listening))
    );
    let errnos = [tx, rx].map(|refused| refused.unwrap_err().errno());
    assert_eq!(errnos, [Errno::Enotconn, Errno::Einval]);
    assert_eq!(b.stack.set_txtls(listener, &invalid, &mut b.ciphers), bad);
    assert_eq!(b.stack.set_rxtls(listener, &invalid, &mut b.ciphers), bad);

    let a = &mut world.a;
    let opening = a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    let tx = a.stack.set_txtls(opening, &enable, &mut a.ciphers);
    let rx = a.stack.set_rxtls(opening, &enable, &mut a.ciphers);
    assert_eq!(
        (tx, rx),
        (
            Err(SocketError::NotConnected),
            Err(SocketError::NotConnected)
        )
    );
    assert_eq!(a.stack.set_txtls(opening, &invalid, &mut a.ciphers), bad);

    let mut pair = RawPair::new();
    pair.world.b.stack.shutdown(pair.app);
    assert_eq!(pair.set_tx(&keys), Err(SocketError::Closed));
    assert_eq!(pair.set_rx(&keys), Ok(()), "the peer still sends");
    pair.world.b.stack.close(pair.app);
    assert_eq!(pair.set_rx(&keys), Err(SocketError::NotConnected));
    pair.finish();
    pair.world.run(Duration::from_secs(120));
    assert_eq!(pair.set_tx(&keys), Err(SocketError::NoSocket));
    assert_eq!(SocketError::NoSocket.errno(), Errno::Ebadf);
}

/// The stack's own TLS sockets change their keys themselves.
#[test]
fn keys_of_the_stacks_own_handshake_stay() {
    let mut world = World::simple();
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
    let a = world.connect(Some(pki::client(&TlsOptions::default())));
    let early = world
        .a
        .stack
        .set_txtls(a, &keys.enable(), &mut world.a.ciphers);
    assert_eq!(early, Err(SocketError::NotReady));
    let (_, b) = (world.handshake_done(0), world.handshake_done(1));
    let host = &mut world.b;
    let tx = host.stack.set_txtls(b, &keys.enable(), &mut host.ciphers);
    let rx = host.stack.set_rxtls(b, &keys.enable(), &mut host.ciphers);
    let refused = Err(SocketError::Enable(EnableError::AlreadyEnabled));
    assert_eq!((tx, rx), (refused, refused));
    assert!(host.stack.txtls_info(b).is_ok() && host.stack.set_rx_expect_no_pad(b, true).is_err());
}

// ---- setting keys again

#[test]
fn tls12_takes_keys_once_and_tls13_changes_them() {
    for suite in AEAD_SUITES {
        let mut pair = RawPair::new();
        let first = TestKeys::new(suite, &mut pair.random);
        pair.set_tx(&first).unwrap();
        pair.set_rx(&first).unwrap();
        let second = TestKeys::new(suite, &mut pair.random);
        let both = (pair.set_tx(&second), pair.set_rx(&second));
        let refused = Err(SocketError::Enable(EnableError::AlreadyEnabled));
        let (expected, ok, error) = if suite.is_tls13() {
            (Ok(()), 1, 0)
        } else {
            (refused, 0, 1)
        };
        assert_eq!(both, (expected, expected), "{}", suite.name);
        assert_eq!(counter(&pair, Counter::TxRekeyOk), ok);
        assert_eq!(counter(&pair, Counter::RxRekeyOk), ok);
        assert_eq!(counter(&pair, Counter::TxRekeyError), error);
        assert_eq!(counter(&pair, Counter::RxRekeyError), error);
        assert_eq!(counter(&pair, Counter::EnableCalls), 4);
        assert_eq!(counter(&pair, Counter::Active), 2);
    }
}

/// After a key change, records that were written before it keep the old key: records that aren't
/// sealed yet, and the open record, too.
#[test]
fn records_keep_their_keys() {
    let (mut pair, mut old) = RawPair::sending(GCM_128_13);
    // Much more than the first window: it stays unsealed.
    let bulk = pair.random.bytes(20_000);
    let host = &mut pair.world.b;
    let taken = host.stack.send(pair.app, &bulk, false, &mut host.pages);
    let taken = taken.unwrap() as usize;
    assert_eq!(taken, 20_000);
    pair.world.settle();
    pair.send_record(HANDSHAKE, &KEY_UPDATE).unwrap();
    let host = &mut pair.world.b;
    let open = host.stack.send(pair.app, b"open", true, &mut host.pages);
    let mut new = TestKeys::new(GCM_128_13, &mut pair.random);
    pair.set_tx(&new).unwrap();
    let third = TestKeys::new(GCM_128_13, &mut pair.random);
    let busy = pair.set_tx(&third);
    assert_eq!(busy, Err(SocketError::Enable(EnableError::RekeyBusy)));
    assert_eq!(busy.unwrap_err().errno(), Errno::Ebusy);
    let host = &mut pair.world.b;
    let after = host.stack.send(pair.app, b"after", false, &mut host.pages);
    assert_eq!((open, after), (Ok(4), Ok(5)));

    let mut wire = Vec::new();
    for _ in 0..20 {
        wire.extend_from_slice(&pair.wire());
    }
    let records: Vec<_> = split_records(&wire).collect();
    let (last, before) = records.split_last().unwrap();
    let opened: Vec<_> = before.iter().map(|record| old.open(record)).collect();
    let (open, rest) = opened.split_last().unwrap();
    let (update, rest) = rest.split_last().unwrap();
    assert_eq!(*open, (DATA, b"open".to_vec()));
    assert_eq!(*update, (HANDSHAKE, KEY_UPDATE.to_vec()));
    let content: Vec<u8> = rest
        .iter()
        .flat_map(|(_, content)| content.clone())
        .collect();
    assert!(content == bulk[..taken]);
    assert_eq!(new.open(last), (DATA, b"after".to_vec()));
    assert_eq!(pair.set_tx(&third), Ok(()), "the first key has drained");
}

#[test]
fn a_key_change_keeps_suite_and_version_and_brings_another_key() {
    let (mut pair, keys) = RawPair::sending(GCM_128_13);
    pair.set_rx(&keys).unwrap();
    let mismatch = Err(SocketError::Enable(EnableError::RekeyMismatch));
    for suite in AEAD_SUITES.into_iter().filter(|suite| *suite != GCM_128_13) {
        let other = TestKeys::new(suite, &mut pair.random);
        assert_eq!(pair.set_tx(&other), mismatch, "{}", suite.name);
        assert_eq!(pair.set_rx(&other), mismatch, "{}", suite.name);
    }
    // The same numbers under the same key would be used twice.
    let in_use = Err(SocketError::Enable(EnableError::Invalid(
        InvalidKeys::KeyInUse,
    )));
    assert_eq!(pair.set_tx(&keys), in_use);
    pair.send(b"still", false);
    let (mut keys, wire) = (keys, pair.wire());
    assert_eq!(keys.open_all(&wire), [(DATA, b"still".to_vec())]);
}

/// A KeyUpdate is delivered. What follows it can't be read, nor is it announced, until there are
/// new keys.
#[test]
fn a_key_update_expires_the_key() {
    let (mut pair, mut old) = RawPair::receiving(GCM_256_13);
    let mut new = TestKeys::new(GCM_256_13, &mut pair.random);
    let mut wire = old.seal(DATA, b"before");
    wire.extend_from_slice(&old.seal(HANDSHAKE, &KEY_UPDATE));
    let enable = new.clone();
    wire.extend_from_slice(&new.seal(DATA, b"after"));
    pair.feed(&wire);
    assert_eq!(pair.recv(), data(b"before"));
    assert_eq!(pair.peek(), Got::Record(HANDSHAKE, KEY_UPDATE.to_vec()));
    assert_eq!(pair.recv(), Got::Record(HANDSHAKE, KEY_UPDATE.to_vec()));
    let expired = Got::Error(Errno::Ekeyexpired);
    assert_eq!(
        (pair.recv(), pair.peek(), pair.recv()),
        (expired.clone(), expired.clone(), expired)
    );
    pair.notices();
    let more = new.seal(DATA, b"more");
    pair.feed(&more);
    assert!(pair.notices().is_empty(), "nothing can be read");
    let other = TestKeys::new(GCM_128_13, &mut pair.random);
    assert!(pair.set_rx(&other).is_err());
    assert_eq!(
        pair.recv(),
        Got::Error(Errno::Ekeyexpired),
        "a refusal changes nothing"
    );
    pair.set_rx(&enable).unwrap();
    assert!(matches!(pair.notices()[..], [Notice::Readable(_)]));
    assert_eq!((pair.recv(), pair.recv()), (data(b"after"), data(b"more")));
    assert_eq!(counter(&pair, Counter::RxRekeyReceived), 1);
}

/// The last of many: 300 changes, more than the epoch's number has values.
#[test]
fn keys_change_often() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_13);
    for round in 0..300_u32 {
        pair.send(&round.to_be_bytes(), false);
        pair.send_record(HANDSHAKE, &KEY_UPDATE).unwrap();
        let wire = pair.wire();
        let expected = [
            (DATA, round.to_be_bytes().to_vec()),
            (HANDSHAKE, KEY_UPDATE.to_vec()),
        ];
        assert_eq!(keys.open_all(&wire), expected);
        keys = TestKeys::new(GCM_128_13, &mut pair.random);
        pair.set_tx(&keys).unwrap();
    }
}

// ---- reading

/// Alerts, handshake messages and types that no version has, each in a call of its own.
#[test]
fn every_type_is_delivered() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = RawPair::receiving(suite);
        let records: [(u8, &[u8]); 7] = [
            (DATA, b"one"),
            (ALERT, &[1, 0]),
            (HANDSHAKE, &[4, 0, 0, 1, 24]),
            (DATA, b""),
            (CONTROL, b"control"),
            (ALERT, &[2, 40]),
            (DATA, b"two"),
        ];
        let wire: Vec<u8> = records
            .iter()
            .flat_map(|(kind, c)| keys.seal(*kind, c))
            .collect();
        pair.feed(&wire);
        pair.finish();
        let mut expected: Vec<Got> = Vec::new();
        expected.extend(records.map(|(kind, content)| Got::Record(kind, content.to_vec())));
        expected.push(Got::End(true));
        assert_eq!(pair.recv_all(), expected, "{}", suite.name);
    }
}

/// A call that can't return the type leaves the record.
#[test]
fn recv_leaves_a_control_record() {
    let (mut pair, mut keys) = RawPair::receiving(GCM_128_12);
    let wire = [keys.seal(ALERT, &[1, 0]), keys.seal(DATA, b"data")].concat();
    pair.feed(&wire);
    for _ in 0..2 {
        let host = &mut pair.world.b;
        let error = host
            .stack
            .recv(pair.app, &mut host.ciphers, &mut host.pages);
        assert_eq!(error.unwrap_err().errno(), Errno::Eio);
    }
    assert_eq!(pair.recv(), Got::Record(ALERT, vec![1, 0]));
    assert_eq!(pair.world.b.drain(pair.app), (b"data".to_vec(), None));
}

#[test]
fn peeking_leaves_the_record_and_using_a_part_leaves_the_rest() {
    let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
    let wire = [keys.seal(DATA, b"0123456789"), keys.seal(CONTROL, b"next")].concat();
    pair.feed(&wire);
    for _ in 0..3 {
        assert_eq!(pair.peek(), data(b"0123456789"));
    }
    let host = &mut pair.world.b;
    let got = host
        .stack
        .recv_record(pair.app, &mut host.ciphers, &mut host.pages);
    let Ok(RecvRecord::Record(meta, mut chunk)) = got else {
        panic!("{got:?}");
    };
    assert_eq!((meta.length, chunk.len()), (10, 10));
    chunk.advance(4);
    host.stack.unread(pair.app, chunk);
    assert_eq!(pair.peek(), data(b"456789"));
    let host = &mut pair.world.b;
    let got = host
        .stack
        .recv_record(pair.app, &mut host.ciphers, &mut host.pages);
    assert!(
        matches!(got, Ok(RecvRecord::Record(meta, chunk)) if meta.length == 10 && chunk.len() == 6)
    );
    assert_eq!(pair.recv(), Got::Record(CONTROL, b"next".to_vec()));
    assert!(pair.world.b.stack.received_bytes_pinned() < 20_000);
}

/// A record that doesn't open is reported once, in its place in the stream. The records behind it
/// can be read.
#[test]
fn bad_records_are_reported_once_and_in_order() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = RawPair::receiving(suite);
        let mut wire = keys.seal(DATA, b"one");
        let mut bad = keys.seal(DATA, b"two");
        *bad.last_mut().unwrap() ^= 1;
        wire.extend_from_slice(&bad);
        wire.extend_from_slice(&keys.seal(DATA, b"three"));
        let mut expected = vec![data(b"one"), Got::Error(Errno::Ebadmsg), data(b"three")];
        if suite.is_tls13() {
            wire.extend_from_slice(&keys.seal_inner(DATA, &[0; 100]));
            expected.push(Got::Error(Errno::Ebadmsg));
        }
        wire.extend_from_slice(&keys.seal(DATA, b"last"));
        expected.push(data(b"last"));
        pair.feed(&wire);
        assert_eq!(pair.recv_all(), expected, "{}", suite.name);
        assert_eq!(counter(&pair, Counter::RxBadRecord), 1);
    }
}

/// A peer that sends nothing but bad records costs the application a call each, in shares of a
/// turn, until the key's limit of forgeries ends the connection.
#[test]
fn a_flood_of_bad_records_is_read_in_shares_and_limited() {
    let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
    let mut wire = Vec::new();
    for _ in 0..400 {
        let mut bad = keys.seal(DATA, b"");
        bad[7] ^= 1;
        wire.extend_from_slice(&bad);
    }
    pair.feed(&wire);
    let (mut errors, mut turns) = (0, 0);
    loop {
        match pair.recv() {
            Got::Error(Errno::Ebadmsg) => errors += 1,
            Got::Nothing => turns += 1,
            Got::End(_) => break,
            got => panic!("{got:?}"),
        }
    }
    assert_eq!(errors, 255);
    assert!((3..50).contains(&turns), "{turns} turns");
    pair.run();
    let end = closed(&mut pair);
    assert_eq!(end, Some(CloseReason::Tls(RxError::Forgeries)));
}

/// Where the boundaries of records are lost, the connection is reset.
#[test]
fn a_header_that_is_wrong_ends_the_connection() {
    let change = |at: usize, by: u8| move |record: &mut Vec<u8>| record[at] = by;
    let long = |record: &mut Vec<u8>| record[3..5].copy_from_slice(&0x8000_u16.to_be_bytes());
    let short = |record: &mut Vec<u8>| record[3..5].copy_from_slice(&1_u16.to_be_bytes());
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let rows: [(Change<'_>, Errno, RxError); 5] = [
        (&change(1, 2), Errno::Einval, RxError::BadVersion),
        (&change(2, 4), Errno::Einval, RxError::BadVersion),
        (&change(0, 24), Errno::Einval, RxError::Unprotected),
        (&long, Errno::Emsgsize, RxError::RecordTooLong),
        (&short, Errno::Emsgsize, RxError::RecordTooShort),
    ];
    for (change, errno, error) in rows {
        let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
        let good = keys.seal(DATA, b"good");
        let mut bad = keys.seal(DATA, b"bad");
        change(&mut bad);
        pair.feed(&[good, bad].concat());
        assert_eq!(
            (pair.recv(), pair.recv()),
            (data(b"good"), Got::Error(errno))
        );
        pair.run();
        assert_eq!(closed(&mut pair), Some(CloseReason::Tls(error)));
        assert_eq!(CloseReason::Tls(error).errno(), Some(errno));
        let reset = pair
            .world
            .notices_a
            .iter()
            .any(|notice| matches!(notice, Notice::Closed(_, CloseReason::Reset)));
        assert!(reset, "{error}");
        assert_eq!(counter(&pair, Counter::CorruptedRecords), 1);
    }
}

/// The stream's end inside a record, and between two.
#[test]
fn a_truncated_stream_is_reported_before_its_end() {
    let (mut pair, mut keys) = RawPair::receiving(GCM_128_12);
    let wire = [keys.seal(DATA, b"whole"), keys.seal(DATA, b"half")].concat();
    pair.feed(&wire[..wire.len() - 7]);
    pair.finish();
    let expected = [data(b"whole"), Got::Error(Errno::Emsgsize), Got::End(false)];
    assert_eq!(pair.recv_all(), expected);
    assert_eq!(pair.recv(), Got::End(false));
    let ended = pair.notices();
    let clean = ended.iter().find_map(|notice| match notice {
        Notice::PeerClosed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert_eq!(clean, Some(false));
    // Data in the other direction is still received.
    pair.send(b"answer", false);
    assert_eq!(pair.wire(), b"answer");
}

// ---- writing

/// MSG_MORE: the record stays open until a write without it, a control record, a file, new keys or
/// the end.
#[test]
fn more_keeps_a_record_open() {
    type Then = fn(&mut RawPair);
    type Records = &'static [(u8, &'static [u8])];
    let rows: [(&str, Then, Records); 5] = [
        ("send", |pair| pair.send(b" b", false), &[(DATA, b"a b")]),
        (
            "control record",
            |pair| assert_eq!(pair.send_record(CONTROL, b"c"), Ok(true)),
            &[(DATA, b"a"), (CONTROL, b"c")],
        ),
        (
            "file",
            |pair| {
                let file = File::new(b"file");
                let host = &mut pair.world.b;
                let sent = host
                    .stack
                    .sendfile(pair.app, file, 0..4, false, &mut host.pages);
                assert_eq!(sent, Ok(true));
            },
            &[(DATA, b"a"), (DATA, b"file")],
        ),
        (
            "shutdown",
            |pair| pair.world.b.stack.shutdown(pair.app),
            &[(DATA, b"a")],
        ),
        (
            "close",
            |pair| pair.world.b.stack.close(pair.app),
            &[(DATA, b"a")],
        ),
    ];
    for suite in AEAD_SUITES {
        for (what, then, expected) in rows {
            let (mut pair, mut keys) = RawPair::sending(suite);
            pair.send(b"a", true);
            assert_eq!(pair.wire(), b"", "{what}");
            then(&mut pair);
            let wire = pair.wire();
            let expected: Vec<_> = expected.iter().map(|(k, c)| (*k, c.to_vec())).collect();
            assert_eq!(keys.open_all(&wire), expected, "{what}");
        }
    }
}

/// No alert is added at the end: the application sends its own.
#[test]
fn the_application_closes_by_its_own_alert() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_13);
    pair.send_record(ALERT, &[1, 0]).unwrap();
    pair.world.b.stack.close(pair.app);
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire), [(ALERT, vec![1, 0])]);
    pair.finish();
    pair.world.run(Duration::from_secs(120));
    assert_eq!(closed(&mut pair), Some(CloseReason::Clean));
}

#[test]
fn writes_that_are_refused() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = RawPair::sending(suite);
        let host = &mut pair.world.b;
        let empty = host.stack.send(pair.app, b"", false, &mut host.pages);
        assert_eq!(empty, Err(SendError::Record(TxError::Empty)));
        assert_eq!(empty.unwrap_err().errno(), Errno::Einval);
        let long = pair.send_record(CONTROL, &[1; 16_385]);
        assert_eq!(long, Err(SocketError::Write(TxError::MessageSize)));
        assert_eq!(long.unwrap_err().errno(), Errno::Emsgsize);
        let wire = pair.wire();
        assert!(wire.is_empty(), "nothing of a refused write is sent");
        assert_eq!(pair.send_record(CONTROL, &[1; 16_384]), Ok(true));
        let wire = pair.wire();
        assert_eq!(keys.open_all(&wire), [(CONTROL, vec![1; 16_384])]);
    }
    let mut pair = RawPair::new();
    let plain = pair.send_record(CONTROL, b"x");
    assert_eq!(plain.unwrap_err().errno(), Errno::Einval);
    assert_eq!(
        pair.recv(),
        Got::Error(Errno::Einval),
        "no records without keys"
    );
}

/// An empty write of TLS 1.0 makes an empty record. Without room for it the error is EAGAIN, and no
/// record is made.
#[test]
fn an_empty_write_without_room_is_refused() {
    let mut host = HostSpec::new(2);
    host.config.cbc = true;
    let mut pair = RawPair::with(host);
    let mut keys = TestKeys::new(CBC_SUITES[0], &mut pair.random);
    pair.set_tx(&keys).unwrap();
    let mut sent = 0;
    loop {
        let host = &mut pair.world.b;
        match host
            .stack
            .send(pair.app, &[1; 16_384], false, &mut host.pages)
        {
            Ok(0) => break,
            taken => sent += taken.unwrap() as usize,
        }
    }
    let host = &mut pair.world.b;
    let refused = host.stack.send(pair.app, b"", false, &mut host.pages);
    assert_eq!(refused.unwrap_err().errno(), Errno::Eagain);
    let records = keys.open_all(&pair.wire());
    assert!(records.iter().all(|(_, content)| !content.is_empty()));
    let bytes: usize = records.iter().map(|(_, content)| content.len()).sum();
    assert_eq!(bytes, sent);
    let host = &mut pair.world.b;
    let empty = host.stack.send(pair.app, b"", false, &mut host.pages);
    assert_eq!(empty, Ok(0));
    assert_eq!(keys.open_all(&pair.wire()), [(DATA, vec![])]);
}

/// Linux's `recseq_wrap`, for every suite, and records up to the last number.
#[test]
fn sequence_numbers_never_wrap() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = {
            let mut pair = RawPair::new();
            let mut keys = TestKeys::new(suite, &mut pair.random);
            keys.seq = u64::MAX - 2;
            pair.set_tx(&keys).unwrap();
            pair.set_rx(&keys).unwrap();
            (pair, keys)
        };
        let mut receiving = keys.clone();
        pair.send(b"one", false);
        pair.send(b"two", false);
        let host = &mut pair.world.b;
        let wrapped = host.stack.send(pair.app, b"three", false, &mut host.pages);
        assert_eq!(
            wrapped,
            Err(SendError::Record(TxError::KeySpent)),
            "{}",
            suite.name
        );
        assert_eq!(wrapped.unwrap_err().errno(), Errno::Ebadmsg);
        let wire = pair.wire();
        assert_eq!(keys.open_all(&wire).len(), 2);

        let records = [b"one", b"two", b"end"].map(|content| receiving.seal(DATA, content));
        pair.feed(&records.concat());
        let end = Got::Error(Errno::Ebadmsg);
        assert_eq!(pair.recv_all()[..3], [data(b"one"), data(b"two"), end]);
    }
}

/// Linux's `tls_12_tx_max_payload_len`, its limits, and `tls_12_tx_max_payload_len_open_rec`.
#[test]
fn the_payload_is_limited_by_linuxs_rules() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = RawPair::sending(suite);
        let min = if suite.is_tls13() { 63 } else { 64 };
        let set = |pair: &mut RawPair, bytes| {
            let set = pair.world.b.stack.set_tx_max_payload(pair.app, bytes);
            set.map_err(SocketError::errno)
        };
        for bad in [0, min - 1, 16_385, u16::MAX] {
            assert_eq!(set(&mut pair, bad), Err(Errno::Einval), "{bad}");
        }
        for good in [min, 16_384, 128] {
            assert_eq!(set(&mut pair, good), Ok(()));
            assert_eq!(pair.world.b.stack.tx_max_payload(pair.app), Ok(good));
        }
        pair.send(&[5; 1000], false);
        let wire = pair.wire();
        let lens: Vec<_> = keys.open_all(&wire).iter().map(|(_, c)| c.len()).collect();
        assert_eq!(lens, [128, 128, 128, 128, 128, 128, 128, 104]);
        pair.send(b"open", true);
        assert_eq!(set(&mut pair, 256), Err(Errno::Ebusy));
        assert_eq!(
            pair.send_record(CONTROL, &[1; 129]).unwrap_err().errno(),
            Errno::Emsgsize
        );
    }
    let mut plain = RawPair::new();
    let none = plain.world.b.stack.set_tx_max_payload(plain.app, 128);
    assert_eq!(none, Err(SocketError::NoKeys));
}

/// Linux's `no_pad`.
#[test]
fn padding_is_counted_where_none_is_expected() {
    let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
    let app = pair.app;
    assert_eq!(pair.world.b.stack.rx_expect_no_pad(app), Ok(false));
    let mut expected = Vec::new();
    for (expects, padding) in [(false, 9), (true, 0), (true, 9), (false, 1)] {
        let set = pair.world.b.stack.set_rx_expect_no_pad(app, expects);
        assert_eq!(set, Ok(()));
        assert_eq!(pair.world.b.stack.rx_expect_no_pad(app), Ok(expects));
        let record = keys.seal_padded(DATA, b"padded", padding);
        pair.feed(&record);
        assert_eq!(pair.recv(), data(b"padded"));
        expected.push(counter(&pair, Counter::RxNoPadViolation));
    }
    assert_eq!(expected, [0, 0, 1, 1]);

    let (mut old, _) = RawPair::receiving(GCM_128_12);
    let refused = old.world.b.stack.set_rx_expect_no_pad(old.app, true);
    assert_eq!(refused.unwrap_err().errno(), Errno::Einval);
    let mut plain = RawPair::new();
    let refused = plain.world.b.stack.set_rx_expect_no_pad(plain.app, true);
    assert_eq!(refused.unwrap_err().errno(), Errno::Einval);
}

#[test]
fn modes_and_the_state_of_keys() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_13);
    let app = pair.app;
    let stack = &mut pair.world.b.stack;
    assert_eq!(
        (stack.txtls_mode(app), stack.rxtls_mode(app)),
        (Ok(Mode::Sw), Ok(Mode::None))
    );
    assert_eq!(stack.set_txtls_mode(app, Mode::Sw), Ok(()));
    let refused = [Mode::Ifnet, Mode::None, Mode::Toe].map(|mode| {
        let refused = stack.set_txtls_mode(app, mode);
        refused.map_err(SocketError::errno)
    });
    // EOPNOTSUPP is ENOTSUP on Linux.
    let expected = [Err(Errno::Enotsup), Err(Errno::Einval), Err(Errno::Einval)];
    assert_eq!(refused, expected);
    assert_eq!(stack.rxtls_info(app), Err(SocketError::NoKeys));
    let params = Params::new(Suite::Aes128Gcm, Version::Tls13);
    let info = |seq| KeyInfo {
        params,
        iv: keys.enable().iv.try_into().unwrap(),
        rec_seq: seq,
    };
    let first = keys.seq;
    assert_eq!(stack.txtls_info(app), Ok(info(first)));
    let plain = RawPair::new();
    assert_eq!(
        plain.world.b.stack.txtls_info(plain.app),
        Err(SocketError::NoKeys)
    );
    assert_eq!(plain.world.b.stack.txtls_mode(plain.app), Ok(Mode::None));

    pair.send(&[1; 20_000], false);
    assert_eq!(pair.world.b.stack.txtls_info(app), Ok(info(first + 2)));
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire).len(), 2);
    // Without keys a mode is accepted, and nothing is done.
    let mut plain = RawPair::new();
    let app = plain.app;
    assert_eq!(plain.world.b.stack.set_txtls_mode(app, Mode::Ifnet), Ok(()));
}

/// FreeBSD's 4-byte IV is a salt. Two connections with the same key don't get the same nonces.
#[test]
fn explicit_nonces_begin_at_random_where_only_the_salt_is_given() {
    let mut seen = std::collections::BTreeSet::new();
    for secret in 0..8 {
        let spec = HostSpec {
            secret,
            ..HostSpec::new(2)
        };
        let mut pair = RawPair::with(spec);
        let mut keys = TestKeys::new(GCM_128_12, &mut Random::new(3));
        pair.set_tx(&keys).unwrap();
        for _ in 0..4 {
            pair.send(b"x", false);
        }
        let wire = pair.wire();
        seen.extend(split_records(&wire).map(|record| record[5..13].to_vec()));
        assert_eq!(keys.open_all(&wire).len(), 4);
    }
    assert_eq!(seen.len(), 32);
}

// ---- switches

#[test]
fn the_switches_refuse_keys() {
    let mut off = HostSpec::new(2);
    off.config.ktls = false;
    let mut pair = RawPair::with(off);
    let keys = TestKeys::new(GCM_128_13, &mut pair.random);
    let refused = pair.set_tx(&keys);
    assert_eq!(refused, Err(SocketError::Enable(EnableError::Disabled)));
    assert_eq!(refused.unwrap_err().errno(), Errno::Enotsup);
    assert_eq!(pair.set_rx(&keys), refused);
    assert_eq!(counter(&pair, Counter::EnableCalls), 0, "not counted");

    let mut pair = RawPair::new();
    let host = &mut pair.world.b;
    let cbc = TlsEnable {
        cipher: CipherAlgorithm::AesCbc,
        ..keys.enable()
    };
    let refused = host.stack.set_txtls(pair.app, &cbc, &mut host.ciphers);
    assert_eq!(refused, Err(SocketError::Enable(EnableError::CbcDisabled)));
    assert_eq!(refused.unwrap_err().errno(), Errno::Enotsup);
    assert_eq!(counter(&pair, Counter::EnableCalls), 1);
}

// ---- files

fn sendfile(
    pair: &mut RawPair,
    file: &Arc<File>,
    range: core::ops::Range<u64>,
    more: bool,
) -> Result<bool, SendError> {
    let host = &mut pair.world.b;
    host.stack
        .sendfile(pair.app, file.clone(), range, more, &mut host.pages)
}

/// A file of many windows, with writes before and behind it, and the end right after it.
#[test]
fn sendfile_sends_a_range_in_order() {
    for suite in AEAD_SUITES {
        let (mut pair, mut keys) = RawPair::sending(suite);
        let content = pair.random.bytes(1_000_000);
        let file = File::new(&content);
        pair.send(b"head", true);
        assert_eq!(sendfile(&mut pair, &file, 10..900_000, false), Ok(true));
        assert_eq!(
            sendfile(&mut pair, &file, 0..5, false),
            Ok(false),
            "one at a time"
        );
        let host = &mut pair.world.b;
        let behind = host.stack.send(pair.app, b"behind", false, &mut host.pages);
        assert_eq!(behind, Ok(0), "nothing comes between its pieces");
        pair.world.b.stack.shutdown(pair.app);
        let mut wire = Vec::new();
        let ended = pair.world.run_until(Duration::from_secs(60), |world| {
            let (bytes, end) = world.a.drain(pair.peer);
            wire.extend_from_slice(&bytes);
            end.is_some()
        });
        assert!(ended);
        let records = keys.open_all(&wire);
        assert!(records.iter().all(|(kind, _)| *kind == DATA));
        assert_eq!(records[0].1, b"head");
        let sent: Vec<u8> = records[1..].iter().flat_map(|(_, c)| c.clone()).collect();
        assert!(sent == content[10..900_000], "{} bytes", sent.len());
    }
}

/// The tail of a range with `more` is in one record with what follows.
#[test]
fn sendfile_with_more_leaves_its_last_record_open() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_13);
    let content = pair.random.bytes(20_000);
    let file = File::new(&content);
    assert_eq!(sendfile(&mut pair, &file, 0..20_000, true), Ok(true));
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire), [(DATA, content[..16_384].to_vec())]);
    pair.send(b"tail", false);
    let wire = pair.wire();
    let expected = [&content[16_384..], b"tail"].concat();
    assert_eq!(keys.open_all(&wire), [(DATA, expected)]);
}

/// A piece that isn't in memory stops only its own connection, until it is.
#[test]
fn sendfile_waits_for_memory_and_continues() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_12);
    let content = pair.random.bytes(4 * SPAN);
    let file = File::new(&content);
    let missing = file.spans.lock().unwrap()[2].take();
    let end = content.len() as u64;
    assert_eq!(sendfile(&mut pair, &file, 0..end, false), Ok(true));
    let mut wire = Vec::new();
    for _ in 0..20 {
        wire.extend_from_slice(&pair.wire());
    }
    let sent = |keys: &mut TestKeys, wire: &[u8]| -> Vec<u8> {
        let records = keys.open_all(wire);
        records
            .into_iter()
            .flat_map(|(_, content)| content)
            .collect()
    };
    assert!(sent(&mut keys, &wire) == content[..2 * SPAN]);
    pair.notices();
    assert_eq!(sendfile(&mut pair, &file, 0..1, false), Ok(false));
    file.spans.lock().unwrap()[2] = missing;
    pair.world.b.stack.resume_sendfile(pair.app);
    let mut wire = Vec::new();
    for _ in 0..20 {
        wire.extend_from_slice(&pair.wire());
    }
    assert!(sent(&mut keys, &wire) == content[2 * SPAN..]);
    assert!(
        pair.notices()
            .iter()
            .any(|n| matches!(n, Notice::Writable(_)))
    );
    assert_eq!(sendfile(&mut pair, &file, 0..1, false), Ok(true));
}

/// A read error resets the connection, and nothing is leaked.
#[test]
fn sendfile_that_fails_resets_the_connection() {
    let (mut pair, _) = RawPair::sending(GCM_128_13);
    let content = pair.random.bytes(4 * SPAN);
    let file = Arc::new(File::with(&content, Some(100_000)));
    assert_eq!(
        sendfile(&mut pair, &file, 0..4 * SPAN as u64, false),
        Ok(true)
    );
    for _ in 0..20 {
        pair.wire();
    }
    assert_eq!(closed(&mut pair), Some(CloseReason::File));
    assert_eq!(CloseReason::File.errno(), Some(Errno::Eio));
    pair.world.a.stack.close(pair.peer);
    pair.world.run(Duration::from_secs(300));
    assert_eq!(Arc::strong_count(&file), 1);
    pair.world.b.assert_full();
    assert_eq!(pair.world.b.stack.counters().end_file, 1);
}

// ---- errors

/// A backend that seals nothing.
struct Broken;

impl RecordCipher for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn priority(&self) -> u8 {
        1
    }

    fn supports(&self, _: Params) -> bool {
        true
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        run[0].set_result(Err(CryptoError::Backend))
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        job.set_result(Err(CryptoError::Backend))
    }

    fn forget(&mut self, _: SessionId) {}
}

#[test]
fn a_cipher_that_fails_ends_the_connection() {
    let mut pair = RawPair::new();
    pair.world.b.ciphers = Ciphers::with_backends(vec![Box::new(Broken)]);
    let mut keys = TestKeys::new(GCM_128_13, &mut pair.random);
    pair.set_tx(&keys).unwrap();
    pair.send(b"x", false);
    pair.run();
    assert_eq!(closed(&mut pair), Some(CloseReason::Crypto));
    assert_eq!(CloseReason::Crypto.errno(), Some(Errno::Eio));

    let mut pair = RawPair::new();
    pair.world.b.ciphers = Ciphers::with_backends(vec![Box::new(Broken)]);
    pair.set_rx(&keys).unwrap();
    let record = keys.seal(DATA, b"x");
    pair.feed(&record);
    assert_eq!(pair.recv(), Got::Error(Errno::Eio));

    let mut pair = RawPair::new();
    pair.world.b.ciphers = Ciphers::with_backends(Vec::new());
    assert_eq!(
        pair.set_tx(&keys).unwrap_err().errno(),
        Errno::Eprotonosupport
    );
}

/// A socket that doesn't exist, for every call.
#[test]
fn calls_on_a_socket_that_is_gone() {
    let (mut pair, keys) = RawPair::sending(GCM_128_13);
    pair.world.b.stack.abort(pair.app);
    pair.run();
    let gone: SocketId = pair.app;
    let host = &mut pair.world.b;
    let stack = &mut host.stack;
    let all = [
        stack
            .set_txtls(gone, &keys.enable(), &mut host.ciphers)
            .err(),
        stack
            .set_rxtls(gone, &keys.enable(), &mut host.ciphers)
            .err(),
        stack.txtls_mode(gone).err(),
        stack.rxtls_mode(gone).err(),
        stack.set_txtls_mode(gone, Mode::Sw).err(),
        stack.txtls_info(gone).err(),
        stack.rxtls_info(gone).err(),
        stack.set_tx_max_payload(gone, 100).err(),
        stack.tx_max_payload(gone).err(),
        stack.set_rx_expect_no_pad(gone, true).err(),
        stack.rx_expect_no_pad(gone).err(),
        stack
            .recv_record(gone, &mut host.ciphers, &mut host.pages)
            .err(),
        stack.peek(gone, &mut host.ciphers, &mut host.pages).err(),
    ];
    assert_eq!(all, [Some(SocketError::NoSocket); 13]);
    let file = File::new(b"x");
    let sent = stack.sendfile(gone, file, 0..1, false, &mut host.pages);
    assert_eq!(sent, Err(SendError::NoSocket));
    stack.resume_sendfile(gone);
}

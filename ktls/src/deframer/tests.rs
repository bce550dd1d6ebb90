mod application;
mod jobs;

use lockgate_testing::Random;
use pktbuf::PoolConfig;
use proptest::prelude::*;

use super::*;
use crate::limits::KeyLimits;
use crate::testing::{
    Peer, World, before_tls13, cbc_nonzero, explicit, hex, name, receiving, sending, tls13,
};
use crate::{Alert, AlertDescription, ContentType, CryptoError, Errno, Suite, Version};

const DATA: ContentType = ContentType::APPLICATION_DATA;

/// What one call found, in a form that tests can compare.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Record(u8, Vec<u8>),
    KeyUpdated { answer: bool },
    Ticket(Vec<u8>),
    Renegotiation,
    Nothing,
    Closed,
    Error(RxError),
}

/// The receiving end of a connection under test.
struct Rig {
    world: World,
    peer: Peer,
    rng: Random,
    rx: Deframer,
}

impl Rig {
    fn new(params: Params, role: Role, seed: u64) -> Self {
        let mut world = World::new();
        let mut rng = Random::new(seed);
        let (peer, session) = Peer::new(params, &mut rng);
        let rx = Deframer::new(
            session,
            peer.number,
            role,
            Stream::new(),
            &mut world.ciphers,
        );
        Self {
            world,
            peer,
            rng,
            rx,
        }
    }

    /// Pushes bytes cut at random.
    fn push(&mut self, wire: &[u8]) {
        for buffer in self.world.buffers(wire, Some(&mut self.rng)) {
            self.rx.push(buffer);
        }
    }

    fn push_whole(&mut self, wire: &[u8]) {
        for buffer in self.world.buffers(wire, None) {
            self.rx.push(buffer);
        }
    }

    /// The next event, unless bytes or pages are missing.
    fn next(&mut self) -> Option<Event> {
        let is_readable = self.rx.is_readable();
        let next = self.rx.next(&mut self.world.ciphers, &mut self.world.pool);
        let has_record = matches!(next, Ok(Received::Record(_) | Received::NeedPages));
        assert!(is_readable || !has_record, "a record that isn't announced");
        let is_idle = matches!(next, Ok(Received::NeedBytes));
        assert!(!is_readable || !is_idle, "announced, and nothing to read");
        Some(match next {
            Ok(Received::NeedBytes | Received::NeedPages) => return None,
            Ok(Received::Record(record)) => {
                let meta = record.meta();
                assert_eq!(meta.version, self.peer.params.version.wire());
                assert_eq!(usize::from(meta.length), record.as_slice().len());
                Event::Record(meta.kind.0, record.as_slice().to_vec())
            }
            Ok(Received::KeyUpdated { answer }) => Event::KeyUpdated { answer },
            Ok(Received::Ticket(body)) => Event::Ticket(body.into_vec()),
            Ok(Received::Renegotiation) => Event::Renegotiation,
            Ok(Received::Nothing) => Event::Nothing,
            Ok(Received::Closed) => Event::Closed,
            Err(error) => Event::Error(error),
        })
    }

    /// Every event until bytes are missing or the stream has failed.
    fn drain(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            let fatal = matches!(event, Event::Error(error) if !error.is_recoverable());
            events.push(event);
            if fatal {
                break;
            }
        }
        events
    }

    fn count(&self, counter: Counter) -> u64 {
        self.world.ciphers.counters.value(counter)
    }

    fn finish(mut self) {
        self.rx.retire(&mut self.world.ciphers);
        assert_eq!(self.world.ciphers.counters.value(Counter::Active), 0);
        self.world.pool.reclaim();
        assert!(self.world.pool.is_full() && self.world.heap.is_full());
    }
}

fn every_suite(case: impl Fn(&mut Rig)) {
    of(&receiving(), case);
}

fn of(suites: &[Params], case: impl Fn(&mut Rig)) {
    for (seed, &params) in (40..).zip(suites) {
        println!("{}", name(params));
        let mut rig = Rig::new(params, Role::Server, seed);
        case(&mut rig);
        rig.finish();
    }
}

fn record(kind: u8, content: &[u8]) -> Event {
    Event::Record(kind, content.to_vec())
}

/// A header error is reported with this number by every further read.
fn fails(rig: &mut Rig, error: RxError, errno: Errno) {
    assert_eq!(rig.drain(), [Event::Error(error)]);
    assert_eq!(error.errno(), errno);
    assert_eq!(rig.count(Counter::CorruptedRecords), 1);
    assert_eq!(rig.count(Counter::of(error)), 1);
    let good = rig.peer.seal(DATA, b"a good one");
    rig.push(&good);
    assert_eq!(rig.next(), Some(Event::Error(error)));
    assert_eq!(rig.rx.buffered(), 0);
    assert_eq!(rig.count(Counter::of(error)), 1, "counted once");
}

#[test]
fn ktls_receive_short() {
    every_suite(|rig| {
        let data = rig.rng.bytes(64);
        for kind in [23, 0x21] {
            let wire = rig.peer.seal(ContentType(kind), &data);
            rig.push(&wire);
            assert_eq!(rig.drain(), [record(kind, &data)]);
        }
        assert_eq!(rig.rx.next_number(), rig.peer.number);
    });
}

#[test]
fn ktls_receive_long() {
    every_suite(|rig| {
        let data = rig.rng.bytes(64 << 10);
        for piece in data.chunks(16384) {
            let wire = rig.peer.seal(DATA, piece);
            rig.push(&wire);
        }
        let events: Vec<_> = data.chunks(16384).map(|piece| record(23, piece)).collect();
        assert_eq!(rig.drain(), events);
    });
}

#[test]
fn ktls_receive_bad_data() {
    every_suite(|rig| {
        let head = usize::from(rig.peer.params.shape().head_len());
        bad_record(rig, |wire, rng| head + rng.index(wire.len() - head - 17));
    });
}

#[test]
fn ktls_receive_bad_mac() {
    every_suite(|rig| bad_record(rig, |wire, rng| wire.len() - 1 - rng.index(16)));
}

#[test]
fn ktls_receive_bad_iv() {
    of(&explicit(), |rig| {
        bad_record(rig, |_, rng| 5 + rng.index(8))
    });
}

/// A record with one byte changed is reported once, counted and dropped; the next one is readable.
fn bad_record(rig: &mut Rig, at: impl Fn(&[u8], &mut Random) -> usize) {
    let data = rig.rng.bytes(64);
    for round in 1..=4 {
        let before = rig.peer.seal(DATA, b"before");
        let mut bad = rig.peer.seal(DATA, &data);
        let after = rig.peer.seal(DATA, b"after");
        let at = at(&bad, &mut rig.rng);
        bad[at] ^= 1 << rig.rng.index(8);
        let wire = [before, bad, after].concat();
        if round % 2 == 0 {
            rig.push_whole(&wire)
        } else {
            rig.push(&wire)
        }
        assert_eq!(
            rig.drain(),
            [
                record(23, b"before"),
                Event::Error(RxError::BadRecord),
                record(23, b"after")
            ]
        );
        assert_eq!(rig.count(Counter::FailedCrypto), round);
        assert_eq!(rig.count(Counter::RxBadRecord), round);
    }
    assert_eq!(RxError::BadRecord.errno(), Errno::Ebadmsg);
    assert_eq!(
        RxError::BadRecord.alert(),
        Some(AlertDescription::BAD_RECORD_MAC)
    );
}

#[test]
fn ktls_receive_truncated_record() {
    every_suite(|rig| {
        let data = rig.rng.bytes(64);
        let wire = rig.peer.seal(DATA, &data);
        let rows = [wire.len() / 2, 1, 4, 5, wire.len() - 1];
        let mut rng = Random::new(7);
        for keep in rows {
            let (peer, session) = Peer::new(rig.peer.params, &mut rng);
            let ciphers = &mut rig.world.ciphers;
            let chain = Stream::new();
            let mut rx = Deframer::new(session, peer.number, Role::Server, chain, ciphers);
            rx.push(rig.world.heap.alloc(&wire[..keep]).unwrap());
            let found = rx.next(ciphers, &mut rig.world.pool);
            assert!(matches!(found, Ok(Received::NeedBytes)));
            let error = rx.finish(ciphers).unwrap_err();
            assert_eq!(
                (error, error.errno()),
                (RxError::Truncated, Errno::Emsgsize)
            );
            assert_eq!(error.alert(), None);
            assert_eq!(rx.next(ciphers, &mut rig.world.pool).err(), Some(error));
            assert_eq!(rx.finish(ciphers), Ok(()), "returned once");
            rx.retire(ciphers);
        }
        assert_eq!(rig.count(Counter::RxTruncated), 5);
        // The end at a record's border is none of these.
        rig.push(&wire);
        assert_eq!(rig.drain().len(), 1);
        assert_eq!(rig.rx.finish(&mut rig.world.ciphers), Ok(()));
        assert!(!rig.rx.is_closed());
    });
}

#[test]
fn ktls_receive_bad_major() {
    every_suite(|rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        wire[1] = 2;
        rig.push(&wire);
        fails(rig, RxError::BadVersion, Errno::Einval);
    });
}

#[test]
fn ktls_receive_bad_minor() {
    every_suite(|rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        wire[2] = 4;
        // The header alone is enough to see that nothing good can follow.
        rig.push(&wire[..5]);
        fails(rig, RxError::BadVersion, Errno::Einval);
    });
}

#[test]
fn ktls_receive_bad_type() {
    of(&tls13(), |rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        wire[0] = 24;
        rig.push(&wire);
        fails(rig, RxError::Unprotected, Errno::Einval);
    });
}

#[test]
fn ktls_receive_small_record() {
    every_suite(|rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        let length = rig.peer.params.shape().length_min() - 1;
        wire[3..5].copy_from_slice(&length.to_be_bytes());
        rig.push(&wire);
        fails(rig, RxError::RecordTooShort, Errno::Emsgsize);
    });
    // RFC 8446, 5.2 and RFC 5246, 7.2.2: what can't be deprotected is a bad_record_mac.
    assert_eq!(alert_of(RxError::RecordTooShort), 20);
}

#[test]
fn ktls_receive_short_header() {
    of(&explicit(), |rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        wire[3..5].copy_from_slice(&[0, 1]);
        rig.push(&wire);
        fails(rig, RxError::RecordTooShort, Errno::Emsgsize);
    });
}

#[test]
fn ktls_receive_oversized_record() {
    every_suite(|rig| {
        let mut wire = rig.peer.seal(DATA, b"content");
        wire[3..5].copy_from_slice(&(2 * 16384_u16).to_be_bytes());
        rig.push(&wire);
        fails(rig, RxError::RecordTooLong, Errno::Emsgsize);
    });
}

/// Bytes that were never TLS.
#[test]
fn bad_rec() {
    every_suite(|rig| {
        rig.push(&[0x55; 100]);
        fails(rig, RxError::BadVersion, Errno::Einval);
    });
}

#[test]
fn ktls_receive_short_padded() {
    of(&tls13(), |rig| {
        let data = rig.rng.bytes(64);
        for kind in [23, 0x21] {
            let wire = rig.peer.seal_padded(kind, &data, 16);
            rig.push(&wire);
            assert_eq!(rig.drain(), [record(kind, &data)]);
        }
    });
}

#[test]
fn ktls_receive_long_padded() {
    of(&tls13(), |rig| {
        let data = rig.rng.bytes(64 << 10);
        for piece in data.chunks(16384 - 15) {
            let wire = rig.peer.seal_padded(23, piece, 15);
            rig.push(&wire);
        }
        let events: Vec<_> = data
            .chunks(16384 - 15)
            .map(|piece| record(23, piece))
            .collect();
        assert_eq!(rig.drain(), events);
    });
}

/// An authentic record without a single byte that isn't zero has no type, whatever its length.
#[test]
fn all_zero_plaintext() {
    for len in [0, 1, 2, 16, 255, 256, 257, 511, 16383, 16384] {
        of(&tls13(), |rig| {
            let wire = rig.peer.seal_padded(0, &vec![0; len], 0);
            rig.push(&wire);
            assert_eq!(rig.drain(), [Event::Error(RxError::NoContentType)]);
            assert_eq!(RxError::NoContentType.errno(), Errno::Ebadmsg);
            let alert = RxError::NoContentType.alert();
            assert_eq!(alert, Some(AlertDescription::UNEXPECTED_MESSAGE));
        });
    }
}

/// Linux's zero_len rows: empty records are reported, and never look like an end.
#[test]
fn zero_len() {
    let rows: [&[(u8, &[u8])]; 4] = [
        &[(23, b"data"), (0x21, b""), (23, b"data")],
        &[(23, b""), (23, b""), (0x21, b"control")],
        &[(0x21, b""), (0x21, b""), (0x21, b"")],
        &[(23, b"data"), (23, b""), (23, b"")],
    ];
    every_suite(|rig| {
        for row in rows {
            for (kind, content) in row {
                let wire = rig.peer.seal(ContentType(*kind), content);
                rig.push(&wire);
            }
            let events: Vec<_> = row
                .iter()
                .map(|(kind, content)| record(*kind, content))
                .collect();
            assert_eq!(rig.drain(), events);
            assert_eq!(rig.next(), None);
        }
    });
}

/// Every way to part a stream of three records into two buffers, and byte by byte.
#[test]
fn records_split_at_every_byte() {
    every_suite(|rig| {
        let contents: [&[u8]; 3] = [b"first", b"", b"and the third"];
        let events: Vec<_> = contents.iter().map(|content| record(23, content)).collect();
        let mut len = 1;
        let mut at = 0;
        while at <= len {
            let wire: Vec<_> = contents
                .iter()
                .flat_map(|content| rig.peer.seal(DATA, content))
                .collect();
            len = wire.len();
            let (a, b) = wire.split_at(at);
            let mut found = Vec::new();
            for part in [a, b] {
                rig.push_whole(part);
                found.extend(rig.drain());
            }
            assert_eq!(found, events, "split at {at}");
            at += 1;
        }
        let wire: Vec<_> = contents
            .iter()
            .flat_map(|content| rig.peer.seal(DATA, content))
            .collect();
        let mut found = Vec::new();
        for byte in wire {
            rig.push_whole(&[byte]);
            found.extend(rig.drain());
        }
        assert_eq!(found, events);
    });
}

#[test]
fn one_buffer_is_opened_in_place_and_many_are_gathered() {
    every_suite(|rig| {
        let head = u64::from(rig.peer.params.shape().head_len());
        let wire = rig.peer.seal(DATA, &[7; 1000]);
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [record(23, &[7; 1000])]);
        assert_eq!(
            (
                rig.count(Counter::RxInplace),
                rig.count(Counter::RxGathered)
            ),
            (1, 0)
        );

        // Two records in one buffer: only the last ends where the buffer ends.
        let wire = [rig.peer.seal(DATA, b"one"), rig.peer.seal(DATA, b"two")].concat();
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [record(23, b"one"), record(23, b"two")]);
        assert_eq!(
            (
                rig.count(Counter::RxInplace),
                rig.count(Counter::RxGathered)
            ),
            (2, 1)
        );
        let copied = rig.count(Counter::RxGatheredBytes);
        assert_eq!(copied, wire.len() as u64 / 2 - head);

        // Memory that isn't ours to write to is copied first and left alone.
        let wire = rig.peer.seal(DATA, b"not ours");
        let mut buffer = rig.world.heap.alloc(&wire).unwrap();
        buffer.set_read_only();
        rig.rx.push(buffer);
        assert_eq!(rig.drain(), [record(23, b"not ours")]);
        assert_eq!(
            (
                rig.count(Counter::RxInplace),
                rig.count(Counter::RxGathered)
            ),
            (2, 2)
        );

        // A packet of several fragments is not one piece either.
        let wire = rig.peer.seal(DATA, b"in fragments");
        let (a, b) = wire.split_at(9);
        let buffer = rig.world.heap.alloc_chain(&[a, b]).unwrap();
        rig.rx.push(buffer);
        assert_eq!(rig.drain(), [record(23, b"in fragments")]);
        assert_eq!(
            (
                rig.count(Counter::RxInplace),
                rig.count(Counter::RxGathered)
            ),
            (2, 3)
        );
        let counter = Counter::decrypts(rig.peer.params);
        assert_eq!(rig.count(counter), 5);
    });
}

#[test]
fn without_pages_a_record_waits() {
    let config = PoolConfig {
        blocks: 4,
        small_spans: 1,
        large_spans: 2,
    };
    for params in receiving() {
        let mut rig = Rig::new(params, Role::Server, 3);
        rig.world.pool = World::with_pool(config).pool;
        let big = rig.rng.bytes(5000);
        let wire = [rig.peer.seal(DATA, &big), rig.peer.seal(DATA, b"small")].concat();
        rig.push(&wire);
        let number = rig.rx.next_number();
        let held: Vec<_> = (0..2)
            .map(|_| rig.world.pool.alloc(16384).unwrap())
            .collect();
        for _ in 0..3 {
            let found = rig.rx.next(&mut rig.world.ciphers, &mut rig.world.pool);
            assert!(matches!(found, Ok(Received::NeedPages)), "{found:?}");
        }
        assert_eq!(rig.count(Counter::WaitedForPages), 3);
        assert_eq!(
            (rig.rx.next_number(), rig.rx.buffered()),
            (number, wire.len() as u64)
        );
        drop(held);
        assert_eq!(rig.drain(), [record(23, &big), record(23, b"small")]);
        rig.finish();
    }
}

/// A buffer that was kept back is handed over as it is: in the pool it would be part of the reserve
/// for sealing, and no reader would get it.
#[test]
fn a_record_is_opened_in_the_buffer_kept_back_for_it() {
    let config = PoolConfig {
        blocks: 4,
        small_spans: 1,
        large_spans: 3,
    };
    for params in receiving() {
        let mut rig = Rig::new(params, Role::Server, 3);
        rig.world.pool = World::with_pool(config).pool;
        let big = rig.rng.bytes(16_384);
        let wire = [rig.peer.seal(DATA, &big), rig.peer.seal(DATA, &big)].concat();
        rig.push(&wire);
        let mut reserve = rig.world.pool.alloc(pktbuf::LARGE_CAPACITY);
        let address = |page: &PageBuf| page.bytes().unwrap().as_ptr();
        let kept = address(reserve.as_ref().unwrap());
        let held = [(); 2].map(|()| rig.world.pool.alloc(16_384).unwrap());

        let (ciphers, pool) = (&mut rig.world.ciphers, &mut rig.world.pool);
        let found = rig.rx.next_with_reserve(ciphers, pool, &mut reserve);
        let Ok(Received::Record(opened)) = found else {
            panic!("{found:?}");
        };
        assert!(reserve.is_none() && opened.as_slice() == big);
        assert_eq!(opened.as_slice().as_ptr(), kept);
        let found = rig.rx.next_with_reserve(ciphers, pool, &mut reserve);
        assert!(matches!(found, Ok(Received::NeedPages)), "{found:?}");

        // With a free page buffer, the one kept back stays.
        drop((opened, held));
        reserve = pool.alloc(pktbuf::LARGE_CAPACITY);
        let found = rig.rx.next_with_reserve(ciphers, pool, &mut reserve);
        assert!(matches!(found, Ok(Received::Record(_))), "{found:?}");
        drop(found);
        assert!(reserve.take().is_some());
        rig.finish();
    }
}

#[test]
fn prequeue() {
    let mut world = World::new();
    for params in receiving() {
        let mut rng = Random::new(17);
        let (mut peer, session) = Peer::new(params, &mut rng);
        let data = rng.bytes(20_000);
        let first = peer.number;
        let wire: Vec<_> = data
            .chunks(3000)
            .flat_map(|piece| peer.seal(DATA, piece))
            .collect();
        let chain = world.chain(&wire, Some(&mut rng));
        let mut rx = Deframer::new(session, first, Role::Client, chain, &mut world.ciphers);
        let mut found = Vec::new();
        while let Received::Record(record) = rx.next(&mut world.ciphers, &mut world.pool).unwrap() {
            found.extend_from_slice(record.as_slice());
        }
        assert_eq!(found, data);
        rx.retire(&mut world.ciphers);
    }
}

#[test]
fn sequence_numbers_do_not_wrap() {
    every_suite(|rig| {
        let (mut peer, session) = Peer::new(rig.peer.params, &mut rig.rng);
        peer.number = u64::MAX - 1;
        let wire = [peer.seal(DATA, b"last"), peer.seal(DATA, b"one too many")].concat();
        let chain = rig.world.chain(&wire, None);
        let ciphers = &mut rig.world.ciphers;
        let rx = Deframer::new(session, u64::MAX - 1, Role::Server, chain, ciphers);
        core::mem::replace(&mut rig.rx, rx).retire(ciphers);
        let exhausted = RxError::SequenceExhausted;
        assert_eq!(rig.drain(), [record(23, b"last"), Event::Error(exhausted)]);
        assert_eq!(exhausted.errno(), Errno::Ebadmsg);
    });
}

#[test]
fn close_notify_ends_the_stream() {
    every_suite(|rig| {
        let alert = Alert::CLOSE_NOTIFY.encode();
        let wire = [
            rig.peer.seal(DATA, b"last words"),
            rig.peer.seal(ContentType::ALERT, &alert),
            b"whatever comes after is ignored".to_vec(),
        ];
        rig.push(&wire.concat());
        assert_eq!(rig.drain(), [record(23, b"last words"), Event::Closed]);
        assert!(rig.rx.is_closed());
        rig.push(b"more");
        assert_eq!((rig.next(), rig.rx.buffered()), (None, 0));
        assert_eq!(rig.rx.finish(&mut rig.world.ciphers), Ok(()));
    });
}

#[test]
fn alerts_of_either_version() {
    let (handshake_failure, no_renegotiation) = (40, 100);
    // (level, description, TLS 1.2, TLS 1.3)
    let fatal = |n| Event::Error(RxError::PeerAlert(AlertDescription(n)));
    let rows = [
        (
            2,
            handshake_failure,
            fatal(handshake_failure),
            fatal(handshake_failure),
        ),
        (
            1,
            handshake_failure,
            Event::Nothing,
            fatal(handshake_failure),
        ),
        (1, no_renegotiation, Event::Nothing, fatal(no_renegotiation)),
        (1, 90, Event::Nothing, Event::Nothing),
        (2, 90, fatal(90), Event::Nothing),
        (2, 0, Event::Closed, Event::Closed),
        // An unknown level: TLS 1.3 gives levels no meaning, TLS 1.2 knows two.
        (3, 0, Event::Error(RxError::IllegalValue), Event::Closed),
        (0, 90, Event::Error(RxError::IllegalValue), Event::Nothing),
        (3, 40, Event::Error(RxError::IllegalValue), fatal(40)),
    ];
    for (level, description, tls12, tls13) in rows {
        every_suite(|rig| {
            let wire = rig.peer.seal(ContentType::ALERT, &[level, description]);
            rig.push(&wire);
            let expected = match rig.peer.params.version {
                Version::Tls13 => &tls13,
                Version::Tls10 | Version::Tls11 | Version::Tls12 => &tls12,
            };
            assert_eq!(
                rig.drain(),
                core::slice::from_ref(expected),
                "{level} {description}"
            );
        });
    }
    for content in [&[1][..], &[1, 0, 1, 0]] {
        every_suite(|rig| {
            let wire = rig.peer.seal(ContentType::ALERT, content);
            rig.push(&wire);
            assert_eq!(rig.drain(), [Event::Error(RxError::Malformed)]);
        });
    }
    assert_eq!(alert_of(RxError::Malformed), 50, "decode_error");
}

/// RFC 8446, 5.4 and RFC 5246, 6.2.1: neither version has empty alerts or handshake fragments,
/// with padding or without.
#[test]
fn an_empty_alert_or_handshake_record_is_unexpected() {
    for kind in [ContentType::ALERT, ContentType::HANDSHAKE] {
        for padding in [0, 100] {
            every_suite(|rig| {
                let padding = match rig.peer.params.version {
                    Version::Tls13 => padding,
                    Version::Tls10 | Version::Tls11 | Version::Tls12 => 0,
                };
                let wire = rig.peer.seal_padded(kind.0, b"", padding);
                rig.push(&wire);
                assert_eq!(rig.drain(), [Event::Error(RxError::Unexpected)], "{kind:?}");
                assert_eq!(rig.count(Counter::RxUnexpected), 1);
            });
        }
    }
    assert_eq!(alert_of(RxError::Unexpected), 10, "unexpected_message");
}

/// The number of the alert that the peer gets.
fn alert_of(error: RxError) -> u8 {
    error.alert().expect("the peer gets one").0
}

#[test]
fn change_cipher_spec_has_no_place_any_more() {
    every_suite(|rig| {
        let wire = rig.peer.seal(ContentType::CHANGE_CIPHER_SPEC, &[1]);
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Unexpected)]);
        assert_eq!(
            RxError::Unexpected.alert(),
            Some(AlertDescription::UNEXPECTED_MESSAGE)
        );
    });
    // The unprotected kind that middleboxes like.
    of(&tls13(), |rig| {
        rig.push(&[20, 3, 3, 0, 1, 1]);
        fails(rig, RxError::Unprotected, Errno::Einval);
    });
}

#[test]
fn key_updates() {
    of(&tls13(), |rig| {
        for answer in [false, true, true, false] {
            let message = [24, 0, 0, 1, u8::from(answer)];
            let before = rig.peer.seal(DATA, b"old key");
            let update = rig.peer.seal(ContentType::HANDSHAKE, &message);
            rig.peer.rekey();
            let after = rig.peer.seal(DATA, b"new key");
            rig.push(&[before, update, after].concat());
            assert_eq!(
                rig.drain(),
                [
                    record(23, b"old key"),
                    Event::KeyUpdated { answer },
                    record(23, b"new key")
                ]
            );
            assert_eq!(rig.rx.next_number(), 1);
        }
        assert_eq!(rig.count(Counter::RxRekeyReceived), 4);
        assert_eq!(rig.count(Counter::RxRekeyOk), 4);
    });
    of(&before_tls13(), |rig| {
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[24, 0, 0, 1, 0]);
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Unexpected)]);
    });
}

#[test]
fn a_key_update_ends_its_record() {
    let rows: [(&[u8], RxError); 7] = [
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], RxError::Unexpected),
        (&[24, 0, 0, 1, 0, 4], RxError::Unexpected),
        (&[24, 0, 0, 1, 2], RxError::IllegalValue),
        (&[24, 0, 0, 0], RxError::Malformed),
        // RFC 8446, 6.2, decode_error: "the length of the message was incorrect".
        (&[24, 0, 0, 2, 0, 0], RxError::Malformed),
        (&[24, 0, 0, 2], RxError::Malformed),
        (&[24, 0xff, 0xff, 0xff, 0], RxError::Malformed),
    ];
    for (content, error) in rows {
        of(&tls13(), |rig| {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, content);
            rig.push(&wire);
            assert_eq!(rig.drain(), [Event::Error(error)]);
        });
    }
}

#[test]
fn messages_across_records() {
    of(&tls13(), |rig| {
        rig.rx.rx.reader = Reader::Stack {
            role: Role::Client,
            flood: FloodLimits::default(),
        };
        let body = rig.rng.bytes(300);
        let mut ticket = vec![4, 0, 1, 44];
        ticket.extend_from_slice(&body);
        // Two tickets and a half, then the other half with a KeyUpdate at the end.
        let messages = [&ticket[..], &ticket, &ticket, &[24, 0, 0, 1, 1]].concat();
        let cut = 2 * ticket.len() + 3;
        let (a, b) = messages.split_at(cut);
        for part in [a, b] {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, part);
            rig.push(&wire);
        }
        rig.peer.rekey();
        let wire = rig.peer.seal(DATA, b"new key");
        rig.push(&wire);
        let expected = [
            Event::Ticket(body.clone()),
            Event::Ticket(body.clone()),
            Event::Ticket(body),
            Event::KeyUpdated { answer: true },
            record(23, b"new key"),
        ];
        let events: Vec<_> = rig
            .drain()
            .into_iter()
            .filter(|event| *event != Event::Nothing)
            .collect();
        assert_eq!(events, expected);

        // Byte by byte.
        let update = [24, 0, 0, 1, 0];
        for (n, byte) in update.iter().enumerate() {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, &[*byte]);
            rig.push(&wire);
            let expected = if n == 4 {
                Event::KeyUpdated { answer: false }
            } else {
                Event::Nothing
            };
            assert_eq!(rig.drain(), [expected]);
        }
    });
}

#[test]
fn messages_that_have_no_place() {
    // A server refuses a ticket; both sides refuse a hello, a Finished and an empty record.
    let rows: [&[u8]; 5] = [&[4, 0, 0, 0], &[1, 0, 0, 0], &[20, 0, 0, 0], &[0], &[]];
    for content in rows {
        of(&tls13(), |rig| {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, content);
            rig.push(&wire);
            assert_eq!(
                rig.drain(),
                [Event::Error(RxError::Unexpected)],
                "{content:?}"
            );
        });
    }
    // A message may not be interrupted, nor cut off by the end.
    of(&tls13(), |rig| {
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[24, 0]);
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Nothing]);
        let wire = rig.peer.seal(DATA, b"data");
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Unexpected)]);
    });
    of(&tls13(), |rig| {
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[24, 0]);
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Nothing]);
        assert_eq!(
            rig.rx.finish(&mut rig.world.ciphers),
            Err(RxError::Truncated)
        );
    });
    // What a client may be sent is bounded.
    of(&tls13(), |rig| {
        rig.rx.rx.reader = Reader::Stack {
            role: Role::Client,
            flood: FloodLimits::default(),
        };
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[4, 1, 0, 1]);
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::MessageTooLong)]);
    });
}

#[test]
fn renegotiation_is_reported_and_limited() {
    of(&before_tls13(), |rig| {
        // A server is sent a hello, in two records.
        let hello = [&[1, 0, 0, 40][..], &[9; 40]].concat();
        for part in [&hello[..30], &hello[30..]] {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, part);
            rig.push(&wire);
        }
        assert_eq!(rig.drain(), [Event::Nothing, Event::Renegotiation]);
    });
    of(&before_tls13(), |rig| {
        rig.rx.rx.reader = Reader::Stack {
            role: Role::Client,
            flood: FloodLimits::default(),
        };
        for _ in 0..5 {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, &[0, 0, 0, 0]);
            rig.push(&wire);
        }
        let mut expected = vec![Event::Renegotiation; 4];
        expected.push(Event::Error(RxError::Flood));
        assert_eq!(rig.drain(), expected);
    });
}

/// Whatever the pieces of a message are, a server keeps no more of it than its header.
#[test]
fn a_server_keeps_nothing_of_a_message_that_it_refuses() {
    let hello = [&[1, 0, 0x40, 0][..], &[9; 16_384]].concat();
    for piece in [1000, 7, 1] {
        of(&before_tls13(), |rig| {
            for (n, part) in hello.chunks(piece).enumerate() {
                let is_last = (n + 1) * piece >= hello.len();
                // The header of the next one is in the last record.
                let part = if is_last {
                    [part, &[1, 0, 0]].concat()
                } else {
                    part.to_vec()
                };
                let wire = rig.peer.seal(ContentType::HANDSHAKE, &part);
                rig.push_whole(&wire);
                let expected = if is_last {
                    Event::Renegotiation
                } else {
                    Event::Nothing
                };
                assert_eq!(rig.drain(), [expected]);
                assert!(rig.rx.true_size() <= 64, "{} bytes", rig.rx.true_size());
            }
            // Its end inside a message is noticed.
            let ended = rig.rx.finish(&mut rig.world.ciphers);
            assert_eq!(ended, Err(RxError::Truncated));
        });
    }
}

/// What a client keeps of a ticket counts as memory that it pins, until the ticket is complete.
#[test]
fn an_incomplete_ticket_counts_as_pinned() {
    of(&tls13(), |rig| {
        rig.rx.rx.reader = Reader::Stack {
            role: Role::Client,
            flood: FloodLimits::default(),
        };
        let ticket = [&[4, 0, 0x40, 0][..], &[9; 16_384]].concat();
        for (n, part) in ticket.chunks(4097).enumerate() {
            let wire = rig.peer.seal(ContentType::HANDSHAKE, part);
            rig.push_whole(&wire);
            let events = rig.drain();
            let pinned = rig.rx.true_size() as usize;
            if n < 3 {
                assert_eq!(events, [Event::Nothing]);
                assert!(pinned >= (n + 1) * 4097, "{pinned}");
            } else {
                assert_eq!(events, [Event::Ticket(ticket[4..].to_vec())]);
                assert_eq!(pinned, 0);
            }
        }
    });
}

#[test]
fn floods_of_nothing_end() {
    let empty = |rig: &mut Rig| rig.peer.seal(DATA, b"");
    let warning = |rig: &mut Rig| rig.peer.seal(ContentType::ALERT, &[1, 90]);
    let update = |rig: &mut Rig| {
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[24, 0, 0, 1, 0]);
        rig.peer.rekey();
        wire
    };
    type Make = fn(&mut Rig) -> Vec<u8>;
    let rows: [(Make, usize, &[Params]); 3] = [
        (empty, 32, &receiving()),
        (warning, 4, &receiving()),
        (update, 32, &tls13()),
    ];
    for (make, max, suites) in rows {
        of(suites, |rig| {
            for _ in 0..3 {
                // Data in between makes all well.
                for _ in 0..max {
                    let wire = make(rig);
                    rig.push(&wire);
                }
                let wire = rig.peer.seal(DATA, b"data");
                rig.push(&wire);
                let events = rig.drain();
                assert_eq!(events.len(), max + 1);
                assert_eq!(events[max], record(23, b"data"));
            }
            for _ in 0..=max {
                let wire = make(rig);
                rig.push(&wire);
            }
            assert_eq!(rig.drain()[max], Event::Error(RxError::Flood));
            assert_eq!(rig.count(Counter::RxFlood), 1);
        });
    }
}

/// RFC 8448, section 3: the server's records after its Finished, with the ticket in between.
#[test]
fn rfc8448_stream() {
    let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let data = hex(
        "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f
         82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2
         1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
    );
    let alert = hex("17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9");
    let mut rig = Rig::new(Params::ALL[3], Role::Client, 1);
    let session = Session::from_secret(Suite::Aes128Gcm, &secret).unwrap();
    let ciphers = &mut rig.world.ciphers;
    let rx = Deframer::new(session, 1, Role::Client, Stream::new(), ciphers);
    core::mem::replace(&mut rig.rx, rx).retire(ciphers);
    rig.push(&[data, alert].concat());
    let content: Vec<_> = (0..50).collect();
    assert_eq!(rig.drain(), [record(23, &content), Event::Closed]);
    rig.finish();
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(200))]

    /// What a peer sends arrives, however it's cut, with pages missing now and then.
    #[test]
    fn what_is_sent_arrives(
        params in prop::sample::select(receiving()),
        seed: u64,
        failures in prop_oneof![Just(0u32), 2..8u32],
        records in prop::collection::vec((prop_oneof![0..200usize, 0..=16384usize], 1u8..=255, any::<bool>()), 1..12),
    ) {
        let mut rig = Rig::new(params, Role::Server, seed);
        rig.world.pool.inject_failures(seed, failures);
        let mut expected = Vec::new();
        for (len, kind, padded) in records {
            // Alerts, handshake messages and change_cipher_spec are other tests' business.
            let kind = if (20..=22).contains(&kind) { 23 } else { kind };
            let content = rig.rng.bytes(len);
            let padding = if params.version == Version::Tls13 && padded {
                rig.rng.index(16384 - len + 1)
            } else {
                0
            };
            let wire = rig.peer.seal_padded(kind, &content, padding);
            expected.push(Event::Record(kind, content));
            if rig.rng.one_in(4) { rig.push_whole(&wire) } else { rig.push(&wire) }
        }
        let mut found = Vec::new();
        for _ in 0..1000 {
            found.extend(rig.drain());
        }
        prop_assert!(found == expected);
        rig.world.pool.inject_failures(0, 0);
        rig.finish();
    }

    /// No bytes at all make it panic or take more than they are.
    #[test]
    fn arbitrary_bytes(
        params in prop::sample::select(receiving()),
        seed: u64,
        mut wire in prop::collection::vec(any::<u8>(), 0..200),
        plausible: bool,
    ) {
        let mut rig = Rig::new(params, Role::Client, seed);
        if plausible && wire.len() >= 5 {
            wire[..5].copy_from_slice(&[23, 3, 3, 0, 40]);
        }
        rig.push(&wire);
        for event in rig.drain() {
            prop_assert!(matches!(event, Event::Error(_)), "{event:?}");
        }
        let _ = rig.rx.finish(&mut rig.world.ciphers);
        rig.finish();
    }

    /// Authentic records with arbitrary handshake bytes and alerts.
    #[test]
    fn arbitrary_messages(
        params in prop::sample::select(receiving()),
        client: bool,
        seed: u64,
        contents in prop::collection::vec((20u8..=23, prop::collection::vec(prop_oneof![0u8..5, Just(24), any::<u8>()], 0..12)), 1..8),
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let mut rig = Rig::new(params, role, seed);
        for (kind, content) in contents {
            let wire = rig.peer.seal(ContentType(kind), &content);
            rig.push(&wire);
        }
        rig.drain();
        rig.finish();
    }
}

/// Payloads so that every length of padding occurs.
#[test]
fn ktls_receive_padding_1_to_16() {
    of(&cbc_nonzero(), |rig| {
        let mut seen = Vec::new();
        for len in 1..=16 {
            let content = rig.rng.bytes(len);
            let wire = rig.peer.seal_cbc(0x21, &content, 0, |text| {
                seen.push(*text.last().unwrap() + 1);
            });
            rig.push(&wire);
            assert_eq!(rig.drain(), [Event::Record(0x21, content)], "{len}");
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=16).collect::<Vec<u8>>());
        assert_eq!(rig.count(Counter::OcfTls11CbcDecrypts), 16);
    });
}

/// RFC 5246, 6.2.3.2: up to 255 bytes of padding, and their length.
fn receive_padding_extra(more: usize) {
    of(&cbc_nonzero(), |rig| {
        let content = rig.rng.bytes(16);
        let wire = rig.peer.seal_cbc(0x21, &content, more, |_| ());
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Record(0x21, content)]);
    });
}

#[test]
fn ktls_receive_padding_16_extra() {
    receive_padding_extra(16);
}

#[test]
fn ktls_receive_padding_32_extra() {
    receive_padding_extra(32);
}

#[test]
fn ktls_receive_padding_240_extra() {
    receive_padding_extra(240);
}

/// A full record with the longest padding is the longest that there is.
#[test]
fn the_longest_padding_of_the_longest_record() {
    of(&cbc_nonzero(), |rig| {
        let content = rig.rng.bytes(16384);
        let wire = rig.peer.seal_cbc(23, &content, 240, |_| ());
        let length = u16::from_be_bytes([wire[3], wire[4]]);
        assert_eq!(length, rig.peer.params.shape().length_max());
        rig.push(&wire);
        assert!(rig.drain() == [Event::Record(23, content)]);
    });
}

/// The length field doesn't tell content and padding apart: the limit of content is checked when
/// the record is open.
#[test]
fn more_content_than_a_record_may_have_behind_an_allowed_length() {
    for params in cbc_nonzero() {
        for over in [1, 16, 200] {
            let mut rig = Rig::new(params, Role::Client, 5);
            let content = rig.rng.bytes(16384 + over);
            let wire = rig.peer.seal_cbc(23, &content, 0, |_| ());
            let length = u16::from_be_bytes([wire[3], wire[4]]);
            assert!(length <= params.shape().length_max());
            rig.push(&wire);
            assert_eq!(
                rig.drain(),
                [Event::Error(RxError::RecordTooLong)],
                "{over}"
            );
            assert_eq!(rig.count(Counter::RxRecordTooLong), 1);
            rig.finish();
        }
    }
}

#[test]
fn ktls_receive_bad_padding() {
    of(&cbc_nonzero(), |rig| {
        // The length of the padding, and its other bytes.
        for (more, from_end) in [(0, 1), (16, 2), (32, 17), (32, 32)] {
            let content = rig.rng.bytes(17);
            let wire = rig.peer.seal_cbc(23, &content, more, |text| {
                let at = text.len() - from_end;
                text[at] ^= 0x40;
            });
            rig.push(&wire);
            let events = rig.drain();
            assert_eq!(
                events,
                [Event::Error(RxError::BadRecord)],
                "{more} {from_end}"
            );
        }
        assert_eq!(RxError::BadRecord.errno(), Errno::Ebadmsg);
        assert_eq!(rig.count(Counter::RxBadRecord), 4);
        let wire = rig.peer.seal(DATA, b"next");
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Record(23, b"next".to_vec())]);
    });
}

#[test]
fn ktls_receive_non_block_size() {
    of(&cbc_nonzero(), |rig| {
        let length = rig.peer.params.shape().length_min() + 1;
        let mut wire = rig.peer.seal(DATA, &[7; 64]);
        wire[3..5].copy_from_slice(&length.to_be_bytes());
        rig.push(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::RecordNotBlocks)]);
        assert_eq!(RxError::RecordNotBlocks.errno(), Errno::Emsgsize);
        assert_eq!(alert_of(RxError::RecordNotBlocks), 20, "bad_record_mac");
        assert_eq!(rig.count(Counter::RxRecordNotBlocks), 1);
    });
}

/// RFC 9147, B.3: 2^7 forgeries under a key of CCM-8, and no more records of it are opened.
#[test]
fn a_key_opens_nothing_after_too_many_forgeries() {
    every_suite(|rig| {
        let limit = KeyLimits::of(rig.peer.params.suite).forgeries;
        for n in 1..limit {
            let mut wire = rig.peer.seal(DATA, b"content");
            *wire.last_mut().unwrap() ^= 1;
            rig.push_whole(&wire);
            assert_eq!(rig.drain(), [Event::Error(RxError::BadRecord)], "{n}");
        }
        let wire = rig.peer.seal(DATA, b"content");
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [Event::Record(23, b"content".to_vec())]);
        let mut wire = rig.peer.seal(DATA, b"content");
        *wire.last_mut().unwrap() ^= 1;
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Forgeries)]);
        let wire = rig.peer.seal(DATA, b"content");
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Forgeries)]);
        assert_eq!(RxError::Forgeries.errno(), Errno::Ebadmsg);
        assert_eq!(rig.count(Counter::RxForgeries), 1);
    });
}

/// Keys of TLS 1.0 open nothing.
#[test]
fn ktls_receive_unsupported_cbc_1_0_sha1() {
    for params in sending().into_iter().filter(|params| !params.can_receive()) {
        let mut rig = Rig::new(params, Role::Client, 1);
        let wire = [&[23, 3, 1, 0, 48][..], &[7; 48]].concat();
        rig.push_whole(&wire);
        assert_eq!(rig.drain(), [Event::Error(RxError::Backend)], "{params}");
    }
}

#[test]
fn sizes() {
    assert!(size_of::<Deframer>() <= 96, "{}", size_of::<Deframer>());
    assert!(size_of::<Rx>() <= 40, "{}", size_of::<Rx>());
}

//! Sizes of sent records: small ones where a connection begins to send, each in a segment of its
//! own, then full ones.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{DynamicRecords, FileSource, FileSpan, SocketError, SocketId};
use pktbuf::{PageArena, PoolConfig, Region, SharedSpan};
use support::app::stretch;
use support::link::{Link, payload};
use support::raw::RawPair;
use support::records::{GCM_128_13, split_records};
use support::{HostSpec, World, pki};

/// Payload of each segment: an MTU of 1 500 without headers and timestamps.
const MSS: usize = 1448;
/// Header, inner type and tag of a record of TLS 1.3.
const OVERHEAD: usize = 22;
const FULL: usize = 16_384;
/// The default number of small records.
const SMALL: usize = 40;

/// Segments with payload that B sends from now on.
type Segments = Rc<RefCell<Vec<Vec<u8>>>>;

fn watch(world: &mut World) -> Segments {
    let seen = Segments::default();
    let segments = seen.clone();
    world.link.filter = Some(Box::new(move |from, frame| {
        if from == 1 && !payload(frame).is_empty() {
            segments.borrow_mut().push(payload(frame).to_vec());
        }
        false
    }));
    seen
}

/// Bytes of content of each record.
fn contents(segments: &Segments) -> Vec<usize> {
    let stream = segments.borrow().concat();
    let records = split_records(&stream);
    records.map(|record| record.len() - OVERHEAD).collect()
}

fn with(b: HostSpec) -> World {
    let mut world = World::new(HostSpec::new(1), b, Link::perfect());
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    world
}

fn with_settings(small_records: u8, idle: Duration) -> World {
    let mut spec = HostSpec::new(2);
    spec.config.dynamic_records = DynamicRecords {
        small_records,
        idle,
    };
    with(spec)
}

fn pair(world: &mut World) -> (SocketId, SocketId) {
    let pair = world.tls_pair(pki::client(&TlsOptions::default()));
    world.run(Duration::from_millis(10));
    pair
}

/// B sends all of `bytes`, and A reads them.
fn transfer(world: &mut World, (a, b): (SocketId, SocketId), bytes: &[u8]) {
    let (mut sent, mut read) = (0, Vec::new());
    assert!(world.run_until(Duration::from_secs(100), |world| {
        if sent < bytes.len() {
            sent += world.b.send(b, &bytes[sent..]) as usize;
        }
        read.extend(world.a.drain(a).0);
        read.len() == bytes.len()
    }));
    assert!(read == bytes);
    world.run(Duration::from_millis(10));
}

/// Spans of the page cache, of four full records each; their memory stays for as long as the
/// process.
fn spans(bytes: &[u8]) -> Vec<Arc<SharedSpan>> {
    let room = bytes.len().next_multiple_of(SPAN) + SPAN;
    let mut region = Region::heap(room + (1 << 14)).unwrap();
    let arena = PageArena::new(&mut region, room).unwrap();
    std::mem::forget(region);
    let spans = bytes.chunks(SPAN).map(|piece| {
        let mut page = arena.alloc(piece.len()).unwrap();
        page[..piece.len()].copy_from_slice(piece);
        page.freeze(piece.len())
    });
    spans.collect()
}

const SPAN: usize = 4 * FULL;

/// A file in memory.
struct File(Vec<Arc<SharedSpan>>);

impl FileSource for File {
    fn span(&self, offset: u64) -> FileSpan {
        let at = usize::try_from(offset).unwrap();
        FileSpan::Ready {
            span: self.0[at / SPAN].clone(),
            at: u32::try_from(at % SPAN).unwrap(),
        }
    }
}

/// How bytes are given to the stack.
#[derive(Clone, Copy, Debug)]
enum Way {
    Copy,
    Span,
    File,
}

/// Gives B the bytes, which are those of the spans, and lets A read them.
fn give(
    world: &mut World,
    (a, b): (SocketId, SocketId),
    (bytes, spans): (&[u8], &[Arc<SharedSpan>]),
    way: Way,
) {
    if let Way::File = way {
        let (file, host) = (Arc::new(File(spans.to_vec())), &mut world.b);
        let range = 0..bytes.len() as u64;
        let sent = host.stack.sendfile(b, file, range, false, &mut host.pages);
        assert_eq!(sent, Ok(true));
    }
    let (mut sent, mut read) = (0, Vec::new());
    assert!(world.run_until(Duration::from_secs(100), |world| {
        let host = &mut world.b;
        if sent < bytes.len() {
            let taken = match way {
                Way::Copy => host.stack.send(b, &bytes[sent..], false, &mut host.pages),
                Way::Span => {
                    let (span, at) = (&spans[sent / SPAN], sent % SPAN);
                    let left = u32::try_from(span.len() - at).unwrap();
                    let at = u32::try_from(at).unwrap();
                    host.stack.send_span(b, span, at, left, &mut host.pages)
                }
                Way::File => Ok(0),
            };
            sent += taken.unwrap() as usize;
        }
        read.extend(world.a.drain(a).0);
        read.len() == bytes.len()
    }));
    assert!(read == bytes);
}

/// However bytes are given: the first forty records are small, those of the first flight a segment
/// each. All later ones are full, but for the last of each write. With KTLS workers it is the same.
#[test]
fn the_first_records_are_segments_and_later_ones_full() {
    let content = stretch(1, 0, 400_000);
    let spans = spans(&content);
    for (way, away) in [
        (Way::Copy, None),
        (Way::Span, None),
        (Way::File, None),
        (Way::Copy, Some(8)),
        (Way::Span, Some(8)),
    ] {
        let mut world = with(HostSpec {
            away,
            ..HostSpec::new(2)
        });
        let sockets = pair(&mut world);
        let segments = watch(&mut world);
        give(&mut world, sockets, (&content, &spans), way);
        for segment in &segments.borrow()[..10] {
            assert_eq!(segment.len(), MSS, "{way:?}");
            assert_eq!(split_records(segment).count(), 1, "{way:?}: a whole record");
        }
        let lens = contents(&segments);
        let (small, later) = lens.split_at(SMALL);
        assert!(small.iter().all(|len| *len < 2 * MSS), "{way:?}: {small:?}");
        assert!(small.iter().sum::<usize>() > 50_000, "{way:?}: {small:?}");
        let short = later.iter().filter(|len| **len < FULL).count();
        // The first span's end, and the last record.
        assert!(short <= 2, "{way:?}: {later:?}");
        assert_eq!(world.b.stack.counters().small_records, SMALL as u64);
    }
}

/// Of a response's first segment the client reads the content, though nothing else has come. With
/// full records it reads nothing.
#[test]
fn the_first_segment_can_be_read_alone() {
    for (small, readable) in [(40, MSS - OVERHEAD), (0, 0)] {
        let mut world = with_settings(small, Duration::from_secs(1));
        let (a, b) = pair(&mut world);
        let mut passed = 0;
        world.link.filter = Some(Box::new(move |from, frame| {
            let has_data = from == 1 && !payload(frame).is_empty();
            passed += u32::from(has_data);
            has_data && passed > 1
        }));
        world.b.send(b, &stretch(2, 0, 100_000));
        world.run(Duration::from_millis(1));
        assert_eq!(world.a.drain(a).0, stretch(2, 0, readable as u64));
    }
}

/// A short head, then a body by reference: the head and the body's first bytes share a segment.
#[test]
fn a_head_and_the_beginning_of_the_body_are_in_the_first_segment() {
    let mut world = with(HostSpec::new(2));
    let (_, b) = pair(&mut world);
    let segments = watch(&mut world);
    let body = &spans(&stretch(3, 0, 20_000))[0];
    world.b.send(b, &[7; 300]);
    let host = &mut world.b;
    let sent = host.stack.send_span(b, body, 0, 20_000, &mut host.pages);
    assert_eq!(sent, Ok(20_000));
    world.run(Duration::from_millis(10));
    assert_eq!(split_records(&segments.borrow()[0]).count(), 2);
    let lens = contents(&segments);
    assert_eq!(lens[..2], [300, MSS - 300 - 2 * OVERHEAD]);
    assert!(
        lens[2..lens.len() - 1]
            .iter()
            .all(|len| *len == MSS - OVERHEAD)
    );
}

/// Responses of a known size: as few records as segments, and no record for a rest of a few bytes.
#[test]
fn short_responses_are_not_split_needlessly() {
    for (len, records) in [
        (100, 1),
        (MSS - OVERHEAD, 1),
        (1500, 1),
        (1600, 1),
        (1700, 2),
        (2 * (MSS - OVERHEAD) + 100, 2),
        (14_000, 10),
    ] {
        let mut world = with(HostSpec::new(2));
        let sockets = pair(&mut world);
        let segments = watch(&mut world);
        transfer(&mut world, sockets, &stretch(4, 0, len as u64));
        assert_eq!(contents(&segments).len(), records, "{len} bytes");
    }
}

/// After a second without anything to send a connection begins again, however often. A shorter
/// pause changes nothing.
#[test]
fn an_idle_connection_begins_again() {
    let mut world = with(HostSpec::new(2));
    let sockets = pair(&mut world);
    transfer(&mut world, sockets, &stretch(5, 0, 200_000));
    for round in 1..=3 {
        let segments = watch(&mut world);
        world.run(Duration::from_millis(900));
        transfer(&mut world, sockets, &[1; 2 * FULL]);
        assert_eq!(
            contents(&segments),
            [FULL, FULL],
            "not idle for long enough"
        );
        segments.borrow_mut().clear();
        world.run(Duration::from_secs(1));
        transfer(&mut world, sockets, &stretch(6, 0, 200_000));
        let lens = contents(&segments);
        assert_eq!(lens[..SMALL], [MSS - OVERHEAD; SMALL]);
        assert!(lens[SMALL..].contains(&FULL));
        let counters = world.b.stack.counters();
        assert_eq!(counters.small_restarts, round);
        assert_eq!(counters.small_records, (1 + round) * SMALL as u64);
    }
}

/// A peer that acknowledges nothing for a while isn't idle.
#[test]
fn a_connection_with_bytes_in_flight_is_not_idle() {
    let mut world = with(HostSpec::new(2));
    let (a, b) = pair(&mut world);
    transfer(&mut world, (a, b), &stretch(7, 0, 200_000));
    world.lose_answers();
    world.b.send(b, &[1; 1000]);
    world.run(Duration::from_secs(5));
    let segments = watch(&mut world);
    let sent = world.b.send(b, &[2; FULL]) as usize;
    assert_eq!(sent, FULL);
    world.run(Duration::from_secs(10));
    assert_eq!(contents(&segments), [1000, FULL]);
    assert_eq!(world.b.stack.counters().small_restarts, 0);
}

/// What is configured: how many records are small, after which pause, and how long records are at
/// most.
#[test]
fn the_configuration_is_respected() {
    let mut world = with_settings(3, Duration::from_millis(50));
    let sockets = pair(&mut world);
    for _ in 0..2 {
        let segments = watch(&mut world);
        transfer(&mut world, sockets, &[1; 3 * (MSS - OVERHEAD) + FULL]);
        let small = MSS - OVERHEAD;
        assert_eq!(contents(&segments), [small, small, small, FULL]);
        world.run(Duration::from_millis(60));
    }
    let mut spec = HostSpec::new(2);
    spec.config.record_len_max = 512;
    let mut world = with(spec);
    let sockets = pair(&mut world);
    let segments = watch(&mut world);
    transfer(&mut world, sockets, &[1; 50 * 512]);
    assert_eq!(contents(&segments), [512; 50]);
}

/// A link with long frames: a segment is a record there, too.
#[test]
fn the_size_follows_the_segments() {
    for (mtu, mss) in [(9000, 8948), (576, 524)] {
        let spec = |number| HostSpec {
            mtu,
            ..HostSpec::new(number)
        };
        let mut world = World::new(spec(1), spec(2), Link::perfect());
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let sockets = pair(&mut world);
        let segments = watch(&mut world);
        transfer(&mut world, sockets, &stretch(8, 0, 500_000));
        let lens = contents(&segments);
        // Two short segments have a record.
        let expected = if mss < 600 { 2 * mss } else { mss } - OVERHEAD;
        // The first write is as long as two windows.
        assert_eq!(lens[..3], [expected; 3]);
        assert!(lens[SMALL..].contains(&FULL));
    }
}

/// Keys of an application have full records, as FreeBSD and Linux make them, unless the application
/// asks for small ones. Its maximum holds for both, and can be below a segment.
#[test]
fn keys_of_an_application_have_small_records_if_asked_for() {
    let (mut pair, _) = RawPair::sending(GCM_128_13);
    let stack = &mut pair.world.b.stack;
    assert_eq!(stack.tx_dynamic_records(pair.app), Ok(false));
    pair.send(&[1; FULL], false);
    let lens = |pair: &mut RawPair| -> Vec<usize> {
        let wire = pair.wire();
        let records = split_records(&wire);
        records.map(|record| record.len() - OVERHEAD).collect()
    };
    assert_eq!(lens(&mut pair), [FULL]);
    let stack = &mut pair.world.b.stack;
    stack.set_tx_dynamic_records(pair.app, true).unwrap();
    assert_eq!(stack.tx_dynamic_records(pair.app), Ok(true));
    pair.send(&[1; 2 * (MSS - OVERHEAD)], false);
    assert_eq!(lens(&mut pair), [MSS - OVERHEAD; 2]);

    let stack = &mut pair.world.b.stack;
    stack.set_tx_max_payload(pair.app, 1000).unwrap();
    pair.send(&[1; 3000], false);
    let short = lens(&mut pair);
    assert!(short.iter().all(|len| *len <= 1000) && short.iter().sum::<usize>() == 3000);
    let stack = &mut pair.world.b.stack;
    stack.set_tx_max_payload(pair.app, 5000).unwrap();
    pair.send(&[1; 1426], true);
    let refused = pair.world.b.stack.set_tx_max_payload(pair.app, 4000);
    assert_eq!(refused, Ok(()), "the small record was full");
    // A typed message is one record, as long as it is.
    assert!(pair.send_record(23, &[2; 4000]).unwrap());
    assert_eq!(lens(&mut pair), [MSS - OVERHEAD, 4000]);

    let stack = &mut pair.world.b.stack;
    stack.set_tx_dynamic_records(pair.app, false).unwrap();
    pair.send(&[1; 8000], false);
    assert_eq!(lens(&mut pair), [4000; 2]);
    let plain = RawPair::new();
    let mut stack = plain.world.b.stack;
    assert_eq!(
        stack.set_tx_dynamic_records(plain.app, true),
        Err(SocketError::NoKeys)
    );
    assert_eq!(
        stack.tx_dynamic_records(plain.app),
        Err(SocketError::NoKeys)
    );
}

/// sendfile with `more`: the range's last record stays open, however small the records are.
#[test]
fn sendfile_with_more_leaves_its_last_record_open() {
    let (mut pair, mut keys) = RawPair::sending(GCM_128_13);
    let content = pair.random.bytes(20_000);
    let file = Arc::new(File(spans(&content)));
    let host = &mut pair.world.b;
    host.stack.set_tx_dynamic_records(pair.app, true).unwrap();
    let sent = host
        .stack
        .sendfile(pair.app, file, 0..20_000, true, &mut host.pages);
    assert_eq!(sent, Ok(true));
    pair.run();
    pair.send(b"tail", false);
    let records = keys.open_all(&pair.wire());
    let sent: Vec<u8> = records
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    assert!(sent == [content, b"tail".to_vec()].concat());
    let (_, last) = records.last().unwrap();
    assert!(last.len() > 4, "the file's end and the tail share a record");
}

/// Ten MiB are forty records more than full ones alone, at most, and those are as many as the bytes
/// need: no acknowledgment has a short record made.
#[test]
fn bulk_transfers_have_few_records_more() {
    let bytes = stretch(9, 0, 10 << 20);
    let spans = spans(&bytes);
    for way in [Way::Copy, Way::Span, Way::File] {
        for small in [0, 40] {
            let mut world = with_settings(small, Duration::from_secs(1));
            let sockets = pair(&mut world);
            let segments = watch(&mut world);
            give(&mut world, sockets, (&bytes, &spans), way);
            let records = contents(&segments).len();
            let most = bytes.len() / FULL + usize::from(small);
            assert!(records <= most, "{way:?}, {small}: {records} records");
        }
    }
}

/// Clients that acknowledge nothing hold half of the small spans with copied small records, and the
/// records of one write more: the rest is for alerts and handshakes.
#[test]
fn small_records_leave_small_spans_to_others() {
    let mut world = with(HostSpec::new(2));
    let sockets: Vec<_> = (0..60).map(|_| pair(&mut world)).collect();
    world.lose_answers();
    for (_, b) in &sockets {
        world.b.send(*b, &[1; 10_000]);
        world.run(Duration::from_micros(10));
    }
    let usage = world.b.pages.usage();
    let half = usage.small_spans / 2;
    assert!(
        (half..half + 16).contains(&usage.small_spans_used),
        "{usage:?}"
    );
    assert!(usage.large_spans_used > 10, "{usage:?}");
}

/// Many connections that all begin to send, with little memory: while half of the small spans are
/// used, records are full. All connections end.
#[test]
fn many_beginning_connections_share_little_memory() {
    let mut world = with(HostSpec {
        pool: PoolConfig {
            blocks: 128,
            small_spans: 64,
            large_spans: 16,
        },
        ..HostSpec::new(2)
    });
    let body = &spans(&stretch(10, 0, 60_000))[0];
    let sockets: Vec<_> = (0..30).map(|_| pair(&mut world)).collect();
    let mut states: Vec<_> = sockets.iter().map(|_| (0_u32, Vec::new())).collect();
    assert!(world.run_until(Duration::from_secs(1000), |world| {
        for ((a, b), (sent, read)) in sockets.iter().zip(&mut states) {
            if *sent < 60_000 {
                let host = &mut world.b;
                let left = 60_000 - *sent;
                let taken = host.stack.send_span(*b, body, *sent, left, &mut host.pages);
                *sent += taken.unwrap();
            }
            read.extend(world.a.drain(*a).0);
        }
        states.iter().all(|(_, read)| read.len() == 60_000)
    }));
    assert!(states.iter().all(|(_, read)| read == &body[..]));
    let small = world.b.stack.counters().small_records;
    assert!((40..30 * 40).contains(&small), "{small}");
}

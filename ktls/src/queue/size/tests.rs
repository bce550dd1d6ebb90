use lockgate_testing::Random;
use pktbuf::PoolConfig;

use super::*;
use crate::counters::Counter;
use crate::error::TxError;
use crate::suite::{ContentType, Params};
use crate::testing::{Peer, World, sending};

const DATA: ContentType = ContentType::APPLICATION_DATA;
const MSS: u16 = 1448;

/// A queue with keys whose next records are small, and what opens its records.
struct Small {
    world: World,
    queue: RecordQueue,
    peer: Peer,
    rng: Random,
    segments: Segments,
}

impl Small {
    fn new(params: Params, records: u8) -> Self {
        let pool = PoolConfig {
            blocks: 256,
            small_spans: 128,
            large_spans: 64,
        };
        let (mut world, mut rng) = (World::with_pool(pool), Random::new(7));
        let (peer, session) = Peer::new(params, &mut rng);
        let mut queue = RecordQueue::new();
        queue
            .enable(session, peer.number, &mut world.ciphers)
            .unwrap();
        queue.set_dynamic_records(true);
        queue.begin_small(records);
        Self {
            world,
            queue,
            peer,
            rng,
            segments: Segments::new(0, MSS),
        }
    }

    fn push(&mut self, len: usize, more: bool) {
        let data = self.rng.bytes(len);
        let pushed = self
            .queue
            .push_bytes_in(self.segments, &[&data], more, &mut self.world.pool);
        assert_eq!(pushed, Ok(u32::try_from(len).unwrap()));
    }

    fn push_span(&mut self, len: u32) {
        let span = self.world.span(&self.rng.bytes(len as usize));
        let pushed = self
            .queue
            .push_span_in(self.segments, &span, 0, len, &mut self.world.pool);
        assert_eq!(pushed, Ok(len));
    }

    /// The lengths of the records in the queue, on the wire and of their content.
    fn lens(&mut self) -> Vec<(u32, usize)> {
        self.queue.flush().unwrap();
        let shape = self.peer.params.shape();
        let wire = self.world.transmit(&mut self.queue, 0, &mut self.rng);
        let records = self.peer.clone().open_all(&wire).into_iter();
        let lens = records.map(|(kind, content)| {
            assert_eq!(kind, DATA);
            let len = u16::try_from(content.len()).unwrap();
            (shape.record_len(len), content.len())
        });
        lens.collect()
    }
}

/// Written by copy or by reference: so many records end with their segments, then the records are
/// full. CBC's padding leaves up to 15 bytes of each segment.
#[test]
fn the_first_records_end_with_their_segments() {
    for (params, by_reference) in sending()
        .into_iter()
        .flat_map(|params| [(params, false), (params, true)])
    {
        let mut small = Small::new(params, 10);
        if by_reference {
            small.push_span(60_000);
        } else {
            small.push(60_000, false);
        }
        assert_eq!(small.queue.small_left(), 0);
        let lens = small.lens();
        let slack = u64::from(params.shape().block_len) - 1;
        let mut end = 0;
        for (n, (wire, content)) in lens.iter().enumerate().take(10) {
            end += u64::from(*wire);
            let segment = end.div_ceil(MSS.into()) * u64::from(MSS);
            assert!(segment - end <= slack, "{params:?}: record {n}");
            let fits = u64::from(*wire) <= u64::from(MSS) + slack;
            assert!(fits && *content >= 1300, "{params:?}");
        }
        let rest: Vec<_> = lens[10..].iter().map(|(_, content)| *content).collect();
        let sum: usize = lens.iter().map(|(_, content)| content).sum();
        assert_eq!(sum, 60_000);
        let (last, full) = rest.split_last().unwrap();
        assert!(
            full.iter().all(|len| *len == 16_384),
            "{params:?}: {full:?}"
        );
        assert!((1..=16_384).contains(last));
    }
}

/// A small record takes a small span, copied or sealed from the page cache.
#[test]
fn small_records_take_small_memory() {
    let params = sending()[0];
    let mut small = Small::new(params, 20);
    small.push(10_000, false);
    small.push_span(10_000);
    let usage = small.world.pool.usage();
    assert_eq!((usage.large_spans_used, usage.small_spans_used), (0, 7));
    let all = 0..small.queue.end();
    let World { ciphers, pool, .. } = &mut small.world;
    assert_eq!(small.queue.prepare(&all, ciphers, pool), Ok(all.end));
    let usage = small.world.pool.usage();
    let blocks = u32::try_from(small.lens().len()).unwrap();
    assert_eq!(
        (
            usage.large_spans_used,
            usage.small_spans_used,
            usage.blocks_used
        ),
        (0, blocks, blocks)
    );
}

/// The first record shares its segment with a short one before it, such as the head of a response.
#[test]
fn a_record_ends_with_the_segment_that_it_shares() {
    let params = Params::ALL[0];
    let overhead = params.shape().record_len(0);
    let mut small = Small::new(params, 10);
    small.push(300, false);
    small.push_span(20_000);
    let first = u32::from(MSS) - (300 + overhead);
    let lens: Vec<_> = small.lens().iter().map(|(wire, _)| *wire).collect();
    assert_eq!(lens[..3], [300 + overhead, first, MSS.into()]);

    // If too little is left of the segment, it ends with the next one.
    let mut small = Small::new(params, 10);
    small.push(1000, false);
    small.push_span(20_000);
    let first = 2 * u32::from(MSS) - (1000 + overhead);
    let lens: Vec<_> = small.lens().iter().map(|(wire, _)| *wire).collect();
    assert_eq!(lens[..3], [1000 + overhead, first, MSS.into()]);
}

/// A write that ends with the segment, or an eighth behind it, is one record.
#[test]
fn a_write_of_little_more_than_a_segment_is_one_record() {
    let params = Params::ALL[0];
    let fits = params.shape().content_within(MSS.into());
    let eighth = fits / 8;
    for (len, records) in [
        (1, 1),
        (fits, 1),
        (fits + eighth, 1),
        (fits + eighth + 1, 2),
        (2 * fits, 2),
        (2 * fits + eighth, 2),
        (2 * fits + eighth + 1, 3),
    ] {
        for by_reference in [false, true] {
            let mut small = Small::new(params, 10);
            if by_reference {
                small.push_span(len.into());
            } else {
                small.push(len.into(), false);
            }
            assert_eq!(small.lens().len(), records, "{len} {by_reference}");
        }
    }
    // More will follow, so nothing is left over.
    let mut small = Small::new(params, 10);
    small.push((fits + eighth).into(), true);
    assert_eq!(small.queue.open_len(), eighth.into());
    small.push(usize::from(fits - eighth), false);
    let lens: Vec<_> = small.lens().iter().map(|(_, content)| *content).collect();
    assert_eq!(lens, [usize::from(fits); 2]);
}

/// The limit of every record holds, also below a segment; messages are as long as they are.
#[test]
fn the_limit_of_every_record_holds() {
    let params = Params::ALL[0];
    for (max, len) in [(16_384, 4000), (1000, 1000), (64, 64)] {
        let mut small = Small::new(params, 4);
        small.queue.set_payload_len_max(max).unwrap();
        let message = small.rng.bytes(len);
        let pool = &mut small.world.pool;
        small.queue.push_message(DATA, &message, pool).unwrap();
        small.queue.push_message(DATA, &message, pool).unwrap();
        small.push(40 * usize::from(max.min(1000)), false);
        let lens: Vec<_> = small.lens().iter().map(|(_, content)| *content).collect();
        assert_eq!(lens[..2], [len, len]);
        assert!(lens.iter().all(|len| *len <= usize::from(max)));
        assert_eq!(small.queue.payload_len_max(), Some(max));
    }
}

/// Segments of any size: tiny ones don't make tiny records, and there are no more small records
/// than asked for.
#[test]
fn segments_of_any_size_leave_useful_records() {
    let params = Params::ALL[0];
    for mss in [1, 48, 88, 536, 1220, 1448, 8948, 65_535] {
        for sent in [0, 1, 47] {
            let mut small = Small::new(params, 5);
            small.push(100, false);
            small.segments = Segments::new(sent, mss);
            small.push(100_000, false);
            let lens: Vec<_> = small.lens().iter().map(|(_, content)| *content).collect();
            assert!(
                lens.len() <= 1 + 4 + 100_000_usize.div_ceil(16_384),
                "{mss}"
            );
            assert!(
                lens[1..lens.len() - 1].iter().all(|len| *len >= 512),
                "{mss}"
            );
        }
    }
}

/// Without the policy no record is small, and without segments neither.
#[test]
fn nothing_is_small_unless_asked_for() {
    let params = Params::ALL[0];
    let mut small = Small::new(params, 10);
    small.queue.set_dynamic_records(false);
    assert!(!small.queue.has_dynamic_records());
    small.queue.begin_small(10);
    assert_eq!(small.queue.small_left(), 0);
    small.push(16_384, false);
    assert_eq!(small.lens().len(), 1);

    let mut small = Small::new(params, 10);
    small.segments = Segments::UNKNOWN;
    small.push(16_384, false);
    assert_eq!(small.lens().len(), 1);

    let mut plain = RecordQueue::new();
    plain.set_dynamic_records(true);
    plain.begin_small(3);
    assert!(!plain.has_dynamic_records() && plain.small_left() == 0);
}

/// A key that is used up, and a pool without memory, stop a write as they do with full records.
#[test]
fn a_write_stops_where_memory_ends() {
    let params = Params::ALL[0];
    let mut small = Small::new(params, 100);
    let data = small.rng.bytes(200_000);
    let pool = &mut small.world.pool;
    let held: Vec<_> = core::iter::from_fn(|| pool.alloc(16_384)).collect();
    let segments = small.segments;
    let taken = small.queue.push_bytes_in(segments, &[&data], false, pool);
    let taken = taken.unwrap() as usize;
    assert!((100_000..200_000).contains(&taken), "{taken}");
    let again = small.queue.push_bytes(&[&data], false, pool);
    assert_eq!(again, Err(TxError::Exhausted));
    drop(held);
    let lens = small.lens();
    assert_eq!(lens.iter().map(|(_, len)| len).sum::<usize>(), taken);
    assert_eq!(small.world.ciphers.counters.value(Counter::FailedCrypto), 0);
}

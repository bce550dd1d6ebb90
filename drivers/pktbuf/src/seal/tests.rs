use std::sync::Arc;

use super::*;
use crate::arena::PageArena;
use crate::arena::SharedSpan;
use crate::block::AttachError;
use crate::packet::Slices;
use crate::pool::PoolConfig;
use crate::region::Region;
use crate::stream::{EndedSeals, Stream};

const LEN: u32 = 3000;
const WIRE: u64 = 5 + LEN as u64 + 16;

struct Bench {
    pool: PagePool,
    cached: Arc<SharedSpan>,
    _arena: PageArena,
}

impl Bench {
    fn new() -> Self {
        let config = PoolConfig {
            blocks: 16,
            small_spans: 4,
            large_spans: 12,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config) + (1 << 16)).unwrap();
        let arena = PageArena::new(&mut region, 1 << 15).unwrap();
        let mut page = arena.alloc(LEN as usize).unwrap();
        page.copy_from_slice(&text());
        Self {
            pool: PagePool::new(&mut region, config).unwrap(),
            cached: page.freeze(LEN as usize),
            _arena: arena,
        }
    }

    fn record(&mut self, number: u64, is_cached: bool) -> PageBuf {
        let mut page = if is_cached {
            self.pool.alloc_span(&self.cached, 0, LEN).unwrap()
        } else {
            let mut page = self.pool.alloc(LEN).unwrap();
            page.append(&text());
            page
        };
        let record = RecordFields {
            number,
            kind: 23,
            epoch: 1,
        };
        page.frame(record, b"HEAD5", 16).unwrap();
        page
    }

    /// A stream of `count` records, every second by reference.
    fn stream(&mut self, count: u64) -> Stream<PageBuf> {
        let mut stream = Stream::new();
        for number in 0..count {
            stream.push(self.record(number, number % 2 == 0));
        }
        stream
    }

    fn take(&mut self, stream: &mut Stream<PageBuf>, placement: Placement) -> Vec<SealMemory> {
        let mut taken = Vec::new();
        stream.visit_framed(0..u64::MAX, |record| {
            taken.push(record.begin_seal(placement, &mut self.pool).unwrap());
            true
        });
        taken
    }

    fn is_full(&mut self) -> bool {
        self.pool.reclaim();
        self.pool.is_full() && Arc::strong_count(&self.cached) == 1
    }
}

fn text() -> Vec<u8> {
    (0..LEN).map(|n| n.to_le_bytes()[0]).collect()
}

fn sealed_text(number: u64) -> Vec<u8> {
    let mut wire = b"HEAD5".to_vec();
    let mask = number.to_le_bytes()[0] | 0x80;
    wire.extend(text().iter().map(|byte| byte ^ mask));
    wire.extend([mask; 16]);
    wire
}

/// A trivial cipher that depends on the number.
fn run(memory: &mut SealMemory) {
    let parts = memory.parts();
    let mask = parts.record.number.to_le_bytes()[0] | 0x80;
    if let Some(from) = parts.from {
        parts.body.copy_from_slice(from);
    }
    parts.body.iter_mut().for_each(|byte| *byte ^= mask);
    parts.tail.fill(mask);
}

fn bytes(stream: &Stream<PageBuf>) -> Vec<u8> {
    let mut out = Slices::new(32);
    stream.slices(0..stream.end(), &mut out);
    let pieces = out.as_slice().iter().filter_map(|slice| slice.bytes());
    pieces.flatten().copied().collect()
}

fn on_another_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn a_record_that_is_away_cannot_be_read_or_attached() {
    for placement in [Placement::InPlace, Placement::Separate] {
        let mut b = Bench::new();
        for is_cached in [false, true] {
            let mut page = b.record(3, is_cached);
            let mut memory = page.begin_seal(placement, &mut b.pool).unwrap();
            assert_eq!(
                memory.is_in_place(),
                !is_cached && placement == Placement::InPlace
            );
            run(&mut memory);
            assert_eq!((page.state(), page.len()), (State::Away, 3021));
            assert!(page.bytes().is_none() && page.body_mut().is_none());
            assert_eq!(page.attach(0, 1).unwrap_err(), AttachError::Plaintext);
            assert_eq!(page.append(b"x"), 0);
            let again = page.begin_seal(placement, &mut b.pool);
            assert_eq!(again.unwrap_err(), Unsealable::NotFramed);
            assert_eq!(page.end_seal(&mut b.pool), None);
            memory.finish();
            assert_eq!(page.end_seal(&mut b.pool), Some(SealOutcome::Sealed));
            assert_eq!(page.bytes().unwrap(), sealed_text(3));
            assert_eq!(page.end_seal(&mut b.pool), None);
        }
        assert!(b.is_full());
    }
}

/// Sealed on other threads, last first: the stream shows them when all before are sealed.
#[test]
fn records_come_back_in_any_order_from_any_thread() {
    for placement in [Placement::InPlace, Placement::Separate] {
        let mut b = Bench::new();
        let mut stream = b.stream(4);
        let size = stream.true_size();
        let mut taken = b.take(&mut stream, placement);
        stream.check().unwrap();
        assert!(stream.true_size() > size);
        while let Some(mut memory) = taken.pop() {
            let ended = stream.end_seal(0..u64::MAX, &mut b.pool);
            let first = EndedSeals {
                away: Some(0),
                ..EndedSeals::default()
            };
            assert_eq!((ended, bytes(&stream)), (first, vec![]));
            on_another_thread(move || {
                run(&mut memory);
                memory.finish();
            });
        }
        let ended = stream.end_seal(0..u64::MAX, &mut b.pool);
        assert_eq!(ended, EndedSeals::default());
        stream.check().unwrap();
        assert_eq!(
            bytes(&stream),
            (0..4).flat_map(sealed_text).collect::<Vec<_>>()
        );
        // The plaintext of the records' own is gone, that of the page cache stays.
        assert_eq!(b.pool.usage().large_spans_used, 4);
        drop(stream);
        assert!(b.is_full());
    }
}

/// The queue is cut, released or dropped while records are away: their memory stays until the last
/// one is gone, and then all of it is back.
#[test]
fn memory_outlives_the_queue() {
    for placement in [Placement::InPlace, Placement::Separate] {
        for finished in [true, false] {
            let mut b = Bench::new();
            let mut stream = b.stream(4);
            let mut taken = b.take(&mut stream, placement);
            stream.release(WIRE);
            stream.truncate(2 * WIRE);
            stream.check().unwrap();
            let last = taken.pop().unwrap();
            drop(stream);
            assert_eq!(b.pool.usage().blocks_used, 4, "still to be written to");
            on_another_thread(move || {
                for mut memory in taken {
                    run(&mut memory);
                    if finished {
                        memory.finish();
                    }
                }
            });
            b.pool.reclaim();
            assert_eq!(b.pool.usage().blocks_used, 1);
            drop(last);
            assert!(b.is_full());
        }
    }
}

#[test]
fn the_pool_may_be_gone_as_well() {
    let mut b = Bench::new();
    let mut stream = b.stream(3);
    let mut taken = b.take(&mut stream, Placement::Separate);
    drop((stream, b));
    taken.iter_mut().for_each(run);
    on_another_thread(move || drop(taken));
}

/// An in-place record whose plaintext may be half overwritten is never sealed again.
#[test]
fn a_record_that_was_dropped_half_sealed_is_lost() {
    let mut b = Bench::new();
    let mut page = b.record(0, false);
    // Not touched, or known to be as it was: framed again.
    drop(page.begin_seal(Placement::InPlace, &mut b.pool).unwrap());
    assert_eq!(page.end_seal(&mut b.pool), Some(SealOutcome::Framed));
    let mut memory = page.begin_seal(Placement::InPlace, &mut b.pool).unwrap();
    memory.parts();
    memory.give_back();
    assert_eq!(page.end_seal(&mut b.pool), Some(SealOutcome::Framed));
    // The plaintext is elsewhere.
    let mut memory = page.begin_seal(Placement::Separate, &mut b.pool).unwrap();
    memory.parts().body.fill(0);
    drop(memory);
    assert_eq!(page.end_seal(&mut b.pool), Some(SealOutcome::Framed));
    assert_eq!(b.pool.usage().large_spans_used, 1);

    let mut memory = page.begin_seal(Placement::InPlace, &mut b.pool).unwrap();
    memory.parts().body[0] = 0;
    drop(memory);
    assert_eq!(page.end_seal(&mut b.pool), Some(SealOutcome::Lost));
    assert_eq!(page.state(), State::Away);
    let again = page.begin_seal(Placement::InPlace, &mut b.pool);
    assert_eq!(again.unwrap_err(), Unsealable::NotFramed);
    let mut stream = Stream::new();
    stream.push(page);
    let lost = EndedSeals {
        away: Some(0),
        framed: None,
        is_lost: true,
    };
    assert_eq!(stream.end_seal(0..1, &mut b.pool), lost);
    drop(stream);
    assert!(b.is_full());
}

/// A device doesn't answer. The records are sealed in new buffers, with the same bytes, and
/// whatever the device still writes goes nowhere.
#[test]
fn records_that_do_not_come_back_are_sealed_in_new_buffers() {
    let mut b = Bench::new();
    let mut stream = b.stream(4);
    let mut late = b.take(&mut stream, Placement::Separate);
    // The first came back.
    let mut first = late.remove(0);
    run(&mut first);
    first.finish();
    assert_eq!(stream.end_seal(0..u64::MAX, &mut b.pool).away, Some(WIRE));

    stream.renew_away(0..u64::MAX, &mut b.pool).unwrap();
    stream.check().unwrap();
    let mut taken = b.take(&mut stream, Placement::InPlace);
    assert_eq!(taken.len(), 3);
    taken.iter_mut().for_each(run);
    taken.into_iter().for_each(SealMemory::finish);
    assert_eq!(
        stream.end_seal(0..u64::MAX, &mut b.pool),
        EndedSeals::default()
    );
    let wire: Vec<u8> = (0..4).flat_map(sealed_text).collect();
    assert_eq!(bytes(&stream), wire);
    for memory in &mut late {
        let parts = memory.parts();
        parts.body.fill(0xaa);
        parts.tail.fill(0xaa);
    }
    late.into_iter().for_each(SealMemory::finish);
    assert_eq!(bytes(&stream), wire);
    stream.check().unwrap();
    drop(stream);
    assert!(b.is_full());
}

#[test]
fn a_record_sealed_in_place_gets_no_new_buffer() {
    let mut b = Bench::new();
    let mut stream = b.stream(2);
    let taken = b.take(&mut stream, Placement::InPlace);
    let renewed = stream.renew_away(0..u64::MAX, &mut b.pool);
    assert_eq!(renewed, Err(Unsealable::NotFramed));
    stream.check().unwrap();
    drop(taken);
    let ended = stream.end_seal(0..u64::MAX, &mut b.pool);
    assert_eq!(
        ended.framed,
        Some(WIRE),
        "the first has a new one, and is framed"
    );
    drop(stream);
    assert!(b.is_full());
}

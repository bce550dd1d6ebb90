use lockgate_testing::proptest_config;
use proptest::prelude::*;

use super::*;
use crate::block::{RecordFields, State};
use crate::heap::HeapBuffers;
use crate::packet::{MAX_SLICES, Slices};
use crate::page::PageBuf;
use crate::pool::{PagePool, PoolConfig};
use crate::region::Region;
use crate::seal::{Placement, SealMemory, Unsealable};
use crate::spans::LARGE_CAPACITY;

fn pool(blocks: u32) -> PagePool {
    pool_of(blocks, 4)
}

fn pool_of(blocks: u32, large_spans: u32) -> PagePool {
    let config = PoolConfig {
        blocks,
        small_spans: blocks,
        large_spans,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    PagePool::new(&mut region, config).unwrap()
}

fn page(pool: &mut PagePool, bytes: &[u8]) -> PageBuf {
    let mut page = pool.alloc(u32::try_from(bytes.len()).unwrap()).unwrap();
    page.append(bytes);
    page
}

/// Takes out the framed records of a range: the offset reached, the records, what stopped it.
fn take(
    stream: &mut Stream<PageBuf>,
    range: std::ops::Range<u64>,
    pool: &mut PagePool,
) -> (u64, Vec<SealMemory>, Option<Unsealable>) {
    let (mut taken, mut stopped) = (Vec::new(), None);
    let reached = stream.visit_framed(range, |record| {
        match record.begin_seal(Placement::InPlace, pool) {
            Ok(memory) => taken.push(memory),
            Err(error) => stopped = Some(error),
        }
        stopped.is_none()
    });
    (reached, taken, stopped)
}

/// The bytes of a range, by slices, as ports see them.
fn sent(stream: &Stream<PageBuf>, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let mut out = Slices::new(3);
        let reached = stream.slices(at..range.end, &mut out);
        assert_eq!(reached - at, u64::from(out.bytes()));
        assert!(reached > at, "stuck at {at}");
        bytes.extend(out.as_slice().iter().flat_map(|s| s.bytes().unwrap()));
        at = reached;
    }
    bytes
}

#[test]
fn empty() {
    let mut s: Stream<PageBuf> = Stream::starting_at(5);
    assert!(s.is_empty() && s.find(5).is_none() && s.pop_front().is_none());
    s.release(9);
    assert_eq!(
        (s.start(), s.truncate(0), s.append(b"x"), s.items()),
        (5, 5, 0, 0)
    );
    s.push(page(&mut pool(1), b""));
    assert!(s.is_empty());
    s.check().unwrap();
}

#[test]
fn release_keeps_whole_items() {
    let mut p = pool(8);
    let mut s = Stream::new();
    for text in ["abcd", "efgh", "ijkl"] {
        s.push(page(&mut p, text.as_bytes()));
    }
    s.release(6);
    s.check().unwrap();
    assert_eq!((s.start(), s.items(), p.usage().blocks_used), (6, 2, 2));
    assert_eq!(sent(&s, 6..12), b"ghijkl");
    assert!(s.find(5).is_none());
    s.release(3);
    assert_eq!(s.start(), 6, "never back");
    let (item, released) = s.pop_front().unwrap();
    assert_eq!(
        (item.bytes().unwrap(), released, s.start()),
        (&b"efgh"[..], 2, 8)
    );
    s.release(u64::MAX);
    assert_eq!((s.start(), s.end(), s.items()), (12, 12, 0));
    s.check().unwrap();
    drop(item);
    assert!(p.is_full());
}

#[test]
fn truncate_cuts_between_items() {
    let mut p = pool(8);
    let mut s = Stream::new();
    for text in ["abcd", "efgh", "ijkl"] {
        s.push(page(&mut p, text.as_bytes()));
    }
    s.find(11);
    assert_eq!(s.truncate(5), 8, "an item that is cut stays whole");
    s.check().unwrap();
    s.push(page(&mut p, b"mn"));
    assert_eq!(sent(&s, 0..10), b"abcdefghmn");
    s.release(3);
    assert_eq!(s.truncate(0), 4, "what was released in part stays");
    s.check().unwrap();
    s.release(4);
    s.push(page(&mut p, b"op"));
    assert_eq!(s.truncate(4), 4);
    s.check().unwrap();
    assert!(p.is_full());
}

#[test]
fn appending_to_the_last() {
    let mut p = pool(8);
    let mut s = Stream::new();
    s.push(page(&mut p, b"abcd"));
    let shown = s.find(1).unwrap().0.attach(1, 2).unwrap();
    assert_eq!(s.append(b"efgh"), 4);
    assert_eq!((s.end(), sent(&s, 2..8)), (8, b"cdefgh".to_vec()));
    s.check().unwrap();
    let mut record = page(&mut p, b"x");
    record.frame(RecordFields::default(), b"head", 1).unwrap();
    s.push(record);
    assert_eq!((s.append(b"no"), s.end()), (0, 14));
    drop((s, shown));
    assert!(p.is_full());
}

#[test]
fn sealing_in_the_queue() {
    let mut p = pool(16);
    let mut region = Region::heap(1 << 16).unwrap();
    let arena = crate::PageArena::new(&mut region, 1 << 16).unwrap();
    let mut cached = arena.alloc(3000).unwrap();
    cached.fill(5);
    let cached = cached.freeze(3000);
    let mut s = Stream::new();
    for number in 0..4 {
        let mut record = if number % 2 == 0 {
            page(&mut p, &[5; 3000][..100])
        } else {
            p.alloc_span(&cached, 0, 100).unwrap()
        };
        record
            .frame(
                RecordFields {
                    number,
                    ..RecordFields::default()
                },
                b"HEAD",
                2,
            )
            .unwrap();
        s.push(record);
    }
    let size = s.true_size();
    let mut out = Slices::new(MAX_SLICES);
    assert_eq!(s.slices(0..424, &mut out), 424);
    assert!(
        out.as_slice().iter().all(|slice| slice.bytes().is_none()),
        "not readable before"
    );
    let mut numbers = Vec::new();
    let (reached, taken, stopped) = take(&mut s, 107..424, &mut p);
    assert_eq!((reached, stopped), (424, None));
    for mut memory in taken {
        let parts = memory.parts();
        numbers.push(parts.record.number);
        assert_eq!(parts.head.as_bytes(), b"HEAD");
        parts.body.fill(6);
        parts.tail.fill(7);
        memory.finish();
    }
    assert!(s.true_size() > size, "the span it was sealed into counts");
    assert_eq!(s.end_seal(107..424, &mut p), EndedSeals::default());
    assert_eq!(numbers, [1, 2, 3]);
    s.check().unwrap();
    assert!(s.true_size() > size, "it counts as long as it's sealed");
    let states: Vec<_> = s.iter().map(|(_, b)| b.state()).collect();
    assert_eq!(
        states,
        [State::Framed, State::Sealed, State::Sealed, State::Sealed]
    );
    assert_eq!(sent(&s, 210..218), b"\x07\x07HEAD\x06\x06");
    drop(s);
    assert!(p.is_full());
    drop(cached);
    assert_eq!(arena.usage().bytes_used, 0);
}

/// What isn't sealed is framed again, whatever stopped it, and its span is back in the pool.
#[test]
fn sealing_that_stops_halfway() {
    let mut p = pool_of(48, 24);
    let mut region = Region::heap(1 << 16).unwrap();
    let arena = crate::PageArena::new(&mut region, 1 << 16).unwrap();
    let cached = arena.alloc(4096).unwrap().freeze(4096);
    let mut s = Stream::new();
    s.push(page(&mut p, b"in the clear"));
    let mut starts = Vec::new();
    for number in 0..20 {
        let mut record = p.alloc_span(&cached, 0, 4096).unwrap();
        let record_fields = RecordFields {
            number,
            ..RecordFields::default()
        };
        record.frame(record_fields, b"HEAD", 1).unwrap();
        starts.push(s.end());
        s.push(record);
    }
    let states = |s: &Stream<PageBuf>| -> Vec<_> { s.iter().map(|(_, b)| b.state()).collect() };
    let spans = p.usage().large_spans;
    let used = |p: &PagePool| p.usage().large_spans_used;
    let seal = |mut memory: SealMemory| {
        let parts = memory.parts();
        parts.body.fill(6);
        parts.tail.fill(7);
        memory.finish();
    };

    // The cipher fails at the eleventh.
    let (_, taken, stopped) = take(&mut s, 0..starts[15], &mut p);
    assert_eq!((taken.len(), stopped, used(&p)), (15, None, 15));
    assert_eq!(states(&s)[1..16], [State::Away; 15]);
    for (n, memory) in taken.into_iter().enumerate() {
        match n {
            0..10 => seal(memory),
            10 => memory.give_back(),
            _ => drop(memory),
        }
    }
    let ended = s.end_seal(0..s.end(), &mut p);
    let framed = EndedSeals {
        framed: Some(starts[10]),
        ..EndedSeals::default()
    };
    assert_eq!(ended, framed);
    assert_eq!(states(&s)[1..11], [State::Sealed; 10]);
    assert_eq!(states(&s)[11..], [State::Framed; 10]);
    assert_eq!(used(&p), 10, "what was taken for the others is back");
    s.check().unwrap();

    // The pool runs out.
    let hog: Vec<_> = std::iter::from_fn(|| p.alloc(LARGE_CAPACITY))
        .take(11)
        .collect();
    let left = (spans - used(&p)) as usize;
    assert!((1..8).contains(&left), "{left} spans left");
    let range = starts[10]..s.end();
    let (reached, taken, stopped) = take(&mut s, range, &mut p);
    assert_eq!(reached, starts[10 + left]);
    assert_eq!(stopped, Some(Unsealable::Exhausted));
    assert_eq!(taken[0].record().number, 10);
    taken.into_iter().for_each(seal);
    assert_eq!(s.end_seal(0..s.end(), &mut p), EndedSeals::default());
    drop(hog);

    // Only what the range touches.
    let range = reached..starts[10 + left] + 1;
    let (reached, taken, stopped) = take(&mut s, range, &mut p);
    assert_eq!((reached, stopped), (starts[11 + left], None));
    taken.into_iter().for_each(seal);
    s.end_seal(0..s.end(), &mut p);
    assert_eq!(sent(&s, starts[3]..starts[3] + 6), b"HEAD\x06\x06");
    s.check().unwrap();
    drop(s);
    assert!(p.is_full());
}

#[test]
fn going_back_does_not_forget_the_front_line() {
    let mut p = pool(256);
    let mut s = Stream::new();
    for _ in 0..200 {
        s.push(page(&mut p, &[1; 10]));
    }
    s.find(1500);
    let front = s.cursor.get();
    // A retransmission in between.
    s.find(15);
    assert_eq!(s.cursor.get(), front);
    s.find(30);
    s.find(1510);
    assert_ne!(s.cursor.get(), front);
    assert_eq!(
        Stream::<PageBuf>::offset_of(NonNull::new(s.back.get()).unwrap()),
        30
    );
    s.release(1600);
    s.check().unwrap();
    assert_eq!(s.find(1605).unwrap().1, 5);
}

#[test]
fn check_finds_what_is_broken() {
    let mut p = pool(8);
    let mut s = Stream::new();
    s.push(page(&mut p, b"abcd"));
    s.end += 1;
    assert_eq!(s.check(), Err("the end isn't the last buffer's"));
    s.end -= 1;
    s.items += 1;
    assert_eq!(s.check(), Err("number of buffers"));
    s.items -= 1;
    s.true_size.set(0);
    assert_eq!(s.check(), Err("size of memory"));
    s.true_size.set(s.iter().map(|(_, b)| b.true_size()).sum());
    s.check().unwrap();
}

#[test]
fn received_short_ones_are_copied_together() {
    let mut h = HeapBuffers::new(8);
    let mut s = Stream::new();
    for i in 0..1000u32 {
        s.push_compact(h.alloc(&[i.to_le_bytes()[0]]).unwrap());
    }
    s.check().unwrap();
    assert_eq!((s.len(), s.items(), h.usage().blocks_used), (1000, 1, 1));
    s.push_compact(h.alloc(&[1; 600]).unwrap());
    assert_eq!(s.items(), 2, "long ones stay what they are");
    let mut read_only = h.alloc(&[2; 10]).unwrap();
    read_only.set_read_only();
    s.release(1600);
    s.push_compact(read_only);
    s.push_compact(h.alloc(&[3; 10]).unwrap());
    assert_eq!(s.items(), 2, "and read-only ones aren't written to");
    s.check().unwrap();
}

#[test]
fn received_front() {
    let mut h = HeapBuffers::new(8);
    let mut s = Stream::new();
    assert!(s.front().is_empty() && s.front_mut(0).is_none());
    s.push(h.alloc_chain(&[b"abc", b"", b"def"]).unwrap());
    s.push(h.alloc(b"ghi").unwrap());
    assert_eq!(s.front(), b"abc");
    assert_eq!(s.front_mut(3).unwrap(), b"abc");
    assert!(s.front_mut(4).is_none());
    s.release(1);
    assert_eq!(s.front(), b"bc");
    assert!(s.front_mut(3).is_none());
    s.front_mut(1).unwrap()[0] = b'B';
    let mut out = [0; 7];
    assert_eq!((s.copy_to(1, &mut out), &out), (7, b"Bcdefgh"));
    assert_eq!((s.copy_to(7, &mut out), &out[..2]), (2, &b"hi"[..]));
    assert_eq!((s.copy_to(0, &mut out), s.copy_to(9, &mut out)), (0, 0));
    s.release(3);
    assert_eq!(s.front(), b"def");
    assert!(s.front_mut(1).is_none());
    s.release(7);
    assert_eq!(s.front(), b"hi");
}

proptest! {
    #![proptest_config(proptest_config(if cfg!(miri) { 5 } else { 512 }))]

    /// Against a vector of bytes and one of items.
    #[test]
    fn as_a_vec(steps in prop::collection::vec((0u8..8, any::<u16>(), any::<u16>()), 1..120)) {
        let mut p = pool(128);
        let mut s = Stream::starting_at(3);
        let mut bytes: Vec<u8> = vec![0; 3];
        let mut ends: Vec<u64> = vec![];
        let mut start = 3u64;
        let mut next = 0u8;
        for (step, a, b) in steps {
            let end = bytes.len() as u64;
            let within = |x: u16| start + u64::from(x) % (end - start + 1);
            match step {
                0..3 => {
                    let new: Vec<u8> = (0..a % 100).map(|_| { next = next.wrapping_add(1); next }).collect();
                    s.push(page(&mut p, &new));
                    if !new.is_empty() {
                        bytes.extend(&new);
                        ends.push(bytes.len() as u64);
                    }
                }
                3 => {
                    start = within(a);
                    s.release(start);
                    ends.retain(|e| *e > start);
                }
                4 => {
                    let to = within(a);
                    let first = ends.first().copied();
                    let mut begin = start;
                    ends.retain(|e| { let keep = begin < to || (Some(*e) == first && s.find(start).is_some_and(|(_, at)| at > 0)); begin = *e; keep });
                    bytes.truncate(usize::try_from(ends.last().copied().unwrap_or(start)).unwrap());
                    prop_assert_eq!(s.truncate(to), bytes.len() as u64);
                }
                5 => {
                    let new = [a.to_le_bytes()[0]; 7];
                    let n = s.append(&new);
                    prop_assert_eq!(n > 0, !ends.is_empty());
                    bytes.extend(&new[..n]);
                    if let Some(last) = ends.last_mut() { *last = bytes.len() as u64; }
                }
                6 => {
                    let offset = within(a);
                    let found = s.find(offset);
                    prop_assert_eq!(found.is_some(), offset < end);
                    if let Some((item, at)) = found {
                        prop_assert_eq!(item.bytes().unwrap()[at as usize], bytes[usize::try_from(offset).unwrap()]);
                    }
                }
                _ => {
                    let (from, to) = (within(a).min(within(b)), within(a).max(within(b)));
                    let want = &bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
                    prop_assert_eq!(sent(&s, from..to), want);
                }
            }
            s.check().unwrap();
            prop_assert_eq!((s.start(), s.end()), (start, bytes.len() as u64));
            prop_assert_eq!(s.items() as usize, ends.len());
            prop_assert_eq!(p.usage().blocks_used as usize, ends.len());
        }
        drop(s);
        prop_assert!(p.is_full());
    }
}

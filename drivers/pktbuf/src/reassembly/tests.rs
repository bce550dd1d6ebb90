#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, some of one"
)]

use lockgate_testing::proptest_config;
use proptest::prelude::*;

use super::*;
use crate::heap::HeapBuffers;
use crate::pool::PoolConfig;
use crate::region::Region;

const FREELY: ReassemblyLimits = ReassemblyLimits {
    true_size: u32::MAX,
    items: u16::MAX,
};

struct Bench {
    r: Reassembly,
    s: Stream<Buffer>,
    h: HeapBuffers,
    p: PagePool,
    limits: ReassemblyLimits,
}

impl Bench {
    fn new(limits: ReassemblyLimits) -> Self {
        let config = PoolConfig {
            blocks: 8,
            small_spans: 8,
            large_spans: 2,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
        Self {
            r: Reassembly::new(),
            s: Stream::new(),
            h: HeapBuffers::new(64),
            p: PagePool::new(&mut region, config).unwrap(),
            limits,
        }
    }

    fn offer(&mut self, at: u64, buffer: Buffer) -> Result<(), Refused> {
        let buffer = self
            .r
            .admit(self.s.end(), at, buffer, &self.limits, &mut self.p)?;
        self.r.insert(at, buffer, &mut self.s);
        self.r.check().unwrap();
        self.s.check().unwrap();
        Ok(())
    }

    fn on(&mut self, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let buffer = self.h.alloc(bytes).unwrap();
        self.offer(at, buffer)
    }

    fn on_read_only(&mut self, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut buffer = self.h.alloc(bytes).unwrap();
        buffer.set_read_only();
        self.offer(at, buffer)
    }

    fn text(&self) -> String {
        let mut out = vec![0; usize::try_from(self.s.len()).unwrap()];
        assert_eq!(self.s.copy_to(self.s.start(), &mut out), out.len());
        String::from_utf8(out).unwrap()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.r.ranges().collect()
    }
}

#[test]
fn in_order_goes_straight_through() {
    let mut b = Bench::new(ReassemblyLimits {
        true_size: 0,
        items: 0,
    });
    b.on(0, b"abc").unwrap();
    b.on(3, b"def").unwrap();
    assert_eq!((b.text().as_str(), b.r.is_empty()), ("abcdef", true));
    b.on(1, b"bcd").unwrap();
    b.on(4, b"XXgh").unwrap();
    assert_eq!(b.text(), "abcdefgh");
}

#[test]
fn holes_fill() {
    let mut b = Bench::new(FREELY);
    b.on(6, b"gh").unwrap();
    b.on(2, b"cd").unwrap();
    b.on(9, b"j").unwrap();
    assert_eq!(
        (b.ranges(), b.text().as_str()),
        (vec![2..4, 6..8, 9..10], "")
    );
    assert!(b.r.true_size() > 0);
    b.on(0, b"ab").unwrap();
    assert_eq!((b.ranges(), b.text().as_str()), (vec![6..8, 9..10], "abcd"));
    b.on(4, b"ef").unwrap();
    b.on(8, b"i").unwrap();
    assert_eq!(
        (b.text().as_str(), b.r.is_empty(), b.r.true_size()),
        ("abcdefghij", true, 0)
    );
}

#[test]
fn the_first_copy_wins() {
    let mut b = Bench::new(FREELY);
    b.on(2, b"cd").unwrap();
    b.on(1, b"BXX").unwrap();
    b.on(3, b"YEF").unwrap();
    assert_eq!(b.ranges(), [1..6]);
    b.on(0, b"aZZZZZZg").unwrap();
    assert_eq!(b.text(), "aBcdEFZg");
}

#[test]
fn one_that_spans_several_keeps_all_of_its_own() {
    for read_only in [false, true] {
        for whole_buffers in [false, true] {
            let mut b = Bench::new(FREELY);
            // Long ones aren't copied together.
            let n = if whole_buffers { 600 } else { 1 };
            for (at, c) in [(2, 'c'), (4, 'e'), (7, 'h')] {
                b.on(
                    at * n,
                    &vec![u8::try_from(c).unwrap(); usize::try_from(n).unwrap()],
                )
                .unwrap();
            }
            let new = vec![b'x'; usize::try_from(9 * n).unwrap()];
            assert!(
                if read_only {
                    b.on_read_only(n, &new)
                } else {
                    b.on(n, &new)
                }
                .is_ok()
            );
            assert_eq!((b.ranges(), b.r.items()), (vec![n..10 * n], 1));
            b.on(0, &vec![b'a'; usize::try_from(n).unwrap()]).unwrap();
            let want: String = "axcxexxhxx"
                .chars()
                .flat_map(|c| vec![c; usize::try_from(n).unwrap()])
                .collect();
            assert_eq!(b.text(), want);
            b.s.release(u64::MAX);
            assert!(b.h.is_full() && b.p.is_full());
        }
    }
}

#[test]
fn what_cannot_be_held_is_refused_before() {
    let mut b = Bench::new(FREELY);
    b.on(4, b"e").unwrap();
    b.p.inject_failures(1, 1);
    assert_eq!(b.on_read_only(0, b"abcdXf"), Err(Refused::Exhausted));
    assert_eq!((b.ranges(), b.text().as_str()), (vec![4..5], ""));
    assert_eq!(
        b.on_read_only(0, b"abcdX"),
        Ok(()),
        "nothing behind the one that's here"
    );
    b.on_read_only(5, b"f").unwrap();
    assert_eq!(b.text(), "abcdef");
}

#[test]
fn what_lacks_nothing_needs_no_memory() {
    // Its front is in two buffers, its end in a third.
    let mut b = Bench::new(FREELY);
    for at in [700, 1300, 1900] {
        b.on(at, &[1; 600]).unwrap();
    }
    b.p.inject_failures(1, 1);
    b.on_read_only(1000, &[2; 1000]).unwrap();
    assert_eq!((b.ranges(), b.r.items()), (vec![700..2500], 3));
}

#[test]
fn limits() {
    let mut b = Bench::new(ReassemblyLimits {
        true_size: u32::MAX,
        items: 2,
    });
    b.on(10, b"a").unwrap();
    b.on(20, b"b").unwrap();
    assert_eq!(b.on(30, b"c"), Err(Refused::Limit));
    assert_eq!(b.on(20, b"X"), Ok(()), "brings nothing new");
    assert_eq!(b.on(0, b"0123456789"), Ok(()), "in order");
    assert_eq!((b.s.end(), b.r.items()), (11, 1));
    b.limits.true_size = b.r.true_size();
    b.limits.items = 9;
    assert_eq!(b.on(30, b"c"), Err(Refused::Limit));
    b.limits.true_size *= 2;
    assert_eq!(b.on(30, b"c"), Ok(()));
    b.r.clear();
    b.r.check().unwrap();
    assert_eq!((b.r.items(), b.r.true_size()), (0, 0));
}

#[test]
fn tiny_pieces_behind_each_other_share_memory() {
    let mut b = Bench::new(ReassemblyLimits {
        true_size: 5000,
        items: 2,
    });
    for at in 1..1000 {
        b.on(at, b"x").unwrap();
    }
    assert_eq!((b.r.items(), b.ranges()), (1, vec![1..1000]));
}

#[test]
fn a_part_may_be_kept() {
    // TCP keeps less than was admitted: its window ends before.
    let mut b = Bench::new(FREELY);
    b.on(4, b"e").unwrap();
    let buffer = b.h.alloc(b"bcdXfgh").unwrap();
    let mut buffer = b.r.admit(0, 1, buffer, &FREELY, &mut b.p).unwrap();
    buffer.trim_front(1);
    buffer.truncate(4);
    b.r.insert(2, buffer, &mut b.s);
    b.r.check().unwrap();
    assert_eq!(b.ranges(), [2..6]);
    b.on(0, b"ab").unwrap();
    assert_eq!(b.text(), "abcdef");
}

proptest! {
    #![proptest_config(proptest_config(if cfg!(miri) { 4 } else { 1024 }))]

    /// Each segment's bytes differ from those of every other: the stream must have the first copy
    /// of each.
    #[test]
    fn first_copy_of_each_byte(
        segments in prop::collection::vec((0u64..1400, 1usize..400, any::<bool>(), 0u8..3), 1..60),
        scale in prop::sample::select(vec![1usize, 7]),
        limit in prop::sample::select(vec![u16::MAX, 4]),
        failures in prop::sample::select(vec![0u32, 2]),
    ) {
        let mut b = Bench::new(ReassemblyLimits { true_size: u32::MAX, items: limit });
        b.p.inject_failures(7, failures);
        b.h = HeapBuffers::new(1000);
        let mut model: Vec<Option<u8>> = vec![None; 2000 * scale];
        for (i, (at, len, read_only, cuts)) in segments.into_iter().enumerate() {
            let (at, len) = (usize::try_from(at).unwrap() * scale, len * scale);
            let mark = u8::try_from(i + 1).unwrap();
            let bytes = vec![mark; len];
            let pieces: Vec<&[u8]> = bytes.chunks(len.div_ceil(usize::from(cuts) + 1)).collect();
            let mut buffer = b.h.alloc_chain(&pieces).unwrap();
            if read_only {
                buffer.set_read_only();
            }
            let refused = b.offer(at as u64, buffer);
            if refused == Err(Refused::Limit) {
                prop_assert!(at as u64 > b.s.end() && limit < u16::MAX);
            }
            if refused == Err(Refused::Exhausted) {
                prop_assert!(read_only);
            }
            if refused.is_ok() {
                for byte in &mut model[at..at + len] {
                    byte.get_or_insert(mark);
                }
            }
            let ready = model.iter().position(Option::is_none).unwrap();
            prop_assert_eq!(b.s.end(), ready as u64);
            let mut got = vec![0; ready];
            b.s.copy_to(0, &mut got);
            let want: Vec<u8> = model[..ready].iter().map(|byte| byte.unwrap()).collect();
            prop_assert_eq!(got, want);
            let mut waiting: Vec<bool> = vec![false; model.len()];
            for range in b.r.ranges() {
                waiting[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].fill(true);
            }
            prop_assert!((ready..model.len()).all(|at| waiting[at] == model[at].is_some()));
        }
        b.s.release(u64::MAX);
        b.r.clear();
        b.p.reclaim();
        prop_assert!(b.h.is_full() && b.p.is_full());
    }
}

use std::ptr;
use std::sync::{Arc, mpsc};
use std::thread as threads;

use lockgate_testing::proptest_config;
use proptest::prelude::*;

use super::*;
use crate::arena::{PageArena, SharedSpan};
use crate::block::{AttachError, RecordFields, SharedInfo, State};
use crate::page::{FrameError, PageBuf};
use crate::pool::inner::FREED;
use crate::seal::{Placement, SealError, SealMemory, SealParts, Unsealable};
use crate::spans::{LARGE_CAPACITY, SMALL_CAPACITY};
use crate::stream::{EndedSeals, Stream};

const CONFIG: PoolConfig = PoolConfig {
    blocks: 16,
    small_spans: 8,
    large_spans: 4,
};
const RECORD: RecordFields = RecordFields {
    number: 7,
    kind: 23,
    epoch: 1,
};

fn pool(config: PoolConfig) -> PagePool {
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    PagePool::new(&mut region, config).unwrap()
}

fn span(bytes: &[u8]) -> (PageArena, Arc<SharedSpan>) {
    let mut region = Region::heap(1 << 17).unwrap();
    let arena = PageArena::new(&mut region, 1 << 17).unwrap();
    let mut page = arena.alloc(bytes.len()).unwrap();
    page.copy_from_slice(bytes);
    (arena, page.freeze(bytes.len()))
}

/// A trivial cipher: each byte plus one, and a trailer of 9s.
fn toy(parts: &mut SealParts<'_>) -> Result<(), ()> {
    if let Some(from) = parts.from {
        parts.body.copy_from_slice(from);
    }
    parts.body.iter_mut().for_each(|b| *b = b.wrapping_add(1));
    parts.tail.fill(9);
    Ok(())
}

fn toy_sealed(head: &[u8], body: &[u8], tail: usize) -> Vec<u8> {
    let mut v = head.to_vec();
    v.extend(body.iter().map(|b| b.wrapping_add(1)));
    v.resize(v.len() + tail, 9);
    v
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Block>(), 128);
    assert_eq!(size_of::<SharedInfo>(), 24);
    assert_eq!((SMALL_CAPACITY, LARGE_CAPACITY), (1856, 20_288));
}

#[test]
fn a_region_too_small_is_refused() {
    let mut region = Region::heap(PagePool::bytes_needed(CONFIG) - 1).unwrap();
    assert!(PagePool::new(&mut region, CONFIG).is_err());
    let mut a = Region::heap(10_000).unwrap();
    let b = a.split(4096).unwrap();
    assert_eq!((a.left(), b.left()), (10_000 - 4096, 4096));
    assert_eq!(
        a.split(8192).unwrap_err(),
        RegionFull {
            wanted: 8192,
            left: 5904
        }
    );
}

#[test]
fn spans_cross_no_border_whatever_the_region() {
    // Several borders, and a region that begins anywhere.
    let config = PoolConfig {
        blocks: 1003,
        small_spans: 2001,
        large_spans: 501,
    };
    for offset in [0, 64, 4096, 20_480, BORDER - 4096, BORDER - 64] {
        let mut whole = Region::heap(PagePool::bytes_needed(config) + offset).unwrap();
        whole.carve(offset, 1).unwrap();
        let mut pool = PagePool::new(&mut whole, config).unwrap();
        let mut pages = Vec::new();
        for capacity in [LARGE_CAPACITY, SMALL_CAPACITY] {
            while let Some(page) = pool.alloc(capacity) {
                pages.push(page);
                if pages.len() == 501 {
                    break;
                }
            }
        }
        assert_eq!(pool.usage().failures, 1, "all blocks were had");
        assert_eq!(pages.len(), 1003);
        for page in &mut pages {
            let (room, len) = (page.room(), page.room() as usize);
            assert!(room == LARGE_CAPACITY || room == SMALL_CAPACITY);
            page.append(&vec![1; len]);
            let at = page.bytes().unwrap().as_ptr().addr();
            // Header and trailer are around the body, in one piece.
            let (first, last) = (at - 16, at + len + 64 - 1);
            assert_eq!(first / BORDER, last / BORDER, "{at:#x}");
        }
    }
}

#[test]
fn a_pool_is_made_of_several_regions() {
    let config = PoolConfig {
        blocks: 300,
        small_spans: 150,
        large_spans: 150,
    };
    let needed = PagePool::bytes_needed(config);
    let regions = |count: usize, more: usize| {
        let each = needed.div_ceil(count) + more;
        let regions = (0..count).map(|_| Region::heap(each).unwrap());
        regions.collect::<Vec<_>>()
    };
    for count in [1, 2, 3, 7] {
        let mut pool = PagePool::from_regions(&mut regions(count, 64 << 10), config).unwrap();
        let mut pages: Vec<_> = (0..150)
            .map(|_| pool.alloc(LARGE_CAPACITY).unwrap())
            .collect();
        pages.extend((0..150).map(|_| pool.alloc(1).unwrap()));
        assert!(pool.alloc(1).is_none());
        for (page, mark) in pages.iter_mut().zip((0..=u8::MAX).cycle()) {
            page.append(&[mark; 1800]);
        }
        for (page, mark) in pages.iter().zip((0..=u8::MAX).cycle()) {
            assert!(page.bytes().unwrap().iter().all(|b| *b == mark));
        }
        drop(pages);
        assert!(pool.is_full());
    }
    let mut short = regions(2, 0);
    short.pop();
    let error = PagePool::from_regions(&mut short, config).unwrap_err();
    assert_eq!(error.wanted, needed);
}

#[test]
fn smallest_span_first_then_larger_then_none() {
    let mut p = pool(CONFIG);
    let small: Vec<_> = (0..8).map(|_| p.alloc(SMALL_CAPACITY).unwrap()).collect();
    assert!(small.iter().all(|b| b.room() == SMALL_CAPACITY));
    assert_eq!(p.alloc(1).unwrap().room(), LARGE_CAPACITY);
    let large: Vec<_> = (0..4)
        .map(|_| p.alloc(SMALL_CAPACITY + 1).unwrap())
        .collect();
    assert!(large.iter().all(|b| b.room() == LARGE_CAPACITY));
    assert!(p.alloc(1).is_none());
    assert!(p.alloc(LARGE_CAPACITY + 1).is_none());
    let usage = p.usage();
    assert_eq!(
        (
            usage.blocks_used,
            usage.small_spans_used,
            usage.large_spans_used
        ),
        (12, 8, 4)
    );
    assert_eq!(usage.failures, 2);
    drop((small, large));
    assert!(p.is_full());
}

#[test]
fn bodies_are_aligned_and_disjoint() {
    let mut p = pool(CONFIG);
    let mut pages: Vec<_> = (0..12).map(|_| p.alloc(1).unwrap()).collect();
    for (i, page) in pages.iter_mut().enumerate() {
        let fill = vec![u8::try_from(i).unwrap(); page.room() as usize];
        assert_eq!(page.append(&fill), fill.len());
        assert_eq!(page.append(&[1]), 0);
        assert_eq!(page.bytes().unwrap().as_ptr().addr() % 64, 0);
    }
    for (i, page) in pages.iter().enumerate() {
        assert!(page.bytes().unwrap().iter().all(|b| usize::from(*b) == i));
    }
}

#[test]
fn plain_bytes_are_edited() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(100).unwrap();
    assert_eq!(page.append(b"hello world"), 11);
    page.body_mut().unwrap()[0] = b'H';
    page.trim_front(1);
    page.truncate(4);
    assert_eq!(page.bytes().unwrap(), b"ello");
    assert_eq!(page.room(), SMALL_CAPACITY - 5);
    assert_eq!(
        page.append_with(3, |to| {
            to.copy_from_slice(b"abc");
            2
        }),
        2
    );
    assert_eq!(page.bytes().unwrap(), b"elloab");
    page.trim_front(100);
    assert!(page.is_empty());
}

#[test]
fn an_owned_record_is_sealed_in_place() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(16_384).unwrap();
    let body: Vec<u8> = (0..16_384u32).map(|i| i.to_le_bytes()[0]).collect();
    page.append(&body);
    page.frame(RECORD, b"head5", 17).unwrap();
    assert_eq!(page.state(), State::Framed);
    assert_eq!(page.len(), 5 + 16_384 + 17);
    assert!(page.bytes().is_none() && page.body_mut().is_none());
    assert_eq!((page.room(), page.append(b"x")), (0, 0));
    page.truncate(1);
    page.trim_front(1);
    assert_eq!(page.frame(RECORD, b"", 0), Err(FrameError::NotPlain));
    assert_eq!(page.attach(0, 1).unwrap_err(), AttachError::Plaintext);

    assert_eq!(
        page.seal_with(&mut p, |_| Err("no")),
        Err(SealError::Cipher("no"))
    );
    assert_eq!(page.state(), State::Framed);
    let used = p.usage();
    page.seal_with(&mut p, toy).unwrap();
    assert_eq!(p.usage(), used);
    assert_eq!(page.bytes().unwrap(), toy_sealed(b"head5", &body, 17));
    assert_eq!(page.record(), Some(RECORD));
    assert_eq!(
        page.seal_with(&mut p, toy),
        Err(Unsealable::NotFramed.into())
    );
    drop(page);
    assert!(p.is_full());
}

#[test]
fn a_cached_page_is_sealed_out_of_place_and_released() {
    let mut p = pool(CONFIG);
    let text: Vec<u8> = (0..40_000u32).map(|i| i.to_le_bytes()[1]).collect();
    let (arena, cached) = span(&text);
    let mut page = p.alloc_span(&cached, 1000, 16_384).unwrap();
    assert!(page.is_by_reference() && page.body_mut().is_none());
    assert_eq!((page.room(), page.append(b"x")), (0, 0));
    assert_eq!(page.bytes().unwrap(), &text[1000..17_384]);
    page.frame(RECORD, b"head-of-thirteen!"[..13].as_ref(), 16)
        .unwrap();

    // Not while no span is free, and not when the cipher refuses: framed as before.
    let hog: Vec<_> = std::iter::from_fn(|| p.alloc(LARGE_CAPACITY)).collect();
    assert_eq!(
        page.seal_with(&mut p, toy),
        Err(Unsealable::Exhausted.into())
    );
    drop(hog);
    assert_eq!(
        page.seal_with(&mut p, |_| Err(3)),
        Err(SealError::Cipher(3))
    );
    assert_eq!(
        (page.state(), p.usage().large_spans_used),
        (State::Framed, 0)
    );
    assert_eq!(Arc::strong_count(&cached), 2);

    page.seal_with(&mut p, toy).unwrap();
    assert_eq!(Arc::strong_count(&cached), 2, "it may be sealed again");
    let want = toy_sealed(&b"head-of-thirteen!"[..13], &text[1000..17_384], 16);
    assert_eq!(page.bytes().unwrap(), want);
    assert_eq!(&cached[..], text, "and untouched");
    drop(cached);
    drop(page);
    assert_eq!(arena.usage().bytes_used, 0);
    assert!(p.is_full());
}

/// Ciphertext is dropped only where it can be made again and no port refers to it. Sealing again
/// gives the same bytes.
#[test]
fn ciphertext_is_dropped_and_made_again() {
    let mut p = pool(CONFIG);
    let text: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (_arena, cached) = span(&text);
    let mut stream = Stream::new();
    for at in [0, 2000] {
        let mut page = p.alloc_span(&cached, at, 1000).unwrap();
        page.frame(RECORD, b"head!", 16).unwrap();
        stream.push(page);
    }
    let mut own = p.alloc(3000).unwrap();
    own.append(&text[..3000]);
    own.frame(RECORD, b"head!", 16).unwrap();
    stream.push(own);
    let seal = |stream: &mut Stream<PageBuf>, p: &mut PagePool| {
        let mut taken: Vec<SealMemory> = Vec::new();
        stream.visit_framed(0..u64::MAX, |record| {
            taken.push(record.begin_seal(Placement::InPlace, p).unwrap());
            true
        });
        for mut memory in taken {
            toy(&mut memory.parts()).unwrap();
            memory.finish();
        }
        assert_eq!(stream.end_seal(0..u64::MAX, p), EndedSeals::default());
    };
    let bytes = |stream: &Stream<PageBuf>| -> Vec<Option<Vec<u8>>> {
        let bytes = stream
            .iter()
            .map(|(_, page)| page.bytes().map(<[u8]>::to_vec));
        bytes.collect()
    };
    seal(&mut stream, &mut p);
    let (first, size) = (bytes(&stream), stream.true_size());
    let used = p.usage();

    // A port still refers to the second record, and the third has its plaintext nowhere else.
    let attached = stream.find(1100).unwrap().0.attach(0, 10).unwrap();
    assert_eq!(stream.drop_ciphertext(0..u64::MAX, &mut p), (1, Some(0)));
    assert_eq!(stream.drop_ciphertext(0..u64::MAX, &mut p), (0, None));
    drop(attached);
    let second = stream.iter().nth(1).unwrap().0;
    assert_eq!(
        stream.drop_ciphertext(0..u64::MAX, &mut p),
        (1, Some(second))
    );
    assert_eq!(p.usage().small_spans_used, used.small_spans_used - 2);
    assert_eq!(bytes(&stream)[..2], [None, None], "plaintext of a record");
    stream.check().unwrap();

    seal(&mut stream, &mut p);
    assert!(bytes(&stream) == first && stream.true_size() == size);
    stream.check().unwrap();
    drop(stream);
    assert!(p.is_full());
    assert_eq!(Arc::strong_count(&cached), 1);
}

#[test]
fn ranges_outside_a_span_are_refused() {
    let mut p = pool(CONFIG);
    let (_arena, cached) = span(&[1; 5000]);
    assert!(p.alloc_span(&cached, 4999, 1).is_some());
    assert!(p.alloc_span(&cached, 4999, 2).is_none());
    assert!(p.alloc_span(&cached, u32::MAX, u32::MAX).is_none());
    assert!(p.is_full());
}

#[test]
fn too_long_a_frame_is_refused() {
    let mut p = pool(CONFIG);
    let (_arena, cached) = span(&[1; 24_000]);
    let mut page = p.alloc_span(&cached, 0, LARGE_CAPACITY + 1).unwrap();
    assert_eq!(page.frame(RECORD, b"12345", 16), Err(FrameError::TooLong));
    let mut page = p.alloc(10).unwrap();
    assert_eq!(page.frame(RECORD, &[0; 23], 16), Err(FrameError::TooLong));
    assert_eq!(page.frame(RECORD, &[0; 22], 65), Err(FrameError::TooLong));
    assert_eq!(page.frame(RECORD, &[0; 22], 64), Ok(()));
}

#[test]
fn attachments_keep_the_memory_and_freeze_it() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(10).unwrap();
    page.append(b"0123456789");
    let a = page.attach(2, 3).unwrap();
    // SAFETY: the attachment keeps the memory.
    let seen = || unsafe { slice::from_raw_parts(a.data().as_ptr(), a.len() as usize) };
    assert_eq!(seen(), b"234");
    assert_eq!(page.attach(8, 3).unwrap_err(), AttachError::OutOfRange);
    assert_eq!(
        page.attach(u32::MAX, 2).unwrap_err(),
        AttachError::OutOfRange
    );
    assert!(page.was_attached() && page.body_mut().is_none());
    page.truncate(0);
    assert_eq!(
        page.append(b"more"),
        4,
        "there is room behind attached bytes"
    );
    assert_eq!(page.bytes().unwrap(), b"0123456789more");
    assert_eq!(page.frame(RECORD, b"", 0), Err(FrameError::Attached));
    let page = page.into_buffer().unwrap_err();
    drop(page);
    assert_eq!((seen(), p.usage().blocks_used), (&b"234"[..], 1));
    drop(a);
    assert!(p.is_full());
}

#[test]
fn a_port_gives_back_as_dpdk_does() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(10).unwrap();
    page.append(b"0123456789");
    let raw = page.attach(0, 10).unwrap().into_raw();
    drop(page);
    assert_eq!(p.usage().blocks_used, 1);
    // SAFETY: the attachment's count is ours.
    let info = unsafe { raw.as_ref() };
    assert_eq!(info.refcnt.fetch_sub(1, Ordering::AcqRel), 1);
    // SAFETY: that was the last one.
    unsafe { info.free_cb.unwrap()(ptr::null_mut(), info.fcb_opaque) };
    assert!(p.is_full());
}

#[test]
fn counts_stop_at_their_limit() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(1).unwrap();
    page.append(b"x");
    let all: Vec<_> = (1..u16::MAX).map(|_| page.attach(0, 1).unwrap()).collect();
    assert_eq!(page.attach(0, 1).unwrap_err(), AttachError::TooMany);
    drop(all);
    assert!(page.attach(0, 1).is_ok());
    drop(page);
    assert!(p.is_full());
}

#[test]
fn only_the_owner_attaches() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(1).unwrap();
    page.append(b"x");
    let page = threads::spawn(move || {
        assert_eq!(page.attach(0, 1).unwrap_err(), AttachError::NotOwner);
        page
    })
    .join()
    .unwrap();
    assert!(page.attach(0, 1).is_ok());
}

#[test]
fn what_is_freed_elsewhere_comes_back_by_reclaim() {
    let mut p = pool(CONFIG);
    let pages: Vec<_> = (0..5)
        .map(|_| p.alloc(2000).or_else(|| p.alloc(1)).unwrap())
        .collect();
    threads::spawn(move || drop(pages)).join().unwrap();
    assert!(!p.is_full());
    p.reclaim();
    assert!(p.is_full());
}

#[test]
fn an_empty_pool_reclaims_by_itself() {
    let mut p = pool(PoolConfig {
        blocks: 2,
        small_spans: 1,
        large_spans: 0,
    });
    for _ in 0..10 {
        let page = p.alloc(1).unwrap();
        threads::spawn(move || drop(page)).join().unwrap();
    }
    let (a, b) = (p.alloc(1), p.alloc(1));
    assert!(a.is_some() && b.is_none());
}

#[test]
fn many_threads_free() {
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let mut p = pool(PoolConfig {
        blocks: 64,
        small_spans: 64,
        large_spans: 0,
    });
    threads::scope(|s| {
        let lanes: Vec<_> = (0..3)
            .map(|_| {
                let (tx, rx) = mpsc::channel::<PageBuf>();
                s.spawn(move || {
                    for page in rx {
                        assert_eq!(page.bytes().unwrap(), [page.len().to_le_bytes()[0]; 3]);
                    }
                });
                tx
            })
            .collect();
        for i in 0..rounds {
            let Some(mut page) = p.alloc(3) else {
                threads::yield_now();
                p.reclaim();
                continue;
            };
            page.append(&[3; 3]);
            // Ports hold some of it, too, and may be last or not.
            let held = page.attach(0, 3).unwrap();
            if i % 2 == 0 {
                drop(held);
                lanes[i % 3].send(page).unwrap();
            } else {
                lanes[i % 3].send(page).unwrap();
                drop(held);
            }
        }
    });
    p.reclaim();
    assert!(p.is_full());
}

#[test]
fn a_pool_that_goes_first_leaves_its_buffers_alive() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(3).unwrap();
    page.append(b"abc");
    let other = p.alloc(1).unwrap();
    let held = page.attach(1, 1).unwrap();
    let gone_before = p.alloc(1).unwrap();
    threads::spawn(move || drop(gone_before)).join().unwrap();
    drop(p);
    assert_eq!(page.bytes().unwrap(), b"abc");
    assert_eq!(page.attach(0, 1).unwrap_err(), AttachError::NotOwner);
    threads::spawn(move || drop(other)).join().unwrap();
    drop(page);
    drop(held);
    // (Whether the memory is freed then is for a leak checker.)
}

#[test]
fn a_pool_that_goes_while_others_free() {
    for _ in 0..if cfg!(miri) { 5 } else { 300 } {
        let mut p = pool(CONFIG);
        let (_arena, cached) = span(&[1; 100]);
        let pages: Vec<_> = (0..8).map(|_| p.alloc(1).unwrap()).collect();
        let refs: Vec<_> = (0..8)
            .map(|_| p.alloc_span(&cached, 0, 100).unwrap())
            .collect();
        threads::scope(|s| {
            s.spawn(move || drop(pages));
            s.spawn(move || drop(refs));
            drop(p);
        });
        assert_eq!(Arc::strong_count(&cached), 1);
    }
}

#[test]
fn failures_are_injected_by_seed() {
    let run = |seed| {
        let mut p = pool(CONFIG);
        p.inject_failures(seed, 4);
        let got: Vec<bool> = (0..1000).map(|_| p.alloc(1).is_some()).collect();
        assert_eq!(
            p.usage().failures,
            got.iter().filter(|got| !**got).count() as u64
        );
        p.inject_failures(seed, 0);
        assert!((0..1000).all(|_| p.alloc(1).is_some()));
        got
    };
    let failed = run(1).iter().filter(|got| !**got).count();
    assert!((150..350).contains(&failed), "{failed}");
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "freed")]
fn freeing_twice_is_caught() {
    let mut p = pool(CONFIG);
    let page = p.alloc(1).unwrap();
    // SAFETY: not at all: that's what is tested, on memory that stays.
    let again = PageBuf(page.0);
    drop(page);
    drop(again);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "after the last free")]
fn use_after_the_last_free_is_caught() {
    let mut p = pool(CONFIG);
    let page = p.alloc(1).unwrap();
    let again = std::mem::ManuallyDrop::new(PageBuf(page.0));
    drop(page);
    again.len();
}

#[test]
#[cfg(debug_assertions)]
fn freed_memory_reads_as_freed() {
    let mut p = pool(CONFIG);
    let mut page = p.alloc(64).unwrap();
    page.append(&[1; 64]);
    drop(page);
    let mut page = p.alloc(64).unwrap();
    page.append_with(64, |to| to.len());
    assert_eq!(page.bytes().unwrap(), [FREED; 64]);
}

#[test]
#[should_panic(expected = "another worker's pool")]
fn sealing_with_a_foreign_pool_is_caught() {
    let (mut p, mut q) = (pool(CONFIG), pool(CONFIG));
    let mut page = p.alloc(1).unwrap();
    page.frame(RECORD, b"h", 1).unwrap();
    let _ = page.seal_with(&mut q, toy);
}

proptest! {
    #![proptest_config(proptest_config(if cfg!(miri) { 4 } else { 256 }))]

    /// Any order of allocating, framing, sealing, attaching and dropping keeps every page's bytes
    /// and gives everything back.
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec((0u8..6, any::<prop::sample::Index>(), 1u32..4000), 1..200)) {
        let mut p = pool(PoolConfig { blocks: 12, small_spans: 6, large_spans: 4 });
        let text: Vec<u8> = (0..8192u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        let (arena, cached) = span(&text);
        let mut live: Vec<(PageBuf, Vec<u8>)> = Vec::new();
        let mut held = Vec::new();
        for (step, pick, n) in steps {
            match step {
                0 => if let Some(mut page) = p.alloc(n) {
                    page.append(&text[..n as usize]);
                    live.push((page, text[..n as usize].to_vec()));
                },
                1 => if let Some(page) = p.alloc_span(&cached, n, n) {
                    live.push((page, text[n as usize..2 * n as usize].to_vec()));
                },
                2 if !held.is_empty() => drop(held.swap_remove(pick.index(held.len()))),
                _ if live.is_empty() => {}
                3 => drop(live.swap_remove(pick.index(live.len()))),
                4 => {
                    let i = pick.index(live.len());
                    let (page, bytes) = &mut live[i];
                    if page.frame(RECORD, b"hdr", 4).is_ok() {
                        if page.seal_with(&mut p, toy).is_ok() {
                            *bytes = toy_sealed(b"hdr", bytes, 4);
                        } else {
                            live.swap_remove(i);
                        }
                    }
                }
                _ => {
                    let (page, _) = &live[pick.index(live.len())];
                    held.push(page.attach(0, page.len()).unwrap());
                }
            }
            for (page, bytes) in &live {
                prop_assert_eq!(page.bytes().unwrap(), &bytes[..]);
            }
        }
        drop((live, held));
        prop_assert!(p.is_full());
        drop(cached);
        prop_assert_eq!(arena.usage().bytes_used, 0);
    }
}

#[test]
fn a_detached_pool_is_counted_by_the_thread_that_adopts_it() {
    let (detached, first, second) = threads::spawn(|| {
        let mut pool = pool(CONFIG);
        let mut page = || {
            let mut page = pool.alloc(10).unwrap();
            page.append(b"x");
            page
        };
        let (first, second, third) = (page(), page(), page());
        let detached = pool.detach();
        // The thread isn't the owner any more: it may not take a reference, and a free waits.
        assert_eq!(second.attach(0, 1).unwrap_err(), AttachError::NotOwner);
        drop(third);
        (detached, first, second)
    })
    .join()
    .unwrap();
    // As a driver on the thread that closes the port.
    drop(first);
    let pool = detached.adopt();
    assert_eq!((pool.usage().blocks_used, pool.is_full()), (1, false));
    // The new owner's own frees need no list.
    assert!(second.attach(0, 1).is_ok());
    drop(second);
    assert!(pool.is_full());
}

#[test]
fn a_detached_pool_that_is_never_adopted_waits_for_its_buffers() {
    let mut pool = pool(CONFIG);
    let page = pool.alloc(10).unwrap();
    let detached = pool.detach();
    threads::spawn(move || drop(detached)).join().unwrap();
    // The memory is freed with the last buffer; Miri and the sanitizers see a use after that.
    drop(page);
}

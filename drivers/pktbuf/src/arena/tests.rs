use std::sync::mpsc;
use std::thread;

use super::*;
use crate::region::BORDER;

fn arena(len: usize) -> PageArena {
    PageArena::new(&mut Region::heap(len).unwrap(), len).unwrap()
}

#[test]
fn lengths_and_limits() {
    let a = arena(1 << 20);
    assert!(a.alloc(0).is_none());
    assert!(a.alloc(PageArena::SPAN_MAX + 1).is_none());
    assert_eq!(a.alloc(1).unwrap().len(), 1);
    let all: Vec<_> = (0..4)
        .map(|_| a.alloc(PageArena::SPAN_MAX).unwrap())
        .collect();
    assert!(a.alloc(1).is_none());
    assert_eq!(
        a.usage(),
        ArenaUsage {
            bytes: 1 << 20,
            bytes_used: 1 << 20
        }
    );
    drop(all);
    assert_eq!(a.usage().bytes_used, 0);
    assert!(PageArena::new(&mut Region::heap(100).unwrap(), 8192).is_err());
    assert!(arena(4095).alloc(1).is_none());
}

#[test]
fn an_arena_is_made_of_several_regions() {
    // Lengths and offsets that no run divides, one region without a page.
    let (lens, offsets) = ([3 << 20, 100, 700 << 10, 1 << 20], [4096, 0, 64, 12_288]);
    let mut regions: Vec<_> = lens
        .iter()
        .zip(offsets)
        .map(|(len, offset)| {
            let mut region = Region::heap(len + offset).unwrap();
            region.carve(offset, 1).unwrap();
            region
        })
        .collect();
    let pages: usize = regions.iter().map(Region::pages_left).sum();
    let error = PageArena::from_regions(&mut regions, (pages + 1) * PAGE).unwrap_err();
    assert_eq!(error.wanted, (pages + 1) * PAGE);
    let a = PageArena::from_regions(&mut regions, pages * PAGE).unwrap();
    assert_eq!(a.usage().bytes, pages * PAGE);
    // Every page can be had, in the longest runs first.
    let mut spans: Vec<_> = [PageArena::SPAN_MAX, 64 << 10, 12_288, PAGE]
        .into_iter()
        .flat_map(|len| std::iter::from_fn(|| a.alloc(len)).collect::<Vec<_>>())
        .collect();
    assert_eq!(a.usage().bytes_used, pages * PAGE);
    for (span, mark) in spans.iter_mut().zip((0..=u8::MAX).cycle()) {
        span.fill(mark);
    }
    for (span, mark) in spans.iter().zip((0..=u8::MAX).cycle()) {
        assert!(span.iter().all(|b| *b == mark), "spans are disjoint");
        let first = span.as_ptr().addr();
        let last = first + span.len() - 1;
        assert_eq!(first / BORDER, last / BORDER, "a device gets one address");
    }
    drop(spans);
    assert_eq!(a.usage().bytes_used, 0);
    assert!(a.alloc(PageArena::SPAN_MAX).is_some());
}

#[test]
fn old_contents_never_show() {
    let a = arena(64 << 10);
    let mut page = a.alloc(64 << 10).unwrap();
    page.fill(0xaa);
    drop(page.freeze(64 << 10));
    let page = a.alloc(40 << 10).unwrap();
    assert!(page.iter().all(|b| *b == 0));
    assert!(page.freeze(30 << 10).iter().all(|b| *b == 0));
}

#[test]
fn freezing_short_gives_pages_back() {
    let a = arena(64 << 10);
    let mut page = a.alloc(64 << 10).unwrap();
    page[..5000].fill(7);
    let span = page.freeze(5000);
    assert_eq!(a.usage().bytes_used, 8192);
    assert_eq!(&span[..], &[7; 5000]);
    assert_eq!(span.as_ptr().addr() % PAGE, 0);
    assert!(
        a.alloc(32 << 10).is_some(),
        "what was given back can be had"
    );
    let empty = a.alloc(4096).unwrap().freeze(0);
    assert!(empty.is_empty());
    assert_eq!(a.usage().bytes_used, 8192);
    let whole = a.alloc(100).unwrap().freeze(usize::MAX);
    assert_eq!(whole.len(), 100);
    drop((span, empty, whole));
    assert_eq!(a.usage().bytes_used, 0);
}

#[test]
fn a_span_keeps_the_memory() {
    let span = {
        let mut page = arena(8192).alloc(5).unwrap();
        page.copy_from_slice(b"abcde");
        page.freeze(5)
    };
    assert_eq!(&span[..], b"abcde");
}

#[test]
fn threads_fill_and_free() {
    let rounds = if cfg!(miri) { 20u32 } else { 3000 };
    let a = arena(1 << 20);
    thread::scope(|s| {
        let (tx, rx) = mpsc::sync_channel::<(u8, Arc<SharedSpan>)>(16);
        for t in 0..2u8 {
            let (a, tx) = (a.clone(), tx.clone());
            s.spawn(move || {
                for i in 0..rounds {
                    let len = 1 + (i as usize * 7919) % if cfg!(miri) { 9000 } else { 200_000 };
                    let Some(mut page) = a.alloc(len) else {
                        continue;
                    };
                    assert!(page.iter().all(|b| *b == 0));
                    let mark = t ^ i.to_le_bytes()[0] | 1;
                    page.fill(mark);
                    if tx.send((mark, page.freeze(len))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tx);
        let mut kept = Vec::new();
        for (mark, span) in rx {
            assert!(span.iter().all(|b| *b == mark));
            kept.push((mark, span));
            if kept.len() > 5 {
                let (mark, span) = kept.swap_remove(2);
                assert!(span.iter().all(|b| *b == mark));
            }
        }
    });
    assert_eq!(a.usage().bytes_used, 0);
    assert!(a.alloc(PageArena::SPAN_MAX).is_some(), "all merged");
}

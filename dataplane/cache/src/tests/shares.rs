//! What one client, or one kind of request, can't take from others.

use super::super::testing::{Call, Gate, start_gated};
use super::*;

/// A worker whose clients request everything, beside one whose client requests a file.
#[test]
fn a_worker_with_many_requests_doesnt_delay_another() {
    let tree = Tree::new();
    tree.write("fair", b"fair");
    let gate = Gate::new(true);
    let config = CacheConfig::default();
    let (cache, mut clients) = start_gated(&[&tree], MIB, &config, 2, kernel_clock(), &gate);
    let now = Instant::from_secs(10);
    gate.close(Call::Open, &tree);
    for n in 0..500_u64 {
        let name = format!("{n}");
        let found = clients[0].lookup(now, ROOT, name.as_bytes(), Token(n));
        assert!(matches!(found, Lookup::Pending(_)));
    }
    gate.wait_for_hanging(2);
    // Also a file that the other worker has requested last, and isn't looked up yet.
    for name in ["fair", "499"] {
        let found = clients[1].lookup(now, ROOT, name.as_bytes(), Token(1));
        assert!(matches!(found, Lookup::Pending(_)));
    }
    wait_until("all to be queued", || cache.counters().queued == 500);
    gate.open();
    let mut waiter = Waiter::new(clients.pop().unwrap());
    waiter.completion();
    waiter.completion();
    let opened = gate.opened();
    let place = |name: &[u8]| opened.iter().position(|path| path == name).unwrap();
    // Two hang, then both workers in turn; two readers may take them in another order.
    assert!(place(b"fair") <= 5, "{}", place(b"fair"));
    assert!(place(b"499") <= 8, "{}", place(b"499"));
    let once = opened.iter().filter(|path| **path == b"499").count();
    assert_eq!(once, 1, "both workers get the one result");
    let mut waiter = Waiter::new(clients.pop().unwrap());
    for _ in 0..500 {
        waiter.completion();
    }
}

/// Takes answers until no request is outstanding.
fn drain(waiter: &mut Waiter) {
    while waiter.client.outstanding() > 0 {
        waiter.completion();
    }
}

#[test]
fn absent_names_evict_nothing_and_leave_room_for_other_lookups() {
    let tree = Tree::new();
    for n in 0..100 {
        tree.write(&format!("hot{n}"), &stamped(n, 1_000));
    }
    let config = CacheConfig {
        // As many as are hot, in sets of four.
        table_entries: 512,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, MIB, &config);
    let mut waiter = Waiter::new(client);
    for n in 0..100 {
        assert_eq!(version(&waiter.fetch(&format!("hot{n}")).unwrap()), n);
    }
    let known = |waiter: &mut Waiter| {
        let known = (0..100).filter(|n| waiter.knows(&format!("hot{n}")));
        let count = known.count();
        drain(waiter);
        count
    };
    let before = known(&mut waiter);
    assert!(before > 90, "{before}");
    let objects = cache.counters().objects;
    for batch in 0..20 {
        for n in 0..1_000 {
            assert!(!waiter.knows(&format!("absent/{batch}/{n}")));
        }
        drain(&mut waiter);
    }
    let counters = cache.counters();
    assert!(counters.absent >= 20_000, "{counters:?}");
    assert_eq!((counters.objects, counters.evictions), (objects, 0));
    assert_eq!(known(&mut waiter), before);
    // A path that no file can have isn't looked up.
    let misses = cache.counters().misses;
    assert_eq!(
        waiter.find(&"d/".repeat(2_048)).unwrap_err(),
        Absence::NotFound
    );
    assert_eq!(
        waiter.find(&"x".repeat(100_000)).unwrap_err(),
        Absence::NotFound
    );
    assert_eq!(cache.counters().misses, misses);
}

#[test]
fn small_ranges_of_a_large_file_evict_no_file_in_demand() {
    let tree = Tree::new();
    for n in 0..16 {
        tree.write(&format!("hot{n}"), &stamped(n, 16_384));
    }
    let spans = 320;
    tree.write("huge", &stamped(77, spans * SPAN_BYTES as usize));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let huge = waiter.find("huge").unwrap();
    for n in 0..16 {
        assert_eq!(version(&waiter.fetch(&format!("hot{n}")).unwrap()), n);
    }
    let misses = cache.counters().misses;
    // Each range is another span: twenty times the memory.
    for index in 0..spans as u64 {
        let at = index * u64::from(SPAN_BYTES);
        let mut body = FileBody::new(Arc::clone(&huge), at..at + 1);
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, ALL, &mut out));
        assert_eq!(out, [77]);
        for n in 0..16 {
            assert!(waiter.knows(&format!("hot{n}")), "{n} after {index}");
        }
    }
    let counters = cache.counters();
    assert!(counters.evictions >= 300, "{counters:?}");
    assert_eq!(counters.misses, misses);
    assert_eq!(counters.span_misses, spans as u64);
}

/// Eviction must not take the pieces of one body, or what was read ahead for it, for demand.
#[test]
fn a_body_uses_each_span_once_however_it_takes_it() {
    let tree = Tree::new();
    let spans = 6;
    tree.write("large", &stamped(1, spans * SPAN_BYTES as usize));
    let (_cache, client) = start_one(&tree, 4 * MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let object = waiter.find("large").unwrap();
    for reader in 0..5 {
        let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
        for taken in (0..=spans * SPAN_BYTES as usize).step_by(10_000) {
            let mut out = vec![0; taken];
            assert!(waiter.read(&mut body, taken + 10_000, &mut out));
        }
        let table = object.spans().unwrap();
        for index in 0..spans as u64 {
            assert_eq!(table.uses(index), Some(reader.min(3)), "{reader}, {index}");
        }
    }
}

#[test]
fn read_ahead_grows_with_what_was_taken_and_ends_with_the_range() {
    let tree = Tree::new();
    tree.write("large", &stamped(1, 60 * SPAN_BYTES as usize));
    let (cache, client) = start_one(&tree, 16 * MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let object = waiter.find("large").unwrap();
    let span = u64::from(SPAN_BYTES);
    let mut body = FileBody::new(Arc::clone(&object), 20 * span..50 * span);
    let mut out = Vec::new();
    let mut loads_after = |spans: usize, at_least: u64| {
        assert!(waiter.read(&mut body, spans * SPAN_BYTES as usize, &mut out));
        wait_until("read-ahead", || cache.counters().loads >= at_least);
        wait_until("readers", || cache.counters().readers_busy == 0);
        cache.counters().loads
    };
    // The span itself, and as many as are configured.
    assert_eq!(loads_after(1, 3), 3);
    // Up to eight more, of which a half may not have been requested yet.
    let loads = loads_after(12, 17);
    assert!((17..=20).contains(&loads), "{loads}");
    assert_eq!(loads_after(30, 30), 30, "nothing beyond the range");
}

/// A body whose peer takes twice as much in each round trip, from two records on. What is queued is
/// limited by the congestion window, what is read ahead isn't: after the first span, each round
/// finds its spans in memory.
#[test]
fn slow_start_does_not_wait_for_reads() {
    let tree = Tree::new();
    let spans = 16;
    tree.write("large", &stamped(1, spans * SPAN_BYTES as usize));
    let (cache, client) = start_one(&tree, 32 * MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let object = waiter.find("large").unwrap();
    let table = object.spans().unwrap();
    let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 1, &mut out));
    for round in 0..5 {
        let window = (2 * 16_384_u32) << round;
        let last = (out.len() as u64 + u64::from(window) - 1) / u64::from(SPAN_BYTES);
        // The round trip is longer than the reads. What isn't being read never comes.
        wait_until("read-ahead", || {
            (0..=last).all(|index| table.contains(index))
        });
        let mut taken = 0;
        while taken < window {
            match body.pull(&mut waiter.client, Token(2)) {
                Piece::Span(span, at, piece) => {
                    let piece = piece.min(window - taken);
                    out.extend_from_slice(&span[at as usize..(at + piece) as usize]);
                    body.advance(piece);
                    taken += piece;
                }
                piece => panic!("round {round}, {taken} of {window} bytes: {piece:?}"),
            }
        }
    }
    assert_eq!(version(&out), 1);
    assert_eq!(cache.counters().pins_refused, 0);
}

/// A scan is evicted, and what two clients have requested of another file stays.
#[test]
fn a_scan_through_a_large_file_evicts_no_spans_in_demand() {
    let tree = Tree::new();
    tree.write("hot", &stamped(1, 6 * SPAN_BYTES as usize));
    tree.write("huge", &stamped(2, 100 * SPAN_BYTES as usize));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    for _ in 0..3 {
        assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
    }
    let misses = cache.counters().span_misses;
    assert_eq!(version(&waiter.fetch("huge").unwrap()), 2);
    let scanned = cache.counters().span_misses;
    assert!(scanned > misses && cache.counters().evictions >= 80);
    assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
    assert_eq!(cache.counters().span_misses, scanned);
}

/// Starts a cache of 1 MiB without read-ahead, over `huge` of [`SPANS_HUGE`] spans and `fair` of
/// 500 000 bytes.
fn huge_beside_fair() -> (Tree, FileCache, Waiter) {
    let tree = Tree::new();
    tree.write("huge", &stamped(1, SPANS_HUGE * SPAN_BYTES as usize));
    tree.write("fair", &stamped(2, 500_000));
    let config = CacheConfig {
        read_ahead: 0,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, MIB, &config);
    (tree, cache, Waiter::new(client))
}

/// Bodies whose clients read nothing, of as many spans as there is memory.
#[test]
fn bodies_that_nothing_is_taken_of_hold_no_spans() {
    let spans = SPANS_HUGE;
    let (_tree, cache, mut waiter) = huge_beside_fair();
    let huge = waiter.find("huge").unwrap();
    let mut idle: Vec<_> = (0..spans as u64)
        .map(|index| {
            let at = index * u64::from(SPAN_BYTES);
            let mut body = FileBody::new(Arc::clone(&huge), at..u64::MAX);
            while !matches!(body.pull(&mut waiter.client, Token(1)), Piece::Span(..)) {
                let completion = waiter.completion();
                assert!(body.on_completion(completion));
            }
            // The window is closed.
            body.advance(0);
            body
        })
        .collect();
    assert_eq!(version(&waiter.fetch("fair").unwrap()), 2);
    assert_eq!(cache.counters().waits, 0);
    // Each of them continues.
    for (index, body) in (0..).zip(&mut idle) {
        let mut out = Vec::new();
        assert!(waiter.read(body, 512, &mut out));
        let at = index * SPAN_BYTES as usize / BLOCK;
        assert_eq!(out[8..16], (at as u64).to_le_bytes());
    }
}

/// The same with files in one span, which have to be found again.
#[test]
fn bodies_that_nothing_is_taken_of_hold_no_small_files() {
    let tree = Tree::new();
    let (files, len) = (64, 60_000);
    for n in 0..files {
        tree.write(&format!("f{n}"), &stamped(n, len));
    }
    tree.write("fair", &stamped(99, 500_000));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let mut idle: Vec<_> = (0..files)
        .map(|n| {
            let object = waiter.find(&format!("f{n}")).unwrap();
            let mut body = FileBody::new(object, 0..u64::MAX);
            let mut out = Vec::new();
            // A record was taken, and the window is closed then.
            assert!(waiter.read(&mut body, 16_384, &mut out));
            (body, out)
        })
        .collect();
    assert_eq!(version(&waiter.fetch("fair").unwrap()), 99);
    let counters = cache.counters();
    assert_eq!(counters.waits, 0);
    assert!(counters.evictions >= 48, "{counters:?}");
    // Each of them continues, except those of another version: they are cut off.
    tree.replace("f0", &stamped(100, len));
    fs::remove_file(tree.path("f1")).unwrap();
    waiter.millis += 60_000;
    for (n, (body, out)) in (0..).zip(&mut idle) {
        let is_whole = waiter.read(body, ALL, out);
        assert_eq!(is_whole, n > 1, "{n}");
        assert_eq!(out.len(), if n > 1 { len } else { 16_384 });
        assert_eq!(version(out), n);
    }
}

/// Bodies whose send queues refer to what they can, each to a span of its own.
#[test]
fn send_queues_refer_to_half_of_the_memory_at_most() {
    // Span 16 is in the slot that span 0 was in, and so on.
    let spans = SPANS_HUGE;
    let (_tree, cache, mut waiter) = huge_beside_fair();
    let huge = waiter.find("huge").unwrap();
    let refer = |waiter: &mut Waiter| {
        let mut referred = Vec::new();
        for index in 0..spans as u64 {
            let at = index * u64::from(SPAN_BYTES);
            let mut body = FileBody::new(Arc::clone(&huge), at..u64::MAX);
            loop {
                match body.pull(&mut waiter.client, Token(1)) {
                    Piece::Span(span, 0, SPAN_BYTES) => {
                        // Two connections send it.
                        referred.extend([Arc::clone(span), Arc::clone(span)]);
                        break;
                    }
                    Piece::Copy(bytes) => {
                        assert_eq!(bytes.len(), SPAN_BYTES as usize);
                        break;
                    }
                    Piece::Pending => {}
                    piece => panic!("{piece:?}"),
                }
                let completion = waiter.completion();
                assert!(body.on_completion(completion));
            }
        }
        referred
    };
    let mut referred = refer(&mut waiter);
    let counters = cache.counters();
    assert_eq!(referred.len(), 2 * 8);
    assert_eq!(counters.pinned_bytes, counters.pinned_bytes_max);
    assert_eq!(counters.pins_refused, 56);
    assert_eq!(version(&waiter.fetch("fair").unwrap()), 2);
    assert_eq!(cache.counters().waits, 0);
    // One of two connections has dropped its span, and both have.
    referred.drain(1..4);
    assert_eq!(refer(&mut waiter).len(), 2);
    drop(referred);
    assert_eq!(refer(&mut waiter).len(), 2 * 8);
}

/// The send queues of one worker's connections refer to all that they may. Those of another worker
/// refer to as much, and half of the memory is left for what both read.
#[test]
fn a_worker_has_its_share_while_another_has_used_its_own_up() {
    let tree = Tree::new();
    let spans = SPANS_HUGE;
    tree.write("huge", &stamped(1, spans * SPAN_BYTES as usize));
    tree.write("fair", &stamped(2, 500_000));
    let config = CacheConfig {
        read_ahead: 0,
        ..CacheConfig::default()
    };
    let (cache, clients) = start(&tree, MIB, &config, 2);
    let mut waiters: Vec<_> = clients.into_iter().map(Waiter::new).collect();
    // Spans that the worker's connections refer to. It begins at another place than the other one.
    let refer = |waiter: &mut Waiter, first: usize| {
        let huge = waiter.find("huge").unwrap();
        let mut referred = Vec::new();
        for index in (first..spans).chain(0..first) {
            let at = index as u64 * u64::from(SPAN_BYTES);
            let mut body = FileBody::new(Arc::clone(&huge), at..u64::MAX);
            loop {
                match body.pull(&mut waiter.client, Token(1)) {
                    Piece::Span(span, ..) => {
                        referred.push(Arc::clone(span));
                        break;
                    }
                    Piece::Copy(_) => break,
                    Piece::Pending => {}
                    piece => panic!("{piece:?}"),
                }
                let completion = waiter.completion();
                assert!(body.on_completion(completion));
            }
        }
        referred
    };
    let max = cache.counters().pinned_bytes_max;
    assert_eq!(max, MIB as u64 / 2);
    let first = refer(&mut waiters[0], 0);
    assert_eq!(first.len() as u64 * u64::from(SPAN_BYTES), max / 2);
    assert_eq!(cache.counters().pinned_bytes, max / 2);
    let refused = cache.counters().pins_refused;
    assert_eq!(refused, (spans - first.len()) as u64);

    let second = refer(&mut waiters[1], spans / 2);
    assert_eq!(second.len(), first.len());
    assert_eq!(cache.counters().pinned_bytes, max);
    for waiter in &mut waiters {
        assert_eq!(version(&waiter.fetch("fair").unwrap()), 2);
    }
    assert_eq!(cache.counters().waits, 0, "half of the memory is left");
}

/// Spans that are sent one after the other, and a span whose client reads nothing: what is counted
/// of the others doesn't add up.
#[test]
fn spans_that_send_queues_have_dropped_are_forgotten() {
    let tree = Tree::new();
    let len = 64 * SPAN_BYTES as usize;
    tree.write("huge", &stamped(1, len));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let huge = waiter.find("huge").unwrap();
    let mut body = FileBody::new(Arc::clone(&huge), 0..u64::MAX);
    let mut out = Vec::new();
    let mut stalled = None;
    for spans in 1..=64 {
        assert!(waiter.read(&mut body, spans * SPAN_BYTES as usize, &mut out));
        if spans == 1 {
            stalled = Some(waiter.client.span(&huge, 0, true, Token(1)).unwrap());
        }
        let pinned = cache.counters().pinned_bytes / u64::from(SPAN_BYTES);
        assert!((1..=4).contains(&pinned), "{pinned} spans");
    }
    assert_eq!(cache.counters().pins_refused, 0);
    assert_eq!(stalled.map(|span| span.len()), Some(SPAN_BYTES as usize));
    assert_eq!(version(&out), 1);
}

/// Spans of the file `huge`: four times what a cache of 1 MiB holds.
const SPANS_HUGE: usize = 64;

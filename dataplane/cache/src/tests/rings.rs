//! Readers with many reads in flight: what they deliver, and what a file system that hangs keeps.

use std::io;

use lockgate_uring::{Limits, Refused};

use super::super::testing::faults::{Faults, faulty_readers, idle_reader};
use super::super::testing::{
    Call, Gate, kernel_time, start_with_clock, start_with_readers, wait_for_tick,
};
use super::*;
use crate::cache::ReadsBy;
use crate::source::reader::uring_readers;

const HUNG: RootId = RootId::new(0);
const FINE: RootId = RootId::new(1);

const NO_FAULTS: Faults = Faults {
    seed: 1,
    is_short: false,
    fails_one_in: 0,
    depth: 32,
};

fn start_faulty(
    trees: &[&Tree],
    bytes: usize,
    config: &CacheConfig,
    gate: &Gate,
    faults: Faults,
) -> (FileCache, Waiter) {
    // Old enough for strong tags.
    let later = kernel_time() + Duration::from_secs(7_200);
    let clock = WallClock::new(move || later);
    let readers = faulty_readers(gate, faults);
    let started = start_with_readers(trees, bytes, config, 1, clock, gate, readers);
    let (cache, mut clients) = started.unwrap();
    (cache, Waiter::new(clients.pop().unwrap()))
}

/// A download of a range, and what came of it so far.
struct Download {
    body: FileBody,
    expected: Vec<u8>,
    out: Vec<u8>,
    is_over: bool,
}

impl Download {
    /// Takes what there is, in pieces of any length. Returns whether it failed or is at its end.
    fn pull(&mut self, waiter: &mut Waiter, token: u64, random: &mut Random) {
        while !self.is_over {
            match self.body.pull(&mut waiter.client, Token(token)) {
                Piece::Span(span, at, len) => {
                    let taken = random.between_u32(1, len);
                    self.out
                        .extend_from_slice(&span[at as usize..(at + taken) as usize]);
                    self.body.advance(taken);
                }
                Piece::Copy(piece) => {
                    let taken = random.between_u32(1, u32::try_from(piece.len()).unwrap());
                    self.out.extend_from_slice(&piece[..taken as usize]);
                    self.body.advance(taken);
                }
                Piece::Pending => return,
                Piece::End => {
                    assert_eq!(self.out.len(), self.expected.len());
                    self.is_over = true;
                }
                Piece::Failed(absence) => {
                    // After the first one nothing more is read of that version.
                    assert!(matches!(absence, Absence::Failed | Absence::Changing));
                    self.is_over = true;
                }
            }
        }
    }
}

/// Random files and ranges of them, in a memory that is smaller, by readers with `faults`. Returns
/// how many downloads were whole, and how many failed.
fn download_by(seed: u64, faults: Faults) -> (usize, usize) {
    let mut random = Random::new(seed);
    let tree = Tree::new();
    let contents: Vec<_> = (0..6)
        .map(|n| {
            let max = if n % 2 == 0 { 70_000 } else { 600_000 };
            let len = random.index(max);
            let content = random.bytes(len);
            tree.write(&format!("{n}"), &content);
            content
        })
        .collect();
    let gate = Gate::new(true);
    let faults = Faults { seed, ..faults };
    let bytes = 512 << 10;
    let config = CacheConfig::default();
    let (cache, mut waiter) = start_faulty(&[&tree], bytes, &config, &gate, faults);
    let (mut whole, mut failed) = (0, 0);
    for _ in 0..4 {
        let mut downloads = Vec::new();
        for _ in 0..12 {
            let n = random.index(contents.len());
            let Ok(object) = waiter.find(&format!("{n}")) else {
                assert!(faults.fails_one_in > 0);
                failed += 1;
                continue;
            };
            let start = random.index(contents[n].len() + 1);
            let end = start + random.index(contents[n].len() - start + 1);
            downloads.push(Download {
                body: FileBody::new(object, start as u64..end as u64),
                expected: contents[n][start..end].to_vec(),
                out: Vec::new(),
                is_over: false,
            });
        }
        while downloads.iter().any(|download| !download.is_over) {
            for (token, download) in (0..).zip(&mut downloads) {
                download.pull(&mut waiter, token, &mut random);
                assert!(download.expected.starts_with(&download.out), "seed {seed}");
            }
            assert!(cache.counters().bytes_used <= bytes as u64);
            if waiter.client.outstanding() > 0 {
                let completion = waiter.completion();
                let token = usize::try_from(completion.token.0).unwrap();
                // That of a body, which may have failed, or an old one of a lookup.
                if let Some(download) = downloads.get_mut(token) {
                    download.body.on_completion(completion);
                }
            }
        }
        for download in downloads {
            let is_whole = download.out == download.expected;
            whole += usize::from(is_whole);
            failed += usize::from(!is_whole);
        }
    }
    assert_eq!(cache.shut_down(lockgate_testing::HANG_LIMIT), 0);
    assert_eq!(gate.held(), 0);
    (whole, failed)
}

/// The model is the file: whatever order, length and number of attempts reads have, each download
/// is its range.
#[test]
fn reads_that_end_in_any_order_and_short_deliver_each_byte() {
    for seed in 0..12 {
        let faults = Faults {
            is_short: seed % 2 == 0,
            depth: 1 + 3 * usize::try_from(seed).unwrap(),
            ..NO_FAULTS
        };
        assert_eq!(download_by(seed, faults), (48, 0), "seed {seed}");
    }
}

#[test]
fn reads_that_fail_cut_off_their_own_downloads_and_no_other() {
    let (mut whole, mut failed) = (0, 0);
    for seed in 100..108 {
        let faults = Faults {
            is_short: true,
            fails_one_in: 60,
            ..NO_FAULTS
        };
        let (whole_of, failed_of) = download_by(seed, faults);
        whole += whole_of;
        failed += failed_of;
    }
    assert!(whole > 100 && failed > 10, "{whole}, {failed}");
}

/// What is read after a change isn't delivered under the tag from before, however long the reads
/// were in flight. A file that was renamed over keeps its contents.
#[test]
fn files_that_change_while_their_reads_are_in_flight() {
    let len = 6 * SPAN_BYTES as usize;
    for (change, is_same) in [
        ("renamed over", true),
        ("unlinked", true),
        ("truncated", false),
        ("rewritten", false),
        ("grown", false),
    ] {
        let tree = Tree::new();
        tree.write("file", &stamped(1, len));
        let gate = Gate::new(true);
        let config = CacheConfig::default();
        let (cache, mut waiter) = start_faulty(&[&tree], MIB, &config, &gate, NO_FAULTS);
        let object = waiter.find("file").unwrap();
        gate.close(Call::Read, &tree);
        let mut body = FileBody::new(object, 0..u64::MAX);
        let piece = body.pull(&mut waiter.client, Token(1));
        assert!(matches!(piece, Piece::Pending));
        gate.wait_for_held(3);
        wait_for_tick();
        let open = || fs::OpenOptions::new().write(true).open(tree.path("file"));
        match change {
            "renamed over" => tree.replace("file", &stamped(2, len)),
            "unlinked" => fs::remove_file(tree.path("file")).unwrap(),
            "truncated" => open().unwrap().set_len(1_000).unwrap(),
            "rewritten" => open().unwrap().write_all_at(&stamped(2, len), 0).unwrap(),
            _ => open().unwrap().write_all_at(b"more", len as u64).unwrap(),
        }
        gate.open();
        let mut out = Vec::new();
        assert_eq!(waiter.read(&mut body, ALL, &mut out), is_same, "{change}");
        if is_same {
            assert_eq!((out.len(), version(&out)), (len, 1), "{change}");
        } else {
            assert_eq!(out.len(), 0, "{change}");
        }
        drop(body);
        wait_until("memory", || cache.counters().readers_busy == 0);
        assert_eq!(gate.held(), 0, "{change}");
    }
}

/// One loader, and files whose reads don't end: all of them are in flight.
#[test]
fn a_loader_has_many_reads_in_flight() {
    let tree = Tree::new();
    for n in 0..20 {
        tree.write(&format!("{n}"), &stamped(n, 10_000));
    }
    tree.write("large", &stamped(1, 400_000));
    let gate = Gate::new(true);
    let config = CacheConfig {
        loaders: 1,
        read_ahead: 0,
        ..CacheConfig::default()
    };
    let (cache, mut waiter) = start_faulty(&[&tree], 4 * MIB, &config, &gate, NO_FAULTS);
    let large = waiter.find("large").unwrap();
    gate.close(Call::Read, &tree);
    let mut bodies: Vec<_> = (0..7_u64)
        .map(|index| FileBody::new(Arc::clone(&large), index * u64::from(SPAN_BYTES)..u64::MAX))
        .collect();
    for (body, token) in bodies.iter_mut().zip(100..) {
        let piece = body.pull(&mut waiter.client, Token(token));
        assert!(matches!(piece, Piece::Pending));
    }
    for n in 0..20 {
        assert!(!waiter.knows(&format!("{n}")));
    }
    gate.wait_for_held(27);
    let counters = cache.counters();
    assert_eq!((counters.readers, counters.readers_busy), (1, 1));
    gate.open();
    while waiter.client.outstanding() > 0 {
        waiter.completion();
    }
    for n in 0..20 {
        assert!(waiter.knows(&format!("{n}")), "{n}");
    }
    assert_eq!(gate.held(), 0);
}

/// The reads of a loader that has as many as it may hang: the next jobs are the second loader's.
/// When that one is full, too, they wait, and wake nothing.
#[test]
fn a_full_loader_leaves_jobs_to_the_next_one_and_isnt_woken_for_them() {
    let tree = Tree::new();
    tree.write("large", &stamped(1, 16 * SPAN_BYTES as usize));
    let gate = Gate::new(true);
    let config = CacheConfig {
        loaders: 2,
        read_ahead: 0,
        ..CacheConfig::default()
    };
    let faults = Faults {
        depth: 4,
        ..NO_FAULTS
    };
    let (cache, mut waiter) = start_faulty(&[&tree], 4 * MIB, &config, &gate, faults);
    let large = waiter.find("large").unwrap();
    gate.close(Call::Read, &tree);
    let before = gate.changes();
    let mut bodies = Vec::new();
    for index in 0..16 {
        let at = index * u64::from(SPAN_BYTES);
        let mut body = FileBody::new(Arc::clone(&large), at..at + u64::from(SPAN_BYTES));
        let piece = body.pull(&mut waiter.client, Token(index));
        assert!(matches!(piece, Piece::Pending));
        bodies.push(body);
        // One after the other, so that a parked loader is there for each.
        let held = bodies.len().min(8);
        wait_until("the read", || gate.held() == held);
    }
    wait_until("the jobs", || cache.counters().queued == 8);
    waiter.expect_no_completion();
    let counters = cache.counters();
    assert_eq!((counters.readers, counters.readers_busy), (2, 2));
    assert_eq!((gate.held(), counters.queued), (8, 8));
    // A parked loader is woken for each read that it can begin, at most.
    let wakes = gate.changes() - before;
    assert!(wakes <= 8, "{wakes} for 16 jobs");
    gate.open();
    while waiter.client.outstanding() > 0 {
        let completion = waiter.completion();
        let at = usize::try_from(completion.token.0).unwrap();
        assert!(bodies[at].on_completion(completion));
    }
    for mut body in bodies {
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, ALL, &mut out));
        assert_eq!(out.len(), SPAN_BYTES as usize);
    }
    wait_until("reads to end", || {
        let counters = cache.counters();
        (gate.held(), counters.queued, counters.readers_busy) == (0, 0, 0)
    });
}

/// A file system whose reads hang keeps a share of the reads in flight and of the memory that is
/// read to. Others are served, however many such file systems there are.
#[test]
fn trees_whose_reads_hang_leave_memory_and_readers_to_the_others() {
    let trees: Vec<_> = (0..4).map(|_| Tree::new()).collect();
    let spans = 64;
    for tree in &trees {
        tree.write("large", &stamped(1, spans * SPAN_BYTES as usize));
        tree.write("small", &stamped(2, 3_000));
    }
    let gate = Gate::new(true);
    let refs: Vec<_> = trees.iter().collect();
    // As many spans as the file has.
    let config = CacheConfig::default();
    let (cache, mut waiter) = start_faulty(&refs, 4 * MIB, &config, &gate, NO_FAULTS);
    let mut held = 0;
    let mut bodies = Vec::new();
    for (root, share) in [(0, 16), (1, 8), (2, 4)] {
        waiter.root = RootId::new(root);
        let large = waiter.find("large").unwrap();
        gate.close(Call::Read, &trees[usize::from(root)]);
        for index in 0..spans as u64 {
            let at = index * u64::from(SPAN_BYTES);
            let mut body = FileBody::new(Arc::clone(&large), at..at + 1);
            let piece = body.pull(&mut waiter.client, Token(5));
            assert!(matches!(piece, Piece::Pending));
            bodies.push(body);
        }
        held += share;
        gate.wait_for_held(held);
    }
    waiter.root = RootId::new(3);
    let get = |waiter: &mut Waiter, path: &str| {
        let (now, token) = (waiter.now(), Token(7));
        let found = waiter
            .client
            .lookup(now, waiter.root, path.as_bytes(), token);
        assert!(matches!(found, Lookup::Pending(_)));
        let answer = wait_for("object", || waiter.client.poll(now));
        assert_eq!(answer.token, token, "the others hang");
        answer.into_lookup().unwrap().unwrap()
    };
    let small = get(&mut waiter, "small");
    assert_eq!(version(small.whole().unwrap()), 2);
    let large = get(&mut waiter, "large");
    let mut body = FileBody::new(large, 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (spans * SPAN_BYTES as usize, 1));
    assert_eq!(gate.held(), held, "no more than their shares");
    let counters = cache.counters();
    assert!(counters.readers <= counters.readers_max, "{counters:?}");
    // Once they answer, everything does.
    gate.open();
    while waiter.client.outstanding() > 0 {
        waiter.completion();
    }
    wait_until("reads to end", || {
        let counters = cache.counters();
        (gate.held(), counters.queued, counters.readers_busy) == (0, 0, 0)
    });
}

/// Connections that request a file and are closed at once, again and again: what is queued for them
/// isn't read, and a fair one waits for no more than what is in flight.
#[test]
fn reads_whose_connections_are_closed_arent_made() {
    let tree = Tree::new();
    let spans = 64;
    for name in ["dropped", "fair"] {
        tree.write(name, &stamped(1, spans * SPAN_BYTES as usize));
    }
    let gate = Gate::new(true);
    let config = CacheConfig {
        loaders: 1,
        ..CacheConfig::default()
    };
    let faults = Faults {
        depth: 4,
        ..NO_FAULTS
    };
    let (cache, mut waiter) = start_faulty(&[&tree], 8 * MIB, &config, &gate, faults);
    let (dropped, fair) = (
        waiter.find("dropped").unwrap(),
        waiter.find("fair").unwrap(),
    );
    let before = cache.counters().loads;
    gate.close(Call::Read, &tree);
    let mut bodies = Vec::new();
    for index in 0..spans as u64 {
        let at = index * u64::from(SPAN_BYTES);
        let mut body = FileBody::new(Arc::clone(&dropped), at..at + 1);
        let piece = body.pull(&mut waiter.client, Token(index));
        assert!(matches!(piece, Piece::Pending));
        bodies.push(body);
    }
    gate.wait_for_held(4);
    drop(bodies);
    let mut body = FileBody::new(fair, 0..1);
    let mut out = Vec::new();
    let piece = body.pull(&mut waiter.client, Token(2));
    assert!(matches!(piece, Piece::Pending));
    gate.open();
    assert!(waiter.read(&mut body, 1, &mut out));
    // Their requests are answered all the same: the budget is whole again.
    while waiter.client.outstanding() > 0 {
        waiter.completion();
    }
    let counters = cache.counters();
    assert_eq!(counters.abandoned, spans as u64 - 4);
    assert_eq!(counters.loads - before, 5);
}

#[test]
fn shutting_down_doesnt_wait_for_reads_in_flight_that_hang() {
    let trees = [Tree::new(), Tree::new()];
    for tree in &trees {
        tree.write("large", &stamped(1, 400_000));
    }
    let gate = Gate::new(true);
    let refs: Vec<_> = trees.iter().collect();
    let config = CacheConfig::default();
    let (cache, mut waiter) = start_faulty(&refs, MIB, &config, &gate, NO_FAULTS);
    waiter.root = FINE;
    assert_eq!(version(&waiter.fetch("large").unwrap()), 1);
    waiter.root = HUNG;
    let large = waiter.find("large").unwrap();
    gate.close(Call::Read, &trees[0]);
    let mut body = FileBody::new(large, 0..u64::MAX);
    assert!(matches!(
        body.pull(&mut waiter.client, Token(1)),
        Piece::Pending
    ));
    gate.wait_for_held(3);
    let left = cache.shut_down(Duration::from_millis(50));
    assert!((1..=4).contains(&left), "{left}");
    drop((body, waiter));
    assert!(!gate.is_unused(), "their memory is kept");
    gate.open();
    wait_until("readers to end", || gate.is_unused());
}

#[test]
fn a_refused_ring_is_replaced_by_pread_unless_the_configuration_requires_it() {
    let tree = Tree::new();
    tree.write("large", &stamped(3, 400_000));
    let refuse = || {
        Arc::new(|| {
            Err(Refused::Call {
                call: "io_uring_setup",
                error: io::ErrorKind::PermissionDenied.into(),
            })
        })
    };
    let start = |io, readers| {
        let (gate, config) = (Gate::new(true), CacheConfig::default());
        let config = CacheConfig { io, ..config };
        start_with_readers(&[&tree], MIB, &config, 1, kernel_clock(), &gate, readers)
    };
    let (cache, mut clients) = start(FileIo::Auto, refuse()).unwrap();
    let ReadsBy::PreadFor(reason) = cache.reads_by() else {
        panic!("{:?}", cache.reads_by());
    };
    assert_eq!(reason.to_string(), "io_uring_setup: permission denied");
    let mut waiter = Waiter::new(clients.pop().unwrap());
    assert_eq!(version(&waiter.fetch("large").unwrap()), 3);
    let refused = start(FileIo::Uring, refuse()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "files can't be read through io_uring: io_uring_setup: permission denied"
    );
    let (cache, _) = start(FileIo::Pread, refuse()).unwrap();
    assert!(matches!(cache.reads_by(), ReadsBy::Pread));
}

/// The kernel may refuse later rings only, by a limit.
#[test]
fn a_loader_whose_ring_is_refused_reads_by_pread() {
    let tree = Tree::new();
    tree.write("large", &stamped(3, 400_000));
    let made = AtomicU64::new(0);
    let uring = uring_readers(Limits::default());
    let readers = Arc::new(move || match made.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(Box::new(idle_reader()) as _),
        1 => Err(Refused::NoRead),
        _ => uring(),
    });
    let (gate, config) = (Gate::new(true), CacheConfig::default());
    let started = start_with_readers(&[&tree], MIB, &config, 1, kernel_clock(), &gate, readers);
    let (cache, mut clients) = started.unwrap();
    let mut waiter = Waiter::new(clients.pop().unwrap());
    assert_eq!(version(&waiter.fetch("large").unwrap()), 3);
    assert!(cache.counters().rings_refused >= 1);
}

/// Random ranges of an object that is larger than the memory, by many clients, and some clients
/// that read all of it. The whole size is in `scripts/soak-cache`.
#[test]
fn an_object_larger_than_the_memory_streams_to_many_clients() {
    let is_whole = std::env::var_os("LOCKGATE_CACHE_SOAK").is_some();
    let (object_bytes, range_bytes, memory, clients, readers) = if is_whole {
        (1 << 30, 1 << 20, 256 * MIB, 10_000, 20)
    } else {
        (8 << 20, 64 << 10, MIB, 200, 3)
    };
    let tree = Tree::new();
    // Each eight bytes are their offset.
    let file = fs::File::create(tree.path("object")).unwrap();
    let mut chunk = Vec::new();
    for start in (0..object_bytes as u64).step_by(1 << 20) {
        chunk.clear();
        let words = (start..start + (1 << 20)).step_by(8);
        chunk.extend(words.flat_map(u64::to_le_bytes));
        file.write_all_at(&chunk, start).unwrap();
    }
    let is_right = |bytes: &[u8], from: u64| {
        let expected = |at: u64| (at & !7).to_le_bytes()[usize::try_from(at & 7).unwrap()];
        bytes
            .iter()
            .zip(from..)
            .all(|(byte, at)| *byte == expected(at))
    };
    let later = kernel_time() + Duration::from_secs(7_200);
    let clock = WallClock::new(move || later);
    let config = CacheConfig::default();
    let (cache, mut workers) = start_with_clock(&tree, memory, &config, 1, clock);
    let mut waiter = Waiter::new(workers.pop().unwrap());
    let object = waiter.find("object").unwrap();
    let mut random = Random::new(9);
    let range = |at: usize| {
        if at < readers {
            return 0..object_bytes as u64;
        }
        let start = random.index(object_bytes - range_bytes) as u64;
        start..start + range_bytes as u64
    };
    let ranges: Vec<_> = (0..readers + clients).map(range).collect();
    let body = |range: &std::ops::Range<u64>| FileBody::new(Arc::clone(&object), range.clone());
    let mut bodies: Vec<_> = ranges.iter().map(body).collect();
    let mut runnable: std::collections::VecDeque<_> = (0..bodies.len()).collect();
    let mut left = bodies.len();
    while left > 0 {
        while let Some(at) = runnable.pop_front() {
            let position = ranges[at].end - bodies[at].remaining();
            match bodies[at].pull(&mut waiter.client, Token(at as u64)) {
                Piece::Span(span, from, len) => {
                    let bytes = &span[from as usize..(from + len) as usize];
                    assert!(is_right(bytes, position), "{position}");
                    bodies[at].advance(len);
                    // Clients take turns.
                    runnable.push_back(at);
                }
                Piece::Copy(_) => panic!("nothing refers to any span"),
                Piece::Pending => {}
                Piece::End => left -= 1,
                Piece::Failed(absence) => panic!("{absence:?}"),
            }
        }
        assert!(cache.counters().bytes_used <= memory as u64);
        if left > 0 {
            let completion = waiter.completion();
            let at = usize::try_from(completion.token.0).unwrap();
            if bodies[at].on_completion(completion) {
                runnable.push_back(at);
            }
        }
    }
    let counters = cache.counters();
    assert!(
        counters.evictions > 0 && counters.read_errors == 0,
        "{counters:?}"
    );
}

//! Files that are never in the file cache, but in the kernel's page cache.
//!
//! A client on core 0 requests them, as a worker with several connections does, and yields while
//! nothing has come. Loaders read them on the same core, which they inherit, so that the ratio is
//! one of work. The baseline opens and reads the same files, one after the other, in one thread.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use lockgate::clock::{Clock, unix_time};
use lockgate_cache::{
    CacheConfig, FileBody, FileCache, FileClient, Lookup, Object, Piece, RootId, Token, WallClock,
};
use lockgate_testing::ScratchDir;
use lockgate_wire::Instant;
use pktbuf::{PageArena, Region};

use crate::rows::{Row, median};
use crate::side::{SUBJECT_CORE, pin};

pub(crate) fn measure() {
    let scratch = ScratchDir::new();
    for number in 0..SMALL_FILES {
        scratch.write(small(number), [b'x'; SMALL_BYTES]);
    }
    for number in 0..LARGE_FILES {
        scratch.write(large(number), vec![b'x'; LARGE_BYTES]);
    }
    pin(SUBJECT_CORE);
    let mut region = Region::heap(ARENA_BYTES).unwrap();
    let arena = PageArena::new(&mut region, ARENA_BYTES).unwrap();
    let roots = [scratch.path().to_owned()];
    let config = CacheConfig::default();
    let (_cache, mut clients) =
        FileCache::start(arena, &roots, &config, 1, WallClock::new(unix_time)).unwrap();
    let client = &mut clients[0];
    let mut rates: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        let bare = per_second(SMALL_FILES, || read_all(scratch.path(), SMALL_FILES, small));
        let many = per_second(SMALL_FILES, || look_up(client, DEPTH));
        let single = per_second(SMALL_FILES, || look_up(client, 1));
        let bytes = LARGE_FILES * LARGE_BYTES;
        let read = per_second(bytes, || read_all(scratch.path(), LARGE_FILES, large)) / 1e9;
        let bodies = per_second(bytes, || pull(client, LARGE_FILES)) / 1e9;
        let body = per_second(bytes, || pull(client, 1)) / 1e9;
        let round = [bare, many, single, read, bodies, body];
        for (rates, rate) in rates.iter_mut().zip(round) {
            rates.push(rate);
        }
    }
    let [bare, many, single, read, bodies, body] = rates.map(median);
    let rows = [
        ("4 KiB files, cold, 32 at a time", "files/s", many, bare),
        ("4 KiB files, cold, one at a time", "files/s", single, bare),
        ("64 MiB files, cold, 4 at a time", "GB/s", bodies, read),
        ("64 MiB files, cold, one at a time", "GB/s", body, read),
    ];
    for (name, unit, value, baseline) in rows {
        Row::new(name, unit, value).against(baseline).emit();
    }
}

/// Runs `work` and returns the rate of what it handles.
fn per_second(count: usize, work: impl FnOnce()) -> f64 {
    let clock = Clock::new();
    let begin = clock.now();
    work();
    count as f64 / clock.now().saturating_since(begin).as_secs_f64()
}

/// Reads all files by the kernel alone.
fn read_all(directory: &Path, files: usize, name: fn(usize) -> String) {
    let mut buffer = vec![0; 64 << 10];
    for number in 0..files {
        let mut file = File::open(directory.join(name(number))).unwrap();
        file.metadata().unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
}

/// Looks up all small files, so many at a time.
fn look_up(client: &mut FileClient, depth: usize) {
    let (mut next, mut outstanding) = (0, 0);
    while next < SMALL_FILES || outstanding > 0 {
        while next < SMALL_FILES && outstanding < depth {
            let name = small(next);
            let found = client.lookup(NOW, ROOT, name.as_bytes(), Token(0));
            assert!(matches!(found, Lookup::Pending(_)), "{name} was evicted");
            next += 1;
            outstanding += 1;
        }
        let mut has_come = false;
        while let Some(completion) = client.poll(NOW) {
            let object = completion.into_lookup().unwrap().unwrap();
            assert_eq!(object.entity().len(), SMALL_BYTES as u64);
            outstanding -= 1;
            has_come = true;
        }
        if !has_come {
            thread::yield_now();
        }
    }
}

/// Pulls all large files, so many at a time.
fn pull(client: &mut FileClient, at_a_time: usize) {
    for first in (0..LARGE_FILES).step_by(at_a_time) {
        let open = |number| FileBody::new(find(client, &large(number)), 0..u64::MAX);
        let mut bodies: Vec<_> = (first..first + at_a_time).map(open).collect();
        let mut left = bodies.len();
        while left > 0 {
            left = 0;
            let mut has_moved = false;
            for (body, at) in bodies.iter_mut().zip(0..) {
                match body.pull(client, Token(at)) {
                    Piece::Span(_, _, len) => {
                        body.advance(len);
                        has_moved = true;
                        left += 1;
                    }
                    Piece::Copy(_) => panic!("nothing refers to any span"),
                    Piece::Pending => left += 1,
                    Piece::End => {}
                    Piece::Failed(absence) => panic!("{absence:?}"),
                }
            }
            while let Some(completion) = client.poll(NOW) {
                bodies[completion.token.0 as usize].on_completion(completion);
                has_moved = true;
            }
            if !has_moved {
                thread::yield_now();
            }
        }
    }
}

fn find(client: &mut FileClient, name: &str) -> Arc<Object> {
    match client.lookup(NOW, ROOT, name.as_bytes(), Token(0)) {
        Lookup::Found(object) => object,
        Lookup::Absent(absence) => panic!("{absence:?}"),
        Lookup::Pending(_) => loop {
            if let Some(completion) = client.poll(NOW) {
                break completion.into_lookup().unwrap().unwrap();
            }
            thread::yield_now();
        },
    }
}

fn small(number: usize) -> String {
    format!("{}/{number}", number % 100)
}

fn large(number: usize) -> String {
    format!("large-{number}")
}

const NOW: Instant = Instant::from_secs(10);
const ROOT: RootId = RootId::new(0);
const SMALL_FILES: usize = 20_000;
const SMALL_BYTES: usize = 4096;
const LARGE_FILES: usize = 4;
const LARGE_BYTES: usize = 64 << 20;
/// Less than either kind of files has.
const ARENA_BYTES: usize = 16 << 20;
const DEPTH: usize = 32;
const ROUNDS: usize = 3;

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lockgate_testing::{Random, wait_for, wait_until};
use lockgate_wire::Instant;
use pktbuf::{PageArena, Region};

use super::testing::{Tree, kernel_clock, start, start_with_clock};
use super::*;

mod changes;
mod direct;
mod hung;
mod rings;
mod shares;

const MIB: usize = 1 << 20;
const ROOT: RootId = RootId::new(0);

fn start_one(tree: &Tree, bytes: usize, config: &CacheConfig) -> (FileCache, FileClient) {
    let (cache, mut clients) = start(tree, bytes, config, 1);
    (cache, clients.pop().unwrap())
}

/// `len` bytes that say in each half a kilobyte which version they are and where they stand.
fn stamped(version: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + BLOCK);
    for block in 0..len.div_ceil(BLOCK) as u64 {
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&block.to_le_bytes());
        bytes.resize(bytes.len() + BLOCK - 16, b'.');
    }
    bytes.truncate(len);
    bytes
}

/// The version of stamped bytes; panics if there are two, or if they aren't in order.
fn version(bytes: &[u8]) -> u64 {
    let number = |b: &[u8]| u64::from_le_bytes(b[..8].try_into().unwrap());
    let version = number(bytes);
    for (at, block) in bytes.chunks_exact(BLOCK).enumerate() {
        assert_eq!(
            (number(block), number(&block[8..])),
            (version, at as u64),
            "two versions"
        );
    }
    version
}

const BLOCK: usize = 512;

/// More than any file here has.
const ALL: usize = 1 << 30;

/// A client with a clock that ticks when it waits.
struct Waiter {
    client: FileClient,
    root: RootId,
    millis: u64,
}

impl Waiter {
    fn new(client: FileClient) -> Self {
        Self {
            client,
            root: ROOT,
            millis: 10_000,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.millis)
    }

    /// The next completion.
    fn completion(&mut self) -> Completion {
        let now = self.now();
        wait_for("completion", || self.client.poll(now))
    }

    /// Checks that no completion comes for a while.
    fn expect_no_completion(&mut self) {
        for _ in 0..100 {
            assert!(self.client.poll(self.now()).is_none());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn find(&mut self, path: &str) -> Result<Arc<Object>, Absence> {
        loop {
            match self
                .client
                .lookup(self.now(), self.root, path.as_bytes(), Token(1))
            {
                Lookup::Found(object) => return Ok(object),
                Lookup::Absent(absence) => return Err(absence),
                Lookup::Pending(ticket) => loop {
                    let completion = self.completion();
                    if completion.ticket == ticket {
                        match completion.into_lookup() {
                            Some(found) => return found,
                            None => break,
                        }
                    }
                },
            }
        }
    }

    /// Whether a lookup is answered at once.
    fn knows(&mut self, path: &str) -> bool {
        let found = self
            .client
            .lookup(self.now(), self.root, path.as_bytes(), Token(1));
        !matches!(found, Lookup::Pending(_))
    }

    /// Reads up to `len` bytes of a body; false if it failed.
    fn read(&mut self, body: &mut FileBody, len: usize, out: &mut Vec<u8>) -> bool {
        while out.len() < len {
            match body.pull(&mut self.client, Token(2)) {
                Piece::Span(span, at, piece) => {
                    let piece = piece.min(u32::try_from(len - out.len()).unwrap());
                    out.extend_from_slice(&span[at as usize..(at + piece) as usize]);
                    body.advance(piece);
                }
                Piece::Copy(piece) => {
                    let piece = &piece[..piece.len().min(len - out.len())];
                    out.extend_from_slice(piece);
                    let taken = u32::try_from(piece.len()).unwrap();
                    body.advance(taken);
                }
                Piece::Pending => {
                    let completion = self.completion();
                    body.on_completion(completion);
                }
                Piece::End => return true,
                Piece::Failed(_) => return false,
            }
        }
        true
    }

    fn fetch(&mut self, path: &str) -> Result<Vec<u8>, Absence> {
        let object = self.find(path)?;
        let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
        let mut bytes = Vec::new();
        if self.read(&mut body, ALL, &mut bytes) {
            assert_eq!(bytes.len() as u64, object.entity().len());
            Ok(bytes)
        } else {
            Err(Absence::Failed)
        }
    }
}

#[test]
fn files_are_found_and_known_then() {
    let tree = Tree::new();
    fs::create_dir(tree.path("d")).unwrap();
    tree.write("d/a.html", b"hello");
    tree.write("empty", b"");
    tree.write("large", &stamped(1, 200_001));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    assert!(!waiter.knows("d/a.html"));
    waiter.completion();
    assert!(waiter.knows("d/a.html"));
    assert_eq!(waiter.fetch("d/a.html").unwrap(), b"hello");
    assert_eq!(waiter.fetch("empty").unwrap(), b"");
    assert_eq!(version(&waiter.fetch("large").unwrap()), 1);
    let object = waiter.find("d/a.html").unwrap();
    assert_eq!(object.entity().content_type().name(), "text/html");
    assert_eq!(object.whole().unwrap().len(), 5);
    let counters = cache.counters();
    assert_eq!((counters.objects, counters.files_open), (2, 1));
    assert_eq!(counters.bytes_read, 5 + 200_001);
    assert!(counters.hits >= 2 && counters.misses >= 3);
    assert!(
        counters
            .iter()
            .any(|(name, n)| name == "files.loads" && n == counters.loads)
    );
}

#[test]
fn ranges_of_large_files() {
    let tree = Tree::new();
    let bytes = stamped(7, 300_000);
    tree.write("large", &bytes);
    let (_cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let object = waiter.find("large").unwrap();
    for (start, end) in [
        (0, 1),
        (65_535, 65_537),
        (1, 300_000),
        (299_999, 300_000),
        (131_072, 196_608),
    ] {
        let mut body = FileBody::new(Arc::clone(&object), start as u64..end as u64);
        let mut out = Vec::new();
        assert_eq!(body.remaining(), (end - start) as u64);
        assert!(waiter.read(&mut body, ALL, &mut out));
        assert!(out == bytes[start..end], "{start}..{end}");
    }
}

#[test]
fn absences_are_remembered_for_a_while() {
    let tree = Tree::new();
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    assert_eq!(waiter.find("later").unwrap_err(), Absence::NotFound);
    tree.write("later", b"x");
    assert_eq!(waiter.find("later").unwrap_err(), Absence::NotFound);
    assert_eq!(cache.counters().absent, 1);
    waiter.millis += 1_000;
    assert_eq!(waiter.fetch("later").unwrap(), b"x");
    fs::remove_file(tree.path("later")).unwrap();
    waiter.millis += 60_000;
    assert_eq!(waiter.find("later").unwrap_err(), Absence::NotFound);
    assert_eq!(cache.counters().objects, 0);
}

#[test]
fn only_regular_files_inside_the_tree_are_served() {
    let outside = Tree::new();
    outside.write("secret", b"secret");
    let tree = Tree::new();
    fs::create_dir_all(tree.path("d/e")).unwrap();
    tree.write("d/file", b"inside");
    symlink(outside.path("secret"), tree.path("absolute")).unwrap();
    symlink(outside.path(""), tree.path("directory")).unwrap();
    symlink("../../../../../../../../etc/passwd", tree.path("relative")).unwrap();
    symlink("/proc/self/root/etc/passwd", tree.path("magic")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    symlink("nothing", tree.path("dangling")).unwrap();
    symlink("d/file", tree.path("good")).unwrap();
    symlink("../file", tree.path("d/e/up")).unwrap();
    let fifo = tree.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    let (_cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    for path in [
        "absolute",
        "directory/secret",
        "relative",
        "magic",
        "loop",
        "dangling",
        "d/file/x",
        "nope",
        "../x",
        "d/../../x",
        "/etc/passwd",
    ] {
        assert_eq!(waiter.find(path).unwrap_err(), Absence::NotFound, "{path}");
    }
    assert_eq!(
        waiter.find(&"x".repeat(300)).unwrap_err(),
        Absence::NotFound
    );
    for path in ["d", "d/e", ""] {
        assert_eq!(waiter.find(path).unwrap_err(), Absence::Directory, "{path}");
    }
    for path in ["fifo", "socket"] {
        assert_eq!(waiter.find(path).unwrap_err(), Absence::Forbidden, "{path}");
    }
    assert_eq!(waiter.fetch("good").unwrap(), b"inside");
    assert_eq!(waiter.fetch("d/e/up").unwrap(), b"inside");
}

#[test]
fn a_replaced_file_is_noticed_after_the_interval() {
    let tree = Tree::new();
    tree.write("small", &stamped(1, 1_000));
    tree.write("large", &stamped(1, 200_000));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    for name in ["small", "large"] {
        assert_eq!(version(&waiter.fetch(name).unwrap()), 1);
        let len = waiter.find(name).unwrap().entity().len();
        tree.replace(name, &stamped(2, usize::try_from(len).unwrap()));
        assert_eq!(
            version(&waiter.fetch(name).unwrap()),
            1,
            "within the interval"
        );
        // Somewhat later it's served while a loader looks; long after, the look comes first.
        waiter.millis += 1_500;
        let changed = cache.counters().changed_files;
        assert_eq!(version(&waiter.fetch(name).unwrap()), 1);
        wait_until("look at the file", || {
            cache.counters().changed_files > changed
        });
        assert_eq!(version(&waiter.fetch(name).unwrap()), 2);
        tree.replace(name, &stamped(3, 1_000));
        waiter.millis += 60_000;
        assert_eq!(version(&waiter.fetch(name).unwrap()), 3);
    }
    let before = cache.counters();
    waiter.millis += 60_000;
    waiter.fetch("small").unwrap();
    let after = cache.counters();
    assert_eq!(after.revalidations, before.revalidations + 1);
    assert_eq!(
        after.loads, before.loads,
        "the same version isn't read again"
    );
}

#[test]
fn a_body_goes_on_in_its_version_or_fails() {
    let tree = Tree::new();
    let len = 1_000_000;
    let (_cache, client) = {
        let config = CacheConfig {
            read_ahead: 0,
            ..CacheConfig::default()
        };
        start_one(&tree, MIB, &config)
    };
    let mut waiter = Waiter::new(client);
    let begin = |name: &str, waiter: &mut Waiter| {
        tree.write(name, &stamped(1, len));
        let object = waiter.find(name).unwrap();
        let mut body = FileBody::new(object, 0..u64::MAX);
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, 200_000, &mut out));
        (body, out)
    };

    let (mut body, mut out) = begin("renamed", &mut waiter);
    tree.replace("renamed", &stamped(2, len));
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (len, 1));

    let (mut body, mut out) = begin("removed", &mut waiter);
    fs::remove_file(tree.path("removed")).unwrap();
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (len, 1));

    let open = |name: &str| {
        fs::OpenOptions::new()
            .write(true)
            .open(tree.path(name))
            .unwrap()
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&str));
    let changes: [Change<'_>; 3] = [
        ("truncated", &|name| open(name).set_len(500_000).unwrap()),
        ("emptied", &|name| open(name).set_len(0).unwrap()),
        ("written", &|name| {
            open(name).write_all_at(b"!", 900_000).unwrap()
        }),
    ];
    for (name, change) in changes {
        let (mut body, mut out) = begin(name, &mut waiter);
        change(name);
        assert!(!waiter.read(&mut body, ALL, &mut out), "{name}");
        assert_eq!(version(&out), 1, "{name}");
        assert!(out.len() < len);
        // The next lookup finds the new contents.
        let now = fs::read(tree.path(name)).unwrap();
        assert!(waiter.fetch(name).unwrap() == now, "{name}");
    }
}

#[test]
fn a_file_ten_times_the_cache_streams_through_it() {
    let tree = Tree::new();
    let bytes = stamped(5, 20 * MIB + 123);
    tree.write("huge", &bytes);
    let (cache, client) = start_one(&tree, 2 * MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    for _ in 0..2 {
        assert!(waiter.fetch("huge").unwrap() == bytes);
        let counters = cache.counters();
        assert!(counters.bytes_used <= counters.bytes_max);
        assert!(counters.evictions > 0);
    }
}

#[test]
fn small_files_are_evicted_for_large_ones_and_back() {
    let tree = Tree::new();
    let count = 300;
    for n in 0..count {
        tree.write(
            &format!("s{n}"),
            &stamped(n, 3_000 + usize::try_from(n * 37 % 20_000).unwrap()),
        );
    }
    tree.write("large", &stamped(9_999, 4 * MIB));
    let (cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    for round in 0..3 {
        for n in 0..count {
            assert_eq!(
                version(&waiter.fetch(&format!("s{n}")).unwrap()),
                n,
                "round {round}"
            );
        }
        assert_eq!(version(&waiter.fetch("large").unwrap()), 9_999);
        let counters = cache.counters();
        assert!(counters.bytes_used <= counters.bytes_max);
    }
    assert!(cache.counters().evictions > 300);
    assert_eq!(cache.counters().read_errors, 0);
}

#[test]
fn spans_in_use_are_never_evicted_and_a_fill_waits_for_them() {
    let tree = Tree::new();
    let bytes = MIB / 4;
    tree.write("held", &stamped(1, bytes));
    tree.write("other", &stamped(2, bytes));
    let config = CacheConfig {
        read_ahead: 0,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, bytes, &config);
    let mut waiter = Waiter::new(client);
    let object = waiter.find("held").unwrap();
    let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
    let mut held = Vec::new();
    for index in 0..4 {
        assert!(matches!(
            body.pull(&mut waiter.client, Token(1)),
            Piece::Pending
        ));
        let completion = waiter.completion();
        assert!(body.on_completion(completion));
        held.push(waiter.client.span(&object, index, true, Token(1)).unwrap());
        body.advance(SPAN_BYTES);
    }
    drop((body, object));
    assert_eq!(
        cache.counters().bytes_used,
        bytes as u64,
        "all of the memory is in use"
    );

    // Another body waits. It takes no memory from other bodies.
    let object = waiter.find("other").unwrap();
    let mut body = FileBody::new(object, 0..u64::MAX);
    assert!(matches!(
        body.pull(&mut waiter.client, Token(1)),
        Piece::Pending
    ));
    waiter.expect_no_completion();
    assert_eq!(cache.counters().waits, 1);
    assert_eq!(cache.counters().evictions, 0, "it would free nothing");
    assert!(waiter.knows("other"), "lookups don't wait with it");
    held.pop();
    let completion = waiter.completion();
    assert!(body.on_completion(completion));
    assert_eq!(
        version(&held.iter().flat_map(|s| s.to_vec()).collect::<Vec<_>>()),
        1
    );
    let mut out = Vec::new();
    held.clear();
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (bytes, 2));
}

#[test]
fn open_files_are_bounded() {
    let tree = Tree::new();
    for n in 0..12 {
        tree.write(&format!("f{n}"), &stamped(n, 100_000));
    }
    let config = CacheConfig {
        open_max: 4,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, MIB, &config);
    let mut waiter = Waiter::new(client);
    for n in 0..12 {
        assert_eq!(version(&waiter.fetch(&format!("f{n}")).unwrap()), n);
        assert!(cache.counters().files_open <= 4);
    }
    let mut held: Vec<_> = (0..4)
        .map(|n| waiter.find(&format!("f{n}")).unwrap())
        .collect();
    assert!(!waiter.knows("f9"));
    waiter.expect_no_completion();
    assert_eq!(cache.counters().files_open, 4);
    held.pop();
    assert!(waiter.completion().into_lookup().unwrap().is_ok());
    assert_eq!(cache.counters().files_open, 4);
}

#[test]
fn known_objects_are_bounded() {
    let tree = Tree::new();
    for n in 0..100 {
        tree.write(&format!("f{n}"), b"x");
    }
    let config = CacheConfig {
        objects_max: 10,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, MIB, &config);
    let mut waiter = Waiter::new(client);
    // The memory has room for 25 times as many: nothing is evicted for an allocation.
    for round in 0..3 {
        for n in 0..100 {
            assert_eq!(waiter.fetch(&format!("f{n}")).unwrap(), b"x", "{round}");
            assert!(cache.counters().objects <= 10);
            // Of ten objects, and of the ones that are stored and answered meanwhile.
            let known = cache.known_spans();
            assert!(known <= 2 * 12 + 64, "{known} after {n} of {round}");
        }
    }
    assert_eq!(cache.counters().evictions, 0);
    let held: Vec<_> = (0..20)
        .map(|n| waiter.find(&format!("f{n}")).unwrap())
        .collect();
    assert!(cache.counters().objects <= 10);
    drop(held);
    assert_eq!(waiter.fetch("f50").unwrap(), b"x");
}

/// The loaders' mutex is held by the worker's own thread: if anything here took it, this would
/// hang.
#[test]
fn a_worker_never_waits_for_a_loader() {
    let tree = Tree::new();
    tree.write("small", b"small");
    tree.write("large", &stamped(1, 500_000));
    let config = CacheConfig {
        outstanding_max: 8,
        ..CacheConfig::default()
    };
    let (cache, client) = start_one(&tree, MIB, &config);
    let mut waiter = Waiter::new(client);
    waiter.fetch("small").unwrap();
    let object = waiter.find("large").unwrap();
    let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 65_536, &mut out));
    let stalled = cache.stall();
    for turn in 0..1_000 {
        assert!(waiter.knows("small"), "what's known is served");
        let unknown = format!("unknown-{turn}");
        assert!(
            !waiter.knows(&unknown),
            "what isn't is asked for, or queued to be"
        );
        let mut again = FileBody::new(Arc::clone(&object), 0..u64::MAX);
        assert!(matches!(
            again.pull(&mut waiter.client, Token(3)),
            Piece::Span(..)
        ));
        let mut cold = FileBody::new(Arc::clone(&object), 400_000..u64::MAX);
        if let Piece::Span(..) = cold.pull(&mut waiter.client, Token(3)) {
            panic!("it was never read");
        }
        while waiter.client.poll(waiter.now()).is_some() {}
    }
    drop(stalled);
    // Every request is answered, or has to be made again.
    while waiter.client.outstanding() > 0 {
        waiter.completion();
    }
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!(version(&out), 1);
    assert!(cache.counters().starved > 0);
}

#[test]
fn one_lookup_answers_all_its_waiters() {
    let tree = Tree::new();
    tree.write("a", &stamped(1, 100_000));
    let (cache, mut clients) = start(&tree, MIB, &CacheConfig::default(), 2);
    let stalled = cache.stall();
    for client in &mut clients {
        for n in 0..50 {
            let found = client.lookup(Instant::from_secs(9), ROOT, b"a", Token(n));
            assert!(matches!(found, Lookup::Pending(_)));
        }
    }
    drop(stalled);
    for client in clients {
        let mut waiter = Waiter::new(client);
        let mut tokens: Vec<u64> = (0..50).map(|_| waiter.completion().token.0).collect();
        tokens.sort_unstable();
        assert!(tokens.iter().copied().eq(0..50));
    }
    assert_eq!(cache.counters().objects, 1);
}

#[test]
fn an_answer_is_for_its_request() {
    let tree = Tree::new();
    tree.write("a", &stamped(1, 100_000));
    tree.write("b", &stamped(2, 100_000));
    let (_cache, client) = start_one(&tree, MIB, &CacheConfig::default());
    let mut waiter = Waiter::new(client);
    let [mut a, mut b] = ["a", "b"].map(|name| FileBody::new(waiter.find(name).unwrap(), 0..512));
    for body in [&mut a, &mut b] {
        assert!(matches!(
            body.pull(&mut waiter.client, Token(1)),
            Piece::Pending
        ));
    }
    let (first, second) = (waiter.completion(), waiter.completion());
    let (for_a, for_b) = if first.ticket < second.ticket {
        (first, second)
    } else {
        (second, first)
    };
    assert!(!b.on_completion(for_a));
    assert!(matches!(
        b.pull(&mut waiter.client, Token(1)),
        Piece::Pending
    ));
    assert!(b.on_completion(for_b));
    let mut out = Vec::new();
    assert!(waiter.read(&mut b, ALL, &mut out));
    assert_eq!(version(&out), 2);
}

#[test]
fn the_top_directory_may_be_replaced() {
    let tree = Tree::new();
    for version in ["one", "two"] {
        fs::create_dir(tree.path(version)).unwrap();
        tree.write(&format!("{version}/x"), version.as_bytes());
    }
    symlink("one", tree.path("current")).unwrap();
    let mut region = Region::heap(MIB).unwrap();
    let arena = PageArena::new(&mut region, MIB).unwrap();
    let config = CacheConfig::default();
    let (_cache, mut clients) =
        FileCache::start(arena, &[tree.path("current")], &config, 1, kernel_clock()).unwrap();
    let mut waiter = Waiter::new(clients.pop().unwrap());
    assert_eq!(waiter.fetch("x").unwrap(), b"one");
    symlink("two", tree.path("next")).unwrap();
    fs::rename(tree.path("next"), tree.path("current")).unwrap();
    waiter.millis += 60_000;
    assert_eq!(waiter.fetch("x").unwrap(), b"two");
}

#[test]
fn a_cache_that_cant_start_says_why() {
    let mut region = Region::heap(MIB).unwrap();
    let arena = PageArena::new(&mut region, MIB).unwrap();
    let missing = vec![Path::new("/nonexistent/lockgate").to_owned()];
    let error =
        FileCache::start(arena, &missing, &CacheConfig::default(), 1, kernel_clock()).unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/lockgate"),
        "{error}"
    );
    let mut region = Region::heap(MIB).unwrap();
    let tiny = PageArena::new(&mut region, 65_536).unwrap();
    let error =
        FileCache::start(tiny, &[], &CacheConfig::default(), 1, kernel_clock()).unwrap_err();
    assert!(matches!(error, StartError::TooSmall));
}

/// Changes a file of a tree for every two that were fetched, until `stop`. Returns the number of
/// versions.
fn churn(tree: &Tree, sizes: &[usize], fetched: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut version = 1_u64;
    let mut random = Random::new(5);
    while !stop.load(Ordering::Relaxed) {
        if fetched.load(Ordering::Relaxed) < 2 * version {
            thread::sleep(Duration::from_micros(100));
            continue;
        }
        version += 1;
        let at = random.index(sizes.len());
        let name = format!("f{at}");
        let bytes = stamped(version, sizes[at]);
        match random.below(8) {
            0..=3 => tree.replace(&name, &bytes),
            // In place: emptied, then written again.
            4 | 5 => tree.write(&name, &bytes),
            6 => {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(tree.path(&name))
                    .unwrap();
                file.set_len(sizes[at] as u64 / 2 / BLOCK as u64 * BLOCK as u64)
                    .unwrap();
            }
            _ => {
                let _ = fs::remove_file(tree.path(&name));
                tree.write(&name, &bytes);
            }
        }
    }
    version
}

#[test]
fn a_tree_three_times_the_cache_that_changes_all_the_time() {
    let tree = Tree::new();
    let limit = 2 * MIB;
    let sizes: Vec<usize> = (0..60)
        .map(|n| {
            if n % 4 == 0 {
                400_000 + n * 1_024
            } else {
                3_000 + n * 512
            }
        })
        .collect();
    assert!(sizes.iter().sum::<usize>() > 3 * limit);
    for (at, size) in sizes.iter().enumerate() {
        tree.write(&format!("f{at}"), &stamped(1, *size));
    }
    let config = CacheConfig {
        revalidate: Duration::from_millis(20),
        negative: Duration::from_millis(5),
        open_max: 8,
        ..CacheConfig::default()
    };
    let (cache, clients) = start(&tree, limit, &config, 3);
    let (stop, fetched) = (AtomicBool::new(false), AtomicU64::new(0));
    let (whole, newest) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut cut, mut absent) = (0, 0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| churn(&tree, &sizes, &fetched, &stop));
        let readers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(id, client)| {
                let (cache, sizes, fetched) = (&cache, &sizes, &fetched);
                let (whole, newest) = (&whole, &newest);
                scope.spawn(move || {
                    let mut waiter = Waiter::new(client);
                    let (mut cut, mut absent) = (0, 0);
                    for turn in 0.. {
                        // However the threads take turns: until enough was fetched and all was met.
                        let now = cache.counters();
                        assert!(now.bytes_used <= now.bytes_max && now.files_open <= 8);
                        if whole.load(Ordering::Relaxed) >= WHOLE_MIN
                            && newest.load(Ordering::Relaxed) > 1
                            && now.evictions > 0
                            && now.changed_files > 0
                        {
                            break;
                        }
                        waiter.millis += 1;
                        let name = format!("f{}", (turn * 7 + id * 13) % sizes.len());
                        let (found, bytes) = fetch_counted(&mut waiter, &name);
                        fetched.fetch_add(1, Ordering::Relaxed);
                        match found {
                            Ok(()) => {
                                whole.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(Absence::NotFound) => absent += 1,
                            Err(_) => cut += 1,
                        }
                        // Also what was got of a response that was cut is of one version.
                        if !bytes.is_empty() {
                            newest.fetch_max(version(&bytes), Ordering::Relaxed);
                        }
                    }
                    (cut, absent)
                })
            })
            .collect();
        for reader in readers {
            let counts = reader.join().unwrap();
            cut += counts.0;
            absent += counts.1;
        }
        stop.store(true, Ordering::Relaxed);
        let versions = writer.join().unwrap();
        assert!(newest.load(Ordering::Relaxed) <= versions);
    });
    let whole = whole.into_inner();
    assert_eq!(whole + cut + absent, fetched.into_inner());
    let counters = cache.counters();
    assert_eq!(counters.read_errors, 0, "{counters:?}");
    assert!(counters.bytes_max <= limit as u64, "{counters:?}");
}

/// Whole responses: each file is fetched about 40 times.
const WHOLE_MIN: u64 = 2_400;

fn fetch_counted(waiter: &mut Waiter, name: &str) -> (Result<(), Absence>, Vec<u8>) {
    let mut bytes = Vec::new();
    let object = match waiter.find(name) {
        Ok(object) => object,
        Err(absence) => return (Err(absence), bytes),
    };
    let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
    if waiter.read(&mut body, ALL, &mut bytes) {
        assert_eq!(bytes.len() as u64, object.entity().len());
        (Ok(()), bytes)
    } else {
        (Err(Absence::Failed), bytes)
    }
}

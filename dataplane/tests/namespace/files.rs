//! Files that change while they're served, and more of them than the cache has room for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::{Conn, Reply, Stream, plain, secure};
use crate::support::scene::{Scene, Setup};
use lockgate_testing::cases::Case;
use lockgate_testing::{Random, network, wait_until};

pub(crate) const CASES: &[Case] = &[
    Case::new("files::three_times_the_cache_while_they_change", || {
        churn(Setup::new().set("cache.memory_max", "4MiB"), 4, 1000);
    }),
    Case::new("files::a_log_grows_while_curl_downloads_it", growing_log).with(&["curl"]),
];

/// A writer appends to a file during a slow download. The client gets the file to the length that
/// was announced, and the file has never more than what the connection and the cache can hold
/// ready.
fn growing_log() {
    let scene = Setup::new().set("cache.memory_max", "4MiB").start();
    let log = scene.www("access.log");
    let line = b"198.18.0.2 - GET /access.log 200 a line of forty-nine\n";
    fs::write(&log, line.repeat(LOG_BYTES / line.len())).expect("there's room for a file");
    for scheme in ["http", "https"] {
        let (head, body) = (
            scene.scratch.path().join("head"),
            scene.scratch.path().join("body"),
        );
        let mut curl = scene.command("curl");
        curl.args(["-sS", "--fail", "--limit-rate", "12M", "--cacert"])
            .arg(scene.crt("ecdsa"))
            .arg("-D")
            .arg(&head)
            .arg("-o")
            .arg(&body)
            .arg(format!("{scheme}://198.18.0.1/access.log"));
        let before = fs::metadata(&log).expect("it was written").len();
        let mut file = OpenOptions::new()
            .append(true)
            .open(&log)
            .expect("it was written");
        let mut curl = curl.spawn().expect("curl is installed");
        let mut appended = 0;
        let status = loop {
            if let Some(status) = curl.try_wait().expect("it is our child") {
                break status;
            }
            // From its first byte to its last.
            if fs::metadata(&body).is_ok_and(|body| body.len() > 0) {
                file.write_all(line).expect("there's room for a line");
                appended += 1;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(
            status.success(),
            "{scheme}: {status} after {appended} lines"
        );
        assert!(
            appended > 0,
            "{scheme}: it was over before a line was appended"
        );
        let head = fs::read_to_string(&head).expect("curl wrote it");
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let (_, value) = lines
                .find(|(field, _)| field.eq_ignore_ascii_case(name))
                .unwrap_or_else(|| panic!("no {name}: {head}"));
            value.to_owned()
        };
        // It was just modified: what comes behind the first byte may be of a later version.
        assert!(field("etag").starts_with("W/\""), "{head}");
        let announced: u64 = field("content-length").parse().expect("it's a number");
        assert!(announced >= before, "{head}");
        let (got, log) = (fs::read(&body), fs::read(&log));
        let (got, log) = (got.expect("curl wrote it"), log.expect("it was written"));
        assert_eq!(got.len() as u64, announced, "{head}");
        assert!(got == log[..got.len()], "{scheme}: other bytes");
        assert!(log.len() > got.len());

        // The next answer has the new length and another tag.
        let again = scene.curl(&["--fail", "-I", &format!("{scheme}://198.18.0.1/access.log")]);
        let again = again.ok().text().to_ascii_lowercase();
        assert!(
            again.contains(&format!("content-length: {}", log.len())),
            "{again}"
        );
        assert!(
            !again.contains(&field("etag").to_ascii_lowercase()),
            "{again}"
        );
        fs::remove_file(&body).expect("curl wrote it");
    }
    let stats = scene.server.stats();
    assert!(stats.process("files.changed_files") >= 2, "{stats:?}");
    assert_eq!(stats.process("files.read_errors"), 0, "{stats:?}");
    scene.finish();
}

/// What the clients got.
#[derive(Default)]
struct Tally {
    whole: AtomicU64,
    /// The connection was cut off, or the client had to wait too long for memory (503).
    cut: AtomicU64,
    missing: AtomicU64,
}

impl Tally {
    fn fetched(&self) -> u64 {
        let counts = [&self.whole, &self.cut, &self.missing];
        counts
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

/// Clients fetch files at random from a tree three times as large as the cache, while they are
/// replaced by rename and truncated where they are. It ends when the clients have fetched
/// `whole_min` whole files and the cache has evicted files and met changed ones.
pub(crate) fn churn(setup: Setup, clients: u64, whole_min: u64) {
    let mut scene = setup.start();
    let max = scene.server.stats().process("files.bytes_max");
    let lens: Vec<u64> = [1_000, 30_000, 70_000, 300_000, 1_000_000].repeat(3 + max_count(max));
    let lens = &lens[..fitting(&lens, 3 * max)];
    for (number, len) in lens.iter().enumerate() {
        replace(&scene, number, 0, *len);
    }
    let (done, tally) = (AtomicBool::new(false), Tally::default());
    let resident = scene.server.resident();
    let mut turns = 0;
    let server = &mut scene.server;
    let (net, roots, www) = (&scene.net, &scene.roots, scene.scratch.path().join("www"));
    thread::scope(|scope| {
        let (done, tally) = (&done, &tally);
        let _ended = SetOnDrop(done);
        scope.spawn(move || change(&www, lens, done, tally));
        for client in 0..clients {
            scope.spawn(move || {
                network::inside(net.client(), || {
                    if client % 2 == 0 {
                        fetch(client, lens.len(), plain, done, tally);
                    } else {
                        fetch(client, lens.len(), || secure(roots), done, tally);
                    }
                });
            });
        }
        wait_until("whole files, evictions and changes", || {
            let stats = server.stats();
            assert!(stats.process("files.bytes_used") <= max, "{stats:?}");
            // Nothing that loaders wait for stops the worker.
            let turned = stats.total("worker.turns");
            assert!(turned > turns, "{stats:?}");
            turns = turned;
            let grown = server.resident().saturating_sub(resident);
            assert!(grown <= GROWTH_MAX, "it grew by {} MiB", grown >> 20);
            let met = ["files.evictions", "files.changed_files"].map(|name| stats.process(name));
            tally.whole.load(Ordering::Relaxed) >= whole_min && met.iter().all(|count| *count > 0)
        });
    });
    scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(tally.missing.into_inner(), 0, "a rename leaves no gap");
    scene.finish();
}

fn max_count(bytes: u64) -> usize {
    usize::try_from(bytes >> 18).expect("a small cache")
}

/// How many of the files make up so many bytes.
fn fitting(lens: &[u64], bytes: u64) -> usize {
    let mut sum = 0;
    let enough = lens.iter().position(|len| {
        sum += len;
        sum >= bytes
    });
    enough.map_or(lens.len(), |at| at + 1)
}

fn name(number: usize) -> String {
    format!("{number}.txt")
}

/// Content of a file: each block names the file and the version.
fn content(number: usize, version: u64, len: u64) -> Vec<u8> {
    let block = format!("file {number:05} version {version:08}\n");
    let len = usize::try_from(len).expect("small files");
    block
        .bytes()
        .cycle()
        .take(len - len % block.len())
        .collect()
}

fn replace(scene: &Scene, number: usize, version: u64, len: u64) {
    replace_in(&scene.scratch.path().join("www"), number, version, len);
}

fn replace_in(www: &std::path::Path, number: usize, version: u64, len: u64) {
    let temporary = www.join(".next");
    fs::write(&temporary, content(number, version, len)).expect("there's room for a file");
    fs::rename(&temporary, www.join(name(number))).expect("it's there");
}

/// Sets a flag when the scope ends, also by a panic: the threads that look at it end then.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Replaces files, and truncates some: one for every other fetch, so that slow clients meet no more
/// changes than fast ones.
fn change(www: &std::path::Path, lens: &[u64], done: &AtomicBool, tally: &Tally) {
    let mut random = Random::new(11);
    for version in 1_u64.. {
        while tally.fetched() < 2 * version {
            if done.load(Ordering::Relaxed) {
                return;
            }
            thread::yield_now();
        }
        let number = random.index(lens.len());
        if random.one_in(4) {
            let file = OpenOptions::new().write(true).open(www.join(name(number)));
            let file = file.expect("it's there");
            let len = file.metadata().expect("it's open").len();
            file.set_len(len / 2 / BLOCK as u64 * BLOCK as u64)
                .expect("it's open for writing");
        } else {
            // Sometimes longer than before, sometimes shorter.
            let len = lens[number] * random.between(50, 149) / 100;
            replace_in(www, number, version, len.max(BLOCK as u64));
        }
    }
}

/// Fetches files and looks at every byte. A new connection follows on one that was cut off.
fn fetch<S: Stream>(
    client: u64,
    files: usize,
    connect: impl Fn() -> io::Result<Conn<S>>,
    done: &AtomicBool,
    tally: &Tally,
) {
    let mut random = Random::new(100 + client);
    let mut conn = None;
    while !done.load(Ordering::Relaxed) {
        let number = random.index(files);
        let open = conn.get_or_insert_with(|| connect().expect("it listens"));
        match open.get(&format!("/{}", name(number))) {
            Ok(reply) => match reply.status {
                200 => {
                    check(number, &reply);
                    tally.whole.fetch_add(1, Ordering::Relaxed);
                }
                503 => {
                    tally.cut.fetch_add(1, Ordering::Relaxed);
                    conn = None;
                }
                404 => {
                    tally.missing.fetch_add(1, Ordering::Relaxed);
                }
                status => panic!("status {status}"),
            },
            Err(error) => {
                let cut = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
                assert!(cut.contains(&error.kind()), "{error}");
                tally.cut.fetch_add(1, Ordering::Relaxed);
                conn = None;
            }
        }
    }
}

/// All of it is one version of the file that was asked for.
fn check(number: usize, reply: &Reply) {
    let body = &reply.body;
    let Some(first) = body.get(..BLOCK) else {
        assert!(body.is_empty(), "a piece of a block");
        return;
    };
    let said = format!("file {number:05} version ");
    assert!(
        first.starts_with(said.as_bytes()),
        "{}",
        String::from_utf8_lossy(first)
    );
    let mut blocks = body.chunks(BLOCK);
    assert!(
        blocks.all(|block| block == first),
        "a mixture of versions of {number}"
    );
}

/// Bytes of a block: `file 00000 version 00000000` and the end of its line.
const BLOCK: usize = 28;

/// More than the cache, the send queue and the kernel's buffers of a connection hold.
const LOG_BYTES: usize = 32 << 20;

/// Memory of pools that is touched for the first time, and what threads and allocators keep.
const GROWTH_MAX: u64 = 40 << 20;

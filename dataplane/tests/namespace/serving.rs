//! What is served: HTTP as curl and strict clients of our own see it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use crate::support::client::{Conn, Reply, Stream, plain, request, secure};
use crate::support::scene::{INDEX, Setup};
use lockgate_testing::cases::{Case, skip_case};
use lockgate_testing::wait_until;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "serving::curl_over_http_and_https_with_ipv4_and_ipv6",
        || {
            curl_everywhere(Setup::new());
        },
    )
    .with(&["curl"]),
    Case::new("serving::with_hugepages_if_there_are_some", || {
        curl_everywhere(Setup::new().set("eal.hugepages", "auto"));
    })
    .with(&["curl"]),
    Case::new("serving::with_the_other_cipher_backend", || {
        curl_everywhere(Setup::new().set("ktls.backend", "rustcrypto"));
    })
    .with(&["curl"]),
    Case::new("serving::with_two_workers", two_workers).with(&["curl"]),
    Case::new("serving::with_a_worker_that_sleeps", || {
        curl_everywhere(Setup::new().set("workers.idle", "sleep"));
    })
    .with(&["curl"]),
    Case::new("serving::records_as_short_as_configured", short_records).with(&["curl"]),
    Case::new("serving::methods_ranges_and_conditions", || {
        methods(Setup::new())
    }),
    Case::new("serving::nothing_outside_the_site", nothing_outside),
    Case::new("serving::requests_on_one_connection", keep_alive),
    Case::new("serving::pipelined_requests", || pipelining(Setup::new())),
];

/// `[ktls] record_max` bounds what is sealed at once, so there are at least so many records.
fn short_records() {
    let scene = Setup::new().set("ktls.record_max", "1KiB").start();
    let bytes = scene.file("large.bin", 3_000_001);
    let ran = scene.curl(&["-f", "https://198.18.0.1/large.bin"]).ok();
    assert!(ran.out == bytes, "{} bytes", ran.out.len());
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    let records = stats.total("kern.ipc.tls.stats.ocf.tls13_gcm_encrypts");
    assert!(records >= 3_000_001 / 1024, "{records} records");
}

/// Four ways to the same files.
pub(crate) fn curl_everywhere(setup: Setup) {
    let scene = setup.start();
    let files = [
        ("small.txt", 100),
        ("page.bin", 16 << 10),
        ("large.bin", 3_000_001),
    ];
    let files = files.map(|(name, len)| (name, scene.file(name, len)));
    for base in ["http://198.18.0.1", "http://[fd00:18::1]"]
        .into_iter()
        .chain(["https://198.18.0.1", "https://[fd00:18::1]"])
    {
        assert_eq!(
            scene.curl(&["-f", &format!("{base}/")]).ok().out,
            INDEX,
            "{base}"
        );
        for (name, bytes) in &files {
            let ran = scene.curl(&["-f", &format!("{base}/{name}")]).ok();
            assert!(ran.out == *bytes, "{base}/{name}: {} bytes", ran.out.len());
        }
        // Several on one connection, in order.
        let urls = files.each_ref().map(|(name, _)| format!("{base}/{name}"));
        let [a, b, c] = urls.each_ref().map(String::as_str);
        let ran = scene.curl(&["-f", a, b, c]).ok();
        assert!(ran.out == files.each_ref().map(|(_, bytes)| bytes.as_slice()).concat());
    }
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    // Each of the four did 5 runs of curl, the last one with three requests.
    assert_eq!(stats.total("http.connections"), 20);
    assert_eq!(
        (
            stats.total("http.requests"),
            stats.total("http.responses.200")
        ),
        (28, 28)
    );
    assert_eq!(stats.total("stack.accepted"), 20);
    assert_eq!(stats.total("stack.handshakes_tls13"), 10);
    // Also where a client that has closed its socket answers our close_notify by a reset.
    assert_eq!(stats.total("stack.end_clean"), 20, "{stats:?}");
    assert_eq!(
        (
            stats.total("stack.close_notify_in"),
            stats.total("stack.close_notify_out")
        ),
        (10, 10)
    );
    assert_eq!(stats.port("port.tx_dropped_plaintext"), 0);
    assert_eq!(stats.total("stack.bad_checksum"), 0);
    scene.finish();
}

/// Both workers serve connections, and each has the neighbour entries that the other learned.
fn two_workers() {
    if core_affinity::get_core_ids().is_none_or(|cores| cores.len() < 2) {
        skip_case("needs two cores");
    }
    let setup = || Setup::new().set("workers.cores", vec![0, 1]);
    curl_everywhere(setup());
    let scene = setup().start();
    let bytes = scene.file("some.bin", 20_000);
    // Which worker gets a connection depends on its port, which the client's kernel chooses.
    let mut asked = 0;
    wait_until("answers of both workers", || {
        scene.inside(|| {
            for reply in [
                plain().and_then(|mut conn| conn.get("/some.bin")),
                secure(&scene.roots).and_then(|mut conn| conn.get("/some.bin")),
            ] {
                assert!(reply.expect("an answer").body == bytes);
            }
        });
        asked += 2;
        let stats = scene.server.stats();
        ["0", "1"].iter().all(|worker| {
            let answered = stats.json()["workers"][worker]["http.responses.200"].as_u64();
            answered > Some(5)
        })
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.responses.200"), asked);
    scene.finish();
}

/// HEAD, Range, conditions and errors, over HTTP and HTTPS.
pub(crate) fn methods(setup: Setup) {
    let scene = setup.start();
    let bytes = scene.file("data.bin", 100_000);
    fs::create_dir(scene.www("sub")).expect("there's room for a directory");
    scene.inside(|| {
        check_methods(&mut plain().expect("it listens"), &bytes);
        check_methods(&mut secure(&scene.roots).expect("it listens"), &bytes);
    });
    let stats = scene.server.stats();
    for (counter, count) in [("206", 6), ("304", 4), ("404", 2), ("416", 2), ("405", 2)] {
        assert_eq!(
            stats.total(&format!("http.responses.{counter}")),
            count,
            "{counter}: {stats:?}"
        );
    }
    scene.finish();
}

/// Gets a file once its entity tag stays the same. It's weak, and another one then, for the first
/// two seconds after the file was written; it stays weak on file systems that can't be trusted.
fn settled<S: Stream>(conn: &mut Conn<S>, path: &str) -> Reply {
    let mut reply = conn.get(path).expect("an answer");
    // These take longer than two seconds.
    for _ in 0..150 {
        if !reply
            .header("etag")
            .is_some_and(|tag| tag.starts_with("W/"))
        {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        reply = conn.get(path).expect("an answer");
    }
    reply
}

fn check_methods<S: Stream>(conn: &mut Conn<S>, bytes: &[u8]) {
    let all = settled(conn, "/data.bin");
    assert_eq!((all.status, all.body.as_slice()), (200, bytes));
    let head = conn.ask("HEAD", "/data.bin", "").expect("an answer");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("100000"))
    );
    assert!(head.body.is_empty());

    for (range, from, to) in [
        ("0-0", 0, 1),
        ("99990-", 99_990, 100_000),
        ("-7", 99_993, 100_000),
    ] {
        let headers = format!("Range: bytes={range}\r\n");
        let part = conn.ask("GET", "/data.bin", &headers).expect("an answer");
        assert_eq!(
            (part.status, part.body.as_slice()),
            (206, &bytes[from..to]),
            "{range}"
        );
        let expected = format!("bytes {from}-{}/100000", to - 1);
        assert_eq!(part.header("content-range"), Some(expected.as_str()));
    }
    let beyond = conn
        .ask("GET", "/data.bin", "Range: bytes=100000-\r\n")
        .expect("an answer");
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */100000"))
    );

    let tag = all.header("etag").expect("a file has one");
    let unchanged = conn.ask("GET", "/data.bin", &format!("If-None-Match: {tag}\r\n"));
    let unchanged = unchanged.expect("an answer");
    assert_eq!(
        (unchanged.status, unchanged.header("etag")),
        (304, Some(tag))
    );
    let date = all.header("last-modified").expect("a file has one");
    let unchanged = conn.ask(
        "GET",
        "/data.bin",
        &format!("If-Modified-Since: {date}\r\n"),
    );
    assert_eq!(unchanged.expect("an answer").status, 304);
    let other = conn
        .ask("GET", "/data.bin", "If-None-Match: \"other\"\r\n")
        .expect("an answer");
    assert_eq!((other.status, other.body.len()), (200, bytes.len()));

    assert_eq!(conn.get("/none").expect("an answer").status, 404);
    let put = conn
        .ask("PUT", "/data.bin", "Content-Length: 3\r\n\r\nabc")
        .map(|reply| reply.status);
    assert_eq!(put.expect("an answer"), 405);
    let moved = conn.get("/sub").expect("an answer");
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/sub/"))
    );
}

/// No spelling of a path leads out of the site, nor does a link.
fn nothing_outside() {
    let scene = Setup::new().start();
    let secret = scene.scratch.path().join("secret.txt");
    symlink(&secret, scene.www("link.txt")).expect("a link can be made");
    symlink("/", scene.www("root")).expect("a link can be made");
    let paths = [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/x/../../secret.txt",
        "/..%2fsecret.txt",
        "/..\\secret.txt",
        "//../secret.txt",
        "/.%2e/secret.txt",
        "/link.txt",
        "/root/etc/passwd",
        "/%00/../secret.txt",
        "http://lockgate.test/../secret.txt",
    ];
    scene.inside(|| {
        for path in paths {
            // Each on a connection of its own: a bad request ends it.
            for reply in [
                plain().and_then(|mut conn| conn.get(path)),
                secure(&scene.roots).and_then(|mut conn| conn.get(path)),
            ] {
                let reply = reply.expect("an answer");
                assert!(
                    matches!(reply.status, 400 | 403 | 404),
                    "{path}: {}",
                    reply.status
                );
                let text = String::from_utf8_lossy(&reply.body);
                assert!(
                    !text.contains("secret text") && !text.contains("root:"),
                    "{path}: {text}"
                );
            }
        }
    });
    assert_eq!(scene.server.stats().total("http.responses.200"), 0);
    scene.finish();
}

/// A hundred requests, one after the other.
fn keep_alive() {
    let scene = Setup::new().set("http.requests_max", 100).start();
    let bytes = scene.file("some.bin", 5000);
    fn ask<S: Stream>(conn: &mut Conn<S>, bytes: &[u8]) -> io::Result<()> {
        for number in 1..=100 {
            let reply = conn.get("/some.bin")?;
            assert_eq!((reply.status, reply.body.as_slice()), (200, bytes));
            let last = reply.header("connection") == Some("close");
            assert_eq!(last, number == 100, "the hundredth is the last");
        }
        assert_eq!(conn.rest()?, b"");
        Ok(())
    }
    scene.inside(|| {
        plain()
            .and_then(|mut conn| ask(&mut conn, &bytes))
            .expect("answers");
        secure(&scene.roots)
            .and_then(|mut conn| ask(&mut conn, &bytes))
            .expect("answers");
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(
        (
            stats.total("http.connections"),
            stats.total("http.responses.200")
        ),
        (2, 200)
    );
    scene.finish();
}

/// Requests sent at once are answered in order.
pub(crate) fn pipelining(setup: Setup) {
    let scene = setup.start();
    let files: Vec<_> = (0..20_usize)
        .map(|n| {
            (
                format!("{n}.bin"),
                scene.file(&format!("{n}.bin"), 1 + n * 3001),
            )
        })
        .collect();
    fn ask<S: Stream>(mut conn: Conn<S>, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let requests = files
            .iter()
            .map(|(name, _)| request("GET", &format!("/{name}"), ""));
        let last = request("GET", "/none", "Connection: close\r\n");
        let requests: String = requests.chain([last]).collect();
        conn.send(requests.as_bytes())?;
        for (name, bytes) in files {
            let reply = conn.reply("GET")?;
            assert_eq!(reply.status, 200);
            assert!(reply.body == *bytes, "{name}");
        }
        assert_eq!(conn.reply("GET")?.status, 404);
        assert_eq!(conn.rest()?, b"");
        Ok(())
    }
    scene.inside(|| {
        plain().and_then(|conn| ask(conn, &files)).expect("answers");
        secure(&scene.roots)
            .and_then(|conn| ask(conn, &files))
            .expect("answers");
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(
        (
            stats.total("http.responses.200"),
            stats.total("http.responses.404")
        ),
        (40, 2)
    );
    scene.finish();
}

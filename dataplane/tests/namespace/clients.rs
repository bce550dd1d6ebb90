//! Clients that are slow, malformed or hostile, and clients that vanish.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::iter::repeat;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lockgate::clock::Clock;
use rustix::net::sockopt;
use rustls::version::{TLS12, TLS13};
use rustls::{StreamOwned, SupportedProtocolVersion};

use crate::support::client::{
    Conn, Stream, Tls, address4, connect, connect_narrow, handshake, plain, request, secure,
    tls_client, tls_client_of,
};
use crate::support::material::noise;
use crate::support::scene::{INDEX, Scene, Setup};
use lockgate_testing::cases::Case;
use lockgate_testing::network::ip;
use lockgate_testing::wait_until;

pub(crate) const CASES: &[Case] = &[
    Case::new("clients::vanish_with_their_link", || {
        vanish(Vanishing::Link)
    }),
    Case::new("clients::vanish_with_their_address", || {
        vanish(Vanishing::Address)
    }),
    Case::new("clients::that_send_garbage", || garbage(Setup::new())),
    Case::new("clients::that_send_one_byte_at_a_time", || {
        one_byte_at_a_time(Setup::new())
    }),
    Case::new("clients::that_close_their_half", || {
        half_closed(Setup::new())
    }),
    Case::new("clients::that_reset", || resets(Setup::new())),
    Case::new("clients::slow_to_ask", slow_to_ask),
    Case::new("clients::slow_to_read", slow_to_read),
    Case::new("clients::that_never_read_a_small_response", never_read),
];

/// How a client vanishes.
#[derive(Clone, Copy)]
enum Vanishing {
    Link,
    Address,
}

/// Clients vanish in mid-download, some with room for more, some without: all are given up after
/// the user time-out, everything they held is there again, and others are served.
fn vanish(how: Vanishing) {
    let scene = Setup::new().set("tcp.user_timeout", "4s").start();
    File::create(scene.www("endless.bin"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("a file of holes");
    scene.inside(|| {
        let get = request("GET", "/endless.bin", "");
        // Two that don't read, so that their windows close,
        let mut stopped = Conn::new(connect_narrow(address4(80)).expect("it listens"));
        let mut stopped_tls = handshake(
            connect_narrow(address4(443)).expect("it listens"),
            &scene.roots,
        )
        .map(Conn::new)
        .expect("a handshake");
        stopped.send(get.as_bytes()).expect("a request can be sent");
        stopped_tls
            .send(get.as_bytes())
            .expect("a request can be sent");
        // and two that read as fast as they can.
        let mut fast = plain().expect("it listens");
        let mut fast_tls = secure(&scene.roots).expect("it listens");
        let read = [AtomicU64::new(0), AtomicU64::new(0)];
        let sockets = [fast.tcp(), fast_tls.tcp()].map(|tcp| tcp.try_clone().expect("it's open"));
        thread::scope(|scope| {
            scope.spawn(|| read_on(&mut fast, &read[0]));
            scope.spawn(|| read_on(&mut fast_tls, &read[1]));
            // All of them are in the middle of it.
            wait_until("a MiB for each client", || {
                let enough = |read: &AtomicU64| read.load(Ordering::Relaxed) >= 1 << 20;
                read.iter().all(enough)
            });
            let peer = scene.net.client();
            match how {
                Vanishing::Link => ip(&format!("-n {peer} link set lg1 down")),
                Vanishing::Address => ip(&format!("-n {peer} addr flush dev lg1")),
            }
            scene.server.wait("stack.end_timed_out", |count| count == 4);
            let stats = scene.server.wait_at_rest();
            assert_eq!(stats.total("tcp.timed_out"), 4, "{stats:?}");
            for socket in &sockets {
                socket.shutdown(Shutdown::Both).expect("it's open");
            }
        });
    });
    // Back again.
    let peer = scene.net.client();
    match how {
        Vanishing::Link => ip(&format!("-n {peer} link set lg1 up")),
        Vanishing::Address => ip(&format!("-n {peer} addr add 198.18.0.2/24 dev lg1")),
    }
    scene.inside(|| {
        let reply = secure(&scene.roots)
            .and_then(|mut conn| conn.get("/"))
            .expect("an answer");
        assert_eq!(reply.body, INDEX);
    });
    scene.finish();
}

/// Reads until its own side ends the connection.
fn read_on<S: Stream>(conn: &mut Conn<S>, bytes: &AtomicU64) {
    conn.send(request("GET", "/endless.bin", "").as_bytes())
        .expect("a request can be sent");
    let mut piece = vec![0; 64 << 10];
    let error = loop {
        match conn.stream().read(&mut piece) {
            Ok(0) => return,
            Ok(len) => _ = bytes.fetch_add(len as u64, Ordering::Relaxed),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(error, ErrorKind::UnexpectedEof, "TLS misses its end");
}

/// Bytes that aren't TLS get an alert, and bytes that aren't HTTP get 400. Other clients are
/// served.
pub(crate) fn garbage(setup: Setup) {
    let scene = setup.start();
    let hello = {
        let mut hello = Vec::new();
        tls_client(&scene.roots)
            .write_tls(&mut hello)
            .expect("memory takes it");
        hello
    };
    let with = |end: &[u8]| [hello.as_slice(), end].concat();
    let flights = [
        ("noise", noise(1, 5000)),
        ("HTTP", request("GET", "/", "").into_bytes()),
        ("zeroes", vec![0; 1000]),
        ("a record too long", vec![0x16, 3, 1, 0xff, 0xff, 1, 2, 3]),
        ("an alert", vec![0x15, 3, 3, 0, 2, 2, 80]),
        ("a hello, then noise", with(&noise(2, 3000))),
        (
            "a hello, then data without keys",
            with(&[0x17, 3, 3, 0, 1, 0]),
        ),
        (
            "a hello cut short, then its end",
            hello[..hello.len() / 2].to_vec(),
        ),
        ("nothing", Vec::new()),
    ];
    scene.inside(|| {
        for (what, flight) in &flights {
            let mut tcp = connect(address4(443)).expect("it listens");
            tcp.write_all(flight).expect("there's room for it");
            tcp.shutdown(Shutdown::Write).expect("it's open");
            let mut answer = Vec::new();
            // A reset may come behind the alert.
            let _ = tcp.read_to_end(&mut answer);
            let silent = answer.is_empty() && ["an alert", "nothing"].contains(what);
            let cut = what.ends_with("its end");
            let alerted = is_alert(&answer) || answer.starts_with(&[0x16, 3, 3]);
            assert!(silent || cut || alerted, "{what}: {answer:x?}");
        }
        for what in [&noise(3, 10_000)[..], b"\r\n\r\n\0\0\0\r\n\r\n", &hello] {
            let mut conn = plain().expect("it listens");
            conn.send(what).expect("there's room for it");
            assert_eq!(conn.reply("GET").expect("an answer").status, 400);
        }
        after_the_handshake(&scene);
        let reply = secure(&scene.roots)
            .and_then(|mut conn| conn.get("/"))
            .expect("an answer");
        assert_eq!(reply.body, INDEX);
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(
        stats.total("stack.handshakes_failed"),
        flights.len() as u64,
        "{stats:?}"
    );
    assert_eq!(stats.total("http.responses.400"), 3);
    assert_eq!(stats.total("kern.ipc.tls.rx_error.bad_record"), 1);
    assert_eq!(stats.total("kern.ipc.tls.rx_error.record_too_long"), 1);
    assert_eq!(stats.total("kern.ipc.tls.rx_error.unprotected"), 1);
    assert_eq!(stats.total("stack.end_tls"), 3, "{stats:?}");
    scene.finish();
}

/// A fatal alert that isn't encrypted.
fn is_alert(answer: &[u8]) -> bool {
    matches!(answer, [0x15, 3, _, 0, 2, 2, _, ..])
}

/// Garbage where records should be: an alert comes, then the end.
fn after_the_handshake(scene: &Scene) {
    let sealed_wrong = [&[0x17, 3, 3, 0, 40][..], &noise(4, 40)].concat();
    let too_long = [0x17, 3, 3, 0xff, 0xff, 0, 0];
    let unprotected = [0x16, 3, 3, 0, 5, 0, 0, 0, 1, 0];
    for (bytes, alert) in [
        (&sealed_wrong[..], "BadRecordMac"),
        (&too_long, "RecordOverflow"),
        (&unprotected, "Unex"),
    ] {
        let mut conn = secure(&scene.roots).expect("it listens");
        conn.stream()
            .sock
            .write_all(bytes)
            .expect("there's room for it");
        let error = conn.rest().expect_err("an alert is an error").to_string();
        assert!(error.contains(alert), "{error}");
    }
}

/// A stream that sends each byte in a segment of its own, as far as the window allows.
#[derive(Debug)]
struct OneByOne(TcpStream);

impl Read for OneByOne {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for OneByOne {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for OneByOne {
    fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

impl Stream for StreamOwned<rustls::ClientConnection, OneByOne> {
    fn tcp(&self) -> &TcpStream {
        &self.sock.0
    }
}

/// Requests, and whole handshakes of both versions, in single bytes.
pub(crate) fn one_byte_at_a_time(setup: Setup) {
    let scene = setup.start();
    let bytes = scene.file("some.bin", 50_000);
    fn ask<S: Stream>(mut conn: Conn<S>, bytes: &[u8]) -> io::Result<()> {
        for _ in 0..3 {
            let reply = conn.get("/some.bin")?;
            assert!(reply.status == 200 && reply.body == bytes);
        }
        Ok(())
    }
    fn shake(scene: &Scene, version: &'static SupportedProtocolVersion) -> io::Result<OneByOneTls> {
        let mut stream = OneByOne(connect(address4(443))?);
        let mut session = tls_client_of(&scene.roots, &[version]);
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(session, stream))
    }
    scene.inside(|| {
        let stream = OneByOne(connect(address4(80)).expect("it listens"));
        ask(Conn::new(stream), &bytes).expect("answers");
        for version in [&TLS12, &TLS13] {
            let stream = shake(&scene, version).expect("a handshake");
            ask(Conn::new(stream), &bytes).expect("answers");
        }
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.responses.200"), 9);
    assert_eq!(stats.total("stack.handshakes_tls12"), 1);
    assert_eq!(stats.total("stack.handshakes_tls13"), 1);
    scene.finish();
}

type OneByOneTls = StreamOwned<rustls::ClientConnection, OneByOne>;

/// A client that closes its side behind its request gets the whole answer. Behind TLS it makes a
/// difference to the counters whether it said close_notify, none to the answer.
pub(crate) fn half_closed(setup: Setup) {
    let scene = setup.start();
    let bytes = scene.file("large.bin", 5_000_000);
    let get = request("GET", "/large.bin", "");
    scene.inside(|| {
        let mut conn = plain().expect("it listens");
        conn.send(get.as_bytes()).expect("a request can be sent");
        conn.tcp().shutdown(Shutdown::Write).expect("it's open");
        assert!(conn.reply("GET").expect("an answer").body == bytes);
        assert_eq!(conn.rest().expect("a clean end"), b"");
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(
        (
            stats.total("stack.end_clean"),
            stats.total("stack.end_reset")
        ),
        (1, 0)
    );
    assert_eq!(stats.total("stack.peer_closed_clean"), 1);

    let ask = |how: &(dyn Fn(&mut Conn<Tls>) + Sync)| {
        scene.inside(|| {
            let mut conn = secure(&scene.roots).expect("it listens");
            conn.send(get.as_bytes()).expect("a request can be sent");
            how(&mut conn);
            assert!(conn.reply("GET").expect("an answer").body == bytes);
            assert_eq!(conn.rest().expect("a close_notify and the end"), b"");
        });
        scene.server.wait("worker.connections", |open| open == 0)
    };
    let fin = |conn: &mut Conn<Tls>| conn.tcp().shutdown(Shutdown::Write).expect("it's open");
    let close_notify = |conn: &mut Conn<Tls>| {
        let tls = conn.stream();
        tls.conn.send_close_notify();
        tls.conn
            .write_tls(&mut tls.sock)
            .expect("there's room for it");
    };
    let stats = ask(&close_notify);
    assert_eq!(
        (
            stats.total("stack.close_notify_in"),
            stats.total("stack.end_clean")
        ),
        (1, 2)
    );
    let both = |conn: &mut Conn<Tls>| {
        close_notify(conn);
        fin(conn);
    };
    let stats = ask(&both);
    assert_eq!(
        (
            stats.total("stack.close_notify_in"),
            stats.total("stack.end_clean")
        ),
        (2, 3)
    );
    let stats = ask(&fin);
    assert_eq!(stats.total("stack.peer_closed_truncated"), 1, "{stats:?}");
    assert_eq!(
        (
            stats.total("stack.end_truncated"),
            stats.total("stack.end_clean")
        ),
        (1, 3)
    );
    assert_eq!(stats.total("http.responses.200"), 4);
    scene.finish();
}

/// Resets at rest, in a handshake and in mid-response.
pub(crate) fn resets(setup: Setup) {
    let scene = setup.start();
    scene.file("large.bin", 8 << 20);
    fn reset(tcp: &TcpStream) {
        sockopt::set_socket_linger(tcp, Some(Duration::ZERO)).expect("it's a socket");
    }
    scene.inside(|| {
        let mut conn = plain().expect("it listens");
        assert_eq!(conn.get("/").expect("an answer").body, INDEX);
        reset(conn.tcp());
        drop(conn);
        let tcp = connect(address4(443)).expect("it listens");
        reset(&tcp);
        drop(tcp);
        for narrow in [false, true] {
            let open = |port| {
                let to = address4(port);
                if narrow {
                    connect_narrow(to)
                } else {
                    connect(to)
                }
                .expect("it listens")
            };
            let get = request("GET", "/large.bin", "");
            let mut conn = Conn::new(open(80));
            let tls = handshake(open(443), &scene.roots).expect("a handshake");
            let mut secured = Conn::new(tls);
            conn.send(get.as_bytes()).expect("a request can be sent");
            secured.send(get.as_bytes()).expect("a request can be sent");
            conn.exactly(10_000).expect("a part of the answer");
            secured.exactly(10_000).expect("a part of the answer");
            reset(conn.tcp());
            reset(secured.tcp());
        }
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    let ends = (
        stats.total("stack.end_reset"),
        stats.total("stack.end_handshake"),
    );
    assert_eq!(ends.0 + ends.1, 6, "{stats:?}");
    assert_eq!(stats.total("tcp.resets_in"), 6, "{stats:?}");
    scene.finish();
}

/// A client that doesn't complete its request in time gets 408 if it has begun one, and is closed
/// either way. The limits are long for clients that want to be in time on a busy machine.
fn slow_to_ask() {
    let setup = Setup::new()
        .set("http.header_timeout", "8s")
        .set("http.idle_timeout", "8s");
    let scene = setup.set("tls.handshake_timeout", "8s").start();
    fn begin<S: Stream>(mut conn: Conn<S>) {
        conn.send(b"GET / HTTP/1.1\r\nHost: lock")
            .expect("it can be sent");
        let reply = conn.reply("GET").expect("an answer");
        assert_eq!(
            (reply.status, reply.header("connection")),
            (408, Some("close"))
        );
        assert_eq!(conn.rest().expect("a clean end"), b"");
    }
    fn trickle<S: Stream>(mut conn: Conn<S>) {
        // Each byte comes in time; the head doesn't: it never ends.
        let mut head = request("GET", "/", "X-Long: ");
        head.truncate(head.len() - 2);
        for byte in head.bytes().chain(repeat(b'x')).take(TRICKLE) {
            if conn.send(&[byte]).is_err() {
                break;
            }
            thread::sleep(TRICKLE_PAUSE);
        }
        let end = conn.reply("GET").map(|reply| reply.status);
        // A byte that came behind the answer may have been answered by a reset.
        assert!(matches!(end, Ok(408) | Err(_)), "{end:?}");
    }
    fn rest<S: Stream>(mut conn: Conn<S>) {
        assert_eq!(
            conn.rest().expect("a clean end"),
            b"",
            "silence gets no answer"
        );
    }
    fn kept<S: Stream>(mut conn: Conn<S>) {
        assert_eq!(conn.get("/").expect("an answer").status, 200);
        assert_eq!(conn.rest().expect("a clean end"), b"");
    }
    scene.inside(|| {
        let roots = &scene.roots;
        let http = || plain().expect("it listens");
        let secured = || secure(roots).expect("it listens");
        thread::scope(|scope| {
            scope.spawn(|| begin(http()));
            scope.spawn(|| begin(secured()));
            scope.spawn(|| trickle(http()));
            scope.spawn(|| trickle(secured()));
            scope.spawn(|| rest(http()));
            scope.spawn(|| rest(secured()));
            scope.spawn(|| kept(http()));
            scope.spawn(|| kept(secured()));
            scope.spawn(|| {
                let mut tcp = connect(address4(443)).expect("it listens");
                let mut answer = Vec::new();
                let _ = tcp.read_to_end(&mut answer);
                assert!(answer.is_empty() || is_alert(&answer), "{answer:x?}");
            });
        });
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.responses.408"), 4, "{stats:?}");
    assert_eq!(stats.total("http.idle_closed"), 4, "{stats:?}");
    assert_eq!(
        stats.total("stack.handshakes_failed_timeout"),
        1,
        "{stats:?}"
    );
    scene.finish();
}

/// A client that reads nothing is cut off. One that reads a little all the time is served for
/// longer than those that are cut off, unless the machine kept it from reading. `server::tests`
/// check the limit with simulated time.
fn slow_to_read() {
    let scene = Setup::new().set("http.send_timeout", "5s").start();
    let bytes = scene.file("large.bin", 8 << 20);
    let cut_off = &AtomicBool::new(false);
    /// Reads nothing until the connection is reset.
    fn stop<S: Stream>(mut conn: Conn<S>) {
        conn.send(request("GET", "/large.bin", "").as_bytes())
            .expect("it can be sent");
        let mut end = None;
        wait_until("cutting off", || {
            end = conn.tcp().take_error().expect("it's a socket");
            end.is_some()
        });
        let end = end.map(|error| error.kind());
        assert_eq!(end, Some(ErrorKind::ConnectionReset));
    }
    /// Reads small pieces until the others are cut off, then the rest. Returns whether it got the
    /// whole file: it has to, unless there was a long pause between two reads.
    fn dawdle<S: Stream>(mut conn: Conn<S>, bytes: &[u8], cut_off: &AtomicBool) -> bool {
        conn.send(request("GET", "/large.bin", "").as_bytes())
            .expect("it can be sent");
        let mut pause = Duration::ZERO;
        let clock = Clock::new();
        let mut last = clock.now();
        let mut read = |conn: &mut Conn<S>, expected: &[u8]| {
            let read = conn.exactly(expected.len());
            let now = clock.now();
            pause = pause.max(now.saturating_since(last));
            last = now;
            match &read {
                Ok(piece) => assert!(piece == expected),
                Err(error) => assert!(pause > LONG_PAUSE, "{error} after {pause:?} at most"),
            }
            read.is_ok()
        };
        let head = conn.head().expect("an answer");
        assert_eq!(head.status, 200);
        let mut rest = bytes;
        while !cut_off.load(Ordering::Relaxed) && !rest.is_empty() {
            let (piece, more) = rest.split_at(DAWDLE.min(rest.len()));
            if !read(&mut conn, piece) {
                return false;
            }
            rest = more;
            thread::sleep(TRICKLE_PAUSE);
        }
        read(&mut conn, rest)
    }
    let served = scene.inside(|| {
        let http = || Conn::new(connect_narrow(address4(80)).expect("it listens"));
        let https = || {
            let tcp = connect_narrow(address4(443)).expect("it listens");
            Conn::new(handshake(tcp, &scene.roots).expect("a handshake"))
        };
        thread::scope(|scope| {
            let slow = [
                scope.spawn(|| dawdle(http(), &bytes, cut_off)),
                scope.spawn(|| dawdle(https(), &bytes, cut_off)),
            ];
            let stopped = [scope.spawn(|| stop(http())), scope.spawn(|| stop(https()))];
            let stopped = stopped.map(|thread| thread.join());
            cut_off.store(true, Ordering::Relaxed);
            for result in stopped {
                result.expect("it is cut off");
            }
            slow.map(|thread| thread.join().expect("it is served"))
        })
    });
    let stalled = 2 + served.iter().filter(|served| !**served).count() as u64;
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.stalled"), stalled, "{stats:?}");
    assert_eq!(stats.total("stack.end_aborted"), stalled, "{stats:?}");
    scene.finish();
}

/// `[http] send_timeout` holds for a response that fits into the send queue as a whole: the server
/// has nothing left to send, and the client's window stays closed. The same for one that comes
/// after another on a kept-alive connection, with a longer time limit for idle clients.
fn never_read() {
    let scene = Setup::new()
        .set("http.send_timeout", "3s")
        .set("http.idle_timeout", "5m")
        .start();
    scene.file("small.bin", 100_000);
    fn silent<S: Stream>(conn: &mut Conn<S>, is_second: bool) {
        if is_second {
            let reply = conn.get("/").expect("an answer");
            assert_eq!(reply.body, INDEX);
        }
        conn.send(request("GET", "/small.bin", "").as_bytes())
            .expect("it can be sent");
    }
    scene.inside(|| {
        let http = || Conn::new(connect_narrow(address4(80)).expect("it listens"));
        let https = || {
            let tcp = connect_narrow(address4(443)).expect("it listens");
            Conn::new(handshake(tcp, &scene.roots).expect("a handshake"))
        };
        let (mut http, mut https) = ([http(), http()], [https(), https()]);
        for (index, (http, https)) in http.iter_mut().zip(&mut https).enumerate() {
            silent(http, index == 1);
            silent(https, index == 1);
        }
        scene.server.wait("http.stalled", |count| count == 4);
        let is_reset = |error: io::Error| error.kind() == ErrorKind::ConnectionReset;
        for conn in &mut http {
            assert!(conn.rest().is_err_and(is_reset));
        }
        for conn in &mut https {
            assert!(conn.rest().is_err_and(is_reset));
        }
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    for (name, expected) in [
        ("http.stalled", 4),
        ("http.idle_closed", 0),
        ("http.requests", 6),
        ("stack.end_aborted", 4),
        ("stack.end_timed_out", 0),
    ] {
        assert_eq!(stats.total(name), expected, "{name}: {stats:?}");
    }
    scene.finish();
}

/// Bytes of a head that never ends: they take longer than the limit for heads.
const TRICKLE: usize = 300;
const TRICKLE_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that a slow reader takes at a time: a file of 8 MiB lasts for 50 seconds and more.
const DAWDLE: usize = 8 << 10;
/// A slow reader that paused for longer may be cut off: half of `http.send_timeout`.
const LONG_PAUSE: Duration = Duration::from_millis(2500);

//! SIGTERM: what is under way is finished, nothing new begins, and there is an end to patience.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::client::{
    Conn, Stream, Tls, address4, connect, connect_narrow, handshake, request,
};
use crate::support::scene::{Scene, Setup};
use crate::support::server::Server;
use lockgate_testing::cases::Case;
use lockgate_testing::{network, wait_until};

pub(crate) const CASES: &[Case] = &[
    Case::new("ending::responses_are_finished", responses_are_finished),
    Case::new("ending::the_deadline_cuts_off", deadline),
    Case::new("ending::a_second_signal_ends_at_once", second_signal),
    Case::new("ending::at_rest_it_ends_at_once", at_rest),
];

/// Two responses in the middle, two connections at rest.
fn responses_are_finished() {
    let Scene {
        mut server,
        net,
        scratch,
        roots,
        ..
    } = Setup::new().start();
    let bytes = crate::support::material::noise(7, 6 << 20);
    std::fs::write(scratch.path().join("www/large.bin"), &bytes).expect("there's room for a file");
    network::inside(net.client(), || {
        let tls = |tcp| handshake(tcp, &roots).map(Conn::new).expect("a handshake");
        let narrow = |port| connect_narrow(address4(port)).expect("it listens");
        let mut idle = Conn::new(connect(address4(80)).expect("it listens"));
        let mut idle_tls = tls(connect(address4(443)).expect("it listens"));
        assert_eq!(idle.get("/").expect("an answer").status, 200);
        assert_eq!(idle_tls.get("/").expect("an answer").status, 200);
        let (mut busy, mut busy_tls) = (Conn::new(narrow(80)), tls(narrow(443)));
        begin(&mut busy);
        begin(&mut busy_tls);

        server.signal(Signal::TERM);
        assert_eq!(idle.rest().expect("a clean end"), b"");
        assert_eq!(idle_tls.rest().expect("a close_notify and the end"), b"");
        send_close_notify(&mut idle_tls);
        drop((idle, idle_tls));
        refused_soon();
        // It still answers.
        let stats = server.wait("worker.connections", |open| open == 2);
        let clean = stats.total("stack.end_clean");
        assert!(clean >= 2, "both at rest: {stats:?}");
        finish(&mut busy, &bytes);
        finish(&mut busy_tls, &bytes);
        send_close_notify(&mut busy_tls);
        drop((busy, busy_tls));
        server.ended();
        let ends = ["clean", "drained"].map(|end| server.ends(&format!("stack.end_{end}")));
        assert_eq!(ends, [clean + 2, 0], "{}", server.log());
    });
}

/// Asks for the large file and reads its head.
fn begin<S: Stream>(conn: &mut Conn<S>) {
    conn.send(request("GET", "/large.bin", "").as_bytes())
        .expect("it can be sent");
    assert_eq!(conn.head().expect("an answer").status, 200);
}

fn finish<S: Stream>(conn: &mut Conn<S>, bytes: &[u8]) {
    assert!(conn.exactly(bytes.len()).expect("the whole answer") == bytes);
    assert_eq!(conn.rest().expect("a clean end"), b"");
}

/// Sends close_notify: without it the client's stream would count as truncated.
fn send_close_notify(conn: &mut Conn<Tls>) {
    let tls = conn.stream();
    tls.conn.send_close_notify();
    tls.conn
        .write_tls(&mut tls.sock)
        .expect("there's room for it");
}

/// New connections are refused a moment after the signal.
fn refused_soon() {
    wait_until("refusal", || {
        let refused = |port| match connect(address4(port)) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                true
            }
            Ok(_) => false,
        };
        refused(80) && refused(443)
    });
}

/// Cuts off a client that has stopped reading, and one that reads a file without end. `work` gets
/// the number of bytes that the second one has read.
fn stuck(setup: Setup, work: impl FnOnce(&mut Server, &AtomicU64) + Send) {
    let Scene {
        mut server,
        net,
        scratch,
        roots,
        ..
    } = setup.start();
    File::create(scratch.path().join("www/large.bin"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("a file of holes");
    network::inside(net.client(), || {
        let mut stopped = Conn::new(connect_narrow(address4(80)).expect("it listens"));
        let tcp = connect(address4(443)).expect("it listens");
        let mut reading = handshake(tcp, &roots).map(Conn::new).expect("a handshake");
        begin(&mut stopped);
        begin(&mut reading);
        let read = &AtomicU64::new(0);
        thread::scope(|scope| {
            let end = scope.spawn(move || -> io::Error {
                loop {
                    match reading.exactly(PIECE) {
                        Ok(_) => _ = read.fetch_add(PIECE as u64, Ordering::Relaxed),
                        Err(error) => return error,
                    }
                }
            });
            work(&mut server, read);
            let end = end.join().expect("reading doesn't panic").kind();
            // TLS tells a cut connection from a finished one, by a reset or no close_notify.
            assert!(
                matches!(end, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
                "{end}"
            );
        });
        assert_eq!(
            stopped.rest().expect_err("it's cut off").kind(),
            ErrorKind::ConnectionReset
        );
    });
}

/// The deadline aborts connections that are still open. `second_signal` shows that nothing is cut
/// off before it.
fn deadline() {
    stuck(Setup::new().set("drain.deadline", "1500ms"), |server, _| {
        server.signal(Signal::TERM);
        server.ended();
        let ends = ["clean", "drained"].map(|end| server.ends(&format!("stack.end_{end}")));
        assert_eq!(ends, [0, 2], "{}", server.log());
    });
}

/// After the first signal responses continue until the deadline.
fn second_signal() {
    stuck(Setup::new().set("drain.deadline", "10m"), |server, read| {
        server.signal(Signal::TERM);
        refused_soon();
        let before = read.load(Ordering::Relaxed);
        wait_until("progress while draining", || {
            read.load(Ordering::Relaxed) >= before + (4 << 20)
        });
        assert!(!server.try_reap(), "the deadline is far away");
        server.signal(Signal::INT);
        server.ended();
        assert_eq!(server.ends("stack.end_drained"), 2, "{}", server.log());
    });
}

fn at_rest() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut scene = Setup::new().set("drain.deadline", "10m").start();
        scene.server.signal(signal);
        scene.server.ended();
        assert!(
            !scene.scratch.path().join("s").exists(),
            "its socket is gone"
        );
    }
}

const PIECE: usize = 64 << 10;

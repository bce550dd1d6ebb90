use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::limited::{Deadline, LimitedStream};
use super::*;
use crate::config::tests::Scratch;

/// A pause of slow peers. At this pace a whole request takes 100 s, and a long answer 12 s.
const SLOWLY: Duration = Duration::from_millis(100);
/// Bytes that a slow reader takes at a time: more than Linux waits for room for at a time.
const SLOW_PIECE: usize = 64 << 10;
const LONG_ANSWER: usize = 8 << 20;

fn snapshot() -> Snapshot {
    let worker = |name: &str, segments, records| MetricGroup {
        kind: GroupKind::Worker,
        name: name.to_owned(),
        values: vec![
            Metric::counter("tcp.segments_in", segments),
            Metric::gauge("ktls.sessions", records),
        ],
    };
    let port = MetricGroup {
        kind: GroupKind::Port,
        name: "p0".to_owned(),
        values: vec![
            Metric::counter("rx_packets", 12),
            Metric::counter("rx_errors", 0),
        ],
    };
    Snapshot {
        groups: vec![worker("0", 5, 0), worker("1", 1000, 0), port],
    }
}

fn talk(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_client_gets_what_the_instance_counts() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let server = ControlServer::start(&path, || Some(snapshot())).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for _ in 0..3 {
        let stats = stats(&path).unwrap();
        assert_eq!(stats.pid, std::process::id());
        assert_eq!(stats.snapshot, snapshot());
    }
    drop(server);
    assert!(matches!(stats(&path), Err(StatsError::NotRunning(_))));
    let left: Vec<_> = fs::read_dir(scratch.path(""))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(
        left.iter()
            .all(|p| !p.to_string_lossy().contains("control")),
        "{left:?}"
    );
}

#[test]
fn strange_requests_are_refused_and_the_next_one_answered() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let _server = ControlServer::start(&path, || Some(snapshot())).unwrap();
    let refused = |error| format!("{{\"version\":1,\"error\":\"{error}\"}}\n");
    for (request, error) in [
        (&b"\n"[..], "not a request"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a request"),
        (
            b"{\"version\":2,\"request\":\"stats\"}\n",
            "unknown version",
        ),
        (b"{\"version\":1,\"request\":\"stop\"}\n", "unknown request"),
        (&[b'['; 1024], "not a request"),
    ] {
        assert_eq!(talk(&path, request), refused(error));
    }
    // Says nothing, and goes.
    drop(UnixStream::connect(&path).unwrap());
    // Says nothing, and stays: others wait for it, but not for long.
    let silent = UnixStream::connect(&path).unwrap();
    assert!(stats(&path).is_ok());
    drop(silent);
}

/// A client sends a byte of its request now and then, another reads a long answer in parts. Each
/// comes to its limit. The next client gets its answer within its own limit.
#[test]
fn a_slow_client_holds_up_the_next_one_for_a_limited_time() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let long = Metric::counter("x".repeat(LONG_ANSWER), 0);
    let asked = AtomicU32::new(0);
    // The slow reader alone gets the long answer.
    let answers = move || {
        let mut snapshot = snapshot();
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            snapshot.groups[0].values.push(long.clone());
        }
        Some(snapshot)
    };
    let _server = ControlServer::start(&path, answers).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut reader = UnixStream::connect(&path).unwrap();
        reader
            .write_all(b"{\"version\":1,\"request\":\"stats\"}\n")
            .unwrap();
        let mut writer = UnixStream::connect(&path).unwrap();
        let done = &done;
        let reading = scope.spawn(move || {
            let (mut piece, mut all) = (vec![0; SLOW_PIECE], 0);
            loop {
                match reader.read(&mut piece) {
                    Ok(read) if read > 0 => all += read,
                    _ => return all,
                }
                std::thread::sleep(SLOWLY);
            }
        });
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) && writer.write_all(b" ").is_ok() {
                std::thread::sleep(SLOWLY);
            }
        });
        let answer = stats(&path);
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer.unwrap().snapshot, snapshot());
        // Its pauses alone take longer than the limit if it gets the whole answer.
        let read = reading.join().unwrap();
        assert!((1..LONG_ANSWER).contains(&read), "{read} bytes");
    });
}

/// The same deadline holds for all calls: nothing is connected, read or written after it.
#[test]
fn nothing_is_done_after_the_deadline() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let _listener = UnixListener::bind(&path).unwrap();
    let over = Deadline::after(Duration::ZERO);
    let late = Some(std::io::ErrorKind::TimedOut);
    let kind = |error: std::io::Error| error.kind();
    assert_eq!(client::connect(&path, &over).err().map(kind), late);
    let (a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    let mut stream = LimitedStream::new(&a, over);
    assert_eq!(stream.read(&mut [0]).err().map(kind), late);
    assert_eq!(stream.write(b"x").err().map(kind), late);
    assert!(matches!(
        stats_within(&path, Duration::ZERO),
        Err(StatsError::TimedOut(..))
    ));
}

/// A long call of write(2) would wait for each part anew.
#[test]
fn one_call_writes_a_bounded_part() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut stream = LimitedStream::new(&a, Deadline::after(lockgate_testing::HANG_LIMIT));
    let all = vec![7; 40 << 10];
    assert_eq!(stream.write(&all).unwrap(), 16 << 10);
    assert_eq!(stream.write(&all[..9]).unwrap(), 9);
    drop(a);
    let mut read = Vec::new();
    b.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), (16 << 10) + 9);
}

/// What listens on the path isn't an instance, or is stuck: it says nothing, sends a byte now and
/// then, or sends without end.
#[test]
fn an_answer_that_does_not_end_is_given_up() {
    let scratch = Scratch::new();
    let limit = Duration::from_millis(300);
    let pieces: [(&str, &[u8]); 3] = [("silent", b""), ("slow", b" "), ("endless", &[b' '; 65536])];
    for (name, piece) in pieces {
        let path = scratch.path(name);
        let listener = UnixListener::bind(&path).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(piece).is_ok() {
                if piece.len() < 2 {
                    std::thread::sleep(SLOWLY);
                }
                // A silent one waits for the client's end.
                if piece.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new());
                    break;
                }
            }
        });
        let error = stats_within(&path, limit).unwrap_err();
        let is_expected = match &error {
            StatsError::TimedOut(at, after) => (at, *after) == (&path, limit),
            // Whichever limit comes first, bytes or time.
            StatsError::Protocol => name == "endless",
            _ => false,
        };
        assert!(is_expected, "{name}: {error}");
        serving.join().unwrap();
    }
}

#[test]
fn a_live_instance_keeps_its_socket_and_a_dead_one_loses_it() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let first = ControlServer::start(&path, || Some(snapshot())).unwrap();
    assert!(matches!(
        ControlServer::start(&path, || Some(snapshot())),
        Err(ControlError::InUse(_))
    ));
    assert!(stats(&path).is_ok());
    drop(first);

    // A killed process leaves a socket without a listener, and a lock file without a lock.
    drop(UnixListener::bind(&path).unwrap());
    fs::write(scratch.path("control.lock"), "").unwrap();
    let second = ControlServer::start(&path, || Some(snapshot())).unwrap();
    assert!(stats(&path).is_ok());
    drop(second);

    // Another program that knows nothing of the lock.
    let _foreign = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        ControlServer::start(&path, || Some(snapshot())),
        Err(ControlError::InUse(_))
    ));
}

/// A full queue of connections would hold up a plain connect for ever.
#[test]
fn a_socket_that_accepts_nothing_is_in_use() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let limit = Duration::from_millis(20);
    let mut waiting = Vec::new();
    let full = loop {
        match client::connect(&path, &Deadline::after(limit)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(full, std::io::ErrorKind::WouldBlock);
    assert!(matches!(
        ControlServer::start(&path, || Some(snapshot())),
        Err(ControlError::InUse(_))
    ));
    assert!(path.exists());
}

/// The directory may belong to the user whom the process has become, and root starts the next one.
/// A link would make root create a file anywhere, and a FIFO without a reader would hold up the
/// start for ever.
#[test]
fn a_lock_that_is_a_link_or_a_fifo_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    let lock = scratch.path("control.lock");
    let target = scratch.path("made-by-root");
    let refused = || {
        let error = ControlServer::start(&path, || Some(snapshot())).unwrap_err();
        assert!(matches!(error, ControlError::Io { .. }), "{error}");
    };
    std::os::unix::fs::symlink(&target, &lock).unwrap();
    refused();
    assert!(!target.exists());
    fs::remove_file(&lock).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &lock, kind, mode, 0).unwrap();
    refused();
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let scratch = Scratch::new();
    let path = scratch.path("demo.key");
    assert!(matches!(
        ControlServer::start(&path, || Some(snapshot())),
        Err(ControlError::NotASocket(_))
    ));
    assert!(path.exists());
    let nowhere = scratch.path("none/control");
    assert!(matches!(
        ControlServer::start(&nowhere, || Some(snapshot())),
        Err(ControlError::Io { .. })
    ));
}

#[test]
fn instances_side_by_side_race_for_one_socket_and_one_gets_it() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    for _ in 0..20 {
        let servers: Vec<_> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| ControlServer::start(&path, || Some(snapshot())));
            let threads: Vec<_> = (0..4).map(|_| start()).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(servers.iter().filter(|server| server.is_ok()).count(), 1);
        assert!(stats(&path).is_ok());
    }
}

/// A user who may write the directory could put a link to another's file at the path. Giving that
/// file away would make it the user's.
#[test]
fn only_the_socket_itself_is_given_away() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let server = ControlServer::start(&path, || None).unwrap();
    let own = fs::metadata(&path).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    server.give_to(uid, gid).unwrap();

    let aside = scratch.path("aside");
    fs::hard_link(&path, &aside).unwrap();
    let refused = |why: &str| {
        let given = server.give_to(uid, gid);
        assert!(
            matches!(given, Err(ControlError::NotASocket(_))),
            "{why}: {given:?}"
        );
    };
    refused("another name of a socket");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    refused("a file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    refused("a symbolic link to the socket");
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        server.give_to(uid, gid),
        Err(ControlError::Io { .. })
    ));
}

#[test]
fn the_table_has_totals_and_leaves_zeroes_out() {
    let stats = Stats {
        pid: 7,
        release: "1.2.3".to_owned(),
        snapshot: snapshot(),
    };
    assert_eq!(
        stats.to_table(false),
        "lockgate 1.2.3 (process 7)\n\
         \n\
         counter          total  worker 0  worker 1\n\
         tcp.segments_in   1005         5      1000\n\
         \n\
         port        p0\n\
         rx_packets  12\n"
    );
    let all = stats.to_table(true);
    assert!(
        all.contains("ktls.sessions        0         0         0\n"),
        "{all}"
    );
    assert!(all.contains("rx_errors    0\n"), "{all}");
}

#[test]
fn json_is_for_programs() {
    let stats = Stats {
        pid: 7,
        release: "1.2.3".to_owned(),
        snapshot: snapshot(),
    };
    let json: serde_json::Value = serde_json::from_str(&stats.to_json()).unwrap();
    assert_eq!(json["pid"], 7);
    assert_eq!(json["totals"]["tcp.segments_in"], 1005);
    assert_eq!(json["workers"]["1"]["tcp.segments_in"], 1000);
    assert_eq!(json["ports"]["p0"]["rx_errors"], 0);
}

#[test]
fn each_request_to_stop_is_more_urgent() {
    let stop = Stop::default();
    let seen = stop.clone();
    assert_eq!(seen.level(), StopLevel::Run);
    for expected in [StopLevel::Drain, StopLevel::Now, StopLevel::Now] {
        assert_eq!(stop.escalate(), expected);
        assert_eq!(seen.level(), expected);
    }
}

#[test]
fn a_signal_asks_to_drain_and_a_second_one_to_end() {
    let stop = Stop::on_signals().unwrap();
    for expected in [StopLevel::Drain, StopLevel::Now] {
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        lockgate_testing::wait_until("the signal", || stop.level() == expected);
    }
}

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lockgate_cache::testing::{Tree, start};
use lockgate_cache::{CacheConfig, FileCache};
use lockgate_http::response::HEAD_BYTES;
use lockgate_http::{SendProgress, Status, Timeout};
use pktbuf::SharedSpan;
use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;
const TOKEN: Token = Token(7);

/// A peer: what it sends, what it got, and how much room it leaves.
#[derive(Default)]
struct Peer {
    input: Vec<u8>,
    eof: bool,
    output: Vec<u8>,
    /// Where each sending call's bytes end, and how many parts were copied; 0 by reference.
    calls: Vec<(usize, usize)>,
    room: u32,
    unacknowledged: u64,
    /// The spans that weren't acknowledged, if it keeps them.
    spans: Option<Vec<Arc<SharedSpan>>>,
    /// Received bytes are decrypted elsewhere.
    awaits_bytes: bool,
    shut: bool,
    closed: bool,
    aborted: bool,
}

impl Peer {
    fn new(input: &str) -> Self {
        Self {
            input: input.as_bytes().to_vec(),
            room: u32::MAX,
            ..Self::default()
        }
    }

    fn take(&mut self, bytes: &[u8], copied_parts: usize) -> u32 {
        assert!(
            !self.shut && !self.closed && !self.aborted,
            "sending on a closed connection"
        );
        let taken = u32::try_from(bytes.len()).unwrap().min(self.room);
        self.room -= if self.room == u32::MAX { 0 } else { taken };
        self.output.extend_from_slice(&bytes[..taken as usize]);
        self.unacknowledged += u64::from(taken);
        self.calls.push((self.output.len(), copied_parts));
        taken
    }

    /// Takes the responses apart: status lines' codes with bodies. `head` are HEAD's answers.
    fn responses(&self) -> Vec<(u16, Vec<u8>)> {
        let mut rest = &self.output[..];
        let mut responses = Vec::new();
        while !rest.is_empty() {
            let end = rest
                .windows(4)
                .position(|w| w == b"\r\n\r\n")
                .expect("a whole head")
                + 4;
            let head = str::from_utf8(&rest[..end]).unwrap();
            let code: u16 = head[9..12].parse().unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |n| n.parse().unwrap());
            let body_end = (end + length).min(rest.len());
            responses.push((code, rest[end..body_end].to_vec()));
            rest = &rest[body_end..];
        }
        responses
    }

    fn codes(&self) -> Vec<u16> {
        self.responses().iter().map(|(code, _)| *code).collect()
    }
}

impl Transport for Peer {
    fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> RecvOutcome {
        if self.input.is_empty() {
            return if self.eof {
                RecvOutcome::End
            } else {
                RecvOutcome::Nothing
            };
        }
        let taken = take(&self.input);
        self.input.drain(..taken);
        RecvOutcome::Taken(taken)
    }

    fn send(&mut self, parts: &[&[u8]]) -> u32 {
        let filled = parts.iter().filter(|part| !part.is_empty());
        self.take(&parts.concat(), filled.count())
    }

    fn send_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> u32 {
        if let Some(spans) = &mut self.spans {
            spans.push(Arc::clone(span));
        }
        self.take(&span[at as usize..(at + len) as usize], 0)
    }

    fn awaits_bytes(&self) -> bool {
        self.awaits_bytes
    }

    fn progress(&self) -> SendProgress {
        SendProgress {
            acknowledged: (self.output.len() as u64).wrapping_sub(self.unacknowledged),
            unacknowledged: self.unacknowledged,
            waits_for_peer: self.unacknowledged > 0,
        }
    }

    fn shutdown(&mut self) {
        self.shut = true;
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn abort(&mut self) {
        self.aborted = true;
    }
}

/// A worker with one connection at a time.
struct Worker {
    server: Server,
    cache: FileCache,
    tree: Tree,
    millis: u64,
}

impl Worker {
    fn new() -> Self {
        Self::with(Limits {
            header_timeout: Timeout::clamped(1_000),
            lookup_timeout: Timeout::clamped(4_000),
            send_timeout: Timeout::clamped(5_000),
            linger_timeout: Timeout::clamped(6_000),
            ..Limits::default()
        })
    }

    fn with(limits: Limits) -> Self {
        let tree = Tree::new();
        fs::create_dir(tree.path("dir")).unwrap();
        tree.write("index.html", b"<p>top");
        tree.write("dir/index.html", b"<p>dir");
        tree.write("small.txt", b"0123456789");
        tree.write("large.bin", &large());
        let config = CacheConfig {
            read_ahead: 1,
            ..CacheConfig::default()
        };
        let (cache, mut clients) = start(&tree, MIB, &config, 1);
        let mut sites = Sites::new();
        let root = lockgate_cache::RootId::new(0);
        let with_index = Site {
            root,
            index: Some("index.html".into()),
        };
        sites.insert("h".parse().unwrap(), with_index);
        sites.insert("bare".parse().unwrap(), Site { root, index: None });
        let server = Server::new(limits, sites, clients.pop().unwrap(), u32::MAX);
        Self {
            server,
            cache,
            tree,
            millis: 10_000,
        }
    }

    fn clock(&self) -> TurnClock {
        TurnClock {
            now: Instant::from_millis(self.millis),
            unix: 1_700_000_000 + self.millis / 1_000,
        }
    }

    /// Drives until nothing happens by itself any more.
    fn drive(&mut self, client: &mut ClientConnection, peer: &mut Peer) -> DriveOutcome {
        let mut outcome = DriveOutcome::Again;
        for _ in 0..20_000 {
            let clock = self.clock();
            self.server.begin_turn();
            if outcome == DriveOutcome::Again {
                outcome = self.server.drive(clock, client, TOKEN, peer);
            }
            if outcome == DriveOutcome::Done {
                return outcome;
            }
            if let Some(completion) = self.server.poll_files(clock) {
                assert_eq!(completion.token, TOKEN);
                outcome = self.server.on_file(clock, client, TOKEN, peer, completion);
                continue;
            }
            if outcome == DriveOutcome::Waiting && self.server.files.outstanding() == 0 {
                return outcome;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("still waiting for the file cache after 20 seconds");
    }

    /// One connection's input, and all that comes of it.
    fn talk(&mut self, input: &str) -> Peer {
        let mut peer = Peer::new(input);
        let mut client = self.server.accept(self.clock());
        self.drive(&mut client, &mut peer);
        self.server.release_client(client);
        peer
    }

    fn get(&mut self, target: &str, lines: &str) -> Peer {
        self.talk(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
    }
}

fn large() -> Vec<u8> {
    (0..700_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// The same without entity tags: the tag of a file that was just written is weak for a while, and
/// another one after each read.
fn without_tags(output: &[u8]) -> Vec<u8> {
    let mut others = Vec::with_capacity(output.len());
    let mut rest = output;
    while let Some((first, behind)) = rest.split_first() {
        if rest.starts_with(b"\r\nETag: ") {
            let line = rest[2..].iter().position(|b| *b == b'\r').unwrap();
            rest = &rest[2 + line..];
        } else {
            others.push(*first);
            rest = behind;
        }
    }
    others
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn every_kind_of_answer() {
    let mut worker = Worker::new();
    for (target, lines, code, body) in [
        ("/small.txt", "", 200, "0123456789"),
        ("/small.txt?query", "", 200, "0123456789"),
        ("/%73mall.txt", "", 200, "0123456789"),
        ("/", "", 200, "<p>top"),
        ("/dir/", "", 200, "<p>dir"),
        ("/small.txt", "Range: bytes=2-4\r\n", 206, "234"),
        ("/small.txt", "Range: bytes=-1\r\n", 206, "9"),
        ("/small.txt", "Range: bytes=2-4,6-7\r\n", 200, "0123456789"),
        (
            "/small.txt",
            "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            304,
            "",
        ),
        ("/small.txt", "If-None-Match: *\r\n", 304, ""),
    ] {
        let peer = worker.get(target, lines);
        assert_eq!(
            peer.responses(),
            [(code, body.as_bytes().to_vec())],
            "{target} {lines}"
        );
        assert!(
            !peer.closed && !peer.aborted && !peer.shut,
            "{target}: kept"
        );
    }
    for (target, lines, code) in [
        ("/dir", "", 301),
        ("/nothing", "", 404),
        ("/small.txt/", "", 404),
        ("/small.txt/x", "", 404),
        ("/small.txt", "If-Match: \"x\"\r\n", 412),
        ("/small.txt", "Range: bytes=10-\r\n", 416),
    ] {
        let peer = worker.get(target, lines);
        assert_eq!(peer.codes(), [code], "{target} {lines}");
        assert!(!peer.shut, "{target}: kept");
    }
    assert!(
        str::from_utf8(&worker.get("/dir", "").output)
            .unwrap()
            .contains("Location: /dir/\r\n")
    );
    assert!(
        str::from_utf8(&worker.get("/dir?a=b&c", "").output)
            .unwrap()
            .contains("Location: /dir/?a=b&c\r\n")
    );
    assert_eq!(worker.get("/dir", "Host: bare\r\n").codes(), [400]);
    for (text, codes) in [
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", [400]),
        ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", [400]),
        ("GET / HTTP/1.0\r\n\r\n", [400]),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", [405]),
        ("GET /dir/ HTTP/1.1\r\nHost: bare\r\n\r\n", [404]),
        ("GET / HTTP/1.1\r\nHost: other\r\n\r\n", [421]),
        ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", [405]),
        ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", [501]),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", [505]),
        ("nonsense\r\n\r\n", [400]),
    ] {
        assert_eq!(worker.talk(text).codes(), codes, "{text}");
    }
    let counters = worker.server.counters();
    assert_eq!(counters.responses(Status::PartialContent), 2);
    assert_eq!(counters.responses(Status::MisdirectedRequest), 1);
    let sum: u64 = counters
        .iter()
        .filter(|(n, _)| n.starts_with("http.responses"))
        .map(|(_, v)| v)
        .sum();
    assert_eq!(sum, counters.requests);
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let mut worker = Worker::new();
    for target in ["/small.txt", "/large.bin", "/nothing", "/dir"] {
        let get = worker.get(target, "").output;
        let head = worker
            .talk(&format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .output;
        let (get, head) = (without_tags(&get), without_tags(&head));
        assert!(head.ends_with(b"\r\n\r\n"));
        assert_eq!(&get[..head.len()], head, "{target}");
    }
}

#[test]
fn small_objects_are_copied_behind_their_heads_and_large_ones_referenced() {
    let mut worker = Worker::new();
    let peer = worker.get("/small.txt", "");
    let copied: Vec<_> = peer.calls.iter().map(|(_, parts)| *parts).collect();
    assert_eq!(copied, [2], "head and body share a record");
    let before = worker.server.counters().clone();
    let peer = worker.get("/large.bin", "");
    assert_eq!(peer.responses(), [(200, large())]);
    assert_eq!(peer.calls[0].1, 1, "a head of its own");
    assert!(peer.calls[1..].iter().all(|(_, copied)| *copied == 0));
    let counters = worker.server.counters();
    assert_eq!(
        counters.bytes_referenced - before.bytes_referenced,
        large().len() as u64
    );
    assert_eq!(
        counters.bytes_copied - before.bytes_copied,
        peer.calls[0].0 as u64
    );
}

/// Clients that take a piece of a response each, and stop. They refer to half of the cache at most,
/// the others have copies, and what another client requests is still read.
#[test]
fn connections_pin_no_more_than_their_share_of_the_cache() {
    const SPAN: usize = 64 << 10;
    let mut worker = Worker::new();
    worker.tree.write("fair.bin", &large()[..500_000]);
    let mut stalled: Vec<_> = (0..30)
        .map(|at| {
            let range = format!("Range: bytes={}-{}\r\n", at * SPAN, (at + 1) * SPAN - 1);
            let input = format!("GET /large.bin HTTP/1.1\r\nHost: h\r\n{range}\r\n");
            let mut peer = Peer::new(&input);
            (peer.room, peer.spans) = (10_000, Some(Vec::new()));
            let mut client = worker.server.accept(worker.clock());
            assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
            (client, peer)
        })
        .collect();
    let by_reference = |peer: &Peer| peer.calls.iter().any(|(_, parts)| *parts == 0);
    let referring = stalled.iter().filter(|(_, peer)| by_reference(peer));
    assert_eq!(referring.count(), MIB / SPAN / 2);
    assert!(stalled.iter().all(|(_, peer)| peer.output.len() == 10_000));
    let counters = worker.cache.counters();
    assert_eq!(counters.pinned_bytes, counters.pinned_bytes_max);
    assert!(counters.pins_refused > 0, "{counters:?}");
    let fair = worker.get("/fair.bin", "");
    assert_eq!(fair.responses(), [(200, large()[..500_000].to_vec())]);

    // They get what is left, and refer to nothing any more.
    for (at, (client, peer)) in stalled.iter_mut().enumerate() {
        (peer.room, peer.spans) = (u32::MAX, None);
        worker.drive(client, peer);
        let body = large()[at * SPAN..(at + 1) * SPAN].to_vec();
        assert!(peer.responses() == [(206, body)], "{at}");
    }
    let fair = worker.get("/fair.bin", "");
    assert_eq!(fair.responses(), [(200, large()[..500_000].to_vec())]);
    assert!(by_reference(&fair));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut worker = Worker::new();
    let targets = [
        "/small.txt",
        "/large.bin",
        "/nothing",
        "/",
        "/dir",
        "/small.txt",
    ];
    let input: String = targets.iter().map(|target| request(target)).collect();
    let peer = worker.talk(&input);
    assert_eq!(peer.codes(), [200, 200, 404, 200, 301, 200]);
    assert_eq!(peer.responses()[1].1, large());
    assert!(peer.input.is_empty());
    let many: String = (0..500).map(|_| request("/small.txt")).collect();
    assert_eq!(worker.talk(&many).codes(), [200; 500]);
}

#[test]
fn one_turn_is_bounded() {
    let mut worker = Worker::new();
    worker.get("/small.txt", "");
    let many: String = (0..500).map(|_| request("/small.txt")).collect();
    let mut peer = Peer::new(&many);
    let mut client = worker.server.accept(worker.clock());
    worker.server.begin_turn();
    let outcome = worker
        .server
        .drive(worker.clock(), &mut client, TOKEN, &mut peer);
    assert_eq!(outcome, DriveOutcome::Again);
    assert_eq!(peer.codes().len(), turn::REQUESTS_MAX as usize);
}

/// A client that reads nothing keeps no memory for the head of its request.
#[test]
fn a_head_is_freed_when_its_response_begins() {
    let mut worker = Worker::new();
    worker.get("/large.bin", "");
    let field = format!("X: {}\r\n", "a".repeat(7_000));
    let get = format!("GET /large.bin HTTP/1.1\r\nHost: h\r\n{field}{field}\r\n");
    let mut peer = Peer::new(&get);
    peer.room = 0;
    let mut client = worker.server.accept(worker.clock());
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
    assert!(worker.server.context().long_heads_bytes() >= 13_000);
    peer.room = 10;
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
    assert_eq!(worker.server.context().long_heads_bytes(), 0);
    peer.room = u32::MAX;
    worker.drive(&mut client, &mut peer);
    assert_eq!(peer.responses()[0], (200, large()));
}

/// Many clients with pipelined requests share the requests of a turn. The next client in the turn
/// still gets its response at once.
#[test]
fn a_turn_of_many_clients_is_bounded() {
    let mut worker = Worker::new();
    worker.get("/small.txt", "");
    let many: String = (0..500).map(|_| request("/small.txt")).collect();
    worker.server.begin_turn();
    let served: usize = (0..200)
        .map(|_| {
            let mut peer = Peer::new(&many);
            let mut client = worker.server.accept(worker.clock());
            let outcome = worker
                .server
                .drive(worker.clock(), &mut client, TOKEN, &mut peer);
            assert_eq!(outcome, DriveOutcome::Again);
            peer.codes().len()
        })
        .sum();
    assert!((400..460).contains(&served), "{served} of 256 and 200");
    assert!(!worker.server.has_requests_left());
    let mut peer = Peer::new(&request("/small.txt"));
    let mut client = worker.server.accept(worker.clock());
    let outcome = worker
        .server
        .drive(worker.clock(), &mut client, TOKEN, &mut peer);
    assert_eq!(outcome, DriveOutcome::Waiting);
    assert_eq!(peer.codes(), [200]);
}

#[test]
fn a_client_that_takes_little_gets_everything_in_time() {
    let mut worker = Worker::new();
    let mut peer = Peer::new(&(request("/large.bin") + &request("/small.txt")));
    peer.room = 0;
    let mut client = worker.server.accept(worker.clock());
    let mut room = 1;
    while peer.output.len() < large().len() + 700 && room < 1 << 30 {
        assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
        // Every four seconds something is acknowledged: never too late, in all far too long.
        worker.millis += 4_000;
        peer.unacknowledged = 0;
        peer.room = room;
        room = room * 2 + 1;
    }
    worker.drive(&mut client, &mut peer);
    assert_eq!(peer.responses()[0], (200, large()));
    assert_eq!(peer.codes(), [200, 200]);
}

/// Runs the deadlines that come within `millis`. `acknowledge` is asked at each of them how many
/// bytes the client acknowledged since the last one. Returns how long it took until the connection
/// was over, if that was in time.
fn run_deadlines(
    worker: &mut Worker,
    client: &mut ClientConnection,
    peer: &mut Peer,
    millis: u64,
    mut acknowledge: impl FnMut() -> u64,
) -> Option<u64> {
    let start = worker.millis;
    for _ in 0..100_000 {
        let deadline = client.deadline().expect("a connection has a deadline");
        let deadline = deadline.as_nanos().div_ceil(1_000_000);
        if deadline > start + millis {
            worker.millis = start + millis;
            return None;
        }
        worker.millis = worker.millis.max(deadline);
        peer.unacknowledged = peer.unacknowledged.saturating_sub(acknowledge());
        let clock = worker.clock();
        if worker.server.on_timer(clock, client, TOKEN, peer) == DriveOutcome::Done {
            return Some(worker.millis - start);
        }
    }
    panic!("the deadlines don't move");
}

/// A worker with these limits, and what is left at the defaults of [`Worker::new`].
fn with_limits(send: u32, idle: u32, linger: u32) -> Worker {
    Worker::with(Limits {
        send_timeout: Timeout::clamped(send),
        idle_timeout: Timeout::clamped(idle),
        linger_timeout: Timeout::clamped(linger),
        ..Limits::default()
    })
}

const KEPT: &str = "GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n";
const LAST: &str = "GET /small.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const PARTLY: &str = "GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n";

/// The limit is about acknowledgments, whatever fits into the send queue, and whatever the other
/// limits are. It is checked four times within its length.
#[test]
fn a_client_that_acknowledges_nothing_is_cut_off() {
    for request in [KEPT, LAST, PARTLY] {
        for (send, idle, linger) in [
            (3_000, 60_000, 5_000),
            (3_000, 60_000, 60_000),
            (20_000, 1_000, 1_000),
        ] {
            let mut worker = with_limits(send, idle, linger);
            let mut peer = Peer::new(request);
            if request == PARTLY {
                peer.room = 100_000;
            }
            let mut client = worker.server.accept(worker.clock());
            assert_eq!(
                worker.drive(&mut client, &mut peer),
                DriveOutcome::Waiting,
                "{request}"
            );
            assert!(peer.unacknowledged > 0 && !peer.closed);
            let took = run_deadlines(&mut worker, &mut client, &mut peer, 120_000, || 0);
            let took = took.expect("it ends");
            let send = u64::from(send);
            assert!(
                (send..=send * 5 / 4).contains(&took),
                "{request}: {took} of {send} ms"
            );
            assert!(peer.aborted && !peer.closed, "{request}");
            assert_eq!(worker.server.counters().stalled, 1);
            assert_eq!(worker.server.counters().idle_closed, 0);
            worker.server.release_client(client);
        }
    }
}

/// The least rate is 512 bytes a second.
#[test]
fn a_client_that_takes_the_least_rate_isnt_cut_off() {
    for request in [KEPT, LAST, PARTLY] {
        let mut worker = with_limits(4_000, 2_000, 2_000);
        let mut peer = Peer::new(request);
        if request == PARTLY {
            peer.room = 300;
        }
        let mut client = worker.server.accept(worker.clock());
        worker.drive(&mut client, &mut peer);
        peer.unacknowledged = 200 * 512;
        let start = worker.millis;
        for _ in 0..200 {
            let ended = run_deadlines(&mut worker, &mut client, &mut peer, 999, || 0);
            assert_eq!(ended, None, "{request}: after {} ms", worker.millis - start);
            assert!(!peer.closed && !peer.aborted);
            peer.unacknowledged -= 512;
            worker.millis += 1;
        }
        let ended = run_deadlines(&mut worker, &mut client, &mut peer, 60_000, || 0);
        assert!(ended.is_some(), "{request}");
        let counters = worker.server.counters();
        // Everything was taken: now the other limits hold.
        let (idle, stalled) = if request == KEPT { (1, 0) } else { (0, 1) };
        assert_eq!(
            (counters.idle_closed, counters.stalled),
            (idle, stalled),
            "{request}"
        );
        assert_eq!(peer.closed, request == KEPT);
        worker.server.release_client(client);
    }
}

#[test]
fn requests_dont_stand_for_acknowledgments() {
    let mut worker = with_limits(3_000, 60_000, 5_000);
    let mut peer = Peer::new(KEPT);
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    for second in 1..=3 {
        let ended = run_deadlines(&mut worker, &mut client, &mut peer, 900, || 0);
        assert_eq!(ended, None, "{second}");
        peer.input.extend_from_slice(KEPT.as_bytes());
        worker.drive(&mut client, &mut peer);
        assert_eq!(peer.codes().len(), second + 1);
    }
    let ended = run_deadlines(&mut worker, &mut client, &mut peer, 1_050, || 0);
    assert!(
        ended.is_some(),
        "it ends within 3.75 seconds of the first response"
    );
    assert!(peer.aborted);
    worker.server.release_client(client);
}

/// What is acknowledged at once leaves the connection to the limit for idle ones, and nothing else.
#[test]
fn a_kept_connection_is_idle_from_the_response_on() {
    let mut worker = with_limits(60_000, 2_000, 5_000);
    let mut peer = Peer::new(KEPT);
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    peer.unacknowledged = 0;
    let took = run_deadlines(&mut worker, &mut client, &mut peer, 60_000, || 0);
    assert_eq!(took, Some(2_000));
    assert!(peer.closed && !peer.aborted);
    assert_eq!(worker.server.counters().idle_closed, 1);
    worker.server.release_client(client);
}

#[test]
fn a_request_that_comes_while_the_last_response_is_on_its_way_has_its_own_deadline() {
    let mut worker = with_limits(60_000, 60_000, 5_000);
    let mut peer = Peer::new(&format!("{KEPT}GET / HTTP/1.1\r\n"));
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    assert!(peer.unacknowledged > 0);
    // Limits::default: ten seconds for a head.
    assert_eq!(
        run_deadlines(&mut worker, &mut client, &mut peer, 10_000, || 0),
        None
    );
    assert_eq!(peer.codes(), [200, 408]);
    worker.server.release_client(client);
}

#[test]
fn slow_heads_and_silence() {
    let mut worker = Worker::new();
    let mut peer = Peer::new("GET / HTTP/1.1\r\nHos");
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    worker.millis += 1_000;
    let clock = worker.clock();
    assert_eq!(
        worker.server.on_timer(clock, &mut client, TOKEN, &mut peer),
        DriveOutcome::Waiting
    );
    assert_eq!(peer.codes(), [408]);
    assert!(peer.shut && !peer.closed, "it lingers");
    peer.eof = true;
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Done);
    assert!(peer.closed && !peer.aborted);

    let mut peer = Peer::new("");
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    worker.millis += 1_000;
    let clock = worker.clock();
    assert_eq!(
        worker.server.on_timer(clock, &mut client, TOKEN, &mut peer),
        DriveOutcome::Done
    );
    assert!(peer.closed && peer.output.is_empty());
    assert_eq!(worker.server.counters().idle_closed, 1);
}

#[test]
fn lingering_ends_with_the_client_or_the_deadline() {
    let mut worker = Worker::new();
    let close = "GET /small.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\ntrailing garbage";
    let mut peer = Peer::new(close);
    let mut client = worker.server.accept(worker.clock());
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
    assert!(peer.shut && !peer.closed && peer.input.is_empty());
    assert_eq!(peer.codes(), [200]);
    for left in [100, 50, 0] {
        worker.millis += 6_000;
        peer.unacknowledged = left;
        let clock = worker.clock();
        let outcome = worker.server.on_timer(clock, &mut client, TOKEN, &mut peer);
        assert_eq!(
            outcome,
            DriveOutcome::Waiting,
            "it still takes what was sent"
        );
    }
    worker.millis += 6_000;
    let clock = worker.clock();
    assert_eq!(
        worker.server.on_timer(clock, &mut client, TOKEN, &mut peer),
        DriveOutcome::Done
    );
    assert!(peer.aborted);
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let mut worker = Worker::new();
    let mut peer = Peer::new(&(request("/large.bin") + &request("/small.txt") + "GET /cut"));
    peer.eof = true;
    let mut client = worker.server.accept(worker.clock());
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Done);
    assert_eq!(peer.codes(), [200, 200]);
    assert!(peer.closed && !peer.aborted);
}

#[test]
fn the_body_is_asked_for_even_byte_by_byte() {
    let mut worker = Worker::new();
    let head =
        "GET /small.txt HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    for room in [1, 7, 1_000] {
        let mut peer = Peer::new(head);
        let mut client = worker.server.accept(worker.clock());
        for _ in 0..30 {
            peer.room = room;
            worker.drive(&mut client, &mut peer);
        }
        assert_eq!(peer.output, response::CONTINUE);
        peer.input = b"abc".to_vec();
        for _ in 0..400 {
            peer.room = room;
            worker.drive(&mut client, &mut peer);
        }
        assert_eq!(peer.codes(), [100, 200]);
        worker.server.release_client(client);
    }
    // Only a part of it fits, and the body doesn't come: the refusal follows what was begun.
    let mut peer = Peer::new(head);
    peer.room = 5;
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    worker.millis += 20_000;
    peer.room = u32::MAX;
    let clock = worker.clock();
    worker.server.on_timer(clock, &mut client, TOKEN, &mut peer);
    assert_eq!(peer.codes(), [100, 408]);
}

/// A client that took 5 bytes of the interim response and then sent the body without it.
fn partly_continued(worker: &mut Worker, target: &str) -> (ClientConnection, Peer) {
    let mut peer = Peer::new(&format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    ));
    peer.room = 5;
    let mut client = worker.server.accept(worker.clock());
    worker.drive(&mut client, &mut peer);
    assert_eq!(peer.output, response::CONTINUE[..5]);
    let now = worker.clock().now;
    let cx = &mut worker.server.http;
    assert_eq!(client.machine.on_bytes(now, b"abc", cx), 3);
    (client, peer)
}

#[test]
fn what_was_begun_of_the_interim_response_is_ended_before_another_answer() {
    let mut worker = Worker::new();
    // Not found in time.
    let (mut client, mut peer) = partly_continued(&mut worker, "/small.txt");
    let stalled = worker.cache.stall();
    let clock = worker.clock();
    worker.server.drive(clock, &mut client, TOKEN, &mut peer);
    worker.millis += 4_000;
    peer.room = u32::MAX;
    let clock = worker.clock();
    worker.server.on_timer(clock, &mut client, TOKEN, &mut peer);
    drop(stalled);
    assert_eq!(peer.codes(), [100, 503]);
    worker.server.release_client(client);
    // Changed before its first byte was read.
    worker.talk("HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    let new: Vec<u8> = large().iter().map(|b| b ^ 0xff).collect();
    worker.tree.write("large.bin", &new);
    let (mut client, mut peer) = partly_continued(&mut worker, "/large.bin");
    peer.room = u32::MAX;
    worker.drive(&mut client, &mut peer);
    assert_eq!(peer.responses(), [(100, Vec::new()), (200, new)]);
    worker.server.release_client(client);
}

#[test]
fn an_object_that_cant_be_found_in_time_is_unavailable() {
    let mut worker = Worker::new();
    let mut peer = Peer::new(&request("/small.txt"));
    let mut client = worker.server.accept(worker.clock());
    let clock = worker.clock();
    // Held by this thread: a server that waited for a loader would hang here.
    let stalled = worker.cache.stall();
    assert_eq!(
        worker.server.drive(clock, &mut client, TOKEN, &mut peer),
        DriveOutcome::Waiting
    );
    worker.millis += 4_000;
    let clock = TurnClock {
        now: Instant::from_millis(worker.millis),
        unix: 0,
    };
    assert_eq!(
        worker.server.on_timer(clock, &mut client, TOKEN, &mut peer),
        DriveOutcome::Waiting
    );
    drop(stalled);
    assert_eq!(peer.codes(), [503]);
    assert!(peer.shut);
    // The late answer is dropped. The next client with the same token doesn't get it.
    let mut other = worker.server.accept(clock);
    let mut other_peer = Peer::new("");
    while worker.server.files.outstanding() > 0 {
        if let Some(completion) = worker.server.poll_files(clock) {
            let (a, b) = (&mut client, &mut other);
            assert_eq!(
                worker
                    .server
                    .on_file(clock, b, TOKEN, &mut other_peer, completion),
                { DriveOutcome::Waiting }
            );
            worker.server.drive(clock, a, TOKEN, &mut peer);
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(other_peer.output.is_empty());
    assert_eq!(peer.codes(), [503]);
}

#[test]
fn the_next_connection_of_a_token_isnt_given_the_last_ones_object() {
    let mut worker = Worker::new();
    let clock = worker.clock();
    let stalled = worker.cache.stall();
    let mut peers = [request("/small.txt"), request("/")].map(|input| Peer::new(&input));
    let mut first = worker.server.accept(clock);
    worker.server.drive(clock, &mut first, TOKEN, &mut peers[0]);
    worker.server.release_client(first);
    let mut second = worker.server.accept(clock);
    worker
        .server
        .drive(clock, &mut second, TOKEN, &mut peers[1]);
    drop(stalled);
    let mut answers = Vec::new();
    while worker.server.files.outstanding() > 0 {
        answers.extend(worker.server.poll_files(clock));
        thread::sleep(Duration::from_millis(1));
    }
    // The first one's answer comes first.
    answers.sort_by_key(|answer| answer.ticket);
    for answer in answers {
        let server = &mut worker.server;
        server.on_file(clock, &mut second, TOKEN, &mut peers[1], answer);
    }
    assert!(peers[0].output.is_empty());
    assert_eq!(peers[1].responses(), [(200, b"<p>top".to_vec())]);
}

#[test]
fn a_file_that_changes_is_cut_off_or_begun_again() {
    let mut worker = Worker::new();
    let new: Vec<u8> = large().iter().map(|b| b ^ 0xff).collect();
    // Before its first byte was read: the new version is the answer.
    worker.talk("HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    worker.tree.write("large.bin", &new);
    let peer = worker.get("/large.bin", "");
    assert_eq!(peer.responses(), [(200, new.clone())]);
    // In the middle: cut off, in one version up to there.
    worker.tree.write("other.bin", &new);
    let mut peer = Peer::new(&request("/other.bin"));
    peer.room = 100_000;
    let mut client = worker.server.accept(worker.clock());
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
    worker.tree.write("other.bin", &large());
    peer.room = u32::MAX;
    assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Done);
    assert!(peer.aborted && !peer.closed && !peer.shut);
    let (code, body) = &peer.responses()[0];
    assert_eq!(*code, 200);
    assert!(body.len() < new.len() && new.starts_with(body));
    assert_eq!(worker.server.counters().cut_off, 1);
}

/// Fetches a large file that is written to each time when it has just been found.
fn get_while_it_changes(times: usize) -> Vec<(u16, Vec<u8>)> {
    let mut worker = Worker::new();
    worker.tree.write("busy.bin", &large());
    let mut peer = Peer::new(&request("/busy.bin"));
    let mut client = worker.server.accept(worker.clock());
    let clock = worker.clock();
    worker.server.drive(clock, &mut client, TOKEN, &mut peer);
    let mut changes = 0;
    for _ in 0..20_000 {
        if worker.server.files.outstanding() == 0 {
            break;
        }
        let clock = worker.clock();
        let Some(answer) = worker.server.poll_files(clock) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let looking = matches!(
            client.response.as_deref().map(|response| response.stage),
            Some(Stage::LookingUp(_))
        );
        if looking && changes < times {
            changes += 1;
            // A byte in place: a loader that looks meanwhile finds one version or the other, and
            // never a file that is growing.
            let path = worker.tree.path("busy.bin");
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0xff], changes as u64).unwrap();
        }
        worker
            .server
            .on_file(clock, &mut client, TOKEN, &mut peer, answer);
    }
    // If read-ahead is faster than the body, its budget ends a turn without an outstanding request.
    worker.drive(&mut client, &mut peer);
    assert_eq!(changes, times);
    worker.server.release_client(client);
    peer.responses()
}

#[test]
fn a_file_that_changes_whenever_it_was_found_is_looked_up_a_few_times() {
    let found = get_while_it_changes(4);
    let mut expected = large();
    expected[1..=4].fill(0xff);
    assert!(
        found == [(200, expected)],
        "the version after the last change"
    );
    let responses = get_while_it_changes(5);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].0, 503, "it's no fault, and passes");
}

#[test]
fn draining() {
    let mut worker = Worker::new();
    let mut idle_peer = Peer::new(&request("/small.txt"));
    let mut idle = worker.server.accept(worker.clock());
    worker.drive(&mut idle, &mut idle_peer);
    let mut busy_peer = Peer::new(&request("/large.bin"));
    busy_peer.room = 1_000;
    let mut busy = worker.server.accept(worker.clock());
    worker.drive(&mut busy, &mut busy_peer);
    let mut late_peer = Peer::new("GET /small.txt HTTP/1.1\r\n");
    let mut late = worker.server.accept(worker.clock());
    worker.drive(&mut late, &mut late_peer);

    worker.server.drain();
    assert_eq!(
        worker.server.on_drain(&idle, &mut idle_peer),
        DriveOutcome::Done
    );
    assert!(idle_peer.closed);
    assert_eq!(
        worker.server.on_drain(&busy, &mut busy_peer),
        DriveOutcome::Waiting
    );
    assert_eq!(
        worker.server.on_drain(&late, &mut late_peer),
        DriveOutcome::Waiting
    );
    late_peer.input.extend_from_slice(b"Host: h\r\n\r\n");
    worker.drive(&mut late, &mut late_peer);
    assert!(late_peer.shut);
    assert!(
        str::from_utf8(&late_peer.output)
            .unwrap()
            .contains("\r\nConnection: close\r\n")
    );
    busy_peer.room = u32::MAX;
    assert_eq!(
        worker.drive(&mut busy, &mut busy_peer),
        DriveOutcome::Waiting
    );
    assert_eq!(busy_peer.responses(), [(200, large())]);
    assert!(busy_peer.shut);
}

/// A request may be in a record that a KTLS worker is opening: the connection isn't closed before
/// it is back. Then the request is served, or the connection closes because there was none.
#[test]
fn draining_waits_for_bytes_that_are_decrypted_elsewhere() {
    for has_request in [true, false] {
        let mut worker = Worker::new();
        let mut peer = Peer::new(&request("/small.txt"));
        let mut client = worker.server.accept(worker.clock());
        worker.drive(&mut client, &mut peer);
        assert_eq!(peer.codes(), [200]);
        peer.awaits_bytes = true;
        worker.server.drain();
        let outcome = worker.server.on_drain(&client, &mut peer);
        assert_eq!(outcome, DriveOutcome::Waiting);
        // Something else may drive it meanwhile.
        assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
        assert!(!peer.closed);

        peer.awaits_bytes = false;
        if has_request {
            peer.input
                .extend_from_slice(request("/small.txt").as_bytes());
        }
        let outcome = worker.drive(&mut client, &mut peer);
        assert_eq!(peer.codes().len(), if has_request { 2 } else { 1 });
        if has_request {
            assert_eq!(outcome, DriveOutcome::Waiting);
            assert!(peer.shut, "behind the response");
        } else {
            assert_eq!(outcome, DriveOutcome::Done);
            assert!(peer.closed);
        }
    }
}

#[test]
fn memory_is_used_again() {
    let mut worker = Worker::new();
    for _ in 0..50 {
        worker.talk(&(request("/small.txt") + &request("/large.bin")));
    }
    assert_eq!(worker.server.spare_responses.len(), 1);
    let peer = worker.talk(&request(&format!("/{}/", "x".repeat(7_000))));
    assert_eq!(peer.codes(), [404]);
    assert!(
        worker
            .server
            .spare_responses
            .iter()
            .all(|r| r.head.capacity() <= HEAD_BYTES)
    );
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(64))]

    /// However little the peer takes at a time, and however it sends, the answers are the same.
    #[test]
    fn any_split_of_both_directions(
        pieces in proptest::collection::vec(1_usize..60, 1..40),
        rooms in proptest::collection::vec(0_u32..90_000, 1..40),
    ) {
        let mut worker = Worker::new();
        let input = request("/small.txt") + &request("/dir/") + &request("/large.bin")
            + "HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\n";
        let expected = worker.talk(&input).output;
        let mut peer = Peer::new("");
        let mut client = worker.server.accept(worker.clock());
        let mut rest = input.as_bytes();
        let turns = pieces.iter().cycle().zip(rooms.iter().cycle().chain([&90_000]));
        for (piece, room) in turns.take(400) {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            rest = later;
            peer.input.extend_from_slice(now);
            peer.room = *room;
            prop_assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
        }
        peer.input.extend_from_slice(rest);
        peer.room = u32::MAX;
        prop_assert_eq!(worker.drive(&mut client, &mut peer), DriveOutcome::Waiting);
        prop_assert!(without_tags(&peer.output) == without_tags(&expected));
    }
}

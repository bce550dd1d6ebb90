//! Hostile peers beside fair ones: the fair ones are served, whatever the hostile ones hold.
//!
//! Host B serves. All clients are on host A. A request is eight bytes: a length and a kind. The
//! length is that of the response, or of the body behind the request.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{TlsClient, TlsOptions};
use lockgate_stack::{CloseReason, Notice, Recv, SocketId};
use lockgate_tcp::State;
use pktbuf::{PageArena, PoolConfig, Region, SMALL_CAPACITY, SharedSpan};
use support::link::{Faults, Link};
use support::{HostSpec, World, pki};

/// How a response is sent, or that the request has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Copied,
    ByReference,
    /// The response is as long as a request.
    Upload,
}

/// A server and its clients.
struct Scene {
    world: World,
    client: Option<Arc<TlsClient>>,
    span: Arc<SharedSpan>,
    _arena: (PageArena, Region),
    /// B's connections: bytes of requests that were read, and responses that are left.
    serving: HashMap<SocketId, Serving>,
    /// A's connections whose handshake is done.
    ready: HashSet<SocketId>,
    /// A's connections that have ended.
    closed: HashMap<SocketId, CloseReason>,
    /// Source ports whose frames are lost.
    silent: Rc<RefCell<HashSet<u16>>>,
}

#[derive(Default)]
struct Serving {
    request: Vec<u8>,
    left: u64,
    kind: Option<Kind>,
    is_ready: bool,
}

impl Scene {
    fn new(a: HostSpec, b: HostSpec, tls: bool) -> Self {
        let faults = Faults {
            delay: Duration::from_millis(5),
            ..Faults::default()
        };
        let mut link = Link::new(7, faults);
        let silent: Rc<RefCell<HashSet<u16>>> = Rc::default();
        let ports = Rc::clone(&silent);
        link.filter = Some(Box::new(move |from, frame| {
            let is_tcp = from == 0 && frame[12..14] == [8, 0] && frame[23] == 6;
            is_tcp
                && ports
                    .borrow()
                    .contains(&u16::from_be_bytes([frame[34], frame[35]]))
        }));
        let mut world = World::new(a, b, link);
        let options = TlsOptions::default();
        world.listen(443, tls.then(|| pki::server(&options)));
        let mut region = Region::heap(SPAN_BYTES + 8192).unwrap();
        let arena = PageArena::new(&mut region, SPAN_BYTES).unwrap();
        let span = arena.alloc(SPAN_BYTES).unwrap().freeze(SPAN_BYTES);
        Self {
            world,
            client: tls.then(|| pki::client(&options)),
            span,
            _arena: (arena, region),
            serving: HashMap::new(),
            ready: HashSet::new(),
            closed: HashMap::new(),
            silent,
        }
    }

    fn connect(&mut self) -> SocketId {
        self.world.connect(self.client.clone())
    }

    /// Opens so many connections, and waits until each is ready.
    fn connect_many(&mut self, count: usize) -> Vec<SocketId> {
        let mut all = Vec::new();
        while all.len() < count {
            let batch = BATCH.min(count - all.len());
            let sockets: Vec<SocketId> = (0..batch).map(|_| self.connect()).collect();
            self.run_until(Duration::from_secs(60), |scene| {
                sockets.iter().all(|socket| scene.ready.contains(socket))
            });
            all.extend(sockets);
        }
        all
    }

    fn request(&mut self, socket: SocketId, bytes: u32, kind: Kind) {
        let mut request = bytes.to_le_bytes().to_vec();
        request.extend((kind as u32).to_le_bytes());
        assert_eq!(self.world.a.send(socket, &request), 8);
    }

    /// Requests have arrived, and no acknowledgment of a response was sent: a way takes 5 ms.
    fn silence_before_acknowledgments(&mut self, sockets: &[SocketId]) {
        self.run(Duration::from_millis(7));
        sockets.iter().for_each(|socket| self.go_silent(*socket));
        self.run(Duration::from_millis(100));
        let usage = self.world.b.pages.usage();
        let is_short = usage.large_spans - usage.large_spans_used <= 1
            || usage.blocks - usage.blocks_used <= usage.blocks / 16;
        assert!(is_short, "memory is left: {usage:?}");
    }

    fn go_silent(&self, socket: SocketId) {
        let port = self.world.a.stack.local_addr(socket).unwrap().port();
        self.silent.borrow_mut().insert(port);
    }

    /// B's applications, and the notices of A's connections.
    fn turn(&mut self) {
        while let Some(notice) = self.world.notices_a.pop_front() {
            match notice {
                Notice::Connected(socket) if self.client.is_none() => {
                    self.ready.insert(socket);
                }
                Notice::HandshakeDone(socket, _) => {
                    self.ready.insert(socket);
                }
                Notice::Closed(socket, reason) => {
                    self.closed.insert(socket, reason);
                }
                _ => {}
            }
        }
        while let Some(notice) = self.world.notices_b.pop_front() {
            match notice {
                Notice::Accepted { socket, .. } => {
                    let is_ready = self.client.is_none();
                    let serving = Serving {
                        is_ready,
                        ..Serving::default()
                    };
                    self.serving.insert(socket, serving);
                    if is_ready {
                        self.serve(socket);
                    }
                }
                Notice::HandshakeDone(socket, _) => {
                    self.serving.get_mut(&socket).unwrap().is_ready = true;
                    self.serve(socket);
                }
                Notice::Readable(socket) | Notice::Writable(socket) => self.serve(socket),
                Notice::PeerClosed { socket, .. } => {
                    self.serve(socket);
                    self.world.b.stack.close(socket);
                }
                Notice::Closed(socket, _) => {
                    self.serving.remove(&socket);
                }
                Notice::Connected(_) => {}
            }
        }
        self.world.settle();
    }

    /// One request after the other, as an HTTP server does.
    fn serve(&mut self, socket: SocketId) {
        let Some(serving) = self.serving.get_mut(&socket).filter(|s| s.is_ready) else {
            return;
        };
        let host = &mut self.world.b;
        loop {
            if serving.kind == Some(Kind::Upload) {
                match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
                    Ok(Recv::Data(chunk)) => {
                        serving.left -= chunk.pieces().map(|p| p.len() as u64).sum::<u64>();
                    }
                    // The connection stays in the order of idle ones, as the server has it.
                    Ok(Recv::Nothing | Recv::End { .. }) | Err(_) => return,
                }
                if serving.left == 0 {
                    serving.left = 8;
                    serving.kind = Some(Kind::Copied);
                }
                continue;
            }
            if let Some(kind) = serving.kind {
                let want = serving.left.min(SPAN_BYTES as u64);
                let want = u32::try_from(want).unwrap();
                let taken = match kind {
                    Kind::ByReference => {
                        host.stack
                            .send_span(socket, &self.span, 0, want, &mut host.pages)
                    }
                    Kind::Copied | Kind::Upload => {
                        let bytes = &self.span[..want as usize];
                        host.stack.send(socket, bytes, false, &mut host.pages)
                    }
                };
                let taken = taken.unwrap_or(0);
                serving.left -= u64::from(taken);
                if serving.left > 0 {
                    if taken == 0 {
                        break;
                    }
                    continue;
                }
                serving.kind = None;
            }
            if serving.request.len() < 8 {
                match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
                    Ok(Recv::Data(chunk)) => {
                        chunk.pieces().for_each(|p| serving.request.extend(p));
                        continue;
                    }
                    Ok(Recv::Nothing | Recv::End { .. }) | Err(_) => break,
                }
            }
            let request: Vec<u8> = serving.request.drain(..8).collect();
            serving.left = u64::from(u32::from_le_bytes(request[..4].try_into().unwrap()));
            let kinds = [Kind::Copied, Kind::ByReference, Kind::Upload];
            let kind = kinds[usize::from(request[4])];
            serving.kind = Some(kind);
            host.stack.set_idle(socket, kind == Kind::Upload);
        }
        let is_idle = serving.kind.is_none();
        host.stack.set_idle(socket, is_idle);
    }

    fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let until = self.world.now + limit;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(
                self.world.step(until),
                "not done within {limit:?}\n{}{:?}",
                self.world.b.stack.counters(),
                self.world.b.pages.usage(),
            );
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.world.now + time;
        self.turn();
        while self.world.step(until) {
            self.turn();
        }
        self.world.now = until;
        self.turn();
    }

    /// A fair client: connects, gets a response of each length, closes. Everything within `limit`.
    fn fair_client(&mut self, responses: &[(u32, Kind)], limit: Duration) {
        let socket = self.connect();
        self.download(socket, responses, limit);
        self.world.a.stack.close(socket);
        self.run_until(limit, |scene| scene.closed.contains_key(&socket));
        assert_eq!(self.closed[&socket], CloseReason::Clean);
    }

    /// Gets a response of each length over a new connection. Everything within `limit`.
    fn download(&mut self, socket: SocketId, responses: &[(u32, Kind)], limit: Duration) {
        self.run_until(limit, |scene| scene.ready.contains(&socket));
        for &(bytes, kind) in responses {
            self.request(socket, bytes, kind);
            let mut received = 0;
            self.run_until(limit, |scene| {
                received += scene.world.a.drain(socket).0.len();
                assert!(
                    !scene.closed.contains_key(&socket),
                    "{:?}",
                    scene.closed[&socket]
                );
                received == bytes as usize
            });
        }
    }

    /// Reads one record of a response. Returns its length.
    fn read_one(&mut self, socket: SocketId) -> usize {
        let host = &mut self.world.a;
        match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
            Ok(Recv::Data(chunk)) => chunk.pieces().map(<[u8]>::len).sum(),
            Ok(Recv::Nothing) => 0,
            other => panic!("{other:?}"),
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.world.b.stack.counters();
        counters.iter().find(|(n, _)| *n == name).unwrap().1
    }

    /// All connections end, and all memory is back.
    fn finish(mut self) {
        self.silent.borrow_mut().clear();
        self.world.a.stack.abort_all();
        self.run(Duration::from_secs(5));
        self.world.b.stack.abort_all();
        self.run(Duration::from_secs(130));
        assert_eq!(self.world.b.stack.connections(), 0);
        self.world.a.assert_full();
        self.world.b.assert_full();
    }
}

/// A's pools are large: only B runs short.
fn hosts(pool: PoolConfig, window: u32) -> (HostSpec, HostSpec) {
    let (mut a, mut b) = (HostSpec::new(1), HostSpec::new(2));
    a.pool = PoolConfig {
        blocks: 20_000,
        small_spans: 10_000,
        large_spans: 4_000,
    };
    a.buffers = 60_000;
    a.config.limits.recv_buffer_bytes = window;
    a.config.limits.recv_total_bytes = u64::MAX;
    b.buffers = 8_000;
    b.pool = pool;
    b.config.limits.ranges_max = 8192;
    (a, b)
}

const POOL: PoolConfig = PoolConfig {
    blocks: 4096,
    small_spans: 1024,
    large_spans: 512,
};
/// The pool of the smallest configuration.
const SMALL_POOL: PoolConfig = PoolConfig {
    blocks: 256,
    small_spans: 64,
    large_spans: 16,
};
const FAIR: [(u32, Kind); 3] = [
    (1000, Kind::Copied),
    (300_000, Kind::ByReference),
    (10_000, Kind::Copied),
];
/// Connections that are opened at a time: the half-open table has 256 entries.
const BATCH: usize = 200;
const SPAN_BYTES: usize = 64 * 1024;

/// Clients that pipeline requests for small responses and read nothing.
#[test]
fn pipelining_clients_that_read_nothing() {
    let pool = PoolConfig {
        small_spans: 6000,
        blocks: 10_000,
        ..POOL
    };
    let (a, b) = hosts(pool, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(60);
    for socket in &hostile {
        for _ in 0..100 {
            scene.request(*socket, 1000, Kind::Copied);
        }
    }
    scene.run(Duration::from_secs(1));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    let usage = scene.world.b.pages.usage();
    assert!(
        usage.large_spans_used < 100 && usage.small_spans_used < 60 * 70,
        "a response has memory of its size, and two windows are queued: {usage:?}"
    );
    assert_eq!(
        scene.counter("stack.reclaimed_slow"),
        0,
        "memory was enough"
    );
    scene.finish();
}

/// Clients that ask for much and read nothing: each pins one record, and no more than two windows
/// of the page cache.
#[test]
fn clients_that_ask_for_much_and_read_nothing() {
    let (a, b) = hosts(POOL, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(200);
    for socket in &hostile {
        scene.request(*socket, 2_000_000, Kind::ByReference);
    }
    scene.run(Duration::from_secs(5));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    for socket in scene.serving.keys() {
        let queued = scene.world.b.stack.send_queued(*socket);
        assert!(queued <= 3 * 16_500, "{queued} bytes are queued");
    }
    scene.finish();
}

/// Clients with large windows fall silent in the middle of a download.
#[test]
fn clients_that_fall_silent() {
    let (a, b) = hosts(POOL, 2 << 20);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(72);
    for socket in &hostile {
        scene.request(*socket, 50_000_000, Kind::ByReference);
    }
    // Their windows open.
    for _ in 0..40 {
        scene.run(Duration::from_millis(10));
        for socket in &hostile {
            scene.world.a.drain(*socket);
        }
    }
    for socket in &hostile {
        scene.go_silent(*socket);
    }
    scene.run(Duration::from_millis(200));
    let usage = scene.world.b.pages.usage();
    assert!(usage.large_spans_used > 200, "they hold much: {usage:?}");
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    scene.finish();
}

/// Fair clients beside so many that request this, where spans are few, and fall silent.
fn beside_silent_clients(count: usize, bytes: u32, kind: Kind) -> Scene {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(count);
    for socket in &hostile {
        scene.request(*socket, bytes, kind);
    }
    scene.silence_before_acknowledgments(&hostile);
    for _ in 0..5 {
        scene.fair_client(&FAIR, Duration::from_secs(60));
    }
    scene
}

/// There are more connections than spans, and each holds what it is guaranteed.
#[test]
fn more_silent_clients_than_spans() {
    let scene = beside_silent_clients(150, 1_000_000, Kind::ByReference);
    assert!(scene.counter("stack.ciphertext_dropped") > 0);
    scene.finish();
}

/// Copies can't be made again. The connections that hold them and take nothing are reset, no other.
#[test]
fn silent_clients_that_hold_copies() {
    let scene = beside_silent_clients(100, 10_000, Kind::Copied);
    let reset = scene.counter("stack.reclaimed_slow");
    assert!((1..=100).contains(&reset), "{reset}");
    scene.finish();
}

/// Many fair connections at a time with the smallest pools: slow, and each is served.
#[test]
fn a_thousand_fair_connections_share_the_smallest_pools() {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, true);
    let sockets = scene.connect_many(1000);
    for socket in &sockets {
        scene.request(*socket, 40_000, Kind::ByReference);
    }
    let mut received: HashMap<SocketId, usize> = HashMap::new();
    scene.run_until(Duration::from_secs(120), |scene| {
        for socket in &sockets {
            let bytes = scene.world.a.drain(*socket).0.len();
            *received.entry(*socket).or_default() += bytes;
        }
        received.values().all(|bytes| *bytes == 40_000)
    });
    assert_eq!(scene.counter("stack.reclaimed_slow"), 0);
    assert!(
        scene.counter("stack.starved") > 0,
        "memory was never scarce"
    );
    // Three thousand records were sent. If each freed span woke every waiting socket, there would
    // be millions of wake-ups.
    #[cfg(debug_assertions)]
    {
        let steps = scene.world.b.stack.wake_steps();
        assert!((1000..200_000).contains(&steps), "{steps} wake-ups");
    }
    scene.finish();
}

/// Hundreds of connections wait for memory. A freed span wakes as many as it has room for, and the
/// passing of time no more than one.
#[cfg(debug_assertions)]
#[test]
fn a_freed_span_wakes_no_more_than_it_has_room_for() {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, false);
    let sockets = scene.connect_many(300);
    let mut held = scene.world.b.hold_pages();
    for socket in &sockets {
        scene.request(*socket, 1000, Kind::Copied);
    }
    scene.run(Duration::from_millis(20));
    assert_eq!(scene.counter("stack.starved"), 300);
    // A millisecond is the interval in which starved sockets are woken though nothing was freed.
    let steps_in = |scene: &mut Scene, millis| {
        let before = scene.world.b.stack.wake_steps();
        scene.run(Duration::from_millis(millis));
        scene.world.b.stack.wake_steps() - before
    };
    let idle = steps_in(&mut scene, 100);
    assert!(idle <= 101, "{idle} sockets are woken for nothing");
    // A response takes a span, which is free again when it is acknowledged.
    for _ in 0..10 {
        held.pop();
        let woken = steps_in(&mut scene, 1);
        assert!((1..=8).contains(&woken), "{woken} are woken for a span");
        held.extend(scene.world.b.pages.alloc(SMALL_CAPACITY));
    }
    drop(held);
    let mut received = 0;
    scene.run_until(Duration::from_secs(10), |scene| {
        let drained = sockets.iter().map(|s| scene.world.a.drain(*s).0.len());
        received += drained.sum::<usize>();
        received == 300 * 1000
    });
    scene.finish();
}

/// The table of connections is full of idle ones. The ones that are idle for longest make room.
#[test]
fn idle_connections_make_room_for_new_ones() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    // A sixteenth is kept free.
    b.config.limits.connections_max = 34;
    let mut scene = Scene::new(a, b, true);
    let first = scene.connect_many(16);
    let second = scene.connect_many(16);
    scene.run(Duration::from_secs(1));
    // The first ones are used again.
    for socket in &first {
        scene.request(*socket, 100, Kind::Copied);
    }
    scene.run(Duration::from_secs(1));
    for _ in 0..8 {
        scene.fair_client(&FAIR, Duration::from_secs(5));
    }
    assert!(scene.counter("stack.reclaimed_idle") > 0);
    assert_eq!(scene.counter("stack.reclaimed_slow"), 0);
    let closed = |sockets: &[SocketId]| {
        let ended = sockets.iter().filter(|s| {
            let info = scene.world.a.stack.tcp_info(**s);
            info.is_none_or(|info| info.state != State::Established)
        });
        ended.count()
    };
    assert_eq!(closed(&first), 0, "they were used last");
    assert!(closed(&second) > 0);
    scene.finish();
}

/// The table is full of connections whose peers read nothing. A new connection takes the
/// place of one of them. It is idle until its request has arrived, and isn't closed for that.
#[test]
fn a_new_connection_is_not_closed_in_a_table_of_busy_ones() {
    let (a, mut b) = hosts(POOL, 4096);
    b.config.limits.connections_max = 64;
    let mut scene = Scene::new(a, b, true);
    // What is idle is less than a sixteenth of the table at any time.
    for _ in 0..16 {
        for socket in scene.connect_many(4) {
            scene.request(socket, 2_000_000, Kind::ByReference);
        }
        scene.run(Duration::from_millis(50));
    }
    // What they took at first doesn't count any more.
    scene.run(Duration::from_secs(45));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(5));
    }
    assert!(scene.counter("stack.reclaimed_slow") > 0);
    assert_eq!(scene.counter("stack.reclaimed_idle"), 0);
    scene.finish();
}

/// The table is full of connections whose peers took much and then closed their windows. New
/// connections get places at once. A slow reader keeps its place.
#[test]
fn closed_windows_keep_no_client_out_of_a_full_table() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    b.config.limits.connections_max = 64;
    let mut scene = Scene::new(a, b, true);
    let slow = scene.connect_many(1)[0];
    scene.request(slow, 2_000_000, Kind::ByReference);
    for _ in 0..21 {
        for socket in scene.connect_many(3) {
            scene.request(socket, 2_000_000, Kind::ByReference);
        }
        scene.run(Duration::from_millis(50));
    }
    let mut slow_bytes = 0;
    for _ in 0..3 {
        scene.run(Duration::from_secs(2));
        slow_bytes += scene.read_one(slow);
    }
    assert_eq!(scene.world.b.stack.connections(), 64);

    // Each client closes its window in the end, so that the table is full again.
    for _ in 0..10 {
        let socket = scene.connect();
        scene.download(socket, &FAIR, Duration::from_secs(1));
        scene.request(socket, 2_000_000, Kind::ByReference);
        scene.run(Duration::from_secs(1));
        slow_bytes += scene.read_one(slow);
    }
    assert_eq!(scene.counter("stack.reclaimed_slow"), 10);
    assert_eq!(scene.counter("stack.reclaimed_idle"), 0);
    assert_eq!(scene.counter("stack.accept_dropped"), 0);
    for _ in 0..20 {
        scene.run(Duration::from_secs(1));
        slow_bytes += scene.read_one(slow);
    }
    assert!(slow_bytes > 20 * 16_000, "{slow_bytes}");
    scene.finish();
}

/// An upload makes progress while the table is full of idle connections. It isn't closed, however
/// long ago it began; an upload that has stopped is.
#[test]
fn an_upload_outlives_idle_connections() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    b.config.limits.connections_max = 34;
    let mut scene = Scene::new(a, b, true);
    let uploads = scene.connect_many(2);
    let (moving, stopped) = (uploads[0], uploads[1]);
    for socket in &uploads {
        scene.request(*socket, 1_000_000, Kind::Upload);
    }
    scene.run(Duration::from_millis(50));
    let mut sent = 0;
    // More connections than there are places, each idle from its handshake on.
    for _ in 0..30 {
        scene.connect_many(2);
        sent += scene.world.a.send(moving, &[1; 5000]);
        scene.run(Duration::from_secs(1));
    }
    assert!(scene.counter("stack.reclaimed_idle") >= 28);
    let is_open = |socket| {
        let info = scene.world.a.stack.tcp_info(socket);
        info.is_some_and(|info| info.state == State::Established)
    };
    assert!(is_open(moving) && !is_open(stopped));

    let body = vec![1; 1_000_000];
    let mut answer = Vec::new();
    scene.run_until(Duration::from_secs(60), |scene| {
        let left = &body[sent as usize..];
        if !left.is_empty() {
            sent += scene.world.a.send(moving, left);
        }
        answer.extend(scene.world.a.drain(moving).0);
        answer.len() == 8
    });
    scene.finish();
}

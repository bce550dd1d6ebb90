//! A server and its clients: fair ones and others.
//!
//! Host B serves. All clients are on host A. A request is eight bytes: a length and a kind. The
//! length is that of the response, or of the body behind the request.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{TlsClient, TlsOptions};
use lockgate_stack::{CloseReason, ConnectConfig, Notice, Recv, SocketId};
use lockgate_tcp::State;
use pktbuf::{PageArena, PoolConfig, Region, SharedSpan};

use super::link::{Faults, Link, payload, pure_ack, set_mss, set_word, tcp_ports};
use super::{HostSpec, World, pki};

/// How a response is sent, or that the request has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Copied,
    ByReference,
    /// The response is as long as a request.
    Upload,
}

/// A server and its clients.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) client: Option<Arc<TlsClient>>,
    pub(crate) span: Arc<SharedSpan>,
    _arena: (PageArena, Region),
    /// B's connections: bytes of requests that were read, and responses that are left.
    pub(crate) serving: HashMap<SocketId, Serving>,
    /// A's connections whose handshake is done.
    pub(crate) ready: HashSet<SocketId>,
    /// A's connections that have ended.
    pub(crate) closed: HashMap<SocketId, CloseReason>,
    /// Source ports whose frames are lost.
    pub(crate) silent: Rc<RefCell<HashSet<u16>>>,
    /// Ports of clients with tiny segments, of which every second one is lost.
    pub(crate) sacking: Rc<RefCell<HashSet<u16>>>,
    /// The last acknowledgment of each source port.
    acks: Rc<RefCell<HashMap<u16, Vec<u8>>>>,
}

#[derive(Default)]
pub(crate) struct Serving {
    pub(crate) request: Vec<u8>,
    pub(crate) left: u64,
    pub(crate) kind: Option<Kind>,
    pub(crate) is_ready: bool,
}

impl Scene {
    pub(crate) fn new(a: HostSpec, b: HostSpec, tls: bool) -> Self {
        let faults = Faults {
            delay: Duration::from_millis(5),
            ..Faults::default()
        };
        let mut link = Link::new(7, faults);
        let silent: Rc<RefCell<HashSet<u16>>> = Rc::default();
        let acks: Rc<RefCell<HashMap<u16, Vec<u8>>>> = Rc::default();
        let sacking: Rc<RefCell<HashSet<u16>>> = Rc::default();
        let (ports, last, holes) = (Rc::clone(&silent), Rc::clone(&acks), Rc::clone(&sacking));
        let mut is_kept = false;
        link.filter = Some(Box::new(move |from, frame| {
            let Some((port, to)) = tcp_ports(frame) else {
                return false;
            };
            if from == 1 {
                let is_hostile = port == PLAIN && holes.borrow().contains(&to);
                let has_holes = is_hostile && !payload(frame).is_empty();
                is_kept ^= has_holes;
                return has_holes && !is_kept;
            }
            if to == PLAIN && frame[47] & SYN != 0 && holes.borrow().contains(&port) {
                set_mss(frame, TINY);
            }
            let is_silent = ports.borrow().contains(&port);
            if !is_silent && frame[47] & ACK != 0 {
                last.borrow_mut().insert(port, pure_ack(frame));
            }
            is_silent
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
            sacking,
            acks,
        }
    }

    pub(crate) fn connect(&mut self) -> SocketId {
        self.world.connect(self.client.clone())
    }

    /// Opens so many connections, and waits until each is ready.
    pub(crate) fn connect_many(&mut self, count: usize) -> Vec<SocketId> {
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

    /// Opens plain connections to port 80 whose peers take tiny segments and lose every second one.
    pub(crate) fn connect_sacking(&mut self, count: usize) -> Vec<SocketId> {
        let at = self.world.b_addr(PLAIN);
        let mut all = Vec::new();
        while all.len() < count {
            let batch = BATCH.min(count - all.len());
            let sockets: Vec<SocketId> = (0..batch)
                .map(|_| {
                    let stack = &mut self.world.a.stack;
                    let opened = stack.connect(self.world.now, at, ConnectConfig::default());
                    let socket = opened.unwrap();
                    let port = stack.local_addr(socket).unwrap().port();
                    self.sacking.borrow_mut().insert(port);
                    socket
                })
                .collect();
            self.run_until(Duration::from_secs(60), |scene| {
                let mut open = sockets.iter().map(|socket| scene.is_open(*socket));
                open.all(|is_open| is_open)
            });
            all.extend(sockets);
        }
        all
    }

    pub(crate) fn request(&mut self, socket: SocketId, bytes: u32, kind: Kind) {
        let mut request = bytes.to_le_bytes().to_vec();
        request.extend((kind as u32).to_le_bytes());
        assert_eq!(self.world.a.send(socket, &request), 8);
    }

    /// Requests arrive, and no acknowledgment of a response is sent: a way takes 5 ms.
    pub(crate) fn silence_after_requests(&mut self, sockets: &[SocketId]) {
        self.run(Duration::from_millis(7));
        sockets.iter().for_each(|socket| self.go_silent(*socket));
        self.run(Duration::from_millis(100));
    }

    /// The same, and memory is short then.
    pub(crate) fn silence_before_acknowledgments(&mut self, sockets: &[SocketId]) {
        self.silence_after_requests(sockets);
        let usage = self.world.b.pages.usage();
        let is_short = usage.large_spans - usage.large_spans_used <= 1
            || usage.blocks - usage.blocks_used <= usage.blocks / 16;
        assert!(is_short, "memory is left: {usage:?}");
    }

    pub(crate) fn go_silent(&self, socket: SocketId) {
        let port = self.world.a.stack.local_addr(socket).unwrap().port();
        self.silent.borrow_mut().insert(port);
    }

    /// Has a silent client acknowledge so many bytes more.
    pub(crate) fn acknowledge(&mut self, socket: SocketId, bytes: u32) {
        let port = self.world.a.stack.local_addr(socket).unwrap().port();
        let mut acks = self.acks.borrow_mut();
        let frame = acks.get_mut(&port).unwrap();
        let ack = u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]]);
        let [high, low @ ..] = ack.wrapping_add(bytes).to_be_bytes();
        set_word(frame, 42, u16::from_be_bytes([high, low[0]]));
        set_word(frame, 44, u16::from_be_bytes([low[1], low[2]]));
        self.world.b.receive(self.world.now, frame);
    }

    /// Whether the connection is open at both ends.
    pub(crate) fn is_open(&self, socket: SocketId) -> bool {
        let info = self.world.a.stack.tcp_info(socket);
        let port = self.world.a.stack.local_addr(socket).map(|at| at.port());
        let mut served = self.serving.keys();
        info.is_some_and(|info| info.state == State::Established)
            && served.any(|other| {
                let remote = self.world.b.stack.remote_addr(*other);
                remote.map(|at| at.port()) == port
            })
    }

    /// B's applications, and the notices of A's connections.
    pub(crate) fn turn(&mut self) {
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
                    let local = self.world.b.stack.local_addr(socket);
                    let is_plain = local.is_some_and(|at| at.port() == PLAIN);
                    let is_ready = is_plain || self.client.is_none();
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
    pub(crate) fn serve(&mut self, socket: SocketId) {
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

    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
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

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.world.now + time;
        self.turn();
        while self.world.step(until) {
            self.turn();
        }
        self.world.now = until;
        self.turn();
    }

    /// A fair client: connects, gets a response of each length, closes. Everything within `limit`.
    pub(crate) fn fair_client(&mut self, responses: &[(u32, Kind)], limit: Duration) {
        let socket = self.connect();
        self.download(socket, responses, limit);
        self.world.a.stack.close(socket);
        self.run_until(limit, |scene| scene.closed.contains_key(&socket));
        assert_eq!(self.closed[&socket], CloseReason::Clean);
    }

    /// Gets a response of each length over a new connection. Everything within `limit`.
    pub(crate) fn download(
        &mut self,
        socket: SocketId,
        responses: &[(u32, Kind)],
        limit: Duration,
    ) {
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
    pub(crate) fn read_one(&mut self, socket: SocketId) -> usize {
        let host = &mut self.world.a;
        match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
            Ok(Recv::Data(chunk)) => chunk.pieces().map(<[u8]>::len).sum(),
            Ok(Recv::Nothing) => 0,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.world.b.stack.counters();
        counters.iter().find(|(n, _)| *n == name).unwrap().1
    }

    /// All connections end, and all memory is back.
    pub(crate) fn finish(mut self) {
        self.silent.borrow_mut().clear();
        self.sacking.borrow_mut().clear();
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
pub(crate) fn hosts(pool: PoolConfig, window: u32) -> (HostSpec, HostSpec) {
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

pub(crate) const POOL: PoolConfig = PoolConfig {
    blocks: 4096,
    small_spans: 1024,
    large_spans: 512,
};
/// The pool of the smallest configuration.
pub(crate) const SMALL_POOL: PoolConfig = PoolConfig {
    blocks: 256,
    small_spans: 64,
    large_spans: 16,
};
pub(crate) const FAIR: [(u32, Kind); 3] = [
    (1000, Kind::Copied),
    (300_000, Kind::ByReference),
    (10_000, Kind::Copied),
];
/// Connections that are opened at a time: the half-open table has 256 entries.
pub(crate) const BATCH: usize = 200;
pub(crate) const SPAN_BYTES: usize = 64 * 1024;
/// The port of plain connections beside those with TLS.
const PLAIN: u16 = 80;
/// Bits of a TCP header's flags.
const ACK: u8 = 0x10;
const SYN: u8 = 2;
/// The smallest segment size that TCP takes.
const TINY: u16 = 88;

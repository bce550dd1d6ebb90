//! The order in which sockets send: short responses beside bulk downloads, over a port that is
//! slower than what the stack has to send.
//!
//! Host B serves. A turn of B and what its port sends meanwhile are one step of a virtual clock. A
//! request is the length of its response in eight bytes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{TlsClient, TlsOptions};
use lockgate_stack::{ConnectConfig, Notice, Recv, SocketId};
use lockgate_testing::Random;
use pktbuf::{PageArena, PoolConfig, Region, SharedSpan};
use support::link::{Faults, Link, payload, set_mss, tcp_ports};
use support::{HostSpec, World, pki};

/// A server with a slow port, and its clients.
struct Rig {
    world: World,
    client: Arc<TlsClient>,
    span: Arc<SharedSpan>,
    _arena: (PageArena, Region),
    serving: HashMap<SocketId, Serving>,
    /// A's connections that are ready for a request.
    ready: BTreeMap<SocketId, u64>,
    /// Frames that the port sends in a step.
    frames_per_step: usize,
    steps: u64,
    /// Payload bytes that the port has sent, by the client's port.
    sent: BTreeMap<u16, u64>,
    sent_all: u64,
    /// Frames with payload that the port has sent, by the client's port.
    frames: BTreeMap<u16, u64>,
    /// The ports of clients that take segments of [`TINY`] bytes at most.
    tiny: Rc<RefCell<BTreeSet<u16>>>,
    /// Whether connections that are opened from now on are such.
    opens_tiny: bool,
    probe: Option<Probe>,
    /// The ports of downloads.
    downloads: Vec<u16>,
    /// Connections that are closed and opened again with each response.
    churn: Vec<Option<SocketId>>,
}

#[derive(Default)]
struct Serving {
    request: Vec<u8>,
    left: u64,
    is_ready: bool,
}

/// Follows one connection.
struct Probe {
    port: u16,
    /// Steps and bytes of others when the first segment arrived that isn't answered.
    arrived: Option<(u64, u64)>,
    /// What each answer waited for: steps and bytes of others.
    waits: Vec<(u64, u64)>,
}

impl Rig {
    fn new(pool: PoolConfig) -> Self {
        let (mut a, mut b) = (HostSpec::new(1), HostSpec::new(2));
        a.pool = PoolConfig {
            blocks: 20_000,
            small_spans: 10_000,
            large_spans: 4_000,
        };
        a.buffers = 60_000;
        a.config.limits.recv_buffer_bytes = 256 << 10;
        a.config.limits.recv_total_bytes = u64::MAX;
        b.buffers = 16_000;
        b.pool = pool;
        let faults = Faults {
            delay: Duration::from_micros(200),
            ..Faults::default()
        };
        let tiny: Rc<RefCell<BTreeSet<u16>>> = Rc::default();
        let ports = Rc::clone(&tiny);
        let mut link = Link::new(1, faults);
        link.filter = Some(Box::new(move |from, frame| {
            let is_tiny = tcp_ports(frame).is_some_and(|(port, _)| ports.borrow().contains(&port));
            if from == 0 && is_tiny && frame[47] & SYN != 0 {
                set_mss(frame, TINY);
            }
            false
        }));
        let mut world = World::new(a, b, link);
        world.b.budget = 256;
        world.b.net.capacity = RING_FRAMES;
        let options = TlsOptions::default();
        world.listen(443, Some(pki::server(&options)));
        world.listen(80, None);
        let mut region = Region::heap(SPAN_BYTES + 8192).unwrap();
        let arena = PageArena::new(&mut region, SPAN_BYTES).unwrap();
        let span = arena.alloc(SPAN_BYTES).unwrap().freeze(SPAN_BYTES);
        Self {
            world,
            client: pki::client(&options),
            span,
            _arena: (arena, region),
            serving: HashMap::new(),
            ready: BTreeMap::new(),
            frames_per_step: FRAMES_PER_STEP,
            steps: 0,
            sent: BTreeMap::new(),
            sent_all: 0,
            frames: BTreeMap::new(),
            tiny,
            opens_tiny: false,
            probe: None,
            downloads: Vec::new(),
            churn: Vec::new(),
        }
    }

    fn connect(&mut self, tls: bool) -> SocketId {
        if tls {
            return self.world.connect(Some(self.client.clone()));
        }
        let at = self.world.b_addr(80);
        let config = ConnectConfig::default();
        let opened = self.world.a.stack.connect(self.world.now, at, config);
        let socket = opened.unwrap();
        if self.opens_tiny {
            self.tiny.borrow_mut().insert(self.port_of(socket));
        }
        socket
    }

    fn request(&mut self, socket: SocketId, bytes: u64) {
        assert_eq!(self.world.a.send(socket, &bytes.to_le_bytes()), 8);
    }

    /// Opens connections that download for ever, until their windows have grown.
    fn download(&mut self, count: usize, tls: bool) {
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let batch = BATCH.min(count - sockets.len());
            sockets.extend((0..batch).map(|_| self.connect(tls)));
            self.step_until(20_000, |rig| {
                sockets.iter().all(|socket| rig.ready.contains_key(socket))
            });
        }
        for socket in &sockets {
            self.request(*socket, u64::MAX);
        }
        self.step_until(20_000, |rig| {
            sockets.iter().all(|socket| rig.ready[socket] > 200_000)
        });
        self.downloads = sockets.iter().map(|socket| self.port_of(*socket)).collect();
    }

    fn sent_to_downloads(&self) -> u64 {
        self.downloads.iter().map(|port| self.sent[port]).sum()
    }

    /// Closes connections that have their response, and opens others.
    fn renew_connections(&mut self) {
        let mut opened = 0;
        for at in 0..self.churn.len() {
            match self.churn[at] {
                Some(socket) if self.ready.get(&socket) == Some(&CHURN_BYTES) => {
                    self.world.a.stack.close(socket);
                    self.ready.remove(&socket);
                    self.churn[at] = None;
                }
                Some(_) => {}
                None if opened < 20 => {
                    self.churn[at] = Some(self.connect(false));
                    opened += 1;
                }
                None => {}
            }
        }
    }

    fn port_of(&self, socket: SocketId) -> u16 {
        self.world.a.stack.local_addr(socket).unwrap().port()
    }

    fn step_until(&mut self, limit: u64, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..limit {
            if done(self) {
                return;
            }
            self.step();
        }
        let counters = self.world.b.stack.counters();
        panic!("not done within {limit} steps\n{counters}");
    }

    /// A turn of B, and what its port sends meanwhile.
    fn step(&mut self) {
        self.steps += 1;
        self.world.now += STEP;
        let now = self.world.now;
        while let Some((to, frame)) = self.world.link.take(now) {
            if to == 0 {
                self.world.a.receive(now, &frame);
                continue;
            }
            self.world.b.receive(now, &frame);
            if let Some(probe) = &mut self.probe
                && tcp_ports(&frame).is_some_and(|(from, _)| from == probe.port)
                && (frame[47] & SYN != 0 || !payload(&frame).is_empty())
            {
                probe.arrived.get_or_insert((self.steps, self.sent_all));
            }
        }
        self.renew_connections();
        self.turn_a();
        let budget = self.world.b.budget;
        self.world.b.with(|stack, env| {
            if stack.next_timer().is_some_and(|at| at <= now) {
                stack.on_timer(now, env);
            }
            stack.step_handshake(now, env);
        });
        while let Some(notice) = self.world.b.stack.poll_notice() {
            self.on_notice_b(&notice);
        }
        self.world.b.with(|stack, env| stack.poll(now, env, budget));
        for _ in 0..self.frames_per_step {
            let Some(frame) = self.world.b.net.frames.pop_front() else {
                break;
            };
            self.count(&frame);
            self.world.link.put(now, 1, frame);
        }
    }

    fn count(&mut self, frame: &[u8]) {
        let Some((_, to)) = tcp_ports(frame) else {
            return;
        };
        let bytes = payload(frame).len() as u64;
        match &mut self.probe {
            Some(probe) if probe.port == to => {
                if let Some((step, sent)) = probe.arrived.take() {
                    probe.waits.push((self.steps - step, self.sent_all - sent));
                }
            }
            _ => {
                *self.sent.entry(to).or_default() += bytes;
                *self.frames.entry(to).or_default() += u64::from(bytes > 0);
                self.sent_all += bytes;
            }
        }
    }

    fn turn_a(&mut self) {
        let now = self.world.now;
        loop {
            let mut has_more = self.world.a.turn(now);
            while let Some(frame) = self.world.a.net.frames.pop_front() {
                self.world.link.put(now, 0, frame);
            }
            while let Some(notice) = self.world.a.stack.poll_notice() {
                has_more = true;
                match notice {
                    Notice::Connected(socket) => {
                        let is_plain = self.world.a.stack.remote_addr(socket).unwrap().port() == 80;
                        if is_plain {
                            self.ready.insert(socket, 0);
                        }
                        if self.churn.contains(&Some(socket)) {
                            self.request(socket, CHURN_BYTES);
                        }
                    }
                    Notice::HandshakeDone(socket, _) => {
                        self.ready.insert(socket, 0);
                    }
                    Notice::Readable(socket) => {
                        let read = self.world.a.drain(socket).0.len() as u64;
                        *self.ready.entry(socket).or_default() += read;
                    }
                    _ => {}
                }
            }
            if !has_more {
                return;
            }
        }
    }

    fn on_notice_b(&mut self, notice: &Notice) {
        match *notice {
            Notice::Accepted { socket, .. } => {
                let is_ready = self
                    .world
                    .b
                    .stack
                    .local_addr(socket)
                    .is_some_and(|at| at.port() == 80);
                let serving = Serving {
                    is_ready,
                    ..Serving::default()
                };
                self.serving.insert(socket, serving);
                self.serve(socket);
            }
            Notice::HandshakeDone(socket, _) => {
                if let Some(serving) = self.serving.get_mut(&socket) {
                    serving.is_ready = true;
                }
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

    fn serve(&mut self, socket: SocketId) {
        let Some(serving) = self.serving.get_mut(&socket).filter(|s| s.is_ready) else {
            return;
        };
        let host = &mut self.world.b;
        loop {
            if serving.left > 0 {
                let want = u32::try_from(serving.left.min(SPAN_BYTES as u64)).unwrap();
                let taken = if serving.left >= SPAN_BYTES as u64 {
                    host.stack
                        .send_span(socket, &self.span, 0, want, &mut host.pages)
                } else {
                    let bytes = &self.span[..want as usize];
                    host.stack.send(socket, bytes, false, &mut host.pages)
                };
                match taken {
                    Ok(taken) if taken > 0 => serving.left -= u64::from(taken),
                    _ => return,
                }
                continue;
            }
            if serving.request.len() == 8 {
                serving.left = u64::from_le_bytes(serving.request[..].try_into().unwrap());
                serving.request.clear();
                continue;
            }
            match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
                Ok(Recv::Data(chunk)) => {
                    chunk.pieces().for_each(|p| serving.request.extend(p));
                }
                Ok(Recv::Nothing | Recv::End { .. }) | Err(_) => return,
            }
        }
    }

    /// A new connection gets a short response. Returns what each answer of B waited for: steps and
    /// bytes of others.
    fn short_request(&mut self) -> Vec<(u64, u64)> {
        let socket = self.connect(true);
        self.probe = Some(Probe {
            port: self.port_of(socket),
            arrived: None,
            waits: Vec::new(),
        });
        self.step_until(200_000, |rig| rig.ready.contains_key(&socket));
        self.request(socket, SHORT);
        self.step_until(200_000, |rig| rig.ready[&socket] == SHORT);
        self.world.a.stack.close(socket);
        self.probe.take().unwrap().waits
    }
}

/// Connections that are opened at a time: the half-open table has 256 entries.
const BATCH: usize = 100;
const STEP: Duration = Duration::from_micros(100);
const RING_FRAMES: u32 = 256;
const SPAN_BYTES: usize = 64 * 1024;
/// A bit of a TCP header's flags.
const SYN: u8 = 2;
const FRAMES_PER_STEP: usize = 64;
const SHORT: u64 = 1000;
/// Frames that a packet is cut into at most.
const FRAMES_OF_A_BURST: u64 = 61;
/// The smallest segment size that TCP takes.
const TINY: u16 = 88;
/// What a frame costs of a turn at least.
const FRAME_COST: u64 = 512;
const CHURN_BYTES: u64 = 16_000;
const SEEDS: u64 = 12;
const POOL: PoolConfig = PoolConfig {
    blocks: 8192,
    small_spans: 2048,
    large_spans: 4096,
};

/// Others' bytes that an answer waits for at most: what the port's ring holds already, and what new
/// and old sockets send before it in the turn.
const WAIT_BYTES: u64 = RING_FRAMES as u64 * 1460 + (256 << 10);

/// Turns that a flight waits for at most: what the ring holds takes four.
const FLIGHT_STEPS: u64 = 6;

/// Beside 300 downloads, with memory for all of them and without, each answer of a handshake and of
/// a short response leaves in the turn after what it answers has arrived.
#[test]
fn a_short_request_beside_downloads_waits_for_little() {
    for (tls, large_spans) in [(false, 4096), (true, 4096), (true, 256)] {
        let pool = PoolConfig {
            large_spans,
            ..POOL
        };
        let mut rig = Rig::new(pool);
        rig.download(300, tls);
        for round in 0..4 {
            let waits = rig.short_request();
            println!("tls {tls} spans {large_spans}: {waits:?}");
            assert!(waits.len() >= 3, "SYN-ACK, flight, response: {waits:?}");
            assert!(
                waits.iter().all(|(_, bytes)| *bytes <= WAIT_BYTES),
                "tls {tls}, {large_spans} spans, {round}: {waits:?}"
            );
        }
    }
}

/// 300 peers open a connection for each short request, so that each of their responses is from a
/// new socket. A fair short request waits for one response of each at most, and as much of the
/// downloads. The downloads have half of the port.
#[test]
fn new_connections_without_end_take_half() {
    let mut rig = Rig::new(POOL);
    rig.download(20, false);
    rig.churn = (0..300).map(|_| None).collect();
    for _ in 0..400 {
        rig.step();
    }
    let (old, all) = (rig.sent_to_downloads(), rig.sent_all);
    let waits: Vec<_> = (0..4).flat_map(|_| rig.short_request()).collect();
    println!("{waits:?}");
    let (old, all) = (rig.sent_to_downloads() - old, rig.sent_all - all);
    println!("downloads {old} of {all}");
    assert!(old * 5 > all * 2, "downloads {old} of {all}");
    assert!((all - old) * 5 > all, "new {} of {all}", all - old);
    let bound = WAIT_BYTES + 2 * 300 * CHURN_BYTES;
    assert!(waits.iter().all(|(_, bytes)| *bytes <= bound), "{waits:?}");
}

/// Beside the same peers, whose responses are hundreds of turns of the port, each flight of a TLS
/// handshake leaves within a few turns: the port sends what its ring holds, and other flights.
#[test]
fn handshake_flights_do_not_wait_for_new_connections() {
    let mut rig = Rig::new(POOL);
    rig.download(20, false);
    rig.churn = (0..300).map(|_| None).collect();
    for _ in 0..400 {
        rig.step();
    }
    for round in 0..4 {
        let waits = rig.short_request();
        println!("{waits:?}");
        assert!(waits.len() >= 3, "SYN-ACK, flight, tickets: {waits:?}");
        for (steps, bytes) in waits {
            assert!(steps <= FLIGHT_STEPS, "{round}: {steps} steps");
            assert!(bytes <= WAIT_BYTES, "{round}: {bytes} bytes");
        }
    }
}

/// Downloads share the port equally: Jain's index of their bytes is nearly 1.
#[test]
fn downloads_share_the_port_equally() {
    let mut rig = Rig::new(POOL);
    rig.download(60, false);
    let before = rig.sent.clone();
    for _ in 0..2000 {
        rig.step();
    }
    let sent: Vec<f64> = rig
        .downloads
        .iter()
        .map(|port| (rig.sent[port] - before[port]) as f64)
        .collect();
    let (sum, squares) = (
        sent.iter().sum::<f64>(),
        sent.iter().map(|x| x * x).sum::<f64>(),
    );
    let index = sum * sum / (squares * sent.len() as f64);
    let (least, most) = (
        sent.iter().copied().fold(f64::MAX, f64::min),
        sent.iter().copied().fold(0.0, f64::max),
    );
    println!("index {index}, {least} to {most}");
    assert!(
        index > 0.98 && most < 1.5 * least,
        "{index}, {least} to {most}"
    );
}

/// Downloads whose peers take tiny segments, beside downloads with full ones: each frame costs 512
/// bytes of a turn at least, and each download sends as much by that measure. By their payload
/// alone they would take 16 frames for each of the others.
#[test]
fn tiny_segments_take_no_more_of_the_port_than_full_ones() {
    let mut rig = Rig::new(POOL);
    rig.opens_tiny = true;
    rig.download(10, false);
    let tiny = rig.downloads.clone();
    rig.opens_tiny = false;
    rig.download(10, false);
    let full = rig.downloads.clone();
    let before = (rig.frames.clone(), rig.sent.clone());
    for _ in 0..2000 {
        rig.step();
    }
    let grown = |now: &BTreeMap<u16, u64>, before: &BTreeMap<u16, u64>, ports: &[u16]| -> u64 {
        ports.iter().map(|port| now[port] - before[port]).sum()
    };
    let frames = grown(&rig.frames, &before.0, &tiny);
    let bytes = grown(&rig.sent, &before.1, &tiny);
    assert!(
        bytes <= frames * u64::from(TINY),
        "{bytes} bytes, {frames} frames"
    );
    let cost = frames * FRAME_COST;
    let full_bytes = grown(&rig.sent, &before.1, &full);
    println!("{frames} tiny frames cost {cost}, beside {full_bytes} bytes");
    assert!(
        cost * 10 < full_bytes * 13 && full_bytes * 10 < cost * 13,
        "{frames} frames, {full_bytes} bytes"
    );
}

/// Tiny segments alone: the frames of a turn are bounded.
#[test]
fn a_turn_sends_a_bounded_number_of_tiny_frames() {
    let mut rig = Rig::new(POOL);
    rig.opens_tiny = true;
    rig.download(20, false);
    let limits = *rig.world.b.stack.limits();
    rig.frames_per_step = usize::MAX;
    rig.world.b.net.capacity = u32::MAX;
    rig.world.b.budget = u32::MAX;
    // What the ring holds already.
    rig.step();
    let frames = |rig: &Rig| rig.frames.values().sum::<u64>();
    let mut turns = Vec::new();
    for _ in 0..200 {
        let before = frames(&rig);
        rig.step();
        turns.push(frames(&rig) - before);
    }
    turns.sort_unstable();
    println!("{turns:?}");
    let most = u64::from(limits.turn_bytes_max) / FRAME_COST + FRAMES_OF_A_BURST;
    assert!(turns[199] <= most, "{turns:?}");
    assert!(
        turns[150] * 2 > most,
        "the downloads fill most turns: {turns:?}"
    );
}

/// However much there is to send, and however much room the port has, a turn ends after a bounded
/// number of bytes.
#[test]
fn a_turn_sends_a_bounded_number_of_bytes() {
    let mut rig = Rig::new(POOL);
    rig.download(30, false);
    let limits = *rig.world.b.stack.limits();
    let most = u64::from(limits.turn_bytes_max + limits.quantum_bytes);
    rig.frames_per_step = usize::MAX;
    rig.world.b.net.capacity = u32::MAX;
    rig.world.b.budget = u32::MAX;
    // What the ring holds already.
    rig.step();
    let mut turns = Vec::new();
    for _ in 0..200 {
        let before = rig.sent_all;
        rig.step();
        turns.push(rig.sent_all - before);
    }
    turns.sort_unstable();
    let limit = u64::from(limits.turn_bytes_max);
    assert!(
        turns[150] >= limit,
        "the downloads fill most turns: {turns:?}"
    );
    assert!(turns[199] <= most, "{turns:?}");
}

/// Random arrivals, sizes and closes, with a port that stops now and then and memory that runs out:
/// after each turn each socket with work is in a list, and in the end everything was answered.
#[test]
fn no_socket_with_work_is_forgotten() {
    for seed in 0..SEEDS {
        let random = &mut Random::new(seed);
        let pool = PoolConfig {
            large_spans: u32::try_from(random.pick(&[8, 24, 200])).unwrap(),
            small_spans: 64,
            blocks: 512,
        };
        let mut rig = Rig::new(pool);
        let mut wanted: BTreeMap<SocketId, Option<u64>> = BTreeMap::new();
        let mut held = Vec::new();
        for _ in 0..1500 {
            if wanted.len() < 40 && random.chance(100, 1000) {
                let tls = random.chance(500, 1000);
                wanted.insert(rig.connect(tls), None);
            }
            if random.chance(20, 1000) {
                rig.frames_per_step = usize::try_from(random.pick(&[0, 1, 30, 200])).unwrap();
            }
            if random.chance(10, 1000) {
                held = rig.world.b.hold_pages();
            } else if random.chance(50, 1000) {
                held.clear();
            }
            let waiting: Vec<SocketId> = wanted
                .iter()
                .filter(|(socket, bytes)| bytes.is_none() && rig.ready.contains_key(socket))
                .map(|(socket, _)| *socket)
                .collect();
            for socket in waiting {
                let bytes = random.pick(&[1, 1000, 20_000, 200_000]);
                rig.request(socket, bytes);
                wanted.insert(socket, Some(bytes));
            }
            if random.chance(5, 1000)
                && let Some(socket) = wanted.keys().next().copied()
            {
                wanted.remove(&socket);
                rig.world.a.stack.close(socket);
            }
            rig.step();
            let now = rig.world.now;
            assert_eq!(rig.world.b.stack.forgotten_socket(now), None, "seed {seed}");
        }
        drop(held);
        rig.frames_per_step = FRAMES_PER_STEP;
        wanted.retain(|_, bytes| bytes.is_some());
        rig.step_until(60_000, |rig| {
            wanted
                .iter()
                .all(|(socket, bytes)| rig.ready[socket] == bytes.unwrap())
        });
    }
}

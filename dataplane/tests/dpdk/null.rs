//! A port that takes everything and receives nothing: sending at full tilt to a peer whose
//! acknowledgments are forged, and a peer that never answers. Time is simulated.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lockgate_drivers::{Eal, Port, PortConfig, WorkerPorts};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{
    CloseReason, ConnectConfig, Env, ListenConfig, Notice, SocketId, Stack, StackConfig,
};
use lockgate_tcp::{Keepalive, TcpConfig};
use lockgate_wire::{IfaceId, Instant, MacAddr};
use pktbuf::{
    HeapBuffers, Info, Output, Packet, PageArena, PagePool, PoolConfig, Region, Room, TxError,
};

use crate::support::eal;
use crate::support::forged_peer::{Answer, ForgedPeer, abandoned_syn, frames};
use crate::support::host::{address, interface};
use crate::support::pki::{Pki, name};
use crate::support::source::Source;
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("null::full_tilt", full_tilt),
    Case::new("null::full_tilt_with_tls", full_tilt_with_tls),
    Case::new("null::no_neighbour", no_neighbour),
    Case::new("null::no_answer", no_answer),
    Case::new("null::the_peer_vanishes", the_peer_vanishes),
    Case::new(
        "null::the_peer_vanishes_with_tls",
        the_peer_vanishes_with_tls,
    ),
    Case::new(
        "null::the_peer_vanishes_in_silence",
        the_peer_vanishes_in_silence,
    ),
    Case::new("null::half_open_for_ever", half_open_for_ever),
];

/// A stack on an output.
struct Host<N> {
    stack: Stack,
    pages: PagePool,
    ciphers: Ciphers,
    net: N,
    buffers: HeapBuffers,
    notices: Vec<Notice>,
    /// Bytes that were read and thrown away.
    read: u64,
}

/// The host under test, the port that it's on, and what time it is.
struct World {
    port: Port,
    host: Host<ForgedPeer>,
    now: Instant,
}

/// The other end of a cable: frames that are sent are only kept.
struct Cable {
    info: Info,
    frames: Vec<Vec<u8>>,
}

impl Output for Cable {
    fn info(&self, _on: IfaceId) -> Info {
        self.info
    }

    fn room(&self, _on: IfaceId) -> Room {
        Room {
            packets: 64,
            entries: 1024,
        }
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        frames(&packet, |frame| self.frames.push(frame))
    }
}

impl<N: Output> Host<N> {
    fn new(number: u8, mac: MacAddr, tcp: TcpConfig, net: N) -> Self {
        let config = StackConfig {
            interfaces: vec![interface(number, mac, 1500)],
            tcp,
            ..StackConfig::default()
        };
        let pool = PoolConfig {
            blocks: 1024,
            small_spans: 1024,
            large_spans: 512,
        };
        let mut region = Region::heap(PagePool::bytes_needed(pool) + 4096).expect("memory");
        let secret = [u64::from(number), 1, 2, 3];
        Self {
            stack: Stack::new(Instant::ZERO, config, secret).expect("a stack"),
            pages: PagePool::new(&mut region, pool).expect("a pool fits"),
            ciphers: Ciphers::new(BackendChoice::Auto, 64),
            net,
            buffers: HeapBuffers::new(256),
            notices: Vec::new(),
            read: 0,
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Stack, &mut Env<'_, N>) -> R) -> R {
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.net,
        };
        f(&mut self.stack, &mut env)
    }

    fn receive(&mut self, now: Instant, frame: &[u8]) {
        let buffer = self.buffers.alloc(frame).expect("a received buffer");
        self.with(|stack, env| stack.on_packet(now, IfaceId(0), buffer, env));
    }

    fn turn(&mut self, now: Instant) -> bool {
        let more = self.with(|stack, env| {
            stack.on_timer(now, env);
            stack.step_handshake(now, env) | stack.poll(now, env, 256)
        });
        while let Some(notice) = self.stack.poll_notice() {
            if let Notice::Readable(socket) = notice {
                self.discard(socket);
            }
            self.notices.push(notice);
        }
        more
    }

    fn discard(&mut self, socket: SocketId) {
        while let Ok(lockgate_stack::Recv::Data(chunk)) =
            self.stack.recv(socket, &mut self.ciphers, &mut self.pages)
        {
            self.read += chunk.len() as u64;
        }
    }

    /// How a socket ended, if it did.
    fn end(&self, socket: SocketId) -> Option<CloseReason> {
        self.notices.iter().find_map(|notice| match notice {
            Notice::Closed(closed, reason) if *closed == socket => Some(*reason),
            _ => None,
        })
    }

    fn assert_full(&mut self) {
        self.pages.reclaim();
        assert!(self.pages.is_full(), "{:?}", self.pages.usage());
        assert!(self.buffers.is_full(), "{:?}", self.buffers.usage());
    }
}

impl World {
    fn new(eal: Eal, answer: Answer, tcp: TcpConfig) -> Self {
        let device = "net_null0,no-rx=1".parse().expect("a device");
        let mut port = Port::open(eal, &PortConfig::new("null", device)).expect("a port");
        let net = ForgedPeer::new(WorkerPorts::new(port.take_queues(), &[0]), answer);
        let host = Host::new(1, port.mac(), tcp, net);
        Self {
            port,
            host,
            now: Instant::from_millis(1000),
        }
    }

    /// One turn; true if there's more to do at once.
    fn turn(&mut self) -> bool {
        assert_eq!(self.host.net.received(), 0, "no-rx=1");
        let more = self.host.turn(self.now);
        let flushed = self.host.net.flush();
        assert!(flushed, "the port takes everything");
        let mut answered = false;
        while let Some(frame) = self.host.net.answers.pop_front() {
            answered = true;
            self.host.receive(self.now, &frame);
        }
        more | answered
    }

    /// Goes from timer to timer until there's nothing to wait for, or `done`.
    fn run(&mut self, mut done: impl FnMut(&Host<ForgedPeer>) -> bool) {
        for _ in 0..100_000 {
            while self.turn() {}
            if done(&self.host) {
                return;
            }
            let Some(at) = self.host.stack.next_timer() else {
                return;
            };
            self.now = self.now.max(at);
        }
        panic!("timers go off for ever");
    }

    /// Connects a real peer to the host's listener. Returns the host's socket, and the peer.
    fn meet(&mut self, tls: Option<&Pki>) -> (SocketId, Host<Cable>) {
        let options = TlsOptions::default();
        let listen = ListenConfig {
            tls: tls.map(|pki| pki.server(&options)),
            ..ListenConfig::default()
        };
        let at = SocketAddr::new(address(1, false), 443);
        self.host.stack.listen(at, listen).expect("a listener");
        let mac = MacAddr([2, 0, 0, 0, 0, 2]);
        let info = Info {
            mtu: 1500,
            mac: Some(mac),
            tso_bytes_max: 1460,
            entries_max: 8,
            link_up: true,
            ..Info::default()
        };
        let cable = Cable {
            info,
            frames: Vec::new(),
        };
        let mut peer = Host::new(2, mac, TcpConfig::default(), cable);
        let connect = ConnectConfig {
            tls: tls.map(|pki| (pki.client(&options), name())),
            ..ConnectConfig::default()
        };
        peer.stack
            .connect(self.now, at, connect)
            .expect("a way there");
        self.host.net.answer = Answer::Keep;
        for _ in 0..1000 {
            self.now += TURN;
            self.turn();
            peer.turn(self.now);
            let to_peer = std::mem::take(&mut self.host.net.kept);
            let to_host = std::mem::take(&mut peer.net.frames);
            let quiet = to_peer.is_empty() && to_host.is_empty();
            for frame in to_peer {
                peer.receive(self.now, &frame);
            }
            for frame in to_host {
                self.host.net.learn(&frame);
                self.host.receive(self.now, &frame);
            }
            let ready = self.host.notices.iter().find_map(|notice| match notice {
                Notice::Accepted { socket, .. } if tls.is_none() => Some(*socket),
                Notice::HandshakeDone(socket, _) => Some(*socket),
                _ => None,
            });
            if let Some(socket) = ready.filter(|_| quiet) {
                return (socket, peer);
            }
        }
        panic!("they never met: {:?} {:?}", self.host.notices, peer.notices);
    }

    fn close(mut self) {
        let Host {
            stack,
            mut pages,
            buffers,
            net,
            ..
        } = self.host;
        drop((stack, net));
        pages.reclaim();
        assert!(pages.is_full(), "{:?}", pages.usage());
        assert!(buffers.is_full(), "{:?}", buffers.usage());
        for pool in self.port.close().expect("no queue is out") {
            assert!(pool.is_full(), "{pool:?}");
        }
    }
}

fn full_tilt() {
    send_much(None, |_| Source::new(1));
}

fn full_tilt_with_tls() {
    send_much(Some(&Pki::new()), |arena| Source::in_cache(2, arena));
}

/// Sends more than 32 bits can count, as fast as it goes.
fn send_much(tls: Option<&Pki>, source: impl FnOnce(&PageArena) -> Source) {
    let mut region = Region::heap(Source::ARENA_BYTES + 8192).expect("memory");
    let arena = PageArena::new(&mut region, Source::ARENA_BYTES).expect("an arena");
    let source = source(&arena);
    let mut world = World::new(eal(), Answer::Keep, TcpConfig::default());
    let (socket, _peer) = world.meet(tls);
    world.host.net.answer = Answer::Acknowledge;
    let by_reference = source.span(0).is_some();
    let (mut sent, mut turns, mut rss) = (0, 0_u64, 0);
    let (mut blocks, mut spans) = (0, 0);
    while sent < MUCH {
        loop {
            let host = &mut world.host;
            let (asked, taken) = if let Some((span, at)) = source.span(sent) {
                let len = span.len() as u32 - at;
                (
                    len,
                    host.stack.send_span(socket, span, at, len, &mut host.pages),
                )
            } else {
                let bytes = source.bytes(sent, 64 << 10);
                (
                    bytes.len() as u32,
                    host.stack.send(socket, bytes, false, &mut host.pages),
                )
            };
            let taken = taken.expect("the socket takes what there's room for");
            sent += u64::from(taken);
            if taken < asked || sent >= MUCH {
                break;
            }
        }
        world.now += TURN;
        world.turn();
        if let Some(ack) = world.host.net.acknowledge() {
            world.host.receive(world.now, &ack);
        }
        turns += 1;
        let usage = world.host.pages.usage();
        blocks = blocks.max(usage.blocks_used);
        spans = spans.max(usage.large_spans_used);
        if rss == 0 && sent > MUCH / 8 {
            rss = resident();
        }
    }
    while world.host.stack.send_queued(socket) > 0 {
        world.now += TURN;
        world.turn();
        if let Some(ack) = world.host.net.acknowledge() {
            world.host.receive(world.now, &ack);
        }
    }
    let grown = resident().saturating_sub(rss);
    let counters = *world.host.stack.counters();
    let port = world.port.counters().total();
    tracing::info!(turns, blocks, spans, grown, "{port:?}");
    assert!(grown < 4 << 20, "memory grew by {grown} bytes");
    // The send buffer's worth of records, in the queue and, once more, sealed.
    assert!(blocks <= 2 * (1 << 20) / 16_384 + 64, "{blocks} blocks");
    assert!(spans <= 2 * (1 << 20) / 16_384 + 64, "{spans} spans");
    assert_eq!(world.host.stack.tcp_counters().bytes_retransmitted, 0);
    assert_eq!(
        counters.bytes_by_reference,
        if by_reference { sent } else { 0 }
    );
    assert_eq!(counters.bytes_by_copy, if by_reference { 0 } else { sent });
    assert_eq!(counters.payload_bytes_out, world.host.net.payload);
    assert!(counters.payload_bytes_out >= sent);
    // A port without chains gets every byte by copy, in packet buffers of its own.
    assert!(!world.port.capabilities().multi_segs);
    assert_eq!(port.tx_payload_copied, counters.payload_bytes_out);
    assert_eq!(port.tx_packets, world.port.counters().device.tx_packets);
    assert_eq!((port.tx_dropped_full, port.tx_dropped_driver), (0, 0));
    // And it never holds on to a page.
    world.host.stack.abort(socket);
    world.run(|host| host.stack.connections() == 0);
    assert_eq!(world.host.end(socket), Some(CloseReason::Aborted));
    source.assert_unreferenced();
    world.close();
}

fn no_neighbour() {
    let mut world = World::new(eal(), Answer::None, TcpConfig::default());
    let sockets = connect(&mut world, 500);
    let began = world.now;
    world.run(|host| host.stack.connections() == 0);
    for socket in &sockets {
        assert_eq!(world.host.end(*socket), Some(CloseReason::TimedOut));
    }
    let took = world.now.saturating_since(began);
    assert!(
        took <= TcpConfig::default().syn_timeout + SECOND,
        "{took:?}"
    );
    assert_eq!(
        world.host.net.syns, 0,
        "there is no address to send them to"
    );
    let counters = world.host.stack.counters();
    assert_eq!(counters.end_timed_out, 500);
    assert!(counters.neighbour_unreachable + counters.waited_for_neighbour >= 500);
    world.host.assert_full();
    world.close();
}

fn no_answer() {
    let mut world = World::new(eal(), Answer::Arp, TcpConfig::default());
    let sockets = connect(&mut world, 100);
    let began = world.now;
    world.run(|host| host.stack.connections() == 0);
    let took = world.now.saturating_since(began);
    let limit = TcpConfig::default().syn_timeout;
    assert!(took >= limit - SECOND && took <= limit + SECOND, "{took:?}");
    for socket in &sockets {
        assert_eq!(world.host.end(*socket), Some(CloseReason::TimedOut));
    }
    // After 0, 1, 3, 7, 15, 31, 63 and 123 seconds.
    assert_eq!(world.host.net.syns, 800);
    assert_eq!(world.host.stack.counters().end_timed_out, 100);
    assert_eq!(world.host.stack.tcp_counters().timed_out, 100);
    world.host.assert_full();
    world.close();
}

fn the_peer_vanishes() {
    vanish(None);
}

fn the_peer_vanishes_with_tls() {
    vanish(Some(&Pki::new()));
}

fn vanish(tls: Option<&Pki>) {
    let mut world = World::new(eal(), Answer::Keep, TcpConfig::default());
    let (socket, _peer) = world.meet(tls);
    world.host.net.answer = Answer::None;
    let host = &mut world.host;
    let queued = host
        .stack
        .send(socket, &[7; 100_000], false, &mut host.pages);
    // Two windows may be queued.
    assert!(matches!(queued, Ok(30_000..)), "{queued:?}");
    let began = world.now;
    world.run(|host| host.stack.connections() == 0);
    let took = world.now.saturating_since(began);
    let limit = TcpConfig::default().user_timeout;
    assert!(took >= limit - SECOND && took <= limit + SECOND, "{took:?}");
    assert_eq!(world.host.end(socket), Some(CloseReason::TimedOut));
    assert_eq!(world.host.stack.counters().end_timed_out, 1);
    let tcp = world.host.stack.tcp_counters();
    assert!(tcp.timeouts >= 8 && tcp.bytes_retransmitted > 0, "{tcp:?}");
    world.host.assert_full();
    world.close();
}

fn the_peer_vanishes_in_silence() {
    let keepalive = Keepalive::default();
    let tcp = TcpConfig {
        keepalive: Some(keepalive),
        ..TcpConfig::default()
    };
    let mut world = World::new(eal(), Answer::Keep, tcp);
    let (socket, _peer) = world.meet(Some(&Pki::new()));
    world.host.net.answer = Answer::None;
    let began = world.now;
    world.run(|host| host.stack.connections() == 0);
    let took = world.now.saturating_since(began);
    let limit = keepalive.idle + keepalive.interval * u32::from(keepalive.count);
    assert!(took >= limit - SECOND && took <= limit + SECOND, "{took:?}");
    assert_eq!(world.host.end(socket), Some(CloseReason::TimedOut));
    let probes = world.host.stack.tcp_counters().keepalives;
    assert_eq!(probes, u64::from(keepalive.count));
    world.host.assert_full();
    world.close();
}

fn half_open_for_ever() {
    let mut world = World::new(eal(), Answer::Arp, TcpConfig::default());
    let to = Ipv4Addr::new(198, 18, 0, 1);
    let at = SocketAddr::new(to.into(), 443);
    assert_eq!(at.ip(), address(1, false));
    world
        .host
        .stack
        .listen(at, ListenConfig::default())
        .expect("a listener");
    let mac = world.port.mac();
    for port in 0..200 {
        world
            .host
            .receive(world.now, &abandoned_syn((mac, to), 10_000 + port));
        // Only a few answers wait until the peer's address is known.
        while world.turn() {}
    }
    assert_eq!(world.host.stack.half_open(), 200);
    world.run(|host| host.stack.half_open() == 0);
    let counters = world.host.stack.counters();
    assert_eq!((counters.half_open_timed_out, counters.accepted), (200, 0));
    // The first and five more.
    assert_eq!(world.host.net.syns, 200 * 6);
    assert!(world.host.notices.is_empty());
    world.host.assert_full();
    world.close();
}

fn connect(world: &mut World, count: u32) -> Vec<SocketId> {
    let to = SocketAddr::new(address(200, false), 443);
    let stack = &mut world.host.stack;
    (0..count)
        .map(|_| {
            stack
                .connect(world.now, to, ConnectConfig::default())
                .expect("a way there")
        })
        .collect()
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel says");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let number = line
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number");
    number << 10
}

const GIB: u64 = 1 << 30;
const MUCH: u64 = 4 * GIB + (64 << 20);
const SECOND: Duration = Duration::from_secs(1);
/// What a turn takes, by the tests' own clock.
const TURN: Duration = Duration::from_micros(10);

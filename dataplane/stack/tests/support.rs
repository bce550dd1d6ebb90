//! Two stacks, a wire between them, and a clock that jumps.

#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod app;
pub(crate) mod away;
pub(crate) mod cases;
pub(crate) mod file;
pub(crate) mod link;
pub(crate) mod linux;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod pki;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod scene;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lockgate_ip::{Cidr, Interface};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::tls::{TlsClient, TlsServer};
use lockgate_stack::{
    ConnectConfig, Env, Limits, ListenConfig, Notice, Recv, SocketId, Stack, StackConfig,
};
use lockgate_wire::{IfaceId, Instant, MacAddr};
use pktbuf::{
    HeapBuffers, Info, LARGE_CAPACITY, NotSent, Output, Packet, PageBuf, PagePool, PoolConfig,
    Region, Room, SMALL_CAPACITY, TxError, gso,
};

use self::away::LatePool;
use self::link::Link;

/// An interface that keeps the frames it is given, as bytes.
pub(crate) struct Wire {
    pub(crate) info: Info,
    pub(crate) frames: VecDeque<Vec<u8>>,
    /// Frames that it holds before it has no room.
    pub(crate) capacity: u32,
}

impl Wire {
    pub(crate) fn new(mac: MacAddr, mtu: u16) -> Self {
        Self::with(mac, mtu, true)
    }

    fn with(mac: MacAddr, mtu: u16, tso: bool) -> Self {
        let info = Info {
            mtu,
            mac: Some(mac),
            tso_bytes_max: if tso { 64 * 1024 } else { 0 },
            entries_max: 17,
            link_up: true,
            ..Info::default()
        };
        Self {
            info,
            frames: VecDeque::new(),
            capacity: 4096,
        }
    }
}

/// Frames of one packet, as a port without segmentation takes them.
const FRAMES_MAX: u32 = 256;

impl Output for Wire {
    fn info(&self, _on: IfaceId) -> Info {
        self.info
    }

    fn room(&self, _on: IfaceId) -> Room {
        let used = u32::try_from(self.frames.len()).unwrap();
        let packets = self.capacity.saturating_sub(used) / 64;
        Room {
            packets,
            entries: packets * 18,
        }
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        // As the drivers' list of frames does.
        if gso::frames(&packet) > FRAMES_MAX {
            return Err(TxError::TooBig);
        }
        let frames = &mut self.frames;
        let l2 = self.info.mac.map_or(0, |_| 14);
        let longest = usize::from(self.info.mtu) + l2;
        gso::segment(&packet, |head, payload| {
            if packet.meta.protocol == pktbuf::L4::Tcp {
                gso::finish_checksum(head, payload)?;
            }
            let len = head.len() + payload.iter().map(|s| s.len as usize).sum::<usize>();
            assert!(len <= longest, "a frame of {len} bytes where {longest} fit");
            let mut frame = vec![0; len];
            pktbuf::copy_frame(head, payload, &mut frame)?;
            frames.push_back(frame);
            Ok::<(), NotSent>(())
        })?;
        Ok(())
    }
}

/// A stack with everything it works with.
pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) pages: PagePool,
    pub(crate) ciphers: Ciphers,
    pub(crate) net: Wire,
    pub(crate) buffers: HeapBuffers,
    pub(crate) addr: IpAddr,
    /// Packets dropped because there was no received buffer.
    pub(crate) missed: u64,
    /// Packets per call of `poll`.
    pub(crate) budget: u32,
    /// Whether turns take steps of TLS handshakes.
    pub(crate) takes_steps: bool,
    _region: Region,
}

/// How a host is made.
pub(crate) struct HostSpec {
    pub(crate) addr: IpAddr,
    /// The length of the link's prefix, if it isn't 24 or 64.
    pub(crate) length: Option<u8>,
    /// An address in another network of the same link.
    pub(crate) other_addr: Option<IpAddr>,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u16,
    /// Whether the interface takes packets of 64 KiB, or one frame at a time.
    pub(crate) tso: bool,
    pub(crate) pool: PoolConfig,
    pub(crate) buffers: u32,
    pub(crate) config: StackConfig,
    pub(crate) secret: u64,
    /// Whether records are sealed and opened elsewhere, by queues that take so many.
    pub(crate) away: Option<usize>,
}

impl HostSpec {
    /// Host number 1 or 2 of the test network.
    pub(crate) fn new(number: u8) -> Self {
        Self {
            addr: IpAddr::from([10, 0, 0, number]),
            length: None,
            other_addr: None,
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            mtu: 1500,
            tso: true,
            pool: PoolConfig {
                blocks: 2048,
                small_spans: 512,
                large_spans: 256,
            },
            buffers: 2048,
            config: StackConfig::default(),
            secret: u64::from(number),
            away: None,
        }
    }

    pub(crate) fn v6(number: u8) -> Self {
        let addr = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]);
        Self {
            addr,
            ..Self::new(number)
        }
    }

    pub(crate) fn build(mut self) -> Host {
        let usual = if self.addr.is_ipv4() { 24 } else { 64 };
        let length = self.length.unwrap_or(usual);
        let interface = Interface {
            id: IfaceId(0),
            mac: Some(self.mac),
            mtu: self.mtu,
            vlan: None,
        };
        let address = Cidr::new(self.addr, length).unwrap();
        let other = self.other_addr.and_then(|addr| Cidr::new(addr, length));
        let addresses = core::iter::once(address).chain(other).collect();
        self.config.interfaces = vec![(interface, addresses)];
        small_tables(&mut self.config);
        let secret = [
            self.secret,
            self.secret ^ 1,
            self.secret ^ 2,
            self.secret ^ 3,
        ];
        let mut region = Region::heap(PagePool::bytes_needed(self.pool)).unwrap();
        Host {
            stack: Stack::new(Instant::ZERO, self.config, secret).unwrap(),
            pages: PagePool::new(&mut region, self.pool).unwrap(),
            ciphers: match self.away {
                Some(room) => Ciphers::new(BackendChoice::Auto, 64)
                    .with_away(Box::new(LatePool::new(room, self.secret))),
                None => Ciphers::new(BackendChoice::Auto, 64),
            },
            net: Wire::with(self.mac, self.mtu, self.tso),
            buffers: HeapBuffers::new(self.buffers),
            addr: self.addr,
            missed: 0,
            budget: 64,
            takes_steps: true,
            _region: region,
        }
    }
}

/// Tables are allocated at the start; a thousand tests shouldn't each allocate a server's.
fn small_tables(config: &mut StackConfig) {
    let (limits, default) = (&mut config.limits, Limits::default());
    // A test that sets a limit means it.
    let shrink = |limit: &mut u32, default, small| {
        if *limit == default {
            *limit = small;
        }
    };
    shrink(&mut limits.connections_max, default.connections_max, 1100);
    shrink(&mut limits.half_open_max, default.half_open_max, 256);
    shrink(&mut limits.time_wait_max, default.time_wait_max, 256);
    shrink(&mut limits.ranges_max, default.ranges_max, 8192);
}

impl Host {
    /// Runs a method of the stack with the host's environment.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut Stack, &mut Env<'_, Wire>) -> R) -> R {
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.net,
        };
        f(&mut self.stack, &mut env)
    }

    /// Gives a frame to the stack.
    pub(crate) fn receive(&mut self, now: Instant, frame: &[u8]) {
        match self.buffers.alloc(frame) {
            Some(buffer) => {
                self.with(|stack, env| stack.on_packet(now, IfaceId(0), buffer, env));
            }
            None => self.missed += 1,
        }
    }

    /// One turn of a worker's loop without receiving; true if there's more to do now.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        let (budget, has_steps) = (self.budget, self.takes_steps);
        self.with(|stack, env| {
            if stack.next_timer().is_some_and(|at| at <= now) {
                stack.on_timer(now, env);
            }
            let steps = has_steps && stack.step_handshake(now, env);
            // Nothing but steps may be left, which the test takes.
            (stack.poll(now, env, budget) && has_steps) || steps
        })
    }

    pub(crate) fn send(&mut self, socket: SocketId, bytes: &[u8]) -> u32 {
        self.stack
            .send(socket, bytes, false, &mut self.pages)
            .unwrap()
    }

    /// Receives everything there is; the bytes, and whether the end came (and how).
    pub(crate) fn drain(&mut self, socket: SocketId) -> (Vec<u8>, Option<bool>) {
        let mut bytes = Vec::new();
        loop {
            match self.stack.recv(socket, &mut self.ciphers, &mut self.pages) {
                Ok(Recv::Data(chunk)) => chunk.pieces().for_each(|p| bytes.extend_from_slice(p)),
                Ok(Recv::Nothing) | Err(_) => return (bytes, None),
                Ok(Recv::End { clean }) => return (bytes, Some(clean)),
            }
        }
    }

    /// Takes every page buffer that is free.
    pub(crate) fn hold_pages(&mut self) -> Vec<PageBuf> {
        let mut held = Vec::new();
        for capacity in [LARGE_CAPACITY, SMALL_CAPACITY] {
            held.extend(std::iter::from_fn(|| self.pages.alloc(capacity)));
        }
        held
    }

    /// Asserts that every buffer is back in its pool.
    pub(crate) fn assert_full(&mut self) {
        self.pages.reclaim();
        assert!(
            self.pages.is_full(),
            "page buffers are missing: {:?}",
            self.pages.usage()
        );
        assert!(
            self.buffers.is_full(),
            "received buffers are missing: {:?}",
            self.buffers.usage()
        );
    }
}

/// Two hosts, the link between them, and the time.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) link: Link,
    /// Time of an application's next turn.
    pub(crate) wake: Option<Instant>,
    /// Notices that the test hasn't read yet.
    pub(crate) notices_a: VecDeque<Notice>,
    pub(crate) notices_b: VecDeque<Notice>,
}

impl World {
    pub(crate) fn new(a: HostSpec, b: HostSpec, link: Link) -> Self {
        Self {
            now: Instant::from_millis(1000),
            a: a.build(),
            b: b.build(),
            link,
            wake: None,
            notices_a: VecDeque::new(),
            notices_b: VecDeque::new(),
        }
    }

    /// A plain pair with a perfect link.
    pub(crate) fn simple() -> Self {
        Self::new(HostSpec::new(1), HostSpec::new(2), Link::perfect())
    }

    pub(crate) fn b_addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.b.addr, port)
    }

    /// B listens on a port, with TLS or without.
    pub(crate) fn listen(&mut self, port: u16, tls: Option<Arc<TlsServer>>) {
        let at = self.b_addr(port);
        let config = ListenConfig {
            tls,
            ..ListenConfig::default()
        };
        self.b.stack.listen(at, config).unwrap();
    }

    /// A opens a connection to B's port 443, with TLS or without.
    pub(crate) fn connect(&mut self, tls: Option<Arc<TlsClient>>) -> SocketId {
        let at = self.b_addr(443);
        let config = ConnectConfig {
            tls: tls.map(|tls| (tls, pki::name())),
            ..ConnectConfig::default()
        };
        self.a.stack.connect(self.now, at, config).unwrap()
    }

    /// Both ends of a new TLS connection.
    pub(crate) fn tls_pair(&mut self, tls: Arc<TlsClient>) -> (SocketId, SocketId) {
        let a = self.connect(Some(tls));
        assert_eq!(self.handshake_done(0), a);
        (a, self.handshake_done(1))
    }

    /// The socket of the next handshake that a host has done.
    pub(crate) fn handshake_done(&mut self, of: usize) -> SocketId {
        self.expect(of, "HandshakeDone", |n| match n {
            Notice::HandshakeDone(socket, _) => Some(*socket),
            _ => None,
        })
    }

    /// From now on the link loses every segment with payload from B.
    pub(crate) fn lose_answers(&mut self) {
        self.link.filter = Some(Box::new(|from, frame| {
            from == 1 && !link::payload(frame).is_empty()
        }));
    }

    /// Brings what A has sent to B. Nothing is sent in answer.
    pub(crate) fn deliver(&mut self) {
        self.settle();
        self.now = self.link.next().unwrap();
        while let Some((to, frame)) = self.link.take(self.now) {
            let host = if to == 0 { &mut self.a } else { &mut self.b };
            host.receive(self.now, &frame);
        }
    }

    /// Does everything that can be done now. Frames go onto the link.
    pub(crate) fn settle(&mut self) {
        loop {
            let more = self.a.turn(self.now) | self.b.turn(self.now);
            while let Some(frame) = self.a.net.frames.pop_front() {
                self.link.put(self.now, 0, frame);
            }
            while let Some(frame) = self.b.net.frames.pop_front() {
                self.link.put(self.now, 1, frame);
            }
            while let Some(notice) = self.a.stack.poll_notice() {
                self.notices_a.push_back(notice);
            }
            while let Some(notice) = self.b.stack.poll_notice() {
                self.notices_b.push_back(notice);
            }
            if !more {
                return;
            }
        }
    }

    /// Advances to the next event, unless it is after `until`. Returns whether there was one.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        self.settle();
        let next = [
            self.wake,
            self.link.next(),
            self.a.stack.next_timer(),
            self.b.stack.next_timer(),
        ];
        let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        // All frames of a burst before anything is sent in answer.
        while let Some((to, frame)) = self.link.take(self.now) {
            let host = if to == 0 { &mut self.a } else { &mut self.b };
            host.receive(self.now, &frame);
        }
        self.settle();
        true
    }

    /// Runs until nothing happens any more, or for `limit`.
    pub(crate) fn run(&mut self, limit: Duration) {
        let until = self.now + limit;
        while self.step(until) {}
        self.now = until;
        self.settle();
    }

    /// Runs until `done`; false if that isn't reached within `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let until = self.now + limit;
        // Applications may have had something to do that only they knew of, several times over when
        // allocations fail.
        let mut idle = 0;
        while idle < 50 {
            if done(self) {
                return true;
            }
            // What the applications did may have been the last thing.
            self.settle();
            if done(self) {
                return true;
            }
            idle = if self.step(until) { 0 } else { idle + 1 };
        }
        done(self)
    }

    /// The next notice of host B (A with `of` 0) that `want` takes; those before it are dropped.
    pub(crate) fn expect<T>(
        &mut self,
        of: usize,
        what: &str,
        mut want: impl FnMut(&Notice) -> Option<T>,
    ) -> T {
        let until = self.now + Duration::from_secs(30);
        loop {
            // What the applications did may have been the last thing.
            self.settle();
            let list = if of == 0 {
                &mut self.notices_a
            } else {
                &mut self.notices_b
            };
            while let Some(notice) = list.pop_front() {
                if let Some(found) = want(&notice) {
                    return found;
                }
            }
            assert!(self.step(until), "host {of} never said {what}");
        }
    }
}

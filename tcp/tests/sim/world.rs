//! Two hosts and the path between them, driven by one clock.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use lockgate_wire::Instant;

use crate::host::{AppConfig, End, Host};
use crate::link::{Link, LinkConfig, Packet};

/// The two hosts; 0 connects, 1 listens (or connects as well).
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: [Host; 2],
    /// `links[i]` carries what host `i` sends.
    pub(crate) links: [Link; 2],
    heap: BinaryHeap<Reverse<(Instant, u64, usize, usize)>>,
    packets: Vec<Option<Packet>>,
    free: Vec<usize>,
    serial: u64,
    pub(crate) steps: u64,
    /// Whether each packet is printed: `LOCKGATE_TRACE=1`.
    trace: bool,
    /// When a stream last grew or ended.
    pub(crate) last_useful: Instant,
}

impl World {
    pub(crate) fn new(hosts: [Host; 2], links: [LinkConfig; 2], seed: u64) -> Self {
        let [a, b] = links;
        Self {
            now: Instant::from_secs(1),
            hosts,
            links: [Link::new(a, seed ^ 0xaaaa), Link::new(b, seed ^ 0x5555)],
            heap: BinaryHeap::new(),
            packets: Vec::new(),
            free: Vec::new(),
            serial: 0,
            steps: 0,
            trace: std::env::var_os("LOCKGATE_TRACE").is_some(),
            last_useful: Instant::ZERO,
        }
    }

    /// Runs until both ends are over or until `limit`. Returns whether they are over.
    pub(crate) fn run(&mut self, limit: Instant) -> bool {
        loop {
            for i in 0..2 {
                self.hosts[i].tick(self.now);
                self.flush(i);
            }
            if self.hosts.iter().all(Host::is_over) && self.heap.is_empty() {
                return true;
            }
            if !self.step(limit) {
                return self.hosts.iter().all(Host::is_over);
            }
        }
    }

    /// Processes the next event. False if it is after `limit` or there is none.
    fn step(&mut self, limit: Instant) -> bool {
        let wakes = self
            .hosts
            .iter()
            .filter(|h| !h.is_over())
            .filter_map(Host::wake)
            .min();
        let arrival = self.heap.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = wakes.into_iter().chain(arrival).min() else {
            return false;
        };
        if next > limit {
            return false;
        }
        self.now = self.now.max(next);
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            for host in &self.hosts {
                if let End::Open(conn) = &host.end {
                    conn.check(&host.sh);
                }
            }
        }
        while let Some(Reverse((at, _, to, slot))) = self.heap.peek().copied() {
            if at > self.now {
                break;
            }
            self.heap.pop();
            let packet = self.packets[slot]
                .take()
                .expect("a packet is delivered once");
            self.free.push(slot);
            let before = (self.hosts[to].received(), self.hosts[to].peer_closed);
            self.hosts[to].receive(self.now, &packet);
            if before != (self.hosts[to].received(), self.hosts[to].peer_closed) {
                self.last_useful = self.now;
            }
            self.flush(to);
        }
        true
    }

    /// Sends what a host has to send.
    fn flush(&mut self, from: usize) {
        let Self {
            now,
            hosts,
            links,
            heap,
            packets,
            free,
            serial,
            trace,
            ..
        } = self;
        hosts[from].transmit(*now, &mut |packet| {
            let arrivals = links[from].send(*now, &packet);
            if *trace {
                trace_packet(*now, from, &packet, arrivals);
            }
            for at in arrivals.into_iter().flatten() {
                let slot = free.pop().unwrap_or_else(|| {
                    packets.push(None);
                    packets.len() - 1
                });
                packets[slot] = Some(packet.clone());
                *serial += 1;
                heap.push(Reverse((at, *serial, 1 - from, slot)));
            }
        });
    }

    /// One line for failures.
    pub(crate) fn summary(&self) -> String {
        let host = |h: &Host| {
            let end = match &h.end {
                End::Open(conn) => format!("{:?}", conn.state()),
                other => format!("{other:?}").chars().take(40).collect(),
            };
            format!(
                "{end}, got {}, read and sent as {:?}\n    {:?}\n    {:?}\n    {:?}",
                h.received(),
                h.app,
                h.sh.counters,
                h.notes,
                h.info()
            )
        };
        format!(
            "at {:?}\n  {}\n  {}\n  {:?}\n  {:?}",
            self.now,
            host(&self.hosts[0]),
            host(&self.hosts[1]),
            self.links[0],
            self.links[1]
        )
    }
}

/// Prints a packet like tcpdump.
fn trace_packet(now: Instant, from: usize, packet: &Packet, arrivals: [Option<Instant>; 2]) {
    let tcp = &packet.tcp;
    println!(
        "{:9.3} {} {:?} at {} len {} (seq {} ack {} win {}) {:?} {}",
        now.as_micros() as f64 / 1000.0,
        ["->", "  <-"][from],
        tcp.flags,
        packet.tag,
        packet.len,
        tcp.seq.0,
        tcp.ack.0,
        tcp.window,
        tcp.options.sack,
        if arrivals[0].is_none() { "LOST" } else { "" },
    );
}

/// A host of an ordinary connection.
pub(crate) fn host(
    index: u16,
    config: lockgate_tcp::TcpConfig,
    app: AppConfig,
    mss: u16,
    ranges: u32,
    seed: u64,
) -> Host {
    let ports = [40_000, 443];
    let opening = lockgate_tcp::OpenParams {
        local_port: ports[usize::from(index)],
        remote_port: ports[usize::from(1 - index)],
        ipv6: false,
        mss,
        // Near the end of the sequence space, so that every long enough run wraps.
        isn: lockgate_wire::SeqNum(0u32.wrapping_sub(low(seed % 100_000))),
        ts_offset: low(seed),
    };
    Host::new(config, app, opening, ranges, seed)
}

fn low(n: u64) -> u32 {
    u32::try_from(n & 0xffff_ffff).expect("masked")
}

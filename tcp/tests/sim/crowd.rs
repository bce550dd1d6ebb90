//! One worker with many peers: fair ones that download, and hostile ones that try to use up its
//! slab of sent ranges. The fair ones must be served as if the others only existed.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BinaryHeap;

use lockgate_tcp::{
    Connection, Event, HalfOpen, HalfOpenTimer, HalfOpenVerdict, OpenParams, SegmentIn, Shared,
    SharedParams, State, TcpConfig,
};
use lockgate_testing::Random;
use lockgate_wire::tcp::{Flags, SackBlock, TcpHeader, TcpOptions};
use lockgate_wire::{Instant, SeqNum, StreamOffset};

/// What a hostile peer does once it has been sent something.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Reports one byte of each segment, and acknowledges nothing.
    OneByte,
    /// Reports every second byte.
    SecondBytes,
    /// Acknowledges a byte now and then, so that no time-out ends it, and reports single bytes at
    /// both ends.
    Slow,
    /// Opens and closes its window.
    Window,
    /// Says nothing.
    Silent,
}

/// The other end of a connection.
#[expect(clippy::large_enum_variant, reason = "a test has a few hundred")]
enum Peer {
    Fair(Connection),
    Hostile {
        attack: Attack,
        /// Sequence numbers: its own, and what it has and was sent of the stream.
        seq: SeqNum,
        acked: u64,
        sent: u64,
        segments: u64,
    },
}

struct Pair {
    half: Option<HalfOpen>,
    server: Option<Connection>,
    peer: Peer,
    queued: u64,
    opened: Instant,
    done: Option<Instant>,
    /// When both ends look at their timers next.
    wake: Instant,
    /// Draws losses. A path's losses don't depend on other connections.
    random: Random,
}

struct Packet {
    tcp: TcpHeader,
    len: u32,
}

struct Crowd {
    now: Instant,
    sh: Shared,
    peers: Shared,
    pairs: Vec<Pair>,
    heap: BinaryHeap<Reverse<(Instant, u64, usize, bool)>>,
    packets: Vec<Option<Packet>>,
    fair: u64,
    events: u64,
}

impl Crowd {
    fn new(ranges: u32, connections: u32, seed: u64) -> Self {
        let config = TcpConfig {
            user_timeout: Duration::from_secs(30),
            time_wait: Duration::from_secs(1),
            ..TcpConfig::default()
        };
        let shared = |ranges| {
            let params = SharedParams {
                ranges,
                connections,
                challenge_seed: seed,
                ranges_seed: seed,
            };
            Shared::new(config.clone(), &params)
        };
        Self {
            now: Instant::from_secs(1),
            sh: shared(ranges),
            peers: shared(1 << 20),
            pairs: Vec::new(),
            heap: BinaryHeap::new(),
            packets: Vec::new(),
            fair: 0,
            events: 0,
        }
    }

    fn params(&self, index: usize, server: bool, mss: u16) -> OpenParams {
        let port = u16::try_from(10_000 + index).expect("few connections");
        OpenParams {
            local_port: if server { 443 } else { port },
            remote_port: if server { port } else { 443 },
            ipv6: false,
            mss,
            isn: SeqNum(if server { ISS } else { IRS }),
            ts_offset: 0,
        }
    }

    /// A peer opens a connection. `attack` is none for a fair one.
    fn open(&mut self, attack: Option<Attack>) {
        let index = self.pairs.len();
        let peer = match attack {
            None => {
                let mut conn =
                    Connection::connect(self.now, &self.params(index, false, 1460), &self.peers);
                conn.room(1 << 20);
                Peer::Fair(conn)
            }
            Some(attack) => Peer::Hostile {
                attack,
                seq: SeqNum(IRS),
                acked: 0,
                sent: 0,
                segments: 0,
            },
        };
        self.pairs.push(Pair {
            half: None,
            server: None,
            peer,
            queued: if attack.is_none() {
                FAIR_BYTES
            } else {
                1 << 30
            },
            opened: self.now,
            done: None,
            wake: self.now,
            random: Random::new(self.fair),
        });
        self.fair += u64::from(attack.is_none());
        if attack.is_some() {
            let options = TcpOptions {
                mss: Some(88),
                sack_permitted: true,
                window_scale: Some(10),
                ..TcpOptions::NONE
            };
            let syn = TcpHeader {
                src_port: self.params(index, false, 88).local_port,
                dst_port: 443,
                seq: SeqNum(IRS),
                ack: SeqNum(0),
                flags: Flags::SYN,
                window: u16::MAX,
                urgent: 0,
                options,
            };
            self.send(index, true, syn, 0, false);
        }
        self.transmit(index);
    }

    /// Puts a packet on the way; a fair peer's path loses one of a hundred.
    fn send(&mut self, index: usize, to_server: bool, tcp: TcpHeader, len: u32, lossy: bool) {
        if lossy && self.pairs[index].random.chance(1, 100) {
            return;
        }
        let slot = self.packets.len();
        self.packets.push(Some(Packet { tcp, len }));
        let code = slot * 4096 + index;
        let serial = u64::try_from(code).expect("few packets");
        self.heap
            .push(Reverse((self.now + DELAY, serial, code, to_server)));
    }

    /// Sends what both ends of a connection have to send, and fires their timers.
    fn transmit(&mut self, index: usize) {
        let mut out = Vec::new();
        let now = self.now;
        let pair = &mut self.pairs[index];
        let mut wake = Instant::MAX;
        if let Some(half) = &mut pair.half {
            if let HalfOpenTimer::Retransmit(header) = half.on_timer(now, &mut self.sh) {
                out.push((false, header, 0));
            }
            wake = half.deadline();
        }
        if let Some(conn) = &mut pair.server
            && conn.deadline().is_some_and(|at| at <= now)
            && conn.on_timer(now, &mut self.sh).is_over()
        {
            pair.server = None;
        }
        if let Some(conn) = &mut pair.server {
            while let Some(intent) = conn.poll_transmit(now, &self.sh) {
                let mss = u32::from(intent.mss);
                let (header, sent) = conn.commit(intent, mss, now, &mut self.sh);
                out.push((false, header, sent.len));
            }
        }
        let mut lossy = false;
        if let Peer::Fair(conn) = &mut pair.peer {
            lossy = true;
            if conn.deadline().is_some_and(|at| at <= now) {
                let _ = conn.on_timer(now, &mut self.peers);
            }
            while let Some(intent) = conn.poll_transmit(now, &self.peers) {
                let (header, sent) = conn.commit(intent, 1460, now, &mut self.peers);
                out.push((true, header, sent.len));
            }
        }
        for conn in [&pair.server].into_iter().flatten() {
            wake = wake.min(conn.deadline().unwrap_or(Instant::MAX));
        }
        if let Peer::Fair(conn) = &pair.peer {
            wake = wake.min(conn.deadline().unwrap_or(Instant::MAX));
        }
        pair.wake = wake.max(now + Duration::from_micros(1));
        for (to_server, header, len) in out {
            self.send(index, to_server, header, len, lossy);
        }
    }

    fn receive(&mut self, index: usize, to_server: bool, packet: &Packet) {
        let segment = SegmentIn::new(&packet.tcp, packet.len);
        if to_server {
            self.server_receives(index, segment);
        } else {
            self.peer_receives(index, segment);
        }
        self.transmit(index);
    }

    fn server_receives(&mut self, index: usize, segment: SegmentIn<'_>) {
        let now = self.now;
        let params = self.params(index, true, 1460);
        let pair = &mut self.pairs[index];
        let mut answer = None;
        if let Some(half) = &mut pair.half {
            match half.on_segment(now, &segment, &mut self.sh) {
                HalfOpenVerdict::Established(mut conn) => {
                    conn.room(65_535);
                    conn.queued(StreamOffset(pair.queued));
                    conn.ready(StreamOffset(pair.queued));
                    pair.half = None;
                    pair.server = Some(conn);
                }
                HalfOpenVerdict::Reply(header) => answer = Some(header),
                HalfOpenVerdict::Drop | HalfOpenVerdict::Reset(_) | HalfOpenVerdict::Closed => {}
            }
        } else if pair.server.is_none()
            && let Some((half, header)) = HalfOpen::on_syn(now, &segment, &params, &self.sh)
        {
            pair.half = Some(half);
            answer = Some(header);
        }
        if let Some(conn) = &mut pair.server {
            let verdict = conn.on_segment(now, segment, &mut self.sh);
            answer = answer.or(verdict.answer);
            if verdict.event == Event::Connected && matches!(pair.peer, Peer::Fair(_)) {
                conn.close();
            }
            if verdict.event.is_over() || conn.state() == State::FinWait2 {
                let _ = conn.abort(&mut self.sh);
                pair.server = None;
            }
        }
        if let Some(header) = answer {
            self.send(index, false, header, 0, false);
        }
    }

    fn peer_receives(&mut self, index: usize, segment: SegmentIn<'_>) {
        let now = self.now;
        let pair = &mut self.pairs[index];
        let answer = match &mut pair.peer {
            Peer::Fair(conn) => {
                let verdict = conn.on_segment(now, segment, &mut self.peers);
                conn.room(1 << 20);
                if conn.received().0 == FAIR_BYTES && pair.done.is_none() {
                    pair.done = Some(now);
                }
                verdict.answer
            }
            Peer::Hostile {
                attack,
                seq,
                acked,
                sent,
                segments,
            } => {
                let tcp = segment.tcp;
                if tcp.flags.contains(Flags::SYN) {
                    *seq += 1;
                    Some(bare(tcp, *seq, 0, &[], u16::MAX))
                } else if segment.len > 0 {
                    let at = u64::from(tcp.seq.since(SeqNum(ISS) + 1));
                    let end = at + u64::from(segment.len);
                    *sent = (*sent).max(end);
                    *segments += 1;
                    answer_of(*attack, at, end, acked, *sent, *segments)
                        .map(|(blocks, window)| bare(tcp, *seq, *acked, &blocks, window))
                } else {
                    None
                }
            }
        };
        if let Some(header) = answer {
            self.send(index, true, header, 0, false);
        }
    }

    /// Runs until nothing more happens before `until`.
    fn run(&mut self, until: Instant) {
        loop {
            let wake = self.pairs.iter().map(|p| p.wake).min();
            let arrival = self.heap.peek().map(|Reverse((at, ..))| *at);
            let Some(next) = wake.into_iter().chain(arrival).min() else {
                return;
            };
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            while let Some(Reverse((at, _, code, to_server))) = self.heap.peek().copied()
                && at <= self.now
            {
                self.heap.pop();
                self.events += 1;
                if let Some(packet) = self.packets[code / 4096].take() {
                    self.receive(code % 4096, to_server, &packet);
                }
            }
            for index in 0..self.pairs.len() {
                if self.pairs[index].wake <= self.now {
                    self.transmit(index);
                }
            }
        }
    }
}

/// The blocks and the window that a hostile peer answers a segment with.
fn answer_of(
    attack: Attack,
    at: u64,
    end: u64,
    acked: &mut u64,
    sent: u64,
    segments: u64,
) -> Option<(Vec<(u64, u64)>, u16)> {
    // At first it takes everything, so that the congestion window grows.
    if segments < 1500 {
        *acked = (*acked).max(end);
        return Some((Vec::new(), u16::MAX));
    }
    let one = |at: u64| (at, at + 1);
    match attack {
        Attack::OneByte => Some((vec![one(at + 10)], u16::MAX)),
        Attack::SecondBytes => {
            let first = at + segments * 6 % 60;
            Some(((0..4).map(|i| one(first + 2 * i)).collect(), u16::MAX))
        }
        Attack::Slow => {
            *acked += u64::from(segments.is_multiple_of(16) && *acked < sent);
            let low = *acked + 5 + segments % 500 * 2;
            Some((vec![one(at + 10), one(low.min(sent - 1))], u16::MAX))
        }
        Attack::Window => Some((
            vec![one(at + 10)],
            if (segments / 8).is_multiple_of(2) {
                0
            } else {
                u16::MAX
            },
        )),
        Attack::Silent => None,
    }
}

fn bare(to: &TcpHeader, seq: SeqNum, ack: u64, blocks: &[(u64, u64)], window: u16) -> TcpHeader {
    let number = |at: u64| SeqNum(ISS) + 1 + u32::try_from(at).expect("a short stream");
    let sack = blocks
        .iter()
        .filter_map(|(start, end)| SackBlock::new(number(*start), number(*end)))
        .collect();
    TcpHeader {
        src_port: to.dst_port,
        dst_port: to.src_port,
        seq,
        ack: number(ack),
        flags: Flags::ACK,
        window,
        urgent: 0,
        options: TcpOptions {
            sack,
            ..TcpOptions::NONE
        },
    }
}

/// How long each of 100 downloads took that begin one after the other, beside so many hostile
/// peers.
fn downloads(hostile: usize) -> (Vec<Duration>, Crowd) {
    let mut crowd = Crowd::new(2048, 1000, 7);
    let attacks = [
        Attack::OneByte,
        Attack::SecondBytes,
        Attack::Slow,
        Attack::Window,
        Attack::Silent,
    ];
    for n in 0..hostile {
        crowd.open(Some(attacks[n % attacks.len()]));
    }
    crowd.run(Instant::from_secs(3));
    for n in 0..100 {
        crowd.open(None);
        crowd.run(Instant::from_secs(3) + Duration::from_millis(20) * n);
    }
    crowd.run(Instant::from_secs(25));
    let took = crowd
        .pairs
        .iter()
        .filter(|pair| matches!(pair.peer, Peer::Fair(_)))
        .map(|pair| pair.done.expect("served").saturating_since(pair.opened))
        .collect();
    (took, crowd)
}

/// The middle one and the slowest but one of some times.
fn middle_and_slow(took: &[Duration]) -> (Duration, Duration) {
    let mut took = took.to_vec();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 2])
}

/// Fair peers are served beside 300 hostile ones, about as fast as alone. Hostile ones that fall
/// silent time out, and everything is given back.
#[test]
fn fair_peers_are_served_beside_hostile_ones() {
    let alone = middle_and_slow(&downloads(0).0);
    let (took, mut crowd) = downloads(300);
    let beside = middle_and_slow(&took);
    println!(
        "{alone:?} alone, {beside:?} beside, {:?}",
        crowd.sh.counters
    );
    assert!(crowd.sh.counters.sack_splits_refused > 1000, "they tried");
    assert!(beside.0 <= alone.0 * 3 / 2, "{alone:?} {beside:?}");
    assert!(beside.1 <= alone.1 * 2, "{alone:?} {beside:?}");
    // What a packet and its answers took, whatever its sender sent before.
    let steps = crowd.sh.range_steps();
    assert!(steps < crowd.events * 400, "{steps} for {}", crowd.events);
    for pair in &mut crowd.pairs {
        if let Some(conn) = &mut pair.server {
            conn.check(&crowd.sh);
            let _ = conn.abort(&mut crowd.sh);
        }
    }
    assert_eq!(crowd.sh.ranges_used(), 0);
}

const ISS: u32 = 1_000_000;
const IRS: u32 = 5_000_000;
const FAIR_BYTES: u64 = 100_000;
const DELAY: Duration = Duration::from_millis(10);

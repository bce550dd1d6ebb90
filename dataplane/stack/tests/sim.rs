//! Bytes through two whole stacks and a bad wire: real headers and checksums, real records.
//!
//! Each seed draws a link, sizes, windows, pools and TLS. At the end both sides have exactly what
//! was sent, or, where the link died, a clean time-out; and neither time nor retransmissions are
//! out of proportion to what the link did. `LOCKGATE_SEED=n` runs one seed and says what it was
//! about; `LOCKGATE_SEEDS=n` runs so many.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_stack::{CloseReason, ConnectConfig, ListenConfig};
use lockgate_tcp::Keepalive;
use lockgate_testing::Random;
use lockgate_wire::Instant;
use pktbuf::PoolConfig;
use support::app::App;
use support::link::{Faults, Link};
use support::{HostSpec, World, pki};

/// What a seed is about.
#[derive(Debug)]
struct Scenario {
    seed: u64,
    faults: Faults,
    mtu: u16,
    v6: bool,
    suite: Option<usize>,
    /// Bytes from A to B, and back.
    bytes: [u64; 2],
    recv_buffer: [u32; 2],
    send_buffer: [u32; 2],
    lazy: [Duration; 2],
    nagle: bool,
    small_pools: bool,
    /// Allocations that fail: one in so many.
    failures: u32,
    /// Room in the queues of records that are sealed and opened elsewhere, if they are.
    away: [Option<usize>; 2],
}

impl Scenario {
    fn draw(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let delay = Duration::from_micros(random.pick(&[10, 100, 1000, 10_000, 50_000]));
        let dead = random.chance(40, 1000);
        let per_mille = |random: &mut Random| random.pick(&[0, 0, 1, 10, 30, 100]);
        Self {
            seed,
            faults: Faults {
                delay,
                jitter: delay * u32::try_from(random.pick(&[0, 0, 1, 3])).unwrap(),
                loss_per_mille: per_mille(random),
                duplicate_per_mille: per_mille(random),
                corrupt_per_mille: per_mille(random),
                rate: random.pick(&[0, 0, 1_000_000, 10_000_000, 100_000_000]),
                dead_from: dead.then(|| Instant::from_micros(1_000_000 + random.below(300_000))),
            },
            mtu: random.pick(&[1500, 1500, 1280, 576, 9000]),
            v6: random.chance(300, 1000),
            suite: random
                .chance(750, 1000)
                .then(|| usize::try_from(random.below(6)).unwrap()),
            bytes: [random.pick(&SIZES), random.pick(&SIZES)].map(|most| random.below(most + 1)),
            recv_buffer: [random.pick(&WINDOWS), random.pick(&WINDOWS)],
            send_buffer: [
                random.pick(&[4096, 65_536, 1 << 20]),
                random.pick(&[4096, 65_536, 1 << 20]),
            ],
            lazy: [random.pick(&LAZY), random.pick(&LAZY)].map(Duration::from_millis),
            nagle: random.chance(300, 1000),
            small_pools: random.chance(200, 1000),
            failures: random.pick(&[0, 0, 0, 20, 5]),
            away: [(); 2].map(|()| random.pick(&[None, None, Some(1), Some(3), Some(64)])),
        }
    }

    fn spec(&self, number: u8) -> HostSpec {
        let side = usize::from(number - 1);
        let mut spec = if self.v6 {
            HostSpec::v6(number)
        } else {
            HostSpec::new(number)
        };
        spec.mtu = if self.v6 {
            self.mtu.max(1280)
        } else {
            self.mtu
        };
        let (blocks, small_spans, large_spans) = if self.small_pools {
            (24, 8, 3)
        } else {
            (512, 128, 48)
        };
        spec.pool = PoolConfig {
            blocks,
            small_spans,
            large_spans,
        };
        spec.buffers = 256;
        spec.secret = self.seed;
        spec.away = self.away[side];
        let limits = &mut spec.config.limits;
        limits.recv_buffer_bytes = self.recv_buffer[side];
        limits.send_buffer_bytes = self.send_buffer[side];
        limits.send_low_water_bytes = self.send_buffer[side] / 2;
        // As the appliance's configuration does: unread bytes pin half of the received buffers at
        // most, so that the other half receives.
        limits.recv_total_bytes = u64::from(spec.buffers) * BUFFER_BYTES / 2;
        // A client's runs from its first SYN, which TCP sends for three minutes.
        spec.config.handshake_timeout = Duration::from_secs(300);
        // Keepalive detects a dead link at the side that only receives.
        spec.config.tcp.keepalive = Some(Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 5,
        });
        spec
    }

    fn run(&self) {
        let mut world = World::new(
            self.spec(1),
            self.spec(2),
            Link::new(self.seed, self.faults),
        );
        if self.failures > 0 {
            world.a.pages.inject_failures(self.seed, self.failures);
            world.b.pages.inject_failures(self.seed ^ 1, self.failures);
        }
        let tls = self
            .suite
            .map(|n| pki::only(pki::SUITES[n].0, pki::SUITES[n].1));
        let listen = ListenConfig {
            tls: tls.as_ref().map(pki::server),
            nagle: self.nagle,
            ..ListenConfig::default()
        };
        let at = world.b_addr(443);
        world.b.stack.listen(at, listen).unwrap();
        let config = ConnectConfig {
            tls: tls.as_ref().map(|tls| (pki::client(tls), pki::name())),
            nagle: self.nagle,
            ..ConnectConfig::default()
        };
        let mut a = App::new(self.seed, self.bytes[0], !self.seed, tls.is_some());
        let mut b = App::new(!self.seed, self.bytes[1], self.seed, tls.is_some());
        (a.lazy, b.lazy) = (self.lazy[0], self.lazy[1]);
        a.socket = Some(world.a.stack.connect(world.now, at, config).unwrap());

        let started = world.now;
        let over = world.run_until(Duration::from_secs(1200), |world| {
            while let Some(notice) = world.notices_a.pop_front() {
                a.on_notice(&notice);
            }
            while let Some(notice) = world.notices_b.pop_front() {
                b.on_notice(&notice);
            }
            while a.turn(world.now, &mut world.a) | b.turn(world.now, &mut world.b) {
                world.settle();
            }
            world.wake = [a.wake(), b.wake()].into_iter().flatten().min();
            a.closed.is_some() && (b.closed.is_some() || b.socket.is_none())
        });
        let took = world.now.saturating_since(started);
        assert_eq!((a.wrong, b.wrong), (None, None), "bytes are wrong");
        let short = (a.received, b.received) != (self.bytes[1], self.bytes[0]);
        if !over || (short && self.faults.dead_from.is_none()) {
            for (host, app) in [(&world.a, &a), (&world.b, &b)] {
                eprintln!(
                    "{app:?}, {:?}, timer {:?}",
                    host.stack,
                    host.stack.next_timer()
                );
                if let Some(socket) = app.socket {
                    eprintln!("{:#?}", host.stack.tcp_info(socket));
                }
                eprintln!("{}{:?}", host.stack.counters(), host.stack.tcp_counters());
            }
        }
        assert!(over, "not over after {took:?}");
        self.assert_outcome(&world, &a, &b, took);
        // TIME-WAIT and whatever the wire still holds.
        world.wake = None;
        world.run(Duration::from_secs(90));
        assert_eq!(world.a.stack.connections() + world.b.stack.connections(), 0);
        assert_eq!(
            world.a.stack.in_time_wait() + world.b.stack.in_time_wait(),
            0
        );
        world.a.assert_full();
        world.b.assert_full();
    }

    fn assert_outcome(&self, world: &World, a: &App, b: &App, took: Duration) {
        if self.faults.dead_from.is_some() {
            for app in [a, b] {
                let clean = matches!(
                    app.closed,
                    None | Some(CloseReason::Clean | CloseReason::TimedOut)
                ) || app.handshake_failure().is_some();
                assert!(clean, "{:?}", app.closed);
            }
            return;
        }
        assert_eq!(
            (a.received, b.received),
            (self.bytes[1], self.bytes[0]),
            "all bytes"
        );
        assert_eq!((a.end, b.end), (Some(true), Some(true)));
        // Of two closes that cross, a lost last acknowledgement may look like silence.
        assert_eq!(
            (a.closed, b.closed),
            (Some(CloseReason::Clean), Some(CloseReason::Clean))
        );
        self.assert_effort(world, took);
    }

    /// Expected duration without loss: the number of windows times the round trip, and the wire's
    /// rate.
    fn lossless_duration(&self) -> Duration {
        let rtt = (self.faults.delay + self.faults.jitter) * 2;
        let mut time = rtt * 10;
        for (from, to) in [(0, 1), (1, 0)] {
            let record = if self.suite.is_some() { 36_000 } else { 0 };
            let window = self.recv_buffer[to].max(record).min(self.send_buffer[from]);
            let rounds = u32::try_from(self.bytes[from] / u64::from(window)).unwrap() + 3;
            time += (rtt + self.lazy[to] + DELAYED_ACK) * rounds;
            if let Some(wire) = (self.bytes[from] * 2000).checked_div(self.faults.rate) {
                time += Duration::from_millis(wire);
            }
            if self.suite.is_some() {
                // A lazy application reads a small record at a time.
                let small = u32::try_from(self.bytes[from] / 512).unwrap_or(u32::MAX);
                time += self.lazy[to] * small.min(SMALL_RECORDS);
            }
        }
        time
    }

    /// Time, time-outs and retransmissions are bounded by what the wire did.
    fn assert_effort(&self, world: &World, took: Duration) {
        let tally = &world.link.tally;
        let (a, b) = (&world.a, &world.b);
        let refused = a.stack.counters().refused_payload + b.stack.counters().refused_payload;
        let dropped = tally.lost + tally.corrupted + tally.queue_drops;
        let harm = dropped + a.missed + b.missed + refused;
        let (ta, tb) = (a.stack.tcp_counters(), b.stack.tcp_counters());
        let resent = ta.bytes_retransmitted + tb.bytes_retransmitted;
        let timeouts = ta.timeouts + tb.timeouts;
        let fair = self.lossless_duration();
        let says = format!(
            "took {took:?} ({fair:?} is fair), {harm} frames harmed of {}, {resent} bytes and \
             {timeouts} time-outs for it",
            tally.frames,
        );
        if number("LOCKGATE_SEED").is_some() {
            println!("{says}\n{}{}", a.stack.counters(), b.stack.counters());
        }
        assert!(
            took <= self.lossless_duration() * 6 + Duration::from_secs(5 * harm),
            "{says}"
        );
        // A round trip of quite another length may look like a loss now and then.
        let spurious = if self.faults.jitter.is_zero() {
            2 * harm.min(1)
        } else {
            5
        };
        assert!(timeouts <= harm + spurious, "{says}");
        let mtu = u64::from(self.mtu);
        if self.faults.jitter.is_zero() {
            // A probe of a closed window is a byte sent twice.
            assert!(resent <= 64 + harm * 8 * mtu, "{says}");
        } else {
            // What is overtaken by three others looks lost.
            assert!(resent <= (tally.frames / 2 + 2) * mtu, "{says}");
        }
    }
}

fn run(seed: u64) {
    let scenario = Scenario::draw(seed);
    if std::env::var("LOCKGATE_SEED").is_ok() {
        println!("{scenario:#?}");
    }
    let result = std::panic::catch_unwind(|| scenario.run());
    if let Err(panic) = result {
        eprintln!("LOCKGATE_SEED={seed} failed: {scenario:?}");
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn both_sides_have_exactly_what_was_sent() {
    if let Some(seed) = number("LOCKGATE_SEED") {
        return run(seed);
    }
    let seeds = number("LOCKGATE_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for first in 0..threads as u64 {
            scope.spawn(move || (first..seeds).step_by(threads).for_each(run));
        }
    });
}

/// The link loses an ARP request and the first six SYNs. The connection waits for the seventh, as
/// long as TCP does.
#[test]
fn a_syn_that_is_lost_six_times_gets_through() {
    run(27_661);
}

/// An acknowledgement may be late by this, which a small window feels every time.
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// What a received buffer pins at least: its room for a frame.
const BUFFER_BYTES: u64 = 2048;
const LAZY: [u64; 4] = [0, 0, 1, 100];
/// As the configuration's default.
const SMALL_RECORDS: u32 = 40;
const SEEDS: u64 = 10_000;
const SIZES: [u64; 5] = [0, 100, 5000, 60_000, 300_000];
const WINDOWS: [u32; 5] = [2048, 8192, 65_536, 262_144, 1 << 20];

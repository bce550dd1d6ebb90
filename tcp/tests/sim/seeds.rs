//! Random worlds. Each seed draws a path, two configurations and two applications, and must end
//! with both sides having exactly what the other sent, or, where the path fails for good, with
//! both having given up. And it must end in a time, with a number of time-outs and of
//! retransmitted bytes, that its path explains.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use lockgate_tcp::congestion::Algorithm;
use lockgate_tcp::{Event, Keepalive, TcpConfig};
use lockgate_testing::Random;
use lockgate_wire::Instant;

use crate::host::{AppConfig, End, Host};
use crate::link::LinkConfig;
use crate::world::{World, host};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A world, and what is known about it beforehand.
struct Drawn {
    world: World,
    /// When the path fails for good.
    dies: Option<Instant>,
    outage: Duration,
    mss: [u16; 2],
}

fn draw(seed: u64) -> Drawn {
    let mut r = Random::new(seed);
    let mss = [
        r.pick(&[88, 536, 1000, 1460, 1460, 8960]),
        r.pick(&[536, 1460, 1460, 1460]),
    ];
    let dies = (seed % 20 == 7).then(|| Instant::from_secs(1) + ms(r.below(3_000)));
    let (mut links, outage) = draw_links(&mut r);
    if let Some(at) = dies {
        for link in &mut links {
            link.dead.push(at..Instant::MAX);
        }
    }
    let sack = [r.below(5) > 0, r.below(8) > 0];
    let timestamps = r.below(5) > 0;
    let scaling = r.below(5) > 0;
    let mut configs = [0, 1].map(|i| TcpConfig {
        congestion: r.pick(&[Algorithm::Cubic, Algorithm::NewReno]),
        window_max: r.pick(&[20_000, 100_000, 1 << 20]),
        nodelay: r.below(2) == 0,
        user_timeout: Duration::from_secs(200),
        // Without it, an end that has nothing to send would never know that the path is dead.
        keepalive: dies.map(|_| Keepalive {
            idle: Duration::from_secs(20),
            interval: Duration::from_secs(5),
            count: 5,
        }),
        sack: sack[i],
        timestamps,
        window_scaling: scaling,
        quick_acks: r.pick(&[0, 16]),
        ..TcpConfig::default()
    });
    let mut apps = [draw_app(&mut r), draw_app(&mut r)];
    for i in 0..2 {
        // Little windows carry little: a thousand of them are enough.
        let most = u64::from(apps[1 - i].receive_buffer) * 1000;
        apps[i].total = apps[i].total.min(most);
        // Most announce the size of their buffer; some announce more in the SYN. A buffer smaller
        // than the unit of the window scale could never be advertised.
        let buffer = apps[i].receive_buffer;
        let honest = !seed.is_multiple_of(8);
        if buffer < 65_535 && (honest || buffer < 4096) {
            configs[i].window_max = if honest { buffer } else { 65_535 };
        }
    }
    let ranges = if r.below(8) == 0 {
        r.between_u32(4, 40)
    } else {
        4000
    };
    let [config_a, config_b] = configs;
    let [app_a, app_b] = apps;
    let hosts = [
        host(0, config_a, app_a, mss[0], ranges, seed),
        host(1, config_b, app_b, mss[1], ranges, seed.wrapping_mul(3)),
    ];
    let mut world = World::new(hosts, links, seed);
    world.hosts[0].connect(world.now);
    if r.below(16) == 0 {
        // Both open at once.
        world.hosts[1].connect(world.now);
    }
    Drawn {
        world,
        dies,
        outage,
        mss,
    }
}

fn draw_links(r: &mut Random) -> ([LinkConfig; 2], Duration) {
    let delay = ms(r.pick(&[0, 1, 5, 20, 50, 150])) + Duration::from_micros(r.below(1000));
    let rate = r.pick(&[0, 0, 100_000, 1_000_000, 12_500_000]);
    let loss_ppm = r.pick(&[0, 0, 1_000, 10_000, 30_000, 100_000]);
    let bursts = r.below(6) == 0;
    let jitter = r.below(6) == 0;
    let reorder = r.below(6) == 0;
    let outage = if r.below(10) == 0 {
        ms(r.between(100, 8_000))
    } else {
        Duration::ZERO
    };
    let outage_at = Instant::from_secs(1) + ms(r.below(1_500));
    let links = [0, 1].map(|_| LinkConfig {
        delay,
        jitter: if jitter { delay / 2 } else { Duration::ZERO },
        rate,
        // Less than what a time-out waits at least, or a burst in one direction makes the other
        // time out.
        queue: (rate / 10).max(12_000),
        loss_ppm,
        burst_ppm: if bursts { 3_000 } else { 0 },
        burst_max: ms(10) + delay / 4,
        duplicate_ppm: r.pick(&[0, 0, 20_000]),
        reorder_ppm: if reorder { 20_000 } else { 0 },
        reorder_by: delay / 3 + ms(1),
        drop: Vec::new(),
        dead: if outage.is_zero() {
            Vec::new()
        } else {
            vec![outage_at..outage_at + outage]
        },
    });
    (links, outage)
}

fn draw_app(r: &mut Random) -> AppConfig {
    let slow = r.below(6) == 0;
    AppConfig {
        total: match r.below(8) {
            0 => 0,
            1 => r.between(1, 2_000),
            2 => r.between(200_000, 600_000),
            _ => r.between(1, 100_000),
        },
        send_buffer: r.pick(&[3_000, 50_000, 400_000]),
        write_max: r.pick(&[1, 100, 5_000, 100_000]).max(r.below(20_000)),
        stall_ppm: if r.below(4) == 0 { 100_000 } else { 0 },
        stall: ms(r.pick(&[1, 100, 700])),
        receive_buffer: match r.below(8) {
            0 => r.between_u32(1, 3_000),
            1 => r.between_u32(3_000, 20_000),
            _ => r.pick(&[30_000, 65_535, 500_000]),
        },
        read_every: if slow {
            ms(r.pick(&[1, 20, 300]))
        } else {
            Duration::ZERO
        },
        read_max: if slow {
            r.between_u32(500, 50_000)
        } else {
            u32::MAX
        },
        ready_after: if r.below(8) == 0 {
            ms(r.below(30))
        } else {
            Duration::ZERO
        },
        local_loss_ppm: if r.below(16) == 0 { 20_000 } else { 0 },
        burst: r.pick(&[u32::MAX, u32::MAX, 16_384, 1]),
    }
}

/// Runs and checks a seed; prints the world if a check fails.
fn run(seed: u64) -> World {
    let mut drawn = draw(seed);
    let judged = catch_unwind(AssertUnwindSafe(|| run_and_judge(&mut drawn)));
    if let Err(panic) = judged {
        eprintln!("{}", drawn.world.summary());
        resume_unwind(panic);
    }
    drawn.world
}

fn run_and_judge(drawn: &mut Drawn) {
    let Drawn {
        world,
        dies,
        outage,
        mss,
    } = drawn;
    let began = world.now;
    let ended = world.run(began + Duration::from_secs(3_600 * 10));
    if dies.is_some() {
        judge_dead(world);
    } else {
        assert!(ended, "it has not ended");
        judge_complete(world);
    }
    for host in &world.hosts {
        assert_eq!(host.sh.ranges_used(), 0, "every range is given back");
    }
    if dies.is_none() {
        bound_timeouts(world);
        bound_retransmissions(world, *mss);
        bound_time(world, began, *outage, *mss);
    }
}

fn judge_complete(world: &World) {
    let [a, b] = &world.hosts;
    assert_eq!(a.received(), b.app.total, "everything arrived");
    assert_eq!(b.received(), a.app.total, "everything arrived");
    assert!(a.peer_closed && b.peer_closed, "both streams ended");
    assert!(a.connected && b.connected);
    for host in &world.hosts {
        assert!(
            matches!(host.end, End::TimeWait(_) | End::Over(Event::Closed)),
            "closed in order: {:?}",
            host.end
        );
    }
}

/// The path died, perhaps after everything was exchanged: both hosts end, and what arrived is a
/// prefix (checked by the hosts).
fn judge_dead(world: &World) {
    for host in &world.hosts {
        assert!(
            matches!(
                host.end,
                End::TimeWait(_) | End::Listen | End::Over(Event::TimedOut | Event::Closed)
            ),
            "given up: {:?}",
            host.end
        );
    }
}

/// Every time-out is explained by a packet that was lost or sent too late.
///
/// The shortest time-out exceeds the variation of the path's delay by 200 ms, so a spurious one is
/// a fault. A lost packet explains one time-out: the packet itself was lost, or the one that would
/// have reported it. Both ends may time out for the same packet: a SYN-ACK, or data with an ACK.
fn bound_timeouts(world: &World) {
    let lost: u64 = world.links.iter().map(|l| l.counts.dropped).sum();
    let kept_back: u64 = world.hosts.iter().map(|h| h.notes.local_drops).sum();
    let blamed = lost + kept_back + refused(&world.hosts[0]) + refused(&world.hosts[1]);
    for host in &world.hosts {
        let timeouts = host.sh.counters.timeouts;
        assert!(
            timeouts <= blamed,
            "{timeouts} time-outs for {lost} lost packets"
        );
    }
}

/// Retransmitted bytes were lost, or looked lost.
///
/// - payload that the path lost, or the host itself, or that the receiver had no memory for
/// - payload of packets that were overtaken: three that pass make the fourth look lost
/// - at each time-out, everything in flight that was not reported received
/// - in each recovery, one segment that is sent again on suspicion (RFC 6675's rescue), and one
///   because a range is sent again as a whole if the segment size has changed in between
/// - without SACK, a window for each recovery that reordering or duplication may have caused: then
///   NewReno takes each further acknowledgment for a partial one (RFC 6582, section 4.1)
/// - one byte for each probe of a closed window
///
/// A sender that has no memory to split a burst's range at a SACK block's edge sends all of it
/// again; that is not bounded here.
fn bound_retransmissions(world: &World, mss: [u16; 2]) {
    let mss = u64::from(mss[0].max(mss[1]));
    for (i, (host, link)) in world.hosts.iter().zip(&world.links).enumerate() {
        let c = &host.sh.counters;
        if c.sack_splits_refused > 0 {
            continue;
        }
        let sack = world.hosts.iter().all(|h| h.sh.config.sack);
        let misleading = link.config.reorders() || link.counts.duplicated > 0;
        let explained = link.counts.dropped_payload
            + link.counts.delayed_payload
            + host.notes.local_lost
            + host.notes.flight_at_timeouts
            + mss * refused(&world.hosts[1 - i])
            + 2 * mss * c.recoveries
            + c.window_probes
            + if !sack && misleading {
                c.recoveries * host.app.send_buffer
            } else {
                0
            };
        assert!(
            c.bytes_retransmitted <= explained,
            "{} bytes sent again, {explained} explained",
            c.bytes_retransmitted
        );
    }
}

/// Segments as good as lost: out of order ones that a host had no memory to remember, and ones that
/// were overtaken by a whole window of acknowledgments (RFC 5961, section 5.2) or by a timestamp
/// (RFC 7323, section 5.3).
fn refused(host: &Host) -> u64 {
    let c = &host.sh.counters;
    c.reassembly_dropped + c.ranges_exhausted + c.bad_acks + c.paws_dropped
}

/// The duration, less the time spent in timers that losses explain, is bounded by the slowest part
/// of the path.
fn bound_time(world: &World, began: Instant, outage: Duration, mss: [u16; 2]) {
    let took = world.last_useful.saturating_since(began);
    let mut allowed = outage;
    let rtt = path_rtt(world);
    let sack = world.hosts.iter().all(|h| h.sh.config.sack);
    for i in 0..2 {
        let sender = &world.hosts[i];
        allowed += sender.notes.waited + sender.notes.stalled;
        allowed += needed(world, i, rtt, mss);
        // Slow start begins anew after each time-out, and each loss costs a round trip.
        let c = &sender.sh.counters;
        let mut round_trips = 12 + 8 * c.timeouts + 2 * c.recoveries + c.window_probes;
        if !sack {
            // NewReno repairs one hole in a round trip.
            round_trips += world.links[i].counts.dropped;
        }
        allowed += rtt * u32::try_from(round_trips).expect("few");
    }
    assert!(
        took <= allowed,
        "took {took:?}, allowed {allowed:?}, round trip {rtt:?}"
    );
}

fn path_rtt(world: &World) -> Duration {
    let one_way = |i: usize| {
        let c = &world.links[i].config;
        let queue = (c.queue.min(700_000) * 1000)
            .checked_div(c.rate)
            .unwrap_or(0);
        c.delay_max() + ms(queue)
    };
    one_way(0) + one_way(1) + ms(1)
}

/// How long host `i`'s stream takes at the rate of its narrowest part, doubled.
fn needed(world: &World, i: usize, rtt: Duration, mss: [u16; 2]) -> Duration {
    let (sender, receiver) = (&world.hosts[i], &world.hosts[1 - i]);
    let total = sender.app.total as f64;
    let segment = f64::from(mss[0].min(mss[1]) - 12 - 28);
    let delayed = sender.sh.config.delayed_ack;
    let rtt_s = (rtt + delayed).as_secs_f64();
    let mut window = f64::from(
        receiver
            .app
            .receive_buffer
            .min(receiver.sh.config.window_max),
    );
    window = window.min(65_535.0).min(sender.app.send_buffer as f64);
    // Silly window avoidance lets half of it be used.
    let mut rate = window / 2.0 / rtt_s;
    let link = &world.links[i].config;
    if link.rate > 0 {
        rate = rate.min(link.rate as f64 * segment / (segment + 100.0) / 2.0);
    }
    let p =
        f64::from(link.loss_ppm + link.burst_ppm) / 1e6 + if link.reorders() { 0.02 } else { 0.0 };
    if p > 0.0 {
        // Mathis et al. 1997: a window of about sqrt(3/2p) segments.
        rate = rate.min(segment / rtt_s * (1.0 / p).sqrt() / 2.0);
    }
    if !receiver.app.read_every.is_zero() {
        let each = f64::from(receiver.app.read_max.min(receiver.app.receive_buffer));
        rate = rate.min(each / receiver.app.read_every.as_secs_f64() / 2.0);
    }
    // Writes that aren't ready at once come one after the other.
    let writes = total / (sender.app.write_max.min(sender.app.send_buffer) as f64 / 2.0);
    let readying = sender.app.ready_after.as_secs_f64() * writes.ceil();
    Duration::from_secs_f64(total / rate + readying)
}

/// Seeds from the environment: one, so many, or the default.
#[test]
fn random_worlds() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|v: String| v.parse().expect(name))
    };
    if let Some(seed) = number("LOCKGATE_SEED") {
        let world = run(seed);
        println!("{}", world.summary());
        return;
    }
    let seeds: u64 = number("LOCKGATE_SEEDS").unwrap_or(10_000);
    let mut sums = Sums::default();
    for seed in 0..seeds {
        let outcome = catch_unwind(|| run(seed));
        match outcome {
            Ok(world) => sums.add(&world),
            Err(_) => panic!(
                "seed {seed} failed; again: \
                 LOCKGATE_SEED={seed} cargo test -p lockgate-tcp --test sim random_worlds"
            ),
        }
    }
    println!("{seeds} seeds: {sums:?}");
    sums.check();
}

/// Totals of all worlds.
#[derive(Debug, Default)]
struct Sums {
    packets: u64,
    lost: u64,
    timeouts: u64,
    recoveries: u64,
    payload: u64,
    again: u64,
    lost_payload: u64,
    timed_out: u64,
    steps: u64,
}

impl Sums {
    fn add(&mut self, world: &World) {
        self.steps += world.steps;
        for (host, link) in world.hosts.iter().zip(&world.links) {
            self.packets += link.counts.packets;
            self.lost += link.counts.dropped;
            self.lost_payload += link.counts.dropped_payload;
            self.timeouts += host.sh.counters.timeouts;
            self.recoveries += host.sh.counters.recoveries;
            self.payload += host.sh.counters.bytes_in;
            self.again += host.sh.counters.bytes_retransmitted;
            self.timed_out += host.sh.counters.timed_out;
        }
    }

    /// The impairments did occur, and in total the reactions to them were not excessive.
    fn check(&self) {
        assert!(self.recoveries > 0 && self.timeouts > 0 && self.timed_out > 0);
        assert!(self.lost * 100 > self.packets, "losses were simulated");
        assert!(
            self.again < 3 * self.lost_payload,
            "as a whole, little is sent in vain"
        );
    }
}

/// Two runs of a seed are the same, to the last packet.
#[test]
fn a_seed_is_a_world() {
    for seed in [3, 99, 1234] {
        let (a, b) = (run(seed), run(seed));
        assert_eq!((a.now, a.steps), (b.now, b.steps));
        assert_eq!(a.summary(), b.summary());
    }
}

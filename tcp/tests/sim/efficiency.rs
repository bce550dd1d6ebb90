//! Cost of loss recovery on paths with loss and no other impairment.

use core::time::Duration;

use lockgate_tcp::TcpConfig;
use lockgate_wire::Instant;

use crate::host::AppConfig;
use crate::link::LinkConfig;
use crate::world::{World, host};

const MSS: u16 = 1460;
/// With timestamps.
const SEGMENT: u64 = 1448;
const RTT: Duration = Duration::from_millis(40);

/// Host 0 sends `bytes` to host 1; only that direction is impaired.
fn one_way(total: u64, config: TcpConfig, there: LinkConfig, seed: u64) -> World {
    let back = LinkConfig::clean(RTT / 2);
    let config = TcpConfig {
        window_max: 4 << 20,
        nodelay: true,
        ..config
    };
    let app = AppConfig::sender(total);
    let hosts = [
        host(0, config.clone(), app, MSS, 65_536, seed),
        host(1, config, AppConfig::sender(0), MSS, 65_536, seed + 1),
    ];
    let mut world = World::new(hosts, [there, back], seed);
    world.hosts[0].connect(world.now);
    let ended = world.run(Instant::from_secs(3600));
    assert!(
        ended && world.hosts[1].received() == total,
        "{}",
        world.summary()
    );
    world
}

/// With SACK, random loss causes time-outs only if a retransmission is lost too (RACK, RFC 8985,
/// would detect that), or the last segments. Only lost bytes are retransmitted.
#[test]
fn at_one_percent_loss_time_outs_are_lost_retransmissions() {
    let there = LinkConfig {
        loss_ppm: 10_000,
        ..LinkConfig::clean(RTT / 2)
    };
    let world = one_way(40_000_000, TcpConfig::default(), there, 1);
    let (counters, link) = (&world.hosts[0].sh.counters, &world.links[0].counts);
    assert!(link.dropped > 200, "{link:?}");
    assert!(
        counters.timeouts <= link.dropped_again + 1,
        "{counters:?} {link:?}"
    );
    assert!(
        counters.timeouts * 50 <= link.dropped,
        "nearly none: {counters:?} {link:?}"
    );
    let spare = counters.bytes_retransmitted - link.dropped_payload;
    assert!(spare <= counters.rescues * SEGMENT + world.hosts[0].notes.flight_at_timeouts);
    assert!(
        counters.bytes_retransmitted * 100 <= link.dropped_payload * 103,
        "{counters:?}"
    );
}

/// A window of more than 300 segments loses twenty of them: how long recovery lasts.
fn time_for_holes(sack: bool) -> (Duration, World) {
    let config = TcpConfig {
        sack,
        window_max: 4 << 20,
        nodelay: true,
        ..TcpConfig::default()
    };
    // Slow start from 10 segments: after five round trips 310 are sent, and then 320 more.
    let drop = (0..20).map(|i| 330 + 10 * i).collect();
    let hosts = [
        host(
            0,
            config.clone(),
            AppConfig::sender(4000 * SEGMENT),
            MSS,
            65_536,
            7,
        ),
        host(1, config, AppConfig::sender(0), MSS, 65_536, 8),
    ];
    let there = LinkConfig {
        drop,
        ..LinkConfig::clean(RTT / 2)
    };
    let mut world = World::new(hosts, [there, LinkConfig::clean(RTT / 2)], 7);
    world.hosts[0].connect(world.now);
    let mut lasted = Duration::ZERO;
    let step = Duration::from_millis(1);
    let mut until = world.now;
    while !world.run(until) {
        let counts = &world.hosts[0].sh.counters;
        let repairing = world.hosts[0].info().is_some_and(|i| i.in_recovery);
        if repairing && counts.recoveries == 1 {
            lasted += step;
        }
        until += step;
    }
    assert_eq!(world.links[0].counts.dropped, 20);
    (lasted, world)
}

#[test]
fn sack_repairs_many_holes_in_a_round_trip() {
    let (lasted, world) = time_for_holes(true);
    let counters = &world.hosts[0].sh.counters;
    assert_eq!(counters.timeouts, 0);
    assert_eq!(counters.recoveries, 1, "one window, one recovery");
    assert_eq!(
        counters.bytes_retransmitted,
        20 * SEGMENT,
        "each hole once, nothing else"
    );
    // One round trip until everything in flight is reported and repaired, one until the last repair
    // is acknowledged: twenty holes cost no more than one.
    assert!(lasted <= RTT * 2, "{lasted:?}");
}

#[test]
fn newreno_repairs_one_hole_in_a_round_trip() {
    let (lasted, world) = time_for_holes(false);
    let counters = &world.hosts[0].sh.counters;
    assert_eq!(counters.timeouts, 0);
    assert_eq!(counters.recoveries, 1);
    assert_eq!(counters.bytes_retransmitted, 20 * SEGMENT);
    assert!((RTT * 18..RTT * 23).contains(&lasted), "{lasted:?}");
}

/// RFC 3042: two duplicate ACKs release two new segments, whose duplicate ACKs reach the threshold.
#[test]
fn limited_transmit_saves_small_windows_from_time_outs() {
    for sack in [true, false] {
        let config = TcpConfig {
            sack,
            initial_window: 3,
            ..TcpConfig::default()
        };
        // Packets: SYN, then segments: the first is lost, two follow.
        let there = LinkConfig {
            drop: vec![1],
            ..LinkConfig::clean(RTT / 2)
        };
        let world = one_way(60_000, config, there, 3);
        let counters = &world.hosts[0].sh.counters;
        assert_eq!(
            (counters.timeouts, counters.recoveries),
            (0, 1),
            "sack {sack}"
        );
        assert_eq!(counters.bytes_retransmitted, SEGMENT);
    }
}

/// Loss of the last segment and the FIN is repaired by a time-out (a tail loss probe, RFC 8985,
/// would be faster).
#[test]
fn a_lost_tail_costs_one_time_out() {
    let there = LinkConfig {
        drop: vec![10, 11],
        ..LinkConfig::clean(RTT / 2)
    };
    let world = one_way(10 * SEGMENT, TcpConfig::default(), there, 3);
    let counters = &world.hosts[0].sh.counters;
    assert_eq!((counters.timeouts, counters.recoveries), (1, 0));
    assert_eq!(counters.bytes_retransmitted, SEGMENT);
    let took = world.last_useful.saturating_since(Instant::from_secs(1));
    // Handshake, data, time-out (RTT and 200 ms), repair.
    assert!(took < RTT * 4 + Duration::from_millis(210), "{took:?}");
}

/// RFC 5681, section 4.1: the restart window after an idle period.
#[test]
fn after_a_pause_the_window_is_the_initial_one() {
    let config = TcpConfig {
        window_max: 4 << 20,
        nodelay: true,
        ..TcpConfig::default()
    };
    // Two writes of 200 segments, with two seconds between them.
    let app = AppConfig {
        write_max: 200 * SEGMENT,
        stall_ppm: 1_000_000,
        stall: Duration::from_secs(2),
        ..AppConfig::sender(400 * SEGMENT)
    };
    let hosts = [
        host(0, config.clone(), app, MSS, 65_536, 2),
        host(1, config, AppConfig::sender(0), MSS, 65_536, 3),
    ];
    let mut world = World::new(hosts, [0, 1].map(|_| LinkConfig::clean(RTT / 2)), 2);
    world.hosts[0].connect(world.now);
    world.run(Instant::from_secs(2));
    let grown = world.hosts[0].info().expect("open").cwnd;
    assert!(u64::from(grown) > 100 * SEGMENT);
    // The second write begins; nothing of it is acknowledged yet.
    world.run(Instant::from_secs(3) + RTT / 2);
    let info = world.hosts[0].info().expect("open");
    assert_eq!(
        (u64::from(info.cwnd), u64::from(info.flight)),
        (10 * SEGMENT, 10 * SEGMENT)
    );
}

use core::net::Ipv6Addr;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limit::Rate;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

fn hop(n: u8) -> NextHop {
    NextHop {
        iface: IfaceId(0),
        addr: [10, 0, 0, n].into(),
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000_000 + ms)
}

fn table() -> Neighbours {
    Neighbours::new(NeighbourConfig::default(), 7)
}

fn answer(mac: MacAddr) -> Advertisement {
    Advertisement {
        mac: Some(mac),
        solicited: true,
        replaces: true,
        router: None,
    }
}

fn solicits(t: &mut Neighbours, now: Instant) -> Vec<Solicitation> {
    core::iter::from_fn(|| t.poll_solicit(now)).collect()
}

fn events(t: &mut Neighbours) -> Vec<NeighbourEvent> {
    core::iter::from_fn(|| t.poll_event()).collect()
}

/// A table in which neighbour 1 is at A, in the state named.
fn in_state(name: &str) -> Neighbours {
    let mut t = table();
    match name {
        "none" => {}
        "incomplete" => {
            t.lookup(at(0), hop(1));
            solicits(&mut t, at(0));
        }
        "reachable" => {
            t = in_state("incomplete");
            t.on_advertisement(at(0), hop(1), answer(A));
        }
        "stale" => t.on_solicited_by(at(0), hop(1), A),
        "delay" => {
            t = in_state("stale");
            assert_eq!(t.lookup(at(0), hop(1)), Lookup::Resolved(A));
        }
        "probe" => {
            t = in_state("delay");
            // DELAY ended at this very moment.
            let state = NeighbourState::Probe {
                mac: A,
                sent: 1,
                next: at(1000),
            };
            t.set_state(0, state);
        }
        "failed" => {
            t = in_state("incomplete");
            for s in 1..=3 {
                solicits(&mut t, at(s * 1000));
            }
        }
        other => panic!("{other}"),
    }
    events(&mut t);
    assert_eq!(
        state_name(&t, at(0)),
        (name, if name == "none" { None } else { mac_in(&t) })
    );
    t
}

fn mac_in(t: &Neighbours) -> Option<MacAddr> {
    t.state(at(0), hop(1)).and_then(|s| s.mac())
}

fn state_name(t: &Neighbours, now: Instant) -> (&'static str, Option<MacAddr>) {
    match t.state(now, hop(1)) {
        None => ("none", None),
        Some(NeighbourState::Incomplete { .. }) => ("incomplete", None),
        Some(NeighbourState::Reachable { mac, .. }) => ("reachable", Some(mac)),
        Some(NeighbourState::Stale { mac }) => ("stale", Some(mac)),
        Some(NeighbourState::Delay { mac, .. }) => ("delay", Some(mac)),
        Some(NeighbourState::Probe { mac, .. }) => ("probe", Some(mac)),
        Some(NeighbourState::Failed { .. }) => ("failed", None),
    }
}

/// RFC 4861, appendix C, with our two departures: an answer counts only where there was a question,
/// and a failed entry is remembered for a while.
#[test]
fn adverts_in_every_state() {
    // (solicited, replaces, mac), then per state: the state and address after it.
    let s = true;
    let o = true;
    type Case<'a> = (
        &'a str,
        (bool, bool, Option<MacAddr>),
        (&'a str, Option<MacAddr>),
    );
    let table: [Case<'_>; 41] = [
        ("none", (s, o, Some(A)), ("none", None)),
        ("none", (false, o, Some(A)), ("none", None)),
        ("incomplete", (s, o, Some(B)), ("reachable", Some(B))),
        ("incomplete", (s, false, Some(B)), ("reachable", Some(B))),
        ("incomplete", (false, o, Some(B)), ("stale", Some(B))),
        ("incomplete", (false, false, Some(B)), ("stale", Some(B))),
        ("incomplete", (s, o, None), ("incomplete", None)),
        ("incomplete", (false, false, None), ("incomplete", None)),
        ("reachable", (s, o, Some(A)), ("reachable", Some(A))),
        ("reachable", (s, o, Some(B)), ("stale", Some(B))),
        ("reachable", (s, false, Some(B)), ("stale", Some(A))),
        ("reachable", (false, o, Some(B)), ("stale", Some(B))),
        ("reachable", (false, false, Some(B)), ("stale", Some(A))),
        ("reachable", (false, o, Some(A)), ("reachable", Some(A))),
        ("reachable", (false, false, Some(A)), ("reachable", Some(A))),
        ("reachable", (s, false, None), ("reachable", Some(A))),
        ("stale", (s, o, Some(A)), ("stale", Some(A))),
        ("stale", (s, o, Some(B)), ("stale", Some(B))),
        ("stale", (s, false, Some(B)), ("stale", Some(A))),
        ("stale", (false, o, Some(B)), ("stale", Some(B))),
        ("stale", (false, false, Some(B)), ("stale", Some(A))),
        ("stale", (s, o, None), ("stale", Some(A))),
        ("delay", (s, o, Some(A)), ("delay", Some(A))),
        ("delay", (s, o, Some(B)), ("stale", Some(B))),
        ("delay", (s, false, Some(B)), ("delay", Some(A))),
        ("delay", (false, o, Some(B)), ("stale", Some(B))),
        ("delay", (false, false, Some(B)), ("delay", Some(A))),
        ("delay", (false, o, Some(A)), ("delay", Some(A))),
        ("delay", (s, o, None), ("delay", Some(A))),
        ("probe", (s, o, Some(A)), ("reachable", Some(A))),
        ("probe", (s, false, Some(A)), ("reachable", Some(A))),
        ("probe", (s, o, None), ("reachable", Some(A))),
        ("probe", (s, o, Some(B)), ("reachable", Some(B))),
        ("probe", (s, false, Some(B)), ("probe", Some(A))),
        ("probe", (false, o, Some(B)), ("stale", Some(B))),
        ("probe", (false, o, Some(A)), ("probe", Some(A))),
        ("probe", (false, false, Some(B)), ("probe", Some(A))),
        ("failed", (s, o, Some(A)), ("stale", Some(A))),
        ("failed", (false, false, Some(A)), ("stale", Some(A))),
        ("failed", (s, o, None), ("failed", None)),
        ("failed", (false, o, None), ("failed", None)),
    ];
    for (from, (solicited, replaces, mac), to) in table {
        let mut t = in_state(from);
        let before = mac_in(&t);
        t.on_advertisement(
            at(0),
            hop(1),
            Advertisement {
                mac,
                solicited,
                replaces,
                router: None,
            },
        );
        let what = (from, solicited, replaces, mac);
        assert_eq!(state_name(&t, at(0)), to, "{what:?}");
        // An event reports a new address, and nothing else.
        let told = events(&mut t);
        match to.1 {
            Some(mac) if before != Some(mac) => {
                assert_eq!(told, [NeighbourEvent::Resolved(hop(1), mac)], "{what:?}");
            }
            _ => assert_eq!(told, [], "{what:?}"),
        }
    }
}

#[test]
fn solicitations_of_us_in_every_state() {
    for (from, mac, to) in [
        ("none", A, ("stale", Some(A))),
        ("incomplete", A, ("stale", Some(A))),
        ("reachable", A, ("reachable", Some(A))),
        ("reachable", B, ("stale", Some(B))),
        ("stale", A, ("stale", Some(A))),
        ("stale", B, ("stale", Some(B))),
        ("delay", A, ("delay", Some(A))),
        ("delay", B, ("stale", Some(B))),
        ("probe", A, ("probe", Some(A))),
        ("probe", B, ("stale", Some(B))),
        ("failed", A, ("stale", Some(A))),
    ] {
        let mut t = in_state(from);
        t.on_solicited_by(at(0), hop(1), mac);
        assert_eq!(state_name(&t, at(0)), to, "{from} {mac}");
    }
}

#[test]
fn lookups_in_every_state() {
    for (from, answer, to) in [
        ("none", Lookup::Pending, "incomplete"),
        ("incomplete", Lookup::Pending, "incomplete"),
        ("reachable", Lookup::Resolved(A), "reachable"),
        ("stale", Lookup::Resolved(A), "delay"),
        ("delay", Lookup::Resolved(A), "delay"),
        ("probe", Lookup::Resolved(A), "probe"),
        ("failed", Lookup::Unreachable, "failed"),
    ] {
        let mut t = in_state(from);
        assert_eq!(t.lookup(at(0), hop(1)), answer, "{from}");
        assert_eq!(state_name(&t, at(0)).0, to, "{from}");
    }
}

#[test]
fn confirmations_in_every_state() {
    for (from, to) in [
        ("none", "none"),
        ("incomplete", "incomplete"),
        ("reachable", "reachable"),
        ("stale", "reachable"),
        ("delay", "reachable"),
        ("probe", "reachable"),
        ("failed", "failed"),
    ] {
        let mut t = in_state(from);
        t.confirm(at(0), hop(1));
        assert_eq!(state_name(&t, at(0)).0, to, "{from}");
        assert_eq!(events(&mut t), []);
    }
}

#[test]
fn resolution_with_retransmissions() {
    let mut t = table();
    let multicast = [Solicitation {
        target: hop(1),
        to: None,
    }];
    assert_eq!(t.deadline(), None);
    assert_eq!(t.lookup(at(0), hop(1)), Lookup::Pending);
    assert_eq!(t.deadline(), Some(at(0)));
    assert_eq!(solicits(&mut t, at(0)), multicast);
    assert_eq!(t.deadline(), Some(at(1000)));
    assert_eq!(t.lookup(at(500), hop(1)), Lookup::Pending);
    assert_eq!(solicits(&mut t, at(999)), []);
    assert_eq!(solicits(&mut t, at(1000)), multicast);
    t.on_advertisement(at(1200), hop(1), answer(A));
    assert_eq!(events(&mut t), [NeighbourEvent::Resolved(hop(1), A)]);
    assert_eq!(t.lookup(at(1200), hop(1)), Lookup::Resolved(A));
    assert_eq!(solicits(&mut t, at(10_000)), []);
    assert_eq!(t.deadline(), None);
    assert_eq!(
        (t.counters().multicast_solicits, t.counters().resolved),
        (2, 1)
    );
}

#[test]
fn a_failed_neighbour_is_held_down_then_solicited_again() {
    let mut t = table();
    t.lookup(at(0), hop(1));
    for s in 0..3 {
        assert_eq!(solicits(&mut t, at(s * 1000)).len(), 1);
        assert_eq!(events(&mut t), []);
    }
    assert_eq!(solicits(&mut t, at(3000)), []);
    assert_eq!(events(&mut t), [NeighbourEvent::Unreachable(hop(1))]);
    assert_eq!(t.lookup(at(3000), hop(1)), Lookup::Unreachable);
    assert_eq!(t.lookup(at(3999), hop(1)), Lookup::Unreachable);
    assert_eq!(solicits(&mut t, at(3999)), []);
    assert_eq!(t.lookup(at(4000), hop(1)), Lookup::Pending);
    assert_eq!(solicits(&mut t, at(4000)).len(), 1);
    assert_eq!(t.counters().unreachable, 1);
}

#[test]
fn a_failed_entry_at_rest_has_no_deadline() {
    let mut t = in_state("failed");
    assert_eq!(solicits(&mut t, at(60_000)), []);
    assert_eq!(t.deadline(), None);
    assert_eq!(t.lookup(at(60_000), hop(1)), Lookup::Pending);
}

#[test]
fn unreachability_detection() {
    let mut t = in_state("reachable");
    // At most one and a half of REACHABLE_TIME later it's stale; use starts the delay.
    assert_eq!(state_name(&t, at(14_999)).0, "reachable");
    assert_eq!(state_name(&t, at(45_000)).0, "stale");
    let start = 45_000;
    assert_eq!(t.lookup(at(start), hop(1)), Lookup::Resolved(A));
    assert_eq!(solicits(&mut t, at(start)), []);
    assert_eq!(t.deadline(), Some(at(start + 5000)));
    // Three questions to the address known, packets still going there, ...
    for s in 0..3 {
        let now = at(start + 5000 + s * 1000);
        assert_eq!(
            solicits(&mut t, now),
            [Solicitation {
                target: hop(1),
                to: Some(A)
            }]
        );
        assert_eq!(t.lookup(now, hop(1)), Lookup::Resolved(A));
    }
    // ... then three multicast ones without an answer, then the entry fails.
    for s in 3..6 {
        let now = at(start + 5000 + s * 1000);
        assert_eq!(
            solicits(&mut t, now),
            [Solicitation {
                target: hop(1),
                to: None
            }]
        );
        assert_eq!(t.lookup(now, hop(1)), Lookup::Pending);
    }
    assert_eq!(events(&mut t), []);
    assert_eq!(solicits(&mut t, at(start + 11_000)), []);
    assert_eq!(events(&mut t), [NeighbourEvent::Unreachable(hop(1))]);
}

#[test]
fn a_gateway_that_moved_is_found_again() {
    let mut t = in_state("probe");
    for s in 1..=3 {
        solicits(&mut t, at(s * 1000));
    }
    assert_eq!(state_name(&t, at(3000)).0, "incomplete");
    t.on_advertisement(at(3100), hop(1), answer(B));
    assert_eq!(events(&mut t), [NeighbourEvent::Resolved(hop(1), B)]);
    assert_eq!(t.counters().changed, 1);
}

#[test]
fn progress_of_connections_saves_probes() {
    let mut t = in_state("delay");
    t.confirm(at(4000), hop(1));
    assert_eq!(solicits(&mut t, at(6000)), []);
    // And for as long as confirmations arrive.
    for s in 1..100 {
        t.confirm(at(s * 10_000), hop(1));
        assert_eq!(t.lookup(at(s * 10_000), hop(1)), Lookup::Resolved(A));
        assert_eq!(solicits(&mut t, at(s * 10_000)), []);
    }
    assert_eq!(t.counters().unicast_solicits, 0);
}

#[test]
fn routers() {
    let mut t = in_state("reachable");
    assert!(!t.is_router(hop(1)));
    t.on_advertisement(
        at(0),
        hop(1),
        Advertisement {
            router: Some(true),
            ..answer(A)
        },
    );
    assert!(t.is_router(hop(1)));
    t.on_advertisement(at(0), hop(1), answer(A));
    assert!(t.is_router(hop(1)), "ARP doesn't know");
    t.on_advertisement(
        at(0),
        hop(1),
        Advertisement {
            router: Some(false),
            ..answer(A)
        },
    );
    assert!(!t.is_router(hop(1)) && !t.is_router(hop(2)));
}

#[test]
fn the_same_address_on_two_interfaces() {
    let mut t = in_state("reachable");
    let other = NextHop {
        iface: IfaceId(1),
        ..hop(1)
    };
    assert_eq!(t.lookup(at(0), other), Lookup::Pending);
    t.on_advertisement(at(0), other, answer(B));
    assert_eq!(t.lookup(at(0), hop(1)), Lookup::Resolved(A));
    assert_eq!(t.lookup(at(0), other), Lookup::Resolved(B));
}

#[test]
fn resolutions_of_another_worker() {
    let mut t = in_state("incomplete");
    t.on_sibling_resolved(at(0), hop(1), A);
    assert_eq!(state_name(&t, at(0)), ("reachable", Some(A)));
    t.on_sibling_resolved(at(0), hop(2), A);
    assert_eq!(t.state(at(0), hop(2)), None, "there is no entry");
}

fn small(entries_max: u16) -> Neighbours {
    Neighbours::new(
        NeighbourConfig {
            entries_max,
            ..NeighbourConfig::default()
        },
        7,
    )
}

#[test]
fn eviction_takes_the_class_above_its_share() {
    let mut t = small(4);
    t.lookup(at(0), hop(1));
    solicits(&mut t, at(0));
    t.on_advertisement(at(0), hop(1), answer(A)); // confirmed
    t.on_solicited_by(at(1), hop(2), A); // unused, older
    t.on_solicited_by(at(2), hop(3), A); // unused, younger
    t.lookup(at(3), hop(4)); // unconfirmed
    let left = |t: &Neighbours| {
        let mut v: Vec<_> = t.iter().map(|(h, _)| h).collect();
        v.sort_by_key(|h| h.addr);
        v
    };
    t.lookup(at(4), hop(5));
    assert_eq!(
        left(&t),
        [hop(1), hop(3), hop(4), hop(5)],
        "of two unused ones the older"
    );
    t.on_solicited_by(at(5), hop(6), A);
    assert_eq!(
        left(&t),
        [hop(1), hop(3), hop(5), hop(6)],
        "of two unconfirmed ones the older"
    );
    t.lookup(at(6), hop(3));
    t.lookup(at(7), hop(7));
    assert_eq!(
        left(&t),
        [hop(1), hop(3), hop(6), hop(7)],
        "use makes an unused one unconfirmed"
    );
    assert_eq!((t.counters().evicted, t.len()), (3, 4));
    assert_eq!(t.lookup(at(8), hop(1)), Lookup::Resolved(A));
    assert_eq!(t.state(at(8), hop(2)), None);
}

#[test]
fn of_confirmed_neighbours_the_least_recently_used_is_evicted() {
    let mut t = small(4);
    for n in 1..=4 {
        t.on_solicited_by(at(0), hop(n), A);
        t.confirm(at(0), hop(n));
    }
    for n in [1, 3, 4] {
        assert_eq!(t.lookup(at(100), hop(n)), Lookup::Resolved(A));
    }
    t.on_solicited_by(at(200), hop(5), A);
    assert_eq!(t.state(at(200), hop(2)), None);
    t.confirm(at(200), hop(5));
    t.on_solicited_by(at(300), hop(6), A);
    assert_eq!(t.state(at(300), hop(1)), None, "used before the others");
}

#[test]
fn a_failed_neighbour_is_evicted_first() {
    let mut t = small(3);
    t.lookup(at(0), hop(1));
    for second in 0..=3 {
        solicits(&mut t, at(1000 * second));
    }
    assert!(matches!(
        t.state(at(3000), hop(1)),
        Some(NeighbourState::Failed { .. })
    ));
    t.lookup(at(3001), hop(2)); // incomplete
    t.on_solicited_by(at(3002), hop(3), A); // stale, unused
    // Used last of all, in vain.
    assert_eq!(t.lookup(at(3100), hop(1)), Lookup::Unreachable);
    t.lookup(at(3101), hop(4));
    assert_eq!(t.state(at(3101), hop(1)), None);
    assert!(
        [2, 3, 4]
            .iter()
            .all(|n| t.state(at(3101), hop(*n)).is_some())
    );
    assert_eq!((t.counters().evicted, t.len()), (1, 3));
}

#[test]
fn a_scan_cannot_push_out_neighbours_in_use() {
    let mut t = small(8);
    t.lookup(at(0), hop(1));
    solicits(&mut t, at(0));
    t.on_advertisement(at(0), hop(1), answer(A));
    for n in 2..=250 {
        t.lookup(at(u64::from(n)), hop(n));
        solicits(&mut t, at(u64::from(n)));
    }
    assert_eq!(t.len(), 8);
    assert_eq!(t.lookup(at(300), hop(1)), Lookup::Resolved(A));
}

/// Any address of a /64, by its number.
fn far(n: u32) -> NextHop {
    let addr = Ipv6Addr::from_bits(0xfd00_0018_0000_0000_0000_0000_0000_0000 + u128::from(n));
    NextHop {
        iface: IfaceId(0),
        addr: addr.into(),
    }
}

/// Packets of the flood in the tests below: far more than the table has entries.
const FLOOD: u32 = 100_000;

#[test]
fn a_flood_of_solicitations_evicts_its_own_entries() {
    let mut t = in_state("reachable");
    t.on_solicited_by(at(0), hop(2), B);
    assert_eq!(t.lookup(at(0), hop(2)), Lookup::Resolved(B));
    // Neighbour 1 is stale by then, 2 in DELAY, and 3 is being resolved.
    let later = 60_000;
    t.lookup(at(later), hop(3));
    solicits(&mut t, at(later));
    for n in 0..FLOOD {
        t.on_solicited_by(at(later), far(n), B);
        events(&mut t);
    }
    assert_eq!(t.len(), 1024);
    t.on_advertisement(at(later + 1), hop(3), answer(B));
    assert_eq!(t.lookup(at(later + 1), hop(1)), Lookup::Resolved(A));
    assert_eq!(t.lookup(at(later + 1), hop(2)), Lookup::Resolved(B));
    assert_eq!(t.lookup(at(later + 1), hop(3)), Lookup::Resolved(B));
    assert_eq!(t.counters().unasked, 0);
}

#[test]
fn a_flood_of_lookups_leaves_confirmed_neighbours_and_those_that_solicited() {
    let mut t = in_state("reachable");
    t.on_solicited_by(at(60_000), hop(2), B);
    for n in 0..FLOOD {
        assert_eq!(t.lookup(at(60_000), far(n)), Lookup::Pending);
        solicits(&mut t, at(60_000));
    }
    assert_eq!(t.lookup(at(60_001), hop(1)), Lookup::Resolved(A));
    assert_eq!(t.lookup(at(60_001), hop(2)), Lookup::Resolved(B));
    // From its first packet to the first answer it is in the flood's class.
    for n in 0..200 {
        t.lookup(at(60_001), far(FLOOD + n));
    }
    t.confirm(at(60_002), hop(2));
    for n in 0..FLOOD {
        t.lookup(at(60_002), far(n));
    }
    assert_eq!(t.lookup(at(60_003), hop(2)), Lookup::Resolved(B));
}

/// A station with very many addresses answers for all of them, and each is used.
#[test]
fn a_flood_of_confirmed_neighbours_leaves_room_for_new_ones_and_for_those_in_use() {
    let mut t = in_state("reachable");
    for n in 0..FLOOD {
        let now = at(60_000 + u64::from(n));
        t.on_solicited_by(now, far(n), B);
        t.lookup(now, far(n));
        t.confirm(now, far(n));
        events(&mut t);
        if n % 100 == 0 {
            assert_eq!(t.lookup(now, hop(1)), Lookup::Resolved(A), "{n}");
        }
    }
    let later = at(1_000_000);
    t.on_solicited_by(later, hop(2), A);
    for n in 0..200 {
        t.on_solicited_by(later, far(FLOOD + n), B);
    }
    assert_eq!(t.lookup(later, hop(2)), Lookup::Resolved(A));
}

#[test]
fn the_gateway_is_never_evicted_and_is_solicited_at_once() {
    let mut t = table();
    t.add_gateway(hop(1));
    let frame = [7; 60];
    assert_eq!(t.lookup(at(0), hop(1)), Lookup::Pending);
    assert!(t.queue(hop(1), &frame, true));
    let multicast = Solicitation {
        target: hop(1),
        to: None,
    };
    assert_eq!(t.poll_solicit(at(0)), Some(multicast));
    for n in 0..FLOOD {
        t.lookup(at(1), far(n));
        t.queue(far(n), &frame, true);
        solicits(&mut t, at(1));
        t.on_solicited_by(at(1), far(FLOOD + n), B);
        events(&mut t);
    }
    assert_eq!(t.len(), 1025, "it is outside the limit");
    // The rate limit is exhausted.
    assert_eq!(t.poll_solicit(at(1)), None);
    assert_eq!(t.poll_solicit(at(1000)), Some(multicast));
    t.on_advertisement(at(1001), hop(1), answer(A));
    assert_eq!(t.lookup(at(1001), hop(1)), Lookup::Resolved(A));
    let mut out = [0; 64];
    assert_eq!(t.poll_released(&mut out), Some((IfaceId(0), 60)));
    // Unreachability detection goes on, too.
    t.lookup(at(60_000), hop(1));
    for n in 0..FLOOD {
        t.lookup(at(60_001), far(n));
    }
    solicits(&mut t, at(60_001));
    let probe = Solicitation {
        target: hop(1),
        to: Some(A),
    };
    assert!(solicits(&mut t, at(65_000)).contains(&probe));
}

#[test]
fn a_gateway_that_is_declared_late_keeps_its_entry() {
    let mut t = small(4);
    t.on_solicited_by(at(0), hop(1), A);
    t.add_gateway(hop(1));
    t.add_gateway(hop(1));
    for n in 0..FLOOD {
        t.on_solicited_by(at(1), far(n), B);
        events(&mut t);
    }
    assert_eq!(t.len(), 5);
    t.confirm(at(2), hop(1));
    for n in 0..10 {
        t.on_solicited_by(at(2), far(n), B);
        t.confirm(at(2), far(n));
    }
    assert_eq!(t.lookup(at(3), hop(1)), Lookup::Resolved(A));
}

/// What takes its turn for a token is the entry that waits for longest, and it is kept for as long
/// as its class has room for others.
#[test]
fn a_solicited_neighbour_has_time_to_answer() {
    let mut t = table();
    for n in 0..1000 {
        t.lookup(at(0), far(n));
        solicits(&mut t, at(0));
    }
    let token = solicits(&mut t, at(5));
    let [solicited] = token[..] else {
        panic!("{token:?}")
    };
    assert_eq!(
        solicited.target,
        far(100),
        "a hundred were solicited at once"
    );
    for n in 0..200 {
        t.lookup(at(6), far(FLOOD + n));
    }
    t.on_advertisement(at(6), far(100), answer(A));
    assert_eq!(t.lookup(at(6), far(100)), Lookup::Resolved(A));
}

#[test]
fn half_of_the_waiting_frames_are_of_known_neighbours() {
    let mut t = in_state("probe");
    for s in 1..=3 {
        solicits(&mut t, at(s * 1000));
    }
    assert_eq!(state_name(&t, at(3000)).0, "incomplete");
    t.confirm(at(0), hop(1)); // Not resolved: nothing to confirm.
    let mut known = in_state("reachable");
    for (table, expected) in [(&mut t, 32), (&mut known, 35)] {
        if expected == 35 {
            // It was confirmed once, and is resolved again.
            table.lookup(at(60_000), hop(1));
            for s in 65..68 {
                solicits(table, at(s * 1000));
            }
            solicits(table, at(68_000));
            assert_eq!(table.lookup(at(68_000), hop(1)), Lookup::Pending);
        }
        for n in 0..100 {
            table.lookup(at(68_000), far(n));
            table.queue(far(n), &[1; 60], true);
        }
        for _ in 0..3 {
            table.queue(hop(1), &[2; 60], true);
        }
        assert_eq!(64 - table.waiting_free(), expected);
    }
}

#[test]
fn solicitations_above_the_rate_are_postponed() {
    let config = NeighbourConfig {
        solicit_rate: Rate {
            per_second: 10,
            burst: 5,
        },
        ..NeighbourConfig::default()
    };
    let mut t = Neighbours::new(config, 7);
    for n in 0..20 {
        t.lookup(at(0), hop(n));
    }
    assert_eq!(solicits(&mut t, at(0)).len(), 5);
    assert_eq!(t.counters().solicits_limited, 15);
    assert_eq!(t.deadline(), Some(at(100)));
    let mut sent = 5;
    for ms in 1..2000 {
        sent += solicits(&mut t, at(ms)).len();
    }
    assert!((24..=25).contains(&sent), "{sent}");
}

#[test]
fn waiting_frames_are_released_in_order() {
    let mut t = table();
    let mut out = [0; 2000];
    assert!(!t.queue(hop(1), &[0; 60], true), "there's no entry yet");
    t.lookup(at(0), hop(1));
    for n in 0..5 {
        assert!(t.queue(hop(1), &[n; 60], true));
    }
    assert_eq!(t.counters().frames_displaced, 2);
    assert_eq!(t.poll_released(&mut out), None);
    t.on_advertisement(at(1), hop(1), answer(A));
    for n in 2..5 {
        assert_eq!(t.poll_released(&mut out), Some((IfaceId(0), 60)));
        assert_eq!((&out[..6], &out[6..60]), (&A.0[..], &[n; 54][..]));
    }
    assert_eq!(t.poll_released(&mut out), None);
    let c = t.counters();
    assert_eq!(
        (c.frames_queued, c.frames_released, c.frames_dropped),
        (5, 3, 0)
    );
}

#[test]
fn frames_without_a_link_layer_are_not_addressed() {
    let mut t = table();
    t.lookup(at(0), hop(1));
    t.queue(hop(1), &[9; 40], false);
    t.on_solicited_by(at(0), hop(1), A);
    let mut out = [0; 64];
    assert_eq!(t.poll_released(&mut out), Some((IfaceId(0), 40)));
    assert_eq!(out[..40], [9; 40]);
}

#[test]
fn frames_are_dropped_with_their_entry() {
    let mut t = in_state("incomplete");
    t.queue(hop(1), &[1; 60], true);
    for s in 1..=3 {
        solicits(&mut t, at(s * 1000));
    }
    assert_eq!(t.counters().frames_dropped, 1);

    let mut t = small(1);
    t.lookup(at(0), hop(1));
    t.queue(hop(1), &[1; 60], true);
    t.lookup(at(1), hop(2));
    assert_eq!((t.counters().evicted, t.counters().frames_dropped), (1, 1));
    assert_eq!(t.waiting_free(), 64);
}

#[test]
fn frames_too_large_or_too_many_are_refused() {
    let config = NeighbourConfig {
        // Half of them are kept for known neighbours.
        waiting_max: 4,
        waiting_bytes_max: 100,
        ..NeighbourConfig::default()
    };
    let mut t = Neighbours::new(config, 7);
    for n in 1..=3 {
        t.lookup(at(0), hop(n));
    }
    assert!(!t.queue(hop(1), &[0; 101], true));
    assert!(t.queue(hop(1), &[1; 100], true) && t.queue(hop(2), &[2; 100], true));
    assert!(
        !t.queue(hop(3), &[3; 10], true),
        "no place, and none of its own to give up"
    );
    assert!(
        t.queue(hop(1), &[4; 10], true),
        "a newer one in place of its own older one"
    );
    let c = t.counters();
    assert_eq!((c.frames_refused, c.frames_displaced), (2, 1));
    // A released frame that doesn't fit the caller's memory is dropped, the next one isn't.
    t.on_solicited_by(at(0), hop(2), B);
    t.on_solicited_by(at(0), hop(1), A);
    let mut out = [0; 50];
    assert_eq!(t.poll_released(&mut out), Some((IfaceId(0), 10)));
    assert_eq!(t.counters().frames_dropped, 1);
}

#[test]
fn events_are_bounded() {
    let mut t = small(2);
    for n in 0..100 {
        t.on_solicited_by(at(0), hop(1), if n % 2 == 0 { A } else { B });
    }
    assert_eq!(events(&mut t).len(), 4);
    assert_eq!(t.counters().events_lost, 96);
}

impl Neighbours {
    fn waiting_free(&self) -> usize {
        self.waiting.free_count()
    }

    fn check(&self) {
        let limit = usize::from(self.config.entries_max) + self.gateways.len();
        assert!(self.entries.len() <= limit);
        assert_eq!(self.index.len(), self.entries.len());
        for (i, e) in self.entries.iter().enumerate() {
            assert_eq!(self.index.get(&e.hop), Some(&i));
            let waits = matches!(e.state, NeighbourState::Incomplete { .. });
            assert!(
                waits || !e.queue.is_occupied(),
                "only an open question has frames waiting"
            );
            let is_waiting = e.state.deadline().is_some();
            let is_armed = self.timers.is_armed(i);
            let is_at_rest = matches!(e.state, NeighbourState::Failed { .. });
            assert!(
                is_armed == is_waiting || is_at_rest,
                "a deadline is forgotten, or there is none"
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Lookup(u8),
    WaitingSlots(u8, u8),
    Asked(u8, u8),
    Advertisement(u8, Option<u8>, bool, bool),
    Confirm(u8),
    Poll,
    Release,
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = || 0u8..12;
    prop::collection::vec(
        prop_oneof![
            4 => n().prop_map(Step::Lookup),
            2 => (n(), 0u8..80).prop_map(|(n, len)| Step::WaitingSlots(n, len)),
            1 => (n(), 0u8..3).prop_map(|(n, m)| Step::Asked(n, m)),
            2 => (n(), prop::option::of(0u8..3), any::<bool>(), any::<bool>())
                .prop_map(|(n, m, s, o)| Step::Advertisement(n, m, s, o)),
            1 => n().prop_map(Step::Confirm),
            3 => Just(Step::Poll),
            1 => Just(Step::Release),
            3 => (0u16..8000).prop_map(Step::Wait),
        ],
        0..200,
    )
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn invariants_hold(steps in steps(), seed: u64) {
        let config = NeighbourConfig {
            entries_max: 6,
            waiting_max: 5,
            waiting_bytes_max: 64,
            solicit_rate: Rate { per_second: 4, burst: 3 },
            ..NeighbourConfig::default()
        };
        let mut t = Neighbours::new(config, seed);
        t.add_gateway(hop(11));
        let mut now = at(0);
        let mac = |m| MacAddr([2, 0, 0, 0, 0, m]);
        let mut out = [0; 64];
        for step in steps {
            match step {
                Step::Lookup(n) => { t.lookup(now, hop(n)); }
                Step::WaitingSlots(n, len) => {
                    // Only a pending lookup lets frames wait.
                    if t.lookup(now, hop(n)) == Lookup::Pending {
                        t.queue(hop(n), &vec![n; usize::from(len)], true);
                    }
                }
                Step::Asked(n, m) => t.on_solicited_by(now, hop(n), mac(m)),
                Step::Advertisement(n, m, solicited, replaces) => {
                    let advert = Advertisement { mac: m.map(mac), solicited, replaces, router: None };
                    t.on_advertisement(now, hop(n), advert);
                }
                Step::Confirm(n) => t.confirm(now, hop(n)),
                Step::Poll => {
                    solicits(&mut t, now);
                    prop_assert!(t.deadline().is_none_or(|d| d > now), "nothing due is left");
                }
                Step::Release => { t.poll_released(&mut out); }
                Step::Wait(ms) => now += Duration::from_millis(u64::from(ms)),
            }
            t.check();
        }
        // In the end every frame is accounted for.
        while t.poll_released(&mut out).is_some() {}
        let c = *t.counters();
        let waiting: u64 = 5 - u64::try_from(t.waiting_free()).unwrap();
        prop_assert_eq!(
            c.frames_queued,
            c.frames_released + c.frames_displaced + c.frames_dropped + waiting
        );
    }
}

//! Limits: floods, exhausted pools, and what must not be copied or kept.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use lockgate_ip::{FrameHeader, IpPair, LinkHeader};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, ConnectConfig, ListenConfig, Notice, SocketId};
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions};
use lockgate_wire::{Instant, MacAddr, SeqNum};
use pktbuf::{LARGE_CAPACITY, PoolConfig, SMALL_CAPACITY};
use support::app::App;
use support::link::{Faults, Link};
use support::{HostSpec, World, pki};

/// A TCP segment without payload from any address to B.
fn segment(src: Ipv4Addr, tcp: &TcpHeader) -> Vec<u8> {
    let link = LinkHeader {
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        vlan: None,
    };
    let addrs = IpPair::new(src.into(), IpAddr::from([10, 0, 0, 2])).unwrap();
    let len = tcp.emitted_len();
    let frame = FrameHeader::new(
        Some(link),
        addrs,
        IpProtocol::TCP,
        u16::try_from(len).unwrap(),
    );
    let mut bytes = vec![0; frame.emitted_len() + len];
    let at = frame.emit(&mut bytes);
    tcp.emit(&mut bytes[at..]);
    let mut sum = addrs.pseudo_sum(IpProtocol::TCP, u32::try_from(len).unwrap());
    sum.add(&bytes[at..]);
    let checksum = sum.finish();
    bytes[at + 16..at + 18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn syn(port: u16) -> TcpHeader {
    TcpHeader {
        src_port: port,
        dst_port: 443,
        seq: SeqNum(u32::from(port) * 7),
        flags: Flags::SYN,
        window: 1000,
        options: TcpOptions {
            mss: Some(1460),
            ..TcpOptions::NONE
        },
        ..TcpHeader::default()
    }
}

#[test]
fn a_syn_flood_is_bounded_and_does_not_keep_others_out() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let half_open_max = 256;
    for round in 0..20_u32 {
        for n in 0..500_u32 {
            let src = Ipv4Addr::from_bits(0x0a00_0000 | (100 + n % 100));
            let port = u16::try_from(1000 + round * 500 + n).unwrap();
            world.b.receive(world.now, &segment(src, &syn(port)));
        }
        assert!(world.b.stack.half_open() <= half_open_max);
    }
    assert_eq!(world.b.stack.half_open(), half_open_max);
    assert_eq!(
        world.b.stack.counters().half_open_evicted,
        10_000 - u64::from(half_open_max)
    );
    assert_eq!(world.b.stack.connections(), 0);
    // A legitimate client connects during the flood.
    let a = world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    world.expect(0, "Connected", |n| {
        matches!(n, Notice::Connected(_)).then_some(())
    });
    world.a.send(a, b"hello");
    world.run(Duration::from_millis(5));
    assert_eq!(world.b.stack.connections(), 1);
    world.a.stack.abort(a);
    // The rest times out.
    world.run(Duration::from_secs(200));
    assert_eq!(world.b.stack.half_open(), 0);
    assert_eq!(world.b.stack.connections(), 0);
    world.b.assert_full();
}

/// A SYN is dropped only if no half-open connection can be evicted for it: there may be none.
#[test]
fn a_syn_is_dropped_where_no_half_open_connection_may_be_kept() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.half_open_max = 0;
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    world.listen(443, None);
    let src = Ipv4Addr::new(10, 0, 0, 77);
    for port in 1000..1010 {
        world.b.receive(world.now, &segment(src, &syn(port)));
    }
    world.b.turn(world.now);
    let counters = world.b.stack.counters();
    assert_eq!(
        (counters.syn_dropped, counters.half_open_evicted),
        (10, 0),
        "{counters}"
    );
    assert_eq!(counters.resets_out + counters.packets_out, 0);
    assert_eq!(world.b.stack.half_open(), 0);
}

/// The gauges of half-open connections and of ranges follow what is held.
#[test]
fn half_open_connections_and_ranges_are_gauged() {
    let mut world = World::simple();
    world.listen(443, None);
    let limits = *world.b.stack.limits();
    assert_eq!(
        world.b.stack.ranges_max(),
        limits.ranges_max + limits.connections_max
    );
    let src = Ipv4Addr::new(10, 0, 0, 77);
    for port in 1000..1003 {
        world.b.receive(world.now, &segment(src, &syn(port)));
    }
    assert_eq!((world.b.stack.half_open(), world.b.stack.ranges()), (3, 0));
    world.connect(None);
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    assert_eq!(world.b.stack.half_open(), 3);
    world.b.send(b, &[1; 10_000]);
    world.settle();
    let held = world.b.stack.ranges();
    assert!((1..=7).contains(&held), "{held} ranges in flight");
    world.run(Duration::from_millis(50));
    assert_eq!(world.b.stack.ranges(), 0, "everything is acknowledged");
    world.run(Duration::from_secs(200));
    assert_eq!(world.b.stack.half_open(), 0);
}

/// Also after removals and reuse of slots.
#[test]
fn the_oldest_half_open_connection_is_pushed_out() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.half_open_max = 4;
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let from = Ipv4Addr::new(10, 0, 0, 77);
    let begin = |world: &mut World, port| {
        world.b.receive(world.now, &segment(from, &syn(port)));
    };
    // Returns whether there was a connection to reset.
    let give_up = |world: &mut World, port| {
        let before = world.b.stack.half_open();
        let reset = TcpHeader {
            seq: syn(port).seq + 1,
            flags: Flags::RST,
            ..syn(port)
        };
        world.b.receive(world.now, &segment(from, &reset));
        world.b.stack.half_open() < before
    };
    for port in 1..=4 {
        begin(&mut world, port);
    }
    assert!(give_up(&mut world, 2));
    for port in 5..=7 {
        begin(&mut world, port);
    }
    assert_eq!(world.b.stack.counters().half_open_evicted, 2);
    let left: Vec<u16> = (1..=7).filter(|port| give_up(&mut world, *port)).collect();
    assert_eq!(left, [4, 5, 6, 7]);
}

#[test]
fn a_listeners_backlog_is_its_own() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    world
        .b
        .stack
        .listen(
            at,
            ListenConfig {
                backlog: 10,
                ..ListenConfig::default()
            },
        )
        .unwrap();
    for port in 1000..1100 {
        world
            .b
            .receive(world.now, &segment(Ipv4Addr::new(10, 0, 0, 77), &syn(port)));
    }
    assert_eq!(world.b.stack.half_open(), 10);
    let counters = world.b.stack.counters();
    assert_eq!(counters.half_open_evicted, 90);
    assert_eq!(counters.half_open_evicted_backlog, 90);
    // A client connects in spite of the flood.
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    world.expect(0, "Connected", |n| {
        matches!(n, Notice::Connected(_)).then_some(())
    });
}

/// A full table evicts the oldest of the listener that has the most: a flood of one listener takes
/// no entry of another.
#[test]
fn a_flood_of_one_listener_leaves_the_others_their_entries() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.half_open_max = 16;
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    for port in [80, 443] {
        let at = world.b_addr(port);
        world.b.stack.listen(at, ListenConfig::default()).unwrap();
    }
    let from = Ipv4Addr::new(10, 0, 0, 77);
    let to = |port, dst_port| TcpHeader {
        dst_port,
        ..syn(port)
    };
    for port in 1..=100 {
        world.b.receive(world.now, &segment(from, &to(port, 443)));
    }
    for port in 1..=4 {
        world.b.receive(world.now, &segment(from, &to(port, 80)));
    }
    for port in 101..=200 {
        world.b.receive(world.now, &segment(from, &to(port, 443)));
    }
    // Resets show which are left.
    let before = world.b.stack.half_open();
    assert_eq!(before, 16);
    for port in 1..=4 {
        let reset = TcpHeader {
            seq: syn(port).seq + 1,
            flags: Flags::RST,
            ..to(port, 80)
        };
        world.b.receive(world.now, &segment(from, &reset));
    }
    assert_eq!(world.b.stack.half_open(), 12);
    let counters = world.b.stack.counters();
    assert_eq!(
        (
            counters.half_open_evicted,
            counters.half_open_evicted_backlog
        ),
        (188, 0)
    );
}

#[test]
fn resets_for_closed_ports_are_limited() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.resets_per_second_max = 100;
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    for port in 1000..2000 {
        world
            .b
            .receive(world.now, &segment(Ipv4Addr::new(10, 0, 0, 77), &syn(port)));
    }
    let counters = world.b.stack.counters();
    assert_eq!((counters.resets_out, counters.resets_limited), (100, 900));
    assert_eq!(counters.no_connection, 1000);

    // So are those for a listener's port.
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    for port in 1000..2000 {
        let ack = TcpHeader {
            flags: Flags::ACK,
            ..syn(port)
        };
        let from = Ipv4Addr::new(10, 0, 0, 77);
        world.b.receive(world.now, &segment(from, &ack));
    }
    let counters = world.b.stack.counters();
    assert_eq!((counters.resets_out, counters.resets_limited), (100, 1900));
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let mut spec = HostSpec::new(2);
    spec.config.limits.connections_max = 5;
    let mut world = World::new(HostSpec::new(1), spec, Link::perfect());
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let sockets: Vec<SocketId> = (0..8)
        .map(|_| {
            world
                .a
                .stack
                .connect(world.now, at, ConnectConfig::default())
                .unwrap()
        })
        .collect();
    world.run(Duration::from_millis(100));
    assert_eq!(world.b.stack.connections(), 5);
    assert!(world.b.stack.counters().accept_dropped > 0);
    for socket in &sockets[..5] {
        world.a.stack.abort(*socket);
    }
    // The others' first data, or the SYN-ACK sent again, completes them.
    world.run(Duration::from_secs(10));
    assert_eq!(world.b.stack.connections(), 3);
}

/// ACKs that open a connection, repeated while the table is full and no connection may be closed:
/// one search in a millisecond, however many they are. A connection that becomes idle makes room.
#[test]
fn acks_for_a_full_table_cost_one_search_a_millisecond() {
    const CONNECTIONS: u32 = 200;
    const ACKS: u64 = 1000;
    let mut b = HostSpec::new(2);
    b.config.limits.connections_max = CONNECTIONS;
    let mut world = World::new(HostSpec::new(1), b, Link::perfect());
    world.listen(443, None);
    let accepted: Vec<SocketId> = (0..CONNECTIONS)
        .map(|_| {
            world.connect(None);
            world.expect(1, "Accepted", |n| match n {
                Notice::Accepted { socket, .. } => Some(*socket),
                _ => None,
            })
        })
        .collect();
    world.run(Duration::from_secs(10));

    let acks = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&acks);
    world.link.filter = Some(Box::new(move |from, frame| {
        let is_ack = from == 0 && frame[12..14] == [8, 0] && frame[47] == 0x10;
        if is_ack {
            kept.borrow_mut().push(frame.clone());
        }
        is_ack
    }));
    world.connect(None);
    world.run(Duration::from_millis(10));
    let ack = acks.borrow()[0].clone();
    let flood = |world: &mut World| {
        let before = world.b.stack.reclaim_steps();
        for _ in 0..ACKS {
            world.b.receive(world.now, &ack);
            world.b.net.frames.clear();
        }
        world.b.stack.reclaim_steps() - before
    };
    for round in 1..=3 {
        world.run(Duration::from_millis(2));
        let steps = flood(&mut world);
        if cfg!(debug_assertions) {
            assert!((1..=65).contains(&steps), "{steps} steps");
        }
        assert_eq!(world.b.stack.counters().accept_dropped, round * ACKS);
    }

    // More than may stay for a second in any case.
    for socket in &accepted[..20] {
        world.b.stack.set_idle(*socket, true);
    }
    flood(&mut world);
    assert_eq!(world.b.stack.counters().accept_dropped, 3 * ACKS);
    assert_eq!(world.b.stack.remote_addr(accepted[0]), None, "it is closed");
    assert_eq!(world.b.stack.connections(), CONNECTIONS);
}

#[test]
fn time_wait_is_bounded() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    for _ in 0..300 {
        let a = world
            .a
            .stack
            .connect(world.now, at, ConnectConfig::default())
            .unwrap();
        let b = world.expect(1, "Accepted", |n| match n {
            Notice::Accepted { socket, .. } => Some(*socket),
            _ => None,
        });
        world.b.stack.close(b);
        world.run(Duration::from_millis(1));
        world.a.stack.close(a);
        world.run(Duration::from_millis(1));
    }
    assert_eq!(world.b.stack.in_time_wait(), 256);
    // A port that comes twice takes the place of its predecessor.
    assert!((1..=44).contains(&world.b.stack.counters().time_wait_overflow));
    assert_eq!(world.b.stack.connections(), 0);
    world.run(Duration::from_secs(61));
    assert_eq!(world.b.stack.in_time_wait(), 0);
}

/// Runs conversations side by side: B sends `bytes` to each of `count` clients.
fn serve_many(world: &mut World, count: u64, bytes: u64, tls: bool, limit: Duration) -> Vec<App> {
    serve_many_watched(world, count, bytes, tls, limit, |_| {})
}

/// The same; `watch` sees the clients after each step.
fn serve_many_watched(
    world: &mut World,
    count: u64,
    bytes: u64,
    tls: bool,
    limit: Duration,
    mut watch: impl FnMut(&[App]),
) -> Vec<App> {
    let options = TlsOptions::default();
    let listen = ListenConfig {
        tls: tls.then(|| pki::server(&options)),
        ..ListenConfig::default()
    };
    let at = world.b_addr(443);
    world.b.stack.listen(at, listen).unwrap();
    let client = pki::client(&options);
    let mut clients: Vec<App> = Vec::new();
    let mut servers: Vec<App> = Vec::new();
    for n in 0..count {
        let mut app = App::new(n, 100, n + 1000, tls);
        let config = ConnectConfig {
            tls: tls.then(|| (client.clone(), pki::name())),
            ..ConnectConfig::default()
        };
        app.socket = Some(world.a.stack.connect(world.now, at, config).unwrap());
        clients.push(app);
    }
    let done = world.run_until(limit, |world| {
        while let Some(notice) = world.notices_a.pop_front() {
            for app in &mut clients {
                app.on_notice(&notice);
            }
        }
        while let Some(notice) = world.notices_b.pop_front() {
            if let Notice::Accepted { socket, remote, .. } = &notice {
                // Match by the client's port.
                let n = clients.iter().position(|c| {
                    c.socket.and_then(|s| world.a.stack.local_addr(s)) == Some(*remote)
                });
                let n = n.unwrap() as u64;
                let mut app = App::new(n + 1000, bytes, n, tls).by_reference(n.is_multiple_of(2));
                app.socket = Some(*socket);
                servers.push(app);
            }
            for app in &mut servers {
                app.on_notice(&notice);
            }
        }
        let mut any = true;
        while any {
            any = false;
            for app in &mut clients {
                any |= app.turn(world.now, &mut world.a);
            }
            for app in &mut servers {
                any |= app.turn(world.now, &mut world.b);
            }
            world.settle();
        }
        watch(&clients);
        clients.iter().all(|app| app.closed.is_some())
    });
    assert!(done, "{clients:?}\n{}", world.b.stack.counters());
    for app in &clients {
        assert_eq!((app.received, app.wrong), (bytes, None), "{app:?}");
    }
    clients
}

/// The smallest pools, and failing allocations on top: slower, counted, and everything comes back.
#[test]
fn exhausted_pools_slow_down_and_lose_nothing() {
    for (one_in, tls) in [(0, false), (0, true), (3, false), (3, true)] {
        let spec = |number| {
            let mut spec = HostSpec::new(number);
            spec.pool = PoolConfig {
                blocks: 40,
                small_spans: 12,
                large_spans: 4,
            };
            spec.config.limits.ranges_max = 24;
            spec
        };
        let mut world = World::new(spec(1), spec(2), Link::perfect());
        world.a.pages.inject_failures(5, one_in);
        world.b.pages.inject_failures(6, one_in);
        world.a.buffers.inject_failures(7, one_in * 20);
        world.b.buffers.inject_failures(8, one_in * 20);
        serve_many(&mut world, 20, 50_000, tls, Duration::from_secs(600));
        assert!(
            world.b.stack.counters().starved > 0,
            "nothing was ever scarce"
        );
        world.run(Duration::from_secs(90));
        assert_eq!(world.a.stack.connections() + world.b.stack.connections(), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}

/// A premature notice would only starve the sender again.
#[test]
fn a_starved_sender_gets_no_writable_notice_without_memory() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let config = ConnectConfig::default();
    world.a.stack.connect(world.now, at, config).unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    let mut held = Vec::new();
    for capacity in [LARGE_CAPACITY, SMALL_CAPACITY] {
        while let Some(page) = world.b.pages.alloc(capacity) {
            held.push(page);
        }
    }
    let mut notices = 0;
    for _ in 0..50 {
        assert_eq!(world.b.send(b, b"hello"), 0);
        world.b.turn(world.now);
        while let Some(notice) = world.b.stack.poll_notice() {
            notices += u32::from(matches!(notice, Notice::Writable(_)));
        }
    }
    assert!(notices <= 1, "{notices} notices without memory");
    // However long it finds nothing: that is one wait.
    for _ in 0..50 {
        world.run(Duration::from_millis(2));
        assert_eq!(world.b.send(b, b"hello"), 0);
    }
    assert_eq!(world.b.stack.counters().starved, 1);
    world.notices_b.clear();
    drop(held);
    world.expect(1, "Writable", |n| {
        matches!(n, Notice::Writable(_)).then_some(())
    });
    assert_eq!(world.b.send(b, b"hello"), 5);
}

/// Large bodies go from the page cache to the wire by reference, retransmissions included.
#[test]
fn nothing_is_copied_for_what_is_sent_by_reference() {
    for tls in [false, true] {
        let faults = Faults {
            delay: Duration::from_micros(100),
            loss_per_mille: 20,
            ..Faults::default()
        };
        let mut world = World::new(HostSpec::new(1), HostSpec::new(2), Link::new(3, faults));
        serve_many(&mut world, 1, 2_000_000, tls, Duration::from_secs(120));
        let counters = world.b.stack.counters();
        assert!(world.b.stack.tcp_counters().bytes_retransmitted > 0);
        assert_eq!(counters.bytes_by_copy, 0);
        assert_eq!(counters.bytes_by_reference, 2_000_000);
    }
}

/// The interface takes little: everything gets through, and nothing is committed that can't go.
#[test]
fn an_interface_with_little_room_slows_down() {
    let mut world = World::simple();
    world.b.net.capacity = 64 * 12;
    serve_many(&mut world, 10, 60_000, true, Duration::from_secs(60));
    assert_eq!(world.b.stack.counters().tx_failed, 0);
    assert_eq!(world.b.stack.tcp_counters().local_losses, 0);
}

/// Many at once share one link: when the first one has everything, each other has a third at least.
/// Nothing is lost, no connection waits for anything but the link, and none is reset.
#[test]
fn connections_take_turns() {
    let faults = Faults {
        delay: Duration::from_millis(1),
        rate: 10_000_000,
        ..Faults::default()
    };
    let mut world = World::new(HostSpec::new(1), HostSpec::new(2), Link::new(3, faults));
    let (count, bytes) = (8, 200_000);
    // What each has received when the first one has everything.
    let mut received = Vec::new();
    let watch = |clients: &[App]| {
        if received.is_empty() && clients.iter().any(|app| app.received == bytes) {
            received.extend(clients.iter().map(|app| app.received));
        }
    };
    serve_many_watched(
        &mut world,
        count,
        bytes,
        false,
        Duration::from_secs(60),
        watch,
    );
    let least = received.iter().min().copied().unwrap();
    assert!(least * 3 >= bytes, "{received:?}");
    let took = world.now.saturating_since(Instant::from_millis(1000));
    let link = Duration::from_millis(count * bytes / 10_000);
    assert!(took >= link && took < link * 2, "{took:?}, {link:?}");
    world.run(Duration::from_secs(1));
    let (stack, tcp) = (world.b.stack.counters(), world.b.stack.tcp_counters());
    assert_eq!((stack.accepted, stack.end_clean), (count, count));
    assert_eq!(stack.starved, 0);
    assert_eq!(
        stack.bytes_by_copy + stack.bytes_by_reference,
        count * bytes
    );
    assert_eq!((tcp.bytes_retransmitted, tcp.timeouts), (0, 0));
    assert_eq!(world.link.tally.queue_drops, 0);
}

/// While the interface has no room, connections that their peers reset are removed, and what they
/// held is free. A connection with something to send waits.
#[test]
fn a_full_interface_keeps_no_connection_that_is_over() {
    let mut world = World::simple();
    world.listen(443, None);
    let pairs: Vec<(SocketId, SocketId)> = (0..20)
        .map(|_| {
            let a = world.connect(None);
            let b = world.expect(1, "Accepted", |n| match n {
                Notice::Accepted { socket, .. } => Some(*socket),
                _ => None,
            });
            (a, b)
        })
        .collect();
    world.run(Duration::from_millis(5));
    world.b.net.capacity = 0;
    for (_, b) in &pairs {
        assert_eq!(world.b.send(*b, &[1; 5000]), 5000);
    }
    assert!(world.b.turn(world.now), "what is queued waits");
    for (a, _) in &pairs[1..] {
        world.a.stack.abort(*a);
    }
    while world.a.turn(world.now) {}
    for frame in std::mem::take(&mut world.a.net.frames) {
        world.b.receive(world.now, &frame);
    }
    assert!(world.b.turn(world.now));
    assert_eq!(world.b.stack.connections(), 1);
    let closed: Vec<_> = core::iter::from_fn(|| world.b.stack.poll_notice()).collect();
    let closed = closed.iter().filter_map(|notice| match notice {
        Notice::Closed(socket, reason) => Some((*socket, *reason)),
        _ => None,
    });
    let reset = pairs[1..].iter().map(|(_, b)| (*b, CloseReason::Reset));
    assert!(closed.eq(reset));
    assert_eq!(world.b.pages.usage().blocks_used, 2, "and the reserve");

    world.b.net.capacity = 4096;
    world.run(Duration::from_millis(5));
    assert_eq!(world.a.drain(pairs[0].0).0, [1; 5000]);
}

/// A listener that stops doesn't accept what was on its way either.
#[test]
fn a_stopped_listener_resets_half_open_connections() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let listener = world.b.stack.listen(at, ListenConfig::default()).unwrap();
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    assert!(world.run_until(Duration::from_secs(1), |w| w.b.stack.half_open() == 1));
    world.b.stack.unlisten(listener);
    world.run(Duration::from_millis(10));
    assert_eq!(
        (world.b.stack.half_open(), world.b.stack.connections()),
        (0, 0)
    );
    assert_eq!(world.a.stack.counters().end_reset, 1);
}

/// Answers are sent where connections find no room: an interface that is always full would
/// otherwise never accept connections.
#[test]
fn a_full_interface_lets_new_connections_in() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let stack = &mut world.b.stack;
    stack.listen(at, ListenConfig::default()).unwrap();
    world.b.net.capacity = 0;
    world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    assert!(world.run_until(Duration::from_millis(900), |w| {
        w.a.stack.counters().connected == 1
    }));
    assert_eq!(world.b.stack.counters().answers_lost, 0);
}

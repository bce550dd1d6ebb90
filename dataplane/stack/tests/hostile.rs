//! Hostile peers beside fair ones: the fair ones are served, whatever the hostile ones hold.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use lockgate_stack::SocketId;
use lockgate_tcp::State;
use pktbuf::{PoolConfig, SMALL_CAPACITY};
use support::scene::{FAIR, Kind, POOL, SMALL_POOL, Scene, hosts};

/// Clients that pipeline requests for small responses and read nothing.
#[test]
fn pipelining_clients_that_read_nothing() {
    let pool = PoolConfig {
        small_spans: 6000,
        blocks: 10_000,
        ..POOL
    };
    let (a, b) = hosts(pool, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(60);
    for socket in &hostile {
        for _ in 0..100 {
            scene.request(*socket, 1000, Kind::Copied);
        }
    }
    scene.run(Duration::from_secs(1));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    let usage = scene.world.b.pages.usage();
    assert!(
        usage.large_spans_used < 100 && usage.small_spans_used < 60 * 70,
        "a response has memory of its size, and two windows are queued: {usage:?}"
    );
    assert_eq!(
        scene.counter("stack.reclaimed_slow"),
        0,
        "memory was enough"
    );
    scene.finish();
}

/// Clients that ask for much and read nothing: each pins one record, and no more than two windows
/// of the page cache.
#[test]
fn clients_that_ask_for_much_and_read_nothing() {
    let (a, b) = hosts(POOL, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(200);
    for socket in &hostile {
        scene.request(*socket, 2_000_000, Kind::ByReference);
    }
    scene.run(Duration::from_secs(5));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    for socket in scene.serving.keys() {
        let queued = scene.world.b.stack.send_queued(*socket);
        assert!(queued <= 3 * 16_500, "{queued} bytes are queued");
    }
    scene.finish();
}

/// Clients with large windows fall silent in the middle of a download.
#[test]
fn clients_that_fall_silent() {
    let (a, b) = hosts(POOL, 2 << 20);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(72);
    for socket in &hostile {
        scene.request(*socket, 50_000_000, Kind::ByReference);
    }
    // Their windows open.
    for _ in 0..40 {
        scene.run(Duration::from_millis(10));
        for socket in &hostile {
            scene.world.a.drain(*socket);
        }
    }
    for socket in &hostile {
        scene.go_silent(*socket);
    }
    scene.run(Duration::from_millis(200));
    let usage = scene.world.b.pages.usage();
    assert!(usage.large_spans_used > 200, "they hold much: {usage:?}");
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(3));
    }
    scene.finish();
}

/// Fair clients beside so many that request this, where spans are few, and fall silent.
fn beside_silent_clients(count: usize, bytes: u32, kind: Kind) -> Scene {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(count);
    for socket in &hostile {
        scene.request(*socket, bytes, kind);
    }
    scene.silence_before_acknowledgments(&hostile);
    for _ in 0..5 {
        scene.fair_client(&FAIR, Duration::from_secs(60));
    }
    scene
}

/// There are more connections than spans, and each holds what it is guaranteed.
#[test]
fn more_silent_clients_than_spans() {
    let scene = beside_silent_clients(150, 1_000_000, Kind::ByReference);
    assert!(scene.counter("stack.ciphertext_dropped") > 0);
    scene.finish();
}

/// Copies can't be made again. The connections that hold them and take nothing are reset, no other.
#[test]
fn silent_clients_that_hold_copies() {
    let scene = beside_silent_clients(100, 10_000, Kind::Copied);
    let reset = scene.counter("stack.reclaimed_slow");
    assert!((1..=100).contains(&reset), "{reset}");
    scene.finish();
}

/// Many fair connections at a time with the smallest pools: slow, and each is served.
#[test]
fn a_thousand_fair_connections_share_the_smallest_pools() {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, true);
    let sockets = scene.connect_many(1000);
    for socket in &sockets {
        scene.request(*socket, 40_000, Kind::ByReference);
    }
    let mut received: HashMap<SocketId, usize> = HashMap::new();
    scene.run_until(Duration::from_secs(120), |scene| {
        for socket in &sockets {
            let bytes = scene.world.a.drain(*socket).0.len();
            *received.entry(*socket).or_default() += bytes;
        }
        received.values().all(|bytes| *bytes == 40_000)
    });
    assert_eq!(scene.counter("stack.reclaimed_slow"), 0);
    assert!(
        scene.counter("stack.starved") > 0,
        "memory was never scarce"
    );
    // Three thousand records were sent. If each freed span woke every waiting socket, there would
    // be millions of wake-ups.
    if cfg!(debug_assertions) {
        let steps = scene.world.b.stack.wake_steps();
        assert!((1000..200_000).contains(&steps), "{steps} wake-ups");
    }
    scene.finish();
}

/// Hundreds of connections wait for memory. A freed span wakes as many as it has room for, and the
/// passing of time no more than one.
#[test]
fn a_freed_span_wakes_no_more_than_it_has_room_for() {
    let (a, b) = hosts(SMALL_POOL, 64 << 10);
    let mut scene = Scene::new(a, b, false);
    let sockets = scene.connect_many(300);
    let mut held = scene.world.b.hold_pages();
    for socket in &sockets {
        scene.request(*socket, 1000, Kind::Copied);
    }
    scene.run(Duration::from_millis(20));
    assert_eq!(scene.counter("stack.starved"), 300);
    // A millisecond is the interval in which starved sockets are woken though nothing was freed.
    let steps_in = |scene: &mut Scene, millis| {
        let before = scene.world.b.stack.wake_steps();
        scene.run(Duration::from_millis(millis));
        scene.world.b.stack.wake_steps() - before
    };
    let idle = steps_in(&mut scene, 100);
    assert!(idle <= 101, "{idle} sockets are woken for nothing");
    // A response takes a span, which is free again when it is acknowledged.
    for _ in 0..10 {
        held.pop();
        let woken = steps_in(&mut scene, 1);
        if cfg!(debug_assertions) {
            assert!((1..=8).contains(&woken), "{woken} are woken for a span");
        }
        held.extend(scene.world.b.pages.alloc(SMALL_CAPACITY));
    }
    drop(held);
    let mut received = 0;
    scene.run_until(Duration::from_secs(10), |scene| {
        let drained = sockets.iter().map(|s| scene.world.a.drain(*s).0.len());
        received += drained.sum::<usize>();
        received == 300 * 1000
    });
    scene.finish();
}

/// The table of connections is full of idle ones. The ones that are idle for longest make room.
#[test]
fn idle_connections_make_room_for_new_ones() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    // A sixteenth is kept free.
    b.config.limits.connections_max = 34;
    let mut scene = Scene::new(a, b, true);
    let first = scene.connect_many(16);
    let second = scene.connect_many(16);
    scene.run(Duration::from_secs(1));
    // The first ones are used again.
    for socket in &first {
        scene.request(*socket, 100, Kind::Copied);
    }
    scene.run(Duration::from_secs(1));
    for _ in 0..8 {
        scene.fair_client(&FAIR, Duration::from_secs(5));
    }
    assert!(scene.counter("stack.reclaimed_idle") > 0);
    assert_eq!(scene.counter("stack.reclaimed_slow"), 0);
    let closed = |sockets: &[SocketId]| {
        let ended = sockets.iter().filter(|s| {
            let info = scene.world.a.stack.tcp_info(**s);
            info.is_none_or(|info| info.state != State::Established)
        });
        ended.count()
    };
    assert_eq!(closed(&first), 0, "they were used last");
    assert!(closed(&second) > 0);
    scene.finish();
}

/// The table is full of connections whose peers read nothing. A new connection takes the
/// place of one of them. It is idle until its request has arrived, and isn't closed for that.
#[test]
fn a_new_connection_is_not_closed_in_a_table_of_busy_ones() {
    let (a, mut b) = hosts(POOL, 4096);
    b.config.limits.connections_max = 64;
    let mut scene = Scene::new(a, b, true);
    // What is idle is less than a sixteenth of the table at any time.
    for _ in 0..16 {
        for socket in scene.connect_many(4) {
            scene.request(socket, 2_000_000, Kind::ByReference);
        }
        scene.run(Duration::from_millis(50));
    }
    // What they took at first doesn't count any more.
    scene.run(Duration::from_secs(45));
    for _ in 0..10 {
        scene.fair_client(&FAIR, Duration::from_secs(5));
    }
    assert!(scene.counter("stack.reclaimed_slow") > 0);
    assert_eq!(scene.counter("stack.reclaimed_idle"), 0);
    scene.finish();
}

/// The table is full of connections whose peers took much and then closed their windows. New
/// connections get places at once. A slow reader keeps its place.
#[test]
fn closed_windows_keep_no_client_out_of_a_full_table() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    b.config.limits.connections_max = 64;
    // The slow reader takes a full record at a time.
    b.config.dynamic_records.small_records = 0;
    let mut scene = Scene::new(a, b, true);
    let slow = scene.connect_many(1)[0];
    scene.request(slow, 2_000_000, Kind::ByReference);
    for _ in 0..21 {
        for socket in scene.connect_many(3) {
            scene.request(socket, 2_000_000, Kind::ByReference);
        }
        scene.run(Duration::from_millis(50));
    }
    let mut slow_bytes = 0;
    for _ in 0..3 {
        scene.run(Duration::from_secs(2));
        slow_bytes += scene.read_one(slow);
    }
    assert_eq!(scene.world.b.stack.connections(), 64);

    // Each client closes its window in the end, so that the table is full again.
    for _ in 0..10 {
        let socket = scene.connect();
        scene.download(socket, &FAIR, Duration::from_secs(1));
        scene.request(socket, 2_000_000, Kind::ByReference);
        scene.run(Duration::from_secs(1));
        slow_bytes += scene.read_one(slow);
    }
    assert_eq!(scene.counter("stack.reclaimed_slow"), 10);
    assert_eq!(scene.counter("stack.reclaimed_idle"), 0);
    assert_eq!(scene.counter("stack.accept_dropped"), 0);
    for _ in 0..20 {
        scene.run(Duration::from_secs(1));
        slow_bytes += scene.read_one(slow);
    }
    assert!(slow_bytes > 20 * 16_000, "{slow_bytes}");
    scene.finish();
}

/// An upload makes progress while the table is full of idle connections. It isn't closed, however
/// long ago it began; an upload that has stopped is.
#[test]
fn an_upload_outlives_idle_connections() {
    let (a, mut b) = hosts(POOL, 64 << 10);
    b.config.limits.connections_max = 34;
    let mut scene = Scene::new(a, b, true);
    let uploads = scene.connect_many(2);
    let (moving, stopped) = (uploads[0], uploads[1]);
    for socket in &uploads {
        scene.request(*socket, 1_000_000, Kind::Upload);
    }
    scene.run(Duration::from_millis(50));
    let mut sent = 0;
    // More connections than there are places, each idle from its handshake on.
    for _ in 0..30 {
        scene.connect_many(2);
        sent += scene.world.a.send(moving, &[1; 5000]);
        scene.run(Duration::from_secs(1));
    }
    assert!(scene.counter("stack.reclaimed_idle") >= 28);
    let is_open = |socket| {
        let info = scene.world.a.stack.tcp_info(socket);
        info.is_some_and(|info| info.state == State::Established)
    };
    assert!(is_open(moving) && !is_open(stopped));

    let body = vec![1; 1_000_000];
    let mut answer = Vec::new();
    scene.run_until(Duration::from_secs(60), |scene| {
        let left = &body[sent as usize..];
        if !left.is_empty() {
            sent += scene.world.a.send(moving, left);
        }
        answer.extend(scene.world.a.drain(moving).0);
        answer.len() == 8
    });
    scene.finish();
}

//! The order in which memory and places are taken back, step by step in one scene.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_stack::SocketId;
use pktbuf::PoolConfig;
use support::scene::{Kind, Scene, hosts};

/// What was done so far: shares that were used up, spans of ciphertext that were dropped, idle
/// connections that were closed, connections that were reset.
fn done(scene: &Scene) -> [u64; 4] {
    [
        "stack.share_limited",
        "stack.ciphertext_dropped",
        "stack.reclaimed_idle",
        "stack.reclaimed_slow",
    ]
    .map(|name| scene.counter(name))
}

/// Downloads, so that the congestion window grows.
fn warm_up(scene: &mut Scene, socket: SocketId) {
    let limit = Duration::from_secs(5);
    scene.download(socket, &[(400_000, Kind::ByReference)], limit);
    scene.run(Duration::from_millis(100));
}

/// Has clients that are silent acknowledge bytes, a part of them every half a second.
fn acknowledge_for(scene: &mut Scene, halves: u32, clients: &[(SocketId, u32)]) {
    for _ in 0..halves {
        scene.run(Duration::from_millis(500));
        for (socket, bytes) in clients {
            scene.acknowledge(*socket, *bytes);
        }
    }
}

/// The connection at B that a client of A has.
fn end_at_b(scene: &Scene, socket: SocketId) -> SocketId {
    let port = scene.world.a.stack.local_addr(socket).unwrap().port();
    let mut all = scene.serving.keys();
    let found = all.find(|b| {
        let remote = scene.world.b.stack.remote_addr(**b);
        remote.is_some_and(|at| at.port() == port)
    });
    *found.unwrap()
}

const LIMIT: Duration = Duration::from_secs(1);
const SHORT: [(u32, Kind); 1] = [(10_000, Kind::ByReference)];

/// 1. Shares shrink. 2. Ciphertext is dropped that can be made again. 3. The table is nearly full:
///    idle connections are closed, oldest first. 4. Connections are reset, least progress per byte
///    held first, and none above the least rate. Nothing is done before the steps before it are in
///    vain.
#[test]
fn memory_is_taken_back_step_by_step() {
    let pool = PoolConfig {
        blocks: 512,
        small_spans: 256,
        large_spans: 48,
    };
    let (a, mut b) = hosts(pool, 1 << 20);
    b.config.limits.connections_max = 64;
    b.config.dynamic_records.small_records = 0;
    let mut scene = Scene::new(a, b, true);
    let idle = scene.connect_many(8);
    let fair = scene.connect_many(1)[0];
    let steady = scene.connect_many(3);
    let silent = scene.connect_many(2);
    assert_eq!(done(&scene), [0; 4]);

    // One: a download takes no more than its share.
    for socket in steady.iter().chain(&silent) {
        warm_up(&mut scene, *socket);
    }
    let [shares, ..] = done(&scene);
    assert!(shares > 0);
    assert_eq!(done(&scene)[1..], [0; 3]);

    // Two: ciphertext of clients that fell silent.
    for socket in &silent {
        scene.request(*socket, 60_000, Kind::ByReference);
    }
    scene.silence_after_requests(&silent);
    let held = scene.world.b.hold_pages();
    scene.download(fair, &SHORT, LIMIT);
    let [_, dropped, idle_closed, reset] = done(&scene);
    assert!((1..=8).contains(&dropped), "{dropped}");
    assert_eq!((idle_closed, reset), (0, 0));
    drop(held);
    scene.silent.borrow_mut().clear();
    scene.run(Duration::from_secs(5));
    for socket in &silent {
        assert_eq!(scene.world.a.drain(*socket).0.len(), 60_000);
    }

    // Three: places in the table. The ones that were never used are idle for longest.
    scene.run(Duration::from_secs(2));
    scene.download(fair, &SHORT, LIMIT);
    for _ in 0..5 {
        scene.connect_many(10);
    }
    scene.run(Duration::from_secs(1));
    let [_, _, idle_closed, reset] = done(&scene);
    assert_eq!(idle_closed, 4, "a sixteenth of 64 stays free");
    assert_eq!(reset, 0);
    let open: Vec<bool> = idle.iter().map(|socket| scene.is_open(*socket)).collect();
    assert_eq!(open, [false, false, false, false, true, true, true, true]);

    // Four: copies can't be made again. The first client takes more than the second one, and less
    // for each byte that it holds. The third one takes more than the least rate.
    let dropped = done(&scene)[1];
    let sizes = [110_000, 30_000, 120_000];
    for (socket, bytes) in steady.iter().zip(sizes) {
        scene.request(*socket, bytes, Kind::Copied);
    }
    scene.silence_after_requests(&steady);
    let holds = |scene: &Scene, at: usize| {
        let end = end_at_b(scene, steady[at]);
        scene.world.b.stack.send_queued(end)
    };
    assert!(holds(&scene, 0) > 100_000 && holds(&scene, 2) > 100_000);
    assert!((30_000..30_100).contains(&holds(&scene, 1)));
    let rates = [(steady[0], 185), (steady[1], 100), (steady[2], 400)];
    acknowledge_for(&mut scene, 6, &rates);
    for (step, gone) in (1..).zip([steady[0], steady[1]]) {
        let held = scene.world.b.hold_pages();
        assert!(scene.is_open(gone));
        scene.download(fair, &SHORT, LIMIT);
        assert_eq!(done(&scene)[1..], [dropped, 4, step]);
        assert!(!scene.is_open(gone), "step {step}");
        drop(held);
        acknowledge_for(&mut scene, 1, &rates[2..]);
    }
    // Nothing more can be taken back: the fair client waits, until memory is free.
    let held = scene.world.b.hold_pages();
    scene.request(fair, 10_000, Kind::ByReference);
    acknowledge_for(&mut scene, 20, &rates[2..]);
    assert_eq!(scene.world.a.drain(fair).0.len(), 0);
    assert!(scene.is_open(steady[2]));
    assert_eq!(done(&scene)[1..], [dropped, 4, 2]);
    drop(held);
    scene.run(LIMIT);
    assert_eq!(scene.world.a.drain(fair).0.len(), 10_000);
    scene.finish();
}

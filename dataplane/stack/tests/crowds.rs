//! A thousand hostile peers of each kind beside fair clients. There are more peers than spans: each
//! kind uses up what it can get, and the fair clients are served.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use lockgate_stack::{CloseReason, SocketId};
use support::scene::{FAIR, Kind, POOL, SMALL_POOL, Scene, hosts};

const PEERS: usize = 1000;
const FAIR_CLIENTS: usize = 5;
/// For each request of a fair client, in virtual time: spans are scarce, and each record waits.
const LIMIT: Duration = Duration::from_secs(60);

/// Fair clients, one after the other. Each is served within `limit`.
fn serve_fair_clients(scene: &mut Scene, limit: Duration) {
    for _ in 0..FAIR_CLIENTS {
        scene.fair_client(&FAIR, limit);
    }
}

/// How many of these connections B has reset.
fn reset(scene: &Scene, sockets: &[SocketId]) -> usize {
    let is_reset = |socket: &&SocketId| scene.closed.get(socket) == Some(&CloseReason::Reset);
    sockets.iter().filter(is_reset).count()
}

/// Each pipelines a hundred requests for small responses and reads nothing. What is queued for them
/// are copies: who takes nothing is reset.
#[test]
fn a_thousand_clients_that_pipeline_and_read_nothing() {
    let (a, b) = hosts(POOL, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(PEERS);
    let mut requests = Vec::new();
    for _ in 0..100 {
        requests.extend(1000_u32.to_le_bytes());
        requests.extend((Kind::Copied as u32).to_le_bytes());
    }
    for socket in &hostile {
        let sent = scene.world.a.send(*socket, &requests);
        assert_eq!(sent as usize, requests.len());
    }
    scene.run(Duration::from_secs(1));
    serve_fair_clients(&mut scene, LIMIT);
    let gone = reset(&scene, &hostile);
    assert_eq!(scene.counter("stack.reclaimed_slow"), gone as u64);
    assert!(scene.counter("stack.starved") > 0);
    scene.finish();
}

/// Each requests a range of two megabytes and reads nothing.
#[test]
fn a_thousand_clients_that_ask_for_much_and_read_nothing() {
    let (a, b) = hosts(POOL, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(PEERS);
    for socket in &hostile {
        scene.request(*socket, 2_000_000, Kind::ByReference);
    }
    scene.run(Duration::from_secs(5));
    serve_fair_clients(&mut scene, LIMIT);
    for socket in scene.serving.keys() {
        let queued = scene.world.b.stack.send_queued(*socket);
        assert!(queued <= 2 * 16_406, "{queued} bytes are queued");
    }
    let gone = reset(&scene, &hostile);
    assert_eq!(scene.counter("stack.reclaimed_slow"), gone as u64);
    scene.finish();
}

/// Each falls silent in the middle of a download.
#[test]
fn a_thousand_clients_that_fall_silent() {
    let (a, b) = hosts(POOL, 256 << 10);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(PEERS);
    for socket in &hostile {
        scene.request(*socket, 50_000_000, Kind::ByReference);
    }
    for _ in 0..3 {
        scene.run(Duration::from_millis(10));
        for socket in &hostile {
            scene.world.a.drain(*socket);
        }
    }
    scene.silence_before_acknowledgments(&hostile);
    serve_fair_clients(&mut scene, LIMIT);
    assert!(scene.counter("stack.ciphertext_dropped") > 0);
    assert_eq!(scene.world.b.stack.tcp_counters().timed_out, 0);
    scene.finish();
}

/// Each takes tiny segments and loses every second one, so that each acknowledgment reports single
/// segments: they use up the ranges of sent bytes.
#[test]
fn a_thousand_clients_that_acknowledge_single_segments() {
    let (a, mut b) = hosts(POOL, 8 << 10);
    b.config.limits.ranges_max = 2048;
    let mut scene = Scene::new(a, b, true);
    // Plain connections of their own port: a handshake by tiny segments with losses takes long.
    scene.world.listen(80, None);
    let hostile = scene.connect_sacking(PEERS);
    for socket in &hostile {
        scene.request(*socket, 1_000_000, Kind::ByReference);
    }
    scene.run(Duration::from_secs(1));
    let used = scene.world.b.stack.ranges();
    let refused = scene.world.b.stack.tcp_counters().sack_splits_refused;
    assert!(
        used > 2048 && refused > 0,
        "{used} ranges, {refused} refused"
    );
    assert!(used <= scene.world.b.stack.ranges_max());
    serve_fair_clients(&mut scene, LIMIT);
    scene.finish();
}

/// Each reads a record a minute: more than nothing, and less than the least rate. With the smallest
/// pools, who holds memory at that rate loses it when others wait.
#[test]
fn a_thousand_clients_that_read_a_record_a_minute() {
    let (a, b) = hosts(SMALL_POOL, 4096);
    let mut scene = Scene::new(a, b, true);
    let hostile = scene.connect_many(PEERS);
    for socket in &hostile {
        scene.request(*socket, 1_000_000, Kind::ByReference);
    }
    for _ in 0..5 {
        scene.run(Duration::from_secs(55));
        scene.fair_client(&FAIR, LIMIT);
        for socket in &hostile {
            if !scene.closed.contains_key(socket) {
                scene.read_one(*socket);
            }
        }
    }
    let gone = reset(&scene, &hostile);
    assert_eq!(scene.counter("stack.reclaimed_slow"), gone as u64);
    scene.finish();
}

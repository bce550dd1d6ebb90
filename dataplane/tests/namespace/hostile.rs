//! Hostile peers beside fair clients: each request of a fair client succeeds while peers hold all
//! that they can get. The counters name what was done to them. When they have left, all memory is
//! free again.
//!
//! Peers that send segments which no kernel sends are in the simulators.

mod fair;
mod frames;
pub(crate) mod link;
mod packet_socket;
mod peers;
pub(crate) mod records;
pub(crate) mod requests;
mod senders;

use std::io::Write as _;
use std::process::Command;

use self::fair::beside_fair_clients;
use self::peers::{ENDLESS, Peers, endless_file};
use crate::support::client::request;
use crate::support::scene::{Scene, Setup};
use crate::support::server::Stats;
use lockgate_testing::cases::{Case, skip_case};
use lockgate_testing::network::ip;
use lockgate_testing::process::run;
use lockgate_testing::wait_until;
use rustix::process::Signal;

pub(crate) const CASES: &[Case] = &[
    Case::new("hostile::pipelined_requests", || {
        let stats = unread_answers(usual(), 60);
        assert_nothing_exhausted(&stats);
        assert!(stats.total("http.open") >= 60, "{stats:?}");
        assert!(used_sixteenths(&stats) < 8, "{stats:?}");
        // Each keeps the record with its requests.
        let pinned = stats.total("worker.received_bytes_pinned");
        assert!(pinned >= 60 * 4096, "{stats:?}");
    }),
    Case::new("hostile::pipelined_requests_to_two_workers", || {
        let stats = unread_answers(usual().workers(2), 60);
        assert_nothing_exhausted(&stats);
        assert!(stats.total("http.open") >= 60, "{stats:?}");
        assert!(used_sixteenths(&stats) < 8, "{stats:?}");
        for worker in ["0", "1"] {
            let accepted = stats.json()["workers"][worker]["stack.accepted"].as_u64();
            assert!(accepted > Some(0), "worker {worker}: {stats:?}");
        }
    }),
    Case::new("hostile::pipelined_requests_where_spans_are_few", || {
        let few = Setup::smallest().set("tcp.connections_max", 128);
        let stats = unread_answers(few, 30);
        assert_reclaimed(&stats);
    }),
    Case::new("hostile::unread_ranges", || {
        unread_ranges(usual());
    }),
    Case::new("hostile::unread_ranges_where_the_cache_is_small", || {
        let stats = unread_ranges(usual().set("cache.memory_max", "1MiB"));
        let (pinned, max) = (
            stats.process("files.pinned_bytes"),
            stats.process("files.pinned_bytes_max"),
        );
        assert!(pinned <= max && max == 1 << 19, "{stats:?}");
        assert!(stats.process("files.pins_refused") > 0, "{stats:?}");
    }),
    Case::new("hostile::silence_with_much_in_flight", || {
        let stats = silence(usual());
        assert_nothing_exhausted(&stats);
    }),
    Case::new("hostile::silence_where_spans_are_few", || {
        let stats = silence(Setup::new().set("limits.spans_large", 128));
        assert_reclaimed(&stats);
    }),
    Case::new("hostile::tiny_segments", tiny_segments).with(&["tc"]),
    Case::new("hostile::unfinished_client_hellos", unfinished_hellos),
    Case::new("hostile::more_peers_than_spans", more_than_spans),
    Case::new("hostile::a_table_of_idle_connections", idle_table),
    Case::new("hostile::a_ring_that_keeps_what_was_sent", kept_ring),
];

/// Pools, tables and cache as by default. The time limits are those of the other cases: minutes, so
/// that none of them helps.
fn usual() -> Setup {
    Setup::new().without("limits").without("cache")
}

/// Peers request a small file a hundred times each and read nothing. Returns the counters while
/// they stay.
fn unread_answers(setup: Setup, peers: usize) -> Stats {
    let scene = setup.start();
    scene.file("small.bin", 1024);
    let gets = request("GET", "/small.bin", "").repeat(100);
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let _peers = Peers::that_read_nothing(&scene, peers, |_| gets.clone());
        fair.wait_rounds(ROUNDS);
        scene.server.stats()
    });
    finish(scene);
    stats
}

/// A hundred peers request a range of a large file each and read nothing. Returns the counters
/// while they stay.
fn unread_ranges(setup: Setup) -> Stats {
    const PEERS: usize = 100;
    const RANGE: usize = 2 << 20;
    let scene = setup.start();
    scene.file("large.bin", PEERS * RANGE);
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let _peers = Peers::that_read_nothing(&scene, PEERS, |peer| {
            let (first, last) = (peer * RANGE, (peer + 1) * RANGE - 1);
            request(
                "GET",
                "/large.bin",
                &format!("Range: bytes={first}-{last}\r\n"),
            )
        });
        fair.wait_rounds(ROUNDS);
        scene
            .server
            .wait("http.responses.206", |count| count == PEERS as u64)
    });
    assert_nothing_exhausted(&stats);
    assert!(used_sixteenths(&stats) < 8, "{stats:?}");
    // Else the ranges would be there for everyone, whatever is pinned.
    assert!(
        stats.process("files.bytes_max") < (PEERS * RANGE) as u64,
        "{stats:?}"
    );
    finish(scene);
    stats
}

/// Peers vanish in mid-download, and acknowledge nothing of what is on its way to them. Returns the
/// counters while they are silent.
fn silence(setup: Setup) -> Stats {
    const PEERS: usize = 72;
    let scene = setup.routed().start();
    endless_file(&scene);
    let (router, client) = (scene.net.router(), scene.net.client());
    // Both discard packets without a message.
    let blackholes = [(router, "198.19.0.2/32"), (client, "198.18.0.1/32")];
    let stats = beside_fair_clients(&scene, router, |fair| {
        let mut peers = Peers::with_room(&scene, PEERS);
        let mut read = 0;
        wait_until("half a MiB for each peer", || {
            read += peers.read(1 << 20);
            read >= PEERS << 19
        });
        for (namespace, to) in blackholes {
            ip(&format!("-n {namespace} route add blackhole {to}"));
        }
        fair.wait_rounds(ROUNDS);
        let stats = scene
            .server
            .wait("tcp.timeouts", |count| count >= PEERS as u64);
        for (namespace, to) in blackholes {
            ip(&format!("-n {namespace} route del blackhole {to}"));
        }
        stats
    });
    assert_eq!(stats.total("stack.end_timed_out"), 0, "{stats:?}");
    finish(scene);
    stats
}

/// Peers with the smallest segments read slowly, behind a queue that loses some of them: there is a
/// hole in what they have, and they acknowledge single segments behind it.
fn tiny_segments() {
    let scene = usual().routed().start();
    endless_file(&scene);
    let (router, client) = (scene.net.router(), scene.net.client());
    let mut command = Command::new("tc");
    let queue = "qdisc add dev far0 root tbf rate 20mbit burst 16kb limit 40kb";
    let added = run(command.args(["-n", router]).args(queue.split(' ')));
    if added.code != Some(0) {
        let why = added.err.trim();
        skip_case(format!("this kernel has no token bucket: {why}"));
    }
    ip(&format!(
        "-n {client} route change default via 198.19.0.1 advmss 88"
    ));
    let stats = beside_fair_clients(&scene, router, |fair| {
        let mut peers = Peers::with_room(&scene, 24);
        fair.wait_rounds_while(ROUNDS, || {
            peers.read(512);
        });
        scene.server.wait("tcp.recoveries", |count| count > 0)
    });
    assert_nothing_exhausted(&stats);
    finish(scene);
}

/// A thousand peers send a long ClientHello without its end, and a thousand send one byte: twice as
/// many as there may be handshakes.
fn unfinished_hellos() {
    const PEERS: usize = 2000;
    const HANDSHAKES: usize = 1024;
    let scene = usual().set("tcp.half_open_max", HANDSHAKES as i64).start();
    // A record of 16 KiB, and in it a handshake message.
    let mut hello = vec![0; 5 + (16 << 10)];
    hello[..11].copy_from_slice(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]);
    let begin = &hello[..hello.len() - 905];
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let _peers = Peers::without_tls(PEERS, |tcp, peer| {
            let bytes = if peer % 2 == 0 { begin } else { &hello[..1] };
            // It may be reset to make room for others.
            let _ = tcp.write_all(bytes);
        });
        fair.wait_rounds(ROUNDS);
        scene.server.stats()
    });
    let evicted = stats.total("stack.handshakes_evicted");
    assert!(evicted >= (PEERS - HANDSHAKES) as u64, "{stats:?}");
    for budget in ["worker.handshakes", "worker.handshake_bytes"] {
        let max = stats.total(&format!("{budget}_max"));
        assert!(stats.total(budget) <= max, "{budget}: {stats:?}");
    }
    assert_logged(&scene, "handshakes (");
    finish(scene);
}

/// Forty peers read nothing where there are sixteen spans.
fn more_than_spans() {
    let scene = Setup::smallest().start();
    endless_file(&scene);
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let get = request("GET", ENDLESS, "");
        let _peers = Peers::that_read_nothing(&scene, 40, |_| get.clone());
        fair.wait_rounds(ROUNDS);
        scene.server.stats()
    });
    assert_reclaimed(&stats);
    assert_logged(&scene, "page buffers (");
    finish(scene);
}

/// Twice as many idle connections as there may be.
fn idle_table() {
    const PLACES: usize = 64;
    let scene = usual().set("tcp.connections_max", PLACES as i64).start();
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let _peers = Peers::idle(2 * PLACES);
        fair.wait_rounds(ROUNDS);
        scene.server.stats()
    });
    assert!(
        stats.total("stack.reclaimed_idle") >= PLACES as u64,
        "{stats:?}"
    );
    assert_eq!(stats.total("stack.reclaimed_slow"), 0, "{stats:?}");
    assert_logged(&scene, "connections (");
    finish(scene);
}

/// The port's ring keeps what was sent until its descriptors are reused. What was sent to peers
/// that read nothing uses up its share of the page buffers: it stays in the ring, and fair clients
/// get copies.
fn kept_ring() {
    const SPANS: u64 = 128;
    let setup = Setup::new().set("test.hold_sent", "until-reused");
    let mut scene = setup.set("limits.spans_large", SPANS as i64).start();
    endless_file(&scene);
    let stats = beside_fair_clients(&scene, scene.net.client(), |fair| {
        let get = request("GET", ENDLESS, "");
        let _peers = Peers::that_read_nothing(&scene, 40, |_| get.clone());
        fair.wait_rounds(ROUNDS);
        scene.server.stats()
    });
    assert!(stats.port("port.tx_ring_share") > 0, "{stats:?}");
    let at_rest = scene.server.wait("worker.connections", |open| open == 0);
    // A quarter, and a record whose first frame has just left the ring.
    let held = at_rest.total("pages.large_spans_used");
    assert!(held <= SPANS / 4 + 1, "{at_rest:?}");
    scene.server.signal(Signal::TERM);
    scene.server.ended();
}

/// No peer had to lose anything: each one's share was small enough.
#[track_caller]
fn assert_nothing_exhausted(stats: &Stats) {
    for counter in [
        "stack.starved",
        "stack.reclaimed_slow",
        "stack.ciphertext_dropped",
    ] {
        assert_eq!(stats.total(counter), 0, "{counter}: {stats:?}");
    }
}

/// What is in use of the pool that has the least left, in sixteenths.
fn used_sixteenths(stats: &Stats) -> u64 {
    let used = ["blocks", "small_spans", "large_spans"].map(|pool| {
        let size = stats.total(&format!("pages.{pool}"));
        stats.total(&format!("pages.{pool}_used")) * 16 / size
    });
    used.into_iter().max().unwrap_or(0)
}

/// Clients waited for memory, and hostile peers lost some.
#[track_caller]
fn assert_reclaimed(stats: &Stats) {
    assert!(stats.total("stack.starved") > 0, "{stats:?}");
    let slow = stats.total("stack.reclaimed_slow");
    let dropped = stats.total("stack.ciphertext_dropped");
    assert!(slow + dropped > 0, "{stats:?}");
}

/// The log names an exhausted budget.
#[track_caller]
fn assert_logged(scene: &Scene, budget: &str) {
    let log = scene.server.log();
    let mut lines = log.lines().filter(|line| line.contains("overload: "));
    assert!(lines.any(|line| line.contains(budget)), "{log}");
}

/// The hostile peers have left: nothing is held any more.
#[track_caller]
fn finish(scene: Scene) {
    let stats = scene.server.wait_at_rest();
    for gauge in [
        "worker.received_bytes_pinned",
        "worker.handshakes",
        "worker.handshake_bytes",
        "worker.flight_bytes",
    ] {
        assert_eq!(stats.total(gauge), 0, "{gauge}: {stats:?}");
    }
    scene.finish();
}

/// Rounds of each fair client while the hostile peers hold what they got.
const ROUNDS: u64 = 20;

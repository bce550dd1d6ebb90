//! TX rings that hold what was sent, as the drivers of network cards do, on a port that otherwise
//! frees it at once. The pools of page buffers are smaller than the rings.

use std::fs;
use std::thread;

use lockgate_testing::cases::Case;
use rustix::process::Signal;

use crate::bulk;
use crate::support::scene::{Scene, Setup};
use crate::support::server::Stats;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "rings::a_ring_is_cleaned_when_memory_is_short_and_when_idle",
        cleaned,
    )
    .with(&["curl"]),
    Case::new(
        "rings::a_ring_that_cannot_be_cleaned_has_a_share",
        share_of_page_buffers,
    )
    .with(&["curl"]),
    Case::new(
        "rings::a_large_pool_needs_no_copies",
        a_large_pool_needs_no_copies,
    )
    .with(&["curl"]),
    Case::new(
        "rings::leaks_are_told_from_what_rings_hold",
        leaks_are_told_from_what_rings_hold,
    )
    .with(&["curl"]),
];

/// The smallest pools have 16 spans for records. The ring has 1024 descriptors.
fn cleaned() {
    let scene = Setup::smallest()
        .set("test.hold_sent", "until-cleaned")
        .start();
    let stats = fetch_all(&scene);
    assert_eq!(stats.port("port.tx_ring_share"), 0);
    assert_eq!(stats.port("port.tx_payload_copied"), 0);
    assert!(stats.port("port.tx_cleaned") > 1000, "{stats:?}");
    // Every page buffer comes back while the port is open.
    scene.finish();
}

fn share_of_page_buffers() {
    let mut scene = Setup::smallest()
        .set("test.hold_sent", "until-reused")
        .start();
    let stats = fetch_all(&scene);
    assert_eq!(stats.port("port.tx_cleaned"), 0);
    assert!(stats.port("port.tx_ring_share") > 1000, "{stats:?}");
    let held = stats.total("pages.blocks_used");
    // A quarter of 16 spans, and one whose first frame has just left.
    assert!(held <= 5, "the ring holds {held}");
    scene.server.signal(Signal::TERM);
    scene.server.ended();
}

fn a_large_pool_needs_no_copies() {
    let mut scene = Setup::new()
        .without("limits")
        .set("test.hold_sent", "until-reused")
        .start();
    let stats = fetch_all(&scene);
    assert_eq!(stats.port("port.tx_payload_copied"), 0);
    let held = stats.total("pages.blocks_used");
    assert!(held > 5, "the ring holds {held}");
    scene.server.signal(Signal::TERM);
    scene.server.ended();
}

fn leaks_are_told_from_what_rings_hold() {
    let mut scene = Setup::new()
        .set("test.hold_sent", "until-reused")
        .set("test.leak_pages", 3)
        .start();
    fetch_all(&scene);
    scene.server.signal(Signal::TERM);
    assert_eq!(scene.server.exit_code(), Some(0));
    let log = scene.server.log();
    let missing: Vec<_> = log
        .lines()
        .filter(|line| line.contains("missing at the end"))
        .collect();
    let [warning] = missing[..] else {
        panic!("one warning of missing buffers: {log}");
    };
    assert!(warning.contains("worker: page buffers"), "{log}");
    assert!(warning.contains("blocks_used: 3,"), "{log}");
}

/// Downloads with and without TLS, side by side. Returns the counters when they are done.
fn fetch_all(scene: &Scene) -> Stats {
    bulk::large_file(scene, LEN);
    let expected = fs::read(scene.www("large.bin")).expect("it's there");
    thread::scope(|scope| {
        for scheme in ["http", "https", "https"] {
            let (scene, expected) = (&scene, &expected);
            scope.spawn(move || {
                let url = format!("{scheme}://198.18.0.1/large.bin");
                let ran = scene.curl(&["-f", &url]).ok();
                assert!(ran.out == *expected, "{scheme}");
            });
        }
    });
    scene.server.wait("worker.connections", |open| open == 0)
}

const LEN: u64 = 4 << 20;

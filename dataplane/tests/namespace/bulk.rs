//! Much at once: large files, many connections.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use crate::support::client::{Conn, Reply, Stream, plain, secure};
use crate::support::material::noise;
use crate::support::scene::{Scene, Setup};
use lockgate_testing::cases::{Case, skip_case};
use lockgate_testing::process::run;

pub(crate) const CASES: &[Case] = &[
    Case::new("bulk::256_mib_over_https_at_mtu_1500", || {
        download("https", 1500)
    })
    .with(TOOLS),
    Case::new("bulk::256_mib_over_https_at_mtu_9000", || {
        download("https", 9000)
    })
    .with(TOOLS),
    Case::new("bulk::256_mib_over_http_at_mtu_1500", || {
        download("http", 1500)
    })
    .with(TOOLS),
    Case::new("bulk::256_mib_over_http_at_mtu_9000", || {
        download("http", 9000)
    })
    .with(TOOLS),
    Case::new("bulk::zero_copy_while_segments_are_lost", lossy).with(&["curl", "tc"]),
    Case::new("bulk::ktls_workers_serve_large_files", || {
        fetch_all(Setup::new().workers(2).set("ktls.workers", 2), 16 << 20);
    })
    .with(&["curl"]),
    Case::new("bulk::ktls_workers_serve_300_connections_at_once", || {
        crowd(wide().set("ktls.workers", 1), 300, true);
    }),
    Case::new("bulk::500_connections_at_once_over_http", || {
        crowd(wide(), 500, false)
    }),
    Case::new("bulk::500_connections_at_once_over_https", || {
        crowd(wide(), 500, true)
    }),
];

const TOOLS: &[&str] = &["curl", "sh", "sha256sum"];

/// A large file arrives as it is, and no byte of it was copied in order to be sent.
fn download(scheme: &str, mtu: u16) {
    let scene = Setup::new().mtu(mtu).start();
    large_file(&scene, LARGE);
    let expected = run(Command::new("sha256sum").arg(scene.www("large.bin"))).ok();

    let mut command = scene.command("sh");
    let script = "curl -sS --fail --cacert \"$0\" \"$1\" | sha256sum";
    let url = format!("{scheme}://198.18.0.1/large.bin");
    let ran = run(command
        .args(["-c", script])
        .arg(scene.crt("ecdsa"))
        .arg(url))
    .ok();
    let (digest, expected) = (&ran.out[..64], &expected.out[..64]);
    assert_eq!(digest, expected, "{}", ran.err);
    check_zero_copy(&scene, LARGE);
    scene.finish();
}

/// As above, through a router whose queue is shorter than a window: segments are lost, however fast
/// the sender is. How much is sent again is bounded by the simulators, where time is simulated.
fn lossy() {
    const LEN: u64 = 16 << 20;
    let scene = Setup::new().routed().start();
    large_file(&scene, LEN);
    let mut command = Command::new("ip");
    command.args([
        "netns",
        "exec",
        scene.net.router(),
        "tc",
        "qdisc",
        "add",
        "dev",
        "far0",
    ]);
    let queue = "root tbf rate 100mbit burst 16kb limit 40kb";
    let added = run(command.args(queue.split(' ')));
    if added.code != Some(0) {
        skip_case(format!(
            "this kernel has no token bucket: {}",
            added.err.trim()
        ));
    }
    let expected = fs::read(scene.www("large.bin")).expect("it's there");
    for scheme in ["http", "https"] {
        let ran = scene
            .curl(&["-f", &format!("{scheme}://198.18.0.1/large.bin")])
            .ok();
        assert!(ran.out == expected, "{scheme}");
    }
    let stats = scene.server.stats();
    assert!(stats.total("tcp.bytes_retransmitted") > 0, "{stats:?}");
    assert!(stats.total("tcp.recoveries") > 0, "{stats:?}");
    check_zero_copy(&scene, 2 * LEN);
    scene.finish();
}

/// A large file over HTTP and HTTPS, to two clients at a time each.
pub(crate) fn fetch_all(setup: Setup, len: u64) {
    let scene = setup.start();
    large_file(&scene, len);
    let expected = fs::read(scene.www("large.bin")).expect("it's there");
    thread::scope(|scope| {
        for scheme in ["http", "https", "http", "https"] {
            let (scene, expected) = (&scene, &expected);
            scope.spawn(move || {
                let ran = scene
                    .curl(&["-f", &format!("{scheme}://198.18.0.1/large.bin")])
                    .ok();
                assert!(ran.out == *expected, "{scheme}");
            });
        }
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.bytes_referenced"), 4 * len);
    assert_eq!(stats.port("port.tx_payload_copied"), 0);
    scene.finish();
}

fn check_zero_copy(scene: &Scene, sent: u64) {
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.port("port.tx_payload_copied"), 0);
    assert_eq!(stats.total("http.bytes_referenced"), sent);
    assert_eq!(stats.total("stack.bytes_by_reference"), sent);
    // Heads only.
    assert!(stats.total("http.bytes_copied") < 2000, "{stats:?}");
    assert!(stats.total("stack.bytes_by_copy") < 2000, "{stats:?}");
    let (used, max) = (
        stats.process("files.bytes_used"),
        stats.process("files.bytes_max"),
    );
    assert!(used <= max && max <= 16 << 20, "{used} of {max}");
    for dropped in ["port.tx_dropped_malformed", "port.tx_dropped_plaintext"] {
        assert_eq!(stats.port(dropped), 0);
    }
}

pub(crate) fn large_file(scene: &Scene, len: u64) {
    let mut file = File::create(scene.www("large.bin")).expect("there's room for a file");
    for block in 0..len >> 20 {
        file.write_all(&noise(block, 1 << 20))
            .expect("there's room for a large file");
    }
}

/// Pools for many connections.
fn wide() -> Setup {
    let setup = Setup::new()
        .set("limits.page_buffers", 32_768)
        .set("limits.spans_small", 8192);
    setup.set("cache.memory_max", "32MiB")
}

/// Every client is there before the first one asks.
pub(crate) fn crowd(setup: Setup, clients: usize, tls: bool) {
    let scene = setup.start();
    let files: Vec<_> = (0..25_usize)
        .map(|n| {
            (
                format!("/{n}.bin"),
                scene.file(&format!("{n}.bin"), 1000 + n * 2500),
            )
        })
        .collect();
    let (all_here, roots) = (Barrier::new(clients), &scene.roots);
    scene.inside(|| {
        thread::scope(|scope| {
            for number in 0..clients {
                let (path, bytes) = &files[number % files.len()];
                let all_here = &all_here;
                let client = move || {
                    let reply = if tls {
                        meet(secure(roots), path, all_here)
                    } else {
                        meet(plain(), path, all_here)
                    };
                    let reply = reply.expect("an answer");
                    assert_eq!(reply.status, 200);
                    assert!(reply.body == *bytes, "{path} is not as it was");
                };
                let thread = thread::Builder::new().stack_size(256 << 10);
                let thread = thread.spawn_scoped(scope, client);
                thread.expect("there's room for a thread");
            }
        });
    });
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("http.responses.200"), clients as u64);
    assert_eq!(stats.total("stack.accepted"), clients as u64);
    scene.finish();
}

/// Sends the request once all clients are connected, and closes once all have their response.
/// Clients that failed wait, too.
fn meet<S: Stream>(conn: io::Result<Conn<S>>, path: &str, all_here: &Barrier) -> io::Result<Reply> {
    all_here.wait();
    let answered = conn.and_then(|mut conn| {
        let reply = conn.get(path)?;
        Ok((conn, reply))
    });
    all_here.wait();
    answered.map(|(_, reply)| reply)
}

const LARGE: u64 = 256 << 20;

//! The appliance's worker over a pair of rings: HTTP and HTTPS with many connections.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use lockgate::worker::{Siblings, WorkerCommand};
use lockgate_stack::CloseReason;
use lockgate_stack::tls::{TlsOptions, TlsVersions};
use lockgate_wire::IfaceId;

use crate::support::clients::{HttpClients, Plan};
use crate::support::eal;
use crate::support::host::{Busy, Report, Spec, address, start};
use crate::support::pki::Pki;
use crate::support::ring::{Ending, Net};
use crate::support::server_thread::{ALLOCATIONS, Cache, Counts, Listen, ServerThread, Tree};
use lockgate_testing::cases::Case;
use lockgate_testing::{HANG_LIMIT, wait_until};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "http::packets_never_taken_are_dropped",
        packets_never_taken_are_dropped,
    ),
    Case::new(
        "http::a_thousand_idle_and_many_busy",
        a_thousand_idle_and_many_busy,
    ),
    Case::new("http::without_tls", without_tls),
    Case::new("http::a_storm_of_handshakes", a_storm_of_handshakes),
    Case::new("http::tickets", tickets),
    Case::new("http::two_workers", two_workers),
    Case::new(
        "http::nothing_is_allocated_for_a_request",
        nothing_is_allocated_for_a_request,
    ),
];

/// A worker and its clients, from start to end.
pub(crate) struct HttpSetup {
    pub(crate) server: Spec,
    pub(crate) client: Spec,
    pub(crate) cache_bytes: usize,
}

impl Default for HttpSetup {
    fn default() -> Self {
        Self {
            server: Spec::new(SERVER),
            client: Spec::new(CLIENT),
            cache_bytes: 8 << 20,
        }
    }
}

/// Results of both hosts.
pub(crate) struct Outcome {
    pub(crate) client: Report<HttpClients>,
    pub(crate) server: Counts,
    pub(crate) ending: Ending,
}

impl HttpSetup {
    /// Runs the plan, then drains the worker. Asserts that all memory was returned.
    pub(crate) fn run(self, mut net: Net, tree: &Tree, pki: &Pki, plan: Plan) -> Outcome {
        let eal = net.eal;
        let busy = Busy::default();
        let mut cache = Cache::start(eal, tree, self.cache_bytes, 1);
        let files = (
            cache.clients.swap_remove(0),
            Siblings::full_mesh(1).swap_remove(0),
        );
        let [at_server, at_client] = net.attach_all().map(|mut queues| queues.swap_remove(0));
        let listen = listeners(pki, &TlsOptions::default());
        let server_thread = ServerThread::spawn(eal, self.server, at_server, files, listen, &busy);
        let total = plan.active + plan.idle;
        let clients = HttpClients::new(plan);
        let settled = clients.settled.clone();
        let client = start(eal, self.client, at_client, &busy, clients);
        while settled.load(Ordering::Acquire) < total && client.is_running() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(
            client.is_running(),
            "the clients gave up: {}",
            server_thread.describe()
        );
        server_thread.drain(DRAIN_LIMIT);
        let (server, report) = (server_thread.counts(), client.report());
        let ending = net.ending();
        net.close();
        client.release();
        server_thread.release();
        cache.close();
        Outcome {
            client: report,
            server,
            ending,
        }
    }
}

/// The peer reads nothing, so its ring is full at some time. The worker drops what its driver
/// doesn't take, though it sends nothing new by then.
fn packets_never_taken_are_dropped() {
    let tree = Tree::new(&[]);
    let eal = eal();
    let mut net = Net::open(eal, "stuck", |_| ());
    let mut cache = Cache::start(eal, &tree, 8 << 20, 1);
    let files = (
        cache.clients.swap_remove(0),
        Siblings::full_mesh(1).swap_remove(0),
    );
    let [server, silent] = net.attach_all().map(|mut queues| queues.swap_remove(0));
    let busy = Busy::default();
    let thread = ServerThread::spawn(eal, Spec::new(SERVER), server, files, Vec::new(), &busy);
    // Each announces the addresses. The ring has as many entries.
    for _ in 0..1024 {
        let announce = WorkerCommand::LinkChange(IfaceId(0));
        thread.commands.send(announce).expect("the worker runs");
    }
    wait_until("a dropped packet", || {
        net.queue_counters()[0].tx_dropped_stuck > 0
    });
    thread.drain(DRAIN_LIMIT);
    thread.counts();
    drop(silent);
    net.close();
    thread.release();
    cache.close();
}

/// Where a worker listens: with TLS and without.
pub(crate) fn listeners(pki: &Pki, options: &TlsOptions) -> Vec<Listen> {
    let at = |port| SocketAddr::new(address(SERVER, false), port);
    vec![(at(HTTPS), Some(pki.server(options))), (at(HTTP), None)]
}

/// A plan for clients of `tree`; without TLS unless it's added.
pub(crate) fn plan(tree: &Tree) -> Plan {
    Plan {
        to: SocketAddr::new(address(SERVER, false), HTTP),
        tls: None,
        files: tree.files.clone(),
        active: 0,
        requests: 0,
        idle: 0,
        at_once: 100,
        seed: 1,
    }
}

/// The same with TLS.
pub(crate) fn with_tls(plan: Plan, pki: &Pki, options: &TlsOptions) -> Plan {
    let to = SocketAddr::new(plan.to.ip(), HTTPS);
    Plan {
        to,
        tls: Some(pki.client(options)),
        ..plan
    }
}

/// Asserts what holds in every case without loss.
fn assert_lossless_outcome(outcome: &Outcome, active: usize, requests: usize, idle: usize) {
    let app = &outcome.client.app;
    let server = &outcome.server;
    tracing::info!(took = ?outcome.client.took, "{} answers", app.answers);
    assert_eq!(app.answers, active * requests);
    assert_eq!(app.ends.len(), active + idle);
    assert!(
        app.ends.iter().all(|end| *end == CloseReason::Clean),
        "{:?}",
        app.ends
    );
    assert_eq!(server["http.requests"], (active * requests) as u64);
    assert_eq!(server["http.responses.200"], server["http.requests"]);
    assert_eq!(server["stack.accepted"], (active + idle) as u64);
    assert_eq!(server["stack.end_clean"], (active + idle) as u64);
    assert_eq!(server["worker.connections"], 0);
    assert_eq!(server["stack.bad_checksum"] + server["stack.malformed"], 0);
    for port in &outcome.ending.ports {
        assert_eq!(port.tx_payload_copied, 0);
    }
}

fn a_thousand_idle_and_many_busy() {
    let net = Net::open(eal(), "t", |_| ());
    let (tree, pki) = (Tree::new(&FILES), Pki::new());
    let options = TlsOptions::default();
    let plan = Plan {
        active: 200,
        requests: 10,
        idle: 1000,
        ..plan(&tree)
    };
    let outcome = HttpSetup::default().run(net, &tree, &pki, with_tls(plan, &pki, &options));
    assert_lossless_outcome(&outcome, 200, 10, 1000);
    assert_eq!(outcome.client.app.handshakes, 1200);
    assert_eq!(outcome.server["stack.handshakes_tls13"], 1200);
    assert_eq!(outcome.server["stack.handshakes_failed"], 0);
    assert_eq!(outcome.server["kern.ipc.tls.stats.active"], 0);
    // Only heads and small files were copied.
    let (copied, referenced) = (
        outcome.server["http.bytes_copied"],
        outcome.server["http.bytes_referenced"],
    );
    assert!(
        copied < referenced / 20,
        "{copied} bytes copied, {referenced} by reference"
    );
    assert_eq!(outcome.server["stack.bytes_by_reference"], referenced);
}

fn without_tls() {
    let net = Net::open(eal(), "t", |port| port.mtu = 9000);
    let (tree, pki) = (Tree::new(&FILES), Pki::new());
    let plan = Plan {
        active: 300,
        requests: 10,
        idle: 300,
        ..plan(&tree)
    };
    let outcome = HttpSetup::default().run(net, &tree, &pki, plan);
    assert_lossless_outcome(&outcome, 300, 10, 300);
}

/// Once connections are established and files are cached, no packet, record, request or response
/// allocates.
fn nothing_is_allocated_for_a_request() {
    let eal = eal();
    let (tree, pki) = (Tree::new(&[1024, 30_000, 300_000]), Pki::new());
    let options = TlsOptions::default();
    for tls in [true, false] {
        let run = |requests: usize| {
            let net = Net::open(eal, &format!("n{tls}{requests}"), |_| ());
            let mut plan = Plan {
                active: ACTIVE,
                requests,
                ..plan(&tree)
            };
            if tls {
                plan = with_tls(plan, &pki, &options);
            }
            let outcome = HttpSetup::default().run(net, &tree, &pki, plan);
            assert_lossless_outcome(&outcome, ACTIVE, requests, 0);
            outcome.server[ALLOCATIONS]
        };
        let (few, many) = (run(50), run(550));
        let requests = (ACTIVE * 500) as u64;
        println!("{few} allocations, and {many} for {requests} requests more");
        // Allocations also follow the time that a run takes: files are revalidated.
        assert!(many < few + requests / 10, "{few}, {many}");
    }
}

const ACTIVE: usize = 20;

/// Starts all at once.
fn a_storm_of_handshakes() {
    let eal = eal();
    let (tree, pki) = (Tree::new(&[1024]), Pki::new());
    for (name, versions) in [("t13", TlsVersions::Tls13), ("t12", TlsVersions::Tls12)] {
        let net = Net::open(eal, name, |_| ());
        let options = TlsOptions {
            versions,
            tickets: 0,
            ..TlsOptions::default()
        };
        let plan = Plan {
            active: 500,
            requests: 1,
            at_once: 500,
            ..plan(&tree)
        };
        let outcome = HttpSetup::default().run(net, &tree, &pki, with_tls(plan, &pki, &options));
        assert_lossless_outcome(&outcome, 500, 1, 0);
        let server = &outcome.server;
        assert_eq!(
            server["stack.handshakes_tls12"] + server["stack.handshakes_tls13"],
            500
        );
        assert_eq!(server["stack.handshakes_failed"], 0);
        assert_eq!(
            (
                outcome.client.app.resumed,
                server["stack.handshakes_resumed"]
            ),
            (0, 0)
        );
    }
}

/// One after the other, so that each finds a ticket of the one before.
fn tickets() {
    let eal = eal();
    let (tree, pki) = (Tree::new(&[1024]), Pki::new());
    for (name, versions) in [("t13", TlsVersions::Tls13), ("t12", TlsVersions::Tls12)] {
        let net = Net::open(eal, name, |_| ());
        let options = TlsOptions {
            versions,
            ..TlsOptions::default()
        };
        let plan = Plan {
            active: 100,
            requests: 1,
            at_once: 1,
            ..plan(&tree)
        };
        let outcome = HttpSetup::default().run(net, &tree, &pki, with_tls(plan, &pki, &options));
        assert_lossless_outcome(&outcome, 100, 1, 0);
        let resumed = outcome.client.app.resumed;
        assert!(resumed >= 90, "{resumed} of 100 resumed, {versions:?}");
        assert_eq!(outcome.server["stack.handshakes_resumed"], resumed as u64);
    }
}

/// Each on a queue of its own, and so is each client: what a NIC would do by hashing.
fn two_workers() {
    let mut net = Net::with_queues(eal(), "t", 2, |_| ());
    let eal = net.eal;
    let (tree, pki) = (Tree::new(&FILES), Pki::new());
    let options = TlsOptions::default();
    let server_tls = listeners(&pki, &options);
    let busy = Busy::default();
    let mut cache = Cache::start(eal, &tree, 8 << 20, 2);
    let files = std::mem::take(&mut cache.clients)
        .into_iter()
        .zip(Siblings::full_mesh(2));
    let [servers, clients] = net.attach_all();
    let mut server_threads = Vec::new();
    for (port, files) in servers.into_iter().zip(files) {
        let spec = Spec::new(SERVER);
        server_threads.push(ServerThread::spawn(
            eal,
            spec,
            port,
            files,
            server_tls.clone(),
            &busy,
        ));
    }
    let mut client_threads = Vec::new();
    for (port, number) in clients.into_iter().zip(CLIENT..) {
        let plan = Plan {
            active: 50,
            requests: 10,
            idle: 50,
            ..plan(&tree)
        };
        let clients = HttpClients::new(with_tls(plan, &pki, &options));
        let settled = clients.settled.clone();
        client_threads.push((start(eal, Spec::new(number), port, &busy, clients), settled));
    }
    for (client, settled) in &client_threads {
        while settled.load(Ordering::Acquire) < 100 && client.is_running() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    for server_thread in &server_threads {
        server_thread.drain(DRAIN_LIMIT);
        let server = server_thread.counts();
        assert_eq!(server["http.requests"], 500);
        assert_eq!(server["stack.end_clean"], 100);
    }
    for (client, _) in &client_threads {
        let app = client.report().app;
        assert_eq!((app.answers, app.ends.len()), (500, 100));
    }
    let queues = net.queue_counters();
    assert!(
        queues
            .iter()
            .all(|queue| queue.tx_packets > 0 && queue.rx_packets > 0),
        "{queues:?}"
    );
    net.close();
    client_threads
        .into_iter()
        .for_each(|(client, _)| client.release());
    server_threads.into_iter().for_each(ServerThread::release);
    cache.close();
}

pub(crate) const SERVER: u8 = 1;
pub(crate) const CLIENT: u8 = 2;
const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// Empty, tiny, of a few segments, of a few spans, and larger than a send buffer.
pub(crate) const FILES: [usize; 6] = [0, 1, 1024, 20_000, 300_000, 1_500_000];
/// Nothing that is under way is cut off because the machine is slow.
const DRAIN_LIMIT: Duration = HANG_LIMIT;

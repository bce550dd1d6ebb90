//! Transfers and requests with the smallest pools, and with allocations that fail by seed: they are
//! slower and counted, and nothing else changes.

use lockgate_drivers::{FaultInjection, PortConfig};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, Limits};
use lockgate_tcp::TcpConfig;
use lockgate_testing::Random;
use pktbuf::PoolConfig;

use crate::http::{self, HttpSetup};
use crate::ring::{self, Way};
use crate::support::clients::Plan;
use crate::support::host::Spec;
use crate::support::pki::Pki;
use crate::support::ring::Net;
use crate::support::server_thread::Tree;
use crate::support::wire::Faults;
use crate::support::{each_seed, eal};
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("exhaustion::transfers", transfers),
    Case::new("exhaustion::requests", requests),
];

/// The scarce resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scarcity {
    pool: PoolConfig,
    /// One in so many allocations of page buffers and packet buffers fails.
    pages_one_in: u32,
    mbufs_one_in: u32,
    tx_buffers: u32,
    ranges_max: u32,
    send_buffer_bytes: u32,
    recv_buffer_bytes: u32,
    seed: u64,
}

impl Scarcity {
    fn draw(seed: u64, random: &mut Random, connections: u32) -> Self {
        let mut some = |from, to| random.between(from, to) as u32;
        let pool = PoolConfig {
            blocks: some(48, 128),
            small_spans: some(16, 64),
            large_spans: some(6, 16),
        };
        let recv_buffer_bytes = some(20_000, 64_000);
        // A ring's peer pins the sender's packet buffers until a record is complete: three for each
        // segment. Some must be left.
        let pinned_by_peer = connections * (recv_buffer_bytes / 1448 + 1) * 3;
        Self {
            pool,
            tx_buffers: pinned_by_peer + some(32, 256),
            recv_buffer_bytes,
            ranges_max: some(64, 256),
            send_buffer_bytes: some(17_000, 64_000),
            pages_one_in: random.pick(&[0, 3, 10, 100]),
            mbufs_one_in: random.pick(&[0, 3, 10, 100]),
            seed,
        }
    }

    fn port(&self, port: &mut PortConfig) {
        port.rx_descriptors = 64;
        port.tx_descriptors = 64;
        port.rx_buffers = 64;
        port.tx_buffers = self.tx_buffers;
        port.inject = Some(FaultInjection {
            seed: self.seed,
            one_in: self.mbufs_one_in,
        });
    }

    /// Returns the same host with the scarce resources.
    pub(crate) fn limit(&self, mut spec: Spec) -> Spec {
        spec.pool = self.pool;
        spec.failures_one_in = self.pages_one_in;
        spec.config.limits = Limits {
            connections_max: 64,
            half_open_max: 16,
            time_wait_max: 64,
            ranges_max: self.ranges_max,
            send_buffer_bytes: self.send_buffer_bytes,
            send_low_water_bytes: self.send_buffer_bytes / 2,
            recv_buffer_bytes: self.recv_buffer_bytes,
            ..Limits::default()
        };
        spec.config.tcp = TcpConfig {
            window_max: 64 << 10,
            ..TcpConfig::default()
        };
        spec
    }
}

fn transfers() {
    let eal = eal();
    let mut failed = [0, 0];
    each_seed(20, |seed, mut random| {
        let scarcity = Scarcity::draw(seed, &mut random, 1);
        tracing::info!("{scarcity:?}");
        let net = Net::open(eal, &format!("t{seed}"), |port| scarcity.port(port));
        let lossy = Faults {
            lost: 10,
            doubled: 10,
            late: 20,
        };
        let way = Way {
            down: 16 << 20,
            up: 4 << 20,
            ipv6: random.chance(5000, 10_000),
            tls: random.chance(8000, 10_000).then(TlsOptions::default),
            faults: random.pick(&[Faults::default(), lossy]),
            scarcity: Some(scarcity),
        };
        let (server, client, ending) = ring::transfer(net, seed, way);
        failed[0] += server.pages.failures + client.pages.failures;
        failed[1] += ending.injected;
    });
    assert!(
        failed.iter().all(|count| *count > 0),
        "failures: {failed:?}"
    );
}

fn requests() {
    let eal = eal();
    let tree = Tree::new(&[0, 1, 1024, 20_000, 300_000]);
    let pki = Pki::new();
    let (mut pages, mut mbufs) = (0, 0);
    each_seed(10, |seed, mut random| {
        let scarcity = Scarcity::draw(seed, &mut random, 10);
        tracing::info!("{scarcity:?}");
        let net = Net::open(eal, &format!("h{seed}"), |port| scarcity.port(port));
        let setup = HttpSetup {
            server: scarcity.limit(Spec::new(http::SERVER)),
            client: scarcity.limit(Spec::new(http::CLIENT)),
            // The tree doesn't fit.
            cache_bytes: (4 * 64) << 10,
        };
        let plan = Plan {
            active: 8,
            requests: 8,
            idle: 2,
            at_once: 4,
            seed,
            ..http::plan(&tree)
        };
        let plan = if random.chance(8000, 10_000) {
            http::with_tls(plan, &pki, &TlsOptions::default())
        } else {
            plan
        };
        let outcome = setup.run(net, &tree, &pki, plan);
        let app = &outcome.client.app;
        tracing::info!(took = ?outcome.client.took, answers = app.answers);
        assert_eq!(app.answers, 64);
        assert!(
            app.ends.iter().all(|end| *end == CloseReason::Clean),
            "{:?}",
            app.ends
        );
        pages += outcome.server["pages.failures"] + outcome.client.pages.failures;
        mbufs += outcome.ending.injected;
    });
    assert!(
        pages > 0 && mbufs > 0,
        "{pages} page buffers and {mbufs} packet buffers failed"
    );
}

//! Fair clients beside hostile peers, against the same clients beside as many idle connections.
//!
//! Lockgate and nginx take turns, and so do the kinds of peers, several times in one run.

use std::fs::File;

use crate::held::{HeldPeers, LARGE, PeerKind, RANGE};
use crate::nginx::{self, Load, Network};
use crate::rows::{Row, median};
use crate::wire::Servers;

pub(crate) fn measure() {
    let Some(servers) = Servers::start("hostile peers", &[]) else {
        return;
    };
    let large = servers.file(LARGE);
    let bytes = PEERS as u64 * RANGE as u64;
    File::create(large).unwrap().set_len(bytes).unwrap();
    let mut samples = Vec::new();
    for round in 0..=ROUNDS {
        for kind in PeerKind::ALL {
            for server in Server::ALL {
                let loads = measure_once(&servers, server, kind);
                // The first round warms up.
                if round > 0 {
                    samples.push((kind, server, loads));
                }
            }
        }
    }
    for (at, load) in LOADS.iter().enumerate() {
        emit(load, |kind, server, figure| {
            let of_them = samples.iter().filter(|s| (s.0, s.1) == (kind, server));
            median(of_them.map(|s| figure(&s.2[at])).collect())
        });
    }
}

/// Measures each load of a server once, beside peers of a kind.
fn measure_once(servers: &Servers, server: Server, kind: PeerKind) -> Vec<Load> {
    let network = match server {
        Server::Lockgate => {
            servers.lockgate.resume();
            servers.lockgate.network()
        }
        Server::Nginx => servers.nginx.network(),
    };
    let loads = beside(network, kind);
    if server == Server::Lockgate {
        servers.lockgate.pause();
    }
    loads
}

fn beside(network: Network<'_>, kind: PeerKind) -> Vec<Load> {
    let mut peers = HeldPeers::start(network, kind);
    peers.open(PEERS);
    let run = |load: &FairLoad| nginx::wrk(network, load.path, load.connections, 1, load.extra);
    LOADS.iter().map(run).collect()
}

/// Emits the rows of a load. `result` returns a figure of a server beside peers of a kind.
fn emit(load: &FairLoad, result: impl Fn(PeerKind, Server, Figure) -> f64) {
    let figures: [(&str, Figure); 2] = [
        ("requests/s", |load| load.requests_per_second),
        ("µs, p99", |load| load.p99_micros),
    ];
    let name = load.name;
    for (unit, figure) in figures {
        let idle = |server| result(PeerKind::Idle, server, figure);
        let title = format!("{name} beside {PEERS} idle connections");
        Row::new(title, unit, idle(Server::Lockgate))
            .against(idle(Server::Nginx))
            .emit();
        for kind in PeerKind::ALL.into_iter().skip(1) {
            for server in Server::ALL {
                let title = format!("{name} beside {}: {}", kind.name(), server.name());
                Row::new(title, unit, result(kind, server, figure))
                    .against(idle(server))
                    .emit();
            }
        }
    }
}

/// A figure of a run.
type Figure = fn(&Load) -> f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Lockgate,
    Nginx,
}

impl Server {
    const ALL: [Self; 2] = [Self::Lockgate, Self::Nginx];

    const fn name(self) -> &'static str {
        match self {
            Self::Lockgate => "Lockgate",
            Self::Nginx => "nginx",
        }
    }
}

/// What the fair clients do.
struct FairLoad {
    name: &'static str,
    path: &'static str,
    connections: u32,
    extra: &'static [&'static str],
}

const LOADS: [FairLoad; 3] = [
    FairLoad {
        name: "1 KiB",
        path: "/1k",
        connections: 32,
        extra: &[],
    },
    FairLoad {
        name: "64 KiB",
        path: "/64k",
        connections: 32,
        extra: &[],
    },
    FairLoad {
        name: "new connection, 1 KiB",
        path: "/1k",
        connections: 32,
        extra: &["-H", "Connection: close"],
    },
];

/// Idle or hostile peers at a time.
const PEERS: u32 = 1000;
const ROUNDS: usize = 3;

//! The memory of an idle TLS connection.
//!
//! A client in another process opens TLS connections and keeps them idle. The server's resident
//! memory is read at two counts of connections. The difference divided by the connections between
//! them is the cost of one: page buffers, tables and heap. The kernel's memory for nginx's sockets
//! isn't in nginx's resident memory and isn't counted.

use std::fs;

use crate::held::{HeldPeers, PeerKind};
use crate::nginx::Network;
use crate::rows::Row;
use crate::wire::Servers;

pub(crate) fn measure() {
    let extra = [("http", "header_timeout = \"10m\"\nidle_timeout = \"10m\"")];
    let Some(servers) = Servers::start("idle connections", &extra) else {
        return;
    };
    let ours = cost(servers.lockgate.network(), servers.lockgate.process());
    servers.lockgate.pause();
    let network = servers.nginx.network();
    let theirs = cost(network, servers.nginx.worker());
    Row::new("memory of an idle TLS connection (at most)", "bytes", ours)
        .against(theirs)
        .aim(1024.0)
        .emit();
}

/// Returns the bytes of resident memory that one more connection costs a process.
fn cost(network: Network<'_>, process: u32) -> f64 {
    let mut peers = HeldPeers::start(network, PeerKind::Idle);
    peers.open(FEW);
    let before = resident(process);
    peers.open(MANY - FEW);
    let after = resident(process);
    (after - before) / f64::from(MANY - FEW)
}

/// Returns the resident bytes of a process, huge pages included.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kilobytes = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.map_or(0.0, |number| number.parse::<f64>().unwrap())
    };
    (kilobytes("VmRSS:") + kilobytes("HugetlbPages:")) * 1024.0
}

const FEW: u32 = 2_000;
const MANY: u32 = 12_000;

//! The configuration: one TOML file, parsed into bounded types.
//!
//! A [`Config`] holds only checked values, in the types that the components take: every number is
//! in its range, every name is resolved, every certificate is loaded with its key. A file that is
//! wrong gives [`Faults`]: all of them at once, each with file, line and key.
//!
//! Keys, ranges and defaults are defined once, in [`schema`]; the tables in `configs/README.md`
//! are made from it.

mod document;
mod fault;
mod load;
mod memory;
mod network;
mod process;
mod reader;
pub mod schema;
mod sections;
mod serving;
mod values;

#[cfg(test)]
pub(crate) mod tests;

use core::net::SocketAddr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use lockgate_cache::CacheConfig;
#[cfg(feature = "fault-injection")]
use lockgate_drivers::SentRelease;
use lockgate_drivers::{EalConfig, PortConfig};
use lockgate_ip::{Cidr, Route};
use lockgate_ktls::BackendChoice;
use lockgate_stack::tls::{Certificate, TlsOptions};
use lockgate_stack::{DynamicRecords, Limits};
use lockgate_tcp::TcpConfig;
use lockgate_wire::IfaceId;
use pktbuf::PoolConfig;
use tracing::Level;

use self::memory::MemorySum;
use crate::certificates::ValidityPeriod;
use crate::ktls_workers::KtlsWorkersConfig;
use crate::privileges::Identity;
use crate::server::Sites;
use crate::worker::IdlePolicy;

pub use fault::{Fault, Faults, Place};
pub use load::{control_socket, load, load_to_run, parse};

/// The machine's cores and the time: what a file is checked against besides the files that it
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The cores that this process may run on.
    pub cores: Vec<u16>,
    /// Seconds since 1970, for the validity of certificates.
    pub unix_seconds: u64,
}

/// A whole valid configuration, in the types that the components take.
#[derive(Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// `[eal]`: DPDK's environment, without the regions. Its memory is what is left of
    /// `[eal] memory` beside them.
    pub eal: EalConfig,
    /// `[workers]`
    pub workers: Workers,
    /// `[[port]]`, at least one.
    pub ports: Vec<Port>,
    /// `[[interface]]`, at most one on each port. Their places in this list are their [`IfaceId`]s.
    pub interfaces: Vec<Interface>,
    /// `[[route]]`: each gateway is in the network of its interface.
    pub routes: Vec<Route>,
    /// `[tcp]`, without the sizes of tables.
    pub tcp: TcpConfig,
    /// `[ktls]`
    pub ktls: Ktls,
    /// `[tls]`
    pub tls: Tls,
    /// `[[certificate]]`, loaded: each chain with the key that belongs to it.
    pub certificates: Vec<Certificate>,
    /// `[[certificate]]`: the files they came from.
    pub certificate_files: Vec<CertificateFiles>,
    /// `[[listener]]`, each a concrete address: `0.0.0.0` and `::` are replaced by the interfaces'
    /// own addresses of that family.
    pub listeners: Vec<Listener>,
    /// `[[site]]`: the hosts, and the directories that they are served from.
    pub sites: Sites,
    /// Directories, in the order of the sites' [`RootId`](lockgate_cache::RootId)s. They exist,
    /// unless [`load_to_run`] has left that to the start.
    pub roots: Vec<PathBuf>,
    /// Where each of them is set.
    pub root_places: Vec<Place>,
    /// `[http]`
    pub http: lockgate_http::Limits,
    /// `[cache]`
    pub cache: CacheConfig,
    /// `[cache] memory_max`: bytes of file content in memory.
    pub cache_bytes: u64,
    /// The tables of a worker's stack: `[limits]` and those of `[tcp]`.
    pub limits: Limits,
    /// `[limits]`: the page buffers of a worker.
    pub pool: PoolConfig,
    /// `[process]`: the identity that the process takes after the start; none: it keeps its own.
    pub identity: Option<Identity>,
    /// `[control] socket`: the Unix socket that `lockgate stats` asks.
    pub control_socket: Option<PathBuf>,
    /// `[drain] deadline`: how long connections have to end after SIGTERM.
    pub drain_deadline: Duration,
    /// `[log] level`: the least severe level that is written.
    pub log_level: Level,
    /// `[test]`
    #[cfg(feature = "fault-injection")]
    pub test: Test,
    /// Warnings: the appliance starts, but clients may object. An expired certificate is one.
    pub warnings: Vec<Fault>,
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// One worker runs on each core, in this order. No core comes twice.
    pub cores: Vec<u16>,
    /// What a worker does when it has nothing to do.
    pub idle: IdlePolicy,
    /// Where `cores` is set.
    pub cores_place: Place,
}

/// `[[port]]`: a device that packets come from and go to.
#[derive(Clone, Debug)]
pub struct Port {
    /// How to open it.
    pub settings: PortConfig,
    /// How long the start waits for its link.
    pub link_wait: Duration,
    /// Where `device` is set.
    pub device_place: Place,
    /// Where `mtu` is set, or the section if it isn't.
    pub mtu_place: Place,
}

/// `[[interface]]`: the addresses on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index into [`Config::ports`].
    pub port: usize,
    /// Its addresses, each with the length of its network's prefix; at least one.
    pub addresses: Vec<Cidr>,
}

/// `[ktls]`: the record layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ktls {
    /// Off refuses every session, so no listener can have TLS.
    pub enable: bool,
    /// Whether applications may set keys for AES-CBC.
    pub cbc_enable: bool,
    /// Which software backends seal and open records.
    pub backend: BackendChoice,
    /// Plaintext bytes of a record, at most.
    pub record_max: u16,
    /// Small records where a connection begins to send.
    pub dynamic_records: DynamicRecords,
    /// Threads that seal and open records. Without, the workers do.
    pub workers: Option<KtlsWorkersConfig>,
}

/// `[tls]`: the handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What the server offers.
    pub options: TlsOptions,
    /// A handshake that takes longer is cut off.
    pub handshake_timeout: Duration,
}

/// `[[certificate]]`: the files of a chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain's.
    pub chain: PathBuf,
    /// The private key's.
    pub key: PathBuf,
    /// When the leaf is valid.
    pub validity: ValidityPeriod,
}

/// `[[listener]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// An address of one of the interfaces, and a port.
    pub address: SocketAddr,
    /// Whether clients speak TLS. Then there is at least one certificate.
    pub tls: bool,
}

/// `[test]`: for tests of the appliance itself.
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// One allocation in so many fails; 0: none.
    pub fail_one_in: u32,
    /// Which ones.
    pub fail_seed: u32,
    /// Makes the ports' TX rings hold what is sent, and when they free it.
    pub hold_sent: Option<SentRelease>,
    /// Page buffers that each worker loses.
    pub leak_pages: u32,
}

impl Config {
    /// Returns a fault of the configuration that only the running system can find, such as a device
    /// that can't do what the file asks of it.
    pub fn fault(&self, place: Place, message: impl Into<String>) -> Fault {
        Fault::new(&self.file, place, message)
    }

    /// Returns the bytes of packet memory that all pools need together.
    pub fn memory_needed(&self) -> u64 {
        self.memory_sum().total()
    }

    fn memory_sum(&self) -> MemorySum {
        let ports = self.ports.iter().map(|port| &port.settings);
        MemorySum::new(self.workers.cores.len(), ports, self.pool, self.cache_bytes)
    }

    /// Returns the MiB of packet memory that the configuration asks for: `[eal] memory`, or what
    /// all pools need together.
    pub fn memory_mib(&self) -> u64 {
        let regions = self.memory_sum().regions;
        u64::from(self.eal.memory_mib).saturating_add(regions >> 20)
    }

    /// Returns the path relative to the directory of the configuration file.
    fn resolve(file: &Path, path: &str) -> PathBuf {
        file.parent()
            .map_or_else(|| PathBuf::from(path), |dir| dir.join(path))
    }
}

/// Returns the identifier of the interface at this place in the file.
pub(crate) fn iface(index: usize) -> IfaceId {
    IfaceId(u16::try_from(index).unwrap_or(u16::MAX))
}

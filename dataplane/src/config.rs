//! The configuration: one TOML file, parsed into bounded types.
//!
//! A [`Config`] holds only values that were checked: every number is in its range, every name
//! resolved to what it names, every certificate loaded together with its key. What is wrong in a
//! file comes back as [`Faults`], all of them at once, each with file, line and key.
//!
//! Keys, ranges and defaults are defined once, in [`schema`]; the tables in `configs/README.md`
//! are made from it.

mod devices;
mod fault;
mod load;
mod network;
mod reader;
pub mod schema;
mod sections;
mod serving;
mod values;

#[cfg(test)]
pub(crate) mod tests;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::path::{Path, PathBuf};

use lockgate_stack::tls::Certificate;

pub use fault::{Fault, Faults, Place};
pub use load::{control_socket, load, parse};
pub use values::{HostPattern, Prefix};

/// What the machine offers and the time: everything that checking a file needs to know about the
/// world besides the files that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The cores that this process may run on.
    pub cores: Vec<u16>,
    /// Seconds since 1970, for the validity of certificates.
    pub unix_seconds: u64,
}

/// A whole valid configuration.
#[derive(Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// `[eal]`
    pub eal: Eal,
    /// `[workers]`
    pub workers: Workers,
    /// `[[port]]`, at least one.
    pub ports: Vec<Port>,
    /// `[[interface]]`, at most one on each port.
    pub interfaces: Vec<Interface>,
    /// `[[route]]`
    pub routes: Vec<Route>,
    /// `[tcp]`
    pub tcp: Tcp,
    /// `[ktls]`
    pub ktls: Ktls,
    /// `[tls]`
    pub tls: Tls,
    /// `[[certificate]]`, loaded: each chain with the key that belongs to it.
    pub certificates: Vec<Certificate>,
    /// `[[listener]]`, each a concrete address: `0.0.0.0` and `::` are replaced by the interfaces'
    /// own addresses of that family.
    pub listeners: Vec<Listener>,
    /// `[[site]]`
    pub sites: Vec<Site>,
    /// `[http]`
    pub http: Http,
    /// `[cache]`
    pub cache: Cache,
    /// `[limits]`
    pub limits: Limits,
    /// `[control]`
    pub control: Control,
    /// `[drain]`
    pub drain: Drain,
    /// `[log]`
    pub log: Log,
    /// `[test]`
    #[cfg(feature = "fault-injection")]
    pub test: Test,
    /// What is strange but no fault, such as an expired certificate.
    pub warnings: Vec<Fault>,
}

/// `[eal]`: DPDK's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eal {
    /// Whether packet memory comes from hugepages.
    pub hugepages: Hugepages,
    /// Bytes of packet memory; at least [`Config::memory_needed`].
    pub memory: u64,
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages if there are enough free ones, else ordinary pages.
    Auto,
    /// Hugepages, or the appliance doesn't start.
    Require,
    /// Ordinary pages.
    Off,
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// One worker runs on each, in this order; none comes twice.
    pub cores: Vec<u16>,
    /// What a worker does when it has nothing to do.
    pub idle: Idle,
    /// Where `cores` stands.
    pub cores_place: Place,
}

/// What a worker does when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls again at once.
    Spin,
    /// Gives the core away for a moment after a number of empty turns.
    Yield,
    /// Sleeps for a short time after a number of empty turns.
    Sleep,
}

/// `[[port]]`: a device that packets come from and go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name that `[[interface]]` uses; unique.
    pub name: String,
    /// The DPDK device string; unique.
    pub device: String,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Offloads that can be taken for granted because nothing on this port's way corrupts bytes.
    pub assume: Assume,
    /// Receive descriptors of each queue.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue.
    pub tx_descriptors: u16,
    /// Where `device` stands.
    pub device_place: Place,
    /// Where `mtu` stands, or the section if it doesn't.
    pub mtu_place: Place,
}

/// Offloads taken for granted on a port that moves memory, not packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assume {
    /// Segments need not be cut to the MTU.
    pub tso: bool,
    /// Checksums need not be computed.
    pub txcsum: bool,
    /// Checksums need not be checked.
    pub rxcsum: bool,
}

/// `[[interface]]`: the addresses on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index into [`Config::ports`].
    pub port: usize,
    /// Its addresses, each with the length of its network's prefix; at least one.
    pub addresses: Vec<Prefix>,
}

/// `[[route]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination network, host bits zero.
    pub to: Prefix,
    /// The gateway, on a network that an interface is connected to.
    pub via: IpAddr,
    /// Index into [`Config::interfaces`]: where the gateway is.
    pub interface: usize,
}

/// `[tcp]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The congestion controller.
    pub congestion: Congestion,
    /// Segments that may be sent before the first acknowledgement.
    pub initial_window: u16,
    /// Bytes that a connection may hold for its peer to read or to acknowledge.
    pub window_max: u32,
    /// Whether small segments wait for the acknowledgement of the one before.
    pub nagle: bool,
    /// How long an acknowledgement may wait for company.
    pub delayed_ack: Duration,
    /// The shortest retransmission time-out.
    pub rto_min: Duration,
    /// Retransmissions of a SYN or SYN-ACK.
    pub syn_retries: u8,
    /// A connection whose data isn't acknowledged for this long is given up.
    pub user_timeout: Duration,
    /// How long a closed connection's addresses are kept from reuse.
    pub time_wait: Duration,
    /// How long a connection that we closed waits for its peer's FIN.
    pub fin_wait_timeout: Duration,
    /// Whether silent connections are probed.
    pub keepalive: Option<Keepalive>,
    /// Half-open connections of each worker.
    pub half_open_max: u32,
    /// Connections of each worker.
    pub connections_max: u32,
}

/// How silent connections are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up.
    pub count: u8,
}

/// The congestion controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438
    Cubic,
    /// RFC 6582
    NewReno,
}

/// `[ktls]`: the record layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ktls {
    /// Off refuses every session, so no listener can have TLS.
    pub enable: bool,
    /// Who seals and opens records in software.
    pub backend: Backend,
    /// Plaintext bytes of a record, at most.
    pub record_max: u16,
}

/// Who seals and opens records in software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Every backend, the fastest first.
    Auto,
    /// aws-lc-rs only.
    AwsLc,
    /// RustCrypto only.
    RustCrypto,
}

/// `[tls]`: the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Versions offered; at least one, none twice.
    pub versions: Vec<TlsVersion>,
    /// Ciphers in the order of preference; at least one, none twice.
    pub suites: Vec<Suite>,
    /// Whether clients get tickets to resume with.
    pub tickets: bool,
    /// A handshake that takes longer is cut off.
    pub handshake_timeout: Duration,
}

/// TLS versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246
    V1_2,
    /// RFC 8446
    V1_3,
}

/// Record ciphers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128-GCM
    Aes128Gcm,
    /// AES-256-GCM
    Aes256Gcm,
    /// ChaCha20-Poly1305
    Chacha20Poly1305,
}

/// `[[listener]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// An address of one of the interfaces, and a port.
    pub address: SocketAddr,
    /// Index into [`Config::interfaces`]: who has the address.
    pub interface: usize,
    /// Whether clients speak TLS; then there is at least one certificate.
    pub tls: bool,
}

/// `[[site]]`: a tree of files and the names it is served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Host names; none is in two sites.
    pub hosts: Vec<HostPattern>,
    /// An existing directory.
    pub root: PathBuf,
    /// The file that stands for a directory; none: directories are not found.
    pub index: Option<String>,
}

/// `[http]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// A request head must be complete this long after its first byte.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long a response may make no progress.
    pub send_timeout: Duration,
    /// Bytes of a request head.
    pub request_max: u32,
    /// Fields of a request head.
    pub headers_max: u16,
    /// Requests of a connection, after which it's closed.
    pub requests_max: u32,
}

/// `[cache]`: files in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of file content.
    pub memory_max: u64,
    /// Files known at a time.
    pub files_max: u32,
    /// How long a file is served without another look whether it changed.
    pub revalidate: Duration,
    /// Threads that read files.
    pub readers: u8,
}

/// `[limits]`: the pools. Each is a worker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Received packets and sent headers in flight, for each port.
    pub mbufs: u32,
    /// Page buffers, each a record or a piece of one that is queued.
    pub page_buffers: u32,
    /// Spans of 2 KiB.
    pub spans_small: u32,
    /// Spans that hold a whole record.
    pub spans_large: u32,
    /// Ranges of sent bytes that TCP remembers until they're acknowledged.
    pub sent_ranges: u32,
    /// Bytes queued for one connection to send.
    pub send_queue_max: u32,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket that `lockgate stats` asks; none: nobody can ask.
    pub socket: Option<PathBuf>,
}

/// `[drain]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long connections have to end after SIGTERM.
    pub deadline: Duration,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// `[test]`: for tests of the appliance itself.
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// One allocation in so many fails; 0: none.
    pub fail_one_in: u32,
    /// Which ones.
    pub fail_seed: u32,
}

/// Severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And what happens seldom.
    Info,
    /// And what happens often.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// Makes a fault of something that showed only at start: that a device can't do what the
    /// file asks of it.
    pub fn fault(&self, place: Place, message: impl Into<String>) -> Fault {
        Fault::new(&self.file, place, message)
    }

    /// The bytes of packet memory that all pools need together.
    pub fn memory_needed(&self) -> u64 {
        sections::memory_needed(
            self.workers.cores.len(),
            &self.ports,
            &self.limits,
            &self.cache,
        )
    }

    /// The path as the configuration means it: relative to the directory of its file.
    fn resolve(file: &Path, path: &str) -> PathBuf {
        file.parent()
            .map_or_else(|| PathBuf::from(path), |dir| dir.join(path))
    }
}

//! Configuration of a stack, its listeners and its outgoing connections.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use lockgate_ip::RouteError;
use lockgate_ip::{AddressError, Cidr, Interface, InterfaceError, IpConfig, Route};
use lockgate_tcp::TcpConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::flow_directory::SiblingPlace;
use crate::tls::{TlsClient, TlsServer};

/// The configuration of one worker's stack.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// The interfaces, each with its addresses.
    pub interfaces: Vec<(Interface, Vec<Cidr>)>,
    /// Routes beyond the networks that the interfaces are connected to.
    pub routes: Vec<Route>,
    /// The IP layer's settings.
    pub ip: IpConfig,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// The limits.
    pub limits: Limits,
    /// How long a TLS handshake may take, from the TCP connection on.
    pub handshake_timeout: Duration,
    /// Whether the record layer is enabled. Without it every TLS handshake fails at its end, and
    /// applications can set no keys.
    pub ktls: bool,
    /// Whether applications may set keys for AES-CBC (`kern.ipc.tls.cbc_enable`). Off by default.
    pub cbc: bool,
    /// The most bytes of content in a sent record: 64 (RFC 8449) to 2^14, the default. Values
    /// outside count as the nearest of these.
    pub record_len_max: u16,
    /// Small records where a connection begins to send.
    pub dynamic_records: DynamicRecords,
    /// The worker's place among the workers with the same addresses, if there are others. They get
    /// frames and packets from this one by
    /// [`Stack::poll_sibling_frame`](crate::Stack::poll_sibling_frame) and
    /// [`Stack::poll_misdirected_packet`](crate::Stack::poll_misdirected_packet).
    pub siblings: Option<SiblingPlace>,
}

/// Small records where a connection begins to send, and after a pause: each ends with a segment, so
/// that the peer can open it when that segment arrives, and not a round trip later. With
/// [`small_records`](Self::small_records) of them sent, all are full.
///
/// It is Cloudflare's "dynamic TLS records" (nginx's `ssl_dyn_rec_*`), whose numbers these are,
/// without the middle size: a record of three segments would take the memory of a full one. Go's
/// crypto/tls and HAProxy do the same with other numbers.
///
/// Connections whose keys an application set have full records, unless
/// [`Stack::set_tx_dynamic_records`](crate::Stack::set_tx_dynamic_records) asks for small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicRecords {
    /// How many records of application data are small. 0: none.
    pub small_records: u8,
    /// A connection begins again after it has sent nothing for so long, with nothing
    /// unacknowledged.
    pub idle: Duration,
}

impl Default for DynamicRecords {
    fn default() -> Self {
        Self {
            small_records: 40,
            idle: Duration::from_secs(1),
        }
    }
}

/// The limits of one worker's stack. Memory for tables is taken once, at the start:
///
/// | what | bytes each |
/// |---|---|
/// | connection: socket, flow entry, timer, places in order of arrival, range of its own | 790 |
/// | half-open: entry, flow entry, timer | 150 |
/// | TIME-WAIT: entry, flow entry, timer | 150 |
/// | range (sent or out of order) | 48 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: u32,
    /// Half-open connections of all listeners. One more evicts the oldest of the listener that has
    /// the most.
    pub half_open_max: u32,
    /// Connections in TIME-WAIT. One more ends without TIME-WAIT.
    pub time_wait_max: u32,
    /// TLS handshakes with state in the TLS library: about 10 KiB each. One more waits for
    /// admission, its bytes unread. It evicts the oldest that has waited for its peer for 250 ms. A
    /// flood of ClientHellos evicts a handshake whose round-trip time is shorter than this many
    /// signatures take (about 100 µs each) at no rate, so more are better.
    pub handshakes_max: u32,
    /// Received bytes of all TLS handshakes that wait for more from their peers. They are on the
    /// heap, outside the packet buffers. One byte more evicts the oldest of these handshakes.
    pub handshake_bytes_max: u64,
    /// Ranges of sent and of out-of-order bytes that all connections share. Each connection has one
    /// more of its own.
    pub ranges_max: u32,
    /// Bytes queued for sending, per connection; see [`Limits::send_low_water_bytes`].
    pub send_buffer_bytes: u32,
    /// The low-water mark: [`Notice::Writable`](crate::Notice::Writable) comes when fewer bytes
    /// than this are queued.
    pub send_low_water_bytes: u32,
    /// Memory that received and unread bytes pin, per connection. The rest of it is the receive
    /// window. Bytes that are out of order may pin four times as much until they are joined.
    pub recv_buffer_bytes: u32,
    /// The receive budget: memory that received and unread bytes pin, over all connections. A
    /// connection may pin as much as is free, and a record in any case. While it is exceeded, the
    /// connections that pin the most are reset. It has to be half of the memory of all received
    /// buffers at most, or unread bytes can pin every buffer and no frame is received.
    pub recv_total_bytes: u64,
    /// Received buffers that wait out of order, per connection.
    pub reassembly_items_max: u16,
    /// Payload bytes that all connections send in one turn of
    /// [`Stack::poll`](crate::Stack::poll), about. Received packets and handshakes wait meanwhile.
    /// What is sealed in a turn should fit into a core's cache until the ports fetch it.
    pub turn_bytes_max: u32,
    /// Payload bytes that a connection sends before others that send much have their turns.
    pub quantum_bytes: u32,
    /// Timer entries fired, or moved to a lower level of the wheel, per call of
    /// [`Stack::on_timer`](crate::Stack::on_timer).
    pub timers_per_turn_max: u32,
    /// Resets per second that answer segments without a connection.
    pub resets_per_second_max: u32,
    /// Bytes a second that a peer has to acknowledge while something is sent to it. A connection
    /// below this may be reset, when others wait for memory.
    pub send_rate_min: u32,
    /// How long the peer of a connection that was closed here may acknowledge less than
    /// `send_rate_min` of what is left to send, and keep its window closed. The connection is reset
    /// then: TCP alone never gives up a peer that answers every probe. While the window is open,
    /// the limit is TCP's `user_timeout`, if that is longer.
    pub orphan_timeout: Duration,
}

/// The configuration of a listener.
#[derive(Debug, Clone, Default)]
pub struct ListenConfig {
    /// The TLS server configuration; `None` is plain TCP.
    pub tls: Option<Arc<TlsServer>>,
    /// Half-open connections of this listener; 0 means as many as the stack allows. One more evicts
    /// this listener's oldest.
    pub backlog: u32,
    /// Whether small segments wait for acknowledgments (Nagle). Off by default.
    pub nagle: bool,
}

/// The configuration of an outgoing connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectConfig {
    /// The TLS client configuration and the name that the server must prove; `None` is plain TCP.
    pub tls: Option<(Arc<TlsClient>, ServerName<'static>)>,
    /// The local address. `None`, port 0 or an unspecified address means any.
    pub local: Option<SocketAddr>,
    /// Whether small segments wait for acknowledgments (Nagle). Off by default.
    pub nagle: bool,
}

/// Why a stack can't be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// An interface is refused.
    #[error("interface {iface}: {refused}", iface = .0.id.0, refused = .1)]
    Interface(Interface, InterfaceError),
    /// An address is refused.
    #[error("address {0}: {1}")]
    Address(Cidr, AddressError),
    /// A route is refused.
    #[error("route to {to}: {refused}", to = .0.to, refused = .1)]
    Route(Route, RouteError),
    /// A table's limit is above 2^28 entries.
    #[error("more than 2^28 connections, half-open connections or connections in TIME-WAIT")]
    TooMany,
}

/// Why a listener can't be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListenError {
    /// No interface has the address.
    #[error("no interface has this address")]
    NotLocal,
    /// There is a listener with this address already.
    #[error("address already in use by a listener")]
    InUse,
}

/// Why a connection can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// There is no route to the remote address, or no interface has the local one.
    #[error("no route to the remote address, or no interface has the local address")]
    NoRoute,
    /// The connection exists, or no ephemeral port is free.
    #[error("local port in use, or no ephemeral port free")]
    InUse,
    /// The connection table is full.
    #[error("connection table full")]
    Full,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            half_open_max: 4096,
            time_wait_max: 32_768,
            handshakes_max: 4096,
            handshake_bytes_max: 32 << 20,
            ranges_max: 65_536,
            send_buffer_bytes: 1 << 20,
            send_low_water_bytes: 512 << 10,
            recv_buffer_bytes: 512 << 10,
            recv_total_bytes: u64::MAX,
            reassembly_items_max: 1024,
            turn_bytes_max: 256 << 10,
            quantum_bytes: 64 << 10,
            timers_per_turn_max: 1024,
            resets_per_second_max: 1000,
            send_rate_min: 512,
            orphan_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            routes: Vec::new(),
            ip: IpConfig::default(),
            tcp: TcpConfig::default(),
            limits: Limits::default(),
            handshake_timeout: Duration::from_secs(10),
            ktls: true,
            cbc: false,
            record_len_max: RECORD_LEN_MAX,
            dynamic_records: DynamicRecords::default(),
            siblings: None,
        }
    }
}

const RECORD_LEN_MAX: u16 = 1 << 14;

/// The most entries of one table, so that the entries of all tables can be numbered together.
pub(crate) const ENTRIES_MAX: u32 = 1 << 28;

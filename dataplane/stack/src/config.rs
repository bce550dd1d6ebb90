//! What a stack is told at its start, and sockets at theirs.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use lockgate_ip::RouteError;
use lockgate_ip::{AddressError, Cidr, Interface, InterfaceError, IpConfig, Route};
use lockgate_tcp::TcpConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::tls::{TlsClient, TlsServer};

/// Everything a worker's stack is told at its start.
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
    /// Whether TLS is spoken at all: without the record layer every handshake fails at its end.
    pub ktls: bool,
    /// Bytes of content in a record that is sent: at most, and by default, 2^14. Less than 64
    /// counts as 64, as in RFC 8449.
    pub record_len_max: u16,
    /// How many other workers have the same addresses, and have to hear what belongs to no
    /// connection or to one of theirs: [`Stack::poll_sibling_frame`](crate::Stack::poll_sibling_frame).
    pub siblings: u16,
}

/// The limits of one worker's stack. Memory for tables is taken once, at the start:
///
/// | what | bytes each |
/// |---|---|
/// | connection: socket, flow entry, timer | 700 |
/// | half-open: entry, flow entry, timer | 150 |
/// | TIME-WAIT: entry, flow entry, timer | 150 |
/// | range (sent or out of order) | 48 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: u32,
    /// Half-open connections of all listeners. One more pushes out the oldest.
    pub half_open_max: u32,
    /// Connections in TIME-WAIT. One more is forgotten at once.
    pub time_wait_max: u32,
    /// Handshakes under way. One more waits, its bytes unread, until one is over.
    pub handshakes_max: u32,
    /// Ranges of sent and of out-of-order bytes, all connections together.
    pub ranges_max: u32,
    /// Bytes queued for sending, per connection; see [`Limits::send_low_water_bytes`].
    pub send_buffer_bytes: u32,
    /// [`Notice::Writable`](crate::Notice::Writable) comes when fewer bytes than this are queued.
    pub send_low_water_bytes: u32,
    /// Memory that received and unread bytes pin, per connection. What is left of it is the window.
    /// Bytes that are out of order may pin four times as much until they are joined.
    pub recv_buffer_bytes: u32,
    /// Memory that received and unread bytes pin, of all connections together. Above it a
    /// connection gets no more than one segment, and is reset if that isn't read at once.
    pub recv_total_bytes: u64,
    /// Received buffers that wait out of order, per connection.
    pub reassembly_items_max: u16,
    /// Payload bytes that a connection sends before it's the next one's turn.
    pub turn_bytes_max: u32,
    /// Timer entries fired or filed per turn.
    pub timers_per_turn_max: u32,
    /// Resets that answer segments for no connection, per second.
    pub resets_per_second_max: u32,
    /// How long the peer of a connection that was closed here may acknowledge nothing of what is
    /// left to send: it's reset then. Nobody else would ever give up a peer that keeps its window
    /// closed and answers every probe.
    pub orphan_timeout: Duration,
}

/// What a listener is told.
#[derive(Debug, Clone, Default)]
pub struct ListenConfig {
    /// With TLS; plain TCP without.
    pub tls: Option<Arc<TlsServer>>,
    /// Half-open connections of this listener; 0 means as many as the stack allows.
    pub backlog: u32,
    /// Whether small segments wait for acknowledgements (Nagle); off if not said otherwise.
    pub nagle: bool,
}

/// What an outgoing connection is told.
#[derive(Debug, Clone, Default)]
pub struct ConnectConfig {
    /// With TLS, to a server that can prove this name; plain TCP without.
    pub tls: Option<(Arc<TlsClient>, ServerName<'static>)>,
    /// Our end; port 0 or none means any that's free.
    pub local: Option<SocketAddr>,
    /// Whether small segments wait for acknowledgements (Nagle); off if not said otherwise.
    pub nagle: bool,
}

/// Why a stack can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// An interface that can't be.
    #[error("interface {iface}: {refused}", iface = .0.id.0, refused = .1)]
    Interface(Interface, InterfaceError),
    /// An address that its interface can't have.
    #[error("address {0}: {1}")]
    Address(Cidr, AddressError),
    /// A route that can't be.
    #[error("route to {to}: {refused}", to = .0.to, refused = .1)]
    Route(Route, RouteError),
    /// More connections than can be numbered.
    #[error("more than 2^28 connections, half-open connections or connections in TIME-WAIT")]
    TooMany,
}

/// Why a listener can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListenError {
    /// No interface has the address.
    #[error("no interface has this address")]
    NotLocal,
    /// Somebody listens there already.
    #[error("somebody listens there already")]
    InUse,
}

/// Why a connection can't be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No route leads there, or no interface has the local address.
    #[error("there is no way from here to there")]
    NoRoute,
    /// The connection exists, or no port is free.
    #[error("no port is free")]
    InUse,
    /// As many connections as there may be.
    #[error("there are as many connections as there may be")]
    Full,
    /// TLS can't begin (no randomness).
    #[error("TLS can't begin")]
    Tls,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            half_open_max: 4096,
            time_wait_max: 32_768,
            handshakes_max: 4096,
            ranges_max: 65_536,
            send_buffer_bytes: 1 << 20,
            send_low_water_bytes: 512 << 10,
            recv_buffer_bytes: 512 << 10,
            recv_total_bytes: u64::MAX,
            reassembly_items_max: 1024,
            turn_bytes_max: 256 << 10,
            timers_per_turn_max: 1024,
            resets_per_second_max: 1000,
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
            record_len_max: RECORD_LEN_MAX,
            siblings: 0,
        }
    }
}

const RECORD_LEN_MAX: u16 = 1 << 14;

/// The greatest number of entries of one kind, so that all of them can be numbered together.
pub(crate) const ENTRIES_MAX: u32 = 1 << 28;

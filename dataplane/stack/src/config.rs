//! What a stack is told at its start, and sockets at theirs.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use lockgate_tcp::TcpConfig;
use pktbuf::IfaceId;
use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::tls::{TlsClient, TlsServer};

/// Everything a worker's stack is told at its start.
#[derive(Debug, Clone, Default)]
pub struct StackConfig {
    /// The interfaces and their addresses.
    pub interfaces: Vec<Interface>,
    /// Routes beyond the networks the interfaces are connected to.
    pub routes: Vec<Route>,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// The limits.
    pub limits: Limits,
    /// How long a TLS handshake may take, from the TCP connection on.
    pub handshake_timeout: Option<Duration>,
}

/// An interface's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface, as the [`Output`](pktbuf::Output) names it.
    pub id: IfaceId,
    /// Each address with the length of its network's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destination network and the length of its prefix.
    pub to: (IpAddr, u8),
    /// The gateway.
    pub via: IpAddr,
    /// The interface on whose network the gateway is.
    pub on: IfaceId,
}

/// The limits of one worker's stack. Memory for tables is taken once, at the start:
///
/// | what | bytes each |
/// |---|---|
/// | connection: socket, flow entry, timer | about 750 |
/// | half-open: entry, flow entry, timer | about 130 |
/// | TIME-WAIT: entry, flow entry, timer | about 130 |
/// | range (sent or out of order) | 48 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: u32,
    /// Half-open connections of all listeners. One more pushes out an old one.
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
    pub recv_buffer_bytes: u32,
    /// Received buffers that wait out of order, per connection.
    pub reassembly_items_max: u16,
    /// Payload bytes that a connection sends before it's the next one's turn.
    pub turn_bytes_max: u32,
    /// Neighbours remembered.
    pub neighbours_max: u32,
    /// Timer entries fired or filed per turn.
    pub timers_per_turn_max: u32,
    /// Resets that answer segments for no connection, per second.
    pub resets_per_second_max: u32,
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
    /// An address or a prefix that an interface can't have.
    #[error("an interface can't have address {1}/{2}")]
    BadAddress(IfaceId, IpAddr, u8),
    /// A route that leads nowhere.
    #[error("there can't be a route to {0}/{1} by this gateway")]
    BadRoute(IpAddr, u8),
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
            reassembly_items_max: 1024,
            turn_bytes_max: 256 << 10,
            neighbours_max: 4096,
            timers_per_turn_max: 1024,
            resets_per_second_max: 1000,
        }
    }
}

impl StackConfig {
    /// The handshake's time limit, with its default.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT)
    }
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

//! Sockets, demultiplexing, TLS handshakes, packets in and packets out.
//!
//! A [`Stack`] is one worker's connections: it knows neither threads nor clocks nor ports. Packets
//! come in by [`Stack::on_packet`] and leave into a [`pktbuf::Output`]; time and memory are
//! arguments ([`Env`]). TCP's decisions are `lockgate_tcp`'s, records are `lockgate_ktls`'s, and a
//! TLS library is asked only until the handshake is over ([`tls`]).
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod api;
mod arrivals;
mod common;
mod config;
mod counters;
mod demux;
mod egress;
mod ingress;
mod listen;
mod notice;
mod siblings;
mod slab;
mod socket;
mod stack;
pub mod tls;
pub mod wheel;

use lockgate_ktls::Ciphers;
use pktbuf::{Output, PagePool};

pub use config::{
    ConfigError, ConnectConfig, ConnectError, Limits, ListenConfig, ListenError, StackConfig,
};
pub use counters::Counters;
pub use notice::{
    Chunk, CloseReason, ListenerId, Notice, Recv, RecvError, SendError, SocketId, TlsInfo,
};
pub use siblings::SiblingFrame;
pub use stack::Stack;
pub use tls::Failure;

/// What a stack works with while it's called: its worker's memory, ciphers and ports.
pub struct Env<'a, N: Output> {
    /// Page buffers.
    pub pages: &'a mut PagePool,
    /// Ciphers.
    pub ciphers: &'a mut Ciphers,
    /// The interfaces.
    pub net: &'a mut N,
}

//! Sockets, demultiplexing, TLS handshakes, packets in and packets out.
//!
//! A [`Stack`] is one worker's connections: it knows neither threads nor clocks nor ports. Packets
//! come in by [`Stack::on_packet`] and leave into a [`pktbuf::Output`]; time and memory are
//! arguments ([`Env`]). TCP's decisions are `lockgate_tcp`'s, records are `lockgate_ktls`'s, and a
//! TLS library is asked only until the handshake is over ([`tls`]).
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod arrival_order;
mod config;
mod context;
mod counters;
mod demux;
mod egress;
mod env;
mod half_open;
mod handshakes;
mod listeners;
mod memory;
mod notice;
mod schedule;
mod sibling_frames;
mod slab;
mod socket;
mod stack;
mod time_wait;
pub mod tls;
pub mod wheel;

pub use config::{
    ConfigError, ConnectConfig, ConnectError, Limits, ListenConfig, ListenError, StackConfig,
};
pub use counters::Counters;
pub use env::Env;
pub use notice::{
    Chunk, CloseReason, ListenerId, Notice, Recv, RecvError, SendError, SocketId, TlsInfo,
};
pub use sibling_frames::SiblingFrame;
pub use stack::Stack;
pub use tls::Failure;

//! TCP as arithmetic on stream offsets: RFC 9293 without payload, sockets or clocks.
//!
//! # What this crate owns
//!
//! The TCP state machine, retransmission and loss recovery, congestion control and initial sequence
//! numbers. It does not own payload, buffers, IP, flow tables or timers: the caller keeps the bytes
//! of both streams, finds the connection of a segment, and calls back at a deadline.
//!
//! # How the types work together
//!
//! - A listener turns a SYN into a [`HalfOpen`] entry; the last segment of the handshake turns that
//!   into a [`Connection`]; a connection in TIME-WAIT is replaced by a [`TimeWait`] entry. The
//!   first and the last are small, because there may be many.
//! - [`Connection::on_segment`] returns a [`Verdict`]: payload to keep, bytes acknowledged, an
//!   immediate answer. [`Connection::poll_transmit`] offers an [`Intent`], which
//!   [`Connection::commit`] records as sent. The call order is on [`Connection`].
//! - [`Shared`] holds what all connections of a worker share: settings, counters, and the slab of
//!   sent ranges and out-of-order pieces.
//! - [`IsnSource`] generates initial sequence numbers and timestamp offsets; [`congestion`] holds
//!   CUBIC and `NewReno`.
//!
//! # Invariants
//!
//! - Time is an argument and never goes back. Randomness comes from seeds and secrets.
//! - Nothing is allocated after [`Shared::new`].
//! - Nothing changes between `poll_transmit` and `commit`.
//! - No segment can cause a panic.
//!
//! # Example
//!
//! A client sends ten bytes to a listener:
//!
//! ```
//! use lockgate_tcp::{Connection, HalfOpen, HalfOpenVerdict, OpenParams, SegmentIn, Shared,
//! SharedParams, TcpConfig};
//! use lockgate_wire::{Instant, SeqNum, StreamOffset};
//!
//! let now = Instant::from_secs(1);
//! let sizes = SharedParams {
//!     ranges: 1024,
//!     connections: 2,
//!     challenge_seed: 1,
//!     ranges_seed: 2,
//! };
//! let mut sh = Shared::new(TcpConfig::default(), &sizes);
//! let params = |local_port, remote_port, isn| OpenParams {
//!     local_port,
//!     remote_port,
//!     ipv6: false,
//!     mss: 1460,
//!     isn: SeqNum(isn),
//!     ts_offset: 0,
//! };
//!
//! // SYN, SYN-ACK.
//! let mut client = Connection::connect(now, &params(40_000, 443, 1_000), &sh);
//! let intent = client.poll_transmit(now, &sh).unwrap();
//! let (syn, _) = client.commit(intent, 0, now, &mut sh);
//! let (mut half_open, syn_ack) =
//!     HalfOpen::on_syn(now, &SegmentIn::new(&syn, 0), &params(443, 40_000, 9_000), &sh).unwrap();
//! client.on_segment(now, SegmentIn::new(&syn_ack, 0), &mut sh);
//!
//! // The last segment of the handshake carries data.
//! client.queued(StreamOffset(10));
//! client.ready(StreamOffset(10));
//! let intent = client.poll_transmit(now, &sh).unwrap();
//! assert_eq!(intent.range, StreamOffset(0)..StreamOffset(10));
//! let (header, _) = client.commit(intent, 10, now, &mut sh);
//! let segment = SegmentIn::new(&header, 10);
//! let HalfOpenVerdict::Established(mut server) = half_open.on_segment(now, &segment, &mut sh) else
//! {
//!     panic!("the handshake is complete");
//! };
//! server.room(65_536);
//! let verdict = server.on_segment(now, segment, &mut sh);
//! assert_eq!(verdict.keep, StreamOffset(0)..StreamOffset(10));
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod config;
pub mod congestion;
mod connection;
mod counters;
mod header;
mod icmp;
mod info;
pub mod isn;
mod listener;
mod open_params;
mod options;
mod ranges;
mod receive;
mod recovery;
mod rtt;
mod segment;
mod shared;
mod state;
mod time_wait;
mod timeouts;
mod timers;
mod transmit;
mod verdict;

pub use config::{Keepalive, TcpConfig};
pub use connection::{Connection, Unreachable};
pub use counters::Counters;
pub use info::ConnectionInfo;
pub use isn::IsnSource;
pub use listener::{HalfOpen, HalfOpenTimer, HalfOpenVerdict};
pub use open_params::OpenParams;
pub use segment::{MergedSegments, SegmentIn, reset_for};
pub use shared::{Shared, SharedParams};
pub use state::State;
pub use time_wait::{TimeWait, TimeWaitVerdict};
pub use verdict::{Event, Intent, IntentKind, Sent, Verdict};

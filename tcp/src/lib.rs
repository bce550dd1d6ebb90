//! TCP as arithmetic.
//!
//! A [`Connection`] handles stream offsets, never payload bytes, clocks or sockets: it is told what
//! came in (`on_*`), what the application wants (commands), and asked what to send
//! ([`Connection::poll_transmit`] and [`Connection::commit`]). Time is an argument; what
//! randomness there is comes from the seed of [`Shared`]. Nothing allocates per segment:
//! what connections remember of sent and received ranges lives in one slab per worker.
//!
//! A connection's life in three types: a listener's [`HalfOpen`], the [`Connection`], and
//! [`TimeWait`]; the first and the last are small because there may be many.
//!
//! - [`isn`]: initial sequence numbers and timestamp offsets that can't be guessed
//! - [`congestion`]: `NewReno` and CUBIC behind one trait
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
pub use connection::{Connection, OpenParams, Unreachable};
pub use counters::Counters;
pub use info::ConnectionInfo;
pub use isn::IsnSource;
pub use listener::{HalfOpen, HalfOpenTimer, HalfOpenVerdict};
pub use segment::{SegmentIn, reset_for};
pub use shared::Shared;
pub use state::State;
pub use time_wait::{TimeWait, TimeWaitVerdict};
pub use verdict::{Event, Intent, IntentKind, Sent, Verdict};

//! Sockets over TCP and TLS records: demultiplexing, handshakes, packets in and packets out.
//!
//! A [`Stack`] owns the connections of one worker: its sockets, half-open and TIME-WAIT entries,
//! listeners, flow table and timers. It uses no threads, no clock and no ports. Time is an
//! argument; memory, ciphers and interfaces are passed for one call ([`Env`]). TCP's decisions are
//! `lockgate_tcp`'s, IP's are `lockgate_ip`'s, records are `lockgate_ktls`'s; rustls runs the TLS
//! handshake and is dropped when the keys are handed over ([`tls`]).
//!
//! # A turn of the worker's loop
//!
//! 1. [`Stack::on_burst`] for every burst of packets. Answers that can't wait (RST, ARP, ICMP)
//!    leave at once.
//! 2. [`Stack::on_sibling_frame`], [`Stack::on_sibling_resolution`] and
//!    [`Stack::on_misdirected_packet`] for what other workers give, [`Stack::poll_sibling_frame`],
//!    [`Stack::poll_sibling_resolution`] and [`Stack::poll_misdirected_packet`] for what they get.
//! 3. [`Stack::on_timer`] if [`Stack::next_timer`] is due.
//! 4. [`Stack::step_handshake`]: one step of one TLS handshake. A signature takes a hundred
//!    microseconds, and the ports have to be polled in between.
//! 5. [`Stack::poll_notice`] until there is none. The application reads, sends and closes.
//! 6. [`Stack::poll`]: sends what can be sent. One acknowledgment answers the whole burst.
//!
//! Calls of the application only change queues and list sockets; their packets leave in step 6.
//!
//! # Invariants
//!
//! - A socket is in each list once at most, and a listed index whose socket was removed is skipped
//!   (`schedule`).
//! - The send queue and TCP have the same end of the stream to be sent, the chain of received bytes
//!   and TCP the same end of the received one. A payload's memory is reserved before TCP gets the
//!   segment, because a verdict can't be undone.
//! - Every limit over all sockets of a worker has one owner: what received bytes may pin, the
//!   reserve that sending leaves to reading, and the starved sockets are `memory`'s; what
//!   unfinished handshakes hold is `handshakes`'.
//! - A record's bytes never leave before they are sealed, and a sealed record is never cut.
//! - [`Notice::Closed`] is a socket's last notice, and its [`SocketId`] is never reused.
//! - Nothing is allocated from the heap per packet. No packet or record leads to a panic: it leads
//!   to a verdict and a counter ([`Counters`]).
//!
//! # How the types work together
//!
//! A segment's four-tuple leads through the flow table (`demux`) to a socket, a half-open entry or
//! a TIME-WAIT entry. A socket (`socket`) joins a `lockgate_tcp::Connection`, a
//! `lockgate_ktls::RecordQueue` for sending, and for receiving a byte stream, a handshake or a
//! `lockgate_ktls::Deframer`. What sockets share is the context (`context`), a part for each
//! purpose. Packets leave through the IP layer (`egress`), which finds route and neighbour. One
//! timer wheel ([`wheel`]) has a timer for every entry of the tables.
//!
//! # Example
//!
//! ```
//! use lockgate_ip::{Cidr, Interface};
//! use lockgate_ktls::{BackendChoice, Ciphers};
//! use lockgate_stack::{Env, ListenConfig, Stack, StackConfig};
//! use lockgate_wire::{IfaceId, Instant, MacAddr};
//! use pktbuf::{Info, Output, Packet, PagePool, PoolConfig, Region, Room, TxError};
//!
//! /// An interface that counts frames and drops them.
//! #[derive(Default)]
//! struct Sink {
//!     frames: u32,
//! }
//!
//! impl Output for Sink {
//!     fn info(&self, _iface: IfaceId) -> Info {
//!         Info { mtu: 1500, entries_max: 17, link_up: true, ..Info::default() }
//!     }
//!     fn room(&self, _iface: IfaceId) -> Room {
//!         Room { packets: 64, entries: 1024 }
//!     }
//!     fn tx(&mut self, _packet: Packet<'_>) -> Result<(), TxError> {
//!         self.frames += 1;
//!         Ok(())
//!     }
//! }
//!
//! let pool = PoolConfig { blocks: 64, small_spans: 64, large_spans: 16 };
//! let mut region = Region::heap(PagePool::bytes_needed(pool)).unwrap();
//! let mut pages = PagePool::new(&mut region, pool).unwrap();
//! let mut ciphers = Ciphers::new(BackendChoice::Auto, 16);
//! let mut net = Sink::default();
//!
//! let interface = Interface {
//!     id: IfaceId(0),
//!     mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
//!     mtu: 1500,
//!     vlan: None,
//! };
//! let address = Cidr::new("192.0.2.1".parse().unwrap(), 24).unwrap();
//! let config = StackConfig {
//!     interfaces: vec![(interface, vec![address])],
//!     ..StackConfig::default()
//! };
//! // In production the secrets are random.
//! let mut stack = Stack::new(Instant::ZERO, config, [1, 2, 3, 4]).unwrap();
//! stack.listen("192.0.2.1:80".parse().unwrap(), ListenConfig::default()).unwrap();
//!
//! // One turn, without packets.
//! let now = Instant::from_millis(1);
//! let mut env = Env { pages: &mut pages, ciphers: &mut ciphers, net: &mut net };
//! stack.announce(now, &mut env);
//! if stack.next_timer().is_some_and(|at| at <= now) {
//!     stack.on_timer(now, &mut env);
//! }
//! stack.step_handshake(now, &mut env);
//! while let Some(notice) = stack.poll_notice() {
//!     println!("{notice:?}");
//! }
//! let has_more = stack.poll(now, &mut env, 64);
//! assert!(!has_more);
//! assert!(net.frames > 0, "the address was announced");
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod admission_queue;
mod arrival_order;
mod away;
mod config;
mod context;
mod counters;
mod demux;
mod egress;
mod env;
mod file_source;
mod flow_directory;
mod half_open;
mod handshakes;
mod listeners;
mod memory;
mod notice;
mod record_budget;
mod schedule;
mod seeds;
mod sibling_frames;
mod sibling_solicits;
mod slab;
mod socket;
mod socket_error;
mod stack;
mod step_count;
mod time_wait;
pub mod tls;
pub mod wheel;

pub use config::{
    ConfigError, ConnectConfig, ConnectError, DynamicRecords, Limits, ListenConfig, ListenError,
    StackConfig,
};
pub use counters::Counters;
pub use env::Env;
pub use file_source::{FileSource, FileSpan};
pub use flow_directory::{FlowDirectory, SiblingPlace};
pub use notice::{
    Chunk, CloseReason, ListenerId, Notice, Recv, RecvError, RecvRecord, SendError, SocketId,
    TlsInfo,
};
pub use sibling_frames::{MisdirectedPacket, SiblingFrame};
pub use sibling_solicits::SiblingResolution;
pub use socket::{IDLE_TLS_BYTES, IDLE_TLS_HEAP_BYTES};
pub use socket_error::SocketError;
pub use stack::{KeyTarget, Stack};
pub use tls::Failure;

//! Sockets, demultiplexing, TLS handshakes, packets in and packets out.
#![forbid(unsafe_code)]

mod config;
mod notice;
pub mod tls;
pub mod wheel;

use core::net::SocketAddr;
use std::sync::Arc;

use lockgate_ktls::{Ciphers, ContentType};
use lockgate_wire::Instant;
use pktbuf::{Buffer, IfaceId, Output, PagePool, SharedSpan};

pub use config::*;
pub use notice::*;
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

/// One worker's connections, listeners and timers.
#[derive(Debug)]
pub struct Stack {}

impl Stack {
    /// A stack with the secrets of its hash table and sequence numbers.
    pub fn new(now: Instant, config: StackConfig, secret: [u64; 4]) -> Result<Self, ConfigError> {
        todo!()
    }
    /// A packet was received. Answers that can't wait go out at once, everything else in
    /// [`Stack::poll`]: give all packets of a burst first.
    pub fn on_packet<N: Output>(&mut self, now: Instant, on: IfaceId, packet: Buffer, env: &mut Env<'_, N>) {
        todo!()
    }
    /// Sends what can be sent, at most `budget` packets; connections take turns. True if there is
    /// more to do now.
    pub fn poll<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>, budget: u32) -> bool {
        todo!()
    }
    /// Runs the timers that are due.
    pub fn on_timer<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        todo!()
    }
    /// When [`Stack::on_timer`] wants to be called.
    pub fn next_timer(&self) -> Option<Instant> {
        todo!()
    }
    /// Takes one TLS handshake one step further; true if more are waiting. A step with a signature
    /// takes a hundred microseconds and more, so do one between two looks at the ports.
    pub fn step_handshake<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) -> bool {
        todo!()
    }
    /// The next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        todo!()
    }
    /// Accepts connections to an address of one of the interfaces.
    pub fn listen(&mut self, at: SocketAddr, config: ListenConfig) -> Result<ListenerId, ListenError> {
        todo!()
    }
    /// Stops accepting at one listener. Its connections stay.
    pub fn unlisten(&mut self, listener: ListenerId) {
        todo!()
    }
    /// Changes a listener's TLS configuration for the connections to come.
    pub fn set_listener_tls(&mut self, listener: ListenerId, tls: Option<Arc<tls::TlsServer>>) {
        todo!()
    }
    /// Begins a connection.
    pub fn connect(&mut self, now: Instant, remote: SocketAddr, config: ConnectConfig) -> Result<SocketId, ConnectError> {
        todo!()
    }
    /// Copies bytes into the send queue and returns how many were taken; if that's fewer than were
    /// given, a [`Notice::Writable`] follows. With `more` the last record stays open for the next
    /// call (and unsent until it is full).
    pub fn send(&mut self, socket: SocketId, bytes: &[u8], more: bool, pages: &mut PagePool) -> Result<u32, SendError> {
        todo!()
    }
    /// As [`Stack::send`], for bytes in several parts.
    pub fn send_parts(&mut self, socket: SocketId, parts: &[&[u8]], more: bool, pages: &mut PagePool) -> Result<u32, SendError> {
        todo!()
    }
    /// Queues `len` bytes of `span` from `at` by reference; otherwise as [`Stack::send`].
    pub fn send_span(&mut self, socket: SocketId, span: &Arc<SharedSpan>, at: u32, len: u32, pages: &mut PagePool) -> Result<u32, SendError> {
        todo!()
    }
    /// Sends one record of any type on a TLS socket; false if there's no room for it now.
    pub fn send_record(&mut self, socket: SocketId, kind: ContentType, content: &[u8], pages: &mut PagePool) -> Result<bool, SendError> {
        todo!()
    }
    /// How many bytes may be given to `send` now without being refused for the buffer's limit.
    pub fn send_space(&self, socket: SocketId) -> u32 {
        todo!()
    }
    /// Bytes given to `send` and not yet acknowledged by the peer.
    pub fn send_queued(&self, socket: SocketId) -> u64 {
        todo!()
    }
    /// Receives: a piece of the stream without TLS, one record with it.
    pub fn recv(&mut self, socket: SocketId, ciphers: &mut Ciphers, pages: &mut PagePool) -> Result<Recv, RecvError> {
        todo!()
    }
    /// No more will be sent: close_notify with TLS, then FIN, after everything that's queued.
    /// Receiving goes on.
    pub fn shutdown(&mut self, socket: SocketId) {
        todo!()
    }
    /// The application has done with the socket: as [`Stack::shutdown`], and what still comes in is
    /// thrown away. The socket goes away by itself; [`Notice::Closed`] says when.
    pub fn close(&mut self, now: Instant, socket: SocketId) {
        todo!()
    }
    /// Ends a connection at once by a reset.
    pub fn abort(&mut self, socket: SocketId) {
        todo!()
    }
    /// Ends every connection at once; they count as drained.
    pub fn abort_all(&mut self) {
        todo!()
    }
    /// Connections that exist now.
    pub fn connections(&self) -> u32 {
        todo!()
    }
    /// The peer's address.
    pub fn remote_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        todo!()
    }
    /// Our address.
    pub fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        todo!()
    }
}

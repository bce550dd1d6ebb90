//! What applications do with sockets, and what can be asked of a stack.

use core::net::SocketAddr;
use std::sync::Arc;

use lockgate_ip::IpCounters;
use lockgate_ktls::{Ciphers, ContentType};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Output, PagePool, SharedSpan};

use super::Stack;
use crate::counters::Counters;
use crate::env::Env;
use crate::notice::{CloseReason, Recv, RecvError, SendError, SocketId};
use crate::socket::Socket;

impl Stack {
    /// Copies bytes into the send queue and returns how many were taken; if that's fewer than were
    /// given, a [`Notice::Writable`](crate::Notice::Writable) follows. With `more` the last record
    /// stays open for the next call, and unsent until it is full or closed by one.
    pub fn send(
        &mut self,
        socket: SocketId,
        bytes: &[u8],
        more: bool,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.send_parts(socket, &[bytes], more, pages)
    }

    /// As [`Stack::send`], for bytes in several parts.
    pub fn send_parts(
        &mut self,
        socket: SocketId,
        parts: &[&[u8]],
        more: bool,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send(parts, more, cx, pages)
    }

    /// Queues `len` bytes of `span` from `at` by reference; otherwise as [`Stack::send`].
    pub fn send_span(
        &mut self,
        socket: SocketId,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send_span(span, at, len, cx, pages)
    }

    /// Sends one record of any type on a TLS socket; false if there's no room for it now.
    pub fn send_record(
        &mut self,
        socket: SocketId,
        kind: ContentType,
        content: &[u8],
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send_record(kind, content, cx, pages)
    }

    /// Changes the sending keys of a TLS 1.3 socket; `ask_peer` wants the peer to do the same. It
    /// happens by itself when a key has been used often enough.
    pub fn update_keys(
        &mut self,
        socket: SocketId,
        ask_peer: bool,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<(), SendError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.update_keys(ask_peer, cx, ciphers, pages)
    }

    /// How many bytes may be given to `send` now without being refused for the buffer's limit.
    pub fn send_space(&self, socket: SocketId) -> u32 {
        self.socket(socket)
            .map_or(0, |socket| socket.send_space(&self.cx.limits))
    }

    /// Bytes given to `send`, with their records' headers and trailers, that the peer has not
    /// acknowledged yet.
    pub fn send_queued(&self, socket: SocketId) -> u64 {
        self.socket(socket).map_or(0, Socket::send_queued)
    }

    /// Receives: a piece of the stream without TLS, one record with it. What is given away no
    /// longer counts against the connection's window; so call this only when the bytes can be used.
    pub fn recv(
        &mut self,
        socket: SocketId,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(RecvError::NoSocket)?;
        socket.recv(cx, ciphers, pages)
    }

    /// No more will be sent: close_notify with TLS, then FIN, after everything that's queued.
    /// Receiving goes on. A handshake that isn't over is given up.
    pub fn shutdown(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.shutdown(&mut cx.schedule);
        }
    }

    /// The application has done with the socket: as [`Stack::shutdown`], and what still comes in is
    /// thrown away. The socket goes away by itself; [`Notice::Closed`](crate::Notice::Closed) says
    /// when.
    pub fn close(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.close(&mut cx.schedule);
        }
    }

    /// Ends a connection at once by a reset.
    pub fn abort(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.abort(CloseReason::Aborted, &mut cx.schedule);
        }
    }

    /// Ends every connection at once by a reset; they count as drained. Listeners stop.
    pub fn abort_all(&mut self) {
        self.listeners.stop_all();
        for index in self.sockets.indices() {
            if let Some(socket) = self.sockets.get_mut(index) {
                socket.abort(CloseReason::Drained, &mut self.cx.schedule);
            }
        }
    }

    /// Connections that exist now, half-open ones and TIME-WAIT excepted.
    pub fn connections(&self) -> u32 {
        self.sockets.len()
    }

    /// Half-open connections that exist now.
    pub fn half_open(&self) -> u32 {
        self.half_open.len()
    }

    /// Connections in TIME-WAIT now.
    pub fn in_time_wait(&self) -> u32 {
        self.time_wait.len()
    }

    /// TLS handshakes under way, as far as the TLS library has state for them.
    pub fn handshakes(&self) -> u32 {
        self.cx.handshakes.active()
    }

    /// The peer's address.
    pub fn remote_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|socket| socket.tuple.remote.into())
    }

    /// Our address.
    pub fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|socket| socket.tuple.local.into())
    }

    /// How a connection's TCP is doing.
    pub fn tcp_info(&self, socket: SocketId) -> Option<lockgate_tcp::ConnectionInfo> {
        self.socket(socket)
            .map(|socket| socket.tcp.info(&self.cx.tcp))
    }

    /// What happened in this stack.
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// What happened in its TCP.
    pub fn tcp_counters(&self) -> &lockgate_tcp::Counters {
        &self.cx.tcp.counters
    }

    /// What happened in its IP layer.
    pub fn ip_counters(&self) -> IpCounters {
        self.egress.ip.counters()
    }

    /// Announces all addresses to the neighbours of their interfaces, who may remember another
    /// host's: once everything is ready to receive.
    pub fn announce<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let ifaces: Vec<IfaceId> = self.egress.ip.interfaces().iter().map(|i| i.id).collect();
        for iface in ifaces {
            self.egress.ip.announce(now, iface);
        }
        self.send_ip_frames(now, env);
    }
}

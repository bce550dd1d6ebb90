//! Methods for applications: send, receive and close; counters and the state of connections.

use core::net::SocketAddr;
use std::sync::Arc;

use lockgate_ip::IpCounters;
use lockgate_ktls::{Ciphers, ContentType};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Output, PagePool, SharedSpan};

use super::Stack;
use crate::config::Limits;
use crate::counters::Counters;
use crate::env::Env;
use crate::notice::{Chunk, CloseReason, Recv, RecvError, SendError, SocketId};
use crate::socket::Socket;

impl Stack {
    /// Copies bytes into the send queue. Returns how many were taken.
    ///
    /// If fewer were taken than given, a [`Notice::Writable`](crate::Notice::Writable) follows.
    /// With `more` the last record stays open for the next call, and unsent until it is full or a
    /// call without `more` closes it.
    ///
    /// # Errors
    /// If there is no such socket, its sending side is closed, or its TLS handshake isn't over.
    /// Also if no bytes are given: TLS 1.0 alone makes a record of them, and without room for it
    /// now the error is EAGAIN.
    pub fn send(
        &mut self,
        socket: SocketId,
        bytes: &[u8],
        more: bool,
        pages: &mut PagePool,
    ) -> Result<u32, SendError> {
        self.send_parts(socket, &[bytes], more, pages)
    }

    /// Copies bytes in several parts into the send queue; otherwise as [`Stack::send`].
    ///
    /// # Errors
    /// As [`Stack::send`].
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
    ///
    /// # Errors
    /// As [`Stack::send`].
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

    /// Queues one record of any type on a TLS socket. Returns false if there is no room for it now.
    ///
    /// # Errors
    /// As [`Stack::send`]; also if the content is longer than a record or the socket has no TLS.
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

    /// Changes the sending keys of a TLS 1.3 socket. With `ask_peer` the peer has to change its
    /// own.
    ///
    /// A key near its usage limit is changed without a call.
    ///
    /// # Errors
    /// As [`Stack::send`]; also if the socket has no TLS 1.3, no buffer is free, or the keys of an
    /// earlier change are still needed.
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

    /// The bytes that [`Stack::send`] takes now before the send buffer is full.
    pub fn send_space(&self, socket: SocketId) -> u32 {
        self.socket(socket)
            .map_or(0, |socket| socket.send_space(&self.cx.limits))
    }

    /// Bytes in the send queue that aren't acknowledged, headers and trailers of records included.
    pub fn send_queued(&self, socket: SocketId) -> u64 {
        self.socket(socket).map_or(0, Socket::send_queued)
    }

    /// Bytes that the peer has acknowledged since the connection began, headers and trailers of
    /// records included.
    pub fn acknowledged(&self, socket: SocketId) -> u64 {
        self.socket(socket).map_or(0, Socket::acknowledged)
    }

    /// Whether bytes were sent that the peer hasn't acknowledged, and the connection waits for
    /// nothing else: neither for memory of this host, nor for its interface or a neighbour's
    /// address.
    pub fn waits_for_peer(&self, socket: SocketId) -> bool {
        self.socket(socket).is_some_and(Socket::waits_for_peer)
    }

    /// Whether a received record is opened elsewhere, or is back and wasn't received yet. A
    /// Readable notice comes when it is back.
    pub fn awaits_record(&self, socket: SocketId) -> bool {
        self.socket(socket).is_some_and(Socket::awaits_record)
    }

    /// Receives a piece of the stream, or one record with TLS.
    ///
    /// A received chunk no longer counts against the receive window, so call this only when the
    /// bytes can be used, or return what is left of them by [`Stack::unread`].
    ///
    /// # Errors
    /// If there is no such socket, or the record layer failed on what the peer sent: the socket
    /// closes by an alert.
    pub fn recv(
        &mut self,
        socket: SocketId,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(RecvError::NoSocket)?;
        socket.recv(cx, ciphers, pages)
    }

    /// Returns the chunk that was received last to the socket, because the application can't use
    /// the bytes that are left in it yet. They count against the receive window and the receive
    /// budget again, and the next [`Stack::recv`] returns them. No notice announces them.
    pub fn unread(&mut self, socket: SocketId, chunk: Chunk) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.unread(chunk, cx);
        }
    }

    /// Closes the sending side: close_notify with TLS, then FIN, after everything that is queued.
    /// The receiving side stays open. A TLS handshake that isn't over is given up.
    pub fn shutdown(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.shutdown(&mut cx.schedule);
        }
    }

    /// Closes the socket: as [`Stack::shutdown`], and received bytes are dropped. The last notice
    /// is [`Notice::Closed`](crate::Notice::Closed), when the socket is removed.
    pub fn close(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.close(&mut cx.schedule);
        }
    }

    /// Resets a connection.
    pub fn abort(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.abort(CloseReason::Aborted, &mut cx.schedule);
        }
    }

    /// Resets every connection and stops every listener. The connections end as
    /// [`CloseReason::Drained`].
    pub fn abort_all(&mut self) {
        self.listeners.stop_all();
        for index in self.sockets.indices() {
            if let Some(socket) = self.sockets.get_mut(index) {
                socket.abort(CloseReason::Drained, &mut self.cx.schedule);
            }
        }
    }

    /// The number of connections, without half-open ones and TIME-WAIT.
    pub fn connections(&self) -> u32 {
        self.sockets.len()
    }

    /// The number of half-open connections.
    pub fn half_open(&self) -> u32 {
        self.half_open.len()
    }

    /// The number of connections in TIME-WAIT.
    pub fn in_time_wait(&self) -> u32 {
        self.time_wait.len()
    }

    /// Ranges of sent and of out-of-order bytes that connections hold; see [`Stack::ranges_max`].
    pub fn ranges(&self) -> u32 {
        self.cx.tcp.ranges_used()
    }

    /// How many ranges there are: [`Limits::ranges_max`](crate::Limits::ranges_max), and one more
    /// for each connection that there may be.
    pub fn ranges_max(&self) -> u32 {
        self.cx.tcp.ranges_total()
    }

    /// The number of TLS handshakes that have state in the TLS library.
    pub fn handshakes(&self) -> u32 {
        self.cx.handshakes.active()
    }

    /// The stack's limits.
    pub fn limits(&self) -> &Limits {
        &self.cx.limits
    }

    /// Memory that received and unread bytes pin; see
    /// [`Limits::recv_total_bytes`](crate::Limits::recv_total_bytes).
    pub fn received_bytes_pinned(&self) -> u64 {
        self.cx.memory.receive.pinned_bytes()
    }

    /// Received bytes of TLS handshakes that wait for more from their peers; see
    /// [`Limits::handshake_bytes_max`](crate::Limits::handshake_bytes_max).
    pub fn handshake_bytes(&self) -> u64 {
        self.cx.handshakes.held().bytes
    }

    /// Memory of page buffers with handshake flights that peers haven't acknowledged.
    pub fn handshake_flight_bytes(&self) -> u64 {
        self.cx.handshakes.held().flight_bytes
    }

    /// The remote address of a connection.
    pub fn remote_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|socket| socket.tuple.remote.into())
    }

    /// The local address of a connection.
    pub fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|socket| socket.tuple.local.into())
    }

    /// The state of a connection's TCP: window, round-trip time, losses.
    pub fn tcp_info(&self, socket: SocketId) -> Option<lockgate_tcp::ConnectionInfo> {
        self.socket(socket)
            .map(|socket| socket.tcp.info(&self.cx.tcp))
    }

    /// The stack's counters.
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// TCP's counters.
    pub fn tcp_counters(&self) -> &lockgate_tcp::Counters {
        &self.cx.tcp.counters
    }

    /// The IP layer's counters.
    pub fn ip_counters(&self) -> IpCounters {
        self.egress.ip.counters()
    }

    /// Announces all addresses to the neighbours of their interfaces (gratuitous ARP, unsolicited
    /// advertisements), whose caches may have another host's. Call it once the host can receive.
    /// Interfaces whose link is down wait for [`Stack::on_link_change`].
    pub fn announce<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let ports = self.egress.ip.interfaces().iter();
        let ports: Vec<_> = ports.filter(|i| i.vlan.is_none()).map(|i| i.id).collect();
        for iface in ports {
            self.on_link_change(now, iface, env);
        }
    }

    /// Handles a change of the link state of a port's interface, which is read from the port. A
    /// link that is up announces the interface's addresses. One of several workers does that.
    pub fn on_link_change<N: Output>(
        &mut self,
        now: Instant,
        iface: IfaceId,
        env: &mut Env<'_, N>,
    ) {
        let is_up = env.net.info(iface).link_up;
        self.egress.ip.on_link(now, iface, is_up);
        self.send_ip_frames(now, env);
    }

    /// Handles a change of the MAC address of a port's interface, which is read from the port:
    /// frames leave with it and are accepted for it. Each of several workers does that. One of them
    /// announces it by [`Stack::on_link_change`].
    pub fn on_mac_change<N: Output>(&mut self, iface: IfaceId, net: &N) {
        if let Some(mac) = net.info(iface).mac {
            self.egress.ip.set_mac(iface, mac);
        }
    }
}

//! What applications do with sockets.

use core::net::SocketAddr;
use std::sync::Arc;

use lockgate_ip::IpCounters;
use lockgate_ktls::{Ciphers, ContentType};
use lockgate_tcp::Connection;
use lockgate_wire::{Endpoint, FourTuple, IfaceId, Instant};
use pktbuf::{Output, PagePool, SharedSpan, Stream};

use crate::Env;
use crate::config::{ConnectConfig, ConnectError, ListenConfig, ListenError};
use crate::counters::Counters;
use crate::notice::{CloseReason, ListenerId, Recv, RecvError, SendError, SocketId};
use crate::socket::{Rx, Shaking, Socket};
use crate::stack::Stack;

impl Stack {
    /// Accepts connections to an address of one of the interfaces.
    pub fn listen(
        &mut self,
        at: SocketAddr,
        config: ListenConfig,
    ) -> Result<ListenerId, ListenError> {
        if at.port() == 0 || !self.core.ip.interfaces().is_local(at.ip()) {
            return Err(ListenError::NotLocal);
        }
        if self.listeners.by_address.contains_key(&Endpoint::from(at)) {
            return Err(ListenError::InUse);
        }
        Ok(self.listeners.add(at.into(), config))
    }

    /// Stops accepting at one listener. Its connections stay.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
    }

    /// Begins a connection.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        config: ConnectConfig,
    ) -> Result<SocketId, ConnectError> {
        if self.sockets.is_full() {
            return Err(ConnectError::Full);
        }
        let tuple = self.choose_local(remote.into(), config.local)?;
        let mut tcp = Connection::connect(now, &self.opening(now, &tuple, None), &self.core.tcp);
        tcp.set_nodelay(!config.nagle);
        let rx = match config.tls {
            Some((tls, name)) => {
                let deadline = now + self.config.handshake_timeout;
                Rx::Shaking(Shaking::client(tls, name, deadline))
            }
            None => Rx::Plain(Stream::new()),
        };
        let mut socket = Socket::new(tuple, self.flows.hash(&tuple), tcp, rx);
        socket.flags.is_client = true;
        let id = self.add_socket(socket).ok_or(ConnectError::Full)?;
        if let Some((socket, core)) = self.socket_mut(id) {
            core.make_ready(socket);
        }
        Ok(id)
    }

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
        let (socket, core) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send(parts, more, core, pages)
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
        let (socket, core) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send_span(span, at, len, core, pages)
    }

    /// Sends one record of any type on a TLS socket; false if there's no room for it now.
    pub fn send_record(
        &mut self,
        socket: SocketId,
        kind: ContentType,
        content: &[u8],
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        let (socket, core) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.send_record(kind, content, core, pages)
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
        let (socket, core) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.update_keys(ask_peer, core, ciphers, pages)
    }

    /// How many bytes may be given to `send` now without being refused for the buffer's limit.
    pub fn send_space(&self, socket: SocketId) -> u32 {
        self.socket(socket)
            .map_or(0, |socket| socket.send_space(&self.core))
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
        let (socket, core) = self.socket_mut(socket).ok_or(RecvError::NoSocket)?;
        socket.recv(core, ciphers, pages)
    }

    /// No more will be sent: close_notify with TLS, then FIN, after everything that's queued.
    /// Receiving goes on. A handshake that isn't over is given up.
    pub fn shutdown(&mut self, socket: SocketId) {
        if let Some((socket, core)) = self.socket_mut(socket) {
            socket.shutdown(core);
        }
    }

    /// The application has done with the socket: as [`Stack::shutdown`], and what still comes in is
    /// thrown away. The socket goes away by itself; [`Notice::Closed`](crate::Notice::Closed) says
    /// when.
    pub fn close(&mut self, socket: SocketId) {
        if let Some((socket, core)) = self.socket_mut(socket) {
            socket.close(core);
        }
    }

    /// Ends a connection at once by a reset.
    pub fn abort(&mut self, socket: SocketId) {
        if let Some((socket, core)) = self.socket_mut(socket) {
            socket.abort(CloseReason::Aborted, core);
        }
    }

    /// Ends every connection at once by a reset; they count as drained. Listeners stop.
    pub fn abort_all(&mut self) {
        self.listeners.by_address.clear();
        for index in self.sockets.indices() {
            if let Some(socket) = self.sockets.get_mut(index) {
                socket.abort(CloseReason::Drained, &mut self.core);
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
        self.core.handshakes
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
    pub fn tcp_info(&self, socket: SocketId) -> Option<lockgate_tcp::Info> {
        self.socket(socket)
            .map(|socket| socket.tcp.info(&self.core.tcp))
    }

    /// What happened in this stack.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What happened in its TCP.
    pub fn tcp_counters(&self) -> &lockgate_tcp::Counters {
        &self.core.tcp.counters
    }

    /// What happened in its IP layer.
    pub fn ip_counters(&self) -> IpCounters {
        self.core.ip.counters()
    }

    /// Announces all addresses to the neighbours of their interfaces, who may remember another
    /// host's: once everything is ready to receive.
    pub fn announce<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let ifaces: Vec<IfaceId> = self.core.ip.interfaces().iter().map(|i| i.id).collect();
        for iface in ifaces {
            self.core.ip.announce(now, iface);
        }
        self.core.send_ip_frames(now, env);
    }

    /// Our end of a connection to `remote`.
    fn choose_local(
        &mut self,
        remote: Endpoint,
        wanted: Option<SocketAddr>,
    ) -> Result<FourTuple, ConnectError> {
        let hop = self
            .core
            .ip
            .route(remote.addr, None)
            .ok_or(ConnectError::NoRoute)?;
        let addr = match wanted {
            Some(wanted) if !wanted.ip().is_unspecified() => wanted.ip(),
            Some(_) | None => self
                .core
                .ip
                .source(hop, remote.addr)
                .ok_or(ConnectError::NoRoute)?,
        };
        if !self.core.ip.interfaces().is_local(addr)
            || addr.is_ipv6() != remote.addr.is_ipv6()
            || remote.port == 0
        {
            return Err(ConnectError::NoRoute);
        }
        let tuple = |port| FourTuple::new(Endpoint::new(addr, port), remote);
        if let Some(port) = wanted.map(|wanted| wanted.port()).filter(|port| *port != 0) {
            return match self.find(&tuple(port)) {
                None => Ok(tuple(port)),
                Some(_) => Err(ConnectError::InUse),
            };
        }
        let ports = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
        let first = self.draw(ports);
        (0..ports)
            .map(|n| tuple(EPHEMERAL_FIRST + (first + n) % ports))
            .find(|tuple| self.find(tuple).is_none())
            .ok_or(ConnectError::InUse)
    }

    /// A random number below `below`.
    fn draw(&mut self, below: u16) -> u16 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u16::try_from((self.random >> 11) % u64::from(below)).unwrap_or(0)
    }
}

//= https://www.rfc-editor.org/rfc/rfc6335#section-6
//# the Dynamic Ports, also known as the Private or Ephemeral Ports,
//# from 49152-65535 (never assigned)
const EPHEMERAL_FIRST: u16 = 49_152;
const EPHEMERAL_LAST: u16 = u16::MAX;

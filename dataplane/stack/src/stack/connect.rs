//! Connections opened from here.

use core::net::SocketAddr;

use lockgate_tcp::Connection;
use lockgate_wire::{Endpoint, FourTuple, Instant};
use pktbuf::Stream;

use super::Stack;
use crate::config::{ConnectConfig, ConnectError};
use crate::demux::FlowTarget;
use crate::notice::SocketId;
use crate::socket::{HandshakeState, OpenedBy, Rx, Socket};

impl Stack {
    /// Opens a connection. [`Notice::Connected`](crate::Notice::Connected) follows, or
    /// [`Notice::Closed`](crate::Notice::Closed).
    ///
    /// # Errors
    /// If there is no route, no free port, or no room for another connection.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        config: ConnectConfig,
    ) -> Result<SocketId, ConnectError> {
        if self.sockets.is_full() {
            return Err(ConnectError::Full);
        }
        let tuple = self.choose_local_endpoint(remote.into(), config.local)?;
        let mut tcp = Connection::connect(now, &self.opening(now, &tuple, None), &self.cx.tcp);
        tcp.set_nodelay(!config.nagle);
        let rx = match config.tls {
            Some((tls, name)) => {
                let deadline = now + self.config.handshake_timeout;
                Rx::Handshake(HandshakeState::client(now, tls, name, deadline))
            }
            None => Rx::Plain(Stream::new()),
        };
        let hash = self.flows.hash(&tuple);
        let socket = Socket::new(tuple, hash, tcp, rx, OpenedBy::Application);
        let id = self.add_socket(socket).ok_or(ConnectError::Full)?;
        if let Some((socket, cx)) = self.socket_mut(id) {
            socket.make_ready(&mut cx.schedule);
        }
        Ok(id)
    }

    /// Chooses the local address and port of a connection to `remote`.
    fn choose_local_endpoint(
        &mut self,
        remote: Endpoint,
        wanted: Option<SocketAddr>,
    ) -> Result<FourTuple, ConnectError> {
        let ip = &self.egress.ip;
        let hop = ip.route(remote.addr, None).ok_or(ConnectError::NoRoute)?;
        let addr = match wanted {
            Some(wanted) if !wanted.ip().is_unspecified() => wanted.ip(),
            Some(_) | None => ip.source(hop, remote.addr).ok_or(ConnectError::NoRoute)?,
        };
        if !ip.interfaces().is_local(addr)
            || addr.is_ipv6() != remote.addr.is_ipv6()
            || remote.port == 0
        {
            return Err(ConnectError::NoRoute);
        }
        let tuple = |port| FourTuple::new(Endpoint::new(addr, port), remote);
        if let Some(port) = wanted.map(|wanted| wanted.port()).filter(|port| *port != 0) {
            return match self.find_tuple(&tuple(port)) {
                None => Ok(tuple(port)),
                Some(_) => Err(ConnectError::InUse),
            };
        }
        let ports = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
        let first = self.random_below(ports);
        (0..ports)
            .map(|n| tuple(EPHEMERAL_FIRST + (first + n) % ports))
            .find(|tuple| self.find_tuple(tuple).is_none())
            .ok_or(ConnectError::InUse)
    }

    fn find_tuple(&self, tuple: &FourTuple) -> Option<FlowTarget> {
        self.find(tuple, self.flows.hash(tuple))
    }

    /// Returns a random number below `bound`.
    fn random_below(&mut self, bound: u16) -> u16 {
        u16::try_from((self.random.next() >> 11) % u64::from(bound)).unwrap_or(0)
    }
}

//= https://www.rfc-editor.org/rfc/rfc6335#section-6
//# the Dynamic Ports, also known as the Private or Ephemeral Ports,
//# from 49152-65535 (never assigned)
const EPHEMERAL_FIRST: u16 = 49_152;
const EPHEMERAL_LAST: u16 = u16::MAX;

//! The peer at the other end of the rings: a plain TCP connection of a stack, with rustls for the
//! handshake. After that the peer has no TLS: it discards what it receives, and sends records that
//! it sealed before.

use std::sync::Arc;

use lockgate_stack::{ConnectConfig, Notice, SocketId};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::side::{Endpoint, service};
use crate::tls::{NAME, Sealer};

/// A connection after its handshake.
pub(crate) struct Peer {
    pub(crate) socket: SocketId,
    pub(crate) tls: ClientConnection,
    /// Bytes received since the last request.
    received: usize,
}

impl Peer {
    /// Connects and does the handshake. Notices of other sockets are dropped meanwhile.
    pub(crate) fn connect(side: &mut Endpoint, config: &Arc<ClientConfig>) -> Self {
        Self::connect_beside(side, config, || {})
    }

    /// As [`Peer::connect`], and runs `turn` in each turn: the other end's, on the same core.
    pub(crate) fn connect_beside(
        side: &mut Endpoint,
        config: &Arc<ClientConfig>,
        mut meanwhile: impl FnMut(),
    ) -> Self {
        let now = side.clock.now();
        let socket = side
            .stack
            .connect(now, service(), ConnectConfig::default())
            .unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut peer = Self {
            socket,
            tls,
            received: 0,
        };
        let mut connected = false;
        while peer.tls.is_handshaking() || side.stack.send_queued(socket) > 0 {
            side.receive();
            while let Some(notice) = side.notice() {
                connected |= matches!(notice, Notice::Connected(_));
            }
            if connected {
                peer.exchange(side);
            }
            side.transmit();
            meanwhile();
        }
        peer
    }

    /// Gives received bytes to rustls, and sends its output.
    fn exchange(&mut self, side: &mut Endpoint) {
        while let Some(chunk) = side.recv(self.socket) {
            self.received += chunk.len();
            for mut piece in chunk.pieces() {
                while !piece.is_empty() {
                    self.tls.read_tls(&mut piece).unwrap();
                    self.tls.process_new_packets().unwrap();
                }
            }
        }
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        if !out.is_empty() {
            side.send(self.socket, &out);
        }
    }

    /// Sends a request and receives the whole response. Returns the response's bytes on the wire.
    pub(crate) fn request(
        &mut self,
        side: &mut Endpoint,
        request: &[u8],
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> usize {
        use std::io::{Read as _, Write as _};
        self.received = 0;
        self.tls.writer().write_all(request).unwrap();
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            side.receive();
            while side.notice().is_some() {}
            self.exchange(side);
            // Without more plaintext rustls returns WouldBlock.
            let _ = self.tls.reader().read_to_end(&mut answer);
            side.transmit();
        }
        self.received
    }

    /// Drops rustls and keeps its keys.
    pub(crate) fn into_sealer(self) -> (SocketId, Sealer) {
        let keys = self.tls.dangerous_extract_secrets().unwrap();
        (self.socket, Sealer::new(keys.tx))
    }
}

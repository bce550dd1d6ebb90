//! rustls's own client over a plain socket of host A: an independent implementation that shares no
//! record code.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{CipherSuite, TlsVersions};
use lockgate_stack::{ConnectConfig, Notice, SocketId};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{World, pki};

/// A client whose TLS bytes the test moves, and cuts, itself.
pub(crate) struct Peer {
    pub(crate) socket: SocketId,
    pub(crate) tls: ClientConnection,
    /// Plaintext received.
    pub(crate) received: Vec<u8>,
    /// Whether the server's TLS stream ended, and in good order.
    pub(crate) clean_end: bool,
    pub(crate) error: Option<rustls::Error>,
}

/// A configuration with one suite, and small first messages.
pub(crate) fn config(suite: CipherSuite, versions: TlsVersions) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|s| s.suite() == suite);
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let versions: &[_] = match versions {
        TlsVersions::Tls12 => &[&rustls::version::TLS12],
        TlsVersions::Tls13 => &[&rustls::version::TLS13],
        TlsVersions::Both => rustls::ALL_VERSIONS,
    };
    let mut roots = RootCertStore::empty();
    roots.add(pki::pki().root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

impl Peer {
    /// Connects A to B's port 443; TCP's handshake is over afterwards, TLS's not begun.
    pub(crate) fn connect(world: &mut World, config: &Arc<ClientConfig>) -> Self {
        let at = world.b_addr(443);
        let socket = world
            .a
            .stack
            .connect(world.now, at, ConnectConfig::default())
            .unwrap();
        world.expect(0, "Connected", |n| {
            matches!(n, Notice::Connected(_)).then_some(())
        });
        let tls = ClientConnection::new(config.clone(), pki::name()).unwrap();
        Self {
            socket,
            tls,
            received: Vec::new(),
            clean_end: false,
            error: None,
        }
    }

    /// Takes the bytes that rustls has to send.
    pub(crate) fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Sends raw bytes as one segment, and lets it arrive.
    pub(crate) fn send_raw(&self, world: &mut World, bytes: &[u8]) {
        if !bytes.is_empty() {
            assert_eq!(world.a.send(self.socket, bytes) as usize, bytes.len());
        }
        world.run(Duration::from_micros(60));
    }

    /// Passes received bytes to rustls.
    pub(crate) fn read(&mut self, world: &mut World) {
        world.run(Duration::from_micros(300));
        let (bytes, _) = world.a.drain(self.socket);
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() && self.error.is_none() {
            self.tls.read_tls(&mut bytes).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.clean_end |= state.peer_has_closed();
                    let at = self.received.len();
                    self.received
                        .resize(at + state.plaintext_bytes_to_read(), 0);
                    self.tls
                        .reader()
                        .read_exact(&mut self.received[at..])
                        .unwrap();
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Exchanges bytes until the handshake is done and neither side has any left.
    pub(crate) fn pump(&mut self, world: &mut World) {
        for _ in 0..8 {
            let bytes = self.outgoing();
            self.send_raw(world, &bytes);
            self.read(world);
            if !self.tls.wants_write() && !self.tls.is_handshaking() {
                break;
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
    }
}

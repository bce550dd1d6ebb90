//! Certificates and TLS configurations: TLS 1.3 with AES-128-GCM and a P-256 key everywhere.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lockgate_ktls::nonce;
use lockgate_stack::tls::{Certificate, CipherSuite, TlsOptions, TlsServer, TlsVersions};
use lockgate_testing::certificates::{self, KeyKind};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ConnectionTrafficSecrets, RootCertStore, ServerConfig};

/// A self-signed certificate and its key.
pub(crate) struct Identity(certificates::Identity);

impl Identity {
    pub(crate) fn new() -> Self {
        Self(certificates::Identity::self_signed(&[NAME], KeyKind::Ecdsa))
    }

    /// Returns a TLS server for the stack.
    pub(crate) fn stack_server(&self, tickets: u8) -> Arc<TlsServer> {
        let certificate = Certificate::new(self.chain(), &self.key()).unwrap();
        let options = TlsOptions {
            versions: TlsVersions::Tls13,
            suites: vec![CipherSuite::TLS13_AES_128_GCM_SHA256],
            alpn: Vec::new(),
            tickets,
        };
        Arc::new(TlsServer::new(vec![certificate], &options).unwrap())
    }

    /// Returns the same server for rustls alone.
    pub(crate) fn rustls_server(&self, tickets: u8) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain(), self.key())
            .unwrap();
        config.send_tls13_tickets = usize::from(tickets);
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        if tickets > 0 {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        }
        Arc::new(config)
    }

    /// Returns a client that trusts the certificate, never resumes, and lets its secrets be
    /// extracted.
    pub(crate) fn rustls_client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.certificate().into()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    /// Writes `demo.crt` and `demo.key`.
    pub(crate) fn write(&self, directory: &Path) {
        self.0.write(directory, "demo");
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.certificate().into()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.key()).into()
    }
}

/// Seals records by the bare cipher with a connection's keys.
pub(crate) struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Sealer {
    /// Continues with rustls's next sequence number.
    pub(crate) fn new((number, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("the one suite that was offered");
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap();
        Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().unwrap(),
            number,
        }
    }

    /// Appends a record of application data.
    pub(crate) fn seal(&mut self, content: &[u8], to: &mut Vec<u8>) {
        let len = u16::try_from(content.len() + 17).unwrap().to_be_bytes();
        let head = [23, 3, 3, len[0], len[1]];
        to.extend_from_slice(&head);
        let at = to.len();
        to.extend_from_slice(content);
        let nonce = Nonce::assume_unique_for_key(nonce(&self.iv, self.number));
        let mut tail = [0; 17];
        let body = &mut to[at..];
        self.key
            .seal_in_place_scatter(nonce, Aad::from(head), body, &[23], &mut tail)
            .unwrap();
        to.extend_from_slice(&tail);
        self.number += 1;
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites =
        vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}

/// The name that the certificate is for.
pub(crate) const NAME: &str = "lockgate.test";

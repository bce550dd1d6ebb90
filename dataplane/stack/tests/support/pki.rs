//! Certificates of the tests' own authority.

use std::sync::{Arc, OnceLock};

use lockgate_stack::tls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use lockgate_stack::tls::{
    Certificate, CipherSuite, TlsClient, TlsOptions, TlsServer, TlsVersions,
};
use lockgate_testing::certificates::{Authority, KeyKind};

/// The authority, a leaf for `server.test` of each kind of key.
pub(crate) struct Pki {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) ecdsa: Certificate,
    pub(crate) rsa: Certificate,
    pub ed25519: Certificate,
}

/// Made once: an RSA key takes its time.
pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let authority = Authority::new("test root");
        let leaf = |kind| {
            let identity = authority.issue(&[NAME], kind);
            let key = PrivatePkcs8KeyDer::from(identity.key()).into();
            Certificate::new(vec![identity.certificate().into()], &key).unwrap()
        };
        Pki {
            root: authority.certificate().into(),
            ecdsa: leaf(KeyKind::Ecdsa),
            rsa: leaf(KeyKind::Rsa),
            ed25519: leaf(KeyKind::Ed25519),
        }
    })
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// A server with Ed25519, whose signatures are always of the same length and cheap.
pub(crate) fn server(options: &TlsOptions) -> Arc<TlsServer> {
    Arc::new(TlsServer::new(vec![pki().ed25519.clone()], options).unwrap())
}

pub(crate) fn client(options: &TlsOptions) -> Arc<TlsClient> {
    Arc::new(TlsClient::new([pki().root.clone()], options).unwrap())
}

pub(crate) fn only(suite: CipherSuite, versions: TlsVersions) -> TlsOptions {
    TlsOptions {
        versions,
        suites: vec![suite],
        ..TlsOptions::default()
    }
}

/// Every suite with its version.
pub(crate) const SUITES: [(CipherSuite, TlsVersions); 6] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls13),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, TlsVersions::Tls13),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        TlsVersions::Tls13,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TlsVersions::Tls12,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TlsVersions::Tls12,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        TlsVersions::Tls12,
    ),
];

pub(crate) const NAME: &str = "server.test";

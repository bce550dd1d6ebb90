//! A certificate that signs itself, for servers; clients trust it.

use std::sync::Arc;

use lockgate_ktls::{Params, Suite, Version};
use lockgate_stack::tls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use lockgate_stack::tls::{
    Certificate, CipherSuite, TlsClient, TlsOptions, TlsServer, TlsVersions,
};
use lockgate_testing::certificates::{Identity, KeyKind};

pub(crate) struct Pki {
    root: CertificateDer<'static>,
    leaf: Certificate,
    /// Chain and key, as files have them.
    pub(crate) pem: (String, String),
}

impl Pki {
    pub(crate) fn new() -> Self {
        let identity = Identity::self_signed(&[NAME], KeyKind::Ecdsa);
        let root = CertificateDer::from(identity.certificate());
        let key = PrivatePkcs8KeyDer::from(identity.key()).into();
        Self {
            leaf: Certificate::new(vec![root.clone()], &key).expect("they match"),
            root,
            pem: (
                identity.certificate_pem().to_owned(),
                identity.key_pem().to_owned(),
            ),
        }
    }

    pub(crate) fn server(&self, options: &TlsOptions) -> Arc<TlsServer> {
        Arc::new(TlsServer::new(vec![self.leaf.clone()], options).expect("a server"))
    }

    pub(crate) fn client(&self, options: &TlsOptions) -> Arc<TlsClient> {
        Arc::new(TlsClient::new([self.root.clone()], options).expect("a client"))
    }
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}

/// One suite of one version.
pub(crate) fn only(params: Params) -> TlsOptions {
    let (versions, suite) = match (params.version, params.suite) {
        (Version::Tls13, Suite::Aes128Gcm) => {
            (TlsVersions::Tls13, CipherSuite::TLS13_AES_128_GCM_SHA256)
        }
        (Version::Tls13, Suite::Aes256Gcm) => {
            (TlsVersions::Tls13, CipherSuite::TLS13_AES_256_GCM_SHA384)
        }
        (Version::Tls13, Suite::Chacha20Poly1305) => (
            TlsVersions::Tls13,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
        (Version::Tls12, Suite::Aes128Gcm) => (
            TlsVersions::Tls12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (Version::Tls12, Suite::Aes256Gcm) => (
            TlsVersions::Tls12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
        (Version::Tls12, Suite::Chacha20Poly1305) => (
            TlsVersions::Tls12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        _ => panic!("the TLS library doesn't negotiate {params}"),
    };
    TlsOptions {
        versions,
        suites: vec![suite],
        ..TlsOptions::default()
    }
}

const NAME: &str = "server.test";

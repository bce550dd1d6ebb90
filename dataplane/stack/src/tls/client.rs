//! A client's TLS configuration.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::capture::Capture;
use super::{TlsConfigError, TlsOptions, provider};

/// Roots and options of a TLS client, and the tickets it was given.
#[derive(Debug)]
pub struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Servers must show a chain that ends in one of `roots` and is valid for the name asked for.
    pub fn new(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        options: &TlsOptions,
    ) -> Result<Self, TlsConfigError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|_| TlsConfigError::BadRoot)?;
        }
        let mut config = ClientConfig::builder_with_provider(provider(options))
            .with_protocol_versions(options.versions.supported())
            .map_err(|_| TlsConfigError::NoSuite)?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&options.alpn);
        config.key_log = Arc::new(Capture);
        config.enable_secret_extraction = true;
        config.resumption = if options.tickets > 0 {
            Resumption::in_memory_sessions(SESSIONS_MAX)
        } else {
            Resumption::disabled()
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

/// Servers whose tickets a client remembers.
const SESSIONS_MAX: usize = 256;

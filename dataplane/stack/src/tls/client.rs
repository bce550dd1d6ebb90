//! A client's TLS configuration.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::capture::Capture;
use super::{TlsConfigError, TlsOptions, provider};

/// Configuration of a TLS client: roots, options, and received session tickets.
#[derive(Debug)]
pub struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Creates a client that accepts servers whose chain ends in one of `roots` and is valid for
    /// the requested name.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::BadRoot`] or [`TlsConfigError::NoSuite`].
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

/// Servers whose tickets a client stores.
const SESSIONS_MAX: usize = 256;

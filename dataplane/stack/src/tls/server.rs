//! A server's TLS configuration.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::NoServerSessionStorage;

use super::capture::Capture;
use super::certificate::Certificate;
use super::hello::Offered;
use super::resolver::Resolver;
use super::{TlsConfigError, TlsOptions, provider};

/// Configuration of a TLS server: certificates and options.
///
/// All workers share one, because they must accept each other's session tickets.
#[derive(Debug)]
pub struct TlsServer {
    pub(super) config: Arc<ServerConfig>,
    pub(super) versions: Offered,
}

impl TlsServer {
    /// Creates a server. The first certificate is the default, for names that no certificate has.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] if there is no certificate, no suite, or no key for tickets.
    pub fn new(
        certificates: Vec<Certificate>,
        options: &TlsOptions,
    ) -> Result<Self, TlsConfigError> {
        if certificates.is_empty() {
            return Err(TlsConfigError::NoCertificate);
        }
        let versions = options.versions.offered();
        let provider = provider(options);
        let suites = provider.cipher_suites.iter().map(|suite| suite.suite());
        let resolver = Resolver::new(certificates, versions, suites.collect());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions.supported())
            .map_err(|_| TlsConfigError::NoSuite)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols.clone_from(&options.alpn);
        config.key_log = Arc::new(Capture);
        config.enable_secret_extraction = true;
        // Tickets are stateless, so no session table has to be shared between cores.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = usize::from(options.tickets);
        if options.tickets > 0 {
            // Generates a new key every six hours and accepts the previous one.
            config.ticketer = Ticketer::new().map_err(|_| TlsConfigError::Tickets)?;
        }
        Ok(Self {
            config: Arc::new(config),
            versions,
        })
    }
}

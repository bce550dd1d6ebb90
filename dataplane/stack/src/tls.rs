//! TLS up to the last handshake byte: certificates, configurations, and the handshake, which ends
//! by handing the keys over to the record layer.
//!
//! rustls runs the handshake. Around it, `screen` checks each record before rustls sees it, `hello`
//! reads what rustls doesn't report, `protected` opens a client's records of TLS 1.3 first, and
//! `alerts` translates its errors; `docs/ktls.md` has the
//! table of faults and alerts.

mod alerts;
mod capture;
mod certificate;
mod client;
mod failure;
mod handover;
mod handshake;
mod hello;
mod protected;
mod resolver;
mod screen;
mod server;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use rustls::CipherSuite;
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
pub use rustls::pki_types;
use thiserror::Error;

pub use self::certificate::{Certificate, CertificateError};
pub use self::client::TlsClient;
pub use self::failure::Failure;
pub(crate) use self::handshake::{AlertKeys, Established, Handshake, Progress, Side};
use self::hello::Offered;
pub(crate) use self::screen::{CIPHERTEXT_MAX, PeerProtection, may_begin};
pub use self::server::TlsServer;

/// Options of a TLS client or server.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Protocol versions spoken.
    pub versions: TlsVersions,
    /// Suites offered or accepted, in order of preference; empty means all that the record layer
    /// supports.
    pub suites: Vec<CipherSuite>,
    /// ALPN protocols, in order of preference; empty means no ALPN.
    pub alpn: Vec<Vec<u8>>,
    /// Session tickets that a server sends in TLS 1.3 (one in TLS 1.2). 0 turns resumption off, on
    /// both sides.
    pub tickets: u8,
}

/// Protocol versions spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// Error of a TLS configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlsConfigError {
    /// A server has no certificate.
    #[error("no certificate is configured")]
    NoCertificate,
    /// No suite is known, or none fits the versions.
    #[error("no cipher suite is left for the configured versions")]
    NoSuite,
    /// A trust anchor is malformed.
    #[error("a root certificate is malformed")]
    BadRoot,
    /// Ticket keys could not be generated.
    #[error("session ticket keys could not be made")]
    Tickets,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            versions: TlsVersions::Both,
            suites: Vec::new(),
            alpn: Vec::new(),
            tickets: 2,
        }
    }
}

impl TlsVersions {
    fn offered(self) -> Offered {
        Offered {
            tls12: self != Self::Tls13,
            tls13: self != Self::Tls12,
        }
    }

    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Both => rustls::ALL_VERSIONS,
            Self::Tls12 => TLS12,
            Self::Tls13 => TLS13,
        }
    }
}

/// Returns the default provider, restricted to the configured suites.
fn provider(options: &TlsOptions) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !options.suites.is_empty() {
        let all = provider.cipher_suites;
        provider.cipher_suites = options
            .suites
            .iter()
            .filter_map(|wanted| all.iter().find(|suite| suite.suite() == *wanted).copied())
            .collect();
    }
    Arc::new(provider)
}

static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

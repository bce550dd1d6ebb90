//! Which certificate a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureScheme};

use super::capture::note_sni;
use super::certificate::{Certificate, KeyKind};

/// Chooses by the name the client asks for, then by what it can verify.
///
/// A name is looked up exactly, then with its first label as a wildcard, then falls back to the
/// first certificate (and those that share a name with it, so that an ECDSA and RSA pair works
/// without SNI too). Among the certificates found, the cheapest to sign with that the client
/// accepts is taken.
#[derive(Debug)]
pub(super) struct Resolver {
    certificates: Vec<Certificate>,
    /// Names as they stand in the certificates, `*.` included, in lower case.
    by_name: HashMap<Box<str>, Vec<usize>>,
    fallback: Vec<usize>,
    /// Whether this server speaks TLS 1.3.
    tls13: bool,
}

/// What a client can verify.
struct Offer<'a> {
    schemes: &'a [SignatureScheme],
    suites: &'a [CipherSuite],
    tls13: bool,
}

impl Resolver {
    /// The order of `certificates` matters only between equals and for the fallback.
    pub(super) fn new(certificates: Vec<Certificate>, tls13: bool) -> Self {
        let mut by_name: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_default().push(index);
            }
        }
        let mut fallback: Vec<usize> = Vec::new();
        if let Some(first) = certificates.first() {
            fallback.extend((0..certificates.len()).filter(|&index| {
                index == 0
                    || certificates[index]
                        .names
                        .iter()
                        .any(|n| first.names.contains(n))
            }));
        }
        Self {
            certificates,
            by_name,
            fallback,
            tls13,
        }
    }

    /// The choice for a client that asks for `name` and offers these schemes and suites.
    pub(super) fn pick(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
        suites: &[CipherSuite],
    ) -> Option<Arc<CertifiedKey>> {
        let tls13 = self.tls13 && suites.iter().any(|suite| is_tls13(*suite));
        self.choose(
            name,
            &Offer {
                schemes,
                suites,
                tls13,
            },
        )
    }

    fn choose(&self, name: Option<&str>, offer: &Offer<'_>) -> Option<Arc<CertifiedKey>> {
        let exact = name.map(str::to_ascii_lowercase);
        let wildcard = exact.as_deref().and_then(|name| {
            let (_, parent) = name.split_once('.')?;
            Some(format!("*.{parent}"))
        });
        let named = [exact, wildcard].into_iter().flatten();
        named
            .filter_map(|name| self.by_name.get(name.as_str()))
            .chain([&self.fallback])
            .find_map(|candidates| self.best(candidates, offer))
    }

    fn best(&self, candidates: &[usize], offer: &Offer<'_>) -> Option<Arc<CertifiedKey>> {
        candidates
            .iter()
            .filter_map(|&index| self.certificates.get(index))
            .filter(|certificate| offer.accepts(certificate))
            .min_by_key(|certificate| certificate.kind)
            .map(|certificate| certificate.key.clone())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            note_sni(name);
        }
        self.pick(
            hello.server_name(),
            hello.signature_schemes(),
            hello.cipher_suites(),
        )
    }
}

impl Offer<'_> {
    fn accepts(&self, certificate: &Certificate) -> bool {
        // The suites of TLS 1.2 name the key they go with, those of 1.3 don't.
        let suite = |&offered: &CipherSuite| match certificate.kind {
            KeyKind::Ecdsa | KeyKind::Ed25519 => ECDSA_SUITES.contains(&offered),
            KeyKind::Rsa => RSA_SUITES.contains(&offered),
        };
        certificate.key.key.choose_scheme(self.schemes).is_some()
            && (self.tls13 || self.suites.iter().any(suite))
    }
}

fn is_tls13(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    )
}

const ECDSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const RSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

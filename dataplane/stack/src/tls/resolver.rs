//! Choice of a server's certificate.

use std::collections::HashMap;
use std::sync::Arc;

use lockgate_ktls::Version;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, NamedGroup, SignatureScheme};

use super::capture::{current_hello, note_no_certificate, note_sni};
use super::certificate::{Certificate, KeyKind};
use super::hello::Offered;

/// Chooses a certificate by the requested name, then by what the client can verify.
///
/// A name is looked up exactly, then with its first label as a wildcard, then falls back to the
/// first certificate (and those that share a name with it, so that an ECDSA and RSA pair works
/// without SNI too). Among the certificates found, the cheapest to sign with that the client
/// accepts is taken.
///
/// A certificate fits a client
///
/// - in TLS 1.3 if the client lists a scheme that its key signs with;
/// - in TLS 1.2 if, besides that, a suite in common goes with its key, and the curve of an ECDSA
///   key is among the client's groups.
#[derive(Debug)]
pub(super) struct Resolver {
    certificates: Vec<Certificate>,
    /// Names as they stand in the certificates, `*.` included, in lower case.
    by_name: HashMap<Box<str>, Vec<usize>>,
    fallback: Vec<usize>,
    /// The versions that this server speaks.
    versions: Offered,
    /// The suites that this server accepts.
    suites: Vec<CipherSuite>,
}

/// What a client can verify.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) schemes: &'a [SignatureScheme],
    pub(super) suites: &'a [CipherSuite],
    /// `None` if the client doesn't say.
    pub(super) groups: Option<&'a [NamedGroup]>,
    /// The version that will be negotiated.
    pub(super) version: Version,
}

impl Resolver {
    /// Creates a resolver. The order of `certificates` matters between equals and for the fallback.
    pub(super) fn new(
        certificates: Vec<Certificate>,
        versions: Offered,
        suites: Vec<CipherSuite>,
    ) -> Self {
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
            versions,
            suites,
        }
    }

    /// Returns the certificate for a client that asks for `name`.
    pub(super) fn pick(&self, name: Option<&str>, offer: &Offer<'_>) -> Option<Arc<CertifiedKey>> {
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
            .filter(|certificate| offer.accepts(certificate, &self.suites))
            .min_by_key(|certificate| certificate.kind)
            .map(|certificate| certificate.key.clone())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            note_sni(name);
        }
        // The library has negotiated a version by now, but doesn't say which.
        let facts = current_hello();
        let version = facts.and_then(|facts| facts.negotiates(self.versions));
        let offer = Offer {
            schemes: hello.signature_schemes(),
            suites: hello.cipher_suites(),
            groups: hello.named_groups(),
            version: version.unwrap_or(Version::Tls12),
        };
        let chosen = self.pick(hello.server_name(), &offer);
        if chosen.is_none() {
            note_no_certificate();
        }
        chosen
    }
}

impl Offer<'_> {
    fn accepts(&self, certificate: &Certificate, enabled: &[CipherSuite]) -> bool {
        match self.version {
            Version::Tls13 => self.can_verify_in_tls13(certificate),
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                certificate.key.key.choose_scheme(self.schemes).is_some()
                    && self.has_suite_for(certificate.kind, enabled)
                    && self.knows_curve_of(certificate)
            }
        }
    }

    fn can_verify_in_tls13(&self, certificate: &Certificate) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.2.3
        //# RSASSA-PKCS1-v1_5 algorithms:  Indicates a signature algorithm using
        //# RSASSA-PKCS1-v1_5 [RFC8017] with the corresponding hash algorithm
        //# as defined in [SHS].  These values refer solely to signatures
        //# which appear in certificates
        self.schemes.iter().any(|&scheme| {
            !PKCS1_SCHEMES.contains(&scheme)
                && certificate.key.key.choose_scheme(&[scheme]).is_some()
        })
    }

    /// The suites of TLS 1.2 name the key they go with, those of 1.3 don't.
    fn has_suite_for(&self, kind: KeyKind, enabled: &[CipherSuite]) -> bool {
        let suites = match kind {
            KeyKind::Ecdsa | KeyKind::Ed25519 => ECDSA_SUITES,
            KeyKind::Rsa => RSA_SUITES,
        };
        suites
            .iter()
            .any(|suite| self.suites.contains(suite) && enabled.contains(suite))
    }

    fn knows_curve_of(&self, certificate: &Certificate) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc8422#section-4
        //# NOTE: A server participating in an ECDHE_ECDSA key exchange may use
        //# different curves for the ECDSA or EdDSA key in the server's
        //# certificate, and for the ephemeral ECDH key in the ServerKeyExchange
        //# message.  The server MUST consider the extensions in both cases.
        //
        // Ed25519 isn't among the curves: its signature scheme says enough (5.1.1).
        match (certificate.curve, self.groups) {
            (Some(curve), Some(groups)) => groups.contains(&curve),
            (None, _) | (_, None) => true,
        }
    }
}

const PKCS1_SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];
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

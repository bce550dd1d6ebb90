//! Certificate chains with their keys, checked when they are loaded.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, NamedGroup, SignatureAlgorithm, SignatureScheme};
use thiserror::Error;

/// A certificate chain with the matching private key, and the names it is valid for.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Vec<Box<str>>,
    pub(super) kind: KeyKind,
    /// The curve of an ECDSA key.
    pub(super) curve: Option<NamedGroup>,
}

/// Error of a chain or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No certificate was given.
    #[error("the chain is empty")]
    EmptyChain,
    /// The first certificate doesn't parse.
    #[error("the first certificate of the chain is malformed")]
    Malformed,
    /// The key doesn't parse, or is of an algorithm that no signature scheme here uses.
    #[error("the private key is malformed or of an unsupported algorithm")]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error("the private key does not match the first certificate of the chain")]
    KeyMismatch,
}

/// Algorithm of a key, in order of preference: an ECDSA signature costs a twentieth of an RSA one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl Certificate {
    /// Creates a certificate from a chain, leaf first, and the leaf's key.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if the chain is empty or malformed, or the key is unsupported or
    /// doesn't match.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, CertificateError> {
        if chain.is_empty() {
            return Err(CertificateError::EmptyChain);
        }
        let key = any_supported_type(key).map_err(|_| CertificateError::UnsupportedKey)?;
        Self::from_key(Arc::new(CertifiedKey::new(chain, key)))
    }

    /// Creates a certificate from a chain and key that are loaded already.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_key(key: Arc<CertifiedKey>) -> Result<Self, CertificateError> {
        let leaf = key.cert.first().ok_or(CertificateError::EmptyChain)?;
        let parsed =
            webpki::EndEntityCert::try_from(leaf).map_err(|_| CertificateError::Malformed)?;
        let names = parsed
            .valid_dns_names()
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        let kind = match key.key.algorithm() {
            SignatureAlgorithm::ECDSA => KeyKind::Ecdsa,
            SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            SignatureAlgorithm::Anonymous
            | SignatureAlgorithm::DSA
            | SignatureAlgorithm::ED448
            | SignatureAlgorithm::Unknown(_)
            | _ => return Err(CertificateError::UnsupportedKey),
        };
        let curve = CURVES
            .into_iter()
            .find(|(scheme, _)| key.key.choose_scheme(&[*scheme]).is_some())
            .map(|(_, curve)| curve);
        match key.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(CertificateError::KeyMismatch);
            }
            Err(_) => return Err(CertificateError::Malformed),
        }
        Ok(Self {
            key,
            names,
            kind,
            curve,
        })
    }

    /// Returns the DNS names that the leaf is valid for, in lower case, wildcards included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }
}

/// The one signature scheme of each curve's keys.
const CURVES: [(SignatureScheme, NamedGroup); 3] = [
    (
        SignatureScheme::ECDSA_NISTP256_SHA256,
        NamedGroup::secp256r1,
    ),
    (
        SignatureScheme::ECDSA_NISTP384_SHA384,
        NamedGroup::secp384r1,
    ),
    (
        SignatureScheme::ECDSA_NISTP521_SHA512,
        NamedGroup::secp521r1,
    ),
];

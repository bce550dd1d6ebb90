//! A certificate chain with its key, checked when it is loaded.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, NamedGroup, SignatureAlgorithm, SignatureScheme};
use thiserror::Error;

/// A chain and its private key, known to belong together, with the names the chain is valid for.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Vec<Box<str>>,
    pub(super) kind: KeyKind,
    /// The curve of an ECDSA key.
    pub(super) curve: Option<NamedGroup>,
}

/// Why a chain and a key can't be used.
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
    /// The key is another certificate's.
    #[error("the private key does not match the first certificate of the chain")]
    KeyMismatch,
}

/// The key's algorithm, in order of preference: ECDSA costs a server a twentieth of what RSA does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl Certificate {
    /// Takes a chain, leaf first, and the leaf's key; checks that they match.
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

    /// Takes a chain and a key that have been loaded already; checks that they match.
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

    /// The DNS names the leaf is valid for, in lower case, wildcards included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }
}

/// A key signs by the scheme of its curve, and by no other.
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

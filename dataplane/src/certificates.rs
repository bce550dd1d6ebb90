//! Certificate chains and their keys, from PEM files.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Loads a chain and its key, and checks that they belong together.
///
/// # Errors
/// A file can't be read, doesn't hold what it should, or the key is another certificate's.
pub fn load(
    chain: &Path,
    key: &Path,
) -> Result<(Arc<CertifiedKey>, ValidityPeriod), CertificateError> {
    let certificates = load_chain(chain)?;
    let validity = certificates
        .first()
        .and_then(|leaf| ValidityPeriod::of(leaf.as_ref()));
    let validity = validity.ok_or_else(|| CertificateError::chain(chain, "not a certificate"))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::key(key, "no private key in it"),
        other => CertificateError::key(key, pem_reason(&other)),
    })?;
    let provider = aws_lc_rs::default_provider();
    let signing = provider.key_provider.load_private_key(private);
    let signing = signing.map_err(|_| CertificateError::key(key, "not a key that can sign"))?;
    let certified = CertifiedKey::new(certificates, signing);
    match certified.keys_match() {
        Ok(()) => Ok((Arc::new(certified), validity)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch {
            chain: chain.to_path_buf(),
            key: key.to_path_buf(),
        }),
        Err(_) => Err(CertificateError::chain(chain, "not a certificate")),
    }
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let items = CertificateDer::pem_file_iter(path)
        .map_err(|error| CertificateError::chain(path, pem_reason(&error)))?;
    let mut chain = Vec::new();
    for item in items {
        let item = item.map_err(|error| CertificateError::chain(path, pem_reason(&error)))?;
        if chain.len() == CHAIN_MAX {
            let message = format!("more than {CHAIN_MAX} certificates in it");
            return Err(CertificateError::chain(path, message));
        }
        chain.push(item);
    }
    if chain.is_empty() {
        return Err(CertificateError::chain(path, "no certificate in it"));
    }
    Ok(chain)
}

/// Why a certificate can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The chain's file is at fault.
    #[error("{}: {message}", file.display())]
    Chain {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The key's file is at fault.
    #[error("{}: {message}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The key is not the certificate's.
    #[error("{} is not the key of the certificate in {}", key.display(), chain.display())]
    Mismatch {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl CertificateError {
    fn chain(file: &Path, message: impl Into<String>) -> Self {
        Self::Chain {
            file: file.to_path_buf(),
            message: message.into(),
        }
    }

    fn key(file: &Path, message: impl Into<String>) -> Self {
        Self::Key {
            file: file.to_path_buf(),
            message: message.into(),
        }
    }
}

fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        other => format!("not PEM: {other}"),
    }
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidityPeriod {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub to: u64,
}

impl ValidityPeriod {
    /// What a client at that time will find warning.
    pub fn validity_at(self, unix_seconds: u64) -> Option<ValidityWarning> {
        if unix_seconds < self.from {
            Some(ValidityWarning::NotYetValid)
        } else if unix_seconds > self.to {
            Some(ValidityWarning::Expired {
                days: (unix_seconds - self.to) / SECONDS_PER_DAY,
            })
        } else {
            None
        }
    }

    /// Out of a certificate's DER (RFC 5280, 4.1).
    fn of(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Der(certificate).enter(SEQUENCE)?;
        let mut tbs = certificate.enter(SEQUENCE)?;
        if tbs.next_tag()? == VERSION {
            tbs.take()?;
        }
        for _serial_signature_issuer in 0..3 {
            tbs.take()?;
        }
        let mut validity = tbs.enter(SEQUENCE)?;
        Some(Self {
            from: validity.time()?,
            to: validity.time()?,
        })
    }
}

/// What is warning about a certificate's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityWarning {
    /// Its time hasn't come.
    NotYetValid,
    /// Its time is over.
    Expired {
        /// Since how many whole days.
        days: u64,
    },
}

impl fmt::Display for ValidityWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetValid => f.write_str("the certificate is not valid yet"),
            Self::Expired { days: 0 } => f.write_str("the certificate expired today"),
            Self::Expired { days: 1 } => f.write_str("the certificate expired a day ago"),
            Self::Expired { days } => write!(f, "the certificate expired {days} days ago"),
        }
    }
}

/// What is left of a run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's content, if it has that tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        let (found, content) = self.take()?;
        (found == tag).then_some(Der(content))
    }

    /// The next element's tag and content.
    fn take(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.len() > 4 {
                return None;
            }
            (
                bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
                rest,
            )
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// A UTCTime or GeneralizedTime as RFC 5280, 4.1.2.5 allows them, in seconds since 1970; what
    /// was before is 0.
    fn time(&mut self) -> Option<u64> {
        let (tag, text) = self.take()?;
        let digits = text.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let pairs: Vec<u64> = digits
            .chunks_exact(2)
            .map(|pair| u64::from(pair[0] - b'0') * 10 + u64::from(pair[1] - b'0'))
            .collect();
        let (year, rest) = match (tag, digits.len(), pairs.as_slice()) {
            (UTC_TIME, 12, [year, rest @ ..]) => {
                (if *year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            (GENERALIZED_TIME, 14, [century, year, rest @ ..]) => (century * 100 + year, rest),
            _ => return None,
        };
        let &[month, day, hour, minute, second] = rest else {
            return None;
        };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_since_1970(year, month, day);
        Some(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
    }
}

/// In the Gregorian calendar, years beginning in March; 0 for days before.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let years = if month > 2 {
        year
    } else {
        year.saturating_sub(1)
    };
    let months = (month + 9) % 12;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day;
    days.saturating_sub(719_469)
}

const CHAIN_MAX: usize = 16;
const SECONDS_PER_DAY: u64 = 86_400;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

//! Certificate chains and their private keys, from PEM files.

use core::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lockgate_stack::tls::{self, Certificate};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;

/// Loads a chain and its private key, and checks that they belong together.
///
/// A byte-order mark before the PEM text is skipped.
///
/// # Errors
/// A file can't be read or doesn't hold what it should, or the key doesn't match the certificate.
pub fn load(
    chain: &Path,
    key: &Path,
) -> Result<(Certificate, ValidityPeriod), CertificateFileError> {
    let certificates = load_chain(chain)?;
    let leaf = certificates.first();
    let validity = leaf.and_then(|leaf| ValidityPeriod::of(leaf));
    let validity = validity.ok_or_else(|| CertificateFileError::chain(chain, NOT_A_CERTIFICATE))?;
    for (number, issuer) in (1..).zip(&certificates).skip(1) {
        if ValidityPeriod::of(issuer).is_none() {
            let message = format!("number {number} in it is {NOT_A_CERTIFICATE}");
            return Err(CertificateFileError::chain(chain, message));
        }
    }
    let private = load_key(key)?;
    let certificate = Certificate::new(certificates, &private).map_err(|error| match error {
        tls::CertificateError::EmptyChain => CertificateFileError::chain(chain, NO_CERTIFICATE),
        tls::CertificateError::Malformed => CertificateFileError::chain(chain, NOT_A_CERTIFICATE),
        tls::CertificateError::UnsupportedKey => {
            CertificateFileError::key(key, "not a key that can sign")
        }
        tls::CertificateError::KeyMismatch => CertificateFileError::Mismatch {
            chain: chain.to_path_buf(),
            key: key.to_path_buf(),
        },
    })?;
    Ok((certificate, validity))
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let text = read_pem(path).map_err(|message| CertificateFileError::chain(path, message))?;
    let mut chain = Vec::new();
    for item in CertificateDer::pem_slice_iter(&text) {
        let item = item.map_err(|error| CertificateFileError::chain(path, pem_message(&error)))?;
        if chain.len() == CHAIN_MAX {
            let message = format!("more than {CHAIN_MAX} certificates in it");
            return Err(CertificateFileError::chain(path, message));
        }
        chain.push(item);
    }
    if chain.is_empty() {
        return Err(CertificateFileError::chain(path, NO_CERTIFICATE));
    }
    Ok(chain)
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateFileError> {
    let text = read_pem(path).map_err(|message| CertificateFileError::key(path, message))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&text) => {
            CertificateFileError::key(path, ENCRYPTED_KEY)
        }
        pem::Error::NoItemsFound => CertificateFileError::key(path, "no private key in it"),
        other => CertificateFileError::key(path, pem_message(&other)),
    })
}

/// Reads a PEM file without the byte-order mark that some editors put before UTF-8 text.
fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = File::open(path);
    let read = opened.and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("larger than {} MiB", PEM_BYTES_MAX >> 20));
    }
    if is_utf16(&bytes) {
        return Err("is UTF-16 text; save it as ASCII or UTF-8".to_owned());
    }
    if bytes.starts_with(UTF8_BOM) {
        bytes.drain(..UTF8_BOM.len());
    }
    Ok(bytes)
}

/// Whether the text holds an encrypted private key: of PKCS #8, or with OpenSSL's older header.
fn is_encrypted(text: &[u8]) -> bool {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|window| window == mark);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// UTF-16 has a byte-order mark, or a zero in one of the first two bytes, which PEM never has.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]
    )
}

/// Why a certificate can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFileError {
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
    /// The key doesn't match the certificate.
    #[error("{} is not the key of the certificate in {}", key.display(), chain.display())]
    Mismatch {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl CertificateFileError {
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

/// Fixed texts: those of the library contain bytes of the file, which may be a private key.
const fn pem_message(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "not PEM: a BEGIN line without its END line; write each on a line of its own"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "not PEM: a BEGIN line with more on it; write it on a line of its own"
        }
        pem::Error::Base64Decode(_) => "not PEM: a section is not base64",
        pem::Error::NoItemsFound => "not PEM: no section found",
        _ => "not PEM",
    }
}

/// The time in which a certificate is valid, in seconds since 1970; both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidityPeriod {
    /// The first second (notBefore).
    pub from: i64,
    /// The last second (notAfter).
    pub to: i64,
}

impl ValidityPeriod {
    /// Returns what clients will object to at that time, in seconds since 1970.
    pub fn validity_at(self, unix_seconds: u64) -> Option<ValidityWarning> {
        let now = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
        if now < self.from {
            Some(ValidityWarning::NotYetValid)
        } else if now > self.to {
            let seconds = now.abs_diff(self.to);
            let days = seconds / SECONDS_PER_DAY;
            Some(ValidityWarning::Expired { days })
        } else {
            None
        }
    }

    /// Returns the whole days until the end, at that time in seconds since 1970; 0 after it.
    pub fn days_left(self, unix_seconds: u64) -> u64 {
        let now = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
        let seconds = u64::try_from(self.to.saturating_sub(now)).unwrap_or(0);
        seconds / SECONDS_PER_DAY
    }

    /// Reads a certificate's validity (RFC 5280, 4.1.2.5). Extensions stay unread: the TLS library
    /// judges those.
    fn of(certificate: &[u8]) -> Option<Self> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, certificate) = parser.parse(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self {
            from: validity.not_before.timestamp(),
            to: validity.not_after.timestamp(),
        })
    }
}

/// Why clients refuse a certificate at the moment. It's a warning: the appliance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityWarning {
    /// The validity hasn't begun.
    NotYetValid,
    /// The validity is over.
    Expired {
        /// Whole days since the end.
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

const NO_CERTIFICATE: &str = "no certificate in it";
const NOT_A_CERTIFICATE: &str = "not a certificate";
const ENCRYPTED_KEY: &str = "the private key is encrypted; write it without a passphrase";

/// Certificates of a chain, the leaf included.
const CHAIN_MAX: usize = 16;

const PEM_BYTES_MAX: u64 = 4 << 20;
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
const SECONDS_PER_DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use lockgate_testing::certificates::Identity;

    use super::*;

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_second() {
        let period = ValidityPeriod {
            from: 1_000_000,
            to: 2_000_000,
        };
        let expired = |days| Some(ValidityWarning::Expired { days });
        for (now, expected) in [
            (0, Some(ValidityWarning::NotYetValid)),
            (999_999, Some(ValidityWarning::NotYetValid)),
            (1_000_000, None),
            (2_000_000, None),
            (2_000_001, expired(0)),
            (2_000_000 + SECONDS_PER_DAY - 1, expired(0)),
            (2_000_000 + SECONDS_PER_DAY, expired(1)),
            (2_000_000 + 9 * SECONDS_PER_DAY, expired(9)),
        ] {
            assert_eq!(period.validity_at(now), expected, "{now}");
        }
        let ancient = ValidityPeriod { from: -2, to: -1 };
        assert_eq!(ancient.validity_at(0), expired(0));
        assert!(ancient.validity_at(u64::MAX).is_some());
    }

    /// A key on a single line, or with its first line joined to its header: no byte of it may reach
    /// a log.
    #[test]
    fn messages_about_keys_hold_no_byte_of_them() {
        let folder = lockgate_testing::ScratchDir::new();
        let file = folder.path().join("bad.key");
        let identity = Identity::valid_in(&[], (2020, 2060));
        let key = identity.key_pem();
        let chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            (key.replace('\n', ""), "a BEGIN line without its END line"),
            (key.replacen('\n', " ", 1), "not PEM"),
            (
                key.replace("-----END", "-----AND"),
                "a BEGIN line without its END line",
            ),
            (key.replacen('M', "!", 1), "not base64"),
            (
                key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                "the private key is encrypted",
            ),
            (chain.to_owned(), "no private key in it"),
        ] {
            std::fs::write(&file, &text).unwrap();
            let error = load_key(&file).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected), "{shown}");
            for secret in key.lines().filter(|line| !line.starts_with("---")) {
                assert!(!shown.contains(secret), "{shown}");
                let numbers = format!("{:?}", secret.as_bytes());
                assert!(!shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
            }
            let message = load_chain(&file).map(|_| ()).map_err(|e| e.to_string());
            let numbers = format!("{:?}", key.as_bytes().get(30..40).unwrap());
            let hidden = |m: &String| !m.contains(numbers.trim_matches(['[', ']']));
            assert!(message.as_ref().err().is_none_or(hidden), "{message:?}");
        }
    }

    /// Clients would refuse the whole chain. So the appliance refuses to start, and says which one
    /// it is.
    #[test]
    fn each_certificate_of_a_chain_is_checked() {
        let folder = lockgate_testing::ScratchDir::new();
        let (chain, key) = (folder.path().join("chain"), folder.path().join("key"));
        let identity = Identity::valid_in(&[], (2020, 2060));
        std::fs::write(&key, identity.key_pem()).unwrap();
        let leaf = identity.certificate_pem();
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, fault) in [
            (format!("{leaf}{leaf}"), None),
            (format!("{garbage}{leaf}"), Some("not a certificate")),
            (
                format!("{leaf}{leaf}{garbage}"),
                Some("number 3 in it is not a certificate"),
            ),
        ] {
            std::fs::write(&chain, text).unwrap();
            let message = load(&chain, &key).map(|_| ()).map_err(|e| e.to_string());
            let expected = fault.map(|fault| format!("{}: {fault}", chain.display()));
            assert_eq!(message.err(), expected);
        }
    }

    /// Both time formats (RFC 5280, 4.1.2.5: UTCTime through 2049, then GeneralizedTime).
    #[test]
    fn both_time_formats_are_read() {
        for (years, from, to) in [
            ((1970, 2049), 0, 2_493_072_000),
            ((2000, 2050), 946_684_800, 2_524_608_000),
            ((1950, 9999), -631_152_000, 253_370_764_800),
        ] {
            let certificate = Identity::valid_in(&[], years).certificate();
            let expected = ValidityPeriod { from, to };
            assert_eq!(
                ValidityPeriod::of(&certificate),
                Some(expected),
                "{years:?}"
            );
        }
        assert_eq!(ValidityPeriod::of(b"no certificate"), None);
        assert_eq!(ValidityPeriod::of(b""), None);
    }
}

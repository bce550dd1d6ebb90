//! Keys that an application sets: ktls(4)'s `struct tls_enable`, and the checks of it.

use core::fmt;

use thiserror::Error;

use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::error::{Errno, TxError};
use crate::session::Session;
use crate::suite::{EXPLICIT_NONCE_LEN, NONCE_LEN, Params, Suite, Version};

/// Keys of one direction, as the application that did the handshake gives them: the fields of
/// ktls(4)'s `struct tls_enable`.
///
/// It refers to the application's memory, so that the record layer has no copy to wipe.
#[derive(Clone, Copy)]
pub struct TlsEnable<'a> {
    /// The cipher.
    pub cipher: CipherAlgorithm,
    /// The cipher's key, 1 to 1024 bytes; its length selects AES-128 or AES-256.
    pub cipher_key: &'a [u8],
    /// The IV, at most 16 bytes.
    ///
    /// | cipher | TLS 1.2 | TLS 1.3 |
    /// |---|---|---|
    /// | AES-GCM, AES-CCM | 4: the salt; 12: salt and explicit nonce of record 0 | 12 |
    /// | ChaCha20-Poly1305 | 12 | 12 |
    /// | AES-CBC | ignored; TLS 1.0 needs 16 | - |
    ///
    /// FreeBSD takes the salt alone, Linux both parts. The explicit nonce of record *n* is that of
    /// record 0 XOR *n*, as in rustls. With the salt alone the socket draws record 0's.
    pub iv: &'a [u8],
    /// The MAC of AES-CBC. `None` for all others.
    pub auth: Option<AuthAlgorithm>,
    /// The MAC's key, as long as its hash. Empty for all others.
    pub auth_key: &'a [u8],
    /// No flag is defined: 0.
    pub flags: u32,
    /// Major and minor version: 3.1 is TLS 1.0, 3.4 is TLS 1.3.
    pub version: [u8; 2],
    /// Number of the direction's next record.
    pub rec_seq: u64,
}

/// A cipher that ktls(4) or `tls.rst` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CipherAlgorithm {
    /// AES in Galois/counter mode (`CRYPTO_AES_NIST_GCM_16`).
    AesGcm,
    /// AES in CBC mode, with an HMAC (`CRYPTO_AES_CBC`).
    AesCbc,
    /// ChaCha20 with Poly1305 (`CRYPTO_CHACHA20_POLY1305`).
    Chacha20Poly1305,
    /// AES in counter mode with CBC-MAC (`TLS_CIPHER_AES_CCM_128`). A key of 32 bytes in TLS 1.2
    /// only.
    AesCcm,
    /// As [`AesCcm`](Self::AesCcm) with a tag of 8 bytes, and a key of 16 bytes.
    AesCcm8,
}

/// A MAC that ktls(4) names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthAlgorithm {
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// GMAC: a legacy constant that AES-GCM ignores.
    Gmac,
}

/// A direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Sending.
    Tx,
    /// Receiving.
    Rx,
}

/// What the configuration allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnableSettings {
    /// Whether the record layer takes sessions (`kern.ipc.tls.enable`).
    pub enabled: bool,
    /// Whether AES-CBC is allowed (`kern.ipc.tls.cbc_enable`).
    pub cbc_enabled: bool,
}

/// The keys that a direction has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CurrentKeys {
    /// None.
    None,
    /// Keys of the stack's own handshake, which changes them itself.
    Stack,
    /// Keys that an application set, of this suite and version.
    Application(Params),
}

/// Why keys were refused. The keys from before, if there are any, stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EnableError {
    /// The record layer is switched off.
    #[error("the record layer is switched off")]
    Disabled,
    /// The direction has keys already, and can't change them: TLS 1.2 and older, or keys of the
    /// stack's own handshake.
    #[error("keys have already been set")]
    AlreadyEnabled,
    /// AES-CBC is switched off.
    #[error("AES-CBC is switched off")]
    CbcDisabled,
    /// A parameter is invalid.
    #[error("invalid parameters: {0}")]
    Invalid(InvalidKeys),
    /// No backend supports the cipher in this version and direction.
    #[error("no cipher backend takes this cipher, version and direction")]
    Unsupported,
    /// A key change to another cipher or version.
    #[error("a key change keeps cipher and version")]
    RekeyMismatch,
    /// Records of the key before are still in use. Retry when some are acknowledged.
    #[error("an earlier key change has not drained yet")]
    RekeyBusy,
    /// The open record couldn't be closed under the key before.
    #[error("the open record can't be closed: {0}")]
    OpenRecord(TxError),
}

/// Which rule of ktls(4) parameters violate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InvalidKeys {
    /// A version other than 3.1 to 3.4.
    #[error("not a version of TLS")]
    Version,
    /// A flag is set.
    #[error("no flag is defined")]
    Flags,
    /// The key is empty, too long, or none of the cipher's lengths.
    #[error("the cipher has no key of this length")]
    CipherKey,
    /// The IV's length isn't the cipher's.
    #[error("the cipher has no IV of this length")]
    Iv,
    /// An AEAD with a MAC, or AES-CBC without one.
    #[error("the cipher has another kind of authentication")]
    Auth,
    /// The MAC's key is missing, too long, or one too many.
    #[error("the length of the authentication key is wrong")]
    AuthKey,
    /// The version has no such cipher, or not with this MAC.
    #[error("the version doesn't have this cipher")]
    CipherOfVersion,
    /// A key change to the key that is in use: its nonces would be used twice.
    #[error("the key is in use")]
    KeyInUse,
}

impl EnableError {
    /// Returns the errno of `setsockopt` for `TCP_TXTLS_ENABLE` and `TCP_RXTLS_ENABLE`.
    pub const fn errno(self) -> Errno {
        match self {
            Self::Disabled | Self::CbcDisabled => Errno::Enotsup,
            Self::AlreadyEnabled => Errno::Ealready,
            Self::Invalid(_) | Self::RekeyMismatch => Errno::Einval,
            Self::Unsupported => Errno::Eprotonosupport,
            Self::RekeyBusy => Errno::Ebusy,
            Self::OpenRecord(error) => error.errno(),
        }
    }
}

impl TlsEnable<'_> {
    /// Checks the parameters in ktls(4)'s order, and counts a call that is refused. `current` are
    /// the direction's keys.
    ///
    /// 1. The record layer is switched off: not counted.
    /// 2. The direction has keys that can't be changed: of the stack's own handshake, or of TLS 1.2
    ///    or older.
    /// 3. AES-CBC is switched off.
    /// 4. The parameters, see [`params`](Self::params).
    /// 5. No backend supports them.
    /// 6. A key change to another suite or version.
    ///
    /// # Errors
    ///
    /// The first reason to refuse.
    pub fn check(
        &self,
        direction: Direction,
        settings: EnableSettings,
        current: CurrentKeys,
        ciphers: &mut Ciphers,
    ) -> Result<Params, EnableError> {
        if !settings.enabled {
            return Err(EnableError::Disabled);
        }
        let checked = self.check_enabled(direction, settings, current, ciphers);
        if checked.is_err() {
            ciphers.counters.add(Counter::EnableCalls, 1);
            if current != CurrentKeys::None {
                ciphers.counters.add(Counter::rekey_error(direction), 1);
            }
        }
        checked
    }

    fn check_enabled(
        &self,
        direction: Direction,
        settings: EnableSettings,
        current: CurrentKeys,
        ciphers: &Ciphers,
    ) -> Result<Params, EnableError> {
        match current {
            CurrentKeys::None => {}
            CurrentKeys::Application(params) if params.version == Version::Tls13 => {}
            CurrentKeys::Application(_) | CurrentKeys::Stack => {
                return Err(EnableError::AlreadyEnabled);
            }
        }
        if self.cipher == CipherAlgorithm::AesCbc && !settings.cbc_enabled {
            return Err(EnableError::CbcDisabled);
        }
        let params = self.params(direction)?;
        if !ciphers.supports(params) {
            return Err(EnableError::Unsupported);
        }
        match current {
            CurrentKeys::Application(current) if current != params => {
                Err(EnableError::RekeyMismatch)
            }
            CurrentKeys::None | CurrentKeys::Stack | CurrentKeys::Application(_) => Ok(params),
        }
    }

    /// Checks the parameters alone and returns suite and version.
    ///
    /// # Errors
    ///
    /// [`EnableError::Invalid`], or [`EnableError::Unsupported`] for a direction that doesn't have
    /// the cipher.
    pub fn params(&self, direction: Direction) -> Result<Params, EnableError> {
        let key_lens = 1..=KEY_LEN_MAX;
        let invalid = |reason| Err(EnableError::Invalid(reason));
        let [MAJOR, minor @ MINOR_TLS10..=MINOR_TLS13] = self.version else {
            return invalid(InvalidKeys::Version);
        };
        if !key_lens.contains(&self.cipher_key.len()) {
            return invalid(InvalidKeys::CipherKey);
        }
        if self.iv.len() > IV_LEN_MAX {
            return invalid(InvalidKeys::Iv);
        }
        if self.auth_key.len() > KEY_LEN_MAX {
            return invalid(InvalidKeys::AuthKey);
        }
        if self.flags != 0 {
            return invalid(InvalidKeys::Flags);
        }
        match self.cipher {
            CipherAlgorithm::AesGcm
            | CipherAlgorithm::Chacha20Poly1305
            | CipherAlgorithm::AesCcm
            | CipherAlgorithm::AesCcm8 => self.aead_params(minor).map_err(EnableError::Invalid),
            CipherAlgorithm::AesCbc => {
                self.check_cbc(minor).map_err(EnableError::Invalid)?;
                self.cbc_params(minor, direction)
            }
        }
    }

    fn aead_params(&self, minor: u8) -> Result<Params, InvalidKeys> {
        let version = match minor {
            MINOR_TLS12 => Version::Tls12,
            MINOR_TLS13 => Version::Tls13,
            _ => return Err(InvalidKeys::CipherOfVersion),
        };
        let is_gcm = self.cipher == CipherAlgorithm::AesGcm;
        if self
            .auth
            .is_some_and(|auth| !is_gcm || auth != AuthAlgorithm::Gmac)
        {
            return Err(InvalidKeys::Auth);
        }
        if !self.auth_key.is_empty() {
            return Err(InvalidKeys::AuthKey);
        }
        let suite = match (self.cipher, self.cipher_key.len()) {
            (CipherAlgorithm::AesGcm, 16) => Suite::Aes128Gcm,
            (CipherAlgorithm::AesGcm, 32) => Suite::Aes256Gcm,
            (CipherAlgorithm::Chacha20Poly1305, 32) => Suite::Chacha20Poly1305,
            (CipherAlgorithm::AesCcm, 16) => Suite::Aes128Ccm,
            (CipherAlgorithm::AesCcm, 32) => Suite::Aes256Ccm,
            (CipherAlgorithm::AesCcm8, 16) => Suite::Aes128Ccm8,
            _ => return Err(InvalidKeys::CipherKey),
        };
        let params = Params::new(suite, version);
        if !params.is_defined() {
            return Err(InvalidKeys::CipherOfVersion);
        }
        let salt_len = NONCE_LEN - usize::from(params.shape().explicit_len);
        if ![salt_len, NONCE_LEN].contains(&self.iv.len()) {
            return Err(InvalidKeys::Iv);
        }
        Ok(params)
    }

    fn check_cbc(&self, minor: u8) -> Result<(), InvalidKeys> {
        if self.auth_key.is_empty() {
            return Err(InvalidKeys::AuthKey);
        }
        match (self.auth, minor) {
            (_, MINOR_TLS13) => return Err(InvalidKeys::CipherOfVersion),
            (Some(AuthAlgorithm::HmacSha1), _)
            | (Some(AuthAlgorithm::HmacSha256 | AuthAlgorithm::HmacSha384), MINOR_TLS12) => {}
            (Some(AuthAlgorithm::HmacSha256 | AuthAlgorithm::HmacSha384), _) => {
                return Err(InvalidKeys::CipherOfVersion);
            }
            (Some(AuthAlgorithm::Gmac) | None, _) => return Err(InvalidKeys::Auth),
        }
        if minor == MINOR_TLS10 && self.iv.len() != IV_LEN_MAX {
            return Err(InvalidKeys::Iv);
        }
        if ![16, 32].contains(&self.cipher_key.len()) {
            return Err(InvalidKeys::CipherKey);
        }
        Ok(())
    }

    /// Returns suite and version of valid AES-CBC parameters.
    fn cbc_params(&self, minor: u8, direction: Direction) -> Result<Params, EnableError> {
        let is_short = self.cipher_key.len() == Suite::Aes128CbcSha1.key_len();
        let suite = match (self.auth, is_short) {
            (Some(AuthAlgorithm::HmacSha1), true) => Suite::Aes128CbcSha1,
            (Some(AuthAlgorithm::HmacSha1), false) => Suite::Aes256CbcSha1,
            (Some(AuthAlgorithm::HmacSha256), true) => Suite::Aes128CbcSha256,
            (Some(AuthAlgorithm::HmacSha256), false) => Suite::Aes256CbcSha256,
            (Some(AuthAlgorithm::HmacSha384), true) => Suite::Aes128CbcSha384,
            (Some(AuthAlgorithm::HmacSha384), false) => Suite::Aes256CbcSha384,
            (Some(AuthAlgorithm::Gmac) | None, _) => {
                return Err(EnableError::Invalid(InvalidKeys::Auth));
            }
        };
        if self.auth_key.len() != suite.mac_key_len() {
            return Err(EnableError::Invalid(InvalidKeys::AuthKey));
        }
        match (minor, direction) {
            // As ktls(4): the IV of each record is the end of the record before.
            (MINOR_TLS10, Direction::Rx) => Err(EnableError::Unsupported),
            (MINOR_TLS10, Direction::Tx) => Ok(Params::new(suite, Version::Tls10)),
            (MINOR_TLS12, _) => Ok(Params::new(suite, Version::Tls12)),
            _ => Ok(Params::new(suite, Version::Tls11)),
        }
    }

    /// Creates the session. `explicit` is the explicit nonce of record 0 where `iv` is the salt
    /// alone: any number, such as a random one.
    ///
    /// # Errors
    ///
    /// As [`params`](Self::params).
    pub fn session(&self, direction: Direction, explicit: u64) -> Result<Session, EnableError> {
        let params = self.params(direction)?;
        let invalid = EnableError::Invalid(InvalidKeys::CipherKey);
        if params.suite.is_cbc() {
            let iv = self.iv.try_into().unwrap_or([0; IV_LEN_MAX]);
            let session = Session::from_key_and_mac(params, self.cipher_key, self.auth_key, &iv);
            return session.ok_or(invalid);
        }
        let mut iv = [0; NONCE_LEN];
        let (salt, rest) = iv.split_at_mut(NONCE_LEN - EXPLICIT_NONCE_LEN);
        if self.iv.len() == salt.len() {
            salt.copy_from_slice(self.iv);
            rest.copy_from_slice(&explicit.to_be_bytes());
        } else if self.iv.len() == NONCE_LEN {
            iv.copy_from_slice(self.iv);
        }
        Session::from_key(params, self.cipher_key, &iv).ok_or(invalid)
    }
}

impl fmt::Debug for TlsEnable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsEnable")
            .field("cipher", &self.cipher)
            .field("auth", &self.auth)
            .field("version", &self.version)
            .field("rec_seq", &self.rec_seq)
            .finish_non_exhaustive()
    }
}

/// State of a direction's keys: what `getsockopt` returns for Linux's `TLS_TX` and `TLS_RX`,
/// without the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyInfo {
    /// Suite and version.
    pub params: Params,
    /// The IV; zeroes for AES-CBC. In TLS 1.2 AES-GCM the last 8 bytes are the explicit nonce of
    /// record 0.
    pub iv: [u8; NONCE_LEN],
    /// Number of the next record.
    pub rec_seq: u64,
}

const MAJOR: u8 = 3;
const MINOR_TLS10: u8 = 1;
const MINOR_TLS12: u8 = 3;
const MINOR_TLS13: u8 = 4;
/// `TLS_MAX_PARAM_SIZE` of FreeBSD's `ktls.h`.
const KEY_LEN_MAX: usize = 1024;
const IV_LEN_MAX: usize = 16;

#[cfg(test)]
mod tests;

//! Cipher suites, protocol versions, and the sizes that follow from them.

use core::fmt;

use crate::shape::RecordShape;

/// AEAD of a session, in TLS 1.2 and 1.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// AES-128 in Galois/counter mode.
    Aes128Gcm,
    /// AES-256 in Galois/counter mode.
    Aes256Gcm,
    /// ChaCha20 with Poly1305.
    Chacha20Poly1305,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::Chacha20Poly1305];

    /// Returns the key's length in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::Chacha20Poly1305 => 32,
        }
    }

    /// Returns the length of a TLS 1.3 traffic secret in bytes: the output length of the suite's
    /// hash.
    pub const fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Chacha20Poly1305 => 32,
            Self::Aes256Gcm => 48,
        }
    }

    /// Returns the bytes of the largest key of all suites.
    pub(crate) const fn key_len_max() -> usize {
        let (mut max, mut n) = (0, 0);
        while n < Self::ALL.len() {
            let len = Self::ALL[n].key_len();
            max = if len > max { len } else { max };
            n += 1;
        }
        max
    }

    /// Returns the bytes of key material that a session of any suite needs at most: a traffic
    /// secret, or key and IV.
    pub(crate) const fn material_len_max() -> usize {
        let (mut max, mut n) = (Self::key_len_max() + NONCE_LEN, 0);
        while n < Self::ALL.len() {
            let len = Self::ALL[n].secret_len();
            max = if len > max { len } else { max };
            n += 1;
        }
        max
    }

    /// Whether the cipher is AES-GCM.
    pub const fn is_gcm(self) -> bool {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => true,
            Self::Chacha20Poly1305 => false,
        }
    }
}

/// A protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// RFC 5246 with the AEAD suites of RFC 5288 and RFC 7905.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Content type of a record: the outer one in TLS 1.2, the inner one in TLS 1.3.
///
/// Not an enumeration: a socket may send and receive types that this crate doesn't know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContentType(pub u8);

impl ContentType {
    /// change_cipher_spec.
    pub const CHANGE_CIPHER_SPEC: Self = Self(20);
    /// alert.
    pub const ALERT: Self = Self(21);
    /// handshake.
    pub const HANDSHAKE: Self = Self(22);
    /// application_data.
    pub const APPLICATION_DATA: Self = Self(23);
}

/// Suite and version of a session, which determine the format of its records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Params {
    /// The AEAD.
    pub suite: Suite,
    /// The protocol version.
    pub version: Version,
}

impl Params {
    /// Every combination.
    pub const ALL: [Self; 6] = [
        Self::new(Suite::Aes128Gcm, Version::Tls12),
        Self::new(Suite::Aes256Gcm, Version::Tls12),
        Self::new(Suite::Chacha20Poly1305, Version::Tls12),
        Self::new(Suite::Aes128Gcm, Version::Tls13),
        Self::new(Suite::Aes256Gcm, Version::Tls13),
        Self::new(Suite::Chacha20Poly1305, Version::Tls13),
    ];

    /// Combines a suite and a version.
    pub const fn new(suite: Suite, version: Version) -> Self {
        Self { suite, version }
    }

    /// Returns the form of the records.
    pub const fn shape(self) -> RecordShape {
        RecordShape::of(self)
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.version, self.suite) {
            (Version::Tls12, Suite::Aes128Gcm) => "TLS 1.2 AES-128-GCM",
            (Version::Tls12, Suite::Aes256Gcm) => "TLS 1.2 AES-256-GCM",
            (Version::Tls12, Suite::Chacha20Poly1305) => "TLS 1.2 ChaCha20-Poly1305",
            (Version::Tls13, Suite::Aes128Gcm) => "TLS 1.3 AES-128-GCM",
            (Version::Tls13, Suite::Aes256Gcm) => "TLS 1.3 AES-256-GCM",
            (Version::Tls13, Suite::Chacha20Poly1305) => "TLS 1.3 ChaCha20-Poly1305",
        })
    }
}

/// Bytes of a record header.
pub const HEADER_LEN: usize = HEADER as usize;
/// Bytes of an AEAD nonce, and of its IV.
pub const NONCE_LEN: usize = 12;
/// Bytes of the explicit part of a TLS 1.2 GCM nonce.
pub const EXPLICIT_NONCE_LEN: usize = EXPLICIT_NONCE as usize;

//= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
//# The length MUST NOT exceed 2^14 bytes.
/// Bytes of content that a record may carry at most.
pub const PLAINTEXT_MAX: usize = CONTENT_MAX as usize;

pub(crate) const CONTENT_MAX: u16 = 1 << 14;
pub(crate) const HEADER: u8 = 5;
pub(crate) const EXPLICIT_NONCE: u8 = 8;
/// Bytes of the tag of AES-GCM and of ChaCha20-Poly1305.
pub(crate) const TAG: u8 = 16;

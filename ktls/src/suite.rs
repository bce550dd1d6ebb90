//! Cipher suites, protocol versions, and the sizes that follow from them.

use core::fmt;

use crate::shape::RecordShape;

/// What protects the records of a session: an AEAD, or AES-CBC with an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// AES-128 in Galois/counter mode (RFC 5288, RFC 8446).
    Aes128Gcm,
    /// AES-256 in Galois/counter mode (RFC 5288, RFC 8446).
    Aes256Gcm,
    /// ChaCha20 with Poly1305 (RFC 7905, RFC 8446).
    Chacha20Poly1305,
    /// AES-128 in counter mode with CBC-MAC (RFC 6655, RFC 8446).
    Aes128Ccm,
    /// AES-256 in counter mode with CBC-MAC (RFC 6655). TLS 1.2 only.
    Aes256Ccm,
    /// AES-128 in counter mode with CBC-MAC and a tag of 8 bytes (RFC 6655, RFC 8446).
    Aes128Ccm8,
    /// AES-128-CBC with HMAC-SHA1 (RFC 3268). TLS 1.0 to 1.2.
    Aes128CbcSha1,
    /// AES-256-CBC with HMAC-SHA1 (RFC 3268). TLS 1.0 to 1.2.
    Aes256CbcSha1,
    /// AES-128-CBC with HMAC-SHA256 (RFC 5246). TLS 1.2 only.
    Aes128CbcSha256,
    /// AES-256-CBC with HMAC-SHA256 (RFC 5246). TLS 1.2 only.
    Aes256CbcSha256,
    /// AES-128-CBC with HMAC-SHA384. TLS 1.2 only. No RFC combines them; ktls(4) does.
    Aes128CbcSha384,
    /// AES-256-CBC with HMAC-SHA384 (RFC 5289). TLS 1.2 only.
    Aes256CbcSha384,
}

/// The construction of a suite.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CipherKind {
    /// AES-GCM.
    Gcm,
    /// AES-CCM.
    Ccm,
    /// ChaCha20-Poly1305.
    Chacha20,
    /// AES-CBC and HMAC: MAC, then encrypt.
    Cbc,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 12] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::Chacha20Poly1305,
        Self::Aes128Ccm,
        Self::Aes256Ccm,
        Self::Aes128Ccm8,
        Self::Aes128CbcSha1,
        Self::Aes256CbcSha1,
        Self::Aes128CbcSha256,
        Self::Aes256CbcSha256,
        Self::Aes128CbcSha384,
        Self::Aes256CbcSha384,
    ];

    /// Returns the construction.
    pub const fn kind(self) -> CipherKind {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => CipherKind::Gcm,
            Self::Chacha20Poly1305 => CipherKind::Chacha20,
            Self::Aes128Ccm | Self::Aes256Ccm | Self::Aes128Ccm8 => CipherKind::Ccm,
            Self::Aes128CbcSha1
            | Self::Aes256CbcSha1
            | Self::Aes128CbcSha256
            | Self::Aes256CbcSha256
            | Self::Aes128CbcSha384
            | Self::Aes256CbcSha384 => CipherKind::Cbc,
        }
    }

    /// Returns the length of the cipher's key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm
            | Self::Aes128Ccm
            | Self::Aes128Ccm8
            | Self::Aes128CbcSha1
            | Self::Aes128CbcSha256
            | Self::Aes128CbcSha384 => 16,
            Self::Aes256Gcm
            | Self::Chacha20Poly1305
            | Self::Aes256Ccm
            | Self::Aes256CbcSha1
            | Self::Aes256CbcSha256
            | Self::Aes256CbcSha384 => 32,
        }
    }

    /// Returns the length in bytes of the tag, or of the MAC and its key.
    pub const fn tag_len(self) -> usize {
        self.tag() as usize
    }

    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::Aes128Gcm
            | Self::Aes256Gcm
            | Self::Chacha20Poly1305
            | Self::Aes128Ccm
            | Self::Aes256Ccm => TAG,
            Self::Aes128Ccm8 => 8,
            Self::Aes128CbcSha1 | Self::Aes256CbcSha1 => 20,
            Self::Aes128CbcSha256 | Self::Aes256CbcSha256 => 32,
            Self::Aes128CbcSha384 | Self::Aes256CbcSha384 => 48,
        }
    }

    /// Returns the length in bytes of the key of the MAC: 0 for an AEAD.
    pub const fn mac_key_len(self) -> usize {
        match self.kind() {
            CipherKind::Gcm | CipherKind::Ccm | CipherKind::Chacha20 => 0,
            CipherKind::Cbc => self.tag_len(),
        }
    }

    /// Returns the length in bytes of a traffic secret in TLS 1.3, and of the hash of the key
    /// schedule.
    pub const fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm
            | Self::Chacha20Poly1305
            | Self::Aes128Ccm
            | Self::Aes256Ccm
            | Self::Aes128Ccm8
            | Self::Aes128CbcSha1
            | Self::Aes256CbcSha1
            | Self::Aes128CbcSha256
            | Self::Aes256CbcSha256 => 32,
            Self::Aes256Gcm | Self::Aes128CbcSha384 | Self::Aes256CbcSha384 => 48,
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

    /// Returns the bytes of key material that a session of an AEAD needs at most: a traffic secret,
    /// or key and IV.
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
        matches!(self.kind(), CipherKind::Gcm)
    }

    /// Whether the cipher is AES-CBC with an HMAC.
    pub const fn is_cbc(self) -> bool {
        matches!(self.kind(), CipherKind::Cbc)
    }
}

/// A protocol version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// RFC 2246. Only AES-CBC with HMAC-SHA1, and only sending.
    Tls10,
    /// RFC 4346. Only AES-CBC with HMAC-SHA1.
    Tls11,
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// Returns the version bytes of a record header: 3.3 in TLS 1.3, too.
    pub const fn wire(self) -> [u8; 2] {
        match self {
            Self::Tls10 => [3, 1],
            Self::Tls11 => [3, 2],
            Self::Tls12 | Self::Tls13 => LEGACY_VERSION,
        }
    }
}

/// Content type of a record: the inner one in TLS 1.3, the header's in older versions.
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
    /// The suite.
    pub suite: Suite,
    /// The protocol version.
    pub version: Version,
}

impl Params {
    /// Every combination that is defined.
    pub const ALL: [Self; 21] = [
        Self::new(Suite::Aes128Gcm, Version::Tls12),
        Self::new(Suite::Aes256Gcm, Version::Tls12),
        Self::new(Suite::Chacha20Poly1305, Version::Tls12),
        Self::new(Suite::Aes128Gcm, Version::Tls13),
        Self::new(Suite::Aes256Gcm, Version::Tls13),
        Self::new(Suite::Chacha20Poly1305, Version::Tls13),
        Self::new(Suite::Aes128Ccm, Version::Tls12),
        Self::new(Suite::Aes256Ccm, Version::Tls12),
        Self::new(Suite::Aes128Ccm8, Version::Tls12),
        Self::new(Suite::Aes128Ccm, Version::Tls13),
        Self::new(Suite::Aes128Ccm8, Version::Tls13),
        Self::new(Suite::Aes128CbcSha1, Version::Tls10),
        Self::new(Suite::Aes256CbcSha1, Version::Tls10),
        Self::new(Suite::Aes128CbcSha1, Version::Tls11),
        Self::new(Suite::Aes256CbcSha1, Version::Tls11),
        Self::new(Suite::Aes128CbcSha1, Version::Tls12),
        Self::new(Suite::Aes256CbcSha1, Version::Tls12),
        Self::new(Suite::Aes128CbcSha256, Version::Tls12),
        Self::new(Suite::Aes256CbcSha256, Version::Tls12),
        Self::new(Suite::Aes128CbcSha384, Version::Tls12),
        Self::new(Suite::Aes256CbcSha384, Version::Tls12),
    ];

    /// Combines a suite and a version, defined or not.
    pub const fn new(suite: Suite, version: Version) -> Self {
        Self { suite, version }
    }

    /// Whether the version has the suite. Only then there can be a [`Session`](crate::Session).
    pub const fn is_defined(self) -> bool {
        match (self.version, self.suite) {
            (Version::Tls10 | Version::Tls11, suite) => {
                matches!(suite, Suite::Aes128CbcSha1 | Suite::Aes256CbcSha1)
            }
            (Version::Tls12, _) => true,
            //= https://www.rfc-editor.org/rfc/rfc8446#section-1.2
            //# The list of supported symmetric encryption algorithms has been
            //# pruned of all algorithms that are considered legacy.  Those that
            //# remain are all Authenticated Encryption with Associated Data
            //# (AEAD) algorithms.
            (Version::Tls13, Suite::Aes256Ccm) => false,
            (Version::Tls13, suite) => !suite.is_cbc(),
        }
    }

    /// Whether records can be received. As in FreeBSD, records of TLS 1.0 are only sent.
    pub const fn can_receive(self) -> bool {
        self.is_defined() && !matches!(self.version, Version::Tls10)
    }

    /// Whether an application may send records without content. In TLS 1.0 an empty record makes
    /// the IV of the next one unpredictable: OpenSSL's and FreeBSD's measure against attacks that
    /// choose plaintexts.
    pub const fn can_be_empty(self) -> bool {
        matches!(self.version, Version::Tls10)
    }

    /// Returns the form of the records.
    pub const fn shape(self) -> RecordShape {
        RecordShape::of(self)
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.version {
            Version::Tls10 => "TLS 1.0 ",
            Version::Tls11 => "TLS 1.1 ",
            Version::Tls12 => "TLS 1.2 ",
            Version::Tls13 => "TLS 1.3 ",
        })?;
        f.write_str(match self.suite {
            Suite::Aes128Gcm => "AES-128-GCM",
            Suite::Aes256Gcm => "AES-256-GCM",
            Suite::Chacha20Poly1305 => "ChaCha20-Poly1305",
            Suite::Aes128Ccm => "AES-128-CCM",
            Suite::Aes256Ccm => "AES-256-CCM",
            Suite::Aes128Ccm8 => "AES-128-CCM-8",
            Suite::Aes128CbcSha1 => "AES-128-CBC HMAC-SHA1",
            Suite::Aes256CbcSha1 => "AES-256-CBC HMAC-SHA1",
            Suite::Aes128CbcSha256 => "AES-128-CBC HMAC-SHA256",
            Suite::Aes256CbcSha256 => "AES-256-CBC HMAC-SHA256",
            Suite::Aes128CbcSha384 => "AES-128-CBC HMAC-SHA384",
            Suite::Aes256CbcSha384 => "AES-256-CBC HMAC-SHA384",
        })
    }
}

/// Bytes of a record header.
pub const HEADER_LEN: usize = HEADER as usize;
/// Bytes of an AEAD nonce, and of its IV.
pub const NONCE_LEN: usize = 12;
/// Version bytes of every record of TLS 1.2 and of TLS 1.3: 3.3.
pub const LEGACY_VERSION: [u8; 2] = [3, 3];
/// Bytes of the explicit part of a TLS 1.2 GCM or CCM nonce.
pub const EXPLICIT_NONCE_LEN: usize = EXPLICIT_NONCE as usize;

//= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
//# The length MUST NOT exceed 2^14 bytes.
/// Bytes of content that a record may carry at most.
pub const PLAINTEXT_MAX: usize = CONTENT_MAX as usize;

pub(crate) const CONTENT_MAX: u16 = 1 << 14;
pub(crate) const HEADER: u8 = 5;
pub(crate) const EXPLICIT_NONCE: u8 = 8;
/// Bytes of the tag of AES-GCM, of ChaCha20-Poly1305, and of AES-CCM except CCM-8.
pub(crate) const TAG: u8 = 16;
/// Bytes of a block of AES, and of the IV of CBC.
pub(crate) const BLOCK: u8 = 16;
pub(crate) const IV_LEN: usize = BLOCK as usize;

//! AES-CBC with an HMAC: MAC, then encrypt (RFC 5246, 6.2.3.2).

use core::ffi::c_uint;
use core::fmt;
use core::ptr;

use aws_lc_sys::{
    EVP_AEAD, EVP_MD, EVP_aead_aes_128_cbc_sha1_tls, EVP_aead_aes_128_cbc_sha256_tls,
    EVP_aead_aes_256_cbc_sha1_tls, EVP_aead_aes_256_cbc_sha384_tls, EVP_sha256, EVP_sha384, HMAC,
};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{CbcAead, HEADER_LEN};
use crate::context::{Cipher, Context, Direction};
use crate::{BLOCK, CryptoError};

/// AES-CBC with an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CbcSuite {
    /// AES-128 and HMAC-SHA1.
    Aes128Sha1,
    /// AES-256 and HMAC-SHA1.
    Aes256Sha1,
    /// AES-128 and HMAC-SHA256.
    Aes128Sha256,
    /// AES-256 and HMAC-SHA256.
    Aes256Sha256,
    /// AES-128 and HMAC-SHA384.
    Aes128Sha384,
    /// AES-256 and HMAC-SHA384.
    Aes256Sha384,
}

impl CbcSuite {
    /// Every suite.
    pub const ALL: [Self; 6] = [
        Self::Aes128Sha1,
        Self::Aes256Sha1,
        Self::Aes128Sha256,
        Self::Aes256Sha256,
        Self::Aes128Sha384,
        Self::Aes256Sha384,
    ];

    /// Returns the bytes of the key of AES.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes128Sha256 | Self::Aes128Sha384 => 16,
            Self::Aes256Sha1 | Self::Aes256Sha256 | Self::Aes256Sha384 => 32,
        }
    }

    /// Returns the bytes of the MAC and of its key.
    pub const fn mac_len(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => 20,
            Self::Aes128Sha256 | Self::Aes256Sha256 => 32,
            Self::Aes128Sha384 | Self::Aes256Sha384 => 48,
        }
    }

    /// Returns the bytes of MAC and padding behind so many bytes of content: the least that fills
    /// a block.
    pub const fn tail_len(self, content: usize) -> usize {
        self.mac_len() + BLOCK - (content + self.mac_len()) % BLOCK
    }

    /// Whether aws-lc has an AEAD of exactly this suite.
    const fn has_aead(self) -> bool {
        !matches!(self, Self::Aes256Sha256 | Self::Aes128Sha384)
    }

    /// Returns the AEAD with this hash, and the length of its key of AES.
    fn aead(self) -> (*const EVP_AEAD, usize) {
        let (function, key_len): (unsafe extern "C" fn() -> *const EVP_AEAD, _) = match self {
            Self::Aes128Sha1 => (EVP_aead_aes_128_cbc_sha1_tls, 16),
            Self::Aes256Sha1 => (EVP_aead_aes_256_cbc_sha1_tls, 32),
            Self::Aes128Sha256 | Self::Aes256Sha256 => (EVP_aead_aes_128_cbc_sha256_tls, 16),
            Self::Aes128Sha384 | Self::Aes256Sha384 => (EVP_aead_aes_256_cbc_sha384_tls, 32),
        };
        // SAFETY: these functions take nothing, and return a static.
        (unsafe { function() }, key_len)
    }
}

/// The keys of one direction.
///
/// IVs are the caller's: explicit ones since TLS 1.1, the end of the record before in TLS 1.0. The
/// header is what the MAC covers besides content and length: number, type and version.
pub struct CbcKey {
    suite: CbcSuite,
    sealing: CbcAead,
    opening: CbcAead,
    conversion: Option<Box<Conversion>>,
}

/// What a suite needs besides the AEAD, if that has another length of key.
///
/// A record to be opened is decrypted and encrypted again with the AEAD's key. Neither step depends
/// on what the plaintext is, so the AEAD's check of padding and MAC stays the only one, and in
/// constant time. A record to be sealed has no secret lengths.
struct Conversion {
    encrypting: Context,
    decrypting: Context,
    /// Encrypts with the AEAD's key of AES.
    again: Context,
    mac_key: Zeroizing<[u8; MAC_LEN_MAX]>,
    /// A record while it is sealed.
    scratch: Vec<u8>,
}

impl CbcKey {
    /// Expands the keys.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] if a key isn't as long as the suite's.
    pub fn new(suite: CbcSuite, key: &[u8], mac_key: &[u8]) -> Result<Self, CryptoError> {
        if key.len() != suite.key_len() || mac_key.len() != suite.mac_len() {
            return Err(CryptoError::Failed);
        }
        let (aead, aead_key_len) = suite.aead();
        let aead_key = if suite.has_aead() {
            key
        } else {
            &CONVERTED_KEY[..aead_key_len]
        };
        let mut keys = Zeroizing::new([0; MAC_LEN_MAX + KEY_LEN_MAX]);
        let (first, rest) = keys.split_at_mut(mac_key.len());
        first.copy_from_slice(mac_key);
        rest[..aead_key_len].copy_from_slice(aead_key);
        let keys = &keys[..mac_key.len() + aead_key_len];
        let conversion = if suite.has_aead() {
            None
        } else {
            Some(Box::new(Conversion::new(key, mac_key, aead_key)?))
        };
        Ok(Self {
            suite,
            // SAFETY: an AEAD of the kind that it asks for.
            sealing: unsafe { CbcAead::new(aead, keys, Direction::Encrypt) }?,
            // SAFETY: as above.
            opening: unsafe { CbcAead::new(aead, keys, Direction::Decrypt) }?,
            conversion,
        })
    }

    /// Encrypts `from`, or what is in `body`, to `body`. `tail` gets MAC and padding, and has
    /// exactly the [length](CbcSuite::tail_len) of the least padding.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] for other lengths; `body` is unchanged then.
    pub fn seal(
        &mut self,
        iv: &[u8; BLOCK],
        header: &[u8; HEADER_LEN],
        from: Option<&[u8]>,
        body: &mut [u8],
        tail: &mut [u8],
    ) -> Result<(), CryptoError> {
        let fits = tail.len() == self.suite.tail_len(body.len());
        if !fits || body.len() > CONTENT_MAX || from.is_some_and(|from| from.len() != body.len()) {
            return Err(CryptoError::Failed);
        }
        match &mut self.conversion {
            None => self.sealing.seal(iv, header, from, body, tail),
            Some(conversion) => {
                let sealed = conversion.seal(self.suite, iv, header, from, body, tail);
                if sealed.is_err() {
                    conversion.scratch.zeroize();
                }
                sealed
            }
        }
    }

    /// Decrypts `text` in place and checks padding and MAC. Returns the bytes of content, which is
    /// at the front.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if either is wrong, or if `text` is too short or isn't whole blocks;
    /// `text` is zeroes then, or unchanged.
    pub fn open(
        &mut self,
        iv: &[u8; BLOCK],
        header: &[u8; HEADER_LEN],
        text: &mut [u8],
    ) -> Result<usize, CryptoError> {
        if text.len() < self.suite.tail_len(0)
            || !text.len().is_multiple_of(BLOCK)
            || text.len() > CONTENT_MAX + MAC_LEN_MAX + 256
        {
            return Err(CryptoError::BadTag);
        }
        if let Some(conversion) = &mut self.conversion {
            conversion.convert(iv, text)?;
        }
        self.opening.open(iv, header, text)
    }
}

impl Conversion {
    fn new(key: &[u8], mac_key: &[u8], aead_key: &[u8]) -> Result<Self, CryptoError> {
        let mut kept = Zeroizing::new([0; MAC_LEN_MAX]);
        kept.get_mut(..mac_key.len())
            .ok_or(CryptoError::Failed)?
            .copy_from_slice(mac_key);
        Ok(Self {
            encrypting: cbc(key, Direction::Encrypt)?,
            decrypting: cbc(key, Direction::Decrypt)?,
            again: cbc(aead_key, Direction::Encrypt)?,
            mac_key: kept,
            scratch: Vec::new(),
        })
    }

    /// Decrypts, and encrypts with the AEAD's key.
    fn convert(&mut self, iv: &[u8; BLOCK], text: &mut [u8]) -> Result<(), CryptoError> {
        self.decrypting.begin(iv, Direction::Decrypt)?;
        self.decrypting.update_in_place(text)?;
        self.again.begin(iv, Direction::Encrypt)?;
        self.again.update_in_place(text)
    }

    fn seal(
        &mut self,
        suite: CbcSuite,
        iv: &[u8; BLOCK],
        header: &[u8; HEADER_LEN],
        from: Option<&[u8]>,
        body: &mut [u8],
        tail: &mut [u8],
    ) -> Result<(), CryptoError> {
        let length = u16::try_from(body.len()).map_err(|_| CryptoError::Failed)?;
        let scratch = &mut self.scratch;
        scratch.clear();
        // Never moved while it holds plaintext.
        scratch.reserve(HEADER_LEN + 2 + body.len() + tail.len());
        scratch.extend_from_slice(header);
        scratch.extend_from_slice(&length.to_be_bytes());
        scratch.extend_from_slice(from.unwrap_or(body));
        let mac = mac(suite, &self.mac_key[..suite.mac_len()], scratch)?;
        scratch.extend_from_slice(&mac[..suite.mac_len()]);
        let padding = tail.len() - suite.mac_len();
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3.2
        //# Each uint8 in the padding data
        //# vector MUST be filled with the padding length value.
        let byte = u8::try_from(padding - 1).map_err(|_| CryptoError::Failed)?;
        scratch.resize(scratch.len() + padding, byte);
        let text = &mut scratch[HEADER_LEN + 2..];
        self.encrypting.begin(iv, Direction::Encrypt)?;
        self.encrypting.update_in_place(text)?;
        let (content, rest) = text.split_at(body.len());
        body.copy_from_slice(content);
        tail.copy_from_slice(rest);
        Ok(())
    }
}

impl fmt::Debug for CbcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CbcKey({:?}, keys withheld)", self.suite)
    }
}

/// Returns a context of bare AES-CBC.
fn cbc(key: &[u8], direction: Direction) -> Result<Context, CryptoError> {
    let cipher = match key.len() {
        16 => Cipher::Aes128Cbc,
        32 => Cipher::Aes256Cbc,
        _ => return Err(CryptoError::Failed),
    };
    let mut context = Context::new(cipher, key, direction)?;
    context.without_padding()?;
    Ok(context)
}

fn mac(suite: CbcSuite, key: &[u8], text: &[u8]) -> Result<[u8; DIGEST_MAX], CryptoError> {
    let hash: unsafe extern "C" fn() -> *const EVP_MD = match suite.mac_len() {
        32 => EVP_sha256,
        48 => EVP_sha384,
        _ => return Err(CryptoError::Failed),
    };
    // SAFETY: these functions take nothing, and return a static.
    let hash = unsafe { hash() };
    let (mut out, mut len): (_, c_uint) = ([0; DIGEST_MAX], 0);
    // SAFETY: the hash is static, key and text have the lengths that are given, and the output has
    // room for any digest.
    let result = unsafe {
        HMAC(
            hash,
            key.as_ptr().cast(),
            key.len(),
            text.as_ptr(),
            text.len(),
            out.as_mut_ptr(),
            &raw mut len,
        )
    };
    if ptr::eq(result, out.as_ptr()) && len as usize == suite.mac_len() {
        Ok(out)
    } else {
        Err(CryptoError::Failed)
    }
}

/// The key of AES that converted records have between two steps. It protects nothing.
const CONVERTED_KEY: [u8; KEY_LEN_MAX] = [0; KEY_LEN_MAX];
const KEY_LEN_MAX: usize = 32;
const MAC_LEN_MAX: usize = 48;
/// `EVP_MAX_MD_SIZE`.
const DIGEST_MAX: usize = 64;
/// Bytes of content of a TLS record.
const CONTENT_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests;

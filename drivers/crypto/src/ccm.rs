//! AES-CCM.

use core::ffi::c_int;
use core::fmt;

use crate::context::{Cipher, Context, Direction};
use crate::{CryptoError, NONCE_LEN};

/// A key of AES-CCM (RFC 3610), with the nonce of 12 bytes that RFC 6655 and RFC 8446 have. So a
/// message has at most 2^24 - 1 bytes.
pub struct CcmKey {
    context: Context,
    tag_len: usize,
}

impl CcmKey {
    /// Expands a key of 16 or 32 bytes. The tag has 16 or 8 bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] for other lengths.
    pub fn new(key: &[u8], tag_len: usize) -> Result<Self, CryptoError> {
        let cipher = match key.len() {
            16 => Cipher::Aes128Ccm,
            32 => Cipher::Aes256Ccm,
            _ => return Err(CryptoError::Failed),
        };
        if !matches!(tag_len, 8 | 16) {
            return Err(CryptoError::Failed);
        }
        // The key's schedule is the same for both directions. Until lengths are set there is none.
        let mut context = Context::new(cipher, key, Direction::Encrypt)?;
        context.set_nonce_len(NONCE_LEN_INT)?;
        context.set_tag_len(c_int::try_from(tag_len).map_err(|_| CryptoError::Failed)?)?;
        Ok(Self { context, tag_len })
    }

    /// Encrypts `text` in place and writes its tag.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] if `tag` doesn't have the tag's length, or `text` is too long;
    /// `text` is unchanged.
    pub fn seal(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), CryptoError> {
        if tag.len() != self.tag_len || text.len() > MESSAGE_MAX {
            return Err(CryptoError::Failed);
        }
        self.context.begin(nonce, Direction::Encrypt)?;
        self.context.set_message_len(text.len())?;
        self.context.add_aad(aad)?;
        self.context
            .update_in_place(text)
            .map_err(|_| CryptoError::Failed)?;
        self.context.copy_tag(tag)
    }

    /// Decrypts `text` in place, if `tag` is right.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if it isn't, also if it has another length; `text` is zeroes then,
    /// or unchanged.
    pub fn open(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        if tag.len() != self.tag_len || text.len() > MESSAGE_MAX {
            return Err(CryptoError::BadTag);
        }
        self.context.begin(nonce, Direction::Decrypt)?;
        self.context.set_tag(tag)?;
        self.context.set_message_len(text.len())?;
        self.context.add_aad(aad)?;
        self.context.update_in_place(text)
    }
}

impl fmt::Debug for CcmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CcmKey(key withheld)")
    }
}

const NONCE_LEN_INT: c_int = 12;
const _: () = assert!(NONCE_LEN_INT as usize == NONCE_LEN);
/// The length field has 15 bytes less the nonce: 3.
const MESSAGE_MAX: usize = (1 << 24) - 1;

#[cfg(test)]
mod tests;

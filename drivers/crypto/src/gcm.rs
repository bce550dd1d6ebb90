//! AES-GCM, opened piece by piece.

use core::ffi::c_int;
use core::fmt;

use zeroize::Zeroize;

use crate::context::{Cipher, Context, Direction};
use crate::{CryptoError, NONCE_LEN};

/// A key of AES-GCM that opens records whose ciphertext lies in several pieces.
pub struct GcmKey(Context);

/// A record that is being opened: its pieces are added in order, and the tag is compared at the
/// end.
///
/// The output is borrowed until then, so no plaintext can be read before the tag was compared. It
/// is zeroed if the tag is wrong, and if the record is given up.
pub struct GcmOpen<'k, 'o> {
    context: &'k mut Context,
    out: &'o mut [u8],
    /// Bytes of `out` that are plaintext.
    written: usize,
    is_done: bool,
}

impl GcmKey {
    /// Expands a key of 16 or 32 bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] for other lengths.
    pub fn new(key: &[u8]) -> Result<Self, CryptoError> {
        let cipher = match key.len() {
            16 => Cipher::Aes128Gcm,
            32 => Cipher::Aes256Gcm,
            _ => return Err(CryptoError::Failed),
        };
        let mut context = Context::new(cipher, key, Direction::Decrypt)?;
        context.set_nonce_len(NONCE_LEN_INT)?;
        Ok(Self(context))
    }

    /// Begins to open a record into `out`, which gets as many bytes as there is ciphertext.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] if aws-lc fails.
    pub fn open<'k, 'o>(
        &'k mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        out: &'o mut [u8],
    ) -> Result<GcmOpen<'k, 'o>, CryptoError> {
        self.0.begin(nonce, Direction::Decrypt)?;
        self.0.add_aad(aad)?;
        Ok(GcmOpen {
            context: &mut self.0,
            out,
            written: 0,
            is_done: false,
        })
    }
}

impl GcmOpen<'_, '_> {
    /// Decrypts the next piece of ciphertext.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Failed`] if the output has no room for it.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), CryptoError> {
        let room = &mut self.out[self.written..];
        let to = room.get_mut(..piece.len()).ok_or(CryptoError::Failed)?;
        // Counted first: what a failed call has written is zeroed, too.
        self.written += piece.len();
        self.context
            .update_to(piece, to)
            .map_err(|_| CryptoError::Failed)
    }

    /// Compares the tag. Returns the number of bytes of plaintext in the output.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if it is wrong; the output is zeroes.
    pub fn finish(mut self, tag: &[u8; TAG_LEN]) -> Result<usize, CryptoError> {
        self.context.set_tag(tag)?;
        self.context.finish()?;
        self.is_done = true;
        Ok(self.written)
    }
}

impl Drop for GcmOpen<'_, '_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.out[..self.written].zeroize();
        }
    }
}

impl fmt::Debug for GcmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GcmKey(key withheld)")
    }
}

impl fmt::Debug for GcmOpen<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcmOpen")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Bytes of a tag.
const TAG_LEN: usize = 16;
const NONCE_LEN_INT: c_int = 12;
const _: () = assert!(NONCE_LEN_INT as usize == NONCE_LEN);

#[cfg(test)]
mod tests;

//! aws-lc's cipher context.

use core::ffi::c_int;
use core::ptr::{self, NonNull};

use aws_lc_sys::{
    EVP_CIPHER, EVP_CIPHER_CTX, EVP_CIPHER_CTX_ctrl, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new,
    EVP_CIPHER_CTX_set_padding, EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_IVLEN,
    EVP_CTRL_AEAD_SET_TAG, EVP_CipherFinal_ex, EVP_CipherInit_ex, EVP_CipherUpdate,
    EVP_aes_128_cbc, EVP_aes_128_ccm, EVP_aes_128_gcm, EVP_aes_256_cbc, EVP_aes_256_ccm,
    EVP_aes_256_gcm,
};

use crate::{BLOCK, CryptoError, check};

/// A cipher of aws-lc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cipher {
    Aes128Cbc,
    Aes256Cbc,
    Aes128Ccm,
    Aes256Ccm,
    Aes128Gcm,
    Aes256Gcm,
}

impl Cipher {
    const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes128Ccm | Self::Aes128Gcm => 16,
            Self::Aes256Cbc | Self::Aes256Ccm | Self::Aes256Gcm => 32,
        }
    }

    fn get(self) -> *const EVP_CIPHER {
        let function: unsafe extern "C" fn() -> *const EVP_CIPHER = match self {
            Self::Aes128Cbc => EVP_aes_128_cbc,
            Self::Aes256Cbc => EVP_aes_256_cbc,
            Self::Aes128Ccm => EVP_aes_128_ccm,
            Self::Aes256Ccm => EVP_aes_256_ccm,
            Self::Aes128Gcm => EVP_aes_128_gcm,
            Self::Aes256Gcm => EVP_aes_256_gcm,
        };
        // SAFETY: these functions take nothing, and return a static.
        unsafe { function() }
    }
}

/// Which way a context works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Decrypt = 0,
    Encrypt = 1,
}

/// An `EVP_CIPHER_CTX` with a key. aws-lc wipes and frees it when it is dropped.
///
/// The ciphers here write as much as they read, because CBC gets whole blocks only and no padding.
pub(crate) struct Context {
    context: NonNull<EVP_CIPHER_CTX>,
    /// What is encrypted is a multiple of so many bytes.
    block: u32,
}

// SAFETY: aws-lc's contexts belong to no thread; only shared use at the same time is forbidden, and
// every use takes `&mut`.
unsafe impl Send for Context {}

/// Where the output of a step goes.
enum Output<'a> {
    /// Over the input.
    InPlace(&'a mut [u8]),
    /// To the second slice, which is as long.
    Separate(&'a [u8], &'a mut [u8]),
}

impl Context {
    /// Creates a context with this key.
    pub(crate) fn new(
        cipher: Cipher,
        key: &[u8],
        direction: Direction,
    ) -> Result<Self, CryptoError> {
        if key.len() != cipher.key_len() {
            return Err(CryptoError::Failed);
        }
        // SAFETY: it takes nothing.
        let context = unsafe { EVP_CIPHER_CTX_new() };
        let context = Self {
            context: NonNull::new(context).ok_or(CryptoError::Failed)?,
            block: 1,
        };
        // SAFETY: the context is valid, and the key is as long as the cipher's.
        let result = unsafe {
            EVP_CipherInit_ex(
                context.context.as_ptr(),
                cipher.get(),
                ptr::null_mut(),
                key.as_ptr(),
                ptr::null(),
                direction as c_int,
            )
        };
        check(result, CryptoError::Failed)?;
        Ok(context)
    }

    /// Sets the length of the nonce of an AEAD.
    pub(crate) fn set_nonce_len(&mut self, len: c_int) -> Result<(), CryptoError> {
        // SAFETY: this command reads no memory.
        let result = unsafe {
            EVP_CIPHER_CTX_ctrl(
                self.context.as_ptr(),
                EVP_CTRL_AEAD_SET_IVLEN,
                len,
                ptr::null_mut(),
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Sets the length of the tag of an AEAD.
    pub(crate) fn set_tag_len(&mut self, len: c_int) -> Result<(), CryptoError> {
        // SAFETY: without a tag this command reads no memory.
        let result = unsafe {
            EVP_CIPHER_CTX_ctrl(
                self.context.as_ptr(),
                EVP_CTRL_AEAD_SET_TAG,
                len,
                ptr::null_mut(),
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Sets the tag that an AEAD compares with.
    pub(crate) fn set_tag(&mut self, tag: &[u8]) -> Result<(), CryptoError> {
        let len = length(tag)?;
        // SAFETY: the command reads so many bytes of the tag, and writes none.
        let result = unsafe {
            EVP_CIPHER_CTX_ctrl(
                self.context.as_ptr(),
                EVP_CTRL_AEAD_SET_TAG,
                len,
                tag.as_ptr().cast_mut().cast(),
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Writes the tag of what was encrypted.
    pub(crate) fn copy_tag(&mut self, tag: &mut [u8]) -> Result<(), CryptoError> {
        let len = length(tag)?;
        // SAFETY: the command writes so many bytes to the tag.
        let result = unsafe {
            EVP_CIPHER_CTX_ctrl(
                self.context.as_ptr(),
                EVP_CTRL_AEAD_GET_TAG,
                len,
                tag.as_mut_ptr().cast(),
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Begins a message with this nonce or IV, whose length is the cipher's.
    pub(crate) fn begin<const N: usize>(
        &mut self,
        iv: &[u8; N],
        direction: Direction,
    ) -> Result<(), CryptoError> {
        const { assert!(N == BLOCK || N == crate::NONCE_LEN) };
        // SAFETY: the context is valid; cipher and key stay. `iv` is as long as its users have set
        // by `set_nonce_len`, or a block with CBC.
        let result = unsafe {
            EVP_CipherInit_ex(
                self.context.as_ptr(),
                ptr::null(),
                ptr::null_mut(),
                ptr::null(),
                iv.as_ptr(),
                direction as c_int,
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Switches the padding of CBC off.
    pub(crate) fn without_padding(&mut self) -> Result<(), CryptoError> {
        self.block = BLOCK_U32;
        // SAFETY: the context is valid.
        let result = unsafe { EVP_CIPHER_CTX_set_padding(self.context.as_ptr(), 0) };
        check(result, CryptoError::Failed)
    }

    /// Announces the length of a CCM message.
    pub(crate) fn set_message_len(&mut self, len: usize) -> Result<(), CryptoError> {
        let len = c_int::try_from(len).map_err(|_| CryptoError::Failed)?;
        let mut written = 0;
        // SAFETY: without input and output only the length is noted.
        let result = unsafe {
            EVP_CipherUpdate(
                self.context.as_ptr(),
                ptr::null_mut(),
                &raw mut written,
                ptr::null(),
                len,
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Adds additional data of an AEAD.
    pub(crate) fn add_aad(&mut self, aad: &[u8]) -> Result<(), CryptoError> {
        let (len, mut written) = (length(aad)?, 0);
        // SAFETY: without output the input, of which so many bytes are read, is additional data.
        let result = unsafe {
            EVP_CipherUpdate(
                self.context.as_ptr(),
                ptr::null_mut(),
                &raw mut written,
                aad.as_ptr(),
                len,
            )
        };
        check(result, CryptoError::Failed)
    }

    /// Encrypts or decrypts in place; with CBC, whole blocks.
    pub(crate) fn update_in_place(&mut self, text: &mut [u8]) -> Result<(), CryptoError> {
        self.update(Output::InPlace(text))
    }

    /// Encrypts or decrypts `from` to `to`, which is as long.
    pub(crate) fn update_to(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), CryptoError> {
        if from.len() != to.len() {
            return Err(CryptoError::Failed);
        }
        self.update(Output::Separate(from, to))
    }

    fn update(&mut self, output: Output<'_>) -> Result<(), CryptoError> {
        let (from, to, len) = match output {
            Output::InPlace(text) => (text.as_ptr(), text.as_mut_ptr(), length(text)?),
            Output::Separate(from, to) => (from.as_ptr(), to.as_mut_ptr(), length(from)?),
        };
        if !len.unsigned_abs().is_multiple_of(self.block) {
            return Err(CryptoError::Failed);
        }
        let mut written = 0;
        // SAFETY: `from` has `len` bytes, and so has `to`. They are the same or don't overlap. GCM
        // and CCM write as much as they read. So does CBC without padding that got whole blocks
        // only, because then it holds nothing back.
        let result =
            unsafe { EVP_CipherUpdate(self.context.as_ptr(), to, &raw mut written, from, len) };
        check(result, CryptoError::BadTag)?;
        if written == len {
            Ok(())
        } else {
            Err(CryptoError::Failed)
        }
    }

    /// Ends a message of GCM, and compares the tag if it was decrypted.
    pub(crate) fn finish(&mut self) -> Result<(), CryptoError> {
        let (mut last, mut written) = ([0; BLOCK], 0);
        // SAFETY: it writes a block at most.
        let result = unsafe {
            EVP_CipherFinal_ex(self.context.as_ptr(), last.as_mut_ptr(), &raw mut written)
        };
        check(result, CryptoError::BadTag)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it is valid, and not used any more.
        unsafe { EVP_CIPHER_CTX_free(self.context.as_ptr()) }
    }
}

const BLOCK_U32: u32 = 16;
const _: () = assert!(BLOCK_U32 as usize == BLOCK);

fn length(bytes: &[u8]) -> Result<c_int, CryptoError> {
    c_int::try_from(bytes.len()).map_err(|_| CryptoError::Failed)
}

//! aws-lc's AEADs that are the record protection of TLS before AEADs.

use core::mem::MaybeUninit;
use core::ptr;

use aws_lc_sys::{
    EVP_AEAD, EVP_AEAD_CTX, EVP_AEAD_CTX_cleanup, EVP_AEAD_CTX_init_with_direction,
    EVP_AEAD_CTX_open, EVP_AEAD_CTX_seal_scatter, EVP_AEAD_CTX_zero,
    evp_aead_direction_t_evp_aead_open, evp_aead_direction_t_evp_aead_seal,
};

use crate::context::Direction;
use crate::{BLOCK, CryptoError, check};

/// An `EVP_AEAD_CTX` of CBC with an HMAC, for one direction.
pub(crate) struct CbcAead(Box<EVP_AEAD_CTX>);

// SAFETY: aws-lc's contexts belong to no thread; sealing and opening change them, so they take
// `&mut`.
unsafe impl Send for CbcAead {}

impl CbcAead {
    /// Expands `keys`: the key of the MAC and that of AES, one behind the other.
    ///
    /// # Safety
    ///
    /// `aead` is one of aws-lc's AEADs whose name ends with `_tls`, for CBC and with explicit IVs.
    pub(crate) unsafe fn new(
        aead: *const EVP_AEAD,
        keys: &[u8],
        direction: Direction,
    ) -> Result<Self, CryptoError> {
        let mut context = Box::new(MaybeUninit::<EVP_AEAD_CTX>::uninit());
        // SAFETY: it writes to the memory that it gets.
        unsafe { EVP_AEAD_CTX_zero(context.as_mut_ptr()) };
        // SAFETY: zeroes are a context that needs no cleanup.
        let mut context = Self(unsafe { context.assume_init() });
        let direction = match direction {
            Direction::Decrypt => evp_aead_direction_t_evp_aead_open,
            Direction::Encrypt => evp_aead_direction_t_evp_aead_seal,
        };
        // SAFETY: the context is zeroed, the AEAD is static, and the length of the keys is checked.
        let result = unsafe {
            EVP_AEAD_CTX_init_with_direction(
                &raw mut *context.0,
                aead,
                keys.as_ptr(),
                keys.len(),
                0,
                direction,
            )
        };
        check(result, CryptoError::Failed)?;
        Ok(context)
    }

    /// Encrypts `from`, or what is in `body`, to `body`, and MAC and padding to `tail`.
    pub(crate) fn seal(
        &mut self,
        iv: &[u8; BLOCK],
        header: &[u8; HEADER_LEN],
        from: Option<&[u8]>,
        body: &mut [u8],
        tail: &mut [u8],
    ) -> Result<(), CryptoError> {
        let from = match from {
            Some(from) if from.len() != body.len() => return Err(CryptoError::Failed),
            Some(from) => from.as_ptr(),
            None => body.as_ptr(),
        };
        let mut written = 0;
        // SAFETY: `from` has as many bytes as `body`, and is the same or doesn't overlap it; `tail`
        // has the room that it says. IV and header have the lengths that are checked. The context
        // is behind `&mut`, although the function changes it behind a const pointer.
        let result = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                &raw const *self.0,
                body.as_mut_ptr(),
                tail.as_mut_ptr(),
                &raw mut written,
                tail.len(),
                iv.as_ptr(),
                iv.len(),
                from,
                body.len(),
                ptr::null(),
                0,
                header.as_ptr(),
                header.len(),
            )
        };
        check(result, CryptoError::Failed)?;
        if written == tail.len() {
            Ok(())
        } else {
            Err(CryptoError::Failed)
        }
    }

    /// Decrypts in place and checks padding and MAC in constant time. Returns the bytes of content.
    pub(crate) fn open(
        &mut self,
        iv: &[u8; BLOCK],
        header: &[u8; HEADER_LEN],
        text: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let mut written = 0;
        // SAFETY: input and output are the same memory, of so many bytes. IV and header have the
        // lengths that are checked. As above, the context is behind `&mut`.
        let result = unsafe {
            EVP_AEAD_CTX_open(
                &raw const *self.0,
                text.as_mut_ptr(),
                &raw mut written,
                text.len(),
                iv.as_ptr(),
                iv.len(),
                text.as_ptr(),
                text.len(),
                header.as_ptr(),
                header.len(),
            )
        };
        check(result, CryptoError::BadTag)?;
        if written <= text.len() {
            Ok(written)
        } else {
            Err(CryptoError::Failed)
        }
    }
}

impl Drop for CbcAead {
    fn drop(&mut self) {
        // SAFETY: the context is initialised, or zeroes.
        unsafe { EVP_AEAD_CTX_cleanup(&raw mut *self.0) }
    }
}

/// Bytes of what the MAC covers in front of the length: number, type and version.
pub(crate) const HEADER_LEN: usize = 11;

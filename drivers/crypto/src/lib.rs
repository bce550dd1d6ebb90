//! Ciphers of aws-lc that aws-lc-rs has no safe interface for. No DPDK.
//!
//! All calls to aws-lc-sys are in this crate, so that the record layer has no `unsafe`. It uses the
//! copy of aws-lc that aws-lc-rs links.
//!
//! # What it owns
//!
//! - [`CbcKey`]: TLS records of AES-CBC with an HMAC, MAC then encrypt.
//! - [`CcmKey`]: AES-CCM with a nonce of 12 bytes and a tag of 16 or 8.
//! - [`GcmKey`]: AES-GCM, opened piece by piece into one output.
//!
//! # Invariants
//!
//! - A key belongs to one thread at a time: sealing and opening change aws-lc's context, so they
//!   take `&mut self`.
//! - Padding and MAC of CBC are checked in constant time, by aws-lc: which of them is wrong, and
//!   how long the padding is, doesn't show in the time that a record takes (the "Lucky Thirteen"
//!   attack).
//! - No plaintext that isn't authentic is returned: after an error the output is zeroes or still
//!   ciphertext.
//! - aws-lc wipes expanded keys when it frees them.
//! - No input can cause a panic, and nothing is allocated per record, except for the two CBC suites
//!   that aws-lc has no AEAD for.
//!
//! # Example
//!
//! ```
//! use lockgate_crypto::{CbcKey, CbcSuite};
//!
//! # fn main() -> Result<(), lockgate_crypto::CryptoError> {
//! let mut key = CbcKey::new(CbcSuite::Aes128Sha1, &[1; 16], &[2; 20])?;
//! let (iv, header) = ([3; 16], [0; 11]);
//! let mut record = *b"some content, and room for MAC and padding......";
//! let (body, tail) = record.split_at_mut(12);
//! key.seal(&iv, &header, None, body, tail)?;
//! assert_eq!(key.open(&iv, &header, &mut record)?, 12);
//! assert_eq!(&record[..12], b"some content");
//! # Ok(())
//! # }
//! ```

mod aead;
mod cbc;
mod ccm;
mod context;
mod gcm;

pub use cbc::{CbcKey, CbcSuite};
pub use ccm::CcmKey;
pub use gcm::{GcmKey, GcmOpen};

use thiserror::Error;

/// Why a cipher refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CryptoError {
    /// The input isn't authentic.
    #[error("authentication failed")]
    BadTag,
    /// A key, tag or output of the wrong length, or aws-lc is out of memory.
    #[error("the cipher failed")]
    Failed,
}

/// Bytes of a block of AES, and of the IV of CBC.
pub const BLOCK: usize = 16;
/// Bytes of a nonce of GCM and CCM.
pub const NONCE_LEN: usize = 12;

/// Turns the result of a function of aws-lc into an error: 1 is success.
fn check(result: core::ffi::c_int, error: CryptoError) -> Result<(), CryptoError> {
    if result == 1 { Ok(()) } else { Err(error) }
}

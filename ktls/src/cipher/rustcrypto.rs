//! The backend on RustCrypto's `aes-gcm` and `chacha20poly1305`. Tests compare it with aws-lc-rs.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::table::KeyTable;
use super::{OpenInputs, OpenJob, RecordCipher, SealInputs, SealJob};
use crate::error::CryptoError;
use crate::session::{Session, SessionId};
use crate::suite::{NONCE_LEN, PLAINTEXT_MAX, Params, Suite, TAG};

/// Seals in a scratch buffer, because its AEADs need one contiguous buffer.
pub(super) struct RustCrypto {
    keys: KeyTable<Key>,
    scratch: Vec<u8>,
}

/// An expanded key, in a box so that it isn't copied when it moves. Wiped when dropped.
enum Key {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
    Chacha20(Box<ChaCha20Poly1305>),
}

impl RustCrypto {
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            keys: KeyTable::new(keys_max),
            scratch: Vec::with_capacity(PLAINTEXT_MAX + 1),
        }
    }
}

impl RecordCipher for RustCrypto {
    fn name(&self) -> &'static str {
        NAME
    }

    fn priority(&self) -> u8 {
        10
    }

    fn supports(&self, _params: Params) -> bool {
        true
    }

    fn seal(
        &mut self,
        session: &Session,
        jobs: &mut dyn Iterator<Item = SealJob<'_>>,
    ) -> Result<(), CryptoError> {
        let params = session.params();
        let expanded = self
            .keys
            .get(session, |keys| Key::new(session, keys.key()))?;
        for job in jobs {
            let inputs = SealInputs::new(params, &expanded.iv, &job)?;
            self.scratch.clear();
            self.scratch.extend_from_slice(job.from.unwrap_or(job.body));
            self.scratch.extend_from_slice(inputs.extra());
            let sealed = expanded.key.seal(&inputs, &mut self.scratch);
            let tag = sealed.inspect_err(|_| self.scratch.zeroize())?;
            let (body, extra) = self.scratch.split_at(job.body.len());
            let (inner_type, rest) = job.tail.split_at_mut(extra.len());
            job.body.copy_from_slice(body);
            inner_type.copy_from_slice(extra);
            rest.copy_from_slice(&tag);
        }
        Ok(())
    }

    fn open(&mut self, session: &Session, job: OpenJob<'_>) -> Result<usize, CryptoError> {
        let expanded = self
            .keys
            .get(session, |keys| Key::new(session, keys.key()))?;
        let inputs = OpenInputs::new(session.params(), &expanded.iv, &job)?;
        let (text, tag) = job
            .body
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(CryptoError::BadTag)?;
        expanded.key.open(&inputs, text, tag)?;
        Ok(text.len())
    }

    fn forget(&mut self, id: SessionId) {
        self.keys.forget(id);
    }
}

impl Key {
    fn new(session: &Session, key: &[u8]) -> Result<Self, CryptoError> {
        let bad = |_| CryptoError::Backend;
        Ok(match session.params().suite {
            Suite::Aes128Gcm => {
                Self::Aes128(Box::new(Aes128Gcm::new_from_slice(key).map_err(bad)?))
            }
            Suite::Aes256Gcm => {
                Self::Aes256(Box::new(Aes256Gcm::new_from_slice(key).map_err(bad)?))
            }
            Suite::Chacha20Poly1305 => Self::Chacha20(Box::new(
                ChaCha20Poly1305::new_from_slice(key).map_err(bad)?,
            )),
        })
    }

    fn seal(&self, inputs: &SealInputs, text: &mut [u8]) -> Result<[u8; TAG_LEN], CryptoError> {
        let (nonce, aad) = (inputs.nonce[..NONCE_LEN].into(), inputs.aad.as_ref());
        match self {
            Self::Aes128(key) => key.encrypt_in_place_detached(nonce, aad, text),
            Self::Aes256(key) => key.encrypt_in_place_detached(nonce, aad, text),
            Self::Chacha20(key) => key.encrypt_in_place_detached(nonce, aad, text),
        }
        .map(Into::into)
        .map_err(|_| CryptoError::Backend)
    }

    fn open(
        &self,
        inputs: &OpenInputs,
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        let (nonce, aad) = (inputs.nonce[..NONCE_LEN].into(), inputs.aad.as_ref());
        let tag = tag.into();
        match self {
            Self::Aes128(key) => key.decrypt_in_place_detached(nonce, aad, text, tag),
            Self::Aes256(key) => key.decrypt_in_place_detached(nonce, aad, text, tag),
            Self::Chacha20(key) => key.decrypt_in_place_detached(nonce, aad, text, tag),
        }
        .map_err(|_| CryptoError::BadTag)
    }
}

impl Drop for Key {
    /// Overwrites what the crates leave: `polyval` keeps GHASH's key in a union, which nothing
    /// wipes.
    fn drop(&mut self) {
        match self {
            Self::Aes128(key) => overwrite(key.as_mut(), Aes128Gcm::new(&[0_u8; 16].into())),
            Self::Aes256(key) => overwrite(key.as_mut(), Aes256Gcm::new(&[0_u8; 32].into())),
            Self::Chacha20(_) => {}
        }
    }
}

// AES's round keys and ChaCha20's key are wiped by their own types, GHASH's key above.
impl ZeroizeOnDrop for Key {}

/// Replaces a value where it is, even if nothing reads it afterwards.
fn overwrite<T>(place: &mut T, value: T) {
    *place = value;
    core::hint::black_box(place);
}

pub(super) const NAME: &str = "rustcrypto";
/// Bytes of the tag of every AEAD here.
const TAG_LEN: usize = TAG as usize;

#[cfg(test)]
mod tests {
    use super::*;

    /// The crates' features that wipe keys are on: without them, this doesn't compile.
    #[test]
    fn expanded_keys_are_wiped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<aes::Aes128>();
        wiped::<aes::Aes256>();
        wiped::<ChaCha20Poly1305>();
        wiped::<Key>();
        assert!(size_of::<Key>() <= 16, "it moves by pointer");
    }

    #[test]
    fn a_key_is_overwritten_in_place() {
        struct Noted<'a>(u8, &'a core::cell::Cell<u8>);
        impl Drop for Noted<'_> {
            fn drop(&mut self) {
                self.1.set(self.0);
            }
        }
        let dropped = core::cell::Cell::new(0);
        let mut place = Noted(1, &dropped);
        overwrite(&mut place, Noted(2, &dropped));
        assert_eq!((place.0, dropped.get()), (2, 1), "the old one was dropped");
    }
}

//! The backend on RustCrypto's `aes-gcm` and `chacha20poly1305`. Tests compare it with aws-lc-rs.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use pktbuf::SealParts;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::table::{Expanded, KeyTable};
use super::{OpenInputs, RecordCipher, SealInputs};
use crate::error::CryptoError;
use crate::job::{OpenJob, OpenParts, SealJob};
use crate::session::{Session, SessionId};
use crate::suite::{CipherKind, NONCE_LEN, PLAINTEXT_MAX, Params, Suite, TAG};

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

    fn supports(&self, params: Params) -> bool {
        match params.suite.kind() {
            CipherKind::Gcm | CipherKind::Chacha20 => params.is_defined(),
            CipherKind::Ccm | CipherKind::Cbc => false,
        }
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let (session, params) = (first.session(), first.session().params());
        let Expanded { key, iv } = self
            .keys
            .get(session, |keys| Key::new(session, keys.key()))?;
        for job in run {
            let result = seal(params, key, iv, job.parts(), &mut self.scratch);
            job.set_result(result)?;
        }
        Ok(())
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        let session = job.session();
        let params = session.params();
        let Expanded { key, iv } = self
            .keys
            .get(session, |keys| Key::new(session, keys.key()))?;
        let result = job.parts().and_then(|parts| open(params, key, iv, parts));
        job.set_result(result)
    }

    fn forget(&mut self, id: SessionId) {
        self.keys.forget(id);
    }
}

/// Seals one record by way of `scratch`. If it fails, the record is as it was.
fn seal(
    params: Params,
    key: &Key,
    iv: &[u8; NONCE_LEN],
    parts: SealParts<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let inputs = SealInputs::new(params, iv, &parts)?;
    scratch.clear();
    scratch.extend_from_slice(parts.from.unwrap_or(parts.body));
    scratch.extend_from_slice(inputs.extra());
    let sealed = key.seal(&inputs, scratch);
    let tag = sealed.inspect_err(|_| scratch.zeroize())?;
    let (body, extra) = scratch.split_at(parts.body.len());
    let (inner_type, rest) = parts.tail.split_at_mut(extra.len());
    parts.body.copy_from_slice(body);
    inner_type.copy_from_slice(extra);
    rest.copy_from_slice(&tag);
    Ok(())
}

fn open(
    params: Params,
    key: &Key,
    iv: &[u8; NONCE_LEN],
    parts: OpenParts<'_>,
) -> Result<usize, CryptoError> {
    let inputs = OpenInputs::new(params, iv, &parts)?;
    let (text, tag) = parts
        .body
        .split_last_chunk_mut::<TAG_LEN>()
        .ok_or(CryptoError::BadTag)?;
    key.open(&inputs, text, tag)?;
    Ok(text.len())
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
            Suite::Aes128Ccm
            | Suite::Aes256Ccm
            | Suite::Aes128Ccm8
            | Suite::Aes128CbcSha1
            | Suite::Aes256CbcSha1
            | Suite::Aes128CbcSha256
            | Suite::Aes256CbcSha256
            | Suite::Aes128CbcSha384
            | Suite::Aes256CbcSha384 => return Err(CryptoError::Unsupported),
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

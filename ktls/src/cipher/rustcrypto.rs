//! The backend on RustCrypto's `aes-gcm` and `chacha20poly1305`. Tests compare it with aws-lc-rs.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use zeroize::Zeroize;

use super::table::KeyTable;
use super::{OpenInputs, OpenJob, RecordCipher, SealInputs, SealJob};
use crate::error::CryptoError;
use crate::session::{Session, SessionId};
use crate::suite::{NONCE_LEN, PLAINTEXT_MAX, Params, Suite, TAG_LEN};

/// Seals in a scratch buffer, because its AEADs need one contiguous buffer.
pub(super) struct RustCrypto {
    keys: KeyTable<Key>,
    scratch: Vec<u8>,
}

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

pub(super) const NAME: &str = "rustcrypto";

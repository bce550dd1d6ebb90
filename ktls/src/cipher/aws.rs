//! aws-lc-rs: the backend of choice.

use aws_lc_rs::aead::{self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::table::KeyTable;
use super::{OpenInputs, OpenJob, RecordCipher, SealInputs, SealJob};
use crate::error::CryptoError;
use crate::session::{Session, SessionId};
use crate::suite::{Params, Suite, TAG_LEN};

/// Seals out of place from page-cache pages in one pass, in place otherwise.
///
/// `TlsRecordSealingKey` would check that nonces only go forward; but a record may have to be
/// sealed again, with the same bytes, so the nonces are ours to keep unique.
pub(super) struct AwsLcRs {
    keys: KeyTable<LessSafeKey>,
}

impl AwsLcRs {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { keys: KeyTable::new(keys_max) }
    }
}

impl RecordCipher for AwsLcRs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn priority(&self) -> u8 {
        20
    }

    fn takes(&self, _params: Params) -> bool {
        true
    }

    fn seal(&mut self, session: &Session, job: SealJob<'_>) -> Result<(), CryptoError> {
        let expanded = self.keys.get(session, |keys| expand(session, keys.key()))?;
        let inputs = SealInputs::new(session.params(), &expanded.iv, &job)?;
        let nonce = Nonce::assume_unique_for_key(inputs.nonce);
        let aad = aead::Aad::from(&inputs.aad);
        let key = &expanded.key;
        match job.from {
            Some(from) => key.seal_out_of_place_scatter(
                nonce,
                aad,
                from,
                job.body,
                inputs.extra(),
                job.tail,
            ),
            None => key.seal_in_place_scatter(nonce, aad, job.body, inputs.extra(), job.tail),
        }
        .map_err(|_| CryptoError::Backend)
    }

    fn open(&mut self, session: &Session, job: OpenJob<'_>) -> Result<usize, CryptoError> {
        let expanded = self.keys.get(session, |keys| expand(session, keys.key()))?;
        let inputs = OpenInputs::new(session.params(), &expanded.iv, &job)?;
        let nonce = Nonce::assume_unique_for_key(inputs.nonce);
        let len = job.body.len() - TAG_LEN;
        expanded
            .key
            .open_in_place(nonce, aead::Aad::from(&inputs.aad), job.body)
            .map_err(|_| CryptoError::BadTag)?;
        Ok(len)
    }

    fn forget(&mut self, id: SessionId) {
        self.keys.forget(id);
    }
}

pub(super) const NAME: &str = "aws-lc-rs";

fn expand(session: &Session, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    let algorithm = match session.params().suite {
        Suite::Aes128Gcm => &AES_128_GCM,
        Suite::Aes256Gcm => &AES_256_GCM,
        Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
    };
    let key = UnboundKey::new(algorithm, key).map_err(|_| CryptoError::Backend)?;
    Ok(LessSafeKey::new(key))
}

//! The aws-lc-rs backend, which is preferred.

use core::fmt;

use aws_lc_rs::aead::{
    self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use pktbuf::SealParts;

use super::table::{Expanded, KeyTable};
use super::{OpenInputs, RecordCipher, SealInputs};
use crate::error::CryptoError;
use crate::job::{OpenJob, OpenParts, SealJob};
use crate::session::{Session, SessionId};
use crate::suite::{CipherKind, NONCE_LEN, Params, Suite};

/// Seals page-cache pages out of place in one pass, and other records in place.
///
/// aws-lc keeps an expanded key on its heap and wipes it when it frees it.
///
/// `TlsRecordSealingKey` would check that nonces increase. It isn't used, because a record that is
/// cut before it was sealed gives its number back; the send queue keeps nonces unique.
pub(super) struct AwsLcRs {
    keys: KeyTable<LessSafeKey>,
}

impl AwsLcRs {
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            keys: KeyTable::new(keys_max),
        }
    }
}

impl RecordCipher for AwsLcRs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn priority(&self) -> u8 {
        20
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
        let Expanded { key, iv } = self.keys.get(session, |keys| expand(session, keys.key()))?;
        for job in run {
            let result = seal(params, key, iv, job.parts());
            job.set_result(result)?;
        }
        Ok(())
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        let session = job.session();
        let params = session.params();
        let expanded = self.keys.get(session, |keys| expand(session, keys.key()))?;
        let result = job.parts().and_then(|parts| open(params, expanded, parts));
        job.set_result(result)
    }

    fn forget(&mut self, id: SessionId) {
        self.keys.forget(id);
    }
}

/// Opens records outside of the record layer: those that end a handshake. It has its own expanded
/// key, which no table holds, and counts nothing.
pub struct RecordOpener {
    params: Params,
    expanded: Expanded<LessSafeKey>,
}

impl RecordOpener {
    /// Expands the session's key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Backend`] if the cipher refuses the key.
    pub fn new(session: &Session) -> Result<Self, CryptoError> {
        let keys = session.keys();
        Ok(Self {
            params: session.params(),
            expanded: Expanded::new(expand(session, keys.key())?, &keys),
        })
    }

    /// Returns suite and version.
    pub fn params(&self) -> Params {
        self.params
    }

    /// Opens one record in place. Returns the length of the plaintext.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if the record is not authentic.
    pub fn open(&self, parts: OpenParts<'_>) -> Result<usize, CryptoError> {
        open(self.params, &self.expanded, parts)
    }
}

impl fmt::Debug for RecordOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordOpener({}, key withheld)", self.params)
    }
}

pub(super) const NAME: &str = "aws-lc-rs";

fn seal(
    params: Params,
    key: &LessSafeKey,
    iv: &[u8; NONCE_LEN],
    parts: SealParts<'_>,
) -> Result<(), CryptoError> {
    let inputs = SealInputs::new(params, iv, &parts)?;
    let nonce = Nonce::assume_unique_for_key(inputs.nonce);
    let (aad, extra) = (aead::Aad::from(&inputs.aad), inputs.extra());
    let SealParts { body, tail, .. } = parts;
    match parts.from {
        Some(from) => key.seal_out_of_place_scatter(nonce, aad, from, body, extra, tail),
        None => key.seal_in_place_scatter(nonce, aad, body, extra, tail),
    }
    .map_err(|_| CryptoError::Backend)
}

fn open(
    params: Params,
    expanded: &Expanded<LessSafeKey>,
    parts: OpenParts<'_>,
) -> Result<usize, CryptoError> {
    let inputs = OpenInputs::new(params, &expanded.iv, &parts)?;
    let nonce = Nonce::assume_unique_for_key(inputs.nonce);
    let plaintext = expanded
        .key
        .open_in_place(nonce, aead::Aad::from(&inputs.aad), parts.body)
        .map_err(|_| CryptoError::BadTag)?;
    Ok(plaintext.len())
}

fn expand(session: &Session, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    let algorithm = match session.params().suite {
        Suite::Aes128Gcm => &AES_128_GCM,
        Suite::Aes256Gcm => &AES_256_GCM,
        Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
        Suite::Aes128Ccm
        | Suite::Aes256Ccm
        | Suite::Aes128Ccm8
        | Suite::Aes128CbcSha1
        | Suite::Aes256CbcSha1
        | Suite::Aes128CbcSha256
        | Suite::Aes256CbcSha256
        | Suite::Aes128CbcSha384
        | Suite::Aes256CbcSha384 => return Err(CryptoError::Unsupported),
    };
    let key = UnboundKey::new(algorithm, key).map_err(|_| CryptoError::Backend)?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Version;
    use crate::testing::hex;

    /// Test case 16 of the GCM submission to NIST, and RFC 8439, section 2.8.2.
    #[test]
    fn published_vectors() {
        let rows = [
            (
                Suite::Aes256Gcm,
                "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
                "cafebabefacedbaddecaf888",
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                hex(
                    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
                ),
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                 8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
            (
                Suite::Chacha20Poly1305,
                "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
                "070000004041424344454647",
                "50515253c0c1c2c3c4c5c6c7",
                b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                  the future, sunscreen would be it."
                    .to_vec(),
                "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
                 3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
                 92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
                 3ff4def08e4b7a9de576d26586cec64b6116",
                "1ae10b594f09e26a7e902ecbd0600691",
            ),
        ];
        for (suite, key, nonce, aad, plaintext, ciphertext, tag) in rows {
            let params = Params::new(suite, Version::Tls12);
            let session = Session::from_key(params, &hex(key), &[0; NONCE_LEN]).unwrap();
            let key = expand(&session, session.keys().key()).unwrap();
            let nonce = Nonce::try_assume_unique_for_key(&hex(nonce)).unwrap();
            let (mut body, mut tail) = (vec![0; plaintext.len()], [0; 16]);
            let aad = aead::Aad::from(hex(aad));
            key.seal_out_of_place_scatter(nonce, aad, &plaintext, &mut body, &[], &mut tail)
                .unwrap();
            assert_eq!(body, hex(ciphertext), "{params}");
            assert_eq!(tail[..], hex(tag), "{params}");
        }
    }
}

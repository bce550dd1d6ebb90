//! The aws-lc backend, which is preferred: aws-lc-rs, and lockgate-crypto for what that lacks.

use core::fmt;

use aws_lc_rs::aead::{
    self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use lockgate_crypto::{CbcKey, CbcSuite, CcmKey};
use pktbuf::SealParts;
use zeroize::Zeroize;

use super::table::{Expanded, KeyTable};
use super::{OpenInputs, RecordCipher, SealInputs};
use crate::codec::Aad;
use crate::error::CryptoError;
use crate::job::{OpenJob, OpenParts, SealJob};
use crate::session::{Keys, Session, SessionId};
use crate::suite::{CipherKind, HEADER_LEN, IV_LEN, NONCE_LEN, PLAINTEXT_MAX, Params, Suite};

/// Seals page-cache pages out of place in one pass, and other records in place.
///
/// aws-lc keeps an expanded key on its heap and wipes it when it frees it.
///
/// `TlsRecordSealingKey` would check that nonces increase. It isn't used, because a record that is
/// cut before it was sealed gives its number back; the send queue keeps nonces unique.
pub(super) struct AwsLcRs {
    keys: KeyTable<Key>,
    /// Memory of a CCM record, which has to be in one piece.
    scratch: Vec<u8>,
}

/// An expanded key. Each is a pointer to aws-lc's heap, or in a box, so that moving it leaves no
/// copy.
enum Key {
    Aead(LessSafeKey),
    Ccm(Box<CcmKey>),
    Cbc(Box<CbcKey>),
}

impl AwsLcRs {
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            keys: KeyTable::new(keys_max),
            scratch: Vec::new(),
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
        params.is_defined()
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let (session, params) = (first.session(), first.session().params());
        let Expanded { key, iv } = self.keys.get(session, |keys| Key::new(session, keys))?;
        for job in run {
            let result = match key {
                Key::Aead(key) => seal(params, key, iv, job.parts()),
                Key::Ccm(key) => seal_ccm(params, key, iv, job.parts(), &mut self.scratch),
                Key::Cbc(key) => {
                    let chained_iv = job.chained_iv();
                    seal_cbc(params, key, &chained_iv, job.parts())
                }
            };
            job.set_result(result)?;
        }
        Ok(())
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        let session = job.session();
        let params = session.params();
        let Expanded { key, iv } = self.keys.get(session, |keys| Key::new(session, keys))?;
        let result = job.parts().and_then(|parts| match key {
            Key::Aead(key) => open(params, key, iv, parts),
            Key::Ccm(key) => open_ccm(params, key, iv, parts),
            Key::Cbc(key) => open_cbc(params, key, parts),
        });
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
    /// [`CryptoError::Backend`] if the cipher refuses the key, [`CryptoError::Unsupported`] for
    /// suites that handshakes don't negotiate: CCM and CBC.
    pub fn new(session: &Session) -> Result<Self, CryptoError> {
        let keys = session.keys();
        Ok(Self {
            params: session.params(),
            expanded: Expanded::new(expand(session.params().suite, keys.key())?, &keys),
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
        open(self.params, &self.expanded.key, &self.expanded.iv, parts)
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
    key: &LessSafeKey,
    iv: &[u8; NONCE_LEN],
    parts: OpenParts<'_>,
) -> Result<usize, CryptoError> {
    let inputs = OpenInputs::new(params, iv, &parts)?;
    let nonce = Nonce::assume_unique_for_key(inputs.nonce);
    let plaintext = key
        .open_in_place(nonce, aead::Aad::from(&inputs.aad), parts.body)
        .map_err(|_| CryptoError::BadTag)?;
    Ok(plaintext.len())
}

/// Seals in `scratch`: CCM needs content and inner type in one piece.
fn seal_ccm(
    params: Params,
    key: &mut CcmKey,
    iv: &[u8; NONCE_LEN],
    parts: SealParts<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let inputs = SealInputs::new(params, iv, &parts)?;
    scratch.clear();
    // Never moved while it holds plaintext.
    scratch.reserve(PLAINTEXT_MAX + 1);
    scratch.extend_from_slice(parts.from.unwrap_or(parts.body));
    scratch.extend_from_slice(inputs.extra());
    let (inner_type, tag) = parts.tail.split_at_mut(inputs.extra().len());
    let sealed = key.seal(&inputs.nonce, inputs.aad.as_ref(), scratch, tag);
    if sealed.is_err() {
        scratch.zeroize();
        return Err(CryptoError::Backend);
    }
    let (body, extra) = scratch.split_at(parts.body.len());
    parts.body.copy_from_slice(body);
    inner_type.copy_from_slice(extra);
    Ok(())
}

fn open_ccm(
    params: Params,
    key: &mut CcmKey,
    iv: &[u8; NONCE_LEN],
    parts: OpenParts<'_>,
) -> Result<usize, CryptoError> {
    let inputs = OpenInputs::new(params, iv, &parts)?;
    let at = parts.body.len().checked_sub(params.suite.tag_len());
    let (text, tag) = parts.body.split_at_mut(at.ok_or(CryptoError::BadTag)?);
    key.open(&inputs.nonce, inputs.aad.as_ref(), text, tag)
        .map_err(crypto_error)?;
    Ok(text.len())
}

fn seal_cbc(
    params: Params,
    key: &mut CbcKey,
    chained_iv: &[u8; IV_LEN],
    parts: SealParts<'_>,
) -> Result<(), CryptoError> {
    // The AEAD's checks of the lengths hold for CBC as well.
    let inputs = SealInputs::new(params, &NO_NONCE, &parts)?;
    let iv = match params.shape().explicit_len {
        0 => chained_iv,
        _ => parts
            .head
            .as_bytes()
            .last_chunk()
            .ok_or(CryptoError::Backend)?,
    };
    let covered = mac_header(&inputs.aad)?;
    key.seal(iv, covered, parts.from, parts.body, parts.tail)
        .map_err(|_| CryptoError::Backend)
}

/// Records of TLS 1.0 aren't opened: `Params::can_receive`.
fn open_cbc(params: Params, key: &mut CbcKey, parts: OpenParts<'_>) -> Result<usize, CryptoError> {
    if !params.can_receive() {
        return Err(CryptoError::Unsupported);
    }
    let (header, iv) = parts
        .head
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(CryptoError::Backend)?;
    let iv = iv.try_into().map_err(|_| CryptoError::Backend)?;
    // The cipher knows the content's length when it has checked the padding.
    let aad = Aad::new(params, parts.number, *header, 0);
    key.open(iv, mac_header(&aad)?, parts.body)
        .map_err(crypto_error)
}

/// Returns what the MAC covers in front of the content's length: number, type and version.
fn mac_header(aad: &Aad) -> Result<&[u8; 11], CryptoError> {
    aad.as_ref().first_chunk().ok_or(CryptoError::Backend)
}

fn crypto_error(error: lockgate_crypto::CryptoError) -> CryptoError {
    match error {
        lockgate_crypto::CryptoError::BadTag => CryptoError::BadTag,
        lockgate_crypto::CryptoError::Failed => CryptoError::Backend,
    }
}

impl Key {
    fn new(session: &Session, keys: &Keys) -> Result<Self, CryptoError> {
        let suite = session.params().suite;
        let cbc = |suite| {
            let key = CbcKey::new(suite, keys.key(), keys.mac_key());
            Ok(Self::Cbc(Box::new(key.map_err(crypto_error)?)))
        };
        match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm | Suite::Chacha20Poly1305 => {
                expand(suite, keys.key()).map(Self::Aead)
            }
            Suite::Aes128Ccm | Suite::Aes256Ccm | Suite::Aes128Ccm8 => {
                let key = CcmKey::new(keys.key(), suite.tag_len());
                Ok(Self::Ccm(Box::new(key.map_err(crypto_error)?)))
            }
            Suite::Aes128CbcSha1 => cbc(CbcSuite::Aes128Sha1),
            Suite::Aes256CbcSha1 => cbc(CbcSuite::Aes256Sha1),
            Suite::Aes128CbcSha256 => cbc(CbcSuite::Aes128Sha256),
            Suite::Aes256CbcSha256 => cbc(CbcSuite::Aes256Sha256),
            Suite::Aes128CbcSha384 => cbc(CbcSuite::Aes128Sha384),
            Suite::Aes256CbcSha384 => cbc(CbcSuite::Aes256Sha384),
        }
    }
}

fn expand(suite: Suite, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    let algorithm = match suite.kind() {
        CipherKind::Gcm if suite.key_len() == 16 => &AES_128_GCM,
        CipherKind::Gcm => &AES_256_GCM,
        CipherKind::Chacha20 => &CHACHA20_POLY1305,
        CipherKind::Ccm | CipherKind::Cbc => return Err(CryptoError::Unsupported),
    };
    let key = UnboundKey::new(algorithm, key).map_err(|_| CryptoError::Backend)?;
    Ok(LessSafeKey::new(key))
}

const NO_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

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
            let key = expand(suite, session.keys().key()).unwrap();
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

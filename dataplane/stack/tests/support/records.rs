//! Raw keys, and a maker of records that shares no code with the record layer.

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt};
use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use aws_lc_rs::hmac;
use ccm::Ccm;
use ccm::consts::{U8, U12, U16};
use chacha20poly1305::ChaCha20Poly1305;
use lockgate_ktls::{AuthAlgorithm, CipherAlgorithm, TlsEnable};
use lockgate_testing::Random;

/// A suite of FreeBSD's `ktls_test.c`, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TestSuite {
    pub(crate) name: &'static str,
    pub(crate) cipher: CipherAlgorithm,
    pub(crate) key_len: usize,
    pub(crate) auth: Option<AuthAlgorithm>,
    /// 1 is TLS 1.0, 4 is TLS 1.3.
    pub(crate) minor: u8,
}

const fn aead(name: &'static str, cipher: CipherAlgorithm, key_len: usize, minor: u8) -> TestSuite {
    TestSuite {
        name,
        cipher,
        key_len,
        auth: None,
        minor,
    }
}

const fn cbc(name: &'static str, key_len: usize, auth: AuthAlgorithm, minor: u8) -> TestSuite {
    TestSuite {
        name,
        cipher: CipherAlgorithm::AesCbc,
        key_len,
        auth: Some(auth),
        minor,
    }
}

pub(crate) const GCM_128_12: TestSuite = aead("aes128_gcm_1_2", CipherAlgorithm::AesGcm, 16, 3);
pub(crate) const GCM_256_12: TestSuite = aead("aes256_gcm_1_2", CipherAlgorithm::AesGcm, 32, 3);
pub(crate) const GCM_128_13: TestSuite = aead("aes128_gcm_1_3", CipherAlgorithm::AesGcm, 16, 4);
pub(crate) const GCM_256_13: TestSuite = aead("aes256_gcm_1_3", CipherAlgorithm::AesGcm, 32, 4);
pub(crate) const CHACHA_12: TestSuite = aead(
    "chacha20_poly1305_1_2",
    CipherAlgorithm::Chacha20Poly1305,
    32,
    3,
);
pub(crate) const CHACHA_13: TestSuite = aead(
    "chacha20_poly1305_1_3",
    CipherAlgorithm::Chacha20Poly1305,
    32,
    4,
);
pub(crate) const CCM_128_12: TestSuite = aead("aes128_ccm_1_2", CipherAlgorithm::AesCcm, 16, 3);
pub(crate) const CCM_256_12: TestSuite = aead("aes256_ccm_1_2", CipherAlgorithm::AesCcm, 32, 3);
pub(crate) const CCM_128_13: TestSuite = aead("aes128_ccm_1_3", CipherAlgorithm::AesCcm, 16, 4);
const CCM8_12: TestSuite = aead("aes128_ccm8_1_2", CipherAlgorithm::AesCcm8, 16, 3);
const CCM8_13: TestSuite = aead("aes128_ccm8_1_3", CipherAlgorithm::AesCcm8, 16, 4);

/// The suites with an AEAD.
pub(crate) const AEAD_SUITES: [TestSuite; 11] = [
    GCM_128_12, GCM_256_12, GCM_128_13, GCM_256_13, CHACHA_12, CHACHA_13, CCM_128_12, CCM_256_12,
    CCM_128_13, CCM8_12, CCM8_13,
];

/// The suites with AES-CBC.
pub(crate) const CBC_SUITES: [TestSuite; 10] = [
    cbc("aes128_cbc_1_0_sha1", 16, AuthAlgorithm::HmacSha1, 1),
    cbc("aes256_cbc_1_0_sha1", 32, AuthAlgorithm::HmacSha1, 1),
    cbc("aes128_cbc_1_1_sha1", 16, AuthAlgorithm::HmacSha1, 2),
    cbc("aes256_cbc_1_1_sha1", 32, AuthAlgorithm::HmacSha1, 2),
    cbc("aes128_cbc_1_2_sha1", 16, AuthAlgorithm::HmacSha1, 3),
    cbc("aes256_cbc_1_2_sha1", 32, AuthAlgorithm::HmacSha1, 3),
    cbc("aes128_cbc_1_2_sha256", 16, AuthAlgorithm::HmacSha256, 3),
    cbc("aes256_cbc_1_2_sha256", 32, AuthAlgorithm::HmacSha256, 3),
    cbc("aes128_cbc_1_2_sha384", 16, AuthAlgorithm::HmacSha384, 3),
    cbc("aes256_cbc_1_2_sha384", 32, AuthAlgorithm::HmacSha384, 3),
];

/// The suites that the stack has.
pub(crate) fn suites() -> impl Iterator<Item = TestSuite> {
    CBC_SUITES.into_iter().chain(AEAD_SUITES)
}

impl TestSuite {
    pub(crate) fn is_cbc(&self) -> bool {
        self.cipher == CipherAlgorithm::AesCbc
    }

    /// The length of a record with so much content and as little padding as there can be.
    pub(crate) fn cbc_record_len(&self, content: usize) -> usize {
        self.head_len() + (content + self.auth_key_len() + 1).next_multiple_of(BLOCK)
    }

    pub(crate) const fn is_tls13(&self) -> bool {
        self.minor == 4
    }

    /// Whether each record has its explicit nonce: AES-GCM and AES-CCM of TLS 1.2.
    pub(crate) fn has_explicit_nonce(&self) -> bool {
        let is_chacha = self.cipher == CipherAlgorithm::Chacha20Poly1305;
        !self.is_cbc() && !is_chacha && self.minor == 3
    }

    /// Bytes of an AEAD's tag.
    pub(crate) fn tag_len(&self) -> usize {
        match self.cipher {
            CipherAlgorithm::AesCcm8 => 8,
            _ => 16,
        }
    }

    /// Bytes of header and explicit nonce or IV.
    pub(crate) fn head_len(&self) -> usize {
        let explicit = match self.cipher {
            CipherAlgorithm::AesCbc if self.minor > 1 => BLOCK,
            _ if self.has_explicit_nonce() => 8,
            _ => 0,
        };
        HEADER_LEN + explicit
    }

    /// The least length field: a record without content.
    pub(crate) fn length_min(&self) -> u16 {
        let length = match (self.is_cbc(), self.is_tls13()) {
            (true, _) => self.cbc_record_len(0) - HEADER_LEN,
            (_, true) => 1 + self.tag_len(),
            _ => self.head_len() - HEADER_LEN + self.tag_len(),
        };
        u16::try_from(length).unwrap()
    }

    pub(crate) fn auth_key_len(&self) -> usize {
        match self.auth {
            Some(AuthAlgorithm::HmacSha1) => 20,
            Some(AuthAlgorithm::HmacSha256) => 32,
            Some(AuthAlgorithm::HmacSha384) => 48,
            Some(AuthAlgorithm::Gmac) | None => 0,
        }
    }

    fn iv_len(&self) -> usize {
        match self.cipher {
            CipherAlgorithm::AesCbc => 16,
            _ if self.has_explicit_nonce() => 4,
            _ => 12,
        }
    }
}

/// Keys of one direction, and the end that uses them outside the stack.
#[derive(Debug, Clone)]
pub(crate) struct TestKeys {
    pub(crate) suite: TestSuite,
    key: Vec<u8>,
    iv: Vec<u8>,
    auth_key: Vec<u8>,
    /// Number of the next record.
    pub(crate) seq: u64,
}

impl TestKeys {
    /// Random keys, whose first record has a random number.
    pub(crate) fn new(suite: TestSuite, random: &mut Random) -> Self {
        Self {
            suite,
            key: random.bytes(suite.key_len),
            iv: random.bytes(suite.iv_len()),
            auth_key: random.bytes(suite.auth_key_len()),
            seq: random.next() >> 1,
        }
    }

    /// What the application gives to the stack.
    pub(crate) fn enable(&self) -> TlsEnable<'_> {
        TlsEnable {
            cipher: self.suite.cipher,
            cipher_key: &self.key,
            iv: &self.iv,
            auth: self.suite.auth,
            auth_key: &self.auth_key,
            flags: 0,
            version: [3, self.suite.minor],
            rec_seq: self.seq,
        }
    }

    /// The next record.
    pub(crate) fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.seal_padded(kind, content, 0)
    }

    /// The next record, with a byte of its tag or MAC altered.
    pub(crate) fn seal_bad_mac(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        if self.suite.is_cbc() {
            return self.seal_cbc(kind, content, 0, |plain, len| plain[len] ^= 1);
        }
        let mut record = self.seal(kind, content);
        *record.last_mut().unwrap() ^= 1;
        record
    }

    /// The next record, with a byte of its padding altered, of which there are two at least.
    pub(crate) fn seal_bad_padding(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.seal_cbc(kind, content, BLOCK, |plain, _| {
            let at = plain.len() - 2;
            plain[at] ^= 1;
        })
    }

    /// The next record, with more padding: in TLS 1.3 so many zeroes behind its type, with CBC so
    /// many bytes more than the least.
    pub(crate) fn seal_padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        if self.suite.is_cbc() {
            return self.seal_cbc(kind, content, padding, |_, _| ());
        }
        let mut inner = content.to_vec();
        if self.suite.is_tls13() {
            inner.push(kind);
            inner.resize(inner.len() + padding, 0);
        }
        self.seal_inner(kind, &inner)
    }

    /// The next record, with this plaintext as it is.
    pub(crate) fn seal_inner(&mut self, kind: u8, inner: &[u8]) -> Vec<u8> {
        let outer = if self.suite.is_tls13() { DATA } else { kind };
        let mut record = vec![outer, 3, 3, 0, 0];
        if self.suite.has_explicit_nonce() {
            // A sender chooses it: here no counter.
            record.extend_from_slice(&self.seq.rotate_left(7).to_be_bytes());
        }
        let nonce = self.nonce(&record[HEADER_LEN..]);
        let length = record.len() - HEADER_LEN + inner.len() + self.suite.tag_len();
        record[3..HEADER_LEN].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        let aad = self.aad(&record[..HEADER_LEN], inner.len());
        let sealed = self.aead(true, nonce, &aad, inner).unwrap();
        record.extend_from_slice(&sealed);
        self.seq = self.seq.wrapping_add(1);
        record
    }

    /// The records of a stream: type and content of each.
    pub(crate) fn open_all(&mut self, stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
        split_records(stream)
            .map(|record| self.open(record))
            .collect()
    }

    /// MAC, then encrypt. `change` alters content, MAC and padding; it gets the content's length.
    fn seal_cbc(
        &mut self,
        kind: u8,
        content: &[u8],
        padding: usize,
        change: impl FnOnce(&mut [u8], usize),
    ) -> Vec<u8> {
        let header = [kind, 3, self.suite.minor.min(3)];
        let mut plain = content.to_vec();
        plain.extend_from_slice(&self.mac(&header, content));
        let len = (plain.len() + 1).next_multiple_of(BLOCK) + padding;
        let last = u8::try_from(len - plain.len() - 1).unwrap();
        plain.resize(len, last);
        change(&mut plain, content.len());
        let mut iv = [0; BLOCK];
        iv.copy_from_slice(&self.iv);
        if self.suite.minor > 1 {
            // A sender chooses it.
            iv[..8].copy_from_slice(&self.seq.rotate_left(9).to_be_bytes());
        }
        let explicit = iv;
        for block in plain.chunks_exact_mut(BLOCK) {
            block
                .iter_mut()
                .zip(iv)
                .for_each(|(byte, mask)| *byte ^= mask);
            self.aes(true, block);
            iv.copy_from_slice(block);
        }
        self.iv.copy_from_slice(&iv);
        let explicit = &explicit[..self.suite.head_len() - HEADER_LEN];
        let length = u16::try_from(explicit.len() + plain.len()).unwrap();
        self.seq = self.seq.wrapping_add(1);
        [&header[..], &length.to_be_bytes(), explicit, &plain].concat()
    }

    fn open_cbc(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let (head, body) = record.split_at(self.suite.head_len());
        assert_eq!(head[1..3], [3, self.suite.minor], "the version");
        let mut iv = [0; BLOCK];
        iv.copy_from_slice(if self.suite.minor > 1 {
            &head[HEADER_LEN..]
        } else {
            &self.iv
        });
        let mut plain = body.to_vec();
        for block in plain.chunks_exact_mut(BLOCK) {
            let next: [u8; BLOCK] = (&*block).try_into().unwrap();
            self.aes(false, block);
            block
                .iter_mut()
                .zip(iv)
                .for_each(|(byte, mask)| *byte ^= mask);
            iv = next;
        }
        self.iv.copy_from_slice(&iv);
        let last = *plain.last().unwrap();
        assert!(
            usize::from(last) < BLOCK,
            "as little padding as there can be"
        );
        let padding = plain.split_off(plain.len() - usize::from(last) - 1);
        assert!(padding.iter().all(|byte| *byte == last));
        let mac = plain.split_off(plain.len() - self.suite.auth_key_len());
        assert_eq!(mac, self.mac(&head[..3], &plain), "a good MAC");
        self.seq = self.seq.wrapping_add(1);
        (head[0], plain)
    }

    fn mac(&self, header: &[u8], content: &[u8]) -> Vec<u8> {
        let algorithm = match self.suite.auth {
            Some(AuthAlgorithm::HmacSha1) => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Some(AuthAlgorithm::HmacSha256) => hmac::HMAC_SHA256,
            _ => hmac::HMAC_SHA384,
        };
        let mut mac = hmac::Context::with_key(&hmac::Key::new(algorithm, &self.auth_key));
        mac.update(&self.seq.to_be_bytes());
        mac.update(header);
        mac.update(&u16::try_from(content.len()).unwrap().to_be_bytes());
        mac.update(content);
        mac.sign().as_ref().to_vec()
    }

    fn aes(&self, encrypts: bool, block: &mut [u8]) {
        fn run<C: KeyInit + BlockEncrypt + BlockDecrypt>(
            key: &[u8],
            encrypts: bool,
            block: &mut [u8],
        ) {
            let cipher = C::new_from_slice(key).unwrap();
            let block = GenericArray::from_mut_slice(block);
            if encrypts {
                cipher.encrypt_block(block);
            } else {
                cipher.decrypt_block(block);
            }
        }
        if self.key.len() == 16 {
            run::<aes::Aes128>(&self.key, encrypts, block);
        } else {
            run::<aes::Aes256>(&self.key, encrypts, block);
        }
    }

    /// Opens the next record.
    pub(crate) fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        if self.suite.is_cbc() {
            return self.open_cbc(record);
        }
        let (head, body) = record.split_at(self.suite.head_len());
        assert_eq!(head[1..3], [3, 3], "the version");
        let nonce = self.nonce(&head[HEADER_LEN..]);
        let aad = self.aad(&head[..HEADER_LEN], body.len() - self.suite.tag_len());
        let mut inner = self.aead(false, nonce, &aad, body).expect("a good tag");
        let mut kind = head[0];
        if self.suite.is_tls13() {
            assert_eq!(kind, DATA, "the outer type");
            kind = inner.pop().unwrap();
            assert_ne!(kind, 0, "no padding is sent");
        }
        assert!(inner.len() <= 16_384);
        self.seq = self.seq.wrapping_add(1);
        (kind, inner)
    }

    fn nonce(&self, explicit: &[u8]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..self.iv.len()].copy_from_slice(&self.iv);
        if self.suite.has_explicit_nonce() {
            nonce[4..].copy_from_slice(explicit);
        } else {
            for (byte, mask) in nonce[4..].iter_mut().zip(self.seq.to_be_bytes()) {
                *byte ^= mask;
            }
        }
        nonce
    }

    fn aad(&self, header: &[u8], content: usize) -> Vec<u8> {
        if self.suite.is_tls13() {
            return header.to_vec();
        }
        let mut aad = self.seq.to_be_bytes().to_vec();
        aad.extend_from_slice(&header[..3]);
        aad.extend_from_slice(&u16::try_from(content).unwrap().to_be_bytes());
        aad
    }

    fn aead(&self, seals: bool, nonce: [u8; 12], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
        fn run<A: KeyInit + Aead>(
            key: &[u8],
            seals: bool,
            nonce: &[u8; 12],
            payload: Payload<'_, '_>,
        ) -> Option<Vec<u8>> {
            let aead = A::new_from_slice(key).unwrap();
            let nonce = Nonce::<A>::from_slice(nonce);
            if seals {
                aead.encrypt(nonce, payload).ok()
            } else {
                aead.decrypt(nonce, payload).ok()
            }
        }
        let payload = Payload { msg, aad };
        match (self.suite.cipher, self.key.len()) {
            (CipherAlgorithm::AesGcm, 16) => run::<Aes128Gcm>(&self.key, seals, &nonce, payload),
            (CipherAlgorithm::AesGcm, _) => run::<Aes256Gcm>(&self.key, seals, &nonce, payload),
            (CipherAlgorithm::AesCcm, 16) => {
                run::<Ccm<aes::Aes128, U16, U12>>(&self.key, seals, &nonce, payload)
            }
            (CipherAlgorithm::AesCcm, _) => {
                run::<Ccm<aes::Aes256, U16, U12>>(&self.key, seals, &nonce, payload)
            }
            (CipherAlgorithm::AesCcm8, _) => {
                run::<Ccm<aes::Aes128, U8, U12>>(&self.key, seals, &nonce, payload)
            }
            _ => run::<ChaCha20Poly1305>(&self.key, seals, &nonce, payload),
        }
    }
}

/// Cuts a stream into whole records.
pub(crate) fn split_records(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let &[_, _, _, high, low, ..] = rest else {
            assert!(rest.is_empty(), "half a record: {rest:?}");
            return None;
        };
        let len = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        let (record, more) = rest.split_at(len);
        rest = more;
        Some(record)
    })
}

pub(crate) const HEADER_LEN: usize = 5;
/// A block of AES.
const BLOCK: usize = 16;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
/// A type that no version of TLS has.
pub(crate) const CONTROL: u8 = 0x21;

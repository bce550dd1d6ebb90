//! What the tests of several modules share: memory, randomness, and a peer of its own making.

mod suites;

use std::sync::Arc;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{
    BlockCipher, BlockDecrypt, BlockDecryptMut, BlockEncrypt, BlockEncryptMut, KeyIvInit,
};
use ccm::consts::{U8, U12, U16};
use chacha20poly1305::ChaCha20Poly1305;
use hmac::{Hmac, Mac};
use lockgate_testing::Random;
use pktbuf::{
    Buffer, HeapBuffers, PageArena, PagePool, PoolConfig, Region, SharedSpan, Slices, Stream,
};

pub(crate) use self::suites::{
    before_tls13, cbc_nonzero, explicit, name, receiving, sending, tls13,
};
use crate::schedule;
use crate::{
    BackendChoice, Ciphers, ContentType, Limits, Params, RecordQueue, Session, Suite, Version,
};

/// The bytes of a hexadecimal string; blanks are skipped.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Memory and ciphers of one worker.
pub(crate) struct World {
    pub(crate) pool: PagePool,
    pub(crate) arena: PageArena,
    pub(crate) heap: HeapBuffers,
    pub(crate) ciphers: Ciphers,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_pool(PoolConfig {
            blocks: 256,
            small_spans: 64,
            large_spans: 64,
        })
    }

    pub(crate) fn with_pool(config: PoolConfig) -> Self {
        let arena_len = 1 << 20;
        let slack = 1 << 16;
        let mut region = Region::heap(PagePool::bytes_needed(config) + arena_len + slack).unwrap();
        Self {
            pool: PagePool::new(&mut region, config).unwrap(),
            arena: PageArena::new(&mut region, arena_len).unwrap(),
            heap: HeapBuffers::new(1024),
            ciphers: Ciphers::new(BackendChoice::Auto, 16),
        }
    }

    /// A span of the page cache.
    pub(crate) fn span(&self, bytes: &[u8]) -> Arc<SharedSpan> {
        let mut page = self.arena.alloc(bytes.len()).unwrap();
        page[..bytes.len()].copy_from_slice(bytes);
        page.freeze(bytes.len())
    }

    /// A stream of received buffers: `wire` cut at random, or as one buffer.
    pub(crate) fn chain(&mut self, wire: &[u8], rng: Option<&mut Random>) -> Stream<Buffer> {
        let mut chain = Stream::new();
        for buffer in self.buffers(wire, rng) {
            chain.push(buffer);
        }
        chain
    }

    pub(crate) fn buffers(&mut self, wire: &[u8], rng: Option<&mut Random>) -> Vec<Buffer> {
        let mut buffers = Vec::new();
        let mut rest = wire;
        let mut any = Random::new(1);
        let (rng, cut) = match rng {
            Some(rng) => (rng, true),
            None => (&mut any, false),
        };
        while !rest.is_empty() {
            let n = if cut {
                1 + rng.index(rest.len().min(1460))
            } else {
                rest.len()
            };
            let (piece, more) = rest.split_at(n);
            buffers.push(self.heap.alloc(piece).unwrap());
            rest = more;
        }
        buffers
    }

    /// Everything of the queue from `from` on, in bursts of random sizes, as it goes out.
    pub(crate) fn transmit(
        &mut self,
        queue: &mut RecordQueue,
        from: u64,
        rng: &mut Random,
    ) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut at = from;
        while at < queue.end() {
            let limits = Limits {
                bytes: u32::try_from(1 + rng.index(65536)).unwrap(),
                entries: u16::try_from(1 + rng.index(32)).unwrap(),
                mss: 1448,
            };
            let range = queue.clamp(&(at..queue.end()), &limits);
            assert!(
                range.start == at && range.end > at,
                "a burst that gets nowhere"
            );
            let ready = queue
                .prepare(&range, &mut self.ciphers, &mut self.pool)
                .unwrap();
            wire.extend_from_slice(&read(queue, at, ready));
            if ready == at {
                break;
            }
            at = ready;
        }
        wire
    }
}

/// The bytes of a range that was prepared.
pub(crate) fn read(queue: &RecordQueue, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        let mut slices = Slices::new(32);
        at = queue.slices(&(at..to), &mut slices);
        for slice in slices.as_slice() {
            bytes.extend_from_slice(slice.bytes().expect("only what is sealed goes out"));
        }
    }
    assert_eq!(bytes.len() as u64, to - from);
    bytes
}

/// The other end, written from the RFCs' words over RustCrypto's AEADs and sharing nothing with
/// the code under test but the key schedule's primitive.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) params: Params,
    pub(crate) number: u64,
    key: Vec<u8>,
    iv: [u8; 12],
    secret: Vec<u8>,
    mac_key: Vec<u8>,
    /// TLS 1.0: the end of the record before.
    chained_iv: [u8; 16],
}

impl Peer {
    /// A peer with random keys and a random record number, and the session that talks to it.
    pub(crate) fn new(params: Params, rng: &mut Random) -> (Self, Session) {
        let number = rng.next() >> 1;
        let mut key = rng.bytes(params.suite.key_len());
        let mut iv = rng.array();
        let secret = rng.bytes(params.suite.secret_len());
        let (mac_key, chained_iv) = (rng.bytes(params.suite.mac_key_len()), rng.array());
        let session = match params.version {
            _ if params.suite.is_cbc() => {
                Session::from_key_and_mac(params, &key, &mac_key, &chained_iv).unwrap()
            }
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                Session::from_key(params, &key, &iv).unwrap()
            }
            Version::Tls13 => {
                schedule::traffic_keys(params.suite, &secret, &mut key, &mut iv);
                Session::from_secret(params.suite, &secret).unwrap()
            }
        };
        (
            Self {
                params,
                number,
                key,
                iv,
                secret,
                mac_key,
                chained_iv,
            },
            session,
        )
    }

    /// Goes over to the next keys.
    pub(crate) fn rekey(&mut self) {
        let mut next = self.secret.clone();
        schedule::next_secret(self.params.suite, &self.secret, &mut next);
        schedule::traffic_keys(self.params.suite, &next, &mut self.key, &mut self.iv);
        self.secret = next;
        self.number = 0;
    }

    /// TLS 1.2 with an explicit nonce of 8 bytes: GCM and CCM.
    fn has_explicit_nonce(&self) -> bool {
        self.params.version == Version::Tls12 && self.params.suite != Suite::Chacha20Poly1305
    }

    fn minor(&self) -> u8 {
        match self.params.version {
            Version::Tls10 => 1,
            Version::Tls11 => 2,
            Version::Tls12 | Version::Tls13 => 3,
        }
    }

    /// AES-CBC without padding of its own.
    fn cbc(&self, seal: bool, iv: &[u8; 16], text: &[u8]) -> Vec<u8> {
        fn run<C>(seal: bool, key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8>
        where
            C: BlockEncryptMut + BlockDecryptMut + BlockCipher + BlockEncrypt + BlockDecrypt,
            cbc::Encryptor<C>: KeyIvInit + BlockEncryptMut,
            cbc::Decryptor<C>: KeyIvInit + BlockDecryptMut,
        {
            if seal {
                let cipher = cbc::Encryptor::<C>::new_from_slices(key, iv).unwrap();
                cipher.encrypt_padded_vec_mut::<NoPadding>(text)
            } else {
                let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).unwrap();
                cipher.decrypt_padded_vec_mut::<NoPadding>(text).unwrap()
            }
        }
        match self.key.len() {
            16 => run::<aes::Aes128>(seal, &self.key, iv, text),
            _ => run::<aes::Aes256>(seal, &self.key, iv, text),
        }
    }

    fn mac(&self, kind: u8, content: &[u8]) -> Vec<u8> {
        fn run<M: Mac + KeyInit>(key: &[u8], header: &[u8], content: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
            mac.update(header);
            mac.update(content);
            mac.finalize().into_bytes().to_vec()
        }
        let header = self.tls12_aad(kind, content.len());
        match self.mac_key.len() {
            20 => run::<Hmac<sha1::Sha1>>(&self.mac_key, &header, content),
            32 => run::<Hmac<sha2::Sha256>>(&self.mac_key, &header, content),
            _ => run::<Hmac<sha2::Sha384>>(&self.mac_key, &header, content),
        }
    }

    /// The next record of CBC since TLS 1.1, with so many bytes of padding more than the least.
    /// `change` gets content, MAC and padding before they are encrypted.
    pub(crate) fn seal_cbc(
        &mut self,
        kind: u8,
        content: &[u8],
        more: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> Vec<u8> {
        let mut text = content.to_vec();
        text.extend(self.mac(kind, content));
        let padding = 16 - text.len() % 16 + more;
        text.resize(text.len() + padding, u8::try_from(padding - 1).unwrap());
        change(&mut text);
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(
            &self
                .number
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes(),
        );
        iv[8..].copy_from_slice(&self.mac_key[..8]);
        let mut wire = vec![kind, 3, self.minor()];
        let len = u16::try_from(16 + text.len()).unwrap();
        wire.extend_from_slice(&len.to_be_bytes());
        wire.extend_from_slice(&iv);
        wire.extend_from_slice(&self.cbc(true, &iv, &text));
        self.number = self.number.wrapping_add(1);
        wire
    }

    /// Content, MAC and padding of a CBC record of ours.
    fn open_cbc(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let (iv, body) = if self.params.version == Version::Tls10 {
            (self.chained_iv, &record[5..])
        } else {
            (record[5..21].try_into().unwrap(), &record[21..])
        };
        self.chained_iv = *record.last_chunk().unwrap();
        let mut text = self.cbc(false, &iv, body);
        let last = *text.last().unwrap();
        let padding = usize::from(last) + 1;
        assert!(padding <= 16, "the least padding");
        let rest = text.split_off(text.len() - padding);
        assert!(rest.iter().all(|&byte| byte == last), "{rest:?}");
        let mac = text.split_off(text.len() - self.mac_key.len());
        assert_eq!(mac, self.mac(record[0], &text), "a good MAC");
        (record[0], text)
    }

    fn xored(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        let number = self.number.to_be_bytes();
        for at in 0..8 {
            nonce[4 + at] ^= number[at];
        }
        nonce
    }

    fn tls12_aad(&self, kind: u8, len: usize) -> Vec<u8> {
        let mut aad = self.number.to_be_bytes().to_vec();
        aad.extend_from_slice(&[kind, 3, self.minor()]);
        aad.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        aad
    }

    fn aead(&self, seal: bool, nonce: [u8; 12], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
        fn run<A: KeyInit + Aead>(
            key: &[u8],
            seal: bool,
            nonce: &[u8; 12],
            payload: Payload<'_, '_>,
        ) -> Option<Vec<u8>> {
            let aead = A::new_from_slice(key).unwrap();
            let nonce = aes_gcm::aead::Nonce::<A>::from_slice(nonce);
            if seal {
                aead.encrypt(nonce, payload).ok()
            } else {
                aead.decrypt(nonce, payload).ok()
            }
        }
        let payload = Payload { msg, aad };
        match self.params.suite {
            Suite::Aes128Gcm => run::<Aes128Gcm>(&self.key, seal, &nonce, payload),
            Suite::Aes256Gcm => run::<Aes256Gcm>(&self.key, seal, &nonce, payload),
            Suite::Chacha20Poly1305 => run::<ChaCha20Poly1305>(&self.key, seal, &nonce, payload),
            Suite::Aes128Ccm => {
                run::<ccm::Ccm<aes::Aes128, U16, U12>>(&self.key, seal, &nonce, payload)
            }
            Suite::Aes256Ccm => {
                run::<ccm::Ccm<aes::Aes256, U16, U12>>(&self.key, seal, &nonce, payload)
            }
            Suite::Aes128Ccm8 => {
                run::<ccm::Ccm<aes::Aes128, U8, U12>>(&self.key, seal, &nonce, payload)
            }
            Suite::Aes128CbcSha1
            | Suite::Aes256CbcSha1
            | Suite::Aes128CbcSha256
            | Suite::Aes256CbcSha256
            | Suite::Aes128CbcSha384
            | Suite::Aes256CbcSha384 => panic!("{} is no AEAD", self.params),
        }
    }

    /// The next record.
    pub(crate) fn seal(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        self.seal_padded(kind.0, content, 0)
    }

    /// The next record, TLS 1.3 with zeroes behind its type, CBC with more padding than the least.
    pub(crate) fn seal_padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        if self.params.suite.is_cbc() {
            return self.seal_cbc(kind, content, padding, |_| ());
        }
        let tag_len = self.params.suite.tag_len();
        let explicit = if self.has_explicit_nonce() { 8 } else { 0 };
        let overhead = explicit + tag_len;
        let mut wire = Vec::new();
        match self.params.version {
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                let len = u16::try_from(content.len() + overhead).unwrap();
                wire.extend_from_slice(&[kind, 3, 3]);
                wire.extend_from_slice(&len.to_be_bytes());
                // A peer may choose its explicit nonces as it likes; ours are no counters.
                let mut nonce = self.xored();
                if explicit != 0 {
                    nonce[4..].rotate_left(3);
                    wire.extend_from_slice(&nonce[4..]);
                }
                let aad = self.tls12_aad(kind, content.len());
                wire.extend_from_slice(&self.aead(true, nonce, &aad, content).unwrap());
            }
            Version::Tls13 => {
                let mut inner = content.to_vec();
                inner.push(kind);
                inner.resize(inner.len() + padding, 0);
                let len = u16::try_from(inner.len() + tag_len).unwrap();
                wire.extend_from_slice(&[23, 3, 3]);
                wire.extend_from_slice(&len.to_be_bytes());
                let aad = wire.clone();
                wire.extend_from_slice(&self.aead(true, self.xored(), &aad, &inner).unwrap());
            }
        }
        self.number = self.number.wrapping_add(1);
        wire
    }

    /// The records of a stream: type and content of each. Follows KeyUpdates.
    pub(crate) fn open_all(&mut self, wire: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let mut records = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let len = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            let (record, more) = rest.split_at(len);
            records.push(self.open(record));
            rest = more;
        }
        records
    }

    fn open(&mut self, record: &[u8]) -> (ContentType, Vec<u8>) {
        assert_eq!(record[1..3], [3, self.minor()]);
        let (kind, content) = match self.params.version {
            _ if self.params.suite.is_cbc() => self.open_cbc(record),
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                let nonce = self.xored();
                let body = if self.has_explicit_nonce() {
                    assert_eq!(
                        record[5..13],
                        nonce[4..],
                        "the nonce is the IV XOR the number"
                    );
                    &record[13..]
                } else {
                    &record[5..]
                };
                let tag_len = self.params.suite.tag_len();
                let aad = self.tls12_aad(record[0], body.len() - tag_len);
                (
                    record[0],
                    self.aead(false, nonce, &aad, body).expect("a good tag"),
                )
            }
            Version::Tls13 => {
                assert_eq!(record[0], 23);
                let inner = self.aead(false, self.xored(), &record[..5], &record[5..]);
                let mut inner = inner.expect("a good tag");
                let kind = inner.pop().unwrap();
                assert_ne!(kind, 0, "no padding is sent");
                (kind, inner)
            }
        };
        self.number = self.number.wrapping_add(1);
        assert!(content.len() <= 16384);
        if self.params.version == Version::Tls13 && kind == 22 && content.first() == Some(&24) {
            self.rekey();
        }
        (ContentType(kind), content)
    }
}

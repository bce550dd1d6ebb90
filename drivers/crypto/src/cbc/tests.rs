//! RustCrypto's AES, CBC and HMAC are the judge.

use aes::{Aes128, Aes256};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use lockgate_testing::Random;
use proptest::prelude::*;
use sha1::Sha1;
use sha2::{Sha256, Sha384};

use super::*;

fn encrypted(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8> {
    match key.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_padded_vec_mut::<NoPadding>(text),
        _ => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_padded_vec_mut::<NoPadding>(text),
    }
}

fn decrypted(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8> {
    match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .unwrap()
            .decrypt_padded_vec_mut::<NoPadding>(text),
        _ => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .unwrap()
            .decrypt_padded_vec_mut::<NoPadding>(text),
    }
    .unwrap()
}

fn hmac_of(suite: CbcSuite, key: &[u8], header: &[u8; 11], content: &[u8]) -> Vec<u8> {
    fn run<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = <M as Mac>::new_from_slice(key).unwrap();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let parts = [&header[..], &length, content];
    match suite.mac_len() {
        20 => run::<Hmac<Sha1>>(key, &parts),
        32 => run::<Hmac<Sha256>>(key, &parts),
        _ => run::<Hmac<Sha384>>(key, &parts),
    }
}

/// Keys, IV and header at random.
struct Case {
    suite: CbcSuite,
    key: Vec<u8>,
    mac_key: Vec<u8>,
    iv: [u8; 16],
    header: [u8; 11],
}

impl Case {
    fn new(suite: CbcSuite, rng: &mut Random) -> Self {
        Self {
            suite,
            key: rng.bytes(suite.key_len()),
            mac_key: rng.bytes(suite.mac_len()),
            iv: rng.array(),
            header: rng.array(),
        }
    }

    fn ours(&self) -> CbcKey {
        CbcKey::new(self.suite, &self.key, &self.mac_key).unwrap()
    }

    fn plaintext(&self, content: &[u8], padding: usize) -> Vec<u8> {
        let mut text = content.to_vec();
        text.extend(hmac_of(self.suite, &self.mac_key, &self.header, content));
        text.resize(text.len() + padding, u8::try_from(padding - 1).unwrap());
        text
    }

    /// The judge's record, with the least padding and so many blocks more.
    fn record(&self, content: &[u8], blocks: usize) -> Vec<u8> {
        let least = self.suite.tail_len(content.len()) - self.suite.mac_len();
        let text = self.plaintext(content, least + 16 * blocks);
        encrypted(&self.key, &self.iv, &text)
    }

    fn open(&self, key: &mut CbcKey, record: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut text = record.to_vec();
        let result = key.open(&self.iv, &self.header, &mut text);
        match result {
            Ok(len) => {
                text.truncate(len);
                Ok(text)
            }
            Err(error) => {
                let is_wiped = text.iter().all(|&byte| byte == 0);
                assert!(is_wiped || text == record, "no plaintext is left");
                Err(error)
            }
        }
    }

    fn seal(&self, key: &mut CbcKey, content: &[u8], in_place: bool) -> Vec<u8> {
        let mut record = vec![0xee; content.len() + self.suite.tail_len(content.len())];
        let (body, tail) = record.split_at_mut(content.len());
        let from = if in_place {
            body.copy_from_slice(content);
            None
        } else {
            Some(content)
        };
        key.seal(&self.iv, &self.header, from, body, tail).unwrap();
        record
    }
}

/// Every length of content modulo a block, with the least padding, in both directions.
#[test]
fn every_length_of_content() {
    let mut rng = Random::new(1);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        let mut key = case.ours();
        for len in (0..130).chain([255, 256, 1000, 16383, 16384]) {
            let content = rng.bytes(len);
            let record = case.record(&content, 0);
            for in_place in [false, true] {
                let sealed = case.seal(&mut key, &content, in_place);
                assert!(sealed == record, "{suite:?} {len}");
            }
            assert!(
                case.open(&mut key, &record).as_ref() == Ok(&content),
                "{suite:?} {len}"
            );
            let text = decrypted(&case.key, &case.iv, &record);
            let padding = usize::from(*text.last().unwrap()) + 1;
            assert!((1..=16).contains(&padding), "{suite:?} {len}");
        }
    }
}

/// RFC 5246, 6.2.3.2: the padding "MAY be any length up to 255 bytes".
#[test]
fn every_length_of_padding() {
    let mut rng = Random::new(2);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        let mut key = case.ours();
        for len in 0..32 {
            let content = rng.bytes(len);
            let least = suite.tail_len(len) - suite.mac_len();
            for blocks in 0..=(256 - least) / 16 {
                let record = case.record(&content, blocks);
                let opened = case.open(&mut key, &record);
                assert_eq!(opened.as_ref(), Ok(&content), "{suite:?} {len} {blocks}");
            }
        }
    }
}

/// Each byte of the padding changed, and its length, also to more than there is.
#[test]
fn bad_padding() {
    let mut rng = Random::new(3);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        let mut key = case.ours();
        for (len, blocks) in [(0, 0), (5, 0), (12, 1), (64, 2), (31, 15)] {
            let content = rng.bytes(len);
            let least = suite.tail_len(len) - suite.mac_len();
            if least + 16 * blocks > 256 {
                continue;
            }
            let text = case.plaintext(&content, least + 16 * blocks);
            for at in text.len() - (least + 16 * blocks)..text.len() {
                for change in [1, 0x10, 0x80, 0xff] {
                    let mut bad = text.clone();
                    bad[at] ^= change;
                    let record = encrypted(&case.key, &case.iv, &bad);
                    let opened = case.open(&mut key, &record);
                    assert_eq!(opened, Err(CryptoError::BadTag), "{suite:?} {len} {at}");
                }
            }
            let record = encrypted(&case.key, &case.iv, &text);
            assert_eq!(
                case.open(&mut key, &record),
                Ok(content),
                "the key still works"
            );
        }
    }
}

#[test]
fn a_record_changed_anywhere_does_not_open() {
    let mut rng = Random::new(4);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        let mut key = case.ours();
        let content = rng.bytes(40);
        let record = case.record(&content, 1);
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                case.open(&mut key, &bad),
                Err(CryptoError::BadTag),
                "{suite:?} {bit}"
            );
        }
        for bit in 0..11 * 8 {
            let mut other = Case {
                key: case.key.clone(),
                mac_key: case.mac_key.clone(),
                ..case
            };
            other.header[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(other.open(&mut key, &record), Err(CryptoError::BadTag));
        }
        for bit in 0..16 * 8 {
            let mut other = Case {
                key: case.key.clone(),
                mac_key: case.mac_key.clone(),
                ..case
            };
            other.iv[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(other.open(&mut key, &record), Err(CryptoError::BadTag));
        }
        assert_eq!(case.open(&mut key, &record), Ok(content));
    }
}

/// Every length of ciphertext that isn't a record: short, or no whole blocks.
#[test]
fn lengths_that_no_record_has() {
    let mut rng = Random::new(5);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        let mut key = case.ours();
        for len in 0..100 {
            let text = rng.bytes(len);
            assert_eq!(
                case.open(&mut key, &text),
                Err(CryptoError::BadTag),
                "{suite:?} {len}"
            );
        }
        let huge = vec![0; 1 << 17];
        assert_eq!(case.open(&mut key, &huge), Err(CryptoError::BadTag));
        let content = rng.bytes(20);
        let record = case.record(&content, 0);
        assert_eq!(
            case.open(&mut key, &record),
            Ok(content),
            "the key still works"
        );
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let mut rng = Random::new(6);
    for suite in CbcSuite::ALL {
        let case = Case::new(suite, &mut rng);
        for (key_len, mac_len) in [
            (0, suite.mac_len()),
            (24, suite.mac_len()),
            (suite.key_len(), 0),
            (suite.key_len(), suite.mac_len() + 1),
        ] {
            let made = CbcKey::new(suite, &vec![1; key_len], &vec![1; mac_len]);
            assert_eq!(made.err(), Some(CryptoError::Failed));
        }
        let mut key = case.ours();
        let (mut body, good) = (vec![9; 20], suite.tail_len(20));
        for tail_len in [0, good - 1, good + 1, good + 16] {
            let sealed = key.seal(
                &case.iv,
                &case.header,
                None,
                &mut body,
                &mut vec![0; tail_len],
            );
            assert_eq!(sealed, Err(CryptoError::Failed));
            assert_eq!(body, [9; 20], "the content is as it was");
        }
        let from = Some(&[1; 19][..]);
        let sealed = key.seal(&case.iv, &case.header, from, &mut body, &mut vec![0; good]);
        assert_eq!(sealed, Err(CryptoError::Failed));
        let (mut long, tail_len) = (vec![9; 16400], suite.tail_len(16400));
        let sealed = key.seal(
            &case.iv,
            &case.header,
            None,
            &mut long,
            &mut vec![0; tail_len],
        );
        assert_eq!(sealed, Err(CryptoError::Failed));
    }
}

#[test]
fn keys_may_move_to_another_thread_and_print_nothing() {
    fn is_send<T: Send>() {}
    is_send::<CbcKey>();
    let key = CbcKey::new(CbcSuite::Aes128Sha1, &[0xab; 16], &[0xcd; 20]).unwrap();
    let printed = format!("{key:?}");
    assert_eq!(printed, "CbcKey(Aes128Sha1, keys withheld)");
    std::thread::spawn(move || drop(key)).join().unwrap();
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(300))]

    /// Whatever is decrypted, nothing but a record opens.
    #[test]
    fn any_plaintext_is_judged_alike(
        suite in prop::sample::select(&CbcSuite::ALL[..]),
        seed: u64,
        blocks in 1usize..20,
        last in prop::option::of(any::<u8>()),
    ) {
        let mut rng = Random::new(seed);
        let case = Case::new(suite, &mut rng);
        let mut text = rng.bytes(blocks * 16);
        if let Some(last) = last {
            // The end looks like padding.
            let from = text.len().saturating_sub(usize::from(last) + 1);
            text[from..].fill(last);
        }
        let record = encrypted(&case.key, &case.iv, &text);
        let opened = case.open(&mut case.ours(), &record);
        prop_assert_eq!(opened, Err(CryptoError::BadTag));
    }
}

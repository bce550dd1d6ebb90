//! RustCrypto's `aes-gcm` is the judge.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use lockgate_testing::Random;
use proptest::prelude::*;

use super::*;

fn sealed(key: &[u8], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let payload = Payload { msg, aad };
    let mut sealed = match key.len() {
        16 => Aes128Gcm::new_from_slice(key)
            .unwrap()
            .encrypt(nonce.into(), payload),
        _ => Aes256Gcm::new_from_slice(key)
            .unwrap()
            .encrypt(nonce.into(), payload),
    }
    .unwrap();
    let tag = sealed.split_off(msg.len()).try_into().unwrap();
    (sealed, tag)
}

/// Opens the pieces of `text` that end at `cuts`.
fn opened(
    key: &mut GcmKey,
    nonce: &[u8; 12],
    aad: &[u8],
    text: &[u8],
    cuts: &[usize],
    tag: &[u8; 16],
) -> Result<Vec<u8>, CryptoError> {
    let mut out = vec![0xee; text.len()];
    let mut open = key.open(nonce, aad, &mut out)?;
    let mut at = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        open.update(&text[at..cut])?;
        at = cut;
    }
    match open.finish(tag) {
        Ok(len) => {
            assert_eq!(len, text.len());
            Ok(out)
        }
        Err(error) => {
            assert!(out.iter().all(|&byte| byte == 0), "no plaintext is left");
            Err(error)
        }
    }
}

/// Test case 16 of the GCM submission to NIST, cut at every byte.
#[test]
fn nist_test_case_16() {
    let key = *b"\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08\
        \xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
    let nonce = *b"\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88";
    let aad = *b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2";
    let text = *b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\
        \x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\
        \x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\
        \xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62";
    let tag = *b"\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b";
    let plaintext = *b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\
        \x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\
        \x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\
        \xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";
    let mut key = GcmKey::new(&key).unwrap();
    for cut in 0..=text.len() {
        let result = opened(&mut key, &nonce, &aad, &text, &[cut], &tag);
        assert_eq!(result, Ok(plaintext.to_vec()), "{cut}");
    }
}

#[test]
fn a_record_given_up_leaves_no_plaintext() {
    let mut rng = Random::new(1);
    let (key, nonce, plaintext) = (rng.bytes(16), rng.array(), rng.bytes(100));
    let (text, tag) = sealed(&key, &nonce, b"aad", &plaintext);
    let mut key = GcmKey::new(&key).unwrap();
    let mut out = vec![0xee; 100];
    let mut open = key.open(&nonce, b"aad", &mut out).unwrap();
    open.update(&text[..60]).unwrap();
    drop(open);
    assert!(out[..60].iter().all(|&byte| byte == 0) && out[60..] == [0xee; 40]);
    assert_eq!(
        opened(&mut key, &nonce, b"aad", &text, &[], &tag),
        Ok(plaintext)
    );
}

#[test]
fn more_than_the_output_holds_is_refused() {
    let mut key = GcmKey::new(&[1; 16]).unwrap();
    let mut out = [0; 10];
    let mut open = key.open(&[0; 12], &[], &mut out).unwrap();
    open.update(&[1; 6]).unwrap();
    assert_eq!(open.update(&[1; 5]), Err(CryptoError::Failed));
    open.update(&[1; 4]).unwrap();
    assert_eq!(open.update(&[1]), Err(CryptoError::Failed));
    assert_eq!(open.finish(&[0; 16]), Err(CryptoError::BadTag));
    assert_eq!(out, [0; 10]);
    for len in [0, 15, 17, 24, 33] {
        assert_eq!(
            GcmKey::new(&vec![1; len]).err(),
            Some(CryptoError::Failed),
            "{len}"
        );
    }
    assert_eq!(format!("{key:?}"), "GcmKey(key withheld)");
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(300))]

    #[test]
    fn any_fragments_give_the_plaintext(
        seed: u64,
        is_long: bool,
        len in prop_oneof![0usize..100, 0..=16401usize],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        bit in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut rng = Random::new(seed);
        let key = rng.bytes(if is_long { 32 } else { 16 });
        let (nonce, aad) = (rng.array(), rng.bytes(5));
        let plaintext = rng.bytes(len);
        let (mut text, mut tag) = sealed(&key, &nonce, &aad, &plaintext);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
        cuts.sort_unstable();
        let mut key = GcmKey::new(&key).unwrap();
        prop_assert!(opened(&mut key, &nonce, &aad, &text, &cuts, &tag) == Ok(plaintext));
        if let Some(bit) = bit {
            let bit = bit.index((len + 16) * 8);
            match text.get_mut(bit / 8) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => tag[bit / 8 - len] ^= 1 << (bit % 8),
            }
            let result = opened(&mut key, &nonce, &aad, &text, &cuts, &tag);
            prop_assert_eq!(result, Err(CryptoError::BadTag));
        }
    }
}

//! RustCrypto's `ccm` is the judge.

use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U12, U16};
use lockgate_testing::Random;

use super::*;

fn judge(key: &[u8], tag_len: usize, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
    fn run<A: AeadInPlace + KeyInit>(
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        text: &[u8],
    ) -> Vec<u8> {
        let mut out = text.to_vec();
        let nonce = ccm::aead::Nonce::<A>::from_slice(nonce);
        let key = A::new_from_slice(key).unwrap();
        let tag = key.encrypt_in_place_detached(nonce, aad, &mut out).unwrap();
        out.extend_from_slice(&tag);
        out
    }
    match (key.len(), tag_len) {
        (16, 16) => run::<ccm::Ccm<aes::Aes128, U16, U12>>(key, nonce, aad, text),
        (16, _) => run::<ccm::Ccm<aes::Aes128, U8, U12>>(key, nonce, aad, text),
        (_, 16) => run::<ccm::Ccm<aes::Aes256, U16, U12>>(key, nonce, aad, text),
        _ => run::<ccm::Ccm<aes::Aes256, U8, U12>>(key, nonce, aad, text),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: char| u8::try_from(c.to_digit(16).unwrap()).unwrap();
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(digit)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// NIST SP 800-38C, appendix C, example 3: a nonce of 12 bytes, a tag of 8.
#[test]
fn nist_sp_800_38c_example_3() {
    let key = hex("404142434445464748494a4b4c4d4e4f");
    let nonce = hex("101112131415161718191a1b").try_into().unwrap();
    let aad = hex("000102030405060708090a0b0c0d0e0f10111213");
    let plaintext = hex("202122232425262728292a2b2c2d2e2f3031323334353637");
    let expected = hex("e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5 484392fbc1b09951");
    let mut ours = CcmKey::new(&key, 8).unwrap();
    let (mut text, mut tag) = (plaintext.clone(), [0; 8]);
    ours.seal(&nonce, &aad, &mut text, &mut tag).unwrap();
    assert_eq!([&text[..], &tag].concat(), expected);
    ours.open(&nonce, &aad, &mut text, &tag).unwrap();
    assert_eq!(text, plaintext);
}

#[test]
fn every_length_agrees_with_the_judge() {
    let mut rng = Random::new(7);
    for key_len in [16, 32] {
        for tag_len in [8, 16] {
            let key = rng.bytes(key_len);
            let mut ours = CcmKey::new(&key, tag_len).unwrap();
            for len in (0..70).chain([255, 256, 4096, 16384, 16385]) {
                let nonce = rng.array();
                let aad_len = if len % 2 == 0 { 13 } else { 5 };
                let (aad, plaintext) = (rng.bytes(aad_len), rng.bytes(len));
                let expected = judge(&key, tag_len, &nonce, &aad, &plaintext);
                let (mut text, mut tag) = (plaintext.clone(), vec![0; tag_len]);
                ours.seal(&nonce, &aad, &mut text, &mut tag).unwrap();
                assert!(
                    [&text[..], &tag].concat() == expected,
                    "{key_len} {tag_len} {len}"
                );
                ours.open(&nonce, &aad, &mut text, &tag).unwrap();
                assert!(text == plaintext, "{key_len} {tag_len} {len}");
            }
        }
    }
}

#[test]
fn a_changed_message_does_not_open_and_leaves_no_plaintext() {
    let mut rng = Random::new(8);
    for tag_len in [8, 16] {
        let mut ours = CcmKey::new(&rng.bytes(16), tag_len).unwrap();
        let (nonce, aad, plaintext) = (rng.array(), rng.bytes(13), rng.bytes(40));
        let (mut text, mut tag) = (plaintext.clone(), vec![0; tag_len]);
        ours.seal(&nonce, &aad, &mut text, &mut tag).unwrap();
        let whole = [&nonce[..], &aad, &text, &tag].concat();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (nonce, rest) = bad.split_first_chunk().unwrap();
            let (aad, rest) = rest.split_at(13);
            let (text, tag) = rest.split_at(40);
            let mut out = text.to_vec();
            assert_eq!(
                ours.open(nonce, aad, &mut out, tag),
                Err(CryptoError::BadTag),
                "{bit}"
            );
            assert_eq!(out, [0; 40], "{bit}");
            let mut good = whole[25..65].to_vec();
            let opened = ours.open(
                &whole[..12].try_into().unwrap(),
                &aad_of(&whole),
                &mut good,
                &tag_of(&whole),
            );
            assert_eq!(
                (opened, good),
                (Ok(()), plaintext.clone()),
                "the key still works"
            );
        }
    }
    fn aad_of(whole: &[u8]) -> Vec<u8> {
        whole[12..25].to_vec()
    }
    fn tag_of(whole: &[u8]) -> Vec<u8> {
        whole[65..].to_vec()
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for (key_len, tag_len) in [
        (0, 16),
        (24, 16),
        (17, 16),
        (16, 0),
        (16, 4),
        (16, 12),
        (16, 32),
    ] {
        let made = CcmKey::new(&vec![1; key_len], tag_len);
        assert_eq!(made.err(), Some(CryptoError::Failed), "{key_len} {tag_len}");
    }
    let mut ours = CcmKey::new(&[1; 16], 8).unwrap();
    let mut text = [7; 20];
    assert_eq!(
        ours.seal(&[0; 12], &[], &mut text, &mut [0; 16]),
        Err(CryptoError::Failed)
    );
    assert_eq!(
        ours.open(&[0; 12], &[], &mut text, &[0; 16]),
        Err(CryptoError::BadTag)
    );
    assert_eq!(text, [7; 20]);
    let mut long = vec![0; MESSAGE_MAX + 1];
    assert_eq!(
        ours.seal(&[0; 12], &[], &mut long, &mut [0; 8]),
        Err(CryptoError::Failed)
    );
    assert_eq!(
        ours.open(&[0; 12], &[], &mut long, &[0; 8]),
        Err(CryptoError::BadTag)
    );
    assert_eq!(format!("{ours:?}"), "CcmKey(key withheld)");
}

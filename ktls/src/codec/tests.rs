use proptest::prelude::*;

use super::*;
use crate::session::Session;
use crate::suite::{CipherKind, PLAINTEXT_MAX, Suite};

#[test]
fn headers_of_every_suite() {
    let iv = [0, 1, 2, 3, 0xf0, 0, 0, 0, 0, 0, 0, 0x0f];
    for params in Params::ALL {
        if params.suite.is_cbc() {
            continue;
        }
        let key = vec![1; params.suite.key_len()];
        let session = Session::from_key(params, &key, &iv).unwrap();
        let head = session.head(0x0102_0304_0506_0708, ContentType(0x21), 0x1234);
        let length = params.shape().length(0x1234).to_be_bytes();
        let expected: &[u8] = match (params.version, params.suite.kind()) {
            (Version::Tls12, CipherKind::Gcm | CipherKind::Ccm) => &[
                0x21, 3, 3, length[0], length[1], 0xf1, 2, 3, 4, 5, 6, 7, 0x07,
            ],
            (Version::Tls12, _) => &[0x21, 3, 3, 0x12, 0x44],
            _ => &[23, 3, 3, length[0], length[1]],
        };
        assert_eq!(head.as_bytes(), expected, "{params}");
    }
}

/// Header lengths of a record with 64 bytes: 64 + MAC, up to a block, + IV.
#[test]
fn headers_of_cbc() {
    let rows = [
        (Suite::Aes128CbcSha1, Version::Tls10, [3, 1], 5, 96),
        (Suite::Aes256CbcSha1, Version::Tls11, [3, 2], 21, 112),
        (Suite::Aes128CbcSha1, Version::Tls12, [3, 3], 21, 112),
        (Suite::Aes256CbcSha256, Version::Tls12, [3, 3], 21, 128),
        (Suite::Aes128CbcSha384, Version::Tls12, [3, 3], 21, 144),
    ];
    for (suite, version, wire, head_len, length) in rows {
        let params = Params::new(suite, version);
        let (key, mac) = (vec![1; suite.key_len()], vec![2; suite.mac_key_len()]);
        let session = Session::from_key_and_mac(params, &key, &mac, &[3; 16]).unwrap();
        let head = session.head(9, ContentType(0x21), 64);
        assert_eq!(head.as_bytes().len(), head_len, "{params}");
        assert_eq!(
            head.as_bytes()[..5],
            [0x21, wire[0], wire[1], 0, length],
            "{params}"
        );
    }
}

#[test]
fn additional_data() {
    let header = [0x17, 3, 3, 0x40, 0x18];
    let aad = Aad::new(Params::ALL[0], 0x0102_0304_0506_0708, header, 0x4000);
    assert_eq!(aad.as_ref(), [1, 2, 3, 4, 5, 6, 7, 8, 0x17, 3, 3, 0x40, 0]);
    let aad = Aad::new(Params::ALL[3], 0x0102_0304_0506_0708, header, 0x4000);
    assert_eq!(aad.as_ref(), header);
}

#[test]
fn limits_of_received_headers() {
    for params in Params::ALL {
        let with = |length: u16| RecordHeader {
            kind: ContentType::APPLICATION_DATA,
            version: params.version.wire(),
            length,
        };
        for length in [params.shape().length_min(), params.shape().length_max()] {
            assert_eq!(with(length).check(params), Ok(5 + u32::from(length)));
        }
        let short = with(params.shape().length_min() - 1).check(params);
        assert_eq!(short, Err(RxError::RecordTooShort));
        if params.shape().has_padding() {
            let split = with(params.shape().length_min() + 1).check(params);
            assert_eq!(split, Err(RxError::RecordNotBlocks));
        }
        let long = with(params.shape().length_max() + 1).check(params);
        assert_eq!(long, Err(RxError::RecordTooLong));

        let versions = [[3, 1], [3, 2], [3, 3], [3, 4], [2, 3], [0, 0], [0x55, 0x55]];
        for version in versions
            .into_iter()
            .filter(|&other| other != params.version.wire())
        {
            let header = RecordHeader {
                version,
                ..with(params.shape().length_min())
            };
            assert_eq!(header.check(params), Err(RxError::BadVersion));
        }
        let alert = RecordHeader {
            kind: ContentType::ALERT,
            ..with(params.shape().length_min())
        };
        match params.version {
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                assert!(alert.check(params).is_ok());
            }
            Version::Tls13 => assert_eq!(alert.check(params), Err(RxError::Unprotected)),
        }
    }
}

#[test]
fn the_inner_type_is_the_last_byte_that_is_not_zero() {
    assert_eq!(inner_type(&[]), None);
    assert_eq!(inner_type(&[0]), None);
    assert_eq!(inner_type(&[0; PLAINTEXT_MAX + 1]), None);
    assert_eq!(inner_type(&[23]), Some((ContentType(23), 0)));
    assert_eq!(inner_type(&[1, 2, 23, 0, 0]), Some((ContentType(23), 2)));
    assert_eq!(inner_type(&[0, 0, 22]), Some((ContentType(22), 2)));
}

#[test]
fn nonces_of_rfc8446() {
    let iv = [0xff; NONCE_LEN];
    assert_eq!(nonce(&iv, 0), iv);
    assert_eq!(nonce(&iv, 1)[11], 0xfe);
    assert_eq!(
        nonce(&iv, u64::MAX),
        [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

/// Other stacks count, or draw at random: what the record says is what counts.
#[test]
fn explicit_nonces_are_the_senders_choice() {
    let iv = *b"saltexplicit";
    let head = *b"\x17\x03\x03\0\x18anything";
    for params in Params::ALL
        .into_iter()
        .filter(|params| !params.suite.is_cbc())
    {
        let (head, expected) = if params.shape().explicit_len == 0 {
            (&head[..HEADER_LEN], nonce(&iv, 7))
        } else {
            (&head[..], *b"saltanything")
        };
        assert_eq!(received_nonce(params, &iv, 7, head), expected, "{params}");
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn headers_round_trip(bytes: [u8; HEADER_LEN]) {
        prop_assert_eq!(RecordHeader::parse(bytes).emit(), bytes);
    }

    #[test]
    fn no_two_numbers_share_a_nonce(iv: [u8; NONCE_LEN], a: u64, b: u64, bit in 0u32..64) {
        // Also numbers that differ in a single bit, which the IV might hide.
        for b in [b, a ^ (1 << bit)] {
            prop_assert_eq!(nonce(&iv, a) == nonce(&iv, b), a == b);
            for params in Params::ALL.into_iter().filter(|params| !params.suite.is_cbc()) {
                let key = vec![1; params.suite.key_len()];
                let session = Session::from_key(params, &key, &iv).unwrap();
                let head = |number| session.head(number, ContentType::ALERT, 2);
                // What goes out tells the receiver the nonce that was sealed with.
                prop_assert_eq!(
                    received_nonce(params, &iv, a, head(a).as_bytes()),
                    nonce(&iv, a)
                );
                prop_assert_eq!(
                    head(a) == head(b),
                    a == b || params.shape().explicit_len == 0
                );
            }
        }
    }
}

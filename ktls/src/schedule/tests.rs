use aws_lc_rs::hmac;

use super::*;
use crate::session::Session;
use crate::testing::hex;

/// RFC 8448, section 3: application traffic keys of both sides.
#[test]
fn rfc8448_traffic_keys() {
    let sides = [
        (
            "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
            "9f02283b6c9c07efc26bb9f2ac92e356",
            "cf782b88dd83549aadf1e984",
        ),
        (
            "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
            "17422dda596ed5d9acd890e3c63f5051",
            "5b78923dee08579033e523d9",
        ),
    ];
    for (secret, key, iv) in sides {
        let session = Session::from_secret(Suite::Aes128Gcm, &hex(secret)).unwrap();
        let keys = session.keys();
        assert_eq!(keys.key(), hex(key));
        assert_eq!(keys.iv()[..], hex(iv));
    }
}

/// RFC 9001, A.5: the same function with QUIC's labels.
#[test]
fn rfc9001_expand_label() {
    let secret = hex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
    let rows = [
        (
            "quic key",
            "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
        ),
        ("quic iv", "e0459b3474bdd0e44a41c144"),
        (
            "quic hp",
            "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
        ),
        (
            "quic ku",
            "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9",
        ),
    ];
    for (label, expected) in rows {
        let expected = hex(expected);
        let mut out = vec![0; expected.len()];
        expand_label(Suite::Chacha20Poly1305, &secret, label, &[], &mut out);
        assert_eq!(out, expected, "{label}");
    }
}

/// HKDF-Expand of one block is HMAC(secret, info || 1), here with the info written out by hand.
#[test]
fn the_next_secret_by_hand() {
    for suite in crate::testing::tls13()
        .into_iter()
        .map(|params| params.suite)
    {
        let len = suite.secret_len();
        let secret: Vec<u8> = (0..u8::try_from(len).unwrap())
            .map(|n| n.wrapping_mul(37))
            .collect();
        let algorithm = if len == 48 {
            hmac::HMAC_SHA384
        } else {
            hmac::HMAC_SHA256
        };
        let mut info = vec![0, u8::try_from(len).unwrap(), 17];
        info.extend_from_slice(b"tls13 traffic upd");
        info.extend_from_slice(&[0, 1]);
        let expected = hmac::sign(&hmac::Key::new(algorithm, &secret), &info);

        let mut next = vec![0; len];
        next_secret(suite, &secret, &mut next);
        assert_eq!(next, expected.as_ref());

        let session = Session::from_secret(suite, &secret)
            .unwrap()
            .next()
            .unwrap();
        let by_hand = Session::from_secret(suite, &next).unwrap();
        assert_eq!(session.keys().key(), by_hand.keys().key());
        assert_eq!(session.keys().iv(), by_hand.keys().iv());
        assert_ne!(session.id(), by_hand.id());
    }
}

/// The vector of TLS 1.2's PRF with SHA-256 that the TLS working group's list published.
#[test]
fn prf_with_sha256() {
    let secret = hex("9bbe436ba940f017b17652849a71db35");
    let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
    let expected = hex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a
         6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab
         4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701
         87347b66",
    );
    for pieces in [vec![&seed[..]], vec![&seed[..5], &seed[5..]]] {
        for len in [0, 1, 31, 32, 33, 100] {
            let mut out = vec![0; len];
            prf(Suite::Aes128Gcm, &secret, "test label", &pieces, &mut out);
            assert_eq!(out, expected[..len], "{len}");
        }
    }
}

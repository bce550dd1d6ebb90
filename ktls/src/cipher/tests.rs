use aes_gcm::aead::{Aead, KeyInit, Payload};
use pktbuf::{HeapBuffers, PageBuf, Placement, RecordFields, SealOutcome};
use proptest::prelude::*;

use super::*;
use crate::job::{ReceivedHead, RecordMemory};
use crate::session::Session;
use crate::suite::{ContentType, PLAINTEXT_MAX, Suite, Version};
use crate::testing::{World, hex, receiving};

fn backends() -> [Box<dyn RecordCipher>; 2] {
    [
        Box::new(aws::AwsLcRs::new(4)),
        Box::new(rustcrypto::RustCrypto::new(4)),
    ]
}

/// A framed record, its content in the page cache or in a span of its own, and the job to seal it.
fn job(
    world: &mut World,
    session: &Session,
    head: &[u8],
    (number, kind): (u64, u8),
    content: &[u8],
    tail_len: u8,
    in_place: bool,
) -> (PageBuf, SealJob) {
    let len = u32::try_from(content.len()).unwrap();
    let mut page = if in_place {
        let mut page = world.pool.alloc(len).unwrap();
        page.append(content);
        page
    } else {
        // The arena has no span of no bytes.
        let span = world.span(if content.is_empty() { b"-" } else { content });
        world.pool.alloc_span(&span, 0, len).unwrap()
    };
    let record = RecordFields {
        number,
        kind,
        epoch: 0,
    };
    page.frame(record, head, tail_len).unwrap();
    let memory = page
        .begin_seal(Placement::InPlace, &mut world.pool)
        .unwrap();
    assert_eq!(memory.is_in_place(), in_place);
    (page, SealJob::new(memory, session.clone()))
}

/// A record on the wire, sealed out of place or in place.
fn sealed(
    cipher: &mut dyn RecordCipher,
    session: &Session,
    number: u64,
    kind: u8,
    content: &[u8],
    in_place: bool,
) -> Vec<u8> {
    let params = session.params();
    let len = u16::try_from(content.len()).unwrap();
    let head = session.head(number, ContentType(kind), len);
    let mut world = World::new();
    let (head, tail_len) = (head.as_bytes(), params.shape().tail_len(len));
    let record = (number, kind);
    let (mut page, mut job) = job(
        &mut world, session, head, record, content, tail_len, in_place,
    );
    cipher.seal(core::slice::from_mut(&mut job)).unwrap();
    assert!(job.is_sealed());
    job.end().unwrap();
    page.end_seal(&mut world.pool);
    page.bytes().unwrap().to_vec()
}

/// The job to open a record in its received buffer.
fn open_job(session: &Session, number: u64, head: &[u8], body: &[u8]) -> OpenJob {
    let memory = RecordMemory::Buffer(HeapBuffers::new(1).alloc(body).unwrap());
    let head = ReceivedHead::filled(head.len().try_into().unwrap(), |out| {
        out.copy_from_slice(head);
        out.len()
    });
    OpenJob::new(memory, session.clone(), number, head)
}

/// Type and content of a record from the wire.
fn opened(
    cipher: &mut dyn RecordCipher,
    session: &Session,
    number: u64,
    wire: &[u8],
) -> Result<(u8, Vec<u8>), CryptoError> {
    let params = session.params();
    let (head, body) = wire.split_at(params.shape().head_len().into());
    let mut job = open_job(session, number, head, body);
    cipher.open(&mut job)?;
    let (_, memory, len) = job.end();
    let mut body = memory.bytes()[..len?].to_vec();
    let kind = match params.version {
        Version::Tls10 | Version::Tls11 | Version::Tls12 => head[0],
        Version::Tls13 => {
            let (kind, len) = codec::inner_type(&body).unwrap();
            body.truncate(len);
            kind.0
        }
    };
    Ok((kind, body))
}

/// Suites that both backends have.
fn shared() -> Vec<Params> {
    let mut all = receiving();
    all.retain(|&params| backends().iter().all(|cipher| cipher.supports(params)));
    assert_eq!(all.len(), 6);
    all
}

fn session(params: Params, seed: u8) -> Session {
    let material: [u8; 48] =
        core::array::from_fn(|n| u8::try_from(n).unwrap().wrapping_mul(31).wrapping_add(seed));
    match params.version {
        _ if params.suite.is_cbc() => {
            let mac_key = vec![seed ^ 0x55; params.suite.mac_key_len()];
            let key = &material[..params.suite.key_len()];
            Session::from_key_and_mac(params, key, &mac_key, &[seed; 16]).unwrap()
        }
        Version::Tls10 | Version::Tls11 | Version::Tls12 => {
            let (iv, key) = material.split_first_chunk().unwrap();
            Session::from_key(params, &key[..params.suite.key_len()], iv).unwrap()
        }
        Version::Tls13 => {
            Session::from_secret(params.suite, &material[..params.suite.secret_len()]).unwrap()
        }
    }
}

/// RFC 8448, section 3: the records of the simple 1-RTT handshake that follow its Finished
/// messages.
#[test]
fn rfc8448_records() {
    let client = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    let server = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    let data: Vec<u8> = (0..50).collect();
    let close_notify = [1, 0];
    let rows: [(&str, u64, u8, &[u8], &str); 4] = [
        (
            client,
            0,
            23,
            &data,
            "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa
             66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2
             97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
        ),
        (
            server,
            1,
            23,
            &data,
            "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f
             82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2
             1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
        ),
        (
            client,
            1,
            21,
            &close_notify,
            "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3",
        ),
        (
            server,
            2,
            21,
            &close_notify,
            "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9",
        ),
    ];
    for cipher in &mut backends() {
        for (secret, number, kind, content, wire) in rows {
            let session = Session::from_secret(Suite::Aes128Gcm, &hex(secret)).unwrap();
            let wire = hex(wire);
            for in_place in [false, true] {
                let record = sealed(cipher.as_mut(), &session, number, kind, content, in_place);
                assert_eq!(record, wire, "{}", cipher.name());
            }
            let record = opened(cipher.as_mut(), &session, number, &wire);
            assert_eq!(record, Ok((kind, content.to_vec())));
        }
    }
}

/// A TLS 1.2 AES-128-GCM record put together from the RFCs' words: RFC 5288's nonce and RFC 5246's
/// additional data, given to the bare AEAD.
#[test]
fn a_tls12_record_by_hand() {
    let params = Params::new(Suite::Aes128Gcm, Version::Tls12);
    let key: [u8; 16] = *b"0123456789abcdef";
    let iv = *b"saltexplicit";
    let session = Session::from_key(params, &key, &iv).unwrap();
    let content = b"GET / HTTP/1.1\r\n\r\n";

    let explicit: [u8; 8] = *b"explici\x71"; // 't' XOR 5
    let nonce = [&b"salt"[..], &explicit].concat();
    let aad = [0, 0, 0, 0, 0, 0, 0, 5, 23, 3, 3, 0, 18];
    let protected = aes_gcm::Aes128Gcm::new((&key).into())
        .encrypt(
            nonce.as_slice().into(),
            Payload {
                msg: content,
                aad: &aad,
            },
        )
        .unwrap();
    let wire = [&[23, 3, 3, 0, 42][..], &explicit, &protected].concat();

    for cipher in &mut backends() {
        assert_eq!(
            sealed(cipher.as_mut(), &session, 5, 23, content, true),
            wire
        );
        assert_eq!(
            opened(cipher.as_mut(), &session, 5, &wire),
            Ok((23, content.to_vec()))
        );
    }
}

/// A TLS 1.2 ChaCha20-Poly1305 record by RFC 7905's words.
#[test]
fn a_tls12_chacha_record_by_hand() {
    let params = Params::new(Suite::Chacha20Poly1305, Version::Tls12);
    let key: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";
    let iv = [0x11; NONCE_LEN];
    let session = Session::from_key(params, &key, &iv).unwrap();
    let content = b"Ladies and Gentlemen";

    let nonce = [
        17,
        17,
        17,
        17,
        17 ^ 1,
        17 ^ 2,
        17 ^ 3,
        17 ^ 4,
        17 ^ 5,
        17 ^ 6,
        17 ^ 7,
        17 ^ 8,
    ];
    let aad = [1, 2, 3, 4, 5, 6, 7, 8, 21, 3, 3, 0, 20];
    let protected = chacha20poly1305::ChaCha20Poly1305::new((&key).into())
        .encrypt(
            &nonce.into(),
            Payload {
                msg: content,
                aad: &aad,
            },
        )
        .unwrap();
    let wire = [&[21, 3, 3, 0, 36][..], &protected].concat();

    let number = 0x0102_0304_0506_0708;
    for cipher in &mut backends() {
        assert_eq!(
            sealed(cipher.as_mut(), &session, number, 21, content, true),
            wire
        );
        assert_eq!(
            opened(cipher.as_mut(), &session, number, &wire),
            Ok((21, content.to_vec()))
        );
    }
}

#[test]
fn a_record_changed_anywhere_does_not_open() {
    for params in receiving() {
        let session = session(params, 1);
        let other = self::session(params, 2);
        for cipher in backends()
            .iter_mut()
            .filter(|cipher| cipher.supports(params))
        {
            let wire = sealed(cipher.as_mut(), &session, 9, 23, b"some content", true);
            assert!(opened(cipher.as_mut(), &session, 9, &wire).is_ok());
            assert_eq!(
                opened(cipher.as_mut(), &session, 8, &wire),
                Err(CryptoError::BadTag)
            );
            assert_eq!(
                opened(cipher.as_mut(), &other, 9, &wire),
                Err(CryptoError::BadTag)
            );
            for bit in 0..wire.len() * 8 {
                let mut bad = wire.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // Before TLS 1.3 the content's length is authenticated instead of the header's.
                if params.version != Version::Tls13 && (24..40).contains(&bit) {
                    continue;
                }
                let result = opened(cipher.as_mut(), &session, 9, &bad);
                assert_eq!(result, Err(CryptoError::BadTag), "{params} bit {bit}");
            }
        }
    }
}

#[test]
fn jobs_that_make_no_sense_are_refused() {
    let mut world = World::new();
    for params in receiving() {
        let session = session(params, 3);
        for cipher in backends()
            .iter_mut()
            .filter(|cipher| cipher.supports(params))
        {
            let tail_len = params.shape().tail_len(8);
            for (head, body, tail) in [
                (4, 8, tail_len),
                (13, 8, tail_len - 1),
                (13, 8, tail_len + 1),
            ] {
                for in_place in [false, true] {
                    let (head, content) = (vec![23; head], vec![9; body]);
                    let record = (0, ContentType::ALERT.0);
                    let (mut page, mut job) = job(
                        &mut world, &session, &head, record, &content, tail, in_place,
                    );
                    let sealed = cipher.seal(core::slice::from_mut(&mut job));
                    assert_eq!(sealed, Err(CryptoError::Backend));
                    assert!(!job.is_sealed());
                    assert_eq!(job.end(), Err(CryptoError::Backend));
                    let outcome = page.end_seal(&mut world.pool);
                    assert_eq!(
                        outcome,
                        Some(SealOutcome::Framed),
                        "the content is as it was"
                    );
                }
            }
            for len in 0..usize::from(params.shape().tag_len) {
                let (head, body) = (vec![23; params.shape().head_len().into()], vec![0; len]);
                let mut job = open_job(&session, 0, &head, &body);
                assert_eq!(cipher.open(&mut job), Err(CryptoError::BadTag));
            }
        }
    }
}

#[test]
fn backends_by_name() {
    let names = |name: &str| -> Vec<_> { Ciphers::new(name.parse().unwrap(), 1).names().collect() };
    assert_eq!(names("auto"), ["aws-lc-rs", "rustcrypto"]);
    assert_eq!(names("aws-lc-rs"), ["aws-lc-rs"]);
    assert_eq!(names("rustcrypto"), ["rustcrypto"]);
    let error = "qat".parse::<BackendChoice>().unwrap_err().to_string();
    assert!(
        error.contains("\"qat\"") && error.contains("\"rustcrypto\""),
        "{error}"
    );
}

#[test]
fn the_first_backend_that_takes_a_suite_gets_it() {
    /// Counts what it's asked, and takes TLS 1.2 only.
    struct Picky(u8);
    impl RecordCipher for Picky {
        fn name(&self) -> &'static str {
            "picky"
        }
        fn priority(&self) -> u8 {
            self.0
        }
        fn supports(&self, params: Params) -> bool {
            params.version == Version::Tls12
        }
        fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
            for job in run {
                job.parts().tail.fill(self.0);
                job.set_result(Ok(()))?;
            }
            Ok(())
        }
        fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
            job.set_result(Err(CryptoError::BadTag))
        }
        fn forget(&mut self, _: SessionId) {}
    }
    let mut ciphers = Ciphers::with_backends(vec![Box::new(Picky(3)), Box::new(Picky(7))]);
    assert!(ciphers.supports(Params::ALL[0]) && !ciphers.supports(Params::ALL[3]));
    let mut world = World::new();
    let mut tail = |params: Params| {
        let (session, tail_len) = (session(params, 0), params.shape().tail_len(1));
        let (mut page, mut job) = job(
            &mut world,
            &session,
            &[0; 13],
            (0, 21),
            b"x",
            tail_len,
            true,
        );
        let result = ciphers.seal(core::slice::from_mut(&mut job));
        job.end().unwrap();
        page.end_seal(&mut world.pool);
        result.map(|()| *page.bytes().unwrap().last().unwrap())
    };
    assert_eq!(tail(Params::ALL[0]), Ok(7));
    assert_eq!(tail(Params::ALL[3]), Err(CryptoError::Unsupported));
    assert_eq!(ciphers.counters.value(Counter::OcfTls12GcmEncrypts), 1);
    assert_eq!(ciphers.counters.value(Counter::OcfInplace), 1);
}

#[test]
fn keys_come_back_after_they_were_put_out() {
    for cipher in &mut backends() {
        let sessions: Vec<_> = (0..20)
            .map(|seed| session(Params::ALL[usize::from(seed) % 6], seed))
            .collect();
        let records: Vec<_> = sessions
            .iter()
            .map(|session| sealed(cipher.as_mut(), session, 77, 23, b"content", true))
            .collect();
        for (session, record) in sessions.iter().zip(&records).rev() {
            assert!(opened(cipher.as_mut(), session, 77, record).is_ok());
            cipher.forget(session.id());
            assert!(opened(cipher.as_mut(), session, 77, record).is_ok());
        }
    }
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..80,
        0..=PLAINTEXT_MAX,
        Just(PLAINTEXT_MAX),
        Just(PLAINTEXT_MAX - 1)
    ]
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(200))]

    /// Each backend judges the other: same bytes on the wire, and each opens what the other sealed.
    #[test]
    fn the_backends_agree(
        params in prop::sample::select(shared()),
        seed: u8,
        number: u64,
        kind in 1..=u8::MAX,
        len in sizes(),
    ) {
        let session = session(params, seed);
        let content: Vec<u8> = (0..len).map(|n| (n * 7 + usize::from(seed)).to_le_bytes()[0]).collect();
        let [mut aws, mut rust] = backends();
        let record = sealed(aws.as_mut(), &session, number, kind, &content, false);
        prop_assert_eq!(&record, &sealed(aws.as_mut(), &session, number, kind, &content, true));
        prop_assert_eq!(&record, &sealed(rust.as_mut(), &session, number, kind, &content, false));
        prop_assert_eq!(&record, &sealed(rust.as_mut(), &session, number, kind, &content, true));
        for cipher in [aws.as_mut(), rust.as_mut()] {
            let (kind_found, found) = opened(cipher, &session, number, &record).unwrap();
            prop_assert_eq!(kind_found, kind);
            prop_assert_eq!(&found, &content);
        }
    }
}

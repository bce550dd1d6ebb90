//! Faults of a client during the handshake: each ends it at once, with the alert that the RFCs
//! name, in plaintext or sealed as the state of the handshake asks for. The table is in
//! `docs/ktls.md`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{Certificate, CipherSuite, TlsOptions, TlsServer, TlsVersions};
use lockgate_stack::{CloseReason, Failure, ListenConfig, Notice};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore};
use support::peer::{Peer, config};
use support::{World, pki};

fn listen(world: &mut World, tls: Arc<TlsServer>) {
    let at = world.b_addr(443);
    let config = ListenConfig {
        tls: Some(tls),
        ..ListenConfig::default()
    };
    world.b.stack.listen(at, config).unwrap();
}

fn server(certificates: Vec<Certificate>, versions: TlsVersions) -> Arc<TlsServer> {
    let options = TlsOptions {
        versions,
        ..TlsOptions::default()
    };
    Arc::new(TlsServer::new(certificates, &options).unwrap())
}

fn closed(world: &mut World) -> CloseReason {
    world.expect(1, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    })
}

/// Sends bytes, however many; runs the world for a few milliseconds.
fn send(world: &mut World, peer: &Peer, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let host = &mut world.a;
        // Refused once the other side has closed: the rest is discarded.
        let Ok(taken) = host.stack.send(peer.socket, rest, false, &mut host.pages) else {
            break;
        };
        rest = &rest[taken as usize..];
        peer.send_raw(world, &[]);
    }
    world.run(Duration::from_millis(5));
}

/// What a client gets for these bytes, and how the server counts it.
fn answer(tls: &Arc<TlsServer>, bytes: &[u8]) -> (Vec<u8>, CloseReason, World) {
    let mut world = World::simple();
    listen(&mut world, tls.clone());
    let peer = Peer::connect(&mut world, &config(pki::SUITES[0].0, pki::SUITES[0].1));
    send(&mut world, &peer, bytes);
    let (answer, end) = world.a.drain(peer.socket);
    assert_eq!(end, Some(true), "the server has closed: {answer:?}");
    world.a.stack.close(peer.socket);
    let reason = closed(&mut world);
    assert_eq!(world.b.stack.handshakes(), 0);
    (answer, reason, world)
}

/// A ClientHello message in one record.
struct Hello<'a> {
    version: [u8; 2],
    suites: &'a [u16],
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello<'_> {
    fn record(&self) -> Vec<u8> {
        let mut body = self.version.to_vec();
        body.extend([7; 32]);
        body.push(0);
        let suites: Vec<u8> = self.suites.iter().flat_map(|s| s.to_be_bytes()).collect();
        body.extend(len16(&suites));
        body.extend([1, 0]);
        let mut extensions = Vec::new();
        for (kind, content) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(len16(content));
        }
        body.extend(len16(&extensions));
        let message = [&[1, 0][..], &len16(&body)].concat();
        [&[22, 3, 1][..], &len16(&message)].concat()
    }
}

/// Bytes behind their length in two bytes.
fn len16(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

/// supported_groups, by their numbers.
fn groups(numbers: &[u16]) -> (u16, Vec<u8>) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    (10, len16(&bytes))
}

/// signature_algorithms, by their numbers.
fn schemes(numbers: &[u16]) -> (u16, Vec<u8>) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    (13, len16(&bytes))
}

fn versions(numbers: &[u16]) -> (u16, Vec<u8>) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    (
        43,
        [&[u8::try_from(bytes.len()).unwrap()][..], &bytes].concat(),
    )
}

/// key_share with a key of X25519.
fn key_share() -> (u16, Vec<u8>) {
    let share = [&[0, 29][..], &len16(&[9; 32])].concat();
    (51, len16(&share))
}

const TLS13_AES_128: u16 = 0x1301;
const ECDSA_AES_128: u16 = 0xc02b;
const RSA_AES_128: u16 = 0xc02f;
const X25519: u16 = 29;
const SECP256R1: u16 = 23;
const SECP384R1: u16 = 24;
const ECDSA_P256: u16 = 0x0403;
const RSA_PSS: u16 = 0x0804;
const RSA_PKCS1: u16 = 0x0401;
const ED25519: u16 = 0x0807;

const MISBEHAVED: CloseReason = CloseReason::Handshake(Failure::Misbehaved);
const MALFORMED: CloseReason = CloseReason::Handshake(Failure::Malformed);
const TOO_LONG: CloseReason = CloseReason::Handshake(Failure::TooLong);
const INCOMPATIBLE: CloseReason = CloseReason::Handshake(Failure::Incompatible);

/// A record that says it's as long as it is.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &len16(content)].concat()
}

#[test]
fn a_fault_before_the_hello_gets_its_alert_at_once() {
    let server = pki::server(&TlsOptions::default());
    let half_a_hello = record(22, &[1, 0, 1, 0, 3, 3, 7, 7]);
    let after_half = |record: &[u8]| [&half_a_hello, record].concat();
    let warnings = record(21, &[1, 90]).repeat(5);
    let rows: Vec<(&str, Vec<u8>, u8, CloseReason)> = vec![
        // RFC 8446, 5: a record of an unexpected type. The header is enough.
        ("type 99", vec![99, 3, 1, 0, 100], 10, MALFORMED),
        ("type 24", vec![24, 3, 3, 0, 100, 1], 10, MALFORMED),
        ("type 0", vec![0; 5], 10, MALFORMED),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 10, MALFORMED),
        ("version 2.0", vec![22, 2, 0, 0, 40], 70, MALFORMED),
        // RFC 8446, 5.1: longer than 2^14. The header is enough.
        ("2^14 + 1", vec![22, 3, 1, 0x40, 1], 22, MISBEHAVED),
        ("alert of 2^15", vec![21, 3, 1, 0x80, 0], 22, MISBEHAVED),
        ("ciphertext", vec![23, 3, 1, 0x41, 1], 22, MISBEHAVED),
        // RFC 5246, 6.2.1: no zero-length fragments.
        ("no handshake", vec![22, 3, 1, 0, 0], 10, MISBEHAVED),
        ("no alert", vec![21, 3, 1, 0, 0], 10, MISBEHAVED),
        ("no CCS", vec![20, 3, 1, 0, 0], 10, MISBEHAVED),
        // RFC 8446, 5: before the first ClientHello.
        ("CCS", record(20, &[1]), 10, MISBEHAVED),
        ("data", record(23, b"hello"), 10, MISBEHAVED),
        // The wrong message, whole or not.
        ("Finished", record(22, &[20, 0, 0, 0]), 10, MISBEHAVED),
        ("HelloRequest", record(22, &[0, 0, 0, 0]), 10, MISBEHAVED),
        (
            "HelloRetryRequest",
            record(22, &[6, 0, 0, 0]),
            10,
            MISBEHAVED,
        ),
        ("message_hash", record(22, &[254, 0, 0, 0]), 10, MISBEHAVED),
        ("text", record(22, b"hello"), 10, MISBEHAVED),
        // Longer than the longest message that is read.
        ("2^16", record(22, &[1, 1, 0, 0]), 47, TOO_LONG),
        ("2^24 - 1", record(22, &[1, 0xff, 0xff, 0xff]), 47, TOO_LONG),
        // RFC 8446, 5.1: nothing between the pieces of a message.
        ("half, CCS", after_half(&record(20, &[1])), 10, MISBEHAVED),
        (
            "half, alert",
            after_half(&record(21, &[1, 90])),
            10,
            MISBEHAVED,
        ),
        ("half, data", after_half(&record(23, b"x")), 10, MISBEHAVED),
        (
            "half, nothing",
            after_half(&record(22, b"")),
            10,
            MISBEHAVED,
        ),
        // Alerts that aren't alerts.
        ("half an alert", record(21, &[1]), 50, MALFORMED),
        ("two alerts", record(21, &[1, 90, 1, 90]), 50, MALFORMED),
        ("level 3", record(21, &[3, 40]), 47, MISBEHAVED),
        ("five warnings", warnings, 10, MISBEHAVED),
        // Syntax.
        ("cut hello", record(22, &[1, 0, 0, 2, 3, 3]), 50, MALFORMED),
    ];
    for (what, bytes, alert, counted) in rows {
        let (answer, reason, mut world) = answer(&server, &bytes);
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "{what}");
        assert_eq!(reason, counted, "{what}");
        let counters = world.b.stack.counters();
        assert_eq!(counters.handshakes_failed_protocol, 1, "{what}");
        assert_eq!(counters.alerts_out, 1, "{what}");
        world.run(Duration::from_secs(70));
        world.b.assert_full();
    }
}

/// RFC 8446, 6.2: after a fatal alert "both parties MUST immediately close the connection". RFC
/// 5246, 7.2.1: a close_notify is answered by another.
#[test]
fn an_alert_instead_of_a_hello_ends_the_handshake() {
    let server = pki::server(&TlsOptions::default());
    let alert = |n| CloseReason::Handshake(Failure::PeerAlert(n));
    let rows: [(u8, u8, &[u8], CloseReason); 4] = [
        (2, 40, &[], alert(40)),
        (2, 80, &[], alert(80)),
        (
            1,
            0,
            &[21, 3, 3, 0, 2, 1, 0],
            CloseReason::Handshake(Failure::PeerClosed),
        ),
        (
            2,
            0,
            &[21, 3, 3, 0, 2, 1, 0],
            CloseReason::Handshake(Failure::PeerClosed),
        ),
    ];
    for (level, description, expected, counted) in rows {
        let (answer, reason, world) = answer(&server, &record(21, &[level, description]));
        assert_eq!(answer, expected, "{level} {description}");
        assert_eq!(reason, counted);
        assert_eq!(world.b.stack.counters().alerts_out, 0);
    }
}

#[test]
fn a_hello_that_nothing_fits_gets_handshake_failure_or_what_it_lacks() {
    let ecdsa = || vec![pki::pki().ecdsa.clone()];
    let both = server(ecdsa(), TlsVersions::Both);
    let only13 = server(ecdsa(), TlsVersions::Tls13);
    let v13 = versions(&[0x304]);
    let rows = [
        // RFC 8446, 4.1.1 and RFC 5246, 7.4.1.3: no certificate fits.
        (
            &both,
            "Ed25519",
            vec![
                v13.clone(),
                groups(&[X25519]),
                schemes(&[ED25519]),
                key_share(),
            ],
            40,
        ),
        (
            &both,
            "PKCS#1",
            vec![
                v13.clone(),
                groups(&[X25519]),
                schemes(&[RSA_PKCS1]),
                key_share(),
            ],
            40,
        ),
        (
            &both,
            "Ed25519, TLS 1.2",
            vec![groups(&[X25519]), schemes(&[ED25519])],
            40,
        ),
        // RFC 8422, 4: neither does its curve.
        (
            &both,
            "X25519 alone",
            vec![groups(&[X25519]), schemes(&[ECDSA_P256])],
            40,
        ),
        // RFC 8446, 9.2: what must be there in TLS 1.3.
        (
            &both,
            "no schemes",
            vec![v13.clone(), groups(&[X25519]), key_share()],
            109,
        ),
        (
            &both,
            "no groups",
            vec![v13.clone(), schemes(&[ECDSA_P256]), key_share()],
            109,
        ),
        (
            &both,
            "no share",
            vec![v13.clone(), groups(&[X25519]), schemes(&[ECDSA_P256])],
            109,
        ),
        (
            &both,
            "no group in common",
            vec![v13, groups(&[30]), schemes(&[ECDSA_P256]), key_share()],
            40,
        ),
        // RFC 8446, 4.2.1: no version in common.
        (&both, "TLS 1.1", vec![versions(&[0x302])], 70),
        (
            &only13,
            "TLS 1.2",
            vec![groups(&[X25519]), schemes(&[ECDSA_P256])],
            70,
        ),
        (
            &only13,
            "TLS 1.2 without schemes",
            vec![groups(&[X25519])],
            70,
        ),
    ];
    for (server, what, extensions, alert) in rows {
        let hello = Hello {
            version: [3, 3],
            suites: &[TLS13_AES_128, ECDSA_AES_128, RSA_AES_128],
            extensions,
        };
        let (answer, reason, world) = answer(server, &hello.record());
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "{what}");
        assert_eq!(reason, INCOMPATIBLE, "{what}");
        let counters = world.b.stack.counters();
        assert_eq!(counters.handshakes_failed_incompatible, 1, "{what}");
        assert_eq!(counters.handshakes_failed_internal, 0, "{what}");
        assert_eq!(counters.alerts_out, 1, "{what}");
    }
}

/// RFC 5246, E.1: a version that is too old is named as the fault, before what else it lacks.
#[test]
fn tls_1_1_gets_protocol_version() {
    let server = server(vec![pki::pki().ecdsa.clone()], TlsVersions::Both);
    for extensions in [
        vec![groups(&[SECP256R1])],
        vec![groups(&[SECP256R1]), schemes(&[ECDSA_P256])],
    ] {
        let hello = Hello {
            version: [3, 2],
            suites: &[ECDSA_AES_128],
            extensions,
        };
        let (answer, reason, _) = answer(&server, &hello.record());
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
        assert_eq!(reason, INCOMPATIBLE);
    }
}

/// The suite of the ServerHello at the front of an answer.
fn chosen_suite(answer: &[u8]) -> u16 {
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello: {answer:?}");
    let session_id = usize::from(answer[5 + 4 + 2 + 32]);
    let at = 5 + 4 + 2 + 32 + 1 + session_id;
    u16::from_be_bytes([answer[at], answer[at + 1]])
}

/// RFC 8422, 4: "The server MUST consider the extensions in both cases": for the key exchange and
/// for the certificate.
#[test]
fn in_tls12_the_groups_of_the_client_choose_the_certificate() {
    let pki = pki::pki();
    let both = || vec![pki.ecdsa.clone(), pki.rsa.clone()];
    let all_schemes = schemes(&[ECDSA_P256, RSA_PSS, ED25519]);
    let suites = &[TLS13_AES_128, ECDSA_AES_128, RSA_AES_128];
    for spoken in [TlsVersions::Both, TlsVersions::Tls12] {
        let server = server(both(), spoken);
        let rows: [(&[u16], u16); 5] = [
            (&[X25519], RSA_AES_128),
            (&[SECP384R1], RSA_AES_128),
            (&[X25519, SECP384R1], RSA_AES_128),
            (&[SECP256R1], ECDSA_AES_128),
            (&[X25519, SECP256R1], ECDSA_AES_128),
        ];
        for (numbers, suite) in rows {
            // One TLS 1.3 suite in the list makes no TLS 1.3.
            let hello = Hello {
                version: [3, 3],
                suites,
                extensions: vec![groups(numbers), all_schemes.clone()],
            };
            assert_eq!(
                first_answer(&server, &hello),
                suite,
                "{spoken:?} {numbers:?}"
            );
        }
        // Suites of RSA alone.
        let hello = Hello {
            version: [3, 3],
            suites: &[TLS13_AES_128, RSA_AES_128],
            extensions: vec![groups(&[X25519, SECP256R1]), all_schemes.clone()],
        };
        assert_eq!(first_answer(&server, &hello), RSA_AES_128, "{spoken:?}");
    }
    // Suites of RSA alone, on our side.
    let options = TlsOptions {
        suites: vec![CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        versions: TlsVersions::Tls12,
        ..TlsOptions::default()
    };
    let server = Arc::new(TlsServer::new(both(), &options).unwrap());
    let hello = Hello {
        version: [3, 3],
        suites,
        extensions: vec![groups(&[SECP256R1]), all_schemes],
    };
    assert_eq!(first_answer(&server, &hello), RSA_AES_128);
}

/// The suite that a server chooses.
fn first_answer(tls: &Arc<TlsServer>, hello: &Hello<'_>) -> u16 {
    let mut world = World::simple();
    listen(&mut world, tls.clone());
    let peer = Peer::connect(&mut world, &config(pki::SUITES[0].0, pki::SUITES[0].1));
    send(&mut world, &peer, &hello.record());
    let (answer, _) = world.a.drain(peer.socket);
    chosen_suite(&answer)
}

/// A rustls client with this version and these groups.
fn client(versions: TlsVersions, groups: &[&'static dyn SupportedKxGroup]) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = groups.to_vec();
    let versions: &[_] = match versions {
        TlsVersions::Tls12 => &[&rustls::version::TLS12],
        TlsVersions::Tls13 => &[&rustls::version::TLS13],
        TlsVersions::Both => rustls::ALL_VERSIONS,
    };
    let mut roots = RootCertStore::empty();
    roots.add(pki::pki().root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Whole handshakes: every pair of versions and groups, with the certificate that has to be chosen.
#[test]
fn every_mixture_of_groups_and_versions_finds_its_certificate() {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    let pki = pki::pki();
    let server = server(vec![pki.ecdsa.clone(), pki.rsa.clone()], TlsVersions::Both);
    let rows: [(&[&'static dyn SupportedKxGroup], bool); 5] = [
        (&[X25519], false),
        (&[SECP384R1], false),
        (&[SECP256R1], true),
        (&[X25519, SECP256R1], true),
        (&[SECP384R1, X25519], false),
    ];
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13, TlsVersions::Both] {
        for (groups, has_p256) in rows {
            let mut world = World::simple();
            listen(&mut world, server.clone());
            let mut peer = Peer::connect(&mut world, &Arc::new(client(versions, groups)));
            peer.pump(&mut world);
            assert_eq!(peer.error, None, "{versions:?} {groups:?}");
            assert!(!peer.tls.is_handshaking(), "{versions:?} {groups:?}");
            let suite = peer.tls.negotiated_cipher_suite().unwrap().suite();
            if versions == TlsVersions::Tls12 {
                let name = format!("{suite:?}");
                assert_eq!(name.contains("ECDSA"), has_p256, "{groups:?}: {name}");
            }
        }
    }
}

/// A client that has read the server's first flight, and not answered it.
fn greeted(config: &Arc<ClientConfig>) -> (World, Peer) {
    let mut world = World::simple();
    listen(&mut world, pki::server(&TlsOptions::default()));
    let peer = greet(&mut world, config);
    (world, peer)
}

fn greet(world: &mut World, config: &Arc<ClientConfig>) -> Peer {
    let mut peer = Peer::connect(world, config);
    let hello = peer.outgoing();
    peer.send_raw(world, &hello);
    peer.read(world);
    assert_eq!(peer.error, None);
    peer
}

/// What the client reads then, and how the server counts it.
fn outcome(mut world: World, mut peer: Peer) -> (Option<Error>, CloseReason, u64) {
    world.run(Duration::from_millis(5));
    peer.read(&mut world);
    world.a.stack.close(peer.socket);
    let reason = closed(&mut world);
    let alerts = world.b.stack.counters().alerts_out;
    world.run(Duration::from_secs(70));
    assert_eq!(world.b.stack.handshakes(), 0);
    world.b.assert_full();
    (peer.error, reason, alerts)
}

/// RFC 8446: behind the server's Finished its alerts are sealed, those of the library and ours.
#[test]
fn a_fault_after_the_server_hello_of_tls13_gets_a_sealed_alert() {
    use AlertDescription as A;
    let ccs = record(20, &[1]);
    let rows: Vec<(&str, Vec<u8>, AlertDescription)> = vec![
        ("type 99", vec![99, 3, 3, 0, 1], A::UnexpectedMessage),
        ("type 24", vec![24, 3, 3, 0, 1], A::UnexpectedMessage),
        ("version 2.3", vec![23, 2, 3, 0, 40], A::ProtocolVersion),
        (
            "plaintext",
            record(22, &[20, 0, 0, 0]),
            A::UnexpectedMessage,
        ),
        (
            "a second hello",
            record(22, &[1, 0, 0, 0]),
            A::UnexpectedMessage,
        ),
        ("CCS of 2", record(20, &[2]), A::UnexpectedMessage),
        (
            "CCS of two bytes",
            record(20, &[1, 1]),
            A::UnexpectedMessage,
        ),
        ("33 CCS", ccs.repeat(33), A::UnexpectedMessage),
        ("alert of one byte", record(21, &[1]), A::UnexpectedMessage),
        ("2^14 + 257", vec![23, 3, 3, 0x41, 1], A::RecordOverflow),
        ("nothing", vec![23, 3, 3, 0, 0], A::BadRecordMac),
        ("short", record(23, &[1; 15]), A::BadRecordMac),
        ("forged", record(23, &[1; 40]), A::BadRecordMac),
    ];
    for (suite, versions) in &pki::SUITES[..3] {
        for (what, bytes, alert) in &rows {
            let (mut world, peer) = greeted(&config(*suite, *versions));
            send(&mut world, &peer, bytes);
            let (error, reason, alerts) = outcome(world, peer);
            assert_eq!(error, Some(Error::AlertReceived(*alert)), "{what}");
            assert!(
                matches!(reason, MISBEHAVED | MALFORMED),
                "{what}: {reason:?}"
            );
            assert_eq!(alerts, 1, "{what}");
        }
    }
}

/// RFC 8446, 5: a change_cipher_spec record is dropped "without further processing", however many
/// there are within reason.
#[test]
fn change_cipher_spec_records_in_tls13_are_dropped() {
    let (mut world, mut peer) = greeted(&config(pki::SUITES[0].0, pki::SUITES[0].1));
    let finished = peer.outgoing();
    send(&mut world, &peer, &record(20, &[1]).repeat(30));
    send(&mut world, &peer, &finished);
    peer.pump(&mut world);
    assert_eq!(world.b.stack.counters().handshakes_tls13, 1);
    // Afterwards there's no place for one.
    send(&mut world, &peer, &record(20, &[1]));
    let socket = world.expect(1, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, _) => Some(*socket),
        _ => None,
    });
    world.b.drain(socket);
    let (error, reason, _) = outcome(world, peer);
    let unexpected = Error::AlertReceived(AlertDescription::UnexpectedMessage);
    assert_eq!(error, Some(unexpected));
    let unprotected = lockgate_ktls::RxError::Unprotected;
    assert_eq!(reason, CloseReason::Tls(unprotected));
}

/// An alert in plaintext may be from a client that couldn't read the ServerHello.
#[test]
fn a_plaintext_alert_after_the_server_hello_is_not_answered() {
    let (mut world, peer) = greeted(&config(pki::SUITES[0].0, pki::SUITES[0].1));
    send(&mut world, &peer, &record(21, &[1, 40]));
    let (error, reason, alerts) = outcome(world, peer);
    assert_eq!((error, alerts), (None, 0));
    assert_eq!(reason, CloseReason::Handshake(Failure::PeerAlert(40)));
}

/// TLS 1.2: in plaintext as long as the server has no keys, behind its Finished sealed.
#[test]
fn a_fault_in_the_middle_of_tls12_gets_its_alert() {
    use AlertDescription as A;
    let (suite, versions) = pki::SUITES[3];
    // Full handshake: the client's flight is its key, ChangeCipherSpec and Finished.
    let rows: Vec<(&str, usize, Vec<u8>, AlertDescription)> = vec![
        ("type 99", 0, vec![99, 3, 3, 0, 1], A::UnexpectedMessage),
        ("2^14 + 1", 0, vec![22, 3, 3, 0x40, 1], A::RecordOverflow),
        (
            "no handshake",
            0,
            vec![22, 3, 3, 0, 0],
            A::UnexpectedMessage,
        ),
        (
            "a second hello",
            0,
            record(22, &[1, 0, 0, 0]),
            A::DecodeError,
        ),
        ("type 99", 2, vec![99, 3, 3, 0, 1], A::UnexpectedMessage),
        ("no tag", 2, record(22, &[1; 15]), A::BadRecordMac),
        ("nothing", 2, vec![22, 3, 3, 0, 0], A::BadRecordMac),
        ("forged", 2, record(22, &[1; 40]), A::BadRecordMac),
        ("2^14 + 2049", 2, vec![22, 3, 3, 0x48, 1], A::RecordOverflow),
    ];
    for (what, records, bytes, alert) in rows {
        let (mut world, mut peer) = greeted(&config(suite, versions));
        let flight = peer.outgoing();
        let cut = end_of(&flight, records);
        send(&mut world, &peer, &[&flight[..cut], &bytes].concat());
        let (error, reason, alerts) = outcome(world, peer);
        assert_eq!(error, Some(Error::AlertReceived(alert)), "{what}");
        assert!(
            matches!(reason, MISBEHAVED | MALFORMED),
            "{what}: {reason:?}"
        );
        assert_eq!(alerts, 1, "{what}");
    }
    // Resumed: the server's Finished comes first. The alerts behind it are sealed.
    let rows: Vec<(&str, usize, Vec<u8>, AlertDescription)> = vec![
        ("type 99", 0, vec![99, 3, 3, 0, 1], A::UnexpectedMessage),
        ("type 99", 1, vec![99, 3, 3, 0, 1], A::UnexpectedMessage),
        ("2^14 + 1", 0, vec![22, 3, 3, 0x40, 1], A::RecordOverflow),
        ("no tag", 1, record(22, &[1; 15]), A::BadRecordMac),
        ("nothing", 1, vec![22, 3, 3, 0, 0], A::BadRecordMac),
        ("2^14 + 2048", 1, vec![22, 3, 3, 0x48, 0], A::RecordOverflow),
        ("2^14 + 2049", 1, vec![22, 3, 3, 0x48, 1], A::RecordOverflow),
    ];
    for (what, records, bytes, alert) in rows {
        let mut config = Arc::unwrap_or_clone(config(suite, versions));
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let mut world = World::simple();
        listen(&mut world, pki::server(&TlsOptions::default()));
        let mut first = Peer::connect(&mut world, &config);
        first.pump(&mut world);
        world.a.stack.close(first.socket);
        let done = world.expect(1, "HandshakeDone", |n| match n {
            Notice::HandshakeDone(socket, _) => Some(*socket),
            _ => None,
        });
        world.b.stack.close(done);
        closed(&mut world);
        let before = world.b.stack.counters().alerts_out;
        let mut peer = greet(&mut world, &config);
        let flight = peer.outgoing();
        let cut = end_of(&flight, records);
        let bytes = [&flight[..cut], &bytes].concat();
        send(&mut world, &peer, &bytes);
        assert_eq!(
            peer.tls.handshake_kind(),
            Some(rustls::HandshakeKind::Resumed)
        );
        let (error, reason, alerts) = outcome(world, peer);
        assert_eq!(error, Some(Error::AlertReceived(alert)), "{what}");
        assert!(
            matches!(reason, MISBEHAVED | MALFORMED),
            "{what}: {reason:?}"
        );
        assert_eq!(alerts - before, 1, "{what}, {records}");
    }
}

/// Where a stream's first `count` records end.
fn end_of(stream: &[u8], count: usize) -> usize {
    (0..count).fold(0, |at, _| {
        at + 5 + usize::from(u16::from_be_bytes([stream[at + 3], stream[at + 4]]))
    })
}

/// A hello of the greatest length, in records of the greatest length and in small ones.
#[test]
fn a_hello_of_64_kilobytes_is_served() {
    for (suite, versions) in [pki::SUITES[0], pki::SUITES[3]] {
        for fragment in [None, Some(200)] {
            let mut config = Arc::unwrap_or_clone(config(suite, versions));
            // Protocols that the server, which has none, doesn't look at.
            config.alpn_protocols = (0..254).map(|n| vec![n; 255]).collect();
            config.max_fragment_size = fragment;
            let mut world = World::simple();
            listen(&mut world, pki::server(&TlsOptions::default()));
            let mut peer = Peer::connect(&mut world, &Arc::new(config));
            let hello = peer.outgoing();
            assert!(hello.len() > 65_000, "{}", hello.len());
            send(&mut world, &peer, &hello);
            peer.pump(&mut world);
            assert_eq!(peer.error, None, "{suite:?} {fragment:?}");
            assert!(!peer.tls.is_handshaking(), "{suite:?} {fragment:?}");
            let counters = world.b.stack.counters();
            let done = counters.handshakes_tls12 + counters.handshakes_tls13;
            assert_eq!((done, counters.handshakes_failed), (1, 0));
        }
    }
}

/// Pieces of a byte each take six bytes to keep: there's a limit to that.
#[test]
fn a_message_in_too_many_pieces_is_refused() {
    let mut bytes = record(22, &[1, 0, 0xff, 0xff]);
    for _ in 0..30_000 {
        bytes.extend(record(22, &[0]));
    }
    let server = pki::server(&TlsOptions::default());
    let (answer, reason, _) = answer(&server, &bytes);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 47]);
    assert_eq!(reason, TOO_LONG);
}

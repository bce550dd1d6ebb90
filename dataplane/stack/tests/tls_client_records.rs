//! A client's records between the server's first flight and its own Finished, sealed by the test as
//! no honest client does: each fault gets the alert that the RFCs name, and early data of an
//! unknown ticket is skipped. The table is in `docs/ktls.md`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use lockgate_ktls::{Session, Suite};
use lockgate_stack::tls::{CipherSuite, TlsOptions, TlsVersions};
use lockgate_stack::{CloseReason, Failure, ListenConfig, Notice};
use lockgate_testing::certificates::{Authority, KeyKind};
use rustls::client::Resumption;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{
    AlertDescription as A, ClientConfig, ClientConnection, Error, KeyLog, RootCertStore,
    ServerConfig, ServerConnection,
};
use support::peer::{Peer, config};
use support::{World, pki};

/// A world whose host B listens.
fn listening() -> World {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let config = ListenConfig {
        tls: Some(pki::server(&TlsOptions::default())),
        ..ListenConfig::default()
    };
    world.b.stack.listen(at, config).unwrap();
    world
}

/// Connects a client that reads the server's first flight and does not answer it.
fn greet(world: &mut World, config: &Arc<ClientConfig>) -> Peer {
    let mut peer = Peer::connect(world, config);
    let hello = peer.outgoing();
    peer.send_raw(world, &hello);
    peer.read(world);
    assert_eq!(peer.error, None);
    peer
}

/// Sends bytes, however many; runs the world for a few milliseconds.
fn send(world: &mut World, peer: &Peer, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let host = &mut world.a;
        // Refused once the other side has closed: the rest stays unread.
        let Ok(taken) = host.stack.send(peer.socket, rest, false, &mut host.pages) else {
            break;
        };
        rest = &rest[taken as usize..];
        peer.send_raw(world, &[]);
    }
    world.run(Duration::from_millis(5));
}

/// How a refused handshake looks from both ends.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The alert that the client read.
    alert: Option<A>,
    /// Whether the client read a close_notify.
    close_notify: bool,
    /// Counters of the server.
    alerts_out: u64,
    close_notify_out: u64,
}

/// Reads what the server answered, within milliseconds of the fault.
fn outcome(mut world: World, mut peer: Peer) -> (Outcome, CloseReason) {
    let before = *world.b.stack.counters();
    world.run(Duration::from_millis(5));
    peer.read(&mut world);
    world.a.stack.close(peer.socket);
    let reason = world.expect(1, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    });
    let after = *world.b.stack.counters();
    assert_eq!(after.handshakes_failed, 1, "before the time-out");
    assert_eq!(before.handshakes_failed, 1, "before the time-out");
    world.run(Duration::from_secs(70));
    assert_eq!(world.b.stack.handshakes(), 0);
    world.b.assert_full();
    let alert = peer.error.map(|error| match error {
        Error::AlertReceived(alert) => alert,
        error => panic!("{error}"),
    });
    let outcome = Outcome {
        alert,
        close_notify: peer.clean_end,
        alerts_out: after.alerts_out,
        // Each connection before this one was closed by one.
        close_notify_out: after.close_notify_out - after.handshakes_tls12,
    };
    (outcome, reason)
}

fn with_alert(alert: A) -> Outcome {
    Outcome {
        alert: Some(alert),
        close_notify: false,
        alerts_out: 1,
        close_notify_out: 0,
    }
}

const CLOSED: Outcome = Outcome {
    alert: None,
    close_notify: true,
    alerts_out: 0,
    close_notify_out: 1,
};

/// A record that says it's as long as it is.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3, len[0], len[1]], content].concat()
}

/// Where a stream's first `count` records end.
fn end_of(stream: &[u8], count: usize) -> usize {
    (0..count).fold(0, |at, _| {
        at + 5 + usize::from(u16::from_be_bytes([stream[at + 3], stream[at + 4]]))
    })
}

/// Keeps the client's handshake traffic secret.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<u8>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == "CLIENT_HANDSHAKE_TRAFFIC_SECRET" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

/// Seals records with a client's handshake keys: any type, any content, any padding.
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u8,
}

impl Sealer {
    fn new(suite: CipherSuite, secrets: &Secrets) -> Self {
        let (suite, algorithm) = match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => (Suite::Aes128Gcm, &aead::AES_128_GCM),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => (Suite::Aes256Gcm, &aead::AES_256_GCM),
            _ => (Suite::Chacha20Poly1305, &aead::CHACHA20_POLY1305),
        };
        let session = Session::from_secret(suite, &secrets.0.lock().unwrap()).unwrap();
        let keys = session.keys();
        Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, keys.key()).unwrap()),
            iv: *keys.iv(),
            number: 0,
        }
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = self.iv;
        nonce[11] ^= self.number;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[kind], &vec![0; padding]].concat();
        let header = record(23, &vec![0; inner.len() + 16])[..5].to_vec();
        let aad = Aad::from(&header);
        self.key
            .seal_in_place_append_tag(self.nonce(), aad, &mut inner)
            .unwrap();
        self.number += 1;
        [header, inner].concat()
    }

    /// The content of the record that would be the next one.
    fn open(&self, record: &[u8]) -> Vec<u8> {
        let mut body = record[5..].to_vec();
        let aad = Aad::from(&record[..5]);
        let inner = self.key.open_in_place(self.nonce(), aad, &mut body);
        let inner = inner.unwrap();
        assert_eq!(inner.last(), Some(&22), "a handshake record");
        inner[..inner.len() - 1].to_vec()
    }
}

/// A client of TLS 1.3 that has read the server's flight, and what seals in its name.
fn greeted13(suite: CipherSuite) -> (World, Peer, Sealer) {
    let secrets = Arc::new(Secrets::default());
    let mut config = Arc::unwrap_or_clone(config(suite, TlsVersions::Tls13));
    config.key_log = secrets.clone();
    let mut world = listening();
    let peer = greet(&mut world, &Arc::new(config));
    let sealer = Sealer::new(suite, &secrets);
    (world, peer, sealer)
}

/// What a client sends, sealed.
type Records = fn(&mut Sealer, usize) -> Vec<u8>;

/// Records that a client may not send, with their alerts.
const PROTECTED: &[(&str, Records, A)] = &[
    (
        "no handshake",
        |s, _| s.seal(22, b"", 0),
        A::UnexpectedMessage,
    ),
    (
        "no handshake, padded",
        |s, _| s.seal(22, b"", 9),
        A::UnexpectedMessage,
    ),
    ("no alert", |s, _| s.seal(21, b"", 0), A::UnexpectedMessage),
    (
        "no alert, padded",
        |s, _| s.seal(21, b"", 300),
        A::UnexpectedMessage,
    ),
    ("no type", |s, _| s.seal(0, b"", 4), A::UnexpectedMessage),
    ("CCS", |s, _| s.seal(20, &[1], 0), A::UnexpectedMessage),
    (
        "CCS, padded",
        |s, _| s.seal(20, &[1], 7),
        A::UnexpectedMessage,
    ),
    ("type 24", |s, _| s.seal(24, &[1], 0), A::UnexpectedMessage),
    (
        "type 99, padded",
        |s, _| s.seal(99, &[1; 40], 3),
        A::UnexpectedMessage,
    ),
    ("data", |s, _| s.seal(23, b"GET /", 0), A::UnexpectedMessage),
    ("no data", |s, _| s.seal(23, b"", 0), A::UnexpectedMessage),
    (
        "a hello",
        |s, _| s.seal(22, &[1, 0, 0, 9], 0),
        A::UnexpectedMessage,
    ),
    (
        "KeyUpdate",
        |s, _| s.seal(22, &[24, 0, 0, 1, 0], 0),
        A::UnexpectedMessage,
    ),
    (
        "message_hash",
        |s, _| s.seal(22, &[254, 0, 0, 0], 0),
        A::UnexpectedMessage,
    ),
    ("half an alert", |s, _| s.seal(21, &[1], 0), A::DecodeError),
    (
        "two alerts",
        |s, _| s.seal(21, &[1, 90, 1, 90], 0),
        A::DecodeError,
    ),
    (
        "2^14 + 1",
        |s, _| s.seal(22, &[20; (1 << 14) + 1], 0),
        A::RecordOverflow,
    ),
    // RFC 8446, 6.2: a Finished of the wrong length, whole or not.
    (
        "short Finished",
        |s, hash| finished(s, hash - 1),
        A::DecodeError,
    ),
    (
        "long Finished",
        |s, hash| finished(s, hash + 1),
        A::DecodeError,
    ),
    ("empty Finished", |s, _| finished(s, 0), A::DecodeError),
    (
        "wrong Finished",
        |s, hash| finished(s, hash),
        A::DecryptError,
    ),
    (
        "Finished of 2^16",
        |s, _| s.seal(22, &[20, 1, 0, 0], 0),
        A::IllegalParameter,
    ),
    (
        "header in pieces",
        |s, hash| {
            let len = u8::try_from(hash).unwrap() - 1;
            [
                s.seal(22, &[20], 0),
                s.seal(22, &[0, 0], 5),
                s.seal(22, &[len], 0),
            ]
            .concat()
        },
        A::DecodeError,
    ),
    // RFC 8446, 5.1: nothing between the pieces of a message.
    (
        "half, nothing",
        |s, _| [s.seal(22, &[20, 0], 0), s.seal(22, b"", 0)].concat(),
        A::UnexpectedMessage,
    ),
    (
        "half, alert",
        |s, _| [s.seal(22, &[20, 0], 0), s.seal(21, &[1, 90], 0)].concat(),
        A::UnexpectedMessage,
    ),
    (
        "half, close_notify",
        |s, _| [s.seal(22, &[20, 0], 0), s.seal(21, &[1, 0], 0)].concat(),
        A::UnexpectedMessage,
    ),
    (
        "half, CCS",
        |s, _| [s.seal(22, &[20, 0], 0), record(20, &[1])].concat(),
        A::UnexpectedMessage,
    ),
    (
        "half, forged",
        |s, _| [s.seal(22, &[20, 0], 0), record(23, &[1; 40])].concat(),
        A::BadRecordMac,
    ),
    (
        "five times user_canceled",
        |s, _| (0..5).flat_map(|_| s.seal(21, &[1, 90], 0)).collect(),
        A::UnexpectedMessage,
    ),
];

/// RFC 8446, 5 and 5.4: what may stand in a protected record of a handshake.
#[test]
fn a_protected_record_of_tls13_that_may_not_be_gets_its_alert() {
    for (suite, hash) in [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, 32),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, 48),
        (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, 32),
    ] {
        for (what, records, alert) in PROTECTED {
            let (mut world, peer, mut sealer) = greeted13(suite);
            let bytes = records(&mut sealer, hash);
            send(&mut world, &peer, &bytes);
            assert_eq!(world.b.stack.counters().handshakes_failed, 1, "{what}");
            let (outcome, reason) = outcome(world, peer);
            assert_eq!(outcome, with_alert(*alert), "{what}");
            let counted = [Failure::Misbehaved, Failure::Malformed, Failure::TooLong];
            assert!(
                counted.map(CloseReason::Handshake).contains(&reason),
                "{what}: {reason:?}"
            );
        }
    }
}

/// A Finished of this length with nothing right in it.
fn finished(sealer: &mut Sealer, len: usize) -> Vec<u8> {
    let header = [20, 0, 0, u8::try_from(len).unwrap()];
    sealer.seal(22, &[&header[..], &vec![7; len]].concat(), 0)
}

/// RFC 8446, 6.1: each side sends a close_notify before it closes.
#[test]
fn a_protected_close_notify_is_answered_by_another() {
    for (suite, _) in &pki::SUITES[..3] {
        for (level, padding) in [(1, 0), (2, 0), (1, 20)] {
            let (mut world, peer, mut sealer) = greeted13(*suite);
            let bytes = sealer.seal(21, &[level, 0], padding);
            send(&mut world, &peer, &bytes);
            let (outcome, reason) = outcome(world, peer);
            assert_eq!(outcome, CLOSED, "{suite:?} {level} {padding}");
            assert_eq!(reason, CloseReason::Handshake(Failure::PeerClosed));
        }
        // Other alerts get no answer.
        let (mut world, peer, mut sealer) = greeted13(*suite);
        let bytes = sealer.seal(21, &[2, 42], 0);
        send(&mut world, &peer, &bytes);
        let (outcome, reason) = outcome(world, peer);
        let silence = Outcome {
            close_notify: false,
            close_notify_out: 0,
            ..CLOSED
        };
        assert_eq!(outcome, silence, "{suite:?}");
        assert_eq!(reason, CloseReason::Handshake(Failure::PeerAlert(42)));
    }
}

/// A Finished in pieces of every length, padded, and after a warning, is a Finished.
#[test]
fn a_finished_in_pieces_is_accepted() {
    for (suite, _) in &pki::SUITES[..3] {
        for piece in [1, 3, 4, 5, 20, 100] {
            let (mut world, mut peer, mut sealer) = greeted13(*suite);
            let flight = peer.outgoing();
            let ccs = end_of(&flight, 1);
            assert_eq!(flight[0], 20);
            let finished = sealer.open(&flight[ccs..]);
            let mut bytes = flight[..ccs].to_vec();
            bytes.extend(sealer.seal(21, &[1, 90], 2));
            for piece in finished.chunks(piece) {
                bytes.extend(sealer.seal(22, piece, piece.len() % 3));
            }
            send(&mut world, &peer, &bytes);
            peer.pump(&mut world);
            assert_eq!(peer.error, None, "{suite:?} {piece}");
            let counters = world.b.stack.counters();
            assert_eq!(
                (counters.handshakes_tls13, counters.handshakes_failed),
                (1, 0),
                "{suite:?} {piece}"
            );
        }
    }
}

/// A client with a ticket of another server, which allows this much early data.
fn early_client(suite: CipherSuite, max_early_data: u32) -> Arc<ClientConfig> {
    let authority = Authority::new("other root");
    let leaf = authority.issue(&[pki::NAME], KeyKind::Ed25519);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().into()).unwrap();
    roots.add(pki::pki().root.clone()).unwrap();

    let base = config(suite, TlsVersions::Tls13);
    let provider = base.crypto_provider().clone();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);

    let key = PrivatePkcs8KeyDer::from(leaf.key()).into();
    let mut other = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.certificate().into()], key)
        .unwrap();
    other.max_early_data_size = max_early_data;
    let mut client = ClientConnection::new(config.clone(), pki::name()).unwrap();
    let mut server = ServerConnection::new(Arc::new(other)).unwrap();
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!client.is_handshaking());
    config
}

/// Writes early data in records of these lengths behind a hello, and runs the handshake.
fn send_early(config: &Arc<ClientConfig>, lengths: &[usize]) -> (World, Peer) {
    let mut world = listening();
    let mut peer = Peer::connect(&mut world, config);
    for len in lengths {
        let mut early = peer.tls.early_data().unwrap();
        early.write_all(&vec![0x5a; *len]).unwrap();
    }
    let bytes = peer.outgoing();
    let records = (0..)
        .take_while(|n| end_of(&bytes, *n) < bytes.len())
        .count();
    assert!(records > lengths.len(), "the hello and {lengths:?}");
    send(&mut world, &peer, &bytes);
    (world, peer)
}

/// RFC 8446, 4.2.10: a server that rejects early data skips its records, each once.
#[test]
fn rejected_early_data_is_skipped() {
    let full = 1 << 14;
    let rows: [&[usize]; 9] = [
        &[1],
        &[200; 16],
        &[100; 20],
        &[1400; 10],
        &[6000],
        &[12_000],
        &[1; 300],
        &[8192; 2],
        &[full],
    ];
    for (suite, _) in &pki::SUITES[..3] {
        for lengths in rows {
            // One ticket for each: those of this server allow none.
            let config = early_client(*suite, 1 << 14);
            let (mut world, mut peer) = send_early(&config, lengths);
            peer.pump(&mut world);
            assert_eq!(peer.error, None, "{suite:?} {lengths:?}");
            assert!(!peer.tls.is_early_data_accepted());
            assert_eq!(peer.tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
            let counters = world.b.stack.counters();
            assert_eq!(
                (counters.handshakes_tls13, counters.handshakes_failed),
                (1, 0),
                "{suite:?} {lengths:?}"
            );
            // What follows the Finished is read, and nothing of the early data.
            let socket = world.expect(1, "HandshakeDone", |n| match n {
                Notice::HandshakeDone(socket, _) => Some(*socket),
                _ => None,
            });
            peer.write(b"late data");
            let bytes = peer.outgoing();
            send(&mut world, &peer, &bytes);
            assert_eq!(world.b.drain(socket).0, b"late data");
        }
    }
}

/// There's an end to it, and none without the extension.
#[test]
fn more_early_data_than_may_be_skipped_is_refused() {
    let suite = pki::SUITES[0].0;
    let full = 1 << 14;
    for lengths in [&[full, 1][..], &[1, full], &[8192, 8193], &[1400; 12]] {
        let (world, peer) = send_early(&early_client(suite, 1 << 16), lengths);
        let (outcome, reason) = outcome(world, peer);
        let alert = A::BadRecordMac;
        assert_eq!(outcome, with_alert(alert), "{lengths:?}");
        assert_eq!(reason, CloseReason::Handshake(Failure::Misbehaved));
    }
    // A record of a forger between early data and the Finished passes for early data, one after a
    // record that opened doesn't.
    let secrets = Arc::new(Secrets::default());
    let config = early_client(suite, 1 << 14);
    let mut config = Arc::unwrap_or_clone(config);
    config.key_log = secrets.clone();
    let (mut world, mut peer) = send_early(&Arc::new(config), &[700; 2]);
    peer.read(&mut world);
    assert_eq!(peer.error, None);
    let mut sealer = Sealer::new(suite, &secrets);
    let warning = sealer.seal(21, &[1, 90], 0);
    send(&mut world, &peer, &record(23, &[1; 17]));
    assert_eq!(world.b.stack.counters().handshakes_failed, 0);
    send(
        &mut world,
        &peer,
        &[&warning[..], &record(23, &[1; 17])].concat(),
    );
    let (outcome, _) = outcome(world, peer);
    assert_eq!(outcome, with_alert(A::BadRecordMac));
}

/// A client of TLS 1.2 that resumes a session, and has read the server's Finished.
fn resumed(suite: CipherSuite) -> (World, Peer) {
    let mut config = Arc::unwrap_or_clone(config(suite, TlsVersions::Tls12));
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    let mut world = listening();
    let mut first = Peer::connect(&mut world, &config);
    first.pump(&mut world);
    world.a.stack.close(first.socket);
    let done = world.expect(1, "HandshakeDone", |n| match n {
        Notice::HandshakeDone(socket, _) => Some(*socket),
        _ => None,
    });
    world.b.stack.close(done);
    world.expect(1, "Closed", |n| {
        matches!(n, Notice::Closed(..)).then_some(())
    });
    let peer = greet(&mut world, &config);
    let kind = peer.tls.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
    (world, peer)
}

/// TLS 1.2 between the server's Finished and the client's: every alert is sealed, and says what is
/// wrong.
#[test]
fn a_fault_before_the_finished_of_a_resumed_session_gets_its_alert() {
    let ccs = record(20, &[1]);
    let half = record(22, &[20, 0]);
    let with_half = |record: &[u8]| [&half, record].concat();
    let mut pieces = record(22, &[20, 0, 0xff, 0xff]);
    pieces.extend(record(22, &[0]).repeat(30_000));
    let rows: Vec<(&str, Vec<u8>, A)> = vec![
        ("type 24", vec![24, 3, 3, 0, 1], A::UnexpectedMessage),
        ("2^14 + 1", vec![22, 3, 3, 0x40, 1], A::RecordOverflow),
        ("version 2.3", vec![22, 2, 3, 0, 9], A::ProtocolVersion),
        ("no handshake", vec![22, 3, 3, 0, 0], A::UnexpectedMessage),
        (
            "Finished of 2^24 - 1",
            record(22, &[20, 0xff, 0xff, 0xff]),
            A::IllegalParameter,
        ),
        (
            "Certificate of 2^24 - 1",
            record(22, &[11, 0xff, 0xff, 0xff]),
            A::IllegalParameter,
        ),
        (
            "Finished of 2^16",
            record(22, &[20, 1, 0, 0]),
            A::IllegalParameter,
        ),
        (
            "message_hash",
            record(22, &[254, 0, 0, 0]),
            A::UnexpectedMessage,
        ),
        ("half, CCS", with_half(&ccs), A::UnexpectedMessage),
        (
            "half, type 24",
            with_half(&[24, 3, 3, 0, 1]),
            A::UnexpectedMessage,
        ),
        (
            "half, alert",
            with_half(&record(21, &[1, 90])),
            A::UnexpectedMessage,
        ),
        (
            "Finished without CCS",
            record(22, &[&[20, 0, 0, 12][..], &[7; 12]].concat()),
            A::UnexpectedMessage,
        ),
        ("data", record(23, b"GET /"), A::UnexpectedMessage),
        (
            "six warnings",
            record(21, &[1, 90]).repeat(6),
            A::UnexpectedMessage,
        ),
        ("too many pieces", pieces, A::IllegalParameter),
        ("CCS of 2", record(20, &[2]), A::UnexpectedMessage),
        (
            "CCS of two bytes",
            record(20, &[1, 1]),
            A::UnexpectedMessage,
        ),
        ("half an alert", record(21, &[1]), A::DecodeError),
        ("two alerts", record(21, &[1, 90, 1, 90]), A::DecodeError),
        ("level 3", record(21, &[3, 40]), A::IllegalParameter),
        (
            "CCS, type 99",
            [&ccs[..], &[99, 3, 3, 0, 1]].concat(),
            A::UnexpectedMessage,
        ),
        (
            "CCS, forged",
            [&ccs[..], &record(22, &[1; 40])].concat(),
            A::BadRecordMac,
        ),
        (
            "CCS, 2^14 + 2049",
            [&ccs[..], &[22, 3, 3, 0x48, 1]].concat(),
            A::RecordOverflow,
        ),
    ];
    for (n, (suite, _)) in pki::SUITES[3..].iter().enumerate() {
        for (what, bytes, alert) in &rows {
            if bytes.len() > 100_000 && n > 0 {
                continue;
            }
            let (mut world, peer) = resumed(*suite);
            send(&mut world, &peer, bytes);
            let (outcome, reason) = outcome(world, peer);
            assert_eq!(outcome, with_alert(*alert), "{suite:?} {what}");
            let counted = [Failure::Misbehaved, Failure::Malformed, Failure::TooLong];
            assert!(
                counted.map(CloseReason::Handshake).contains(&reason),
                "{what}: {reason:?}"
            );
        }
        let (mut world, peer) = resumed(*suite);
        send(&mut world, &peer, &record(21, &[1, 0]));
        let (outcome, reason) = outcome(world, peer);
        assert_eq!(outcome, CLOSED, "{suite:?}");
        assert_eq!(reason, CloseReason::Handshake(Failure::PeerClosed));
    }
}

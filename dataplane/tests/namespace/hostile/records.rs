//! Hostile peers that send unusual TLS 1.3 records after the handshake, beside fair clients.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, KeyLog, RootCertStore};

use super::fair::beside_fair_clients;
use super::senders::{Sender, Senders};
use super::{finish, usual};
use crate::support::client::{address4, connect, request};
use crate::support::material::HOST;
use crate::support::scene::{Scene, Setup};
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("hostile::records_of_one_peer", || records(usual(), 1)),
    Case::new("hostile::records_of_a_hundred_peers", || {
        records(usual(), 100);
    }),
    Case::new("hostile::records_where_pools_are_small", || {
        records(Setup::smallest(), 20);
    }),
    Case::new("hostile::key_updates_to_one_of_two_workers", || {
        let scene = usual().workers(2).start();
        flood(&scene, 1, key_updates_requested, None);
        let stats = scene.server.stats();
        for worker in ["0", "1"] {
            let accepted = stats.json()["workers"][worker]["stack.accepted"].as_u64();
            assert!(accepted > Some(0), "worker {worker}: {stats:?}");
        }
        finish(scene);
    }),
];

/// Each kind of record at full speed, one kind after the other.
fn records(setup: Setup, peers: usize) {
    let scene = setup.start();
    scene.file("small.bin", 1000);
    for (name, make, is_refused) in KINDS {
        flood(&scene, peers, *make, is_refused.then_some(name));
    }
    let stats = scene.server.stats();
    for counter in [
        "kern.ipc.tls.stats.rx_rekey_received",
        "kern.ipc.tls.stats.tx_rekey_ok",
        "stack.alerts_out",
    ] {
        assert!(stats.total(counter) > 0, "{counter}: {stats:?}");
    }
    finish(scene);
}

/// Sends what `make` makes from each of `peers`, beside fair clients. If the kind has the name
/// `refused`, the appliance has to end a connection for it.
fn flood(scene: &Scene, peers: usize, make: fn(&mut Records) -> Vec<u8>, refused: Option<&str>) {
    beside_fair_clients(scene, scene.net.client(), |fair| {
        let mut senders = Senders::open(peers, |_| {
            let (tcp, mut records) = Records::open(&scene.roots)?;
            Sender::new(tcp, move || make(&mut records))
        });
        fair.wait_rounds_while(ROUNDS, || senders.run());
        if let Some(name) = refused {
            senders.run_until_ended(name);
        }
    });
}

/// The records of one connection, sealed with its keys.
struct Records {
    secret: Vec<u8>,
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Records {
    /// Makes a connection.
    fn open(roots: &Arc<RootCertStore>) -> io::Result<(TcpStream, Self)> {
        let mut tcp = connect(address4(443))?;
        let captured = Arc::new(Captured::default());
        let mut session = client(roots, &captured);
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        let secret = captured.0.lock().expect("no thread has panicked").clone();
        Ok((tcp, Self::with(secret)))
    }

    fn with(secret: Vec<u8>) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &expand(&secret, b"key", 16));
        let iv = expand(&secret, b"iv", 12);
        Self {
            key: LessSafeKey::new(key.expect("it has the key's length")),
            iv: iv.try_into().expect("it has the length that was asked for"),
            secret,
            number: 0,
        }
    }

    /// A record of a content type, with `padding` bytes behind the content.
    fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        inner.resize(inner.len() + padding, 0);
        let len = u16::try_from(inner.len() + 16).expect("a record is short");
        let mut record = vec![APPLICATION_DATA, 3, 3];
        record.extend(len.to_be_bytes());
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(&record));
        let sealed = self.key.seal_in_place_append_tag(nonce, aad, &mut inner);
        sealed.expect("a record is short");
        record.append(&mut inner);
        record
    }

    fn key_update(&mut self, is_requested: bool) -> Vec<u8> {
        let record = self.record(HANDSHAKE, &[24, 0, 0, 1, is_requested.into()], 0);
        *self = Self::with(expand(&self.secret, b"traffic upd", 32));
        record
    }

    /// So many records, of which `make` makes each.
    fn times(&mut self, count: usize, mut make: impl FnMut(&mut Self) -> Vec<u8>) -> Vec<u8> {
        (0..count).flat_map(|_| make(self)).collect()
    }
}

fn key_updates_requested(records: &mut Records) -> Vec<u8> {
    records.times(50, |records| records.key_update(true))
}

/// A request in records of one byte.
fn bytes_of_a_request(records: &mut Records) -> Vec<u8> {
    let request = request("GET", "/small.bin", "");
    let bytes = request.bytes();
    bytes
        .flat_map(|byte| records.record(APPLICATION_DATA, &[byte], 0))
        .collect()
}

/// What a kind is called, what makes it, and whether the appliance ends a connection for it.
type Kind = (&'static str, fn(&mut Records) -> Vec<u8>, bool);

const KINDS: &[Kind] = &[
    ("KeyUpdate(update_requested)", key_updates_requested, true),
    (
        "KeyUpdate(update_not_requested)",
        |records| records.times(50, |records| records.key_update(false)),
        true,
    ),
    (
        "KeyUpdate(update_requested) and a request",
        |records| {
            records.times(10, |records| {
                let get = request("GET", "/small.bin", "");
                let mut bytes = records.key_update(true);
                bytes.extend(records.record(APPLICATION_DATA, get.as_bytes(), 0));
                bytes
            })
        },
        false,
    ),
    ("a byte of a request", bytes_of_a_request, false),
    (
        "no content",
        |records| records.times(100, |records| records.record(APPLICATION_DATA, &[], 0)),
        true,
    ),
    (
        "padding only",
        |records| records.times(4, |records| records.record(APPLICATION_DATA, &[], 16_384)),
        true,
    ),
    (
        "a byte of a handshake message",
        |records| records.times(50, |records| records.record(HANDSHAKE, &[24], 0)),
        true,
    ),
    (
        "a NewSessionTicket",
        |records| records.record(HANDSHAKE, &[4, 0, 0, 4, 0, 0, 0, 0], 0),
        true,
    ),
    (
        "a long handshake message",
        |records| {
            let begin = [&[11, 0, 0xff, 0xff][..], &[0; 16_000]].concat();
            records.record(HANDSHAKE, &begin, 0)
        },
        true,
    ),
    (
        "the alert user_canceled",
        |records| records.times(50, |records| records.record(ALERT, &[1, 90], 0)),
        true,
    ),
    (
        "a piece of an alert",
        |records| records.record(ALERT, &[1], 0),
        true,
    ),
    (
        "ChangeCipherSpec",
        |_| [20, 3, 3, 0, 1, 1].repeat(100),
        true,
    ),
    (
        "a wrong tag",
        |_| [&[APPLICATION_DATA, 3, 3, 0, 64][..], &[0; 64]].concat(),
        true,
    ),
];

/// HKDF-Expand-Label without context (RFC 8446, 7.1).
fn expand(secret: &[u8], label: &[u8], len: usize) -> Vec<u8> {
    let full = [b"tls13 ", label].concat();
    let mut info = u16::try_from(len)
        .expect("it is short")
        .to_be_bytes()
        .to_vec();
    info.push(u8::try_from(full.len()).expect("it is short"));
    info.extend(full);
    info.push(0);
    let mut out = vec![0; len];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    let info = [&info[..]];
    let expanded = prk.expand(&info, Len(len)).expect("it is short");
    expanded.fill(&mut out).expect("it has this length");
    out
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// The client's application traffic secret.
#[derive(Debug, Default)]
struct Captured(Mutex<Vec<u8>>);

impl KeyLog for Captured {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().expect("no thread has panicked") = secret.to_vec();
        }
    }
}

fn client(roots: &Arc<RootCertStore>, captured: &Arc<Captured>) -> ClientConnection {
    let provider = CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config
        .expect("the suite is TLS 1.3's")
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.key_log = Arc::clone(captured) as _;
    let name = ServerName::try_from(HOST).expect("it's a name");
    ClientConnection::new(Arc::new(config), name).expect("the defaults do")
}

// Content types.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Rounds of each fair client beside each kind.
const ROUNDS: u64 = 3;

//! Two handshake drivers against each other, in memory.

use lockgate_testing::certificates::{self, KeyKind};
use rustls::ProtocolVersion;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use super::handshake::Side;
use super::*;

/// A certificate authority, in the types of rustls.
struct Authority(certificates::Authority);

impl Authority {
    fn named(name: &str) -> Self {
        Self(certificates::Authority::new(name))
    }

    fn new() -> Self {
        Self::named("test root")
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.certificate().into()
    }

    fn parts(
        &self,
        names: &[&str],
        kind: KeyKind,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let identity = self.0.issue(names, kind);
        let key = PrivatePkcs8KeyDer::from(identity.key()).into();
        (vec![identity.certificate().into()], key)
    }

    fn leaf(&self, names: &[&str], kind: KeyKind) -> Certificate {
        let (chain, key) = self.parts(names, kind);
        Certificate::new(chain, &key).unwrap()
    }
}

const ECDSA: KeyKind = KeyKind::Ecdsa;
const RSA: KeyKind = KeyKind::Rsa;
const ED25519: KeyKind = KeyKind::Ed25519;

fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

/// One side, and what it has been sent and not yet read.
struct End {
    handshake: Handshake,
    inbox: Vec<u8>,
    done: Option<Box<Established>>,
    failed: Option<Failure>,
}

impl End {
    fn new(handshake: Handshake) -> Self {
        Self {
            handshake,
            inbox: Vec::new(),
            done: None,
            failed: None,
        }
    }

    fn step(&mut self, record: &[u8]) {
        match self.handshake.step(record) {
            Progress::Blocked => {}
            Progress::Done(done) => self.done = Some(done),
            Progress::Failed(failure) => self.failed = Some(failure),
        }
    }

    fn over(&self) -> bool {
        self.done.is_some() || self.failed.is_some()
    }

    /// Moves what this end has to say to the other; steps the other once for each whole record.
    fn deliver(&mut self, to: &mut Self) -> bool {
        to.inbox.extend_from_slice(self.handshake.outgoing());
        let len = self.handshake.outgoing().len();
        self.handshake.sent(len);
        let mut any = false;
        while !to.over() && to.inbox.len() >= 5 {
            let len = 5 + usize::from(u16::from_be_bytes([to.inbox[3], to.inbox[4]]));
            if to.inbox.len() < len {
                break;
            }
            let record: Vec<u8> = to.inbox.drain(..len).collect();
            to.step(&record);
            any = true;
        }
        any
    }
}

fn run(server: &TlsServer, client: &TlsClient, to: &str) -> (End, End) {
    let mut server = End::new(Handshake::server(server).unwrap());
    let mut client = End::new(Handshake::client(client, name(to)).unwrap());
    client.step(&[]);
    while client.deliver(&mut server) | server.deliver(&mut client) {}
    (server, client)
}

fn done(ends: (End, End)) -> (Box<Established>, Box<Established>) {
    let (server, client) = ends;
    assert_eq!((server.failed, client.failed), (None, None));
    (server.done.unwrap(), client.done.unwrap())
}

/// A ClientHello in records of a byte each takes memory for its bytes, and the library gets it
/// once, not each piece with all pieces before it.
#[test]
fn a_hello_in_pieces_is_joined_before_the_library_gets_it() {
    let authority = Authority::new();
    let options = TlsOptions::default();
    let certificate = authority.leaf(&["server.test"], ECDSA);
    let tls = TlsServer::new(vec![certificate], &options).unwrap();
    let client = TlsClient::new([authority.root()], &options).unwrap();
    let mut server = End::new(Handshake::server(&tls).unwrap());
    let mut client = End::new(Handshake::client(&client, name("server.test")).unwrap());
    client.step(&[]);
    let hello = client.handshake.outgoing().to_vec();
    client.handshake.sent(hello.len());
    let content = &hello[5..];
    for (n, byte) in (1..).zip(content) {
        assert!(server.handshake.outgoing().is_empty());
        server.step(&[22, 3, 1, 0, 1, *byte]);
        let is_last = n == content.len() as u64;
        assert!(
            is_last || (n..=2 * n + 64).contains(&server.handshake.buffered_bytes()),
            "{n}"
        );
    }
    while server.deliver(&mut client) | client.deliver(&mut server) {}
    done((server, client));
}

fn only(suite: CipherSuite, versions: TlsVersions) -> TlsOptions {
    TlsOptions {
        versions,
        suites: vec![suite],
        ..TlsOptions::default()
    }
}

fn key_bytes(secrets: &rustls::ConnectionTrafficSecrets) -> (Vec<u8>, Vec<u8>) {
    use rustls::ConnectionTrafficSecrets as S;
    match secrets {
        S::Aes128Gcm { key, iv } | S::Aes256Gcm { key, iv } | S::Chacha20Poly1305 { key, iv } => {
            (key.as_ref().to_vec(), iv.as_ref().to_vec())
        }
        _ => panic!("unknown suite"),
    }
}

#[test]
fn every_suite_of_both_versions_hands_over_the_same_keys() {
    let authority = Authority::new();
    let both = vec![
        authority.leaf(&["a.test"], ECDSA),
        authority.leaf(&["a.test"], RSA),
    ];
    let suites = [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls13),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, TlsVersions::Tls13),
        (
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            TlsVersions::Tls13,
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TlsVersions::Tls12,
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TlsVersions::Tls12,
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TlsVersions::Tls12,
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            TlsVersions::Tls12,
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            TlsVersions::Tls12,
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            TlsVersions::Tls12,
        ),
    ];
    let server = TlsServer::new(both, &TlsOptions::default()).unwrap();
    for (suite, versions) in suites {
        let client = TlsClient::new([authority.root()], &only(suite, versions)).unwrap();
        let (s, c) = done(run(&server, &client, "a.test"));
        assert_eq!(
            s.sessions().unwrap().tx.params(),
            c.sessions().unwrap().rx.params()
        );
        assert_eq!(s.captured.sni.as_deref(), Some("a.test"));
        assert_eq!(key_bytes(&s.keys.tx.1), key_bytes(&c.keys.rx.1));
        assert_eq!(key_bytes(&s.keys.rx.1), key_bytes(&c.keys.tx.1));
        // A client's records have not been read, one way or the other, past its Finished.
        assert_eq!(s.keys.rx.0, c.keys.tx.0);
        {
            if s.version == ProtocolVersion::TLSv1_3 {
                assert_eq!(
                    (s.keys.tx.0, c.keys.rx.0),
                    (1, 0),
                    "a record of tickets, unread"
                );
                let secret = |e: &Established| {
                    let (c, s) = (&e.captured.client, &e.captured.server);
                    let bytes =
                        |x: &Option<capture::Secret>| x.as_ref().unwrap().as_bytes().to_vec();
                    (bytes(c), bytes(s))
                };
                assert_eq!(secret(&s), secret(&c));
                assert!(matches!(c.side, Side::Client { tickets: Some(_) }));
            } else {
                assert_eq!((s.keys.tx.0, c.keys.rx.0), (1, 1));
                assert!(s.captured.client.is_none() && s.captured.server.is_none());
            }
        }
    }
}

#[test]
fn alpn_is_agreed_on_or_refused() {
    let authority = Authority::new();
    let with = |alpn: &[&str]| TlsOptions {
        alpn: alpn.iter().map(|p| p.as_bytes().to_vec()).collect(),
        ..TlsOptions::default()
    };
    let server = TlsServer::new(
        vec![authority.leaf(&["a.test"], ECDSA)],
        &with(&["http/1.1"]),
    )
    .unwrap();
    let client = TlsClient::new([authority.root()], &with(&["h2", "http/1.1"])).unwrap();
    let (s, c) = done(run(&server, &client, "a.test"));
    assert_eq!(s.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(c.alpn, s.alpn);

    let client = TlsClient::new([authority.root()], &with(&["h2"])).unwrap();
    let (s, c) = run(&server, &client, "a.test");
    assert_eq!(s.failed, Some(Failure::Incompatible));
    assert_eq!(c.failed, Some(Failure::PeerAlert(120)));
}

#[test]
fn certificates_are_chosen_by_name_then_by_scheme() {
    let authority = Authority::new();
    let certificates = vec![
        authority.leaf(&["first.test"], RSA),
        authority.leaf(&["first.test"], ECDSA),
        authority.leaf(&["*.wild.test"], ECDSA),
        authority.leaf(&["exact.wild.test"], ED25519),
    ];
    let keys: Vec<_> = certificates.iter().map(|c| c.key.clone()).collect();
    let both = TlsVersions::Both.offered();
    let suites = provider(&TlsOptions::default()).cipher_suites.clone();
    let suites = suites.iter().map(|suite| suite.suite()).collect();
    let resolver = resolver::Resolver::new(certificates, both, suites);
    let all = [
        rustls::SignatureScheme::RSA_PSS_SHA256,
        rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
        rustls::SignatureScheme::ED25519,
    ];
    let suites13 = [CipherSuite::TLS13_AES_128_GCM_SHA256];
    let rsa12 = [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let pick = |name: Option<&str>, schemes: &[_], suites: &[_]| {
        let version = if suites == suites13 {
            lockgate_ktls::Version::Tls13
        } else {
            lockgate_ktls::Version::Tls12
        };
        let offer = resolver::Offer {
            schemes,
            suites,
            groups: None,
            version,
        };
        let chosen = resolver.pick(name, &offer)?;
        keys.iter().position(|key| Arc::ptr_eq(key, &chosen))
    };
    assert_eq!(
        pick(Some("first.test"), &all, &suites13),
        Some(1),
        "ECDSA first"
    );
    assert_eq!(pick(Some("FIRST.test"), &all, &suites13), Some(1));
    assert_eq!(
        pick(Some("first.test"), &all[..1], &suites13),
        Some(0),
        "RSA if that's all"
    );
    assert_eq!(
        pick(Some("first.test"), &all, &rsa12),
        Some(0),
        "the suite needs RSA"
    );
    assert_eq!(pick(Some("exact.wild.test"), &all, &suites13), Some(3));
    assert_eq!(
        pick(Some("exact.wild.test"), &all[..2], &suites13),
        Some(2),
        "the wildcard's key"
    );
    assert_eq!(pick(Some("other.wild.test"), &all, &suites13), Some(2));
    assert_eq!(
        pick(Some("a.b.wild.test"), &all, &suites13),
        Some(1),
        "one label only"
    );
    assert_eq!(pick(None, &all, &suites13), Some(1), "the first's pair");
    assert_eq!(pick(Some("unknown.test"), &all[2..], &suites13), None);
}

#[test]
fn untrusted_and_misnamed_servers_are_refused() {
    let authority = Authority::new();
    let options = TlsOptions::default();
    let server = TlsServer::new(vec![authority.leaf(&["a.test"], ECDSA)], &options).unwrap();
    for (root, to, alert) in [
        (Authority::named("another root").root(), "a.test", 48),
        (authority.root(), "b.test", 42),
    ] {
        let client = TlsClient::new([root], &options).unwrap();
        let (s, c) = run(&server, &client, to);
        assert_eq!(c.failed, Some(Failure::BadCertificate));
        assert_eq!(s.failed, Some(Failure::PeerAlert(alert)));
    }
}

#[test]
fn tls12_tickets_resume() {
    let authority = Authority::new();
    let options = TlsOptions {
        versions: TlsVersions::Tls12,
        ..TlsOptions::default()
    };
    let server = TlsServer::new(vec![authority.leaf(&["a.test"], ECDSA)], &options).unwrap();
    let client = TlsClient::new([authority.root()], &options).unwrap();
    let (s, c) = done(run(&server, &client, "a.test"));
    assert!(!s.resumed && !c.resumed);
    let (s, c) = done(run(&server, &client, "a.test"));
    assert!(s.resumed && c.resumed);
    assert_eq!(s.keys.rx.0, c.keys.tx.0);

    let cold = TlsOptions {
        tickets: 0,
        ..options
    };
    let server = TlsServer::new(vec![authority.leaf(&["a.test"], ECDSA)], &cold).unwrap();
    for _ in 0..2 {
        assert!(!done(run(&server, &client, "a.test")).0.resumed);
    }
}

#[test]
fn garbage_is_answered_with_an_alert_and_too_much_is_cut_off() {
    let authority = Authority::new();
    let options = TlsOptions::default();
    let server = TlsServer::new(vec![authority.leaf(&["a.test"], ECDSA)], &options).unwrap();

    let mut handshake = Handshake::server(&server).unwrap();
    let progress = handshake.step(b"\x16\x03\x01\x00\x05GET /");
    assert!(matches!(
        progress,
        Progress::Failed(Failure::Misbehaved | Failure::Malformed)
    ));
    assert_eq!(handshake.outgoing()[0], 21, "an alert record");
    assert!(
        matches!(handshake.step(&[]), Progress::Failed(_)),
        "failed for good"
    );

    // One endless message: never whole, each record of the greatest size.
    let mut handshake = Handshake::server(&server).unwrap();
    let mut record = vec![0_u8; 5 + 16_384];
    record[..9].copy_from_slice(&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff]);
    let mut given = 0;
    let failure = loop {
        match handshake.step(&record) {
            Progress::Failed(failure) => break failure,
            Progress::Blocked => given += 1,
            Progress::Done(_) => panic!("nothing was agreed on"),
        }
        record[5..9].fill(0);
    };
    assert!(given <= 4);
    assert!(matches!(
        failure,
        Failure::TooLong | Failure::Malformed | Failure::Misbehaved
    ));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (chain, _) = authority.parts(&["a.test"], ECDSA);
    let (_, key) = authority.parts(&["a.test"], ECDSA);
    let error = Certificate::new(chain.clone(), &key).unwrap_err();
    assert_eq!(error, CertificateError::KeyMismatch);
    assert_eq!(
        Certificate::new(vec![], &key).unwrap_err(),
        CertificateError::EmptyChain
    );
    let broken = vec![CertificateDer::from(vec![0x30, 3, 2, 1, 1])];
    assert_eq!(
        Certificate::new(broken, &key).unwrap_err(),
        CertificateError::Malformed
    );
    let junk = PrivatePkcs8KeyDer::from(vec![1, 2, 3]).into();
    assert_eq!(
        Certificate::new(chain, &junk).unwrap_err(),
        CertificateError::UnsupportedKey
    );
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let authority = Authority::new();
    let options = TlsOptions::default();
    assert_eq!(
        TlsServer::new(vec![], &options).unwrap_err(),
        TlsConfigError::NoCertificate
    );
    let leaf = authority.leaf(&["a.test"], ECDSA);
    let mixed = only(CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls12);
    assert_eq!(
        TlsServer::new(vec![leaf], &mixed).unwrap_err(),
        TlsConfigError::NoSuite
    );
    let bad = CertificateDer::from(vec![1, 2, 3]);
    assert_eq!(
        TlsClient::new([bad], &options).unwrap_err(),
        TlsConfigError::BadRoot
    );
}

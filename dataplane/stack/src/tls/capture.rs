//! What rustls tells a configuration, and not the connection it concerns: traffic secrets and SNI.
//!
//! A session at rest keeps its traffic secret: key, IV and the secrets after a KeyUpdate all follow
//! from it. The public way to it is [`KeyLog`]; the way to the name a client asked for, with the
//! unbuffered API, is the certificate resolver. rustls calls both from inside
//! `process_tls_records`, on the caller's thread; so what they are told between two points of one
//! thread belongs to the connection that was stepped between them.

use std::cell::RefCell;

use rustls::KeyLog;
use zeroize::Zeroize;

/// Everything captured of one connection so far.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// The client's first application traffic secret (TLS 1.3).
    pub(super) client: Option<Secret>,
    /// The server's.
    pub(super) server: Option<Secret>,
    /// The name the client asked for.
    pub(crate) sni: Option<Box<str>>,
}

/// One traffic secret: as long as the suite's hash.
pub(crate) struct Secret {
    bytes: [u8; SECRET_BYTES_MAX],
    len: usize,
}

/// The key log of every configuration made here.
#[derive(Debug)]
pub(super) struct Capture;

impl Captured {
    /// Runs `step` and adds what was captured meanwhile.
    pub(super) fn capture<R>(&mut self, step: impl FnOnce() -> R) -> R {
        SEEN.take();
        let result = step();
        let seen = SEEN.take();
        self.client = seen.client.or_else(|| self.client.take());
        self.server = seen.server.or_else(|| self.server.take());
        self.sni = seen.sni.or_else(|| self.sni.take());
        result
    }
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self {
            bytes,
            len: secret.len(),
        })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        SEEN.with_borrow_mut(|seen| match label {
            CLIENT_LABEL => seen.client = Secret::new(secret),
            SERVER_LABEL => seen.server = Secret::new(secret),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        label == CLIENT_LABEL || label == SERVER_LABEL
    }
}

/// Notes the name that the client being stepped asked for.
pub(super) fn note_sni(name: &str) {
    SEEN.with_borrow_mut(|seen| seen.sni = Some(name.into()));
}

thread_local! {
    static SEEN: RefCell<Captured> = const {
        RefCell::new(Captured { client: None, server: None, sni: None })
    };
}

const CLIENT_LABEL: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_LABEL: &str = "SERVER_TRAFFIC_SECRET_0";
/// SHA-384, the longest hash of a suite.
const SECRET_BYTES_MAX: usize = 48;

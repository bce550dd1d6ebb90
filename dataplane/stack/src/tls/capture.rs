//! What rustls passes to callbacks of a configuration instead of to a connection's owner: traffic
//! secrets and SNI.
//!
//! A session at rest keeps its traffic secret: key, IV and the secrets after a KeyUpdate all follow
//! from it. The public way to it is [`KeyLog`]; the way to the name a client asked for, with the
//! unbuffered API, is the certificate resolver. rustls calls both from inside
//! `process_tls_records`, on the caller's thread; so their arguments between two points of one
//! thread belong to the connection that was stepped between them. In the other direction, the
//! resolver reads there the facts of the hello that rustls doesn't pass on.

use std::cell::RefCell;

use rustls::KeyLog;
use zeroize::Zeroizing;

use super::hello::HelloFacts;

/// What callbacks have reported of one connection so far.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// The client's handshake traffic secret (TLS 1.3). From then on both sides protect their
    /// records.
    pub(super) client_handshake: Option<Secret>,
    /// The client's first application traffic secret (TLS 1.3).
    pub(super) client: Option<Secret>,
    /// The server's.
    pub(super) server: Option<Secret>,
    /// The master secret (TLS 1.2).
    pub(super) master: Option<MasterSecret>,
    /// The server name that the client requested (SNI).
    pub(crate) sni: Option<Box<str>>,
    /// Whether no certificate fitted a hello.
    pub(super) no_certificate: bool,
}

/// The current step of this thread: what callbacks reported, and what the resolver reads.
#[derive(Debug)]
struct Step {
    captured: Captured,
    hello: Option<HelloFacts>,
}

/// One traffic secret: as long as the suite's hash. On the heap, so that moving it leaves no copy,
/// and wiped when dropped.
pub(crate) struct Secret(Zeroizing<Box<[u8]>>);

/// TLS 1.2's master secret, with the client's random that it belongs to.
#[derive(Debug)]
pub(super) struct MasterSecret {
    pub(super) secret: Secret,
    pub(super) client_random: [u8; 32],
}

/// The key log of every configuration made here.
#[derive(Debug)]
pub(super) struct Capture;

impl Captured {
    /// Runs `step` and adds what callbacks report meanwhile. `hello` is for the resolver: facts of
    /// the hello that the step processes.
    pub(super) fn capture<R>(&mut self, hello: Option<HelloFacts>, step: impl FnOnce() -> R) -> R {
        STEP.set(Step {
            captured: Self::default(),
            hello,
        });
        let result = step();
        let seen = STEP.replace(NO_STEP).captured;
        self.client_handshake = seen
            .client_handshake
            .or_else(|| self.client_handshake.take());
        self.client = seen.client.or_else(|| self.client.take());
        self.server = seen.server.or_else(|| self.server.take());
        self.master = seen.master.or_else(|| self.master.take());
        self.sni = seen.sni.or_else(|| self.sni.take());
        self.no_certificate |= seen.no_certificate;
        result
    }
}

impl MasterSecret {
    fn new(secret: &[u8], client_random: &[u8]) -> Option<Self> {
        Some(Self {
            secret: Secret::new(secret)?,
            client_random: client_random.try_into().ok()?,
        })
    }
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() <= SECRET_BYTES_MAX).then(|| Self(Zeroizing::new(secret.into())))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl KeyLog for Capture {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        STEP.with_borrow_mut(|Step { captured, .. }| match label {
            CLIENT_HANDSHAKE_LABEL => captured.client_handshake = Secret::new(secret),
            CLIENT_LABEL => captured.client = Secret::new(secret),
            SERVER_LABEL => captured.server = Secret::new(secret),
            MASTER_LABEL => captured.master = MasterSecret::new(secret, client_random),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(
            label,
            CLIENT_HANDSHAKE_LABEL | CLIENT_LABEL | SERVER_LABEL | MASTER_LABEL
        )
    }
}

/// Records the server name that the current client requested.
pub(super) fn note_sni(name: &str) {
    STEP.with_borrow_mut(|step| step.captured.sni = Some(name.into()));
}

/// Records that no certificate fits the current client.
pub(super) fn note_no_certificate() {
    STEP.with_borrow_mut(|step| step.captured.no_certificate = true);
}

/// Returns the facts of the current client's hello.
pub(super) fn current_hello() -> Option<HelloFacts> {
    STEP.with_borrow(|step| step.hello)
}

thread_local! {
    static STEP: RefCell<Step> = const { RefCell::new(NO_STEP) };
}

const NO_STEP: Step = Step {
    captured: Captured {
        client_handshake: None,
        client: None,
        server: None,
        master: None,
        sni: None,
        no_certificate: false,
    },
    hello: None,
};
const CLIENT_HANDSHAKE_LABEL: &str = "CLIENT_HANDSHAKE_TRAFFIC_SECRET";
const CLIENT_LABEL: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_LABEL: &str = "SERVER_TRAFFIC_SECRET_0";
const MASTER_LABEL: &str = "CLIENT_RANDOM";
/// SHA-384, the longest hash of a suite; a master secret is as long.
const SECRET_BYTES_MAX: usize = 48;

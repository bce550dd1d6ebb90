//! Runs a handshake with rustls's unbuffered API, one record at a time.
//!
//! rustls decrypts whatever it is given. Given a client's Finished with the request after it, it
//! would decrypt the request too and advance the receive sequence number. So it gets exactly one
//! record, and only when it needs one. The bytes after the last handshake record are untouched when
//! the keys are handed over.

mod admission;
mod library;

use lockgate_ktls::{
    Alert, AlertDescription, ContentType, HEADER_LEN, LEGACY_VERSION, RecordHeader, Role, Session,
};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, Error, ExtractedSecrets, HandshakeKind, ProtocolVersion};

pub(super) use self::admission::MESSAGE_BYTES_MAX;
use self::library::{CallOutcome, Conn, Stop, handle};
use super::alerts::{self, AlertChoice, Context};
use super::capture::Captured;
use super::failure::{Failure, Fault};
use super::hello::{HelloFacts, MESSAGE_HEADER_LEN, Offered};
use super::protected::ProtectedRecords;
use super::screen::{PeerProtection, check_header};
use super::{TlsClient, TlsServer};

/// A handshake in progress: rustls's state (several KiB), freed when the keys are handed over.
pub(crate) struct Handshake {
    conn: Conn,
    /// Earlier records that rustls still needs (of an incomplete message), then the current one.
    incoming: Vec<u8>,
    /// Complete records to be sent.
    outgoing: Vec<u8>,
    captured: Captured,
    /// The received part of a client's message in plaintext that spans records.
    partial: Vec<u8>,
    /// The length of those records.
    partial_records_len: usize,
    /// The client's last hello; servers only.
    hello: Option<HelloFacts>,
    /// The versions that this server speaks.
    ours: Offered,
    /// Records so far that did not advance the handshake.
    idle: u8,
    /// The client's records of TLS 1.3; servers only, from the first one on.
    protected: Option<ProtectedRecords>,
    /// TLS 1.2: the ServerHello's random.
    server_random: Option<[u8; RANDOM_LEN]>,
    /// TLS 1.2: the peer has sent its ChangeCipherSpec.
    peer_changed_cipher: bool,
    /// We have sent a change_cipher_spec record.
    changed_cipher: bool,
    /// Whether `outgoing` ends with an error alert, ours or the library's.
    alerted: bool,
    /// An alert that the record layer has to seal.
    alert_keys: Option<AlertKeys>,
}

/// An alert with the session that seals it. It is sent after [`Handshake::outgoing`].
pub(crate) struct AlertKeys {
    pub(crate) description: AlertDescription,
    pub(crate) session: Session,
    /// Number of the alert's record.
    pub(crate) number: u64,
}

/// Result of a step. There may be bytes to send in every case.
pub(crate) enum Progress {
    /// The next record is needed.
    Blocked,
    /// The handshake is done.
    Done(Box<Established>),
    /// The handshake failed. The bytes to be sent end with the alert, if there is one.
    Failed(Failure),
}

/// Result of a handshake.
pub(crate) struct Established {
    pub(super) version: ProtocolVersion,
    /// rustls's keys, IVs and next record numbers.
    pub(crate) keys: ExtractedSecrets,
    pub(crate) captured: Captured,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) resumed: bool,
    pub(crate) side: Side,
}

/// Role in the handshake, with what only that role has.
pub(crate) enum Side {
    Server,
    /// In TLS 1.3, with the part of rustls's connection that handles session tickets.
    Client {
        tickets: Option<Box<KernelConnection<ClientConnectionData>>>,
    },
}

impl Handshake {
    /// Starts a server's handshake.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if rustls can't create a connection.
    pub(crate) fn server(tls: &TlsServer) -> Result<Self, Failure> {
        let conn = UnbufferedServerConnection::new(tls.config.clone())
            .map_err(|error| alerts::failure(&error))?;
        Ok(Self::new(Conn::Server(Box::new(conn)), tls.versions))
    }

    /// Starts a client's handshake with a server that must prove to be `name`.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if rustls can't create a connection.
    pub(crate) fn client(tls: &TlsClient, name: ServerName<'static>) -> Result<Self, Failure> {
        let conn = UnbufferedClientConnection::new(tls.config.clone(), name)
            .map_err(|error| alerts::failure(&error))?;
        Ok(Self::new(Conn::Client(Box::new(conn)), Offered::default()))
    }

    fn new(conn: Conn, ours: Offered) -> Self {
        Self {
            conn,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            captured: Captured::default(),
            partial: Vec::new(),
            partial_records_len: 0,
            hello: None,
            ours,
            idle: 0,
            protected: None,
            server_random: None,
            peer_changed_cipher: false,
            changed_cipher: false,
            alerted: false,
            alert_keys: None,
        }
    }

    /// Processes one record; a client's first step has an empty one. For a record that
    /// [`may_begin`](super::may_begin) refuses, the header is enough.
    pub(crate) fn step(&mut self, record: &[u8]) -> Progress {
        match self.try_step(record) {
            Ok(progress) => progress,
            Err(fault) => self.fail(fault),
        }
    }

    fn try_step(&mut self, record: &[u8]) -> Result<Progress, Fault> {
        if matches!(self.conn, Conn::Ended) {
            return Err(Fault::silent(Failure::Internal));
        }
        let protection = self.protection();
        if !record.is_empty() && !self.admit(record, protection)? {
            return Ok(Progress::Blocked);
        }
        if self.incoming.len() > INCOMING_BYTES_MAX {
            return Err(Fault::TOO_LONG);
        }
        let mut captured = std::mem::take(&mut self.captured);
        let outcome = captured.capture(self.hello, || self.run());
        self.captured = captured;
        match outcome.map_err(|error| self.refuse(error))? {
            CallOutcome::Ready => self.finish().map(Progress::Done),
            CallOutcome::More | CallOutcome::Blocked => {
                // The library looks at all pieces of a Finished again with each new one.
                if protection == PeerProtection::Tls12 {
                    self.count_idle()?;
                }
                Ok(Progress::Blocked)
            }
        }
    }

    fn count_idle(&mut self) -> Result<(), Fault> {
        self.idle += 1;
        if self.idle > IDLE_MAX {
            return Err(Fault::UNEXPECTED);
        }
        Ok(())
    }

    /// Returns the protection of the records that the peer sends now.
    fn protection(&self) -> PeerProtection {
        if self.captured.client_handshake.is_some() {
            PeerProtection::Tls13
        } else if self.peer_changed_cipher {
            PeerProtection::Tls12
        } else {
            PeerProtection::Plaintext
        }
    }

    /// Whether a record may begin with this header.
    pub(crate) fn may_begin(&self, header: RecordHeader) -> bool {
        check_header(header, self.protection()).is_ok()
    }

    /// Translates an error of the library and takes over its alert if it is the right one.
    fn refuse(&mut self, stop: Stop) -> Fault {
        let error = match stop {
            Stop::Refused(error) => error,
            Stop::Fault(fault) => return fault,
        };
        let context = Context {
            hello: self.hello,
            ours: self.ours,
            no_certificate: self.captured.no_certificate,
        };
        let AlertChoice { fault, replaces } = alerts::refusal(&error, &context);
        //= https://www.rfc-editor.org/rfc/rfc8446#section-6.2
        //# Upon transmission or receipt of a fatal alert message, both
        //# parties MUST immediately close the connection.
        //
        // The library answers some alerts by others.
        if fault.alert.is_none() {
            return fault;
        }
        let before = self.outgoing.len();
        // Each call returns queued output first. One call more would process the offending bytes
        // again.
        while self.conn.wants_write() && matches!(self.call_library(), Ok(CallOutcome::More)) {}
        let last = last_record(&self.outgoing[before..]).map(|at| before + at);
        match last.map(|at| (at, ContentType(self.outgoing[at]))) {
            Some((at, ContentType::ALERT | ContentType::APPLICATION_DATA)) if replaces => {
                self.outgoing.truncate(at);
            }
            Some((_, ContentType::ALERT | ContentType::APPLICATION_DATA)) => self.alerted = true,
            Some(_) | None => {}
        }
        fault
    }

    fn fail(&mut self, fault: Fault) -> Progress {
        if let Some(description) = fault.alert
            && !self.alerted
        {
            self.send_alert(description);
        }
        self.conn = Conn::Ended;
        Progress::Failed(fault.failure)
    }

    /// Sends an alert for a fault that the library doesn't report.
    fn send_alert(&mut self, description: AlertDescription) {
        let is_tls13 = self.captured.client_handshake.is_some();
        let is_tls12 = self.conn.version() == Some(ProtocolVersion::TLSv1_2) && self.changed_cipher;
        if is_tls13 || is_tls12 {
            let (session, number) = if is_tls13 {
                // Nothing has been sent under the secret.
                (self.tls13_session(), 0)
            } else {
                // Our Finished was the first record.
                (self.tls12_session(), 1)
            };
            self.alert_keys = session.map(|session| AlertKeys {
                description,
                session,
                number,
            });
        } else {
            let alert = if description == AlertDescription::CLOSE_NOTIFY {
                Alert::CLOSE_NOTIFY
            } else {
                self.alerted = true;
                Alert::fatal(description)
            };
            let [level, description] = alert.encode();
            let [major, minor] = LEGACY_VERSION;
            let kind = ContentType::ALERT.0;
            let record = [kind, major, minor, 0, 2, level, description];
            self.outgoing.extend_from_slice(&record);
        }
    }

    /// Returns the keys of our next record in TLS 1.3.
    fn tls13_session(&self) -> Option<Session> {
        let secret = match self.conn {
            Conn::Server(_) => self.captured.server.as_ref()?,
            Conn::Client(_) => self.captured.client_handshake.as_ref()?,
            Conn::Ended => return None,
        };
        Session::from_secret(self.conn.suite()?, secret.as_bytes())
    }

    /// Returns the keys of our records after our ChangeCipherSpec in TLS 1.2.
    fn tls12_session(&self) -> Option<Session> {
        let sender = match self.conn {
            Conn::Server(_) => Role::Server,
            Conn::Client(_) => Role::Client,
            Conn::Ended => return None,
        };
        let master = self.captured.master.as_ref()?;
        Session::from_master_secret(
            self.conn.suite()?,
            master.secret.as_bytes(),
            &master.client_random,
            self.server_random.as_ref()?,
            sender,
        )
    }

    /// Returns the records to be sent, in order.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// Removes the first `len` bytes of [`Handshake::outgoing`], which are queued.
    pub(crate) fn sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
        free_empty(&mut self.outgoing);
    }

    /// Memory for received and outgoing bytes, beside the library's own state.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        let buffers = [&self.incoming, &self.outgoing, &self.partial];
        buffers.iter().map(|buffer| buffer.capacity() as u64).sum()
    }

    /// Whether an error alert ends [`Handshake::outgoing`].
    pub(crate) fn has_alerted(&self) -> bool {
        self.alerted
    }

    /// Takes the alert that the record layer has to seal, if there is one.
    pub(crate) fn take_alert_keys(&mut self) -> Option<AlertKeys> {
        self.alert_keys.take()
    }

    fn run(&mut self) -> Result<CallOutcome, Stop> {
        loop {
            match self.call_library()? {
                CallOutcome::More => {}
                outcome @ (CallOutcome::Blocked | CallOutcome::Ready) => return Ok(outcome),
            }
        }
    }

    fn call_library(&mut self) -> Result<CallOutcome, Stop> {
        let before = self.outgoing.len();
        let (discard, outcome) = match &mut self.conn {
            Conn::Server(conn) => handle(
                conn.process_tls_records(&mut self.incoming),
                &mut self.outgoing,
            ),
            Conn::Client(conn) => handle(
                conn.process_tls_records(&mut self.incoming),
                &mut self.outgoing,
            ),
            Conn::Ended => return Err(Stop::Fault(Fault::silent(Failure::Internal))),
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        free_empty(&mut self.incoming);
        for (at, kind) in kinds(&self.outgoing[before..]) {
            self.changed_cipher |= kind == ContentType::CHANGE_CIPHER_SPEC;
            if kind == ContentType::HANDSHAKE && self.server_random.is_none() {
                self.server_random = server_random(&self.outgoing[before + at + HEADER_LEN..]);
            }
        }
        outcome
    }

    fn finish(&mut self) -> Result<Box<Established>, Fault> {
        let conn = std::mem::replace(&mut self.conn, Conn::Ended);
        let captured = std::mem::take(&mut self.captured);
        let internal = |error: Error| Fault::silent(alerts::failure(&error));
        let established = match conn {
            Conn::Server(conn) => {
                let negotiated = Negotiated::of(&conn).map_err(Fault::silent)?;
                let (keys, _) = conn.dangerous_into_kernel_connection().map_err(internal)?;
                negotiated.with(keys, captured, Side::Server)
            }
            Conn::Client(conn) => {
                let negotiated = Negotiated::of(&conn).map_err(Fault::silent)?;
                let (keys, kernel) = conn.dangerous_into_kernel_connection().map_err(internal)?;
                // Before TLS 1.3 tickets come inside the handshake.
                let tickets =
                    (negotiated.version == ProtocolVersion::TLSv1_3).then(|| Box::new(kernel));
                negotiated.with(keys, captured, Side::Client { tickets })
            }
            Conn::Ended => return Err(Fault::silent(Failure::Internal)),
        };
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# Implementations
        //# MUST verify that all messages immediately preceding a key change
        //# align with a record boundary; if not, then they MUST terminate the
        //# connection with an "unexpected_message" alert.
        if !self.incoming.is_empty() {
            let fault = Fault::UNEXPECTED;
            let sessions = established.sessions().map_err(Fault::silent)?;
            self.alert_keys = fault.alert.map(|description| AlertKeys {
                description,
                session: sessions.tx,
                number: sessions.tx_number,
            });
            return Err(Fault::silent(fault.failure));
        }
        Ok(Box::new(established))
    }
}

/// Frees the memory of a buffer that has no bytes: a handshake may wait for its peer for long.
fn free_empty(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        *buffer = Vec::new();
    }
}

/// Returns the random of a ServerHello, if `message` begins with one.
fn server_random(message: &[u8]) -> Option<[u8; RANDOM_LEN]> {
    let rest = message.strip_prefix(&[SERVER_HELLO])?;
    rest.get(MESSAGE_HEADER_LEN - 1 + VERSION_LEN..)?
        .first_chunk()
        .copied()
}

/// Returns offset and type of each record.
fn kinds(records: &[u8]) -> impl Iterator<Item = (usize, ContentType)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = records.get(at..)?.first_chunk::<HEADER_LEN>()?;
        let header = RecordHeader::parse(*header);
        let here = at;
        at += HEADER_LEN + usize::from(header.length);
        Some((here, header.kind))
    })
}

/// Returns the offset of the last record.
fn last_record(records: &[u8]) -> Option<usize> {
    kinds(records).last().map(|(at, _)| at)
}

/// Parameters that are read before the connection is consumed.
struct Negotiated {
    version: ProtocolVersion,
    alpn: Option<Box<[u8]>>,
    resumed: bool,
}

impl Negotiated {
    fn of(conn: &CommonState) -> Result<Self, Failure> {
        Ok(Self {
            version: conn.protocol_version().ok_or(Failure::Internal)?,
            alpn: conn.alpn_protocol().map(Into::into),
            resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    fn with(self, keys: ExtractedSecrets, captured: Captured, side: Side) -> Established {
        let Self {
            version,
            alpn,
            resumed,
        } = self;
        Established {
            version,
            keys,
            captured,
            alpn,
            resumed,
            side,
        }
    }
}

const SERVER_HELLO: u8 = 2;
const VERSION_LEN: usize = 2;
const RANDOM_LEN: usize = 32;
/// What may wait for the end of a message: the longest one, and as much again for the headers,
/// tags and padding of its records.
const INCOMING_BYTES_MAX: usize = 128 * 1024;
/// Records of a handshake that may pass without advancing it, such as change_cipher_spec in TLS
/// 1.3.
const IDLE_MAX: u8 = 32;

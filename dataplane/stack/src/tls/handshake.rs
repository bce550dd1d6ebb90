//! Drives rustls's unbuffered API from the first byte to the last, one record at a time.
//!
//! rustls decrypts whatever it's given. If it were given a client's Finished together with the
//! request behind it, it would decrypt the request too, and the receive sequence number would have
//! moved on. So it gets exactly one record, and only when it has asked for one; what follows the
//! last handshake record has never been looked at when the keys are handed over.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets, HandshakeKind, ProtocolVersion};

use super::capture::Captured;
use super::{TlsClient, TlsServer};

/// A handshake under way. Large, boxed, and gone once the keys are handed over.
pub(crate) struct Handshake {
    conn: Conn,
    /// What rustls keeps of earlier records (a message that isn't whole), then the current record.
    incoming: Vec<u8>,
    /// Whole records that have still to be sent.
    outgoing: Vec<u8>,
    captured: Captured,
    /// Bytes of all records given so far.
    received: usize,
    /// Whether there has ever been anything to send.
    spoke: bool,
}

enum Conn {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// Failed, or handed over.
    Gone,
}

impl Conn {
    fn wants_write(&self) -> bool {
        match self {
            Self::Server(conn) => conn.wants_write(),
            Self::Client(conn) => conn.wants_write(),
            Self::Gone => false,
        }
    }
}

/// What a step led to. In every case there may be bytes to send.
pub(crate) enum Progress {
    /// The next record is needed.
    Blocked,
    /// The handshake is over; the connection's state is in here.
    Done(Box<Established>),
    /// It failed. What is to be sent ends with the alert, if there is one.
    Failed(Failure),
}

/// What remains of a handshake.
pub(crate) struct Established {
    pub(super) version: ProtocolVersion,
    /// Keys, IVs and the numbers of the next records, as rustls has them.
    pub(crate) keys: ExtractedSecrets,
    pub(crate) captured: Captured,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) resumed: bool,
    pub(crate) side: Side,
}

/// Whose side of the handshake it was.
pub(crate) enum Side {
    Server,
    /// With the part of the connection that takes session tickets, in TLS 1.3.
    Client {
        tickets: Option<Box<KernelConnection<ClientConnectionData>>>,
    },
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The peer ended it with an alert.
    PeerAlert(u8),
    /// The peer closed, cleanly or not, before it was over.
    PeerClosed,
    /// No version, suite, scheme or protocol in common.
    Incompatible,
    /// The server's certificate isn't trusted, or not for this name.
    BadCertificate,
    /// The peer broke the protocol.
    Misbehaved,
    /// What came isn't TLS.
    Malformed,
    /// More bytes than any handshake needs.
    TooLong,
    /// It took too long.
    TimedOut,
    /// Something on this side: no randomness, keys that don't agree.
    Internal,
}

impl Handshake {
    /// The server's side.
    pub(crate) fn server(tls: &TlsServer) -> Result<Self, Failure> {
        let conn = UnbufferedServerConnection::new(tls.config.clone()).map_err(failure)?;
        Ok(Self::new(Conn::Server(Box::new(conn))))
    }

    /// The client's side, with a server that must prove to be `name`.
    pub(crate) fn client(tls: &TlsClient, name: ServerName<'static>) -> Result<Self, Failure> {
        let conn = UnbufferedClientConnection::new(tls.config.clone(), name).map_err(failure)?;
        Ok(Self::new(Conn::Client(Box::new(conn))))
    }

    fn new(conn: Conn) -> Self {
        Self {
            conn,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            captured: Captured::default(),
            received: 0,
            spoke: false,
        }
    }

    /// Goes as far as it can with one more record; with an empty one at the start.
    pub(crate) fn step(&mut self, record: &[u8]) -> Progress {
        self.received += record.len();
        if self.received > HANDSHAKE_BYTES_MAX {
            return self.fail(Failure::TooLong);
        }
        self.incoming.extend_from_slice(record);
        let mut captured = std::mem::take(&mut self.captured);
        let turn = captured.capture(|| self.run());
        self.captured = captured;
        self.spoke |= !self.outgoing.is_empty();
        match turn {
            Ok(Turn::Ready) => match self.finish() {
                Ok(established) => Progress::Done(established),
                Err(failure) => self.fail(failure),
            },
            Ok(Turn::More | Turn::Blocked) => Progress::Blocked,
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: Failure) -> Progress {
        self.conn = Conn::Gone;
        // rustls refuses some nonsense in silence. While nothing was said, nothing is encrypted.
        if !self.spoke
            && matches!(
                failure,
                Failure::Malformed | Failure::Misbehaved | Failure::TooLong
            )
        {
            self.outgoing.extend_from_slice(&DECODE_ERROR);
            self.spoke = true;
        }
        Progress::Failed(failure)
    }

    /// Records to send, in order.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first `len` bytes of [`Handshake::outgoing`] are on their way.
    pub(crate) fn sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
    }

    fn run(&mut self) -> Result<Turn, Failure> {
        loop {
            match self.turn() {
                Ok(Turn::More) => {}
                Ok(turn) => return Ok(turn),
                Err(failed) => {
                    // What rustls still wants to say comes first in each call; one call more, and
                    // it would read the offending bytes again.
                    while self.conn.wants_write() && matches!(self.turn(), Ok(Turn::More)) {}
                    return Err(failed);
                }
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, Failure> {
        let (discard, turn) = match &mut self.conn {
            Conn::Server(conn) => handle(
                conn.process_tls_records(&mut self.incoming),
                &mut self.outgoing,
            ),
            Conn::Client(conn) => handle(
                conn.process_tls_records(&mut self.incoming),
                &mut self.outgoing,
            ),
            Conn::Gone => return Err(Failure::Internal),
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        turn
    }

    fn finish(&mut self) -> Result<Box<Established>, Failure> {
        // A message that began in the last record of the handshake has no place any more.
        if !self.incoming.is_empty() {
            return Err(Failure::Misbehaved);
        }
        let conn = std::mem::replace(&mut self.conn, Conn::Gone);
        let captured = std::mem::take(&mut self.captured);
        let established = match conn {
            Conn::Server(conn) => {
                let remains = Remains::of(&conn)?;
                let (keys, _) = conn.dangerous_into_kernel_connection().map_err(failure)?;
                remains.with(keys, captured, Side::Server)
            }
            Conn::Client(conn) => {
                let remains = Remains::of(&conn)?;
                let (keys, kernel) = conn.dangerous_into_kernel_connection().map_err(failure)?;
                // Before TLS 1.3 tickets come inside the handshake.
                let tickets =
                    (remains.version == ProtocolVersion::TLSv1_3).then(|| Box::new(kernel));
                remains.with(keys, captured, Side::Client { tickets })
            }
            Conn::Gone => return Err(Failure::Internal),
        };
        Ok(Box::new(established))
    }
}

/// What one call of rustls led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    More,
    Blocked,
    Ready,
}

/// Deals with one status; returns how many bytes to discard from the front of the incoming buffer.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Turn, Failure>) {
    let UnbufferedStatus { discard, state } = status;
    let turn = match state {
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Turn::More)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Turn::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Turn::Ready),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(Failure::PeerClosed),
        // Early data is never offered or accepted, and a record is given only when a handshake
        // record is due.
        Ok(_) => Err(Failure::Misbehaved),
        Err(error) => Err(failure(error)),
    };
    (discard, turn)
}

fn encode<Data>(
    mut data: EncodeTlsData<'_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<Turn, Failure> {
    let at = outgoing.len();
    // It says how much room it needs when it has none.
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(Turn::More),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(Failure::Internal),
    };
    outgoing.resize(at + needed, 0);
    let written = data
        .encode(&mut outgoing[at..])
        .map_err(|_| Failure::Internal)?;
    outgoing.truncate(at + written);
    Ok(Turn::More)
}

/// What is asked of the connection before it's taken apart.
struct Remains {
    version: ProtocolVersion,
    alpn: Option<Box<[u8]>>,
    resumed: bool,
}

impl Remains {
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

#[expect(
    clippy::needless_pass_by_value,
    reason = "so that it can stand in map_err"
)]
fn failure(error: Error) -> Failure {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's list may grow, and is long"
    )]
    match error {
        Error::AlertReceived(alert) => Failure::PeerAlert(alert.into()),
        Error::InvalidCertificate(_) => Failure::BadCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Failure::Incompatible,
        Error::InvalidMessage(_) => Failure::Malformed,
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => Failure::Misbehaved,
        _ => Failure::Internal,
    }
}

/// All records of one side. A chain of certificates, the longest part, has rarely 8 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// A plaintext record with the fatal alert `decode_error`.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

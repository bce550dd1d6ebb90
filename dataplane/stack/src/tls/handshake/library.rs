//! One call of rustls's unbuffered API, for either role.

use lockgate_ktls::Suite;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CipherSuite, CommonState, Error, ProtocolVersion};

use crate::tls::failure::{Failure, Fault};

/// rustls's connection.
pub(super) enum Conn {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// Failed, or handed over.
    Ended,
}

impl Conn {
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Server(conn) => conn.wants_write(),
            Self::Client(conn) => conn.wants_write(),
            Self::Ended => false,
        }
    }

    fn state(&self) -> Option<&CommonState> {
        match self {
            Self::Server(conn) => Some(conn),
            Self::Client(conn) => Some(conn),
            Self::Ended => None,
        }
    }

    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        self.state()?.protocol_version()
    }

    pub(super) fn suite(&self) -> Option<Suite> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's list is long; these are all that it implements"
        )]
        match self.state()?.negotiated_cipher_suite()?.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Suite::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Suite::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                Some(Suite::Chacha20Poly1305)
            }
            _ => None,
        }
    }
}

/// Reason why the library stopped.
pub(super) enum Stop {
    Refused(Error),
    Fault(Fault),
}

/// Result of one call of rustls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallOutcome {
    More,
    Blocked,
    Ready,
}

/// Handles one status of rustls. Returns the number of bytes to discard from the front of the
/// incoming buffer.
pub(super) fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<CallOutcome, Stop>) {
    let UnbufferedStatus { discard, state } = status;
    let outcome = match state {
        Ok(ConnectionState::EncodeTlsData(data)) => {
            encode(data, outgoing).map_err(|failure| Stop::Fault(Fault::silent(failure)))
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(CallOutcome::More)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(CallOutcome::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(CallOutcome::Ready),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Err(Stop::Fault(Fault::silent(Failure::PeerClosed)))
        }
        // Early data is never offered or accepted, and a record is given only when a handshake
        // record is due.
        Ok(_) => Err(Stop::Fault(Fault::UNEXPECTED)),
        Err(error) => Err(Stop::Refused(error)),
    };
    (discard, outcome)
}

fn encode<Data>(
    mut data: EncodeTlsData<'_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<CallOutcome, Failure> {
    let at = outgoing.len();
    // Without room it returns the size that it needs.
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(CallOutcome::More),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(Failure::Internal),
    };
    outgoing.resize(at + needed, 0);
    let written = data
        .encode(&mut outgoing[at..])
        .map_err(|_| Failure::Internal)?;
    outgoing.truncate(at + written);
    Ok(CallOutcome::More)
}

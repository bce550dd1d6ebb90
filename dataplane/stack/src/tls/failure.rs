//! Reasons why a handshake fails, with the alert for the peer.

use lockgate_ktls::AlertDescription;

/// Reason why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The peer sent a fatal alert.
    PeerAlert(u8),
    /// The peer closed the connection before the handshake was done.
    PeerClosed,
    /// No version, suite, group, signature scheme, certificate or application protocol in common.
    Incompatible,
    /// The server's certificate isn't trusted, or isn't valid for the name.
    BadCertificate,
    /// The peer violated the protocol.
    Misbehaved,
    /// A record or message that isn't TLS.
    Malformed,
    /// A handshake message is too long, or in too many pieces.
    TooLong,
    /// The handshake timed out.
    TimedOut,
    /// Its memory or its place was needed by newer handshakes.
    Evicted,
    /// A failure of this side, such as no cipher backend for the suite.
    Internal,
}

/// A failure, with the alert that reports it to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) alert: Option<AlertDescription>,
}

impl Fault {
    pub(super) const UNEXPECTED: Self =
        Self::of(Failure::Misbehaved, AlertDescription::UNEXPECTED_MESSAGE);
    /// A message that is too long. Its syntax may be right, so decode_error would be wrong, and its
    /// records aren't too long. OpenSSL, BoringSSL and the record layer send illegal_parameter too.
    pub(super) const TOO_LONG: Self =
        Self::of(Failure::TooLong, AlertDescription::ILLEGAL_PARAMETER);

    /// Bytes that can't be parsed.
    pub(super) const MALFORMED: Self = Self::of(Failure::Malformed, AlertDescription::DECODE_ERROR);
    /// The peer's close_notify, which is answered by another.
    pub(super) const CLOSED: Self = Self::of(Failure::PeerClosed, AlertDescription::CLOSE_NOTIFY);

    pub(super) const fn of(failure: Failure, alert: AlertDescription) -> Self {
        Self {
            failure,
            alert: Some(alert),
        }
    }

    /// A failure that isn't reported to the peer, such as its own alert.
    pub(super) const fn silent(failure: Failure) -> Self {
        Self {
            failure,
            alert: None,
        }
    }
}

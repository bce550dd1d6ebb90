//! Why a handshake fails: for the counters, and for the peer.

use lockgate_ktls::AlertDescription;

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
    /// A message is longer than any handshake needs, or in too many pieces.
    TooLong,
    /// It took too long.
    TimedOut,
    /// Something on this side: no randomness, keys that don't agree.
    Internal,
}

/// Why a handshake fails, and the alert that reports it to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) alert: Option<AlertDescription>,
}

impl Fault {
    pub(super) const UNEXPECTED: Self =
        Self::of(Failure::Misbehaved, AlertDescription::UNEXPECTED_MESSAGE);
    /// OpenSSL, BoringSSL and our record layer send illegal_parameter, too: the message may
    /// conform to the syntax, so decode_error would be wrong, and its records aren't too long.
    pub(super) const TOO_LONG: Self =
        Self::of(Failure::TooLong, AlertDescription::ILLEGAL_PARAMETER);

    pub(super) const fn of(failure: Failure, alert: AlertDescription) -> Self {
        Self {
            failure,
            alert: Some(alert),
        }
    }

    /// A failure that the peer isn't told: it ended the handshake itself.
    pub(super) const fn silent(failure: Failure) -> Self {
        Self {
            failure,
            alert: None,
        }
    }
}

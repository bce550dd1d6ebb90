//! Translation of the TLS library's errors to failures and alerts.
//!
//! The library sends most alerts itself. For some faults it sends none, for others an alert that
//! differs from the RFC's.

use lockgate_ktls::{AlertDescription as Alert, Version};
use rustls::{Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use super::failure::{Failure, Fault};
use super::hello::{HelloFacts, Offered};

/// Translation of an error of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AlertChoice {
    pub(super) fault: Fault,
    /// Whether `fault`'s alert replaces the library's.
    pub(super) replaces: bool,
}

/// What is known of a handshake that the library refused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    /// The client's last hello; servers only.
    pub(super) hello: Option<HelloFacts>,
    /// Versions that this server supports.
    pub(super) ours: Offered,
    /// Whether no certificate fits the hello.
    pub(super) no_certificate: bool,
}

/// Returns the failure to be counted and the alert to be sent.
pub(super) fn refusal(error: &Error, context: &Context) -> AlertChoice {
    if let Some(alert) = better_alert(error, context) {
        let failure = if context.no_certificate {
            Failure::Incompatible
        } else {
            failure(error)
        };
        return AlertChoice {
            fault: Fault::of(failure, alert),
            replaces: true,
        };
    }
    let failure = failure(error);
    if failure == Failure::PeerClosed {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-6.1
        //# Each party MUST send a "close_notify" alert before closing its write
        //# side of the connection, unless it has already sent some error alert.
        //
        // The library answers one in a handshake by decode_error.
        return AlertChoice {
            fault: Fault::CLOSED,
            replaces: true,
        };
    }
    let fault = match failure {
        Failure::PeerAlert(_) => Fault::silent(failure),
        Failure::PeerClosed
        | Failure::Incompatible
        | Failure::BadCertificate
        | Failure::Misbehaved
        | Failure::Malformed
        | Failure::TooLong
        | Failure::TimedOut
        | Failure::Evicted
        | Failure::Internal => Fault::of(failure, alert(error)),
    };
    AlertChoice {
        fault,
        replaces: false,
    }
}

/// Returns the RFC's alert where the library sends another.
fn better_alert(error: &Error, context: &Context) -> Option<Alert> {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-4.1.1
    //# If the server is unable to negotiate a supported set of parameters
    //# (i.e., there is no overlap between the client and server parameters),
    //# it MUST abort the handshake with either a "handshake_failure" or
    //# "insufficient_security" fatal alert
    //
    // The library says access_denied.
    if context.no_certificate {
        return Some(Alert::HANDSHAKE_FAILURE);
    }
    let version = context.hello.map(|hello| hello.negotiates(context.ours));
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's lists may grow, and are long"
    )]
    match error {
        // The library checks signature_algorithms before the version.
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
            match version {
                //= https://www.rfc-editor.org/rfc/rfc8446#section-9.2
                //# Servers receiving a ClientHello which does not conform to these
                //# requirements MUST abort the handshake with a "missing_extension"
                //# alert.
                Some(Some(Version::Tls13)) => Some(Alert::MISSING_EXTENSION),
                Some(None) => Some(Alert::PROTOCOL_VERSION),
                Some(Some(Version::Tls10 | Version::Tls11 | Version::Tls12)) | None => None,
            }
        }
        Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired) => {
            Some(Alert::MISSING_EXTENSION)
        }
        Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon)
            if version == Some(Some(Version::Tls13))
                && context.hello.is_some_and(|hello| !hello.has_groups) =>
        {
            Some(Alert::MISSING_EXTENSION)
        }
        // RFC 7250, 4.2.
        Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension) => {
            Some(Alert::UNSUPPORTED_CERTIFICATE)
        }
        // A handshake type that no peer may send, such as message_hash.
        Error::InvalidMessage(InvalidMessage::UnexpectedMessage(_)) => {
            Some(Alert::UNEXPECTED_MESSAGE)
        }
        _ => None,
    }
}

/// Returns how a failure is counted.
pub(super) fn failure(error: &Error) -> Failure {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's list may grow, and is long"
    )]
    match error {
        Error::AlertReceived(rustls::AlertDescription::CloseNotify) => Failure::PeerClosed,
        Error::AlertReceived(alert) => Failure::PeerAlert((*alert).into()),
        Error::InvalidCertificate(_) => Failure::BadCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Failure::Incompatible,
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => Failure::TooLong,
        Error::InvalidMessage(_) => Failure::Malformed,
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => Failure::Misbehaved,
        _ => Failure::Internal,
    }
}

/// Returns the alert for an error that the library reports to us alone.
fn alert(error: &Error) -> Alert {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's list may grow, and is long"
    )]
    match error {
        Error::InvalidMessage(message) => alert_of_message(*message),
        Error::PeerMisbehaved(fault) => alert_of_misbehaviour(fault),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Alert::UNEXPECTED_MESSAGE
        }
        Error::DecryptError => Alert::BAD_RECORD_MAC,
        Error::PeerSentOversizedRecord => Alert::RECORD_OVERFLOW,
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => Alert::PROTOCOL_VERSION,
        Error::PeerIncompatible(_) => Alert::HANDSHAKE_FAILURE,
        Error::NoApplicationProtocol => Alert::NO_APPLICATION_PROTOCOL,
        Error::InvalidCertificate(fault) => {
            Alert(rustls::AlertDescription::from(fault.clone()).into())
        }
        _ => Alert::INTERNAL_ERROR,
    }
}

fn alert_of_message(fault: InvalidMessage) -> Alert {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's list may grow; what isn't named is syntax"
    )]
    match fault {
        InvalidMessage::MessageTooLarge => Alert::RECORD_OVERFLOW,
        InvalidMessage::InvalidContentType
        | InvalidMessage::InvalidEmptyPayload
        | InvalidMessage::UnexpectedMessage(_) => Alert::UNEXPECTED_MESSAGE,
        InvalidMessage::UnknownProtocolVersion => Alert::PROTOCOL_VERSION,
        InvalidMessage::HandshakePayloadTooLarge
        | InvalidMessage::CertificatePayloadTooLarge
        | InvalidMessage::PreSharedKeyIsNotFinalExtension
        | InvalidMessage::DuplicateExtension(_)
        | InvalidMessage::UnsupportedCompression => Alert::ILLEGAL_PARAMETER,
        InvalidMessage::UnknownHelloRetryRequestExtension
        | InvalidMessage::UnknownCertificateExtension => Alert::UNSUPPORTED_EXTENSION,
        _ => Alert::DECODE_ERROR,
    }
}

fn alert_of_misbehaviour(fault: &PeerMisbehaved) -> Alert {
    use PeerMisbehaved as P;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's list may grow; what isn't named is a field with a wrong value"
    )]
    match fault {
        P::IllegalMiddleboxChangeCipherSpec
        | P::IllegalTlsInnerPlaintext
        | P::KeyEpochWithPendingFragment
        | P::MessageInterleavedWithHandshakeMessage
        | P::RejectedEarlyDataInterleavedWithHandshakeMessage
        | P::TooManyEmptyFragments
        | P::TooManyKeyUpdateRequests
        | P::TooManyRenegotiationRequests
        | P::TooManyWarningAlertsReceived
        | P::TooMuchEarlyDataReceived => Alert::UNEXPECTED_MESSAGE,
        P::MissingKeyShare
        | P::MissingPskExtensionInSecondClientHello
        | P::MissingPskModesExtension => Alert::MISSING_EXTENSION,
        P::DisallowedEncryptedExtension
        | P::UnexpectedCleartextExtension
        | P::UnsolicitedCertExtension
        | P::UnsolicitedEchExtension
        | P::UnsolicitedEncryptedExtension
        | P::UnsolicitedSctList
        | P::UnsolicitedServerHelloExtension => Alert::UNSUPPORTED_EXTENSION,
        P::SignedKxWithWrongAlgorithm => Alert::DECRYPT_ERROR,
        _ => Alert::ILLEGAL_PARAMETER,
    }
}

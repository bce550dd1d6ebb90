//! Checks the records of a handshake before the TLS library sees them.
//!
//! The library answers several faults with the wrong alert, with none, or by waiting for bytes that
//! never come. What can be judged by a record's header is judged here, with the alert that the RFC
//! names; the table is in `docs/ktls.md`.

use lockgate_ktls::{AlertDescription, ContentType, LEGACY_VERSION, RecordHeader, RecordShape};

use super::failure::{Failure, Fault};

/// Protection of the records that the peer sends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerProtection {
    /// None: there are no keys yet.
    Plaintext,
    /// TLS 1.2 after its ChangeCipherSpec.
    Tls12,
    /// TLS 1.3 after the ServerHello.
    Tls13,
}

/// Whether a record may begin like this.
pub(crate) fn may_begin(header: RecordHeader, protection: PeerProtection) -> bool {
    check_header(header, protection).is_ok()
}

/// Checks a record's header. A header that may not needs no body to be refused.
pub(super) fn check_header(header: RecordHeader, protection: PeerProtection) -> Result<(), Fault> {
    let RecordHeader {
        kind,
        version,
        length,
    } = header;
    let known = ContentType::CHANGE_CIPHER_SPEC.0..=ContentType::APPLICATION_DATA.0;
    //= https://www.rfc-editor.org/rfc/rfc8446#section-5
    //# If a TLS
    //# implementation receives an unexpected record type, it MUST terminate
    //# the connection with an "unexpected_message" alert.
    if !known.contains(&kind.0) {
        let alert = AlertDescription::UNEXPECTED_MESSAGE;
        return Err(Fault::of(Failure::Malformed, alert));
    }
    //= https://www.rfc-editor.org/rfc/rfc5246#appendix-E.1
    //# TLS servers compliant with this specification MUST
    //# accept any value {03,XX} as the record layer version number for
    //# ClientHello.
    if version[0] != LEGACY_VERSION[0] {
        let alert = AlertDescription::PROTOCOL_VERSION;
        return Err(Fault::of(Failure::Malformed, alert));
    }
    let is_data = kind == ContentType::APPLICATION_DATA;
    if length > length_max(protection, is_data) {
        let alert = AlertDescription::RECORD_OVERFLOW;
        return Err(Fault::of(Failure::Misbehaved, alert));
    }
    match protection {
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.1
        //# Implementations MUST NOT send zero-length fragments of Handshake,
        //# Alert, or ChangeCipherSpec content types.
        PeerProtection::Plaintext if length == 0 && !is_data => Err(Fault::UNEXPECTED),
        //= https://www.rfc-editor.org/rfc/rfc5246#section-7.2.2
        //# This alert also MUST be returned if an alert is sent because
        //# a TLSCiphertext decrypted in an invalid way
        PeerProtection::Tls12 if length < RecordShape::LENGTH_MIN => {
            let alert = AlertDescription::BAD_RECORD_MAC;
            Err(Fault::of(Failure::Misbehaved, alert))
        }
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5
        //# An implementation which receives any other change_cipher_spec value or
        //# which receives a protected change_cipher_spec record MUST abort the
        //# handshake with an "unexpected_message" alert.
        PeerProtection::Tls13 if kind == ContentType::CHANGE_CIPHER_SPEC && length != 1 => {
            Err(Fault::UNEXPECTED)
        }
        // An alert of two bytes may be from a peer that hasn't got as far as the keys.
        PeerProtection::Tls13 if kind == ContentType::ALERT && length != 2 => {
            Err(Fault::UNEXPECTED)
        }
        PeerProtection::Tls13 if kind == ContentType::HANDSHAKE => Err(Fault::UNEXPECTED),
        PeerProtection::Plaintext | PeerProtection::Tls12 | PeerProtection::Tls13 => Ok(()),
    }
}

/// The greatest value of a header's length field.
fn length_max(protection: PeerProtection, is_data: bool) -> u16 {
    match protection {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# The length MUST NOT exceed 2^14 bytes.  An
        //# endpoint that receives a record that exceeds this length MUST
        //# terminate the connection with a "record_overflow" alert.
        //
        // After a HelloRetryRequest, records of early data may come that have to be skipped, and
        // they are protected.
        PeerProtection::Plaintext if is_data => PLAINTEXT_MAX + TLS13_EXPANSION_MAX,
        PeerProtection::Plaintext => PLAINTEXT_MAX,
        PeerProtection::Tls12 => PLAINTEXT_MAX + TLS12_EXPANSION_MAX,
        PeerProtection::Tls13 => PLAINTEXT_MAX + TLS13_EXPANSION_MAX,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "2^14")]
const PLAINTEXT_MAX: u16 = lockgate_ktls::PLAINTEXT_MAX as u16;
/// Departure from RFC 5246, 6.2.3, which allows 2048: rustls's own limit is a byte lower. No valid
/// record is concerned, because an AEAD suite adds at most 24 bytes.
const TLS12_EXPANSION_MAX: u16 = 2047;
/// RFC 8446, 5.2.
const TLS13_EXPANSION_MAX: u16 = 256;
/// Bytes of the longest record that passes, without its header.
pub(crate) const CIPHERTEXT_MAX: usize = (PLAINTEXT_MAX + TLS12_EXPANSION_MAX) as usize;

//! Alerts (RFC 8446, 6): two bytes that close a connection or report why it failed.

/// Severity of an alert. TLS 1.3 gives it no meaning.
///
/// Not an enumeration: peers may send undefined values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlertLevel(pub u8);

impl AlertLevel {
    /// The connection may continue, except after close_notify.
    pub const WARNING: Self = Self(1);
    /// The connection is over.
    pub const FATAL: Self = Self(2);

    /// Whether it's one of the two that are defined.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::WARNING | Self::FATAL)
    }
}

/// Meaning of an alert, by its number in the TLS Alerts registry.
///
/// Not an enumeration: peers may send values that are defined later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    /// The sender will write no more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message or record that is not allowed in this state.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record could not be authenticated.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record was too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// The peers have no parameters in common.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A certificate is of a type that is not supported.
    pub const UNSUPPORTED_CERTIFICATE: Self = Self(43);
    /// A field had a value that is not allowed.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message could not be parsed.
    pub const DECODE_ERROR: Self = Self(50);
    /// A cryptographic operation of the handshake failed, such as checking a signature.
    pub const DECRYPT_ERROR: Self = Self(51);
    /// The record's version is not the connection's.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// A failure of this side that has nothing to do with the peer.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The user cancelled; a close_notify follows.
    pub const USER_CANCELED: Self = Self(90);
    /// The answer to an attempt to renegotiate.
    pub const NO_RENEGOTIATION: Self = Self(100);
    /// A message lacks an extension that is mandatory.
    pub const MISSING_EXTENSION: Self = Self(109);
    /// A message has an extension that was not offered.
    pub const UNSUPPORTED_EXTENSION: Self = Self(110);
    /// The peers have no application protocol in common.
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);
}

/// An alert message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alert {
    /// Its severity.
    pub level: AlertLevel,
    /// Its meaning.
    pub description: AlertDescription,
}

impl Alert {
    /// The alert that ends a direction cleanly.
    pub const CLOSE_NOTIFY: Self = Self::warning(AlertDescription::CLOSE_NOTIFY);

    /// An alert of level warning.
    pub const fn warning(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::WARNING,
            description,
        }
    }

    /// An alert of level fatal.
    pub const fn fatal(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::FATAL,
            description,
        }
    }

    /// Parses the content of an alert record. Returns `None` unless it is exactly one alert of two
    /// bytes.
    pub fn parse(content: &[u8]) -> Option<Self> {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# Alert messages (Section 6) MUST NOT be fragmented across records, and
        //# multiple alert messages MUST NOT be coalesced into a single
        //# TLSPlaintext record.
        let &[level, description] = content else {
            return None;
        };
        Some(Self {
            level: AlertLevel(level),
            description: AlertDescription(description),
        })
    }

    /// Returns the content of the alert's record.
    pub const fn encode(self) -> [u8; 2] {
        [self.level.0, self.description.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_round_trip_and_nothing_else_parses() {
        for level in 0..=u8::MAX {
            for description in 0..=u8::MAX {
                let alert = Alert::parse(&[level, description]).unwrap();
                assert_eq!(alert.encode(), [level, description]);
            }
        }
        for content in [&[][..], &[1], &[1, 0, 0], &[2, 20, 2, 20]] {
            assert_eq!(Alert::parse(content), None);
        }
    }
}

//! Alerts: the two bytes that close a connection or say why it failed.

/// Severity of an alert. TLS 1.3 gives it no meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlertLevel {
    /// The connection may go on, except after close_notify.
    Warning,
    /// The connection is over.
    Fatal,
}

/// What an alert says. Not an enumeration: peers may send values that nobody has defined yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    /// The sender will write no more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message came that doesn't belong here.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record could not be authenticated.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record was too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A field had a value that is not allowed.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message could not be parsed.
    pub const DECODE_ERROR: Self = Self(50);
    /// The record's version is not the connection's.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// The fault is our own.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The user went away; a close_notify follows.
    pub const USER_CANCELED: Self = Self(90);
    /// The answer to an attempt to renegotiate.
    pub const NO_RENEGOTIATION: Self = Self(100);
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
    /// The alert that ends a direction in good order.
    pub const CLOSE_NOTIFY: Self = Self::warning(AlertDescription::CLOSE_NOTIFY);

    /// An alert of level warning.
    pub const fn warning(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::Warning,
            description,
        }
    }

    /// An alert of level fatal.
    pub const fn fatal(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::Fatal,
            description,
        }
    }

    /// Reads the content of an alert record. `None` unless it's exactly one alert.
    pub fn parse(content: &[u8]) -> Option<Self> {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# Alert messages (Section 6) MUST NOT be fragmented across records, and
        //# multiple alert messages MUST NOT be coalesced into a single
        //# TLSPlaintext record.
        let &[level, description] = content else {
            return None;
        };
        let level = match level {
            1 => AlertLevel::Warning,
            2 => AlertLevel::Fatal,
            _ => return None,
        };
        Some(Self {
            level,
            description: AlertDescription(description),
        })
    }

    /// The content of the alert's record.
    pub const fn encode(self) -> [u8; 2] {
        let level = match self.level {
            AlertLevel::Warning => 1,
            AlertLevel::Fatal => 2,
        };
        [level, self.description.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_round_trip_and_nothing_else_parses() {
        for level in 0..=u8::MAX {
            for description in 0..=u8::MAX {
                match Alert::parse(&[level, description]) {
                    Some(alert) => assert_eq!(alert.encode(), [level, description]),
                    None => assert!(level != 1 && level != 2),
                }
            }
        }
        for content in [&[][..], &[1], &[1, 0, 0], &[2, 20, 2, 20]] {
            assert_eq!(Alert::parse(content), None);
        }
    }
}

//! What a client may send and how long it may take: every limit of the HTTP machine, in one place.

use core::time::Duration;

/// A number that is known to lie between `MIN` and `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The smallest value.
    pub const MIN: u32 = MIN;
    /// The largest value.
    pub const MAX: u32 = MAX;

    /// `value`, if it is within the bounds.
    pub const fn new(value: u32) -> Option<Self> {
        if value >= MIN && value <= MAX {
            Some(Self(value))
        } else {
            None
        }
    }

    /// `value`, or the bound that it's beyond.
    pub const fn clamped(value: u32) -> Self {
        if value < MIN {
            Self(MIN)
        } else if value > MAX {
            Self(MAX)
        } else {
            Self(value)
        }
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The number as a length in memory.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

/// A time limit in milliseconds: from one millisecond to an hour.
pub type Timeout = Bounded<1, 3_600_000>;

impl Timeout {
    /// The limit as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

/// The limits of one HTTP server. What a connection in the middle of a request may hold is
/// `head_bytes_max` for the head, at most as much again for what is remembered of it, and the
/// answer's head (at most three times the target's length and 1 KiB, for a redirect); bodies of
/// requests are discarded, those of responses are pulled.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request line, with its CRLF: more is answered with 414. The head's limit holds, too.
    pub request_line_bytes_max: Bounded<64, 65_536>,
    /// Longest request target: more is answered with 414.
    pub target_bytes_max: Bounded<16, 65_536>,
    /// Longest head, request line, header fields and all their CRLFs: more is answered with 431.
    pub head_bytes_max: Bounded<256, 262_144>,
    /// Most header fields: more are answered with 431.
    pub headers_max: Bounded<4, 128>,
    /// Longest body of a request that is read and thrown away: more is answered with 413.
    pub body_bytes_max: Bounded<0, 16_777_216>,
    /// Requests of a connection; it's closed behind the last one's answer.
    pub requests_max: Bounded<1, 1_000_000_000>,
    /// From the connection's start, or the request's first byte on a kept connection, to the end of
    /// the head: one deadline for all of it.
    pub header_timeout: Timeout,
    /// From the head's end to the end of the request's body.
    pub body_timeout: Timeout,
    /// How long a kept connection may be silent between two requests.
    pub idle_timeout: Timeout,
    /// How long an object may take to be found: then 503.
    pub lookup_timeout: Timeout,
    /// How long a response may stand still without a byte being taken by the client.
    pub send_timeout: Timeout,
    /// How long the client may take to close its side after we closed ours.
    pub linger_timeout: Timeout,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: Bounded::clamped(8_192),
            target_bytes_max: Bounded::clamped(8_000),
            head_bytes_max: Bounded::clamped(16_384),
            headers_max: Bounded::clamped(100),
            body_bytes_max: Bounded::clamped(65_536),
            requests_max: Bounded::clamped(1_000_000),
            header_timeout: Timeout::clamped(10_000),
            body_timeout: Timeout::clamped(10_000),
            idle_timeout: Timeout::clamped(60_000),
            lookup_timeout: Timeout::clamped(10_000),
            send_timeout: Timeout::clamped(30_000),
            linger_timeout: Timeout::clamped(5_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        type Small = Bounded<4, 6>;
        assert_eq!(Small::new(3), None);
        assert_eq!(Small::new(4).map(Small::value), Some(4));
        assert_eq!(Small::new(6).map(Small::bytes), Some(6));
        assert_eq!(Small::new(7), None);
        assert_eq!(
            (Small::clamped(0).value(), Small::clamped(9).value()),
            (4, 6)
        );
        assert_eq!(
            Timeout::clamped(1_500).duration(),
            Duration::from_millis(1_500)
        );
    }
}

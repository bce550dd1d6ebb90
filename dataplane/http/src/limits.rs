//! The limits on what a client may send and how long it may take.

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

/// The limits of one HTTP server.
///
/// A connection holds at most `head_bytes_max` for a request's head, as much again for its parsed
/// parts, and the response's head (for a redirect at most three times the target's length and
/// 1 KiB). Bodies of requests are discarded, those of responses are pulled.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request line, with its CRLF. A longer one gets 414, or 501 if its method is unknown.
    /// The limit of the head holds, too.
    pub request_line_bytes_max: Bounded<64, 65_536>,
    /// Longest request target. A longer one gets 414.
    pub target_bytes_max: Bounded<16, 65_536>,
    /// Longest head: request line, header fields and all their CRLFs. A longer one gets 431.
    pub head_bytes_max: Bounded<256, 262_144>,
    /// Memory for heads beyond 1 KiB, over all connections of a worker. A head longer than a
    /// quarter of what is left of it gets 503, an ordinary one never.
    pub long_heads_bytes_max: u64,
    /// Most header fields. More get 431.
    pub headers_max: Bounded<4, 128>,
    /// Longest body of a request, which is discarded. A longer one gets 413.
    pub body_bytes_max: Bounded<0, 16_777_216>,
    /// Most requests of a connection. It closes after the last one's response.
    pub requests_max: Bounded<1, 1_000_000_000>,
    /// From the connection's start, or the request's first byte on a kept connection, to the end of
    /// the head: one deadline for all of it.
    pub header_timeout: Timeout,
    /// From the head's end to the end of the request's body.
    pub body_timeout: Timeout,
    /// How long a connection may be idle between two requests. While bytes of a response are
    /// unacknowledged `send_timeout` holds instead.
    pub idle_timeout: Timeout,
    /// How long the lookup of an object may take. Then the request gets 503.
    pub lookup_timeout: Timeout,
    /// How long a client may acknowledge responses more slowly than
    /// [`send_rate_min`](Self::send_rate_min). Then the connection is reset, within a quarter more
    /// ([`crate::Delivery`]).
    pub send_timeout: Timeout,
    /// Bytes a second that a client has to acknowledge while responses are sent to it.
    pub send_rate_min: Bounded<1, 1_000_000>,
    /// How long the client may take to close its side after it acknowledged the last response.
    pub linger_timeout: Timeout,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: Bounded::clamped(8_192),
            target_bytes_max: Bounded::clamped(8_000),
            head_bytes_max: Bounded::clamped(16_384),
            long_heads_bytes_max: 32 << 20,
            headers_max: Bounded::clamped(100),
            body_bytes_max: Bounded::clamped(65_536),
            requests_max: Bounded::clamped(1_000_000),
            header_timeout: Timeout::clamped(10_000),
            body_timeout: Timeout::clamped(10_000),
            idle_timeout: Timeout::clamped(60_000),
            lookup_timeout: Timeout::clamped(10_000),
            send_timeout: Timeout::clamped(30_000),
            send_rate_min: Bounded::clamped(512),
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

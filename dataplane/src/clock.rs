//! The clock: the one place of the workspace that reads it.

#![expect(
    clippy::disallowed_methods,
    reason = "everything else takes time as an argument"
)]

use core::time::Duration;
use std::time;

use lockgate_wire::Instant;

/// A monotonic clock that starts near zero.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    /// A clock that starts now, at [`Instant::ZERO`] plus one second: subtracting a short time
    /// never underflows.
    pub fn new() -> Self {
        Self {
            start: time::Instant::now(),
        }
    }

    /// Returns the time.
    pub fn now(&self) -> Instant {
        let since = time::Instant::now().saturating_duration_since(self.start);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
        Instant::from_nanos(nanos + FIRST_MOMENT_NANOS)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the time since 1970, in UTC; 0 if the system's clock is set before that.
pub fn unix_time() -> Duration {
    time::SystemTime::now()
        .duration_since(time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Returns the seconds since 1970, in UTC; 0 if the system's clock is set before that.
pub fn unix_seconds() -> u64 {
    unix_time().as_secs()
}

/// A cached date for response heads, which name it in whole seconds. It's read again after 50 ms.
#[derive(Clone, Copy, Debug)]
pub struct Date {
    unix_seconds: u64,
    until: Instant,
}

impl Date {
    /// The date now.
    pub fn new(now: Instant) -> Self {
        Self {
            unix_seconds: unix_seconds(),
            until: now + DATE_PERIOD,
        }
    }

    /// Returns the seconds since 1970, in UTC, at most 50 ms late.
    pub fn unix_seconds(&mut self, now: Instant) -> u64 {
        if now >= self.until {
            *self = Self::new(now);
        }
        self.unix_seconds
    }
}

const DATE_PERIOD: Duration = Duration::from_millis(50);

const FIRST_MOMENT_NANOS: u64 = 1_000_000_000;

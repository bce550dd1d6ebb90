//! Rate limits by token bucket.

use core::time::Duration;

use lockgate_wire::Instant;

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per second in the long run; 0 means never.
    pub per_second: u32,
    /// Events at once, after a pause; at least one.
    pub burst: u32,
}

/// A token bucket. Its state is one number: when it will be full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    interval: Duration,
    depth: Duration,
    full_at: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate) -> Self {
        match Duration::from_secs(1).checked_div(rate.per_second) {
            Some(interval) => Self {
                interval,
                depth: interval.saturating_mul(rate.burst.max(1)),
                full_at: Instant::ZERO,
            },
            None => Self {
                interval: Duration::MAX,
                depth: Duration::ZERO,
                full_at: Instant::ZERO,
            },
        }
    }

    /// Takes a token. Returns false if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let fits = full_at.saturating_since(now) <= self.depth;
        if fits {
            self.full_at = full_at;
        }
        fits
    }

    /// Returns when the next token can be taken.
    pub(crate) fn available_at(&self) -> Instant {
        self.full_at + self.interval - self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut b = TokenBucket::new(Rate {
            per_second: 10,
            burst: 3,
        });
        let t = Instant::from_secs(5);
        assert_eq!((0..5).filter(|_| b.take(t)).count(), 3);
        assert!(!b.take(t + Duration::from_millis(99)));
        assert!(b.take(t + Duration::from_millis(100)));
        assert!(!b.take(t + Duration::from_millis(101)));
        // A long pause fills it again, and no more than that.
        let later = t + Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| b.take(later)).count(), 3);
    }

    #[test]
    fn long_run() {
        let mut b = TokenBucket::new(Rate {
            per_second: 100,
            burst: 10,
        });
        let taken = (0..10_000u64)
            .filter(|ms| b.take(Instant::from_millis(*ms)))
            .count();
        assert!((1000..=1010).contains(&taken), "{taken}");
    }

    #[test]
    fn never() {
        let mut b = TokenBucket::new(Rate {
            per_second: 0,
            burst: 9,
        });
        assert!(!b.take(Instant::ZERO) && !b.take(Instant::from_secs(1 << 30)));
    }
}

//! What a worker does when there's nothing to do.

use core::time::Duration;
use std::thread;

use lockgate_wire::Instant;

/// What a worker does when there's nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Looks again at once.
    Spin,
    /// Gives the core to whoever else wants it, if somebody does.
    Yield,
    /// Sleeps: a little at first, then longer, at most until the next timer.
    Sleep,
}

/// A worker's patience.
#[derive(Debug)]
pub struct Idle {
    policy: Policy,
    /// Turns in a row without work.
    empty: u32,
}

impl Idle {
    /// A worker that was busy until now.
    pub fn new(policy: Policy) -> Self {
        Self { policy, empty: 0 }
    }

    /// There was work.
    pub fn busy(&mut self) {
        self.empty = 0;
    }

    /// There was none.
    pub fn rest(&mut self, now: Instant, next_timer: Option<Instant>) {
        self.empty = self.empty.saturating_add(1);
        match self.policy {
            Policy::Yield if self.empty >= EMPTY_BEFORE_YIELD => thread::yield_now(),
            Policy::Sleep if self.empty >= EMPTY_BEFORE_SLEEP => {
                thread::sleep(self.nap(now, next_timer));
            }
            Policy::Spin | Policy::Yield | Policy::Sleep => core::hint::spin_loop(),
        }
    }

    fn nap(&self, now: Instant, next_timer: Option<Instant>) -> Duration {
        let doublings = (self.empty - EMPTY_BEFORE_SLEEP) / EMPTY_BEFORE_SLEEP;
        let nap = NAP_MIN.saturating_mul(1 << doublings.min(NAP_DOUBLINGS_MAX));
        match next_timer {
            Some(at) => nap.min(at.saturating_since(now)),
            None => nap,
        }
    }
}

const EMPTY_BEFORE_YIELD: u32 = 16;

const EMPTY_BEFORE_SLEEP: u32 = 256;

const NAP_MIN: Duration = Duration::from_micros(20);

/// A nap is 640 µs at most: what a packet may have to wait.
const NAP_DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_grow_and_end_at_the_next_timer() {
        let mut idle = Idle {
            policy: Policy::Sleep,
            empty: EMPTY_BEFORE_SLEEP,
        };
        let now = Instant::from_nanos(1_000_000);
        assert_eq!(idle.nap(now, None), NAP_MIN);
        idle.empty = 2 * EMPTY_BEFORE_SLEEP;
        assert_eq!(idle.nap(now, None), 2 * NAP_MIN);
        idle.empty = u32::MAX;
        assert_eq!(idle.nap(now, None), 32 * NAP_MIN);
        let soon = now + Duration::from_micros(7);
        assert_eq!(idle.nap(now, Some(soon)), Duration::from_micros(7));
        assert_eq!(idle.nap(now, Some(Instant::ZERO)), Duration::ZERO);
        idle.busy();
        assert_eq!(idle.empty, 0);
    }
}

//! What a worker does after a turn without work: spins, yields or sleeps, backing off.

use core::time::Duration;
use std::thread;

use lockgate_wire::Instant;

/// What a worker does after a turn without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Polls again at once. Keeps the core at 100 %.
    Spin,
    /// Yields the core to other threads after 16 idle turns.
    Yield,
    /// Sleeps after 256 idle turns: 20 µs at first, doubling up to 640 µs, never past the next
    /// timer.
    Sleep,
}

/// Counts a worker's idle turns and backs off by its [`IdlePolicy`].
#[derive(Debug)]
pub struct IdleBackoff {
    policy: IdlePolicy,
    /// Turns in a row without work.
    idle_turns: u32,
}

impl IdleBackoff {
    /// No idle turns yet.
    pub fn new(policy: IdlePolicy) -> Self {
        Self {
            policy,
            idle_turns: 0,
        }
    }

    /// Ends the back-off: the turn had work.
    pub fn reset(&mut self) {
        self.idle_turns = 0;
    }

    /// Waits as the policy says: the turn had no work.
    pub fn wait(&mut self, now: Instant, next_timer: Option<Instant>) {
        self.idle_turns = self.idle_turns.saturating_add(1);
        match self.policy {
            IdlePolicy::Yield if self.idle_turns >= IDLE_TURNS_BEFORE_YIELD => thread::yield_now(),
            IdlePolicy::Sleep if self.idle_turns >= IDLE_TURNS_BEFORE_SLEEP => {
                thread::sleep(self.sleep_time(now, next_timer));
            }
            IdlePolicy::Spin | IdlePolicy::Yield | IdlePolicy::Sleep => core::hint::spin_loop(),
        }
    }

    fn sleep_time(&self, now: Instant, next_timer: Option<Instant>) -> Duration {
        let doublings = (self.idle_turns - IDLE_TURNS_BEFORE_SLEEP) / IDLE_TURNS_BEFORE_SLEEP;
        let time = SLEEP_MIN.saturating_mul(1 << doublings.min(SLEEP_DOUBLINGS_MAX));
        match next_timer {
            Some(at) => time.min(at.saturating_since(now)),
            None => time,
        }
    }
}

const IDLE_TURNS_BEFORE_YIELD: u32 = 16;

const IDLE_TURNS_BEFORE_SLEEP: u32 = 256;

const SLEEP_MIN: Duration = Duration::from_micros(20);

/// Five doublings: a sleep is 640 µs at most, which is what a packet may have to wait.
const SLEEP_DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_grow_and_end_at_the_next_timer() {
        let mut idle = IdleBackoff {
            policy: IdlePolicy::Sleep,
            idle_turns: IDLE_TURNS_BEFORE_SLEEP,
        };
        let now = Instant::from_nanos(1_000_000);
        assert_eq!(idle.sleep_time(now, None), SLEEP_MIN);
        idle.idle_turns = 2 * IDLE_TURNS_BEFORE_SLEEP;
        assert_eq!(idle.sleep_time(now, None), 2 * SLEEP_MIN);
        idle.idle_turns = u32::MAX;
        assert_eq!(idle.sleep_time(now, None), 32 * SLEEP_MIN);
        let soon = now + Duration::from_micros(7);
        assert_eq!(idle.sleep_time(now, Some(soon)), Duration::from_micros(7));
        assert_eq!(idle.sleep_time(now, Some(Instant::ZERO)), Duration::ZERO);
        idle.reset();
        assert_eq!(idle.idle_turns, 0);
    }
}

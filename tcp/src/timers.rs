//! A connection's timers.

use lockgate_wire::Instant;

/// The kinds of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Retransmission of SYN, data or FIN; or, by [`RtxMode`], the persist timer.
    Retransmit,
    /// A delayed acknowledgment is due.
    DelayedAck,
    /// The keepalive idle time has passed.
    Keepalive,
    /// End of TIME-WAIT, or of FIN-WAIT-2 after the application closed its receiving side.
    Linger,
}

/// What the retransmission timer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RtxMode {
    /// Not armed.
    #[default]
    Off,
    /// Waits for an ACK; retransmits on expiry.
    Retransmit,
    /// Waits for the window to open (persist timer), or for the override timeout (RFC 9293, 3.8.6).
    Persist,
}

/// Deadlines of all timers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    at: [Instant; 4],
}

impl Timers {
    pub(crate) const OFF: Self = Self {
        at: [Instant::MAX; 4],
    };

    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = at;
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.at[timer as usize] = Instant::MAX;
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize] != Instant::MAX
    }

    /// Stops the timer if it has expired. Returns whether it had.
    pub(crate) fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.at[timer as usize] <= now;
        if due {
            self.stop(timer);
        }
        due
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        let [a, b, c, d] = self.at;
        let first = a.min(b).min(c.min(d));
        (first != Instant::MAX).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_counts_and_is_taken_once() {
        let mut timers = Timers::OFF;
        assert_eq!(timers.next(), None);
        timers.set(Timer::Keepalive, Instant::from_secs(7));
        timers.set(Timer::DelayedAck, Instant::from_secs(3));
        assert_eq!(timers.next(), Some(Instant::from_secs(3)));
        assert!(!timers.take_expired(Timer::DelayedAck, Instant::from_secs(2)));
        assert!(timers.take_expired(Timer::DelayedAck, Instant::from_secs(3)));
        assert!(!timers.take_expired(Timer::DelayedAck, Instant::from_secs(4)));
        assert!(!timers.is_set(Timer::DelayedAck) && timers.is_set(Timer::Keepalive));
        assert_eq!(timers.next(), Some(Instant::from_secs(7)));
    }
}

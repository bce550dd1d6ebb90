//! Detection of packets that a driver never takes.

use core::time::Duration;

use lockgate_wire::Instant;

/// How long a queue has taken no packet, though some are pending.
#[derive(Debug, Default)]
pub(super) struct StuckTimer {
    /// Packets that the queue had taken or lost at that time.
    since: Option<(u64, Instant)>,
}

impl StuckTimer {
    /// Returns whether the oldest pending packet is to be dropped. `gone` is the number of packets
    /// that have left the queue in any way.
    pub(super) fn poll(&mut self, now: Instant, pending: u16, gone: u64) -> bool {
        if pending == 0 {
            self.since = None;
            return false;
        }
        match self.since {
            Some((then, since)) if then == gone => now.saturating_since(since) >= STUCK_TIME_MAX,
            _ => {
                self.since = Some((gone, now));
                false
            }
        }
    }
}

/// Longer than the longest pause of one frame of flow control at 100 Mbit/s or more (IEEE 802.3,
/// annex 31B: 65535 quanta of 512 bit times, 336 ms; at 1 Gbit/s 34 ms).
const STUCK_TIME_MAX: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_counts_from_the_last_packet_that_left() {
        let mut timer = StuckTimer::default();
        let mut poll = |ms, pending, gone| timer.poll(Instant::from_millis(ms), pending, gone);
        assert!(!poll(1000, 1, 5));
        assert!(!poll(1399, 1, 5));
        // One was sent, another is pending since.
        assert!(!poll(1400, 1, 6));
        assert!(!poll(1799, 64, 6));
        assert!(poll(1800, 64, 6));
        // That one was dropped, and the next one has as much time.
        assert!(!poll(1800, 63, 7));
        assert!(!poll(2199, 63, 7));
        assert!(poll(2200, 63, 7));
        // An empty queue has no time.
        assert!(!poll(2300, 0, 8));
        assert!(!poll(2400, 1, 8));
        assert!(!poll(2799, 1, 8));
        assert!(poll(2800, 1, 8));
    }
}

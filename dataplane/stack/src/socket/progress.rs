//! How fast a peer acknowledges what it is sent.

use lockgate_wire::Instant;

/// A connection's progress: bytes acknowledged per second, over the last 15 to 30 seconds.
///
/// Only time counts in which the connection waits for its peer. The measurement stops when
/// everything is acknowledged, and while the connection itself lacks memory, a neighbour's address
/// or room in the interface. It starts anew with the next segment that is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Begin of the measured time.
    older: Sample,
    /// Where the measured time will begin after the next [`PERIOD`].
    newer: Sample,
    is_running: bool,
}

/// Both numbers are modulo 2^32.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at_millis: u32,
    /// Acknowledged bytes, in units of [`UNIT`].
    acked: u32,
}

impl Sample {
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
    fn new(now: Instant, acked: u64) -> Self {
        Self {
            at_millis: now.as_millis() as u32,
            acked: (acked / UNIT) as u32,
        }
    }

    /// The time since an earlier sample, in milliseconds.
    fn millis_since(self, earlier: Self) -> u32 {
        self.at_millis.wrapping_sub(earlier.at_millis)
    }
}

impl Progress {
    pub(crate) const fn new() -> Self {
        let begin = Sample {
            at_millis: 0,
            acked: 0,
        };
        Self {
            older: begin,
            newer: begin,
            is_running: false,
        }
    }

    /// Something was sent: the connection waits for its peer.
    pub(crate) fn on_sent(&mut self, now: Instant, acked: u64) {
        if !self.is_running {
            let begin = Sample::new(now, acked);
            *self = Self {
                older: begin,
                newer: begin,
                is_running: true,
            };
        }
    }

    /// The peer acknowledged everything before `acked`.
    pub(crate) fn on_acked(&mut self, now: Instant, acked: u64) {
        let sample = Sample::new(now, acked);
        if self.is_running && sample.millis_since(self.newer) >= PERIOD_MILLIS {
            self.older = self.newer;
            self.newer = sample;
        }
    }

    /// The connection doesn't wait for its peer.
    pub(crate) fn stop(&mut self) {
        self.is_running = false;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Bytes a second, of a connection that has waited for its peer for so long at least.
    pub(crate) fn rate(&self, now: Instant, acked: u64, millis_min: u32) -> Option<u64> {
        let sample = Sample::new(now, acked);
        let millis = sample.millis_since(self.older);
        if !self.is_running || millis < millis_min {
            return None;
        }
        // An acknowledgment in the last period would have taken a sample.
        if sample.millis_since(self.newer) >= 2 * PERIOD_MILLIS {
            return Some(0);
        }
        let units = sample.acked.wrapping_sub(self.older.acked);
        Some(u64::from(units) * UNIT * 1000 / u64::from(millis.max(1)))
    }
}

const UNIT: u64 = 256;
/// Half of the longest measured time.
const PERIOD_MILLIS: u32 = 15_000;
#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn the_rate_is_over_the_last_periods() {
        let mut progress = Progress::new();
        assert_eq!(progress.rate(at(100), 0, 2000), None, "nothing was sent");
        progress.on_sent(at(100), 1024);
        assert_eq!(progress.rate(at(101), 1024, 2000), None, "too short a time");
        assert_eq!(progress.rate(at(104), 1024, 2000), Some(0));
        assert_eq!(progress.rate(at(104), 1024 + 8 * 1024, 2000), Some(2048));
        // A fast beginning counts for 30 seconds at most.
        let fast = 1024 + 1_024_000;
        progress.on_acked(at(110), fast);
        progress.on_sent(at(110), fast);
        assert_eq!(progress.rate(at(110), fast, 2000), Some(102_400));
        progress.on_acked(at(115), fast);
        assert_eq!(progress.rate(at(125), fast, 2000), Some(40_960));
        progress.on_acked(at(130), fast + 1536);
        assert_eq!(progress.rate(at(130), fast + 1536, 2000), Some(102));
    }

    #[test]
    fn a_silent_peer_loses_its_rate() {
        let mut progress = Progress::new();
        progress.on_sent(at(0), 0);
        progress.on_acked(at(1), 102_400);
        assert_eq!(progress.rate(at(10), 102_400, 2000), Some(10_240));
        assert_eq!(progress.rate(at(29), 102_400, 2000), Some(3531));
        assert_eq!(progress.rate(at(30), 102_400, 2000), Some(0));
    }

    #[test]
    fn time_in_which_the_peer_is_not_waited_for_does_not_count() {
        let mut progress = Progress::new();
        progress.on_sent(at(0), 0);
        progress.stop();
        assert_eq!(progress.rate(at(60), 0, 2000), None);
        progress.on_sent(at(60), 0);
        assert_eq!(progress.rate(at(61), 4096, 2000), None);
        assert_eq!(progress.rate(at(62), 4096, 2000), Some(2048));
    }
}

//! How fast a peer acknowledges what it is sent.

use core::num::NonZeroU32;
use core::time::Duration;

use lockgate_wire::Instant;

/// A connection's progress: bytes acknowledged per second, over the last 15 to 30 seconds.
///
/// Only time counts in which the connection waits for its peer. The measurement stops when
/// everything is acknowledged, and while the connection itself lacks memory, a neighbour's address
/// or room in the interface. It starts anew with the next segment that is sent.
///
/// A lost segment can silence an honest peer for longer than a few seconds, so the rate looks back
/// that far. A closed window is no loss. For it a bucket counts: each acknowledged byte pays for
/// time at the least rate, for [`PAID_MILLIS_MAX`] ahead at most. What a peer took before, or a
/// byte now and then, keeps no connection with a closed window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Begin of the measured time.
    older: Sample,
    /// Where the measured time will begin after the next [`PERIOD_MILLIS`].
    newer: Sample,
    /// Until when the acknowledged bytes pay, in milliseconds modulo 2^32. `None` while the
    /// connection doesn't wait for its peer.
    paid_until: Option<NonZeroU32>,
}

const _: () = assert!(size_of::<Progress>() == 20);

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
            at_millis: now.low_millis(),
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
            paid_until: None,
        }
    }

    /// Something was sent: the connection waits for its peer.
    pub(crate) fn on_sent(&mut self, now: Instant, acked: u64) {
        if !self.is_running() {
            let begin = Sample::new(now, acked);
            self.older = begin;
            self.newer = begin;
            self.set_paid(begin.at_millis, PAID_MILLIS_MAX);
        }
    }

    /// The peer acknowledged `bytes` more, which makes `acked` in all.
    pub(crate) fn on_acked(&mut self, now: Instant, acked: u64, bytes: u64, rate_min: u32) {
        if !self.is_running() {
            return;
        }
        let sample = Sample::new(now, acked);
        if sample.millis_since(self.newer) >= PERIOD_MILLIS {
            self.older = self.newer;
            self.newer = sample;
        }
        let paid = time_paid(bytes, rate_min).as_millis();
        let paid = u32::try_from(paid).map_or(PAID_MILLIS_MAX, |paid| paid.min(PAID_MILLIS_MAX));
        let left = self.millis_left(sample.at_millis).unwrap_or(0);
        let left = (left + paid).min(PAID_MILLIS_MAX);
        self.set_paid(sample.at_millis, left);
    }

    /// Whether the connection has waited for its peer for longer than acknowledged bytes pay for.
    pub(crate) fn is_unpaid(&self, now: Instant) -> bool {
        self.is_running() && self.millis_left(now.low_millis()).is_none()
    }

    /// Acknowledged bytes pay for so long from now on.
    fn set_paid(&mut self, at_millis: u32, left: u32) {
        let until = at_millis.wrapping_add(left).max(1);
        self.paid_until = NonZeroU32::new(until);
    }

    /// For how long acknowledged bytes pay, `None` if that time is over.
    fn millis_left(&self, at_millis: u32) -> Option<u32> {
        let left = self.paid_until?.get().wrapping_sub(at_millis);
        (1..=PAID_MILLIS_MAX).contains(&left).then_some(left)
    }

    /// The connection doesn't wait for its peer.
    pub(crate) fn stop(&mut self) {
        self.paid_until = None;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.paid_until.is_some()
    }

    /// Bytes a second, of a connection that has waited for its peer for so long at least.
    pub(crate) fn rate(&self, now: Instant, acked: u64, millis_min: u32) -> Option<u64> {
        let sample = Sample::new(now, acked);
        let millis = sample.millis_since(self.older);
        if !self.is_running() || millis < millis_min {
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

/// The time for which this many bytes suffice at the least rate.
pub(super) fn time_paid(bytes: u64, rate_min: u32) -> Duration {
    Duration::from_millis(
        bytes
            .saturating_mul(1000)
            .div_ceil(u64::from(rate_min.max(1))),
    )
}

const UNIT: u64 = 256;
/// Half of the longest measured time.
const PERIOD_MILLIS: u32 = 15_000;
/// How long acknowledged bytes pay at most: longer than a window update takes to come.
const PAID_MILLIS_MAX: u32 = 5000;

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
        progress.on_acked(at(110), fast, fast - 1024, 512);
        progress.on_sent(at(110), fast);
        assert_eq!(progress.rate(at(110), fast, 2000), Some(102_400));
        progress.on_acked(at(115), fast, 0, 512);
        assert_eq!(progress.rate(at(125), fast, 2000), Some(40_960));
        progress.on_acked(at(130), fast + 1536, 1536, 512);
        assert_eq!(progress.rate(at(130), fast + 1536, 2000), Some(102));
    }

    #[test]
    fn a_silent_peer_loses_its_rate() {
        let mut progress = Progress::new();
        progress.on_sent(at(0), 0);
        progress.on_acked(at(1), 102_400, 102_400, 512);
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
    #[test]
    fn bytes_pay_at_the_least_rate_for_a_few_seconds() {
        let mut progress = Progress::new();
        assert!(!progress.is_unpaid(at(100)), "nothing was sent");
        progress.on_sent(at(100), 0);
        let millis = Instant::from_millis;
        assert!(!progress.is_unpaid(millis(104_999)) && progress.is_unpaid(at(105)));
        // A byte now and then pays for no more than its own time.
        progress.on_acked(at(106), 1, 1, 512);
        assert!(!progress.is_unpaid(millis(106_001)) && progress.is_unpaid(millis(106_002)));
        // What was taken at once pays for five seconds, however much it was.
        progress.on_acked(at(110), 10_000_001, 10_000_000, 512);
        progress.on_acked(at(110), 20_000_001, 10_000_000, 512);
        assert!(!progress.is_unpaid(millis(114_999)) && progress.is_unpaid(at(115)));
        // A steady peer at the least rate pays for all time.
        progress.on_acked(at(120), 20_001_000, 1024, 512);
        for second in 121..200 {
            assert!(!progress.is_unpaid(at(second)));
            progress.on_acked(at(second), 20_001_000, 512, 512);
        }
        assert!(!progress.is_unpaid(at(200)) && progress.is_unpaid(at(201)));
        // Time in which nothing was sent isn't to be paid for.
        progress.stop();
        assert!(!progress.is_unpaid(at(300)));
        progress.on_sent(at(300), 0);
        assert!(!progress.is_unpaid(at(304)) && progress.is_unpaid(at(305)));
    }
}

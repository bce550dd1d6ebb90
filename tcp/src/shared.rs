//! State shared by all connections of a worker.

use core::time::Duration;

use lockgate_wire::{Instant, Xorshift64};

use crate::ranges::{Ranges, SlabSizes};
use crate::{Counters, TcpConfig};

/// Sizes and seeds of a worker's [`Shared`].
#[derive(Clone, Copy, Debug)]
pub struct SharedParams {
    /// Entries of the slab that all connections share, for sent ranges and out-of-order pieces.
    pub ranges: u32,
    /// The most connections at one time. Each has one more entry of its own, so that it can send
    /// whatever the others hold.
    pub connections: u32,
    /// Seed of the challenge ACK limits.
    pub challenge_seed: u64,
    /// Seed of the levels of the trees of sent ranges.
    pub ranges_seed: u64,
}

/// Settings, counters and slab of ranges of a worker.
#[derive(Debug)]
pub struct Shared {
    /// The settings. Changes apply to later decisions of all connections.
    pub config: TcpConfig,
    /// The counters.
    pub counters: Counters,
    pub(crate) ranges: Ranges,
    pub(crate) challenge: ChallengeLimit,
}

impl Shared {
    /// Allocates the slab of ranges. Nothing is allocated later.
    pub fn new(config: TcpConfig, params: &SharedParams) -> Self {
        let sizes = SlabSizes {
            shared: params.ranges,
            connections: params.connections,
            per_connection_max: config.sent_ranges_max,
        };
        Self {
            challenge: ChallengeLimit::new(config.challenge_acks_per_second, params.challenge_seed),
            config,
            counters: Counters::default(),
            ranges: Ranges::new(sizes, params.ranges_seed),
        }
    }

    /// Entries of the slab in use.
    pub fn ranges_used(&self) -> u32 {
        self.ranges.used()
    }

    /// Size of the slab in entries.
    pub fn ranges_total(&self) -> u32 {
        self.ranges.total()
    }

    /// Accesses to entries of the slab so far: the steps that acknowledgments, SACK blocks and
    /// transmissions took. Counted in debug builds only, for tests.
    pub fn range_steps(&self) -> u64 {
        self.ranges.steps()
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.ranges.memory_bytes()
    }
}

/// Rate limit of challenge ACKs (RFC 5961, section 7).
//= https://www.rfc-editor.org/rfc/rfc5961#section-7
//# In order to alleviate multiple RSTs/SYNs from triggering multiple
//# challenge ACKs, an ACK throttling mechanism is suggested
// The limit of each second is random. A fixed limit shared by all connections is a side channel
// about other connections (CVE-2016-5696).
#[derive(Debug)]
pub(crate) struct ChallengeLimit {
    per_second: u32,
    left: u32,
    refill_at: Instant,
    random: Xorshift64,
}

impl ChallengeLimit {
    fn new(per_second: u32, seed: u64) -> Self {
        Self {
            per_second,
            left: 0,
            refill_at: Instant::ZERO,
            random: Xorshift64::new(seed),
        }
    }

    /// Takes one from this second's limit. Returns false, and counts, if it is used up.
    pub(crate) fn try_consume(&mut self, now: Instant, counters: &mut Counters) -> bool {
        if now >= self.refill_at {
            self.refill_at = now + Duration::from_secs(1);
            self.left = self.draw();
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            counters.challenge_acks += 1;
            true
        } else {
            counters.challenges_limited += 1;
            false
        }
    }

    /// A random limit between half and one and a half times the rate.
    fn draw(&mut self) -> u32 {
        let spread = u64::from(self.per_second.max(1));
        let extra = u32::try_from((self.random.next() >> 11) % spread).unwrap_or(0);
        (self.per_second / 2).saturating_add(extra).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_limited_around_the_rate_and_unpredictably() {
        let mut counters = Counters::default();
        let mut limit = ChallengeLimit::new(100, 7);
        let mut allowed = Vec::new();
        for second in 0..50 {
            let now = Instant::from_secs(second + 1);
            let n = (0..1000)
                .filter(|_| limit.try_consume(now, &mut counters))
                .count();
            assert!((50..150).contains(&n), "{n}");
            allowed.push(n);
        }
        allowed.sort_unstable();
        allowed.dedup();
        assert!(allowed.len() > 20, "the limit varies: {allowed:?}");
        assert_eq!(
            counters.challenge_acks + counters.challenges_limited,
            50_000
        );
    }
}

//! Whether a client acknowledges what it is sent.

use lockgate_wire::Instant;

use crate::limits::Limits;

/// The delivery of responses to one client: whether it acknowledges them fast enough.
///
/// While bytes of responses are unacknowledged, a client has to acknowledge
/// [`Limits::send_rate_min`] bytes a second. A client that is slower for
/// [`Limits::send_timeout`] is stalled: the rate counts, so that a byte now and then doesn't keep a
/// connection. It doesn't matter whether a response fits into the send queue, and more responses
/// don't set the clock back, or a client could keep a full queue pinned by asking for more.
///
/// The caller knows how many bytes are unacknowledged only when it checks, so it checks four times
/// within the limit. A client is stalled when that many checks in a row found it too slow: after
/// the limit, and within a quarter more. Time in which the connection waits for memory of this
/// host doesn't count.
///
/// - Before bytes are sent: [`Delivery::on_sample`]. After it: [`Delivery::on_sent`].
/// - At [`Delivery::deadline`]: [`Delivery::check`].
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    check_at: Instant,
    /// Bytes acknowledged in all until the last check, modulo 2^32.
    acknowledged: u32,
    /// Checks in a row that found the client too slow.
    slow_checks: u8,
    is_in_flight: bool,
}

/// What the transport knows at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendProgress {
    /// Bytes acknowledged since the connection began.
    pub acknowledged: u64,
    /// Bytes that were handed over and aren't acknowledged.
    pub unacknowledged: u64,
    /// Whether the connection waits for acknowledgments, and not for memory of this host.
    pub waits_for_peer: bool,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryCheck {
    /// It isn't time to check.
    NotDue,
    /// Everything is acknowledged.
    Delivered,
    /// Bytes are unacknowledged, and the limit isn't reached.
    InFlight,
    /// Nothing was acknowledged for the time of the limit.
    Stalled,
}

impl Delivery {
    /// A connection that was sent nothing.
    pub fn new() -> Self {
        Self {
            check_at: Instant::ZERO,
            acknowledged: 0,
            slow_checks: 0,
            is_in_flight: false,
        }
    }

    /// Bytes are about to be handed over.
    pub fn on_sample(&mut self, progress: SendProgress) {
        self.is_in_flight &= progress.unacknowledged > 0;
    }

    /// Bytes were handed over.
    pub fn on_sent(&mut self, now: Instant, progress: SendProgress, limits: &Limits) {
        if !self.is_in_flight {
            self.is_in_flight = true;
            self.slow_checks = 0;
            self.restart(now, progress, limits);
        }
    }

    /// Looks, if it is time to.
    pub fn check(
        &mut self,
        now: Instant,
        progress: SendProgress,
        limits: &Limits,
    ) -> DeliveryCheck {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return DeliveryCheck::NotDue;
        }
        if progress.unacknowledged == 0 {
            self.is_in_flight = false;
            return DeliveryCheck::Delivered;
        }
        let period = limits.send_timeout.duration() / u32::from(CHECKS);
        let rate_min = u128::from(limits.send_rate_min.value());
        let bytes = low_bits(progress.acknowledged).wrapping_sub(self.acknowledged);
        let is_slow = u128::from(bytes) * 1000 < rate_min * period.as_millis();
        self.restart(now, progress, limits);
        if !is_slow {
            self.slow_checks = 0;
        } else if progress.waits_for_peer {
            self.slow_checks += 1;
        }
        if self.slow_checks < CHECKS {
            DeliveryCheck::InFlight
        } else {
            DeliveryCheck::Stalled
        }
    }

    /// When to call [`Delivery::check`].
    pub fn deadline(&self) -> Option<Instant> {
        self.is_in_flight.then_some(self.check_at)
    }

    /// Whether bytes were unacknowledged when the caller looked last.
    pub fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    fn restart(&mut self, now: Instant, progress: SendProgress, limits: &Limits) {
        self.check_at = now + limits.send_timeout.duration() / u32::from(CHECKS);
        self.acknowledged = low_bits(progress.acknowledged);
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
fn low_bits(bytes: u64) -> u32 {
    bytes as u32
}

/// Looks within the limit.
const CHECKS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Bounded, Timeout};

    fn limits() -> Limits {
        Limits {
            send_timeout: Timeout::clamped(4_000),
            send_rate_min: Bounded::clamped(100),
            ..Limits::default()
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn progress(acknowledged: u64, unacknowledged: u64) -> SendProgress {
        SendProgress {
            acknowledged,
            unacknowledged,
            waits_for_peer: true,
        }
    }

    fn check(delivery: &mut Delivery, millis: u64, found: SendProgress) -> DeliveryCheck {
        delivery.check(at(millis), found, &limits())
    }

    /// Looks at each deadline while the client acknowledges `step` bytes between two; when it was
    /// found stalled.
    fn stalls_at(mut delivery: Delivery, mut acknowledged: u64, step: u64) -> Instant {
        loop {
            let now = delivery.deadline().expect("bytes are in flight");
            acknowledged += step;
            match delivery.check(now, progress(acknowledged, 1), &limits()) {
                DeliveryCheck::InFlight => {}
                DeliveryCheck::Stalled => return now,
                found @ (DeliveryCheck::NotDue | DeliveryCheck::Delivered) => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn the_clock_runs_from_the_first_unacknowledged_byte() {
        let mut delivery = Delivery::new();
        assert_eq!(
            (delivery.deadline(), delivery.is_in_flight()),
            (None, false)
        );
        delivery.on_sample(progress(0, 0));
        delivery.on_sent(at(500), progress(0, 100), &limits());
        assert_eq!(delivery.deadline(), Some(at(1_500)));
        assert_eq!(stalls_at(delivery, 0, 0), at(4_500));
        // More bytes don't set it back.
        let found = check(&mut delivery, 1_500, progress(0, 100));
        assert_eq!(found, DeliveryCheck::InFlight);
        delivery.on_sample(progress(0, 100));
        delivery.on_sent(at(2_400), progress(0, 200), &limits());
        assert_eq!(stalls_at(delivery, 0, 0), at(4_500));
    }

    /// 100 bytes a second are enough. A byte less is not, however long it comes regularly.
    #[test]
    fn the_rate_of_acknowledgments_counts() {
        // The count passes 2^32 on the way.
        let start = (1 << 32) - 250;
        let mut delivery = Delivery::new();
        delivery.on_sent(at(0), progress(start, 10_000), &limits());
        assert_eq!(stalls_at(delivery, start, 99), at(4_000));
        let mut acknowledged = start;
        for second in 1..50 {
            acknowledged += 100;
            let found = check(&mut delivery, second * 1000, progress(acknowledged, 1));
            assert_eq!(found, DeliveryCheck::InFlight);
        }
        assert_eq!(stalls_at(delivery, acknowledged, 1), at(53_000));
    }

    #[test]
    fn what_is_delivered_ends_the_clock() {
        let mut delivery = Delivery::new();
        delivery.on_sent(at(0), progress(0, 150), &limits());
        assert_eq!(
            check(&mut delivery, 999, progress(150, 0)),
            DeliveryCheck::NotDue
        );
        assert_eq!(
            check(&mut delivery, 1_000, progress(150, 0)),
            DeliveryCheck::Delivered
        );
        assert_eq!(delivery.deadline(), None);
        assert_eq!(
            check(&mut delivery, 9_000, progress(150, 0)),
            DeliveryCheck::NotDue
        );
        // And from the beginning; also if nothing was left before more is sent.
        delivery.on_sent(at(9_000), progress(150, 1), &limits());
        assert_eq!(stalls_at(delivery, 150, 0), at(13_000));
        delivery.on_sample(progress(151, 0));
        delivery.on_sent(at(9_900), progress(151, 1), &limits());
        assert_eq!(stalls_at(delivery, 151, 0), at(13_900));
    }

    /// The client isn't to blame while this host has no memory to send from.
    #[test]
    fn time_without_memory_does_not_count() {
        let mut delivery = Delivery::new();
        delivery.on_sent(at(0), progress(0, 100), &limits());
        for second in 1..=20 {
            let starved = SendProgress {
                waits_for_peer: false,
                ..progress(0, 100)
            };
            let found = check(&mut delivery, second * 1000, starved);
            assert_eq!(found, DeliveryCheck::InFlight);
        }
        assert_eq!(stalls_at(delivery, 0, 0), at(24_000));
    }
}

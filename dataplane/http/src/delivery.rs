//! Whether a client acknowledges what it is sent.

use lockgate_wire::Instant;

use crate::limits::Limits;

/// The delivery of responses to one client: a clock that runs while bytes of responses are
/// unacknowledged, and that only acknowledgments set back.
///
/// It holds [`Limits::send_timeout`] whether a response fits into the send queue or not, and
/// whatever the connection does next: more responses don't set it back, or a client could keep a
/// full queue pinned by asking for more.
///
/// The caller knows how many bytes are unacknowledged only when it checks, so it checks
/// four times within the limit. A client is stalled when that many checks in a row found no
/// progress: after the limit, and within a quarter more.
///
/// - Before bytes are sent: [`Delivery::on_sample`]. After it: [`Delivery::on_sent`].
/// - At [`Delivery::deadline`]: [`Delivery::check`].
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    check_at: Instant,
    /// As of the last check.
    unacknowledged: u32,
    /// Checks in a row that found no progress.
    quiet_checks: u8,
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
            unacknowledged: 0,
            quiet_checks: 0,
        }
    }

    /// Bytes are about to be handed over, while so many are unacknowledged.
    pub fn on_sample(&mut self, now: Instant, unacknowledged: u64, limits: &Limits) {
        if saturate(unacknowledged) < self.unacknowledged {
            self.restart(now, limits);
        }
        self.unacknowledged = self.unacknowledged.min(saturate(unacknowledged));
    }

    /// Bytes were handed over; so many are unacknowledged now.
    pub fn on_sent(&mut self, now: Instant, unacknowledged: u64, limits: &Limits) {
        if self.unacknowledged == 0 {
            self.restart(now, limits);
        }
        self.unacknowledged = saturate(unacknowledged);
    }

    /// Looks, if it is time to, while so many bytes are unacknowledged.
    pub fn check(&mut self, now: Instant, unacknowledged: u64, limits: &Limits) -> DeliveryCheck {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return DeliveryCheck::NotDue;
        }
        let progress = saturate(unacknowledged) < self.unacknowledged;
        self.unacknowledged = saturate(unacknowledged);
        if unacknowledged == 0 {
            return DeliveryCheck::Delivered;
        }
        let quiet_checks = if progress { 0 } else { self.quiet_checks + 1 };
        self.restart(now, limits);
        self.quiet_checks = quiet_checks;
        if quiet_checks < CHECKS {
            DeliveryCheck::InFlight
        } else {
            DeliveryCheck::Stalled
        }
    }

    /// When to call [`Delivery::check`].
    pub fn deadline(&self) -> Option<Instant> {
        self.is_in_flight().then_some(self.check_at)
    }

    /// Whether bytes were unacknowledged at the last check.
    pub fn is_in_flight(&self) -> bool {
        self.unacknowledged > 0
    }

    fn restart(&mut self, now: Instant, limits: &Limits) {
        self.check_at = now + limits.send_timeout.duration() / u32::from(CHECKS);
        self.quiet_checks = 0;
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self::new()
    }
}

fn saturate(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Looks within the limit.
const CHECKS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Timeout;

    fn limits() -> Limits {
        Limits {
            send_timeout: Timeout::clamped(4_000),
            ..Limits::default()
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Looks at each deadline while the client acknowledges nothing; when it was found stalled.
    fn stalls_at(mut delivery: Delivery, unacknowledged: u64) -> Instant {
        loop {
            let now = delivery.deadline().expect("bytes are in flight");
            match delivery.check(now, unacknowledged, &limits()) {
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
        delivery.on_sample(at(500), 0, &limits());
        delivery.on_sent(at(500), 100, &limits());
        assert_eq!(delivery.deadline(), Some(at(1_500)));
        assert_eq!(stalls_at(delivery, 100), at(4_500));
        // More bytes don't set it back.
        assert_eq!(
            delivery.check(at(1_500), 100, &limits()),
            DeliveryCheck::InFlight
        );
        delivery.on_sample(at(2_400), 100, &limits());
        delivery.on_sent(at(2_400), 200, &limits());
        assert_eq!(stalls_at(delivery, 200), at(4_500));
    }

    #[test]
    fn acknowledgments_set_it_back() {
        let mut delivery = Delivery::new();
        delivery.on_sent(at(0), 100, &limits());
        // Seen at a check.
        assert_eq!(
            delivery.check(at(999), 99, &limits()),
            DeliveryCheck::NotDue
        );
        assert_eq!(
            delivery.check(at(1_000), 99, &limits()),
            DeliveryCheck::InFlight
        );
        assert_eq!(stalls_at(delivery, 99), at(5_000));
        // Seen before more is sent.
        delivery.on_sample(at(1_700), 98, &limits());
        delivery.on_sent(at(1_700), 150, &limits());
        assert_eq!(stalls_at(delivery, 150), at(5_700));
        // All of it.
        assert_eq!(
            delivery.check(at(2_700), 0, &limits()),
            DeliveryCheck::Delivered
        );
        assert_eq!(delivery.deadline(), None);
        assert_eq!(
            delivery.check(at(9_000), 0, &limits()),
            DeliveryCheck::NotDue
        );
        // And from the beginning.
        delivery.on_sent(at(9_000), 1, &limits());
        assert_eq!(stalls_at(delivery, 1), at(13_000));
    }

    #[test]
    fn more_bytes_than_it_counts_are_still_in_flight() {
        let mut delivery = Delivery::new();
        delivery.on_sent(at(0), u64::MAX, &limits());
        assert_eq!(stalls_at(delivery, u64::MAX), at(4_000));
    }
}

//! Round-trip time and the retransmission time-out (RFC 6298).

use core::time::Duration;

use crate::TcpConfig;

/// RTT estimator. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rtt {
    /// Zero before the first sample.
    srtt: u64,
    rttvar: u64,
    /// Smallest sample; zero before the first. Saturates at four seconds.
    min: u32,
    /// Consecutive time-outs: the exponent of the backoff.
    pub(crate) backoff: u8,
    /// The SYN was retransmitted, and no sample of data was taken since.
    pub(crate) syn_lost: bool,
}

impl Rtt {
    /// Takes a sample. `per_round_trip` is the expected number of samples per round trip.
    //= https://www.rfc-editor.org/rfc/rfc7323#section-4.2
    // With several samples per round trip, alpha' = alpha / ExpectedSamples and beta likewise.
    // Otherwise the history of the estimator would shrink as the window grows.
    pub(crate) fn sample(&mut self, rtt: Duration, per_round_trip: u32) {
        let rtt = nanos(rtt).clamp(1, RTT_MAX);
        let short = u32::try_from(rtt).unwrap_or(u32::MAX);
        self.min = if self.min == 0 {
            short
        } else {
            self.min.min(short)
        };
        self.syn_lost = false;
        //= https://www.rfc-editor.org/rfc/rfc6298#section-2
        //# When the first RTT measurement R is made, the host MUST set
        //#
        //# SRTT <- R
        //# RTTVAR <- R/2
        if self.srtt == 0 {
            self.srtt = rtt;
            self.rttvar = rtt / 2;
            return;
        }
        //# RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|
        //# SRTT <- (1 - alpha) * SRTT + alpha * R'
        //#
        //# The value of SRTT used in the update to RTTVAR is its value
        //# before updating SRTT itself
        let n = u64::from(per_round_trip.max(1));
        self.rttvar = weigh(self.rttvar, self.srtt.abs_diff(rtt), 4 * n);
        self.srtt = weigh(self.srtt, rtt, 8 * n).max(1);
    }

    /// Handles the ACK of a SYN that was retransmitted: takes its sample, if the peer echoed a
    /// timestamp. The RTO stays long until data was acknowledged.
    pub(crate) fn sample_of_lost_syn(&mut self, rtt: Option<Duration>) {
        if let Some(rtt) = rtt {
            self.sample(rtt, 1);
        }
        self.syn_lost = true;
    }

    /// The retransmission time-out, with backoff.
    pub(crate) fn rto(&self, cfg: &TcpConfig) -> Duration {
        let base = self.rto_unscaled(cfg);
        base.saturating_mul(1 << self.backoff.min(BACKOFF_MAX))
            .min(cfg.rto_max.max(base))
    }

    /// The retransmission time-out without backoff.
    pub(crate) fn rto_unscaled(&self, cfg: &TcpConfig) -> Duration {
        //= https://www.rfc-editor.org/rfc/rfc6298#section-5
        //# If the timer expires awaiting the ACK of a SYN segment and the
        //# TCP implementation is using an RTO less than 3 seconds, the RTO
        //# MUST be re-initialized to 3 seconds when data transmission
        //# begins (i.e., after the three-way handshake completes).
        let least = if self.syn_lost {
            RTO_SYN_LOST
        } else {
            Duration::ZERO
        };
        if self.srtt == 0 {
            return cfg.rto_initial.max(least);
        }
        //= https://www.rfc-editor.org/rfc/rfc6298#section-2
        //# RTO <- SRTT + max (G, K*RTTVAR)
        //#
        //# (2.4) Whenever RTO is computed, if it is less than 1 second, then the
        //#       RTO SHOULD be rounded up to 1 second.
        // The RFC's minimum of one second covers delayed ACKs. A shorter minimum has to be added to
        // the RTT instead, or a long and steady path would time out on the first delayed ACK. So it
        // takes the place of G (as on Linux; FreeBSD adds a slop).
        let rto = Duration::from_nanos(self.srtt + nanos(cfg.rto_min).max(4 * self.rttvar));
        rto.min(cfg.rto_max.max(cfg.rto_min)).max(least)
    }

    /// Doubles the time-out.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1).min(BACKOFF_MAX);
    }

    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.srtt != 0).then(|| Duration::from_nanos(self.srtt))
    }

    pub(crate) fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar)
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        (self.min != 0).then(|| Duration::from_nanos(u64::from(self.min)))
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

fn weigh(old: u64, new: u64, n: u64) -> u64 {
    if new >= old {
        old + (new - old) / n
    } else {
        old - (old - new) / n
    }
}

const RTO_SYN_LOST: Duration = Duration::from_secs(3);
const BACKOFF_MAX: u8 = 20;
/// Largest sample, one hour. Keeps sums far from overflow.
const RTT_MAX: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn starts_at_one_second_and_three_after_a_lost_syn() {
        let cfg = TcpConfig::default();
        let mut rtt = Rtt::default();
        assert_eq!(rtt.rto(&cfg), ms(1000));
        rtt.syn_lost = true;
        assert_eq!(rtt.rto(&cfg), ms(3000));
        rtt.sample(ms(100), 1);
        assert_eq!(rtt.rto(&cfg), ms(300));
    }

    #[test]
    fn first_and_later_measurements() {
        let cfg = TcpConfig::default();
        let mut rtt = Rtt::default();
        rtt.sample(ms(400), 1);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(400)), ms(200)));
        assert_eq!(rtt.rto(&cfg), ms(1200));
        rtt.sample(ms(800), 1);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(450)), ms(250)));
        rtt.sample(ms(50), 1);
        assert_eq!(
            (rtt.srtt(), rtt.rttvar()),
            (Some(ms(400)), Duration::from_micros(287_500))
        );
        assert_eq!(rtt.min(), Some(ms(50)));
    }

    #[test]
    fn many_samples_per_round_trip_weigh_less() {
        let (mut one, mut many) = (Rtt::default(), Rtt::default());
        one.sample(ms(100), 1);
        many.sample(ms(100), 1);
        one.sample(ms(200), 1);
        for _ in 0..10 {
            many.sample(ms(200), 10);
        }
        let (one, many) = (one.srtt().unwrap(), many.srtt().unwrap());
        assert!(one.abs_diff(many) < ms(2), "{one:?} {many:?}");
    }

    #[test]
    fn backoff_doubles_up_to_the_limit() {
        let cfg = TcpConfig::default();
        let mut rtt = Rtt::default();
        rtt.sample(ms(100), 1);
        let mut last = rtt.rto(&cfg);
        for _ in 0..40 {
            rtt.back_off();
            let rto = rtt.rto(&cfg);
            assert_eq!(rto, (last * 2).min(cfg.rto_max));
            last = rto;
        }
        assert_eq!(last, cfg.rto_max);
    }

    #[test]
    fn the_minimum_holds() {
        let cfg = TcpConfig::default();
        let mut rtt = Rtt::default();
        for _ in 0..100 {
            rtt.sample(Duration::from_nanos(700), 1);
        }
        assert_eq!(rtt.srtt(), Some(Duration::from_nanos(700)));
        assert_eq!(rtt.rto(&cfg), cfg.rto_min + Duration::from_nanos(700));
        let mut steady = Rtt::default();
        for _ in 0..100 {
            steady.sample(ms(300), 1);
        }
        assert_eq!(steady.rto(&cfg), ms(300) + cfg.rto_min);
        let mut long = Rtt::default();
        long.sample(Duration::from_secs(3000), 1);
        assert_eq!(long.rto(&cfg), cfg.rto_max);
    }
}

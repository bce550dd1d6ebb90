//! CUBIC (RFC 9438), in integers: bytes and milliseconds.

use lockgate_wire::Instant;

use super::newreno::slow_start;
use super::{CongestionControl, Delivered, WINDOW_MAX};

/// CUBIC.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: u32,
    threshold: u32,
    /// The window at the last reduction, lowered by fast convergence.
    w_max: u32,
    /// The window just before the last reduction.
    w_prior: u32,
    /// W_est: the window that Reno would have.
    w_est: u32,
    /// K: when the curve reaches `w_max`, in milliseconds after the start of the epoch.
    k_ms: u32,
    /// Growth of less than a byte, in bytes times window (of the curve and of `w_est`).
    credit: u32,
    credit_est: u32,
    /// Start of this congestion avoidance stage, in milliseconds modulo 2^32.
    epoch_ms: u32,
    /// Time of the last ACK: application-limited time does not count (RFC 9438, 5.8).
    last_ms: u32,
    /// Whether a congestion avoidance stage has begun.
    in_epoch: bool,
}

impl Cubic {
    /// Starts in slow start.
    pub const fn new(initial_window: u32) -> Self {
        Self {
            window: initial_window,
            threshold: u32::MAX,
            w_max: 0,
            w_prior: 0,
            w_est: 0,
            k_ms: 0,
            credit: 0,
            credit_est: 0,
            epoch_ms: 0,
            last_ms: 0,
            in_epoch: false,
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9438#section-4.7
    //# With fast convergence, when a congestion event occurs, W_max is
    //# updated as follows, before the window reduction
    fn remember(&mut self, mss: u32) {
        self.w_prior = self.window;
        self.w_max = if self.window < self.w_max {
            scale(self.window, 1000 + BETA, 2000)
        } else {
            self.window
        }
        .max(mss);
        self.in_epoch = false;
        self.credit = 0;
        self.credit_est = 0;
    }

    fn begin_epoch(&mut self, now_ms: u32, mss: u32) {
        self.epoch_ms = now_ms;
        self.in_epoch = true;
        self.w_est = self.window;
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.2
        //# K = cubic_root((W_max - cwnd_epoch) / C)
        // In segments and seconds; C = 0.4. In milliseconds: cbrt(segments * 2.5 * 10^9).
        self.k_ms = match self.w_max.checked_sub(self.window) {
            Some(below) => low(cube_root(u64::from(below) * 2_500_000_000 / u64::from(mss))),
            None => {
                self.w_max = self.window;
                0
            }
        };
    }

    /// `W_cubic(t)` in bytes.
    //= https://www.rfc-editor.org/rfc/rfc9438#section-4.2
    //# W_cubic(t) = C*(t-K)^3 + W_max
    fn curve(&self, t_ms: u64, mss: u32) -> u32 {
        let t = i64::try_from(t_ms).unwrap_or(i64::MAX);
        // 10^5 ms from the inflection C*t^3 is 4*10^5 segments, beyond any window.
        let t = i128::from((t.min(MILLIS_MAX) - i64::from(self.k_ms)).clamp(-200_000, 200_000));
        let above = t * t * t * i128::from(mss) * 4 / 10_000_000_000;
        let w = (i128::from(self.w_max) + above).clamp(0, i128::from(WINDOW_MAX));
        u32::try_from(w).unwrap_or(WINDOW_MAX)
    }

    fn avoid_congestion(&mut self, now_ms: u32, delivered: &Delivered) {
        let Delivered {
            bytes, mss, srtt, ..
        } = *delivered;
        if !self.in_epoch {
            self.begin_epoch(now_ms, mss);
        }
        let t = u64::from(now_ms.wrapping_sub(self.epoch_ms));
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.3
        //# W_est = W_est + alpha_cubic * (segments_acked / cwnd)
        //#
        //# Note that once W_est has grown to reach the cwnd at the time of most
        //# recently setting ssthresh -- that is, W_est >= cwnd_prior -- the
        //# sender SHOULD set alpha_cubic to 1
        let alpha = if self.w_est < self.w_prior {
            ALPHA
        } else {
            1000
        };
        let grown = scale(mss, alpha, 1000);
        self.w_est = grow(self.w_est, self.window, grown, bytes, &mut self.credit_est);
        if self.curve(t, mss) < self.w_est {
            //# When receiving a new ACK in congestion avoidance (where cwnd could be
            //# greater than or less than W_max), CUBIC checks whether W_cubic(t) is
            //# less than W_est.  If so, CUBIC is in the Reno-friendly region and
            //# cwnd SHOULD be set to W_est at each reception of a new ACK.
            self.window = self.w_est.max(self.window).min(WINDOW_MAX);
            return;
        }
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.2
        //# Upon receiving a new ACK during congestion avoidance, CUBIC computes
        //# the target congestion window size after the next RTT
        //#
        //#  target = cwnd if W_cubic(t + RTT) < cwnd, 1.5 * cwnd if W_cubic(t + RTT) > 1.5 * cwnd
        let top = self.window.saturating_add(self.window / 2);
        let target = self
            .curve(t + u64::try_from(srtt.as_millis()).unwrap_or(0), mss)
            .clamp(self.window, top);
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.4
        //# cwnd MUST be incremented by (target - cwnd) / cwnd for each received new ACK
        let step = target - self.window;
        self.window = grow(self.window, self.window, step, bytes, &mut self.credit).min(WINDOW_MAX);
    }
}

impl CongestionControl for Cubic {
    fn on_delivered(&mut self, now: Instant, delivered: Delivered) {
        let now_ms = low(now.as_millis());
        let since = now_ms.wrapping_sub(self.last_ms);
        self.last_ms = now_ms;
        if !delivered.cwnd_limited {
            //= https://www.rfc-editor.org/rfc/rfc9438#section-5.8
            //# CUBIC does not increase its congestion window if a flow is currently
            //# application limited per [RFC7661].
            // Application limited: shift the epoch by the time since the last ACK.
            self.epoch_ms = self.epoch_ms.wrapping_add(since);
        } else if self.window < self.threshold {
            self.window = slow_start(self.window, self.threshold, delivered.bytes);
        } else {
            self.avoid_congestion(now_ms, &delivered);
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9438#section-4.6
    //# ssthresh = flight_size * beta_cubic
    //# cwnd_prior = cwnd
    //# cwnd = max(ssthresh, 2)
    fn on_loss(&mut self, _now: Instant, flight: u32, mss: u32) {
        self.remember(mss);
        self.threshold = scale(flight.min(self.window), BETA, 1000).max(2 * mss);
        self.window = self.threshold;
    }

    //= https://www.rfc-editor.org/rfc/rfc9438#section-4.8
    //# In case of a timeout, CUBIC follows Reno to reduce cwnd [RFC5681],
    //# but sets ssthresh using beta_cubic (same as in Section 4.6) in a way
    //# that is different from Reno TCP [RFC5681].
    fn on_timeout(&mut self, _now: Instant, flight: u32, mss: u32, again: bool) {
        if !again {
            self.remember(mss);
            self.threshold = scale(flight.min(self.window), BETA, 1000).max(2 * mss);
        }
        //# During the first congestion avoidance stage after a timeout, CUBIC
        //# increases its congestion window size using Figure 1, where t is the
        //# elapsed time since the beginning of the current congestion avoidance
        //# stage, K is set to 0, and W_max is set to the congestion window size
        //# at the beginning of the current congestion avoidance stage.
        self.w_max = 0;
        self.in_epoch = false;
        self.window = mss;
    }

    fn on_idle(&mut self, _now: Instant, restart: u32) {
        self.window = self.window.min(restart);
        self.in_epoch = false;
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        self.threshold
    }
}

/// `of` plus `step` per `window` delivered bytes; the remainder goes to `credit`.
fn grow(of: u32, window: u32, step: u32, bytes: u32, credit: &mut u32) -> u32 {
    let window = u64::from(window.max(1));
    let sum = u64::from(step) * u64::from(bytes) + u64::from(*credit);
    *credit = low(sum % window);
    of.saturating_add(low((sum / window).min(u64::from(WINDOW_MAX))))
}

fn scale(n: u32, by: u32, of: u32) -> u32 {
    low(u64::from(n) * u64::from(by) / u64::from(of))
}

/// The integer cube root, rounded down, bit by bit.
fn cube_root(n: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let next = root | 1 << bit;
        if u128::from(next).pow(3) <= u128::from(n) {
            root = next;
        }
    }
    root
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by what it is computed from"
)]
const fn low(n: u64) -> u32 {
    n as u32
}

/// Longer than any stage.
const MILLIS_MAX: i64 = 1 << 40;
/// 0.7 in thousandths.
const BETA: u32 = 700;
/// 3 * (1 - beta) / (1 + beta) in thousandths.
const ALPHA: u32 = 529;

#[cfg(test)]
mod tests;

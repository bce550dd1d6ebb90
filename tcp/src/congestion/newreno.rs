//! The congestion window of RFC 5681.

use lockgate_wire::Instant;

use super::{CongestionControl, Delivered, WINDOW_MAX};

/// Slow start and congestion avoidance by RFC 5681, counting bytes (RFC 3465).
#[derive(Clone, Debug)]
pub struct NewReno {
    window: u32,
    threshold: u32,
    /// Bytes delivered in congestion avoidance since the window last grew.
    credit: u32,
}

impl NewReno {
    /// Starts in slow start.
    pub const fn new(initial_window: u32) -> Self {
        Self {
            window: initial_window,
            threshold: u32::MAX,
            credit: 0,
        }
    }
}

impl CongestionControl for NewReno {
    fn on_delivered(&mut self, _now: Instant, delivered: Delivered) {
        let Delivered {
            bytes,
            mss,
            srtt: _,
            cwnd_limited,
        } = delivered;
        if !cwnd_limited {
            return;
        }
        if self.window < self.threshold {
            self.window = slow_start(self.window, self.threshold, bytes);
            return;
        }
        //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
        // One more segment for each acknowledged window.
        self.credit = self.credit.saturating_add(bytes);
        if self.credit >= self.window {
            self.credit -= self.window;
            self.window = self.window.saturating_add(mss).min(WINDOW_MAX);
        }
    }

    fn on_loss(&mut self, _now: Instant, flight: u32, mss: u32) {
        self.threshold = half(flight, self.window, mss);
        self.window = self.threshold;
        self.credit = 0;
    }

    fn on_timeout(&mut self, _now: Instant, flight: u32, mss: u32, again: bool) {
        //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
        //# When a TCP sender detects segment loss using the retransmission timer
        //# and the given segment has already been retransmitted by way of the
        //# retransmission timer at least once, the value of ssthresh is held
        //# constant.
        if !again {
            self.threshold = half(flight, self.window, mss);
        }
        //# Furthermore, upon a timeout (as specified in [RFC2988]) cwnd MUST be
        //# set to no more than the loss window, LW, which equals 1 full-sized
        //# segment (regardless of the value of IW).
        self.window = mss;
        self.credit = 0;
    }

    fn on_idle(&mut self, _now: Instant, restart: u32) {
        self.window = self.window.min(restart);
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        self.threshold
    }
}

/// The window after a loss (RFC 5681, equation 4).
//= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
//# ssthresh = max (FlightSize / 2, 2*SMSS)            (4)
// At most half of the window: data sent in fast recovery for SACKed data is outstanding too, and
// can be many windows.
fn half(flight: u32, window: u32, mss: u32) -> u32 {
    (flight.min(window) / 2).max(2 * mss)
}

/// Slow start: grows by the delivered bytes, up to the threshold.
// RFC 5681 adds one segment per ACK. Receivers that merge segments acknowledge dozens at once, so
// all delivered bytes count, as on Linux. Bytes SACKed before a time-out and cumulatively
// acknowledged now were counted already.
pub(super) fn slow_start(window: u32, threshold: u32, bytes: u32) -> u32 {
    window
        .saturating_add(bytes)
        .min(threshold.max(window))
        .min(WINDOW_MAX)
}

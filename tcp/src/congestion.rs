//! Congestion control algorithms.
//!
//! Loss detection and recovery belong to the connection. An algorithm receives events and keeps the
//! congestion window. The algorithms are a closed set, so a connection holds an enum and no
//! pointer.

mod cubic;
mod newreno;

pub use cubic::Cubic;
pub use newreno::NewReno;

use core::time::Duration;

use lockgate_wire::Instant;

/// Congestion control algorithm of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// `NewReno`: the window of RFC 5681.
    NewReno,
}

/// What an ACK delivered, as input of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes newly acknowledged or SACKed.
    pub bytes: u32,
    /// Segment size.
    pub mss: u32,
    /// Smoothed round-trip time; zero before the first sample.
    pub srtt: Duration,
    /// Whether the congestion window limited the sender. If not, the window must not grow (RFC
    /// 7661).
    pub cwnd_limited: bool,
}

/// A congestion control algorithm: events in, congestion window out. Sizes are in bytes.
pub trait CongestionControl {
    /// Data was delivered, outside of fast recovery.
    fn on_delivered(&mut self, now: Instant, delivered: Delivered);

    /// Loss was detected and fast recovery begins, with `flight` bytes outstanding.
    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32);

    /// A retransmission time-out, with `flight` bytes outstanding. `again`: the same data was
    /// already retransmitted by a time-out.
    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, again: bool);

    /// Idle for longer than an RTO: the window is reduced to at most `restart`.
    fn on_idle(&mut self, now: Instant, restart: u32);

    /// The congestion window.
    fn window(&self) -> u32;

    /// The slow start threshold.
    fn threshold(&self) -> u32;
}

/// The algorithm of a connection with its state.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    Cubic(Cubic),
    NewReno(NewReno),
}

impl Congestion {
    pub(crate) fn new(algorithm: Algorithm, initial_window: u32) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(initial_window)),
            Algorithm::NewReno => Self::NewReno(NewReno::new(initial_window)),
        }
    }

    fn get(&mut self) -> &mut dyn CongestionControl {
        match self {
            Self::Cubic(c) => c,
            Self::NewReno(c) => c,
        }
    }
}

impl CongestionControl for Congestion {
    fn on_delivered(&mut self, now: Instant, delivered: Delivered) {
        match self {
            Self::Cubic(c) => c.on_delivered(now, delivered),
            Self::NewReno(c) => c.on_delivered(now, delivered),
        }
    }

    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32) {
        self.get().on_loss(now, flight, mss);
    }

    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, again: bool) {
        self.get().on_timeout(now, flight, mss, again);
    }

    fn on_idle(&mut self, now: Instant, restart: u32) {
        self.get().on_idle(now, restart);
    }

    fn window(&self) -> u32 {
        match self {
            Self::Cubic(c) => c.window(),
            Self::NewReno(c) => c.window(),
        }
    }

    fn threshold(&self) -> u32 {
        match self {
            Self::Cubic(c) => c.threshold(),
            Self::NewReno(c) => c.threshold(),
        }
    }
}

/// The initial window.
//= https://www.rfc-editor.org/rfc/rfc6928#section-2
//# min (10*MSS, max (2*MSS, 14600))
pub(crate) fn initial_window(segments: u8, mss: u32, syn_lost: bool) -> u32 {
    //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
    //# if the SYN or SYN/ACK is lost, the initial window used
    //# by a sender after a correctly transmitted SYN MUST be one segment
    //# consisting of at most SMSS bytes.
    if syn_lost {
        return mss;
    }
    let segments = u32::from(segments.max(1));
    (segments * mss)
        .min((2 * mss).max(segments * 1460))
        .max(mss)
}

/// Upper bound of the congestion window, so that no sum overflows.
const WINDOW_MAX: u32 = 1 << 30;

//! Congestion control: how much may be in the network.
//!
//! Loss detection and recovery are the connection's; an algorithm only hears of them and keeps the
//! window. The algorithms are a closed set, so a connection holds an enum and no pointer.

mod cubic;
mod newreno;

pub use cubic::Cubic;
pub use newreno::NewReno;

use core::time::Duration;

use lockgate_wire::Instant;

/// Which congestion control a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// `NewReno`: the window of RFC 5681.
    NewReno,
}

/// What an algorithm is told about an acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes that it (or its SACK blocks) acknowledged for the first time.
    pub bytes: u32,
    /// Segment size.
    pub mss: u32,
    /// Smoothed round-trip time, zero if there is none yet.
    pub srtt: Duration,
    /// Whether the window was what kept the sender from sending more. If it wasn't, it has not been
    /// tested and must not grow.
    pub cwnd_limited: bool,
}

/// A congestion control algorithm: events in, a window out. All sizes are in bytes.
pub trait CongestionControl {
    /// Data was delivered, outside of fast recovery.
    fn on_delivered(&mut self, now: Instant, delivered: Delivered);

    /// Loss was detected and fast recovery begins, with `flight` bytes outstanding.
    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32);

    /// The retransmission timer went off, with `flight` bytes outstanding; `again` says that the
    /// same data had been retransmitted by a time-out before.
    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, again: bool);

    /// Nothing was sent for longer than a time-out: the window falls back to `restart` at most.
    fn on_idle(&mut self, now: Instant, restart: u32);

    /// The congestion window.
    fn window(&self) -> u32;

    /// The slow start threshold.
    fn threshold(&self) -> u32;
}

/// A connection's congestion control.
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

/// The window never grows beyond this, so that no sum of windows overflows.
const WINDOW_MAX: u32 = 1 << 30;

//! A snapshot of a connection's inner numbers, for statistics and tests.

use core::time::Duration;

use crate::State;

/// How a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// State.
    pub state: State,
    /// Smoothed round-trip time; none before the first measurement.
    pub srtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub rttvar: Duration,
    /// Smallest round-trip time seen.
    pub rtt_min: Option<Duration>,
    /// Retransmission time-out with its present backoff.
    pub rto: Duration,
    /// Time-outs in a row.
    pub backoff: u8,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Slow start threshold in bytes; `u32::MAX` before the first loss.
    pub ssthresh: u32,
    /// Bytes (and FIN) sent and not acknowledged cumulatively.
    pub flight: u32,
    /// Bytes thought to be in the network (RFC 6675's pipe).
    pub pipe: u32,
    /// Bytes delivered since the connection began, counted when first acknowledged.
    pub delivered: u64,
    /// Whether lost data is being repaired.
    pub in_recovery: bool,
    /// The peer's receive window in bytes.
    pub send_window: u32,
    /// The window that we last advertised, what is left of it.
    pub receive_window: u32,
    /// Payload bytes per segment, options considered.
    pub mss: u16,
    /// Whether SACK, timestamps and window scaling are in use.
    pub sack: bool,
    /// Whether timestamps are in use.
    pub timestamps: bool,
    /// Whether windows are scaled.
    pub window_scaling: bool,
    /// Sent ranges remembered, and out-of-order pieces.
    pub ranges: u32,
}

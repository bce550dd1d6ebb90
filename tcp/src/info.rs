//! A snapshot of a connection's variables, for statistics and tests.

use core::time::Duration;

use crate::State;

/// Variables of a connection at one moment, as in Linux's `TCP_INFO`.
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
    /// Retransmission time-out with its current backoff.
    pub rto: Duration,
    /// Time-outs in a row.
    pub backoff: u8,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Slow start threshold in bytes; `u32::MAX` before the first loss.
    pub ssthresh: u32,
    /// Bytes (and FIN) sent and not acknowledged cumulatively.
    pub flight: u32,
    /// Estimate of the bytes in the network (`pipe` of RFC 6675).
    pub pipe: u32,
    /// Bytes delivered since the connection began, counted when first acknowledged.
    pub delivered: u64,
    /// Whether loss recovery is in progress.
    pub in_recovery: bool,
    /// The peer's receive window in bytes.
    pub send_window: u32,
    /// What remains of the last advertised receive window, in bytes.
    pub receive_window: u32,
    /// Payload bytes per segment, options considered.
    pub mss: u16,
    /// Whether SACK is in use.
    pub sack: bool,
    /// Whether timestamps are in use.
    pub timestamps: bool,
    /// Whether window scaling is in use.
    pub window_scaling: bool,
    /// Entries in the worker's slab: sent ranges and out-of-order pieces.
    pub ranges: u32,
}

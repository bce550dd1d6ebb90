//! TCP options negotiated by the two SYNs.

use core::time::Duration;

use lockgate_wire::Instant;
use lockgate_wire::tcp::{TcpOptions, Timestamps};

use crate::{OpenParams, TcpConfig};

/// Header bytes that timestamps take, with padding.
pub(crate) const TIMESTAMPS_LEN: u16 = 12;

/// Options in use on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// Offset added to the clock to form our timestamps.
    pub(crate) ts_offset: u32,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    pub(crate) scaling: bool,
    /// Window scale (shift) of received window fields.
    pub(crate) snd_shift: u8,
    pub(crate) ipv6: bool,
    pub(crate) nodelay: bool,
}

/// The timestamp clock, in milliseconds.
//= https://www.rfc-editor.org/rfc/rfc7323#section-5.4
// RFC 7323, 5.4 allows a tick of 1 ms to 1 s.
pub(crate) fn timestamp_now(now: Instant, offset: u32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "timestamps are modulo 2^32"
    )]
    let millis = now.as_millis() as u32;
    millis.wrapping_add(offset)
}

/// The round-trip time of what was sent last at `last_sent`, from the TSecr of its ACK.
///
/// Returns `None` for the echo of an earlier transmission: the ACK of that one may have been lost,
/// and each such sample would lengthen the next RTO, and with it the next sample.
pub(crate) fn echoed_rtt(
    now: Instant,
    ts_offset: u32,
    ecr: u32,
    last_sent: Instant,
) -> Option<Duration> {
    let ticks = timestamp_now(now, ts_offset).wrapping_sub(ecr);
    let longest = now.saturating_since(last_sent) + TICK;
    let is_of_last = Duration::from_millis(u64::from(ticks)) <= longest;
    is_of_last.then(|| Duration::from_millis(u64::from(ticks.max(1))))
}

/// The options of a SYN.
pub(crate) fn syn_options(now: Instant, opening: &OpenParams, cfg: &TcpConfig) -> TcpOptions {
    TcpOptions {
        mss: Some(opening.mss),
        window_scale: cfg.window_scaling.then(|| cfg.window_scale()),
        sack_permitted: cfg.sack,
        timestamps: cfg.timestamps.then(|| Timestamps {
            val: timestamp_now(now, opening.ts_offset),
            ecr: 0,
        }),
        ..TcpOptions::NONE
    }
}

/// The segment size of a peer that sent no MSS option (RFC 9293, 3.7.1).
//= https://www.rfc-editor.org/rfc/rfc9293#section-3.7.1
//# If an MSS Option is not received at connection setup, TCP
//# implementations MUST assume a default send MSS of 536 (576 - 40) for
//# IPv4 or 1220 (1280 - 60) for IPv6 (MUST-15).
pub(crate) const fn default_mss(ipv6: bool) -> u16 {
    if ipv6 { 1220 } else { 536 }
}

/// One tick of the timestamp clock.
const TICK: Duration = Duration::from_millis(1);

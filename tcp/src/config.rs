//! Settings of TCP, with defaults.

use core::time::Duration;

use crate::congestion::Algorithm;

/// Settings of all connections of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// Congestion control of new connections.
    pub congestion: Algorithm,
    /// Initial congestion window in segments, with RFC 6928's bound in bytes.
    pub initial_window: u8,
    /// Largest receive window in bytes; determines the window scale.
    pub window_max: u32,
    /// Retransmission time-out before the first measurement.
    pub rto_initial: Duration,
    /// Least amount by which the retransmission time-out exceeds the RTT.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# Whenever RTO is computed, if it is less than 1 second, then the
    //# RTO SHOULD be rounded up to 1 second.
    // The default is 200 ms, as on Linux (FreeBSD: 230 ms). Delayed ACK timers of all major stacks
    // are shorter.
    pub rto_min: Duration,
    /// Longest retransmission time-out (RFC 6298: at least 60 s) and longest interval between
    /// window probes.
    pub rto_max: Duration,
    /// Time limit of an active open.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.3
    //# In particular, R2 for a SYN segment MUST
    //# be set large enough to provide retransmission of the segment for at
    //# least 3 minutes (MUST-23).
    pub syn_timeout: Duration,
    /// Retransmissions of a SYN-ACK by a listener.
    pub syn_ack_retries: u8,
    /// How long sent data may stay unacknowledged, or window probes unanswered, before the
    /// connection times out (R2 of RFC 9293, user timeout of RFC 5482).
    pub user_timeout: Duration,
    /// Duration of TIME-WAIT (2 MSL).
    pub time_wait: Duration,
    /// Time limit of FIN-WAIT-2 after the application closed its receiving side.
    pub fin_wait2_timeout: Duration,
    /// Keepalive for new connections; off by default as RFC 9293 demands.
    pub keepalive: Option<Keepalive>,
    /// TCP_NODELAY for new connections: no Nagle algorithm.
    pub nodelay: bool,
    /// Longest delay of an ACK. RFC 9293 requires less than 500 ms.
    pub delayed_ack: Duration,
    /// Number of first data segments that are acknowledged without delay.
    pub quick_acks: u8,
    /// Whether timestamps are offered and accepted.
    pub timestamps: bool,
    /// Whether SACK is offered and accepted.
    pub sack: bool,
    /// Whether window scaling is offered and accepted.
    pub window_scaling: bool,
    /// Mean limit of challenge ACKs per second and worker. The limit of each second is random,
    /// between half and one and a half times this, so that it is no side channel (CVE-2016-5696).
    pub challenge_acks_per_second: u32,
    /// Limit of out-of-order pieces per connection.
    pub reassembly_pieces_max: u32,
    /// Limit of recorded sent ranges per connection. A range is what was sent at one time, up to
    /// 64 KiB, or a part of it. At the limit, and at the connection's share of the worker's slab,
    /// new data joins the last range, and SACK blocks are recorded only in part. Changes have no
    /// effect after [`Shared::new`](crate::Shared::new).
    pub sent_ranges_max: u32,
}

/// Keepalive times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Interval between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection times out.
    pub count: u8,
}

impl Default for Keepalive {
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.4
    //# This interval MUST
    //# be configurable (MUST-27) and MUST default to no less than two hours
    //# (MUST-28).
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(7200),
            interval: Duration::from_secs(75),
            count: 9,
        }
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            congestion: Algorithm::Cubic,
            initial_window: 10,
            window_max: 4 << 20,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            syn_timeout: Duration::from_secs(180),
            syn_ack_retries: 5,
            user_timeout: Duration::from_secs(300),
            time_wait: Duration::from_secs(60),
            fin_wait2_timeout: Duration::from_secs(60),
            keepalive: None,
            nodelay: false,
            delayed_ack: Duration::from_millis(40),
            quick_acks: 16,
            timestamps: true,
            sack: true,
            window_scaling: true,
            challenge_acks_per_second: 1000,
            reassembly_pieces_max: 256,
            sent_ranges_max: 8192,
        }
    }
}

impl TcpConfig {
    /// The offered window scale: the smallest that can express `window_max`.
    pub(crate) fn window_scale(&self) -> u8 {
        let mut scale = 0;
        while scale < WINDOW_SCALE_MAX && self.window_max >> scale > u32::from(u16::MAX) {
            scale += 1;
        }
        scale
    }
}

/// Largest window scale (RFC 7323, section 2.3).
const WINDOW_SCALE_MAX: u8 = 14;

//! What an operator may choose, with the defaults.

use core::time::Duration;

use crate::congestion::Algorithm;

/// Settings shared by all connections of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// Congestion control of new connections.
    pub congestion: Algorithm,
    /// Initial congestion window in segments, with RFC 6928's bound in bytes.
    pub initial_window: u8,
    /// Largest receive window that will ever be asked for; it chooses the window scale.
    pub window_max: u32,
    /// Retransmission time-out before the first measurement.
    pub rto_initial: Duration,
    /// By how much a retransmission time-out exceeds the round-trip time at least.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# Whenever RTO is computed, if it is less than 1 second, then the
    //# RTO SHOULD be rounded up to 1 second.
    // The default is 200 ms, as on Linux (FreeBSD: 230 ms), which every peer's delayed
    // acknowledgment timer has long been built for.
    pub rto_min: Duration,
    /// Longest retransmission time-out (RFC 6298: at least 60 s) and longest time between two
    /// probes of a closed window.
    pub rto_max: Duration,
    /// How long a connection attempt goes on.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.3
    //# In particular, R2 for a SYN segment MUST
    //# be set large enough to provide retransmission of the segment for at
    //# least 3 minutes (MUST-23).
    pub syn_timeout: Duration,
    /// How many times a listener retransmits a SYN-ACK.
    pub syn_ack_retries: u8,
    /// How long sent data may go unacknowledged, or a closed window's probes unanswered, before
    /// the connection is given up (RFC 9293's R2, RFC 5482's user timeout).
    pub user_timeout: Duration,
    /// How long TIME-WAIT lasts (2 MSL).
    pub time_wait: Duration,
    /// How long a connection that nobody reads any more waits in FIN-WAIT-2 for the peer's FIN.
    pub fin_wait2_timeout: Duration,
    /// Keepalive for new connections; off by default as RFC 9293 demands.
    pub keepalive: Option<Keepalive>,
    /// Whether new connections send small segments without waiting for acknowledgments (no Nagle).
    pub nodelay: bool,
    /// Longest delay of an acknowledgment. RFC 9293 allows less than 500 ms.
    pub delayed_ack: Duration,
    /// How many of a connection's first data segments are acknowledged at once.
    pub quick_acks: u8,
    /// Whether timestamps are offered and accepted.
    pub timestamps: bool,
    /// Whether SACK is offered and accepted.
    pub sack: bool,
    /// Whether window scaling is offered and accepted.
    pub window_scaling: bool,
    /// Challenge ACKs sent per second and worker, about: each second draws a limit between half
    /// and one and a half times this, so that peers can't measure each other by it.
    pub challenge_acks_per_second: u32,
    /// Pieces of out-of-order data that a connection remembers.
    pub reassembly_pieces_max: u32,
    /// Sent ranges that a connection remembers; it sends nothing new beyond that. A range is what
    /// was sent in one turn, up to 64 KiB, or part of it.
    pub sent_ranges_max: u32,
}

/// Keepalive times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection is given up.
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
    /// The window scale we offer: the smallest with which `window_max` can be said.
    pub(crate) fn window_scale(&self) -> u8 {
        let mut scale = 0;
        while scale < crate::options::WINDOW_SCALE_MAX
            && self.window_max >> scale > u32::from(u16::MAX)
        {
            scale += 1;
        }
        scale
    }
}

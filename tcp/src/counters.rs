//! What happened on a worker, counted.

/// Counters of a worker's TCP. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments given to connections.
    pub segments_in: u64,
    /// Payload bytes received for the first time.
    pub bytes_in: u64,
    /// Segments (bursts counted once) committed.
    pub bursts_out: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_out: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Retransmission time-outs.
    pub timeouts: u64,
    /// Times that fast recovery began.
    pub recoveries: u64,
    /// RFC 6675 rescue retransmissions.
    pub rescues: u64,
    /// Receivers found to have dropped data that they had reported by SACK.
    pub reneges: u64,
    /// Ranges reported as received twice (RFC 2883).
    pub dsacks: u64,
    /// Zero-window probes sent.
    pub window_probes: u64,
    /// Keepalive probes sent.
    pub keepalives: u64,
    /// Segments dropped by timestamps (PAWS).
    pub paws_dropped: u64,
    /// Segments dropped because timestamps were agreed on and missing.
    pub timestamp_missing: u64,
    /// Segments outside the window.
    pub unacceptable: u64,
    /// Acknowledgments of what was never sent or of what is too old (RFC 5961).
    pub bad_acks: u64,
    /// Challenge ACKs sent.
    pub challenge_acks: u64,
    /// Challenge ACKs not sent because of the limit.
    pub challenges_limited: u64,
    /// Resets accepted.
    pub resets_in: u64,
    /// Connections given up because the peer didn't answer.
    pub timed_out: u64,
    /// Out-of-order pieces not kept because too many were remembered already.
    pub reassembly_dropped: u64,
    /// Times that something could not be recorded because the slab of ranges was exhausted.
    pub ranges_exhausted: u64,
    /// ICMP messages that did not quote anything in flight.
    pub icmp_ignored: u64,
    /// ICMP "unreachable" messages that were taken note of only.
    pub unreachable: u64,
    /// ICMP "too big" messages that made segments smaller.
    pub too_big: u64,
    /// What was committed and did not leave the host.
    pub local_losses: u64,
    /// Data that arrived when nobody reads any more.
    pub data_after_close: u64,
}

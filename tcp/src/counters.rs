//! What happened on a worker, counted.

lockgate_wire::counters! {
    /// Counters of a worker's TCP. Each only grows.
    pub struct Counters in "tcp" {
        /// Segments given to connections.
        segments_in,
        /// Payload bytes received for the first time.
        bytes_in,
        /// Segments (bursts counted once) committed.
        bursts_out,
        /// Payload bytes sent, retransmissions included.
        bytes_out,
        /// Payload bytes sent again.
        bytes_retransmitted,
        /// Retransmission time-outs.
        timeouts,
        /// Times that fast recovery began.
        recoveries,
        /// RFC 6675 rescue retransmissions.
        rescues,
        /// Receivers found to have dropped data that they had reported by SACK.
        reneges,
        /// Ranges reported as received twice (RFC 2883).
        dsacks,
        /// Zero-window probes sent.
        window_probes,
        /// Keepalive probes sent.
        keepalives,
        /// Segments dropped by timestamps (PAWS).
        paws_dropped,
        /// Segments accepted without a timestamp on connections that agreed on timestamps.
        timestamp_missing,
        /// Segments outside the window.
        unacceptable,
        /// Acknowledgments of what was never sent or of what is too old (RFC 5961).
        bad_acks,
        /// Challenge ACKs sent.
        challenge_acks,
        /// Challenge ACKs not sent because of the limit.
        challenges_limited,
        /// Resets accepted.
        resets_in,
        /// Connections given up because the peer didn't answer.
        timed_out,
        /// Out-of-order pieces not kept because too many were remembered already.
        reassembly_dropped,
        /// Times that something could not be recorded because the slab of ranges was exhausted.
        ranges_exhausted,
        /// SACK blocks not fully taken note of, because there was no memory to split a range or the
        /// receiver reported too many small pieces.
        sack_splits_refused,
    /// ICMP messages that did not quote anything in flight.
        icmp_ignored,
        /// ICMP "unreachable" messages that were taken note of only.
        unreachable,
        /// ICMP "too big" messages that made segments smaller.
        too_big,
        /// What was committed and did not leave the host.
        local_losses,
        /// Data that arrived when nobody reads any more.
        data_after_close,
    }
}

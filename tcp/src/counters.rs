//! TCP counters of a worker.

lockgate_wire::counters! {
    /// TCP counters of one worker. Monotonic.
    pub struct Counters in "tcp" {
        /// Segments given to connections.
        segments_in,
        /// Payload bytes accepted, each counted once: in order, or out of order and recorded.
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
        /// Reneging receivers: data that was reported by SACK and later dropped (RFC 2018, 8).
        reneges,
        /// Ranges reported as received twice (RFC 2883).
        dsacks,
        /// Zero-window probes sent.
        window_probes,
        /// Keepalive probes sent.
        keepalives,
        /// Segments dropped by PAWS (RFC 7323, 5).
        paws_dropped,
        /// Segments accepted without a timestamp on connections that agreed on timestamps.
        timestamp_missing,
        /// Segments outside the window.
        unacceptable,
        /// Acknowledgments of what was never sent or of what is too old (RFC 5961).
        bad_acks,
        /// Challenge ACKs sent (RFC 5961): answers that the limit allowed.
        challenge_acks,
        /// Challenge ACKs that were due and not sent because of the limit.
        challenges_limited,
        /// Resets accepted.
        resets_in,
        /// Connections that ended because the peer acknowledged nothing for the user timeout,
        /// answered no keepalive probe, or did not answer a SYN sent here. Half-open connections
        /// of listeners are not counted.
        timed_out,
        /// Out-of-order payload dropped because the connection's limit of pieces was reached.
        reassembly_dropped,
        /// Out-of-order payload dropped because the connection's share of the worker's ranges, or
        /// the half of them that such payload may take, was used up.
        ranges_exhausted,
        /// SACK blocks recorded only in part: the connection's share of the worker's ranges was
        /// used up, or the receiver reported too many small pieces.
        sack_splits_refused,
        /// Times that a connection's sent ranges were joined because they were more than twice its
        /// share of the worker's ranges.
        ranges_reclaimed,
        /// ICMP messages ignored because they quoted no segment in flight (RFC 5927).
        icmp_ignored,
        /// ICMP "unreachable" messages that did not end a connection.
        unreachable,
        /// ICMP "fragmentation needed" and "packet too big" messages that reduced a segment size.
        too_big,
        /// Committed segments that did not leave the host.
        local_losses,
        /// Segments with data received after the application closed its receiving side.
        data_after_close,
    }
}

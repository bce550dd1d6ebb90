//! The neighbour table's counters.

lockgate_wire::counters! {
    /// Counters of the neighbour table.
    pub struct NeighbourCounters in "neighbours" {
        /// Entries created.
        created,
        /// Entries evicted to make room for others.
        evicted,
        /// Entries resolved to a link-layer address.
        resolved,
        /// Entries whose link-layer address changed.
        changed,
        /// Entries that failed: the neighbour didn't answer.
        unreachable,
        /// Multicast or broadcast solicitations.
        multicast_solicits,
        /// Unicast probes of the known address.
        unicast_solicits,
        /// Solicitations postponed by the rate limit.
        solicits_limited,
        /// Unsolicited messages about neighbours without an entry: ignored.
        unasked,
        /// Reachability confirmations by the progress of connections.
        confirmed,
        /// Frames queued to wait for a neighbour.
        frames_queued,
        /// Queued frames sent.
        frames_released,
        /// Queued frames replaced by newer ones.
        frames_displaced,
        /// Queued frames dropped because their neighbour failed or its entry was evicted.
        frames_dropped,
        /// Frames not queued: too large, or the queue is full.
        frames_refused,
        /// Events lost because the event queue was full.
        events_lost,
    }
}

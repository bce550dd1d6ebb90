//! The neighbour table's counters.

lockgate_wire::counters! {
    /// What the table did.
    pub struct NeighbourCounters in "neighbours" {
        /// Entries made.
        created,
        /// Entries that had to go to make room for others.
        evicted,
        /// Entries that got a link-layer address.
        resolved,
        /// Entries whose link-layer address changed.
        changed,
        /// Neighbours that didn't answer.
        unreachable,
        /// Solicitations to everybody.
        multicast_solicits,
        /// Solicitations to the address known.
        unicast_solicits,
        /// Solicitations put off by the rate limit.
        solicits_limited,
        /// Claims about neighbours that we don't know, or don't talk to: not believed.
        unasked,
        /// Confirmations by progress of connections.
        confirmed,
        /// Frames put to wait.
        frames_queued,
        /// Frames sent after waiting.
        frames_released,
        /// Frames that had to go because newer ones came.
        frames_displaced,
        /// Frames dropped because their neighbour didn't answer or its entry went.
        frames_dropped,
        /// Frames too large to wait, or for which there was no place.
        frames_refused,
        /// Events that nobody fetched in time.
        events_lost,
    }
}

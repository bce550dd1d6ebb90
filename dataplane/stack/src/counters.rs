//! What happened on a worker, counted.

use core::fmt;

/// Counters of a worker's stack. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given to the stack.
    pub packets_in: u64,
    /// TCP segments with a good checksum.
    pub segments_in: u64,
    /// Segments dropped for a bad TCP checksum.
    pub bad_checksum: u64,
    /// Segments dropped because they can't be parsed.
    pub malformed: u64,
    /// Segments dropped because their payload could not be held.
    pub refused_payload: u64,
    /// Segments for no connection and no listener.
    pub no_connection: u64,
    /// Resets sent in answer to those.
    pub resets_out: u64,
    /// Such resets not sent because of the limit.
    pub resets_limited: u64,
    /// Packets handed to an interface.
    pub packets_out: u64,
    /// TCP payload bytes in them.
    pub payload_bytes_out: u64,
    /// Packets that an interface did not take after all.
    pub tx_failed: u64,
    /// Small frames (answers) lost because an interface had no room.
    pub answers_lost: u64,
    /// Segments not sent because their neighbour doesn't answer.
    pub neighbour_unreachable: u64,
    /// Times that a connection waited for its neighbour's address.
    pub waited_for_neighbour: u64,
    /// Times that a connection waited for page buffers or for ranges.
    pub starved: u64,
    /// Payload bytes that applications gave by copy.
    pub bytes_by_copy: u64,
    /// Payload bytes that applications gave by reference.
    pub bytes_by_reference: u64,
    /// Connections that peers opened.
    pub accepted: u64,
    /// Connections opened here.
    pub connected: u64,
    /// SYNs dropped because there was no place for another connection.
    pub syn_dropped: u64,
    /// Half-open connections pushed out by newer ones.
    pub half_open_evicted: u64,
    /// Half-open connections that were given up.
    pub half_open_gave_up: u64,
    /// Connections that went to TIME-WAIT.
    pub time_wait: u64,
    /// Connections for which there was no place in TIME-WAIT.
    pub time_wait_overflow: u64,
    /// TLS 1.2 handshakes done.
    pub handshakes_tls12: u64,
    /// TLS 1.3 handshakes done.
    pub handshakes_tls13: u64,
    /// TLS handshakes done that resumed a session.
    pub handshakes_resumed: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Of those: ended by the peer's alert.
    pub handshakes_failed_peer_alert: u64,
    /// Of those: the peer closed.
    pub handshakes_failed_peer_closed: u64,
    /// Of those: nothing in common.
    pub handshakes_failed_incompatible: u64,
    /// Of those: a certificate that isn't trusted.
    pub handshakes_failed_certificate: u64,
    /// Of those: the peer broke the protocol, or doesn't speak it.
    pub handshakes_failed_protocol: u64,
    /// Of those: it took too long.
    pub handshakes_failed_timeout: u64,
    /// Of those: our own fault.
    pub handshakes_failed_internal: u64,
    /// close_notify alerts queued.
    pub close_notify_out: u64,
    /// close_notify alerts received.
    pub close_notify_in: u64,
    /// Fatal alerts queued.
    pub alerts_out: u64,
    /// Streams that peers ended (FIN, with close_notify before it where there's TLS).
    pub peer_closed_clean: u64,
    /// TLS streams that peers ended without close_notify.
    pub peer_closed_truncated: u64,
    /// Times that the peer had closed and data was still sent to it.
    pub half_closed_sends: u64,
    /// Connections that ended with everything said on both sides.
    pub end_clean: u64,
    /// Connections that ended with a peer's TLS stream cut short.
    pub end_truncated: u64,
    /// Connections that the peer reset.
    pub end_reset: u64,
    /// Connections that the peer refused.
    pub end_refused: u64,
    /// Connections whose peer didn't answer.
    pub end_timed_out: u64,
    /// Connections aborted by the application.
    pub end_aborted: u64,
    /// Connections aborted because the worker stopped.
    pub end_drained: u64,
    /// Connections that ended with their TLS handshake.
    pub end_handshake: u64,
    /// Connections that ended by a fault in the record layer.
    pub end_tls: u64,
    /// Connections that ended because nothing more could be sealed.
    pub end_crypto: u64,
}

impl Counters {
    /// Every counter with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        self.packets().into_iter().chain(self.connections()).chain(self.ends())
    }

    fn packets(&self) -> [(&'static str, u64); 17] {
        [
            ("stack.packets_in", self.packets_in),
            ("stack.segments_in", self.segments_in),
            ("stack.bad_checksum", self.bad_checksum),
            ("stack.malformed", self.malformed),
            ("stack.refused_payload", self.refused_payload),
            ("stack.no_connection", self.no_connection),
            ("stack.resets_out", self.resets_out),
            ("stack.resets_limited", self.resets_limited),
            ("stack.packets_out", self.packets_out),
            ("stack.payload_bytes_out", self.payload_bytes_out),
            ("stack.tx_failed", self.tx_failed),
            ("stack.answers_lost", self.answers_lost),
            ("stack.neighbour_unreachable", self.neighbour_unreachable),
            ("stack.waited_for_neighbour", self.waited_for_neighbour),
            ("stack.starved", self.starved),
            ("stack.bytes_by_copy", self.bytes_by_copy),
            ("stack.bytes_by_reference", self.bytes_by_reference),
        ]
    }

    fn connections(&self) -> [(&'static str, u64); 18] {
        [
            ("stack.accepted", self.accepted),
            ("stack.connected", self.connected),
            ("stack.syn_dropped", self.syn_dropped),
            ("stack.half_open_evicted", self.half_open_evicted),
            ("stack.half_open_gave_up", self.half_open_gave_up),
            ("stack.time_wait", self.time_wait),
            ("stack.time_wait_overflow", self.time_wait_overflow),
            ("stack.handshakes.tls12", self.handshakes_tls12),
            ("stack.handshakes.tls13", self.handshakes_tls13),
            ("stack.handshakes.resumed", self.handshakes_resumed),
            ("stack.handshakes.failed", self.handshakes_failed),
            ("stack.handshakes.failed.peer_alert", self.handshakes_failed_peer_alert),
            ("stack.handshakes.failed.peer_closed", self.handshakes_failed_peer_closed),
            ("stack.handshakes.failed.incompatible", self.handshakes_failed_incompatible),
            ("stack.handshakes.failed.certificate", self.handshakes_failed_certificate),
            ("stack.handshakes.failed.protocol", self.handshakes_failed_protocol),
            ("stack.handshakes.failed.timeout", self.handshakes_failed_timeout),
            ("stack.handshakes.failed.internal", self.handshakes_failed_internal),
        ]
    }

    fn ends(&self) -> [(&'static str, u64); 16] {
        [
            ("stack.close_notify_out", self.close_notify_out),
            ("stack.close_notify_in", self.close_notify_in),
            ("stack.alerts_out", self.alerts_out),
            ("stack.peer_closed.clean", self.peer_closed_clean),
            ("stack.peer_closed.truncated", self.peer_closed_truncated),
            ("stack.half_closed_sends", self.half_closed_sends),
            ("stack.end.clean", self.end_clean),
            ("stack.end.truncated", self.end_truncated),
            ("stack.end.reset", self.end_reset),
            ("stack.end.refused", self.end_refused),
            ("stack.end.timed_out", self.end_timed_out),
            ("stack.end.aborted", self.end_aborted),
            ("stack.end.drained", self.end_drained),
            ("stack.end.handshake", self.end_handshake),
            ("stack.end.tls", self.end_tls),
            ("stack.end.crypto", self.end_crypto),
        ]
    }
}

impl fmt::Display for Counters {
    /// The counters that aren't zero, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter().filter(|(_, value)| *value != 0) {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let mut names: Vec<_> = Counters::default().iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), size_of::<Counters>() / size_of::<u64>());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), size_of::<Counters>() / size_of::<u64>());
    }
}

//! What happened on a worker, counted.

use core::fmt;

use lockgate_ktls::Version;

use crate::notice::CloseReason;
use crate::tls::Failure;

lockgate_wire::counters! {
    /// Counters of a worker's stack. Each only grows.
    pub struct Counters in "stack" {
        /// Packets given to the stack.
        packets_in,
        /// Frames that other workers heard first.
        sibling_frames_in,
        /// Segments of connections that aren't this worker's, passed on to the next one.
        segments_forwarded,
        /// Frames that other workers should have heard of, and there was no room.
        sibling_frames_lost,
        /// TCP segments with a good checksum.
        segments_in,
        /// Segments dropped for a bad TCP checksum.
        bad_checksum,
        /// Segments dropped because they can't be parsed.
        malformed,
        /// Segments dropped because their payload could not be held.
        refused_payload,
        /// Connections reset because received bytes pinned all the memory that they may.
        receive_budget_resets,
        /// Segments for no connection and no listener.
        no_connection,
        /// Resets sent in answer to those.
        resets_out,
        /// Such resets not sent because of the limit.
        resets_limited,
        /// Packets handed to an interface.
        packets_out,
        /// TCP payload bytes in them.
        payload_bytes_out,
        /// Packets that an interface did not take after all.
        tx_failed,
        /// Small frames (answers) lost because an interface had no room.
        answers_lost,
        /// Segments not sent because their neighbour doesn't answer.
        neighbour_unreachable,
        /// Times that a connection waited for its neighbour's address.
        waited_for_neighbour,
        /// Times that a connection waited for page buffers or for ranges.
        starved,
        /// Payload bytes that applications gave by copy.
        bytes_by_copy,
        /// Payload bytes that applications gave by reference.
        bytes_by_reference,
        /// Connections that peers opened.
        accepted,
        /// Connections opened here.
        connected,
        /// SYNs dropped because there was no place for another connection.
        syn_dropped,
        /// Half-open connections pushed out by newer ones.
        half_open_evicted,
        /// Half-open connections that were given up.
        half_open_timed_out,
        /// Connections that went to TIME-WAIT.
        time_wait,
        /// Connections for which there was no place in TIME-WAIT.
        time_wait_overflow,
        /// TLS 1.2 handshakes done.
        handshakes_tls12,
        /// TLS 1.3 handshakes done.
        handshakes_tls13,
        /// TLS handshakes done that resumed a session.
        handshakes_resumed,
        /// TLS handshakes that failed.
        handshakes_failed,
        /// Of those: ended by the peer's alert.
        handshakes_failed_peer_alert,
        /// Of those: the peer closed.
        handshakes_failed_peer_closed,
        /// Of those: nothing in common.
        handshakes_failed_incompatible,
        /// Of those: a certificate that isn't trusted.
        handshakes_failed_certificate,
        /// Of those: the peer broke the protocol, or doesn't speak it.
        handshakes_failed_protocol,
        /// Of those: it took too long.
        handshakes_failed_timeout,
        /// Of those: our own fault.
        handshakes_failed_internal,
        /// close_notify alerts queued.
        close_notify_out,
        /// close_notify alerts received.
        close_notify_in,
        /// Fatal alerts queued.
        alerts_out,
        /// Streams that peers ended (FIN, with close_notify before it where there's TLS).
        peer_closed_clean,
        /// TLS streams that peers ended without close_notify.
        peer_closed_truncated,
        /// Times that the peer had closed and data was still sent to it.
        half_closed_sends,
        /// Connections that ended with everything said on both sides.
        end_clean,
        /// Connections that ended with a peer's TLS stream cut short.
        end_truncated,
        /// Connections that the peer reset.
        end_reset,
        /// Connections that the peer refused.
        end_refused,
        /// Connections whose peer didn't answer.
        end_timed_out,
        /// Connections aborted by the application.
        end_aborted,
        /// Connections aborted because the worker stopped.
        end_drained,
        /// Connections that ended with their TLS handshake.
        end_handshake,
        /// Connections that ended by a fault in the record layer.
        end_tls,
        /// Connections that ended because nothing more could be sealed.
        end_crypto,
    }
}

impl Counters {
    /// Counts the end of a socket.
    pub(crate) fn count_end(&mut self, reason: CloseReason) {
        *match reason {
            CloseReason::Clean => &mut self.end_clean,
            CloseReason::Truncated => &mut self.end_truncated,
            CloseReason::Reset => &mut self.end_reset,
            CloseReason::Refused => &mut self.end_refused,
            CloseReason::TimedOut => &mut self.end_timed_out,
            CloseReason::Aborted => &mut self.end_aborted,
            CloseReason::Drained => &mut self.end_drained,
            CloseReason::Handshake(_) => &mut self.end_handshake,
            CloseReason::Tls(_) => &mut self.end_tls,
            CloseReason::Crypto => &mut self.end_crypto,
        } += 1;
    }

    /// Counts a completed TLS handshake.
    pub(crate) fn count_handshake(&mut self, version: Version, resumed: bool) {
        match version {
            Version::Tls12 => self.handshakes_tls12 += 1,
            Version::Tls13 => self.handshakes_tls13 += 1,
        }
        self.handshakes_resumed += u64::from(resumed);
    }

    /// Counts a failed TLS handshake.
    pub(crate) fn count_failed_handshake(&mut self, failure: Failure) {
        self.handshakes_failed += 1;
        *match failure {
            Failure::PeerAlert(_) => &mut self.handshakes_failed_peer_alert,
            Failure::PeerClosed => &mut self.handshakes_failed_peer_closed,
            Failure::Incompatible => &mut self.handshakes_failed_incompatible,
            Failure::BadCertificate => &mut self.handshakes_failed_certificate,
            Failure::Misbehaved | Failure::Malformed | Failure::TooLong => {
                &mut self.handshakes_failed_protocol
            }
            Failure::TimedOut => &mut self.handshakes_failed_timeout,
            Failure::Internal => &mut self.handshakes_failed_internal,
        } += 1;
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

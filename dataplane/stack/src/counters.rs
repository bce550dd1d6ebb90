//! Counters of a worker's stack.

use core::fmt;

use lockgate_ktls::Version;

use crate::notice::CloseReason;
use crate::tls::Failure;

lockgate_wire::counters! {
    /// Counters of a worker's stack. Each only grows.
    pub struct Counters in "stack" {
        /// Packets given to the stack.
        packets_in,
        /// Frames received from sibling workers.
        sibling_frames_in,
        /// Frames for sibling workers, and announcements of solicitations, dropped because their
        /// queue was full.
        sibling_frames_lost,
        /// Segments and ICMP errors moved to the sibling worker that may have their connection.
        misdirected_out,
        /// Of those due: dropped because their queue was full.
        misdirected_lost,
        /// Segments and ICMP errors received from sibling workers.
        misdirected_in,
        /// TCP segments with a good checksum.
        segments_in,
        /// Of those: handled together with the segment before (LRO in software).
        segments_merged,
        /// Segments dropped because of a bad TCP checksum.
        bad_checksum,
        /// Of those: the checksum was left to the sender's network card, which there is none.
        partial_checksum,
        /// Segments and ICMP messages dropped because they can't be parsed.
        malformed,
        /// Segments dropped because a receive limit or the pool had no room for their payload.
        refused_payload,
        /// Connections reset because they pinned the most while the receive budget was exceeded.
        receive_budget_resets,
        /// Segments for no connection and no listener.
        no_connection,
        /// Resets handed to an interface, or to neighbour resolution, in answer to segments without
        /// a connection, or that a half-open connection or a stopped listener doesn't take. Resets
        /// of connections aren't counted: they are in `end_aborted` and its like.
        resets_out,
        /// Such resets that were due and not sent because of `resets_per_second_max`.
        resets_limited,
        /// Packets handed to an interface.
        packets_out,
        /// TCP payload bytes in them.
        payload_bytes_out,
        /// Packets that an interface refused though it had room.
        tx_failed,
        /// Small frames (SYN-ACK, RST, immediate ACK, ARP, ICMP) lost for want of a route, memory
        /// or room.
        answers_lost,
        /// Segments dropped because the next hop is unreachable.
        neighbour_unreachable,
        /// Times that a connection waited for neighbour resolution.
        waited_for_neighbour,
        /// Times that a connection began to wait for page buffers. It is woken when there is room
        /// for it, and counts again if it finds none.
        starved,
        /// Times that a connection stopped queueing or sealing because it held its share of the
        /// page buffers, which shrinks as they run out.
        share_limited,
        /// Times that a connection's records were sealed, or a record opened, by the worker because
        /// the queue of its KTLS worker was full.
        away_full,
        /// Spans freed by dropping the ciphertext of records that are sealed again if they have to
        /// be retransmitted.
        ciphertext_dropped,
        /// Idle connections closed because the table of connections was nearly full.
        reclaimed_idle,
        /// Connections reset for others that waited for memory or a place in the table, because
        /// their peers took less than `send_rate_min`.
        reclaimed_slow,
        /// Records that were kept small so that they end with a segment.
        small_records,
        /// Times that a connection began again with small records because it had been idle.
        small_restarts,
        /// Payload bytes that applications gave by copy.
        bytes_by_copy,
        /// Payload bytes that applications gave by reference.
        bytes_by_reference,
        /// Connections opened by peers.
        accepted,
        /// Connections opened here.
        connected,
        /// SYNs dropped because no half-open connection may be kept.
        syn_dropped,
        /// Final ACKs of half-open connections dropped because the connection table was full and no
        /// connection could be reclaimed.
        accept_dropped,
        /// Half-open connections evicted by newer ones.
        half_open_evicted,
        /// Of those: because their listener's backlog was full.
        half_open_evicted_backlog,
        /// Half-open connections whose SYN-ACK was retransmitted in vain.
        half_open_timed_out,
        /// Connections that entered TIME-WAIT.
        time_wait,
        /// Connections that ended without TIME-WAIT because its table was full.
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
        /// Of those: no common version, suite, scheme or protocol.
        handshakes_failed_incompatible,
        /// Of those: a certificate that isn't trusted.
        handshakes_failed_certificate,
        /// Of those: protocol violations and bytes that aren't TLS.
        handshakes_failed_protocol,
        /// Of those: timed out.
        handshakes_failed_timeout,
        /// Of those: reset because newer handshakes, or connections, needed their memory or place.
        handshakes_evicted,
        /// Of those: had state in the TLS library.
        handshakes_evicted_active,
        /// Of those: internal errors.
        handshakes_failed_internal,
        /// close_notify alerts queued.
        close_notify_out,
        /// close_notify alerts received.
        close_notify_in,
        /// Fatal alerts queued.
        alerts_out,
        /// Streams that peers ended by FIN, with TLS after close_notify.
        peer_closed_clean,
        /// TLS streams that peers ended without close_notify.
        peer_closed_truncated,
        /// Segments with data sent to peers that had closed their side.
        half_closed_sends,
        /// Connections that ended cleanly on both sides.
        end_clean,
        /// Connections whose peer's TLS stream was truncated.
        end_truncated,
        /// Connections reset by the peer.
        end_reset,
        /// Connections refused by the peer.
        end_refused,
        /// Connections that timed out.
        end_timed_out,
        /// Connections aborted by the application.
        end_aborted,
        /// Connections reset to reclaim their memory or their place in the table.
        end_reclaimed,
        /// Connections aborted because the worker stopped.
        end_drained,
        /// Connections that ended because their TLS handshake failed.
        end_handshake,
        /// Connections that ended by an error of the record layer in what the peer sent.
        end_tls,
        /// Connections that ended because sealing failed or a key was used up.
        end_crypto,
        /// Connections reset because a file that was sent on them can't be read.
        end_file,
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
            CloseReason::Reclaimed => &mut self.end_reclaimed,
            CloseReason::Drained => &mut self.end_drained,
            CloseReason::Handshake(_) => &mut self.end_handshake,
            CloseReason::Tls(_) => &mut self.end_tls,
            CloseReason::Crypto => &mut self.end_crypto,
            CloseReason::File => &mut self.end_file,
        } += 1;
    }

    /// Counts a completed TLS handshake.
    pub(crate) fn count_handshake(&mut self, version: Version, resumed: bool) {
        match version {
            Version::Tls13 => self.handshakes_tls13 += 1,
            // Older versions than TLS 1.2 have keys without a handshake only.
            Version::Tls10 | Version::Tls11 | Version::Tls12 => self.handshakes_tls12 += 1,
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
            Failure::Evicted => &mut self.handshakes_evicted,
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

//! A listener's entries: connections whose handshake is not complete (SYN-RECEIVED).

use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, SeqNum};

use crate::{Connection, Opening, SegmentIn, Shared};

/// A connection attempt that a listener has answered.
///
/// The caller keeps these in its flow table, as many as it wants to allow. Payload of the SYN, and
/// of anything before the handshake's last segment, is not kept: the peer will send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
    pub(crate) ts_offset: u32,
    pub(crate) ts_recent: u32,
    pub(crate) mss_out: u16,
    pub(crate) mss_peer: u16,
    /// The window of the SYN, never scaled.
    pub(crate) window: u16,
    /// The peer's window scale, if it offered one.
    pub(crate) peer_scale: Option<u8>,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    pub(crate) ipv6: bool,
    /// How often the SYN-ACK was sent again.
    pub(crate) retries: u8,
    pub(crate) deadline: Instant,
}

const _: () = assert!(size_of::<HalfOpen>() <= 48);

/// What to do about a segment for a half-open connection.
#[derive(Debug)]
#[must_use]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, never stored")]
pub enum HalfOpenVerdict {
    /// Nothing.
    Drop,
    /// Send this.
    Reply(TcpHeader),
    /// The handshake is complete: replace this by the connection and give it the same segment, which
    /// may carry payload. If there is no place for a connection, drop it: the peer asks again.
    Established(Connection),
    /// The segment is not of this handshake: send this reset. The attempt goes on.
    Reset(TcpHeader),
    /// The peer gave up: forget the attempt.
    Closed,
}

/// What to do when a half-open connection's deadline has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum HalfOpenTimer {
    /// It hasn't.
    NotYet,
    /// Send the SYN-ACK again.
    Retransmit(TcpHeader),
    /// The peer didn't answer: forget the attempt.
    GiveUp,
}

impl HalfOpen {
    /// A listener received a segment. If it opens a connection: the entry to keep and the SYN-ACK
    /// to send. Otherwise none, and [`refuse`](Self::refuse) has the answer.
    pub fn on_syn(
        now: Instant,
        segment: &SegmentIn<'_>,
        opening: &Opening,
        sh: &Shared,
    ) -> Option<(Self, TcpHeader)> {
        todo!()
    }

    /// A listener's answer to a segment that `on_syn` did not take.
    pub fn refuse(segment: &SegmentIn<'_>) -> Option<TcpHeader> {
        todo!()
    }

    /// A segment came for this attempt.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> HalfOpenVerdict {
        todo!()
    }

    /// The deadline may have come.
    pub fn on_timer(&mut self, now: Instant, sh: &Shared) -> HalfOpenTimer {
        todo!()
    }

    /// When [`on_timer`](Self::on_timer) wants to be called.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

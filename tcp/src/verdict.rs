//! What a connection says about a received segment, and what it wants to send.

use core::ops::Range;

use lockgate_wire::StreamOffset;
use lockgate_wire::tcp::TcpHeader;

/// What became of a received segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "payload must be kept, answers sent and events acted on"]
pub struct Verdict {
    /// The part of the payload to keep, as offsets in the received stream; empty: keep nothing.
    /// It may overlap bytes kept before: the first copy of each byte stays.
    pub keep: Range<StreamOffset>,
    /// How many payload bytes are in front of `keep`.
    pub skip_front: u32,
    /// The received stream is complete up to here (and was acknowledged or soon will be).
    pub readable: StreamOffset,
    /// The peer acknowledged our stream up to here: buffers before it can be released.
    pub acked: StreamOffset,
    /// A segment without payload to be sent now: a RST, a challenge, or an acknowledgment that
    /// can't wait. If it can't be sent, nothing breaks: the peer will ask again.
    pub answer: Option<TcpHeader>,
    /// Whether this segment completed the peer's stream: its FIN is now in order, at `readable`.
    pub peer_closed: bool,
    /// What happened to the connection as a whole.
    pub event: Event,
}

/// What happened to a connection as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Event {
    /// Nothing of note.
    #[default]
    None,
    /// The handshake is complete.
    Connected,
    /// The peer reset the connection. It is over.
    Reset,
    /// The peer (or, by ICMP, the network) refused the connection attempt. It is over.
    Refused,
    /// The peer didn't answer for too long. The connection is over.
    TimedOut,
    /// Both sides closed and no TIME-WAIT is needed, or TIME-WAIT has ended. It is over.
    Closed,
    /// Data came that nobody will read, after this side gave up receiving: the peer is told by a
    /// reset. It is over, and not by both sides closing.
    DataLost,
    /// Both sides closed: the connection can be traded for
    /// [`Connection::time_wait`](crate::Connection::time_wait).
    TimeWait,
}

impl Event {
    /// Whether the connection is over: it holds nothing any more and can be dropped.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Reset | Self::Refused | Self::TimedOut | Self::Closed | Self::DataLost => true,
            Self::None | Self::Connected | Self::TimeWait => false,
        }
    }
}

/// What a connection wants to send now.
///
/// It is used once, by [`Connection::commit`](crate::Connection::commit), or dropped: nothing has
/// changed then. Between the two the connection must not be told anything else.
#[derive(Debug, PartialEq, Eq)]
pub struct Intent {
    /// Why.
    pub kind: IntentKind,
    /// The bytes of the stream to send; empty for segments without payload. The caller may send
    /// fewer, from the start on.
    pub range: Range<StreamOffset>,
    /// Payload bytes per segment: what is longer must be cut into segments of this size.
    pub mss: u16,
    /// The most bytes to hand over in one burst: whole segments, and what one IP packet with
    /// headers can carry.
    pub burst_max: u32,
    /// The connection's change stamp when this was made.
    pub(crate) stamp: u16,
}

/// Why a segment is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntentKind {
    /// SYN: opens a connection.
    Syn,
    /// SYN with ACK: the answer to a SYN that crossed ours.
    SynAck,
    /// Bytes never sent before. With no bytes: the FIN alone.
    Data,
    /// Bytes sent before. With no bytes: the FIN alone.
    Retransmit,
    /// A closed window is probed, by one byte (or the FIN) that it does not allow.
    WindowProbe,
    /// The peer is asked whether it is still there.
    Keepalive,
    /// An acknowledgment or a window update.
    Ack,
}

/// What was sent, to be given back to
/// [`Connection::on_local_loss`](crate::Connection::on_local_loss) if it did not leave the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Why it was sent.
    pub kind: IntentKind,
    /// First byte.
    pub start: StreamOffset,
    /// Payload bytes.
    pub len: u32,
    /// Whether a FIN followed them.
    pub fin: bool,
}

impl Sent {
    /// Whether the bytes had been sent before.
    pub const fn is_retransmit(&self) -> bool {
        matches!(self.kind, IntentKind::Retransmit)
    }
}

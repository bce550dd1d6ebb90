//! Results: of a received segment, and of asking what to send.

use core::ops::Range;

use lockgate_wire::StreamOffset;
use lockgate_wire::tcp::TcpHeader;

/// The result of processing a received segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "payload must be kept, answers sent and events acted on"]
pub struct Verdict {
    /// The part of the payload to keep, as offsets in the received stream. Empty: keep nothing. It
    /// may overlap bytes kept earlier; keep the first copy of each byte.
    pub keep: Range<StreamOffset>,
    /// Payload bytes before `keep`.
    pub skip_front: u32,
    /// RCV.NXT: the received stream is complete up to this offset.
    pub readable: StreamOffset,
    /// SND.UNA: the peer acknowledged our stream up to this offset; release buffers before it.
    pub acked: StreamOffset,
    /// A segment without payload to send now: RST, challenge ACK, or immediate ACK. It may be lost:
    /// the peer retransmits.
    pub answer: Option<TcpHeader>,
    /// Whether this segment completed the peer's stream: the FIN is in order, at `readable`.
    pub peer_closed: bool,
    /// State change of the connection.
    pub event: Event,
}

/// State change of a connection that the caller has to handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Event {
    /// No change.
    #[default]
    None,
    /// The handshake is complete.
    Connected,
    /// The peer reset the connection. The connection is over.
    Reset,
    /// The peer, or the network by ICMP, refused the connection attempt. The connection is over.
    Refused,
    /// The user timeout, SYN timeout or keepalive expired. The connection is over.
    TimedOut,
    /// Both sides closed and TIME-WAIT is not needed or has ended. The connection is over.
    Closed,
    /// Data arrived after the application closed its receiving side; the answer is a RST (RFC 9293,
    /// 3.6.1). The connection is over, but not closed by both sides.
    DataLost,
    /// Both sides closed: replace the connection by
    /// [`Connection::time_wait`](crate::Connection::time_wait).
    TimeWait,
}

impl Event {
    /// Whether the connection is over: it holds no memory in [`Shared`](crate::Shared) and can be
    /// dropped.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Reset | Self::Refused | Self::TimedOut | Self::Closed | Self::DataLost => true,
            Self::None | Self::Connected | Self::TimeWait => false,
        }
    }
}

/// An offer to send.
///
/// Pass it to [`Connection::commit`](crate::Connection::commit) once, or drop it: without a commit
/// nothing has changed. Call no other `&mut` method of the connection in between.
#[derive(Debug, PartialEq, Eq)]
pub struct Intent {
    /// Reason of the transmission.
    pub kind: IntentKind,
    /// The bytes of the stream to send; empty for segments without payload. The caller may commit a
    /// prefix.
    pub range: Range<StreamOffset>,
    /// Payload bytes per segment (MSS less options). Longer bursts have to be segmented.
    pub mss: u16,
    /// Most bytes for one TSO burst: whole segments that fit one IP packet with headers.
    pub burst_max: u32,
    /// Change stamp of the connection at the time of the offer.
    pub(crate) stamp: u16,
}

/// Why a segment is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntentKind {
    /// SYN of an active open.
    Syn,
    /// SYN-ACK of a simultaneous open.
    SynAck,
    /// New data. Without bytes: the FIN alone.
    Data,
    /// Retransmission. Without bytes: the FIN alone.
    Retransmit,
    /// Zero-window probe: one byte, or the FIN, beyond the window.
    WindowProbe,
    /// Keepalive probe.
    Keepalive,
    /// ACK or window update.
    Ack,
}

/// A committed segment. Pass it to [`Connection::on_local_loss`](crate::Connection::on_local_loss)
/// if it did not leave the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Reason of the transmission.
    pub kind: IntentKind,
    /// Offset of the first byte.
    pub start: StreamOffset,
    /// Payload length in bytes.
    pub len: u32,
    /// Whether a FIN follows.
    pub fin: bool,
}

impl Sent {
    /// Whether this is a retransmission.
    pub const fn is_retransmit(&self) -> bool {
        matches!(self.kind, IntentKind::Retransmit)
    }
}

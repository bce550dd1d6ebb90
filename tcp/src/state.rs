//! The states of RFC 9293, section 3.3.2.

/// Connection state.
///
/// A [`Connection`](crate::Connection) is never in LISTEN: half-open entries of a listener are
/// [`HalfOpen`](crate::HalfOpen). A connection in TIME-WAIT can be replaced by the much smaller
/// [`TimeWait`](crate::TimeWait).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No connection: over, or refused.
    Closed,
    /// Waiting for a connection request.
    Listen,
    /// Sent a SYN, waiting for the peer's.
    SynSent,
    /// Both sent a SYN, ours is not acknowledged yet.
    SynReceived,
    /// Open: data flows in both directions.
    Established,
    /// We closed; our FIN is not acknowledged yet.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer closed; we may still send.
    CloseWait,
    /// Both closed at once; our FIN is not acknowledged yet.
    Closing,
    /// The peer closed, then we; our FIN is not acknowledged yet.
    LastAck,
    /// Both FINs acknowledged: waits 2 MSL until old segments have left the network.
    TimeWait,
}

impl State {
    /// Whether both SYNs were exchanged and acknowledged (RFC 9293's "synchronized states").
    pub const fn is_synchronized(self) -> bool {
        match self {
            Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived => false,
            Self::Established
            | Self::FinWait1
            | Self::FinWait2
            | Self::CloseWait
            | Self::Closing
            | Self::LastAck
            | Self::TimeWait => true,
        }
    }

    /// Whether payload is processed: the peer's FIN was not yet received in order.
    pub const fn receives_text(self) -> bool {
        match self {
            Self::Established | Self::FinWait1 | Self::FinWait2 => true,
            Self::Closed
            | Self::Listen
            | Self::SynSent
            | Self::SynReceived
            | Self::CloseWait
            | Self::Closing
            | Self::LastAck
            | Self::TimeWait => false,
        }
    }

    /// Whether there may be something to send or to retransmit: data or our FIN.
    pub const fn sends(self) -> bool {
        match self {
            Self::Established
            | Self::CloseWait
            | Self::FinWait1
            | Self::Closing
            | Self::LastAck => true,
            Self::Closed
            | Self::Listen
            | Self::SynSent
            | Self::SynReceived
            | Self::FinWait2
            | Self::TimeWait => false,
        }
    }
}

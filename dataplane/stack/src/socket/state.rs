//! The states of a socket beside TCP's own, one enum for each set of states that exclude each
//! other.

use lockgate_ktls::Alert;
use lockgate_wire::{IfaceId, Instant};

use crate::memory::Missing;

/// Which side opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenedBy {
    /// This side (active open).
    Application,
    /// The peer (passive open).
    Peer,
}

/// Where the keys of a socket come from, and so what handles alerts, handshake messages and key
/// changes. Without keys it means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySource {
    /// The stack's own handshake: the stack does.
    Handshake {
        /// The peer asked for new sending keys. Until the KeyUpdate is queued, nothing is taken
        /// from the application.
        owes_key_update: bool,
    },
    /// The application set them, and handles everything itself.
    Application,
}

impl KeySource {
    /// Whether the peer asked for new sending keys, and the KeyUpdate isn't queued.
    pub(super) fn owes_key_update(self) -> bool {
        match self {
            Self::Handshake { owes_key_update } => owes_key_update,
            Self::Application => false,
        }
    }

    /// Notes whether a KeyUpdate is to be queued.
    pub(super) fn set_owes_key_update(&mut self, owes: bool) {
        if let Self::Handshake { owes_key_update } = self {
            *owes_key_update = owes;
        }
    }
}

/// How far TCP's part has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TcpPhase {
    /// The connection exists.
    Open,
    /// It exists, and is reset in the socket's next turn.
    ResetDue,
    /// It is over. What was received may still be read.
    Over,
}

/// What the application has to do with the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    /// It uses the socket and gets notices.
    Attached {
        /// About received bytes.
        readable: ReadNotice,
        /// Whether it gets a Writable notice once the send queue is below its low-water mark.
        wants_writable: bool,
    },
    /// It has given the socket up: no notice but Closed follows.
    Detached,
}

/// The Readable notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadNotice {
    /// Is queued when something becomes readable.
    Due,
    /// Is queued when a page buffer may be available, or something more becomes readable.
    AwaitsPages,
    /// Was queued, and the application hasn't read everything since.
    Queued,
}

/// The peer's stream, as far as the application has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerStream {
    /// Its end wasn't read.
    Open,
    /// It ended by a FIN, with close_notify before that if there is TLS.
    EndedCleanly,
    /// It ended without the close_notify that TLS requires.
    Truncated,
}

/// How far closing the sending side has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// Not requested.
    Open,
    /// This alert, if there's TLS, and the FIN have still to be queued. The alert needs a buffer:
    /// it is retried until there is one.
    Requested(Option<Alert>),
    /// The FIN stands behind everything that was queued.
    FinQueued,
}

/// How long, and how far into the peer's stream, a closed socket still receives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Linger {
    /// It isn't closed.
    NotStarted,
    Until {
        until: Instant,
        end: u64,
    },
    /// It receives no more.
    Over,
}

/// What the socket's next turn has to consider. Each may be set whatever the others are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pending {
    /// The peer acknowledged something since the last neighbour lookup, so the next hop is
    /// reachable.
    pub(super) reachability_confirmed: bool,
    /// Received records that were opened since the last turn, or [`Pending::READ_LIMITED`].
    pub(super) records_opened: u8,
    /// Records that are being sealed elsewhere.
    pub(super) records_away: u8,
}

impl Pending {
    /// Reading stopped at its share of the turn.
    pub(super) const READ_LIMITED: u8 = u8::MAX;
}

/// How a socket's turn to send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// Everything that may be sent now was sent.
    Done,
    /// Its share of the turn, or the turn itself, is used up, and it may send more.
    TurnOver,
    /// The interface has no room.
    NoRoom(IfaceId),
    /// Memory is missing.
    Starved(Missing),
    /// The neighbour's address is missing.
    Unresolved,
}

//! One neighbour.

use lockgate_wire::{Instant, MacAddr};

use crate::routes::NextHop;

/// What is known about a neighbour (RFC 4861, 7.3.2), or that it didn't answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Everybody is being asked.
    Incomplete {
        /// Questions asked so far.
        sent: u8,
        /// When to ask again.
        next: Instant,
    },
    /// Its address was confirmed not long ago.
    Reachable {
        /// The address.
        mac: MacAddr,
        /// Stale from then on.
        until: Instant,
    },
    /// Its address isn't known to be right, and nobody has used it since.
    Stale {
        /// The address.
        mac: MacAddr,
    },
    /// Its address is used, and may yet be confirmed from above.
    Delay {
        /// The address.
        mac: MacAddr,
        /// When to ask.
        until: Instant,
    },
    /// It's being asked at its address.
    Probe {
        /// The address.
        mac: MacAddr,
        /// Questions asked so far.
        sent: u8,
        /// When to ask again.
        next: Instant,
    },
    /// It didn't answer.
    Failed {
        /// It may be asked again then.
        until: Instant,
    },
}

impl NeighbourState {
    /// The address that packets may be sent to.
    pub const fn mac(&self) -> Option<MacAddr> {
        match *self {
            Self::Reachable { mac, .. }
            | Self::Stale { mac }
            | Self::Delay { mac, .. }
            | Self::Probe { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed { .. } => None,
        }
    }

    /// When there's something to do about it. That REACHABLE ends is found out by looking.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Incomplete { next, .. } | Self::Probe { next, .. } => Some(next),
            Self::Delay { until, .. } => Some(until),
            Self::Failed { until } => Some(until).filter(|t| *t != Instant::ZERO),
            Self::Reachable { .. } | Self::Stale { .. } => None,
        }
    }

    /// Moves what there is to do to a later time.
    pub(super) const fn postpone(&mut self, to: Instant) {
        match self {
            Self::Incomplete { next, .. } | Self::Probe { next, .. } => *next = to,
            Self::Delay { until, .. } | Self::Failed { until } => *until = to,
            Self::Reachable { .. } | Self::Stale { .. } => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct NeighbourEntry {
    pub(super) hop: NextHop,
    pub(super) state: NeighbourState,
    /// When a packet was last to be sent there.
    pub(super) used: Instant,
    pub(super) queue: WaitingSlots,
    pub(super) is_router: bool,
    /// Whether it had an address before.
    pub(super) was_resolved: bool,
}

/// The places of up to three waiting frames, oldest first.
#[derive(Debug, Default)]
pub(super) struct WaitingSlots {
    slots: [Option<u16>; 3],
}

impl WaitingSlots {
    pub(super) fn is_full(&self) -> bool {
        self.slots[2].is_some()
    }

    /// Puts a frame last, where there must be room.
    pub(super) fn push(&mut self, slot: u16) {
        debug_assert!(!self.is_full(), "a full queue's oldest frame goes first");
        if let Some(free) = self.slots.iter_mut().find(|s| s.is_none()) {
            *free = Some(slot);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u16> {
        let oldest = self.slots[0].take();
        self.slots.rotate_left(1);
        oldest
    }

    #[cfg(test)]
    pub(super) fn is_occupied(&self) -> bool {
        self.slots[0].is_some()
    }
}

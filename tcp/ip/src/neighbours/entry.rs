//! One entry of the neighbour table.

use lockgate_wire::{Instant, MacAddr};

use crate::routes::NextHop;

/// The state of a neighbour: those of RFC 4861, 7.3.2, and FAILED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// INCOMPLETE: multicast solicitations are being sent.
    Incomplete {
        /// Solicitations sent so far.
        sent: u8,
        /// When to send the next one.
        next: Instant,
    },
    /// REACHABLE: the address was confirmed recently.
    Reachable {
        /// The link-layer address.
        mac: MacAddr,
        /// The entry is STALE from then on.
        until: Instant,
    },
    /// STALE: the address isn't confirmed, and no packet was sent to it since.
    Stale {
        /// The link-layer address.
        mac: MacAddr,
    },
    /// DELAY: a packet was sent; TCP may confirm the address.
    Delay {
        /// The link-layer address.
        mac: MacAddr,
        /// When to send the first probe.
        until: Instant,
    },
    /// PROBE: unicast solicitations are being sent.
    Probe {
        /// The link-layer address.
        mac: MacAddr,
        /// Solicitations sent so far.
        sent: u8,
        /// When to send the next one.
        next: Instant,
    },
    /// FAILED: the neighbour didn't answer.
    Failed {
        /// End of the hold-down.
        until: Instant,
    },
}

impl NeighbourState {
    /// Returns the address that packets may be sent to.
    pub const fn mac(&self) -> Option<MacAddr> {
        match *self {
            Self::Reachable { mac, .. }
            | Self::Stale { mac }
            | Self::Delay { mac, .. }
            | Self::Probe { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed { .. } => None,
        }
    }

    /// Returns the time of the next state change, except REACHABLE's to STALE, which is checked
    /// when the entry is read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Incomplete { next, .. } | Self::Probe { next, .. } => Some(next),
            Self::Delay { until, .. } => Some(until),
            Self::Failed { until } => Some(until),
            Self::Reachable { .. } | Self::Stale { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct NeighbourEntry {
    pub(super) hop: NextHop,
    pub(super) state: NeighbourState,
    /// When its place in the order of use was last updated.
    pub(super) used: Instant,
    pub(super) queue: WaitingSlots,
    pub(super) is_router: bool,
    /// Whether it was resolved before: tells a change from a first resolution.
    pub(super) was_resolved: bool,
}

/// The slots of up to three waiting frames, oldest first.
#[derive(Debug, Default)]
pub(super) struct WaitingSlots {
    slots: [Option<u16>; 3],
}

impl WaitingSlots {
    pub(super) fn is_full(&self) -> bool {
        self.slots[2].is_some()
    }

    /// Appends a frame. There must be room.
    pub(super) fn push(&mut self, slot: u16) {
        debug_assert!(
            !self.is_full(),
            "the oldest frame of a full queue is removed first"
        );
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

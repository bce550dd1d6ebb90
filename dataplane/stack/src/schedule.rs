//! Which sockets have work, and in which order they get their turns.
//!
//! A list holds indices of sockets, never references. Each socket has one bit for each list
//! ([`Membership`]), so that it is listed once at most. A removed socket stays listed: its index is
//! popped later, and the bit of the socket that has the place by then decides.

use std::collections::VecDeque;

use crate::memory::MissingSet;
use crate::notice::SocketId;

/// The lists that a socket is in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Membership {
    /// In [`Schedule`]'s list of sockets with work.
    pub(crate) ready: bool,
    /// In [`Schedule`]'s list of sockets that wait for neighbour resolution.
    pub(crate) unresolved: bool,
    /// In which queues of [`StarvedSockets`](crate::memory::StarvedSockets).
    pub(crate) starved: MissingSet,
    /// It was woken from these, and has taken no such memory since.
    pub(crate) granted: MissingSet,
}

/// The sockets with work, and the sockets that wait for a neighbour's address.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    ready: VecDeque<u32>,
    unresolved: VecDeque<u32>,
    /// How many at the front of `unresolved` have to look their neighbour up again.
    lookups_due: usize,
}

impl Schedule {
    /// Lists a socket for a turn in `Stack::poll`.
    pub(crate) fn add_ready(&mut self, id: SocketId, lists: &mut Membership) {
        if !core::mem::replace(&mut lists.ready, true) {
            self.ready.push_back(id.index);
        }
    }

    /// Takes the next socket with work. Its `ready` bit is the caller's to test and clear.
    pub(crate) fn pop_ready(&mut self) -> Option<u32> {
        self.ready.pop_front()
    }

    /// The number of entries in the list of sockets with work.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Lists a socket that waits for neighbour resolution. Returns true if it wasn't listed yet.
    pub(crate) fn add_unresolved(&mut self, id: SocketId, lists: &mut Membership) -> bool {
        let is_new = !core::mem::replace(&mut lists.unresolved, true);
        if is_new {
            self.unresolved.push_back(id.index);
        }
        is_new
    }

    /// A neighbour was resolved or became unreachable: every socket that waits now has to look its
    /// neighbour up again.
    pub(crate) fn on_neighbour_event(&mut self) {
        self.lookups_due = self.unresolved.len();
    }

    /// Takes the next socket that has to look its neighbour up again.
    pub(crate) fn pop_lookup(&mut self) -> Option<u32> {
        self.lookups_due = self.lookups_due.checked_sub(1)?;
        self.unresolved.pop_front()
    }

    /// Whether any socket has to look its neighbour up again.
    pub(crate) fn has_lookups(&self) -> bool {
        self.lookups_due > 0
    }
}

/// Sockets that look their neighbours up again in one turn: a station on the link may report
/// another address with every frame, while thousands of sockets wait for it.
pub(crate) const LOOKUPS_PER_TURN: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_each_waiting_socket_look_up_once() {
        let mut schedule = Schedule::default();
        let add = |schedule: &mut Schedule, index| {
            let id = SocketId { index, serial: 0 };
            let mut lists = Membership::default();
            assert!(schedule.add_unresolved(id, &mut lists));
            assert!(!schedule.add_unresolved(id, &mut lists), "it is listed");
        };
        add(&mut schedule, 3);
        add(&mut schedule, 1);
        assert_eq!(schedule.pop_lookup(), None);
        schedule.on_neighbour_event();
        assert_eq!(schedule.pop_lookup(), Some(3));
        // It isn't resolved yet, and waits for the next event.
        add(&mut schedule, 3);
        assert!(schedule.has_lookups());
        assert_eq!(
            (schedule.pop_lookup(), schedule.pop_lookup()),
            (Some(1), None)
        );
        assert!(!schedule.has_lookups());
        // Events that follow each other are one.
        schedule.on_neighbour_event();
        schedule.on_neighbour_event();
        assert_eq!(
            (schedule.pop_lookup(), schedule.pop_lookup()),
            (Some(3), None)
        );
    }
}

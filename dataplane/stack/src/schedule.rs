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
    /// In [`Handshakes`](crate::handshakes::Handshakes)' list of handshakes that can take a step.
    pub(crate) stepping: bool,
}

/// The sockets with work, and the sockets that wait for a neighbour's address.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    ready: VecDeque<u32>,
    unresolved: VecDeque<u32>,
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

    /// Takes the next socket that waits for neighbour resolution.
    pub(crate) fn pop_unresolved(&mut self) -> Option<u32> {
        self.unresolved.pop_front()
    }

    /// The number of entries in the list of sockets that wait for neighbour resolution.
    pub(crate) fn unresolved_len(&self) -> usize {
        self.unresolved.len()
    }
}

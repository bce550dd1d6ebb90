//! The lists that a socket is in, and what it may send before others have their turns.

use crate::memory::MemoryWaits;

/// The lists that a socket is in, and what it may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(super) lists: ListSet,
    /// What memory it waits for.
    pub(crate) memory: MemoryWaits,
    /// What it may send before others have their turns, in units of [`UNIT`]. Negative if it has
    /// sent more.
    pub(super) credit: i16,
}

const _: () = assert!(size_of::<Membership>() == 4);

/// A list of [`Schedule`](super::Schedule), as a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The sockets with work.
    Ready = 1,
    /// The sockets that wait for room of an interface.
    Blocked = 2,
    /// The sockets that wait for neighbour resolution.
    Unresolved = 4,
    /// The sockets that have sent something and have no more to send.
    Resting = 8,
    /// No list: the socket is old.
    Old = 16,
    /// The sockets that are over.
    Finished = 32,
    /// No list: the socket has TLS, and its handshake isn't over or its last flight isn't
    /// acknowledged.
    Flight = 64,
}

/// A set of lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ListSet(u8);

impl ListSet {
    pub(super) fn contains(self, list: List) -> bool {
        self.0 & list as u8 != 0
    }

    /// Returns whether it wasn't in the set.
    pub(super) fn insert(&mut self, list: List) -> bool {
        let is_new = !self.contains(list);
        self.0 |= list as u8;
        is_new
    }

    /// Returns whether it was in the set.
    pub(super) fn remove(&mut self, list: List) -> bool {
        let was_in = self.contains(list);
        self.0 &= !(list as u8);
        was_in
    }
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            lists: ListSet::default(),
            memory: MemoryWaits::default(),
            credit: units(NEW_BYTES),
        }
    }
}

impl Membership {
    /// Which sockets it takes turns with.
    pub(crate) fn class(&self) -> SendClass {
        if self.lists.contains(List::Old) {
            SendClass::Old
        } else {
            SendClass::New
        }
    }

    /// The queue in which it waits for its turn.
    pub(super) fn queue(&self) -> Queue {
        match self.class() {
            SendClass::Old => Queue::Old,
            SendClass::New if self.lists.contains(List::Flight) => Queue::Flights,
            SendClass::New => Queue::New,
        }
    }

    /// Its TLS handshake begins.
    pub(crate) fn begin_handshake(&mut self) {
        self.lists.insert(List::Flight);
    }

    /// The last flight was acknowledged, or the application sends its first data. What is listed
    /// already goes behind new sockets.
    pub(crate) fn end_flights(&mut self) {
        self.lists.remove(List::Flight);
    }

    /// The bytes that it may send now. A new socket stops there, an old one after the packet that
    /// exceeds it.
    pub(crate) fn credit_bytes(&self) -> u32 {
        u32::try_from(self.credit).unwrap_or(0) * UNIT
    }

    /// Takes what was sent from the credit.
    pub(crate) fn charge(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_sub(units(bytes));
    }

    /// It has sent what a new socket may.
    #[cfg(test)]
    pub(crate) fn become_old(&mut self) {
        self.lists.insert(List::Old);
        self.credit = 0;
    }

    /// Whether it is listed for a turn.
    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        self.lists.contains(List::Ready)
    }

    /// Whether it is in a list from which it gets a turn.
    pub(crate) fn is_listed(&self) -> bool {
        self.lists.contains(List::Ready) || self.is_stopped()
    }

    /// Takes it out of the sockets that wait for neighbour resolution. Returns whether it was one.
    pub(crate) fn take_unresolved(&mut self) -> bool {
        self.lists.remove(List::Unresolved)
    }

    /// Takes it out of the sockets that are over. Returns whether it was one.
    pub(crate) fn take_finished(&mut self) -> bool {
        self.lists.remove(List::Finished)
    }

    /// Whether it can't send though it may have something to send.
    pub(super) fn is_stopped(&self) -> bool {
        self.lists.contains(List::Blocked)
            || self.lists.contains(List::Unresolved)
            || self.memory.is_starving()
    }

    pub(super) fn add_quantum(&mut self, quantum: u32) {
        let quantum = units(quantum.max(QUANTUM_MIN));
        self.credit = self.credit.saturating_add(quantum);
    }

    pub(super) fn has_full_credit(&self) -> bool {
        self.class() == SendClass::New && self.credit >= units(NEW_BYTES)
    }

    pub(super) fn become_new(&mut self) {
        self.lists.remove(List::Old);
        self.credit = units(NEW_BYTES);
    }
}

/// Which sockets a socket takes turns with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendClass {
    /// It has sent little.
    New,
    /// It has sent what a new socket may.
    Old,
}

/// The queues of sockets that wait for their turns, first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    /// New sockets with TLS that have sent no application data.
    Flights,
    /// Other new sockets.
    New,
    /// Old sockets.
    Old,
}

impl Queue {
    pub(super) const ALL: [Self; 3] = [Self::Flights, Self::New, Self::Old];
}

/// Converts bytes to units of credit, rounded up.
fn units(bytes: u32) -> i16 {
    i16::try_from(bytes.div_ceil(UNIT)).unwrap_or(i16::MAX)
}

/// The unit of credit, in bytes: a quantum of up to a mebibyte fits.
const UNIT: u32 = 32;
/// Bytes that a new socket may send: an initial window (RFC 6928), or a full record and its
/// overhead.
pub(super) const NEW_BYTES: u32 = 18 * 1024;
/// The least quantum.
const QUANTUM_MIN: u32 = 1024;

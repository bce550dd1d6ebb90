//! Which sockets have work, and in which order they get their turns.
//!
//! A list holds indices of sockets, never references. Each socket has one bit for each list
//! ([`Membership`]), so that it is listed once at most. A removed socket stays listed: its index is
//! popped later, and the bit of the socket that has the place by then decides.
//!
//! # The order
//!
//! Deficit round robin with new and old flows, as in FQ-CoDel (RFC 8290, 4.2):
//!
//! - A socket is *new* until it has sent [`NEW_BYTES`]. New sockets go first: handshake flights,
//!   short responses, acknowledgments, retransmissions of sockets that send little. Then it is
//!   *old*.
//! - Old sockets take turns. A turn adds a quantum
//!   ([`Limits::quantum_bytes`](crate::Limits::quantum_bytes)) to the bytes that a socket may send.
//!   What it sends beyond that counts in its next turn.
//! - A socket that has nothing more to send *rests*: it has a place at the end of the old list. If
//!   it has no work when that place comes up, it is new again, with all of its bytes. So a socket
//!   that always empties its queue sends [`NEW_BYTES`] before each round of the others, at most.
//! - RFC 8290 has a fixed number of queues. Here peers open connections without end, and each is
//!   new. So new sockets together send [`NEW_AHEAD_MAX`] more than old ones at most, while both
//!   have work. After that each class has half.
//! - A socket whose interface has no room waits for that interface, in order, before sockets of its
//!   class that come later. Sockets of other interfaces continue.
//! - A socket whose turn ended because the turn of the worker ended is first in the next one.
//! - While no other socket has work, a socket's turn is extended, and its packets are as large as
//!   the interface takes them.

use std::collections::VecDeque;

use lockgate_wire::IfaceId;

use crate::memory::MemoryWaits;
use crate::notice::SocketId;

/// The lists that a socket is in, and what it may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    lists: ListSet,
    /// What memory it waits for.
    pub(crate) memory: MemoryWaits,
    /// What it may send before others have their turns, in units of [`UNIT`]. Negative if it has
    /// sent more.
    credit: i16,
}

const _: () = assert!(size_of::<Membership>() == 4);

/// A list of [`Schedule`], as a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
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
}

/// A set of lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ListSet(u8);

impl ListSet {
    fn contains(self, list: List) -> bool {
        self.0 & list as u8 != 0
    }

    /// Returns whether it wasn't in the set.
    fn insert(&mut self, list: List) -> bool {
        let is_new = !self.contains(list);
        self.0 |= list as u8;
        is_new
    }

    /// Returns whether it was in the set.
    fn remove(&mut self, list: List) -> bool {
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
    #[cfg(debug_assertions)]
    pub(crate) fn is_listed(&self) -> bool {
        self.lists.contains(List::Ready) || self.is_stopped()
    }

    /// Takes it out of the sockets that wait for neighbour resolution. Returns whether it was one.
    pub(crate) fn take_unresolved(&mut self) -> bool {
        self.lists.remove(List::Unresolved)
    }

    /// Whether it can't send though it may have something to send.
    fn is_stopped(&self) -> bool {
        self.lists.contains(List::Blocked)
            || self.lists.contains(List::Unresolved)
            || self.memory.is_starving()
    }

    fn add_quantum(&mut self, quantum: u32) {
        let quantum = units(quantum.max(QUANTUM_MIN));
        self.credit = self.credit.saturating_add(quantum);
    }

    fn has_full_credit(&self) -> bool {
        self.class() == SendClass::New && self.credit >= units(NEW_BYTES)
    }

    fn become_new(&mut self) {
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

impl SendClass {
    pub(crate) const ALL: [Self; 2] = [Self::New, Self::Old];
}

/// A socket's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) index: u32,
    class: SendClass,
    place: Place,
}

/// What a place in a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Resting,
    Blocked,
}

/// The sockets with work, and the sockets that wait for room or for a neighbour's address.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Sockets with work, and, in the old queue, resting ones.
    queues: [VecDeque<(u32, Place)>; 2],
    /// Entries of resting sockets.
    resting: usize,
    /// Sockets that wait for room, for each interface that had none.
    blocked: Vec<BlockedSockets>,
    /// Bytes that new sockets have sent more than old ones, while both had work.
    new_ahead: u32,
    unresolved: VecDeque<u32>,
    /// How many at the front of `unresolved` have to look their neighbour up again.
    lookups_due: usize,
}

/// Sockets that wait for room of an interface.
#[derive(Debug)]
struct BlockedSockets {
    iface: IfaceId,
    /// The sockets of each class.
    queues: [VecDeque<u32>; 2],
    /// It had no room in this turn of the worker.
    is_full: bool,
}

impl Schedule {
    /// Lists a socket for a turn in `Stack::poll`, behind the others of its class.
    pub(crate) fn add_ready(&mut self, id: SocketId, lists: &mut Membership) {
        if lists.lists.insert(List::Ready) {
            self.queue(lists).push_back((id.index, Place::Ready));
        }
    }

    /// Begins a turn of the worker. `has_room` tells whether an interface has room now.
    pub(crate) fn begin_turn(&mut self, has_room: impl Fn(IfaceId) -> bool) {
        for blocked in &mut self.blocked {
            blocked.is_full = !has_room(blocked.iface);
        }
    }

    /// Takes the next turn. [`Schedule::begin_visit`] tells whether the socket uses it.
    pub(crate) fn next(&mut self) -> Option<Turn> {
        let class = match SendClass::ALL.map(|class| self.has(class)) {
            [false, false] => return None,
            [true, false] => SendClass::New,
            [true, true] if self.new_ahead < NEW_AHEAD_MAX => SendClass::New,
            [_, true] => SendClass::Old,
        };
        let queue = class as usize;
        let with_room = self.blocked.iter_mut().filter(|blocked| !blocked.is_full);
        let blocked = with_room
            .filter_map(|blocked| blocked.queues[queue].pop_front())
            .next();
        let (index, place) = match blocked {
            Some(index) => (index, Place::Blocked),
            None => self.queues[queue].pop_front()?,
        };
        self.resting -= usize::from(place == Place::Resting);
        Some(Turn {
            index,
            class,
            place,
        })
    }

    /// Begins the turn of a socket. Returns false if it has nothing to do.
    pub(crate) fn begin_visit(
        &mut self,
        turn: &Turn,
        lists: &mut Membership,
        quantum: u32,
    ) -> bool {
        match turn.place {
            Place::Resting => {
                // If it has work, it rests again after that.
                if lists.lists.remove(List::Resting)
                    && !lists.lists.contains(List::Ready)
                    && !lists.is_stopped()
                {
                    lists.become_new();
                }
                return false;
            }
            Place::Blocked if !lists.lists.remove(List::Blocked) => return false,
            Place::Blocked => {}
            Place::Ready if !lists.lists.contains(List::Ready) => return false,
            // It was listed as new, and has sent more since, in another turn.
            Place::Ready if turn.class != lists.class() && turn.class == SendClass::New => {
                self.queue(lists).push_back((turn.index, Place::Ready));
                return false;
            }
            Place::Ready => {
                lists.lists.remove(List::Ready);
            }
        }
        if lists.class() == SendClass::Old && lists.credit <= 0 {
            lists.add_quantum(quantum);
        }
        true
    }

    /// Gives a socket that has used its credit another quantum at once, unless another socket has
    /// work. Returns whether it has credit now.
    pub(crate) fn extend_turn(&self, lists: &mut Membership, quantum: u32) -> bool {
        if self.has_ready() {
            return false;
        }
        lists.lists.insert(List::Old);
        lists.add_quantum(quantum);
        lists.credit > 0
    }

    /// Ends the turn of a socket that has sent so many bytes.
    pub(crate) fn end_visit(&mut self, turn: &Turn, lists: &mut Membership, sent: u32) {
        if lists.credit <= 0 {
            lists.lists.insert(List::Old);
        }
        let cost = sent.max(VISIT_COST);
        self.new_ahead = match turn.class {
            SendClass::Old => self.new_ahead.saturating_sub(cost),
            SendClass::New if self.has(SendClass::Old) => self.new_ahead.saturating_add(cost),
            SendClass::New => 0,
        };
    }

    /// A socket has no more to send now. What an old one doesn't use of its turn is lost.
    pub(crate) fn add_resting(&mut self, id: SocketId, lists: &mut Membership) {
        if lists.class() == SendClass::Old {
            lists.credit = lists.credit.min(0);
        }
        if !lists.has_full_credit() && lists.lists.insert(List::Resting) {
            self.queues[SendClass::Old as usize].push_back((id.index, Place::Resting));
            self.resting += 1;
        }
    }

    /// Lists a socket whose turn is over and that may send more: last, or first if the turn ended
    /// because that of the worker did.
    pub(crate) fn add_again(&mut self, id: SocketId, lists: &mut Membership) {
        if lists.lists.insert(List::Ready) {
            let entry = (id.index, Place::Ready);
            let is_first = lists.credit > 0;
            let queue = self.queue(lists);
            if is_first {
                queue.push_front(entry);
            } else {
                queue.push_back(entry);
            }
        }
    }

    /// Lists a socket whose interface has no room. A socket that was listed there stays first.
    pub(crate) fn add_blocked(
        &mut self,
        id: SocketId,
        turn: &Turn,
        iface: IfaceId,
        lists: &mut Membership,
    ) {
        let at = self.blocked.iter().position(|found| found.iface == iface);
        let at = at.unwrap_or_else(|| {
            self.blocked.push(BlockedSockets {
                iface,
                queues: Default::default(),
                is_full: true,
            });
            self.blocked.len() - 1
        });
        let blocked = &mut self.blocked[at];
        blocked.is_full = true;
        if lists.lists.insert(List::Blocked) {
            let queue = &mut blocked.queues[lists.class() as usize];
            if turn.place == Place::Blocked {
                queue.push_front(id.index);
            } else {
                queue.push_back(id.index);
            }
        }
    }

    /// How often [`Schedule::next`] has something, if nothing is added.
    pub(crate) fn turns_due(&self) -> usize {
        SendClass::ALL.iter().map(|class| self.len_of(*class)).sum()
    }

    /// The number of interfaces that had no room in this turn of the worker.
    pub(crate) fn full_interfaces(&self) -> usize {
        self.blocked
            .iter()
            .filter(|blocked| blocked.is_full)
            .count()
    }

    /// Whether any socket with work may have a turn now.
    pub(crate) fn has_ready(&self) -> bool {
        self.turns_due() > self.resting
    }

    /// Whether any socket has work or waits for room.
    pub(crate) fn has_work(&self) -> bool {
        let is_waiting = |blocked: &BlockedSockets| blocked.queues.iter().any(|q| !q.is_empty());
        self.has_ready() || self.blocked.iter().any(is_waiting)
    }

    fn queue(&mut self, lists: &Membership) -> &mut VecDeque<(u32, Place)> {
        &mut self.queues[lists.class() as usize]
    }

    fn has(&self, class: SendClass) -> bool {
        self.len_of(class) > 0
    }

    /// The entries of a class that may have a turn now.
    fn len_of(&self, class: SendClass) -> usize {
        let with_room = self.blocked.iter().filter(|blocked| !blocked.is_full);
        let waiting = with_room.map(|blocked| blocked.queues[class as usize].len());
        self.queues[class as usize].len() + waiting.sum::<usize>()
    }

    /// Lists a socket that waits for neighbour resolution. Returns true if it wasn't listed yet.
    pub(crate) fn add_unresolved(&mut self, id: SocketId, lists: &mut Membership) -> bool {
        let is_new = lists.lists.insert(List::Unresolved);
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

/// Converts bytes to units of credit, rounded up.
fn units(bytes: u32) -> i16 {
    i16::try_from(bytes.div_ceil(UNIT)).unwrap_or(i16::MAX)
}

/// The unit of credit, in bytes: a quantum of up to a mebibyte fits.
const UNIT: u32 = 32;
/// Bytes that a new socket may send: an initial window (RFC 6928), or a full record and its
/// overhead.
const NEW_BYTES: u32 = 18 * 1024;
/// Bytes that new sockets may send more than old ones while both have work.
const NEW_AHEAD_MAX: u32 = 256 * 1024;
/// What a turn counts in which nothing is sent.
const VISIT_COST: u32 = 256;
/// The least quantum.
const QUANTUM_MIN: u32 = 1024;

#[cfg(test)]
mod tests;

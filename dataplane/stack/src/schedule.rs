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
//! - A socket is *new* until it has sent `NEW_BYTES`. New sockets go first: short responses,
//!   acknowledgments, retransmissions of sockets that send little. Then it is *old*.
//! - What a new TLS socket sends before its first application data is a *flight*. Flights go before
//!   everything else: they are short, a signature was spent on most of them, and a handshake waits
//!   for several. Sockets with flights together send [`FLIGHTS_AHEAD_MAX`] more than the others at
//!   most, while both have work. After that they have half.
//! - Old sockets take turns. A turn adds a quantum
//!   ([`Limits::quantum_bytes`](crate::Limits::quantum_bytes)) to the bytes that a socket may send.
//!   What it sends beyond that counts in its next turn.
//! - A socket that has nothing more to send *rests*: it has a place at the end of the old list. If
//!   it has no work when that place comes up, it is new again, with all of its bytes. So a socket
//!   that always empties its queue sends `NEW_BYTES` before each round of the others, at most.
//! - RFC 8290 has a fixed number of queues. Here peers open connections without end, and each is
//!   new. So new sockets together send [`NEW_AHEAD_MAX`] more than old ones at most, while both
//!   have work. After that each class has half.
//! - A socket whose interface has no room waits for that interface, in order, before sockets of its
//!   class that come later. Sockets of other interfaces continue.
//! - A socket whose turn ended because the turn of the worker ended is first in the next one.
//! - While no other socket has work, a socket's turn is extended, and its packets are as large as
//!   the interface takes them.

mod membership;

use std::collections::VecDeque;

use lockgate_wire::IfaceId;

use self::membership::{List, Queue};
pub(crate) use self::membership::{Membership, SendClass};
use crate::notice::SocketId;

/// A socket's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) index: u32,
    queue: Queue,
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
    queues: [VecDeque<(u32, Place)>; Queue::ALL.len()],
    /// Entries of resting sockets.
    resting: usize,
    /// Sockets that wait for room, for each interface that had none.
    blocked: Vec<BlockedSockets>,
    /// Bytes of flights that were sent more than others, while both had work.
    flights_ahead: u32,
    /// Bytes that new sockets have sent more than old ones, while both had work.
    new_ahead: u32,
    /// Sockets that are over. They are removed whatever room the interfaces have.
    finished: VecDeque<u32>,
    unresolved: VecDeque<u32>,
    /// How many at the front of `unresolved` have to look their neighbour up again.
    lookups_due: usize,
}

/// Sockets that wait for room of an interface.
#[derive(Debug)]
struct BlockedSockets {
    iface: IfaceId,
    /// The sockets of each queue.
    queues: [VecDeque<u32>; Queue::ALL.len()],
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

    /// Lists a socket that is over.
    pub(crate) fn add_finished(&mut self, id: SocketId, lists: &mut Membership) {
        if lists.lists.insert(List::Finished) {
            self.finished.push_back(id.index);
        }
    }

    /// Takes the next socket that is over.
    pub(crate) fn pop_finished(&mut self) -> Option<u32> {
        self.finished.pop_front()
    }

    /// Begins a turn of the worker. `has_room` tells whether an interface has room now.
    pub(crate) fn begin_turn(&mut self, has_room: impl Fn(IfaceId) -> bool) {
        for blocked in &mut self.blocked {
            blocked.is_full = !has_room(blocked.iface);
        }
    }

    /// Takes the next turn. [`Schedule::begin_visit`] tells whether the socket uses it.
    pub(crate) fn next(&mut self) -> Option<Turn> {
        let [has_flights, has_new, has_old] = Queue::ALL.map(|queue| self.has(queue));
        let queue = match (has_new, has_old) {
            _ if has_flights && self.flights_ahead < FLIGHTS_AHEAD_MAX => Queue::Flights,
            (false, false) if has_flights => Queue::Flights,
            (false, false) => return None,
            (true, true) if self.new_ahead < NEW_AHEAD_MAX => Queue::New,
            (true, false) => Queue::New,
            (_, true) => Queue::Old,
        };
        let at = queue as usize;
        let with_room = self.blocked.iter_mut().filter(|blocked| !blocked.is_full);
        let blocked = with_room
            .filter_map(|blocked| blocked.queues[at].pop_front())
            .next();
        let (index, place) = match blocked {
            Some(index) => (index, Place::Blocked),
            None => self.queues[at].pop_front()?,
        };
        self.resting -= usize::from(place == Place::Resting);
        Some(Turn {
            index,
            queue,
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
            // It was listed for a flight, or as new, and has more to send since.
            Place::Ready if turn.queue < lists.queue() => {
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
        if turn.queue == Queue::Flights {
            // Resting sockets have no work.
            let has_others = self.has(Queue::New) || self.len_of(Queue::Old) > self.resting;
            let ahead = self.flights_ahead.saturating_add(cost);
            self.flights_ahead = if has_others { ahead } else { 0 };
            return;
        }
        self.flights_ahead = self.flights_ahead.saturating_sub(cost);
        self.new_ahead = match turn.queue {
            Queue::Old => self.new_ahead.saturating_sub(cost),
            Queue::Flights | Queue::New if self.has(Queue::Old) => {
                self.new_ahead.saturating_add(cost)
            }
            Queue::Flights | Queue::New => 0,
        };
    }

    /// A socket has no more to send now. What an old one doesn't use of its turn is lost.
    pub(crate) fn add_resting(&mut self, id: SocketId, lists: &mut Membership) {
        if lists.class() == SendClass::Old {
            lists.credit = lists.credit.min(0);
        }
        if !lists.has_full_credit() && lists.lists.insert(List::Resting) {
            self.queues[Queue::Old as usize].push_back((id.index, Place::Resting));
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
            let queue = &mut blocked.queues[lists.queue() as usize];
            if turn.place == Place::Blocked {
                queue.push_front(id.index);
            } else {
                queue.push_back(id.index);
            }
        }
    }

    /// How often [`Schedule::next`] has something, if nothing is added.
    pub(crate) fn turns_due(&self) -> usize {
        Queue::ALL.iter().map(|queue| self.len_of(*queue)).sum()
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
        self.has_ready() || !self.finished.is_empty() || self.blocked.iter().any(is_waiting)
    }

    fn queue(&mut self, lists: &Membership) -> &mut VecDeque<(u32, Place)> {
        &mut self.queues[lists.queue() as usize]
    }

    fn has(&self, queue: Queue) -> bool {
        self.len_of(queue) > 0
    }

    /// The entries of a queue that may have a turn now.
    fn len_of(&self, queue: Queue) -> usize {
        let with_room = self.blocked.iter().filter(|blocked| !blocked.is_full);
        let waiting = with_room.map(|blocked| blocked.queues[queue as usize].len());
        self.queues[queue as usize].len() + waiting.sum::<usize>()
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

/// Bytes of flights that may be sent more than others while both have work.
const FLIGHTS_AHEAD_MAX: u32 = 64 * 1024;
/// Bytes that new sockets may send more than old ones while both have work.
const NEW_AHEAD_MAX: u32 = 256 * 1024;
/// What a turn counts in which nothing is sent.
const VISIT_COST: u32 = 256;

#[cfg(test)]
mod tests;

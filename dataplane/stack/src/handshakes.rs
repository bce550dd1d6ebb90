//! Which TLS handshakes may begin, and which can take a step.
//!
//! A handshake with state in the TLS library is *active*; there are `active_max` of them at most.
//! One that can't begin queues for admission in order of arrival. The next begins when an active
//! one ends, so nothing overtakes the queue.

use std::collections::VecDeque;

use crate::arrival_order::ArrivalOrder;
use crate::notice::SocketId;
use crate::schedule::Membership;
use crate::slab::SlabKey;
use crate::tls::CIPHERTEXT_MAX;

/// Admission and scheduling of one worker's TLS handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    /// Handshakes that have state in the TLS library.
    active: u32,
    active_max: u32,
    /// Handshakes that can take a step, in order of their turns.
    stepping: VecDeque<u32>,
    /// Handshakes that wait for admission.
    queue: ArrivalOrder,
    /// Memory for one record of a handshake.
    pub(crate) record: Box<[u8]>,
}

impl Handshakes {
    pub(crate) fn new(active_max: u32) -> Self {
        Self {
            active: 0,
            active_max,
            stepping: VecDeque::new(),
            queue: ArrivalOrder::default(),
            record: vec![0; RECORD_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// The number of active handshakes.
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// Whether one more handshake may become active.
    pub(crate) fn has_capacity(&self) -> bool {
        self.active < self.active_max
    }

    /// Whether a handshake that wasn't queued may begin: none that waits is overtaken.
    pub(crate) fn can_admit_unqueued(&self) -> bool {
        self.has_capacity() && self.queue.is_empty()
    }

    /// Whether any handshake can take a step.
    pub(crate) fn has_steps(&self) -> bool {
        !self.stepping.is_empty() || (self.has_capacity() && !self.queue.is_empty())
    }

    /// A handshake has got state in the TLS library.
    pub(crate) fn on_begun(&mut self) {
        self.active += 1;
    }

    /// An active handshake has given up its state in the TLS library.
    pub(crate) fn on_ended(&mut self) {
        self.active -= 1;
    }

    /// Lists a socket whose handshake can take a step.
    pub(crate) fn add_stepping(&mut self, id: SocketId, lists: &mut Membership) {
        if !core::mem::replace(&mut lists.stepping, true) {
            self.stepping.push_back(id.index);
        }
    }

    /// Takes the next socket whose handshake can take a step. Its `stepping` bit is the caller's to
    /// test and clear.
    pub(crate) fn pop_stepping(&mut self) -> Option<u32> {
        self.stepping.pop_front()
    }

    /// Queues a socket for admission.
    pub(crate) fn enqueue(&mut self, id: SocketId, lists: &mut Membership) {
        if !core::mem::replace(&mut lists.awaiting_admission, true) {
            self.queue.push(id.into());
        }
    }

    /// Takes the socket that has waited longest for admission, if one more handshake may become
    /// active. `is_live` tells whether a socket still exists. The `awaiting_admission` bit is the
    /// caller's to clear.
    pub(crate) fn pop_admitted(&mut self, is_live: impl Fn(SlabKey) -> bool) -> Option<u32> {
        while self.has_capacity() {
            let key = self.queue.pop()?;
            if is_live(key) {
                return Some(key.index);
            }
            self.queue.discard_tombstone();
        }
        None
    }

    /// A socket that waited for admission was removed from its table.
    pub(crate) fn on_removed(&mut self, is_live: impl Fn(SlabKey) -> bool) {
        self.queue.on_removed(is_live);
    }
}

/// The longest record, header included.
pub(crate) const RECORD_BYTES_MAX: usize = lockgate_ktls::HEADER_LEN + CIPHERTEXT_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> SocketId {
        SocketId {
            index,
            generation: 0,
        }
    }

    #[test]
    fn handshakes_are_admitted_in_order_of_arrival_up_to_the_limit() {
        let mut handshakes = Handshakes::new(1);
        let mut lists = [Membership::default(); 3];
        assert!(handshakes.can_admit_unqueued());
        handshakes.on_begun();
        assert!(!handshakes.has_capacity());
        for (index, lists) in (0..).zip(&mut lists) {
            handshakes.enqueue(id(index), lists);
            handshakes.enqueue(id(index), lists);
            assert!(lists.awaiting_admission);
        }
        assert!(!handshakes.has_steps(), "the only place is taken");
        assert_eq!(handshakes.pop_admitted(|_| true), None);

        handshakes.on_ended();
        assert!(handshakes.has_steps() && !handshakes.can_admit_unqueued());
        // The first is gone.
        let is_live = |key: SlabKey| key.index != 0;
        handshakes.on_removed(is_live);
        assert_eq!(handshakes.pop_admitted(is_live), Some(1));
        handshakes.on_begun();
        assert_eq!(handshakes.pop_admitted(is_live), None);
        handshakes.on_ended();
        assert_eq!(handshakes.pop_admitted(is_live), Some(2));
        assert_eq!(handshakes.pop_admitted(is_live), None);
        assert!(handshakes.can_admit_unqueued() && !handshakes.has_steps());
        assert_eq!(handshakes.active(), 0);
    }
}

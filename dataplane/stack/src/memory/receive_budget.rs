//! The receive budget: what received and unread bytes of all sockets may pin together.

use crate::handshakes::RECORD_BYTES_MAX;

/// The receive budget of one worker.
///
/// Invariant: `pinned_bytes` is the sum of what every socket reported last by
/// [`ReceiveBudget::update`].
///
/// With `max` the budget, a payload is accepted while less than
/// - `max` is pinned, if the payload is in order;
/// - `max / 2` is pinned, if it is out of order: it can't be read yet.
///
/// Above that, a payload in order is still accepted, so that peers who send beginnings of records,
/// or requests behind responses that they don't read, can't keep out the packets of others:
/// - by an established socket that has nothing to be read. Most requests fit one segment and are
///   read before the turn is over. A socket whose payload is still unread then is reset;
/// - by a handshake, which copies it out of its packet buffers at once. What it holds then counts
///   in the memory for handshakes, and one that has [`FLIGHT_BYTES_MAX`] takes no more.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    pinned_bytes: u64,
    bytes_max: u64,
}

/// Whether a socket may take a received payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadAdmission {
    /// The budget covers it.
    Accept,
    /// The budget is used up. The socket takes it if it gets rid of it within its turn.
    AcceptOverBudget,
    /// The segment is dropped. TCP at the peer retransmits it.
    Refuse,
}

impl ReceiveBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            pinned_bytes: 0,
            bytes_max,
        }
    }

    /// Replaces a socket's share of the sum.
    pub(crate) fn update(&mut self, before: u32, now: u32) {
        self.pinned_bytes = self.pinned_bytes - u64::from(before) + u64::from(now);
    }

    /// Whether more is pinned than the budget.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.pinned_bytes > self.bytes_max
    }

    /// Whether the budget covers one more payload of any socket.
    pub(crate) fn covers(&self, is_in_order: bool) -> bool {
        let limit = if is_in_order {
            self.bytes_max
        } else {
            self.bytes_max / 2
        };
        self.pinned_bytes < limit
    }

    /// Applies the budget to a payload of a handshake that has `buffered` bytes in order.
    pub(crate) fn admit_handshake(&self, is_in_order: bool, buffered: u64) -> PayloadAdmission {
        let is_admitted = if is_in_order {
            buffered < FLIGHT_BYTES_MAX
        } else {
            self.covers(false)
        };
        if is_admitted {
            PayloadAdmission::Accept
        } else {
            PayloadAdmission::Refuse
        }
    }

    /// Applies the budget to a payload of an established socket.
    pub(crate) fn admit(&self, is_in_order: bool, is_readable: bool) -> PayloadAdmission {
        if self.covers(is_in_order) {
            PayloadAdmission::Accept
        } else if is_in_order && !is_readable {
            PayloadAdmission::AcceptOverBudget
        } else {
            PayloadAdmission::Refuse
        }
    }
}

/// Received bytes that a handshake may hold, whose next step is due: a record is complete long
/// before.
const FLIGHT_BYTES_MAX: u64 = 2 * RECORD_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(pinned: u32) -> ReceiveBudget {
        let mut budget = ReceiveBudget::new(1000);
        budget.update(0, pinned);
        budget
    }

    /// The rules of [`ReceiveBudget`], each at its border.
    #[test]
    fn the_receive_budget_is_applied_at_its_borders() {
        use PayloadAdmission::{Accept, AcceptOverBudget, Refuse};
        // (pinned, in order, readable) -> an established socket's admission.
        for (pinned, in_order, readable, expected) in [
            (999, true, true, Accept),
            (1000, true, false, AcceptOverBudget),
            (1000, true, true, Refuse),
            (499, false, true, Accept),
            (500, false, false, Refuse),
            (500, true, true, Accept),
            (9999, true, false, AcceptOverBudget),
        ] {
            let found = budget(pinned).admit(in_order, readable);
            assert_eq!(found, expected, "{pinned} {in_order} {readable}");
        }
        // (pinned, in order, buffered) -> a handshake's admission.
        for (pinned, in_order, buffered, expected) in [
            (999, true, 0, Accept),
            (9999, true, FLIGHT_BYTES_MAX - 1, Accept),
            (0, true, FLIGHT_BYTES_MAX, Refuse),
            (499, false, FLIGHT_BYTES_MAX, Accept),
            (500, false, 0, Refuse),
        ] {
            let found = budget(pinned).admit_handshake(in_order, buffered);
            assert_eq!(found, expected, "{pinned} {in_order} {buffered}");
        }
    }

    #[test]
    fn the_sum_follows_each_sockets_share() {
        let mut budget = ReceiveBudget::new(1000);
        budget.update(0, 700);
        budget.update(0, 301);
        assert!(budget.is_exceeded());
        budget.update(700, 699);
        assert!(!budget.is_exceeded(), "the budget itself may be used up");
        assert!(!budget.covers(true));
        budget.update(699, 0);
        budget.update(301, 0);
        assert!(budget.covers(false));
        assert_eq!(budget.pinned_bytes, 0);
    }
}

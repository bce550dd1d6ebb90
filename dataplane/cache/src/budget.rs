//! A client's budget of requests: a share for each root.

use std::collections::VecDeque;

use crate::key::RootId;
use crate::request::{Ticket, Token};
use crate::share::may_take;

/// The outstanding requests of a client, and its requests that have to wait before they are sent.
///
/// A root may have as many outstanding as are free, or one: a root that answers nothing keeps a
/// half of them, the next such root a half of the remainder, and so on. What it has no room for
/// waits in its own queue, in order, so that roots which answer aren't behind it.
pub(crate) struct RequestBudget {
    max: u32,
    outstanding: u32,
    roots: Box<[RootRequests]>,
    starved: u32,
    /// The roots with waiting requests, in the order in which they are served.
    starved_roots: VecDeque<RootId>,
}

#[derive(Default)]
struct RootRequests {
    outstanding: u32,
    starved: VecDeque<(Token, Ticket)>,
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client has as many outstanding as it may.
    Client,
    /// The root has its share of them.
    Root,
}

impl RequestBudget {
    pub(crate) fn new(max: u16, roots: usize) -> Self {
        Self {
            max: u32::from(max),
            outstanding: 0,
            roots: (0..roots).map(|_| RootRequests::default()).collect(),
            starved: 0,
            starved_roots: VecDeque::new(),
        }
    }

    /// The most requests that can be outstanding at a time.
    pub(crate) fn outstanding_max(max: u16, roots: usize) -> usize {
        usize::from(max) + roots
    }

    /// Counts a request as outstanding, if its root may have one more.
    pub(crate) fn try_take(&mut self, root: RootId) -> Result<(), Refusal> {
        self.check(root)?;
        if let Some(requests) = self.roots.get_mut(root.index()) {
            requests.outstanding += 1;
            self.outstanding += 1;
        }
        Ok(())
    }

    /// Notes that a request was answered.
    pub(crate) fn on_answer(&mut self, root: RootId) {
        if let Some(requests) = self.roots.get_mut(root.index()) {
            debug_assert!(requests.outstanding > 0, "an answer without a request");
            requests.outstanding = requests.outstanding.saturating_sub(1);
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }

    /// Has a request wait. Returns false if the oldest one of its root was dropped for it.
    pub(crate) fn starve(&mut self, root: RootId, token: Token, ticket: Ticket) -> bool {
        let Some(requests) = self.roots.get_mut(root.index()) else {
            return false;
        };
        if requests.starved.is_empty() {
            self.starved_roots.push_back(root);
        }
        let used = u32::try_from(requests.starved.len()).unwrap_or(u32::MAX);
        let has_room = may_take(used, STARVED_MAX.saturating_sub(self.starved), 1);
        if !has_room {
            // It has most likely timed out; if not, HTTP's own time-out answers it.
            requests.starved.pop_front();
            self.starved -= 1;
        }
        requests.starved.push_back((token, ticket));
        self.starved += 1;
        has_room
    }

    /// Takes a waiting request whose root may have one more outstanding now. Roots are served in
    /// turn; a few are looked at.
    pub(crate) fn next_starved(&mut self) -> Option<(RootId, Token, Ticket)> {
        for _ in 0..self.starved_roots.len().min(ROOTS_STEP) {
            let root = self.starved_roots.pop_front()?;
            let may_send = self.check(root).is_ok();
            let requests = self.roots.get_mut(root.index())?;
            let next = if may_send {
                requests.starved.pop_front()
            } else {
                None
            };
            if !requests.starved.is_empty() {
                self.starved_roots.push_back(root);
            }
            if let Some((token, ticket)) = next {
                self.starved -= 1;
                return Some((root, token, ticket));
            }
        }
        None
    }

    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(crate) fn starved(&self) -> u32 {
        self.starved
    }

    fn check(&self, root: RootId) -> Result<(), Refusal> {
        let used = self
            .roots
            .get(root.index())
            .map_or(0, |requests| requests.outstanding);
        let free = self.max.saturating_sub(self.outstanding);
        // A single root has all of them.
        let share = if self.roots.len() == 1 { u32::MAX } else { 1 };
        if may_take(used, free, share) {
            Ok(())
        } else if free == 0 {
            Err(Refusal::Client)
        } else {
            Err(Refusal::Root)
        }
    }
}

/// Requests that wait in a client. Those of closed connections stay until their turn.
const STARVED_MAX: u32 = 65_536;

/// Roots that are looked at for a waiting request in one step.
const ROOTS_STEP: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn root(at: u16) -> RootId {
        RootId::new(at)
    }

    #[test]
    fn a_root_that_answers_nothing_leaves_room_for_the_others() {
        let mut budget = RequestBudget::new(1_024, 3);
        let mut take = |at| {
            let mut taken = 0;
            while budget.try_take(root(at)).is_ok() {
                taken += 1;
            }
            taken
        };
        assert_eq!([take(0), take(1), take(2)], [512, 256, 128]);
        assert_eq!(budget.try_take(root(0)), Err(Refusal::Root));
        assert_eq!(budget.outstanding(), 896);
        // The third one is answered, and always has room for as many again.
        for _ in 0..10_000 {
            budget.on_answer(root(2));
            assert_eq!(budget.try_take(root(2)), Ok(()));
        }
        let mut alone = RequestBudget::new(8, 1);
        for _ in 0..8 {
            assert_eq!(alone.try_take(root(0)), Ok(()));
        }
        assert_eq!(alone.try_take(root(0)), Err(Refusal::Client));
    }

    #[test]
    fn waiting_requests_are_sent_in_the_order_of_their_root_and_roots_in_turn() {
        let mut budget = RequestBudget::new(4, 2);
        for at in [0, 0, 1] {
            assert_eq!(budget.try_take(root(at)), Ok(()));
        }
        for ticket in 0..3 {
            assert!(budget.starve(root(0), Token(7), Ticket(ticket)));
            assert!(budget.starve(root(1), Token(8), Ticket(10 + ticket)));
        }
        // Root 0 has its share; root 1 hasn't, once its request was answered.
        assert_eq!(budget.next_starved(), None);
        budget.on_answer(root(1));
        assert_eq!(budget.next_starved(), Some((root(1), Token(8), Ticket(10))));
        assert_eq!(budget.try_take(root(1)), Ok(()));
        assert_eq!(budget.next_starved(), None);
        budget.on_answer(root(0));
        budget.on_answer(root(0));
        let order: Vec<_> = std::iter::from_fn(|| budget.next_starved())
            .map(|(_, _, ticket)| ticket.0)
            .collect();
        assert_eq!(order, [0, 11, 1, 12, 2]);
        assert_eq!(budget.starved(), 0);
    }

    #[test]
    fn a_root_that_answers_nothing_drops_its_own_oldest_waiting_requests() {
        let mut budget = RequestBudget::new(2, 2);
        assert_eq!(budget.try_take(root(0)), Ok(()));
        let dropped = (0..100_000)
            .filter(|ticket| !budget.starve(root(0), Token(0), Ticket(*ticket)))
            .count();
        assert_eq!(dropped, 100_000 - STARVED_MAX as usize / 2);
        assert!(
            budget.starve(root(1), Token(1), Ticket(7)),
            "another's is kept"
        );
        assert_eq!(budget.next_starved(), Some((root(1), Token(1), Ticket(7))));
        budget.on_answer(root(0));
        let oldest = 100_000 - STARVED_MAX / 2;
        assert_eq!(
            budget.next_starved(),
            Some((root(0), Token(0), Ticket(oldest)))
        );
    }
}

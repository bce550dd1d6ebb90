//! The deadlines of entries.
//!
//! An entry waits in the list of its kind of deadline. All deadlines of a kind are equally long, so
//! that each list is in order of deadline, and whatever the table holds, finding the next deadline
//! takes a constant number of steps.

use lockgate_wire::Instant;

use super::entry::{NeighbourEntry, NeighbourState};
use super::lists::EntryLists;

#[derive(Debug)]
pub(super) struct NeighbourTimers(EntryLists<5>);

impl NeighbourTimers {
    pub(super) fn new(entries_max: usize) -> Self {
        Self(EntryLists::new(entries_max))
    }

    /// Arms an entry's deadline for the state that it changes to.
    pub(super) fn arm(&mut self, at: usize, state: &NeighbourState) {
        match state {
            NeighbourState::Incomplete { sent: 0, .. } => self.0.push(DUE, at),
            NeighbourState::Incomplete { .. } | NeighbourState::Probe { .. } => {
                self.0.push(RETRANSMIT, at);
            }
            NeighbourState::Delay { .. } => self.0.push(DELAY, at),
            NeighbourState::Failed { .. } => self.0.push(HOLD_DOWN, at),
            NeighbourState::Reachable { .. } | NeighbourState::Stale { .. } => self.0.remove(at),
        }
    }

    pub(super) fn disarm(&mut self, at: usize) {
        self.0.remove(at);
    }

    /// Queues an entry for a token of the rate limit of solicitations.
    pub(super) fn limit(&mut self, at: usize) {
        self.0.push(LIMITED, at);
    }

    /// Returns the entry that has waited for a token for longest.
    pub(super) fn first_limited(&self) -> Option<usize> {
        self.0.first(LIMITED)
    }

    /// Returns an entry whose deadline has passed, of those that don't wait for a token.
    pub(super) fn expired(&self, now: Instant, entries: &[NeighbourEntry]) -> Option<usize> {
        let firsts = DEADLINES.into_iter().filter_map(|list| self.0.first(list));
        let mut expired = firsts.filter(|at| deadline_of(entries, *at) <= now);
        expired.next()
    }

    /// Returns the first deadline of the entries that don't wait for a token.
    pub(super) fn first_deadline(&self, entries: &[NeighbourEntry]) -> Option<Instant> {
        let firsts = DEADLINES.into_iter().filter_map(|list| self.0.first(list));
        firsts.map(|at| deadline_of(entries, at)).min()
    }

    #[cfg(test)]
    pub(super) fn is_armed(&self, at: usize) -> bool {
        self.0.list_of(at).is_some()
    }
}

fn deadline_of(entries: &[NeighbourEntry], at: usize) -> Instant {
    let entry = entries.get(at);
    let deadline = entry.and_then(|entry| entry.state.deadline());
    deadline.unwrap_or(Instant::ZERO)
}

/// New entries: solicited at once.
const DUE: usize = 0;
const RETRANSMIT: usize = 1;
const DELAY: usize = 2;
const HOLD_DOWN: usize = 3;
/// Due, but above the rate limit of solicitations.
const LIMITED: usize = 4;
const DEADLINES: [usize; 4] = [DUE, RETRANSMIT, DELAY, HOLD_DOWN];

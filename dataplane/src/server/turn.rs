//! How much of a worker's turn each connection may use.

use super::Server;

/// The requests that the connections of a worker may begin in one turn.
///
/// A connection may begin an eighth of the remaining requests, between 1 and [`REQUESTS_MAX`]. This
/// bounds the length of a turn whatever the number of connections with pipelined requests, so
/// received packets and handshakes don't wait. A connection with an event always begins one
/// request.
#[derive(Debug)]
pub(super) struct TurnBudget {
    requests_left: u32,
}

/// What is left of a connection's share in one call.
#[derive(Debug)]
pub(super) struct CallBudget {
    pub(super) requests: u32,
    /// Bytes of responses.
    pub(super) bytes: u32,
    granted: u32,
}

impl Server {
    /// Begins a turn of the worker: renews the requests that its connections share.
    pub fn begin_turn(&mut self) {
        self.turn.begin();
    }

    /// Begins the part of a turn that continues connections whose last outcome was
    /// [`DriveOutcome::Again`](super::DriveOutcome::Again). Some requests are left for it in any
    /// case.
    pub fn begin_resumption(&mut self) {
        self.turn.begin_resumption();
    }

    /// Whether connections that wait for their share may be continued in this turn.
    pub fn has_requests_left(&self) -> bool {
        self.turn.has_requests()
    }
}

impl TurnBudget {
    pub(super) const fn new() -> Self {
        Self {
            requests_left: REQUESTS_PER_TURN,
        }
    }

    /// Begins a turn.
    pub(super) fn begin(&mut self) {
        *self = Self::new();
    }

    /// Begins the part of a turn that resumes connections which have used up their share.
    pub(super) fn begin_resumption(&mut self) {
        self.requests_left = self.requests_left.max(REQUESTS_RESUMED_MIN);
    }

    /// Whether a connection may be resumed.
    pub(super) fn has_requests(&self) -> bool {
        self.requests_left > 0
    }

    /// Returns the share of a connection.
    pub(super) fn grant(&self) -> CallBudget {
        let granted = (self.requests_left / SHARE_DIVISOR).clamp(1, REQUESTS_MAX);
        CallBudget {
            requests: granted,
            bytes: BYTES_MAX,
            granted,
        }
    }

    /// Takes what a connection has used. A call that began no request counts as one.
    pub(super) fn settle(&mut self, budget: &CallBudget) {
        let used = budget.granted - budget.requests;
        self.requests_left = self.requests_left.saturating_sub(used.max(1));
    }
}

/// A third of a millisecond.
const REQUESTS_PER_TURN: u32 = 256;
/// What is left of a turn for connections that have used up their share, at least.
const REQUESTS_RESUMED_MIN: u32 = 64;
const SHARE_DIVISOR: u32 = 8;
/// Requests that one connection may begin in one call.
pub(super) const REQUESTS_MAX: u32 = 32;
/// Bytes of responses that one connection may queue in one call.
const BYTES_MAX: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves a connection with more requests than it may begin. Returns how many it began.
    fn serve(turn: &mut TurnBudget) -> u32 {
        let mut budget = turn.grant();
        let begun = core::mem::take(&mut budget.requests);
        turn.settle(&budget);
        begun
    }

    /// However many connections have requests, a turn begins little more than one for each.
    #[test]
    fn a_share_is_an_eighth_of_what_is_left() {
        let mut turn = TurnBudget::new();
        let begun: Vec<u32> = (0..1000).map(|_| serve(&mut turn)).collect();
        assert_eq!(begun[..5], [32, 28, 24, 21, 18]);
        assert_eq!(begun.last(), Some(&1));
        assert!(begun.iter().sum::<u32>() <= REQUESTS_PER_TURN + 1000);
        assert!(!turn.has_requests());
        turn.begin();
        assert_eq!(serve(&mut turn), 32);
    }

    #[test]
    fn connections_that_wait_for_their_share_have_some_in_every_turn() {
        let mut turn = TurnBudget::new();
        while turn.has_requests() {
            serve(&mut turn);
        }
        turn.begin_resumption();
        let mut resumed = 0;
        while turn.has_requests() {
            assert!(serve(&mut turn) > 0);
            resumed += 1;
        }
        assert!((8..=64).contains(&resumed), "{resumed}");
        // Events without a request use the turn up, too.
        turn.begin();
        for _ in 0..REQUESTS_PER_TURN {
            let budget = turn.grant();
            turn.settle(&budget);
        }
        assert!(!turn.has_requests());
    }
}

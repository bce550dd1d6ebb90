//! A pool of threads without threads: records are sealed and opened later, in a random order of
//! connections.

use std::cell::Cell;
use std::collections::VecDeque;

use lockgate_ktls::{Away, BackendChoice, Ciphers, CryptoError, Jobs, SessionId, Work};
use lockgate_testing::Random;

std::thread_local! {
    static FAILURE: Cell<Option<CryptoError>> = const { Cell::new(None) };
    static IS_DEAD: Cell<bool> = const { Cell::new(false) };
}

/// The pools of this thread take nothing more, and give back what they have as it is.
pub(crate) fn die() {
    IS_DEAD.set(true);
}

/// The first record that any pool of this thread runs next fails.
pub(crate) fn fail_next(error: CryptoError) {
    FAILURE.set(Some(error));
}

/// See the [module](self).
pub(crate) struct LatePool {
    /// Work by queue, each in order.
    queues: Vec<VecDeque<Work>>,
    /// Records that a queue takes.
    room: usize,
    ciphers: Ciphers,
    random: Random,
    /// Polls in a row that returned nothing though there was work.
    late: u32,
}

impl LatePool {
    /// A pool of two queues that take `room` records each.
    pub(crate) fn new(room: usize, seed: u64) -> Self {
        Self {
            queues: (0..2).map(|_| VecDeque::new()).collect(),
            room,
            ciphers: Ciphers::new(BackendChoice::Auto, 8),
            random: Random::new(seed),
            late: 0,
        }
    }

    fn records(queue: &VecDeque<Work>) -> usize {
        queue.iter().map(Work::records).sum()
    }
}

impl Away for LatePool {
    fn room(&self, flow: u32) -> usize {
        if IS_DEAD.get() {
            return 0;
        }
        let queue = &self.queues[flow as usize % self.queues.len()];
        self.room.saturating_sub(Self::records(queue))
    }

    fn submit(&mut self, flow: u32, work: Work) -> Result<(), Work> {
        assert!(
            work.records() <= self.room(flow),
            "more than there is room for"
        );
        let at = flow as usize % self.queues.len();
        self.queues[at].push_back(work);
        Ok(())
    }

    fn poll(&mut self) -> Option<Work> {
        let waiting = self.queues.iter().any(|queue| !queue.is_empty());
        if !waiting || (self.late < 3 && self.random.chance(400, 1000)) {
            self.late += u32::from(waiting);
            return None;
        }
        self.late = 0;
        let first = usize::try_from(self.random.below(2)).unwrap();
        let mut work = match self.queues[first].pop_front() {
            Some(work) => work,
            None => self.queues[1 - first].pop_front()?,
        };
        if IS_DEAD.get() {
            return Some(work);
        }
        match (FAILURE.take(), &mut work.jobs) {
            (None, _) => work.run(&mut self.ciphers),
            (Some(error), Jobs::Seal(jobs)) => _ = jobs[0].set_result(Err(error)),
            (Some(error), Jobs::Open(job)) => _ = job.set_result(Err(error)),
        }
        Some(work)
    }

    fn in_flight(&self) -> usize {
        self.queues.iter().map(Self::records).sum()
    }

    fn forget(&mut self, id: SessionId) {
        self.ciphers.forget(id);
    }
}

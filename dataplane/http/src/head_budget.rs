//! The memory of the heads of all requests.

/// The budget of the memory that long heads take, over all connections of a worker.
///
/// A head of [`ORDINARY_BYTES`] is always taken: what it needs is bounded by the number of
/// connections. The part of a head beyond that counts here. A head may be as long as a quarter of
/// what is free, as switches share buffers between queues (Choudhury and Hahne, 1998). A longer
/// head is refused with 503. So peers that never end their long heads leave room for the next one.
///
/// A head's memory is given back when the first byte of its response is sent.
#[derive(Debug)]
pub(crate) struct HeadBudget {
    used: u64,
    max: u64,
}

impl HeadBudget {
    pub(crate) const fn new(max: u64) -> Self {
        Self { used: 0, max }
    }

    /// The longest head that may be collected now.
    pub(crate) fn share(&self) -> usize {
        let free = self.max.saturating_sub(self.used);
        usize::try_from(free / FREE_DIVISOR)
            .unwrap_or(usize::MAX)
            .max(ORDINARY_BYTES)
    }

    /// Replaces what a request takes beyond an ordinary one.
    pub(crate) fn update(&mut self, before: u64, now: u64) {
        self.used = self.used - before + now;
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }
}

/// What a head's memory shrinks to between requests.
pub(crate) const ORDINARY_BYTES: usize = 1_024;
const FREE_DIVISOR: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// However many peers collect the longest head that they may, the next one may have one of a
    /// quarter of what is left, and an ordinary one in any case.
    #[test]
    fn a_share_is_a_quarter_of_what_is_free_or_an_ordinary_head() {
        let long_bytes = |head: usize| (head - ORDINARY_BYTES) as u64;
        let mut budget = HeadBudget::new(64 * 1024);
        let mut shares = Vec::new();
        for _ in 0..100 {
            let share = budget.share();
            shares.push(share);
            budget.update(0, long_bytes(share));
        }
        assert_eq!(shares[0], 16 * 1024);
        assert!(shares[1] > 12 * 1024 && shares.is_sorted_by(|a, b| a >= b));
        assert_eq!(shares.last(), Some(&ORDINARY_BYTES));
        assert!(budget.used() < 64 * 1024);
        for share in shares {
            budget.update(long_bytes(share), 0);
        }
        assert_eq!((budget.used(), budget.share()), (0, 16 * 1024));
    }
}

//! One page buffer that sending leaves to receiving.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use pktbuf::{LARGE_CAPACITY, PageBuf, PagePool};

/// A page buffer kept back for opening a received record.
///
/// Without it two hosts can wait for each other forever: both pools are full of what each has to
/// send, and neither host can read an acknowledgment's record for want of a buffer.
///
/// Rules:
/// - nothing is taken from the pool for sending before the reserve is filled, or while a record has
///   its page buffer;
/// - a reader gets the page buffer itself. In the pool it would be part of what is kept for
///   sealing, or another socket's;
/// - while a record has it, there is no other. Otherwise applications that keep their records,
///   because a peer has pipelined requests, could hold all that is kept for sealing.
#[derive(Debug, Default)]
pub(crate) struct SendReserve {
    page: Option<PageBuf>,
    is_lent: Arc<AtomicBool>,
}

/// Ends, when dropped, the time in which a record has the reserve's page buffer.
#[derive(Debug)]
pub(crate) struct ReserveLoan(Arc<AtomicBool>);

impl SendReserve {
    /// Fills the reserve from the pool, unless it is filled or lent. Returns whether more may be
    /// taken from the pool for sending.
    pub(crate) fn fill(&mut self, pages: &mut PagePool) -> bool {
        let is_lent = self.is_lent.load(Ordering::Relaxed);
        if self.page.is_none() && !is_lent {
            self.page = pages.alloc(LARGE_CAPACITY);
        }
        self.page.is_some() || is_lent
    }

    /// Runs `read`, which may take the page buffer for a record. The loan belongs to that record.
    pub(crate) fn lend<R>(
        &mut self,
        pages: &mut PagePool,
        read: impl FnOnce(&mut PagePool, &mut Option<PageBuf>) -> R,
    ) -> (R, Option<ReserveLoan>) {
        self.fill(pages);
        let was_filled = self.page.is_some();
        let result = read(pages, &mut self.page);
        let loan = (was_filled && self.page.is_none()).then(|| {
            self.is_lent.store(true, Ordering::Relaxed);
            ReserveLoan(Arc::clone(&self.is_lent))
        });
        (result, loan)
    }

    /// Whether there is a page buffer for a reader.
    pub(crate) fn is_filled(&self) -> bool {
        self.page.is_some()
    }

    /// Returns the reserve to the pool, because no socket is left.
    pub(crate) fn release(&mut self) {
        self.page = None;
    }
}

impl Drop for ReserveLoan {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use pktbuf::{PoolConfig, Region};

    use super::*;

    #[test]
    fn the_reserve_is_lent_once_and_filled_again() {
        let config = PoolConfig {
            blocks: 4,
            small_spans: 0,
            large_spans: 3,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
        let mut pages = PagePool::new(&mut region, config).unwrap();
        let mut reserve = SendReserve::default();
        let used = |pages: &PagePool| pages.usage().large_spans_used;

        let (page, loan) = reserve.lend(&mut pages, |_, page| page.is_some());
        assert!(page && loan.is_none(), "it wasn't taken");
        let (page, loan) = reserve.lend(&mut pages, |_, page| page.take());
        assert!(page.is_some() && loan.is_some());
        for _ in 0..3 {
            assert!(reserve.fill(&mut pages), "sending continues");
            let (another, loan) = reserve.lend(&mut pages, |_, page| page.take());
            assert!(another.is_none() && loan.is_none());
        }
        assert_eq!(used(&pages), 1);

        drop((page, loan));
        assert_eq!(used(&pages), 0);
        let sent = [(); 3].map(|()| pages.alloc(LARGE_CAPACITY).unwrap());
        assert!(!reserve.fill(&mut pages), "nothing is left for sending");
        drop(sent);
        assert!(reserve.fill(&mut pages));
        assert_eq!(used(&pages), 1);
        reserve.release();
        assert_eq!(used(&pages), 0);
    }
}

//! One page buffer that sending leaves to receiving.

use pktbuf::{LARGE_CAPACITY, PageBuf, PagePool};

/// A page buffer kept back for opening a received record.
///
/// Without it two hosts can wait for each other forever: both pools are full of what each has to
/// send, and neither host can read an acknowledgment's record for want of a buffer.
///
/// Rule: nothing is taken from the pool for sending before the reserve is filled.
#[derive(Debug, Default)]
pub(crate) struct SendReserve {
    page: Option<PageBuf>,
}

impl SendReserve {
    /// Fills the reserve from the pool, if it is empty. Returns whether it is filled, which is
    /// whether more may be taken from the pool for sending.
    pub(crate) fn fill(&mut self, pages: &mut PagePool) -> bool {
        if self.page.is_none() {
            self.page = pages.alloc(LARGE_CAPACITY);
        }
        self.page.is_some()
    }

    /// Returns the reserve to the pool, for a reader or because no socket is left. Returns whether
    /// it was filled.
    pub(crate) fn release(&mut self) -> bool {
        self.page.take().is_some()
    }
}

//! One page buffer that sending leaves to receiving.

use pktbuf::{LARGE_CAPACITY, PageBuf, PagePool};

/// A page buffer kept back for opening a received record.
///
/// Without it two hosts can wait for each other forever: both pools are full of what each has to
/// send, and neither host can read an acknowledgment's record for want of a buffer.
///
/// Rules:
/// - nothing is taken from the pool for sending before the reserve is filled;
/// - a reader gets the page buffer itself. In the pool it would be part of what is kept for
///   sealing, or another socket's.
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

    /// Lends the reserve to a reader, who takes the page buffer if the pool has none for it.
    pub(crate) fn page_mut(&mut self) -> &mut Option<PageBuf> {
        &mut self.page
    }

    /// Returns the reserve to the pool, because no socket is left.
    pub(crate) fn release(&mut self) {
        self.page = None;
    }
}

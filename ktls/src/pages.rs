//! Page buffers for copies, and the ones that are kept back.

use pktbuf::{PageBuf, PagePool, PoolUsage, SMALL_CAPACITY};

/// An empty page buffer for a copy: bytes that an application writes, a received record to be
/// gathered. `None` if none may be taken.
///
/// The last spans are kept for sealing. A record by reference needs one before it can leave, and
/// only what leaves is acknowledged and gives spans back; so copies that took the last one would
/// wait for each other for ever.
pub(crate) fn alloc_for_copy(capacity: u32, pool: &mut PagePool) -> Option<PageBuf> {
    let usage = pool.usage();
    let small = capacity <= SMALL_CAPACITY && usage.small_spans_used < usage.small_spans;
    let large = usage.large_spans.saturating_sub(usage.large_spans_used);
    if !small && large <= kept_for_sealing(&usage) {
        return None;
    }
    pool.alloc(capacity)
}

fn kept_for_sealing(usage: &PoolUsage) -> u32 {
    let one_in_16 = (usage.large_spans / 16).max(1);
    one_in_16.min(usage.large_spans.saturating_sub(1))
}

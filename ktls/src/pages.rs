//! Allocation of page buffers for copies, with a reserve for sealing.

use pktbuf::{PageBuf, PagePool, PoolUsage, SMALL_CAPACITY};

/// Allocates an empty page buffer for a copy: written bytes, or a received record. Returns `None`
/// if only the reserve is left.
///
/// The reserve is for sealing. A record by reference needs a span before it can be sent, and spans
/// are freed only when sent records are acknowledged. Copies that took the last span would
/// deadlock.
pub(crate) fn alloc_for_copy(capacity: u32, pool: &mut PagePool) -> Option<PageBuf> {
    let usage = pool.usage();
    let small = capacity <= SMALL_CAPACITY && usage.small_spans_used < usage.small_spans;
    let large = usage.large_spans.saturating_sub(usage.large_spans_used);
    if !small && large <= sealing_reserve(&usage) {
        return None;
    }
    pool.alloc(capacity)
}

/// Returns how many large spans of a pool are kept back from copies, for sealing: a sixteenth, and
/// at least one.
pub fn sealing_reserve(usage: &PoolUsage) -> u32 {
    let one_in_16 = (usage.large_spans / 16).max(1);
    one_in_16.min(usage.large_spans.saturating_sub(1))
}

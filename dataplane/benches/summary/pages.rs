//! Page-cache pages, far more than the processor's caches hold.

use std::sync::Arc;

use lockgate_drivers::{Demand, Eal};
use pktbuf::{PageArena, SharedSpan};

/// A span holds 16 records.
pub(crate) const SPAN: usize = 256 * 1024;
/// Plaintext bytes of a record.
pub(crate) const RECORD: usize = 16 * 1024;
/// Bytes of a round: some milliseconds.
pub(crate) const ROUND: usize = 64 << 20;
/// Far more than the caches hold.
const WORKING_SET: usize = 4 * ROUND;
const REGION_ENDS: usize = 8 << 20;

/// Returns filled pages.
pub(crate) fn filled(eal: Eal) -> Vec<Arc<SharedSpan>> {
    // No span crosses a border of 2 MiB, so a region's ends may hold none.
    let arena = arena(eal, WORKING_SET + REGION_ENDS);
    let mut spans = Vec::new();
    while spans.len() * SPAN < WORKING_SET {
        let mut page = arena.alloc(SPAN).expect("the arena has room for more");
        for (n, byte) in page.iter_mut().enumerate() {
            *byte = (n % 251) as u8;
        }
        spans.push(page.freeze(SPAN));
    }
    spans
}

/// Returns an arena of empty pages.
pub(crate) fn arena(eal: Eal, len: usize) -> PageArena {
    let demand = Demand::new("pages", (len + SPAN) as u64);
    PageArena::from_regions(&mut eal.regions(&demand).unwrap(), len).unwrap()
}

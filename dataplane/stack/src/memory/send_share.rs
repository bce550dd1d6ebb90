//! How much of a worker's page pool one connection may hold for sending.

use lockgate_ktls::sealing_reserve;
use pktbuf::{LARGE_SPAN, PoolUsage};

/// The share of the page pool that one connection may hold now.
///
/// It is a dynamic threshold, as switches share packet buffers between queues (Choudhury and Hahne,
/// "Dynamic queue length thresholds for shared-memory packet switches", 1998): a fraction of what
/// is free at the moment. `n` connections that take all they may leave `1 / (1 + n / 4)` of the
/// pool free, so a new connection always finds memory as long as there are fewer connections than
/// spans.
///
/// Below [`GUARANTEED_BYTES`] a connection may take memory whatever is free: one record at a time,
/// in order of arrival ([`StarvedSockets`](super::StarvedSockets)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendShare {
    bytes_max: u32,
    blocks_max: u32,
}

impl SendShare {
    pub(crate) fn of(pool: PoolUsage) -> Self {
        let taken = pool.large_spans_used + sealing_reserve(&pool);
        let free_spans = pool.large_spans.saturating_sub(taken);
        let free_blocks = free_blocks(&pool);
        Self {
            bytes_max: (free_spans / FREE_DIVISOR)
                .saturating_mul(LARGE_SPAN)
                .max(GUARANTEED_BYTES),
            blocks_max: (free_blocks / FREE_DIVISOR).max(GUARANTEED_BLOCKS.min(free_blocks)),
        }
    }

    /// Whether a connection that holds this much may take another buffer.
    pub(crate) fn covers(&self, held_bytes: u32, held_blocks: u32) -> bool {
        held_bytes < self.bytes_max && held_blocks < self.blocks_max
    }

    /// The number of spans that a connection may take for sealing beside what it holds.
    pub(crate) fn spans_left(&self, held_bytes: u32) -> u32 {
        self.bytes_max.saturating_sub(held_bytes) / LARGE_SPAN
    }
}

/// The blocks that may be queued. A sixteenth is kept back: for what the record layer sends, and
/// for received records.
pub(super) fn free_blocks(pool: &PoolUsage) -> u32 {
    let taken = pool.blocks_used + pool.blocks / 16;
    pool.blocks.saturating_sub(taken)
}

/// What a connection may hold whatever is free: a record, and a short one before it.
pub(crate) const GUARANTEED_BYTES: u32 = 32 * 1024;
/// Blocks that a connection may hold while any is free.
const GUARANTEED_BLOCKS: u32 = 4;
/// A connection may hold a quarter of what is free.
const FREE_DIVISOR: u32 = 4;

const _: () = assert!(GUARANTEED_BYTES > LARGE_SPAN);

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(free_spans: u32, free_blocks: u32) -> PoolUsage {
        PoolUsage {
            blocks: 1600,
            blocks_used: 1500 - free_blocks,
            // A sixteenth is kept back for sealing.
            large_spans: 1600,
            large_spans_used: 1500 - free_spans,
            ..PoolUsage::default()
        }
    }

    #[test]
    fn the_share_is_a_quarter_of_what_is_free_or_what_is_guaranteed() {
        let all = SendShare::of(pool(400, 1000));
        assert!(all.covers(100 * LARGE_SPAN - 1, 249));
        assert!(!all.covers(100 * LARGE_SPAN, 0) && !all.covers(0, 250));
        assert_eq!(all.spans_left(30 * LARGE_SPAN), 70);
        assert_eq!(all.spans_left(200 * LARGE_SPAN), 0);

        let none = SendShare::of(pool(0, 0));
        assert!(!none.covers(0, 0), "there is no block");
        assert_eq!(none.spans_left(0), 1);
        let few = SendShare::of(pool(0, 9));
        assert!(few.covers(GUARANTEED_BYTES - 1, GUARANTEED_BLOCKS - 1));
        assert!(!few.covers(GUARANTEED_BYTES, 0) && !few.covers(0, GUARANTEED_BLOCKS));
    }

    /// However many connections take all they may, one more gets a record.
    #[test]
    fn connections_that_take_all_they_may_leave_some_for_others() {
        for connections in [1, 10, 60, 300] {
            let mut held = vec![0; connections];
            let mut free = 400;
            loop {
                let before = free;
                for held in &mut held {
                    let share = SendShare::of(pool(free, 1000));
                    if share.covers(*held, 0) && *held + LARGE_SPAN <= share.bytes_max {
                        *held += LARGE_SPAN;
                        free -= 1;
                    }
                }
                if free == before {
                    break;
                }
            }
            assert!(free > 0, "{connections} connections hold everything");
            let (least, most) = (held.iter().min(), held.iter().max());
            assert!(
                most.unwrap() - least.unwrap() <= LARGE_SPAN,
                "{connections} connections: {least:?} to {most:?}"
            );
        }
    }
}

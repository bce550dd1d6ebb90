//! What to retransmit next: RFC 6675's `NextSeg` without its rule 2, new data.

use core::ops::Range;

use super::Scoreboard;
use crate::ranges::{Kinds, Ranges};

impl Scoreboard {
    /// Rule 1: the next bytes pending retransmission.
    #[inline]
    pub(crate) fn next_pending(&self, ranges: &Ranges) -> Option<Range<u64>> {
        if self.pending == 0 {
            return None;
        }
        self.find_pending(ranges)
    }

    fn find_pending(&self, ranges: &Ranges) -> Option<Range<u64>> {
        let link = ranges.first_of(&self.tree, Kinds::PENDING).get()?;
        let mut found = ranges.iter_from(link).map(|(_, range)| range);
        let first = found.next()?;
        let mut end = first.end();
        for next in found
            .take_while(|range| range.kind() == Kinds::PENDING)
            .take(COALESCE_MAX)
        {
            end = next.end();
        }
        Some(first.start..end)
    }

    /// Rule 3: the first bytes below a SACK block that are not marked lost.
    //= https://www.rfc-editor.org/rfc/rfc6675#section-4
    //# (3) If the conditions for rules (1) and (2) fail, but there exists
    //#     an unSACKed sequence number 'S3' that meets the criteria for
    //#     detecting loss given in steps (1.a) and (1.b) above
    //#     (specifically excluding step (1.c)), then one segment of up to
    //#     SMSS octets starting with S3 SHOULD be returned.
    pub(crate) fn next_speculative(&self, ranges: &Ranges) -> Option<Range<u64>> {
        let highest = ranges.last_of(&self.tree, Kinds::SACKED).get()?;
        let first = ranges.first_of(&self.tree, Kinds::PLAIN).get()?;
        let range = &ranges[first];
        (range.start < ranges[highest].start).then(|| range.start..range.end())
    }

    /// Rule 4: the rescue retransmission of the last outstanding bytes, once per recovery.
    //= https://www.rfc-editor.org/rfc/rfc6675#section-4
    //# (4) If the conditions for (1), (2), and (3) fail, but there exists
    //#     outstanding unSACKed data, we provide the opportunity for a
    //#     single "rescue" retransmission per entry into loss recovery.
    pub(crate) fn rescue(&self, mss: u32, ranges: &Ranges) -> Option<Range<u64>> {
        if self.rescued {
            return None;
        }
        let mut here = self.tree.last;
        while let Some(link) = here.get() {
            let range = &ranges[link];
            if !range.sacked {
                return Some(
                    range.start.max(range.end().saturating_sub(u64::from(mss)))..range.end(),
                );
            }
            here = ranges.prev(link);
        }
        None
    }
}

/// Most lost ranges merged into one burst.
const COALESCE_MAX: usize = 64;

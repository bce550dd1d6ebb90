//! Digests of the spans that were read of a file, to notice whether they are still the same.

/// Digests of the first span and of the spans that were read last: at most [`DIGESTS_MAX`] of them,
/// and one for each place modulo that number.
pub(crate) struct SpanDigests {
    first: Option<u64>,
    /// Index and digest.
    others: Box<[Option<(u64, u64)>]>,
    /// The next index to verify.
    cursor: usize,
}

impl SpanDigests {
    /// Room for the digests of a file of `spans` spans.
    pub(crate) fn new(spans: u64) -> Self {
        let len = usize::try_from(spans).map_or(DIGESTS_MAX, |spans| spans.min(DIGESTS_MAX));
        Self {
            first: None,
            others: vec![None; len].into(),
            cursor: 0,
        }
    }

    /// Notes the digest of a span that was read. Returns false if it was read before with another
    /// one.
    pub(crate) fn insert(&mut self, index: u64, digest: u64) -> bool {
        if index == 0 {
            return *self.first.get_or_insert(digest) == digest;
        }
        let at = index.checked_rem(self.others.len() as u64);
        let slot = at.and_then(|at| self.others.get_mut(usize::try_from(at).ok()?));
        match slot {
            Some(Some((known, before))) if *known == index => *before == digest,
            Some(slot) => {
                *slot = Some((index, digest));
                true
            }
            None => true,
        }
    }

    /// The number of spans besides the first whose digests are known.
    pub(crate) fn others(&self) -> usize {
        self.others.iter().flatten().count()
    }

    /// Whether the first span and up to `limit` others have the digests that `reread` finds now.
    /// Each call continues at the next index to verify.
    pub(crate) fn verify(
        &mut self,
        limit: usize,
        mut reread: impl FnMut(u64) -> Option<u64>,
    ) -> bool {
        if let Some(digest) = self.first
            && reread(0) != Some(digest)
        {
            return false;
        }
        let mut verified = 0;
        for _ in 0..self.others.len() {
            if verified == limit {
                break;
            }
            let known = self.others[self.cursor];
            self.cursor = (self.cursor + 1) % self.others.len();
            if let Some((index, digest)) = known {
                verified += 1;
                if reread(index) != Some(digest) {
                    return false;
                }
            }
        }
        true
    }
}

/// 16 KiB of digests stand for 64 MiB of a file.
const DIGESTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_one_digest() {
        let mut digests = SpanDigests::new(3);
        for index in 0..3 {
            assert!(digests.insert(index, 10 + index));
        }
        for index in 0..3 {
            assert!(digests.insert(index, 10 + index));
            assert!(!digests.insert(index, 20 + index), "{index}");
        }
    }

    #[test]
    fn verification_goes_round_and_always_looks_at_the_first() {
        let mut digests = SpanDigests::new(1_000_000);
        for index in 0..2_000 {
            assert!(digests.insert(index, index));
        }
        let mut seen: Vec<u64> = Vec::new();
        for _ in 0..1_024 / 64 {
            let mut round = Vec::new();
            assert!(digests.verify(64, |index| {
                round.push(index);
                Some(index)
            }));
            assert_eq!((round.len(), round[0]), (65, 0));
            seen.extend(&round[1..]);
        }
        seen.sort_unstable();
        // The last 1 024 that were read.
        assert!(seen.iter().copied().eq(976..2_000), "{seen:?}");
        assert!(!digests.verify(64, |index| (index != 0).then_some(index)));
        assert!(!digests.verify(usize::MAX, |index| Some(index ^ u64::from(index == 1_234))));
    }
}

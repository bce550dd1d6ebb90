//! The simulator's only source of chance.

/// A small generator (splitmix64): one seed, one run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// From `a` to `b`, both included.
    pub(crate) fn between(&mut self, a: u64, b: u64) -> u64 {
        a + self.below(b - a + 1)
    }

    /// From `a` to `b`, both included, where that is little.
    pub(crate) fn small(&mut self, a: u64, b: u64) -> u32 {
        u32::try_from(self.between(a, b)).expect("little")
    }

    /// Once in `ppm` of a million.
    pub(crate) fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.small(0, of.len() as u64 - 1) as usize]
    }
}

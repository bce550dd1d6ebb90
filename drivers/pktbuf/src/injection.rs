//! Allocations that fail on purpose, for tests: the feature `fault-injection`.

/// Generator that draws which allocations fail.
#[derive(Clone, Copy)]
pub(crate) struct Injection {
    state: u64,
    one_in: u32,
}

impl Injection {
    /// About one in `one_in` fails; 0: none.
    pub(crate) fn new(seed: u64, one_in: u32) -> Self {
        // Near seeds begin far apart, and never at zero.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            one_in,
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.one_in == 0
    }

    /// Draws whether the next allocation fails.
    pub(crate) fn draw(&mut self) -> bool {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        random.is_multiple_of(u64::from(self.one_in))
    }
}

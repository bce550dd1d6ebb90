//! Random numbers that needn't be secret.

/// A xorshift64 generator. It spreads limits and intervals; it makes no secrets.
#[derive(Clone, Debug)]
pub struct Xorshift64(u64);

impl Xorshift64 {
    /// Returns a generator. Its seed determines the sequence.
    pub const fn new(seed: u64) -> Self {
        // From a state of zero only zeroes follow.
        Self(if seed == 0 { 1 } else { seed })
    }

    /// Returns the next 64 random bits, which are never all zero.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first number of Marsaglia's (13, 7, 17) triple from a state of 1, by hand.
    #[test]
    fn numbers_follow_from_the_seed_and_a_seed_of_zero_is_replaced() {
        let mut state = 1_u64;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (mut one, mut zero) = (Xorshift64::new(1), Xorshift64::new(0));
        assert_eq!(one.next(), state);
        assert_eq!(zero.next(), state);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let number = one.next();
            assert_ne!(number, 0);
            assert!(seen.insert(number), "the period is 2^64 - 1");
        }
    }
}

//! Sequence numbers (32 bits, wrapping) and stream offsets (64 bits, saturating).

use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number, modulo 2^32. Comparison is serial arithmetic, so it isn't `Ord`.
//= https://www.rfc-editor.org/rfc/rfc9293#section-3.4
//# It is essential to remember that the actual sequence number space is
//# finite, though large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Returns the distance from `earlier` to `self`, modulo 2^32.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Returns whether `self` is less than `other`: by less than 2^31, half the number space.
    pub const fn before(self, other: Self) -> bool {
        // The sign of a 32-bit difference would put each of two numbers 2^31 apart before the
        // other. The distance modulo 2^32 makes such a pair unordered.
        let ahead = other.since(self);
        ahead != 0 && ahead < 1 << 31
    }

    /// Returns whether `self` is greater than `other`, by less than 2^31.
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Returns whether `self` is `other` or before it.
    pub const fn at_or_before(self, other: Self) -> bool {
        self.0 == other.0 || self.before(other)
    }

    /// Returns whether `self` is `other` or after it.
    pub const fn at_or_after(self, other: Self) -> bool {
        self.0 == other.0 || self.after(other)
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}

/// A position in a byte stream, in bytes. Offset 0 is the first byte after the SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOffset(pub u64);

impl StreamOffset {
    /// The first byte.
    pub const ZERO: Self = Self(0);

    /// Returns the bytes from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for StreamOffset {
    type Output = Self;

    fn add(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

impl AddAssign<u64> for StreamOffset {
    fn add_assign(&mut self, n: u64) {
        *self = *self + n;
    }
}

impl Sub<u64> for StreamOffset {
    type Output = Self;

    fn sub(self, n: u64) -> Self {
        Self(self.0.saturating_sub(n))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_across_the_wrap() {
        let a = SeqNum(0xffff_fff0);
        let b = a + 0x20;
        assert_eq!(b, SeqNum(0x10));
        assert!(a.before(b) && b.after(a) && !b.before(a));
        assert!(a.at_or_before(a) && a.at_or_after(a) && !a.before(a));
        assert_eq!(b.since(a), 0x20);
        assert_eq!(b - 0x20, a);
    }

    #[test]
    fn opposite_numbers_are_unordered() {
        let (a, b) = (SeqNum(5), SeqNum(5 + (1 << 31)));
        assert!(!a.before(b) && !b.before(a));
        assert!(!a.at_or_after(b) && !a.at_or_before(b));
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn at_most_one_order(a: u32, b: u32) {
            let (a, b) = (SeqNum(a), SeqNum(b));
            let ways = [a.before(b), a.after(b), a == b].iter().filter(|x| **x).count();
            prop_assert!(ways == 1 || (ways == 0 && a.since(b) == 1 << 31));
        }

        #[test]
        fn sums(a: u32, n in 1..(1u32 << 31)) {
            let a = SeqNum(a);
            prop_assert!(a.before(a + n));
            prop_assert_eq!((a + n).since(a), n);
        }
    }
}

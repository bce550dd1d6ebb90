//! The limit of one user of a shared resource: a dynamic threshold, as switches share buffers
//! (Choudhury and Hahne 1998).

/// Whether a user that has `used` of a resource may take one more, if `free` of it are left: while
/// it has less than `share` times what is free. It may always have one.
///
/// With a share of 1, a single user gets a half, two get a third each, and so on. Users that never
/// give anything back leave a part of each that comes after them.
pub(crate) fn may_take(used: u32, free: u32, share: u32) -> bool {
    used == 0 || used < free.saturating_mul(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users that take what they may, one after the other, and keep it.
    fn taken(max: u32, share: u32, users: usize) -> Vec<u32> {
        let mut free = max;
        let takes = (0..users).map(|_| {
            let mut used = 0;
            while may_take(used, free, share) {
                used += 1;
                free = free.saturating_sub(1);
            }
            used
        });
        takes.collect()
    }

    #[test]
    fn users_that_keep_all_they_get_leave_a_part_to_the_next() {
        assert_eq!(taken(1_024, 1, 4), [512, 256, 128, 64]);
        assert_eq!(taken(1_000, 4, 3), [800, 160, 32]);
        // However many there are, each has one.
        assert!(taken(1_024, 1, 2_000).iter().all(|used| *used >= 1));
        assert_eq!(taken(0, 1, 2), [1, 1]);
        assert_eq!(taken(7, u32::MAX, 1), [7]);
    }
}

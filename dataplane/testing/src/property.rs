//! Configurations for property tests.

use std::env;

use proptest::test_runner::{Config, RngSeed};

/// A configuration for `proptest!`: so many cases, from a fixed seed, nothing stored.
///
/// Every run tries the same cases, so a property test passes always or never, also when the test
/// binary is run directly. `PROPTEST_RNG_SEED` sets another seed, `PROPTEST_CASES` another number.
///
/// ```
/// proptest::proptest! {
///     #![proptest_config(lockgate_testing::proptest_config(64))]
///
///     # /*
///     #[test]
///     # */
///     fn addition_commutes(a: u8, b: u8) {
///         assert_eq!(a.wrapping_add(b), b.wrapping_add(a));
///     }
/// }
/// # addition_commutes();
/// ```
#[must_use]
pub fn proptest_config(cases: u32) -> Config {
    let config = Config::default();
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    let cases = if env::var_os("PROPTEST_CASES").is_some() {
        config.cases
    } else {
        cases
    };
    Config {
        cases,
        rng_seed,
        failure_persistence: None,
        ..config
    }
}

const SEED: u64 = 0x4c4f_434b_4741_5445;

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::test_runner::TestRunner;
    use std::cell::RefCell;

    use super::proptest_config;

    #[test]
    fn every_run_tries_the_same_cases() {
        let cases = || {
            let tried = RefCell::new(Vec::new());
            let result = TestRunner::new(proptest_config(32)).run(&any::<u64>(), |n| {
                tried.borrow_mut().push(n);
                Ok(())
            });
            assert_eq!(result, Ok(()));
            tried.into_inner()
        };
        let first = cases();
        assert_eq!(first.len(), proptest_config(32).cases as usize);
        assert_eq!(first, cases());
    }
}

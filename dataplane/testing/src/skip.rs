//! Tests that can't run on this machine.

use std::fmt::Display;

/// Reports that `test` can't run here: prints the line `SKIPPED <test>: <why>` to standard output.
/// The test returns right after it; `scripts/test` counts the line as one skipped test.
pub fn skip(test: &str, why: impl Display) {
    println!("SKIPPED {test}: {why}");
}

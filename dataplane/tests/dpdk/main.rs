//! The appliance's parts on real poll-mode drivers that need no hardware: two stacks over a pair of
//! rings, and a port that swallows whatever it's given.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test's numbers are small, and it fails by panicking"
)]

mod appliance;
mod exhaustion;
#[path = "../../../drivers/tests/functional/harness.rs"]
mod harness;
mod http;
mod null;
mod ring;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(
        &[
            ring::CASES,
            null::CASES,
            http::CASES,
            exhaustion::CASES,
            appliance::CASES,
        ]
        .concat(),
    )
}

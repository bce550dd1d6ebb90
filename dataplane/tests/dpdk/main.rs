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
mod http;
mod null;
mod ring;
mod support;

use std::process::ExitCode;

use lockgate_testing::cases::Runner;

fn main() -> ExitCode {
    let cases = [
        ring::CASES,
        null::CASES,
        http::CASES,
        exhaustion::CASES,
        appliance::CASES,
    ];
    Runner::new().prepare(log_to_stderr).run(&cases.concat())
}

/// What the appliance and its drivers log explains failures.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

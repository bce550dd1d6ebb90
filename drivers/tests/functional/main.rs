//! Ports as they are: every case opens real devices of the installed DPDK.

#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test's numbers are small, and it fails by panicking"
)]

mod devices;
mod eal;
mod held;
mod kernel;
mod ring;
mod support;
mod virtio;

use std::process::ExitCode;

use lockgate_testing::cases::Runner;

fn main() -> ExitCode {
    let cases = [
        eal::CASES,
        ring::CASES,
        held::CASES,
        devices::CASES,
        virtio::CASES,
    ]
    .concat();
    Runner::new().prepare(log_to_stderr).run(&cases)
}

/// What the drivers log explains failures.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

//! Ports as they are: every case opens real devices of the installed DPDK.

#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test's numbers are small, and it fails by panicking"
)]

mod devices;
mod eal;
mod harness;
mod kernel;
mod ring;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[eal::CASES, ring::CASES, devices::CASES].concat())
}

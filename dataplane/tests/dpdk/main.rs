//! The appliance's parts on real poll-mode drivers that need no hardware: two stacks over a pair of
//! rings, and a port that swallows whatever it's given.
#![forbid(unsafe_code)]

#[path = "../../../drivers/tests/functional/harness.rs"]
mod harness;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[].concat())
}

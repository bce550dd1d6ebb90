//! The `lockgate` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    lockgate::cli::Cli::parse().run()
}

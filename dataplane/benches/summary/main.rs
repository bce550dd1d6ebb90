//! Measures every figure of `docs/performance.md` against its baseline, in the same run, on the
//! same core.
//!
//! Prints a table and writes `bench/summary.json` into the target directory. Each measurement runs
//! in a child process of this program, since a process has one EAL.
//!
//! ```text
//! summary                 everything
//! summary NAME...         these only
//! summary --rows FILE     with rows that another program has measured
//! ```

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a benchmark may end where it can't go on; its numbers are small"
)]

mod bare;
mod clients;
mod cold;
mod handshakes;
mod held;
mod hostile;
mod idle;
mod nginx;
mod pages;
mod peer;
mod requests;
mod rows;
mod rx;
mod side;
mod tls;
mod tx;
mod wire;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use self::rows::Report;

/// A measurement: prints each row when it's complete.
type Measure = fn();

const MEASURES: [(&str, Measure); 8] = [
    ("tx", tx::measure),
    ("rx", rx::measure),
    ("handshakes", handshakes::measure),
    ("requests", requests::measure),
    ("cold", cold::measure),
    ("wire", wire::measure),
    ("hostile", hostile::measure),
    ("idle", idle::measure),
];

fn main() -> ExitCode {
    let mut only = Vec::new();
    let mut report = Report::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Cargo passes this to every benchmark.
            "--bench" => {}
            "--measure" => {
                let name = args.next().expect("--measure NAME");
                let measure = MEASURES.iter().find(|(known, _)| **known == name);
                measure.expect("a known name").1();
                return ExitCode::SUCCESS;
            }
            "--hold" => {
                let (kind, address) = (args.next(), args.next());
                let usage = "--hold KIND ADDRESS";
                held::hold(&kind.expect(usage), &address.expect(usage));
                return ExitCode::SUCCESS;
            }
            "--rows" => {
                let file = args.next().expect("--rows FILE");
                let text = std::fs::read_to_string(&file).expect("a file of rows");
                text.lines().for_each(|line| report.line(line));
            }
            name => only.push(name.to_owned()),
        }
    }
    for (name, _) in MEASURES {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            report.run(name, Command::new(std::env::current_exe().unwrap()));
        }
    }
    report.print();
    report.write(&target().join("bench/summary.json"));
    if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Returns cargo's target directory.
fn target() -> PathBuf {
    let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(own, PathBuf::from)
}

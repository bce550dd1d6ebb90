//! Where no machine can be had, cases are skipped, with the reason.

use std::env;
use std::process::Command;

use lockgate_testing::ScratchDir;
use lockgate_testing::cases::{Case, NAME_OF_CASE};
use lockgate_testing::process::run;

pub(crate) const CASES: &[Case] = &[Case::new(
    "boots::are_skipped_where_qemu_cannot_be_had",
    are_skipped_where_qemu_cannot_be_had,
)];

/// Nothing is cached, and apt-get reaches no mirror: each case is counted as skipped, and nothing
/// fails. The second one repeats the reason of the first attempt.
fn are_skipped_where_qemu_cannot_be_had() {
    let scratch = ScratchDir::new();
    let unreachable = "Acquire::http::Proxy \"http://127.0.0.1:9\";\n\
                       Acquire::https::Proxy \"http://127.0.0.1:9\";\n";
    let settings = scratch.write("apt.conf", unreachable);
    let mut runner = Command::new(env::current_exe().expect("this binary has a path"));
    runner
        .args(["boots::e1000", "--test-threads", "1"])
        .env("LOCKGATE_NICS_CACHE", scratch.join("cache"))
        .env("APT_CONFIG", settings)
        .env_remove(NAME_OF_CASE);
    let ran = run(&mut runner);
    let (out, err) = (ran.text(), &ran.err);
    assert_eq!(ran.code, Some(0), "{out}{err}");
    assert!(out.contains("0 passed; 0 failed; 2 ignored"), "{out}{err}");
    let why = "the lists of Debian's packages can't be fetched";
    for case in ["boots::e1000", "boots::e1000e"] {
        assert!(
            out.contains(&format!("SKIPPED {case}: {why}")),
            "{out}{err}"
        );
    }
}

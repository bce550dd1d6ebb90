//! Each case runs in a process of its own, because a process can have one EAL: this binary
//! starts itself again with the case's name in the environment, and the runner counts the exit
//! status. A case that can't run here is counted as ignored, with the reason.
//!
//! Every test binary whose cases start an EAL has this file as its module.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, thread};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Signal, set_parent_process_death_signal};

/// A case: its name, and what it does. It fails by panicking.
pub(crate) type Case = (&'static str, fn());

/// Runs all cases, or, in the child process, the one that is asked for.
pub(crate) fn main(cases: &[Case]) -> ExitCode {
    if let Ok(name) = env::var(CASE) {
        let Some((_, run)) = cases.iter().find(|(n, _)| *n == name) else {
            panic!("no case {name}");
        };
        leash(LIMIT);
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        run();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // They share the machine's interfaces, memory and two cores.
    arguments.test_threads = Some(1);
    let trials = cases
        .iter()
        .map(|&(name, _)| Trial::ignorable_test(name, || spawn(name)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Ends this process: the case can't run here.
pub(crate) fn skip(reason: &str) -> ! {
    eprintln!("{SKIPPED}{reason}");
    std::process::exit(SKIP_STATUS);
}

fn spawn(name: &str) -> Result<Completion, Failed> {
    let mut child = Command::new(env::current_exe()?);
    child.env(CASE, name).stdin(Stdio::null());
    let output = child.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Completion::Completed),
        Some(SKIP_STATUS) => {
            let reason = said
                .lines()
                .find_map(|l| l.strip_prefix(SKIPPED))
                .unwrap_or("no reason");
            Ok(Completion::ignored_with(format!("skipped: {reason}")))
        }
        _ => Err(Failed::from(format!("{}\n{said}", output.status))),
    }
}

/// A case dies with its runner, and doesn't run for ever: nothing is left behind.
fn leash(limit: Duration) {
    // Where the kernel can't, the time limit has to do.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("not done after {limit:?}");
        std::process::abort();
    });
}

const CASE: &str = "LOCKGATE_TEST_CASE";
const SKIPPED: &str = "skipped: ";
const SKIP_STATUS: i32 = 77;
const LIMIT: Duration = Duration::from_secs(120);

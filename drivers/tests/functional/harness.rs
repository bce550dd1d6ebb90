//! Each case runs in a process of its own, because a process can have one EAL: this binary
//! starts itself again with the case's name in the environment, and the runner counts the exit
//! status. A case that can't run here is counted as ignored, with the reason.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A case: its name, and what it does. It fails by panicking.
pub(crate) type Case = (&'static str, fn());

/// Runs all cases, or, in the child process, the one that is asked for.
pub(crate) fn main(cases: &[Case]) -> ExitCode {
    if let Ok(name) = env::var(CASE) {
        let Some((_, run)) = cases.iter().find(|(n, _)| *n == name) else {
            panic!("no case {name}");
        };
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

/// Skips the case unless the process may do what an administrator may.
pub(crate) fn need_root() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        skip("needs root");
    }
}

/// Puts this process into a network namespace of its own. It vanishes with the process, however
/// that ends, and everything in it.
pub(crate) fn fresh_network() {
    need_root();
    // SAFETY: concerns this process only, which has one thread yet.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        skip("can't make a network namespace");
    }
    ip("link set lo up");
}

/// Runs `ip` (or skips the case, if there's none).
pub(crate) fn ip(arguments: &str) {
    command("ip", arguments);
}

/// Runs a command that has to succeed.
pub(crate) fn command(program: &str, arguments: &str) {
    match Command::new(program)
        .args(arguments.split_whitespace())
        .output()
    {
        Ok(output) => assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => skip(&format!("needs the command {program}")),
    }
}

fn spawn(name: &str) -> Result<Completion, Failed> {
    let mut child = Command::new(env::current_exe()?);
    child.env(CASE, name).stdin(Stdio::null());
    // SAFETY: the function makes system calls only, as it may between fork and exec.
    unsafe { child.pre_exec(leash) };
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
fn leash() -> std::io::Result<()> {
    // SAFETY: concerns this process only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(LIMIT_SECONDS) };
    Ok(())
}

const CASE: &str = "LOCKGATE_TEST_CASE";
const SKIPPED: &str = "skipped: ";
const SKIP_STATUS: i32 = 77;
const LIMIT_SECONDS: u32 = 60;

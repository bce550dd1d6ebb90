//! A test harness for cases that need a process of their own.
//!
//! A process has one EAL, so two cases that start one can't share it. The test binary starts itself
//! again for each case, with the case's name in the environment, and counts the exit status. A case
//! that can't run on this machine is reported by [`skip()`](crate::skip()) and counted as ignored.
//!
//! ```no_run
//! use lockgate_testing::cases::{Case, Runner};
//!
//! fn arithmetic_works() {
//!     assert_eq!(1 + 1, 2);
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Runner::new().run(&[Case::new("arithmetic_works", arithmetic_works)])
//! }
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::HANG_LIMIT;

/// A test case: its name, what it needs, and what it does. It fails by panicking.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    name: &'static str,
    programs: &'static [&'static str],
    run: fn(),
}

impl Case {
    /// A case that needs no other program.
    #[must_use]
    pub const fn new(name: &'static str, run: fn()) -> Self {
        Self {
            name,
            programs: &[],
            run,
        }
    }

    /// The same case, skipped where one of `programs` isn't installed.
    #[must_use]
    pub const fn with(self, programs: &'static [&'static str]) -> Self {
        Self { programs, ..self }
    }
}

/// Runs the cases of a test binary.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    threads: usize,
    needs_root: bool,
    programs: &'static [&'static str],
    prepare: fn(),
}

impl Runner {
    /// A runner that runs one case at a time: their workers poll, and would only wait for each
    /// other.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is made in one place only")]
    pub const fn new() -> Self {
        Self {
            threads: 1,
            needs_root: false,
            programs: &[],
            prepare: || (),
        }
    }

    /// Runs `threads` cases at a time.
    #[must_use]
    pub const fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Skips all cases where this process isn't root's or one of `programs` isn't installed.
    #[must_use]
    pub const fn needs_root_and(self, programs: &'static [&'static str]) -> Self {
        Self {
            needs_root: true,
            programs,
            ..self
        }
    }

    /// Calls `prepare` in each case's process, before the case.
    #[must_use]
    pub const fn prepare(self, prepare: fn()) -> Self {
        Self { prepare, ..self }
    }

    /// Runs all cases that the command line asks for; in a case's own process, that case.
    ///
    /// # Panics
    ///
    /// In a case's own process, if there is no such case.
    #[must_use]
    pub fn run(self, cases: &[Case]) -> ExitCode {
        if let Ok(name) = env::var(NAME_OF_CASE) {
            let case = cases.iter().find(|case| case.name == name);
            return self.run_here(case.unwrap_or_else(|| panic!("no case {name}")));
        }
        let mut arguments = Arguments::from_args();
        arguments.test_threads = Some(
            arguments
                .test_threads
                .map_or(self.threads, |threads| threads.min(self.threads)),
        );
        let trials = cases.iter().map(|&case| {
            Trial::ignorable_test(case.name, move || match self.missing(&case) {
                Some(why) => Ok(skipped(case.name, &why)),
                None => spawn(case.name),
            })
        });
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    }

    /// Runs a case in this process.
    fn run_here(self, case: &Case) -> ExitCode {
        // A case dies with its runner. Where the kernel can't do that, the time limit has to.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        thread::spawn(|| {
            thread::sleep(CASE_LIMIT);
            eprintln!("the case hangs: it didn't end within {CASE_LIMIT:?}");
            std::process::abort();
        });
        (self.prepare)();
        match catch_unwind(AssertUnwindSafe(case.run)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(payload) => match payload.downcast::<Skipped>() {
                Ok(skipped) => {
                    eprintln!("{SKIPPED}{}", skipped.0);
                    ExitCode::from(SKIP_STATUS)
                }
                Err(payload) => {
                    eprintln!("{}", message_of(&*payload));
                    ExitCode::FAILURE
                }
            },
        }
    }

    /// Why a case can't run on this machine.
    fn missing(&self, case: &Case) -> Option<String> {
        if self.needs_root && !rustix::process::geteuid().is_root() {
            return Some("needs root".to_owned());
        }
        let mut programs = self.programs.iter().chain(case.programs);
        let missing = programs.find(|program| !is_program(program))?;
        Some(format!("needs the command {missing}"))
    }
}

/// Ends the running case as skipped: it turned out that it can't run on this machine. Unwinds, so
/// everything that the case has set up is taken down.
pub fn skip_case(why: impl Into<String>) -> ! {
    resume_unwind(Box::new(Skipped(why.into())))
}

/// Prints `NOTE <case>: <what>`, which the runner and `scripts/junit.py` show also if the case
/// passes. `what` is one line.
pub fn note(what: impl core::fmt::Display) {
    let name = name_of_case().unwrap_or_default();
    eprintln!("{NOTE}{name}: {what}");
}

/// Returns the name of the case that this process runs; none outside of a case's process.
#[must_use]
pub fn name_of_case() -> Option<String> {
    env::var(NAME_OF_CASE).ok()
}

/// The panic payload of a skipped case.
struct Skipped(String);

/// Runs a case in a process of its own.
fn spawn(name: &str) -> Result<Completion, Failed> {
    let mut child = Command::new(env::current_exe()?);
    child.env(NAME_OF_CASE, name).stdin(Stdio::null());
    let output = child.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            for note in said.lines().filter(|line| line.starts_with(NOTE)) {
                eprintln!("{note}");
            }
            Ok(Completion::Completed)
        }
        Some(code) if code == i32::from(SKIP_STATUS) => {
            let why = said.lines().find_map(|line| line.strip_prefix(SKIPPED));
            Ok(skipped(name, why.unwrap_or("it doesn't say why")))
        }
        _ => Err(Failed::from(format!("{}\n{said}", output.status))),
    }
}

fn skipped(name: &str, why: &str) -> Completion {
    crate::skip(name, why);
    Completion::ignored_with(why.to_owned())
}

/// The message of a panic.
fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

/// Returns true if the program is on the path or in a directory for root's programs.
fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).to_owned());
    env::split_paths(&path)
        .chain(sbin)
        .any(|directory| directory.join(name).is_file())
}

/// The variable in the environment of a case's own process. A case that starts a runner removes it.
pub const NAME_OF_CASE: &str = "LOCKGATE_TEST_CASE";
const SKIPPED: &str = "skipped: ";
const NOTE: &str = "NOTE ";
const SKIP_STATUS: u8 = 77;
/// Longer than any wait in a case, so that the wait says what it waited for; shorter than the
/// runner's limit for a test (`.config/nextest.toml`).
const CASE_LIMIT: std::time::Duration = HANG_LIMIT.saturating_mul(3);

//! The runner: each case in a thread of its own with a time limit, those that can't run here
//! counted as ignored.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::net;

/// A case: it fails by panicking.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    /// Programs that it needs beside `ip` and `ethtool`.
    programs: &'static [&'static str],
    run: fn(),
}

impl Case {
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self {
            name,
            programs: &[],
            run,
        }
    }

    /// A case that needs these programs, too.
    pub(crate) const fn with(self, programs: &'static [&'static str]) -> Self {
        Self { programs, ..self }
    }
}

/// Runs all cases that the command line asks for.
pub(crate) fn main(cases: Vec<Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Workers poll: more than two at a time would only wait for each other.
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(2).min(2));
    if !arguments.list && is_root() {
        net::remove_stale();
    }
    let trials = cases.into_iter().map(|case| {
        Trial::ignorable_test(case.name, move || match missing(case.programs) {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => watch(case),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Ends a case that turns out not to be possible here.
pub(crate) fn skip(reason: impl Into<String>) -> ! {
    resume_unwind(Box::new(Skipped(reason.into())))
}

struct Skipped(String);

/// Runs a case with a time limit. One that doesn't end in time has failed; what it has started dies
/// with this process.
fn watch(case: Case) -> Result<Completion, Failed> {
    let (ended, end) = mpsc::channel();
    let work = move || {
        let _ = ended.send(catch_unwind(AssertUnwindSafe(case.run)));
    };
    thread::Builder::new()
        .name(case.name.to_owned())
        .spawn(work)?;
    match end.recv_timeout(LIMIT) {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(payload)) => match payload.downcast::<Skipped>() {
            Ok(skipped) => Ok(Completion::ignored_with(format!("skipped: {}", skipped.0))),
            Err(payload) => Err(Failed::from(said(&*payload))),
        },
        Err(_) => Err(Failed::from(format!("it didn't end in {LIMIT:?}"))),
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}

/// Why a case can't run here.
fn missing(programs: &[&str]) -> Option<String> {
    if !is_root() {
        return Some("skipped: network namespaces need root".to_owned());
    }
    let mut needed = ["ip", "ethtool"].iter().chain(programs);
    let missing = needed.find(|program| !is_program(program))?;
    Some(format!("skipped: needs the command {missing}"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = [
        Path::new("/usr/sbin").to_owned(),
        Path::new("/sbin").to_owned(),
    ];
    env::split_paths(&path)
        .chain(sbin)
        .any(|directory| directory.join(name).is_file())
}

/// Many times what a case takes on a machine of its own.
const LIMIT: Duration = Duration::from_secs(150);

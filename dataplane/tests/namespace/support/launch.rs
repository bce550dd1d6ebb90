//! Processes and threads in a namespace.
//!
//! A process is started through this very binary, which enters the namespace, asks the kernel to
//! be killed with the case that started it, and becomes the program: nothing is left behind.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The program, to be run in the namespace.
pub(crate) fn command(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let this = env::current_exe().expect("a process has a program");
    let mut command = Command::new(this);
    command.env(NAMESPACE, namespace).arg(program);
    command
}

/// What a process does first that was started by [`command`]. It comes back only if it wasn't, or
/// if the program can't be started.
pub(crate) fn intercept() -> Option<ExitCode> {
    let namespace = env::var(NAMESPACE).ok()?;
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next()?;
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal of our own");
    enter(&namespace);
    let error = Command::new(&program)
        .args(arguments)
        .env_remove(NAMESPACE)
        .exec();
    eprintln!("{}: {error}", program.display());
    Some(ExitCode::from(127))
}

/// Runs something on a thread in the namespace; so are threads that it starts.
pub(crate) fn inside<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| {
        let work = || {
            enter(namespace);
            run()
        };
        scope.spawn(work).join()
    });
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Moves this thread.
fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).expect("the namespace is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

const NAMESPACE: &str = "LOCKGATE_TEST_NAMESPACE";

//! The `lockgate` process.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::launch;
use super::run::{Ran, now, run, wait_for, wait_until};

/// A running appliance. Dropped, it is killed.
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
    socket: PathBuf,
}

impl Server {
    /// Starts it in a namespace and waits until it answers.
    #[track_caller]
    pub(crate) fn start(namespace: &str, config: &Path, socket: &Path) -> Self {
        let log = config.with_extension("log");
        let mut command = launch::command(namespace, LOCKGATE);
        command
            .args(["run", "--config"])
            .arg(config)
            .env_remove("LOCKGATE_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("there's room for a log"));
        let child = command.spawn().expect("this binary can be started");
        let mut server = Self {
            child: Some(child),
            log,
            socket: socket.to_owned(),
        };
        let deadline = now() + START_LIMIT;
        while server.ask(&["--json"]).code != Some(0) {
            let ended = wait_for(server.child(), Duration::ZERO);
            assert_eq!(ended, None, "it didn't start: {}", server.log());
            assert!(now() < deadline, "it doesn't answer: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Its counters now.
    #[track_caller]
    pub(crate) fn stats(&self) -> Stats {
        let ran = self.ask(&["--json"]).ok();
        Stats(serde_json::from_slice(&ran.out).expect("the statistics are JSON"))
    }

    /// What `lockgate stats` prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(LOCKGATE);
        run(command
            .args(["stats", "--socket"])
            .arg(&self.socket)
            .args(arguments))
    }

    /// Waits until a counter of the workers' total has a value that will do.
    #[track_caller]
    pub(crate) fn wait(&self, counter: &str, mut enough: impl FnMut(u64) -> bool) -> Stats {
        let mut last = self.stats();
        wait_until(counter, WAIT_LIMIT, || {
            last = self.stats();
            enough(last.total(counter))
        });
        last
    }

    /// Waits until no connection is left, and checks that all page buffers came back.
    #[track_caller]
    pub(crate) fn wait_at_rest(&self) -> Stats {
        self.wait("worker.connections", |open| open == 0);
        for pool in [
            "pages.blocks_used",
            "pages.small_spans_used",
            "pages.large_spans_used",
        ] {
            self.wait(pool, |used| used == 0);
        }
        self.wait("http.open", |open| open == 0)
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, signal).expect("it's our child and wasn't waited for");
    }

    /// Asks it to end, and checks that it does so well.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.signal(Signal::TERM);
        self.ended(END_LIMIT);
    }

    /// Waits until it has ended, with success and everything put back.
    #[track_caller]
    pub(crate) fn ended(&mut self, limit: Duration) {
        let code = wait_for(self.child(), limit);
        let log = self.log();
        assert_eq!(code, Some(Some(0)), "how it ended: {log}");
        for bad in [
            "are missing at the end",
            "panicked",
            "ERROR",
            "can't be closed",
        ] {
            assert!(!log.contains(bad), "{bad}: {log}");
        }
        assert!(log.contains("stopped"), "{log}");
        self.child = None;
    }

    /// How many connections ended so, from its last words: when it has ended nobody can be asked.
    #[track_caller]
    pub(crate) fn ends(&self, counter: &str) -> u64 {
        let log = self.log();
        let last = log.lines().rfind(|line| line.contains("stopped"));
        let words = last.expect("it has ended").split_whitespace();
        words
            .map(|word| word.trim_start_matches("ends="))
            .filter_map(|word| word.strip_prefix(counter)?.strip_prefix('='))
            .map(|number| number.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        wait_for(self.child(), Duration::ZERO).is_none()
    }

    /// Bytes of its memory that are in use.
    pub(crate) fn resident(&mut self) -> u64 {
        let file = format!("/proc/{}/status", self.child().id());
        let status = fs::read_to_string(file).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a process has a size") << 10
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it wasn't waited for")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(LOG_SHOWN);
            let from = (from..log.len())
                .find(|at| log.is_char_boundary(*at))
                .unwrap_or(0);
            eprintln!("the appliance's log ends so:\n{}", &log[from..]);
        }
    }
}

/// The answer of `lockgate stats --json`.
pub(crate) struct Stats(Value);

impl Stats {
    /// A counter, summed over the workers.
    #[track_caller]
    pub(crate) fn total(&self, name: &str) -> u64 {
        number(&self.0["totals"][name], name)
    }

    /// A counter of the process.
    #[track_caller]
    pub(crate) fn process(&self, name: &str) -> u64 {
        number(&self.0["process"][name], name)
    }

    /// A counter of the port `p0`.
    #[track_caller]
    pub(crate) fn port(&self, name: &str) -> u64 {
        number(&self.0["ports"]["p0"][name], name)
    }

    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for Stats {
    /// What isn't zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in [
            &self.0["process"],
            &self.0["totals"],
            &self.0["ports"]["p0"],
        ] {
            let counters = group.as_object().into_iter().flatten();
            for (name, value) in counters.filter(|(_, value)| **value != 0) {
                writeln!(f, "{name} {value}")?;
            }
        }
        Ok(())
    }
}

#[track_caller]
fn number(value: &Value, name: &str) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}"))
}

/// The binary.
pub(crate) const LOCKGATE: &str = env!("CARGO_BIN_EXE_lockgate");

const START_LIMIT: Duration = Duration::from_secs(40);
const WAIT_LIMIT: Duration = Duration::from_secs(40);
const END_LIMIT: Duration = Duration::from_secs(40);
const LOG_SHOWN: usize = 4000;

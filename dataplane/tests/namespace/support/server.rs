//! The `lockgate` process.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use lockgate_testing::process::{Ran, exit_code, run};
use lockgate_testing::{network, wait_for, wait_until};

/// A running appliance. Dropped, it is killed.
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
    socket: PathBuf,
    workers: usize,
}

impl Server {
    /// Starts it in a namespace, with so many workers, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(namespace: &str, config: &Path, socket: &Path, workers: usize) -> Self {
        let command = network::command(namespace, LOCKGATE);
        Self::start_by(command, config, socket, workers)
    }

    /// Starts it by this command, which gets its arguments.
    #[track_caller]
    pub(crate) fn start_by(
        mut command: Command,
        config: &Path,
        socket: &Path,
        workers: usize,
    ) -> Self {
        let log = config.with_extension("log");
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
            workers,
        };
        wait_until("an answer of the appliance", || {
            let answers = server.ask(&["--json"]).code == Some(0);
            assert!(
                answers || !server.try_reap(),
                "it didn't start: {}",
                server.log()
            );
            answers
        });
        server
    }

    /// Its counters now, of all workers: one that is busy for long is left out of an answer.
    #[track_caller]
    pub(crate) fn stats(&self) -> Stats {
        wait_for("counters of all workers", || {
            let ran = self.ask(&["--json"]);
            let stats = (ran.code == Some(0)).then_some(ran.out)?;
            let stats = Stats(serde_json::from_slice(&stats).expect("the statistics are JSON"));
            let workers = stats.0["workers"].as_object()?;
            (workers.len() == self.workers).then_some(stats)
        })
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
        wait_until(counter, || {
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
        self.ended();
    }

    /// Waits until it has ended. Returns its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        exit_code(self.child()).flatten()
    }

    /// Waits until it has ended, with success and everything put back.
    #[track_caller]
    pub(crate) fn ended(&mut self) {
        let code = exit_code(self.child());
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

    /// Number of connections that ended so, from the log's last line.
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

    /// Reaps the process if it has ended. Returns whether it has.
    pub(crate) fn try_reap(&mut self) -> bool {
        let status = self.child().try_wait();
        status.expect("it is our child").is_some()
    }

    /// The number of its process.
    pub(crate) fn pid(&mut self) -> u32 {
        self.child().id()
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

const LOG_SHOWN: usize = 4000;

//! Child processes whose output is collected.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::wait::{self, wait_until};

/// The result of a command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Returns the result of a command that succeeded.
    ///
    /// # Panics
    ///
    /// If it failed.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.text(), self.err);
        self
    }
}

/// A running command whose output is collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Collector,
    err: Collector,
}

/// A thread that reads to the end. What it has read so far can be looked at.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts a command.
    ///
    /// # Panics
    ///
    /// If the command can't be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}"),
        };
        let out = Collector::start(child.stdout.take().expect("it is piped"));
        let err = Collector::start(child.stderr.take().expect("it is piped"));
        Self { child, out, err }
    }

    /// The process.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until standard output and standard error together have `text` so many times.
    #[track_caller]
    pub fn wait_for(&self, text: &str, times: usize) {
        wait_until(text, || {
            let written = [&self.out, &self.err].map(Collector::so_far);
            let counts = written.iter().map(|written| written.matches(text).count());
            counts.sum::<usize>() >= times
        });
    }

    /// Waits for the command's end.
    ///
    /// # Panics
    ///
    /// If it hangs; it is killed then.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let status = exit_code(&mut self.child);
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let (out, err) = (self.out.finish(), self.err.finish());
        let err = String::from_utf8_lossy(&err).into_owned();
        let text = String::from_utf8_lossy(&out);
        let Some(code) = status else {
            panic!("a command hangs: {text:.2000}\n{err:.2000}");
        };
        Ran { code, out, err }
    }
}

/// Runs a command to its end, without input.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    Running::start(command.stdin(Stdio::null())).finish()
}

/// Waits for a process and returns its exit code (none after a signal), or nothing if it hangs.
pub fn exit_code(child: &mut Child) -> Option<Option<i32>> {
    wait::try_wait_for(|| child.try_wait().expect("it is our child")).map(|status| status.code())
}

impl Collector {
    fn start(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::default();
        let to = Arc::<Mutex<Vec<u8>>>::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut piece = vec![0; 64 << 10];
            // What was read before an error is what there is.
            while let Ok(len @ 1..) = from.read(&mut piece) {
                to.lock()
                    .expect("readers don't panic")
                    .extend_from_slice(&piece[..len]);
            }
        });
        Self { bytes, thread }
    }

    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().expect("readers don't panic");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn finish(self) -> Vec<u8> {
        self.thread.join().expect("reading doesn't panic");
        std::mem::take(&mut *self.bytes.lock().expect("readers don't panic"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Running, run};

    #[test]
    fn output_and_exit_code_are_collected() {
        let ran = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        assert_eq!((ran.code, ran.text().as_str()), (Some(3), "out\n"));
        assert_eq!(ran.err, "err\n");
    }

    #[test]
    fn output_can_be_waited_for_before_the_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; cat"]);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        running.wait_for("two", 1);
        drop(running.child().stdin.take());
        assert_eq!(running.finish().ok().text(), "one\ntwo\n");
    }
}

//! Commands with a time limit.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lockgate::clock::Clock;
use lockgate_wire::Instant;

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code, if it wasn't ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.text(), self.err);
        self
    }
}

/// A running command whose output is collected.
pub(crate) struct Running {
    child: Child,
    out: Collector,
    err: Collector,
}

/// Reads to the end; what there is so far can be looked at.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("a command that is there can be started");
        let out = Collector::start(child.stdout.take().expect("it is piped"));
        let err = Collector::start(child.stderr.take().expect("it is piped"));
        Self { child, out, err }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until what it wrote, to either output, has the text so many times.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        wait_until(text, WAIT_LIMIT, || {
            let written = [&self.out, &self.err].map(Collector::so_far);
            written
                .iter()
                .map(|written| written.matches(text).count())
                .sum::<usize>()
                >= times
        });
    }

    /// Waits for its end, or ends it when time is up, which fails.
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) -> Ran {
        let status = wait_for(&mut self.child, limit);
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let (out, err) = (self.out.finish(), self.err.finish());
        let err = String::from_utf8_lossy(&err).into_owned();
        let text = String::from_utf8_lossy(&out);
        let Some(code) = status else {
            panic!("a command took more than {limit:?}: {text:.2000}\n{err:.2000}");
        };
        Ran { code, out, err }
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    Running::start(command.stdin(Stdio::null())).finish(LIMIT)
}

/// Waits for a process; its exit code (none after a signal), or nothing if time is up.
pub(crate) fn wait_for(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let deadline = now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status.code());
        }
        if now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = now() + limit;
    while !holds() {
        assert!(now() < deadline, "{what}: not in {limit:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What time it is.
pub(crate) fn now() -> Instant {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new).now()
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

const WAIT_LIMIT: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(90);

//! Signals: the request to stop from SIGTERM and SIGINT, and SIGHUP, which is reserved.

use core::sync::atomic::{AtomicU8, Ordering};
use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Keeps SIGHUP from ending the process until [`Stop::on_signals`] handles it. Unlike that, it
/// spawns no thread.
///
/// # Errors
/// The handler can't be installed.
pub fn hold_hangups() -> io::Result<()> {
    signal_hook::flag::register(SIGHUP, Arc::default()).map(drop)
}

/// The request to stop, shared by all threads of the instance.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

/// How urgent the request to stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// No request: serve.
    Run,
    /// Close the listeners, finish the responses under way, then end.
    Drain,
    /// Reset all connections and end.
    Now,
}

impl Stop {
    /// The first SIGTERM or SIGINT asks to drain, the second to end at once; the third ends the
    /// process by itself, whatever it hangs in. SIGHUP asks for nothing yet: it is reserved for a
    /// reload, and is logged.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let asked = stop.clone();
        let watch = move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    tracing::warn!(
                        "SIGHUP: reloading isn't supported yet; restart to apply a changed \
                         configuration"
                    );
                    continue;
                }
                match asked.escalate() {
                    StopLevel::Run | StopLevel::Drain => tracing::info!(
                        signal,
                        "stop: draining connections; a second signal resets them"
                    ),
                    StopLevel::Now if asked.0.load(Ordering::Relaxed) == NOW => {
                        tracing::warn!(
                            signal,
                            "stop: resetting all connections; a third signal ends the process"
                        );
                    }
                    StopLevel::Now => std::process::exit(128 + signal),
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(watch)?;
        Ok(stop)
    }

    /// Raises the level by one, as a signal does. Returns the new level.
    pub fn escalate(&self) -> StopLevel {
        // Counts past the last level, so that a third signal differs from the second.
        let add = |asked: u8| Some(asked.saturating_add(1));
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        level(before.map_or(u8::MAX, |before| before.saturating_add(1)))
    }

    /// Returns the level that has been asked for.
    pub fn level(&self) -> StopLevel {
        level(self.0.load(Ordering::Relaxed))
    }
}

fn level(asked: u8) -> StopLevel {
    match asked {
        0 => StopLevel::Run,
        1 => StopLevel::Drain,
        NOW.. => StopLevel::Now,
    }
}

const NOW: u8 = 2;

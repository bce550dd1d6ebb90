//! Waiting for other threads and processes.

use std::thread;
use std::time::Duration;

/// How long a wait may take before it counts as a hang. Long enough for a machine that is many
/// times overloaded: reaching it is always a fault.
pub const HANG_LIMIT: Duration = Duration::from_secs(120);

/// Waits until `holds` returns true.
///
/// # Panics
///
/// If it doesn't within about [`HANG_LIMIT`]; `what` says in the message what was waited for.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Waits until `find` returns a value, and returns it.
///
/// The limit counts pauses between calls, not time, so a machine under load gets more of it.
///
/// # Panics
///
/// If it doesn't within about [`HANG_LIMIT`]; `what` says in the message what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, find: impl FnMut() -> Option<T>) -> T {
    match try_wait_for(find) {
        Some(found) => found,
        None => panic!("{what}: not within {HANG_LIMIT:?}"),
    }
}

/// Waits until `find` returns a value; `None` if it doesn't within about [`HANG_LIMIT`].
pub(crate) fn try_wait_for<T>(mut find: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..PAUSES_MAX {
        if let Some(found) = find() {
            return Some(found);
        }
        thread::sleep(PAUSE);
    }
    find()
}

const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_MAX: u128 = HANG_LIMIT.as_millis() / PAUSE.as_millis();

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::{wait_for, wait_until};

    #[test]
    fn a_wait_ends_with_the_event() {
        let happened = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| happened.store(true, Ordering::Release));
            wait_until("store by the other thread", || {
                happened.load(Ordering::Acquire)
            });
        });
        let mut calls = 0;
        let found = wait_for("third call", || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(found, 3);
    }
}

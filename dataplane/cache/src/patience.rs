//! Calls of file systems that may never return.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{after, select, unbounded};

/// Runs each call on a thread of its own, and waits for all of them for at most `wait`. Returns a
/// result for each call, or `None` if it hasn't returned by then or no thread could be spawned.
///
/// The thread of a call that hangs ends when the file system lets it go, or with the process.
pub fn results_within<T: Send + 'static>(
    wait: Duration,
    calls: impl IntoIterator<Item = impl FnOnce() -> T + Send + 'static>,
) -> Vec<Option<T>> {
    let (sender, received) = unbounded();
    let mut results = Vec::new();
    for (at, call) in calls.into_iter().enumerate() {
        results.push(None);
        let sender = sender.clone();
        // Without a thread the result stays missing.
        let _ = thread::Builder::new()
            .name("files-start".to_owned())
            .spawn(move || sender.send((at, call())));
    }
    drop(sender);
    let end = after(wait);
    loop {
        select! {
            recv(received) -> result => match result {
                Ok((at, result)) => results[at] = Some(result),
                Err(_) => return results,
            },
            recv(end) -> _ => return results,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_has_no_result_and_delays_the_others_by_the_wait_only() {
        let (release, hang) = unbounded::<()>();
        let call = |number: u32| {
            let hang = hang.clone();
            move || {
                if number == 1 {
                    let _ = hang.recv();
                }
                number
            }
        };
        // As long as the others may take on a busy machine, unless one is missing.
        let found = results_within(Duration::from_secs(1), (0..3).map(call));
        assert_eq!(found[1], None);
        drop(release);
        let found = results_within(lockgate_testing::HANG_LIMIT, (0..3).map(call));
        assert_eq!(found, [Some(0), Some(1), Some(2)]);
        assert!(results_within(Duration::MAX, Vec::<fn()>::new()).is_empty());
    }
}

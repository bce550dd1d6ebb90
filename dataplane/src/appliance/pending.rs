//! The control socket during the start: requests wait until there are counters.

use std::path::Path;
use std::sync::OnceLock;

use crossbeam_channel::{Sender, bounded};

use super::snapshot::MetricSources;
use crate::control::{ControlError, ControlServer};
use crate::privileges::Identity;

/// A listening control socket whose requests wait for the end of the start.
#[derive(Debug)]
pub(super) struct PendingRequests {
    // Dropped before the server: its thread waits for this channel, and its drop for the thread.
    sources: Sender<MetricSources>,
    server: ControlServer,
}

impl PendingRequests {
    pub(super) fn listen(path: &Path) -> Result<Self, ControlError> {
        let (sources, later) = bounded(1);
        let known = OnceLock::<Option<MetricSources>>::new();
        let server = ControlServer::start(path, move || {
            let sources = known.get_or_init(|| later.recv().ok());
            sources.as_ref().map(MetricSources::snapshot)
        })?;
        Ok(Self { sources, server })
    }

    /// Gives the socket to the user that the process becomes.
    pub(super) fn give_to(&self, identity: &Identity) -> Result<(), ControlError> {
        self.server.give_to(identity.uid, identity.gid)
    }

    /// Answers waiting and later requests from these sources.
    pub(super) fn answer_from(self, sources: MetricSources) -> ControlServer {
        let sent = self.sources.try_send(sources);
        debug_assert!(sent.is_ok(), "there is room for the one message");
        self.server
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::thread;

    use super::*;
    use crate::config::tests::Scratch;
    use crate::control;

    #[test]
    fn requests_wait_for_the_start_and_fail_with_it() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let pending = PendingRequests::listen(&path).unwrap();
        assert!(matches!(
            PendingRequests::listen(&path),
            Err(ControlError::InUse(_))
        ));
        let asked = path.clone();
        let asking = thread::spawn(move || control::stats(&asked));
        thread::sleep(Duration::from_millis(100));
        assert!(!asking.is_finished());
        drop(pending);
        // The answer, if there is time for one, is that the instance could not start.
        let asked = asking.join().expect("no panic");
        assert!(asked.is_err(), "{asked:?}");
        assert!(!path.exists());
    }
}

//! The control socket before there is anything to tell.

use std::path::Path;
use std::sync::OnceLock;

use crossbeam_channel::{Sender, bounded};

use super::snapshot::Sources;
use crate::control::{ServeError, Server};

/// The socket is ours; whoever asks waits until the appliance is up.
#[derive(Debug)]
pub(super) struct Early {
    // Dropped before the server, which would else wait for its thread, and that for this.
    sources: Sender<Sources>,
    server: Server,
}

impl Early {
    pub(super) fn start(path: &Path) -> Result<Self, ServeError> {
        let (sources, later) = bounded(1);
        let known = OnceLock::<Option<Sources>>::new();
        let server = Server::start(path, move || {
            let sources = known.get_or_init(|| later.recv().ok());
            sources.as_ref().map(Sources::take)
        })?;
        Ok(Self { sources, server })
    }

    /// From now on there are answers.
    pub(super) fn open(self, sources: Sources) -> Server {
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
    fn who_asks_waits_and_a_failed_start_lets_everybody_go() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let early = Early::start(&path).unwrap();
        assert!(matches!(Early::start(&path), Err(ServeError::Taken(_))));
        let asked = path.clone();
        let asking = thread::spawn(move || control::stats(&asked));
        thread::sleep(Duration::from_millis(100));
        assert!(!asking.is_finished());
        drop(early);
        // If there's time for an answer, it says so.
        let asked = asking.join().expect("no panic");
        assert!(asked.is_err(), "{asked:?}");
        assert!(!path.exists());
    }
}

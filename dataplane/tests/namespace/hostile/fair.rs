//! Fair clients: new connections and downloads beside hostile ones.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::client::{Conn, Stream, plain, secure};
use crate::support::scene::Scene;
use lockgate_testing::{network, wait_until};

/// What fair clients do, and how far they are.
pub(super) struct FairClients<'a> {
    scene: &'a Scene,
    files: [(&'static str, Vec<u8>); 2],
    /// Rounds that each client has completed.
    rounds: [AtomicU64; CLIENTS],
    is_over: AtomicBool,
    has_failed: AtomicBool,
}

/// Runs `attack` in the clients' namespace, beside fair clients in `namespace`. They begin before
/// it and end after it. Each of their requests has to succeed.
pub(super) fn beside_fair_clients<T: Send>(
    scene: &Scene,
    namespace: &str,
    attack: impl FnOnce(&FairClients<'_>) -> T + Send,
) -> T {
    let fair = FairClients {
        scene,
        files: FILES.map(|(name, len)| (name, scene.file(name, len))),
        rounds: [const { AtomicU64::new(0) }; CLIENTS],
        is_over: AtomicBool::new(false),
        has_failed: AtomicBool::new(false),
    };
    let fair = &fair;
    thread::scope(|scope| {
        // Also if the attack panics.
        let _end = EndOnDrop(fair);
        for client in 0..CLIENTS {
            scope.spawn(move || network::inside(namespace, || fair.run(client)));
        }
        fair.wait_rounds(1);
        scene.inside(|| attack(fair))
    })
}

impl FairClients<'_> {
    /// Waits until each client has completed so many rounds more.
    #[track_caller]
    pub(super) fn wait_rounds(&self, more: u64) {
        self.wait_rounds_while(more, || ());
    }

    /// As above, with something to do again and again meanwhile.
    #[track_caller]
    pub(super) fn wait_rounds_while(&self, more: u64, mut meanwhile: impl FnMut()) {
        let wanted = self
            .rounds
            .each_ref()
            .map(|rounds| rounds.load(Ordering::Relaxed) + more);
        wait_until("rounds of fair clients", || {
            meanwhile();
            assert!(
                !self.has_failed.load(Ordering::Relaxed),
                "a fair client wasn't served"
            );
            let mut pairs = self.rounds.iter().zip(wanted);
            pairs.all(|(rounds, wanted)| rounds.load(Ordering::Relaxed) >= wanted)
        });
    }

    /// Rounds until the attack is over. The last client has no TLS.
    fn run(&self, client: usize) {
        while !self.is_over.load(Ordering::Relaxed) {
            let outcome = if client == CLIENTS - 1 {
                plain().and_then(|conn| self.download(conn))
            } else {
                secure(&self.scene.roots).and_then(|conn| self.download(conn))
            };
            if let Err(error) = outcome {
                self.has_failed.store(true, Ordering::Relaxed);
                let stats = self.scene.server.stats();
                let rounds = self.rounds[client].load(Ordering::Relaxed);
                panic!("fair client {client}, after {rounds} rounds: {error}\n{stats:?}");
            }
            self.rounds[client].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn download<S: Stream>(&self, mut conn: Conn<S>) -> io::Result<()> {
        for (name, bytes) in &self.files {
            let reply = conn.get(&format!("/{name}"))?;
            if reply.status != 200 {
                return Err(io::Error::other(format!("{name}: {}", reply.status)));
            }
            assert!(reply.body == *bytes, "{name}: other bytes");
        }
        Ok(())
    }
}

/// Ends the fair clients when dropped.
struct EndOnDrop<'a>(&'a FairClients<'a>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Number of fair clients at a time.
const CLIENTS: usize = 3;
const FILES: [(&str, usize); 2] = [("fair-small.bin", 1000), ("fair-large.bin", 300_000)];

//! The transmit path: pages to records to segments to packets to a port, acknowledged by a peer on
//! another core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};

use lockgate_drivers::{Assume, Eal};
use lockgate_stack::{Limits, ListenConfig, Notice, SocketId};
use pktbuf::SharedSpan;

use crate::bare::BareSeal;
use crate::pages::{self, ROUND, SPAN};
use crate::peer::Peer;
use crate::rows::Row;
use crate::side::{Endpoint, EndpointSpec, PEER_CORE, SUBJECT_CORE, eal, link, service};
use crate::tls::Identity;

pub(crate) fn measure() {
    let eal = eal();
    let pages = pages::filled(eal);
    let bursts = Assume {
        tso: true,
        tx_csum: true,
        rx_csum: true,
    };
    let segments = Assume {
        tso: false,
        ..bursts
    };
    let rows = [
        (
            "TX path, SW, 64 KiB bursts (assume tso, txcsum)",
            bursts,
            Some(0.8),
        ),
        (
            "TX path, SW, 1448-byte segments (assume txcsum)",
            segments,
            Some(0.5),
        ),
        (
            "TX path, SW, 1448-byte segments, nothing assumed",
            Assume::default(),
            None,
        ),
    ];
    for (n, (name, assume, aim)) in rows.into_iter().enumerate() {
        let (value, bare) = run(eal, &format!("tx{n}"), assume, &pages);
        let row = Row::new(name, "GB/s", value).against(bare);
        match aim {
            Some(aim) => row.aim(aim).emit(),
            None => row.emit(),
        }
    }
}

fn run(eal: Eal, name: &str, assume: Assume, pages: &[Arc<SharedSpan>]) -> (f64, f64) {
    let (near, far) = link(eal, name, assume);
    let identity = Identity::new();
    let server = identity.stack_server(0);
    let client = identity.rustls_client();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| discard(far, &client, &done));
        let subject = subject(scope, || {
            let mut side = near.enter(SUBJECT_CORE, Limits::default());
            let config = ListenConfig {
                tls: Some(server),
                ..ListenConfig::default()
            };
            side.stack.listen(service(), config).unwrap();
            let best = rounds(&mut side, pages);
            done.store(true, Ordering::Release);
            best
        });
        subject.join().unwrap()
    })
}

/// Spawns the subject's thread. Profilers find it by its name.
pub(crate) fn subject<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let thread = thread::Builder::new().name("subject".to_owned());
    thread.spawn_scoped(scope, work).unwrap()
}

/// The peer: acknowledges and discards.
fn discard(end: EndpointSpec, client: &Arc<rustls::ClientConfig>, done: &AtomicBool) {
    let limits = Limits {
        recv_buffer_bytes: 4 << 20,
        ..Limits::default()
    };
    let mut side = end.enter(PEER_CORE, limits);
    let peer = Peer::connect(&mut side, client);
    while !done.load(Ordering::Acquire) {
        side.receive();
        while side.notice().is_some() {}
        while side.recv(peer.socket).is_some() {}
        side.transmit();
    }
}

/// Runs subject and baseline in turns. Returns the fastest round of each, in GB/s.
fn rounds(side: &mut Endpoint, pages: &[Arc<SharedSpan>]) -> (f64, f64) {
    let socket = accept(side);
    let mut flow = SendJob {
        socket,
        pages,
        next: 0,
        left: 0,
    };
    let mut bare = BareSeal::new();
    let spans = ROUND / SPAN;
    let parts = pages.len() / spans;
    let verbose = std::env::var_os("LOCKGATE_BENCH_VERBOSE").is_some();
    let (mut subject, mut baseline) = (0_f64, 0_f64);
    for round in 0..ROUNDS {
        let start = side.clock.now();
        let (turns, empty) = flow.round(side);
        let this = rate(side, start);
        if this > subject && verbose {
            eprintln!("{this:.2} GB/s in {turns} turns, {empty} of them with nothing to do");
        }
        subject = subject.max(this);
        // Pages far from the pages just sent.
        let part = &pages[(round + parts / 2) % parts * spans..][..spans];
        let start = side.clock.now();
        bare.run(part);
        baseline = baseline.max(rate(side, start));
    }
    if verbose {
        eprintln!("{:?}", side.stack.tcp_info(socket));
        for (name, value) in side.stack.tcp_counters().iter() {
            if value > 0 {
                eprintln!("{name} {value}");
            }
        }
    }
    (subject, baseline)
}

fn rate(side: &Endpoint, since: lockgate_wire::Instant) -> f64 {
    ROUND as f64 / side.clock.now().saturating_since(since).as_secs_f64() / 1e9
}

/// Waits for the end of the only connection's handshake.
pub(crate) fn accept(side: &mut Endpoint) -> SocketId {
    loop {
        side.receive();
        while let Some(notice) = side.notice() {
            if let Notice::HandshakeDone(socket, _) = notice {
                return socket;
            }
        }
        side.transmit();
    }
}

/// Pages that are being sent to the peer.
struct SendJob<'a> {
    socket: SocketId,
    pages: &'a [Arc<SharedSpan>],
    /// The next byte's offset in the pages.
    next: usize,
    /// Bytes of this round that the stack hasn't taken yet.
    left: usize,
}

impl SendJob<'_> {
    /// Sends a round until all of it is acknowledged. Returns the turns, and how many of them
    /// neither sent nor received.
    fn round(&mut self, side: &mut Endpoint) -> (u64, u64) {
        self.left = ROUND;
        self.feed(side);
        let (mut turns, mut empty) = (0, 0);
        while self.left > 0 || side.stack.send_queued(self.socket) > 0 {
            turns += 1;
            let before = side.stack.counters().packets_out;
            side.transmit();
            let sent = side.stack.counters().packets_out - before;
            empty += u64::from(side.receive() == 0 && sent == 0);
            while let Some(notice) = side.notice() {
                if matches!(notice, Notice::Writable(_)) {
                    self.feed(side);
                }
            }
        }
        (turns, empty)
    }

    fn feed(&mut self, side: &mut Endpoint) {
        while self.left > 0 {
            let at = self.next % SPAN;
            let len = (SPAN - at).min(self.left);
            let span = &self.pages[self.next / SPAN % self.pages.len()];
            let taken = side
                .stack
                .send_span(self.socket, span, at as u32, len as u32, &mut side.pages)
                .unwrap() as usize;
            self.next += taken;
            self.left -= taken;
            if taken < len {
                return;
            }
        }
    }
}

const ROUNDS: usize = 40;

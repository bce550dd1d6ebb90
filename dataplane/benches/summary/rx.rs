//! The receive path: packets to segments to records to plaintext, from a peer on another core that
//! sealed all records before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lockgate_drivers::{Assume, Eal};
use lockgate_stack::{Limits, ListenConfig, SocketId};
use pktbuf::{PageArena, SharedSpan};

use crate::bare::BareOpen;
use crate::pages::{self, RECORD, ROUND, SPAN};
use crate::peer::Peer;
use crate::rows::Row;
use crate::side::{Endpoint, EndpointSpec, PEER_CORE, SUBJECT_CORE, eal, link, service};
use crate::tls::{Identity, Sealer};
use crate::tx::{accept, subject};

pub(crate) fn measure() {
    let eal = eal();
    let arena = pages::arena(eal, 2 * ROUND);
    let segments = Assume {
        tso: false,
        tx_csum: true,
        rx_csum: true,
    };
    let bursts = Assume {
        tso: true,
        ..segments
    };
    let rows = [
        (
            "RX path, SW, 1448-byte segments (assume rxcsum)",
            segments,
            Some(0.65),
        ),
        ("RX path, SW, 64 KiB bursts (assume rxcsum)", bursts, None),
        (
            "RX path, SW, 1448-byte segments, nothing assumed",
            Assume::default(),
            None,
        ),
    ];
    for (n, (name, assume, aim)) in rows.into_iter().enumerate() {
        let (value, bare) = run(eal, &format!("rx{n}"), assume, &arena);
        let row = Row::new(name, "GB/s", value).against(bare);
        match aim {
            Some(aim) => row.aim(aim).emit(),
            None => row.emit(),
        }
    }
}

/// The counts by which the two threads take turns.
#[derive(Default)]
struct RoundCounts {
    /// Rounds that the peer has sealed so far.
    ready: AtomicUsize,
    /// Rounds that the subject has requested so far.
    wanted: AtomicUsize,
    done: AtomicBool,
}

fn run(eal: Eal, name: &str, assume: Assume, arena: &PageArena) -> (f64, f64) {
    let (near, far) = link(eal, name, assume);
    let identity = Identity::new();
    let server = identity.stack_server(0);
    let client = identity.rustls_client();
    let turns = RoundCounts::default();
    thread::scope(|scope| {
        scope.spawn(|| supply(far, &client, arena, &turns));
        let subject = subject(scope, || {
            let mut side = near.enter(SUBJECT_CORE, Limits::default());
            let config = ListenConfig {
                tls: Some(server),
                ..ListenConfig::default()
            };
            side.stack.listen(service(), config).unwrap();
            let best = rounds(&mut side, &turns);
            turns.done.store(true, Ordering::Release);
            best
        });
        subject.join().unwrap()
    })
}

/// Runs subject and baseline in turns. Returns the fastest round of each, in GB/s of plaintext.
fn rounds(side: &mut Endpoint, turns: &RoundCounts) -> (f64, f64) {
    let socket = accept(side);
    let mut bare = BareOpen::new();
    let (mut subject, mut baseline) = (0_f64, 0_f64);
    let rate = |nanos: core::time::Duration| ROUND as f64 / nanos.as_secs_f64() / 1e9;
    for round in 1..=ROUNDS {
        while turns.ready.load(Ordering::Acquire) < round {
            side.receive();
            side.transmit();
        }
        bare.prepare();
        let start = side.clock.now();
        bare.run();
        baseline = baseline.max(rate(side.clock.now().saturating_since(start)));

        let start = side.clock.now();
        turns.wanted.store(round, Ordering::Release);
        let mut left = ROUND;
        let (mut turns_taken, mut empty) = (0_u64, 0_u64);
        while left > 0 {
            turns_taken += 1;
            empty += u64::from(side.receive() == 0);
            while side.notice().is_some() {}
            while let Some(chunk) = side.recv(socket) {
                left -= chunk.len();
            }
            side.transmit();
        }
        let this = rate(side.clock.now().saturating_since(start));
        if this > subject && std::env::var_os("LOCKGATE_BENCH_VERBOSE").is_some() {
            eprintln!("{this:.2} GB/s in {turns_taken} turns, {empty} of them without a packet");
        }
        subject = subject.max(this);
    }
    (subject, baseline)
}

/// The peer: seals a round, waits for the request, and sends it by reference.
fn supply(
    end: EndpointSpec,
    client: &Arc<rustls::ClientConfig>,
    arena: &PageArena,
    turns: &RoundCounts,
) {
    let mut side = end.enter(PEER_CORE, Limits::default());
    let peer = Peer::connect(&mut side, client);
    let (socket, mut sealer) = peer.into_sealer();
    for round in 1..=ROUNDS {
        let spans = sealed(&mut sealer, arena);
        turns.ready.store(round, Ordering::Release);
        while turns.wanted.load(Ordering::Acquire) < round {
            core::hint::spin_loop();
        }
        send(&mut side, socket, &spans);
    }
    while !turns.done.load(Ordering::Acquire) {
        turn(&mut side);
    }
}

/// Seals a round of records into spans; records may cross spans.
fn sealed(sealer: &mut Sealer, arena: &PageArena) -> Vec<(Arc<SharedSpan>, u32)> {
    let mut wire = Vec::with_capacity(ROUND / RECORD * (RECORD + 22));
    for _ in 0..ROUND / RECORD {
        sealer.seal(&[7; RECORD], &mut wire);
    }
    wire.chunks(SPAN)
        .map(|bytes| {
            let mut page = arena.alloc(SPAN).expect("the last round's pages are free");
            page[..bytes.len()].copy_from_slice(bytes);
            (page.freeze(bytes.len()), bytes.len() as u32)
        })
        .collect()
}

fn send(side: &mut Endpoint, socket: SocketId, spans: &[(Arc<SharedSpan>, u32)]) {
    for (span, len) in spans {
        let mut at = 0;
        while at < *len {
            at += side
                .stack
                .send_span(socket, span, at, len - at, &mut side.pages)
                .unwrap();
            turn(side);
        }
    }
    while side.stack.send_queued(socket) > 0 {
        turn(side);
    }
}

fn turn(side: &mut Endpoint) {
    side.transmit();
    side.receive();
    while side.notice().is_some() {}
}

const ROUNDS: usize = 24;

//! The receive path: packets to segments to records to plaintext, from a peer on another core that
//! sealed all records before.

use core::time::Duration;
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
            Delivery::Reference,
            Some(0.65),
        ),
        (
            "RX path, SW, 64 KiB bursts (assume rxcsum)",
            bursts,
            Delivery::Reference,
            Some(0.75),
        ),
        (
            "RX path, SW, 1448-byte segments, nothing assumed",
            Assume::default(),
            Delivery::Reference,
            None,
        ),
        (
            "RX path, SW, 1448-byte segments, own buffers (assume rxcsum)",
            segments,
            Delivery::Copy,
            Some(0.65),
        ),
        (
            "RX path, SW, 1448-byte segments, own buffers",
            Assume::default(),
            Delivery::Copy,
            None,
        ),
    ];
    for (n, (name, assume, delivery, aim)) in rows.into_iter().enumerate() {
        let best = run(eal, &format!("rx{n}"), assume, delivery, &arena);
        let row = Row::new(name, "GB/s", best.busy).against(best.bare);
        let row = row.wall(best.wall);
        match aim {
            Some(aim) => row.aim(aim).emit(),
            None => row.emit(),
        }
    }
}

/// How packets get to the subject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// In the peer's memory.
    Reference,
    /// The peer copies them into the subject's packet buffers, as a network card does.
    Copy,
}

/// The fastest rounds, in GB/s of plaintext.
#[derive(Default)]
struct Best {
    /// By the time of turns with work.
    busy: f64,
    /// By the clock.
    wall: f64,
    /// The baseline.
    bare: f64,
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

fn run(eal: Eal, name: &str, assume: Assume, delivery: Delivery, arena: &PageArena) -> Best {
    let (near, mut far) = link(eal, name, assume);
    if delivery == Delivery::Copy {
        far.queues[0].copy_to(&near.port);
    }
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

/// Runs subject and baseline in turns.
fn rounds(side: &mut Endpoint, turns: &RoundCounts) -> Best {
    let socket = accept(side);
    let mut bare = BareOpen::new();
    let mut best = Best::default();
    let rate = |time: Duration| ROUND as f64 / time.as_secs_f64() / 1e9;
    for round in 1..=ROUNDS {
        while turns.ready.load(Ordering::Acquire) < round {
            side.receive();
            side.transmit();
        }
        bare.prepare();
        let start = side.clock.now();
        bare.run();
        let time = side.clock.now().saturating_since(start);
        best.bare = best.bare.max(rate(time));

        turns.wanted.store(round, Ordering::Release);
        let (busy, wall, counts) = receive_round(side, socket);
        if rate(busy) > best.busy && std::env::var_os("LOCKGATE_BENCH_VERBOSE").is_some() {
            eprintln!(
                "{:.2} GB/s busy, {:.2} by the clock; {counts}",
                rate(busy),
                rate(wall)
            );
        }
        best.busy = best.busy.max(rate(busy));
        best.wall = best.wall.max(rate(wall));
    }
    best
}

/// Receives a round. Returns the time of turns with work, the whole time, and counts to print.
fn receive_round(side: &mut Endpoint, socket: SocketId) -> (Duration, Duration, String) {
    let start = side.clock.now();
    let (mut left, mut turn_began, mut busy) = (ROUND, start, Duration::ZERO);
    let (mut taken, mut empty, mut packets) = (0_u64, 0_u64, 0);
    while left > 0 {
        let received = side.receive();
        let left_before = left;
        while side.notice().is_some() {}
        while let Some(chunk) = side.recv(socket) {
            left -= chunk.len();
        }
        let sent_before = side.stack.counters().packets_out;
        side.transmit();
        let now = side.clock.now();
        let has_sent = side.stack.counters().packets_out > sent_before;
        if received > 0 || left < left_before || has_sent {
            busy += now.saturating_since(turn_began);
        } else {
            empty += 1;
        }
        turn_began = now;
        taken += 1;
        packets += received;
    }
    let wall = turn_began.saturating_since(start);
    let counts = format!("{packets} packets in {taken} turns, {empty} of them without work");
    (busy, wall, counts)
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
        send(&mut side, socket, &spans, &turns.done);
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

/// Sends a round. The subject's last acknowledgment may be delayed, and it ends before that.
fn send(
    side: &mut Endpoint,
    socket: SocketId,
    spans: &[(Arc<SharedSpan>, u32)],
    is_done: &AtomicBool,
) {
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
    while side.stack.send_queued(socket) > 0 && !is_done.load(Ordering::Acquire) {
        turn(side);
    }
}

fn turn(side: &mut Endpoint) {
    side.transmit();
    side.receive();
    while side.notice().is_some() {}
}

const ROUNDS: usize = 24;

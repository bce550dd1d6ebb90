//! Peers that try to use up the worker's slab of ranges or its time, beside a fair connection that
//! lives in the same slab. Steps are accesses to entries of the slab.

use core::ops::Range;

use lockgate_tcp::{Connection, Event, OpenParams, SegmentIn, Shared, TcpConfig};
use lockgate_wire::tcp::{SackBlock, SackList, TcpHeader, TcpOptions};
use lockgate_wire::{Instant, SeqNum, StreamOffset};

use crate::rig::{ACK, SYN, Seg, at, header, ms, params, plain, seg};

/// One of many connections of a worker, seen from its peer.
struct Peer {
    conn: Connection,
    iss: SeqNum,
    irs: SeqNum,
    queued: u64,
}

/// What a peer's segment, or a transmission, took at most.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    acks: u64,
    blocks: u64,
    in_acks: u64,
    ack_worst: u64,
    transmits: u64,
    in_transmits: u64,
    transmit_worst: u64,
}

/// A worker: its slab, its time and what its connections took.
struct Worker {
    now: Instant,
    sh: Shared,
    steps: Steps,
    ports: u16,
}

impl Worker {
    fn new(ranges: u32, connections: u32) -> Self {
        let config = TcpConfig {
            sack: true,
            window_scaling: true,
            window_max: 4 << 20,
            ..plain()
        };
        Self {
            now: Instant::from_secs(100),
            sh: Shared::new(config, &params(ranges, connections)),
            steps: Steps::default(),
            ports: 1000,
        }
    }

    /// Opens a connection whose peer takes segments of `mss` bytes.
    fn open(&mut self, mss: u16) -> Peer {
        self.ports += 1;
        let opening = OpenParams {
            local_port: 443,
            remote_port: self.ports,
            ipv6: false,
            mss: 1460,
            isn: SeqNum(1_000_000),
            ts_offset: 0,
        };
        let mut conn = Connection::connect(self.now, &opening, &self.sh);
        conn.room(65_535);
        let mut peer = Peer {
            conn,
            iss: opening.isn,
            irs: SeqNum(5_000_000),
            queued: 0,
        };
        assert_eq!(self.sends(&mut peer, u32::MAX), 0..0);
        let options = TcpOptions {
            mss: Some(mss),
            sack_permitted: true,
            window_scale: Some(10),
            ..TcpOptions::NONE
        };
        self.now += ms(1);
        let event = self.feed(
            &mut peer,
            Seg {
                options,
                ..seg(SYN, -1, 0).window(65_535)
            },
        );
        assert_eq!(event, Event::Connected);
        self.sends(&mut peer, u32::MAX);
        peer
    }

    fn feed(&mut self, peer: &mut Peer, segment: Seg) -> Event {
        let tcp: TcpHeader = header(segment, peer.irs, peer.iss);
        let before = self.sh.range_steps();
        let segment = SegmentIn::new(&tcp, segment.len);
        let verdict = peer.conn.on_segment(self.now, segment, &mut self.sh);
        let took = self.sh.range_steps() - before;
        self.steps.acks += 1;
        self.steps.blocks += tcp.options.sack.len() as u64;
        self.steps.in_acks += took;
        self.steps.ack_worst = self.steps.ack_worst.max(took);
        verdict.event
    }

    /// The peer acknowledges `ack`, reports `blocks` and has a window of so many KiB.
    fn ack(&mut self, peer: &mut Peer, ack: u64, blocks: &[Range<u64>], window: u16) {
        let sack: SackList = blocks
            .iter()
            .filter_map(|b| {
                SackBlock::new(at(peer.iss, signed(b.start)), at(peer.iss, signed(b.end)))
            })
            .collect();
        let options = TcpOptions {
            sack,
            ..TcpOptions::NONE
        };
        let event = self.feed(
            peer,
            Seg {
                options,
                ..seg(ACK, 0, 0).ack(signed(ack)).window(window)
            },
        );
        assert_eq!(event, Event::None);
    }

    /// Keeps the queue of a connection full.
    fn fill(peer: &mut Peer) {
        peer.queued = peer.conn.acked().0 + (16 << 20);
        peer.conn.queued(StreamOffset(peer.queued));
        peer.conn.ready(StreamOffset(peer.queued));
    }

    /// Sends up to `most` segments. Returns the new part of the stream that was sent.
    fn sends(&mut self, peer: &mut Peer, most: u32) -> Range<u64> {
        let start = peer.conn.sent().0;
        for _ in 0..most {
            let before = self.sh.range_steps();
            let Some(intent) = peer.conn.poll_transmit(self.now, &self.sh) else {
                break;
            };
            let mss = u32::from(intent.mss);
            let (_, _) = peer.conn.commit(intent, mss, self.now, &mut self.sh);
            let took = self.sh.range_steps() - before;
            self.steps.transmits += 1;
            self.steps.in_transmits += took;
            self.steps.transmit_worst = self.steps.transmit_worst.max(took);
        }
        start..peer.conn.sent().0
    }

    /// Lets slow start grow until `flight` bytes are outstanding.
    fn grow(&mut self, peer: &mut Peer, flight: u64) {
        loop {
            self.now += ms(1);
            Self::fill(peer);
            let sent = self.sends(peer, u32::MAX).end;
            if sent - peer.conn.acked().0 >= flight {
                return;
            }
            self.ack(peer, sent, &[], OPEN);
        }
    }

    /// Fires the timers of a connection that are due.
    fn timers(&mut self, peer: &mut Peer) {
        while peer.conn.deadline().is_some_and(|at| at <= self.now) {
            assert_eq!(peer.conn.on_timer(self.now, &mut self.sh), Event::None);
        }
    }
}

/// The initial window to a new peer that loses the first segment: it is repaired by SACK, as soon
/// as three others are reported and without a time-out, whatever other connections hold.
fn serve_newcomer(worker: &mut Worker) {
    let mut peer = worker.open(1460);
    let timeouts = worker.sh.counters.timeouts;
    Worker::fill(&mut peer);
    assert_eq!(worker.sends(&mut peer, u32::MAX), 0..14_600);
    worker.now += ms(1);
    for n in 2..=4 {
        worker.ack(&mut peer, 0, &[1460..1460 * n], OPEN);
    }
    let before = worker.sh.counters.bytes_retransmitted;
    worker.sends(&mut peer, 1);
    let again = worker.sh.counters.bytes_retransmitted - before;
    assert_eq!(again, 1460, "the lost segment is sent again, and no other");
    worker.ack(&mut peer, 14_600, &[], OPEN);
    assert_eq!(peer.conn.acked().0, 14_600);
    assert_eq!(worker.sh.counters.timeouts, timeouts);
    peer.conn.abort(&mut worker.sh);
}

/// A window of data to a fair peer, which gets all of it.
fn serve(worker: &mut Worker, peer: &mut Peer) {
    peer.queued = peer.conn.sent().0 + 50_000;
    peer.conn.queued(StreamOffset(peer.queued));
    peer.conn.ready(StreamOffset(peer.queued));
    let sent = worker.sends(peer, u32::MAX);
    assert!(sent.end - sent.start >= 14_600, "a whole window");
    worker.ack(peer, sent.end, &[], OPEN);
    assert_eq!(peer.conn.acked().0, sent.end);
    peer.conn.check(&worker.sh);
}

/// Attacks for a while, with a fair connection beside and a new one now and then; afterwards
/// everything is given back.
///
/// `blocks` yields the SACK blocks of a round, as offsets in what is outstanding.
fn attack(
    mss: u16,
    peers: usize,
    mut window: impl FnMut(u64) -> u16,
    mut blocks: impl FnMut(u64, u64, u64) -> Vec<Range<u64>>,
) -> Worker {
    let mut worker = Worker::new(4096, 200);
    let mut hostile: Vec<Peer> = (0..peers).map(|_| worker.open(mss)).collect();
    let mut fair = worker.open(1460);
    for peer in &mut hostile {
        worker.grow(peer, 60_000);
    }
    worker.steps = Steps::default();
    for round in 0..1000 {
        worker.now += ms(1);
        for peer in &mut hostile {
            let una = peer.conn.acked().0;
            let nxt = peer.conn.sent().0;
            let reported: Vec<_> = blocks(round, u64::from(mss), nxt - una)
                .into_iter()
                .map(|b| una + b.start..(una + b.end).min(nxt))
                .collect();
            worker.ack(peer, una, &reported, window(round));
            worker.sends(peer, 4);
            worker.timers(peer);
        }
        let steps = worker.steps;
        serve(&mut worker, &mut fair);
        if round % 20 == 0 {
            serve_newcomer(&mut worker);
        }
        worker.steps = steps;
        if round % 100 == 0 {
            hostile.iter().for_each(|peer| peer.conn.check(&worker.sh));
        }
    }
    let Steps {
        acks,
        blocks,
        in_acks,
        ack_worst,
        transmits,
        in_transmits,
        transmit_worst,
    } = worker.steps;
    println!("{:?} {:?}", worker.steps, worker.sh.counters);
    assert!(acks > 10_000);
    assert!(
        in_acks < (acks + blocks) * ACK_STEPS,
        "{in_acks} steps for {acks} ACKs with {blocks} blocks"
    );
    // An acknowledgment that makes a connection give ranges back visits all it had.
    let visit = 4096 / 16 * 60;
    assert!(
        ack_worst < ACK_STEPS_WORST + visit,
        "{ack_worst} steps for one ACK"
    );
    assert!(in_transmits < (transmits + 1) * TRANSMIT_STEPS);
    assert!(
        transmit_worst < TRANSMIT_STEPS_WORST,
        "{transmit_worst} steps for one segment"
    );
    for peer in hostile.iter_mut().chain([&mut fair]) {
        peer.conn.abort(&mut worker.sh);
    }
    assert_eq!(worker.sh.ranges_used(), 0);
    worker
}

#[test]
fn a_byte_of_each_segment() {
    for (mss, peers) in [(88, 20), (1460, 60)] {
        let worker = attack(
            mss,
            peers,
            |_| OPEN,
            |round, mss, flight| {
                (0..4)
                    .map(|n| ((round * 4 + n) * mss + mss / 2) % flight)
                    .map(|at| at..at + 1)
                    .collect()
            },
        );
        assert!(worker.sh.counters.sack_splits_refused > 0);
    }
}

#[test]
fn every_second_byte() {
    attack(
        88,
        40,
        |_| OPEN,
        |round, _, flight| {
            (0..4)
                .map(|n| (round * 8 + n * 2) % flight)
                .map(|at| at..at + 1)
                .collect()
        },
    );
}

/// Each block is far from the one before it.
#[test]
fn blocks_at_both_ends_in_turns() {
    attack(
        88,
        20,
        |_| OPEN,
        |round, _, flight| {
            let low = round * 4 % (flight / 2);
            vec![
                low..low + 1,
                flight - low - 2..flight - low - 1,
                low + 2..low + 3,
                flight - low - 4..flight - low - 3,
            ]
        },
    );
}

/// The last byte is reported again and again: nothing new, but where losses are looked for begins
/// there.
#[test]
fn the_same_block_again_and_again() {
    attack(
        88,
        20,
        |_| OPEN,
        |round, mss, flight| {
            let at = round * mss % flight;
            vec![flight - 1..flight, at..at + 1]
        },
    );
}

#[test]
fn windows_that_open_and_close() {
    attack(
        88,
        20,
        |round| if round % 300 < 250 { 0 } else { OPEN },
        |round, mss, flight| {
            let at = (round * mss + mss / 2) % flight;
            vec![at..at + 1]
        },
    );
}

/// All connections but one have as many ranges as they can get, and say nothing more. A new one
/// sends its first segments; each of the others gives up its ranges at its time-outs.
#[test]
fn silent_peers_give_their_ranges_back() {
    let mut worker = Worker::new(1024, 101);
    let mut hostile: Vec<Peer> = (0..100).map(|_| worker.open(88)).collect();
    for peer in &mut hostile {
        worker.grow(peer, 20_000);
    }
    for n in 0..200 {
        for peer in &mut hostile {
            let una = peer.conn.acked().0;
            let blocks: Vec<_> = (0..4)
                .map(|i| una + (n * 4 + i) * 20)
                .map(|at| at..at + 1)
                .collect();
            worker.ack(peer, una, &blocks, OPEN);
        }
    }
    let held = worker.sh.ranges_used();
    assert!(held > 400, "{held}");
    serve_newcomer(&mut worker);
    for _ in 0..40 {
        worker.now += ms(100);
        for peer in &mut hostile {
            worker.timers(peer);
        }
    }
    assert_eq!(worker.sh.ranges_used(), 100, "one for each");
}

/// Shares shrink as others take ranges. A connection that holds more than twice its share gives
/// ranges back at its next acknowledgment; nothing else of it is lost.
#[test]
fn a_holder_of_too_much_gives_ranges_back() {
    let mut worker = Worker::new(4096, 101);
    let hold = |worker: &mut Worker, peer: &mut Peer| {
        worker.grow(peer, 20_000);
        for n in 0..200 {
            let at = peer.conn.acked().0 + n * 80 + 1;
            worker.ack(peer, peer.conn.acked().0, &[at..at + 1], OPEN);
        }
    };
    let mut first = worker.open(88);
    hold(&mut worker, &mut first);
    let held = first.conn.info(&worker.sh).ranges;
    assert!(held > 200, "{held}");
    let mut others: Vec<Peer> = (0..60).map(|_| worker.open(88)).collect();
    for peer in &mut others {
        hold(&mut worker, peer);
    }
    assert_eq!(first.conn.info(&worker.sh).ranges, held);
    let una = first.conn.acked().0;
    worker.ack(&mut first, una, &[], OPEN);
    first.conn.check(&worker.sh);
    assert!(first.conn.info(&worker.sh).ranges < held / 2);
    assert!(worker.sh.counters.ranges_reclaimed > 0);
    // Everything is sent again at its time-out and arrives.
    let sent = first.conn.sent().0;
    worker.now += ms(500);
    worker.timers(&mut first);
    let before = worker.sh.counters.bytes_retransmitted;
    worker.sends(&mut first, u32::MAX);
    assert!(worker.sh.counters.bytes_retransmitted > before);
    worker.ack(&mut first, sent, &[], OPEN);
    assert_eq!(first.conn.acked().0, sent);
}

/// No shared entry at all: one range is enough to send, to repair losses and to finish.
#[test]
fn one_range_is_enough() {
    let mut worker = Worker::new(0, 1);
    let mut peer = worker.open(1460);
    peer.queued = 200_000;
    peer.conn.queued(StreamOffset(peer.queued));
    peer.conn.ready(StreamOffset(peer.queued));
    let mut got = 0;
    let mut turns = 0;
    while got < peer.queued {
        turns += 1;
        assert!(turns < 130, "{turns} turns for 137 segments");
        worker.now += ms(10);
        let start = peer.conn.acked().0;
        worker.sends(&mut peer, u32::MAX);
        // Of each window the peer gets the first half.
        let sent = peer.conn.sent().0;
        got = start + (sent - start).div_ceil(2).max(1460).min(sent - start);
        worker.ack(&mut peer, got, &[], OPEN);
        if turns % 2 == 0 {
            worker.now += ms(3000);
            worker.timers(&mut peer);
        }
        peer.conn.check(&worker.sh);
        assert_eq!(worker.sh.ranges_used(), u32::from(got < peer.conn.sent().0));
    }
}

/// What was retransmitted of a range that can't be split is acknowledged: the next segment follows
/// at once, not after another time-out.
#[test]
fn the_rest_of_a_range_follows_its_first_part() {
    let mut worker = Worker::new(0, 1);
    let mut peer = worker.open(1460);
    peer.queued = 14_600;
    peer.conn.queued(StreamOffset(peer.queued));
    peer.conn.ready(StreamOffset(peer.queued));
    assert_eq!(worker.sends(&mut peer, u32::MAX), 0..14_600);
    worker.now += ms(5000);
    worker.timers(&mut peer);
    let (mut acked, mut rounds) = (0, 0);
    while acked < 14_600 {
        let before = worker.sh.counters.bytes_retransmitted;
        worker.sends(&mut peer, u32::MAX);
        let again = worker.sh.counters.bytes_retransmitted - before;
        assert!(again > 0, "at {acked}");
        worker.now += ms(1);
        acked += again;
        worker.ack(&mut peer, acked, &[], OPEN);
        rounds += 1;
    }
    assert_eq!(rounds, 10, "a segment in each round trip");
    assert_eq!(worker.sh.counters.timeouts, 1);
    assert_eq!(worker.sh.counters.bytes_retransmitted, 14_600);
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap()
}

/// A window of 40 MiB, scaled by 10.
const OPEN: u16 = 40 << 10;
/// Steps for an acknowledgment, and for each of its SACK blocks, on average.
const ACK_STEPS: u64 = 60;
/// Steps of an acknowledgment with four blocks, at most.
const ACK_STEPS_WORST: u64 = 1500;
const TRANSMIT_STEPS: u64 = 300;
const TRANSMIT_STEPS_WORST: u64 = 1000;

//! A worker's ports behind a wire that loses, doubles and reorders frames.

use std::collections::VecDeque;

use lockgate_drivers::WorkerPorts;
use lockgate_testing::Random;
use lockgate_wire::tcp::TcpView;
use lockgate_wire::{IfaceId, SeqNum};
use pktbuf::{Buffer, Info, L4, NotSent, Output, Packet, Room, Slice, TxError, gso};

/// Fault rates, per 10 000 frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Sent frames that get lost.
    pub(crate) lost: u32,
    /// Sent frames that arrive twice.
    pub(crate) doubled: u32,
    /// Received frames that others overtake.
    pub(crate) late: u32,
}

/// Counts of frames and faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    /// Frames refused by the port although it had announced room.
    pub(crate) no_room: u64,
}

/// Loses and doubles frames on the way out, and lets frames overtake each other on the way in.
///
/// A port that cuts bursts has them lost as a whole; those that software cuts are lost frame by
/// frame.
#[derive(Debug)]
pub(crate) struct Wire {
    ports: WorkerPorts,
    faults: Faults,
    random: Random,
    /// Received frames that come later: after how many turns.
    late: VecDeque<(u64, IfaceId, Buffer)>,
    turns: u64,
    pub(crate) tally: Tally,
    pub(crate) retransmission_check: Option<RetransmissionCheck>,
}

impl Wire {
    pub(crate) fn new(ports: WorkerPorts, faults: Faults, seed: u64) -> Self {
        Self {
            ports,
            faults,
            random: Random::new(seed),
            late: VecDeque::new(),
            turns: 0,
            tally: Tally::default(),
            retransmission_check: None,
        }
    }

    /// Receives frames. Returns their number.
    pub(crate) fn receive(&mut self, into: &mut Vec<(IfaceId, Buffer)>) -> usize {
        self.turns += 1;
        let (turn, before) = (self.turns, into.len());
        while self.late.front().is_some_and(|late| late.0 <= turn) {
            if let Some((_, on, packet)) = self.late.pop_front() {
                into.push((on, packet));
            }
        }
        self.ports.rx_burst(|on, packet| {
            if self.random.chance(self.faults.late.into(), 10_000) {
                self.tally.late += 1;
                self.late.push_back((turn + LATE_TURNS, on, packet));
            } else {
                into.push((on, packet));
            }
        });
        into.len() - before
    }

    pub(crate) fn flush(&mut self) -> bool {
        self.ports.flush()
    }

    /// One frame, or one burst that the port cuts.
    fn send(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        self.tally.frames += 1;
        if self.random.chance(self.faults.lost.into(), 10_000) {
            self.tally.lost += 1;
            return Ok(());
        }
        if self.random.chance(self.faults.doubled.into(), 10_000) && self.ports.tx(packet).is_ok() {
            self.tally.doubled += 1;
        }
        self.ports.tx(packet)
    }
}

impl Output for Wire {
    fn info(&self, on: IfaceId) -> Info {
        self.ports.info(on)
    }

    fn room(&self, on: IfaceId) -> Room {
        self.ports.room(on)
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        if let Some(check) = &mut self.retransmission_check {
            check.check(&packet);
        }
        if self.info(packet.meta.iface).tso || packet.meta.protocol != L4::Tcp {
            return self.send(packet);
        }
        let mut meta = packet.meta;
        meta.mss = 0;
        gso::segment(&packet, |head, payload| {
            match self.send(Packet {
                head,
                payload,
                meta,
            }) {
                Ok(()) => {}
                // The others have left: as if this one had got lost.
                Err(TxError::Full) => self.tally.no_room += 1,
                Err(error) => panic!("a frame is refused: {error}"),
            }
            Ok::<(), NotSent>(())
        })?;
        Ok(())
    }
}

/// Compares retransmitted bytes with the first copy, and panics if they differ.
#[derive(Debug)]
pub(crate) struct RetransmissionCheck {
    bytes: Vec<u8>,
    /// End of the stream so far.
    end: Option<SeqNum>,
    /// Bytes that were sent more than once.
    pub(crate) retransmitted_bytes: u64,
}

impl RetransmissionCheck {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; CHECKED_BYTES],
            end: None,
            retransmitted_bytes: 0,
        }
    }

    fn check(&mut self, packet: &Packet<'_>) {
        if packet.payload.is_empty() {
            return;
        }
        let (tcp, _) = TcpView::parse(packet.head.l4()).expect("a TCP header");
        let mut at = tcp.seq;
        for slice in packet.payload {
            let bytes = slice.bytes().expect("what is sent can be read");
            self.check_bytes(at, bytes);
            at += slice_len(slice);
        }
    }

    fn check_bytes(&mut self, at: SeqNum, bytes: &[u8]) {
        let end = *self.end.get_or_insert(at);
        let len = u32::try_from(bytes.len()).expect("shorter than a packet");
        let known = if at.before(end) {
            end.since(at).min(len)
        } else {
            0
        };
        let (old, new) = bytes.split_at(known as usize);
        self.retransmitted_bytes += u64::from(known);
        for (seen, now) in self.places(at, old.len()).into_iter().zip(halves(at, old)) {
            assert!(
                self.bytes[seen] == *now,
                "other bytes are sent again from {}",
                at.0
            );
        }
        let from = at + known;
        for (to, now) in self
            .places(from, new.len())
            .into_iter()
            .zip(halves(from, new))
        {
            self.bytes[to].copy_from_slice(now);
        }
        if !new.is_empty() {
            self.end = Some(at + len);
        }
    }

    /// Ranges of the ring buffer that hold a piece of the stream.
    fn places(&self, at: SeqNum, len: usize) -> [std::ops::Range<usize>; 2] {
        let from = at.0 as usize % CHECKED_BYTES;
        let first = len.min(CHECKED_BYTES - from);
        [from..from + first, 0..len - first]
    }
}

fn halves(at: SeqNum, bytes: &[u8]) -> [&[u8]; 2] {
    let from = at.0 as usize % CHECKED_BYTES;
    let (first, second) = bytes.split_at(bytes.len().min(CHECKED_BYTES - from));
    [first, second]
}

fn slice_len(slice: &Slice<'_>) -> u32 {
    slice.len
}

/// More than is ever in flight.
const CHECKED_BYTES: usize = 16 << 20;
/// How long a late frame takes.
const LATE_TURNS: u64 = 3;

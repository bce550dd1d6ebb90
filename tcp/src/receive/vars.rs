//! Receive sequence variables (RFC 9293, 3.3.1).

use lockgate_wire::tcp::SackBlock;
use lockgate_wire::{Instant, SeqNum};

use crate::ranges::List;
use crate::transmit::{distance, low, signed};

/// The receive side of a connection. Offsets count the peer's FIN as one byte.
#[derive(Debug)]
pub(crate) struct ReceiveVars {
    /// RCV.NXT as an offset.
    pub(crate) nxt: u64,
    /// Offset of the peer's FIN; `u64::MAX` while unknown.
    pub(crate) fin: u64,
    /// Time of the last acceptable segment.
    pub(crate) last_at: Instant,
    /// Out-of-order pieces, most recent first.
    pub(crate) pieces: List,
    /// Range received twice and not yet reported by D-SACK; empty if none.
    pub(super) dsack: (SeqNum, SeqNum),
    pub(crate) irs: SeqNum,
    /// Right edge of the widest advertised window, end of the caller's room, and last acknowledged
    /// offset: low 32 bits of offsets near `nxt`.
    edge: u32,
    room_end: u32,
    last_ack: u32,
    pub(crate) ts_recent: u32,
    /// Largest room so far: the size of the receive buffer.
    pub(crate) capacity: u32,
    /// The MSS that we announced.
    pub(crate) mss_out: u16,
    /// Window scale (shift) of the window fields that we send.
    pub(crate) shift: u8,
    /// Longest payload of a segment seen.
    pub(crate) mss_seen: u16,
    /// Segments still acknowledged without delay.
    pub(crate) quick_acks_left: u8,
    /// An ACK is due now.
    pub(crate) ack_due: bool,
    /// The application closed its receiving side.
    pub(crate) read_shutdown: bool,
}

impl ReceiveVars {
    pub(crate) fn new(now: Instant, mss_out: u16, quick_acks_left: u8) -> Self {
        let irs = SeqNum(0);
        Self {
            nxt: 0,
            fin: u64::MAX,
            last_at: now,
            pieces: List::EMPTY,
            dsack: (irs, irs),
            irs,
            edge: 0,
            room_end: 0,
            last_ack: 0,
            ts_recent: 0,
            capacity: 0,
            mss_out,
            shift: 0,
            mss_seen: 0,
            quick_acks_left,
            ack_due: false,
            read_shutdown: false,
        }
    }

    /// The sequence number of an offset.
    pub(crate) fn seq(&self, at: u64) -> SeqNum {
        self.irs + 1 + low(at)
    }

    /// The offset of a sequence number near `nxt`; negative before the start of the stream.
    pub(crate) fn offset(&self, seq: SeqNum) -> i64 {
        signed(self.nxt) + distance(self.seq(self.nxt), seq)
    }

    /// Right edge of the widest advertised window; at least `nxt`.
    pub(crate) fn edge(&self) -> u64 {
        self.offset_from_low(self.edge).max(self.nxt)
    }

    pub(crate) fn promise(&mut self, edge: u64) {
        self.edge = low(self.edge().max(edge));
    }

    /// What remains of the advertised window.
    pub(crate) fn window(&self) -> u32 {
        low(self.edge() - self.nxt)
    }

    /// Room beyond `nxt`.
    pub(crate) fn room(&self) -> u32 {
        low(self.offset_from_low(self.room_end).saturating_sub(self.nxt))
    }

    pub(crate) fn set_room(&mut self, bytes: u32) {
        let bytes = bytes.min(ROOM_MAX);
        self.room_end = low(self.nxt + u64::from(bytes));
        self.capacity = self.capacity.max(bytes);
    }

    /// The last acknowledged offset.
    pub(crate) fn last_ack(&self) -> u64 {
        self.offset_from_low(self.last_ack)
    }

    pub(crate) fn note_acknowledged(&mut self) {
        self.last_ack = low(self.nxt);
        self.ack_due = false;
        self.dsack.1 = self.dsack.0;
    }

    /// The D-SACK block to report, if any.
    pub(crate) fn dsack(&self) -> Option<SackBlock> {
        SackBlock::new(self.dsack.0, self.dsack.1)
    }

    /// The offset near `nxt` with these low 32 bits.
    fn offset_from_low(&self, half: u32) -> u64 {
        self.nxt
            .saturating_add_signed(distance(SeqNum(low(self.nxt)), SeqNum(half)))
    }

    /// Whether the peer's FIN was received in order.
    pub(crate) fn fin_received(&self) -> bool {
        self.nxt > self.fin
    }
}

/// Upper bound of the room: windows stay far below half of the sequence space.
const ROOM_MAX: u32 = 1 << 30;

//! The receiver's numbers.

use lockgate_wire::tcp::SackBlock;
use lockgate_wire::{Instant, SeqNum};

use crate::ranges::List;
use crate::transmit::{distance, low, signed};

/// The receiver's side of a connection. Offsets count the peer's FIN as one place.
#[derive(Debug)]
pub(crate) struct ReceiveVars {
    /// What comes next.
    pub(crate) nxt: u64,
    /// Where the peer's FIN is; `u64::MAX`: not known.
    pub(crate) fin: u64,
    /// When the last acceptable segment came.
    pub(crate) last_at: Instant,
    /// What came out of order, the last received first.
    pub(crate) pieces: List,
    /// What came twice and has not been reported yet; empty: nothing.
    pub(super) dsack: (SeqNum, SeqNum),
    pub(crate) irs: SeqNum,
    /// Where the widest window that was promised ends, where the caller's room ends, and what was
    /// acknowledged last: the low halves of offsets near `nxt`.
    edge: u32,
    room_end: u32,
    last_ack: u32,
    pub(crate) ts_recent: u32,
    /// The most room that there was.
    pub(crate) capacity: u32,
    /// The segment size that we announced.
    pub(crate) mss_out: u16,
    /// How far windows that we send are shifted.
    pub(crate) shift: u8,
    /// The longest segment seen.
    pub(crate) mss_seen: u16,
    /// Segments that are still acknowledged at once.
    pub(crate) quick_acks_left: u8,
    /// An acknowledgment is due now.
    pub(crate) ack_due: bool,
    /// Nobody reads any more.
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

    /// The offset that a sequence number near `nxt` means; negative for what precedes the stream.
    pub(crate) fn offset(&self, seq: SeqNum) -> i64 {
        signed(self.nxt) + distance(self.seq(self.nxt), seq)
    }

    /// Where the widest window that was promised ends; not before `nxt`.
    pub(crate) fn edge(&self) -> u64 {
        self.offset_from_low(self.edge).max(self.nxt)
    }

    pub(crate) fn promise(&mut self, edge: u64) {
        self.edge = low(self.edge().max(edge));
    }

    /// What is left of the window that was promised.
    pub(crate) fn window(&self) -> u32 {
        low(self.edge() - self.nxt)
    }

    /// How much room there is beyond `nxt`.
    pub(crate) fn room(&self) -> u32 {
        low(self.offset_from_low(self.room_end).saturating_sub(self.nxt))
    }

    pub(crate) fn set_room(&mut self, bytes: u32) {
        let bytes = bytes.min(ROOM_MAX);
        self.room_end = low(self.nxt + u64::from(bytes));
        self.capacity = self.capacity.max(bytes);
    }

    /// What was acknowledged last.
    pub(crate) fn last_ack(&self) -> u64 {
        self.offset_from_low(self.last_ack)
    }

    pub(crate) fn note_acknowledged(&mut self) {
        self.last_ack = low(self.nxt);
        self.ack_due = false;
        self.dsack.1 = self.dsack.0;
    }

    /// What came twice and has not been reported yet.
    pub(crate) fn dsack(&self) -> Option<SackBlock> {
        SackBlock::new(self.dsack.0, self.dsack.1)
    }

    /// The offset near `nxt` with this low half.
    fn offset_from_low(&self, half: u32) -> u64 {
        self.nxt
            .saturating_add_signed(distance(SeqNum(low(self.nxt)), SeqNum(half)))
    }

    /// Whether the peer's FIN was received in order.
    pub(crate) fn fin_received(&self) -> bool {
        self.nxt > self.fin
    }
}

/// Windows stay far below half of the sequence space.
const ROOM_MAX: u32 = 1 << 30;

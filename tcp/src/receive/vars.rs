//! Receive sequence variables (RFC 9293, 3.3.1).

use lockgate_wire::tcp::SackBlock;
use lockgate_wire::{Instant, SeqNum};

use crate::ranges::PieceList;
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
    pub(crate) pieces: PieceList,
    /// Range received twice and not yet reported by D-SACK; empty if none.
    pub(super) dsack: (SeqNum, SeqNum),
    pub(crate) irs: SeqNum,
    /// Right edge of the widest advertised window, end of the caller's room, and last acknowledged
    /// offset: low 32 bits of offsets near `nxt`.
    edge: u32,
    room_end: u32,
    last_ack: u32,
    /// TS.Recent (RFC 7323), and the time of its last update in units of [`coarse`].
    pub(crate) ts_recent: u32,
    ts_recent_at: u32,
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
            pieces: PieceList::EMPTY,
            dsack: (irs, irs),
            irs,
            edge: 0,
            room_end: 0,
            last_ack: 0,
            ts_recent: 0,
            ts_recent_at: coarse(now),
            capacity: 0,
            mss_out,
            shift: 0,
            mss_seen: 0,
            quick_acks_left,
            ack_due: false,
            read_shutdown: false,
        }
    }

    /// Sets TS.Recent and the time of its update.
    pub(crate) fn set_ts_recent(&mut self, now: Instant, val: u32) {
        self.ts_recent = val;
        self.ts_recent_at = coarse(now);
    }

    /// Whether TS.Recent is recent enough for PAWS.
    ///
    /// Its age counts from its own last update, not from the last segment: a peer may omit the
    /// option for a month and then resume it.
    pub(crate) fn is_ts_recent_valid(&self, now: Instant) -> bool {
        coarse(now).wrapping_sub(self.ts_recent_at) < TS_RECENT_VALID
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

    pub(crate) fn advance_window_edge(&mut self, edge: u64) {
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

/// Returns a time in units of 2^30 ns (1.07 s). They wrap after 146 years.
const fn coarse(at: Instant) -> u32 {
    low(at.as_nanos() >> 30)
}

//= https://www.rfc-editor.org/rfc/rfc7323#section-5.5
// After 24 days without an update TS.Recent is invalid. In units of `coarse`.
const TS_RECENT_VALID: u32 = coarse(Instant::from_secs(24 * 24 * 3600));

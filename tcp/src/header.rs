//! Building the TCP headers that a connection sends: acknowledgment, window and options.

use lockgate_wire::tcp::{Flags, SackBlock, SackList, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum};

use crate::options::{syn_options, timestamp_now};
use crate::timers::Timer;
use crate::{Connection, OpenParams, Shared};

impl Connection {
    /// Builds an ACK header with window and SACK blocks. Clears the pending acknowledgment.
    pub(crate) fn ack_header(&mut self, now: Instant, sh: &Shared) -> TcpHeader {
        let window = self.advertise(false);
        self.header_with(window, now, sh)
    }

    /// Builds the ACK that answers a window probe. It advertises any room, even less than a
    /// segment: a receiver whose buffer has shrunk below a segment would otherwise keep its window
    /// closed for ever.
    pub(crate) fn probe_answer(&mut self, now: Instant, sh: &Shared) -> TcpHeader {
        let window = self.advertise(true);
        self.header_with(window, now, sh)
    }

    fn header_with(&mut self, window: u16, now: Instant, sh: &Shared) -> TcpHeader {
        let sack = self.sack_list(sh);
        self.rcv.note_acknowledged();
        self.timers.stop(Timer::DelayedAck);
        TcpHeader {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq: self.snd.seq_without_payload(),
            ack: self.rcv.seq(self.rcv.nxt),
            flags: Flags::ACK,
            window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.timestamps(now),
                sack,
                ..TcpOptions::NONE
            },
        }
    }

    /// Builds a SYN, or the SYN-ACK of a simultaneous open.
    pub(crate) fn syn_header(&mut self, ack: bool, now: Instant, sh: &Shared) -> TcpHeader {
        let opening = OpenParams {
            local_port: self.local_port,
            remote_port: self.remote_port,
            ipv6: self.negotiated.ipv6,
            mss: self.rcv.mss_out,
            isn: self.snd.iss,
            ts_offset: self.negotiated.ts_offset,
        };
        //= https://www.rfc-editor.org/rfc/rfc7323#section-2.2
        //# The window field in a segment where the SYN bit is set (i.e., a <SYN>
        //# or <SYN,ACK>) MUST NOT be scaled.
        let window = u16::try_from(self.rcv.room()).unwrap_or(u16::MAX);
        self.rcv.advance_window_edge(u64::from(window));
        let mut options = syn_options(now, &opening, &sh.config);
        if ack {
            // Only options that the peer's SYN, which crossed ours, also offered.
            options.timestamps = self.timestamps(now);
            options.sack_permitted = self.negotiated.sack;
            options.window_scale = self.negotiated.scaling.then_some(self.rcv.shift);
            self.rcv.note_acknowledged();
        }
        TcpHeader {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq: self.snd.iss,
            ack: if ack { self.rcv.seq(0) } else { SeqNum(0) },
            flags: if ack {
                Flags::SYN | Flags::ACK
            } else {
                Flags::SYN
            },
            window,
            urgent: 0,
            options,
        }
    }

    /// Builds a RST with sequence number `seq`.
    pub(crate) fn reset_header(&self, seq: SeqNum) -> TcpHeader {
        TcpHeader {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq,
            ack: self.rcv.seq(self.rcv.nxt),
            flags: Flags::RST | Flags::ACK,
            window: 0,
            urgent: 0,
            options: TcpOptions::NONE,
        }
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        self.negotiated.timestamps.then(|| Timestamps {
            val: timestamp_now(now, self.negotiated.ts_offset),
            ecr: self.rcv.ts_recent,
        })
    }

    /// The SACK blocks to report: a D-SACK block first, then the out-of-order pieces, most recent
    /// first.
    //= https://www.rfc-editor.org/rfc/rfc2018#section-4
    //# The first SACK block (i.e., the one immediately following the
    //# kind and length fields in the option) MUST specify the contiguous
    //# block of data containing the segment which triggered this ACK,
    //# unless that segment advanced the Acknowledgment Number field in
    //# the header.
    // The list of pieces is ordered by the last update.
    fn sack_list(&self, sh: &Shared) -> SackList {
        if !self.negotiated.sack || (self.rcv.pieces.count == 0 && self.rcv.dsack().is_none()) {
            return SackList::EMPTY;
        }
        let pieces = sh
            .ranges
            .iter_pieces(&self.rcv.pieces)
            .filter_map(|(_, piece)| {
                SackBlock::new(self.rcv.seq(piece.start), self.rcv.seq(piece.end()))
            });
        let room = sack_room(self.negotiated.timestamps);
        self.rcv
            .dsack()
            .into_iter()
            .chain(pieces)
            .take(usize::from(room))
            .collect()
    }

    /// The window field to send. Records the right edge that it advertises.
    fn advertise(&mut self, any: bool) -> u16 {
        let rcv = &mut self.rcv;
        let shift = rcv.shift;
        let (advertised, room) = (rcv.window(), rcv.room());
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.2.2
        //# the receiver avoids advancing the right
        //# window edge RCV.NXT+RCV.WND in small increments, even if data is
        //# received from the network in small segments.
        let step = (rcv.capacity / 2).min(u32::from(rcv.mss_out));
        let step = if any { 1 } else { step.max(1) };
        let field = if room >= advertised + step {
            room >> shift
        } else {
            // Rounding down moves the advertised edge back, rounding up may advertise too much. It
            // is rounded up where there is room, and where less than a unit remains and bytes in it
            // are missing: a closed window would leave them to window probes, byte by byte.
            let up = advertised.div_ceil(1 << shift);
            let is_blocking = advertised >> shift == 0 && rcv.pieces.count > 0;
            if up << shift <= room || is_blocking {
                up
            } else {
                advertised >> shift
            }
        };
        let field = u16::try_from(field).unwrap_or(u16::MAX);
        rcv.advance_window_edge(rcv.nxt + (u64::from(field) << shift));
        field
    }

    /// Whether the window can be opened by enough to justify a window update.
    // The rule of FreeBSD's tcp_output: two segments and a share of the buffer that grows as the
    // window shrinks, or half of the buffer.
    pub(crate) fn window_update_due(&self) -> bool {
        let rcv = &self.rcv;
        if !self.state.receives_text() {
            return false;
        }
        let shift = self.rcv.shift;
        let advertised = rcv.window();
        let room = rcv.room().min(u32::from(u16::MAX) << shift);
        let more = room.saturating_sub(advertised) >> shift << shift;
        let capacity = rcv.capacity;
        if more == 0 {
            return false;
        }
        let worthwhile = more >= 2 * u32::from(self.rcv.mss_out)
            && (more >= capacity / 4 || advertised <= capacity / 8);
        worthwhile || more >= capacity / 2
    }
}

/// How many SACK blocks the next acknowledgment reports.
pub(crate) fn pieces_reported(conn: &Connection) -> u16 {
    if !conn.negotiated.sack {
        return 0;
    }
    let blocks = conn.rcv.pieces.count + u32::from(conn.rcv.dsack().is_some());
    sack_room(conn.negotiated.timestamps).min(u16::try_from(blocks).unwrap_or(u16::MAX))
}

/// How many blocks fit.
const fn sack_room(timestamps: bool) -> u16 {
    if timestamps { 3 } else { 4 }
}

//! Packets of a socket: what TCP offers, as much of it as the queue, the interface and memory
//! allow.

use core::ops::Range;

use lockgate_ktls::{CryptoError, Limits as BurstLimits};
use lockgate_tcp::{Intent, IntentKind};
use lockgate_wire::tcp::Flags;
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Output, Packet, PagePool, Slices};

use super::{SendOutcome, Socket};
use crate::context::SocketContext;
use crate::egress::{Egress, Path, segment_headers};
use crate::env::Env;
use crate::memory::{GUARANTEED_BYTES, Missing, SendShare};
use crate::notice::CloseReason;
use crate::schedule::{Schedule, SendClass};

/// Why a range was shortened, if nothing is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealRoom {
    /// The connection holds its share of the page pool. Its acknowledgments free memory.
    ShareUsed,
    /// The pool has no span, or others wait for one.
    PoolUsed,
}

/// What the sockets may still send in one turn of the worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendBudget {
    pub(crate) packets: u32,
    /// Payload bytes. The last packet may exceed it.
    pub(crate) bytes: u32,
}

impl SendBudget {
    pub(crate) fn is_used_up(&self) -> bool {
        self.packets == 0 || self.bytes == 0
    }
}

/// Whether an interface takes another packet with payload.
pub(crate) fn has_room<N: Output>(net: &N, iface: IfaceId) -> bool {
    let room = net.room(iface);
    room.packets > 0 && room.entries >= 2
}

/// How one attempt to send a packet ended.
enum PacketOutcome {
    /// So many bytes of payload were sent.
    Sent(u32),
    /// The turn ends.
    Stop(SendOutcome),
    /// The records are away. TCP may have other packets to send.
    Away,
}

impl Socket {
    /// Sends what can be sent now, within the budget of the worker's turn and its own credit.
    pub(crate) fn transmit<N: Output>(
        &mut self,
        now: Instant,
        cx: &mut SocketContext,
        egress: &mut Egress,
        env: &mut Env<'_, N>,
        budget: &mut SendBudget,
    ) -> SendOutcome {
        let mut known = None;
        self.submit_window(cx, env.ciphers, env.pages);
        while !self.is_tcp_over() {
            let Some(intent) = self.tcp.poll_transmit(now, &cx.tcp) else {
                return SendOutcome::Done;
            };
            let may_send = !budget.is_used_up()
                && (self.lists.credit_bytes() > 0
                    || cx
                        .schedule
                        .extend_turn(&mut self.lists, cx.limits.quantum_bytes));
            if !may_send {
                return SendOutcome::TurnOver;
            }
            // One neighbour lookup a turn, and only if there is something to send.
            let path = match known {
                Some(path) => path,
                None => {
                    let confirmed = core::mem::take(&mut self.pending.reachability_confirmed);
                    match egress.path(now, self.tuple.remote.addr, confirmed, env.net) {
                        Some(path) => *known.insert(path),
                        None => return SendOutcome::Unresolved,
                    }
                }
            };
            if !has_room(env.net, path.iface) {
                return SendOutcome::NoRoom(path.iface);
            }
            let room = env.net.room(path.iface);
            let entries = path
                .entries_max
                .min(u16::try_from(room.entries).unwrap_or(u16::MAX))
                - 1;
            let limits = self.burst_limits(&intent, entries, &path, &cx.schedule);
            let mss = intent.mss;
            match self.transmit_one(now, intent, limits, &path, cx, env) {
                PacketOutcome::Sent(len) => {
                    let cost = cost(len, mss);
                    self.lists.charge(cost);
                    budget.bytes = budget.bytes.saturating_sub(cost);
                }
                PacketOutcome::Stop(turn) => return turn,
                PacketOutcome::Away => continue,
            }
            budget.packets -= 1;
        }
        SendOutcome::Done
    }

    /// Sends one packet: as much of the intent as the queue, the interface and memory allow.
    fn transmit_one<N: Output>(
        &mut self,
        now: Instant,
        intent: Intent,
        limits: BurstLimits,
        path: &Path,
        cx: &mut SocketContext,
        env: &mut Env<'_, N>,
    ) -> PacketOutcome {
        let mut range = intent.range.start.0..intent.range.end.0;
        let wanted = !range.is_empty();
        let mut blocked = SendOutcome::Starved(Missing::Spans);
        if wanted && env.ciphers.has_away() && self.tx.needs_sealing(range.end) {
            self.submit_records(range.end, cx, env.ciphers, env.pages);
            if range.start >= self.tx.ready_end() {
                return PacketOutcome::Away;
            }
            // A record that comes back lists the socket for a turn.
            range.end = range.end.min(self.tx.ready_end());
        }
        // A retransmission takes no memory, unless its ciphertext was dropped.
        let takes_memory = !range.is_empty() && self.tx.needs_sealing(range.end);
        if takes_memory {
            let room;
            (range, room) = self.seal_room(range, cx, env.pages);
            blocked = match room {
                // An acknowledgment lists the socket for a turn.
                SealRoom::ShareUsed => SendOutcome::Done,
                SealRoom::PoolUsed => SendOutcome::Starved(Missing::Spans),
            };
        }
        if !range.is_empty() {
            // If nothing can be sealed now, the pool has no span.
            blocked = SendOutcome::Starved(Missing::Spans);
            range = match self.prepare(range, &limits, env) {
                Ok(range) => range,
                Err(error) => {
                    debug_assert!(
                        error != CryptoError::BadTag,
                        "sealing has no tag to compare"
                    );
                    self.abort(CloseReason::Crypto, &mut cx.schedule);
                    return PacketOutcome::Stop(SendOutcome::Done);
                }
            };
        }
        if takes_memory && !range.is_empty() {
            cx.memory.starved.on_taken(Missing::Spans, &mut self.lists);
        }
        let blocked = (wanted && range.is_empty()).then_some(blocked);
        if let Some(outcome) = blocked
            && !self.tcp.ack_due()
        {
            return PacketOutcome::Stop(outcome);
        }
        let sent = self.send_packet(now, intent, &range, limits.entries, path, cx, env);
        match blocked {
            Some(outcome) => PacketOutcome::Stop(outcome),
            None => sent,
        }
    }

    /// Shortens a range to the records that the connection may seal now: as many as its share of
    /// the page pool has room for. A connection without a sealed record may seal one, as soon as
    /// the pool has a span for it.
    pub(super) fn seal_room(
        &self,
        range: Range<u64>,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> (Range<u64>, SealRoom) {
        let held = self.tx.true_size();
        let spans = SendShare::of(pages.usage()).spans_left(held);
        let has_none = !self.tx.has_sealed() && !self.tx.has_away();
        let is_guaranteed = held < GUARANTEED_BYTES || has_none;
        let spans = if is_guaranteed { spans.max(1) } else { spans };
        let may_take = !is_guaranteed || cx.memory.starved.admits(Missing::Spans, self.lists);
        let may_take = may_take && cx.memory.reserve.fill(pages);
        let spans = if may_take { spans } else { 0 };
        let clamped = self.tx.clamp_to_spans(&range, spans);
        cx.counters.share_limited += u64::from(may_take && clamped.is_empty());
        let room = if may_take {
            SealRoom::ShareUsed
        } else {
            SealRoom::PoolUsed
        };
        (clamped, room)
    }

    /// What one burst of an intent takes at most.
    fn burst_limits(
        &self,
        intent: &Intent,
        entries: u16,
        path: &Path,
        schedule: &Schedule,
    ) -> BurstLimits {
        let one = u32::from(intent.mss);
        let bytes = if path.tso_bytes_max > one {
            let most = path.tso_bytes_max.min(BURST_FRAMES_MAX.saturating_mul(one));
            intent.burst_max.min(most).max(one)
        } else {
            one
        };
        // A new socket sends no more than others may have to wait for. An old one pays in its next
        // turn, so that its packets are as large as the interface takes them.
        let bytes = match self.lists.class() {
            SendClass::New if schedule.has_ready() => bytes.min(self.lists.credit_bytes()).max(one),
            SendClass::New | SendClass::Old => bytes,
        };
        BurstLimits {
            bytes,
            entries,
            mss: intent.mss,
        }
    }

    /// Shortens a range to what one burst takes, and seals its records.
    fn prepare<N: Output>(
        &mut self,
        range: Range<u64>,
        limits: &BurstLimits,
        env: &mut Env<'_, N>,
    ) -> Result<Range<u64>, CryptoError> {
        let one = limits.mss;
        let range = self.tx.clamp(&range, limits);
        if range.is_empty() {
            return Ok(range);
        }
        let ready = self.tx.prepare(&range, env.ciphers, env.pages)?;
        if ready >= range.end {
            return Ok(range);
        }
        // The pool ran out on the way. Whole segments are sent, or else the part of one that is
        // sealed: its record's memory is freed only when all of the record is acknowledged.
        let len = ready.saturating_sub(range.start);
        let whole = len - len % u64::from(one);
        Ok(range.start..range.start + if whole == 0 { len } else { whole })
    }

    /// Commits an intent and passes its packet to the interface.
    ///
    /// A send that the interface refuses for lack of room is retried: it counts as a local loss,
    /// and TCP retries the send in a later turn.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of transmit_one, with its locals"
    )]
    fn send_packet<N: Output>(
        &mut self,
        now: Instant,
        intent: Intent,
        range: &Range<u64>,
        entries: u16,
        path: &Path,
        cx: &mut SocketContext,
        env: &mut Env<'_, N>,
    ) -> PacketOutcome {
        let mut slices = Slices::new(usize::from(entries));
        let reached = self.tx.slices(range, &mut slices);
        debug_assert_eq!(reached, range.end, "the range was clamped to what fits");
        let (len, mss) = (slices.bytes(), intent.mss);
        let retransmit = matches!(intent.kind, IntentKind::Retransmit);
        let (header, sent) = self.tcp.commit(intent, len, now, &mut cx.tcp);
        if len > 0 || header.flags.contains(Flags::FIN) {
            // Time in which the connection lacked something else takes no credit.
            if !self.progress.is_running() && self.orphan_until != Instant::MAX {
                self.orphan_until = now + cx.limits.orphan_timeout;
            }
            self.progress.on_sent(now, self.tx.start());
        }
        if self.tcp.peer_closed() && len > 0 && !retransmit {
            cx.counters.half_closed_sends += 1;
        }
        // A packet on an unreachable path counts as sent. TCP's retransmission timer then works as
        // for any peer that doesn't answer.
        let Some((head, mut meta)) = segment_headers(path, &self.tuple, &header, len) else {
            cx.counters.neighbour_unreachable += 1;
            return PacketOutcome::Sent(len);
        };
        meta.hash = self.hash;
        meta.retransmit = retransmit;
        meta.mss = if len > u32::from(mss) { mss } else { 0 };
        match env.net.tx(Packet {
            head: &head,
            payload: slices.as_slice(),
            meta,
        }) {
            Ok(()) => {
                cx.counters.packets_out += 1;
                cx.counters.payload_bytes_out += u64::from(len);
                PacketOutcome::Sent(len)
            }
            Err(error) => {
                cx.counters.tx_failed += 1;
                if error == pktbuf::TxError::Full {
                    self.tcp.on_local_loss(now, sent, &mut cx.tcp);
                    return PacketOutcome::Stop(SendOutcome::NoRoom(path.iface));
                }
                PacketOutcome::Sent(len)
            }
        }
    }
}

/// What `len` bytes of payload cost in a turn: so many bytes, and [`FRAME_COST`] at least for each
/// frame. Otherwise a peer with a tiny segment size would take many times the frames of others.
fn cost(len: u32, mss: u16) -> u32 {
    let frames = len.div_ceil(u32::from(mss.max(1)));
    len.max(frames.saturating_mul(FRAME_COST))
}

/// Payload bytes that a frame counts as, at least.
const FRAME_COST: u32 = 512;
/// Frames that one burst is cut into at most.
///
/// Software segmentation has a list of frames of limited length. A burst that doesn't fit is
/// refused however often it is retried, and with a tiny segment size even a short burst is many
/// frames. With segments of the default size (536 bytes) the limit is 32 KiB.
const BURST_FRAMES_MAX: u32 = 61;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_costs_so_much_at_least() {
        assert_eq!(cost(0, 1460), 0);
        assert_eq!(cost(1, 1460), FRAME_COST);
        assert_eq!(cost(1460, 1460), 1460);
        assert_eq!(cost(14_601, 1460), 14_601, "the mean counts");
        assert_eq!(cost(88, 88), FRAME_COST);
        assert_eq!(cost(61 * 88, 88), 61 * FRAME_COST);
        assert_eq!(cost(60 * 88 + 1, 88), 61 * FRAME_COST);
        assert_eq!(cost(u32::MAX, 1), u32::MAX);
        assert_eq!(cost(7, 0), 7 * FRAME_COST, "no division by zero");
    }
}

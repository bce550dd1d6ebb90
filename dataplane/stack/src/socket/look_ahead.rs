//! How far a send queue reaches ahead of what its peer has acknowledged.

use lockgate_ktls::{PLAINTEXT_MAX, RecordShape};
use lockgate_tcp::State;

use super::Socket;
use crate::config::Limits;

impl Socket {
    /// As [`send_space`](Self::send_space), also for a file that is being sent and for a socket
    /// that closes behind it.
    pub(super) fn queue_space(&self, limits: &Limits) -> u32 {
        // No application data precedes a KeyUpdate that the peer asked for.
        if self.is_full(limits) || self.keys_from.owes_key_update() {
            return 0;
        }
        let queued = u32::try_from(self.send_queued()).unwrap_or(u32::MAX);
        if self.is_window_closed() {
            let has_record = self.tx.start() < self.tx.end();
            // An open record is continued: only a record that was queued is sent by a probe.
            let open = self.tx.open_len();
            return if has_record {
                0
            } else {
                self.record_content().saturating_sub(open)
            };
        }
        self.content_of(self.ahead_max(limits).saturating_sub(queued))
    }

    /// How far the queue may reach beyond what is acknowledged, in bytes.
    ///
    /// Two windows: one is in flight, and another is ready when the peer acknowledges. More would
    /// only pin memory.
    fn ahead_max(&self, limits: &Limits) -> u32 {
        let ahead = self.tcp.usable_window().saturating_mul(2);
        let ahead = ahead.max(2 * self.record_bytes());
        ahead.min(limits.send_buffer_bytes)
    }

    /// Whether the peer keeps its window closed. Nothing is queued behind the record that it has
    /// to take first, so that it pins one.
    fn is_window_closed(&self) -> bool {
        self.tcp.usable_window() == 0 && self.tcp.state() != State::SynSent
    }

    /// The content of a full record, or of what counts as one without TLS.
    fn record_content(&self) -> u32 {
        self.tx.payload_len_max().unwrap_or(PLAINTEXT).into()
    }

    /// A full record on the wire.
    fn record_bytes(&self) -> u32 {
        let content = self.tx.payload_len_max().unwrap_or(PLAINTEXT);
        match self.tx.params() {
            Some(params) => params.shape().record_len(content),
            None => content.into(),
        }
    }

    /// How much content fits in so many bytes of records.
    fn content_of(&self, bytes: u32) -> u32 {
        if self.tx.params().is_none() {
            return bytes;
        }
        let (record, content) = (self.record_bytes(), self.record_content());
        bytes / record * content + (bytes % record).saturating_sub(OVERHEAD_MAX)
    }

    /// Whether the queue is below its low-water mark, in bytes and in pinned memory.
    pub(super) fn is_below_low_water(&self, limits: &Limits) -> bool {
        self.send_queued() < self.low_water(limits)
            && !self.pins_more_than(limits.send_low_water_bytes)
    }

    /// The low-water mark, in bytes of the queue.
    pub(super) fn low_water(&self, limits: &Limits) -> u64 {
        if self.is_window_closed() {
            return 1;
        }
        let half = self.ahead_max(limits) / 2;
        limits.send_low_water_bytes.min(half).into()
    }
}

/// The most content of a record.
#[expect(clippy::cast_possible_truncation, reason = "16 KiB")]
const PLAINTEXT: u16 = PLAINTEXT_MAX as u16;
/// The most bytes of a record beside its content.
#[expect(clippy::cast_possible_truncation, reason = "less than a hundred")]
const OVERHEAD_MAX: u32 = (RecordShape::HEAD_MAX + RecordShape::TAIL_MAX) as u32;

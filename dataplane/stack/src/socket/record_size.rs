//! Sizes of records: small ones where a connection begins to send, or begins again, and whole ones
//! in bulk.

use lockgate_ktls::Segments;
use pktbuf::PagePool;

use super::Socket;
use crate::config::{DynamicRecords, Limits};
use crate::context::SocketContext;
use crate::socket_error::SocketError;

impl Socket {
    /// Begins with small records, or ends that.
    pub(super) fn start_dynamic_records(&mut self, on: bool, settings: DynamicRecords) {
        self.tx
            .set_dynamic_records(on && settings.small_records > 0);
        self.tx.begin_small(settings.small_records);
    }

    /// Begins with small records again if the connection was idle, before a write. Returns where
    /// segments end, which the write needs for small records.
    ///
    /// While half of the small spans or of the blocks are used, records are full: small spans are
    /// for handshakes and alerts as well, each small record takes a block, and clients that
    /// acknowledge nothing could hold all of them.
    pub(super) fn segments(&mut self, cx: &mut SocketContext, pages: &PagePool) -> Segments {
        if !self.tx.has_dynamic_records() {
            return Segments::UNKNOWN;
        }
        let DynamicRecords {
            small_records,
            idle,
        } = cx.record_layer.dynamic_records;
        // What is in flight isn't idle: its acknowledgments come, or are waited for.
        let is_idle =
            self.send_queued() == 0 && cx.now.saturating_since(self.tcp.last_sent()) >= idle;
        if is_idle && self.tx.small_left() < small_records {
            self.tx.begin_small(small_records);
            cx.counters.small_restarts += 1;
        }
        let usage = pages.usage();
        let is_short = usage.small_spans_used >= usage.small_spans / 2
            || usage.blocks_used >= usage.blocks / 2;
        if self.tx.small_left() == 0 || is_short {
            return Segments::UNKNOWN;
        }
        Segments::new(self.tcp.sent().0, self.tcp.mss())
    }

    /// Returns how many bytes of `room` a write of `wanted` bytes takes. A write that is longer
    /// than the room takes whole records. Otherwise each acknowledgment would make a short record.
    ///
    /// Below the low-water mark a short record is taken: no acknowledgment may come, and the
    /// application was told to send.
    pub(super) fn record_room(&self, room: u32, wanted: u64, limits: &Limits) -> u32 {
        let len_max = self.tx.payload_len_max().map_or(0, u32::from);
        // The first small records are short in any case.
        if len_max == 0 || u64::from(room) >= wanted || self.tx.small_left() > 0 {
            return room;
        }
        let first = len_max.saturating_sub(self.tx.open_len());
        match room.checked_sub(first) {
            Some(rest) => room - rest % len_max,
            None if self.send_queued() < self.low_water(limits) => room,
            None => 0,
        }
    }

    /// Counts the small records of a write, before which so many were left.
    pub(super) fn count_small_records(&self, left_before: u8, cx: &mut SocketContext) {
        let written = left_before.saturating_sub(self.tx.small_left());
        cx.counters.small_records += u64::from(written);
    }

    /// Lets a connection with keys of the application have small records, or ends that.
    pub(crate) fn set_tx_dynamic_records(
        &mut self,
        on: bool,
        cx: &SocketContext,
    ) -> Result<(), SocketError> {
        if self.tx.params().is_none() {
            return Err(SocketError::NoKeys);
        }
        self.start_dynamic_records(on, cx.record_layer.dynamic_records);
        Ok(())
    }

    /// Whether the connection has small records at times.
    pub(crate) fn has_tx_dynamic_records(&self) -> Option<bool> {
        let has_keys = self.tx.params().is_some();
        has_keys.then(|| self.tx.has_dynamic_records())
    }
}

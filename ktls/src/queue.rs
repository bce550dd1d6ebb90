//! The send queue of a socket, TLS or not.

use core::ops::Range;
use std::sync::Arc;

use pktbuf::{PageBuf, PagePool, SharedSpan, Slices, Stream};

use crate::alert::Alert;
use crate::cipher::Ciphers;
use crate::error::{CryptoError, TxError};
use crate::mode::Mode;
use crate::session::Session;
use crate::suite::{ContentType, Params};

/// The send queue of a socket, TLS or not.
pub struct RecordQueue {
    stream: Stream<PageBuf>,
}

/// What one burst may take at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of payload.
    pub bytes: u32,
    /// Scatter entries.
    pub entries: u16,
    /// Segment size: a range that a limit shortens is rounded down to whole segments.
    pub mss: u16,
}

/// How far the current key is from its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyUse {
    /// Far enough, or no keys at all.
    Fine,
    /// TLS 1.3: call [`RecordQueue::update_keys`] soon. TLS 1.2: close soon.
    RefreshDue,
    /// Nothing more can be framed.
    Spent,
}

impl RecordQueue {
    /// An empty queue without keys: bytes pass as they are.
    pub fn new() -> Self {
        todo!()
    }

    /// Installs keys: everything pushed from now on is framed into records, numbered from
    /// `first_number`. What's queued already stays as it is and precedes them.
    pub fn enable(&mut self, session: Session, first_number: u64, ciphers: &mut Ciphers) -> Result<(), TxError> {
        todo!()
    }

    /// The end of a queue with its keys. A queue that's merely dropped leaves its session counted
    /// as active.
    pub fn retire(self, ciphers: &mut Ciphers) {
        todo!()
    }

    /// Queues a page buffer as it is (handshake bytes); given back if there are keys.
    pub fn push_plain(&mut self, buf: PageBuf) -> Result<(), PageBuf> {
        todo!()
    }

    /// Copies and queues the bytes of `parts`, one after the other: as application data if there
    /// are keys. Returns how many bytes were taken: fewer than given when the pool runs out.
    /// With `more`, the last record stays open for the next call, unsent until it is closed.
    pub fn push_bytes(&mut self, parts: &[&[u8]], more: bool, pool: &mut PagePool) -> Result<u32, TxError> {
        todo!()
    }

    /// Queues `len` bytes of `span` from `at` by reference. Returns how many bytes were taken.
    pub fn push_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32, pool: &mut PagePool) -> Result<u32, TxError> {
        todo!()
    }

    /// Queues one record of any type.
    pub fn push_message(&mut self, kind: ContentType, content: &[u8], pool: &mut PagePool) -> Result<(), TxError> {
        todo!()
    }

    /// Queues an alert's record.
    pub fn push_alert(&mut self, alert: Alert, pool: &mut PagePool) -> Result<(), TxError> {
        todo!()
    }

    /// Closes the record that `more` left open, if there is one.
    pub fn flush(&mut self) -> Result<(), TxError> {
        todo!()
    }

    /// Sends a KeyUpdate and goes over to the next keys; `ask_peer` wants the same of the peer.
    pub fn update_keys(&mut self, ask_peer: bool, ciphers: &mut Ciphers, pool: &mut PagePool) -> Result<(), TxError> {
        todo!()
    }

    /// Cuts away what was never sealed and never sent; `sent` is what TCP has sent at most.
    /// Returns the new end.
    pub fn cut_unsent(&mut self, sent: u64) -> u64 {
        todo!()
    }

    /// Frees what is acknowledged up to `to`, whole records at a time.
    pub fn release(&mut self, to: u64) {
        todo!()
    }

    /// Seals the records that `range` touches, in order. Returns how far the range is ready: less
    /// than its end when the pool ran out.
    pub fn prepare(&mut self, range: &Range<u64>, ciphers: &mut Ciphers, pool: &mut PagePool) -> Result<u64, CryptoError> {
        todo!()
    }

    /// The records' length limit from now on (content bytes).
    pub fn set_record_len_max(&mut self, bytes: u16) {
        todo!()
    }

    /// Wants a key change after this many records, if that's earlier than the suite's limit.
    pub fn set_refresh_after(&mut self, records: u32) {
        todo!()
    }

    /// Shortens `want` to what one burst may take. Unchanged start; empty if nothing can go.
    pub fn clamp(&self, want: &Range<u64>, limits: &Limits) -> Range<u64> {
        todo!()
    }

    /// The page buffers' pieces of `range`, which was prepared; as many as fit. Returns the bytes.
    pub fn slices<'a>(&'a self, range: &Range<u64>, out: &mut Slices<'a>) -> u32 {
        todo!()
    }

    /// How far the current key is from its limits.
    pub fn key_use(&self) -> KeyUse {
        todo!()
    }

    /// Who seals.
    pub fn mode(&self) -> Mode {
        todo!()
    }

    /// Suite and version, if there are keys.
    pub fn params(&self) -> Option<Params> {
        todo!()
    }

    /// Offset of the first byte that isn't acknowledged (TCP's).
    pub fn start(&self) -> u64 {
        todo!()
    }

    /// Offset after the last byte: TCP's `queued`.
    pub fn end(&self) -> u64 {
        todo!()
    }

    /// Offset up to which bytes can be sent at once: TCP's `ready`.
    pub fn ready_end(&self) -> u64 {
        todo!()
    }

    /// Bytes in the record that `more` left open.
    pub fn open_len(&self) -> u32 {
        todo!()
    }
}

//! The send queue of a socket, with TLS or without.

mod epoch;
mod rekey;
mod seal;
mod size;
mod write;

use core::ops::Range;

use pktbuf::{PageBuf, PagePool, Slices, State, Stream};

use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::enable::{Direction, KeyInfo};
use crate::error::{CryptoError, TxError};
use crate::mode::Mode;
use crate::session::Session;
use crate::shape::SealOrder;
use crate::suite::{CONTENT_MAX, Params};

pub use epoch::KeyUse;
use epoch::Protection;
use seal::NONE_AWAY;
pub use seal::Taken;
pub use size::Segments;

/// The send queue of a socket, with TLS or without: page buffers by stream offset, from the first
/// unacknowledged byte.
///
/// Without keys, bytes pass unchanged. With keys, everything pushed is framed into records at once,
/// which fixes every length and stream offset. [`prepare`](Self::prepare) seals a record when TCP
/// is about to send its first byte. Records can be sealed ahead of that as well, on another thread
/// or by a device: [`jobs`](Self::jobs) takes them out, [`sealed`](Self::sealed) takes them back.
///
/// Order of calls:
///
/// 1. `push_*`, then pass [`end`](Self::end) and [`ready_end`](Self::ready_end) to TCP.
/// 2. For each range that TCP wants to send: [`clamp`](Self::clamp), [`prepare`](Self::prepare),
///    [`slices`](Self::slices), then commit it in TCP.
/// 3. [`release`](Self::release) what is acknowledged.
///
/// A retransmission is prepared like any other range. Its records are sealed already, so the bytes
/// are those of the first transmission.
pub struct RecordQueue {
    stream: Stream<PageBuf>,
    /// Everything before this offset is sealed, away or plain. Behind it there may be sealed
    /// records between framed ones.
    unsubmitted: u64,
    /// Not in a box: the box would cost an idle connection its header and its pointer.
    keys: Option<Protection>,
}

/// Limits of one burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of payload at most.
    pub bytes: u32,
    /// Scatter entries at most.
    pub entries: u16,
    /// Segment size in bytes. A range that a limit shortens is rounded down to whole segments.
    pub mss: u16,
}

impl RecordQueue {
    /// Creates an empty queue without keys.
    pub const fn new() -> Self {
        Self {
            stream: Stream::new(),
            unsubmitted: 0,
            keys: None,
        }
    }

    /// Installs keys. Everything pushed from now on is framed into records, numbered from
    /// `first_number`. Bytes that are queued already stay plain.
    ///
    /// # Errors
    ///
    /// [`TxError::AlreadyEnabled`] if there are keys, [`TxError::Crypto`] if no backend supports
    /// them.
    pub fn enable(
        &mut self,
        session: Session,
        first_number: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), TxError> {
        ciphers.counters.add(Counter::EnableCalls, 1);
        if self.keys.is_some() {
            return Err(TxError::AlreadyEnabled);
        }
        if !ciphers.supports(session.params()) {
            return Err(TxError::Crypto(CryptoError::Unsupported));
        }
        ciphers
            .counters
            .session_opened(session.params(), Direction::Tx);
        self.keys = Some(Protection::new(session, first_number, self.stream.end()));
        Ok(())
    }

    /// Ends a queue and removes its expanded keys. Dropping a queue instead leaves its session
    /// counted as active, and its expanded key in the table until it is evicted.
    pub fn retire(self, ciphers: &mut Ciphers) {
        if let Some(keys) = self.keys {
            ciphers
                .counters
                .session_closed(keys.params(), Direction::Tx);
            keys.forget(ciphers);
        }
    }

    /// Removes what was never sent, for an abort or a fatal alert. Returns the new end.
    ///
    /// It removes framed records, whose numbers are reused, the open record, and plain bytes after
    /// `sent`, the end of what TCP ever sent. Sealed records stay, because the peer may have seen a
    /// byte of them. Records that are away stay as well: they may be sealed by now.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] if the numbers can't be reused, which is a fault of the queue. Only the open
    /// record was removed; the connection has to be reset.
    pub fn cut_unsent(&mut self, sent: u64) -> Result<u64, CryptoError> {
        let Some(keys) = self.keys.as_mut() else {
            self.unsubmitted = self.stream.truncate(sent);
            return Ok(self.unsubmitted);
        };
        keys.open = None;
        let floor = keys.submitted.max(sent);
        let first_cut = self
            .stream
            .iter_from(floor)
            .find(|(offset, _)| *offset >= floor)
            .and_then(|(_, block)| block.record());
        if let Some(record) = first_cut {
            keys.roll_back(record)?;
        }
        let end = self.stream.truncate(floor);
        keys.control_end = keys.control_end.min(end);
        self.unsubmitted = self.unsubmitted.min(end);
        self.debug_check();
        Ok(end)
    }

    /// Frees acknowledged bytes up to `to`, in whole records: a retransmission from the middle of a
    /// record needs all of it.
    pub fn release(&mut self, to: u64) {
        let submitted = self.keys.as_ref().map_or(0, |keys| keys.submitted);
        let ready = submitted.max(self.unsubmitted).min(self.ready_end());
        debug_assert!(to <= ready, "only what was sealed is sent and acknowledged");
        self.stream.release(to.min(ready));
        // Of records whose ciphertext was dropped, those that are acknowledged aren't sealed again.
        self.unsubmitted = self.unsubmitted.max(self.stream.first_offset());
        self.debug_check();
    }

    /// Drops the ciphertext of records that were sealed from the page cache, and to which no port
    /// refers any more. They are sealed again, with the same result, when they have to be sent
    /// again: number, key and plaintext are those of the first time. Returns the number of spans
    /// that were freed.
    ///
    /// Records before the last KeyUpdate stay sealed: their key may be gone. So do those of TLS
    /// 1.0: their IV was the end of a record that may be gone.
    pub fn drop_ciphertext(&mut self, pool: &mut PagePool) -> u32 {
        let Some(keys) = &self.keys else {
            return 0;
        };
        if keys.params().shape().order == SealOrder::Sequence {
            return 0;
        }
        // Records of other keys end there.
        let sealed = keys.control_end..self.sealed_to();
        let (freed, first) = self.stream.drop_ciphertext(sealed, pool);
        if let Some(first) = first {
            self.unsubmitted = first;
        }
        freed
    }

    /// Limits the content of records framed from now on, in bytes: 1 to 2^14, which is the default.
    pub fn set_record_len_max(&mut self, bytes: u16) {
        if let Some(keys) = self.keys.as_mut() {
            keys.size.set_len_max(bytes);
        }
    }

    /// As [`set_record_len_max`](Self::set_record_len_max), by the rules of Linux's
    /// `TLS_TX_MAX_PAYLOAD_LEN`: 64 to 2^14 in TLS 1.2, and 63 to 2^14 in TLS 1.3, where the inner
    /// type is a byte of the record that the peer limits (RFC 8449).
    ///
    /// # Errors
    ///
    /// [`TxError::WrongMode`] without keys, [`TxError::OpenRecord`] while a record is open,
    /// [`TxError::LengthLimit`].
    pub fn set_payload_len_max(&mut self, bytes: u16) -> Result<(), TxError> {
        let keys = self.keys.as_mut().ok_or(TxError::WrongMode)?;
        if keys.open.is_some() {
            return Err(TxError::OpenRecord);
        }
        //= https://www.rfc-editor.org/rfc/rfc8449#section-4
        //# Endpoints MUST NOT send a "record_size_limit" extension with a value
        //# smaller than 64.
        let min = RECORD_SIZE_LIMIT_MIN - u16::from(keys.params().shape().inner_type_len);
        if !(min..=CONTENT_MAX).contains(&bytes) {
            return Err(TxError::LengthLimit);
        }
        keys.size.set_len_max(bytes);
        Ok(())
    }

    /// Makes a key change (TLS 1.2: the end) due after fewer records than the suite allows.
    pub fn set_refresh_after(&mut self, records: u16) {
        if let Some(keys) = self.keys.as_mut() {
            keys.set_refresh_after(records);
        }
    }

    /// Shortens `want` to what is queued and to the limits of one burst.
    pub fn clamp(&self, want: &Range<u64>, limits: &Limits) -> Range<u64> {
        let ready = want.end.min(self.ready_end());
        let mut end = ready.min(want.start + u64::from(limits.bytes));
        for (used, (offset, _)) in self.stream.iter_from(want.start).enumerate() {
            if offset >= end {
                break;
            }
            if used == usize::from(limits.entries) {
                end = offset;
                break;
            }
        }
        let len = end.saturating_sub(want.start);
        if end < ready {
            // A limit applies, so more follows at once: send whole segments, unless none fits.
            let whole = len - len % u64::from(limits.mss.max(1));
            return want.start..want.start + if whole == 0 { len } else { whole };
        }
        want.start..want.start + len
    }

    /// Shortens `range` so that sealing it takes at most `spans` spans of the pool: a span for each
    /// unsealed record that refers to the page cache. Others are sealed in place.
    pub fn clamp_to_spans(&self, range: &Range<u64>, spans: u32) -> Range<u64> {
        let mut left = spans;
        for (offset, block) in self.stream.iter_from(self.unsubmitted) {
            if offset >= range.end {
                break;
            }
            if block.state() == State::Framed && block.is_by_reference() {
                let Some(rest) = left.checked_sub(1) else {
                    return range.start..offset.max(range.start);
                };
                left = rest;
            }
        }
        range.clone()
    }

    /// Appends the pieces of a prepared `range` to `out`, as many as fit. Returns the offset that
    /// they reach.
    pub fn slices<'a>(&'a self, range: &Range<u64>, out: &mut Slices<'a>) -> u64 {
        self.stream
            .slices(range.start..range.end.min(self.sealed_to()), out)
    }

    /// Returns whether the current key is near its limits.
    pub fn key_use(&self) -> KeyUse {
        self.keys
            .as_ref()
            .map_or(KeyUse::Fine, |keys| keys.key_use())
    }

    /// Returns the mode: what seals the records.
    pub fn mode(&self) -> Mode {
        if self.keys.is_some() {
            Mode::Sw
        } else {
            Mode::None
        }
    }

    /// Returns suite and version, if there are keys.
    pub fn params(&self) -> Option<Params> {
        self.keys.as_ref().map(|keys| keys.params())
    }

    /// Returns the state of the keys, if there are any. The open record has the next number.
    pub fn key_info(&self) -> Option<KeyInfo> {
        self.keys.as_ref().map(|keys| KeyInfo {
            params: keys.params(),
            iv: keys.session().iv(),
            rec_seq: keys.next_number(),
        })
    }

    /// Returns how much content a record may have, in bytes, if there are keys.
    pub fn payload_len_max(&self) -> Option<u16> {
        self.keys.as_ref().map(|keys| keys.size.len_max())
    }

    /// Returns the number of the next record, if there are keys.
    pub fn next_number(&self) -> Option<u64> {
        self.keys.as_ref().map(|keys| keys.next_number())
    }

    /// Returns the offset of the first unacknowledged byte.
    pub fn start(&self) -> u64 {
        self.stream.start()
    }

    /// Returns the offset after the last byte: TCP's `queued`.
    pub fn end(&self) -> u64 {
        self.stream.end()
    }

    /// Returns the bytes in the record that `more` left open: accepted, but not queued.
    pub fn open_len(&self) -> u32 {
        let open = self.keys.as_ref().and_then(|keys| keys.open.as_ref());
        open.map_or(0, |buf| buf.body_len())
    }

    /// Returns the bytes of memory that are pinned, the open record included.
    pub fn true_size(&self) -> u32 {
        let open = self.keys.as_ref().and_then(|keys| keys.open.as_ref());
        let open = open.map_or(0, |buf| buf.true_size());
        self.stream.true_size().saturating_add(open)
    }

    /// Returns the number of page buffers in the queue.
    pub fn items(&self) -> u32 {
        self.stream.items()
    }

    /// Returns whether something sealed, or plain, is unacknowledged.
    pub fn has_sealed(&self) -> bool {
        self.sealed_to() > self.stream.start()
    }

    /// Returns whether bytes before `end` have to be sealed before they can be sent.
    pub fn needs_sealing(&self, end: u64) -> bool {
        end > self.sealed_to()
    }

    /// Returns the offset after the last record that isn't application data or has another key than
    /// the current one, or 0. It is beyond
    /// [`start`](Self::start) while an answer of the record layer is unacknowledged.
    pub fn control_end(&self) -> u64 {
        self.keys.as_ref().map_or(0, |keys| keys.control_end)
    }

    /// Checks every invariant.
    ///
    /// # Errors
    ///
    /// The invariant that is violated.
    pub fn check(&self) -> Result<(), &'static str> {
        self.stream.check()?;
        let (mut number, mut first_away) = (None, NONE_AWAY);
        for (offset, block) in self.stream.iter() {
            let submitted = self.keys.as_ref().map_or(0, |keys| keys.submitted);
            match block.state() {
                State::Framed if offset < self.unsubmitted => {
                    return Err("a framed record is counted as submitted");
                }
                State::Away if offset >= submitted => {
                    return Err("a record that is away can be cut");
                }
                State::Sealed if offset >= submitted => {
                    return Err("a sealed record can be cut");
                }
                State::Away => first_away = first_away.min(offset),
                State::Plain if offset >= self.unsubmitted => {
                    return Err("plain bytes among records");
                }
                State::Plain | State::Framed | State::Sealed => {}
            }
            if let Some(record) = block.record() {
                let follows = match number {
                    Some((epoch, last)) if epoch == record.epoch => record.number == last + 1,
                    Some(_) => self.keys.as_ref().is_none_or(|keys| keys.may_begin(record)),
                    None => true,
                };
                if !follows {
                    return Err("record numbers with gaps");
                }
                number = Some((record.epoch, record.number));
            }
        }
        if first_away != self.keys.as_ref().map_or(NONE_AWAY, |keys| keys.away) {
            return Err("the first record that is away isn't known");
        }
        match (&self.keys, number) {
            (Some(keys), Some((epoch, last))) => keys.check(epoch, last),
            (None, Some(_)) => Err("records without keys"),
            _ => Ok(()),
        }
    }
}

impl Default for RecordQueue {
    fn default() -> Self {
        Self::new()
    }
}

const RECORD_SIZE_LIMIT_MIN: u16 = 64;

const _: () = assert!(size_of::<RecordQueue>() <= 144, "an idle queue is thin");

#[cfg(test)]
mod tests;

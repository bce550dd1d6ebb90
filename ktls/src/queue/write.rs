//! Writes to the send queue: copied, by reference, or as a typed record.

use std::sync::Arc;

use pktbuf::{PageBuf, PagePool, SharedSpan, State};

use super::{RecordQueue, Segments};
use crate::alert::Alert;
use crate::error::TxError;
use crate::pages;
use crate::suite::{CONTENT_MAX, ContentType, PLAINTEXT_MAX};

impl RecordQueue {
    /// Queues a page buffer unchanged, such as handshake bytes.
    ///
    /// # Errors
    ///
    /// The buffer, if there are keys: no plaintext may follow a record.
    pub fn push_plain(&mut self, buf: PageBuf) -> Result<(), PageBuf> {
        if self.keys.is_some() || buf.state() == State::Framed {
            return Err(buf);
        }
        self.stream.push(buf);
        self.unsubmitted = self.stream.end();
        Ok(())
    }

    /// Copies and queues the bytes of `parts` in order; with keys, as application data. Returns the
    /// number of bytes accepted: fewer than given if the pool is exhausted.
    ///
    /// A call closes its record unless `more` is set. With `more` the last record stays open,
    /// outside the queue, and the next call continues it. A full record is closed, and so is an
    /// open one before a record of another type.
    ///
    /// # Errors
    ///
    /// [`TxError::Exhausted`] or [`TxError::KeySpent`] if nothing was accepted; [`TxError::Empty`]
    /// for no bytes with keys, except in TLS 1.0: there they are an empty record.
    pub fn push_bytes(
        &mut self,
        parts: &[&[u8]],
        more: bool,
        pool: &mut PagePool,
    ) -> Result<u32, TxError> {
        self.push_bytes_in(Segments::UNKNOWN, parts, more, pool)
    }

    /// As [`push_bytes`](Self::push_bytes), with small records where the stream
    /// [begins](Self::begin_small).
    ///
    /// # Errors
    ///
    /// As [`push_bytes`](Self::push_bytes).
    pub fn push_bytes_in(
        &mut self,
        segments: Segments,
        parts: &[&[u8]],
        more: bool,
        pool: &mut PagePool,
    ) -> Result<u32, TxError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        match &self.keys {
            None if total == 0 => return Ok(0),
            Some(keys) if total == 0 => {
                if !keys.params().can_be_empty() {
                    return Err(TxError::Empty);
                }
                self.flush()?;
                let empty = filled(&[], pool)?;
                self.push_framed(ContentType::APPLICATION_DATA, empty)?;
                return Ok(0);
            }
            _ => {}
        }
        let mut left = total;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let step = match self.keys {
                    None => self.copy_plain(rest, left, pool),
                    Some(_) => self.copy_record(segments, rest, left, more, pool),
                };
                match step {
                    Ok(n) => {
                        rest = &rest[n..];
                        left -= n;
                    }
                    Err(error) if left == total => return Err(error),
                    Err(_) => return Ok(count(total - left)),
                }
            }
        }
        if !more {
            self.flush()?;
        }
        Ok(count(total))
    }

    /// Queues `len` bytes of `span` from offset `at` by reference, without a copy. Returns the
    /// number of bytes accepted: fewer than given if the pool is exhausted.
    ///
    /// A record doesn't extend beyond its span.
    ///
    /// # Errors
    ///
    /// [`TxError::Empty`], [`TxError::OutOfSpan`]; [`TxError::Exhausted`] or [`TxError::KeySpent`]
    /// if nothing was accepted.
    pub fn push_span(
        &mut self,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        pool: &mut PagePool,
    ) -> Result<u32, TxError> {
        self.push_span_in(Segments::UNKNOWN, span, at, len, pool)
    }

    /// As [`push_span`](Self::push_span), with small records where the stream
    /// [begins](Self::begin_small).
    ///
    /// # Errors
    ///
    /// As [`push_span`](Self::push_span).
    pub fn push_span_in(
        &mut self,
        segments: Segments,
        span: &Arc<SharedSpan>,
        at: u32,
        len: u32,
        pool: &mut PagePool,
    ) -> Result<u32, TxError> {
        if len == 0 {
            return Err(TxError::Empty);
        }
        if u64::from(at) + u64::from(len) > span.len() as u64 {
            return Err(TxError::OutOfSpan);
        }
        self.flush()?;
        let mut taken = 0;
        while taken < len {
            let step = match self.push_span_record(segments, span, at + taken, len - taken, pool) {
                Ok(step) => step,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            };
            taken += step;
        }
        Ok(taken)
    }

    /// Queues one record of any type, like `TLS_SET_RECORD_TYPE` (Linux, `tls.rst`).
    ///
    /// # Errors
    ///
    /// [`TxError::WrongMode`] without keys, [`TxError::Empty`], [`TxError::MessageSize`] if it's
    /// longer than a record, [`TxError::KeySpent`], [`TxError::Exhausted`].
    pub fn push_message(
        &mut self,
        kind: ContentType,
        content: &[u8],
        pool: &mut PagePool,
    ) -> Result<(), TxError> {
        let keys = self.keys.as_ref().ok_or(TxError::WrongMode)?;
        if content.is_empty() {
            return Err(TxError::Empty);
        }
        if content.len() > usize::from(keys.size.len_max()) {
            return Err(TxError::MessageSize);
        }
        let is_open = keys.open.is_some();
        if !keys.can_frame_as(kind, 1 + u64::from(is_open)) || is_open && !keys.can_frame(1) {
            return Err(TxError::KeySpent);
        }
        let buf = filled(content, pool)?;
        self.flush()?;
        self.push_framed(kind, buf)
    }

    /// Queues an alert.
    ///
    /// # Errors
    ///
    /// As [`push_message`](Self::push_message).
    pub fn push_alert(&mut self, alert: Alert, pool: &mut PagePool) -> Result<(), TxError> {
        self.push_message(ContentType::ALERT, &alert.encode(), pool)
    }

    /// Closes the record that `more` left open, if there is one.
    ///
    /// # Errors
    ///
    /// [`TxError::KeySpent`] if it can't be framed.
    pub fn flush(&mut self) -> Result<(), TxError> {
        match self.keys.as_mut().and_then(|keys| keys.open.take()) {
            Some(open) => self.push_framed(ContentType::APPLICATION_DATA, open),
            None => Ok(()),
        }
    }

    /// Copies a piece of `rest` into the queue as plaintext. Returns its length.
    fn copy_plain(
        &mut self,
        rest: &[u8],
        left: usize,
        pool: &mut PagePool,
    ) -> Result<usize, TxError> {
        let mut n = self.stream.append(rest);
        if n == 0 {
            let mut buf = alloc(left.min(PLAINTEXT_MAX), pool)?;
            n = buf.append(rest);
            self.stream.push(buf);
        }
        self.unsubmitted = self.stream.end();
        Ok(n)
    }

    /// Copies a piece of `rest` into the open record, or a new one, and closes it when it is full.
    /// Returns the piece's length.
    fn copy_record(
        &mut self,
        segments: Segments,
        rest: &[u8],
        left: usize,
        more: bool,
        pool: &mut PagePool,
    ) -> Result<usize, TxError> {
        let at = self.stream.end();
        let keys = self.keys.as_mut().ok_or(TxError::WrongMode)?;
        let begun = keys
            .open
            .as_ref()
            .map_or(0, |open| open.body_len() as usize);
        let shape = keys.params().shape();
        let len_max = keys
            .size
            .content_max(shape, at, segments, begun + left, more);
        let len_max = usize::from(len_max);
        let mut open = match keys.open.take() {
            Some(open) => open,
            None if !keys.can_frame(1) => return Err(TxError::KeySpent),
            None if more => alloc(len_max, pool)?,
            None => alloc(left.min(len_max), pool)?,
        };
        let free = len_max.saturating_sub(begun);
        let n = open.append(&rest[..rest.len().min(free)]);
        let full = open.room() == 0 || open.body_len() as usize >= len_max;
        keys.open = Some(open);
        if full {
            self.flush()?;
        }
        Ok(n)
    }

    fn push_span_record(
        &mut self,
        segments: Segments,
        span: &Arc<SharedSpan>,
        at: u32,
        left: u32,
        pool: &mut PagePool,
    ) -> Result<u32, TxError> {
        let len_max = match &self.keys {
            Some(keys) if !keys.can_frame(1) => return Err(TxError::KeySpent),
            Some(keys) => {
                let shape = keys.params().shape();
                let end = self.stream.end();
                let max = keys
                    .size
                    .content_max(shape, end, segments, left as usize, false);
                u32::from(max)
            }
            // Plaintext needs no records, but a scatter entry's length has 16 bits.
            None => u32::from(CONTENT_MAX),
        };
        let len = left.min(len_max);
        let buf = pool.alloc_span(span, at, len).ok_or(TxError::Exhausted)?;
        if self.keys.is_some() {
            self.push_framed(ContentType::APPLICATION_DATA, buf)?;
        } else {
            self.stream.push(buf);
            self.unsubmitted = self.stream.end();
        }
        Ok(len)
    }

    fn push_framed(&mut self, kind: ContentType, mut buf: PageBuf) -> Result<(), TxError> {
        let keys = self.keys.as_mut().ok_or(TxError::WrongMode)?;
        keys.frame(kind, &mut buf)?;
        self.stream.push(buf);
        if kind != ContentType::APPLICATION_DATA {
            keys.control_end = self.stream.end();
        }
        Ok(())
    }
}

/// Copies `content` into a page buffer.
pub(super) fn filled(content: &[u8], pool: &mut PagePool) -> Result<PageBuf, TxError> {
    let mut buf = alloc(content.len(), pool)?;
    let copied = buf.append(content);
    debug_assert_eq!(
        copied,
        content.len(),
        "the pool gives the room that was asked for"
    );
    Ok(buf)
}

fn alloc(capacity: usize, pool: &mut PagePool) -> Result<PageBuf, TxError> {
    u32::try_from(capacity)
        .ok()
        .and_then(|capacity| pages::alloc_for_copy(capacity, pool))
        .ok_or(TxError::Exhausted)
}

/// Converts a number of accepted bytes: socket buffers are far smaller than 4 GiB.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

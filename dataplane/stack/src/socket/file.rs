//! sendfile: a range of a file that is queued as there is room for it.

use std::sync::Arc;

use lockgate_ktls::{Segments, TxError};
use pktbuf::PagePool;

use super::Socket;
use super::send::SendRoom;
use super::state::Application;
use crate::context::SocketContext;
use crate::file_source::{FileSource, FileSpan};
use crate::memory::Missing;
use crate::notice::{CloseReason, SendError};

/// What is left of a range that the application gave to `sendfile`.
///
/// The socket holds no span of it that isn't queued. Its room is that of a write: two windows, the
/// send buffer and the connection's share of the page pool. An acknowledgment makes room and lists
/// the socket for a turn, which continues here.
pub(super) struct PendingFile {
    source: Arc<dyn FileSource>,
    at: u64,
    end: u64,
    /// The last record stays open.
    more: bool,
}

impl Socket {
    /// Queues a range of a file. Returns false if an earlier range isn't queued yet.
    pub(crate) fn sendfile(
        &mut self,
        source: Arc<dyn FileSource>,
        range: core::ops::Range<u64>,
        more: bool,
        cx: &mut SocketContext,
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        self.check_sending()?;
        if self.has_file() {
            if let Application::Attached { wants_writable, .. } = &mut self.application {
                *wants_writable = true;
            }
            return Ok(false);
        }
        self.rare.get_or_insert_default().file = Some(PendingFile {
            source,
            at: range.start,
            end: range.end,
            more,
        });
        self.lists.end_flights();
        self.advance_file(cx, pages);
        self.make_ready(&mut cx.schedule);
        Ok(true)
    }

    /// Queues as much of the pending range as there is room for, and in memory.
    pub(crate) fn advance_file(&mut self, cx: &mut SocketContext, pages: &mut PagePool) {
        if !self.has_file() || self.is_tcp_over() {
            return;
        }
        while let Some(file) = self.file_mut() {
            if file.at >= file.end {
                self.drop_file();
                break;
            }
            let left = file.end - file.at;
            let room = match self.queue_room(cx, pages) {
                SendRoom::Bytes(room) => self.record_room(room, left, &cx.limits),
                SendRoom::Full => break,
                SendRoom::Starved => {
                    self.make_starved(cx);
                    break;
                }
            };
            if room == 0 {
                break;
            }
            let segments = self.segments(cx, pages);
            let small_left = self.tx.small_left();
            let pushed = self.push_file(segments, room, pages);
            self.count_small_records(small_left, cx);
            match pushed {
                Ok(0) => break,
                Ok(taken) => {
                    cx.memory.starved.on_taken(Missing::Pages, &mut self.lists);
                    cx.counters.bytes_by_reference += u64::from(taken);
                    if let Some(file) = self.file_mut() {
                        file.at += u64::from(taken);
                    }
                }
                Err(FileError::Unreadable) => {
                    self.drop_file();
                    self.abort(CloseReason::File, &mut cx.schedule);
                    return;
                }
                Err(FileError::Write(TxError::Exhausted)) => {
                    self.make_starved(cx);
                    break;
                }
                Err(FileError::Write(_)) => {
                    self.drop_file();
                    self.abort(CloseReason::Crypto, &mut cx.schedule);
                    return;
                }
            }
        }
        self.update_tcp_queue();
    }

    /// Whether a range isn't queued yet.
    pub(super) fn has_file(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.file.is_some())
    }

    /// Drops the rest of the pending range.
    pub(super) fn drop_file(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.file = None;
            if rare.tickets.is_none() {
                self.rare = None;
            }
        }
    }

    fn file_mut(&mut self) -> Option<&mut PendingFile> {
        self.rare.as_mut()?.file.as_mut()
    }

    /// Queues the next piece of the pending range, of at most `room` bytes. Returns its length: 0
    /// if it isn't in memory.
    fn push_file(
        &mut self,
        segments: Segments,
        room: u32,
        pages: &mut PagePool,
    ) -> Result<u32, FileError> {
        let Some(file) = self.rare.as_ref().and_then(|rare| rare.file.as_ref()) else {
            return Ok(0);
        };
        let left = u32::try_from(file.end - file.at).unwrap_or(u32::MAX);
        let (span, at) = match file.source.span(file.at) {
            FileSpan::Ready { span, at } => (span, at),
            FileSpan::Pending => return Ok(0),
            FileSpan::Failed => return Err(FileError::Unreadable),
        };
        let in_span = span.len().saturating_sub(at as usize);
        let in_span = u32::try_from(in_span).unwrap_or(u32::MAX);
        let len = left.min(room).min(in_span);
        if len == 0 {
            return Err(FileError::Unreadable);
        }
        let record_max = self.tx.payload_len_max().map_or(0, u32::from);
        let pushed = if file.more && record_max > 0 && left < record_max && len == left {
            // A record by reference can't be continued, so that the tail before more is copied.
            let bytes = span.get(at as usize..).unwrap_or_default();
            let tail = bytes.get(..len as usize).unwrap_or_default();
            self.tx.push_bytes_in(segments, &[tail], true, pages)
        } else {
            let tail = len.checked_rem(record_max).unwrap_or(0);
            let has_tail = file.more && len == left && tail < len;
            let whole = if has_tail { len - tail } else { len };
            self.tx.push_span_in(segments, &span, at, whole, pages)
        };
        pushed.map_err(FileError::Write)
    }
}

/// Why a piece can't be queued.
enum FileError {
    /// The source can't read it.
    Unreadable,
    /// The record layer refuses it.
    Write(TxError),
}

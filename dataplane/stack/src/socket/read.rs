//! Received data for the application: pieces of the stream, or records.

use lockgate_ktls::{Alert, AlertDescription, Ciphers, ContentType, Received, RxError};
use pktbuf::PagePool;

use super::state::{Application, KeySource, PeerStream, Pending, ReadNotice};
use super::{Rx, Socket};
use crate::context::SocketContext;
use crate::memory::ReserveLoan;
use crate::notice::{Chunk, ChunkKind, CloseReason, NoticeQueue, Recv, RecvError, RecvRecord};
use crate::schedule::Schedule;
use crate::socket_error::SocketError;

impl Socket {
    /// Gives received data to the application.
    pub(crate) fn recv(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        let mut result = self.take_next(cx, ciphers, pages);
        if let Ok(Recv::Data(chunk)) = &result
            && chunk.is_control()
        {
            // Its type would be lost.
            result = self.keep_unread(result);
        }
        self.after_recv(&result, cx, ciphers);
        result
    }

    /// Gives the next record to the application.
    pub(crate) fn recv_record(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<RecvRecord, SocketError> {
        if let Rx::Plain(_) = self.rx {
            return Err(SocketError::NoKeys);
        }
        let result = self.take_next(cx, ciphers, pages);
        self.after_recv(&result, cx, ciphers);
        match result? {
            Recv::Data(chunk) => match chunk.meta() {
                Some(meta) => Ok(RecvRecord::Record(meta, chunk)),
                None => Err(SocketError::NoKeys),
            },
            Recv::Nothing => Ok(RecvRecord::Nothing),
            Recv::End { clean } => Ok(RecvRecord::End { clean }),
        }
    }

    /// Shows the next record to the application.
    pub(crate) fn peek_record(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<RecvRecord<&Chunk>, SocketError> {
        match self.recv_record(cx, ciphers, pages)? {
            RecvRecord::Record(meta, chunk) => {
                let chunk = &**self.unread.insert(Box::new(chunk));
                Ok(RecvRecord::Record(meta, chunk))
            }
            RecvRecord::Nothing => Ok(RecvRecord::Nothing),
            RecvRecord::End { clean } => Ok(RecvRecord::End { clean }),
        }
    }

    /// Takes what the application has returned, or else what comes next.
    fn take_next(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        match self.unread.take() {
            Some(chunk) => Ok(Recv::Data(*chunk)),
            None => self.recv_next(cx, ciphers, pages),
        }
    }

    /// Keeps a control record for a call that returns its type.
    fn keep_unread(&mut self, result: Result<Recv, RecvError>) -> Result<Recv, RecvError> {
        match result {
            Ok(Recv::Data(chunk)) => {
                self.unread = Some(Box::new(chunk));
                Err(RecvError::ControlRecord)
            }
            other => other,
        }
    }

    /// Handles what a result means for the socket.
    fn after_recv(
        &mut self,
        result: &Result<Recv, RecvError>,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) {
        match result {
            // The window may be worth an update.
            Ok(Recv::Data(_)) => self.make_ready(&mut cx.schedule),
            Ok(Recv::Nothing) => self.rearm_read_notice(),
            Ok(Recv::End { clean }) => self.on_peer_stream_end(*clean, cx, ciphers),
            Err(RecvError::NoSocket | RecvError::ControlRecord) => {}
            Err(RecvError::Tls(error)) => match self.keys_from {
                KeySource::Handshake { .. } => self.end_receiving(&mut cx.handshakes, ciphers),
                KeySource::Application => self.on_application_error(*error, cx, ciphers),
            },
        }
        self.update_room(&cx.limits, &mut cx.memory.receive);
        // Also without data: other sockets may have freed memory since, and a peer with a closed
        // window waits for the update.
        if !self.is_tcp_over() && self.tcp.ack_due() {
            self.make_ready(&mut cx.schedule);
        }
    }

    /// What becomes of a connection after an error, if the application set the keys.
    fn on_application_error(
        &mut self,
        error: RxError,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) {
        if error == RxError::KeyExpired {
            self.rearm_read_notice();
        } else if error == RxError::Truncated {
            self.on_peer_stream_end(false, cx, ciphers);
        } else if error.is_recoverable() {
            // The record was dropped. The next one can be read.
            self.make_ready(&mut cx.schedule);
        } else {
            // The record boundaries are lost. FreeBSD drops the connection, too.
            self.end_receiving(&mut cx.handshakes, ciphers);
            self.abort(CloseReason::Tls(error), &mut cx.schedule);
        }
    }

    /// Takes back what the application hasn't used of the chunk that it received last.
    pub(crate) fn unread(&mut self, chunk: Chunk, cx: &mut SocketContext) {
        debug_assert!(self.unread.is_none(), "chunks are received in order");
        if chunk.is_empty() || matches!(self.rx, Rx::Ended(_)) {
            return;
        }
        self.unread = Some(Box::new(chunk));
        self.update_room(&cx.limits, &mut cx.memory.receive);
    }

    /// Returns the next data that the application hasn't received before.
    fn recv_next(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        match &mut self.rx {
            Rx::Plain(stream) => {
                if let Some((mut buffer, skip)) = stream.pop_front() {
                    buffer.trim_front(skip);
                    Ok(Recv::Data(Chunk(ChunkKind::Plain(buffer))))
                } else if self.tcp.peer_closed() {
                    Ok(Recv::End { clean: true })
                } else {
                    Ok(Recv::Nothing)
                }
            }
            Rx::Tls(_) => self.next_record(cx, ciphers, pages),
            Rx::Handshake(_) => Ok(Recv::Nothing),
            Rx::Ended(_) => Ok(Recv::End {
                clean: self.peer_stream != PeerStream::Truncated,
            }),
        }
    }

    /// Returns the next record for the application. Handles all other records.
    fn next_record(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<Recv, RecvError> {
        loop {
            if self.pending.records_opened >= cx.records.share() {
                self.pending.records_opened = Pending::READ_LIMITED;
                self.make_ready(&mut cx.schedule);
                return Ok(Recv::Nothing);
            }
            let (received, loan) = if ciphers.has_away() {
                self.receive_away(cx, ciphers, pages)
            } else {
                self.receive_here(cx, ciphers, pages)
            };
            if !matches!(received, Ok(Received::NeedBytes | Received::NeedPages)) {
                self.pending.records_opened += 1;
                cx.records.take_one();
            }
            match received {
                //= https://www.rfc-editor.org/rfc/rfc8446#section-5
                //# If a TLS
                //# implementation receives an unexpected record type, it MUST terminate
                //# the connection with an "unexpected_message" alert.
                Ok(Received::Record(record))
                    if self.keys_from != KeySource::Application
                        && record.meta().kind != ContentType::APPLICATION_DATA =>
                {
                    return Err(self.fail_tls(RxError::Unexpected, &mut cx.schedule));
                }
                Ok(Received::Record(record)) => {
                    let kind = ChunkKind::Record {
                        record,
                        used: 0,
                        _loan: loan,
                    };
                    return Ok(Recv::Data(Chunk(kind)));
                }
                Ok(Received::NeedBytes) => {
                    // A record that is opened elsewhere comes before the end.
                    if !self.tcp.peer_closed() || self.awaits_record() {
                        return Ok(Recv::Nothing);
                    }
                    let Rx::Tls(deframer) = &mut self.rx else {
                        return Ok(Recv::Nothing);
                    };
                    let ended = deframer.finish(ciphers);
                    return match self.keys_from {
                        // Inside a record or between two: the peer may have been cut off either
                        // way. The record layer counts which.
                        KeySource::Handshake { .. } => Ok(Recv::End { clean: false }),
                        KeySource::Application => ended
                            .map(|()| Recv::End { clean: true })
                            .map_err(RecvError::Tls),
                    };
                }
                Ok(Received::NeedPages) => {
                    self.set_read_notice(ReadNotice::AwaitsPages);
                    self.make_starved(cx);
                    return Ok(Recv::Nothing);
                }
                Ok(Received::KeyUpdated { answer }) => {
                    //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3
                    //# If the request_update field is set to "update_requested", then the
                    //# receiver MUST send a KeyUpdate of its own with request_update set to
                    //# "update_not_requested" prior to sending its next Application Data
                    //# record.
                    //
                    // So it is queued before the application can answer the record behind it. If
                    // that isn't possible now, sends take nothing until it is.
                    if answer {
                        self.keys_from.set_owes_key_update(true);
                        self.advance_keys(cx, ciphers, pages);
                    }
                    self.make_ready(&mut cx.schedule);
                }
                Ok(Received::Ticket(body)) => {
                    let rare = self.rare.as_mut();
                    if let Some(tickets) = rare.and_then(|rare| rare.tickets.as_mut())
                        && tickets.handle_new_session_ticket(&body).is_err()
                    {
                        return Err(self.fail_tls(RxError::Malformed, &mut cx.schedule));
                    }
                }
                Ok(Received::Renegotiation) => self.refuse_renegotiation(cx, pages),
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => {
                    cx.counters.close_notify_in += 1;
                    return Ok(Recv::End { clean: true });
                }
                Err(error) => {
                    return Err(match self.keys_from {
                        KeySource::Handshake { .. } => self.fail_tls(error, &mut cx.schedule),
                        KeySource::Application => error.into(),
                    });
                }
            }
        }
    }

    /// Returns the next event of the received stream. A record is opened on this thread.
    pub(super) fn receive_here(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> (Result<Received, RxError>, Option<ReserveLoan>) {
        let Rx::Tls(deframer) = &mut self.rx else {
            return (Ok(Received::NeedBytes), None);
        };
        let read =
            |pages: &mut PagePool, page: &mut _| deframer.next_with_reserve(ciphers, pages, page);
        cx.memory.reserve.lend(pages, read)
    }

    /// Answers a peer that wants to renegotiate by a no_renegotiation alert. If there's no buffer
    /// for the alert, or an earlier answer isn't acknowledged, the peer's next attempt is answered.
    fn refuse_renegotiation(&mut self, cx: &mut SocketContext, pages: &mut PagePool) {
        let alert = Alert::warning(AlertDescription::NO_RENEGOTIATION);
        // Nothing can stand behind the FIN.
        if self.is_sending()
            && !self.defers_answers(&cx.limits)
            && self.tx.push_alert(alert, pages).is_ok()
        {
            cx.counters.alerts_out += 1;
            self.update_tcp_queue();
            self.make_ready(&mut cx.schedule);
        }
    }

    /// The record layer failed on what the peer sent: closes the connection by an alert.
    fn fail_tls(&mut self, error: RxError, schedule: &mut Schedule) -> RecvError {
        self.end.get_or_insert(CloseReason::Tls(error));
        self.request_close(error.alert().map(Alert::fatal));
        self.application = Application::Detached;
        self.make_ready(schedule);
        error.into()
    }

    /// Begins a turn: records may be opened again. Queues a Readable notice if records were left.
    pub(crate) fn resume_reading(&mut self, notices: &mut NoticeQueue) {
        if core::mem::take(&mut self.pending.records_opened) == Pending::READ_LIMITED {
            self.notify_readable(notices);
        }
    }

    /// Queues a Readable notice if reading waited for a page buffer.
    pub(super) fn retry_reading(&mut self, notices: &mut NoticeQueue) {
        if let Application::Attached {
            readable: ReadNotice::AwaitsPages,
            ..
        } = self.application
        {
            self.notify_readable(notices);
        }
    }

    /// The application has read everything: what comes next is worth another notice.
    fn rearm_read_notice(&mut self) {
        if let Application::Attached { readable, .. } = &mut self.application
            && *readable == ReadNotice::Queued
        {
            *readable = ReadNotice::Due;
        }
    }

    fn set_read_notice(&mut self, state: ReadNotice) {
        if let Application::Attached { readable, .. } = &mut self.application {
            *readable = state;
        }
    }
}

//! How a socket ends: close_notify and FIN, an alert and FIN, or a reset.

use core::time::Duration;

use lockgate_ktls::{Alert, Ciphers, Params, TxError};
use lockgate_tcp::State;
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};
use pktbuf::PagePool;

use super::progress::time_paid;
use super::state::{Application, Closing, KeySource, Linger, PeerStream, TcpPhase};
use super::{Rx, Socket};
use crate::config::Limits;
use crate::context::SocketContext;
use crate::handshakes::Handshakes;
use crate::memory::ReceiveBudget;
use crate::notice::CloseReason;
use crate::schedule::Schedule;

impl Socket {
    /// Closes the sending side.
    pub(crate) fn shutdown(&mut self, schedule: &mut Schedule) {
        // A handshake that isn't over is given up with it.
        if matches!(self.rx, Rx::Handshake(_)) {
            self.close(schedule);
            return;
        }
        self.request_close(self.close_notify());
        self.make_ready(schedule);
    }

    /// The application gives the socket up.
    pub(crate) fn close(&mut self, schedule: &mut Schedule) {
        let alert = match self.rx {
            Rx::Handshake(_) => None,
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => self.close_notify(),
        };
        self.request_close(alert);
        self.application = Application::Detached;
        self.make_ready(schedule);
    }

    /// The alert before the FIN. An application that set the keys sends its own.
    fn close_notify(&self) -> Option<Alert> {
        match self.keys_from {
            KeySource::Handshake { .. } => Some(Alert::CLOSE_NOTIFY),
            KeySource::Application => None,
        }
    }

    /// Ends the connection by a reset.
    pub(crate) fn abort(&mut self, reason: CloseReason, schedule: &mut Schedule) {
        if self.phase == TcpPhase::Open {
            self.phase = TcpPhase::ResetDue;
        }
        self.application = Application::Detached;
        self.end.get_or_insert(reason);
        self.make_ready(schedule);
    }

    /// Requests that the alert and the FIN are queued in the next turn. A fatal alert replaces a
    /// close_notify.
    pub(super) fn request_close(&mut self, alert: Option<Alert>) {
        match self.closing {
            Closing::Open | Closing::Requested(Some(Alert::CLOSE_NOTIFY)) => {
                self.closing = Closing::Requested(alert);
            }
            Closing::Requested(_) | Closing::FinQueued => {}
        }
    }

    /// Whether the sending side is open.
    pub(super) fn is_sending(&self) -> bool {
        self.closing == Closing::Open && !self.is_tcp_over()
    }

    /// Takes closing as far as it goes in this turn. Returns a reset that has to be sent; TCP is
    /// over then.
    pub(crate) fn advance_close(
        &mut self,
        now: Instant,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Option<TcpHeader> {
        match self.phase {
            TcpPhase::Over => return None,
            TcpPhase::ResetDue => {
                self.phase = TcpPhase::Over;
                return self.tcp.abort(&mut cx.tcp);
            }
            TcpPhase::Open => {}
        }
        if let Closing::Requested(alert) = self.closing {
            self.queue_fin(alert, cx, ciphers, pages);
        }
        if !self.is_detached() {
            return None;
        }
        if !self.is_orphan() {
            self.orphan_until = now + cx.limits.orphan_timeout;
        }
        if self.closing == Closing::FinQueued {
            if !matches!(self.rx, Rx::Ended(Linger::Until { .. } | Linger::Over)) {
                let linger = self.new_linger(now, &cx.limits);
                self.end_receiving(&mut cx.handshakes, ciphers);
                self.rx = Rx::Ended(linger);
                self.update_room(&cx.limits, &mut cx.memory.receive);
            }
            if !self.is_lingering(now) {
                self.rx = Rx::Ended(Linger::Over);
                self.tcp.shutdown_read(now, &cx.tcp);
            }
        }
        None
    }

    /// How long a closed socket still receives: a TLS socket for a moment, and drops what it
    /// receives.
    ///
    /// A plain socket answers data after its close by a reset (RFC 9293, 3.6.1). A TLS peer answers
    /// our close_notify by its own, which must not be reset. A peer that is still sending when we
    /// close by an alert must be able to read the alert, which a reset would discard.
    fn new_linger(&self, now: Instant, limits: &Limits) -> Linger {
        let tls = matches!(self.rx, Rx::Handshake(_)) || self.tx.params().is_some();
        if tls && self.peer_stream == PeerStream::Open {
            // What the peer has in flight is one receive window at most.
            let window = u64::from(limits.recv_buffer_bytes);
            let end = self.tcp.received().0 + window + LINGER_BYTES;
            let until = now + LINGER_TIME;
            Linger::Until { until, end }
        } else {
            Linger::Over
        }
    }

    /// Whether something isn't acknowledged yet: data, or our FIN.
    pub(super) fn awaits_acknowledgment(&self) -> bool {
        !self.is_tcp_over() && !matches!(self.tcp.state(), State::FinWait2 | State::TimeWait)
    }

    /// When an orphaned connection is reset, if its peer acknowledges nothing more until then.
    pub(super) fn orphan_deadline(&self, cx: &SocketContext) -> Option<Instant> {
        if !self.is_orphan() || !self.awaits_acknowledgment() {
            return None;
        }
        let user_timeout = cx.tcp.config.user_timeout;
        Some(if self.tcp.is_window_blocked() {
            self.orphan_until
        } else {
            self.orphan_until + user_timeout.saturating_sub(cx.limits.orphan_timeout)
        })
    }

    /// Whether the application has given the socket up, and the socket has had a turn since.
    pub(super) fn is_orphan(&self) -> bool {
        self.orphan_until != Instant::MAX
    }

    /// Resets an orphaned connection whose peer acknowledges too slowly: a closed window, or a byte
    /// now and then, holds no connection for ever.
    ///
    /// The rule: a connection has credit for `orphan_timeout`. Time takes credit, and each
    /// acknowledged byte gives back its time at `send_rate_min`, up to that credit. When the credit
    /// is used up,
    /// - the connection itself lacks memory, a neighbour's address or room in the interface: it
    ///   gets new credit;
    /// - the window is closed: reset (RFC 9293, 3.8.6.1, lets only the application end it, and the
    ///   application has);
    /// - the window is open, so that segments may be lost: reset when the debt has grown to what is
    ///   left of `user_timeout`, TCP's own limit for a peer that acknowledges nothing.
    pub(super) fn check_orphan(&mut self, now: Instant, cx: &mut SocketContext) {
        if self.orphan_deadline(cx).is_none_or(|at| now < at) {
            return;
        }
        if self.progress.is_running() {
            self.abort(CloseReason::TimedOut, &mut cx.schedule);
        } else {
            self.orphan_until = now + cx.limits.orphan_timeout;
        }
    }

    /// The peer of an orphaned connection acknowledged `bytes` more.
    pub(super) fn credit_orphan(&mut self, now: Instant, bytes: u64, limits: &Limits) {
        if self.is_orphan() {
            let paid = self.orphan_until + time_paid(bytes, limits.send_rate_min);
            self.orphan_until = paid.min(now + limits.orphan_timeout);
        }
    }

    fn is_lingering(&self, now: Instant) -> bool {
        match &self.rx {
            Rx::Ended(Linger::Until { until, end }) => {
                now < *until && self.tcp.received().0 < *end && !self.tcp.peer_closed()
            }
            Rx::Ended(Linger::NotStarted | Linger::Over)
            | Rx::Plain(_)
            | Rx::Handshake(_)
            | Rx::Tls(_) => false,
        }
    }

    fn queue_fin(
        &mut self,
        alert: Option<Alert>,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        if matches!(self.tcp.state(), State::SynSent | State::SynReceived) {
            // Nothing was sent, so there is nothing to end in good order.
            if self.is_detached() {
                self.abort(CloseReason::Aborted, &mut cx.schedule);
            }
            return;
        }
        if !self.flush_handshake(pages) {
            self.make_starved(cx);
            return;
        }
        if self.has_file() {
            match alert {
                // The FIN stands behind the file.
                None | Some(Alert::CLOSE_NOTIFY) => return,
                Some(_) => self.drop_file(),
            }
        }
        self.enable_alert(ciphers);
        if let Some(alert) = alert.filter(|_| self.tx.params().is_some()) {
            if alert != Alert::CLOSE_NOTIFY {
                // The alert replaces what was neither sealed nor sent.
                if self.tx.cut_unsent(self.tcp.sent().0).is_err() {
                    self.abort(CloseReason::Crypto, &mut cx.schedule);
                    return;
                }
            } else if self.keys_from.owes_key_update() && self.tx.open_len() > 0 {
                // The open record is application data: the KeyUpdate that the peer asked for
                // precedes it.
                self.change_keys(cx, ciphers, pages);
                if self.keys_from.owes_key_update() {
                    return;
                }
            }
            let pushed = self
                .tx
                .flush()
                .and_then(|()| self.tx.push_alert(alert, pages));
            match pushed {
                Ok(()) if alert == Alert::CLOSE_NOTIFY => cx.counters.close_notify_out += 1,
                Ok(()) => cx.counters.alerts_out += 1,
                // Retried with the FIN: a FIN without close_notify is a truncation to the peer.
                Err(TxError::Exhausted) => {
                    self.make_starved(cx);
                    return;
                }
                // The key may seal no more, so that the FIN goes without an alert.
                Err(_) => {
                    self.end.get_or_insert(CloseReason::Crypto);
                }
            }
        } else if self.tx.flush().is_err() {
            self.end.get_or_insert(CloseReason::Crypto);
        }
        self.update_tcp_queue();
        self.tcp.close();
        self.closing = Closing::FinQueued;
    }

    /// Whether both streams have ended and the peer acknowledged everything before our
    /// close_notify. A reset is a clean end then: many clients close their socket after their own
    /// close_notify, and their kernel answers ours by a reset.
    pub(super) fn is_closed_both_ways(&self) -> bool {
        let record_len = |params: Params| u64::from(params.shape().record_len(ALERT_LEN));
        let params = self.tx.params().filter(|_| self.close_notify().is_some());
        let close_notify = params.map_or(0, record_len);
        self.peer_stream == PeerStream::EndedCleanly
            && self.closing == Closing::FinQueued
            && self.tx.end() - self.tx.start() <= close_notify
    }

    /// Gives TCP the ends of what is queued and of what could be sent.
    pub(super) fn update_tcp_queue(&mut self) {
        self.tcp.queued(StreamOffset(self.tx.end()));
        self.tcp.ready(StreamOffset(self.tx.ready_end()));
    }

    /// Gives back the socket's share of the receive budget, its handshake's place and its keys.
    pub(crate) fn retire(
        mut self,
        handshakes: &mut Handshakes,
        budget: &mut ReceiveBudget,
        ciphers: &mut Ciphers,
    ) {
        self.end_receiving(handshakes, ciphers);
        self.update_pinned(0, budget);
        self.tx.retire(ciphers);
    }
}

/// An alert's content: level and description.
const ALERT_LEN: u16 = 2;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// More than an alert, session tickets and the tail of a record in flight.
const LINGER_BYTES: u64 = 64 * 1024;

//! How a socket ends: close_notify and FIN, an alert and FIN, or a reset.

use core::time::Duration;

use lockgate_ktls::{Alert, Ciphers, TxError};
use lockgate_tcp::State;
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};
use pktbuf::PagePool;

use super::{Closing, Linger, Rx, Socket};
use crate::common::Core;
use crate::notice::CloseReason;

impl Socket {
    /// No more will be sent.
    pub(crate) fn shutdown(&mut self, core: &mut Core) {
        // A handshake that isn't over is given up with it.
        if matches!(self.rx, Rx::Shaking(_)) {
            self.close(core);
            return;
        }
        self.ask_close(Some(Alert::CLOSE_NOTIFY));
        core.make_ready(self);
    }

    /// The application has done with the socket.
    pub(crate) fn close(&mut self, core: &mut Core) {
        let alert = match self.rx {
            Rx::Shaking(_) => None,
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended => Some(Alert::CLOSE_NOTIFY),
        };
        self.ask_close(alert);
        self.flags.detached = true;
        core.make_ready(self);
    }

    /// Ends the connection by a reset.
    pub(crate) fn abort(&mut self, reason: CloseReason, core: &mut Core) {
        self.flags.abort = true;
        self.flags.detached = true;
        self.end.get_or_insert(reason);
        core.make_ready(self);
    }

    /// Puts the alert and the FIN behind what is queued, as soon as that can be done. An alert that
    /// says why takes the place of one that doesn't.
    pub(super) fn ask_close(&mut self, alert: Option<Alert>) {
        match self.closing {
            Closing::Open | Closing::Asked(Some(Alert::CLOSE_NOTIFY)) => {
                self.closing = Closing::Asked(alert);
            }
            Closing::Asked(_) | Closing::Done => {}
        }
    }

    /// Whether more may be given to send.
    pub(super) fn is_sending(&self) -> bool {
        self.closing == Closing::Open && !self.flags.over
    }

    /// Does what closing asks for. A reset to be sent is returned; TCP is over then.
    pub(crate) fn drive_close(
        &mut self,
        now: Instant,
        core: &mut Core,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Option<TcpHeader> {
        if self.flags.over {
            return None;
        }
        if self.flags.abort {
            self.flags.over = true;
            return self.tcp.abort(&mut core.tcp);
        }
        if core::mem::take(&mut self.flags.pressed)
            && self.is_readable()
            && core.pinned > core.limits.recv_total_bytes
        {
            core.counters.receive_budget_resets += 1;
            self.end.get_or_insert(CloseReason::Aborted);
            self.flags.detached = true;
            self.flags.over = true;
            return self.tcp.abort(&mut core.tcp);
        }
        if let Closing::Asked(alert) = self.closing {
            self.drive_fin(alert, core, pages);
        }
        if self.flags.detached && self.orphan_until.is_none() {
            self.orphan_until = Some(now + core.limits.orphan_timeout);
        }
        if self.flags.detached && self.closing == Closing::Done {
            if matches!(self.linger, Linger::NotYet) {
                self.begin_lingering(now, core);
                self.end_receiving(core, ciphers);
                self.update_room(core);
            }
            if !self.is_lingering(now) {
                self.linger = Linger::Over;
                self.tcp.detach(now, &core.tcp);
            }
        }
        None
    }

    /// A TLS peer answers our close_notify by its own, if only because its application closes too.
    /// That is no data sent to nobody: for a moment it's received and thrown away, where a plain
    /// socket answers by a reset. And a peer that is in the middle of sending when we give up must
    /// be able to read the alert that says why: a reset would take that away from it.
    fn begin_lingering(&mut self, now: Instant, core: &Core) {
        let tls = matches!(self.rx, Rx::Shaking(_)) || self.tx.params().is_some();
        if tls && self.flags.peer_ended.is_none() {
            // What's on its way is a window's worth at most.
            let window = u64::from(core.limits.recv_buffer_bytes);
            let end = self.tcp.received().0 + window + LINGER_BYTES;
            let until = now + LINGER_TIME;
            self.linger = Linger::Until { until, end };
        } else {
            self.linger = Linger::Over;
        }
    }

    /// Whether the peer has still to acknowledge something: data, or our FIN.
    pub(super) fn is_owed(&self) -> bool {
        !self.flags.over && !matches!(self.tcp.state(), State::FinWait2 | State::TimeWait)
    }

    /// Gives up a peer that takes nothing of what is left, however lively it answers probes.
    pub(super) fn check_orphan(&mut self, now: Instant, core: &mut Core) {
        if self.orphan_until.is_none_or(|until| now < until) || !self.is_owed() {
            return;
        }
        if self.tcp.waits_for_window() {
            self.abort(CloseReason::TimedOut, core);
        } else {
            // Something was lost: TCP has time-outs of its own for that.
            self.orphan_until = Some(now + core.limits.orphan_timeout);
        }
    }

    fn is_lingering(&self, now: Instant) -> bool {
        match self.linger {
            Linger::Until { until, end } => {
                now < until && self.tcp.received().0 < end && !self.tcp.peer_closed()
            }
            Linger::NotYet | Linger::Over => false,
        }
    }

    fn drive_fin(&mut self, alert: Option<Alert>, core: &mut Core, pages: &mut PagePool) {
        if matches!(self.tcp.state(), State::SynSent | State::SynReceived) {
            // Nothing was ever said: there's nothing to say.
            self.flags.abort = self.flags.detached;
            if self.flags.abort {
                self.end.get_or_insert(CloseReason::Aborted);
                core.make_ready(self);
            }
            return;
        }
        if !self.flush_handshake(pages) {
            core.make_starved(self);
            return;
        }
        if let Some(alert) = alert.filter(|_| self.tx.params().is_some()) {
            if alert != Alert::CLOSE_NOTIFY {
                // What was never sealed and never sent will not be missed.
                self.tx.cut_unsent(self.tcp.sent().0);
            }
            let pushed = self
                .tx
                .flush()
                .and_then(|()| self.tx.push_alert(alert, pages));
            match pushed {
                Ok(()) if alert == Alert::CLOSE_NOTIFY => core.counters.close_notify_out += 1,
                Ok(()) => core.counters.alerts_out += 1,
                // The FIN waits with it: without the alert it would look like an attack.
                Err(TxError::Exhausted) => {
                    core.make_starved(self);
                    return;
                }
                // No key that may be used again: the FIN alone has to do.
                Err(_) => {
                    self.end.get_or_insert(CloseReason::Crypto);
                }
            }
        }
        self.tell_queued();
        self.tcp.close();
        self.closing = Closing::Done;
    }

    /// Whether both sides have said goodbye and everything before ours has arrived. Many clients
    /// close their socket for good after their own close_notify; to ours, which comes then, their
    /// kernel answers by a reset, and nothing is lost by that.
    pub(super) fn has_parted(&self) -> bool {
        let goodbye = self.tx.params().map_or(0, |params| {
            u64::from(params.head_len()) + ALERT_LEN + u64::from(params.tail_len())
        });
        self.flags.peer_ended == Some(true)
            && self.closing == Closing::Done
            && self.tx.end() - self.tx.start() <= goodbye
    }

    /// Tells TCP how far the queue goes.
    pub(super) fn tell_queued(&mut self) {
        self.tcp.queued(StreamOffset(self.tx.end()));
        self.tcp.ready(StreamOffset(self.tx.ready_end()));
    }

    /// The queues give back what they hold in the ciphers' books.
    pub(crate) fn retire(mut self, core: &mut Core, ciphers: &mut Ciphers) {
        self.end_receiving(core, ciphers);
        self.pin(0, core);
        self.tx.retire(ciphers);
    }
}

/// Level and description.
const ALERT_LEN: u64 = 2;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// More than an alert, tickets and the rest of a record that was on its way.
const LINGER_BYTES: u64 = 64 * 1024;

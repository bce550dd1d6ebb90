//! A socket: one TCP connection with its queues and what is going on with TLS.
//!
//! What happens to a socket is split by direction: [`rx`] takes segments and gives data away,
//! [`tx`] takes data and makes packets, [`close`] ends it, [`shake`] gets it through the TLS
//! handshake.

mod close;
mod rx;
mod shake;
mod tx;

use lockgate_ktls::{Alert, Deframer, RecordQueue};
use lockgate_tcp::{Connection, Event};
use lockgate_wire::{FourTuple, Instant};
use pktbuf::{Buffer, Reassembly, Stream};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

pub(crate) use self::shake::{RECORD_BYTES_MAX, Shaking};
pub(crate) use self::tx::Turn;
use crate::common::Core;
use crate::notice::{CloseReason, Notice, SocketId};

/// One socket.
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) tuple: FourTuple,
    /// The flow table's hash.
    pub(crate) hash: u32,
    pub(crate) tcp: Connection,
    pub(crate) tx: RecordQueue,
    pub(crate) rx: Rx,
    reassembly: Reassembly,
    /// Where the chain of received bytes that are in order ends.
    received: u64,
    /// Where a TLS 1.3 client's session tickets go.
    tickets: Option<Box<KernelConnection<ClientConnectionData>>>,
    closing: Closing,
    linger: Linger,
    /// When a socket that the application has given up is reset, if its peer acknowledges nothing
    /// more until then.
    orphan_until: Option<Instant>,
    /// Memory that received bytes pin, as the worker's sum has it.
    pinned: u32,
    /// How it ended, as far as that's decided.
    end: Option<CloseReason>,
    pub(crate) flags: Flags,
}

/// The receiving side.
pub(crate) enum Rx {
    /// Bytes for the application.
    Plain(Stream<Buffer>),
    /// Bytes for the TLS library.
    Shaking(Box<Shaking>),
    /// Records.
    Tls(Deframer),
    /// Nobody wants what still comes.
    Ended,
}

/// How far closing the sending side has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Not asked for.
    Open,
    /// This alert, if there's TLS, and the FIN have still to be queued. The alert needs a buffer:
    /// it is tried again until there's one.
    Asked(Option<Alert>),
    /// The FIN stands behind everything that was queued.
    Done,
}

/// How long, and how far into the peer's stream, a closed socket still receives.
#[derive(Debug, Clone, Copy)]
enum Linger {
    /// It isn't closed.
    NotYet,
    Until {
        until: Instant,
        end: u64,
    },
    /// No more.
    Over,
}

/// Where a socket is listed, what it was told and what it has been asked.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// In the list of sockets that have something to do.
    pub(crate) ready: bool,
    /// In the list of sockets that wait for memory.
    pub(crate) starved: bool,
    /// In the list of sockets that wait for their neighbour's address.
    pub(crate) unresolved: bool,
    /// In the list of handshakes that can take a step.
    pub(crate) stepping: bool,
    /// In the queue of handshakes that wait for another to end.
    pub(crate) queueing: bool,
    /// This side began the connection.
    pub(crate) is_client: bool,
    /// TCP's part is over; what was received may still be read.
    pub(crate) over: bool,
    /// The application has given the socket up.
    pub(crate) detached: bool,
    /// To be reset as soon as possible.
    pub(crate) abort: bool,
    /// The application was told that there is something to receive.
    readable_told: bool,
    /// The application waits for room to send.
    writable_wanted: bool,
    /// Reading waits for a page buffer.
    reading_starved: bool,
    /// It took a payload although the worker's memory for them was used up.
    pressed: bool,
    /// The peer asked for new keys.
    key_update_due: bool,
    /// The peer acknowledged something since the neighbour was asked: packets get there.
    progress: bool,
    /// Set when the end of the peer's stream was received: whether in good order, or without the
    /// close_notify that TLS wants.
    peer_ended: Option<bool>,
}

impl Socket {
    /// A socket without an id: it gets one with its place.
    pub(crate) fn new(tuple: FourTuple, hash: u32, tcp: Connection, rx: Rx) -> Self {
        Self {
            id: SocketId {
                index: u32::MAX,
                generation: 0,
            },
            tuple,
            hash,
            tcp,
            tx: RecordQueue::new(),
            rx,
            reassembly: Reassembly::new(),
            received: 0,
            tickets: None,
            closing: Closing::Open,
            linger: Linger::NotYet,
            orphan_until: None,
            pinned: 0,
            end: None,
            flags: Flags::default(),
        }
    }

    /// When the timer has to go off.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.flags.over {
            return None;
        }
        let own = match &self.rx {
            Rx::Shaking(shaking) => Some(shaking.deadline),
            Rx::Ended => match self.linger {
                Linger::Until { until, .. } => Some(until),
                Linger::NotYet | Linger::Over => None,
            },
            Rx::Plain(_) | Rx::Tls(_) => None,
        };
        let orphan = self.orphan_until.filter(|_| self.is_owed());
        let all = [self.tcp.deadline(), own, orphan];
        all.into_iter().flatten().min()
    }

    /// The timer went off.
    pub(crate) fn on_timer(&mut self, now: Instant, core: &mut Core) {
        if !self.flags.over {
            let event = self.tcp.on_timer(now, &mut core.tcp);
            self.on_event(event, core);
        }
        self.check_handshake_timeout(now, core);
        self.check_orphan(now, core);
        core.make_ready(self);
    }

    /// There may be memory again.
    pub(crate) fn on_fed(&mut self, core: &mut Core) {
        self.flags.starved = false;
        self.retry_reading(core);
        core.make_ready(self);
    }

    /// What TCP said about the connection as a whole.
    pub(crate) fn on_event(&mut self, event: Event, core: &mut Core) {
        match event {
            Event::None | Event::TimeWait => {}
            Event::Connected => self.connected(core),
            Event::Reset if self.has_parted() => self.flags.over = true,
            Event::Reset => self.over(CloseReason::Reset),
            Event::Refused => self.over(CloseReason::Refused),
            Event::TimedOut => self.over(CloseReason::TimedOut),
            Event::DataLost => self.over(CloseReason::Aborted),
            Event::Closed => {
                self.flags.over = true;
                core.make_ready(self);
            }
        }
    }

    /// Why the socket goes away, when it does.
    pub(crate) fn reason(&self) -> CloseReason {
        match (self.end, self.flags.peer_ended) {
            (Some(end), _) => end,
            (None, Some(false)) => CloseReason::Truncated,
            (None, Some(true) | None) => CloseReason::Clean,
        }
    }

    /// Whether nothing is left to do for this socket: TCP is through with it, and so is the
    /// application, or there's nothing more that it could do.
    pub(crate) fn is_finished(&self) -> bool {
        self.flags.over && (self.flags.detached || self.end.is_some())
    }

    /// TCP's part is over, and not by both sides closing.
    fn over(&mut self, reason: CloseReason) {
        self.flags.over = true;
        // What led to it comes first: a peer that resets after our alert was told why.
        self.end.get_or_insert(reason);
    }

    fn connected(&mut self, core: &mut Core) {
        if !self.flags.is_client {
            return;
        }
        core.counters.connected += 1;
        core.notices.push_back(Notice::Connected(self.id));
        // A TLS client speaks first.
        if matches!(self.rx, Rx::Shaking(_)) {
            core.make_stepping(self);
        }
    }
}

#[cfg(test)]
mod tests;

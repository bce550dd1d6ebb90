//! A socket: one TCP connection with its queues and its TLS state.
//!
//! What happens to a socket is split by direction: `receive` takes segments, `read` gives data to
//! the application, `send` takes data from the application, `transmit` makes packets, `close` ends
//! the socket, `handshake` takes it through the TLS handshake.

mod away;
mod close;
mod file;
mod handshake;
mod handshake_input;
mod keys;
mod look_ahead;
mod progress;
mod read;
mod receive;
mod record_size;
mod send;
mod state;
mod transmit;

use lockgate_ktls::{Deframer, RecordQueue};
use lockgate_tcp::{Connection, Event, IntentKind};
use lockgate_wire::{FourTuple, IfaceId, Instant};
use pktbuf::{Buffer, PagePool, Reassembly, Stream};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

use self::file::PendingFile;
pub(crate) use self::handshake::HandshakeState;
pub(crate) use self::keys::check_listener;
use self::progress::Progress;
use self::state::{
    Application, Closing, KeySource, Linger, PeerStream, Pending, ReadNotice, TcpPhase,
};
pub(crate) use self::state::{OpenedBy, SendOutcome};
pub(crate) use self::transmit::{SendBudget, has_room};
use crate::context::SocketContext;
use crate::memory::{IdleOrder, Missing, ReceiveBudget};
use crate::notice::{Chunk, CloseReason, Notice, NoticeQueue, SocketId};
use crate::schedule::{Membership, Schedule, Turn};
use crate::slab::Slab;
use crate::wheel::Wheel;

/// One socket.
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) tuple: FourTuple,
    /// The flow table's hash.
    pub(crate) hash: u32,
    pub(crate) tcp: Connection,
    tx: RecordQueue,
    rx: Rx,
    reassembly: Reassembly,
    /// The tail of a chunk that the application has used in part.
    unread: Option<Box<Chunk>>,
    rare: Option<Box<RareParts>>,
    closing: Closing,
    /// Until when the acknowledged bytes pay for a socket that the application has given up; see
    /// [`Socket::check_orphan`]. [`Instant::MAX`] for all others.
    orphan_until: Instant,
    /// Memory that received bytes pin, as the worker's receive budget has it.
    pinned: u32,
    /// How it ended, as far as that's decided.
    end: Option<CloseReason>,
    opened_by: OpenedBy,
    keys_from: KeySource,
    phase: TcpPhase,
    application: Application,
    peer_stream: PeerStream,
    pending: Pending,
    /// How fast the peer acknowledges what it is sent.
    progress: Progress,
    /// It is being closed because it was idle and others need its place.
    pub(crate) is_closing_idle: bool,
    /// The lists that it is in.
    pub(crate) lists: Membership,
}

/// What most sockets don't have.
#[derive(Default)]
struct RareParts {
    /// Where a TLS 1.3 client's session tickets go.
    tickets: Option<Box<KernelConnection<ClientConnectionData>>>,
    /// A range of a file that isn't queued yet.
    file: Option<PendingFile>,
}

/// Bytes of memory that an idle TLS connection takes of a stack, beside its entry in the flow
/// table: its entries in the other tables, and its keys.
///
/// The appliance adds its HTTP state: 1 024 bytes together.
pub const IDLE_TLS_BYTES: usize = Slab::<Socket>::ENTRY_BYTES
    + IdleOrder::ENTRY_BYTES
    + ReceiveBudget::ENTRY_BYTES
    + Wheel::ENTRY_BYTES
    + IDLE_TLS_HEAP_BYTES;

/// Of [`IDLE_TLS_BYTES`], what is allocated for the connection: the keys of two directions, in
/// chunks as glibc's malloc rounds them. `tests/memory.rs` counts it.
pub const IDLE_TLS_HEAP_BYTES: usize = 160;

const _: () = assert!(IDLE_TLS_BYTES <= 944);

/// The receiving side.
pub(crate) enum Rx {
    /// Bytes for the application.
    Plain(Stream<Buffer>),
    /// Bytes for the TLS library.
    Handshake(Box<HandshakeState>),
    /// Records.
    Tls(Deframer),
    /// Received bytes are dropped.
    Ended(Linger),
}

impl Socket {
    /// A socket without an id: it gets one with its index.
    pub(crate) fn new(
        tuple: FourTuple,
        hash: u32,
        tcp: Connection,
        rx: Rx,
        opened_by: OpenedBy,
    ) -> Self {
        Self {
            id: SocketId {
                index: u32::MAX,
                serial: 0,
            },
            tuple,
            hash,
            tcp,
            tx: RecordQueue::new(),
            rx,
            reassembly: Reassembly::new(),
            unread: None,
            rare: None,
            closing: Closing::Open,
            orphan_until: Instant::MAX,
            pinned: 0,
            end: None,
            opened_by,
            keys_from: KeySource::Handshake {
                owes_key_update: false,
            },
            phase: TcpPhase::Open,
            application: Application::Attached {
                readable: ReadNotice::Due,
                wants_writable: false,
            },
            peer_stream: PeerStream::Open,
            pending: Pending::default(),
            progress: Progress::new(),
            is_closing_idle: false,
            lists: Membership::default(),
        }
    }

    /// When the timer has to go off.
    pub(crate) fn deadline(&self, cx: &SocketContext) -> Option<Instant> {
        if self.is_tcp_over() {
            return None;
        }
        let own = match &self.rx {
            Rx::Handshake(state) => Some(state.deadline),
            Rx::Ended(Linger::Until { until, .. }) => Some(*until),
            Rx::Ended(Linger::NotStarted | Linger::Over) | Rx::Plain(_) | Rx::Tls(_) => None,
        };
        let all = [self.tcp.deadline(), own, self.orphan_deadline(cx)];
        all.into_iter().flatten().min()
    }

    /// Handles an expired timer.
    pub(crate) fn on_timer(&mut self, now: Instant, cx: &mut SocketContext) {
        if !self.is_tcp_over() {
            let event = self.tcp.on_timer(now, &mut cx.tcp);
            self.on_event(event, cx);
        }
        self.check_handshake_timeout(now, cx);
        self.check_orphan(now, cx);
        self.make_ready(&mut cx.schedule);
    }

    /// Wakes a starved socket: there may be memory again.
    pub(crate) fn on_memory_available(
        &mut self,
        notices: &mut NoticeQueue,
        schedule: &mut Schedule,
    ) {
        self.retry_reading(notices);
        self.make_ready(schedule);
    }

    /// Handles what TCP said about the connection as a whole.
    pub(crate) fn on_event(&mut self, event: Event, cx: &mut SocketContext) {
        match event {
            Event::None | Event::TimeWait => {}
            Event::Connected => self.on_connected(cx),
            Event::Reset if self.is_closed_both_ways() => self.phase = TcpPhase::Over,
            Event::Reset => self.end_tcp(CloseReason::Reset),
            Event::Refused => self.end_tcp(CloseReason::Refused),
            Event::TimedOut => self.end_tcp(CloseReason::TimedOut),
            Event::DataLost => self.end_tcp(CloseReason::Aborted),
            Event::Closed => {
                self.phase = TcpPhase::Over;
                self.make_ready(&mut cx.schedule);
            }
        }
    }

    /// Whether it has something to send, and is in no list from which it would get a turn.
    pub(crate) fn is_forgotten(&self, now: Instant, cx: &SocketContext) -> bool {
        // A due timer lists it.
        let is_due = self.deadline(cx).is_some_and(|at| at <= now);
        if self.is_tcp_over() || self.lists.is_listed() || is_due {
            return false;
        }
        let intent = self.tcp.poll_transmit(now, &cx.tcp);
        let has_work = intent.is_some_and(|intent| {
            // It holds its share of spans, or TCP's ranges were used up: an acknowledgment lists
            // it.
            let is_in_flight = self.tcp.acked() < self.tcp.sent();
            let awaits_ack = matches!(intent.kind, IntentKind::Data | IntentKind::Retransmit)
                && (is_in_flight || self.tx.has_sealed() || self.tx.has_away());
            !awaits_ack || self.tcp.ack_due()
        });
        has_work || self.phase == TcpPhase::ResetDue
    }

    /// Lists the socket for a turn, or for its removal if it is over.
    pub(crate) fn make_ready(&mut self, schedule: &mut Schedule) {
        if self.is_finished() {
            schedule.add_finished(self.id, &mut self.lists);
        } else {
            schedule.add_ready(self.id, &mut self.lists);
        }
    }

    /// The bytes that the peer acknowledges a second, if the socket isn't being reset and has
    /// waited for its peer for so long. 0 if the peer keeps its window closed for longer than what
    /// it acknowledged pays for.
    pub(crate) fn progress_rate(&self, now: Instant, millis_min: u32) -> Option<u64> {
        if self.phase != TcpPhase::Open {
            return None;
        }
        if self.tcp.is_window_blocked() && self.progress.is_unpaid(now) {
            return Some(0);
        }
        self.progress.rate(now, self.tx.start(), millis_min)
    }

    /// The offset of the first unacknowledged byte.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.tx.start()
    }

    /// Whether it waits for acknowledgments and for nothing else.
    pub(crate) fn waits_for_peer(&self) -> bool {
        self.progress.is_running()
    }

    /// Drops ciphertext that can be made again. Returns the number of spans that were freed.
    pub(crate) fn drop_ciphertext(&mut self, pages: &mut PagePool) -> u32 {
        self.tx.drop_ciphertext(pages)
    }

    /// The bytes of memory that the socket holds.
    pub(crate) fn memory_held(&self) -> u64 {
        u64::from(self.tx.true_size()) + u64::from(self.pinned)
    }

    /// Lists the socket as starved: it needs page buffers to continue.
    pub(crate) fn make_starved(&mut self, cx: &mut SocketContext) {
        self.make_starved_of(Missing::Pages, cx);
    }

    /// Lists the socket as starved: it needs this memory to continue.
    pub(crate) fn make_starved_of(&mut self, missing: Missing, cx: &mut SocketContext) {
        self.progress.stop();
        let is_new = cx.memory.starved.add(self.id, missing, &mut self.lists);
        cx.counters.starved += u64::from(is_new);
    }

    /// Lists the socket for a turn in which the interface has room.
    pub(crate) fn make_blocked(&mut self, turn: &Turn, iface: IfaceId, schedule: &mut Schedule) {
        self.progress.stop();
        schedule.add_blocked(self.id, turn, iface, &mut self.lists);
    }

    /// Lists the socket as waiting for neighbour resolution.
    pub(crate) fn make_unresolved(&mut self, cx: &mut SocketContext) {
        self.progress.stop();
        let is_new = cx.schedule.add_unresolved(self.id, &mut self.lists);
        cx.counters.waited_for_neighbour += u64::from(is_new);
    }

    /// Why the socket is removed, when it is.
    pub(crate) fn close_reason(&self) -> CloseReason {
        match (self.end, self.peer_stream) {
            (Some(end), _) => end,
            (None, PeerStream::Truncated) => CloseReason::Truncated,
            (None, PeerStream::Open | PeerStream::EndedCleanly) => CloseReason::Clean,
        }
    }

    /// Whether nothing is left to do for this socket: TCP is over, and the application has given
    /// the socket up or can't do anything more with it.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_tcp_over() && (self.is_detached() || self.end.is_some())
    }

    /// Whether TCP's part is over. What was received may still be read.
    pub(crate) fn is_tcp_over(&self) -> bool {
        self.phase == TcpPhase::Over
    }

    /// Whether the application has given the socket up.
    pub(crate) fn is_detached(&self) -> bool {
        self.application == Application::Detached
    }

    /// Ends TCP's part before both sides have closed. An earlier reason stays: a peer that resets
    /// after our alert ended for the alert's reason.
    fn end_tcp(&mut self, reason: CloseReason) {
        self.phase = TcpPhase::Over;
        self.end.get_or_insert(reason);
    }

    fn on_connected(&mut self, cx: &mut SocketContext) {
        if self.opened_by == OpenedBy::Peer {
            return;
        }
        cx.counters.connected += 1;
        cx.notices.push(Notice::Connected(self.id));
        // A TLS client sends first.
        self.schedule_handshake(&mut cx.handshakes);
    }
}

#[cfg(test)]
mod tests;

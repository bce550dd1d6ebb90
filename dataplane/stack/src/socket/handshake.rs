//! A socket's TLS handshake.

use std::sync::Arc;

use lockgate_ktls::{Alert, AlertDescription, Ciphers, Deframer, HEADER_LEN, Role};
use lockgate_wire::Instant;
use lockgate_wire::tcp::TcpHeader;
use pktbuf::{PagePool, SMALL_CAPACITY};
use rustls::pki_types::ServerName;

use super::handshake_input::HandshakeInput;
use super::state::{Application, Closing};
use super::{OpenedBy, Rx, Socket};
use crate::context::SocketContext;
use crate::handshakes::{Handshakes, Holding, UNPLACED};
use crate::notice::{CloseReason, Notice, TlsInfo};
use crate::tls::{
    AlertKeys, Established, Failure, Handshake, PeerProtection, Progress, Side, TlsClient,
    TlsServer, may_begin,
};

/// The receiving side of a socket whose TLS handshake is in progress.
pub(crate) struct HandshakeState {
    /// Received bytes that the TLS library hasn't processed.
    pub(super) input: HandshakeInput,
    tls: Library,
    /// Its place in [`Handshakes`].
    place: u32,
    /// Set when the handshake is done and its last bytes wait for page buffers.
    done: Option<Box<Established>>,
    pub(super) deadline: Instant,
    /// The group of its peer in the queue for admission.
    group: u8,
    /// When it got its connection, began, or sent its last flight.
    since: Instant,
    /// What it holds, as [`Handshakes`] has it.
    held: Holding,
    failed: bool,
    /// It is in [`Handshakes`]' list of handshakes that can take a step.
    is_stepping: bool,
    /// An alert of a failed handshake that has to be sealed.
    alert: Option<AlertKeys>,
}

/// State of the TLS library. It takes several KiB, so a handshake gets it with its first step and
/// an idle connection holds none.
enum Library {
    /// A server that has received no record.
    Server(Arc<TlsServer>),
    /// A client that has sent nothing.
    Client(Arc<TlsClient>, ServerName<'static>),
    Running(Box<Handshake>),
    Ended,
}

impl HandshakeState {
    /// `group` is the peer's in the queue for admission.
    pub(crate) fn server(
        now: Instant,
        tls: Arc<TlsServer>,
        deadline: Instant,
        group: u8,
    ) -> Box<Self> {
        Self::new(now, Library::Server(tls), deadline, group)
    }

    pub(crate) fn client(
        now: Instant,
        tls: Arc<TlsClient>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> Box<Self> {
        Self::new(now, Library::Client(tls, name), deadline, 0)
    }

    fn new(now: Instant, library: Library, deadline: Instant, group: u8) -> Box<Self> {
        Box::new(Self {
            input: HandshakeInput::default(),
            tls: library,
            place: UNPLACED,
            done: None,
            deadline,
            group,
            since: now,
            held: Holding::default(),
            failed: false,
            is_stepping: false,
            alert: None,
        })
    }

    /// Frees the library's state and gives back all that the handshake holds, so that the next
    /// queued handshake may begin.
    pub(super) fn end(&mut self, handshakes: &mut Handshakes) {
        let library = core::mem::replace(&mut self.tls, Library::Ended);
        let place = core::mem::replace(&mut self.place, UNPLACED);
        handshakes.on_ended(place, matches!(library, Library::Running(_)));
        handshakes.update_held(core::mem::take(&mut self.held), Holding::default());
    }

    /// Creates the library's state, if there is none.
    fn begin(&mut self) -> Result<&mut Handshake, Failure> {
        let begun = match &self.tls {
            Library::Server(tls) => Some(Handshake::server(tls)?),
            Library::Client(tls, name) => Some(Handshake::client(tls, name.clone())?),
            Library::Running(_) | Library::Ended => None,
        };
        if let Some(handshake) = begun {
            self.tls = Library::Running(Box::new(handshake));
        }
        match &mut self.tls {
            Library::Running(handshake) => Ok(handshake),
            Library::Server(_) | Library::Client(..) | Library::Ended => Err(Failure::Internal),
        }
    }

    fn has_begun(&self) -> bool {
        matches!(self.tls, Library::Running(_) | Library::Ended)
    }

    /// Whether the first step needs no record: a client's.
    fn sends_first(&self) -> bool {
        matches!(self.tls, Library::Client(..))
    }

    fn handshake(&mut self) -> Option<&mut Handshake> {
        match &mut self.tls {
            Library::Running(handshake) => Some(handshake),
            Library::Server(_) | Library::Client(..) | Library::Ended => None,
        }
    }

    /// Returns the length of the first record, if it is complete. For a record that is refused by
    /// its header, the header's length.
    fn whole_record(&self) -> Option<usize> {
        let header = self.input.header()?;
        let may_begin = match &self.tls {
            Library::Running(handshake) => handshake.may_begin(header),
            Library::Server(_) | Library::Client(..) | Library::Ended => {
                may_begin(header, PeerProtection::Plaintext)
            }
        };
        if !may_begin {
            return Some(HEADER_LEN);
        }
        let length = HEADER_LEN + usize::from(header.length);
        (self.input.len() >= length as u64).then_some(length)
    }

    /// Copies received bytes out of their packet buffers if they have to wait for the peer, or if
    /// `must_compact`. A failed handshake drops them.
    pub(super) fn settle_input(&mut self, must_compact: bool) {
        if self.failed {
            self.input.clear();
        } else if must_compact || (self.done.is_none() && self.whole_record().is_none()) {
            self.input.compact();
        }
    }

    /// The number of bytes that wait for page buffers to be sent from.
    fn output_len(&self) -> usize {
        match &self.tls {
            Library::Running(handshake) => handshake.outgoing().len(),
            Library::Server(_) | Library::Client(..) | Library::Ended => 0,
        }
    }
}

impl Socket {
    /// Whether a step is possible: a record is complete, or a client starts.
    pub(crate) fn can_step(&self) -> bool {
        if self.is_tcp_over() || self.closing != Closing::Open {
            return false;
        }
        match &self.rx {
            Rx::Handshake(state) if !state.failed && state.done.is_none() => {
                state.sends_first() || state.whole_record().is_some() || self.tcp.peer_closed()
            }
            Rx::Handshake(_) | Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => false,
        }
    }

    /// Gives a new socket's handshake its place.
    pub(crate) fn register_handshake(&mut self, handshakes: &mut Handshakes) {
        if let Rx::Handshake(state) = &mut self.rx {
            state.place = handshakes.register(self.id.index, self.opened_by);
            self.lists.begin_handshake();
        }
    }

    /// Lists the handshake for its next step, or for admission, if a step is possible.
    pub(super) fn schedule_handshake(&mut self, handshakes: &mut Handshakes) {
        if !self.can_step() {
            return;
        }
        let Rx::Handshake(state) = &mut self.rx else {
            return;
        };
        if state.has_begun() {
            handshakes.add_stepping(self.id, &mut state.is_stepping);
        } else {
            handshakes.enqueue(state.place, state.group);
        }
    }

    /// Takes the handshake out of the list of handshakes that can take a step. Returns whether it
    /// was listed.
    pub(crate) fn take_stepping(&mut self) -> bool {
        match &mut self.rx {
            Rx::Handshake(state) => core::mem::take(&mut state.is_stepping),
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => false,
        }
    }

    /// Runs one step of the handshake, if one is possible. A handshake that begins by it was
    /// admitted.
    pub(crate) fn step_handshake(
        &mut self,
        now: Instant,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        if !self.can_step() {
            return;
        }
        let Rx::Handshake(state) = &mut self.rx else {
            return;
        };
        let (had_begun, had_output) = (state.has_begun(), state.output_len());
        let progress = take_step(state, self.tcp.peer_closed(), &mut cx.handshakes.record);
        if !had_begun && state.has_begun() {
            cx.handshakes.on_begun(state.place);
            state.since = now;
        }
        match progress {
            Progress::Blocked if state.output_len() > had_output => {
                cx.handshakes.on_flight(state.place);
                state.since = now;
            }
            Progress::Blocked => {}
            Progress::Done(established) => state.done = Some(established),
            Progress::Failed(failure) => {
                if let Some(handshake) = state.handshake() {
                    cx.counters.alerts_out += u64::from(handshake.has_alerted());
                    state.alert = handshake.take_alert_keys();
                }
                self.fail_handshake(failure, cx);
            }
        }
        if let Rx::Handshake(state) = &mut self.rx {
            // What is left may have to wait for the peer.
            state.settle_input(false);
        }
        self.continue_handshake(cx, ciphers, pages);
        self.update_room(&cx.limits, &mut cx.memory.receive);
        self.schedule_handshake(&mut cx.handshakes);
        self.make_ready(&mut cx.schedule);
    }

    /// Whether the handshake isn't over and only the peer can continue it: it waits neither for a
    /// step nor for page buffers.
    pub(crate) fn awaits_handshake_of_peer(&self, handshakes: &Handshakes) -> bool {
        match &self.rx {
            Rx::Handshake(state) => {
                !state.is_stepping
                    && !handshakes.is_queued(state.place)
                    && state.done.is_none()
                    && state.output_len() == 0
            }
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => false,
        }
    }

    /// When the handshake got its connection, began, or sent its last flight.
    pub(crate) fn handshake_since(&self) -> Option<Instant> {
        match &self.rx {
            Rx::Handshake(state) => Some(state.since),
            Rx::Plain(_) | Rx::Tls(_) | Rx::Ended(_) => None,
        }
    }

    /// Ends the connection of a handshake that loses its memory or its place to newer ones. Returns
    /// the reset.
    pub(crate) fn evict_handshake(&mut self, cx: &mut SocketContext) -> Option<TcpHeader> {
        // A failed handshake was counted.
        if let Rx::Handshake(state) = &mut self.rx
            && !core::mem::replace(&mut state.failed, true)
        {
            cx.counters.handshakes_evicted_active += u64::from(state.has_begun());
            cx.counters.count_failed_handshake(Failure::Evicted);
        }
        self.application = Application::Detached;
        self.end_tcp(CloseReason::Handshake(Failure::Evicted));
        self.tcp.abort(&mut cx.tcp)
    }

    /// Updates what the handshake holds of the worker's memory for handshakes.
    pub(super) fn update_handshake_share(&mut self, handshakes: &mut Handshakes) {
        let Rx::Handshake(state) = &mut self.rx else {
            return;
        };
        // Nothing of the application's own connections is evicted.
        if self.opened_by == OpenedBy::Application {
            return;
        }
        let library = match &state.tls {
            Library::Running(handshake) => handshake.buffered_bytes(),
            Library::Server(_) | Library::Client(..) | Library::Ended => 0,
        };
        let held = Holding {
            bytes: state.input.heap_bytes() + library,
            flight_bytes: u64::from(self.tx.true_size()),
        };
        if held.bytes > 0 && state.held.bytes == 0 && !state.has_begun() {
            handshakes.on_partial(state.place);
        }
        handshakes.update_held(core::mem::replace(&mut state.held, held), held);
    }

    /// Queues the handshake's bytes and then hands the keys over, without a further record.
    pub(crate) fn continue_handshake(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        // A closing socket sends its remaining bytes before its FIN, in `queue_fin`.
        if !matches!(self.rx, Rx::Handshake(_)) || self.closing != Closing::Open {
            return;
        }
        if !self.flush_handshake(pages) {
            self.make_starved(cx);
        } else if let Rx::Handshake(state) = &mut self.rx
            && state.done.is_some()
        {
            if !state.input.spread(pages) {
                self.make_starved(cx);
            } else if let Some(established) = state.done.take()
                && let Err(failure) = self.install_keys(*established, cx, ciphers)
            {
                self.fail_handshake(failure, cx);
            }
        }
        self.update_handshake_share(&mut cx.handshakes);
        if !self.is_tcp_over() && self.is_sending() {
            self.update_tcp_queue();
        }
    }

    /// Moves the library's output into page buffers. Returns false if too few are free.
    pub(super) fn flush_handshake(&mut self, pages: &mut PagePool) -> bool {
        let Rx::Handshake(state) = &mut self.rx else {
            return true;
        };
        let Some(handshake) = state.handshake() else {
            return true;
        };
        loop {
            let outgoing = handshake.outgoing();
            if outgoing.is_empty() {
                return true;
            }
            // A flight of a few KiB would leave most of a large span unused.
            let want = u32::try_from(outgoing.len())
                .unwrap_or(SMALL_CAPACITY)
                .min(SMALL_CAPACITY);
            let Some(mut page) = pages.alloc(want) else {
                return false;
            };
            let taken = page.append(outgoing);
            handshake.sent(taken);
            debug_assert!(taken > 0, "a fresh page buffer has room");
            let pushed = self.tx.push_plain(page);
            debug_assert!(pushed.is_ok(), "no keys before the handshake is over");
        }
    }

    pub(super) fn check_handshake_timeout(&mut self, now: Instant, cx: &mut SocketContext) {
        if let Rx::Handshake(state) = &mut self.rx
            && now >= state.deadline
        {
            state.deadline = Instant::MAX;
            if !state.failed {
                self.fail_handshake(Failure::TimedOut, cx);
            }
        }
    }

    /// Enables the record layer for an alert that has to be sealed, once the handshake's own
    /// records are queued.
    pub(super) fn enable_alert(&mut self, ciphers: &mut Ciphers) {
        if let Rx::Handshake(state) = &mut self.rx
            && let Some(alert) = state.alert.take()
        {
            // Without a cipher backend only the FIN is sent.
            let _ = self.tx.enable(alert.session, alert.number, ciphers);
        }
    }

    fn fail_handshake(&mut self, failure: Failure, cx: &mut SocketContext) {
        let mut alert = None;
        if let Rx::Handshake(state) = &mut self.rx {
            state.failed = true;
            state.done = None;
            state.deadline = Instant::MAX;
            state.input.clear();
            alert = state.alert.as_ref().map(|alert| alert.description);
        }
        cx.counters.count_failed_handshake(failure);
        self.end.get_or_insert(CloseReason::Handshake(failure));
        self.request_close(alert.map(|description| match description {
            AlertDescription::CLOSE_NOTIFY => Alert::CLOSE_NOTIFY,
            description => Alert::fatal(description),
        }));
        self.application = Application::Detached;
        self.make_ready(&mut cx.schedule);
    }

    /// Hands keys and unprocessed bytes over to the record layer.
    fn install_keys(
        &mut self,
        established: Established,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) -> Result<(), Failure> {
        let sessions = established.sessions()?;
        let params = sessions.tx.params();
        lockgate_ktls::choose_mode(cx.record_layer.enabled, params, ciphers)
            .map_err(|_| Failure::Internal)?;
        let Rx::Handshake(state) = &mut self.rx else {
            return Err(Failure::Internal);
        };
        let chain = state.input.take_chain();
        state.end(&mut cx.handshakes);
        let (role, tickets) = match established.side {
            Side::Server => (Role::Server, None),
            Side::Client { tickets } => (Role::Client, tickets),
        };
        self.tx
            .enable(sessions.tx, sessions.tx_number, ciphers)
            .map_err(|_| Failure::Internal)?;
        self.tx.set_record_len_max(cx.record_layer.record_len_max);
        self.start_dynamic_records(true, cx.record_layer.dynamic_records);
        if tickets.is_some() {
            self.rare.get_or_insert_default().tickets = tickets;
        }
        let deframer = Deframer::new(sessions.rx, sessions.rx_number, role, chain, ciphers);

        cx.counters
            .count_handshake(params.version, established.resumed);
        let info = TlsInfo {
            params,
            alpn: established.alpn,
            sni: established.captured.sni,
            resumed: established.resumed,
        };
        if !self.is_detached() {
            cx.notices
                .push(Notice::HandshakeDone(self.id, Box::new(info)));
        }
        self.start_receiving(deframer, &mut cx.notices);
        Ok(())
    }
}

/// Runs one step with the next record, or with none for a client that starts.
fn take_step(state: &mut HandshakeState, peer_closed: bool, scratch: &mut [u8]) -> Progress {
    let record = if state.sends_first() {
        &[]
    } else if let Some(len) = state.whole_record() {
        let record = scratch.get_mut(..len).unwrap_or_default();
        state.input.take(record);
        &*record
    } else if peer_closed {
        return Progress::Failed(Failure::PeerClosed);
    } else {
        return Progress::Blocked;
    };
    match state.begin() {
        Ok(handshake) => handshake.step(record),
        Err(failure) => Progress::Failed(failure),
    }
}

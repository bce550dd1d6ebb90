//! The HTTP connections of a worker: dispatches the stack's notices and the file cache's
//! completions to the HTTP server, and runs deadlines.

use std::collections::VecDeque;

use lockgate_cache::Token;
use lockgate_stack::wheel::{TimerKey, Wheel};
use lockgate_stack::{IDLE_TLS_BYTES, Notice, SocketId};
use lockgate_wire::Instant;

use super::transport::{StackContext, StackTransport};
use crate::server::{ClientConnection, DriveOutcome, RequestWait, Server, TurnClock};

/// All HTTP connections of a worker.
#[derive(Debug)]
pub(super) struct Connections {
    server: Server,
    /// Indexed by the socket's dense number.
    table: Vec<Option<HttpConnection>>,
    wheel: Wheel,
    /// Connections that used up their turn with work left, in the order of their next turn.
    yielded: VecDeque<SocketId>,
    open: usize,
    draining: bool,
}

#[derive(Debug)]
struct HttpConnection {
    socket: SocketId,
    client: ClientConnection,
    /// Whether it is in [`Connections::yielded`].
    is_yielded: bool,
    /// What the stack was told about it.
    wait: RequestWait,
}

impl Connections {
    /// An empty table, with timers for so many sockets.
    pub(super) fn new(now: Instant, server: Server, connections_max: u32) -> Self {
        Self {
            server,
            table: Vec::new(),
            wheel: Wheel::new(now, connections_max),
            yielded: VecDeque::new(),
            open: 0,
            draining: false,
        }
    }

    /// Adds a connection that is ready for its first request, and drives it.
    pub(super) fn on_accepted(
        &mut self,
        clock: TurnClock,
        socket: SocketId,
        cx: &mut StackContext<'_>,
    ) {
        let index = socket.index();
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        let client = self.server.accept(clock);
        let entry = HttpConnection {
            socket,
            client,
            is_yielded: false,
            wait: RequestWait::None,
        };
        if let Some(old) = self.table[index].replace(entry) {
            self.server.release_client(old.client);
        } else {
            self.open += 1;
        }
        self.drive(clock, socket, cx);
        // A request may have come with the handshake. Without one it's idle.
        if self.draining {
            self.close_if_idle(index, cx);
        }
    }

    /// Drives the connection that a notice is about, or removes it if its socket has closed.
    pub(super) fn on_notice(
        &mut self,
        clock: TurnClock,
        notice: &Notice,
        cx: &mut StackContext<'_>,
    ) {
        match notice {
            Notice::Readable(socket)
            | Notice::Writable(socket)
            | Notice::PeerClosed { socket, .. } => self.drive(clock, *socket, cx),
            Notice::Closed(socket, _) => self.remove(*socket),
            Notice::Accepted { .. } | Notice::Connected(_) | Notice::HandshakeDone(..) => {}
        }
    }

    /// Dispatches the file cache's completions. Returns how many there were.
    pub(super) fn poll_files(&mut self, clock: TurnClock, cx: &mut StackContext<'_>) -> usize {
        let mut count = 0;
        while let Some(completion) = self.server.poll_files(clock) {
            count += 1;
            let index = usize::try_from(completion.token.0).unwrap_or(usize::MAX);
            let Some(Some(entry)) = self.table.get_mut(index) else {
                continue;
            };
            let (socket, token) = (entry.socket, completion.token);
            let mut transport = StackTransport { cx, id: socket };
            let client = &mut entry.client;
            let outcome = self
                .server
                .on_file(clock, client, token, &mut transport, completion);
            self.apply(socket, outcome, cx);
        }
        count
    }

    /// Begins a turn.
    pub(super) fn begin_turn(&mut self) {
        self.server.begin_turn();
    }

    /// Resumes the connections that yielded, in order and as many as the turn has requests for.
    /// Returns how many there were.
    pub(super) fn resume_yielded(&mut self, clock: TurnClock, cx: &mut StackContext<'_>) -> usize {
        let count = self.yielded.len();
        self.server.begin_resumption();
        for _ in 0..count {
            if !self.server.has_requests_left() {
                break;
            }
            let Some(socket) = self.yielded.pop_front() else {
                break;
            };
            if let Some(entry) = self.get_mut(socket) {
                entry.is_yielded = false;
                self.drive(clock, socket, cx);
            }
        }
        count
    }

    /// Fires due deadlines.
    pub(super) fn on_timer(&mut self, clock: TurnClock, cx: &mut StackContext<'_>) {
        let mut budget = TIMERS_PER_TURN;
        while let Some(TimerKey(index)) = self.wheel.expire(clock.now, &mut budget) {
            let Some(Some(entry)) = self.table.get_mut(index as usize) else {
                continue;
            };
            let socket = entry.socket;
            let mut transport = StackTransport { cx, id: socket };
            let client = &mut entry.client;
            let outcome = self
                .server
                .on_timer(clock, client, token(socket), &mut transport);
            self.apply(socket, outcome, cx);
        }
    }

    /// The next deadline: when [`Connections::on_timer`] has work.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.wheel.next_timer()
    }

    /// Closes idle connections now, the others after their response.
    pub(super) fn drain(&mut self, cx: &mut StackContext<'_>) {
        self.draining = true;
        self.server.drain();
        for index in 0..self.table.len() {
            self.close_if_idle(index, cx);
        }
    }

    /// The number of HTTP connections.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The server, for its counters.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    fn close_if_idle(&mut self, index: usize, cx: &mut StackContext<'_>) {
        let Some(Some(entry)) = self.table.get_mut(index) else {
            return;
        };
        let socket = entry.socket;
        let mut transport = StackTransport { cx, id: socket };
        let outcome = self.server.on_drain(&entry.client, &mut transport);
        self.apply(socket, outcome, cx);
    }

    fn drive(&mut self, clock: TurnClock, socket: SocketId, cx: &mut StackContext<'_>) {
        let Some(Some(entry)) = self.table.get_mut(socket.index()) else {
            return;
        };
        if entry.socket != socket {
            return;
        }
        let mut transport = StackTransport { cx, id: socket };
        let outcome = self
            .server
            .drive(clock, &mut entry.client, token(socket), &mut transport);
        self.apply(socket, outcome, cx);
    }

    fn apply(&mut self, socket: SocketId, outcome: DriveOutcome, cx: &mut StackContext<'_>) {
        let Some(entry) = self.get_mut(socket) else {
            return;
        };
        let wait = entry.client.request_wait();
        if wait != entry.wait {
            entry.wait = wait;
            // The idle time begins anew with each request, and with each response.
            cx.stack.set_idle(socket, false);
            cx.stack.set_idle(socket, wait != RequestWait::None);
        }
        match outcome {
            DriveOutcome::Done => self.remove(socket),
            DriveOutcome::Again if !entry.is_yielded => {
                entry.is_yielded = true;
                let deadline = entry.client.deadline();
                self.yielded.push_back(socket);
                self.wheel.set(timer(socket), deadline);
            }
            DriveOutcome::Again | DriveOutcome::Waiting => {
                let deadline = entry.client.deadline();
                self.wheel.set(timer(socket), deadline);
            }
        }
    }

    fn remove(&mut self, socket: SocketId) {
        if self.get_mut(socket).is_none() {
            return;
        }
        if let Some(entry) = self.table[socket.index()].take() {
            self.open -= 1;
            self.wheel.set(timer(socket), None);
            self.server.release_client(entry.client);
        }
    }

    fn get_mut(&mut self, socket: SocketId) -> Option<&mut HttpConnection> {
        self.table
            .get_mut(socket.index())?
            .as_mut()
            .filter(|entry| entry.socket == socket)
    }
}

/// The token of a socket's requests to the file cache. A completion for a closed socket may meet a
/// newer one of the same number, but its ticket doesn't match.
fn token(socket: SocketId) -> Token {
    Token(socket.index() as u64)
}

fn timer(socket: SocketId) -> TimerKey {
    TimerKey(u32::try_from(socket.index()).unwrap_or(u32::MAX))
}

/// Deadlines that a turn may fire.
const TIMERS_PER_TURN: u32 = 256;

/// The aim of docs/performance.md. The figure there is what the resident memory grows by: it leaves
/// out tables that are written when they are made.
const _: () = assert!(
    IDLE_TLS_BYTES + size_of::<Option<HttpConnection>>() + Wheel::ENTRY_BYTES <= 1024,
    "an idle TLS connection is thin"
);

//! The HTTP server of a worker: it joins [`lockgate_http`] to sockets and to the file cache.
//!
//! - [`Server`] serves all connections of a worker.
//! - [`Transport`] is the byte stream to one client, as a socket of the stack implements it.
//! - [`BodySource`] is what the bytes behind a response's head are pulled from.
//! - [`Sites`] maps a request's host to a tree of files.

mod body;
mod counters;
mod respond;
mod sites;
mod transport;
mod turn;

use lockgate_cache::{Completion, FileClient, Token};
pub use lockgate_http::RequestWait;
use lockgate_http::{
    Action, Connection, DateCache, Delivery, DeliveryCheck, Expired, HttpContext, Limits, response,
};
use lockgate_wire::Instant;

pub use self::body::{BodySource, Pull};
pub use self::counters::HttpCounters;
use self::respond::{PendingResponse, Stage, send_head};
pub use self::sites::{HostPattern, ParseHostError, Site, Sites};
pub use self::transport::{RecvOutcome, Transport};
use self::turn::{CallBudget, TurnBudget};

/// The time of a worker's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnClock {
    /// Monotonic, for deadlines.
    pub now: Instant,
    /// In seconds since the Unix epoch, for dates.
    pub unix: u64,
}

/// A connection's HTTP: 48 bytes at rest.
#[derive(Debug)]
pub struct ClientConnection {
    machine: Connection,
    delivery: Delivery,
    response: Option<Box<PendingResponse>>,
}

/// What [`Server::drive`] needs next for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveOutcome {
    /// Something has to happen first: bytes received or acknowledged, an answer of the file cache,
    /// the deadline.
    Waiting,
    /// There is more to do, but the connection's share of the turn is used up.
    Again,
    /// The connection has ended. The transport was closed or aborted; give the client to
    /// [`Server::release_client`].
    Done,
}

/// The HTTP server of a worker: parses requests, looks their objects up and sends responses.
///
/// # Order of calls
///
/// - A connection is established and, with TLS, its handshake is done: [`Server::accept`]. Keep the
///   returned [`ClientConnection`] beside the socket.
/// - Bytes were received or acknowledged, the peer closed its side, or the last outcome was
///   [`DriveOutcome::Again`]: [`Server::drive`].
/// - Once a turn, until it returns `None`: [`Server::poll_files`] returns a completion of the file
///   cache with the token of its connection. If the connection still exists: [`Server::on_file`].
///   The token is what the worker gave to `drive`. A reused token does no harm: completions carry
///   tickets.
/// - [`ClientConnection::deadline`] has passed: [`Server::on_timer`]. Each call may move the
///   deadline.
/// - The socket is closed, or the outcome was [`DriveOutcome::Done`]: [`Server::release_client`].
/// - Shutting down: [`Server::drain`], then [`Server::on_drain`] for each connection. Idle
///   connections close at once, the others after their response.
#[derive(Debug)]
pub struct Server {
    http: HttpContext,
    sites: Sites,
    files: FileClient,
    date: DateCache,
    counters: HttpCounters,
    #[expect(clippy::vec_box, reason = "it's the boxes that are used again")]
    spare_responses: Vec<Box<PendingResponse>>,
    copy_bytes_max: u32,
    /// Scratch memory for the path of a directory's index file.
    path: Vec<u8>,
    turn: TurnBudget,
}

/// What follows a step of a connection.
enum StepOutcome {
    /// The next step.
    Continue,
    /// An event that has to come first.
    Wait,
    /// The end of the connection, in order.
    Close,
    /// A reset.
    Abort,
}

impl ClientConnection {
    /// When to call [`Server::on_timer`].
    pub fn deadline(&self) -> Option<Instant> {
        let (machine, delivery) = (self.machine.deadline(), self.delivery.deadline());
        machine.into_iter().chain(delivery).min()
    }

    /// Takes note of the bytes that were handed over.
    fn on_sent<T: Transport>(&mut self, clock: TurnClock, transport: &T, cx: &HttpContext) {
        let progress = transport.progress();
        self.delivery.on_sent(clock.now, progress, &cx.limits);
        self.machine.on_progress(clock.now, cx);
    }

    /// What the connection waits for to be received. Unacknowledged bytes of a response don't
    /// matter.
    pub fn request_wait(&self) -> RequestWait {
        self.machine.request_wait()
    }

    /// Whether it is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }
}

impl Server {
    /// Returns a server without connections. Objects of at most `copy_bytes_max` bytes are copied
    /// behind their heads, to share a record with them: no more than a record has room for beside a
    /// head.
    pub fn new(limits: Limits, sites: Sites, files: FileClient, copy_bytes_max: u32) -> Self {
        Self {
            http: HttpContext::new(limits),
            sites,
            files,
            date: DateCache::new(),
            counters: HttpCounters::default(),
            spare_responses: Vec::new(),
            copy_bytes_max: copy_bytes_max.min(COPY_BYTES_MAX),
            path: Vec::new(),
            turn: TurnBudget::new(),
        }
    }

    /// Starts HTTP on an established connection.
    pub fn accept(&mut self, clock: TurnClock) -> ClientConnection {
        self.counters.connections += 1;
        ClientConnection {
            machine: Connection::new(clock.now, &self.http),
            delivery: Delivery::new(),
            response: None,
        }
    }

    /// Does what can be done for a connection now, within its share of the turn: 1 MiB of
    /// responses, and an eighth of the requests that are left of the turn, between 1 and 32.
    pub fn drive<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        transport: &mut T,
    ) -> DriveOutcome {
        let mut budget = self.turn.grant();
        let outcome = self.drive_within(clock, client, token, transport, &mut budget);
        self.turn.settle(&budget);
        outcome
    }

    fn drive_within<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        transport: &mut T,
        budget: &mut CallBudget,
    ) -> DriveOutcome {
        while budget.bytes > 0 {
            let outcome = match client.machine.next_action() {
                Action::Read | Action::Linger => self.read(clock, client, transport),
                Action::AskForBody => self.ask_for_body(clock, client, transport),
                Action::Respond if budget.requests == 0 => return DriveOutcome::Again,
                Action::Respond => {
                    budget.requests -= 1;
                    self.respond(clock, client, token)
                }
                Action::Send => self.send(clock, client, token, transport, budget),
                Action::Close => StepOutcome::Close,
            };
            match outcome {
                StepOutcome::Continue => {}
                StepOutcome::Wait if self.http.draining => return self.on_drain(client, transport),
                StepOutcome::Wait => return DriveOutcome::Waiting,
                StepOutcome::Close => {
                    transport.close();
                    return DriveOutcome::Done;
                }
                StepOutcome::Abort => {
                    transport.abort();
                    return DriveOutcome::Done;
                }
            }
        }
        DriveOutcome::Again
    }

    /// Returns the next completion of the file cache. Call it once a turn, until there is none.
    pub fn poll_files(&mut self, clock: TurnClock) -> Option<Completion> {
        self.files.poll(clock.now)
    }

    /// Handles a completion of the file cache for this connection.
    pub fn on_file<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        transport: &mut T,
        completion: Completion,
    ) -> DriveOutcome {
        let Some(response) = &mut client.response else {
            return DriveOutcome::Waiting;
        };
        match response.stage {
            Stage::LookingUp(ticket) if ticket == completion.ticket => {
                match completion.into_lookup() {
                    Some(found) => self.respond_with_object(clock, client, found),
                    None => self.look_up(clock, client, token),
                }
            }
            Stage::LookingUp(_) => return DriveOutcome::Waiting,
            Stage::Sending => {
                if !response.body.on_completion(completion) {
                    return DriveOutcome::Waiting;
                }
            }
        }
        self.drive(clock, client, token, transport)
    }

    /// Handles a deadline of [`ClientConnection::deadline`] that has passed: closes an idle
    /// connection, refuses a late request, resets a client that acknowledges nothing.
    pub fn on_timer<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        transport: &mut T,
    ) -> DriveOutcome {
        let (now, progress) = (clock.now, transport.progress());
        match client.delivery.check(now, progress, &self.http.limits) {
            DeliveryCheck::NotDue | DeliveryCheck::InFlight => {}
            DeliveryCheck::Delivered => client.machine.on_progress(now, &self.http),
            DeliveryCheck::Stalled => return self.abort_stalled(transport),
        }
        client.delivery.on_sample(progress);
        if client.delivery.is_in_flight() && client.machine.waits_for_delivery() {
            let is_due = |deadline: Instant| deadline <= now;
            if client.machine.deadline().is_some_and(is_due) {
                client.machine.restart_deadline(now, &self.http);
            }
            return DriveOutcome::Waiting;
        }
        match client.machine.on_timer(clock.now, &mut self.http) {
            Expired::Nothing => return DriveOutcome::Waiting,
            Expired::Idle => self.counters.idle_closed += 1,
            Expired::Refused => {}
            Expired::Unanswered => {
                if let Some(response) = &mut client.response {
                    response.retract();
                }
            }
            // A client that has got everything but doesn't close is reset, too: it may go on
            // sending what isn't read.
            Expired::Stalled => return self.abort_stalled(transport),
        }
        self.drive(clock, client, token, transport)
    }

    /// Closes every connection after its next response from now on.
    pub fn drain(&mut self) {
        self.http.draining = true;
    }

    /// Closes a connection if it is idle. Call it for each connection after [`Server::drain`].
    ///
    /// A connection whose received bytes are being decrypted elsewhere isn't idle. When they are
    /// back, and there is no request in them, it closes as well.
    pub fn on_drain<T: Transport>(
        &mut self,
        client: &ClientConnection,
        transport: &mut T,
    ) -> DriveOutcome {
        if !client.is_idle() || transport.awaits_bytes() {
            return DriveOutcome::Waiting;
        }
        transport.close();
        DriveOutcome::Done
    }

    /// Returns the memory of an ended connection to the server.
    pub fn release_client(&mut self, mut client: ClientConnection) {
        client.machine.release(&mut self.http);
        self.recycle(client.response.take());
    }

    /// What the connections share.
    pub fn context(&self) -> &HttpContext {
        &self.http
    }

    /// The counters.
    pub fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    /// Resets a connection whose client took nothing, or didn't close, for too long.
    fn abort_stalled<T: Transport>(&mut self, transport: &mut T) -> DriveOutcome {
        self.counters.stalled += 1;
        transport.abort();
        DriveOutcome::Done
    }

    fn read<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        t: &mut T,
    ) -> StepOutcome {
        let (machine, cx) = (&mut client.machine, &mut self.http);
        match t.recv(|bytes| machine.on_bytes(clock.now, bytes, cx)) {
            RecvOutcome::Taken(_) => StepOutcome::Continue,
            RecvOutcome::Nothing => StepOutcome::Wait,
            RecvOutcome::End => {
                client.machine.on_eof();
                StepOutcome::Continue
            }
        }
    }

    /// Sends 100 (Continue). If only a part of it could be sent, the rest goes in front of the
    /// final response.
    fn ask_for_body<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        transport: &mut T,
    ) -> StepOutcome {
        let mut response = client.response.take().unwrap_or_else(|| {
            let mut response = self.take_response();
            response.head.extend_from_slice(response::CONTINUE);
            response
        });
        client.delivery.on_sample(transport.progress());
        let (outcome, sent, _) = send_head(&response.head, &mut response.head_sent, &[], transport);
        self.counters.bytes_copied += u64::from(sent);
        if sent > 0 {
            client.on_sent(clock, transport, &self.http);
        }
        if response.head_sent == response.head.len() {
            self.recycle(Some(response));
            client.machine.on_body_requested();
        } else {
            client.response = Some(response);
        }
        outcome
    }

    /// Sends as much of the response as the transport takes.
    fn send<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        transport: &mut T,
        budget: &mut CallBudget,
    ) -> StepOutcome {
        let Some(response) = client.response.as_deref_mut() else {
            return StepOutcome::Abort;
        };
        client.delivery.on_sample(transport.progress());
        let untouched = response.status.is_some();
        let has_head = response.head_sent < response.head.len();
        let (outcome, sent) = match response.body.pull(&mut self.files, token) {
            // The head isn't sent before the body's first bytes are loaded: until then another
            // response is possible.
            Pull::Pending => return StepOutcome::Wait,
            Pull::Failed(absence) if untouched => {
                return self.start_over(clock, client, token, absence);
            }
            Pull::Failed(_) => {
                self.counters.cut_off += 1;
                return StepOutcome::Abort;
            }
            Pull::Span(..) | Pull::End if has_head => {
                let sent = send_head(&response.head, &mut response.head_sent, &[], transport);
                self.counters.bytes_copied += u64::from(sent.1);
                // A body that has to wait for its head holds no memory.
                response.body.advance(0);
                (sent.0, sent.1)
            }
            Pull::End => return self.end(clock, client, transport),
            Pull::Bytes(bytes) => {
                let (outcome, sent, of_body) =
                    send_head(&response.head, &mut response.head_sent, bytes, transport);
                self.counters.bytes_copied += u64::from(sent);
                response.body.advance(of_body);
                (outcome, sent)
            }
            Pull::Span(span, at, len) => {
                let sent = transport.send_span(span, at, len);
                self.counters.bytes_referenced += u64::from(sent);
                response.body.advance(sent);
                (outcome_of_send(sent, len as usize), sent)
            }
        };
        if sent > 0 {
            if let Some(status) = response.status.take() {
                self.counters.add_response(status);
                // No other response can be chosen now.
                client.machine.release(&mut self.http);
            }
            budget.bytes = budget.bytes.saturating_sub(sent);
            client.on_sent(clock, transport, &self.http);
        }
        outcome
    }

    /// Ends a response whose last byte was handed to the transport.
    fn end<T: Transport>(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        t: &mut T,
    ) -> StepOutcome {
        client.machine.end_response(clock.now, &mut self.http);
        self.recycle(client.response.take());
        if client.machine.next_action() == Action::Linger {
            t.shutdown();
            client.on_sent(clock, t, &self.http);
        }
        StepOutcome::Continue
    }

    fn take_response(&mut self) -> Box<PendingResponse> {
        self.spare_responses
            .pop()
            .unwrap_or_else(|| Box::new(PendingResponse::new()))
    }

    fn recycle(&mut self, response: Option<Box<PendingResponse>>) {
        if let Some(mut response) = response
            && self.spare_responses.len() < SPARE_RESPONSES_MAX
        {
            response.reset();
            self.spare_responses.push(response);
        }
    }
}

/// The next step after a transport took `sent` of `given` bytes.
fn outcome_of_send(sent: u32, given: usize) -> StepOutcome {
    if sent as usize >= given {
        StepOutcome::Continue
    } else {
        StepOutcome::Wait
    }
}

/// Room that a record of the largest size has beside a head.
const COPY_BYTES_MAX: u32 = 15_872;
/// Bytes that a head is expected to need. A longer one only costs a second record.
pub(crate) const HEAD_BYTES_EXPECTED: u32 = 512;
const _: () = assert!(
    (COPY_BYTES_MAX + HEAD_BYTES_EXPECTED) as usize == lockgate_ktls::PLAINTEXT_MAX,
    "head and body fill one record"
);

/// Responses whose memory is kept for later ones.
const SPARE_RESPONSES_MAX: usize = 256;

const _: () = assert!(
    size_of::<ClientConnection>() <= 48,
    "a connection at rest is small"
);

#[cfg(test)]
mod tests;

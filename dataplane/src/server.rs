//! Drives the connections of a worker: bytes from a transport into the machine, lookups to the file
//! cache, heads and bodies back to the transport.
//!
//! [`Driver`] puts `lockgate-http` together with a [`Transport`] on one side and the file cache on
//! the other. [`BodySource`] is what bodies are pulled from, [`Sites`] says whose files a request
//! gets.

mod answer;
mod body;
mod counters;
mod sites;

use std::sync::Arc;

use lockgate_cache::{Completion, FileClient, Token};
use lockgate_http::{Connection, DateCache, Demand, Expired, Limits, Workshop, response};
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use self::answer::{Response, Step};
pub use self::body::{BodySource, Pull};
pub use self::counters::HttpCounters;
pub use self::sites::{HostPattern, ParseHostError, Site, Sites};

/// A byte stream to a client, for as long as one call of the driver takes.
///
/// If a sending method takes less than it was given, the connection is to be driven again when
/// there's room for more.
pub trait Transport {
    /// Shows received bytes, in order, to `take`, which says how many of them it took. The others
    /// are shown again next time (they belong to a pipelined request, and it's the transport that
    /// keeps them). Once all is taken and the peer has closed its side, it's [`Received::End`] each
    /// time.
    fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> Received;

    /// Copies bytes for sending; says how many. With `more`, what follows goes into the same
    /// record, as far as there's room in it.
    fn send(&mut self, bytes: &[u8], more: bool) -> u32;

    /// Sends bytes of a span by reference; says how many were taken.
    fn send_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> u32;

    /// Bytes that were given and that the peer hasn't acknowledged yet.
    fn unacknowledged(&self) -> u64;

    /// No more will be sent. Receiving goes on.
    fn shutdown(&mut self);

    /// Nothing more will be sent, nor taken: the connection ends by itself.
    fn close(&mut self);

    /// Ends the connection at once, so that the peer can't take what it got for all of it.
    fn abort(&mut self);
}

/// What [`Transport::recv`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It showed bytes, of which so many were taken.
    Taken(usize),
    /// There is nothing now.
    Nothing,
    /// The peer has closed its side.
    End,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// On the worker's clock, for deadlines.
    pub now: Instant,
    /// In seconds since the Unix epoch, for dates.
    pub unix: u64,
}

/// A connection's HTTP: 32 bytes at rest.
#[derive(Debug)]
pub struct Client {
    machine: Connection,
    response: Option<Box<Response>>,
}

/// How driving a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// Something has to happen first: bytes received or acknowledged, an answer of the file cache,
    /// the deadline.
    Waiting,
    /// There's more to do: its turn was over.
    Again,
    /// It's over. The transport was closed or aborted; forget the client with [`Driver::forget`].
    Done,
}

/// HTTP for all connections of a worker.
///
/// # How to drive it
///
/// - A connection is there (behind TLS: its handshake is over): keep [`Driver::accept`]'s client
///   beside its socket.
/// - Bytes were received, or the peer closed; bytes were acknowledged, or room to send came back; a
///   turn ended with [`Driven::Again`]: [`Driver::drive`].
/// - Once a turn, until there is none: [`Driver::poll_files`] gives an answer of the file cache and
///   the token of the connection it is for. If that is still there: [`Driver::on_file`]. The token
///   is whatever the worker gave to `drive`; one that is given to another connection later does no
///   harm, because answers carry tickets.
/// - The time of [`Client::deadline`] has come: [`Driver::on_timer`]. Ask for the deadline after
///   each call; it moves.
/// - The socket is gone, by reset or otherwise, or the result was [`Driven::Done`]:
///   [`Driver::forget`].
/// - Shutting down: [`Driver::drain`], then [`Driver::on_drain`] for each client. Connections at
///   rest close at once, the others behind their answers.
#[derive(Debug)]
pub struct Driver {
    shop: Workshop,
    sites: Sites,
    files: FileClient,
    date: DateCache,
    counters: HttpCounters,
    #[expect(clippy::vec_box, reason = "it's the boxes that are used again")]
    spare: Vec<Box<Response>>,
    copy_max: u32,
    /// Where a path is put together.
    path: Vec<u8>,
}

/// What a step of a connection led to.
enum Stepped {
    On,
    Wait,
    Done,
    Cut,
}

impl Client {
    /// When to call [`Driver::on_timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.machine.deadline()
    }

    /// Whether it is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }
}

impl Driver {
    /// A driver for a worker. Objects of at most `copy_max` bytes are copied behind their heads, to
    /// share a record with them: no more than what a record has room for beside a head.
    pub fn new(limits: Limits, sites: Sites, files: FileClient, copy_max: u32) -> Self {
        Self {
            shop: Workshop::new(limits),
            sites,
            files,
            date: DateCache::new(),
            counters: HttpCounters::default(),
            spare: Vec::new(),
            copy_max: copy_max.min(COPY_MAX),
            path: Vec::new(),
        }
    }

    /// A connection was established.
    pub fn accept(&mut self, clock: Clock) -> Client {
        self.counters.connections += 1;
        Client {
            machine: Connection::new(clock.now, &self.shop),
            response: None,
        }
    }

    /// Does what can be done for a connection now, within a turn's limits.
    pub fn drive<T: Transport>(
        &mut self,
        clock: Clock,
        client: &mut Client,
        token: Token,
        transport: &mut T,
    ) -> Driven {
        let mut budget = Budget {
            requests: REQUESTS_A_TURN,
            bytes: BYTES_A_TURN,
        };
        while budget.requests > 0 && budget.bytes > 0 {
            let stepped = match client.machine.demand() {
                Demand::Read | Demand::Linger => self.read(clock, client, transport),
                Demand::Continue => self.ask_for_body(clock, client, transport),
                Demand::Answer => {
                    budget.requests -= 1;
                    self.answer(clock, client, token)
                }
                Demand::Send => self.send(clock, client, token, transport, &mut budget),
                Demand::Drop => Stepped::Done,
            };
            match stepped {
                Stepped::On => {}
                Stepped::Wait => return Driven::Waiting,
                Stepped::Done => {
                    transport.close();
                    return Driven::Done;
                }
                Stepped::Cut => {
                    transport.abort();
                    return Driven::Done;
                }
            }
        }
        Driven::Again
    }

    /// The next answer of the file cache. Call it until there is none, once a turn.
    pub fn poll_files(&mut self, clock: Clock) -> Option<Completion> {
        self.files.poll(clock.now)
    }

    /// An answer of the file cache for this connection has come.
    pub fn on_file<T: Transport>(
        &mut self,
        clock: Clock,
        client: &mut Client,
        token: Token,
        transport: &mut T,
        completion: Completion,
    ) -> Driven {
        let Some(response) = &mut client.response else {
            return Driven::Waiting;
        };
        match response.step {
            Step::Looking(ticket) if ticket == completion.ticket => {
                match completion.into_lookup() {
                    Some(found) => self.found(clock, client, found),
                    None => self.look_up(clock, client, token),
                }
            }
            Step::Looking(_) | Step::Lingering => return Driven::Waiting,
            Step::Sending => {
                if !response.body.on_completion(completion) {
                    return Driven::Waiting;
                }
            }
        }
        self.drive(clock, client, token, transport)
    }

    /// The time of [`Client::deadline`] has come.
    pub fn on_timer<T: Transport>(
        &mut self,
        clock: Clock,
        client: &mut Client,
        token: Token,
        transport: &mut T,
    ) -> Driven {
        match client.machine.on_timer(clock.now, &mut self.shop) {
            Expired::Nothing => return Driven::Waiting,
            Expired::Idle => self.counters.idle_closed += 1,
            Expired::Refused => {}
            Expired::Unanswered => {
                if let Some(response) = &mut client.response {
                    response.retract();
                }
            }
            Expired::Stalled => {
                let left = transport.unacknowledged();
                match &mut client.response {
                    Some(response) if left < response.unacknowledged => {
                        response.unacknowledged = left;
                        client.machine.on_progress(clock.now, &self.shop);
                    }
                    Some(_) | None => {
                        // A client that has got everything but doesn't close needs no reset to
                        // tell it so, but gets one: it may send what nobody will read.
                        self.counters.stalled += 1;
                        transport.abort();
                        return Driven::Done;
                    }
                }
            }
        }
        self.drive(clock, client, token, transport)
    }

    /// Closes every connection behind its next answer from now on.
    pub fn drain(&mut self) {
        self.shop.draining = true;
    }

    /// Closes a connection if it is at rest; to be called for each after [`Driver::drain`].
    pub fn on_drain<T: Transport>(&mut self, client: &Client, transport: &mut T) -> Driven {
        if !client.is_idle() {
            return Driven::Waiting;
        }
        transport.close();
        Driven::Done
    }

    /// A connection is over: gives its memory back.
    pub fn forget(&mut self, mut client: Client) {
        client.machine.release(&mut self.shop);
        self.put(client.response.take());
    }

    /// What was counted so far.
    pub fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    fn read<T: Transport>(&mut self, clock: Clock, client: &mut Client, t: &mut T) -> Stepped {
        let (machine, shop) = (&mut client.machine, &mut self.shop);
        match t.recv(|bytes| machine.on_bytes(clock.now, bytes, shop)) {
            Received::Taken(_) => Stepped::On,
            Received::Nothing => Stepped::Wait,
            Received::End => {
                client.machine.on_eof();
                Stepped::On
            }
        }
    }

    /// Sends the interim response. What of it has to wait goes in front of the answer, if the body
    /// comes without it, or doesn't come in time.
    fn ask_for_body<T: Transport>(
        &mut self,
        clock: Clock,
        client: &mut Client,
        transport: &mut T,
    ) -> Stepped {
        let mut response = client.response.take().unwrap_or_else(|| {
            let mut response = self.take();
            response.head.extend_from_slice(response::CONTINUE);
            response
        });
        let (stepped, sent) = response.send_head(transport, false);
        self.counters.bytes_copied += u64::from(sent);
        if response.head_sent == response.head.len() {
            self.put(Some(response));
            client.machine.continued();
        } else {
            client.response = Some(response);
            client.machine.on_progress(clock.now, &self.shop);
        }
        stepped
    }

    /// Hands over as much of the answer as the transport takes.
    fn send<T: Transport>(
        &mut self,
        clock: Clock,
        client: &mut Client,
        token: Token,
        transport: &mut T,
        budget: &mut Budget,
    ) -> Stepped {
        let Some(response) = client.response.as_deref_mut() else {
            return Stepped::Cut;
        };
        let untouched = response.status.is_some();
        let has_head = response.head_sent < response.head.len();
        let (stepped, sent) = match response.body.pull(&mut self.files, token) {
            // A head that waits for its body's first bytes can still become another one.
            Pull::Pending => return Stepped::Wait,
            Pull::Failed(absence) if untouched => {
                return self.start_over(clock, client, token, absence);
            }
            Pull::Failed(_) => {
                self.counters.cut_off += 1;
                return Stepped::Cut;
            }
            pulled if has_head => {
                let more = matches!(pulled, Pull::Bytes(_));
                let (stepped, sent) = response.send_head(transport, more);
                self.counters.bytes_copied += u64::from(sent);
                (stepped, sent)
            }
            Pull::End => return self.end(clock, client, transport),
            Pull::Bytes(bytes) => {
                let sent = transport.send(bytes, false);
                let stepped = went(sent, bytes.len());
                self.counters.bytes_copied += u64::from(sent);
                response.body.advance(sent);
                (stepped, sent)
            }
            Pull::Span(span, at, len) => {
                let sent = transport.send_span(span, at, len);
                self.counters.bytes_referenced += u64::from(sent);
                response.body.advance(sent);
                (went(sent, len as usize), sent)
            }
        };
        if sent > 0 {
            if let Some(status) = response.status.take() {
                self.counters.add_response(status);
            }
            budget.bytes = budget.bytes.saturating_sub(sent);
            response.unacknowledged = transport.unacknowledged();
            client.machine.on_progress(clock.now, &self.shop);
        }
        stepped
    }

    /// The answer was handed over.
    fn end<T: Transport>(&mut self, clock: Clock, client: &mut Client, t: &mut T) -> Stepped {
        client.machine.end_answer(clock.now, &mut self.shop);
        match client.machine.demand() {
            Demand::Linger => {
                t.shutdown();
                if let Some(response) = client.response.as_deref_mut() {
                    response.reset();
                    response.step = Step::Lingering;
                    response.unacknowledged = t.unacknowledged();
                }
            }
            Demand::Read | Demand::Continue | Demand::Answer | Demand::Send | Demand::Drop => {
                self.put(client.response.take())
            }
        }
        Stepped::On
    }

    fn take(&mut self) -> Box<Response> {
        self.spare
            .pop()
            .unwrap_or_else(|| Box::new(Response::new()))
    }

    fn put(&mut self, response: Option<Box<Response>>) {
        if let Some(mut response) = response
            && self.spare.len() < SPARE_MAX
        {
            response.reset();
            self.spare.push(response);
        }
    }
}

/// What one turn of one connection may do.
struct Budget {
    requests: u32,
    bytes: u32,
}

/// Whether to go on behind `sent` of `given` bytes.
fn went(sent: u32, given: usize) -> Stepped {
    if sent as usize >= given {
        Stepped::On
    } else {
        Stepped::Wait
    }
}

/// What a record has room for beside a head.
const COPY_MAX: u32 = 15_872;

/// What a connection may do before the others have their turn.
const REQUESTS_A_TURN: u32 = 32;
const BYTES_A_TURN: u32 = 1 << 20;

/// Answers whose memory is kept for the next ones.
const SPARE_MAX: usize = 256;

const _: () = assert!(size_of::<Client>() <= 32, "a connection at rest is small");

#[cfg(test)]
mod tests;

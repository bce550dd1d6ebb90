//! The state machine of one client's HTTP connection.

use lockgate_wire::Instant;

use crate::head::Collected;
use crate::head_budget::HeadBudget;
use crate::limits::Limits;
use crate::method::Method;
use crate::request::Request;
use crate::status::Status;

/// The state machine of a connection (RFC 9112, section 9). It does no I/O: the caller brings
/// received bytes and the time, and does what [`Connection::next_action`] says.
///
/// ```text
///  Read ──> AskForBody? ──> Respond ──begin_response──> Send ──end_response──> Read
///    │                         ^                                      └──────> Linger
///    └─ refused, or too late: the response is an error
/// ```
///
/// - `Read`: give received bytes to [`Connection::on_bytes`]. It takes the bytes of one request and
///   no more: the caller keeps a pipelined request until the response before it has ended. Call
///   [`Connection::on_eof`] when the client has closed its sending side.
/// - `AskForBody`: send [`crate::response::CONTINUE`], then call [`Connection::on_body_requested`].
/// - `Respond`: choose a response by [`Connection::refusal`] or else [`Connection::request`], and
///   call [`Connection::begin_response`], which decides whether the connection is kept.
/// - `Send`: send the response. Call [`Connection::on_progress`] as the client takes it, and
///   [`Connection::end_response`] when the transport took its last byte.
/// - `Linger`: close the sending side, and give received bytes to [`Connection::on_bytes`], which
///   discards them, until the client closes too. Closing both sides at once would reset the
///   connection and could destroy the response on its way (RFC 9112, section 9.6).
/// - `Close`: close the connection.
///
/// [`Connection::deadline`] says when to call [`Connection::on_timer`]. An idle connection takes 24
/// bytes.
#[derive(Debug)]
pub struct Connection {
    request: Option<Box<Request>>,
    deadline: Instant,
    /// Responses that were begun.
    served: u32,
    phase: Phase,
    refusal: Option<Status>,
    /// The client has closed its sending side.
    eof: bool,
    /// The connection persists after the current response or, while idle, has persisted after one.
    keep: bool,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give received bytes to [`Connection::on_bytes`].
    Read,
    /// Send 100 (Continue).
    AskForBody,
    /// Choose a response.
    Respond,
    /// Send the response.
    Send,
    /// Close the sending side, and discard received bytes.
    Linger,
    /// Close the connection.
    Close,
}

/// What a deadline that has passed leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Nothing: it hasn't passed.
    Nothing,
    /// The connection was idle for too long: close it.
    Idle,
    /// The request came too slowly: it is refused with 408.
    Refused,
    /// The object wasn't found in time: the request is refused with 503.
    Unanswered,
    /// The client doesn't take the response, or doesn't close: abort.
    Stalled,
}

/// What a connection waits for to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestWait {
    /// Nothing.
    None,
    /// The request after so many, modulo 2^16.
    Request(u16),
    /// The rest of a request, after so many, modulo 2^16.
    Rest(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first byte of a request.
    Idle,
    Head,
    /// The client waits for 100 (Continue) before it sends the body.
    AwaitingContinue,
    Body,
    AwaitingResponse,
    Responding,
    Lingering,
    Done,
}

/// What the connections of a worker share: the limits, and a free list of requests' memory.
#[derive(Debug)]
pub struct HttpContext {
    /// The limits.
    pub limits: Limits,
    /// Whether to close every connection after its next response.
    pub draining: bool,
    #[expect(clippy::vec_box, reason = "it's the boxes that are used again")]
    spare_requests: Vec<Box<Request>>,
    heads: HeadBudget,
    /// Heads that were refused because others take the memory for long ones.
    pub long_heads_refused: u64,
}

impl HttpContext {
    /// Returns a context with an empty free list.
    pub fn new(limits: Limits) -> Self {
        let heads = HeadBudget::new(limits.long_heads_bytes_max);
        Self {
            limits,
            draining: false,
            spare_requests: Vec::new(),
            heads,
            long_heads_refused: 0,
        }
    }

    /// The memory that long heads take now, beyond an ordinary one for each connection.
    pub fn long_heads_bytes(&self) -> u64 {
        self.heads.used()
    }

    fn take_request(&mut self) -> Box<Request> {
        self.spare_requests
            .pop()
            .unwrap_or_else(|| Box::new(Request::new()))
    }

    fn recycle(&mut self, mut request: Box<Request>) {
        let counted = request.long_bytes();
        self.heads.update(counted, 0);
        if self.spare_requests.len() < SPARE_REQUESTS_MAX {
            request.clear();
            self.spare_requests.push(request);
        }
    }
}

impl Connection {
    /// Returns the state of a connection that has just been established.
    pub fn new(now: Instant, cx: &HttpContext) -> Self {
        Self {
            request: None,
            deadline: now + cx.limits.header_timeout.duration(),
            served: 0,
            phase: Phase::Idle,
            refusal: None,
            eof: false,
            keep: false,
        }
    }

    /// Parses received bytes. Returns how many it took: everything up to the end of the request,
    /// nothing while a response is due or being sent, everything while lingering.
    pub fn on_bytes(&mut self, now: Instant, bytes: &[u8], cx: &mut HttpContext) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.phase {
                Phase::Idle => self.begin_request(now, cx),
                Phase::Head => taken += self.on_head(now, rest, cx),
                // A client may send the body without waiting for 100 (Continue).
                Phase::AwaitingContinue | Phase::Body => taken += self.on_body(now, rest, cx),
                Phase::AwaitingResponse | Phase::Responding => return taken,
                Phase::Lingering | Phase::Done => return bytes.len(),
            }
        }
        taken
    }

    /// Handles the end of the client's stream, after all bytes before it were taken.
    pub fn on_eof(&mut self) {
        self.eof = true;
        match self.phase {
            // An incomplete request gets no response.
            Phase::Idle
            | Phase::Head
            | Phase::AwaitingContinue
            | Phase::Body
            | Phase::Lingering => {
                self.phase = Phase::Done;
            }
            Phase::AwaitingResponse | Phase::Responding | Phase::Done => {}
        }
    }

    /// Handles [`Connection::deadline`], if it has passed.
    pub fn on_timer(&mut self, now: Instant, cx: &mut HttpContext) -> Expired {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Expired::Nothing;
        }
        match self.phase {
            Phase::Idle => {
                self.phase = Phase::Done;
                Expired::Idle
            }
            Phase::Head | Phase::AwaitingContinue | Phase::Body => {
                self.refuse(now, Status::RequestTimeout, cx);
                Expired::Refused
            }
            Phase::AwaitingResponse if self.refusal.is_none() => {
                self.refuse(now, Status::ServiceUnavailable, cx);
                Expired::Unanswered
            }
            Phase::AwaitingResponse | Phase::Responding | Phase::Lingering | Phase::Done => {
                Expired::Stalled
            }
        }
    }

    /// 100 (Continue) was sent.
    pub fn on_body_requested(&mut self) {
        if self.phase == Phase::AwaitingContinue {
            self.phase = Phase::Body;
        }
    }

    /// Begins a response. Returns whether the connection persists after it, which its head has to
    /// announce.
    pub fn begin_response(&mut self, now: Instant, cx: &HttpContext) -> bool {
        debug_assert_eq!(
            self.phase,
            Phase::AwaitingResponse,
            "an answer needs a request"
        );
        let asked = self.request.as_ref().is_some_and(|r| r.wants_keep_alive());
        self.served = self.served.saturating_add(1);
        let more = self.served < cx.limits.requests_max.value();
        self.keep &= asked && more && !cx.draining;
        self.phase = Phase::Responding;
        self.deadline = now + cx.limits.send_timeout.duration();
        self.keep
    }

    /// Takes a begun response back, so that another one can be chosen. No byte of it may have been
    /// sent.
    pub fn retract_response(&mut self, now: Instant, cx: &HttpContext) {
        debug_assert_eq!(
            self.phase,
            Phase::Responding,
            "only a begun answer is taken back"
        );
        self.served = self.served.saturating_sub(1);
        self.await_response(now, cx);
    }

    /// The client took some of the response: restarts the time that it has to take more, or to
    /// close after the last one.
    pub fn on_progress(&mut self, now: Instant, cx: &HttpContext) {
        match self.phase {
            Phase::Responding | Phase::Lingering => self.restart_deadline(now, cx),
            Phase::Idle
            | Phase::Head
            | Phase::AwaitingContinue
            | Phase::Body
            | Phase::AwaitingResponse
            | Phase::Done => {}
        }
    }

    /// Restarts the deadline of a connection that [waits for the
    /// client](Connection::waits_for_delivery) while its response is still on its way:
    /// [`crate::Delivery`] has the limit for that.
    pub fn restart_deadline(&mut self, now: Instant, cx: &HttpContext) {
        let limits = &cx.limits;
        let timeout = match self.phase {
            Phase::Responding => limits.send_timeout,
            Phase::Lingering => limits.linger_timeout,
            // Before its first request a connection has nothing on its way.
            Phase::Idle if self.keep => limits.idle_timeout,
            Phase::Idle
            | Phase::Head
            | Phase::AwaitingContinue
            | Phase::Body
            | Phase::AwaitingResponse
            | Phase::Done => return,
        };
        self.deadline = now + timeout.duration();
    }

    /// Returns whether the deadline is for the client to take a response, to send the next request
    /// after one, or to close after the last one.
    pub fn waits_for_delivery(&self) -> bool {
        match self.phase {
            Phase::Idle => self.keep,
            Phase::Responding | Phase::Lingering => true,
            Phase::Head
            | Phase::AwaitingContinue
            | Phase::Body
            | Phase::AwaitingResponse
            | Phase::Done => false,
        }
    }

    /// Ends a response whose last byte the transport took.
    pub fn end_response(&mut self, now: Instant, cx: &mut HttpContext) {
        debug_assert_eq!(self.phase, Phase::Responding, "only a begun answer ends");
        self.release(cx);
        self.refusal = None;
        // While draining, a connection closes even if the response announced that it persists: a
        // server may close an idle connection at any time (RFC 9112, section 9.5).
        if self.keep && !cx.draining {
            self.phase = Phase::Idle;
            self.deadline = now + cx.limits.idle_timeout.duration();
        } else {
            self.phase = Phase::Lingering;
            self.deadline = now + cx.limits.linger_timeout.duration();
        }
    }

    /// Returns the request's memory to the free list: when the first byte of its response was sent,
    /// so that no other response can be chosen, or when the connection ends early.
    pub fn release(&mut self, cx: &mut HttpContext) {
        if let Some(request) = self.request.take() {
            cx.recycle(request);
        }
    }

    /// What the caller has to do next.
    pub fn next_action(&self) -> Action {
        match self.phase {
            Phase::Idle | Phase::Head | Phase::Body => Action::Read,
            Phase::AwaitingContinue => Action::AskForBody,
            Phase::AwaitingResponse => Action::Respond,
            Phase::Responding => Action::Send,
            Phase::Lingering if self.eof => Action::Close,
            Phase::Lingering => Action::Linger,
            Phase::Done => Action::Close,
        }
    }

    /// When to call [`Connection::on_timer`].
    pub fn deadline(&self) -> Option<Instant> {
        (self.phase != Phase::Done).then_some(self.deadline)
    }

    /// The status of a request that is refused.
    pub fn refusal(&self) -> Option<Status> {
        self.refusal
    }

    /// The request that gets the response. After a refusal it may be incomplete.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }

    /// What the connection waits for to be received.
    pub fn request_wait(&self) -> RequestWait {
        let [low, high, ..] = self.served.to_le_bytes();
        let served = u16::from_le_bytes([low, high]);
        match self.phase {
            Phase::Idle => RequestWait::Request(served),
            Phase::Head | Phase::AwaitingContinue | Phase::Body => RequestWait::Rest(served),
            Phase::AwaitingResponse | Phase::Responding | Phase::Lingering | Phase::Done => {
                RequestWait::None
            }
        }
    }

    /// Whether it waits for the first byte of a request.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    fn begin_request(&mut self, now: Instant, cx: &mut HttpContext) {
        // The deadline of the first head runs from the connection's start, or a client could extend
        // it by waiting before its first byte.
        if self.keep {
            self.deadline = now + cx.limits.header_timeout.duration();
        }
        let request = cx.take_request();
        cx.heads.update(0, request.long_bytes());
        self.request = Some(request);
        self.keep = true;
        self.phase = Phase::Head;
    }

    fn on_head(&mut self, now: Instant, bytes: &[u8], cx: &mut HttpContext) -> usize {
        let Some(request) = self.request.as_deref_mut() else {
            return bytes.len();
        };
        let before = request.long_bytes();
        let (taken, collected) = request.head.push(bytes, &cx.limits, cx.heads.share());
        let refusal = match collected {
            Collected::More => None,
            Collected::Refused(status) => Some(status),
            Collected::NoMemory => {
                cx.long_heads_refused += 1;
                Some(Status::ServiceUnavailable)
            }
            Collected::Complete => request.parse(&cx.limits).err(),
        };
        let counted = request.long_bytes();
        cx.heads.update(before, counted);
        match refusal {
            Some(status) => self.refuse(now, status, cx),
            None if collected == Collected::Complete => self.on_request(now, cx),
            None => {}
        }
        taken
    }

    /// Handles a complete and well-formed head: refuses it, or reads its body first.
    fn on_request(&mut self, now: Instant, cx: &HttpContext) {
        let Some(request) = self.request.as_deref() else {
            return;
        };
        self.refusal = match request.method() {
            Method::Get | Method::Head => None,
            // The client may already have sent bytes that are meant for the tunnel: close, so that
            // they aren't parsed as a request.
            Method::Connect => return self.refuse(now, Status::MethodNotAllowed, cx),
            Method::NotAllowed => Some(Status::MethodNotAllowed),
            Method::Unknown => Some(Status::NotImplemented),
        };
        if request.body.is_done() {
            self.await_response(now, cx);
        } else if request.body.is_too_long(&cx.limits) {
            let status = self.refusal.unwrap_or(Status::ContentTooLarge);
            self.refuse(now, status, cx);
        } else if !request.expects_continue {
            self.phase = Phase::Body;
            self.deadline = now + cx.limits.body_timeout.duration();
        } else if let Some(status) = self.refusal {
            // The client may or may not send the body after a final status: the start of its next
            // request is uncertain.
            self.refuse(now, status, cx);
        } else {
            self.phase = Phase::AwaitingContinue;
            self.deadline = now + cx.limits.body_timeout.duration();
        }
    }

    fn on_body(&mut self, now: Instant, bytes: &[u8], cx: &HttpContext) -> usize {
        let Some(request) = self.request.as_deref_mut() else {
            return bytes.len();
        };
        match request.body.discard(bytes, &cx.limits) {
            Ok(taken) => {
                if request.body.is_done() {
                    self.await_response(now, cx);
                }
                taken
            }
            Err(status) => {
                self.refuse(now, status, cx);
                bytes.len()
            }
        }
    }

    fn await_response(&mut self, now: Instant, cx: &HttpContext) {
        self.phase = Phase::AwaitingResponse;
        self.deadline = now + cx.limits.lookup_timeout.duration();
    }

    /// Refuses the request with a status, and closes the connection after that response.
    fn refuse(&mut self, now: Instant, status: Status, cx: &HttpContext) {
        self.refusal = Some(status);
        self.keep = false;
        self.await_response(now, cx);
    }
}

/// Requests whose memory is kept for later ones.
const SPARE_REQUESTS_MAX: usize = 256;

const _: () = assert!(
    size_of::<Connection>() <= 24,
    "a connection at rest is small"
);

#[cfg(test)]
mod tests;

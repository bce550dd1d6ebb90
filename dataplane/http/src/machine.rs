//! One client's connection as HTTP sees it: bytes in, and what is to be done next.

use lockgate_wire::Instant;

use crate::head::Collected;
use crate::limits::Limits;
use crate::method::Method;
use crate::request::Request;
use crate::status::Status;

/// The state of a connection. It knows neither sockets nor files, and no clock: the caller brings
/// bytes and the time, asks [`Connection::next_action`] what to do next, and says when it was done.
///
/// ```text
///  Read ──> AskForBody? ──> Respond ──begin_response──> Send ──end_response──> Read
///    │                         ^                                      └──────> Linger
///    └─ refused, or too late: the response is an error
/// ```
///
/// - `Read`: give received bytes to [`Connection::on_bytes`]. It takes the bytes of one request and
///   no more: a pipelined request stays where it is, unparsed, until the answer before it is done.
///   Tell [`Connection::on_eof`] when the client won't send any more.
/// - `AskForBody`: send [`crate::response::CONTINUE`], then call [`Connection::on_body_requested`].
/// - `Respond`: look at [`Connection::refusal`], or else [`Connection::request`], find out what to
///   answer, and call [`Connection::begin_response`], which decides whether the connection is kept.
/// - `Send`: send the answer; call [`Connection::on_progress`] as the client takes it, and
///   [`Connection::end_response`] when the last byte was handed over.
/// - `Linger`: close the sending side. Go on giving received bytes, which are thrown away, until
///   the client closes too: closing both ways at once would reset the connection and could destroy
///   the answer on its way (RFC 9112, section 9.6).
/// - `Close`: nothing is left to do.
///
/// [`Connection::deadline`] says when to call [`Connection::on_timer`]. A connection at rest takes
/// 24 bytes.
#[derive(Debug)]
pub struct Connection {
    request: Option<Box<Request>>,
    deadline: Instant,
    /// Requests that were answered or are being answered.
    served: u32,
    phase: Phase,
    refusal: Option<Status>,
    /// The client won't send any more.
    eof: bool,
    /// The connection is kept behind the answer; between requests, that it has been.
    keep: bool,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring received bytes.
    Read,
    /// Ask the client for the request's body.
    AskForBody,
    /// Find the answer.
    Respond,
    /// Go on sending the answer.
    Send,
    /// Close the sending side; bring received bytes to be thrown away.
    Linger,
    /// Forget the connection, closing it if that hasn't been done.
    Close,
}

/// What a deadline led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It hasn't passed yet.
    Nothing,
    /// The connection was at rest: close it.
    Idle,
    /// The request is late: there is an answer that says so.
    Refused,
    /// Nothing was found to answer in time: there is an answer that says so.
    Unanswered,
    /// The client doesn't take the response, or doesn't close: abort.
    Stalled,
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

/// What the connections of a worker share: limits, and memory of requests that is used again.
#[derive(Debug)]
pub struct HttpContext {
    /// The limits.
    pub limits: Limits,
    /// Whether to close every connection behind its next answer.
    pub draining: bool,
    #[expect(clippy::vec_box, reason = "it's the boxes that are used again")]
    spare_requests: Vec<Box<Request>>,
}

impl HttpContext {
    /// A workshop without any memory yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            draining: false,
            spare_requests: Vec::new(),
        }
    }

    fn take_request(&mut self) -> Box<Request> {
        self.spare_requests
            .pop()
            .unwrap_or_else(|| Box::new(Request::new()))
    }

    fn recycle(&mut self, mut request: Box<Request>) {
        if self.spare_requests.len() < SPARE_REQUESTS_MAX {
            request.clear();
            self.spare_requests.push(request);
        }
    }
}

impl Connection {
    /// A connection that has just been established.
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

    /// Takes received bytes; says how many. It takes everything while it reads, up to the end of
    /// the request; nothing while an answer is due or on its way; everything when it lingers.
    pub fn on_bytes(&mut self, now: Instant, bytes: &[u8], cx: &mut HttpContext) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.phase {
                Phase::Idle => self.begin_request(now, cx),
                Phase::Head => taken += self.on_head(now, rest, cx),
                // A client needn't wait to be asked.
                Phase::AwaitingContinue | Phase::Body => taken += self.on_body(now, rest, cx),
                Phase::AwaitingResponse | Phase::Responding => return taken,
                Phase::Lingering | Phase::Done => return bytes.len(),
            }
        }
        taken
    }

    /// The client has closed its sending side, and everything before that was taken.
    pub fn on_eof(&mut self) {
        self.eof = true;
        match self.phase {
            // A request that was cut off gets no answer: whoever sent it is gone, or has given up.
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

    /// Time has come to [`Connection::deadline`].
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

    /// The client was asked for the body.
    pub fn on_body_requested(&mut self) {
        if self.phase == Phase::AwaitingContinue {
            self.phase = Phase::Body;
        }
    }

    /// An answer is about to be written: says whether the connection is kept behind it, which its
    /// head has to say too.
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

    /// The answer won't be sent: another one is looked for. Nothing of it may have been sent.
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

    /// Whether it waits for the client to take a response, or for what the client does after it.
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

    /// The answer's last byte was handed over.
    pub fn end_response(&mut self, now: Instant, cx: &mut HttpContext) {
        debug_assert_eq!(self.phase, Phase::Responding, "only a begun answer ends");
        self.release(cx);
        self.refusal = None;
        // An answer that was begun before draining says that the connection is kept. Any time will
        // do to close one, and its client had better ask somebody else.
        if self.keep && !cx.draining {
            self.phase = Phase::Idle;
            self.deadline = now + cx.limits.idle_timeout.duration();
        } else {
            self.phase = Phase::Lingering;
            self.deadline = now + cx.limits.linger_timeout.duration();
        }
    }

    /// Gives the request's memory back; for a connection that is dropped before its end, too.
    pub fn release(&mut self, cx: &mut HttpContext) {
        if let Some(request) = self.request.take() {
            cx.recycle(request);
        }
    }

    /// What to do next.
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

    /// The error to answer with, if the request is refused.
    pub fn refusal(&self) -> Option<Status> {
        self.refusal
    }

    /// The request that is to be answered. After a refusal what it says may be incomplete.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }

    /// Whether it is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    fn begin_request(&mut self, now: Instant, cx: &mut HttpContext) {
        // The first head's time runs from the connection's start: a client can't stretch it by
        // waiting before its first byte.
        if self.keep {
            self.deadline = now + cx.limits.header_timeout.duration();
        }
        self.request = Some(cx.take_request());
        self.keep = true;
        self.phase = Phase::Head;
    }

    fn on_head(&mut self, now: Instant, bytes: &[u8], cx: &HttpContext) -> usize {
        let Some(request) = self.request.as_deref_mut() else {
            return bytes.len();
        };
        let (taken, collected) = request.head.push(bytes, &cx.limits);
        match collected {
            Collected::More => {}
            Collected::Refused(status) => self.refuse(now, status, cx),
            Collected::Complete => match request.parse(&cx.limits) {
                Ok(()) => self.on_request(now, cx),
                Err(status) => self.refuse(now, status, cx),
            },
        }
        taken
    }

    /// The head is complete and well formed: is a body to be read first?
    fn on_request(&mut self, now: Instant, cx: &HttpContext) {
        let Some(request) = self.request.as_deref() else {
            return;
        };
        self.refusal = match request.method() {
            Method::Get | Method::Head => None,
            // The client may have sent what is meant for the tunnel already, so that isn't taken
            // for a request.
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
            // The client waits for the verdict, and may or may not send the body after this one:
            // where its next request begins can't be known.
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

    /// Answers with an error, then closes.
    fn refuse(&mut self, now: Instant, status: Status, cx: &HttpContext) {
        self.refusal = Some(status);
        self.keep = false;
        self.await_response(now, cx);
    }
}

/// Requests whose memory is kept for the next ones.
const SPARE_REQUESTS_MAX: usize = 256;

const _: () = assert!(
    size_of::<Connection>() <= 24,
    "a connection at rest is small"
);

#[cfg(test)]
mod tests;

//! Looks up the object of a request, and begins the response.

use std::sync::Arc;

use lockgate_cache::{Absence, Lookup, Object, Ticket, Token};
use lockgate_http::response::{self, HEAD_BYTES, HeadContext};
use lockgate_http::{Method, Request, Selection, Status, Version};

use super::body::BodySource;
use super::{ClientConnection, Server, StepOutcome, Transport, TurnClock, outcome_of_send};

/// A response that is being looked up or sent.
#[derive(Debug)]
pub(super) struct PendingResponse {
    pub(super) stage: Stage,
    /// The head, with the page of an error. In front of it, perhaps, the rest of 100 (Continue).
    pub(super) head: Vec<u8>,
    pub(super) head_sent: usize,
    pub(super) body: BodySource,
    /// The status that is counted when the first byte was sent.
    pub(super) status: Option<Status>,
    /// Lookups that were repeated, because the object had changed before its first byte was sent.
    lookup_retries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The file cache looks the object up.
    LookingUp(Ticket),
    Sending,
}

impl PendingResponse {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Sending,
            head: Vec::with_capacity(HEAD_BYTES),
            head_sent: 0,
            body: BodySource::Empty,
            status: None,
            lookup_retries: 0,
        }
    }

    /// Clears the response, so that another one can be begun. If a part of 100 (Continue) was sent,
    /// the rest stays in front: the client couldn't tell the part from a head.
    pub(super) fn retract(&mut self) {
        let begun = self.head_sent > 0 && self.head.starts_with(response::CONTINUE);
        let sent = self.head_sent;
        self.reset();
        if begun && sent < response::CONTINUE.len() {
            self.head.extend_from_slice(response::CONTINUE);
            self.head_sent = sent;
        }
    }

    pub(super) fn reset(&mut self) {
        self.stage = Stage::Sending;
        self.head.clear();
        self.head.shrink_to(HEAD_BYTES);
        self.head_sent = 0;
        self.body = BodySource::Empty;
        self.status = None;
        self.lookup_retries = 0;
    }
}

/// Sends the rest of a head, with `body` behind it. Returns how many bytes were taken, and how many
/// of those are the body's.
pub(super) fn send_head<T: Transport>(
    head: &[u8],
    head_sent: &mut usize,
    body: &[u8],
    transport: &mut T,
) -> (StepOutcome, u32, u32) {
    let head = head.get(*head_sent..).unwrap_or_default();
    let sent = transport.send(&[head, body]);
    let of_head = head.len().min(sent as usize);
    *head_sent += of_head;
    let of_body = sent - u32::try_from(of_head).unwrap_or(sent);
    (
        outcome_of_send(sent, head.len() + body.len()),
        sent,
        of_body,
    )
}

impl Server {
    /// Begins a response: a refusal, or a lookup.
    pub(super) fn respond(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
    ) -> StepOutcome {
        if let Some(PendingResponse {
            stage: Stage::LookingUp(_),
            ..
        }) = client.response.as_deref()
        {
            return StepOutcome::Wait;
        }
        if let Some(status) = client.machine.refusal() {
            self.respond_with_error(clock, client, status);
        } else {
            self.look_up(clock, client, token);
        }
        StepOutcome::Continue
    }

    /// Looks up the object that the request names.
    pub(super) fn look_up(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
    ) {
        let Some(request) = client.machine.request() else {
            return self.respond_with_error(clock, client, Status::InternalServerError);
        };
        let Some(site) = self.sites.select(request.host()) else {
            if request.host().is_empty() {
                return self.respond_with_error(clock, client, Status::BadRequest);
            }
            //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20
            //# The 421 (Misdirected Request) status code indicates that the request was directed at
            //# a server that is unable or unwilling to produce an authoritative response for the
            //# target URI.
            return self.respond_with_error(clock, client, Status::MisdirectedRequest);
        };
        let lookup = match (request.names_directory(), &site.index) {
            (false, _) => self
                .files
                .lookup(clock.now, site.root, request.path(), token),
            (true, Some(index)) => {
                join(&mut self.path, request.path(), index.as_bytes());
                self.files.lookup(clock.now, site.root, &self.path, token)
            }
            (true, None) => Lookup::Absent(Absence::NotFound),
        };
        match lookup {
            Lookup::Found(object) => self.respond_with_object(clock, client, Ok(object)),
            Lookup::Absent(absence) => self.respond_with_object(clock, client, Err(absence)),
            Lookup::Pending(ticket) => {
                self.counters.waited += 1;
                let mut response = client
                    .response
                    .take()
                    .unwrap_or_else(|| self.take_response());
                response.stage = Stage::LookingUp(ticket);
                client.response = Some(response);
            }
        }
    }

    /// Begins the response to a lookup.
    pub(super) fn respond_with_object(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        found: Result<Arc<Object>, Absence>,
    ) {
        let object = match found {
            Ok(object) => object,
            Err(absence) => return self.respond_with_absence(clock, client, absence),
        };
        let Some(request) = client.machine.request() else {
            return self.respond_with_error(clock, client, Status::InternalServerError);
        };
        let selection = Selection::of(request, object.entity(), clock.unix);
        let mut response = self.begin(client);
        let cx = self.head_context(clock, client);
        let range = response::object(&mut response.head, &cx, object.entity(), selection);
        response.status = Some(selection.status());
        response.body = BodySource::of(&object, range, self.copy_bytes_max);
        client.response = Some(response);
    }

    fn respond_with_absence(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        absence: Absence,
    ) {
        let status = match absence {
            Absence::Directory => return self.redirect_to_directory(clock, client),
            Absence::NotFound => Status::NotFound,
            Absence::Forbidden => Status::Forbidden,
            Absence::Changing => Status::ServiceUnavailable,
            Absence::Failed => Status::InternalServerError,
        };
        self.respond_with_error(clock, client, status);
    }

    /// Redirects to the directory's path with a slash, or responds with 404 if the request has one.
    fn redirect_to_directory(&mut self, clock: TurnClock, client: &mut ClientConnection) {
        if client
            .machine
            .request()
            .is_none_or(Request::names_directory)
        {
            return self.respond_with_error(clock, client, Status::NotFound);
        }
        let mut response = self.begin(client);
        let cx = self.head_context(clock, client);
        if let Some(request) = client.machine.request() {
            let (path, query) = (request.path(), request.query());
            response::redirect_to_directory(&mut response.head, &cx, path, query);
        }
        response.status = Some(Status::MovedPermanently);
        client.response = Some(response);
    }

    fn respond_with_error(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        status: Status,
    ) {
        let mut response = self.begin(client);
        let cx = self.head_context(clock, client);
        response::error(&mut response.head, &cx, status);
        response.status = Some(status);
        client.response = Some(response);
    }

    /// Returns the connection's response, or an empty one, to be written.
    fn begin(&mut self, client: &mut ClientConnection) -> Box<PendingResponse> {
        let mut response = client
            .response
            .take()
            .unwrap_or_else(|| self.take_response());
        response.stage = Stage::Sending;
        response
    }

    /// Decides whether the connection persists, and returns what the head depends on.
    fn head_context(&mut self, clock: TurnClock, client: &mut ClientConnection) -> HeadContext {
        let keep_alive = client.machine.begin_response(clock.now, &self.http);
        let request = client.machine.request();
        HeadContext {
            method: request.map_or(Method::Get, Request::method),
            version: request.map_or(Version::Http11, Request::version),
            keep_alive,
            date: self.date.at(clock.unix),
            now: clock.unix,
        }
    }

    /// Retries the lookup of an object that changed, or couldn't be read, before the first byte of
    /// the response was sent. After a few retries, responds with the reason.
    pub(super) fn start_over(
        &mut self,
        clock: TurnClock,
        client: &mut ClientConnection,
        token: Token,
        absence: Absence,
    ) -> StepOutcome {
        let Some(response) = client.response.as_deref_mut() else {
            return StepOutcome::Abort;
        };
        let lookup_retries = response.lookup_retries;
        response.retract();
        response.lookup_retries = lookup_retries.saturating_add(1);
        client.machine.retract_response(clock.now, &self.http);
        if lookup_retries < LOOKUP_RETRIES_MAX {
            self.look_up(clock, client, token);
        } else {
            self.respond_with_absence(clock, client, absence);
        }
        StepOutcome::Continue
    }
}

/// Retries of a lookup for one response.
const LOOKUP_RETRIES_MAX: u8 = 4;

/// Writes the path of a directory's index file.
fn join(path: &mut Vec<u8>, directory: &[u8], name: &[u8]) {
    path.clear();
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

//! HTTP/1.1 without I/O: bytes and time in, parsed requests and responses' heads out.
//!
//! This crate owns the parsing of requests (RFC 9112), the life of a connection, preconditions and
//! ranges (RFC 9110, sections 13 and 14), and the heads of responses. It knows no sockets, no files
//! and no clock. `lockgate::server` joins it to all three.
//!
//! # How the types work together
//!
//! 1. [`Connection`] is the state machine of one client's connection. It takes received bytes, and
//!    [`Connection::next_action`] says what the caller has to do. [`HttpContext`] is what the
//!    connections of a worker share: [`Limits`], and the memory of requests.
//! 2. When a request is complete, [`Connection::request`] is the parsed [`Request`];
//!    [`Connection::refusal`] is the [`Status`] of one that can't be served.
//! 3. The caller finds the representation, whose metadata is an [`Entity`]. [`Selection::of`]
//!    evaluates the request's conditions and range.
//! 4. [`response`] writes the head; the caller sends the bytes behind it.
//!    [`Connection::begin_response`] and [`Connection::end_response`] frame that.
//! 5. [`Delivery`] watches whether the client acknowledges what it is sent.
//!
//! [`Validators`] tell versions of a representation apart. Its source makes them; this crate
//! compares and prints them.
//!
//! # Invariants
//!
//! - A request is understood completely or refused. What two implementations could read differently
//!   (a length given twice, a bare line feed, a folded line, a chunk extension without a name) gets
//!   400, and the connection closes, because the start of the next request is uncertain.
//! - The outcome depends on the bytes alone, never on how they were split into pieces.
//! - One request is parsed at a time. Pipelined requests stay with the caller.
//! - Every size and every wait has a limit ([`Limits`]). A path can't leave its tree.
//! - No input makes anything panic.
//!
//! # Example
//!
//! ```
//! use lockgate_http::response::{self, HeadContext};
//! use lockgate_http::{
//!     Action, Connection, ContentType, DateCache, Entity, EntityTag, HttpContext, Limits,
//!     Selection, Validators,
//! };
//! use lockgate_wire::Instant;
//!
//! let (now, unix) = (Instant::from_millis(5), 784_111_777);
//! let mut cx = HttpContext::new(Limits::default());
//! let mut connection = Connection::new(now, &cx);
//! let bytes = b"GET /a.txt HTTP/1.1\r\nHost: example.com\r\nRange: bytes=2-4\r\n\r\n";
//! assert_eq!(connection.on_bytes(now, bytes, &mut cx), bytes.len());
//! assert_eq!(connection.next_action(), Action::Respond);
//!
//! // The source of the representation makes its metadata.
//! let tag = EntityTag::strong(b"v1").expect("a short text of allowed bytes");
//! let entity = Entity::new(10, Validators::new(tag, 784_000_000), ContentType::UNKNOWN);
//!
//! let keep_alive = connection.begin_response(now, &cx);
//! let request = connection.request().expect("the request that is answered");
//! assert_eq!((request.host(), request.path()), (&b"example.com"[..], &b"a.txt"[..]));
//! let head = HeadContext {
//!     method: request.method(),
//!     version: request.version(),
//!     keep_alive,
//!     date: DateCache::new().at(unix),
//!     now: unix,
//! };
//! let selection = Selection::of(request, &entity, unix);
//! let mut out = Vec::with_capacity(response::HEAD_BYTES);
//! let body = response::object(&mut out, &head, &entity, selection);
//! assert!(out.starts_with(b"HTTP/1.1 206 Partial Content\r\n"));
//! assert_eq!(body, 2..5);
//!
//! connection.end_response(now, &mut cx);
//! assert_eq!(connection.next_action(), Action::Read);
//! ```
#![forbid(unsafe_code)]

mod conditional;
mod date;
mod delivery;
mod entity;
mod grammar;
mod head;
mod head_budget;
mod limits;
mod machine;
mod method;
mod request;
mod request_body;
pub mod response;
mod status;
mod target;
mod validators;

pub use conditional::Selection;
pub use date::{DateCache, HttpDate};
pub use delivery::{Delivery, DeliveryCheck, SendProgress};
pub use entity::{ContentType, Entity};
pub use limits::{Bounded, Limits, Timeout};
pub use machine::{Action, Connection, Expired, HttpContext, RequestWait};
pub use method::Method;
pub use request::{Field, Request, Version};
pub use status::Status;
pub use validators::{EntityTag, Validators};

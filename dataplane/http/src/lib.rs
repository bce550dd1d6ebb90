//! HTTP/1.1 without I/O: bytes and time in, requests and responses' heads out.
//!
//! - [`Connection`] is the state machine of one client's connection. It knows neither sockets nor
//!   files, and reads no clock.
//! - [`Request`] is a parsed request, [`Selection`] which part of a representation it gets,
//!   [`response`] writes heads.
//! - [`Validators`] tell versions of a representation apart: its source makes them, this crate
//!   compares and prints them.
//!
//! A request is either understood completely or refused: whatever two implementations could
//! understand differently (lengths given twice, bare line feeds, folded lines) is answered with 400
//! and the connection is closed, because where the next request begins isn't certain then.
#![forbid(unsafe_code)]

mod conditional;
mod date;
mod delivery;
mod entity;
mod grammar;
mod head;
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
pub use delivery::{Delivery, DeliveryCheck};
pub use entity::{ContentType, Entity};
pub use limits::{Bounded, Limits, Timeout};
pub use machine::{Action, Connection, Expired, HttpContext};
pub use method::Method;
pub use request::{Field, Request, Version};
pub use status::Status;
pub use validators::{EntityTag, Validators};

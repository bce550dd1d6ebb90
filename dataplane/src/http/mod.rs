//! HTTP/1.1 for files: GET and HEAD, kept and pipelined connections, conditions and ranges.
//!
//! - [`Connection`] is the machine: bytes and time in, demands out. It knows neither sockets nor
//!   files.
//! - [`Request`] is what it understood, [`Selection`] which part of an object that gets,
//!   [`response`] writes heads.
//! - [`BodySource`] is what bodies are pulled from.
//! - [`Driver`] puts these together for all connections of a worker: a [`Transport`] on one side,
//!   the file cache on the other. It says how to be driven.
//!
//! A request is either understood completely or refused: whatever two implementations could
//! understand differently (lengths given twice, bare line feeds, folded lines) is answered with 400
//! and the connection is closed, because where the next request begins isn't certain then.

mod body;
mod body_in;
mod conditional;
mod counters;
mod date;
mod driver;
mod entity;
mod head;
mod limits;
mod machine;
mod request;
pub mod response;
mod sites;
mod status;
mod target;

pub use body::{BodySource, Pull};
pub use conditional::Selection;
pub use counters::HttpCounters;
pub use date::{DateCache, HttpDate};
pub use driver::{Client, Clock, Driven, Driver, Received, Transport};
pub use entity::{ContentType, ETag, Entity};
pub use limits::{Bounded, Limits, Timeout};
pub use machine::{Connection, Demand, Expired, Workshop};
pub use request::{Field, Method, Request, Version};
pub use sites::{BadHost, Site, Sites};
pub use status::Status;

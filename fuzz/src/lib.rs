//! Fuzz targets for everything that parses what peers send.
//!
//! Each target is a function that takes any bytes and panics if a property doesn't hold. Two things
//! call it: the test `replay` with every input under `corpus/`, and with a fixed number of
//! mutations of them, in every run of the tests; and the program of the same name under `targets/`,
//! which explores with libFuzzer (`scripts/fuzz`, feature `libfuzzer`).
//!
//! | target | input | property |
//! |---|---|---|
//! | [`deframer`] | TLS records | every buffer is returned |
//! | [`http`] | HTTP requests | how the bytes are cut makes no difference |
//! | [`on_segment`] | segments, commands, timers | stream positions never go back |
//! | [`stack`] | frames to a listener | every buffer is returned |
//! | [`wire`] | headers of every format | what parses is emitted and parses to the same value |
//!
//! ```
//! for (name, run) in lockgate_fuzz::TARGETS {
//!     run(name.as_bytes());
//! }
//! ```
#![forbid(unsafe_code)]

pub mod deframer;
pub mod http;
pub mod on_segment;
pub mod stack;
pub mod wire;

/// A target's name, which is also the name of its folder in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub const TARGETS: [Target; 5] = [
    ("deframer", deframer::run),
    ("http", http::run),
    ("on_segment", on_segment::run),
    ("stack", stack::run),
    ("wire", wire::run),
];

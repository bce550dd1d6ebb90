//! Header formats, addresses, units and time: what every other crate of the stack shares.
//!
//! Each format is two types. A *view* borrows bytes whose length was checked once, so its accessors
//! cannot fail. A *representation* is a plain value that holds what the header means; `parse`
//! turns a view into one and `emit` writes one out, and the two agree on every value.
//!
//! Parsing takes the contiguous bytes that begin with the header; what follows a header (payload)
//! need not be contiguous with it. Nothing in here panics on any input. Emitting panics if
//! the caller's slice is shorter than `emitted_len`, which no packet can bring about.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
mod counters;
pub mod ethernet;
pub mod flow;
pub mod icmpv4;
pub mod icmpv6;
mod iface;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod seq;
pub mod tcp;
pub mod time;

pub use flow::{Endpoint, FourTuple};
pub use iface::IfaceId;
pub use mac::MacAddr;
pub use seq::{SeqNum, StreamOffset};
pub use time::Instant;

use core::fmt;

/// Why bytes are not the header they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// The bytes end before the header, or before what the header says is there.
    Truncated,
    /// A version, hardware type or address size that this format doesn't have.
    Version,
    /// A length field that contradicts itself or the format.
    Length,
    /// The checksum doesn't match.
    Checksum,
    /// A field has a value that the format forbids.
    Field,
    /// A kind of message that this stack has no use for.
    Unsupported,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::Version => "wrong version or address kind",
            Self::Length => "impossible length field",
            Self::Checksum => "wrong checksum",
            Self::Field => "forbidden field value",
            Self::Unsupported => "unsupported kind of message",
        })
    }
}

impl core::error::Error for ParseError {}

/// Result of parsing.
pub type Result<T, E = ParseError> = core::result::Result<T, E>;

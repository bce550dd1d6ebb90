//! Header formats, addresses, units and time: what every other crate of the stack uses.
//!
//! The crate owns the formats of Ethernet, ARP, IPv4, IPv6, ICMP, ICMPv6 and TCP headers; the
//! Internet checksum ([`checksum`]); and the types that name things in every crate: [`MacAddr`],
//! [`IfaceId`], [`Endpoint`], [`FourTuple`], [`SeqNum`], [`StreamOffset`], [`Instant`].
//!
//! # Types
//!
//! Each format is two types. A *view* (`TcpView`) borrows bytes whose length was checked once, so
//! its accessors can't fail. A *representation* (`TcpHeader`) is a plain value that holds what the
//! header means: `parse` makes one of a view, `emit` writes one.
//!
//! Parsing takes the contiguous bytes that begin with the header. The payload behind it needn't be
//! contiguous with it.
//!
//! # Invariants
//!
//! - Parsing never panics, whatever the bytes are.
//! - Whatever parses can be emitted within the format's limits, and parses to the same value again.
//!   What a representation leaves out is documented on its type: unknown options, IPv4 options,
//!   reserved bits. Known options that have no place are counted
//!   ([`icmpv6::NdOptions::prefixes_dropped`]).
//! - Emitting panics only if the caller's slice is shorter than the length that `emitted_len` or
//!   the format's constant says, which no packet can cause.
//!
//! # Example
//!
//! ```
//! use lockgate_wire::SeqNum;
//! use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions, TcpView};
//!
//! # fn main() -> lockgate_wire::Result<()> {
//! let syn = TcpHeader {
//!     src_port: 49_152,
//!     dst_port: 443,
//!     seq: SeqNum(7),
//!     flags: Flags::SYN,
//!     window: 64_240,
//!     options: TcpOptions { mss: Some(1460), ..TcpOptions::NONE },
//!     ..TcpHeader::default()
//! };
//! let mut bytes = [0; 60];
//! let len = syn.emit(&mut bytes);
//! assert_eq!(len, syn.emitted_len());
//! assert_eq!(TcpView::parse(&bytes[..len])?, (syn, len));
//! # Ok(())
//! # }
//! ```
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
mod xorshift;

pub use flow::{Endpoint, FourTuple};
pub use iface::IfaceId;
pub use mac::MacAddr;
pub use seq::{SeqNum, StreamOffset};
pub use time::Instant;
pub use xorshift::Xorshift64;

use core::fmt;

/// Why bytes don't parse as a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// The bytes end before the header does, or before a length in the header.
    Truncated,
    /// The version, hardware type or address size isn't the format's.
    Version,
    /// A length field contradicts another field or the format.
    Length,
    /// The checksum doesn't match.
    Checksum,
    /// A field has a value that the format forbids.
    Field,
    /// The type of message isn't supported by this stack.
    Unsupported,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::Version => "wrong version or address type",
            Self::Length => "invalid length field",
            Self::Checksum => "wrong checksum",
            Self::Field => "forbidden field value",
            Self::Unsupported => "unsupported message type",
        })
    }
}

impl core::error::Error for ParseError {}

/// The result of parsing.
pub type Result<T, E = ParseError> = core::result::Result<T, E>;

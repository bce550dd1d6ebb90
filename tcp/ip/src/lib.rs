//! IP, ARP, neighbour discovery and ICMP, without I/O.
//!
//! [`IpLayer`] holds what a worker knows about its interfaces, routes and neighbours. The order of
//! calls for a received frame:
//!
//! 1. [`IpLayer::receive`] says what it is: a TCP segment with its place in the frame, an ICMP
//!    message, an ARP packet, something to refuse, or nothing.
//! 2. [`IpLayer::on_arp`], [`IpLayer::on_icmp`], [`IpLayer::refuse`] learn from it and write the
//!    whole answering frame, if there is one, into the caller's memory.
//! 3. [`IpLayer::poll_event`] until there is none: neighbours found, changed or lost.
//! 4. [`IpLayer::poll_transmit`] until there is none: questions to neighbours, and frames that
//!    waited for them. Also when [`IpLayer::deadline`] has come.
//!
//! To send: [`IpLayer::route`], [`IpLayer::lookup`], [`FrameHeader`] for large packets. Who cannot
//! wait itself gives a complete small frame to [`IpLayer::dispatch`].
//!
//! Frames written or queued here are complete, checksums included. Memory is taken at the start;
//! tables, queues and rates have limits in [`IpConfig`].
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod arp;
mod cidr;
mod counters;
mod discovery;
mod frame;
mod icmp;
mod ingress;
mod interfaces;
mod layer;
mod limit;
mod messages;
mod neighbours;
mod routes;

pub use cidr::{Cidr, ParseCidrError};
pub use counters::{ArpCounters, DropCounters, IcmpCounters, IpCounters};
pub use frame::{DEFAULT_HOP_LIMIT, FrameHeader, IpPair, LinkHeader};
pub use icmp::{IcmpError, IcmpErrorKind};
pub use ingress::{ArpIngress, DropReason, FrameMeta, Ingress, IpPacket, RejectReason, classify};
pub use interfaces::{
    ALL_NODES, Interface, InterfaceError, Interfaces, link_local, solicited_node,
};
pub use layer::{AddressError, DispatchOutcome, IpConfig, IpLayer, Transmit};
pub use limit::Rate;
pub use messages::IcmpOutcome;
pub use neighbours::{
    Advertisement, Lookup, NeighbourConfig, NeighbourCounters, NeighbourEvent, NeighbourState,
    Neighbours, Solicitation,
};
pub use routes::{NextHop, Route, RouteError, Routes};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

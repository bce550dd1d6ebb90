//! IP, ARP, neighbour discovery and ICMP, without I/O.
//!
//! The crate owns what a worker knows about its interfaces, addresses, routes and neighbours. It
//! classifies received frames, answers ARP requests, neighbour solicitations and pings, resolves
//! next hops, and writes the headers in front of a transport header.
//!
//! # Types
//!
//! [`IpLayer`] is a worker's instance. It joins
//!
//! - [`Interfaces`]: interfaces with their addresses and VLANs,
//! - [`Routes`]: a destination's [`NextHop`] by longest prefix,
//! - [`Neighbours`]: a next hop's link-layer address, for ARP and neighbour discovery,
//!
//! and uses [`classify`], a function from a frame to an [`Ingress`], and [`FrameHeader`], which
//! writes Ethernet and IP headers.
//!
//! # Order of calls
//!
//! For a received frame:
//!
//! 1. [`IpLayer::receive`] classifies it: a TCP segment with its place in the frame, an ICMP
//!    message, an ARP packet, a packet to reject, or one to drop.
//! 2. [`IpLayer::on_arp`], [`IpLayer::on_icmp`] and [`IpLayer::reject`] update the tables and write
//!    the whole reply, if there is one, into the caller's memory.
//! 3. [`IpLayer::poll_event`] until it returns `None`: neighbours resolved, changed or unreachable.
//! 4. [`IpLayer::poll_transmit`] until it returns `None`: solicitations, and frames that waited for
//!    a neighbour. Also when [`IpLayer::deadline`] has come.
//!
//! To send: [`IpLayer::route`], [`IpLayer::lookup`], then [`FrameHeader::emit`]. A caller that
//! can't wait for a neighbour gives a complete small frame to [`IpLayer::dispatch`], which queues
//! it.
//!
//! # Invariants
//!
//! - Time is an argument, and so is the seed of random intervals.
//! - No received byte makes it panic. Every dropped frame has a [`DropReason`] and a counter.
//! - A neighbour becomes REACHABLE only by an answer to our solicitation, or by the progress of a
//!   connection. An unsolicited message changes an existing entry at most.
//! - Written and queued frames are complete, checksums included.
//! - Memory is allocated by [`IpLayer::new`] and by configuration. Tables, queues and rates have
//!   limits in [`IpConfig`].
//!
//! # Example
//!
//! A next hop is resolved by ARP:
//!
//! ```
//! use lockgate_ip::{FrameMeta, Ingress, Interface, IpConfig, IpLayer, Lookup, NeighbourEvent};
//! use lockgate_wire::arp::{ArpPacket, ArpView, Operation};
//! use lockgate_wire::ethernet::{EtherType, EthernetHeader, HEADER_LEN};
//! use lockgate_wire::{IfaceId, Instant, MacAddr};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (now, eth0) = (Instant::from_secs(1), IfaceId(0));
//! let (our_mac, peer_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
//! let mut ip = IpLayer::new(&IpConfig::default(), 7);
//! ip.add_interface(Interface { id: eth0, mac: Some(our_mac), mtu: 1500, vlan: None })?;
//! ip.add_address(eth0, "192.0.2.1/24".parse()?)?;
//!
//! // The peer is on the link. Its MAC address isn't known, so a request is due.
//! let hop = ip.route("192.0.2.2".parse()?, None).ok_or("no route")?;
//! assert_eq!(ip.lookup(now, hop), Lookup::Pending);
//! let mut out = [0; 1514];
//! let sent = ip.poll_transmit(now, &mut out).ok_or("no request")?;
//! let (request, _) = ArpView::parse(&out[HEADER_LEN..sent.len])?;
//! assert_eq!(request.operation, Operation::Request);
//!
//! // The reply resolves it.
//! let header = EthernetHeader {
//!     dst: our_mac,
//!     src: peer_mac,
//!     vlan: None,
//!     ethertype: EtherType::ARP,
//! };
//! let reply = ArpPacket {
//!     operation: Operation::Reply,
//!     sender_mac: peer_mac,
//!     sender_ip: request.target_ip,
//!     target_mac: our_mac,
//!     target_ip: request.sender_ip,
//! };
//! let mut frame = [0; 60];
//! let at = header.emit(&mut frame);
//! reply.emit(&mut frame[at..]);
//! let meta = FrameMeta { len: frame.len(), ..FrameMeta::default() };
//! let Ingress::Arp(arp) = ip.receive(eth0, &frame, &meta) else {
//!     return Err("not ARP".into());
//! };
//! assert_eq!(ip.on_arp(now, &arp, &mut out), None);
//! assert_eq!(ip.poll_event(), Some(NeighbourEvent::Resolved(hop, peer_mac)));
//! assert_eq!(ip.lookup(now, hop), Lookup::Resolved(peer_mac));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod announcements;
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

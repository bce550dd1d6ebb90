//! What the workers of a host exchange.
//!
//! A port spreads connections over its queues, and with them over workers. ARP and neighbour
//! discovery belong to no connection and come to any worker. That worker answers them; the others
//! get copies ([`SiblingFrame`]) and only learn neighbours that they look for themselves.
//!
//! A port may also bring a segment of a connection to another queue than the segments before it
//! (`net_af_packet` does when a queue is full), and ICMP errors come to any queue. A worker that
//! doesn't know the connection looks it up in the [`FlowDirectory`](crate::FlowDirectory) and moves
//! the packet to the worker that may have it ([`MisdirectedPacket`]). A packet of no connection
//! costs nothing elsewhere.
//!
//! Answers to solicitations of siblings are a kind of their own ([`SiblingResolution`]). Each kind
//! has a queue of its own, so that a flood of one doesn't displace the others.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use lockgate_ip::{Ingress, NextHop};
use lockgate_wire::IfaceId;
use pktbuf::Buffer;

use crate::sibling_solicits::SiblingResolution;

/// A frame that one worker received, for its sibling workers. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiblingFrame {
    pub(crate) iface: IfaceId,
    pub(crate) bytes: Arc<[u8]>,
}

/// A TCP segment or ICMP error that one worker received, for another that may have its connection.
#[derive(Debug)]
pub struct MisdirectedPacket {
    pub(crate) iface: IfaceId,
    pub(crate) packet: Buffer,
    pub(crate) route: PacketRoute,
}

/// Between which workers a misdirected packet is moved, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketRoute {
    /// The worker that received it. It is given to each worker once at most.
    pub(crate) origin: u16,
    pub(crate) to: u16,
    /// A keyed hash of the network of the connection's peer.
    pub(crate) group: u8,
    /// A keyed hash of the connection.
    pub(crate) flow: u8,
}

impl SiblingFrame {
    fn new(iface: IfaceId, bytes: &[u8]) -> Self {
        let bytes = bytes.into();
        Self { iface, bytes }
    }

    /// A frame that answers a sibling's solicitation.
    pub(crate) fn answer(iface: IfaceId, bytes: &[u8]) -> SiblingResolution {
        SiblingResolution::Answered(Self::new(iface, bytes))
    }
}

impl MisdirectedPacket {
    /// The number of the worker that it is for.
    pub fn recipient(&self) -> u16 {
        self.route.to
    }
}

/// What waits to be fetched for the siblings.
#[derive(Debug)]
pub(crate) struct SiblingQueues {
    frames: VecDeque<SiblingFrame>,
    packets: PacketQueue,
    resolutions: VecDeque<SiblingResolution>,
}

/// Misdirected packets, in order of arrival. A full queue drops a packet of the network that has
/// the most, and in it of the connection that has the most. So a peer whose own connections cause
/// any number of packets, such as ICMP errors, takes no place from a packet of another peer.
#[derive(Debug)]
struct PacketQueue {
    packets: VecDeque<MisdirectedPacket>,
    /// How many of them each network has, and each connection.
    of_group: Box<[u8; HASHES]>,
    of_flow: Box<[u8; HASHES]>,
}

impl SiblingQueues {
    /// Allocates the queues, if there are siblings.
    pub(crate) fn new(has_siblings: bool) -> Self {
        let capacity = if has_siblings { QUEUE_MAX } else { 0 };
        Self {
            frames: VecDeque::with_capacity(capacity),
            packets: PacketQueue::new(capacity),
            resolutions: VecDeque::with_capacity(if has_siblings { RESOLUTIONS_MAX } else { 0 }),
        }
    }

    /// Queues a frame for all siblings. Returns false if the queue is full.
    pub(crate) fn push_frame(&mut self, iface: IfaceId, bytes: &[u8]) -> bool {
        let has_room = self.frames.len() < QUEUE_MAX;
        if has_room {
            self.frames.push_back(SiblingFrame::new(iface, bytes));
        }
        has_room
    }

    /// Queues a report for all siblings. Returns false if the queue is full.
    pub(crate) fn push_resolution(&mut self, resolution: SiblingResolution) -> bool {
        let has_room = self.resolutions.len() < RESOLUTIONS_MAX;
        if has_room {
            self.resolutions.push_back(resolution);
        }
        has_room
    }

    /// Queues a packet for another worker. Returns false if the queue is full: a packet is dropped
    /// then, this one or one of a peer that has more.
    pub(crate) fn push_packet(
        &mut self,
        iface: IfaceId,
        packet: Buffer,
        route: PacketRoute,
    ) -> bool {
        self.packets.push(MisdirectedPacket {
            iface,
            packet,
            route,
        })
    }

    pub(crate) fn pop_frame(&mut self) -> Option<SiblingFrame> {
        self.frames.pop_front()
    }

    pub(crate) fn pop_resolution(&mut self) -> Option<SiblingResolution> {
        self.resolutions.pop_front()
    }

    /// Removes and returns the oldest packet for a worker that has room.
    pub(crate) fn pop_packet(
        &mut self,
        has_room: impl Fn(u16) -> bool,
    ) -> Option<MisdirectedPacket> {
        self.packets.pop(has_room)
    }
}

impl PacketQueue {
    fn new(capacity: usize) -> Self {
        Self {
            packets: VecDeque::with_capacity(capacity),
            of_group: Box::new([0; HASHES]),
            of_flow: Box::new([0; HASHES]),
        }
    }

    /// Appends a packet. Returns false if one was dropped for want of room.
    fn push(&mut self, packet: MisdirectedPacket) -> bool {
        let is_full = self.packets.len() >= QUEUE_MAX;
        if is_full {
            let Some(at) = self.victim_of(&packet.route) else {
                return false;
            };
            self.remove(at);
        }
        let (group, flow) = self.counts(&packet.route);
        *group += 1;
        *flow += 1;
        self.packets.push_back(packet);
        !is_full
    }

    /// Returns the packet that makes room: the newest of the connection that has the most, in the
    /// network that has the most. `None` if that is the connection of `new`.
    fn victim_of(&self, new: &PacketRoute) -> Option<usize> {
        let group_len = |route: &PacketRoute| self.of_group[usize::from(route.group)];
        let flow_len = |route: &PacketRoute| self.of_flow[usize::from(route.flow)];
        // The usual case of a flood, without a search.
        if usize::from(flow_len(new)) > QUEUE_MAX / 2 {
            return None;
        }
        let routes = || self.packets.iter().map(|packet| &packet.route).enumerate();
        let (at, largest) =
            routes().max_by_key(|(_, route)| (group_len(route), flow_len(route)))?;
        if group_len(largest) > group_len(new) + 1 {
            return Some(at);
        }
        let (at, largest) = routes()
            .filter(|(_, route)| route.group == new.group)
            .max_by_key(|(_, route)| flow_len(route))?;
        (flow_len(largest) > flow_len(new) + 1).then_some(at)
    }

    fn pop(&mut self, has_room: impl Fn(u16) -> bool) -> Option<MisdirectedPacket> {
        let at = self
            .packets
            .iter()
            .position(|packet| has_room(packet.route.to))?;
        self.remove(at)
    }

    fn remove(&mut self, at: usize) -> Option<MisdirectedPacket> {
        let packet = self.packets.remove(at)?;
        let (group, flow) = self.counts(&packet.route);
        *group -= 1;
        *flow -= 1;
        Some(packet)
    }

    fn counts(&mut self, route: &PacketRoute) -> (&mut u8, &mut u8) {
        (
            &mut self.of_group[usize::from(route.group)],
            &mut self.of_flow[usize::from(route.flow)],
        )
    }
}

/// Returns the bytes of a frame that concerns every worker: ARP and neighbour discovery. A frame in
/// several buffers, or with a VLAN tag outside its bytes, is no such frame: no interface has tags.
pub(crate) fn broadcast_bytes<'a>(packet: &'a Buffer, ingress: &Ingress) -> Option<&'a [u8]> {
    let bytes = packet.front();
    let is_for_all = match ingress {
        Ingress::Arp(_) => true,
        Ingress::Icmp(found) => {
            let message = bytes.get(found.l4_at..).unwrap_or_default();
            is_discovery(found.addrs.is_ipv6(), message)
        }
        Ingress::Tcp(_) | Ingress::Reject(..) | Ingress::Drop(_) => false,
    };
    let is_whole = packet.len() as usize == bytes.len() && packet.vlan().is_none();
    (is_for_all && is_whole).then_some(bytes)
}

/// Returns the neighbour whose address a frame for all workers tells.
pub(crate) fn neighbour_of(bytes: &[u8], ingress: &Ingress) -> Option<NextHop> {
    match ingress {
        Ingress::Arp(arp) => Some(NextHop {
            iface: arp.iface,
            addr: arp.packet.sender_ip.into(),
        }),
        Ingress::Icmp(found) => {
            let message = bytes.get(found.l4_at..)?;
            let addr = match message.first()? {
                &NEIGHBOUR_ADVERTISEMENT => IpAddr::from(*message.get(8..)?.first_chunk::<16>()?),
                _ => found.src(),
            };
            let iface = found.iface;
            Some(NextHop { iface, addr })
        }
        Ingress::Tcp(_) | Ingress::Reject(..) | Ingress::Drop(_) => None,
    }
}

/// Whether a message is a neighbour solicitation or advertisement.
fn is_discovery(ipv6: bool, message: &[u8]) -> bool {
    ipv6 && matches!(
        message.first(),
        Some(&(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT))
    )
}

/// Frames, and packets, that wait to be fetched: what one turn gives to the siblings at most.
const QUEUE_MAX: usize = 64;
/// Values of [`PacketRoute::group`], and of [`PacketRoute::flow`].
const HASHES: usize = 256;
/// Announcements of solicitations that wait to be fetched. Beyond it they are lost, and counted.
const RESOLUTIONS_MAX: usize = 256;

// Types of ICMPv6 messages (RFC 4861, 4.3 and 4.4).
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

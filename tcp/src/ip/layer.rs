//! The machine that ties interfaces, routes, neighbours and ICMP together.

use core::net::IpAddr;
use std::collections::VecDeque;

use lockgate_wire::ethernet::EtherType;
use lockgate_wire::icmpv4::{Echo, Icmpv4Message};
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::{Instant, MacAddr, ParseError, ipv4, ipv6};
use pktbuf::IfaceId;

use super::cidr::Cidr;
use super::counters::IpCounters;
use super::frame::{DEFAULT_HOP_LIMIT, FrameHeader, IpPair, Link};
use super::icmp::{self, IcmpError};
use super::ingress::{FrameMeta, Ingress, IpPacket, Refusal, classify};
use super::interfaces::{Interface, InterfaceRefused, Interfaces, is_link_local_v6};
use super::limit::{Rate, TokenBucket};
use super::neighbours::{Lookup, NeighbourConfig, NeighbourEvent, Neighbours};
use super::routes::{NextHop, Route, RouteRefused, Routes};

/// Settings of the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// The neighbour table.
    pub neighbours: NeighbourConfig,
    /// Pings answered.
    pub echo_rate: Rate,
    /// ICMP errors sent.
    //= https://www.rfc-editor.org/rfc/rfc4443#section-2.4
    //# an IPv6 node MUST limit the rate of ICMPv6 error messages
    //# it originates.
    pub error_rate: Rate,
}

impl Default for IpConfig {
    /// As generous as Linux with errors; pings as fast as a flood can want for a diagnosis.
    fn default() -> Self {
        Self {
            neighbours: NeighbourConfig::default(),
            echo_rate: Rate {
                per_second: 1000,
                burst: 100,
            },
            error_rate: Rate {
                per_second: 1000,
                burst: 50,
            },
        }
    }
}

/// A frame that was written into the caller's memory: send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// On this interface.
    pub iface: IfaceId,
    /// Its length.
    pub len: usize,
}

/// What became of a frame given to [`IpLayer::dispatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// It's addressed now: send it.
    Send,
    /// It waits for its neighbour; [`IpLayer::poll_transmit`] will bring it back.
    Queued,
    /// It was dropped (and counted): the neighbour doesn't answer, or there's no room to wait.
    Dropped,
}

/// What an ICMP message meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpOutcome {
    /// Nothing to do.
    Done,
    /// An answer was written: send it.
    Reply(Transmit),
    /// A connection may have to know.
    Error(IcmpError),
}

/// A worker's IP layer. See [the module](super) for the order of calls.
#[derive(Debug)]
pub struct IpLayer {
    pub(super) interfaces: Interfaces,
    pub(super) neighbours: Neighbours,
    pub(super) counters: IpCounters,
    /// Addresses to announce: which, how often still, and when next.
    pub(super) announcements: VecDeque<Announcement>,
    routes: Routes,
    echoes: TokenBucket,
    errors: TokenBucket,
}

/// An address of ours that is to be announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    pub(super) hop: NextHop,
    pub(super) left: u8,
    pub(super) next: Instant,
}

impl IpLayer {
    /// A layer without interfaces. The seed makes its random times repeatable.
    pub fn new(config: &IpConfig, seed: u64) -> Self {
        Self {
            interfaces: Interfaces::default(),
            neighbours: Neighbours::new(config.neighbours, seed),
            counters: IpCounters::default(),
            announcements: VecDeque::new(),
            routes: Routes::default(),
            echoes: TokenBucket::new(config.echo_rate),
            errors: TokenBucket::new(config.error_rate),
        }
    }

    /// Adds an interface.
    pub fn add_interface(&mut self, interface: Interface) -> Result<(), InterfaceRefused> {
        self.interfaces.add(interface)
    }

    /// Gives an interface an address, and the network around it a route.
    pub fn add_address(&mut self, iface: IfaceId, addr: Cidr) -> Result<(), AddressRefused> {
        self.interfaces.add_address(iface, addr)?;
        self.routes.add(Route {
            to: addr,
            via: None,
            iface,
        })?;
        Ok(())
    }

    /// Adds a route.
    pub fn add_route(&mut self, route: Route) -> Result<(), RouteRefused> {
        self.routes.add(route)
    }

    /// Changes the largest packet that an interface takes.
    pub fn set_mtu(&mut self, iface: IfaceId, mtu: u16) {
        self.interfaces.set_mtu(iface, mtu);
    }

    /// Interfaces and their addresses.
    pub const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The routes.
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The neighbours.
    pub const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// What happened so far.
    pub fn counters(&self) -> IpCounters {
        IpCounters {
            neighbours: *self.neighbours.counters(),
            ..self.counters
        }
    }

    /// What a frame is that came in on port `on`. `bytes` are its first contiguous ones.
    pub fn receive(&mut self, on: IfaceId, bytes: &[u8], meta: &FrameMeta) -> Ingress {
        let ingress = classify(&self.interfaces, on, bytes, meta);
        match ingress {
            Ingress::Tcp(_) => self.counters.tcp_in += 1,
            Ingress::Icmp(_) => self.counters.icmp_in += 1,
            Ingress::Arp(_) => self.counters.arp_in += 1,
            Ingress::Refuse(..) => self.counters.refused += 1,
            Ingress::Drop(reason) => self.counters.drops.count(reason),
        }
        ingress
    }

    /// Handles an ICMP message. `message` is its whole upper-layer part, contiguous; an answer
    /// goes into `out`, which should have room for the interface's MTU and an Ethernet header.
    pub fn on_icmp(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        message: &[u8],
        out: &mut [u8],
    ) -> IcmpOutcome {
        let outcome = match packet.addrs {
            IpPair::V4 { dst, .. } => match Icmpv4Message::parse(message) {
                Ok(Icmpv4Message::EchoRequest(echo)) => {
                    self.on_echo(now, packet, echo, out).map(IcmpOutcome::Reply)
                }
                Ok(Icmpv4Message::EchoReply(_)) => self.ignore(),
                Ok(error) => self.on_error(icmp::error_v4(dst, &error)),
                Err(e) => self.on_bad_message(e),
            },
            IpPair::V6 { src, dst } => match Icmpv6Message::parse(src, dst, message) {
                Ok(Icmpv6Message::EchoRequest(echo)) => {
                    self.on_echo(now, packet, echo, out).map(IcmpOutcome::Reply)
                }
                Ok(Icmpv6Message::EchoReply(_)) => self.ignore(),
                Ok(m) if m.is_neighbor_discovery() => self
                    .on_discovery(now, packet, &m, Some(out))
                    .map(IcmpOutcome::Reply),
                Ok(error) => self.on_error(icmp::error_v6(dst, &error)),
                Err(e) => self.on_bad_message(e),
            },
        };
        outcome.unwrap_or(IcmpOutcome::Done)
    }

    /// Tells the sender of a packet that nobody here wants it, if that's allowed. `packet_bytes`
    /// begin with the IP header of the packet; as many as are contiguous.
    pub fn refuse(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        refusal: Refusal,
        packet_bytes: &[u8],
        out: &mut [u8],
    ) -> Option<Transmit> {
        let len = (packet.l4_at - packet.l3_at).saturating_add(packet.l4_len);
        let packet_bytes = &packet_bytes[..packet_bytes.len().min(len)];
        let message = packet_bytes
            .get(packet.l4_at - packet.l3_at..)
            .unwrap_or_default();
        if !icmp::may_complain(packet, refusal, message) {
            self.counters.icmp.errors_forbidden += 1;
            return None;
        }
        if !self.errors.take(now) {
            self.counters.icmp.errors_limited += 1;
            return None;
        }
        let addrs = self.answer_addrs(packet)?;
        let sent = match addrs {
            IpPair::V4 { .. } => {
                let m = icmp::complaint_v4(refusal, packet_bytes);
                self.send_message(now, packet.iface, addrs, m.emitted_len(), out, |at| {
                    m.emit(at)
                })
            }
            IpPair::V6 { src, dst } => {
                let m = icmp::complaint_v6(refusal, packet_bytes);
                let len = m.emitted_len();
                self.send_message(now, packet.iface, addrs, len, out, |at| {
                    m.emit(src, dst, at)
                })
            }
        };
        self.counters.icmp.errors_out += u64::from(sent.is_some());
        sent
    }

    /// Where a packet to `dst` goes. `on` is the interface for addresses that only mean something
    /// on their link.
    pub fn route(&self, dst: IpAddr, on: Option<IfaceId>) -> Option<NextHop> {
        if is_link_local_v6(dst) {
            return on.map(|iface| NextHop { iface, addr: dst });
        }
        self.routes.lookup(dst)
    }

    /// The address to send from to `dst` by way of `hop`.
    pub fn source(&self, hop: NextHop, dst: IpAddr) -> Option<IpAddr> {
        self.interfaces.source_for(hop.iface, dst)
    }

    /// Where `hop` is; asks it if that isn't known. To be called before a packet is sent.
    pub fn lookup(&mut self, now: Instant, hop: NextHop) -> Lookup {
        match self.interfaces.interface(hop.iface) {
            None => Lookup::Unreachable,
            Some(Interface { mac: None, .. }) => Lookup::Resolved(MacAddr::ZERO),
            Some(_) => match hop.addr {
                IpAddr::V6(group) if group.is_multicast() => {
                    Lookup::Resolved(MacAddr::multicast_v6(group))
                }
                _ => self.neighbours.lookup(now, hop),
            },
        }
    }

    /// The Ethernet header from an interface to `dst`; none if it has no link layer.
    pub fn link_to(&self, iface: IfaceId, dst: MacAddr) -> Option<Link> {
        self.interfaces.link_to(iface, dst)
    }

    /// A connection by way of `hop` made progress.
    pub fn confirm(&mut self, now: Instant, hop: NextHop) {
        self.neighbours.confirm(now, hop);
    }

    /// Another worker's layer reported this event.
    pub fn on_told(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        self.neighbours.on_told(now, hop, mac);
    }

    /// Addresses a small complete frame to `hop`, or lets it wait. Its link-layer destination,
    /// which the caller left open, is filled in.
    pub fn dispatch(&mut self, now: Instant, hop: NextHop, frame: &mut [u8]) -> Dispatch {
        let linked = self
            .interfaces
            .interface(hop.iface)
            .is_some_and(|i| i.mac.is_some());
        match self.lookup(now, hop) {
            Lookup::Resolved(mac) => {
                if linked && let Some(dst) = frame.first_chunk_mut::<6>() {
                    *dst = mac.0;
                }
                Dispatch::Send
            }
            Lookup::Pending if self.neighbours.queue(hop, frame, linked) => Dispatch::Queued,
            Lookup::Pending => Dispatch::Dropped,
            Lookup::Unreachable => {
                self.counters.icmp.unsendable += 1;
                Dispatch::Dropped
            }
        }
    }

    /// Writes the next frame that is to be sent into `out`: a question to a neighbour, a frame
    /// that waited, an announcement. To be called until there is none.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        if let Some((iface, len)) = self.neighbours.poll_released(out) {
            return Some(Transmit { iface, len });
        }
        while let Some(solicit) = self.neighbours.poll_solicit(now) {
            let sent = match solicit.target.addr {
                IpAddr::V4(target) => self.ask_v4(solicit, target, out),
                IpAddr::V6(target) => self.ask_v6(solicit, target, out),
            };
            if sent.is_some() {
                return sent;
            }
        }
        self.poll_announcement(now, out)
    }

    /// What happened to neighbours that connections wait for.
    pub fn poll_event(&mut self) -> Option<NeighbourEvent> {
        self.neighbours.poll_event()
    }

    /// When [`Self::poll_transmit`] wants to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        let announcement = self.announcements.iter().map(|a| a.next).min();
        [self.neighbours.deadline(), announcement]
            .into_iter()
            .flatten()
            .min()
    }

    /// Answers a ping.
    fn on_echo(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        echo: Echo<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let header_len = if packet.addrs.is_ipv6() {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        };
        let mtu = self
            .interfaces
            .interface(packet.iface)
            .map_or(0, |i| usize::from(i.mtu));
        if header_len + packet.l4_len > mtu || packet.src().is_unspecified() {
            self.counters.icmp.echo_too_big += 1;
            return None;
        }
        if !self.echoes.take(now) {
            self.counters.icmp.echo_limited += 1;
            return None;
        }
        let addrs = self.answer_addrs(packet)?;
        let sent = match addrs {
            IpPair::V4 { .. } => {
                let m = Icmpv4Message::EchoReply(echo);
                self.send_message(now, packet.iface, addrs, m.emitted_len(), out, |at| {
                    m.emit(at)
                })
            }
            IpPair::V6 { src, dst } => {
                let m = Icmpv6Message::EchoReply(echo);
                let len = m.emitted_len();
                self.send_message(now, packet.iface, addrs, len, out, |at| {
                    m.emit(src, dst, at)
                })
            }
        };
        self.counters.icmp.echo_replies_out += u64::from(sent.is_some());
        sent
    }

    fn on_error(&mut self, error: Option<IcmpError>) -> Option<IcmpOutcome> {
        match error {
            Some(_) => self.counters.icmp.errors_in += 1,
            None => self.counters.icmp.errors_ignored += 1,
        }
        error.map(IcmpOutcome::Error)
    }

    fn on_bad_message(&mut self, error: ParseError) -> Option<IcmpOutcome> {
        let counters = &mut self.counters.icmp;
        match error {
            ParseError::Checksum => counters.bad_checksum += 1,
            ParseError::Unsupported => counters.ignored += 1,
            _ => counters.bad_message += 1,
        }
        None
    }

    fn ignore(&mut self) -> Option<IcmpOutcome> {
        self.counters.icmp.ignored += 1;
        None
    }

    /// From whom to whom an answer to `packet` goes: from the address it was sent to, or, if that
    /// was a group, from one of the interface's.
    fn answer_addrs(&mut self, packet: &IpPacket) -> Option<IpPair> {
        let addrs = packet.addrs.reversed();
        if !packet.is_group {
            return Some(addrs);
        }
        let src = self.interfaces.source_for(packet.iface, addrs.dst());
        let addrs = src.and_then(|src| IpPair::new(src, addrs.dst()));
        self.counters.icmp.unsendable += u64::from(addrs.is_none());
        addrs
    }

    /// Builds an ICMP message's frame in `out` and dispatches it. None if it waits or can't be
    /// sent.
    fn send_message(
        &mut self,
        now: Instant,
        on: IfaceId,
        addrs: IpPair,
        message_len: usize,
        out: &mut [u8],
        emit: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<Transmit> {
        let sent = self.route(addrs.dst(), Some(on)).and_then(|hop| {
            let link = self.link_to(hop.iface, MacAddr::ZERO);
            let len = write_message(link, addrs, DEFAULT_HOP_LIMIT, message_len, out, emit)?;
            Some((hop, len))
        });
        let Some((hop, len)) = sent else {
            self.counters.icmp.unsendable += 1;
            return None;
        };
        match self.dispatch(now, hop, &mut out[..len]) {
            Dispatch::Send => Some(Transmit {
                iface: hop.iface,
                len,
            }),
            Dispatch::Queued | Dispatch::Dropped => None,
        }
    }
}

/// Why an address wasn't added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    /// By the interface.
    #[error(transparent)]
    Interface(#[from] InterfaceRefused),
    /// By the routes.
    #[error(transparent)]
    Route(#[from] RouteRefused),
}

/// Writes a frame with an ICMP message; its length, or none if it doesn't fit.
pub(super) fn write_message(
    link: Option<Link>,
    addrs: IpPair,
    hop_limit: u8,
    message_len: usize,
    out: &mut [u8],
    emit: impl FnOnce(&mut [u8]) -> usize,
) -> Option<usize> {
    let protocol = if addrs.is_ipv6() {
        IpProtocol::ICMPV6
    } else {
        IpProtocol::ICMP
    };
    let payload_len = u16::try_from(message_len).ok()?;
    let header = FrameHeader {
        hop_limit,
        ..FrameHeader::new(link, addrs, protocol, payload_len)
    };
    let len = header.emitted_len() + message_len;
    let out = out.get_mut(..len)?;
    let at = header.emit(out);
    emit(&mut out[at..]);
    Some(len)
}

/// Writes an Ethernet header, if there's room for it and `len` more bytes; what comes behind it.
pub(super) fn write_link<'a>(
    link: Link,
    ethertype: EtherType,
    len: usize,
    out: &'a mut [u8],
) -> Option<(usize, &'a mut [u8])> {
    let header = link.header(ethertype);
    let total = header.emitted_len() + len;
    let out = out.get_mut(..total)?;
    let at = header.emit(out);
    Some((total, &mut out[at..]))
}

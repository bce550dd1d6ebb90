//! The machine that ties interfaces, routes, neighbours and ICMP together.

use core::net::IpAddr;
use std::collections::VecDeque;

use lockgate_wire::ethernet::EtherType;
use lockgate_wire::{IfaceId, Instant, MacAddr};

use crate::cidr::Cidr;
use crate::counters::IpCounters;
use crate::frame::LinkHeader;
use crate::ingress::{FrameMeta, Ingress, classify};
use crate::interfaces::{Interface, InterfaceError, Interfaces, is_link_local_v6};
use crate::limit::{Rate, TokenBucket};
use crate::neighbours::{Lookup, NeighbourConfig, NeighbourEvent, Neighbours};
use crate::routes::{NextHop, Route, RouteError, Routes};

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
pub enum DispatchOutcome {
    /// It's addressed now: send it.
    Send,
    /// It waits for its neighbour; [`IpLayer::poll_transmit`] will bring it back.
    Queued,
    /// It was dropped (and counted): the neighbour doesn't answer, or there's no room to wait.
    Dropped,
}

/// A worker's IP layer. See [the module](super) for the order of calls.
#[derive(Debug)]
pub struct IpLayer {
    pub(crate) interfaces: Interfaces,
    pub(crate) neighbours: Neighbours,
    pub(crate) counters: IpCounters,
    /// Addresses to announce: which, how often still, and when next.
    pub(crate) announcements: VecDeque<Announcement>,
    pub(crate) echo_limit: TokenBucket,
    pub(crate) error_limit: TokenBucket,
    routes: Routes,
}

/// An address of ours that is to be announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement {
    pub(crate) hop: NextHop,
    pub(crate) left: u8,
    pub(crate) next: Instant,
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
            echo_limit: TokenBucket::new(config.echo_rate),
            error_limit: TokenBucket::new(config.error_rate),
        }
    }

    /// Adds an interface.
    pub fn add_interface(&mut self, interface: Interface) -> Result<(), InterfaceError> {
        self.interfaces.add(interface)
    }

    /// Gives an interface an address, and the network around it a route.
    pub fn add_address(&mut self, iface: IfaceId, addr: Cidr) -> Result<(), AddressError> {
        self.interfaces.add_address(iface, addr)?;
        self.routes.add(Route {
            to: addr,
            via: None,
            iface,
        })?;
        Ok(())
    }

    /// Adds a route.
    pub fn add_route(&mut self, route: Route) -> Result<(), RouteError> {
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
            Ingress::Reject(..) => self.counters.refused += 1,
            Ingress::Drop(reason) => self.counters.drops.count(reason),
        }
        ingress
    }

    /// Where a packet to `dst` goes; none if there's no way, or it's our own. `on` is the interface
    /// for addresses that only mean something on their link; without it that's the only interface
    /// that has such addresses itself, if it is the only one.
    pub fn route(&self, dst: IpAddr, on: Option<IfaceId>) -> Option<NextHop> {
        // A packet to ourselves has no way out, and there's no loopback.
        if self.interfaces.is_local(dst) {
            return None;
        }
        if is_link_local_v6(dst) {
            let iface = on.or_else(|| self.interfaces.only_link_local())?;
            return Some(NextHop { iface, addr: dst });
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
                IpAddr::V4(group) if group.is_multicast() => {
                    Lookup::Resolved(MacAddr::multicast_v4(group))
                }
                IpAddr::V4(all) if self.interfaces.is_broadcast(hop.iface, all) => {
                    Lookup::Resolved(MacAddr::BROADCAST)
                }
                IpAddr::V4(_) | IpAddr::V6(_) => self.neighbours.lookup(now, hop),
            },
        }
    }

    /// The Ethernet header from an interface to `dst`; none if it has no link layer.
    pub fn link_to(&self, iface: IfaceId, dst: MacAddr) -> Option<LinkHeader> {
        self.interfaces.link_to(iface, dst)
    }

    /// A connection by way of `hop` made progress.
    pub fn confirm(&mut self, now: Instant, hop: NextHop) {
        self.neighbours.confirm(now, hop);
    }

    /// Another worker's layer reported this event.
    pub fn on_sibling_resolved(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        self.neighbours.on_sibling_resolved(now, hop, mac);
    }

    /// Addresses a small complete frame to `hop`, or lets it wait. Its link-layer destination,
    /// which the caller left open, is filled in.
    pub fn dispatch(&mut self, now: Instant, hop: NextHop, frame: &mut [u8]) -> DispatchOutcome {
        let linked = self
            .interfaces
            .interface(hop.iface)
            .is_some_and(|i| i.mac.is_some());
        match self.lookup(now, hop) {
            Lookup::Resolved(mac) => {
                if linked && let Some(dst) = frame.first_chunk_mut::<6>() {
                    *dst = mac.0;
                }
                DispatchOutcome::Send
            }
            Lookup::Pending if self.neighbours.queue(hop, frame, linked) => DispatchOutcome::Queued,
            Lookup::Pending => DispatchOutcome::Dropped,
            Lookup::Unreachable => {
                self.counters.icmp.unsendable += 1;
                DispatchOutcome::Dropped
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
                IpAddr::V4(target) => self.write_arp_request(solicit, target, out),
                IpAddr::V6(target) => self.write_solicitation(solicit, target, out),
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
}

/// Why an address wasn't added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// By the interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// By the routes.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Writes an Ethernet header, if there's room for it and `len` more bytes; what comes behind it.
pub(crate) fn write_link(
    link: LinkHeader,
    ethertype: EtherType,
    len: usize,
    out: &mut [u8],
) -> Option<(usize, &mut [u8])> {
    let header = link.header(ethertype);
    let total = header.emitted_len() + len;
    let out = out.get_mut(..total)?;
    let at = header.emit(out);
    Some((total, &mut out[at..]))
}

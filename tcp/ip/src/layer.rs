//! The IP layer: joins interfaces, routes, neighbours and ICMP.

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
    /// Rate limit of echo replies.
    pub echo_rate: Rate,
    /// Rate limit of ICMP errors sent.
    //= https://www.rfc-editor.org/rfc/rfc4443#section-2.4
    //# an IPv6 node MUST limit the rate of ICMPv6 error messages
    //# it originates.
    pub error_rate: Rate,
}

impl Default for IpConfig {
    /// Returns Linux's rate of errors, and a rate of echo replies that suffices for `ping -f`.
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

/// A frame in the caller's buffer that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The interface to send it on.
    pub iface: IfaceId,
    /// Its length in bytes.
    pub len: usize,
    /// The neighbour that it solicits.
    pub solicits: Option<NextHop>,
}

/// The outcome of [`IpLayer::dispatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchOutcome {
    /// The frame has its link-layer destination: send it.
    Send,
    /// The frame waits for its neighbour. [`IpLayer::poll_transmit`] returns it.
    Queued,
    /// The frame was dropped and counted: the neighbour doesn't answer, or the queue is full.
    Dropped,
}

/// A worker's IP layer. See [the crate](crate) for the order of calls.
#[derive(Debug)]
pub struct IpLayer {
    pub(crate) interfaces: Interfaces,
    pub(crate) neighbours: Neighbours,
    pub(crate) counters: IpCounters,
    /// Announcements to send. At most one per address of ours.
    pub(crate) announcements: VecDeque<Announcement>,
    /// Interfaces whose link is down.
    pub(crate) links_down: Vec<IfaceId>,
    pub(crate) echo_limit: TokenBucket,
    pub(crate) error_limit: TokenBucket,
    routes: Routes,
}

/// An address of ours that is to be announced `left` more times, `next` first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement {
    pub(crate) hop: NextHop,
    pub(crate) left: u8,
    pub(crate) next: Instant,
}

impl IpLayer {
    /// Makes a layer without interfaces. The seed determines its random intervals.
    pub fn new(config: &IpConfig, seed: u64) -> Self {
        Self {
            interfaces: Interfaces::default(),
            neighbours: Neighbours::new(config.neighbours, seed),
            counters: IpCounters::default(),
            announcements: VecDeque::new(),
            links_down: Vec::new(),
            routes: Routes::default(),
            echo_limit: TokenBucket::new(config.echo_rate),
            error_limit: TokenBucket::new(config.error_rate),
        }
    }

    /// Adds an interface.
    ///
    /// # Errors
    /// As [`Interfaces::add`].
    pub fn add_interface(&mut self, interface: Interface) -> Result<(), InterfaceError> {
        self.interfaces.add(interface)
    }

    /// Adds an address to an interface, and a route to its network.
    ///
    /// # Errors
    /// As [`Interfaces::add_address`] and [`Routes::add`].
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
    ///
    /// # Errors
    /// As [`Routes::add`].
    pub fn add_route(&mut self, route: Route) -> Result<(), RouteError> {
        self.routes.add(route)?;
        if let Some(addr) = route.via {
            let iface = route.iface;
            self.neighbours.add_gateway(NextHop { iface, addr });
        }
        Ok(())
    }

    /// Changes the MTU of an interface, in bytes.
    pub fn set_mtu(&mut self, iface: IfaceId, mtu: u16) {
        self.interfaces.set_mtu(iface, mtu);
    }

    /// Returns the interfaces and their addresses.
    pub const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Returns the routes.
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns the neighbour table.
    pub const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Returns the counters.
    pub fn counters(&self) -> IpCounters {
        IpCounters {
            neighbours: *self.neighbours.counters(),
            ..self.counters
        }
    }

    /// Classifies a frame received on port `on`, and counts it. `bytes` are its first segment.
    pub fn receive(&mut self, on: IfaceId, bytes: &[u8], meta: &FrameMeta) -> Ingress {
        let ingress = self.classify(on, bytes, meta);
        match ingress {
            Ingress::Tcp(_) => self.counters.tcp_in += 1,
            Ingress::Icmp(_) => self.counters.icmp_in += 1,
            Ingress::Arp(_) => self.counters.arp_in += 1,
            Ingress::Reject(..) => self.counters.refused += 1,
            Ingress::Drop(reason) => self.counters.drops.count(reason),
        }
        ingress
    }

    /// Classifies a frame without counting it: one that another layer of the same host has received
    /// and counted.
    pub fn classify(&self, on: IfaceId, bytes: &[u8], meta: &FrameMeta) -> Ingress {
        classify(&self.interfaces, on, bytes, meta)
    }

    /// Returns the next hop of a packet to `dst`; `None` without a route, or if `dst` is ours.
    ///
    /// `on` is the interface for link-local addresses. Without it the only interface that has one
    /// itself is used, if there is just one.
    pub fn route(&self, dst: IpAddr, on: Option<IfaceId>) -> Option<NextHop> {
        // There's no loopback interface.
        if self.interfaces.is_local(dst) {
            return None;
        }
        if is_link_local_v6(dst) {
            let iface = on.or_else(|| self.interfaces.only_link_local())?;
            return Some(NextHop { iface, addr: dst });
        }
        self.routes.lookup(dst)
    }

    /// Returns the source address for packets to `dst` through `hop`.
    pub fn source(&self, hop: NextHop, dst: IpAddr) -> Option<IpAddr> {
        self.interfaces.source_for(hop.iface, dst)
    }

    /// Returns the link-layer address of `hop`, or starts to resolve it. Call it before a packet is
    /// sent. Multicast and broadcast addresses need no resolution.
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

    /// Returns the Ethernet header from an interface to `dst`; `None` without a link layer.
    pub fn link_to(&self, iface: IfaceId, dst: MacAddr) -> Option<LinkHeader> {
        self.interfaces.link_to(iface, dst)
    }

    /// Handles reachability confirmation: a connection through `hop` made progress.
    pub fn confirm(&mut self, now: Instant, hop: NextHop) {
        self.neighbours.confirm(now, hop);
    }

    /// Handles a [`NeighbourEvent::Resolved`] of another worker's layer.
    pub fn on_sibling_resolved(&mut self, now: Instant, hop: NextHop, mac: MacAddr) {
        self.neighbours.on_sibling_resolved(now, hop, mac);
    }

    /// Writes the link-layer destination of a small complete frame to `hop`, or queues the frame
    /// until `hop` is resolved.
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

    /// Writes the next frame to send into `out`: a frame that waited, a solicitation, or an
    /// announcement. Call it until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        if let Some((iface, len)) = self.neighbours.poll_released(out) {
            return Some(Transmit {
                iface,
                len,
                solicits: None,
            });
        }
        while let Some(solicit) = self.neighbours.poll_solicit(now) {
            let sent = match solicit.target.addr {
                IpAddr::V4(target) => self.write_arp_request(solicit, target, out),
                IpAddr::V6(target) => self.write_solicitation(solicit, target, out),
            };
            if let Some(sent) = sent {
                let solicits = Some(solicit.target);
                return Some(Transmit { solicits, ..sent });
            }
        }
        self.poll_announcement(now, out)
    }

    /// Returns the next event of a neighbour.
    pub fn poll_event(&mut self) -> Option<NeighbourEvent> {
        self.neighbours.poll_event()
    }

    /// Returns when to call [`Self::poll_transmit`] next.
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
    /// The interface can't have it.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The route to its network can't be added.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Writes an Ethernet header, if there is room for it and `len` more bytes. Returns the total
/// length and the bytes behind the header.
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

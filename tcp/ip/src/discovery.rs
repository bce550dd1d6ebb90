//! Neighbour discovery for IPv6 (RFC 4861): solicitations, advertisements, announcements.

use core::net::{IpAddr, Ipv6Addr};

use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::{IfaceId, Instant, MacAddr};

use crate::frame::IpPair;
use crate::ingress::IpPacket;
use crate::interfaces::{ALL_NODES, is_solicited_node, solicited_node};
use crate::layer::{DispatchOutcome, IpLayer, Transmit};
use crate::messages::write_message;
use crate::neighbours::{Advertisement, Solicitation};
use crate::routes::NextHop;

impl IpLayer {
    /// Updates the neighbour table by a message that another worker answers. `message` is the
    /// packet's whole upper-layer part.
    pub fn learn_from_discovery(&mut self, now: Instant, packet: &IpPacket, message: &[u8]) {
        if let IpPair::V6 { src, dst } = packet.addrs
            && let Ok(message) = Icmpv6Message::parse(src, dst, message)
            && message.is_neighbor_discovery()
        {
            self.on_discovery(now, packet, &message, None);
        }
    }

    /// Handles a message of neighbour discovery. Writes a reply into `out`, if there is one.
    pub(crate) fn on_discovery(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        message: &Icmpv6Message<'_>,
        out: Option<&mut [u8]>,
    ) -> Option<Transmit> {
        let IpPair::V6 { src, dst } = packet.addrs else {
            return None;
        };
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
        //# - The IP Hop Limit field has a value of 255, i.e., the packet
        //#   could not possibly have been forwarded by a router.
        if packet.hop_limit != 255 {
            self.counters.icmp.nd_invalid += 1;
            return None;
        }
        match *message {
            Icmpv6Message::NeighborSolicitation { target, source } => {
                self.on_solicitation(now, packet.iface, (src, dst), target, source, out)
            }
            Icmpv6Message::NeighborAdvertisement {
                target,
                router,
                solicited,
                replaces,
                mac,
            } => {
                let advert = Advertisement {
                    mac,
                    solicited,
                    replaces,
                    router: Some(router),
                };
                self.on_advertisement(now, packet.iface, dst, target, advert);
                None
            }
            // Addresses and routes are configured, so router advertisements are ignored.
            // Redirects aren't trusted.
            Icmpv6Message::RouterSolicitation { .. }
            | Icmpv6Message::RouterAdvertisement(_)
            | Icmpv6Message::Redirect { .. }
            | Icmpv6Message::DestinationUnreachable { .. }
            | Icmpv6Message::PacketTooBig { .. }
            | Icmpv6Message::TimeExceeded { .. }
            | Icmpv6Message::ParameterProblem { .. }
            | Icmpv6Message::EchoRequest(_)
            | Icmpv6Message::EchoReply(_) => {
                self.counters.icmp.ignored += 1;
                None
            }
        }
    }

    fn on_solicitation(
        &mut self,
        now: Instant,
        iface: IfaceId,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        target: Ipv6Addr,
        source: Option<MacAddr>,
        out: Option<&mut [u8]>,
    ) -> Option<Transmit> {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
        //# - If the IP source address is the unspecified address, the IP
        //#   destination address is a solicited-node multicast address.
        //# - If the IP source address is the unspecified address, there is no
        //#   source link-layer address option in the message.
        let is_probe = src.is_unspecified();
        if is_probe && (source.is_some() || !is_solicited_node(dst))
            || source.is_some_and(|mac| !mac.is_unicast())
        {
            self.counters.icmp.nd_invalid += 1;
            return None;
        }
        if !self.interfaces.has(iface, target.into()) {
            self.counters.icmp.ignored += 1;
            return None;
        }
        self.counters.icmp.nd_solicits_in += 1;
        let hop = NextHop {
            iface,
            addr: src.into(),
        };
        if let Some(mac) = source.filter(|_| self.interfaces.is_on_link(iface, src.into())) {
            self.neighbours.on_solicited_by(now, hop, mac);
        }
        let out = out?;
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.4
        //# If the source of the solicitation is the unspecified address, the
        //# node MUST set the Solicited flag to zero and multicast the
        //# advertisement to the all-nodes address.  Otherwise, the node MUST set
        //# the Solicited flag to one and unicast the advertisement to the Source
        //# Address of the solicitation.
        if is_probe {
            return self.write_advertisement(iface, target, None, MacAddr::ZERO, out);
        }
        // Without the source link-layer option the solicitor has to be resolved first.
        let to = source.unwrap_or(MacAddr::ZERO);
        let sent = self.write_advertisement(iface, target, Some(src), to, out)?;
        if source.is_some() {
            return Some(sent);
        }
        match self.dispatch(now, hop, &mut out[..sent.len]) {
            DispatchOutcome::Send => Some(sent),
            DispatchOutcome::Queued | DispatchOutcome::Dropped => None,
        }
    }

    fn on_advertisement(
        &mut self,
        now: Instant,
        iface: IfaceId,
        dst: Ipv6Addr,
        target: Ipv6Addr,
        advert: Advertisement,
    ) {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.2
        //# - If the IP Destination Address is a multicast address the
        //#   Solicited flag is zero.
        if dst.is_multicast() && advert.solicited || advert.mac.is_some_and(|m| !m.is_unicast()) {
            self.counters.icmp.nd_invalid += 1;
            return;
        }
        self.counters.icmp.nd_adverts_in += 1;
        if self.interfaces.has(iface, target.into()) {
            self.counters.icmp.nd_conflicts += 1;
            return;
        }
        self.neighbours.on_advertisement(
            now,
            NextHop {
                iface,
                addr: target.into(),
            },
            advert,
        );
    }

    /// Writes a neighbour solicitation.
    pub(crate) fn write_solicitation(
        &self,
        solicit: Solicitation,
        target: Ipv6Addr,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let iface = solicit.target.iface;
        let IpAddr::V6(src) = self.interfaces.source_for(iface, target.into())? else {
            return None;
        };
        //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.2
        //# If the solicitation is being sent to a solicited-node multicast
        //# address, the sender MUST include its link-layer address
        let group = solicited_node(target);
        let (dst, to) = match solicit.to {
            Some(mac) => (target, mac),
            None => (group, MacAddr::multicast_v6(group)),
        };
        let source = self.interfaces.interface(iface)?.mac;
        let message = Icmpv6Message::NeighborSolicitation { target, source };
        self.write_discovery(iface, src, dst, to, &message, out)
    }

    /// Writes an unsolicited neighbour advertisement.
    pub(crate) fn advertise_unsolicited(
        &mut self,
        iface: IfaceId,
        own: Ipv6Addr,
        out: &mut [u8],
    ) -> Option<Transmit> {
        self.write_advertisement(iface, own, None, MacAddr::ZERO, out)
    }

    /// Writes a neighbour advertisement of `own` to `dst`, or to all nodes if there is none.
    fn write_advertisement(
        &mut self,
        iface: IfaceId,
        own: Ipv6Addr,
        dst: Option<Ipv6Addr>,
        to: MacAddr,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let mac = self.interfaces.interface(iface)?.mac;
        let message = Icmpv6Message::NeighborAdvertisement {
            target: own,
            router: false,
            solicited: dst.is_some(),
            replaces: true,
            mac,
        };
        let (dst, to) = match dst {
            Some(dst) => (dst, to),
            None => (ALL_NODES, MacAddr::multicast_v6(ALL_NODES)),
        };
        let sent = self.write_discovery(iface, own, dst, to, &message, out)?;
        self.counters.icmp.nd_adverts_out += 1;
        Some(sent)
    }

    fn write_discovery(
        &self,
        iface: IfaceId,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        to: MacAddr,
        message: &Icmpv6Message<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let link = self.interfaces.link_to(iface, to)?;
        let addrs = IpPair::V6 { src, dst };
        let len = write_message(Some(link), addrs, 255, message.emitted_len(), out, |at| {
            message.emit(src, dst, at)
        })?;
        Some(Transmit {
            iface,
            len,
            solicits: None,
        })
    }
}

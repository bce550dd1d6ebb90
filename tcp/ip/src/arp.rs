//! ARP for IPv4 (RFC 826, RFC 5227): replies, requests, learning, announcements, conflicts.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use lockgate_wire::arp::{self, ArpPacket, Operation};
use lockgate_wire::ethernet::EtherType;
use lockgate_wire::{IfaceId, Instant, MacAddr};

use crate::ingress::ArpIngress;
use crate::layer::{Announcement, IpLayer, Transmit, write_link};
use crate::neighbours::{Advertisement, Solicitation};
use crate::routes::NextHop;

impl IpLayer {
    /// Handles an ARP packet: updates the neighbour table, and writes a reply into `out`.
    ///
    /// This is RFC 826's algorithm with one difference: a sender that didn't ask us, and wasn't
    /// asked by us, changes an existing entry at most.
    pub fn on_arp(&mut self, now: Instant, arp: &ArpIngress, out: &mut [u8]) -> Option<Transmit> {
        self.learn_from_arp(now, arp);
        let ArpIngress { iface, packet } = *arp;
        if !self.is_sane(arp) {
            return None;
        }
        if self.interfaces.has(iface, packet.sender_ip.into()) {
            return self.defend(now, arp, out);
        }
        let for_us = self.interfaces.has(iface, packet.target_ip.into());
        if !for_us || packet.operation != Operation::Request {
            return None;
        }
        let reply = ArpPacket {
            operation: Operation::Reply,
            sender_mac: self.interfaces.interface(iface)?.mac?,
            sender_ip: packet.target_ip,
            target_mac: packet.sender_mac,
            target_ip: packet.sender_ip,
        };
        let sent = self.write_arp(iface, packet.sender_mac, &reply, out)?;
        self.counters.arp.replies_out += 1;
        Some(sent)
    }

    /// Updates the neighbour table by an ARP packet that another worker answers.
    pub fn learn_from_arp(&mut self, now: Instant, arp: &ArpIngress) {
        let ArpIngress { iface, packet } = *arp;
        if !self.is_sane(arp) {
            self.counters.arp.bad_in += 1;
            return;
        }
        let sender = IpAddr::V4(packet.sender_ip);
        if self.interfaces.has(iface, sender) {
            self.counters.arp.conflicts += 1;
            return;
        }
        //= https://www.rfc-editor.org/rfc/rfc5227#section-2.1.1
        //# A host probes to see if an address is already in use by broadcasting
        //# an ARP Request for the desired address.  The client MUST fill in the
        //# 'sender hardware address' field of the ARP Request with the hardware
        //# address of the interface through which it is sending the packet.  The
        //# 'sender IP address' field MUST be set to all zeroes; this is to avoid
        //# polluting ARP caches
        let to_us = self.interfaces.has(iface, packet.target_ip.into());
        let is_neighbour = !packet.sender_ip.is_unspecified()
            && !self.interfaces.is_broadcast(iface, packet.sender_ip)
            && self.interfaces.is_on_link(iface, sender);
        let hop = NextHop {
            iface,
            addr: sender,
        };
        let mac = packet.sender_mac;
        let is_reply = packet.operation == Operation::Reply;
        let own_mac = self.interfaces.interface(iface).and_then(|i| i.mac);
        if packet.sender_ip == packet.target_ip {
            self.counters.arp.announcements_in += 1;
            if is_neighbour {
                self.neighbours
                    .on_advertisement(now, hop, advertisement_of(mac, false));
            }
        } else if !to_us {
            self.counters.arp.others_in += 1;
        } else if is_reply {
            self.counters.arp.replies_in += 1;
            if is_neighbour {
                let solicited = own_mac == Some(packet.target_mac);
                self.neighbours
                    .on_advertisement(now, hop, advertisement_of(mac, solicited));
            }
        } else {
            self.counters.arp.requests_in += 1;
            if is_neighbour {
                self.neighbours.on_solicited_by(now, hop, mac);
            }
        }
    }

    /// Writes an ARP request.
    pub(crate) fn write_arp_request(
        &self,
        solicit: Solicitation,
        target: Ipv4Addr,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let iface = solicit.target.iface;
        let IpAddr::V4(sender_ip) = self.interfaces.source_for(iface, target.into())? else {
            return None;
        };
        let request = ArpPacket {
            operation: Operation::Request,
            sender_mac: self.interfaces.interface(iface)?.mac?,
            sender_ip,
            target_mac: MacAddr::ZERO,
            target_ip: target,
        };
        self.write_arp(
            iface,
            solicit.to.unwrap_or(MacAddr::BROADCAST),
            &request,
            out,
        )
    }

    /// Returns whether the sender's addresses can be another station's.
    fn is_sane(&self, arp: &ArpIngress) -> bool {
        let ArpPacket {
            sender_mac,
            sender_ip,
            ..
        } = arp.packet;
        let own_mac = self.interfaces.interface(arp.iface).and_then(|i| i.mac);
        sender_mac.is_unicast()
            && own_mac != Some(sender_mac)
            && !sender_ip.is_multicast()
            && !sender_ip.is_broadcast()
            && !sender_ip.is_loopback()
    }

    /// Defends an address against a conflict: one announcement per DEFEND_INTERVAL.
    //= https://www.rfc-editor.org/rfc/rfc5227#section-2.4
    //# If a host has been configured such that it should not give up its
    //# address under any circumstances [...] then it MAY elect to defend
    //# its address indefinitely.
    fn defend(&mut self, now: Instant, arp: &ArpIngress, out: &mut [u8]) -> Option<Transmit> {
        let own = arp.packet.sender_ip;
        let hop = NextHop {
            iface: arp.iface,
            addr: own.into(),
        };
        // A scheduled announcement also records that one was sent within DEFEND_INTERVAL.
        if self.announcements.iter().any(|a| a.hop == hop) {
            return None;
        }
        let next = now + DEFEND_INTERVAL;
        self.announcements
            .push_back(Announcement { hop, left: 1, next });
        self.write_announcement(arp.iface, own, out)
    }

    /// Writes an announcement of one of our addresses.
    pub(crate) fn write_announcement(
        &mut self,
        iface: IfaceId,
        own: Ipv4Addr,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let announcement = ArpPacket {
            operation: Operation::Request,
            sender_mac: self.interfaces.interface(iface)?.mac?,
            sender_ip: own,
            target_mac: MacAddr::ZERO,
            target_ip: own,
        };
        let sent = self.write_arp(iface, MacAddr::BROADCAST, &announcement, out)?;
        self.counters.arp.announcements_out += 1;
        Some(sent)
    }

    fn write_arp(
        &self,
        iface: IfaceId,
        to: MacAddr,
        packet: &ArpPacket,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let link = self.interfaces.link_to(iface, to)?;
        let (len, out) = write_link(link, EtherType::ARP, arp::LEN, out)?;
        packet.emit(out);
        Some(Transmit {
            iface,
            len,
            solicits: None,
        })
    }
}

/// Returns the neighbour advertisement that an ARP packet amounts to.
const fn advertisement_of(mac: MacAddr, solicited: bool) -> Advertisement {
    Advertisement {
        mac: Some(mac),
        solicited,
        replaces: true,
        router: None,
    }
}

/// RFC 5227's DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

//! Counters of the IP layer.

use crate::ingress::DropReason;
use crate::neighbours::NeighbourCounters;

/// Counters of the IP layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpCounters {
    /// TCP segments received for us.
    pub tcp_in: u64,
    /// ICMP messages received for us.
    pub icmp_in: u64,
    /// ARP packets received.
    pub arp_in: u64,
    /// Packets received for us that were rejected: no such protocol or port.
    pub refused: u64,
    /// Frames dropped.
    pub drops: DropCounters,
    /// ARP.
    pub arp: ArpCounters,
    /// ICMP and neighbour discovery.
    pub icmp: IcmpCounters,
    /// The neighbour table.
    pub neighbours: NeighbourCounters,
}

lockgate_wire::counters! {
    /// Frames dropped, by reason.
    pub struct DropCounters in "ip.drop" {
        /// The frame ends before its headers do.
        truncated,
        /// The interface, VLAN or tag isn't configured.
        no_interface,
        /// The destination MAC address is another station's.
        other_station,
        /// The source MAC address is a group address or ours.
        link_source,
        /// Neither IP nor ARP.
        ether_type,
        /// Not a valid ARP packet for IPv4 over Ethernet.
        bad_arp,
        /// An invalid IP header: its version isn't the EtherType's, or its lengths are too small.
        bad_header,
        /// A wrong IPv4 header checksum.
        bad_checksum,
        /// The frame is shorter than the IP header says.
        cut,
        /// An invalid source address (RFC 1122, 3.2.1.3), or one of ours.
        martian,
        /// The destination address isn't the interface's.
        not_local,
        /// Broadcast, or a multicast group that isn't joined.
        group,
        /// A unicast IP destination in a broadcast or multicast frame (RFC 1122, 3.3.6).
        link_group,
        /// A fragment: there's no reassembly.
        fragment,
        /// A source route, or IPv4 options of invalid length.
        source_route,
        /// Too many IPv6 extension headers, truncated ones, or an option that asks to discard.
        extensions,
    }
}

impl IpCounters {
    /// Returns every counter with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("ip.tcp_in", self.tcp_in),
            ("ip.icmp_in", self.icmp_in),
            ("ip.arp_in", self.arp_in),
            ("ip.refused", self.refused),
        ]
        .into_iter()
        .chain(self.drops.iter())
        .chain(self.arp.iter())
        .chain(self.icmp.iter())
        .chain(self.neighbours.iter())
    }
}

impl DropCounters {
    pub(crate) const fn count(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::Truncated => &mut self.truncated,
            DropReason::NoInterface => &mut self.no_interface,
            DropReason::OtherStation => &mut self.other_station,
            DropReason::LinkSource => &mut self.link_source,
            DropReason::EtherType => &mut self.ether_type,
            DropReason::BadArp => &mut self.bad_arp,
            DropReason::BadHeader => &mut self.bad_header,
            DropReason::BadChecksum => &mut self.bad_checksum,
            DropReason::Cut => &mut self.cut,
            DropReason::Martian => &mut self.martian,
            DropReason::NotLocal => &mut self.not_local,
            DropReason::Group => &mut self.group,
            DropReason::LinkGroup => &mut self.link_group,
            DropReason::Fragment => &mut self.fragment,
            DropReason::SourceRoute => &mut self.source_route,
            DropReason::Extensions => &mut self.extensions,
        };
        *counter += 1;
    }
}

lockgate_wire::counters! {
    /// Counters of ARP.
    pub struct ArpCounters in "arp" {
        /// Requests for our addresses.
        requests_in,
        /// Replies to us.
        replies_in,
        /// Requests and replies for other stations.
        others_in,
        /// Gratuitous ARP, from known and unknown neighbours.
        announcements_in,
        /// Packets whose sender addresses can't be another station's.
        bad_in,
        /// Address conflicts: another station uses one of ours.
        conflicts,
        /// Replies sent.
        replies_out,
        /// Announcements of our addresses, initially or to defend one against a conflict.
        announcements_out,
    }
}

lockgate_wire::counters! {
    /// Counters of ICMP and neighbour discovery.
    pub struct IcmpCounters in "icmp" {
        /// Echo replies sent.
        echo_replies_out,
        /// Echo requests not answered because of the rate limit.
        echo_limited,
        /// Echo requests not answered because the reply would exceed the MTU.
        echo_too_big,
        /// Errors received about our segments.
        errors_in,
        /// Errors ignored: they don't quote a TCP segment from the address they were sent to.
        errors_ignored,
        /// Errors sent.
        errors_out,
        /// Errors not sent because of the rate limit.
        errors_limited,
        /// Errors not sent because RFC 1122, 3.2.2, or RFC 4443, 2.4, forbids it.
        errors_forbidden,
        /// Messages with a wrong checksum.
        bad_checksum,
        /// Truncated messages, or with values that the format forbids.
        bad_message,
        /// Messages ignored: redirects, router discovery, echo replies, unknown types.
        ignored,
        /// Invalid neighbour discovery: hop limit below 255, or invalid addresses.
        nd_invalid,
        /// Neighbour solicitations for our addresses received.
        nd_solicits_in,
        /// Neighbour advertisements received.
        nd_adverts_in,
        /// Neighbour advertisements sent.
        nd_adverts_out,
        /// IPv6 address conflicts: another station uses one of ours.
        nd_conflicts,
        /// Messages not sent: no route, no neighbour, or the caller's buffer is too small.
        unsendable,
    }
}

//! What the IP layer did, counted.

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
    /// Packets received for us that nobody here wants.
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
        /// An interface, VLAN or tag that doesn't exist here.
        no_interface,
        /// To another station.
        other_station,
        /// From a group, which no station is, or from ourselves.
        link_source,
        /// Neither IP nor ARP.
        ether_type,
        /// An ARP packet that isn't one.
        bad_arp,
        /// An IP header that contradicts itself, or isn't of the version announced.
        bad_header,
        /// A wrong IPv4 header checksum.
        bad_checksum,
        /// Shorter than the IP header says: cut on its way.
        cut,
        /// From an address that no packet can come from.
        martian,
        /// To an address that isn't the interface's.
        not_local,
        /// To everybody, or to a group that nobody here listens to.
        group,
        /// To one host's address in a frame to everybody.
        link_group,
        /// A piece of a datagram; they aren't put together here.
        fragment,
        /// With a source route, or options that can't be read.
        source_route,
        /// IPv6 extension headers that nobody needs, or that ask to be dropped.
        extensions,
    }
}

impl IpCounters {
    /// Every counter with its name.
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
    /// What ARP did.
    pub struct ArpCounters in "arp" {
        /// Requests for our addresses.
        requests_in,
        /// Replies to us.
        replies_in,
        /// Requests and replies that concern others.
        others_in,
        /// Announcements, those of unknown neighbours included.
        announcements_in,
        /// Packets whose sender can't be one other station.
        bad_in,
        /// Other stations that use our addresses.
        conflicts,
        /// Replies sent.
        replies_out,
        /// Our addresses announced (to begin with, or against a conflict).
        announcements_out,
    }
}

lockgate_wire::counters! {
    /// What ICMP and neighbour discovery did.
    pub struct IcmpCounters in "icmp" {
        /// Pings answered.
        echo_replies_out,
        /// Pings not answered because of the rate limit.
        echo_limited,
        /// Pings not answered because the answer would be larger than the MTU.
        echo_too_big,
        /// Errors about our segments.
        errors_in,
        /// Errors that aren't about a segment from the address they came to.
        errors_ignored,
        /// Errors sent.
        errors_out,
        /// Errors not sent because of the rate limit.
        errors_limited,
        /// Errors not sent because none may be sent about such a packet.
        errors_forbidden,
        /// Messages with a wrong checksum.
        bad_checksum,
        /// Messages cut short, or with values that the format forbids.
        bad_message,
        /// Messages that we have no use for: redirects, router discovery, pongs, unknown types.
        ignored,
        /// Neighbour discovery that a router let through, or with addresses that can't be.
        nd_invalid,
        /// Neighbour solicitations for our addresses.
        nd_solicits_in,
        /// Neighbour advertisements.
        nd_adverts_in,
        /// Neighbour advertisements sent.
        nd_adverts_out,
        /// Other stations that use our IPv6 addresses.
        nd_conflicts,
        /// Packets that couldn't be sent: no route, no neighbour, no room in the caller's memory.
        unsendable,
    }
}

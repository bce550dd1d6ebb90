//! What the IP layer did, counted.

use super::ingress::DropReason;
use super::neighbours::NeighbourCounters;

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

/// Frames dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters {
    /// The frame ends before its headers do.
    pub truncated: u64,
    /// An interface, VLAN or tag that doesn't exist here.
    pub no_interface: u64,
    /// To another station.
    pub other_station: u64,
    /// From a group, which no station is, or from ourselves.
    pub link_source: u64,
    /// Neither IP nor ARP.
    pub ether_type: u64,
    /// An ARP packet that isn't one.
    pub bad_arp: u64,
    /// An IP header that contradicts itself, or isn't of the version announced.
    pub bad_header: u64,
    /// A wrong IPv4 header checksum.
    pub bad_checksum: u64,
    /// Shorter than the IP header says: cut on its way.
    pub cut: u64,
    /// From an address that no packet can come from.
    pub martian: u64,
    /// To an address that isn't the interface's.
    pub not_local: u64,
    /// To everybody, or to a group that nobody here listens to.
    pub group: u64,
    /// To one host's address in a frame to everybody.
    pub link_group: u64,
    /// A piece of a datagram; they aren't put together here.
    pub fragment: u64,
    /// With a source route, or options that can't be read.
    pub source_route: u64,
    /// IPv6 extension headers that nobody needs, or that ask to be dropped.
    pub extensions: u64,
}

impl DropCounters {
    pub(super) const fn count(&mut self, reason: DropReason) {
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

/// What ARP did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArpCounters {
    /// Requests for our addresses.
    pub requests_in: u64,
    /// Replies to us.
    pub replies_in: u64,
    /// Requests and replies that concern others.
    pub others_in: u64,
    /// Announcements, those of unknown neighbours included.
    pub announcements_in: u64,
    /// Packets whose sender can't be one other station.
    pub bad_in: u64,
    /// Other stations that use our addresses.
    pub conflicts: u64,
    /// Replies sent.
    pub replies_out: u64,
    /// Our addresses announced (to begin with, or against a conflict).
    pub announcements_out: u64,
}

/// What ICMP and neighbour discovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcmpCounters {
    /// Pings answered.
    pub echo_replies_out: u64,
    /// Pings not answered because of the rate limit.
    pub echo_limited: u64,
    /// Pings not answered because the answer would be larger than the MTU or the caller's memory.
    pub echo_too_big: u64,
    /// Errors about our segments.
    pub errors_in: u64,
    /// Errors that aren't about a segment from the address they came to.
    pub errors_ignored: u64,
    /// Errors sent.
    pub errors_out: u64,
    /// Errors not sent because of the rate limit.
    pub errors_limited: u64,
    /// Errors not sent because none may be sent about such a packet.
    pub errors_forbidden: u64,
    /// Messages with a wrong checksum.
    pub bad_checksum: u64,
    /// Messages cut short, or with values that the format forbids.
    pub bad_message: u64,
    /// Messages that we have no use for: redirects, router discovery, pongs, unknown types.
    pub ignored: u64,
    /// Neighbour discovery that a router let through, or with addresses that can't be.
    pub nd_invalid: u64,
    /// Neighbour solicitations for our addresses.
    pub nd_solicits_in: u64,
    /// Neighbour advertisements.
    pub nd_adverts_in: u64,
    /// Neighbour advertisements sent.
    pub nd_adverts_out: u64,
    /// Other stations that use our IPv6 addresses.
    pub nd_conflicts: u64,
    /// Packets that couldn't be sent: no route, no neighbour, no room in the caller's memory.
    pub unsendable: u64,
}

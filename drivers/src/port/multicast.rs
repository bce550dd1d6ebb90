//! Multicast groups that a port receives.

use std::fmt;
use std::net::Ipv6Addr;

use lockgate_wire::MacAddr;

/// How a port receives multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multicast {
    /// It needs none: no interface on it has an IPv6 address.
    NotNeeded,
    /// By a filter of so many groups.
    Groups(usize),
    /// All multicast.
    All,
    /// All packets: the driver has no multicast filter.
    Promiscuous,
    /// The driver has no filter at all.
    Unfiltered,
}

impl fmt::Display for Multicast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("none (no IPv6 address)"),
            Self::Groups(n) => write!(f, "{n} groups"),
            Self::All => f.write_str("all (a list of groups is not offered)"),
            Self::Promiscuous => f.write_str("promiscuous (a multicast filter is not offered)"),
            Self::Unfiltered => f.write_str("unfiltered (a filter is not offered)"),
        }
    }
}

/// Returns the link-layer addresses of the groups that neighbor discovery needs: all nodes, and the
/// solicited-node group of each address and of the link-local address that is made from `mac`.
/// Without an IPv6 address there are none.
//= https://www.rfc-editor.org/rfc/rfc2464#section-7
//# An IPv6 packet with a multicast destination address DST, consisting
//# of the sixteen octets DST[1] through DST[16], is transmitted to the
//# Ethernet multicast address whose first two octets are the value 3333
//# hexadecimal and whose last four octets are the last four octets of
//# DST.
pub(super) fn groups(mac: MacAddr, addresses: &[Ipv6Addr]) -> Vec<[u8; 6]> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let solicited = |[a, b, c]: [u8; 3]| [0x33, 0x33, 0xff, a, b, c];
    // The interface identifier of the link-local address ends like the MAC address (RFC 4291,
    // appendix A).
    let [.., a, b, c] = mac.0;
    let mut groups = vec![ALL_NODES, solicited([a, b, c])];
    for address in addresses {
        let [.., a, b, c] = address.octets();
        let group = solicited([a, b, c]);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// ff02::1
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_solicited_node_group() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(groups(mac, &[]), [[0; 6]; 0]);
        let addresses = ["2001:db8::1:2:3", "fe80::9", "fd00::1:2:3"]
            .map(|address| address.parse().expect("an address"));
        let expected = [
            [0x33, 0x33, 0, 0, 0, 1],
            [0x33, 0x33, 0xff, 0x12, 0x34, 0x56],
            [0x33, 0x33, 0xff, 2, 0, 3],
            [0x33, 0x33, 0xff, 0, 0, 9],
        ];
        assert_eq!(groups(mac, &addresses), expected);
    }
}

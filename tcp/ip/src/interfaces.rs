//! Interfaces and their addresses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockgate_wire::ethernet::VlanTag;
use lockgate_wire::{IfaceId, MacAddr};

use crate::cidr::Cidr;
use crate::frame::LinkHeader;

/// A logical interface: a port or a VLAN on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its identifier.
    pub id: IfaceId,
    /// Its link-layer address; `None` if it has no link layer.
    pub mac: Option<MacAddr>,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// For a VLAN: the parent interface and the tag.
    pub vlan: Option<(IfaceId, VlanTag)>,
}

/// All interfaces with their addresses.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    list: Vec<InterfaceEntry>,
}

#[derive(Clone, Debug)]
struct InterfaceEntry {
    interface: Interface,
    addrs: Vec<Cidr>,
}

impl Interfaces {
    /// Adds an interface without addresses.
    ///
    /// # Errors
    /// `Full` or `Exists`.
    pub fn add(&mut self, interface: Interface) -> Result<(), InterfaceError> {
        if self.list.len() >= INTERFACES_MAX {
            return Err(InterfaceError::Full);
        }
        if self.entry(interface.id).is_some() {
            return Err(InterfaceError::Exists);
        }
        self.list.push(InterfaceEntry {
            interface,
            addrs: Vec::new(),
        });
        Ok(())
    }

    /// Adds an address to an interface. With its first IPv6 address it gets a link-local one.
    ///
    /// # Errors
    /// All of [`InterfaceError`].
    //= https://www.rfc-editor.org/rfc/rfc4291#section-2.1
    //# All interfaces are required to have at least one Link-Local unicast
    //# address
    pub fn add_address(&mut self, id: IfaceId, addr: Cidr) -> Result<(), InterfaceError> {
        let ip = addr.addr();
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(InterfaceError::Address);
        }
        if self.owner(ip).is_some() {
            return Err(InterfaceError::Exists);
        }
        let entry = self.list.iter_mut().find(|e| e.interface.id == id);
        let entry = entry.ok_or(InterfaceError::Unknown)?;
        if entry.addrs.len() + 1 >= ADDRESSES_MAX {
            return Err(InterfaceError::Full);
        }
        let has_link_local = entry.addrs.iter().any(|a| is_link_local_v6(a.addr()));
        if ip.is_ipv6()
            && !is_link_local_v6(ip)
            && !has_link_local
            && let Some(mac) = entry.interface.mac
            && let Some(own) = Cidr::new(link_local(mac).into(), 64)
        {
            entry.addrs.push(own);
        }
        entry.addrs.push(addr);
        Ok(())
    }

    /// Changes the MTU of an interface, in bytes.
    pub fn set_mtu(&mut self, id: IfaceId, mtu: u16) {
        if let Some(entry) = self.list.iter_mut().find(|e| e.interface.id == id) {
            entry.interface.mtu = mtu;
        }
    }

    /// Changes the link-layer address of an interface. Its addresses stay, its link-local one too.
    pub(crate) fn set_mac(&mut self, id: IfaceId, mac: MacAddr) {
        if let Some(entry) = self.list.iter_mut().find(|e| e.interface.id == id) {
            entry.interface.mac = Some(mac);
        }
    }

    /// Returns an interface.
    pub fn interface(&self, id: IfaceId) -> Option<&Interface> {
        self.entry(id).map(|e| &e.interface)
    }

    /// Returns all interfaces.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.list.iter().map(|e| &e.interface)
    }

    /// Returns the interface of a frame received on `port` with this tag. A tag of VLAN 0 carries
    /// only a priority.
    pub fn resolve(&self, port: IfaceId, tag: Option<VlanTag>) -> Option<&Interface> {
        match tag.filter(|t| t.id().number() != 0) {
            None => self.interface(port).filter(|i| i.vlan.is_none()),
            Some(tag) => self.iter().find(|i| {
                i.vlan
                    .is_some_and(|(parent, own)| parent == port && own.id() == tag.id())
            }),
        }
    }

    /// Returns an interface's addresses.
    pub fn addresses(&self, id: IfaceId) -> &[Cidr] {
        self.entry(id).map_or(&[], |e| &e.addrs)
    }

    /// Returns the interface that has an address.
    pub fn owner(&self, addr: IpAddr) -> Option<IfaceId> {
        let entry = self
            .list
            .iter()
            .find(|e| e.addrs.iter().any(|a| a.addr() == addr))?;
        Some(entry.interface.id)
    }

    /// Returns whether an address is ours, on any interface.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.owner(addr).is_some()
    }

    /// Returns the interface with a link-local address, if it is the only one.
    pub(crate) fn only_link_local(&self) -> Option<IfaceId> {
        let has_one = |e: &&InterfaceEntry| e.addrs.iter().any(|a| is_link_local_v6(a.addr()));
        let mut found = self.list.iter().filter(has_one).map(|e| e.interface.id);
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns whether an interface has an address.
    pub fn has(&self, id: IfaceId, addr: IpAddr) -> bool {
        self.addresses(id).iter().any(|a| a.addr() == addr)
    }

    /// Returns whether an address is a broadcast address of one of the interface's networks: all
    /// ones, or the obsolete all zeroes (RFC 1122, 3.3.6).
    pub fn is_broadcast(&self, id: IfaceId, addr: Ipv4Addr) -> bool {
        addr.is_broadcast() || self.addresses(id).iter().any(|own| own.is_broadcast(addr))
    }

    /// Returns whether an interface has joined a multicast group: all nodes, and the solicited-node
    /// groups of its addresses.
    pub fn is_joined(&self, id: IfaceId, group: Ipv6Addr) -> bool {
        group == ALL_NODES
            || self.addresses(id).iter().any(|a| match a.addr() {
                IpAddr::V6(own) => solicited_node(own) == group,
                IpAddr::V4(_) => false,
            })
    }

    /// Returns whether an address is on-link: in one of the interface's networks, or link-local.
    pub fn is_on_link(&self, id: IfaceId, addr: IpAddr) -> bool {
        is_link_local_v6(addr) || self.addresses(id).iter().any(|own| own.contains(addr))
    }

    /// Returns the source address for packets from interface `id` to `dst` (RFC 6724, 5).
    ///
    /// Of its rules those for static addresses apply: same scope first, then the longest common
    /// prefix, then the first configured.
    pub fn source_for(&self, id: IfaceId, dst: IpAddr) -> Option<IpAddr> {
        self.addresses(id)
            .iter()
            .filter(|own| own.addr().is_ipv4() == dst.is_ipv4())
            .map(|own| {
                let same_scope = is_link_local_v6(own.addr()) == is_link_local_v6(dst);
                (
                    same_scope,
                    own.common_len(dst).min(u32::from(own.prefix_len())),
                    own.addr(),
                )
            })
            // `max_by_key` returns the last maximum; reversed, that is the first configured.
            .rev()
            .max_by_key(|(same_scope, common, _)| (*same_scope, *common))
            .map(|(_, _, addr)| addr)
    }

    /// Returns the Ethernet header from interface `id` to `dst`; `None` without a link layer.
    pub fn link_to(&self, id: IfaceId, dst: MacAddr) -> Option<LinkHeader> {
        let interface = self.interface(id)?;
        Some(LinkHeader {
            dst,
            src: interface.mac?,
            vlan: interface.vlan.map(|(_, tag)| tag),
        })
    }

    fn entry(&self, id: IfaceId) -> Option<&InterfaceEntry> {
        // Identifiers usually are indices: try that first.
        match self.list.get(usize::from(id.0)) {
            Some(entry) if entry.interface.id == id => Some(entry),
            _ => self.list.iter().find(|e| e.interface.id == id),
        }
    }
}

/// Why an interface or address wasn't added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// More than 256 interfaces, or 64 addresses on one.
    #[error("more than {INTERFACES_MAX} interfaces, or {ADDRESSES_MAX} addresses on one")]
    Full,
    /// The interface or address exists already.
    #[error("it exists already")]
    Exists,
    /// The interface doesn't exist.
    #[error("no such interface")]
    Unknown,
    /// Not a host's address: unspecified, loopback or multicast.
    #[error("not a host's address")]
    Address,
}

/// Returns the solicited-node multicast group of an address.
//= https://www.rfc-editor.org/rfc/rfc4291#section-2.7.1
//# A Solicited-Node multicast address is formed by taking the low-order
//# 24 bits of an address (unicast or anycast) and appending those bits
//# to the prefix FF02:0:0:0:0:1:FF00::/104
pub const fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | addr.to_bits() & 0xff_ffff)
}

/// Returns whether a group is a solicited-node multicast group.
pub(crate) const fn is_solicited_node(group: Ipv6Addr) -> bool {
    solicited_node(group).to_bits() == group.to_bits()
}

/// Returns the link-local address of an interface, made from its MAC address (RFC 4291, appendix
/// A).
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from_octets([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// Returns whether an address is IPv6 link-local.
pub(crate) const fn is_link_local_v6(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V6(a) => a.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

/// The all-nodes multicast group of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const INTERFACES_MAX: usize = 256;
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use lockgate_wire::ethernet::VlanId;

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const A: IfaceId = IfaceId(0);
    const B: IfaceId = IfaceId(7);

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn v4(s: &str) -> Ipv4Addr {
        s.parse().unwrap()
    }

    fn v6(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    fn sample() -> Interfaces {
        let mut all = Interfaces::default();
        all.add(Interface {
            id: A,
            mac: Some(MAC),
            mtu: 1500,
            vlan: None,
        })
        .unwrap();
        let tag = VlanTag::new(VlanId::new(42).unwrap());
        all.add(Interface {
            id: B,
            mac: Some(MAC),
            mtu: 1500,
            vlan: Some((A, tag)),
        })
        .unwrap();
        for (id, addr) in [
            (A, "10.0.0.1/24"),
            (A, "10.0.0.2/24"),
            (A, "10.1.0.1/16"),
            (A, "2001:db8::1/64"),
            (A, "2001:db8:1::1/64"),
            (B, "192.168.0.1/31"),
        ] {
            all.add_address(id, addr.parse().unwrap()).unwrap();
        }
        all
    }

    #[test]
    fn ownership() {
        let all = sample();
        assert_eq!(all.owner(ip("10.0.0.2")), Some(A));
        assert_eq!(all.owner(ip("192.168.0.1")), Some(B));
        assert_eq!(all.owner(ip("10.0.0.3")), None);
        assert!(all.has(A, ip("10.0.0.1")) && !all.has(B, ip("10.0.0.1")));
        assert!(all.is_local(ip("2001:db8::1")));
        assert!(all.addresses(IfaceId(3)).is_empty());
    }

    #[test]
    fn link_local_comes_with_the_first_ipv6_address() {
        let all = sample();
        let own = ip("fe80::5054:ff:fe12:3456");
        assert_eq!(IpAddr::V6(link_local(MAC)), own);
        assert!(all.has(A, own));
        assert_eq!(all.addresses(A).len(), 6);
        assert!(!all.has(B, own), "an interface without IPv6 has none");
    }

    #[test]
    fn broadcasts() {
        let all = sample();
        for (addr, is) in [
            ("255.255.255.255", true),
            ("10.0.0.255", true),
            ("10.0.0.0", true),
            ("10.1.255.255", true),
            ("10.0.1.255", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(all.is_broadcast(A, v4(addr)), is, "{addr}");
        }
        // A network of two has no broadcast address: 192.168.0.0 is the neighbour.
        assert!(!all.is_broadcast(B, v4("192.168.0.0")));
    }

    #[test]
    fn groups() {
        let all = sample();
        assert_eq!(
            solicited_node(v6("4037::1:800:200e:8c6c")),
            v6("ff02::1:ff0e:8c6c")
        );
        assert!(all.is_joined(A, ALL_NODES) && all.is_joined(A, v6("ff02::1:ff00:1")));
        assert!(all.is_joined(A, v6("ff02::1:ff12:3456")));
        assert!(!all.is_joined(A, v6("ff02::1:ff00:2")) && !all.is_joined(A, v6("ff02::2")));
    }

    #[test]
    fn sources() {
        let all = sample();
        for (dst, src) in [
            ("10.0.0.77", Some("10.0.0.1")),
            ("10.1.3.3", Some("10.1.0.1")),
            ("8.8.8.8", Some("10.0.0.1")),
            ("2001:db8:1::9", Some("2001:db8:1::1")),
            ("2001:db8::9", Some("2001:db8::1")),
            ("fe80::9", Some("fe80::5054:ff:fe12:3456")),
        ] {
            assert_eq!(all.source_for(A, ip(dst)), src.map(ip), "{dst}");
        }
        assert_eq!(all.source_for(B, ip("2001:db8::9")), None);
        assert_eq!(all.source_for(IfaceId(3), ip("10.0.0.3")), None);
    }

    #[test]
    fn on_link() {
        let all = sample();
        assert!(all.is_on_link(A, ip("10.0.0.200")) && all.is_on_link(A, ip("fe80::1")));
        assert!(!all.is_on_link(A, ip("10.2.0.1")) && !all.is_on_link(B, ip("10.0.0.200")));
    }

    #[test]
    fn vlans() {
        let all = sample();
        let tag = |n| Some(VlanTag::new(VlanId::new(n).unwrap()));
        assert_eq!(all.resolve(A, None).map(|i| i.id), Some(A));
        assert_eq!(all.resolve(A, tag(0)).map(|i| i.id), Some(A));
        assert_eq!(all.resolve(A, tag(42)).map(|i| i.id), Some(B));
        assert_eq!(all.resolve(A, tag(43)), None);
        assert_eq!(all.resolve(B, None), None, "a VLAN has no untagged frames");
        assert_eq!(all.link_to(B, MAC).unwrap().vlan, tag(42));
    }

    #[test]
    fn refusals() {
        let mut all = sample();
        let again = Interface {
            id: A,
            mac: None,
            mtu: 1500,
            vlan: None,
        };
        assert_eq!(all.add(again), Err(InterfaceError::Exists));
        for (id, addr, why) in [
            (B, "10.0.0.1/24", InterfaceError::Exists),
            (IfaceId(3), "10.9.0.1/24", InterfaceError::Unknown),
            (A, "0.0.0.0/0", InterfaceError::Address),
            (A, "224.0.0.1/8", InterfaceError::Address),
            (A, "127.0.0.1/8", InterfaceError::Address),
            (A, "ff02::1/64", InterfaceError::Address),
        ] {
            assert_eq!(
                all.add_address(id, addr.parse().unwrap()),
                Err(why),
                "{addr}"
            );
        }
        let refused =
            (0..100u8).find_map(|n| all.add_address(B, Cidr::host([172, 16, 0, n].into())).err());
        assert_eq!(refused, Some(InterfaceError::Full));
    }
}

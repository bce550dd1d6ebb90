//! Address prefixes in CIDR notation.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An address and the length of its network prefix in bits.
///
/// The address may have host bits: an interface's `10.0.0.5/24` is one address in the network
/// `10.0.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

impl Cidr {
    /// Makes a prefix; `None` if `len` exceeds 32 bits for IPv4 or 128 for IPv6.
    pub const fn new(addr: IpAddr, len: u8) -> Option<Self> {
        if len <= bits(&addr) {
            Some(Self { addr, len })
        } else {
            None
        }
    }

    /// Makes the prefix of a single address: /32 or /128.
    pub const fn host(addr: IpAddr) -> Self {
        Self {
            len: bits(&addr),
            addr,
        }
    }

    /// Returns the address, host bits included.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Returns the prefix length in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Returns the prefix with all host bits zero.
    pub fn network(&self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & mask_v4(self.len)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & mask_v6(self.len)).into(),
        };
        Self { addr, ..*self }
    }

    /// Returns whether `addr` is in the network. False for the other IP version.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(n), IpAddr::V4(a)) => (n.to_bits() ^ a.to_bits()) & mask_v4(self.len) == 0,
            (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits() ^ a.to_bits()) & mask_v6(self.len) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Returns whether `addr` is this network's broadcast address, or its obsolete form, all
    /// zeroes. Prefixes of 31 bits have none (RFC 3021), nor have single addresses.
    pub(crate) fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        let IpAddr::V4(own) = self.addr else {
            return false;
        };
        let mask = mask_v4(self.len);
        let host = addr.to_bits() & !mask;
        self.len < 31
            && (own.to_bits() ^ addr.to_bits()) & mask == 0
            && (host == 0 || host == !mask)
            && own != addr
    }

    /// Whether the two networks have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.len <= other.len {
            self.contains(other.addr)
        } else {
            other.contains(self.addr)
        }
    }

    /// Whether the address is its network's own or its broadcast address, which no host can have.
    /// Networks of 31 bits have neither (RFC 3021), nor has IPv6.
    pub fn is_network_or_broadcast(&self) -> bool {
        let IpAddr::V4(addr) = self.addr else {
            return false;
        };
        let mask = mask_v4(self.len);
        let host = addr.to_bits() & !mask;
        self.len < 31 && (host == 0 || host == !mask)
    }

    /// Returns how many leading bits of `addr` and this prefix's address are equal.
    pub(crate) const fn common_len(&self, addr: IpAddr) -> u32 {
        match (self.addr, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    /// Parses `10.0.0.5/24` or `2001:db8::5/64`.
    fn from_str(s: &str) -> Result<Self, ParseCidrError> {
        let (addr, len) = s.split_once('/').ok_or(ParseCidrError)?;
        // `u8::from_str` accepts a plus sign, which isn't CIDR notation.
        if !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseCidrError);
        }
        let addr = addr.parse().map_err(|_| ParseCidrError)?;
        let len = len.parse().map_err(|_| ParseCidrError)?;
        Self::new(addr, len).ok_or(ParseCidrError)
    }
}

/// The text isn't an address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address prefix; write it as 192.0.2.1/24 or 2001:db8::1/64")]
pub struct ParseCidrError;

const fn bits(addr: &IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn mask_v4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask_v6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(s: &str) -> Cidr {
        s.parse().unwrap()
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn texts() {
        for s in [
            "10.0.0.5/24",
            "0.0.0.0/0",
            "2001:db8::5/64",
            "::/0",
            "::1/128",
            "1.2.3.4/32",
        ] {
            assert_eq!(cidr(s).to_string(), s);
        }
        for s in [
            "",
            "10.0.0.5",
            "10.0.0.5/",
            "10.0.0.5/33",
            "::/129",
            "10.0.0/8",
            "::/+1",
            "::/-1",
        ] {
            assert_eq!(s.parse::<Cidr>(), Err(ParseCidrError), "{s}");
        }
    }

    #[test]
    fn membership() {
        for (net, addr, is_in) in [
            ("10.0.0.5/24", "10.0.0.255", true),
            ("10.0.0.5/24", "10.0.1.0", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::", false),
            ("10.0.0.5/32", "10.0.0.5", true),
            ("10.0.0.5/32", "10.0.0.4", false),
            ("2001:db8::5/64", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::5/64", "2001:db8:0:1::1", false),
            ("::/0", "ff02::1", true),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(cidr(net).contains(ip(addr)), is_in, "{net} {addr}");
        }
    }

    #[test]
    fn broadcasts() {
        for (net, addr, is) in [
            ("10.1.2.3/24", [10, 1, 2, 255], true),
            ("10.1.2.3/24", [10, 1, 2, 0], true),
            ("10.1.2.3/24", [10, 1, 2, 254], false),
            ("10.1.2.3/24", [10, 1, 3, 255], false),
            ("10.1.2.3/30", [10, 1, 2, 0], true),
            ("10.1.2.3/30", [10, 1, 2, 3], false), // it's the interface's own address
            ("10.1.2.3/31", [10, 1, 2, 2], false),
            ("10.1.2.3/32", [10, 1, 2, 3], false),
            ("0.0.0.0/0", [255, 255, 255, 255], true),
            ("2001:db8::1/64", [10, 1, 2, 255], false),
        ] {
            assert_eq!(cidr(net).is_broadcast(addr.into()), is, "{net} {addr:?}");
        }
        assert_eq!(cidr("10.1.2.3/24").network(), cidr("10.1.2.0/24"));
    }

    #[test]
    fn networks_overlap_if_one_is_in_the_other() {
        for (one, two, overlap) in [
            ("10.0.0.0/8", "10.9.0.0/16", true),
            ("10.9.0.1/16", "10.9.0.2/16", true),
            ("10.9.0.0/16", "10.8.0.0/16", false),
            ("0.0.0.0/0", "10.8.0.0/16", true),
            ("0.0.0.0/0", "::/0", false),
            ("fd00::/64", "fd00::1/128", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
        ] {
            let (a, b) = (cidr(one), cidr(two));
            assert_eq!(
                (a.overlaps(&b), b.overlaps(&a)),
                (overlap, overlap),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn no_host_has_the_address_of_the_network_or_of_all() {
        for (text, is) in [
            ("10.0.0.0/24", true),
            ("10.0.0.255/24", true),
            ("10.0.0.1/24", false),
            ("10.0.0.0/30", true),
            ("10.0.0.0/31", false),
            ("10.0.0.0/32", false),
            ("0.0.0.0/0", true),
            ("255.255.255.255/0", true),
            ("fd00::/64", false),
        ] {
            assert_eq!(cidr(text).is_network_or_broadcast(), is, "{text}");
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn network_contains_its_address(a: [u8; 16], len in 0u8..=128) {
            let c = Cidr::new(IpAddr::from(a), len).unwrap();
            prop_assert!(c.contains(c.addr()));
            prop_assert!(c.network().contains(c.addr()));
            prop_assert!(c.contains(c.network().addr()));
            prop_assert_eq!(c.network().network(), c.network());
        }
    }
}

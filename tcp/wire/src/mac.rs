//! Link-layer addresses.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet address.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address: all ones.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeroes: no address. The target of an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// Returns the multicast address of an IPv4 multicast group (RFC 1112).
    //= https://www.rfc-editor.org/rfc/rfc1112#section-6.4
    //# An IP host group address is mapped to an Ethernet multicast address
    //# by placing the low-order 23-bits of the IP address into the low-order
    //# 23 bits of the Ethernet multicast address 01-00-5E-00-00-00 (hex).
    pub const fn multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// Returns the multicast address of an IPv6 multicast group (RFC 2464).
    //= https://www.rfc-editor.org/rfc/rfc2464#section-7
    //# An IPv6 packet with a multicast destination address DST, consisting
    //# of the sixteen octets DST[1] through DST[16], is transmitted to the
    //# Ethernet multicast address whose first two octets are the value 3333
    //# hexadecimal and whose last four octets are the last four octets of
    //# DST.
    pub const fn multicast_v6(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// Returns whether this is the broadcast address.
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// Returns whether this is a group address: multicast or broadcast.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Returns whether this can be one station's address: no group address, not all zeroes.
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Parses six pairs of hexadecimal digits with colons between them.
    fn from_str(s: &str) -> Result<Self, ParseMacError> {
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(Self(mac))
    }
}

/// The text isn't an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an Ethernet address; write it as aa:bb:cc:dd:ee:ff")
    }
}

impl core::error::Error for ParseMacError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups() {
        assert_eq!(
            MacAddr::multicast_v4(Ipv4Addr::new(239, 129, 2, 3)),
            MacAddr([1, 0, 0x5e, 1, 2, 3])
        );
        let solicited: Ipv6Addr = "ff02::1:ff28:9c5a".parse().unwrap();
        assert_eq!(
            MacAddr::multicast_v6(solicited),
            MacAddr([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a])
        );
    }

    #[test]
    fn kinds() {
        assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
        assert!(!MacAddr::ZERO.is_unicast() && !MacAddr::ZERO.is_multicast());
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
    }

    #[test]
    fn refuses_other_texts() {
        for s in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "0g:00:00:00:00:01",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(s.parse::<MacAddr>(), Err(ParseMacError), "{s}");
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn text_round_trip(b: [u8; 6]) {
            prop_assert_eq!(MacAddr(b).to_string().parse(), Ok(MacAddr(b)));
        }
    }
}

//! Types that both IP versions use: protocol numbers and the traffic class.

/// An IP protocol number, or IPv6 next header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header.
    pub const FRAGMENT: Self = Self(44);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// No next header: nothing follows (RFC 8200, 4.7).
    pub const NO_NEXT: Self = Self(59);
    /// IPv6 destination options.
    pub const DEST_OPTIONS: Self = Self(60);
}

/// Explicit congestion notification: the low two bits of the traffic class (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable transport.
    #[default]
    NotEct = 0,
    /// ECN-capable transport, ECT(1).
    Ect1 = 1,
    /// ECN-capable transport, ECT(0): what senders set.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

/// DSCP and ECN: IPv4's TOS byte, IPv6's traffic class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficClass(pub u8);

impl TrafficClass {
    /// Makes a class of a DSCP, of which the low six bits are taken, and an ECN codepoint.
    pub const fn new(dscp: u8, ecn: Ecn) -> Self {
        Self(dscp << 2 | ecn as u8)
    }

    /// Returns the differentiated services codepoint, 0 to 63.
    pub const fn dscp(self) -> u8 {
        self.0 >> 2
    }

    /// Returns the ECN codepoint.
    pub const fn ecn(self) -> Ecn {
        match self.0 & 3 {
            0 => Ecn::NotEct,
            1 => Ecn::Ect1,
            2 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_class_parts() {
        for b in 0..=u8::MAX {
            let t = TrafficClass(b);
            assert_eq!(TrafficClass::new(t.dscp(), t.ecn()), t);
        }
        assert_eq!(TrafficClass::new(46, Ecn::Ce), TrafficClass(0xbb));
    }
}

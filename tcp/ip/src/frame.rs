//! Ethernet and IP headers in front of a transport header.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockgate_wire::MacAddr;
use lockgate_wire::checksum::Sum;
use lockgate_wire::ethernet::{EtherType, EthernetHeader, VlanTag};
use lockgate_wire::ip::{IpProtocol, TrafficClass};
use lockgate_wire::ipv4::{self, Ipv4Header};
use lockgate_wire::ipv6::{self, FlowLabel, Ipv6Header};

/// A source and a destination of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpPair {
    /// IPv4.
    V4 {
        /// Source.
        src: Ipv4Addr,
        /// Destination.
        dst: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Source.
        src: Ipv6Addr,
        /// Destination.
        dst: Ipv6Addr,
    },
}

impl IpPair {
    /// Makes a pair; `None` if the addresses are of different versions.
    pub const fn new(src: IpAddr, dst: IpAddr) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Self::V4 { src, dst }),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Self::V6 { src, dst }),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// Returns the source.
    pub const fn src(&self) -> IpAddr {
        match *self {
            Self::V4 { src, .. } => IpAddr::V4(src),
            Self::V6 { src, .. } => IpAddr::V6(src),
        }
    }

    /// Returns the destination.
    pub const fn dst(&self) -> IpAddr {
        match *self {
            Self::V4 { dst, .. } => IpAddr::V4(dst),
            Self::V6 { dst, .. } => IpAddr::V6(dst),
        }
    }

    /// Returns whether this is IPv6.
    pub const fn is_ipv6(&self) -> bool {
        matches!(self, Self::V6 { .. })
    }

    /// Returns the pair with source and destination swapped.
    pub const fn reversed(&self) -> Self {
        match *self {
            Self::V4 { src, dst } => Self::V4 { src: dst, dst: src },
            Self::V6 { src, dst } => Self::V6 { src: dst, dst: src },
        }
    }

    /// Returns the checksum of the pseudo-header for `len` bytes of `protocol`.
    pub fn pseudo_sum(&self, protocol: IpProtocol, len: u32) -> Sum {
        match *self {
            Self::V4 { src, dst } => Sum::pseudo_v4(src, dst, protocol, len),
            Self::V6 { src, dst } => Sum::pseudo_v6(src, dst, protocol, len),
        }
    }
}

/// Addresses and tag of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The destination.
    pub dst: MacAddr,
    /// The source.
    pub src: MacAddr,
    /// 802.1Q tag.
    pub vlan: Option<VlanTag>,
}

impl LinkHeader {
    /// Returns the Ethernet header with this EtherType.
    pub const fn header(&self, ethertype: EtherType) -> EthernetHeader {
        EthernetHeader {
            dst: self.dst,
            src: self.src,
            vlan: self.vlan,
            ethertype,
        }
    }
}

/// The headers of an IP packet, link layer included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The Ethernet header; `None` on interfaces without a link layer.
    pub link: Option<LinkHeader>,
    /// Source and destination.
    pub addrs: IpPair,
    /// The protocol of the payload.
    pub protocol: IpProtocol,
    /// DSCP and ECN.
    pub class: TrafficClass,
    /// The flow label. Not used for IPv4.
    pub flow_label: FlowLabel,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Bytes behind the IP header, at most 65 515 for IPv4.
    pub payload_len: u16,
}

impl FrameHeader {
    /// Makes headers with hop limit 64, traffic class 0 and flow label 0.
    pub const fn new(
        link: Option<LinkHeader>,
        addrs: IpPair,
        protocol: IpProtocol,
        payload_len: u16,
    ) -> Self {
        Self {
            link,
            addrs,
            protocol,
            class: TrafficClass(0),
            flow_label: FlowLabel::from_bits(0),
            hop_limit: DEFAULT_HOP_LIMIT,
            payload_len,
        }
    }

    /// Returns the length of the Ethernet header: 0, 14 or 18 bytes.
    pub fn l2_len(&self) -> usize {
        self.link
            .map_or(0, |link| link.header(self.ethertype()).emitted_len())
    }

    /// Returns the length of the IP header: 20 or 40 bytes.
    pub const fn l3_len(&self) -> usize {
        if self.addrs.is_ipv6() {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        }
    }

    /// Returns the length of both headers in bytes.
    pub fn emitted_len(&self) -> usize {
        self.l2_len() + self.l3_len()
    }

    /// Writes the headers to `out` and returns their length.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::emitted_len`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let l2 = self
            .link
            .map_or(0, |link| link.header(self.ethertype()).emit(out));
        let out = &mut out[l2..];
        l2 + match self.addrs {
            IpPair::V4 { src, dst } => Ipv4Header {
                src,
                dst,
                protocol: self.protocol,
                ttl: self.hop_limit,
                class: self.class,
                // Packets are sent with DF, so they are atomic and the field has no meaning.
                //= https://www.rfc-editor.org/rfc/rfc6864#section-4.1
                //# Originating sources MAY set the IPv4 ID field of atomic datagrams
                //# to any value.
                id: 0,
                dont_fragment: true,
                fragment: ipv4::Fragment::WHOLE,
                payload_len: self.payload_len,
            }
            .emit(out),
            IpPair::V6 { src, dst } => Ipv6Header {
                src,
                dst,
                next_header: self.protocol,
                hop_limit: self.hop_limit,
                class: self.class,
                flow_label: self.flow_label,
                payload_len: self.payload_len,
            }
            .emit(out),
        }
    }

    const fn ethertype(&self) -> EtherType {
        if self.addrs.is_ipv6() {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        }
    }
}

/// The default of RFC 1700, which Linux and FreeBSD use.
pub const DEFAULT_HOP_LIMIT: u8 = 64;

#[cfg(test)]
mod tests {
    use lockgate_wire::ethernet::{EthernetView, VlanId};
    use lockgate_wire::ip::Ecn;
    use lockgate_wire::ipv4::Ipv4View;
    use lockgate_wire::ipv6::Ipv6View;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mixed_versions_are_no_pair() {
        let (a, b) = (IpAddr::from([1, 2, 3, 4]), IpAddr::from([0; 16]));
        assert_eq!(IpPair::new(a, b), None);
        assert_eq!(IpPair::new(b, a), None);
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn emits_what_parses(
            v6: bool, a: [u8; 16], b: [u8; 16], linked: bool, tag in prop::option::of(0u16..4095),
            class: u8, label: u32, hop_limit: u8, payload_len in 0u16..65_000,
        ) {
            let addrs = if v6 {
                IpPair::new(a.into(), b.into())
            } else {
                let four = |x: [u8; 16]| IpAddr::from([x[0], x[1], x[2], x[3]]);
                IpPair::new(four(a), four(b))
            }.unwrap();
            let link = linked.then(|| LinkHeader {
                dst: MacAddr([2, 0, 0, 0, 0, 1]),
                src: MacAddr([2, 0, 0, 0, 0, 2]),
                vlan: tag.and_then(VlanId::new).map(VlanTag::new),
            });
            let f = FrameHeader {
                class: TrafficClass(class),
                flow_label: FlowLabel::from_bits(label),
                hop_limit,
                ..FrameHeader::new(link, addrs, IpProtocol::TCP, payload_len)
            };
            let mut out = [0; 58];
            prop_assert_eq!(f.emit(&mut out), f.emitted_len());
            let mut at = 0;
            if let Some(link) = link {
                let (eth, len) = EthernetView::parse(&out).unwrap();
                prop_assert_eq!(LinkHeader { dst: eth.dst, src: eth.src, vlan: eth.vlan }, link);
                prop_assert_eq!(eth.ethertype, f.ethertype());
                at = len;
            }
            prop_assert_eq!(at, f.l2_len());
            let ip = &out[at..f.emitted_len()];
            match addrs {
                IpPair::V4 { src, dst } => {
                    let view = Ipv4View::new(ip).unwrap();
                    let h = view.header();
                    prop_assert!(view.checksum_is_valid());
                    prop_assert_eq!((h.src, h.dst, h.ttl), (src, dst, hop_limit));
                    prop_assert!(h.dont_fragment && h.fragment.is_whole());
                    prop_assert_eq!((h.payload_len, h.class.0), (payload_len, class));
                }
                IpPair::V6 { src, dst } => {
                    let (h, _) = Ipv6View::parse(ip).unwrap();
                    prop_assert_eq!((h.src, h.dst, h.hop_limit), (src, dst, hop_limit));
                    prop_assert_eq!((h.payload_len, h.class.0), (payload_len, class));
                    prop_assert_eq!(h.flow_label, f.flow_label);
                }
            }
        }
    }

    #[test]
    fn pseudo_sums_agree_with_wire() {
        let pair = IpPair::V4 {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
        };
        let sum = Sum::pseudo(pair.src(), pair.dst(), IpProtocol::TCP, 20).unwrap();
        assert_eq!(pair.pseudo_sum(IpProtocol::TCP, 20).fold(), sum.fold());
        assert_eq!(TrafficClass::new(0, Ecn::Ect0).0, 2);
    }
}

//! Ethernet II headers, with or without one 802.1Q tag.

use core::fmt;

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{MacAddr, ParseError, Result};

/// The EtherType: the protocol of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q tag, followed by another EtherType.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// Slow protocols: LACP (802.3ad) among them.
    pub const SLOW: Self = Self(0x8809);
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// A VLAN identifier: 0 (priority only) to 4094.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// Makes a VLAN identifier; `None` above 4094. 4095 is reserved.
    pub const fn new(id: u16) -> Option<Self> {
        if id < 0xfff { Some(Self(id)) } else { None }
    }

    /// Returns the number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// An 802.1Q tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanTag {
    id: VlanId,
    priority: u8,
    drop_eligible: bool,
}

impl VlanTag {
    /// Makes a tag of priority 0.
    pub const fn new(id: VlanId) -> Self {
        Self {
            id,
            priority: 0,
            drop_eligible: false,
        }
    }

    /// Makes a tag of its tag control information; `None` if the VLAN identifier is 4095.
    pub const fn from_tci(tci: u16) -> Option<Self> {
        let Some(id) = VlanId::new(tci & 0xfff) else {
            return None;
        };
        let priority = (tci >> 13) as u8;
        Some(Self {
            id,
            priority,
            drop_eligible: tci & 0x1000 != 0,
        })
    }

    /// Returns the tag control information.
    pub const fn tci(self) -> u16 {
        (self.priority as u16) << 13 | (self.drop_eligible as u16) << 12 | self.id.0
    }

    /// Returns the VLAN identifier.
    pub const fn id(self) -> VlanId {
        self.id
    }

    /// Returns the priority code point, 0 to 7.
    pub const fn priority(self) -> u8 {
        self.priority
    }
}

/// The representation of an Ethernet header, with or without a tag.
///
/// Without a tag its EtherType isn't [`EtherType::VLAN`]: that would be emitted as half a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// The destination.
    pub dst: MacAddr,
    /// The source.
    pub src: MacAddr,
    /// The 802.1Q tag, if present.
    pub vlan: Option<VlanTag>,
    /// The protocol of the payload. Values below 0x600 are 802.3 lengths.
    pub ethertype: EtherType,
}

impl EthernetHeader {
    /// Returns the bytes that `emit` writes: 14 or 18.
    pub const fn emitted_len(&self) -> usize {
        if self.vlan.is_some() {
            HEADER_LEN + TAG_LEN
        } else {
            HEADER_LEN
        }
    }

    /// Writes the header to `out` and returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::emitted_len`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let first = if self.vlan.is_some() {
            EtherType::VLAN
        } else {
            self.ethertype
        };
        let raw = Raw {
            dst: self.dst,
            src: self.src,
            ethertype: first.0.into(),
        };
        out[..HEADER_LEN].copy_from_slice(raw.as_bytes());
        if let Some(tag) = self.vlan {
            let raw = RawTag {
                tci: tag.tci().into(),
                ethertype: self.ethertype.0.into(),
            };
            out[HEADER_LEN..HEADER_LEN + TAG_LEN].copy_from_slice(raw.as_bytes());
        }
        self.emitted_len()
    }
}

/// A view of an Ethernet header. Its length is checked.
#[derive(Clone, Copy, Debug)]
pub struct EthernetView<'a> {
    raw: &'a Raw,
    tag: Option<(VlanTag, &'a RawTag)>,
}

impl<'a> EthernetView<'a> {
    /// Checks the header that `bytes` begin with.
    ///
    /// # Errors
    /// `Truncated`; `Field` for the reserved VLAN identifier 4095.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        let tag = if raw.ethertype.get() == EtherType::VLAN.0 {
            let (tag, _) = RawTag::ref_from_prefix(rest).map_err(|_| ParseError::Truncated)?;
            Some((
                VlanTag::from_tci(tag.tci.get()).ok_or(ParseError::Field)?,
                tag,
            ))
        } else {
            None
        };
        Ok(Self { raw, tag })
    }

    /// Parses the header that `bytes` begin with. Returns it and its length.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(bytes: &'a [u8]) -> Result<(EthernetHeader, usize)> {
        let view = Self::new(bytes)?;
        let header = view.header();
        Ok((header, header.emitted_len()))
    }

    /// Returns the representation.
    pub fn header(&self) -> EthernetHeader {
        let ethertype = self
            .tag
            .map_or(self.raw.ethertype, |(_, raw)| raw.ethertype);
        EthernetHeader {
            dst: self.raw.dst,
            src: self.raw.src,
            vlan: self.tag.map(|(tag, _)| tag),
            ethertype: EtherType(ethertype.get()),
        }
    }
}

/// Length of a header without a tag, in bytes.
pub const HEADER_LEN: usize = 14;
/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 4;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    dst: MacAddr,
    src: MacAddr,
    ethertype: U16,
}

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTag {
    tci: U16,
    ethertype: U16,
}

const _: () = assert!(size_of::<Raw>() == HEADER_LEN && size_of::<RawTag>() == TAG_LEN);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];

    #[test]
    fn untagged() {
        let (h, len) = EthernetView::parse(&FRAME).unwrap();
        assert_eq!(len, 14);
        assert_eq!(h.dst, MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(h.src, MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!((h.vlan, h.ethertype), (None, EtherType::IPV4));
    }

    #[test]
    fn tagged() {
        let mut frame = [&FRAME[..12], &[0x81, 0x00, 0xb0, 0x2a, 0x86, 0xdd]].concat();
        let (h, len) = EthernetView::parse(&frame).unwrap();
        let tag = h.vlan.unwrap();
        assert_eq!(len, 18);
        assert_eq!(h.ethertype, EtherType::IPV6);
        assert_eq!(
            (tag.id().number(), tag.priority(), tag.tci()),
            (42, 5, 0xb02a)
        );
        assert_eq!(
            EthernetView::parse(&frame[..17]),
            Err(ParseError::Truncated)
        );
        frame[14..16].copy_from_slice(&[0x0f, 0xff]);
        assert_eq!(EthernetView::parse(&frame), Err(ParseError::Field));
    }

    #[test]
    fn every_shorter_frame_is_truncated() {
        for len in 0..14 {
            assert_eq!(
                EthernetView::parse(&FRAME[..len]),
                Err(ParseError::Truncated)
            );
        }
    }

    prop_compose! {
        fn header()(
            dst: [u8; 6], src: [u8; 6], tci: u16, tagged: bool, ethertype: u16,
        ) -> EthernetHeader {
            EthernetHeader {
                dst: MacAddr(dst),
                src: MacAddr(src),
                vlan: VlanTag::from_tci(tci).filter(|_| tagged),
                // A header without a tag can't have a tag's EtherType.
                ethertype: EtherType(if ethertype == 0x8100 { 0x0800 } else { ethertype }),
            }
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn emit_then_parse(h in header()) {
            let mut out = [0xaa; 18];
            let len = h.emit(&mut out);
            prop_assert_eq!(len, h.emitted_len());
            prop_assert_eq!(EthernetView::parse(&out[..len]), Ok((h, len)));
            prop_assert!(out[len..].iter().all(|b| *b == 0xaa));
        }

        #[test]
        fn parse_then_emit(bytes in prop::collection::vec(any::<u8>(), 0..40), tag: bool) {
            let mut bytes = bytes;
            if tag && bytes.len() >= 14 {
                bytes[12..14].copy_from_slice(&[0x81, 0]);
            }
            if let Ok((h, len)) = EthernetView::parse(&bytes) {
                let mut out = vec![0; len];
                h.emit(&mut out);
                prop_assert_eq!(&out[..], &bytes[..len]);
            }
        }
    }
}

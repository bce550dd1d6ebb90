//! IPv4 headers (RFC 791).

use core::net::Ipv4Addr;

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;
use crate::ip::{IpProtocol, TrafficClass};
use crate::{ParseError, Result};

/// The representation of an IPv4 header, without its options and reserved bit.
///
/// The parsed length says how many bytes of options there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// The protocol of the payload.
    pub protocol: IpProtocol,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub class: TrafficClass,
    /// Identification. Has no meaning in an atomic datagram, which isn't and mustn't be fragmented
    /// (RFC 6864).
    pub id: u16,
    /// Whether routers must not fragment.
    pub dont_fragment: bool,
    /// The fragment of the datagram.
    pub fragment: Fragment,
    /// Bytes of payload, at most 65 515.
    pub payload_len: u16,
}

/// The part of a datagram that a packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    offset: u16,
    more: bool,
}

impl Fragment {
    /// The whole datagram: not fragmented.
    pub const WHOLE: Self = Self {
        offset: 0,
        more: false,
    };

    /// Makes a fragment. `offset` is in units of eight bytes; `None` if it needs more than 13 bits.
    pub const fn new(offset: u16, more: bool) -> Option<Self> {
        if offset < 1 << 13 {
            Some(Self { offset, more })
        } else {
            None
        }
    }

    /// Returns whether this is a whole datagram.
    pub const fn is_whole(self) -> bool {
        self.offset == 0 && !self.more
    }

    /// Returns whether this is the first fragment, or the whole datagram.
    pub const fn is_first(self) -> bool {
        self.offset == 0
    }
}

impl Ipv4Header {
    /// Writes the header with its checksum and without options. Returns its length, [`HEADER_LEN`].
    ///
    /// A `payload_len` above 65 515 is written as a total length of 65 535. Nothing in this stack
    /// builds one.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.fragment.more) << 13;
        let fragment = flags | self.fragment.offset;
        let total_len = self.payload_len.saturating_add(20);
        let Self { ttl, id, .. } = *self;
        let checksum = checksum::of_words([
            u32::from_be_bytes([0x45, self.class.0, 0, 0]) | u32::from(total_len),
            u32::from(id) << 16 | u32::from(fragment),
            u32::from_be_bytes([ttl, self.protocol.0, 0, 0]),
            self.src.to_bits(),
            self.dst.to_bits(),
        ]);
        let raw = Raw {
            version_ihl: 0x45,
            class: self.class.0,
            total_len: total_len.into(),
            id: id.into(),
            fragment: fragment.into(),
            ttl,
            protocol: self.protocol.0,
            checksum: checksum.into(),
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        out[..HEADER_LEN].copy_from_slice(raw.as_bytes());
        HEADER_LEN
    }
}

/// A view of a contiguous IPv4 header. Its lengths are checked, its checksum isn't.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4View<'a> {
    raw: &'a Raw,
    header: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Checks the header that `bytes` begin with, but not whether they hold the payload: that may
    /// be in another segment of the buffer.
    ///
    /// # Errors
    /// `Truncated`; `Version`; `Length` if the header or total length is too small.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        if raw.version_ihl >> 4 != 4 {
            return Err(ParseError::Version);
        }
        let header_len = usize::from(raw.version_ihl & 15) * 4;
        if header_len < HEADER_LEN || usize::from(raw.total_len.get()) < header_len {
            return Err(ParseError::Length);
        }
        let header = bytes.get(..header_len).ok_or(ParseError::Truncated)?;
        Ok(Self { raw, header })
    }

    /// Parses the header that `bytes` begin with. Returns it and its length with options. Doesn't
    /// verify the checksum.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(bytes: &'a [u8]) -> Result<(Ipv4Header, usize)> {
        let view = Self::new(bytes)?;
        Ok((view.header(), view.header_len()))
    }

    /// Returns the representation.
    pub fn header(&self) -> Ipv4Header {
        let fragment = self.raw.fragment.get();
        Ipv4Header {
            src: self.raw.src.into(),
            dst: self.raw.dst.into(),
            protocol: IpProtocol(self.raw.protocol),
            ttl: self.raw.ttl,
            class: TrafficClass(self.raw.class),
            id: self.raw.id.get(),
            dont_fragment: fragment & 0x4000 != 0,
            fragment: Fragment {
                offset: fragment & 0x1fff,
                more: fragment & 0x2000 != 0,
            },
            payload_len: self.payload_len(),
        }
    }

    /// Returns the length of the header with its options: 20 to 60 bytes.
    pub fn header_len(&self) -> usize {
        self.header.len()
    }

    /// Returns the bytes of payload.
    pub fn payload_len(&self) -> u16 {
        let header_len = u16::from(self.raw.version_ihl & 15) * 4;
        self.raw.total_len.get().saturating_sub(header_len)
    }

    /// Returns whether the header's checksum is valid.
    pub fn checksum_is_valid(&self) -> bool {
        checksum::is_valid(self.header)
    }

    /// Returns whether there is a loose or strict source route option, or an option of invalid
    /// length.
    pub fn has_source_route(&self) -> bool {
        let mut options = self.header.get(HEADER_LEN..).unwrap_or_default();
        while let Some((&kind, rest)) = options.split_first() {
            match kind {
                0 => break,
                1 => options = rest,
                LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return true,
                _ => match rest.first().map(|len| usize::from(*len)) {
                    Some(len) if (2..=options.len()).contains(&len) => options = &options[len..],
                    _ => return true,
                },
            }
        }
        false
    }
}

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    version_ihl: u8,
    class: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

const _: () = assert!(size_of::<Raw>() == HEADER_LEN);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ip::Ecn;

    const BYTES: [u8; 20] = [
        0x45, 0x02, 0x00, 0x28, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x14, 0x98, 0x0a, 0x00, 0x00,
        0x01, 0x0a, 0x00, 0x00, 0x02,
    ];

    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = [&BYTES[..], options].concat();
        bytes[0] = 0x40 | u8::try_from(bytes.len() / 4).unwrap();
        bytes[3] = 60;
        bytes
    }

    #[test]
    fn fields() {
        let view = Ipv4View::new(&BYTES).unwrap();
        let h = view.header();
        assert_eq!(
            (h.src, h.dst),
            (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
        );
        assert_eq!((h.protocol, h.ttl, h.id), (IpProtocol::TCP, 64, 0x1234));
        assert_eq!((h.class.ecn(), h.class.dscp()), (Ecn::Ect0, 0));
        assert!(h.dont_fragment && h.fragment.is_whole());
        assert_eq!((h.payload_len, view.header_len()), (20, 20));
        let mut out = [0; 20];
        h.emit(&mut out);
        assert!(checksum::is_valid(&out));
    }

    #[test]
    fn invalid_lengths() {
        for (at, value, error) in [
            (0, 0x44, ParseError::Length),
            (0, 0x65, ParseError::Version),
            (0, 0x46, ParseError::Truncated),
            (3, 19, ParseError::Length),
        ] {
            let mut bytes = BYTES;
            bytes[at] = value;
            assert_eq!(Ipv4View::parse(&bytes), Err(error), "byte {at} = {value}");
        }
        for len in 0..20 {
            assert_eq!(Ipv4View::parse(&BYTES[..len]), Err(ParseError::Truncated));
        }
    }

    #[test]
    fn options() {
        for (options, routed) in [
            (&[1, 1, 1, 0][..], false),
            (&[148, 4, 0, 0], false),
            (&[131, 7, 4, 10, 0, 0, 9, 0], true),
            (&[1, 137, 7, 4, 10, 0, 0, 9], true),
            (&[0, 131, 7, 4], false),
            // Lengths that can't be followed are as good as a source route.
            (&[7, 0, 0, 0], true),
            (&[7, 1, 0, 0], true),
            (&[7, 9, 0, 0], true),
            (&[1, 1, 1, 7], true),
        ] {
            let bytes = with_options(options);
            let view = Ipv4View::new(&bytes).unwrap();
            assert_eq!(view.header_len(), 20 + options.len());
            assert_eq!(usize::from(view.payload_len()), 60 - view.header_len());
            assert_eq!(view.has_source_route(), routed, "{options:?}");
        }
    }

    #[test]
    fn fragments() {
        assert!(Fragment::WHOLE.is_whole());
        assert_eq!(Fragment::new(1 << 13, false), None);
        assert!(!Fragment::new(0, true).unwrap().is_whole());
        assert!(Fragment::new(0, true).unwrap().is_first());
        assert!(!Fragment::new(1, false).unwrap().is_whole());
    }

    prop_compose! {
        fn header()(
            src: [u8; 4], dst: [u8; 4], protocol: u8, ttl: u8, class: u8, id: u16,
            dont_fragment: bool, offset in 0u16..1 << 13, more: bool, payload_len in 0u16..=65_515,
        ) -> Ipv4Header {
            Ipv4Header {
                src: src.into(),
                dst: dst.into(),
                protocol: IpProtocol(protocol),
                ttl,
                class: TrafficClass(class),
                id,
                dont_fragment,
                fragment: Fragment { offset, more },
                payload_len,
            }
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn emit_then_parse(h in header()) {
            let mut out = [0; 24];
            prop_assert_eq!(h.emit(&mut out), 20);
            let view = Ipv4View::new(&out).unwrap();
            prop_assert!(view.checksum_is_valid());
            prop_assert_eq!(Ipv4View::parse(&out), Ok((h, 20)));
        }

        #[test]
        fn options_are_dropped_and_their_length_is_reported(
            mut bytes in prop::collection::vec(any::<u8>(), 60), words in 5u8..16,
        ) {
            bytes[0] = 0x40 | words;
            let header_len = usize::from(words) * 4;
            match Ipv4View::parse(&bytes) {
                Ok((h, len)) => {
                    let total_len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
                    prop_assert_eq!(len, header_len);
                    prop_assert_eq!(usize::from(h.payload_len) + header_len, total_len);
                    let mut out = [0xff; 24];
                    prop_assert_eq!(h.emit(&mut out), HEADER_LEN);
                    prop_assert!(checksum::is_valid(&out[..HEADER_LEN]) && out[20..] == [0xff; 4]);
                    prop_assert_eq!(Ipv4View::parse(&out), Ok((h, HEADER_LEN)));
                }
                Err(error) => {
                    prop_assert_eq!(error, ParseError::Length);
                    prop_assert!(bytes[2] == 0 && usize::from(bytes[3]) < header_len);
                }
            }
        }

        #[test]
        fn parse_then_emit(mut bytes in prop::collection::vec(any::<u8>(), 0..64), force: bool) {
            if force && bytes.len() >= 20 {
                bytes[0] = 0x45;
                bytes[6] &= 0x7f; // the reserved bit isn't kept
            }
            if let Ok(view) = Ipv4View::new(&bytes) {
                let _ = (view.has_source_route(), view.checksum_is_valid());
                let mut out = [0; 20];
                view.header().emit(&mut out);
                prop_assert_eq!(Ipv4View::new(&out).map(|v| v.header()), Ok(view.header()));
                if force {
                    prop_assert_eq!(&out[..10], &bytes[..10]);
                    prop_assert_eq!(&out[12..], &bytes[12..20]);
                }
            }
        }
    }
}

//! The Internet checksum (RFC 1071), over pieces of any length.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::IpProtocol;

/// A running one's complement sum (RFC 1071).
///
/// Pieces may have odd lengths: a piece that begins at an odd offset is summed as if it were
/// shifted by a byte, so any division of a message gives the same sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Sum of big-endian 16-bit words, not yet folded. Each addition adds less than 2^16, so 2^48
    /// of them fit.
    total: u64,
    odd: bool,
}

impl Sum {
    /// Makes a sum of zero.
    pub const fn new() -> Self {
        Self {
            total: 0,
            odd: false,
        }
    }

    /// Makes a sum that continues a folded one, such as the pseudo-header sum in a TCP header.
    pub const fn from_folded(sum: u16) -> Self {
        Self {
            total: sum as u64,
            odd: false,
        }
    }

    /// Returns the sum of the IPv4 pseudo-header (RFC 9293, 3.1). `len` is the upper-layer length
    /// in bytes.
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol, len: u32) -> Self {
        let mut s = Self::new();
        s.add_u32(src.to_bits());
        s.add_u32(dst.to_bits());
        s.add_u32(u32::from(protocol.0));
        s.add_u32(len);
        s
    }

    /// Returns the sum of the IPv6 pseudo-header (RFC 8200, 8.1). `len` is the upper-layer length
    /// in bytes.
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: IpProtocol, len: u32) -> Self {
        let mut s = Self::new();
        for addr in [src.to_bits(), dst.to_bits()] {
            for shift in [96, 64, 32, 0] {
                #[expect(clippy::cast_possible_truncation, reason = "32 bits at a time")]
                s.add_u32((addr >> shift) as u32);
            }
        }
        s.add_u32(len);
        s.add_u32(u32::from(protocol.0));
        s
    }

    /// Returns the sum of the pseudo-header; `None` if the addresses are of different versions.
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: IpProtocol, len: u32) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Some(Self::pseudo_v4(s, d, protocol, len)),
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::pseudo_v6(s, d, protocol, len)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// Adds the next bytes of the message.
    pub fn add(&mut self, bytes: &[u8]) {
        let sum = sum_bytes(bytes);
        self.total += u64::from(if self.odd { sum.swap_bytes() } else { sum });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a 16-bit word.
    pub const fn add_u16(&mut self, word: u16) {
        self.total += (if self.odd { word.swap_bytes() } else { word }) as u64;
    }

    /// Adds two 16-bit words.
    pub const fn add_u32(&mut self, words: u32) {
        self.add_u16(fold(words as u64));
    }

    /// Returns the sum as 16 bits, not complemented: the value of a checksum field that the NIC
    /// completes (checksum offload), or the software that replaces it.
    pub const fn fold(self) -> u16 {
        fold(self.total)
    }

    /// Returns the complement of the sum: the value of a checksum field.
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// Returns whether the checksum of a message is valid, if its checksum field was summed, too.
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Returns the checksum of `bytes`, whose checksum field is zero.
pub fn of(bytes: &[u8]) -> u16 {
    let mut s = Sum::new();
    s.add(bytes);
    s.finish()
}

/// Returns the checksum of 32-bit words.
///
/// For headers that were just made. Reading their bytes back, wider than they were written, would
/// stall the processor until the writes are done.
pub(crate) fn of_words<const N: usize>(words: [u32; N]) -> u16 {
    !fold(words.into_iter().map(u64::from).sum())
}

/// Returns whether the checksum of `bytes` is valid, their checksum field included.
pub fn is_valid(bytes: &[u8]) -> bool {
    let mut s = Sum::new();
    s.add(bytes);
    s.is_valid()
}

/// Returns the checksum after one 16-bit word of the message changed from `old` to `new`.
//= https://www.rfc-editor.org/rfc/rfc1624#section-3
//# HC' = ~(~HC + ~m + m')
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// Returns the folded sum of the big-endian words of `bytes`. A last odd byte is a word's upper
/// half.
///
/// Byte order only swaps the result (RFC 1071, 2B). So words are added in the machine's order, 32
/// bits at a time into 64-bit lanes, which the compiler vectorises.
fn sum_bytes(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut total = if blocks.is_empty() {
        0
    } else {
        u64::from(fold_blocks(blocks))
    };
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));

    let sum = fold(total);
    if cfg!(target_endian = "little") {
        sum.swap_bytes()
    } else {
        sum
    }
}

fn fold_blocks(blocks: &[[u8; 64]]) -> u16 {
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (i, word) in words.iter().enumerate() {
            lanes[i % 8] += u64::from(u32::from_ne_bytes(*word));
        }
    }
    // A lane adds 2 words of 32 bits per 64 bytes: it can't overflow below 2^37 bytes.
    fold(lanes.iter().map(|lane| u64::from(fold(*lane))).sum())
}

const fn fold(total: u64) -> u16 {
    let s = (total >> 32) + (total & 0xffff_ffff);
    let s = (s >> 32) + (s & 0xffff_ffff);
    let s = (s >> 16) + (s & 0xffff);
    let s = (s >> 16) + (s & 0xffff);
    let s = (s >> 16) + (s & 0xffff);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "all carries were added back"
    )]
    let folded = s as u16;
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 read literally.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn rfc_1071_example() {
        let mut s = Sum::new();
        s.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(s.fold(), 0xddf2);
        assert_eq!(s.finish(), 0x220d);
    }

    #[test]
    fn known_ipv4_header() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(of(&header), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert!(is_valid(&header));
        header[19] ^= 1;
        assert!(!is_valid(&header));
    }

    #[test]
    fn known_tcp_segment() {
        // A SYN from 10.0.0.1:1234 to 10.0.0.2:80, sequence number 1, window 1024, no options:
        // summed by hand to 0x6c2b.
        let segment = [
            0x04, 0xd2, 0x00, 0x50, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x50, 0x02,
            0x04, 0x00, 0x00, 0x00, 0x00, 0x00,
        ];
        let src = Ipv4Addr::new(10, 0, 0, 1);
        let dst = Ipv4Addr::new(10, 0, 0, 2);
        let mut s = Sum::pseudo_v4(src, dst, IpProtocol::TCP, 20);
        assert_eq!(s.fold(), 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + 6 + 20);
        s.add(&segment);
        let by_hand = 0x141d + 0x04d2 + 0x0050 + 0x0001 + 0x5002 + 0x0400;
        assert_eq!(s.fold(), by_hand);
        assert_eq!(s.finish(), !by_hand);
    }

    #[test]
    fn pseudo_header_v6() {
        let src: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let dst: Ipv6Addr = "2001:db8::2".parse().unwrap();
        let s = Sum::pseudo_v6(src, dst, IpProtocol::TCP, 0x1_0002);
        assert_eq!(s.fold(), 2 * (0x2001 + 0x0db8) + 1 + 2 + 1 + 2 + 6);
    }

    #[test]
    fn empty_and_single() {
        assert_eq!(Sum::new().fold(), 0);
        assert_eq!(of(&[]), 0xffff);
        let mut s = Sum::new();
        s.add(&[0xab]);
        assert_eq!(s.fold(), 0xab00);
        s.add(&[0xcd]);
        assert_eq!(s.fold(), 0xabcd);
    }

    #[test]
    fn all_ones_carry() {
        for len in [2usize, 64, 65, 1500, 65_536] {
            let bytes = vec![0xff; len];
            assert_eq!(sum_bytes(&bytes), reference(&bytes), "{len}");
        }
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn agrees_with_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(sum_bytes(&bytes), reference(&bytes));
        }

        #[test]
        fn any_division_gives_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            cuts in prop::collection::vec(0usize..600, 0..8),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut s = Sum::new();
            let mut at = 0;
            for cut in cuts {
                s.add(&bytes[at..cut]);
                at = cut;
            }
            prop_assert_eq!(s.fold(), reference(&bytes));
        }

        #[test]
        fn incremental_update(mut bytes in prop::collection::vec(any::<u8>(), 20..40), new: u16) {
            bytes[0] |= 1; // not all zero: zero has two representations
            let before = of(&bytes);
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), of(&bytes));
        }

        #[test]
        fn completing_a_folded_pseudo_header(
            src: [u8; 4], dst: [u8; 4], bytes in prop::collection::vec(any::<u8>(), 20..100),
        ) {
            let len = u32::try_from(bytes.len()).unwrap();
            let mut whole = Sum::pseudo_v4(src.into(), dst.into(), IpProtocol::TCP, len);
            let mut later = Sum::from_folded(whole.fold());
            whole.add(&bytes);
            later.add(&bytes);
            prop_assert_eq!(whole.fold(), later.fold());
        }
    }
}

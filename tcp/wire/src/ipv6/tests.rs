use proptest::prelude::*;

use super::*;
use crate::ip::Ecn;

fn bytes() -> [u8; 40] {
    let mut b = [0; 40];
    b[..8].copy_from_slice(&[0x6b, 0xb1, 0x23, 0x45, 0, 20, 6, 64]);
    b[8] = 0x20;
    b[23] = 1;
    b[24] = 0x20;
    b[39] = 2;
    b
}

#[test]
fn fields() {
    let (h, len) = Ipv6View::parse(&bytes()).unwrap();
    assert_eq!(len, 40);
    assert_eq!(
        (h.src, h.dst),
        ("2000::1".parse().unwrap(), "2000::2".parse().unwrap())
    );
    assert_eq!((h.class.dscp(), h.class.ecn()), (46, Ecn::Ce));
    assert_eq!(h.flow_label.bits(), 0x1_2345);
    assert_eq!(
        (h.payload_len, h.next_header, h.hop_limit),
        (20, IpProtocol::TCP, 64)
    );
}

#[test]
fn other_versions_and_short_bytes_are_errors() {
    for len in 0..40 {
        assert_eq!(Ipv6View::parse(&bytes()[..len]), Err(ParseError::Truncated));
    }
    let mut b = bytes();
    b[0] = 0x45;
    assert_eq!(Ipv6View::parse(&b), Err(ParseError::Version));
}

const TCP: u8 = 6;
const HBH: IpProtocol = IpProtocol::HOP_BY_HOP;
const DST: IpProtocol = IpProtocol::DEST_OPTIONS;
const RTG: IpProtocol = IpProtocol::ROUTING;
const FRG: IpProtocol = IpProtocol::FRAGMENT;

fn upper(protocol: IpProtocol, at: usize) -> Result<UpperLayer, ExtensionError> {
    // All headers but the last one are eight bytes long in these tests.
    let next_header_at = if at == 0 { 6 } else { 40 + at - 8 };
    Ok(UpperLayer {
        protocol,
        at,
        next_header_at,
        fragment: None,
    })
}

fn problem(code: u8, pointer: u32) -> Result<UpperLayer, ExtensionError> {
    Err(ExtensionError::ParameterProblem(ParameterProblem {
        code,
        pointer,
        even_if_multicast: false,
    }))
}

#[test]
fn packets_without_extension_headers() {
    assert_eq!(walk(IpProtocol::TCP, &[]), upper(IpProtocol::TCP, 0));
    assert_eq!(
        walk(IpProtocol::NO_NEXT, &[]),
        upper(IpProtocol::NO_NEXT, 0)
    );
    assert_eq!(walk(IpProtocol(200), &[1]), upper(IpProtocol(200), 0));
}

#[test]
fn options_headers() {
    // Padding (PadN of 4), router alert with Pad1s, an unknown option that may be skipped.
    for options in [
        [1, 4, 0, 0, 0, 0],
        [5, 2, 0, 0, 0, 0],
        [0x1e, 4, 9, 9, 9, 9],
        [0; 6],
    ] {
        let header = [&[TCP, 0][..], &options].concat();
        assert_eq!(walk(HBH, &header), upper(IpProtocol::TCP, 8), "{options:?}");
        assert_eq!(walk(DST, &header), upper(IpProtocol::TCP, 8), "{options:?}");
    }
    // Unknown options by the top two bits of their kind.
    let header = |kind| [TCP, 0, 1, 0, kind, 2, 0, 0];
    assert_eq!(walk(DST, &header(0x5e)), Err(ExtensionError::Discard));
    assert_eq!(
        walk(DST, &header(0x9e)),
        Err(ExtensionError::ParameterProblem(ParameterProblem {
            code: 2,
            pointer: 44,
            even_if_multicast: true
        }))
    );
    assert_eq!(walk(DST, &header(0xde)), problem(2, 44));
}

#[test]
fn options_that_overrun_their_header() {
    assert_eq!(walk(DST, &[TCP, 0, 1, 5, 0, 0, 0, 0]), problem(0, 43));
    assert_eq!(walk(DST, &[TCP, 0, 1, 3, 0, 0, 0, 1]), problem(0, 47));
}

#[test]
fn hop_by_hop_only_comes_first() {
    let first = [60, 0, 1, 4, 0, 0, 0, 0];
    let second = [TCP, 0, 1, 4, 0, 0, 0, 0];
    assert_eq!(
        walk(HBH, &[first, second].concat()),
        upper(IpProtocol::TCP, 16)
    );
    let first = [0, 0, 1, 4, 0, 0, 0, 0];
    assert_eq!(walk(DST, &[first, second].concat()), problem(1, 40));
    assert_eq!(walk(HBH, &[first, second].concat()), problem(1, 40));
}

#[test]
fn routing_headers() {
    assert_eq!(
        walk(RTG, &[TCP, 0, 0, 0, 0, 0, 0, 0]),
        upper(IpProtocol::TCP, 8)
    );
    assert_eq!(walk(RTG, &[TCP, 0, 0, 1, 0, 0, 0, 0]), problem(0, 42));
}

#[test]
fn fragments() {
    let fragment = |offset, more| Fragment {
        id: 0x0102_0304,
        offset,
        more,
    };
    for (word, f) in [
        ([0, 1], fragment(0, true)),
        ([0, 8], fragment(1, false)),
        ([0xff, 0xf9], fragment(0x1fff, true)),
    ] {
        let header = [TCP, 0xaa, word[0], word[1], 1, 2, 3, 4];
        assert_eq!(
            walk(FRG, &header),
            Ok(UpperLayer {
                protocol: FRG,
                at: 0,
                next_header_at: 6,
                fragment: Some(f)
            }),
            "the walk stops in front of what may be anything"
        );
    }
    let atomic = [TCP, 0xaa, 0, 0, 1, 2, 3, 4];
    assert_eq!(
        walk(FRG, &atomic),
        Ok(UpperLayer {
            protocol: IpProtocol::TCP,
            at: 8,
            next_header_at: 40,
            fragment: Some(fragment(0, false))
        })
    );
}

#[test]
fn truncated_headers() {
    let header = [TCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        walk(DST, &header).map(|u| (u.at, u.next_header_at)),
        Ok((16, 40))
    );
    for len in 0..header.len() {
        assert_eq!(walk(DST, &header[..len]), Err(ExtensionError::Truncated));
    }
}

#[test]
fn headers_and_options_are_limited() {
    let chain = |n: usize| {
        let mut b = [60, 0, 1, 4, 0, 0, 0, 0].repeat(n);
        if let Some(last) = b.len().checked_sub(8) {
            b[last] = TCP;
        }
        b
    };
    assert_eq!(walk(DST, &chain(8)), upper(IpProtocol::TCP, 64));
    assert_eq!(walk(DST, &chain(9)), Err(ExtensionError::TooMany));
    let mut pads = [0; 2048];
    pads[..2].copy_from_slice(&[TCP, 255]);
    assert_eq!(walk(DST, &pads), Err(ExtensionError::TooMany));
}

prop_compose! {
    fn header()(
        src: [u8; 16], dst: [u8; 16], next: u8, hop_limit: u8, class: u8, label: u32,
        payload_len: u16,
    ) -> Ipv6Header {
        Ipv6Header {
            src: src.into(),
            dst: dst.into(),
            next_header: IpProtocol(next),
            hop_limit,
            class: TrafficClass(class),
            flow_label: FlowLabel::from_bits(label),
            payload_len,
        }
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn emit_then_parse(h in header()) {
        let mut out = [0; 44];
        prop_assert_eq!(h.emit(&mut out), 40);
        prop_assert_eq!(Ipv6View::parse(&out), Ok((h, 40)));
    }

    #[test]
    fn parse_then_emit(mut bytes in prop::collection::vec(any::<u8>(), 0..64), force: bool) {
        if force && !bytes.is_empty() {
            bytes[0] = 0x60 | bytes[0] & 15;
        }
        if let Ok((h, len)) = Ipv6View::parse(&bytes) {
            let mut out = [0; 40];
            h.emit(&mut out);
            prop_assert_eq!(&out[..], &bytes[..len]);
        }
    }

    #[test]
    fn walks_over_anything(
        first in prop::sample::select(vec![0u8, 6, 43, 44, 60]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        kinds in prop::collection::vec(prop::sample::select(vec![0u8, 43, 44, 60, 6]), 50),
    ) {
        // Headers of eight bytes one behind another, with plausible kinds.
        for (header, kind) in bytes.chunks_mut(8).zip(kinds) {
            if header.len() >= 4 && header[3] & 1 == 0 {
                let len = header[1] & 1;
                header[..2].copy_from_slice(&[kind, len]);
            }
        }
        if let Ok(upper) = walk(IpProtocol(first), &bytes) {
            prop_assert!(upper.at <= bytes.len());
            if upper.fragment.is_none_or(|f| f.is_atomic()) {
                prop_assert!(![0, 43, 44, 60].contains(&upper.protocol.0));
            }
        }
    }
}

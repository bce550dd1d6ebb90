use lockgate_wire::tcp::TcpHeader;
use proptest::prelude::*;

use super::*;
use crate::testing::pair;
use crate::{FrameHeader, IpPair};

fn quoted(addrs: IpPair, protocol: IpProtocol) -> Vec<u8> {
    let tcp = TcpHeader {
        src_port: 443,
        dst_port: 50_000,
        seq: SeqNum(0x0102_0304),
        ..TcpHeader::default()
    };
    let header = FrameHeader::new(None, addrs, protocol, 1480);
    let mut out = vec![0; header.emitted_len() + 20];
    let at = header.emit(&mut out);
    tcp.emit(&mut out[at..]);
    out.truncate(at + 8);
    out
}

const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn v4() -> Vec<u8> {
    quoted(pair("10.0.0.1", "192.0.2.9"), IpProtocol::TCP)
}

fn v6() -> Vec<u8> {
    quoted(pair("2001:db8::1", "2001:db8:7::9"), IpProtocol::TCP)
}

fn unreachable_v4(code: u8, next_hop_mtu: u16, quoted: &[u8]) -> Option<IcmpErrorKind> {
    let m = Icmpv4Message::DestinationUnreachable {
        code,
        next_hop_mtu,
        quoted,
    };
    error_v4(OUR_V4, &m).map(|e| e.kind)
}

#[test]
fn the_quoted_segment_is_parsed() {
    let q = v4();
    let e = error_v4(
        OUR_V4,
        &Icmpv4Message::TimeExceeded {
            code: 0,
            quoted: &q,
        },
    )
    .unwrap();
    assert_eq!(e.flow.to_string(), "10.0.0.1:443 <-> 192.0.2.9:50000");
    assert_eq!(
        (e.seq, e.kind),
        (SeqNum(0x0102_0304), IcmpErrorKind::TimeExceeded)
    );
    let q = v6();
    let e = error_v6(
        OUR_V6,
        &Icmpv6Message::TimeExceeded {
            code: 0,
            quoted: &q,
        },
    )
    .unwrap();
    assert_eq!(
        e.flow.to_string(),
        "[2001:db8::1]:443 <-> [2001:db8:7::9]:50000"
    );
}

#[test]
fn kinds_v4() {
    let q = v4();
    for (code, hard) in [
        (0, false),
        (1, false),
        (2, true),
        (3, true),
        (5, false),
        (13, true),
    ] {
        let kind = Some(IcmpErrorKind::Unreachable { code, hard });
        assert_eq!(unreachable_v4(code, 0, &q), kind);
    }
    for (mtu, expected) in [(1400, 1400), (1, 68), (65_535, 65_535), (0, 1492)] {
        assert_eq!(
            unreachable_v4(4, mtu, &q),
            Some(IcmpErrorKind::TooBig(expected))
        );
    }
    let m = Icmpv4Message::ParameterProblem {
        code: 0,
        pointer: 3,
        quoted: &q,
    };
    assert_eq!(
        error_v4(OUR_V4, &m).unwrap().kind,
        IcmpErrorKind::ParameterProblem
    );
}

#[test]
fn kinds_v6() {
    let q = v6();
    for (code, hard) in [(0, false), (1, true), (3, false), (4, true)] {
        let m = Icmpv6Message::DestinationUnreachable { code, quoted: &q };
        let kind = IcmpErrorKind::Unreachable { code, hard };
        assert_eq!(error_v6(OUR_V6, &m).unwrap().kind, kind);
    }
    for (mtu, kind) in [
        (1400, Some(IcmpErrorKind::TooBig(1400))),
        (1280, Some(IcmpErrorKind::TooBig(1280))),
        (1279, None),
        (0, None),
        (u32::MAX, Some(IcmpErrorKind::TooBig(u16::MAX))),
    ] {
        let m = Icmpv6Message::PacketTooBig { mtu, quoted: &q };
        assert_eq!(error_v6(OUR_V6, &m).map(|e| e.kind), kind, "{mtu}");
    }
}

#[test]
fn plateaus() {
    for (total, mtu) in [
        (65_535, 32_000),
        (9000, 8166),
        (1500, 1492),
        (1492, 1006),
        (68, 68),
        (20, 68),
    ] {
        assert_eq!(plateau_below(total), mtu, "{total}");
    }
}

#[test]
fn errors_about_packets_of_others() {
    let tcp = IpProtocol::TCP;
    let short = v4();
    let mut fragment = v4();
    fragment[7] = 1;
    for q in [
        quoted(pair("10.0.0.2", "192.0.2.9"), tcp),
        quoted(pair("10.0.0.1", "192.0.2.9"), IpProtocol::UDP),
        short[..27].to_vec(),
        short[..19].to_vec(),
        fragment,
        vec![],
        v6(),
    ] {
        assert_eq!(unreachable_v4(3, 0, &q), None, "{q:?}");
    }
    for q in [
        quoted(pair("2001:db8::2", "2001:db8:7::9"), tcp),
        quoted(pair("2001:db8::1", "2001:db8:7::9"), IpProtocol::UDP),
        v6()[..47].to_vec(),
        v4(),
    ] {
        let m = Icmpv6Message::DestinationUnreachable {
            code: 4,
            quoted: &q,
        };
        assert_eq!(error_v6(OUR_V6, &m), None, "{q:?}");
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn any_quotation(
        mut quoted in prop::collection::vec(any::<u8>(), 0..80), code: u8, mtu: u16, v: bool,
    ) {
        if let Some(first) = quoted.first_mut() {
            *first = if v { 0x45 } else { 0x60 };
        }
        unreachable_v4(code, mtu, &quoted);
        let m = Icmpv6Message::PacketTooBig { mtu: mtu.into(), quoted: &quoted };
        error_v6(OUR_V6, &m);
    }
}

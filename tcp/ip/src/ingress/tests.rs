use lockgate_wire::arp::Operation;
use lockgate_wire::ethernet::EthernetHeader;
use lockgate_wire::ip::Ecn;
use lockgate_wire::ipv4::{Fragment, Ipv4Header};
use proptest::prelude::*;

use super::*;
use crate::testing::*;
use crate::{FrameHeader, IpLayer, LinkHeader};

const TCP: IpProtocol = IpProtocol::TCP;

fn classify_on(on: IfaceId, frame: &[u8]) -> Ingress {
    classify(host().interfaces(), on, frame, &meta(frame))
}

fn drop_reason(frame: &[u8]) -> DropReason {
    let got = classify_on(ETH, frame);
    let Ingress::Drop(reason) = got else {
        panic!("{got:?}")
    };
    reason
}

fn v4_header(src: &str, dst: &str) -> Ipv4Header {
    Ipv4Header {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol: TCP,
        ttl: 64,
        class: TrafficClass::new(0, Ecn::Ce),
        id: 0,
        dont_fragment: true,
        fragment: Fragment::WHOLE,
        payload_len: 20,
    }
}

/// A frame from the peer with this IPv4 header and 20 bytes.
fn v4_frame(header: &Ipv4Header) -> Vec<u8> {
    let mut out = vec![0; 54];
    let eth = EthernetHeader {
        dst: US,
        src: PEER,
        vlan: None,
        ethertype: EtherType::IPV4,
    };
    let at = eth.emit(&mut out);
    header.emit(&mut out[at..]);
    out
}

#[test]
fn a_segment_over_ipv4() {
    let mut frame = v4_frame(&v4_header("10.0.0.2", "10.0.0.1"));
    frame.extend_from_slice(&[0; 6]); // padding
    let Ingress::Tcp(p) = classify_on(ETH, &frame) else {
        panic!()
    };
    assert_eq!(p.addrs, pair("10.0.0.2", "10.0.0.1"));
    assert_eq!((p.iface, p.l3_at, p.l4_at, p.l4_len), (ETH, 14, 34, 20));
    assert_eq!(
        (p.class.ecn(), p.hop_limit, p.is_group),
        (Ecn::Ce, 64, false)
    );
}

#[test]
fn a_segment_over_ipv6() {
    let frame = from_peer("2001:db8::2", "2001:db8::1", TCP, &[0; 32]);
    let Ingress::Tcp(p) = classify_on(ETH, &frame) else {
        panic!()
    };
    assert_eq!(p.addrs, pair("2001:db8::2", "2001:db8::1"));
    assert_eq!((p.l3_at, p.l4_at, p.l4_len), (14, 54, 32));
}

#[test]
fn a_segment_behind_extension_headers() {
    let payload = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &[7; 20]].concat();
    let frame = from_peer(
        "2001:db8::2",
        "2001:db8::1",
        IpProtocol::DEST_OPTIONS,
        &payload,
    );
    let Ingress::Tcp(p) = classify_on(ETH, &frame) else {
        panic!()
    };
    assert_eq!((p.l4_at, p.l4_len, p.protocol), (62, 20, TCP));
}

#[test]
fn vlans_in_frames_and_from_nics() {
    let addrs = pair("10.42.0.2", "10.42.0.1");
    let tagged = |n| {
        packet(
            Some(LinkHeader {
                dst: US,
                src: PEER,
                vlan: Some(tag(n)),
            }),
            addrs,
            TCP,
            &[0; 20],
        )
    };
    let Ingress::Tcp(p) = classify_on(ETH, &tagged(42)) else {
        panic!()
    };
    assert_eq!((p.iface, p.l4_at), (VLAN, 38));
    assert_eq!(drop_reason(&tagged(43)), DropReason::NoInterface);
    // The VLAN's address isn't the port's.
    assert_eq!(drop_reason(&tagged(0)), DropReason::NotLocal);

    let plain = packet(link(PEER, US), addrs, TCP, &[0; 20]);
    let stripped = |vlan, frame: &[u8]| {
        let meta = FrameMeta {
            vlan: Some(vlan),
            ..meta(frame)
        };
        classify(host().interfaces(), ETH, frame, &meta)
    };
    let Ingress::Tcp(p) = stripped(42, &plain) else {
        panic!()
    };
    assert_eq!((p.iface, p.l4_at), (VLAN, 34));
    assert_eq!(
        stripped(0xfff, &plain),
        Ingress::Drop(DropReason::NoInterface)
    );
    assert_eq!(
        stripped(42, &tagged(42)),
        Ingress::Drop(DropReason::NoInterface)
    );
}

#[test]
fn without_a_link_layer() {
    let v4 = packet(None, pair("10.9.0.2", "10.9.0.1"), TCP, &[0; 20]);
    let v6 = packet(None, pair("2001:db8:9::2", "2001:db8:9::1"), TCP, &[0; 20]);
    assert!(matches!(classify_on(BARE, &v4), Ingress::Tcp(p) if p.l3_at == 0 && p.l4_at == 20));
    assert!(matches!(classify_on(BARE, &v6), Ingress::Tcp(p) if p.l4_at == 40));
    assert_eq!(
        classify_on(BARE, &[0x50; 40]),
        Ingress::Drop(DropReason::EtherType)
    );
    assert_eq!(classify_on(BARE, &[]), Ingress::Drop(DropReason::Truncated));
}

#[test]
fn link_layer_reasons() {
    let addrs = pair("10.0.0.2", "10.0.0.1");
    let via = |src, dst| packet(link(src, dst), addrs, TCP, &[0; 20]);
    assert_eq!(drop_reason(&via(PEER, OTHER)), DropReason::OtherStation);
    assert_eq!(
        drop_reason(&via(MacAddr::BROADCAST, US)),
        DropReason::LinkSource
    );
    assert_eq!(drop_reason(&via(MacAddr::ZERO, US)), DropReason::LinkSource);
    assert_eq!(drop_reason(&via(US, US)), DropReason::LinkSource);
    assert_eq!(
        drop_reason(&via(PEER, MacAddr::BROADCAST)),
        DropReason::LinkGroup
    );
    assert_eq!(
        drop_reason(&via(PEER, MacAddr([1, 0, 0x5e, 0, 0, 1]))),
        DropReason::LinkGroup
    );
    let v6 = packet(
        link(PEER, MacAddr::BROADCAST),
        pair("2001:db8::2", "2001:db8::1"),
        TCP,
        &[0; 20],
    );
    assert_eq!(drop_reason(&v6), DropReason::LinkGroup);
    let mut lldp = via(PEER, US);
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(drop_reason(&lldp), DropReason::EtherType);
    assert_eq!(
        classify_on(IfaceId(9), &lldp),
        Ingress::Drop(DropReason::NoInterface)
    );
}

#[test]
fn invalid_ipv4_sources() {
    for src in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "10.0.0.255",
        "10.0.0.0",
        "10.0.0.1",
        "10.42.0.1",
    ] {
        let frame = v4_frame(&v4_header(src, "10.0.0.1"));
        assert_eq!(drop_reason(&frame), DropReason::Martian, "{src}");
    }
}

#[test]
fn ipv4_destinations() {
    for (dst, reason) in [
        ("10.0.0.2", DropReason::NotLocal),
        ("10.42.0.1", DropReason::NotLocal), // ours, but on another interface
        ("127.0.0.1", DropReason::NotLocal),
        ("255.255.255.255", DropReason::Group),
        ("10.0.0.255", DropReason::Group),
        ("224.0.0.1", DropReason::Group),
    ] {
        let frame = v4_frame(&v4_header("10.0.0.2", dst));
        assert_eq!(drop_reason(&frame), reason, "{dst}");
    }
}

#[test]
fn ipv6_addresses() {
    let solicited = "ff02::1:ff00:1";
    for (src, dst, protocol, reason) in [
        ("::", "2001:db8::1", TCP, DropReason::Martian),
        ("::1", "2001:db8::1", TCP, DropReason::Martian),
        ("ff02::1", "2001:db8::1", TCP, DropReason::Martian),
        ("::ffff:10.0.0.2", "2001:db8::1", TCP, DropReason::Martian),
        ("2001:db8::1", "2001:db8::1", TCP, DropReason::Martian),
        ("2001:db8::2", "2001:db8::3", TCP, DropReason::NotLocal),
        ("2001:db8::2", "2001:db8:9::1", TCP, DropReason::NotLocal),
        ("2001:db8::2", "::1", TCP, DropReason::NotLocal),
        ("2001:db8::2", "ff02::2", TCP, DropReason::Group),
        (
            "2001:db8::2",
            "ff02::1:ff00:77",
            IpProtocol::ICMPV6,
            DropReason::Group,
        ),
        ("2001:db8::2", "ff02::1", TCP, DropReason::Group),
        ("2001:db8::2", solicited, IpProtocol::UDP, DropReason::Group),
        (
            "2001:db8::2",
            "2001:db8::1",
            IpProtocol::NO_NEXT,
            DropReason::Extensions,
        ),
    ] {
        assert_eq!(
            drop_reason(&from_peer(src, dst, protocol, &[0; 20])),
            reason,
            "{src} {dst}"
        );
    }
    for (src, dst) in [
        ("::", solicited),
        ("fe80::2", "ff02::1"),
        ("fe80::2", solicited),
    ] {
        let got = classify_on(ETH, &from_peer(src, dst, IpProtocol::ICMPV6, &[0; 24]));
        assert!(
            matches!(got, Ingress::Icmp(p) if p.is_group),
            "{src} {dst} {got:?}"
        );
    }
}

#[test]
fn lengths() {
    let good = v4_frame(&v4_header("10.0.0.2", "10.0.0.1"));
    assert!(matches!(classify_on(ETH, &good), Ingress::Tcp(_)));
    assert_eq!(drop_reason(&good[..53]), DropReason::Cut);
    assert_eq!(drop_reason(&good[..34]), DropReason::Cut);
    for len in 0..34 {
        assert_eq!(drop_reason(&good[..len]), DropReason::Truncated, "{len}");
    }
    // The rest may be in other fragments of the buffer.
    let whole = FrameMeta {
        len: 54,
        ..FrameMeta::default()
    };
    let got = classify(host().interfaces(), ETH, &good[..34], &whole);
    assert!(matches!(got, Ingress::Tcp(p) if p.l4_len == 20));

    let v6 = from_peer("2001:db8::2", "2001:db8::1", TCP, &[0; 20]);
    assert_eq!(drop_reason(&v6[..73]), DropReason::Cut);
    assert_eq!(drop_reason(&v6[..53]), DropReason::Truncated);
    // Extension headers that go on in the next fragment can't be followed.
    let ext = from_peer(
        "2001:db8::2",
        "2001:db8::1",
        IpProtocol::DEST_OPTIONS,
        &[0; 64],
    );
    let got = classify(host().interfaces(), ETH, &ext[..55], &meta(&ext));
    assert_eq!(got, Ingress::Drop(DropReason::Truncated));
}

#[test]
fn ipv4_header_reasons() {
    let good = v4_frame(&v4_header("10.0.0.2", "10.0.0.1"));
    let with = |at: usize, value: u8| {
        let mut f = good.clone();
        f[at] = value;
        f
    };
    assert_eq!(drop_reason(&with(14, 0x65)), DropReason::BadHeader);
    assert_eq!(drop_reason(&with(14, 0x44)), DropReason::BadHeader);
    assert_eq!(drop_reason(&with(17, 19)), DropReason::BadHeader);
    assert_eq!(drop_reason(&with(24, 0x55)), DropReason::BadChecksum);
    // Unless the NIC says that it's right.
    let meta = FrameMeta {
        ip_checksum_good: true,
        ..meta(&good)
    };
    let got = classify(host().interfaces(), ETH, &with(24, 0x55), &meta);
    assert!(matches!(got, Ingress::Tcp(_)));
}

#[test]
fn fragments_and_source_routes() {
    for (offset, more) in [(0, true), (1, false), (100, true)] {
        let fragment = Fragment::new(offset, more).unwrap();
        let header = Ipv4Header {
            fragment,
            ..v4_header("10.0.0.2", "10.0.0.1")
        };
        assert_eq!(drop_reason(&v4_frame(&header)), DropReason::Fragment);
    }
    let fragment = |flags| {
        let payload = [&[6, 0, 0, flags, 0, 0, 0, 1][..], &[0; 20]].concat();
        from_peer("2001:db8::2", "2001:db8::1", IpProtocol::FRAGMENT, &payload)
    };
    assert_eq!(drop_reason(&fragment(1)), DropReason::Fragment);
    assert!(
        matches!(classify_on(ETH, &fragment(0)), Ingress::Tcp(p) if p.l4_len == 20),
        "atomic"
    );

    let mut routed = v4_frame(&v4_header("10.0.0.2", "10.0.0.1"));
    routed[14] = 0x46;
    routed[34..38].copy_from_slice(&[131, 3, 4, 0]);
    routed[24..26].fill(0);
    let sum = lockgate_wire::checksum::of(&routed[14..38]);
    routed[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(drop_reason(&routed), DropReason::SourceRoute);
    // Other options are skipped.
    routed[34] = 7;
    routed[24..26].fill(0);
    let sum = lockgate_wire::checksum::of(&routed[14..38]);
    routed[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(
        matches!(classify_on(ETH, &routed), Ingress::Tcp(p) if (p.l4_at, p.l4_len) == (38, 16))
    );
}

#[test]
fn packets_to_reject() {
    let refusal = |frame: &[u8]| {
        let got = classify_on(ETH, frame);
        let Ingress::Reject(_, why) = got else {
            panic!("{got:?}")
        };
        why
    };
    let v4 = |protocol| from_peer("10.0.0.2", "10.0.0.1", protocol, &[0; 20]);
    let v6 = |protocol, payload: &[u8]| from_peer("2001:db8::2", "2001:db8::1", protocol, payload);
    assert_eq!(refusal(&v4(IpProtocol::UDP)), RejectReason::Port);
    assert_eq!(refusal(&v4(IpProtocol(132))), RejectReason::Protocol);
    assert_eq!(refusal(&v6(IpProtocol::UDP, &[0; 20])), RejectReason::Port);
    let problem = |code, pointer, even_if_multicast| {
        RejectReason::Parameter(ParameterProblem {
            code,
            pointer,
            even_if_multicast,
        })
    };
    assert_eq!(
        refusal(&v6(IpProtocol(132), &[0; 20])),
        problem(1, 6, false)
    );
    let ext = [&[132, 0, 1, 4, 0, 0, 0, 0][..], &[0; 20]].concat();
    assert_eq!(
        refusal(&v6(IpProtocol::DEST_OPTIONS, &ext)),
        problem(1, 40, false)
    );
    let option = [&[6, 0, 0xbe, 4, 0, 0, 0, 0][..], &[0; 20]].concat();
    assert_eq!(
        refusal(&v6(IpProtocol::DEST_OPTIONS, &option)),
        problem(2, 42, true)
    );
    let silent = [&[6, 0, 0x7e, 4, 0, 0, 0, 0][..], &[0; 20]].concat();
    assert_eq!(
        drop_reason(&v6(IpProtocol::DEST_OPTIONS, &silent)),
        DropReason::Extensions
    );
}

#[test]
fn arp_packets() {
    let p = arp(
        Operation::Request,
        (PEER, "10.0.0.2"),
        (MacAddr::ZERO, "10.0.0.1"),
    );
    let mut frame = arp_frame(MacAddr::BROADCAST, &p);
    assert_eq!(
        classify_on(ETH, &frame),
        Ingress::Arp(ArpIngress {
            iface: ETH,
            packet: p
        })
    );
    assert_eq!(drop_reason(&frame[..41]), DropReason::Truncated);
    frame[21] = 9;
    assert_eq!(drop_reason(&frame), DropReason::BadArp);
}

#[test]
fn every_drop_is_counted() {
    let mut host: IpLayer = host();
    let good = v4_frame(&v4_header("10.0.0.2", "10.0.0.1"));
    host.receive(ETH, &good, &meta(&good));
    host.receive(ETH, &good[..20], &meta(&good[..20]));
    host.receive(ETH, &good[..50], &meta(&good[..50]));
    host.receive(IfaceId(9), &good, &meta(&good));
    let c = host.counters();
    assert_eq!(c.tcp_in, 1);
    assert_eq!(
        (c.drops.truncated, c.drops.cut, c.drops.no_interface),
        (1, 1, 1)
    );
}

fn check(frame: &[u8], got: Ingress) {
    match got {
        Ingress::Tcp(p) | Ingress::Icmp(p) | Ingress::Reject(p, _) => {
            assert!(p.l3_at < p.l4_at || matches!(got, Ingress::Reject(..)));
            assert!(p.l4_at + p.l4_len <= frame.len());
        }
        Ingress::Arp(_) | Ingress::Drop(_) => {}
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200), on in 0u16..3,
        ethertype in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 0x8100]),
        vlan in prop::option::of(any::<u16>()),
    ) {
        if bytes.len() >= 15 {
            bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            bytes[14] = if ethertype == 0x86dd { 0x60 } else { 0x45 };
        }
        let meta = FrameMeta { vlan, ..meta(&bytes) };
        check(&bytes, classify(host().interfaces(), IfaceId(on), &bytes, &meta));
    }

    /// Good packets with a few bytes changed, and cut.
    #[test]
    fn near_misses(
        v6: bool, protocol in prop::sample::select(vec![0u8, 1, 6, 17, 43, 44, 58, 59, 60, 99]),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        changes in prop::collection::vec((0usize..100, any::<u8>()), 0..4), cut in 0usize..300,
        first in 0usize..200,
    ) {
        let (src, dst) = if v6 { ("2001:db8::2", "2001:db8::1") } else { ("10.0.0.2", "10.0.0.1") };
        let mut frame = from_peer(src, dst, IpProtocol(protocol), &payload);
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut);
        let meta = FrameMeta { ip_checksum_good: true, ..meta(&frame) };
        check(&frame, classify(host().interfaces(), ETH, &frame[..first.min(frame.len())], &meta));
        check(&frame, classify(host().interfaces(), ETH, &frame, &meta));
    }

    /// What we send is what we'd take.
    #[test]
    fn takes_what_the_builder_makes(v6: bool, len in 0u16..1400, class: u8, ttl: u8) {
        let (src, dst) = if v6 { ("2001:db8::2", "2001:db8::1") } else { ("10.0.0.2", "10.0.0.1") };
        let addrs = pair(src, dst);
        let header = FrameHeader {
            class: TrafficClass(class),
            hop_limit: ttl,
            ..FrameHeader::new(link(PEER, US), addrs, TCP, len)
        };
        let frame = frame(&header, &vec![0; usize::from(len)]);
        let Ingress::Tcp(p) = classify_on(ETH, &frame) else { panic!("not taken") };
        prop_assert_eq!(p.l4_at, header.emitted_len());
        prop_assert_eq!((p.l4_len, p.class.0, p.hop_limit), (usize::from(len), class, ttl));
    }
}

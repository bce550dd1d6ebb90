use proptest::prelude::*;

use super::*;

const SRC: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const DST: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
const TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

fn emit(m: &Icmpv6Message<'_>) -> Vec<u8> {
    let mut out = vec![0xee; m.emitted_len()];
    assert_eq!(m.emit(SRC, DST, &mut out), out.len());
    out
}

/// A message of these bytes, its checksum made right.
fn parse(bytes: &[u8]) -> Result<Icmpv6Message<'_>> {
    let bytes = Box::leak(bytes.to_vec().into_boxed_slice());
    if bytes.len() >= 4 {
        bytes[2..4].fill(0);
        let c = sum(SRC, DST, bytes).finish();
        bytes[2..4].copy_from_slice(&c.to_be_bytes());
    }
    Icmpv6Message::parse(SRC, DST, bytes)
}

fn solicitation(options: &[u8]) -> Vec<u8> {
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &TARGET.octets(), options].concat()
}

#[test]
fn neighbor_solicitation_bytes() {
    let m = Icmpv6Message::NeighborSolicitation {
        target: TARGET,
        source: Some(MAC),
    };
    let mut bytes = emit(&m);
    assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(m));
    bytes[2..4].fill(0);
    assert_eq!(bytes, solicitation(&[1, 1, 2, 0, 0, 0, 0, 7]));
}

#[test]
fn neighbor_advertisement_flags() {
    for bits in 0..8u8 {
        let m = Icmpv6Message::NeighborAdvertisement {
            target: TARGET,
            router: bits & 4 != 0,
            solicited: bits & 2 != 0,
            replaces: bits & 1 != 0,
            mac: Some(MAC),
        };
        let bytes = emit(&m);
        assert_eq!((bytes[4], &bytes[24..26]), (bits << 5, &[2, 1][..]));
        assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(m));
    }
}

#[test]
fn checksum_covers_addresses() {
    let bytes = emit(&Icmpv6Message::NeighborSolicitation {
        target: TARGET,
        source: None,
    });
    assert!(Icmpv6Message::parse(SRC, DST, &bytes).is_ok());
    assert_eq!(
        Icmpv6Message::parse(SRC, TARGET, &bytes),
        Err(ParseError::Checksum)
    );
}

#[test]
fn refused_neighbor_messages() {
    let with_code = |mut b: Vec<u8>| {
        b[1] = 1;
        b
    };
    let mut group = solicitation(&[]);
    group[8] = 0xff;
    for (bytes, error) in [
        (with_code(solicitation(&[])), ParseError::Field),
        (group, ParseError::Field),
        (solicitation(&[])[..23].to_vec(), ParseError::Truncated),
        // An option of length zero, one that overruns, half an option, addresses of other sizes.
        (solicitation(&[1, 0, 0, 0, 0, 0, 0, 0]), ParseError::Length),
        (
            solicitation(&[1, 2, 0, 0, 0, 0, 0, 0]),
            ParseError::Truncated,
        ),
        (solicitation(&[1]), ParseError::Truncated),
        (
            solicitation(&[&[1, 2][..], &[0; 14]].concat()),
            ParseError::Length,
        ),
        (
            solicitation(&[14, 1, 0, 0, 0, 0, 0, 0].repeat(33)),
            ParseError::Length,
        ),
    ] {
        assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
    }
    // Unknown options are skipped; the last of a kind counts.
    let options = [&[14, 1, 9, 9, 9, 9, 9, 9][..], &[1, 1, 2, 0, 0, 0, 0, 7]].concat();
    assert_eq!(
        parse(&solicitation(&options)),
        Ok(Icmpv6Message::NeighborSolicitation {
            target: TARGET,
            source: Some(MAC)
        })
    );
}

#[test]
fn router_advertisement_prefixes() {
    let prefix = |n: u16| PrefixInformation {
        prefix: Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0),
        len: 64,
        flags: 0xc0,
        valid_secs: 1000,
        preferred_secs: 500,
    };
    let ra = RouterAdvertisement {
        hop_limit: 64,
        flags: 0x40,
        lifetime_secs: 1800,
        reachable_ms: 30_000,
        retransmit_ms: 1_000,
        options: NdOptions {
            source: Some(MAC),
            target: None,
            mtu: Some(1500),
            prefixes: [
                Some(prefix(1)),
                Some(prefix(2)),
                Some(prefix(3)),
                Some(prefix(4)),
            ],
            prefixes_dropped: 0,
        },
    };
    let m = Icmpv6Message::RouterAdvertisement(ra);
    let mut bytes = emit(&m);
    assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(m));
    assert_eq!(bytes.len(), 8 + 8 + 8 + 8 + 4 * 32);
    // A fifth prefix is dropped and counted, one longer than an address refused.
    let last = bytes[bytes.len() - 32..].to_vec();
    bytes.extend_from_slice(&last);
    let mut dropped = ra;
    dropped.options.prefixes_dropped = 1;
    assert_eq!(
        parse(&bytes),
        Ok(Icmpv6Message::RouterAdvertisement(dropped))
    );
    assert_eq!(emit(&Icmpv6Message::RouterAdvertisement(dropped)), emit(&m));
    let at = bytes.len() - 30;
    bytes[at] = 129;
    assert_eq!(parse(&bytes), Err(ParseError::Field));
}

#[test]
fn short_and_unknown() {
    for len in 0..8 {
        assert_eq!(parse(&[0; 8][..len]), Err(ParseError::Truncated));
    }
    for (kind, code) in [
        (0, 0),
        (5, 0),
        (128, 1),
        (129, 1),
        (130, 0),
        (143, 0),
        (255, 0),
    ] {
        assert_eq!(
            parse(&[kind, code, 0, 0, 0, 0, 0, 0]),
            Err(ParseError::Unsupported)
        );
    }
}

#[test]
fn error_types() {
    assert!(is_error_type(1) && is_error_type(127) && is_error_type(137));
    assert!(!is_error_type(128) && !is_error_type(135));
}

fn mac() -> impl Strategy<Value = Option<MacAddr>> {
    prop::option::of(any::<[u8; 6]>().prop_map(MacAddr))
}

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u8; 16]>().prop_map(|mut a| {
        a[0] &= 0x7f;
        a.into()
    })
}

prop_compose! {
    fn prefix()(
        prefix: [u8; 16], len in 0u8..=128, flags: u8, valid_secs: u32, preferred_secs: u32,
    ) -> PrefixInformation {
        PrefixInformation { prefix: prefix.into(), len, flags, valid_secs, preferred_secs }
    }
}

prop_compose! {
    fn router()(
        hop_limit: u8, flags: u8, lifetime_secs: u16, reachable_ms: u32, retransmit_ms: u32,
        source in mac(), target in mac(), mtu in prop::option::of(any::<u32>()),
        list in prop::collection::vec(prefix(), 0..5),
    ) -> Icmpv6Message<'static> {
        let mut prefixes = [None; 4];
        for (place, p) in prefixes.iter_mut().zip(list) {
            *place = Some(p);
        }
        let options = NdOptions { source, target, mtu, prefixes, prefixes_dropped: 0 };
        Icmpv6Message::RouterAdvertisement(RouterAdvertisement {
            hop_limit, flags, lifetime_secs, reachable_ms, retransmit_ms, options,
        })
    }
}

fn discovery() -> impl Strategy<Value = Icmpv6Message<'static>> {
    prop_oneof![
        router(),
        mac().prop_map(|source| Icmpv6Message::RouterSolicitation { source }),
        (unicast(), mac())
            .prop_map(|(target, source)| Icmpv6Message::NeighborSolicitation { target, source }),
        (unicast(), mac(), any::<[bool; 3]>()).prop_map(
            |(target, mac, [router, solicited, replaces])| {
                Icmpv6Message::NeighborAdvertisement {
                    target,
                    router,
                    solicited,
                    replaces,
                    mac,
                }
            }
        ),
        (unicast(), unicast(), mac()).prop_map(|(target, destination, mac)| {
            Icmpv6Message::Redirect {
                target,
                destination,
                mac,
            }
        }),
    ]
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn emit_then_parse_discovery(m in discovery()) {
        prop_assert!(m.is_neighbor_discovery());
        let bytes = emit(&m);
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(m));
    }

    #[test]
    fn emit_then_parse(
        which in 0..6, a: u16, b: u16, code: u8, word: u32,
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let echo = Echo { ident: a, seq: b, data: &data };
        let quoted = &data[..];
        let m = match which {
            0 => Icmpv6Message::EchoRequest(echo),
            1 => Icmpv6Message::EchoReply(echo),
            2 => Icmpv6Message::DestinationUnreachable { code, quoted },
            3 => Icmpv6Message::PacketTooBig { mtu: word, quoted },
            4 => Icmpv6Message::TimeExceeded { code, quoted },
            _ => Icmpv6Message::ParameterProblem { code, pointer: word, quoted },
        };
        prop_assert!(!m.is_neighbor_discovery());
        let bytes = emit(&m);
        prop_assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(m));
    }

    #[test]
    fn parses_anything(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 128, 129, 133, 134, 135, 136, 137, 200]),
        option in 0u8..8, units in 0u8..5,
    ) {
        if bytes.len() >= 26 {
            bytes[..2].copy_from_slice(&[kind, 0]);
            let at = if kind == 133 { 8 } else if kind == 134 { 16 } else { 24 };
            bytes[at..at + 2].copy_from_slice(&[option, units]);
        }
        if let Ok(m) = parse(&bytes) {
            let again = emit(&m);
            prop_assert_eq!(Icmpv6Message::parse(SRC, DST, &again), Ok(m));
        }
    }
}

/// The bytes of one option, well-formed or nearly.
fn wire_option() -> impl Strategy<Value = Vec<u8>> {
    let option = |kind: u8, units: u8| {
        let body = prop::collection::vec(any::<u8>(), usize::from(units) * 8 - 2);
        body.prop_map(move |body| [&[kind, units][..], &body].concat())
    };
    let prefix = option(3, 4).prop_map(|mut prefix| {
        prefix[2] %= 129;
        prefix
    });
    prop_oneof![
        4 => prefix,
        2 => option(1, 1),
        2 => option(2, 1),
        2 => option(5, 1),
        1 => (any::<u8>(), 1u8..5).prop_flat_map(move |(kind, units)| option(kind, units)),
    ]
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn any_list_of_options_is_emitted_as_it_was_parsed(
        kind in 133u8..138, fixed in prop::collection::vec(any::<u8>(), 38),
        list in prop::collection::vec(wire_option(), 0..40),
    ) {
        let fixed_len = match kind {
            133 => 4,
            134 => 12,
            137 => 36,
            _ => 20,
        };
        let options = list.concat();
        let bytes = [&[kind, 0, 0, 0][..], &fixed[..fixed_len], &options].concat();
        if let Ok(m) = parse(&bytes) {
            prop_assert!(m.emitted_len() <= bytes.len(), "{} of {}", m.emitted_len(), bytes.len());
            let emitted = emit(&m);
            let again = Icmpv6Message::parse(SRC, DST, &emitted).unwrap();
            let (Icmpv6Message::RouterAdvertisement(mut ra), Icmpv6Message::RouterAdvertisement(b))
                = (m, again) else
            {
                prop_assert_eq!(again, m);
                return Ok(());
            };
            let sent = list.iter().filter(|option| option[0] == 3).count();
            let kept = ra.options.prefixes.iter().flatten().count();
            prop_assert_eq!(usize::from(ra.options.prefixes_dropped) + kept, sent);
            prop_assert!(kept == 4 || ra.options.prefixes_dropped == 0);
            ra.options.prefixes_dropped = 0;
            prop_assert_eq!(b, ra);
        }
    }
}

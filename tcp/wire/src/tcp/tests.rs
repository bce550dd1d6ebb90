use proptest::prelude::*;

use super::*;

const SYN: [u8; 40] = [
    0xc0, 0x01, 0x01, 0xbb, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0xbe, 0xef,
    0, 0, // Linux's options: MSS, SACK-permitted, timestamps, NOP, window scale
    2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7,
];

fn block(start: u32, len: u32) -> SackBlock {
    SackBlock::new(SeqNum(start), SeqNum(start) + len).unwrap()
}

/// A header whose option bytes are these, padded with zeroes (end of list).
fn parse_options(options: &[u8]) -> TcpOptions {
    let padded = options.len().next_multiple_of(4);
    let mut bytes = vec![0; 20 + padded];
    bytes[12] = u8::try_from((20 + padded) / 4).unwrap() << 4;
    bytes[20..20 + options.len()].copy_from_slice(options);
    TcpView::parse(&bytes).unwrap().0.options
}

fn emit(options: TcpOptions) -> Vec<u8> {
    let header = TcpHeader {
        options,
        ..TcpHeader::default()
    };
    let mut out = [0xff; 64];
    let len = header.emit(&mut out);
    assert_eq!(len, header.emitted_len());
    assert_eq!(usize::from(out[12] >> 4) * 4, len);
    assert!(out[len..].iter().all(|b| *b == 0xff));
    out[20..len].to_vec()
}

#[test]
fn linux_syn() {
    let (h, len) = TcpView::parse(&SYN).unwrap();
    assert_eq!(len, 40);
    assert_eq!((h.src_port, h.dst_port), (49153, 443));
    assert_eq!((h.seq, h.ack), (SeqNum(0x1122_3344), SeqNum(0)));
    assert_eq!(h.flags, Flags::SYN);
    assert_eq!((h.window, h.urgent), (64240, 0));
    assert_eq!(
        h.options,
        TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { val: 9, ecr: 0 }),
            sack: SackList::EMPTY,
        }
    );
    // And the same bytes go out, but for the checksum.
    let mut out = [0; 40];
    h.emit(&mut out);
    let mut expected = SYN;
    expected[16..18].fill(0);
    assert_eq!(out, expected);
    assert_eq!(TcpView::new(&SYN).unwrap().checksum(), 0xbeef);
    assert_eq!(SYN[CHECKSUM_AT], 0xbe);
}

#[test]
fn invalid_lengths() {
    for len in 0..40 {
        assert_eq!(
            TcpView::parse(&SYN[..len]),
            Err(ParseError::Truncated),
            "{len}"
        );
    }
    let mut bytes = SYN;
    bytes[12] = 0x40;
    assert_eq!(TcpView::parse(&bytes), Err(ParseError::Length));
    bytes[12] = 0xb0;
    assert_eq!(TcpView::parse(&bytes), Err(ParseError::Truncated));
    bytes[12] = 0x5f; // reserved bits don't matter
    assert_eq!(
        TcpView::parse(&bytes).map(|(h, len)| (h.options, len)),
        Ok((TcpOptions::NONE, 20))
    );
}

#[test]
fn emitted_options() {
    let ts = Some(Timestamps { val: 1, ecr: 2 });
    let ts_bytes = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let none = TcpOptions::NONE;
    assert_eq!(emit(none), []);
    assert_eq!(
        emit(TcpOptions {
            mss: Some(1220),
            ..none
        }),
        [2, 4, 4, 0xc4]
    );
    assert_eq!(
        emit(TcpOptions {
            sack_permitted: true,
            ..none
        }),
        [1, 1, 4, 2]
    );
    assert_eq!(
        emit(TcpOptions {
            window_scale: Some(9),
            ..none
        }),
        [1, 3, 3, 9]
    );
    assert_eq!(
        emit(TcpOptions {
            window_scale: Some(15),
            ..none
        }),
        [1, 3, 3, 14]
    );
    assert_eq!(
        emit(TcpOptions {
            timestamps: ts,
            ..none
        }),
        [&[1, 1][..], &ts_bytes].concat()
    );
    assert_eq!(
        emit(TcpOptions {
            timestamps: ts,
            sack_permitted: true,
            ..none
        }),
        [&[4, 2][..], &ts_bytes].concat()
    );
    let sack = SackList::from_iter([block(0x01020304, 1)]);
    assert_eq!(
        emit(TcpOptions { sack, ..none }),
        [1, 1, 5, 10, 1, 2, 3, 4, 1, 2, 3, 5]
    );
}

#[test]
fn sack_blocks_are_trimmed_to_the_room() {
    let sack = SackList::from_iter((1..=4).map(|n| block(n * 100, 10)));
    assert_eq!(sack.len(), 4);
    let ts = Some(Timestamps::default());
    let none = TcpOptions::NONE;
    for (options, blocks, len) in [
        (TcpOptions { sack, ..none }, 4, 36),
        (
            TcpOptions {
                sack,
                timestamps: ts,
                ..none
            },
            3,
            40,
        ),
        (
            TcpOptions {
                sack,
                timestamps: ts,
                mss: Some(1),
                ..none
            },
            // Two if each option were aligned.
            3,
            40,
        ),
        (
            TcpOptions {
                sack,
                mss: Some(1),
                sack_permitted: true,
                ..none
            },
            4,
            40,
        ),
        (
            TcpOptions {
                sack,
                mss: Some(1),
                window_scale: Some(1),
                ..none
            },
            3,
            36,
        ),
        (
            TcpOptions {
                sack,
                mss: Some(1),
                ..none
            },
            4,
            40,
        ),
        (
            TcpOptions {
                sack,
                timestamps: ts,
                mss: Some(1),
                window_scale: Some(1),
                sack_permitted: true,
            },
            2,
            40,
        ),
    ] {
        assert_eq!(options.sack_room(), blocks);
        assert_eq!(options.emitted_len(), len);
        let parsed = parse_options(&emit(options));
        assert_eq!(parsed.sack, sack.iter().take(blocks).collect());
    }
}

#[test]
fn sack_list_is_bounded() {
    let mut list = SackList::EMPTY;
    assert!(list.is_empty());
    for n in 0..4 {
        assert!(list.push(block(n, 1)));
    }
    assert!(!list.push(block(9, 1)));
    assert_eq!(
        list.iter().map(|b| b.start.0).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(SackBlock::new(SeqNum(5), SeqNum(5)), None);
    assert_eq!(SackBlock::new(SeqNum(6), SeqNum(5)), None);
}

#[test]
fn unknown_and_misshapen_options_are_skipped() {
    let mss = TcpOptions {
        mss: Some(1460),
        ..TcpOptions::NONE
    };
    for (bytes, expected) in [
        // Unknown kinds before a known one.
        (&[99, 4, 1, 2, 2, 4, 5, 0xb4][..], mss),
        (&[99, 2, 254, 3, 7, 2, 4, 5, 0xb4], mss),
        // Nothing counts behind the end of the list.
        (&[0, 2, 4, 5, 0xb4], TcpOptions::NONE),
        (&[2, 4, 5, 0xb4, 0, 3, 3, 7], mss),
        // Lengths 0 and 1, and a length beyond the header, end the reading.
        (&[2, 4, 5, 0xb4, 99, 0, 3, 3, 7], mss),
        (&[2, 4, 5, 0xb4, 99, 1, 3, 3, 7], mss),
        (&[2, 4, 5, 0xb4, 3, 9, 7, 0], mss),
        (&[1, 1, 1, 2], TcpOptions::NONE),
        // Known kinds of wrong lengths.
        (&[3, 4, 7, 7, 2, 4, 5, 0xb4], mss),
        (&[4, 3, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4], mss),
        (&[2, 3, 5, 2, 4, 5, 0xb4], mss),
        (&[5, 11, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 4, 5, 0xb4], mss),
        (&[5, 2, 2, 4, 5, 0xb4], mss),
        // A segment size of zero, and one that is repeated.
        (&[2, 4, 0, 0], TcpOptions::NONE),
        (&[2, 4, 1, 1, 2, 4, 5, 0xb4], mss),
        // An excessive window scale.
        (
            &[3, 3, 200],
            TcpOptions {
                window_scale: Some(14),
                ..TcpOptions::NONE
            },
        ),
        // Empty and backward SACK blocks vanish.
        (
            &[
                5, 26, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 8,
            ],
            TcpOptions {
                sack: SackList::from_iter([block(7, 1)]),
                ..TcpOptions::NONE
            },
        ),
    ] {
        assert_eq!(parse_options(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn flags() {
    let f = Flags::SYN | Flags::ACK;
    assert!(f.contains(Flags::SYN) && f.contains(Flags::ACK) && !f.contains(Flags::FIN));
    assert!(f.intersects(Flags::ACK | Flags::RST) && !f.intersects(Flags::RST));
    assert!(!f.contains(Flags::SYN | Flags::RST));
    assert_eq!(f.without(Flags::ACK), Flags::SYN);
    assert_eq!(format!("{f:?} {:?}", Flags(0xff)), "[S.] [FSRPUEW.]");
}

fn blocks() -> impl Strategy<Value = SackList> {
    prop::collection::vec((any::<u32>(), 1u32..1 << 31), 0..5).prop_map(|v| {
        v.into_iter()
            .map(|(start, len)| block(start, len))
            .collect()
    })
}

prop_compose! {
    fn options()(
        mss in prop::option::of(1u16..), window_scale in prop::option::of(0u8..=14),
        sack_permitted: bool, timestamps in prop::option::of(any::<(u32, u32)>()), sack in blocks(),
    ) -> TcpOptions {
        let timestamps = timestamps.map(|(val, ecr)| Timestamps { val, ecr });
        TcpOptions { mss, window_scale, sack_permitted, timestamps, sack }
    }
}

prop_compose! {
    fn header()(
        src_port: u16, dst_port: u16, seq: u32, ack: u32, flags: u8, window: u16, urgent: u16,
        options in options(),
    ) -> TcpHeader {
        TcpHeader {
            src_port, dst_port, seq: SeqNum(seq), ack: SeqNum(ack), flags: Flags(flags), window,
            urgent, options,
        }
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn emit_then_parse(h in header()) {
        let mut out = [0xff; 60];
        let len = h.emit(&mut out);
        prop_assert!(len <= 60 && len % 4 == 0);
        let mut expected = h;
        expected.options.sack = h.options.sack.iter().take(h.options.sack_room()).collect();
        prop_assert_eq!(TcpView::parse(&out), Ok((expected, len)));
    }

    #[test]
    fn parse_then_emit_then_parse(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        words in 5u8..16,
        kinds in prop::collection::vec(0u8..9, 40),
    ) {
        if bytes.len() >= 20 {
            bytes[12] = words << 4;
            // Bytes that are likely to be options' kinds and lengths.
            for (b, k) in bytes[20..].iter_mut().zip(kinds) {
                *b = if *b & 1 == 0 { k } else { *b };
            }
        }
        if let Ok((h, len)) = TcpView::parse(&bytes) {
            prop_assert!(len <= bytes.len());
            assert_emits(&h, len)?;
        }
    }

    #[test]
    fn any_list_of_options_is_emitted_as_it_was_parsed(
        list in prop::collection::vec(wire_option(), 0..12), shuffle: u64,
    ) {
        let mut list = list;
        if shuffle & 1 == 0 {
            // One of each kind, so that headers are full.
            let mut seen = 0u64;
            list.retain(|option| {
                let bit = 1 << (option[0] & 63);
                let is_new = seen & bit == 0;
                seen |= bit;
                is_new
            });
        }
        let mut options = Vec::new();
        for option in list {
            if options.len() + option.len() <= 40 {
                options.extend_from_slice(&option);
            }
        }
        let len = 20 + options.len().next_multiple_of(4);
        let mut bytes = vec![0; len];
        bytes[12] = u8::try_from(len / 4).unwrap() << 4;
        bytes[20..20 + options.len()].copy_from_slice(&options);
        let (h, parsed_len) = TcpView::parse(&bytes).unwrap();
        prop_assert_eq!(parsed_len, len);
        prop_assert_eq!(h.options.sack_room(), h.options.sack.len());
        assert_emits(&h, len)?;
    }
}

/// Checks that a header that was parsed from `len` bytes goes into a header again, unchanged.
fn assert_emits(h: &TcpHeader, len: usize) -> Result<(), TestCaseError> {
    let mut out = [0xff; 64];
    let emitted = h.emit(&mut out);
    prop_assert_eq!(emitted, h.emitted_len());
    prop_assert!(
        emitted <= MAX_HEADER_LEN && emitted.is_multiple_of(4),
        "{emitted} of {len}"
    );
    prop_assert!(out[emitted..].iter().all(|b| *b == 0xff));
    prop_assert_eq!(TcpView::parse(&out[..emitted]), Ok((*h, emitted)));
    Ok(())
}

/// The bytes of one option, well-formed or nearly.
fn wire_option() -> impl Strategy<Value = Vec<u8>> {
    let body = |kind: u8, len: usize| {
        prop::collection::vec(any::<u8>(), len).prop_map(move |body| {
            let len = u8::try_from(2 + body.len()).unwrap();
            [&[kind, len][..], &body].concat()
        })
    };
    // Blocks whose ends are after their starts.
    let sack = prop::collection::vec((any::<u32>(), 1u32..1 << 31), 0..5).prop_map(|blocks| {
        let len = u8::try_from(2 + 8 * blocks.len()).unwrap();
        let mut option = vec![5, len];
        for (start, len) in blocks {
            option.extend_from_slice(&start.to_be_bytes());
            option.extend_from_slice(&start.wrapping_add(len).to_be_bytes());
        }
        option
    });
    prop_oneof![
        3 => sack,
        2 => body(2, 2),
        2 => body(3, 1),
        2 => body(4, 0),
        2 => body(8, 8),
        1 => Just(vec![1]),
        1 => (6u8..=255, 0usize..6).prop_flat_map(move |(kind, len)| body(kind, len)),
    ]
}

/// A header that a fuzzer found: 40 bytes of options, of which none are padding.
#[test]
fn a_header_full_of_options_is_emitted_whole() {
    let mut bytes = vec![0; 60];
    bytes[12] = 0xf0;
    bytes[20..26].copy_from_slice(&[5, 34, 0, 0, 0, 1]);
    let blocks = [(1, 2), (10, 20), (100, 200), (0xffff_fff0, 16)];
    for (at, (start, end)) in (22..).step_by(8).zip(blocks) {
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(start));
        bytes[at + 4..at + 8].copy_from_slice(&u32::to_be_bytes(end));
    }
    bytes[54..60].copy_from_slice(&[4, 2, 2, 4, 0x05, 0xb4]);
    let (h, len) = TcpView::parse(&bytes).unwrap();
    assert_eq!(len, 60);
    assert!(h.options.sack_permitted);
    assert_eq!((h.options.mss, h.options.sack.len()), (Some(1460), 4));
    assert_eq!((h.options.emitted_len(), h.options.sack_room()), (40, 4));
    let mut out = [0xff; 60];
    assert_eq!(h.emit(&mut out), 60);
    assert_eq!(TcpView::parse(&out), Ok((h, 60)));
    // In our order, without padding.
    assert_eq!(out[20..26], [2, 4, 0x05, 0xb4, 4, 2]);
    assert_eq!(out[26..60], bytes[20..54]);
}

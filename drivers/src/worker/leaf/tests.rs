//! What a port segments, and in which pieces it gets the payload.

use pktbuf::{L4, PageBuf, PagePool, PoolConfig, Region, TxMeta};

use super::*;

/// A port without limits.
fn any_port() -> Capabilities {
    Capabilities {
        multi_segs: true,
        tx_csum: true,
        tso: true,
        tx_pieces_max: 32,
        tx_piece_len_max: u32::MAX,
        tso_mss_min: 1,
        tso_mss_max: u16::MAX,
        tso_frames_max: u16::MAX,
        tso_frame_len_max: u16::MAX,
        ..Capabilities::default()
    }
}

fn pool() -> PagePool {
    let config = PoolConfig {
        blocks: 16,
        small_spans: 16,
        large_spans: 8,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).expect("memory");
    PagePool::new(&mut region, config).expect("a pool fits")
}

fn filled(pool: &mut PagePool, len: u32) -> PageBuf {
    let mut page = pool.alloc(len).expect("a page buffer is free");
    let bytes: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0]).collect();
    assert_eq!(page.append(&bytes), bytes.len());
    page
}

fn whole(page: &PageBuf) -> Slice<'_> {
    Slice {
        buf: page,
        at: 0,
        len: page.len(),
    }
}

/// Each limit of a port alone makes the stack segment a packet that exceeds it.
#[test]
fn a_packet_beyond_a_limit_is_segmented_in_software() {
    let mut pool = pool();
    let page = filled(&mut pool, 16_400);
    let payload = [whole(&page), whole(&page)];
    let cuts_for = |ipv6, caps: &Capabilities, mss: u16| {
        let head = Headers::new(14, 20, 20);
        let meta = TxMeta {
            mss,
            protocol: L4::Tcp,
            ipv6,
            ..TxMeta::default()
        };
        let packet = Packet {
            head: &head,
            payload: &payload,
            meta,
        };
        port_cuts(caps, &packet, 54 + usize::from(mss))
    };
    let cuts = |caps: &Capabilities, mss| cuts_for(false, caps, mss);
    let any = any_port();
    let ipv4_only = Capabilities {
        tso_ipv4_only: true,
        ..any
    };
    assert!(cuts_for(true, &any, 1448) && cuts(&ipv4_only, 1448));
    assert!(!cuts_for(true, &ipv4_only, 1448));
    assert!(cuts(&any, 88) && cuts(&any, 1448) && cuts(&any, 16_000));
    let mss = Capabilities {
        tso_mss_min: 256,
        tso_mss_max: 9216,
        ..any
    };
    assert!(!cuts(&mss, 255) && cuts(&mss, 256) && cuts(&mss, 9216) && !cuts(&mss, 9217));
    let segments = |tx_pieces_max, tx_piece_len_max| Capabilities {
        tx_pieces_max,
        tx_piece_len_max,
        ..any
    };
    assert!(cuts(&segments(2, 16_400), 1448));
    assert!(!cuts(&segments(3, 16_399), 1448) && cuts(&segments(4, 16_399), 1448));
    let frames = Capabilities {
        tso_frames_max: 23,
        ..any
    };
    assert!(cuts(&frames, 1448) && !cuts(&frames, 1400));
    let long = Capabilities {
        tso_frame_len_max: 1500,
        ..any
    };
    assert!(cuts(&long, 1446) && !cuts(&long, 1447));
    for never in [
        Capabilities { tso: false, ..any },
        Capabilities {
            tx_csum: false,
            ..any
        },
    ] {
        assert!(!cuts(&never, 1448));
    }
}

/// A descriptor of vmxnet3 holds 14 bits of length, and a record of TLS is longer.
#[test]
fn a_long_piece_is_split_and_each_part_holds_a_reference() {
    let mut pool = pool();
    let page = filled(&mut pool, 16_400);
    let short = filled(&mut pool, 100);
    let mut backlog = Backlog::new();
    let port = PortOffloads {
        piece_len_max: 16_383,
        ..PortOffloads::default()
    };
    let head = Headers::new(14, 20, 20);
    let payload = [whole(&page).part(3, u32::MAX), whole(&page), whole(&short)];
    backlog.push(&head, &payload, port).expect("there is room");
    let (frames, list) = backlog.described();
    let found: Vec<_> = list.iter().map(|p| (p.addr as usize, p.len)).collect();
    let at = page.bytes().expect("it is plain").as_ptr() as usize;
    let other = short.bytes().expect("it is plain").as_ptr() as usize;
    let expected = [
        (at + 3, 16_383),
        (at + 3 + 16_383, 14),
        (at, 16_383),
        (at + 16_383, 17),
        (other, 100),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        (frames[0].pieces, frames[0].payload_len),
        (5, 16_397 + 16_400 + 100)
    );
    // Every reference comes back.
    drop((page, short));
    drop(backlog);
    pool.reclaim();
    assert!(pool.is_full());
}

/// A port that completes the IPv4 checksum expects an empty field; another one updates what is
/// there.
#[test]
fn the_ipv4_checksum_is_left_to_ports_that_complete_it() {
    for completes in [false, true] {
        let mut backlog = Backlog::new();
        let mut head = Headers::new(14, 20, 20);
        head.l3_mut()[10..12].copy_from_slice(&[0x12, 0x34]);
        let port = PortOffloads {
            checksum: true,
            ip_checksum: completes,
            segments: 1448,
            ..PortOffloads::default()
        };
        backlog.push(&head, &[], port).expect("there is room");
        let frame = &backlog.described().0[0];
        let asked = u32::from(frame.flags) & dpdk_sys::LG_TX_IP_CSUM != 0;
        assert_eq!(asked, completes);
        let field = &frame.head[14 + 10..14 + 12];
        assert_eq!(field, if completes { [0, 0] } else { [0x12, 0x34] });
    }
}

use core::net::{Ipv4Addr, Ipv6Addr};

use lockgate_testing::proptest_config;
use lockgate_wire::checksum;
use lockgate_wire::ip::IpProtocol;
use proptest::prelude::*;

use super::*;
use crate::block::RecordFields;
use crate::packet::{TxError, TxMeta, copy_frame};
use crate::page::PageBuf;
use crate::pool::{PagePool, PoolConfig};
use crate::region::Region;

const SRC4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const DST4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
const DST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 2);
const ALL: u8 = FIN | PSH | CWR | 0x10;

fn pool() -> PagePool {
    let config = PoolConfig {
        blocks: 64,
        small_spans: 64,
        large_spans: 8,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    PagePool::new(&mut region, config).unwrap()
}

fn page(pool: &mut PagePool, bytes: &[u8]) -> PageBuf {
    let mut page = pool.alloc(u32::try_from(bytes.len()).unwrap()).unwrap();
    page.append(bytes);
    page
}

fn all(pages: &[PageBuf]) -> Vec<Slice<'_>> {
    pages
        .iter()
        .map(|buf| Slice {
            buf,
            at: 0,
            len: buf.len(),
        })
        .collect()
}

fn pseudo(ipv6: bool, len: u32) -> Sum {
    if ipv6 {
        Sum::pseudo_v6(SRC6, DST6, IpProtocol(6), len)
    } else {
        Sum::pseudo_v4(SRC4, DST4, IpProtocol(6), len)
    }
}

/// Headers as the stack gives them: everything right for the whole payload, the TCP checksum field
/// with the pseudo-header's sum.
fn headers(ipv6: bool, vlan: bool, options: u8, payload: usize) -> Headers {
    let (l3, l4) = (if ipv6 { 40 } else { 20 }, 20 + 4 * options);
    let mut h = Headers::new(if vlan { 18 } else { 14 }, l3, l4);
    h.l2_mut().fill(0xee);
    let tcp_len = usize::from(l4) + payload;
    let ip = h.l3_mut();
    if ipv6 {
        ip[0] = 0x60;
        write_u16(ip, IPV6_PAYLOAD_LEN, u16::try_from(tcp_len).unwrap());
        ip[6] = 6;
        ip[8..24].copy_from_slice(&SRC6.octets());
        ip[24..40].copy_from_slice(&DST6.octets());
    } else {
        ip[0] = 0x45;
        write_u16(ip, IPV4_TOTAL_LEN, u16::try_from(20 + tcp_len).unwrap());
        write_u16(ip, IPV4_ID, 0xffff);
        ip[9] = 6;
        ip[12..16].copy_from_slice(&SRC4.octets());
        ip[16..20].copy_from_slice(&DST4.octets());
        let sum = checksum::of(ip);
        write_u16(ip, IPV4_CHECKSUM, sum);
    }
    let tcp = h.l4_mut();
    tcp.fill(0x5a);
    tcp[TCP_SEQ..TCP_SEQ + 4].copy_from_slice(&0xffff_ff00u32.to_be_bytes());
    tcp[TCP_FLAGS] = ALL;
    write_u16(
        tcp,
        TCP_CHECKSUM,
        pseudo(ipv6, u32::try_from(tcp_len).unwrap()).fold(),
    );
    h
}

/// What a receiver checks.
fn assert_intact(frame: &[u8], l2: usize, ipv6: bool) {
    let ip = &frame[l2..];
    let tcp = if ipv6 {
        assert_eq!(usize::from(read_u16(ip, IPV6_PAYLOAD_LEN)), ip.len() - 40);
        &ip[40..]
    } else {
        assert_eq!(usize::from(read_u16(ip, IPV4_TOTAL_LEN)), ip.len());
        assert!(checksum::is_valid(&ip[..20]), "IPv4 header checksum");
        &ip[20..]
    };
    let mut sum = pseudo(ipv6, u32::try_from(tcp.len()).unwrap());
    sum.add(tcp);
    assert!(sum.is_valid(), "TCP checksum");
}

fn frames_of(packet: &Packet<'_>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let n = segment(packet, |head, payload| {
        finish_checksum(head, payload)?;
        let len: u32 = payload.iter().map(|s| s.len).sum();
        let mut frame = vec![0; head.len() + len as usize];
        assert_eq!(copy_frame(head, payload, &mut frame)?, len as usize);
        frames.push(frame);
        Ok::<(), TxError>(())
    })
    .unwrap();
    assert_eq!(
        (n as usize, super::frames(packet) as usize),
        (frames.len(), frames.len())
    );
    frames
}

#[test]
fn one_frame_passes_unchanged() {
    let mut p = pool();
    let pages = [page(&mut p, b"hello")];
    let head = headers(false, false, 3, 5);
    for mss in [0, 5, 1448] {
        let meta = TxMeta {
            mss,
            protocol: L4::Tcp,
            ..TxMeta::default()
        };
        let packet = Packet {
            head: &head,
            payload: &all(&pages),
            meta,
        };
        let n = segment(&packet, |h, s| {
            assert_eq!((h.bytes(), s.len()), (head.bytes(), 1));
            Ok::<(), TxError>(())
        });
        assert_eq!(n, Ok(1));
        assert_intact(&frames_of(&packet)[0], 14, false);
        assert_eq!((packet.len(), packet.is_empty()), (14 + 20 + 32 + 5, false));
    }
}

#[test]
fn what_is_not_tcp_is_never_cut() {
    let mut p = pool();
    let pages = [page(&mut p, &[1; 100])];
    let head = Headers::new(14, 0, 0);
    let meta = TxMeta {
        mss: 10,
        protocol: L4::None,
        ..TxMeta::default()
    };
    let packet = Packet {
        head: &head,
        payload: &all(&pages),
        meta,
    };
    assert_eq!(frames(&packet), 1);
    assert_eq!(segment(&packet, |_, _| Ok::<(), TxError>(())), Ok(1));
    assert_eq!(
        finish_checksum(&mut head.clone(), &[]),
        Err(NotSent::Malformed)
    );
}

#[test]
fn flags_and_identification() {
    let mut p = pool();
    let pages = [page(&mut p, &[1; 250])];
    let head = headers(false, false, 0, 250);
    let meta = TxMeta {
        mss: 100,
        protocol: L4::Tcp,
        ..TxMeta::default()
    };
    let frames = frames_of(&Packet {
        head: &head,
        payload: &all(&pages),
        meta,
    });
    let flags: Vec<u8> = frames.iter().map(|f| f[34 + TCP_FLAGS]).collect();
    assert_eq!(flags, [CWR | 0x10, 0x10, FIN | PSH | 0x10]);
    let ids: Vec<u16> = frames.iter().map(|f| read_u16(&f[14..], IPV4_ID)).collect();
    assert_eq!(ids, [0xffff, 0, 1]);
    let seqs: Vec<u32> = frames.iter().map(|f| read_u32(&f[34..], TCP_SEQ)).collect();
    assert_eq!(seqs, [0xffff_ff00, 0xffff_ff64, 0xffff_ffc8]);
}

#[test]
fn plaintext_of_a_record_is_refused_everywhere() {
    let mut p = pool();
    let mut record = page(&mut p, b"secret");
    record.frame(RecordFields::default(), b"head", 16).unwrap();
    let pages = [record];
    let payload = all(&pages);
    let head = headers(false, false, 0, 26);
    let packet = Packet {
        head: &head,
        payload: &payload,
        meta: TxMeta::default(),
    };
    assert_eq!(
        finish_checksum(&mut head.clone(), &payload),
        Err(NotSent::Plaintext)
    );
    assert_eq!(packet.copy_to(&mut [0; 100]), Err(NotSent::Plaintext));
    assert_eq!(TxError::from(NotSent::Plaintext), TxError::Plaintext);
}

#[test]
fn malformed_packets_are_refused() {
    let mut p = pool();
    let pages = [page(&mut p, &[1; 50])];
    let head = headers(false, false, 0, 50);
    let beyond = [Slice {
        buf: &pages[0],
        at: 40,
        len: 11,
    }];
    assert_eq!(
        copy_frame(&head, &beyond, &mut [0; 200]),
        Err(NotSent::Malformed)
    );
    assert_eq!(
        copy_frame(&head, &all(&pages), &mut [0; 103]),
        Err(NotSent::NoSpace)
    );
    assert_eq!(
        copy_frame(&head, &all(&pages), &mut [0; 53]),
        Err(NotSent::NoSpace)
    );
    assert_eq!(copy_frame(&head, &all(&pages), &mut [0; 104]), Ok(50));
    let meta = TxMeta {
        mss: 10,
        protocol: L4::Tcp,
        ..TxMeta::default()
    };
    for (head, ipv6) in [
        (Headers::new(14, 20, 19), false),
        (Headers::new(14, 20, 20), true),
        (Headers::new(0, 19, 20), false),
    ] {
        let packet = Packet {
            head: &head,
            payload: &all(&pages),
            meta: TxMeta { ipv6, ..meta },
        };
        assert_eq!(segment(&packet, |_, _| Ok(())), Err(TxError::Malformed));
    }
    // A frame with more slices than a list takes.
    let tiny = vec![
        Slice {
            buf: &pages[0],
            at: 0,
            len: 1
        };
        50
    ];
    let meta = TxMeta { mss: 40, ..meta };
    let packet = Packet {
        head: &head,
        payload: &tiny,
        meta,
    };
    assert_eq!(segment(&packet, |_, _| Ok(())), Err(TxError::Malformed));
}

#[test]
fn a_port_that_refuses_ends_it() {
    let mut p = pool();
    let pages = [page(&mut p, &[1; 50])];
    let head = headers(false, false, 0, 50);
    let meta = TxMeta {
        mss: 10,
        protocol: L4::Tcp,
        ..TxMeta::default()
    };
    let packet = Packet {
        head: &head,
        payload: &all(&pages),
        meta,
    };
    let mut n = 0;
    let result = segment(&packet, |_, _| {
        n += 1;
        if n == 3 { Err(TxError::Full) } else { Ok(()) }
    });
    assert_eq!((result, n), (Err(TxError::Full), 3));
}

proptest! {
    #![proptest_config(proptest_config(if cfg!(miri) { 3 } else { 256 }))]

    #[test]
    fn frames_are_intact_and_make_up_the_payload(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..1500), 0usize..100), 1..20),
        mss in 60u16..1500,
        ipv6: bool,
        vlan: bool,
        options in 0u8..=10,
    ) {
        let mut p = pool();
        let pages: Vec<PageBuf> = pieces.iter().map(|(bytes, _)| page(&mut p, bytes)).collect();
        let mut payload = Vec::new();
        let mut bytes: Vec<u8> = Vec::new();
        for (buf, (_, cut)) in pages.iter().zip(&pieces) {
            let at = (buf.len() - 1).min(u32::try_from(*cut).unwrap());
            payload.push(Slice { buf, at, len: buf.len() - at });
            bytes.extend(&buf.bytes().unwrap()[at as usize..]);
        }
        let head = headers(ipv6, vlan, options, bytes.len());
        let meta = TxMeta { mss, protocol: L4::Tcp, ipv6, ..TxMeta::default() };
        let frames = frames_of(&Packet { head: &head, payload: &payload, meta });
        let mut joined: Vec<u8> = Vec::new();
        let mut seq = 0xffff_ff00u32;
        for (i, frame) in frames.iter().enumerate() {
            assert_intact(frame, head.l2().len(), ipv6);
            prop_assert_eq!(&frame[..head.l2().len()], head.l2());
            let (h, data) = frame.split_at(head.len());
            let tcp = &h[head.len() - head.l4().len()..];
            prop_assert_eq!(read_u32(tcp, TCP_SEQ), seq);
            prop_assert_eq!(&tcp[20..], &head.l4()[20..]);
            let last = i + 1 == frames.len();
            prop_assert_eq!(tcp[TCP_FLAGS] & (FIN | PSH) != 0, last);
            prop_assert_eq!(tcp[TCP_FLAGS] & CWR != 0, i == 0);
            let mss = usize::from(mss);
            let full = data.len() == mss;
            prop_assert!(full || last && data.len() < mss);
            seq = seq.wrapping_add(u32::try_from(data.len()).unwrap());
            joined.extend(data);
        }
        prop_assert_eq!(joined, bytes);
    }
}

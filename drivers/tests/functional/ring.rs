//! Two crossed rings: what is sent is received, byte for byte, and its buffers return to their
//! pools.

use std::thread;

use lockgate_drivers::{
    Assume, FaultInjection, Port, PortConfig, PortError, RingPair, WorkerPorts,
};
use lockgate_testing::wait_for;
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Checksum, Output, RecordFields, TxError};

use crate::support::{
    Shape, bytes, close_full, eal, filled, logged, open, pages, pattern, payload, receive, send,
    try_send, verify_frame, whole,
};
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("ring::chains_arrive_whole", chains_arrive_whole),
    Case::new(
        "ring::bursts_arrive_uncut_when_assumed",
        bursts_arrive_uncut_when_assumed,
    ),
    Case::new(
        "ring::bursts_are_cut_in_software",
        bursts_are_cut_in_software,
    ),
    Case::new("ring::a_full_ring_is_retried", a_full_ring_is_retried),
    Case::new(
        "ring::a_packet_that_the_driver_refuses_is_dropped",
        a_packet_that_the_driver_refuses_is_dropped,
    ),
    Case::new(
        "ring::a_packet_that_the_driver_never_takes_is_dropped",
        a_packet_that_the_driver_never_takes_is_dropped,
    ),
    Case::new(
        "ring::frees_on_other_threads_come_home",
        frees_on_other_threads_come_home,
    ),
    Case::new(
        "ring::failing_allocations_only_delay",
        failing_allocations_only_delay,
    ),
    Case::new("ring::a_tiny_pool_only_delays", a_tiny_pool_only_delays),
    Case::new("ring::plaintext_is_refused", plaintext_is_refused),
    Case::new(
        "ring::what_cannot_be_sent_is_refused",
        what_cannot_be_sent_is_refused,
    ),
    Case::new(
        "ring::what_waits_at_the_end_is_counted",
        what_waits_at_the_end_is_counted,
    ),
    Case::new("ring::queues_are_separate", queues_are_separate),
    Case::new(
        "ring::memory_of_others_is_copied",
        memory_of_others_is_copied,
    ),
    Case::new(
        "ring::a_device_without_a_mac_address_gets_one",
        a_device_without_a_mac_address_gets_one,
    ),
    Case::new(
        "ring::allocations_of_memory_end_in_an_error",
        allocations_of_memory_end_in_an_error,
    ),
];

struct Ends {
    a: Port,
    b: Port,
    at_a: WorkerPorts,
    at_b: WorkerPorts,
}

fn ends(entries: u32, change: impl Fn(&mut PortConfig)) -> (lockgate_drivers::Eal, Ends) {
    let eal = eal();
    let pair = RingPair::new(eal, "t", entries, 1).expect("two rings");
    let config = |name: &str, device| {
        let mut config = PortConfig::new(name, device);
        change(&mut config);
        config
    };
    let (a, at_a) = open(eal, &config("a", pair.a));
    let (b, at_b) = open(eal, &config("b", pair.b));
    (eal, Ends { a, b, at_a, at_b })
}

impl Ends {
    fn close(self) {
        drop((self.at_a, self.at_b));
        close_full(self.a);
        close_full(self.b);
    }
}

fn chains_arrive_whole() {
    let (eal, mut e) = ends(256, |_| ());
    let mut pool = pages(eal);
    for ipv6 in [false, true] {
        for (seed, lens) in [
            vec![],
            vec![1],
            vec![1400],
            vec![7, 33],
            vec![1; 32],
            vec![501, 3, 700],
        ]
        .into_iter()
        .enumerate()
        {
            let seed = seed as u8;
            let kept: Vec<_> = lens
                .iter()
                .map(|&len| filled(&mut pool, len, seed))
                .collect();
            let slices: Vec<_> = kept.iter().map(whole).collect();
            send(
                &mut e.at_a,
                Shape {
                    ipv6,
                    seq: 77,
                    mss: 0,
                },
                &slices,
            );
            assert!(e.at_a.flush());
            let got = receive(&mut e.at_b, 1).remove(0);
            assert_eq!(
                got.fragments().count(),
                1 + lens.len(),
                "by reference, piece for piece"
            );
            assert!(!got.is_writable(), "the sender's own memory");
            assert_eq!(got.l4_checksum(), Checksum::Unknown);
            let frame = bytes(&got);
            let expected: Vec<u8> = lens.iter().flat_map(|&len| pattern(len, seed)).collect();
            assert_eq!(verify_frame(&frame), (77, expected.as_slice()));
        }
    }
    let sent = e.a.counters().total();
    assert_eq!((sent.tx_packets, sent.tx_payload_copied), (12, 0));
    let received = e.b.counters().total();
    assert_eq!((received.rx_packets, received.rx_copied), (12, 0));
    assert_eq!(received.rx_bytes, sent.tx_bytes);
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn bursts_arrive_uncut_when_assumed() {
    let (eal, mut e) = ends(256, |c| c.assume = Assume::ALL);
    let mut pool = pages(eal);
    let info = e.at_a.info(IfaceId(0));
    assert!(
        info.tso && info.tx_csum && info.tso_bytes_max >= 64_000,
        "{info:?}"
    );
    let kept: Vec<_> = (0..4).map(|n| filled(&mut pool, 15_000, n)).collect();
    let slices: Vec<_> = kept.iter().map(whole).collect();
    send(
        &mut e.at_a,
        Shape {
            mss: 1448,
            ..Shape::default()
        },
        &slices,
    );
    assert!(e.at_a.flush());
    let got = receive(&mut e.at_b, 1).remove(0);
    assert_eq!(got.segments(), 60_000_u16.div_ceil(1448));
    assert_eq!(got.l4_checksum(), Checksum::Good);
    assert_eq!(got.ip_checksum(), Checksum::Good);
    let expected: Vec<u8> = (0..4).flat_map(|n| pattern(15_000, n)).collect();
    assert_eq!(payload(&bytes(&got)), expected);
    let sent = e.a.counters().total();
    assert_eq!((sent.tx_packets, sent.tx_tso, sent.tx_gso), (1, 1, 0));
    drop((got, kept));
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn bursts_are_cut_in_software() {
    let (eal, mut e) = ends(256, |_| ());
    let mut pool = pages(eal);
    let kept: Vec<_> = (0..2).map(|n| filled(&mut pool, 10_001, n)).collect();
    let slices: Vec<_> = kept.iter().map(whole).collect();
    for ipv6 in [false, true] {
        send(
            &mut e.at_a,
            Shape {
                ipv6,
                seq: 5,
                mss: 1400,
            },
            &slices,
        );
        assert!(e.at_a.flush());
        let frames = receive(&mut e.at_b, 15);
        assert_eq!(frames.len(), 15);
        let mut stream = Vec::new();
        for frame in &frames {
            let frame = bytes(frame);
            let (seq, payload) = verify_frame(&frame);
            assert_eq!(seq as usize, 5 + stream.len());
            assert!(payload.len() <= 1400);
            stream.extend_from_slice(payload);
        }
        let expected: Vec<u8> = (0..2).flat_map(|n| pattern(10_001, n)).collect();
        assert_eq!(stream, expected);
    }
    let sent = e.a.counters().total();
    assert_eq!(
        (sent.tx_packets, sent.tx_gso, sent.tx_payload_copied),
        (30, 2, 0)
    );
    drop(kept);
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn a_full_ring_is_retried() {
    let (eal, mut e) = ends(32, |_| ());
    let mut pool = pages(eal);
    let page = filled(&mut pool, 100, 1);
    let mut sent = 0;
    while e.at_a.room(IfaceId(0)).packets > 0 {
        send(
            &mut e.at_a,
            Shape {
                seq: sent,
                ..Shape::default()
            },
            &[whole(&page)],
        );
        sent += 1;
    }
    assert!(sent > 150, "{sent}");
    assert!(!e.at_a.flush());
    assert!(e.at_a.backlog() > 0);
    // A sender that doesn't call `room` gets `Full` when the reserved places are used up, too. What
    // was accepted before isn't lost.
    let mut taken = sent;
    let refused = loop {
        match try_send(
            &mut e.at_a,
            Shape {
                seq: taken,
                ..Shape::default()
            },
            &[whole(&page)],
        ) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, TxError::Full);
    assert!(
        taken >= sent + 32,
        "{taken} taken, {sent} where there was room"
    );
    let mut next = 0;
    while next < taken {
        for buffer in receive(&mut e.at_b, 1) {
            assert_eq!(
                verify_frame(&bytes(&buffer)).0,
                next,
                "in order, none missing"
            );
            next += 1;
        }
        e.at_a.flush();
    }
    assert!(e.at_a.flush());
    assert_eq!(e.at_b.rx_burst(|_, _| ()), 0);
    let counters = e.a.counters().total();
    assert!(counters.tx_ring_full > 0);
    assert_eq!(counters.tx_dropped_full, 1);
    assert_eq!(counters.tx_packets, u64::from(taken));
    drop(page);
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn frees_on_other_threads_come_home() {
    let (eal, mut e) = ends(1024, |_| ());
    let mut pool = pages(eal);
    for round in 0..20 {
        let kept: Vec<_> = (0..50).map(|n| filled(&mut pool, 1000, n)).collect();
        for page in &kept {
            send(&mut e.at_a, Shape::default(), &[whole(page)]);
        }
        assert!(e.at_a.flush());
        let got = receive(&mut e.at_b, 50);
        // The sender lets go first in one half of the rounds, last in the other.
        let free = move || {
            let _registered = (round % 4 < 2).then(|| eal.register_worker().unwrap());
            drop(got);
        };
        if round % 2 == 0 {
            drop(kept);
            thread::spawn(free).join().unwrap();
        } else {
            let freeing = thread::spawn(free);
            drop(kept);
            freeing.join().unwrap();
        }
        pool.reclaim();
        assert!(pool.is_full(), "round {round}: {:?}", pool.usage());
    }
    e.close();
}

fn failing_allocations_only_delay() {
    delayed(|c| c.inject = Some(FaultInjection { seed: 7, one_in: 2 }));
}

fn a_tiny_pool_only_delays() {
    delayed(|c| c.tx_buffers = 12);
}

/// Everything arrives in order although few packet buffers are free.
fn delayed(change: impl Fn(&mut PortConfig)) {
    let (eal, mut e) = ends(64, change);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 400, 3);
    let (mut sent, mut next) = (0, 0);
    while next < 2000 {
        while sent < 2000 && e.at_a.room(IfaceId(0)).packets > 0 {
            send(
                &mut e.at_a,
                Shape {
                    seq: sent,
                    ..Shape::default()
                },
                &[whole(&page); 3],
            );
            sent += 1;
        }
        e.at_a.flush();
        e.at_b.rx_burst(|_, buffer| {
            let frame = bytes(&buffer);
            let (seq, payload) = verify_frame(&frame);
            assert_eq!((seq, payload.len()), (next, 1200));
            next += 1;
        });
    }
    assert!(e.a.counters().total().tx_no_mbuf > 0);
    drop(page);
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn plaintext_is_refused() {
    let (eal, mut e) = ends(64, |_| ());
    let mut pool = pages(eal);
    let good = filled(&mut pool, 100, 0);
    let mut record = filled(&mut pool, 100, 1);
    let fields = RecordFields {
        number: 0,
        kind: 23,
        epoch: 0,
    };
    record
        .frame(fields, &[23, 3, 3, 0, 116], 17)
        .expect("it can be framed");
    for mss in [0, 50] {
        let payload = [whole(&good), whole(&record)];
        let shape = Shape {
            mss,
            ..Shape::default()
        };
        assert_eq!(
            try_send(&mut e.at_a, shape, &payload),
            Err(TxError::Plaintext)
        );
    }
    assert!(e.at_a.flush());
    assert_eq!(e.at_b.rx_burst(|_, _| ()), 0);
    assert_eq!(e.a.counters().total().tx_dropped_plaintext, 2);
    drop((good, record));
    pool.reclaim();
    assert!(
        pool.is_full(),
        "attachments made before the refusal are released"
    );
    e.close();
}

fn what_cannot_be_sent_is_refused() {
    let (eal, mut e) = ends(64, |_| ());
    let mut pool = pages(eal);
    let page = filled(&mut pool, 3000, 0);
    // 20 bytes of IPv4, 32 of TCP.
    let fits = pktbuf::Slice {
        buf: &page,
        at: 0,
        len: 1448,
    };
    let longer = pktbuf::Slice {
        buf: &page,
        at: 0,
        len: 1449,
    };
    send(&mut e.at_a, Shape::default(), &[fits]);
    assert_eq!(
        try_send(&mut e.at_a, Shape::default(), &[longer]),
        Err(TxError::TooBig)
    );
    let cut = Shape {
        mss: 1449,
        ..Shape::default()
    };
    assert_eq!(
        try_send(&mut e.at_a, cut, &[whole(&page)]),
        Err(TxError::TooBig)
    );
    let outside = pktbuf::Slice {
        buf: &page,
        at: 2900,
        len: 101,
    };
    assert!(try_send(&mut e.at_a, Shape::default(), &[outside]).is_err());
    let head = pktbuf::Headers::new(14, 20, 20);
    let meta = pktbuf::TxMeta {
        iface: IfaceId(1),
        ..Default::default()
    };
    let nowhere = pktbuf::Packet {
        head: &head,
        payload: &[],
        meta,
    };
    assert_eq!(e.at_a.tx(nowhere), Err(TxError::NoInterface));
    assert_eq!(e.at_a.room(IfaceId(1)).packets, 0);
    assert!(e.at_a.flush());
    assert_eq!(receive(&mut e.at_b, 1).len(), 1);
    assert_eq!(e.a.counters().total().tx_dropped_too_big, 2);
    drop(page);
    pool.reclaim();
    assert!(pool.is_full());
    e.close();
}

fn what_waits_at_the_end_is_counted() {
    let (eal, mut e) = ends(16, |_| ());
    let mut pool = pages(eal);
    let page = filled(&mut pool, 100, 1);
    for seq in 0..100 {
        send(
            &mut e.at_a,
            Shape {
                seq,
                ..Shape::default()
            },
            &[whole(&page)],
        );
    }
    assert!(!e.at_a.flush());
    let Ends {
        mut a,
        b,
        at_a,
        at_b,
    } = e;
    assert!(matches!(a.close(), Err(PortError::InUse { queues: 1, .. })));
    drop(at_a);
    let counters = a.counters().total();
    assert_eq!(counters.tx_packets + counters.tx_dropped_closed, 100);
    // The rest is in the ring: the peer frees it when it is closed.
    drop(at_b);
    close_full(b);
    close_full(a);
    drop(page);
    pool.reclaim();
    assert!(pool.is_full(), "{:?}", pool.usage());
}

fn queues_are_separate() {
    let eal = eal();
    let pair = RingPair::new(eal, "q", 64, 2).unwrap();
    let mut pool = pages(eal);
    let open = |name: &str, device| {
        Port::open(
            eal,
            &PortConfig {
                queues: 2,
                ..PortConfig::new(name, device)
            },
        )
        .unwrap()
    };
    let (mut a, mut b) = (open("a", pair.a), open("b", pair.b));
    let mut at_a: Vec<_> = a
        .take_queues()
        .into_iter()
        .map(|q| WorkerPorts::new(vec![q], &[0]))
        .collect();
    let mut at_b: Vec<_> = b
        .take_queues()
        .into_iter()
        .map(|q| WorkerPorts::new(vec![q], &[0]))
        .collect();
    for n in 0..2u8 {
        let page = filled(&mut pool, 100, n);
        let slices = [whole(&page)];
        send(&mut at_a[usize::from(n)], Shape::default(), &slices);
        assert!(at_a[usize::from(n)].flush());
        assert_eq!(at_b[usize::from(1 - n)].rx_burst(|_, _| ()), 0);
        let got = receive(&mut at_b[usize::from(n)], 1).remove(0);
        assert_eq!(verify_frame(&bytes(&got)).1, pattern(100, n));
    }
    assert_eq!(a.counters().queues.len(), 2);
    drop((at_a, at_b));
    close_full(a);
    close_full(b);
}

/// A packet that `rte_eth_tx_prepare` refuses is dropped, counted and logged once. The packets
/// around it leave in order, and each is prepared once, also if the ring is full.
fn a_packet_that_the_driver_refuses_is_dropped() {
    let (eal, mut e) = ends(8, |_| ());
    let mut pool = pages(eal);
    let page = filled(&mut pool, 1000, 0);
    let shape = |seq| Shape {
        seq,
        ..Shape::default()
    };
    // What b receives says which port it is.
    send(&mut e.at_a, shape(0), &[]);
    assert!(e.at_a.flush());
    let b = receive(&mut e.at_b, 1)[0].port();
    // SAFETY: an open port, whose queue this thread uses.
    unsafe { dpdk_sys::lg_port_refuse_longer(b, 600) };
    let (log, ()) = logged(|| {
        for seq in 0..60 {
            let len = if seq % 3 == 1 { 1000 } else { 500 };
            send(&mut e.at_b, shape(seq), &[whole(&page).part(0, len)]);
            e.at_b.flush();
        }
    });
    assert_eq!(log.matches("refuses packets to send").count(), 1, "{log}");
    let mut got = Vec::new();
    while got.len() < 40 {
        e.at_a
            .rx_burst(|_, buffer| got.push(verify_frame(&bytes(&buffer)).0));
        e.at_b.flush();
    }
    let expected: Vec<u32> = (0..60).filter(|seq| seq % 3 != 1).collect();
    assert_eq!(got, expected);
    assert!(e.at_b.flush());
    let sent = e.b.counters().total();
    assert_eq!((sent.tx_packets, sent.tx_dropped_driver), (40, 20));
    assert!(sent.tx_ring_full > 0, "or this proves too little");
    // SAFETY: it reads a number.
    assert_eq!(unsafe { dpdk_sys::lg_port_accepted() }, 40);
    drop(page);
    e.close();
    pool.reclaim();
    assert!(pool.is_full());
}

/// A driver that stops before a packet at each call would hold up its queue for ever: the packet is
/// dropped after 400 ms, counted, and logged once a second. The packets around it leave in order.
fn a_packet_that_the_driver_never_takes_is_dropped() {
    let (eal, mut e) = ends(64, |_| ());
    let mut pool = pages(eal);
    let page = filled(&mut pool, 1000, 0);
    let shape = |seq| Shape {
        seq,
        ..Shape::default()
    };
    // What b receives says which port it is.
    send(&mut e.at_a, shape(0), &[]);
    assert!(e.at_a.flush());
    let b = receive(&mut e.at_b, 1)[0].port();
    // SAFETY: an open port, whose queue this thread uses.
    unsafe { dpdk_sys::lg_port_stick_at_longer(b, 600) };
    let is_long = |seq| seq % 8 == 1;
    for seq in 0..24 {
        let len = if is_long(seq) { 1000 } else { 500 };
        send(&mut e.at_b, shape(seq), &[whole(&page).part(0, len)]);
    }
    let mut got = Vec::new();
    // A turn each 200 ms: two of them are within the limit, the third one is not.
    let mut turns = (20..).map(|turn| Instant::from_millis(turn * 200));
    let (log, ()) = logged(|| {
        for (dropped, so_far) in [(0, 1), (0, 1), (1, 1), (1, 8), (1, 8), (2, 8), (2, 15)] {
            e.at_b.flush();
            e.at_b.drop_stuck(turns.next().expect("endless"));
            e.at_a
                .rx_burst(|_, buffer| got.push(verify_frame(&bytes(&buffer)).0));
            let sent = e.b.counters().total();
            assert_eq!((sent.tx_dropped_stuck, got.len()), (dropped, so_far));
        }
    });
    // The second one came within a second.
    assert_eq!(log.matches("has taken no packet").count(), 1, "{log}");
    assert!(log.contains("dropped=1"), "{log}");
    let (log, ()) = logged(|| {
        for _ in 0..30 {
            e.at_b.flush();
            e.at_b.drop_stuck(turns.next().expect("endless"));
        }
    });
    assert!(e.at_b.flush());
    assert_eq!(e.b.counters().total().tx_dropped_stuck, 3);
    assert_eq!(log.matches("has taken no packet").count(), 1, "{log}");
    assert!(log.contains("dropped=3"), "more than a second later: {log}");
    send(&mut e.at_b, shape(25), &[whole(&page)]);
    let (log, ()) = logged(|| {
        for _ in 0..3 {
            e.at_b.flush();
            e.at_b.drop_stuck(turns.next().expect("endless"));
        }
    });
    assert!(log.contains("dropped=4"), "{log}");
    assert!(e.at_b.flush());
    e.at_a
        .rx_burst(|_, buffer| got.push(verify_frame(&bytes(&buffer)).0));
    let expected: Vec<u32> = (0..24).filter(|seq| !is_long(*seq)).collect();
    assert_eq!(got, expected);
    drop(page);
    e.close();
    pool.reclaim();
    assert!(pool.is_full());
}

/// DPDK's bonding device sends LACP frames from its own mempool, whose mbufs have no private area
/// for a fragment.
fn memory_of_others_is_copied() {
    let eal = eal();
    let pair = RingPair::new(eal, "m", 64, 1).unwrap();
    let (b, mut at_b) = open(eal, &PortConfig::new("b", pair.b));
    let member = dpdk_sys::LG_BOND_MEMBER.to_str().expect("ASCII");
    let bond = format!("net_bonding0,mode=4,{member}={}", pair.a.name());
    let (bond, mut at_bond) = open(eal, &PortConfig::new("bond", bond.parse().unwrap()));
    let mut pool = pages(eal);
    let page = filled(&mut pool, 10, 0);
    let lacp = wait_for("LACP frame", || {
        // The bonding device sends its own frames when it is polled. It drops ours: no partner.
        bond.poll_link();
        let _ = try_send(&mut at_bond, Shape::default(), &[whole(&page)]);
        at_bond.flush();
        at_bond.rx_burst(|_, _| ());
        let mut lacp = None;
        at_b.rx_burst(|_, buffer| lacp = Some(buffer));
        lacp
    });
    assert_eq!(bytes(&lacp)[12..14], [0x88, 0x09]);
    assert!(lacp.is_writable(), "memory of our own");
    assert!(b.counters().total().rx_copied > 0);
    drop((lacp, at_b, at_bond));
}

/// net_ring has no MAC address, and takes none. Each port has a local one of its own.
fn a_device_without_a_mac_address_gets_one() {
    let eal = eal();
    let pair = RingPair::new(eal, "w", 64, 1).unwrap();
    let (log, ports) = logged(|| {
        [pair.a, pair.b].map(|device| {
            let name = std::ffi::CString::new(device.name()).expect("a name");
            let (mut id, mut caps) = (0, std::mem::MaybeUninit::zeroed());
            // SAFETY: a NUL-terminated name, and a number of ours to write.
            let found = unsafe { dpdk_sys::lg_port_find(name.as_ptr(), &raw mut id) };
            assert_eq!(found, 0);
            // SAFETY: a live port, and memory of ours to write.
            let read = unsafe { dpdk_sys::lg_port_caps(id, caps.as_mut_ptr()) };
            assert_eq!(read, 0);
            // SAFETY: zeroed, then written; numbers and bytes only.
            let mac = unsafe { caps.assume_init() }.mac;
            assert_eq!(mac, [0; 6], "or this proves nothing");
            open(eal, &PortConfig::new("p", device))
        })
    });
    assert!(!log.contains("takes none"), "no frame is filtered: {log}");
    let [a, b] = ports;
    for (port, _) in [&a, &b] {
        let mac = port.mac().0;
        assert_eq!(mac[0] & 3, 2, "local, and of one station: {mac:02x?}");
        assert!(log.contains(&format!("mac={}", port.mac())), "{log}");
    }
    assert_ne!(a.0.mac(), b.0.mac());
    for (port, at_port) in [a, b] {
        drop(at_port);
        close_full(port);
    }
}

fn allocations_of_memory_end_in_an_error() {
    let eal = eal();
    let pair = RingPair::new(eal, "m", 64, 1).unwrap();
    let config = PortConfig {
        rx_buffers: 10_000_000,
        ..PortConfig::new("a", pair.a)
    };
    let message = Port::open(eal, &config).unwrap_err().to_string();
    assert!(message.contains("port a: no memory for"), "{message}");
    assert!(
        message.contains("[eal] memory,") && message.contains("[limits] mbufs"),
        "{message}"
    );
}

//! TX rings that hold what was sent, as the drivers of network cards do: on request it comes back,
//! or the ring's share of page buffers has a bound.

use core::time::Duration;

use lockgate_drivers::{Eal, Port, PortConfig, RingPair, SentRelease, WorkerPorts};
use lockgate_testing::cases::Case;
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Output, PageBuf, PagePool};

use crate::support::{
    Shape, bytes, close_full, eal, filled, open, pages, pattern, receive, send, verify_frame, whole,
};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "held::packets_come_back_on_request",
        packets_come_back_on_request,
    ),
    Case::new(
        "held::a_short_mempool_is_refilled_on_request",
        a_short_mempool_is_refilled_on_request,
    ),
    Case::new("held::beyond_the_share_packets_are_copied", || {
        beyond_the_share_packets_are_copied(1500, 1400);
    }),
    Case::new("held::beyond_the_share_jumbo_frames_are_copied", || {
        beyond_the_share_packets_are_copied(9000, 8900);
    }),
    Case::new(
        "held::refused_packets_push_nothing_out",
        refused_packets_push_nothing_out,
    ),
    Case::new(
        "held::packets_never_taken_use_up_no_share",
        packets_never_taken_use_up_no_share,
    ),
    Case::new(
        "held::closed_rings_give_everything_back",
        closed_rings_give_everything_back,
    ),
];

struct Pair {
    pages: PagePool,
    a: Port,
    b: Port,
    at_a: WorkerPorts,
    at_b: WorkerPorts,
}

/// Two crossed rings; `a` holds what it sends.
fn pair(release: SentRelease, change: impl Fn(&mut PortConfig)) -> Pair {
    let eal: Eal = eal();
    let rings = RingPair::new(eal, "h", 1024, 1).expect("two rings");
    let mut config = PortConfig::new("a", rings.a);
    config.hold_sent = Some(release);
    change(&mut config);
    let peer = PortConfig {
        mtu: config.mtu,
        ..PortConfig::new("b", rings.b)
    };
    let pages = pages(eal);
    let (a, at_a) = open(eal, &config);
    let (b, at_b) = open(eal, &peer);
    assert_eq!(a.capabilities().sent_release, release);
    Pair {
        pages,
        a,
        b,
        at_a,
        at_b,
    }
}

impl Pair {
    /// Sends a page buffer of its own in `count` packets. Returns the frames that arrived.
    fn exchange(&mut self, count: u8, len: usize, shape: Shape) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for n in 0..count {
            let page = filled(&mut self.pages, len, n);
            send(&mut self.at_a, shape, &[whole(&page)]);
            assert!(self.at_a.flush());
            let mss = if shape.mss == 0 {
                len
            } else {
                usize::from(shape.mss)
            };
            let got = receive(&mut self.at_b, len.div_ceil(mss));
            frames.extend(got.iter().map(bytes));
        }
        frames
    }

    fn held(&mut self) -> u32 {
        self.pages.reclaim();
        self.pages.usage().blocks_used
    }

    fn close(self) {
        drop((self.at_a, self.at_b));
        close_full(self.a);
        close_full(self.b);
        let mut pages = self.pages;
        pages.reclaim();
        assert!(pages.is_full(), "{pages:?}");
    }
}

fn packets_come_back_on_request() {
    let mut pair = pair(SentRelease::OnRequest, |_| ());
    pair.exchange(20, 500, Shape::default());
    assert_eq!(pair.held(), 20, "the ring holds every packet");
    pair.at_a.clean_sent(8);
    assert_eq!(pair.held(), 12);
    pair.at_a.clean_sent(100);
    assert_eq!(pair.held(), 0);
    let counters = pair.a.counters().total();
    assert_eq!((counters.tx_cleaned, counters.tx_ring_share), (20, 0));
    assert_eq!(counters.tx_payload_copied, 0);
    // The peer's ring frees at once.
    pair.at_b.clean_sent(100);
    assert_eq!(pair.b.counters().total().tx_cleaned, 0);
    pair.close();
}

/// The mempool has buffers for 8 packets, the ring has descriptors for all.
fn a_short_mempool_is_refilled_on_request() {
    let mut pair = pair(SentRelease::OnRequest, |config| config.tx_buffers = 16);
    let page = filled(&mut pair.pages, 100, 1);
    let mut arrived = 0;
    for _ in 0..100 {
        send(&mut pair.at_a, Shape::default(), &[whole(&page)]);
        pair.at_a.flush();
        while pair.at_b.rx_burst(|_, _| arrived += 1) > 0 {}
    }
    assert!(pair.at_a.flush());
    while pair.at_b.rx_burst(|_, _| arrived += 1) > 0 {}
    assert_eq!(arrived, 100);
    let counters = pair.a.counters().total();
    assert!(counters.tx_no_mbuf > 0, "{counters:?}");
    assert!(counters.tx_cleaned >= 80, "{counters:?}");
    drop(page);
    pair.close();
}

/// `len` bytes of payload make a frame that nearly has the MTU.
fn beyond_the_share_packets_are_copied(mtu: u16, len: usize) {
    const SHARE: u32 = 4;
    let mut pair = pair(SentRelease::OnReuse, |config| {
        config.mtu = mtu;
        config.tx_descriptors = 64;
        config.ring_pages_max = SHARE;
    });
    pair.exchange(4, 100, Shape::default());
    assert_eq!(pair.held(), SHARE);
    for ipv6 in [false, true] {
        let shape = Shape {
            ipv6,
            ..Shape::default()
        };
        let frames = pair.exchange(30, len, shape);
        assert_eq!(frames.len(), 30);
        for (n, frame) in (0..).zip(&frames) {
            assert!(verify_frame(frame).1 == pattern(len, n), "packet {n}");
        }
        assert!(pair.held() <= SHARE);
    }
    // Segmented in software: each frame is copied by itself.
    let cut = Shape {
        mss: 1000,
        ..Shape::default()
    };
    let frames = pair.exchange(2, 5000, cut);
    let stream = frames.iter().flat_map(|frame| verify_frame(frame).1);
    let stream: Vec<u8> = stream.copied().collect();
    assert!(stream == [pattern(5000, 0), pattern(5000, 1)].concat());

    let counters = pair.a.counters().total();
    // The first of these two pushed what was referred to out of the ring.
    assert_eq!(counters.tx_ring_share, 60 + 5);
    assert_eq!(counters.tx_payload_copied, 60 * len as u64 + 5_000);
    assert_eq!(counters.tx_cleaned, 0);
    // Copies push the others out of the ring; then page buffers are referred to again.
    for _ in 0..4 {
        pair.exchange(200, 100, Shape::default());
        assert!(pair.held() <= SHARE + 1);
    }
    let by_reference = 4 + 60 + 10 + 800 - pair.a.counters().total().tx_ring_share;
    assert!(by_reference > 2 * u64::from(SHARE), "{by_reference}");
    assert!(pair.at_a.room(IfaceId(0)).packets > 0);
    pair.close();
}

/// The ring holds its share. Packets that the driver refuses don't enter it, so what it holds still
/// counts.
fn refused_packets_push_nothing_out() {
    const SHARE: u32 = 4;
    let mut pair = pair(SentRelease::OnReuse, |config| {
        config.tx_descriptors = 64;
        config.ring_pages_max = SHARE;
    });
    let marked = filled(&mut pair.pages, 10, 0);
    send(&mut pair.at_b, Shape::default(), &[whole(&marked)]);
    assert!(pair.at_b.flush());
    drop(marked);
    // What a receives says which port it is.
    let a = receive(&mut pair.at_a, 1)[0].port();
    // SAFETY: an open port, whose queue this thread uses.
    unsafe { dpdk_sys::lg_port_refuse_longer(a, 600) };
    pair.exchange(4, 100, Shape::default());
    assert_eq!(pair.held(), SHARE);
    for n in 0..200 {
        let page = filled(&mut pair.pages, 1000, n);
        send(&mut pair.at_a, Shape::default(), &[whole(&page)]);
        assert!(pair.at_a.flush());
    }
    assert_eq!(pair.a.counters().total().tx_dropped_driver, 200);
    for round in 0..8 {
        pair.exchange(4, 100, Shape::default());
        assert_eq!(pair.held(), SHARE, "{round}");
    }
    pair.close();
}

/// Packets that the driver never takes weren't in the ring: they use up nothing of its share, so
/// none of those after them is copied.
fn packets_never_taken_use_up_no_share() {
    let mut pair = pair(SentRelease::OnReuse, |config| config.ring_pages_max = 4);
    send(&mut pair.at_b, Shape::default(), &[]);
    assert!(pair.at_b.flush());
    // What a receives says which port it is.
    let a = receive(&mut pair.at_a, 1)[0].port();
    // SAFETY: an open port, whose queue this thread uses.
    unsafe { dpdk_sys::lg_port_stick_at_longer(a, 600) };
    let mut now = Instant::from_secs(1);
    for n in 0..200 {
        let page = filled(&mut pair.pages, 1000, n);
        send(&mut pair.at_a, Shape::default(), &[whole(&page)]);
        assert!(!pair.at_a.flush());
        pair.at_a.drop_stuck(now);
        now += Duration::from_millis(400);
        pair.at_a.drop_stuck(now);
        assert!(pair.at_a.flush());
    }
    let sent = pair.a.counters().total();
    assert_eq!((sent.tx_dropped_stuck, sent.tx_ring_share), (200, 0));
    pair.exchange(4, 100, Shape::default());
    assert_eq!(pair.a.counters().total().tx_ring_share, 0);
    pair.close();
}

fn closed_rings_give_everything_back() {
    let mut pair = pair(SentRelease::OnReuse, |_| ());
    let kept: Vec<PageBuf> = (0..3).map(|n| filled(&mut pair.pages, 300, n)).collect();
    for page in &kept {
        send(&mut pair.at_a, Shape::default(), &[whole(page)]);
    }
    assert!(pair.at_a.flush());
    assert_eq!(receive(&mut pair.at_b, 3).len(), 3);
    drop(kept);
    assert_eq!(pair.held(), 3);
    pair.close();
}

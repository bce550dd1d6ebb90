//! Set-up plans, by what the drivers of DPDK 22.11 report.

use std::mem::MaybeUninit;

use dpdk_sys::{
    LG_CAP_MULTI_SEGS, LG_CAP_RX_HASH, LG_CAP_RX_IP_CSUM, LG_CAP_RX_SCATTER, LG_CAP_RX_TCP_CSUM,
    LG_CAP_TX_IP_CSUM, LG_CAP_TX_TCP_CSUM, LG_CAP_TX_TSO, LG_RSS_IP4, LG_RSS_IP6, LG_RSS_TCP4,
    LG_RSS_TCP6,
};

use super::*;
use crate::port::{Assume, Disable};

const CSUMS: u32 = LG_CAP_TX_TCP_CSUM | LG_CAP_RX_TCP_CSUM;
const IP_CSUMS: u32 = LG_CAP_TX_IP_CSUM | LG_CAP_RX_IP_CSUM;
/// What every Intel card offers.
const INTEL: u32 = CSUMS | IP_CSUMS | LG_CAP_MULTI_SEGS | LG_CAP_RX_SCATTER;
const RSS_ALL: u32 = LG_RSS_TCP4 | LG_RSS_TCP6 | LG_RSS_IP4 | LG_RSS_IP6;
const RSS_TCP: u32 = LG_RSS_TCP4 | LG_RSS_TCP6;
const RSS_IP: u32 = LG_RSS_IP4 | LG_RSS_IP6;

/// A device of which nothing but the name is known.
fn device_of(driver: &str) -> lg_port_caps {
    // SAFETY: numbers and bytes only, so any value is valid.
    let mut raw: lg_port_caps = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in raw.driver.iter_mut().zip(driver.bytes()) {
        *to = i8::from_ne_bytes([from]);
    }
    raw.max_rx_queues = 16;
    raw.max_tx_queues = 16;
    raw.max_mtu = u16::MAX;
    raw.max_rx_pktlen = 16_383;
    raw.numa_node = -1;
    raw
}

fn limits(raw: &mut lg_port_caps, (min, max, align): (u16, u16, u16), segs: (u16, u16)) {
    (raw.rx_desc_min, raw.rx_desc_max, raw.rx_desc_align) = (min, max, align);
    (raw.tx_desc_min, raw.tx_desc_max, raw.tx_desc_align) = (min, max, align);
    (raw.tx_segs_max, raw.tx_mtu_segs_max) = segs;
}

fn em() -> lg_port_caps {
    let mut raw = device_of("net_e1000_em");
    limits(&mut raw, (32, 4096, 8), (255, 255));
    raw.offloads = INTEL;
    (raw.max_rx_queues, raw.max_tx_queues) = (2, 2);
    raw.max_rx_pktlen = 0x2412;
    raw.rx_bufsize_min = 256;
    raw
}

fn igb() -> lg_port_caps {
    let mut raw = device_of("net_e1000_igb");
    limits(&mut raw, (32, 4096, 8), (255, 255));
    raw.offloads = INTEL | LG_CAP_TX_TSO | LG_CAP_RX_HASH;
    (raw.rss, raw.rss_key_len) = (RSS_ALL, 40);
    raw.max_mtu = 16_383 - 22;
    raw
}

fn igb_vf() -> lg_port_caps {
    let mut raw = device_of("net_e1000_igb_vf");
    limits(&mut raw, (32, 4096, 8), (255, 255));
    raw.offloads = INTEL | LG_CAP_TX_TSO | LG_CAP_RX_HASH;
    (raw.max_rx_queues, raw.max_tx_queues) = (2, 2);
    raw
}

fn vmxnet3() -> lg_port_caps {
    let mut raw = device_of("net_vmxnet3");
    limits(&mut raw, (128, 4096, 1), (255, 16));
    raw.tx_desc_min = 512;
    raw.offloads = CSUMS | LG_CAP_MULTI_SEGS | LG_CAP_TX_TSO | LG_CAP_RX_HASH;
    raw.rss = RSS_ALL;
    (raw.min_mtu, raw.max_mtu, raw.max_rx_pktlen) = (60, 9000, 16_384);
    raw.rx_bufsize_min = 1518 + 128;
    raw
}

fn virtio() -> lg_port_caps {
    let mut raw = device_of("net_virtio");
    limits(&mut raw, (64, 32_768, 1), (0, 0));
    raw.offloads = CSUMS | LG_CAP_MULTI_SEGS | LG_CAP_TX_TSO | LG_CAP_RX_SCATTER;
    (raw.rss, raw.rss_key_len) = (RSS_ALL, 40);
    (raw.max_mtu, raw.max_rx_pktlen) = (9000, 9728);
    raw.rx_bufsize_min = 64;
    raw
}

fn i40e() -> lg_port_caps {
    let mut raw = device_of("net_i40e");
    limits(&mut raw, (64, 4096, 32), (255, 8));
    raw.offloads = INTEL | LG_CAP_TX_TSO | LG_CAP_RX_HASH;
    (raw.rss, raw.rss_key_len) = (RSS_TCP, 52);
    (raw.min_mtu, raw.max_mtu, raw.max_rx_pktlen) = (68, 9728 - 26, 9728);
    raw
}

fn ixgbe() -> lg_port_caps {
    let mut raw = device_of("net_ixgbe");
    limits(&mut raw, (32, 4096, 8), (40, 40));
    raw.offloads = INTEL | LG_CAP_TX_TSO | LG_CAP_RX_HASH;
    (raw.rss, raw.rss_key_len) = (RSS_ALL, 40);
    (raw.max_mtu, raw.max_rx_pktlen) = (15_872 - 26, 15_872);
    raw
}

fn cards() -> [lg_port_caps; 7] {
    [em(), igb(), igb_vf(), vmxnet3(), virtio(), i40e(), ixgbe()]
}

fn config(device: &str) -> PortConfig {
    PortConfig::new("p0", device.parse().expect("a device"))
}

fn plan(raw: &lg_port_caps, change: impl FnOnce(&mut PortConfig)) -> Plan {
    let mut config = config("0000:03:00.0");
    change(&mut config);
    Plan::decide(&config, &config.device, raw).expect("the device can do it")
}

/// What the log says of a card with so many queues: the port's work, the stack's, and RSS.
fn words(raw: &lg_port_caps, queues: u16) -> [String; 3] {
    let plan = plan(raw, |c| c.queues = queues);
    let rss = plan.rss.to_string();
    [plan.reasons.port_does(), plan.reasons.stack_does(), rss]
}

#[test]
fn each_missing_offload_has_its_reason() {
    const ALL: &str = "chains, tx tcp checksums, tx ip checksums, segmentation, \
                       rx tcp checksums, rx ip checksums";
    const NO_IP: &str = "chains, tx tcp checksums, segmentation, rx tcp checksums";
    const NO_IP_WHY: &str = "tx ip checksums (not offered), rx ip checksums (not offered)";
    const EM_WHY: &str =
        "tx ip checksums (used with segmentation only), segmentation (not offered)";
    const PORTS: &str = "by addresses and ports, key of 40 bytes";
    const ONE: &str = "off (one queue)";
    const NONE: &str = "off (not offered): one queue receives";
    let rows: &[(lg_port_caps, u16, [&str; 3])] = &[
        (
            em(),
            1,
            [
                "chains, tx tcp checksums, rx tcp checksums, rx ip checksums",
                EM_WHY,
                ONE,
            ],
        ),
        (
            em(),
            2,
            [
                "chains, rx tcp checksums, rx ip checksums",
                "tx tcp checksums (not with several queues: they share one context), \
                 tx ip checksums (used with segmentation only), segmentation (not offered)",
                NONE,
            ],
        ),
        (igb(), 1, [ALL, "nothing", ONE]),
        (igb(), 4, [ALL, "nothing", PORTS]),
        (igb_vf(), 1, [ALL, "nothing", ONE]),
        (igb_vf(), 2, [ALL, "nothing", NONE]),
        (vmxnet3(), 1, [NO_IP, NO_IP_WHY, ONE]),
        (
            vmxnet3(),
            2,
            [NO_IP, NO_IP_WHY, "by addresses and ports, the driver's key"],
        ),
        (virtio(), 1, [NO_IP, NO_IP_WHY, ONE]),
        (virtio(), 4, [NO_IP, NO_IP_WHY, PORTS]),
        (
            i40e(),
            8,
            [ALL, "nothing", "by addresses and ports, key of 52 bytes"],
        ),
        (ixgbe(), 8, [ALL, "nothing", PORTS]),
    ];
    for (raw, queues, expected) in rows {
        let found = words(raw, *queues);
        assert_eq!(
            found,
            *expected,
            "{} with {queues} queues",
            driver_name(raw)
        );
    }
    let mut plain = virtio();
    plain.offloads = 0;
    let [port, stack, _] = words(&plain, 1);
    assert_eq!(port, "nothing");
    assert!(
        stack.starts_with("chains (not offered), tx tcp checksums (not offered)"),
        "{stack}"
    );
    plain.offloads = LG_CAP_TX_TSO | LG_CAP_TX_TCP_CSUM;
    let [_, stack, _] = words(&plain, 1);
    assert!(stack.contains("segmentation (needs chains)"), "{stack}");
    plain.offloads = LG_CAP_TX_TSO | LG_CAP_MULTI_SEGS;
    let [_, stack, _] = words(&plain, 1);
    assert!(
        stack.contains("segmentation (needs tx tcp checksums)"),
        "{stack}"
    );
}

/// `rte_eth_dev_configure` refuses a port that asks for the hash without RSS, or for hash types or
/// offloads that aren't offered.
#[test]
fn nothing_is_asked_for_that_the_driver_refuses() {
    for raw in cards() {
        for queues in [1, 2] {
            for mtu in [1500, 9000] {
                let plan = plan(&raw, |c| {
                    c.queues = queues;
                    c.mtu = mtu;
                });
                let name = driver_name(&raw);
                assert_eq!(plan.conf.offloads & !raw.offloads, 0, "{name}");
                assert_eq!(plan.conf.rss & !raw.rss, 0, "{name}");
                let hash = plan.conf.offloads & LG_CAP_RX_HASH != 0;
                assert!(!hash || plan.conf.rss != 0, "{name} with {queues} queues");
                assert!(plan.conf.rss == 0 || queues > 1, "{name}");
                assert_eq!(hash, plan.caps.rx_hash, "{name}");
            }
        }
    }
    assert!(plan(&igb(), |c| c.queues = 2).caps.rx_hash);
}

#[test]
fn packets_are_hashed_by_ports_and_else_by_addresses() {
    let rows = [
        (RSS_ALL, RSS_TCP, "by addresses and ports, key of 40 bytes"),
        (RSS_TCP, RSS_TCP, "by addresses and ports, key of 40 bytes"),
        (
            RSS_IP,
            RSS_IP,
            "by addresses only (ports not offered), key of 40 bytes",
        ),
        (
            LG_RSS_TCP4 | RSS_IP,
            LG_RSS_TCP4 | LG_RSS_IP6,
            "IPv4 by addresses and ports, IPv6 by addresses only (ports not offered), \
             key of 40 bytes",
        ),
        (
            LG_RSS_IP4,
            LG_RSS_IP4,
            "IPv4 by addresses only (ports not offered), IPv6 by nothing (not offered), \
             key of 40 bytes",
        ),
        (0, 0, "off (not offered): one queue receives"),
    ];
    for (offered, hashed, says) in rows {
        let mut raw = igb();
        raw.rss = offered;
        let plan = plan(&raw, |c| c.queues = 2);
        assert_eq!(plan.conf.rss, hashed, "{offered:#x}");
        assert_eq!(plan.caps.rss, hashed != 0);
        assert_eq!(plan.rss.to_string(), says, "{offered:#x}");
    }
    // A key may be longer than any card's today.
    let mut raw = igb();
    raw.rss_key_len = 255;
    assert!(plan(&raw, |c| c.queues = 2).caps.rss);
}

#[test]
fn the_configuration_switches_offloads_off() {
    let tso = Disable {
        tso: true,
        ..Disable::default()
    };
    let off = plan(&igb(), |c| c.disable = tso);
    assert!(!off.caps.tso && off.caps.tx_csum && off.caps.rx_csum);
    assert_eq!(
        off.reasons.stack_does(),
        "tx ip checksums (used with segmentation only), segmentation (disabled)"
    );
    let all = Disable {
        tso: true,
        tx_csum: true,
        rx_csum: true,
    };
    let off = plan(&igb(), |c| c.disable = all);
    assert_eq!(off.conf.offloads, LG_CAP_MULTI_SEGS);
    assert_eq!(off.reasons.port_does(), "chains");
    let csum = Disable {
        tx_csum: true,
        ..Disable::default()
    };
    let off = plan(&igb(), |c| c.disable = csum);
    assert!(
        off.reasons
            .stack_does()
            .contains("segmentation (needs tx tcp checksums)")
    );
}

#[test]
fn assumed_offloads_are_not_asked_of_the_driver() {
    let mut raw = device_of("net_ring");
    raw.offloads = LG_CAP_MULTI_SEGS | LG_CAP_RX_SCATTER;
    let config = PortConfig {
        assume: Assume::ALL,
        ..config("net_ring0")
    };
    let plan = Plan::decide(&config, &config.device, &raw).expect("a plan");
    let caps = plan.caps;
    assert!(caps.tso && caps.tx_csum && caps.rx_csum && caps.rx_ip_csum && !caps.rx_scatter);
    assert_eq!(plan.conf.offloads, LG_CAP_MULTI_SEGS);
    assert_eq!((caps.tso_mss_min, caps.tso_mss_max), (1, u16::MAX));
}

/// Segments of a packet: `nb_mtu_seg_max` holds for each frame of a segmented packet, too.
#[test]
fn a_packet_has_no_more_segments_than_its_frames_may_have() {
    let rows = [
        (i40e(), 7),
        (vmxnet3(), 15),
        (ixgbe(), 32),
        (virtio(), 32),
        (igb(), 32),
    ];
    for (raw, pieces) in rows {
        let caps = plan(&raw, |_| ()).caps;
        assert_eq!(caps.tx_pieces_max, pieces, "{}", driver_name(&raw));
    }
    let mut raw = virtio();
    for (whole, frame, pieces) in [(0, 8, 7), (8, 0, 7), (4, 8, 3), (2, 2, 1)] {
        (raw.tx_segs_max, raw.tx_mtu_segs_max) = (whole, frame);
        let plan = plan(&raw, |_| ());
        assert!(plan.caps.multi_segs);
        assert_eq!(plan.caps.tx_pieces_max, pieces, "{whole} {frame}");
    }
    (raw.tx_segs_max, raw.tx_mtu_segs_max) = (1, 1);
    let plan = plan(&raw, |_| ());
    assert!(!plan.caps.multi_segs && !plan.caps.tso);
    assert_eq!(plan.conf.offloads & LG_CAP_MULTI_SEGS, 0);
    assert!(
        plan.reasons
            .stack_does()
            .starts_with("chains (one segment a frame)")
    );
}

/// i40e refuses an MSS below 256, vmxnet3 a segment of 16 KiB: a record with its header and tag.
#[test]
fn what_a_driver_would_refuse_is_segmented_in_software() {
    for raw in cards() {
        let caps = plan(&raw, |_| ()).caps;
        assert_eq!(
            (caps.tso_mss_min, caps.tso_mss_max),
            (256, 9216),
            "{}",
            driver_name(&raw)
        );
    }
    assert_eq!(plan(&vmxnet3(), |_| ()).caps.tx_piece_len_max, 16_383);
    assert_eq!(plan(&igb(), |_| ()).caps.tx_piece_len_max, u32::MAX);
    assert_eq!(
        plan(&device_of("net_enic"), |_| ()).caps.tx_piece_len_max,
        16_383
    );
}

#[test]
fn descriptors_keep_the_limits_of_the_device() {
    // Wanted, least, most, alignment of the device, alignment of the driver.
    let rows = [
        ((1024, 32, 4096, 8, 1), 1024),
        ((64, 512, 4096, 1, 1), 512),
        ((4096, 32, 1024, 8, 1), 1024),
        ((100, 32, 4096, 8, 1), 104),
        ((100, 128, 4096, 1, 32), 128),
        ((1000, 128, 4096, 1, 32), 1024),
        ((1000, 0, 0, 0, 1), 1000),
        ((65_535, 0, 0, 8, 1), 65_528),
        ((4090, 64, 4095, 32, 1), 4064),
    ];
    for ((wanted, min, max, align, other), found) in rows {
        assert_eq!(
            within(wanted, min, max, align, other),
            found,
            "{wanted} {min} {max} {align}"
        );
    }
    let sizes = plan(&vmxnet3(), |c| {
        (c.rx_descriptors, c.tx_descriptors) = (130, 64)
    })
    .sizes;
    assert_eq!((sizes.rx_descriptors, sizes.tx_descriptors), (160, 512));
}

/// vmxnet3 fills two rings a queue: with 512 packet buffers for the stack and 1 024 descriptors it
/// must still have buffers left for what the stack holds.
#[test]
fn the_pool_holds_what_the_rings_and_the_stack_hold() {
    for raw in cards() {
        let name = driver_name(&raw);
        let rings = if name == "net_vmxnet3" { 2 } else { 1 };
        let plan = plan(&raw, |c| c.rx_buffers = 512);
        let sizes = plan.sizes;
        assert_eq!(sizes.rx_descriptors, 1024, "{name}");
        assert!(
            sizes.rx_mbufs >= rings * 1024 + dpdk_sys::LG_BURST + 512,
            "{name}: {sizes:?}"
        );
    }
    // The members of a bond fill their rings from its pool.
    let bond = config("net_bonding0,mode=4,slave=0000:03:00.0,slave=0000:03:00.1");
    let plan = Plan::decide(&bond, &bond.device, &device_of("net_bonding")).expect("a plan");
    assert!(
        plan.sizes.rx_mbufs >= 4 * 1024 + bond.rx_buffers,
        "{:?}",
        plan.sizes
    );
}

/// A packet stays in the ring of one member for as long as the others get the packets. So each ring
/// counts, and what they hold is copies: page buffers in them would have no bound.
#[test]
fn a_bond_holds_copies_in_the_rings_of_all_members() {
    let mut raw = device_of("net_bonding");
    raw.offloads = INTEL | LG_CAP_TX_TSO;
    let chains = "chains (the members' rings would hold page buffers without a bound)";
    for members in 1..4_u32 {
        let list: Vec<String> = (0..members).map(|n| format!("slave=03:00.{n}")).collect();
        let bond = config(&format!("net_bonding0,mode=4,{}", list.join(",")));
        let mut plan = Plan::decide(&bond, &bond.device, &raw).expect("a plan");
        plan.set_sent_release(&bond, &bond.device, SentRelease::OnReuse);
        let (caps, sizes) = (plan.caps, plan.sizes);
        assert_eq!(caps.holds_page_buffers(), members == 1);
        assert_eq!(plan.reasons.stack_does().contains(chains), members > 1);
        assert!(!caps.tso || members == 1, "{caps:?}");
        assert!(
            sizes.tx_mbufs >= members * 1024 + dpdk_sys::LG_BURST,
            "{sizes:?}"
        );
        assert!(
            sizes.tx_room >= sizes.frame_max || members == 1,
            "{sizes:?}"
        );
        let taken = sizes.rx_pool(0, &bond).bytes() + sizes.tx_pool(0, &bond).bytes();
        assert!(bond.queue_bytes_max() >= taken, "{members}: {sizes:?}");
    }
}

/// A driver may make a ring longer than it was asked to.
#[test]
fn a_ring_longer_than_its_pool_is_refused_with_the_numbers() {
    let config = PortConfig {
        rx_descriptors: 64,
        rx_buffers: 512,
        ..config("0000:03:00.0")
    };
    let plan = Plan::decide(&config, &config.device, &virtio()).expect("a plan");
    assert_eq!(
        plan.check_ring(&config, 0),
        Ok(()),
        "the driver doesn't say"
    );
    assert_eq!(plan.check_ring(&config, 64), Ok(()));
    let error = plan.check_ring(&config, 1024).expect_err("a longer ring");
    let buffers = plan.sizes.rx_mbufs;
    assert_eq!(
        error.to_string(),
        format!(
            "port p0: 0000:03:00.0 has 1024 receive descriptors a queue where 64 were asked for, \
             and {buffers} packet buffers are too few for them; set rx_descriptors = 1024"
        )
    );
}

/// The configuration's sum reserves memory for whichever card there is.
#[test]
fn the_sum_of_memory_is_enough_for_every_card() {
    for raw in cards() {
        for (descriptors, mtu) in [(64, 1500), (1024, 1500), (1024, 9000), (4096, 9000)] {
            let config = PortConfig {
                rx_descriptors: descriptors,
                tx_descriptors: descriptors,
                mtu,
                ..config("0000:03:00.0")
            };
            let plan = Plan::decide(&config, &config.device, &raw).expect("a plan");
            let rx = plan.sizes.rx_pool(0, &config).bytes();
            let taken = rx + plan.sizes.tx_pool(0, &config).bytes();
            let name = driver_name(&raw);
            assert!(
                config.queue_bytes_max() >= taken,
                "{name} {descriptors} {mtu}"
            );
        }
    }
}

/// A ring that gives nothing back needs packet buffers for all of its frames, chains or copies.
#[test]
fn the_pool_holds_what_a_ring_keeps() {
    for raw in cards() {
        let name = driver_name(&raw);
        for mtu in [1500, 9000] {
            let config = PortConfig {
                mtu,
                ..config("0000:03:00.0")
            };
            let Ok(mut plan) = Plan::decide(&config, &config.device, &raw) else {
                continue;
            };
            let before = plan.sizes;
            for release in [SentRelease::OnRequest, SentRelease::InEachCall] {
                plan.set_sent_release(&config, &config.device, release);
                assert_eq!(plan.sizes, before, "{name}");
            }
            plan.set_sent_release(&config, &config.device, SentRelease::OnReuse);
            let (caps, sizes) = (plan.caps, plan.sizes);
            assert!(caps.multi_segs && caps.tx_pieces_max <= 4, "{name}");
            let frames = u32::from(sizes.tx_descriptors) + dpdk_sys::LG_BURST;
            assert!(sizes.tx_mbufs >= 5 * frames, "{name}: {sizes:?}");
            assert!(4 * sizes.tx_room >= sizes.frame_max, "{name}: {sizes:?}");
            let taken = sizes.rx_pool(0, &config).bytes() + sizes.tx_pool(0, &config).bytes();
            assert!(config.queue_bytes_max() >= taken, "{name} {mtu}: {sizes:?}");
        }
        let known = match name.as_str() {
            "net_vmxnet3" => Some(SentRelease::InEachCall),
            // They have rte_eth_tx_done_cleanup, and stop after it.
            "net_e1000_igb" | "net_e1000_igb_vf" => Some(SentRelease::OnReuse),
            _ => None,
        };
        assert_eq!(plan(&raw, |_| ()).known_release, known, "{name}");
    }
}

/// mlx5 makes rings of the next power of two, and keeps packets in all of it.
#[test]
fn a_transmit_ring_counts_as_long_as_it_is() {
    let config = PortConfig {
        tx_descriptors: 1100,
        ..config("0000:03:00.0")
    };
    for (raw, found, expected) in [
        (i40e(), 2048, 2048),
        (i40e(), 1120, 1120),
        (virtio(), 0, 1100),
    ] {
        let mut plan = Plan::decide(&config, &config.device, &raw).expect("a plan");
        plan.set_tx_ring(found);
        plan.set_sent_release(&config, &config.device, SentRelease::OnReuse);
        let sizes = plan.sizes;
        assert_eq!(sizes.tx_descriptors, expected);
        assert!(sizes.tx_mbufs >= 5 * u32::from(expected), "{sizes:?}");
        let taken = sizes.rx_pool(0, &config).bytes() + sizes.tx_pool(0, &config).bytes();
        assert!(config.queue_bytes_max() >= taken, "{sizes:?}");
    }
}

#[test]
fn frames_longer_than_a_buffer_are_scattered_or_get_longer_buffers() {
    // SAFETY: returns a constant.
    let headroom = unsafe { dpdk_sys::lg_headroom() };
    // Card, MTU, scattered, data room without headroom.
    let rows = [
        (igb(), 1500, false, 2048),
        (igb(), 2010, false, 2048),
        (igb(), 2011, true, 2048),
        (igb(), 9000, true, 2048),
        (vmxnet3(), 1500, false, 2048),
        (vmxnet3(), 9000, false, 9216),
        (virtio(), 9000, true, 2048),
    ];
    for (raw, mtu, scatter, room) in rows {
        let plan = plan(&raw, |c| c.mtu = mtu);
        let name = driver_name(&raw);
        assert_eq!(plan.caps.rx_scatter, scatter, "{name} {mtu}");
        assert_eq!(
            plan.conf.offloads & LG_CAP_RX_SCATTER != 0,
            scatter,
            "{name} {mtu}"
        );
        assert_eq!(plan.sizes.rx_data_room, headroom + room, "{name} {mtu}");
        assert_eq!(plan.conf.mtu, mtu);
    }
    let mut raw = igb();
    raw.rx_bufsize_min = 4096;
    assert_eq!(plan(&raw, |_| ()).sizes.rx_data_room, 4096);
}

#[test]
fn the_mtu_keeps_the_limits_of_the_device() {
    // Card, largest MTU by the rules of rte_eth_dev_configure.
    let rows = [
        (em(), 9216),
        (igb(), 16_361),
        (vmxnet3(), 9000),
        (i40e(), 9702),
        (virtio(), 9000),
    ];
    for (raw, most) in rows {
        let name = driver_name(&raw);
        let open = |mtu| {
            let config = PortConfig {
                mtu,
                ..config("0000:03:00.0")
            };
            Plan::decide(&config, &config.device, &raw).map(|plan| plan.conf.mtu)
        };
        assert_eq!(open(most), Ok(most), "{name}");
        let error = open(most + 1).expect_err("too long");
        assert!(
            matches!(error, PortError::Mtu { limit, .. } if limit == most),
            "{name}: {error}"
        );
    }
    // A driver whose largest frame is the largest MTU and an Ethernet header, without a CRC.
    let mut raw = igb();
    (raw.max_mtu, raw.max_rx_pktlen) = (9000, 9014);
    let config = PortConfig {
        mtu: 9000,
        ..config("0000:03:00.0")
    };
    let plan = Plan::decide(&config, &config.device, &raw);
    assert_eq!(plan.map(|plan| plan.conf.mtu), Ok(9000));
    let mut raw = igb();
    raw.min_mtu = 300;
    let config = PortConfig { mtu: 200, ..config };
    let error = Plan::decide(&config, &config.device, &raw).expect_err("too short");
    assert!(
        matches!(error, PortError::Mtu { limit: 300, .. }),
        "{error}"
    );
}

/// One worker's full ring must not stall the others. Alone, a worker profits from the card's own
/// buffer.
#[test]
fn a_full_ring_drops_where_there_are_several() {
    let rows = [
        (igb(), 1, false),
        (igb(), 2, true),
        (i40e(), 2, true),
        (em(), 2, false),
    ];
    for (raw, queues, drops) in rows {
        let plan = plan(&raw, |c| c.queues = queues);
        assert_eq!(plan.rx_drop, drops, "{} {queues}", driver_name(&raw));
    }
}

#[test]
fn too_few_queues_are_an_error() {
    let mut config = config("0000:03:00.0");
    config.queues = 3;
    let error = Plan::decide(&config, &config.device, &em()).expect_err("two queues");
    assert!(
        matches!(
            error,
            PortError::Queues {
                wanted: 3,
                limit: 2,
                ..
            }
        ),
        "{error}"
    );
}

//! Devices other than rings. What a driver reports isn't always what it does.

use std::fs;

use lockgate_drivers::{
    Capabilities, Disable, Driver, FaultInjection, Port, PortConfig, PortError, WorkerPorts,
};
use lockgate_testing::{ScratchDir, wait_until};
use lockgate_wire::IfaceId;
use pktbuf::{Output, TxError};

use crate::kernel::{PacketSocket, command, fresh_network, ip, quiet, veth};
use crate::support::{
    Shape, bytes, close_full, eal, filled, logged, open, pages, pattern, receive, send, try_send,
    verify_frame, wait_link, whole, worker,
};
use lockgate_testing::cases::{Case, skip_case};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "null::packets_vanish_and_buffers_return",
        packets_vanish_and_buffers_return,
    ),
    Case::new(
        "null::flows_are_spread_by_a_table",
        flows_are_spread_by_a_table,
    ),
    Case::new("pcap::frames_are_whole", captured_frames_are_whole),
    Case::new("af_packet::frames_both_ways", frames_both_ways),
    Case::new("af_packet::jumbo_frames_both_ways", jumbo_frames_both_ways),
    Case::new("af_packet::mtu_is_the_kernels", mtu_is_the_kernels),
    Case::new("af_packet::framesz_limits_the_mtu", framesz_limits_the_mtu),
    Case::new("af_packet::two_queues", two_queues),
    Case::new(
        "af_packet::link_follows_the_kernel",
        link_follows_the_kernel,
    ),
    Case::new(
        "af_packet::failing_allocations_only_delay",
        failing_allocations_only_delay,
    ),
    Case::new("af_xdp::frames_are_linear", frames_are_linear),
    Case::new("bond::does_what_its_members_do", does_what_its_members_do),
    Case::new("tap::checksums_and_segments", tap_checksums_and_segments),
    Case::new("tap::two_queues", tap_two_queues),
    Case::new("tap::link_changes_are_counted", tap_link_changes),
    Case::new("ports::mac_changes_are_noticed", mac_changes),
    Case::new("ports::resets_are_reported", resets_are_reported),
    Case::new(
        "tap::disabled_offloads_are_done_in_software",
        disabled_offloads_are_done_in_software,
    ),
    Case::new("multicast::filters_by_driver", multicast_filters_by_driver),
    Case::new("memif::frames_both_ways", memif_frames_both_ways),
];

fn config(device: &str) -> PortConfig {
    PortConfig::new("p0", device.parse().expect("a device string"))
}

fn packets_vanish_and_buffers_return() {
    let eal = eal();
    let (port, mut ports) = open(eal, &config("net_null0,no-rx=1"));
    assert!(!port.capabilities().multi_segs);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 700, 1);
    for _ in 0..1000 {
        send(&mut ports, Shape::default(), &[whole(&page), whole(&page)]);
    }
    assert!(ports.flush());
    assert_eq!(ports.rx_burst(|_, _| ()), 0);
    let counters = port.counters();
    let sent = counters.total();
    assert_eq!((sent.tx_packets, sent.tx_payload_copied), (1000, 1_400_000));
    assert_eq!(sent.tx_bytes, 1000 * (14 + 20 + 32 + 1400));
    assert_eq!(counters.device.tx_packets, 1000);
    drop((page, ports));
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
}

/// A port that hashes gets a redirection table over all of its queues, which is read back. With one
/// queue there is no RSS, and no offload that depends on it.
fn flows_are_spread_by_a_table() {
    let eal = eal();
    // Not every release of the driver tells the length of its key.
    let key = match dpdk_sys::LG_NULL_KEY_LEN {
        0 => "the driver's key".to_owned(),
        bytes => format!("key of {bytes} bytes"),
    };
    for (queues, rss, says) in [
        (
            2,
            true,
            format!("by addresses and ports, {key}, table of 128"),
        ),
        (1, false, "off (one queue)".to_owned()),
    ] {
        let config = PortConfig {
            queues,
            ..config(&format!("net_null{queues},no-rx=1"))
        };
        let (log, port) = logged(|| Port::open(eal, &config).unwrap());
        assert_eq!(port.capabilities().rss, rss);
        assert!(!port.capabilities().rx_hash, "net_null reports none");
        let mut found = [0; 255];
        let id = number_of(&format!("net_null{queues}"));
        // SAFETY: an open port, and so many bytes to write.
        let len = unsafe { dpdk_sys::lg_port_rss_key(id, found.as_mut_ptr(), 255) };
        let len = usize::try_from(len).expect("at most 255");
        let expected = if rss {
            dpdk_sys::LG_NULL_KEY_LEN as usize
        } else {
            0
        };
        assert_eq!(found[..len], *[0x6d, 0x5a].repeat(128).split_at(expected).0);
        assert!(log.contains(&format!("rss=\"{says}\"")), "{log}");
        assert!(
            log.contains("multicast=\"none (no IPv6 address)\""),
            "{log}"
        );
        assert!(
            log.contains("stack_does=\"chains (not offered), tx tcp"),
            "{log}"
        );
        close_full(port);
    }
}

/// Each frame is whole, with complete checksums, as a capture file shows: in one mbuf on a port
/// without scattered transmit, else in several.
fn captured_frames_are_whole() {
    let eal = eal();
    let scratch = ScratchDir::new();
    let path = scratch.join("sent.pcap");
    let (port, mut ports) = open(
        eal,
        &config(&format!("net_pcap0,tx_pcap={}", path.display())),
    );
    let chains = dpdk_sys::LG_PCAP_SENDS_CHAINS != 0;
    assert_eq!(port.capabilities().multi_segs, chains);
    let mut pool = pages(eal);
    let (a, b) = (filled(&mut pool, 333, 1), filled(&mut pool, 1001, 2));
    for ipv6 in [false, true] {
        send(
            &mut ports,
            Shape {
                ipv6,
                seq: 9,
                mss: 0,
            },
            &[whole(&a), whole(&b)],
        );
        send(
            &mut ports,
            Shape {
                ipv6,
                seq: 9,
                mss: 500,
            },
            &[whole(&a), whole(&b)],
        );
    }
    assert!(ports.flush());
    drop((a, b, ports));
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
    let file = fs::read(&path).expect("the capture");
    let expected: Vec<u8> = [pattern(333, 1), pattern(1001, 2)].concat();
    // A 24-byte file header; 16 bytes in front of each packet, its length at 8.
    let mut rest = &file[24..];
    let mut streams = Vec::new();
    while let Some((record, tail)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
        let (seq, payload) = verify_frame(&tail[..len]);
        if seq == 9 {
            streams.push(Vec::new());
        }
        streams.last_mut().unwrap().extend_from_slice(payload);
        rest = &tail[len..];
    }
    assert_eq!(streams, [&expected[..]; 4]);
}

fn frames_both_ways() {
    both_ways("net_af_packet0,iface=port0", 1500);
}

fn jumbo_frames_both_ways() {
    both_ways("net_af_packet0,iface=port0", 9000);
}

/// Sends frames of every kind to the kernel and receives them again, at a port on `port0`.
fn both_ways(device: &str, mtu: u16) -> Capabilities {
    let kernel = veth("port0", mtu);
    let eal = eal();
    let (mut port, mut ports) = open(
        eal,
        &PortConfig {
            mtu,
            ..config(device)
        },
    );
    wait_link(&port, true);
    assert_eq!(ports.info(IfaceId(0)).mtu, mtu);
    exchange(eal, &mut ports, &kernel, usize::from(mtu));
    let mut counters = port.counters();
    assert_eq!(counters.total().rx_packets, counters.total().tx_packets);
    assert_eq!(counters.device.tx_errors, 0, "{counters:?}");
    if port.capabilities().multi_segs {
        assert_eq!(counters.total().tx_payload_copied, 0);
    }
    counters.extended.retain(|(_, value)| *value > 0);
    assert!(!counters.extended.is_empty());
    let caps = port.capabilities();
    drop(ports);
    let pools = port.close().expect("no queue is out");
    // net_af_xdp forgets the buffers in its rings. Every other driver gives all back.
    let is_xdp = device.starts_with("net_af_xdp");
    assert!(pools.iter().all(|p| p.missing() == 0), "{pools:?}");
    assert_eq!(pools.iter().all(|p| p.is_full()), !is_xdp, "{pools:?}");
    caps
}

fn exchange(
    eal: lockgate_drivers::Eal,
    ports: &mut WorkerPorts,
    kernel: &PacketSocket,
    mtu: usize,
) {
    let mut pool = pages(eal);
    for ipv6 in [false, true] {
        let longest = mtu - 32 - if ipv6 { 40 } else { 20 };
        for len in [0, 1, 100, longest - 1, longest] {
            for pieces in [1, 3] {
                let page = filled(&mut pool, len, 5);
                let part = (len as u32).div_ceil(pieces);
                let slices: Vec<_> = (0..pieces)
                    .map(|n| whole(&page).part(n * part, part))
                    .filter(|s| s.len > 0)
                    .collect();
                send(
                    ports,
                    Shape {
                        ipv6,
                        seq: len as u32,
                        mss: 0,
                    },
                    &slices,
                );
                assert!(ports.flush());
                let frame = kernel.receive().expect("the kernel gets it");
                assert_eq!(verify_frame(&frame), (len as u32, &pattern(len, 5)[..]));
                kernel.send(&frame);
                let back = receive(ports, 1).remove(0);
                assert!(back.is_writable(), "memory of our own");
                assert!(bytes(&back) == frame, "the frame comes back");
            }
        }
    }
    pool.reclaim();
    assert!(pool.is_full());
}

fn mtu_is_the_kernels() {
    let _kernel = veth("port0", 4000);
    let eal = eal();
    let device = "net_af_packet0,iface=port0";
    let error = Port::open(
        eal,
        &PortConfig {
            mtu: 9000,
            ..config(device)
        },
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            PortError::Mtu {
                mtu: 9000,
                limit: 4000,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("the kernel interface's MTU is 4000"),
        "{error}"
    );
    close_full(
        Port::open(
            eal,
            &PortConfig {
                mtu: 4000,
                ..config(device)
            },
        )
        .unwrap(),
    );
    let interface = fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(interface.contains("port0"));
    let error = Port::open(
        eal,
        &PortConfig {
            mtu: 1501,
            ..config("net_af_xdp0,iface=port0")
        },
    );
    assert!(
        matches!(error, Err(PortError::Mtu { limit: 1500, .. })),
        "{error:?}"
    );
}

fn framesz_limits_the_mtu() {
    let _kernel = veth("port0", 9000);
    let eal = eal();
    let given = "net_af_packet0,iface=port0,blocksz=16384,framesz=4096,framecnt=64";
    let error = Port::open(
        eal,
        &PortConfig {
            mtu: 9000,
            ..config(given)
        },
    )
    .unwrap_err();
    assert!(
        matches!(error, PortError::Mtu { limit: 4012, .. }),
        "{error}"
    );
    close_full(
        Port::open(
            eal,
            &PortConfig {
                mtu: 4012,
                ..config(given)
            },
        )
        .unwrap(),
    );
}

fn two_queues() {
    let kernel = veth("port0", 1500);
    let eal = eal();
    let two = PortConfig {
        queues: 2,
        ..config("net_af_packet0,iface=port0")
    };
    let mut port = Port::open(eal, &two).unwrap();
    wait_link(&port, true);
    let mut workers: Vec<_> = port
        .take_queues()
        .into_iter()
        .map(|q| WorkerPorts::new(vec![q], &[0]))
        .collect();
    let mut pool = pages(eal);
    let page = filled(&mut pool, 50, 0);
    for worker in &mut workers {
        send(worker, Shape::default(), &[whole(&page)]);
        assert!(worker.flush());
        let frame = kernel.receive().expect("the kernel gets it");
        kernel.send(&frame);
    }
    // The kernel spreads by flow, and it's one flow.
    let mut got = vec![0; workers.len()];
    wait_until("two packets", || {
        for (n, worker) in got.iter_mut().zip(&mut workers) {
            *n += worker.rx_burst(|_, _| ());
        }
        got.iter().sum::<usize>() >= 2
    });
    assert_eq!(got.iter().sum::<usize>(), 2, "{got:?}");
    assert!(got.contains(&2), "{got:?}");
    drop(workers);
    close_full(port);
}

fn link_follows_the_kernel() {
    let _kernel = veth("port0", 1500);
    let eal = eal();
    let (port, mut ports) = open(eal, &config("net_af_packet0,iface=port0"));
    wait_link(&port, true);
    assert!(ports.info(IfaceId(0)).link_up);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 50, 0);
    send(&mut ports, Shape::default(), &[whole(&page)]);
    ip("link set kernel0 down");
    wait_link(&port, false);
    assert!(!ports.info(IfaceId(0)).link_up);
    let refused = try_send(&mut ports, Shape::default(), &[whole(&page)]);
    assert_eq!(refused, Err(TxError::LinkDown));
    assert!(ports.flush(), "what waited is dropped");
    assert_eq!(port.counters().total().tx_dropped_link, 2);
    ip("link set kernel0 up");
    wait_link(&port, true);
    assert_eq!(port.link_changes(), 3, "up, down, up");
    send(&mut ports, Shape::default(), &[whole(&page)]);
    assert!(ports.flush());
    drop((page, ports));
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
}

/// A frame that finds no buffer stays in the kernel's ring until it finds one.
fn failing_allocations_only_delay() {
    let kernel = veth("port0", 1500);
    let eal = eal();
    let inject = Some(FaultInjection { seed: 1, one_in: 2 });
    let config = PortConfig {
        inject,
        ..config("net_af_packet0,iface=port0")
    };
    let (port, mut ports) = open(eal, &config);
    wait_link(&port, true);
    let mut pool = pages(eal);
    for seq in 0..200 {
        let page = filled(&mut pool, 300, 8);
        send(
            &mut ports,
            Shape {
                seq,
                ..Shape::default()
            },
            &[whole(&page); 3],
        );
        while !ports.flush() {}
        let frame = kernel.receive().expect("the kernel gets it");
        assert_eq!(verify_frame(&frame).0, seq);
        kernel.send(&frame);
        assert!(bytes(&receive(&mut ports, 1)[0]) == frame);
    }
    assert!(port.counters().total().tx_no_mbuf > 0);
    // The driver doesn't count its own failures, but the pools do.
    assert!(
        port.pools().iter().all(|p| p.injected > 50),
        "{:?}",
        port.pools()
    );
    drop(ports);
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
}

fn frames_are_linear() {
    let caps = both_ways("net_af_xdp0,iface=port0", 1500);
    assert!(!caps.multi_segs, "or this proves nothing");
}

/// A bond gets its members before it is set up, so it has their offloads and MAC address. With two
/// members it sends copies.
fn does_what_its_members_do() {
    need_tun();
    let eal = eal();
    let member = dpdk_sys::LG_BOND_MEMBER.to_str().expect("ASCII");
    for (number, taps) in [&["i"][..], &["j", "k"]].into_iter().enumerate() {
        let mut bond = format!("net_bonding{number},mode=1");
        for tap in taps {
            let name = format!("net_tap_{tap}");
            let arguments = format!("iface=tap{tap}");
            let [name_c, arguments] = [name.clone(), arguments]
                .map(|text| std::ffi::CString::new(text).expect("no zero"));
            // SAFETY: two NUL-terminated strings, which the bus copies.
            let rc = unsafe { dpdk_sys::rte_vdev_init(name_c.as_ptr(), arguments.as_ptr()) };
            assert_eq!(rc, 0, "{name}");
            bond += &format!(",{member}={name}");
        }
        let (log, (port, mut ports)) = logged(|| open(eal, &config(&bond)));
        for tap in taps {
            command("ip", &format!("link set tap{tap} up"));
        }
        wait_link(&port, true);
        let caps = port.capabilities();
        assert_eq!(caps.multi_segs, taps.len() == 1, "{log}");
        let why = "chains (the members' rings would hold page buffers without a bound)";
        assert_eq!(log.contains(why), taps.len() > 1, "{log}");
        assert!(caps.tx_csum, "{log}");
        let mut show = std::process::Command::new("ip");
        let shown = show
            .args(["link", "show", &format!("tap{}", taps[0])])
            .output();
        let shown = String::from_utf8(shown.expect("ip is there").stdout).expect("text");
        assert!(shown.contains(&port.mac().to_string()), "{shown}{log}");
        let mut pool = pages(eal);
        let page = filled(&mut pool, 1000, 3);
        send(&mut ports, Shape::default(), &[whole(&page)]);
        assert!(ports.flush());
        let copied = port.counters().total().tx_payload_copied;
        assert_eq!(copied, if taps.len() == 1 { 0 } else { 1000 });
        // The bond itself reports no resets.
        for (tap, resets) in taps.iter().zip(1..) {
            let member = number_of(&format!("net_tap_{tap}"));
            // SAFETY: an open port.
            assert_eq!(unsafe { dpdk_sys::lg_port_report_reset(member) }, 0);
            let (log, _) = logged(|| port.poll_link());
            assert!(log.contains("the device was reset"), "{log}");
            assert_eq!(port.resets(), resets);
        }
        drop((ports, page));
        // The rings of the members held buffers of its pools.
        close_full(port);
    }
}

/// A changed MAC address is noticed with the link state: that of a kernel interface, and that of a
/// device. Without one the port keeps the address that was made for it.
fn mac_changes() {
    let _kernel = veth("port0", 1500);
    let eal = eal();
    let (port, ports) = open(eal, &config("net_af_packet0,iface=port0"));
    let mac_of = |ports: &WorkerPorts| ports.info(IfaceId(0)).mac.expect("it is Ethernet");
    let before = port.mac();
    port.poll_link();
    assert_eq!((port.mac(), port.mac_changes()), (before, 0));
    let mac = "02:00:00:00:aa:01";
    ip(&format!("link set port0 address {mac}"));
    assert_eq!(mac_of(&ports), before, "not polled yet");
    let (log, ()) = logged(|| {
        for _ in 0..2 {
            port.poll_link();
        }
    });
    assert_eq!(mac_of(&ports).to_string(), mac);
    assert_eq!(
        (port.mac().to_string().as_str(), port.mac_changes()),
        (mac, 1)
    );
    assert_eq!(log.matches("MAC address changed").count(), 1, "{log}");
    assert!(log.contains(&format!("mac={mac} before={before}")), "{log}");
    drop(ports);
    close_full(port);

    let (port, ports) = open(eal, &config("net_null0,no-rx=1"));
    let made = port.mac();
    let id = number_of("net_null0");
    for (last, changes) in [(2, 1), (3, 2), (3, 2)] {
        let mac = [2, 0, 0, 0, 0xaa, last];
        // SAFETY: an open port, and six bytes to read.
        assert_eq!(unsafe { dpdk_sys::lg_port_set_mac(id, mac.as_ptr()) }, 0);
        port.poll_link();
        assert_eq!((mac_of(&ports).0, port.mac_changes()), (mac, changes));
    }
    assert_ne!(port.mac(), made);
    drop(ports);
    close_full(port);
}

/// A reset that the device reports is counted, and logged as an error once for each poll.
fn resets_are_reported() {
    let eal = eal();
    let (port, ports) = open(eal, &config("net_null0,no-rx=1"));
    let id = number_of("net_null0");
    let polled = || {
        let (log, _) = logged(|| port.poll_link());
        (log.matches("the device was reset").count(), port.resets())
    };
    assert_eq!(polled(), (0, 0));
    // SAFETY: an open port.
    let report = || assert_eq!(unsafe { dpdk_sys::lg_port_report_reset(id) }, 0);
    report();
    assert_eq!(polled(), (1, 1));
    assert_eq!(polled(), (0, 1));
    report();
    report();
    assert_eq!(polled(), (1, 3));
    drop(ports);
    close_full(port);
    // The number of a closed port is used again.
    let (port, ports) = open(eal, &config("net_null0,no-rx=1"));
    port.poll_link();
    assert_eq!(port.resets(), 0);
    drop(ports);
    close_full(port);
}

/// The number of an open port.
fn number_of(device: &str) -> u16 {
    let name = std::ffi::CString::new(device).expect("a name");
    let mut id = 0;
    // SAFETY: a NUL-terminated name and a number of ours to write.
    let rc = unsafe { dpdk_sys::lg_port_find(name.as_ptr(), &raw mut id) };
    assert_eq!(rc, 0, "{device}");
    id
}

fn tap_link_changes() {
    need_tun();
    let eal = eal();
    let (port, ports) = open(eal, &config("net_tap0,iface=tap0"));
    command("ip", "link set tap0 up");
    wait_link(&port, true);
    let before = port.link_changes();
    for round in 1..4 {
        command("ip", "link set tap0 down");
        wait_link(&port, false);
        assert!(!ports.info(IfaceId(0)).link_up);
        assert!(!port.poll_link(), "the same state is no change");
        command("ip", "link set tap0 up");
        wait_link(&port, true);
        assert_eq!(port.link_changes(), before + 2 * round);
    }
    drop(ports);
    close_full(port);
}

/// net_tap has checksums and segmentation with three faults that must have no effect: it compares
/// whole frames with its MTU of 1500, doesn't segment IPv6 packets, and sums pieces of odd length
/// wrong.
fn tap_checksums_and_segments() {
    need_tun();
    let eal = eal();
    let (port, mut ports) = open(eal, &config("net_tap0,iface=tap0"));
    let kernel = PacketSocket::new("tap0");
    command("ip", "link set tap0 up");
    let caps = port.capabilities();
    assert!(
        caps.tso && caps.tx_csum && caps.rx_csum && caps.multi_segs,
        "{caps:?}"
    );
    wait_link(&port, true);
    let mut pool = pages(eal);
    for (first, second) in [(3332, 6001), (3333, 6001)] {
        for ipv6 in [false, true] {
            let (a, b) = (filled(&mut pool, first, 1), filled(&mut pool, second, 2));
            let expected: Vec<u8> = [pattern(first, 1), pattern(second, 2)].concat();
            let shortest = 1500 - 32 - if ipv6 { 40 } else { 20 };
            for mss in [700, 701, shortest - 14, shortest] {
                send(
                    &mut ports,
                    Shape { ipv6, seq: 0, mss },
                    &[whole(&a), whole(&b)],
                );
                assert!(ports.flush(), "mss {mss}: {:?}", port.counters());
                let mut stream = Vec::new();
                while stream.len() < expected.len() {
                    let frame = kernel.receive().expect("the kernel gets it");
                    let (seq, payload) = verify_frame(&frame);
                    assert_eq!(seq as usize, stream.len());
                    assert!(payload.len() <= usize::from(mss), "{}", payload.len());
                    stream.extend_from_slice(payload);
                }
                assert_eq!(stream, expected, "mss {mss}");
            }
            for n in [11, 12] {
                let payload = [whole(&a).part(0, n), whole(&b).part(5, 999)];
                send(
                    &mut ports,
                    Shape {
                        ipv6,
                        ..Shape::default()
                    },
                    &payload,
                );
                assert!(ports.flush(), "{n}: {:?}", port.counters());
                let frame = kernel.receive().expect("the kernel gets it");
                let expected = [&expected[..n as usize], &pattern(second, 2)[5..1004]].concat();
                assert_eq!(verify_frame(&frame).1, expected);
                kernel.send(&frame);
                let back = receive(&mut ports, 1).remove(0);
                assert!(bytes(&back) == frame, "the frame comes back");
                assert_eq!(back.l4_checksum(), pktbuf::Checksum::Good);
            }
        }
    }
    let sent = port.counters().total();
    assert_eq!(
        (sent.tx_tso, sent.tx_gso, sent.tx_payload_copied),
        (2, 14, 0)
    );
    drop(ports);
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
}

/// A fresh network namespace in which an interface can be made.
fn need_tun() {
    fresh_network();
    if !fs::exists("/dev/net/tun").unwrap_or(false) {
        skip_case("needs /dev/net/tun");
    }
    quiet("default");
}

fn tap_two_queues() {
    need_tun();
    let eal = eal();
    let two = PortConfig {
        queues: 2,
        ..config("net_tap0,iface=tap0")
    };
    let mut port = Port::open(eal, &two).unwrap();
    assert_eq!(port.take_queues().len(), 2);
    close_full(port);
}

/// What the configuration switches off isn't requested of the driver.
fn disabled_offloads_are_done_in_software() {
    need_tun();
    let eal = eal();
    let disable = Disable {
        tso: true,
        tx_csum: true,
        rx_csum: true,
    };
    let config = PortConfig {
        disable,
        ..config("net_tap0,iface=tap0")
    };
    let (log, mut port) = logged(|| Port::open(eal, &config).unwrap());
    assert!(log.contains("segmentation (disabled)"), "{log}");
    let mut ports = worker(&mut port);
    let kernel = PacketSocket::new("tap0");
    command("ip", "link set tap0 up");
    wait_link(&port, true);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 6000, 1);
    let shape = Shape {
        mss: 1400,
        ..Shape::default()
    };
    send(&mut ports, shape, &[whole(&page)]);
    assert!(ports.flush());
    let mut stream = Vec::new();
    while stream.len() < 6000 {
        let frame = kernel.receive().expect("the kernel gets it");
        stream.extend_from_slice(verify_frame(&frame).1);
        kernel.send(&frame);
        let back = receive(&mut ports, 1).remove(0);
        assert_eq!(back.l4_checksum(), pktbuf::Checksum::Unknown);
    }
    assert_eq!(stream, pattern(6000, 1));
    let sent = port.counters().total();
    assert_eq!((sent.tx_tso, sent.tx_gso, sent.tx_packets), (0, 1, 5));
    drop((page, ports));
    pool.reclaim();
    assert!(pool.is_full());
    close_full(port);
}

/// A list of groups where the driver takes one; everything where it has no other filter.
fn multicast_filters_by_driver() {
    need_tun();
    let _kernel = veth("port0", 1500);
    let eal = eal();
    let rows = [
        ("net_tap0,iface=tap0", "multicast=\"4 groups\""),
        (
            "net_af_packet0,iface=port0",
            "multicast=\"promiscuous (a multicast filter is not offered)\"",
        ),
        (
            "net_null0,no-rx=1",
            "multicast=\"all (a list of groups is not offered)\"",
        ),
    ];
    for (device, says) in rows {
        let ipv6 = PortConfig {
            ipv6_addresses: vec!["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()],
            ..config(device)
        };
        let (log, port) = logged(|| Port::open(eal, &ipv6).unwrap());
        assert!(log.contains(says), "{log}");
        close_full(port);
        let (log, port) = logged(|| Port::open(eal, &config(device)).unwrap());
        assert!(
            log.contains("multicast=\"none (no IPv6 address)\""),
            "{log}"
        );
        close_full(port);
    }
}

fn memif_frames_both_ways() {
    let eal = eal();
    let scratch = ScratchDir::new();
    let socket = scratch.join("memif");
    let device = |n: u8, role: &str| {
        let path = socket.display();
        config(&format!(
            "net_memif{n},role={role},id=0,socket={path},socket-abstract=no"
        ))
    };
    let (server, mut at_server) = open(eal, &device(0, "server"));
    let (client, mut at_client) = open(eal, &device(1, "client"));
    assert!(matches!(device(0, "server").device.driver(), Driver::Memif));
    wait_link(&server, true);
    wait_link(&client, true);
    let mut pool = pages(eal);
    for len in [0, 1, 700, 1448] {
        let page = filled(&mut pool, len, 4);
        let half = (len / 2) as u32;
        let slices = [
            whole(&page).part(0, half),
            whole(&page).part(half, u32::MAX),
        ];
        for back in [false, true] {
            let (from, to) = match back {
                false => (&mut at_client, &mut at_server),
                true => (&mut at_server, &mut at_client),
            };
            send(from, Shape::default(), &slices);
            // A client gives the server buffers to fill when it looks for packets.
            let mut got = Vec::new();
            while !from.flush() || got.is_empty() {
                to.rx_burst(|_, buffer| got.push(buffer));
            }
            assert_eq!(got.len(), 1);
            assert_eq!(verify_frame(&bytes(&got[0])).1, pattern(len, 4));
        }
    }
    pool.reclaim();
    assert!(pool.is_full());
    drop((at_server, at_client));
    close_full(client);
    close_full(server);
}

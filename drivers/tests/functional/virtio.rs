//! virtio against vhost, both in this process: a card with TSO and TCP checksums, but without the
//! IPv4 header checksum.

use std::ptr::{self, NonNull};

use lockgate_drivers::{Eal, Port, PortConfig, WorkerPorts};
use lockgate_testing::ScratchDir;
use lockgate_testing::cases::Case;
use pktbuf::{Checksum, Headers, Output as _, Packet, PagePool, PoolConfig, Region, TxMeta};

use crate::support::{
    Shape, bytes, close_full, eal, filled, logged, pages, pattern, receive, send, sum, wait_link,
    whole, worker,
};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "virtio::segments_without_the_ip_checksum",
        segments_without_the_ip_checksum,
    ),
    Case::new(
        "virtio::page_buffers_elsewhere_are_copied",
        page_buffers_elsewhere_are_copied,
    ),
    Case::new(
        "virtio::incomplete_checksums_are_the_ports_word",
        incomplete_checksums_are_the_ports_word,
    ),
    Case::new("virtio::vlan_tags_stay_in_frames", vlan_tags_stay_in_frames),
];

/// A virtio port and the vhost port behind it.
struct Pair {
    virtio: (Port, WorkerPorts),
    vhost: (Port, WorkerPorts),
    /// What both logged when they were opened.
    log: String,
    _scratch: ScratchDir,
}

impl Pair {
    fn open(eal: Eal) -> Self {
        let scratch = ScratchDir::new();
        let socket = scratch.join("vhost");
        let socket = socket.display();
        let open = |device: String| {
            let config = PortConfig::new("p0", device.parse().expect("a device string"));
            let mut port = Port::open(eal, &config).expect("the port opens");
            let ports = worker(&mut port);
            (port, ports)
        };
        // vhost makes the socket, and virtio connects to it.
        let (log, (vhost, virtio)) = logged(|| {
            let vhost = open(format!("net_vhost0,iface={socket},tso=1,legacy-ol-flags=0"));
            let virtio = open(format!("net_virtio_user0,path={socket},queue_size=256"));
            (vhost, virtio)
        });
        wait_link(&vhost.0, true);
        wait_link(&virtio.0, true);
        Self {
            virtio,
            vhost,
            log,
            _scratch: scratch,
        }
    }

    fn close(self) {
        drop((self.virtio.1, self.vhost.1));
        close_full(self.virtio.0);
        close_full(self.vhost.0);
    }
}

/// A pool of page buffers in a memzone: vhost maps only memory of the EAL's own.
fn shared_pages() -> PagePool {
    let config = PoolConfig {
        blocks: 64,
        small_spans: 64,
        large_spans: 16,
    };
    let bytes = PagePool::bytes_needed(config).next_multiple_of(4096);
    let mut zone = dpdk_sys::lg_zone {
        addr: ptr::null_mut(),
        page_bytes: 0,
        node: -1,
    };
    // SAFETY: a NUL-terminated name, and a structure of ours to write; any length is allowed.
    let rc = unsafe {
        dpdk_sys::lg_memzone_reserve(c"virtio_test".as_ptr(), bytes, -1, 0, &raw mut zone)
    };
    assert_eq!(rc, 0);
    let base = NonNull::new(zone.addr.cast::<u8>()).expect("a memzone");
    // SAFETY: the memzone has this length.
    unsafe { base.write_bytes(0, bytes) };
    // SAFETY: nothing else uses the memzone, and it is never freed.
    let mut region = unsafe { Region::from_raw(base, bytes) };
    PagePool::new(&mut region, config).expect("a pool fits")
}

/// The host gets the packet unsegmented: its IPv4 header is complete for the whole length, because
/// the port only updates it.
fn segments_without_the_ip_checksum() {
    let eal = eal();
    let mut pair = Pair::open(eal);
    let caps = pair.virtio.0.capabilities();
    assert!(caps.tso && caps.tx_csum && !caps.tx_ip_csum, "{caps:?}");
    let says = "stack_does=\"tx ip checksums (not offered), rx ip checksums (not offered)\"";
    assert!(pair.log.contains(says), "{}", pair.log);
    let mut pool = shared_pages();
    for ipv6 in [false, true] {
        let (a, b) = (filled(&mut pool, 7001, 1), filled(&mut pool, 16_400, 2));
        let shape = Shape {
            ipv6,
            seq: 7,
            mss: 1400,
        };
        send(&mut pair.virtio.1, shape, &[whole(&a), whole(&b)]);
        assert!(pair.virtio.1.flush());
        let got = receive(&mut pair.vhost.1, 1).remove(0);
        let frame = bytes(&got);
        let l3 = if ipv6 { 40 } else { 20 };
        if !ipv6 {
            assert_eq!(sum(&frame[14..34], 0), 0xffff, "IPv4 header checksum");
        }
        let expected = [pattern(7001, 1), pattern(16_400, 2)].concat();
        assert!(frame[14 + l3 + 32..] == expected, "the payload");
        assert_eq!(got.l4_checksum(), Checksum::Good, "the guest's word");
        assert_eq!(got.segments(), 23_401_u16.div_ceil(1400));
    }
    let sent = pair.virtio.0.counters().total();
    assert_eq!(
        (sent.tx_tso, sent.tx_gso, sent.tx_dropped_driver),
        (2, 0, 0)
    );
    // The port refuses no small MSS, but others do.
    let page = filled(&mut pool, 1000, 3);
    let shape = Shape {
        mss: 250,
        ..Shape::default()
    };
    send(&mut pair.virtio.1, shape, &[whole(&page)]);
    assert!(pair.virtio.1.flush());
    assert_eq!(receive(&mut pair.vhost.1, 4).len(), 4);
    assert_eq!(pair.virtio.0.counters().total().tx_gso, 1);
    drop(page);
    // Transmit descriptors are reclaimed with later packets, so the pool is not full yet.
    pair.close();
    pool.reclaim();
    assert!(pool.is_full());
}

/// Page buffers on ordinary pages aren't in memory that vhost maps. A reference to one would make
/// the other side drop the packet.
fn page_buffers_elsewhere_are_copied() {
    let eal = eal();
    let mut pool = pages(eal);
    let mut pair = Pair::open(eal);
    let says = "stack_does=\"chains (page buffers aren't in shared memory), tx ip checksums";
    assert!(pair.log.contains(says), "{}", pair.log);
    let page = filled(&mut pool, 5000, 5);
    let shape = Shape {
        mss: 1400,
        ..Shape::default()
    };
    send(&mut pair.virtio.1, shape, &[whole(&page)]);
    assert!(pair.virtio.1.flush());
    let mut stream = Vec::new();
    for got in receive(&mut pair.vhost.1, 4) {
        stream.extend_from_slice(&bytes(&got)[14 + 20 + 32..]);
    }
    assert!(stream == pattern(5000, 5), "the payload");
    assert_eq!(
        pair.virtio.0.counters().total().tx_payload_copied,
        5000,
        "or this proves nothing"
    );
    drop(page);
    pair.close();
    pool.reclaim();
    assert!(pool.is_full());
}

/// A packet from the host itself has no TCP checksum yet (VIRTIO_NET_HDR_F_NEEDS_CSUM). The port
/// vouches for it, and the stack doesn't compute the checksum.
fn incomplete_checksums_are_the_ports_word() {
    let eal = eal();
    let mut pair = Pair::open(eal);
    assert!(pair.virtio.0.capabilities().rx_csum && pair.vhost.0.capabilities().tx_csum);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 900, 4);
    send(&mut pair.vhost.1, Shape::default(), &[whole(&page)]);
    assert!(pair.vhost.1.flush());
    let got = receive(&mut pair.virtio.1, 1).remove(0);
    assert_eq!(got.l4_checksum(), Checksum::Good);
    assert_eq!(got.ip_checksum(), Checksum::Unknown);
    let frame = bytes(&got);
    let tcp = &frame[34..];
    assert!(frame.ends_with(&pattern(900, 4)));
    let complete = sum(&frame[26..34], 6 + u32::try_from(tcp.len()).unwrap());
    assert_ne!(
        sum(tcp, u32::from(complete)),
        0xffff,
        "or this proves nothing"
    );
    drop((page, got));
    pair.close();
    pool.reclaim();
    assert!(pool.is_full());
}

/// A driver may remove VLAN tags unasked, so that frames of other networks look like the port's
/// own. VLAN stripping is switched off when the port is opened. vhost's driver can't switch it off,
/// and the log says so.
fn vlan_tags_stay_in_frames() {
    let eal = eal();
    // SAFETY: it sets a flag, before any port is configured.
    unsafe { dpdk_sys::lg_strip_vlan_unasked() };
    let mut pair = Pair::open(eal);
    let warnings = pair
        .log
        .matches("removes VLAN tags, and that can't be switched off");
    assert_eq!(warnings.count(), 1, "vhost's: {}", pair.log);
    let mut pool = pages(eal);
    let page = filled(&mut pool, 100, 9);
    let mut head = Headers::new(14, 0, 0);
    head.l2_mut()[..12].fill(2);
    head.l2_mut()[12..].copy_from_slice(&[0x81, 0x00]);
    let sent = pair.vhost.1.tx(Packet {
        head: &head,
        payload: &[whole(&page)],
        meta: TxMeta::default(),
    });
    assert_eq!(sent, Ok(()));
    assert!(pair.vhost.1.flush());
    let got = receive(&mut pair.virtio.1, 1).remove(0);
    let frame = bytes(&got);
    assert_eq!(frame.len(), 114);
    assert_eq!(frame[12..14], [0x81, 0x00]);
    assert!(frame[14..] == pattern(100, 9));
    drop((page, got));
    pair.close();
    pool.reclaim();
    assert!(pool.is_full());
}

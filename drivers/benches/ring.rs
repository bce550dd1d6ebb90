//! Cost of a packet between two crossed rings, on one core: page buffer to mbufs, send, receive,
//! free. `cargo bench -p lockgate-drivers`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::unwrap_used, reason = "a benchmark may end by panicking")]

use std::hint::black_box;
use std::time::Instant;

use lockgate_drivers::{
    Assume, Demand, Eal, EalConfig, Hugepages, Port, PortConfig, RingPair, WorkerPorts,
};
use lockgate_wire::IfaceId;
use pktbuf::{Headers, L4, Output, Packet, PageBuf, PagePool, PoolConfig, Slice, TxMeta};

fn main() {
    // `cargo test` runs benchmarks too, just to see that they work.
    let rounds = if std::env::args().any(|a| a == "--bench") {
        100_000
    } else {
        10
    };
    let config = EalConfig {
        hugepages: Hugepages::Auto,
        memory_mib: 256,
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    let core = core_affinity::get_core_ids().unwrap()[0];
    core_affinity::set_for_current(core);
    let _worker = eal.register_worker().unwrap();
    let pools = PoolConfig {
        blocks: 256,
        small_spans: 128,
        large_spans: 128,
    };
    let bytes = PagePool::bytes_needed(pools) as u64;
    let mut regions = eal.regions(&Demand::new("pages", bytes)).unwrap();
    let mut pool = PagePool::from_regions(&mut regions, pools).unwrap();
    println!("huge pages: {}", eal.uses_hugepages());

    for (name, assume) in [("assume", Assume::ALL), ("software", Assume::default())] {
        let pair = RingPair::new(eal, name, 1024, 1).unwrap();
        let open = |device| {
            let config = PortConfig {
                assume,
                ..PortConfig::new(name, device)
            };
            let mut port = Port::open(eal, &config).unwrap();
            let ports = WorkerPorts::new(port.take_queues(), &[0]);
            (port, ports)
        };
        let (_a, mut from) = open(pair.a);
        let (_b, mut to) = open(pair.b);
        for (what, payload, mss) in [
            ("header only", 0, 0),
            ("1448 bytes", 1448, 0),
            ("16 KiB burst", 16_384, 1448),
        ] {
            let page: Option<PageBuf> = (payload > 0).then(|| {
                let mut page = pool.alloc(payload).unwrap();
                page.append(&vec![7; payload as usize]);
                page
            });
            let slice = page.as_ref().map(|buf| Slice {
                buf,
                at: 0,
                len: payload,
            });
            // The first run warms up.
            run(&mut from, &mut to, slice, mss, rounds / 10);
            let (seconds, packets) = run(&mut from, &mut to, slice, mss, rounds);
            let each = seconds / f64::from(rounds * BURST) * 1e9;
            println!(
                "{name:>8}, {what:>12}: {each:7.1} ns a packet sent, {:5.2} received for each",
                f64::from(packets) / f64::from(rounds * BURST)
            );
        }
    }
}

/// Sends and receives bursts; returns the time, and the packets received.
fn run(
    from: &mut WorkerPorts,
    to: &mut WorkerPorts,
    slice: Option<Slice<'_>>,
    mss: u16,
    rounds: u32,
) -> (f64, u32) {
    let mut head = Headers::new(14, 20, 20);
    let total = 40 + slice.map_or(0, |s| s.len);
    head.l3_mut()[0] = 0x45;
    head.l3_mut()[2..4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
    head.l3_mut()[9] = 6;
    head.l4_mut()[12] = 0x50;
    let meta = TxMeta {
        iface: IfaceId(0),
        mss,
        protocol: L4::Tcp,
        ..TxMeta::default()
    };
    let mut packets = 0;
    let start = Instant::now();
    for _ in 0..rounds {
        for _ in 0..BURST {
            from.tx(Packet {
                head: &head,
                payload: slice.as_slice(),
                meta,
            })
            .unwrap();
            if mss > 0 {
                drain(to, &mut packets);
            }
        }
        from.flush();
        drain(to, &mut packets);
    }
    while !from.flush() || drain(to, &mut packets) > 0 {}
    (start.elapsed().as_secs_f64(), packets)
}

fn drain(to: &mut WorkerPorts, packets: &mut u32) -> usize {
    to.rx_burst(|_, buffer| {
        black_box(buffer.front());
        *packets += 1;
    })
}

const BURST: u32 = 32;

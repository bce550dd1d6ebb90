//! Starting the environment, and what can be wrong with a port's configuration.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;

use lockgate_drivers::{
    Assume, Demand, Device, Eal, EalConfig, EalError, Hugepages, Iova, IovaError, IovaMode,
    MemoryError, Port, PortConfig, PortError, RingPair,
};
use pktbuf::{PageArena, PagePool, PoolConfig};

use crate::support::{
    Shape, bytes, close_full, eal, filled, open, pages, pattern, payload, receive, send, whole,
};
use lockgate_testing::cases::{Case, skip_case};

pub(crate) const CASES: &[Case] = &[
    Case::new("eal::starts_without_hugepages", starts_without_hugepages),
    Case::new("eal::starts_with_hugepages", starts_with_hugepages),
    Case::new(
        "eal::physical_addresses_are_those_of_the_pages",
        physical_addresses_are_those_of_the_pages,
    ),
    Case::new(
        "eal::missing_hugepages_are_replaced",
        missing_hugepages_are_replaced,
    ),
    Case::new("eal::starts_once", starts_once),
    Case::new("eal::errors_name_the_key", errors_name_the_key),
    Case::new("eal::affinity_is_left_alone", affinity_is_left_alone),
    Case::new("eal::workers_register", workers_register),
    Case::new(
        "eal::memory_is_for_pools_and_arenas",
        memory_is_for_pools_and_arenas,
    ),
    Case::new("eal::wrong_devices_are_errors", wrong_devices_are_errors),
    Case::new(
        "eal::more_queues_than_there_are",
        more_queues_than_there_are,
    ),
    Case::new(
        "eal::ordinary_pages_are_at_low_addresses",
        ordinary_pages_are_at_low_addresses,
    ),
    Case::new("eal::assumptions_are_for_rings", assumptions_are_for_rings),
    Case::new("eal::mtu_has_limits", mtu_has_limits),
    Case::new(
        "eal::a_device_can_be_opened_again",
        a_device_can_be_opened_again,
    ),
];

fn starts_without_hugepages() {
    let eal = eal();
    assert!(!eal.uses_hugepages());
    assert!(Eal::version().starts_with("DPDK "), "{}", Eal::version());
}

/// Many IOMMUs have 39 bits of address: memory that ports map for DMA is below that.
fn ordinary_pages_are_at_low_addresses() {
    let eal = eal();
    let mut first = pages(eal);
    let mut second = pages(eal);
    for pool in [&mut first, &mut second] {
        let page = filled(pool, 100, 0);
        let address = whole(&page).bytes().expect("plain").as_ptr().addr();
        assert!(address >> 39 == 0, "{address:#x}");
    }
}

fn starts_with_hugepages() {
    let demand = Demand::new("pages", 40 << 20);
    let config = EalConfig {
        regions: vec![demand.clone()],
        region_mib_max: 16,
        ..on_hugepages(Iova::Auto)
    };
    let eal = start_on_hugepages(&config);
    assert!(eal.uses_hugepages());
    assert_eq!(eal.iova(), IovaMode::Virtual);
    let pair = RingPair::new(eal, "huge", 64, 1).unwrap();
    let port = Port::open(eal, &PortConfig::new("a", pair.a)).unwrap();
    let memory = port.memory();
    assert!(
        memory
            .iter()
            .all(|held| held.page_bytes >= HUGE_PAGE && held.node.is_some()),
        "{memory:?}"
    );
    close_full(port);
    // In pieces, which the arena joins.
    let mut regions = eal.regions(&demand).unwrap();
    assert!(regions.len() >= 3, "{regions:?}");
    let arena = PageArena::from_regions(&mut regions, 40 << 20).unwrap();
    assert_eq!(arena.usage().bytes, 40 << 20);
    let spans: Vec<_> = std::iter::from_fn(|| arena.alloc(64 << 10)).collect();
    assert!(spans.len() > 600, "{} of 640 spans", spans.len());
    let huge: u64 = eal.holdings().iter().map(|held| held.bytes).sum();
    assert!(huge >= 40 << 20, "{:?}", eal.holdings());
    // More than was announced, and than there is: required pages aren't replaced.
    let error = eal.regions(&Demand::new("more", 1 << 40)).unwrap_err();
    assert!(matches!(error, MemoryError::Hugepages { .. }), "{error}");
}

/// Ports get the physical addresses that pagemap(5) has.
fn physical_addresses_are_those_of_the_pages() {
    let demand = Demand::new("pages", 24 << 20);
    let config = EalConfig {
        // And the page buffers of the packet.
        regions: vec![demand.clone(), Demand::new("page buffers", 16 << 20)],
        region_mib_max: 8,
        ..on_hugepages(Iova::Physical)
    };
    let eal = start_on_hugepages(&config);
    assert_eq!(eal.iova(), IovaMode::Physical);
    let mut regions = eal.regions(&demand).unwrap();
    let arena = PageArena::from_regions(&mut regions, 24 << 20).unwrap();
    let spans: Vec<_> = std::iter::from_fn(|| arena.alloc(PageArena::SPAN_MAX)).collect();
    assert!(spans.len() > 80, "{} of 96 spans", spans.len());
    for span in &spans {
        let (first, last) = (&raw const span[0], &raw const span[span.len() - 1]);
        // SAFETY: any address is allowed.
        let addresses = [first, last].map(|at| unsafe { dpdk_sys::lg_iova_of(at.cast()) });
        assert_eq!(addresses, [first, last].map(physical_address));
        // A device gets one address and a length.
        assert_eq!(addresses[1] - addresses[0], span.len() as u64 - 1);
    }
    // Packets go through as ever.
    let pair = RingPair::new(eal, "physical", 64, 1).unwrap();
    let (a, mut from) = open(eal, &PortConfig::new("a", pair.a));
    let (b, mut to) = open(eal, &PortConfig::new("b", pair.b));
    let mut pool = pages(eal);
    let page = filled(&mut pool, 1000, 3);
    send(&mut from, Shape::default(), &[whole(&page)]);
    from.flush();
    let got = receive(&mut to, 1);
    assert_eq!(payload(&bytes(&got[0])), pattern(1000, 3));
    drop((got, page));
    drop((from, to));
    close_full(b);
    close_full(a);
}

/// Where huge pages are missing, memory is on ordinary ones, if the machine has so many.
fn missing_hugepages_are_replaced() {
    let config = |bytes| EalConfig {
        regions: vec![Demand::new("a large region", bytes)],
        hugepages: Hugepages::Auto,
        ..on_hugepages(Iova::Auto)
    };
    let error = Eal::init(&config(1 << 50)).unwrap_err();
    assert!(matches!(error, EalError::Machine { .. }), "{error}");
    let config = config(2 << 30);
    let eal = Eal::init(&config).expect("the EAL starts");
    let mut regions = eal.regions(&Demand::new("pages", 1 << 30)).unwrap();
    assert!(PageArena::from_regions(&mut regions, 1 << 30).is_ok());
    let ordinary = eal.holdings();
    assert!(
        ordinary
            .iter()
            .any(|held| held.page_bytes < HUGE_PAGE && held.node.is_none()),
        "{ordinary:?}"
    );
    // Root has no limit, unless it lacks CAP_IPC_LOCK.
    if let Err(error) = eal.lock_memory() {
        assert!(error.to_string().contains("RLIMIT_MEMLOCK is "), "{error}");
    }
    let pa = EalConfig {
        iova: Iova::Physical,
        ..config
    };
    let error = Eal::init(&pa).unwrap_err();
    assert!(matches!(error, EalError::Iova(_)), "{error}");
}

fn on_hugepages(iova: Iova) -> EalConfig {
    EalConfig {
        hugepages: Hugepages::Require,
        iova,
        memory_mib: 64,
        ..EalConfig::default()
    }
}

/// Starts the EAL, or skips the case where huge pages, or the right to see addresses, are missing.
fn start_on_hugepages(config: &EalConfig) -> Eal {
    match Eal::init(config) {
        Err(error @ (EalError::Hugepages(_) | EalError::Iova(IovaError::Hidden { .. }))) => {
            skip_case(error.to_string())
        }
        other => other.expect("the EAL starts"),
    }
}

/// The physical address of a byte, by pagemap(5).
fn physical_address(at: *const u8) -> u64 {
    let at = at.addr() as u64;
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")
        .and_then(|map| map.read_exact_at(&mut entry, at / 4096 * 8))
        .expect("the process may see its pages");
    (u64::from_ne_bytes(entry) & ((1 << 55) - 1)) * 4096 + at % 4096
}

fn starts_once() {
    eal();
    let second = Eal::init(&EalConfig {
        hugepages: Hugepages::Off,
        ..EalConfig::default()
    });
    assert!(
        matches!(second, Err(EalError::AlreadyStarted)),
        "{second:?}"
    );
}

fn errors_name_the_key() {
    let small = EalConfig {
        memory_mib: 1,
        ..EalConfig::default()
    };
    let message = Eal::init(&small).unwrap_err().to_string();
    assert!(message.contains("[eal] memory = 1MiB"), "{message}");
    let huge = EalConfig {
        hugepages: Hugepages::Require,
        memory_mib: 1 << 30,
        ..EalConfig::default()
    };
    let message = Eal::init(&huge).unwrap_err().to_string();
    assert!(message.contains("hugepages = \"require\""), "{message}");
    // The EAL can still be started after these errors.
    let auto = EalConfig {
        memory_mib: 64,
        ..EalConfig::default()
    };
    Eal::init(&auto).expect("the EAL starts");
}

fn affinity_is_left_alone() {
    let cores = || core_affinity::get_core_ids().unwrap();
    let before = cores();
    eal();
    assert_eq!(cores(), before);
    assert_eq!(thread::spawn(cores).join().unwrap(), before);
}

fn workers_register() {
    let eal = eal();
    // More in turn than can be registered at a time: each unregisters.
    for _ in 0..20 {
        let threads: Vec<_> = (0..10)
            .map(|_| thread::spawn(move || eal.register_worker().is_ok()))
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
    }
}

fn memory_is_for_pools_and_arenas() {
    let eal = eal();
    let config = PoolConfig {
        blocks: 100,
        small_spans: 100,
        large_spans: 100,
    };
    // More than the EAL has: anonymous memory is used.
    let mut regions = eal.regions(&Demand::new("page cache", 1 << 30)).unwrap();
    PagePool::from_regions(&mut regions, config).expect("a pool fits");
    let arena = PageArena::from_regions(&mut regions, 512 << 20).expect("an arena fits");
    let mut page = arena.alloc(256 << 10).expect("memory");
    page.fill(7);
    assert!(page.freeze(256 << 10).iter().all(|&b| b == 7));
    let error = eal
        .regions(&Demand::new("page cache", 1 << 60))
        .unwrap_err();
    assert!(
        error.to_string().contains("memory for page cache"),
        "{error}"
    );
}

fn port(device: &str) -> PortConfig {
    PortConfig::new("p0", device.parse().expect("a device string"))
}

fn wrong_devices_are_errors() {
    let eal = eal();
    for text in ["", "eth0", "net_", "0000:03:00"] {
        let error = text.parse::<Device>().unwrap_err().to_string();
        assert!(
            error.contains(&format!("\"{text}\" is no device")),
            "{error}"
        );
    }
    let open = |config: &PortConfig| Port::open(eal, config).unwrap_err();
    let no_driver = open(&port("net_nosuch0"));
    assert!(matches!(no_driver, PortError::Create { .. }), "{no_driver}");
    assert!(no_driver.to_string().contains("net_nosuch0"), "{no_driver}");
    let bad_argument = open(&port("net_null0,no_such_argument=1"));
    assert!(
        matches!(bad_argument, PortError::Create { .. }),
        "{bad_argument}"
    );
    let no_interface = open(&port("net_af_packet0"));
    assert!(
        no_interface.to_string().contains("iface="),
        "{no_interface}"
    );
    let missing = open(&port("net_af_packet0,iface=nosuch0"));
    assert!(matches!(missing, PortError::Interface { .. }), "{missing}");
    assert!(missing.to_string().contains("\"nosuch0\""), "{missing}");
    let pci = open(&port("0000:ff:1f.7"));
    assert!(matches!(pci, PortError::NoPciPort { .. }), "{pci}");
    let none = open(&PortConfig {
        queues: 0,
        ..port("net_null0")
    });
    assert!(matches!(none, PortError::NoQueues { .. }), "{none}");
    // A failed attempt leaves nothing behind: the name can be used.
    close_full(Port::open(eal, &port("net_null0,no-rx=1")).unwrap());
}

fn more_queues_than_there_are() {
    let eal = eal();
    let config = PortConfig {
        queues: 17,
        ..port("net_ring0")
    };
    let error = Port::open(eal, &config).unwrap_err();
    assert!(
        matches!(
            error,
            PortError::Queues {
                wanted: 17,
                limit: 16,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("16 at most"), "{error}");
    let config = PortConfig {
        queues: 16,
        rx_buffers: 16,
        tx_buffers: 16,
        ..port("net_ring0")
    };
    let mut port = Port::open(eal, &config).unwrap();
    assert_eq!(port.take_queues().len(), 16);
    close_full(port);
}

fn assumptions_are_for_rings() {
    let eal = eal();
    let tso = Assume {
        tso: true,
        ..Assume::default()
    };
    let csum = Assume {
        rx_csum: true,
        ..Assume::default()
    };
    for (device, assume, what) in [("net_null0", tso, "tso"), ("net_tap0", csum, "rxcsum")] {
        let error = Port::open(
            eal,
            &PortConfig {
                assume,
                ..port(device)
            },
        )
        .unwrap_err();
        assert!(matches!(error, PortError::Assume { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("assume = [\"{what}\"]")),
            "{error}"
        );
    }
    let port = Port::open(
        eal,
        &PortConfig {
            assume: Assume::ALL,
            ..port("net_ring0")
        },
    )
    .unwrap();
    let caps = port.capabilities();
    assert!(
        caps.tso && caps.tx_csum && caps.rx_csum && caps.assumed == Assume::ALL,
        "{caps:?}"
    );
    close_full(port);
}

fn mtu_has_limits() {
    let eal = eal();
    for (device, mtu, limit) in [
        ("net_tap0", 1501, 1500),
        ("net_null0", 67, 68),
        ("net_ring0", 65_001, 65_000),
    ] {
        let error = Port::open(
            eal,
            &PortConfig {
                mtu,
                ..port(device)
            },
        )
        .unwrap_err();
        let PortError::Mtu { limit: named, .. } = error else {
            panic!("{device}: {error}")
        };
        assert_eq!(named, limit, "{error}");
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
    }
    let port = Port::open(
        eal,
        &PortConfig {
            mtu: 9000,
            ..port("net_ring0")
        },
    )
    .unwrap();
    assert_eq!(port.mtu(), 9000);
    close_full(port);
}

fn a_device_can_be_opened_again() {
    let eal = eal();
    for _ in 0..3 {
        close_full(Port::open(eal, &port("net_null0,no-rx=1")).unwrap());
    }
}

/// The smallest huge page.
const HUGE_PAGE: u64 = 2 << 20;

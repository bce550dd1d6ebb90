//! Starting the environment, and what can be wrong with a port's configuration.

use std::thread;

use lockgate_drivers::{
    Assume, Device, Eal, EalConfig, EalError, Hugepages, MemoryError, Port, PortConfig, PortError,
    RingPair,
};
use pktbuf::{PageArena, PagePool, PoolConfig};

use crate::support::{close_full, eal};
use lockgate_testing::cases::{Case, skip_case};

pub(crate) const CASES: &[Case] = &[
    Case::new("eal::starts_without_hugepages", starts_without_hugepages),
    Case::new("eal::starts_with_hugepages", starts_with_hugepages),
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

fn starts_with_hugepages() {
    let config = EalConfig {
        hugepages: Hugepages::Require,
        memory_mib: 64,
        ..EalConfig::default()
    };
    let eal = match Eal::init(&config) {
        Err(error @ EalError::Hugepages { .. }) => skip_case(error.to_string()),
        other => other.expect("the EAL starts"),
    };
    assert!(eal.uses_hugepages());
    let pair = RingPair::new(eal, "huge", 64, 1).unwrap();
    close_full(Port::open(eal, &PortConfig::new("a", pair.a)).unwrap());
    let mut region = eal.region("pages", 16 << 20).unwrap();
    assert!(PageArena::new(&mut region, 8 << 20).is_ok());
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
    let mut region = eal.region("page cache", 1 << 30).unwrap();
    PagePool::new(&mut region, config).expect("a pool fits");
    let arena = PageArena::new(&mut region, 512 << 20).expect("an arena fits");
    let mut page = arena.alloc(256 << 10).expect("memory");
    page.fill(7);
    assert!(page.freeze(256 << 10).iter().all(|&b| b == 7));
    let error: MemoryError = eal.region("page cache", 1 << 60).unwrap_err();
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

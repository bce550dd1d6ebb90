//! Files of the system that hold anything: the checks end, and find what they can.

use std::fs;

use super::*;

/// Every file that a check reads, with a content that it understands.
const FILES: &[(&str, &str)] = &[
    ("proc/cpuinfo", "flags\t: aes pclmulqdq avx2"),
    (
        "proc/net/packet",
        "sk RefCnt Type Proto Iface\n1 3 3 0003 7 1 0 0 9",
    ),
    ("proc/sys/net/ipv6/conf/lg0/disable_ipv6", "0"),
    ("proc/77/comm", "other"),
    ("sys/class/net/lg0/flags", "0x1003"),
    ("sys/class/net/lg0/carrier", "1"),
    ("sys/class/net/lg0/mtu", "1500"),
    ("sys/class/net/lg0/ifindex", "7"),
    ("sys/class/net/lg0/iflink", "8"),
    ("sys/class/net/peer0/ifindex", "8"),
    ("sys/class/net/peer0/iflink", "7"),
    ("sys/bus/pci/devices/0000:03:00.0/numa_node", "0"),
    ("sys/devices/system/node/node0/cpulist", "0-3"),
    ("sys/devices/system/cpu/isolated", "2-3"),
    ("sys/devices/system/cpu/nohz_full", "2-3"),
    (
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "0,2",
    ),
    (
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "powersave",
    ),
];

/// Names that are a number elsewhere.
const NAMES: &[&str] = &[
    "sys/devices/system/node/node65536/cpulist",
    "sys/devices/system/node/node-1/cpulist",
    "proc/99999999999999999999/comm",
];

/// Runs all checks. Returns the reports' lines.
fn examine_all(configs: &[Config], machine: &Machine) -> Vec<String> {
    let mut lines = Vec::new();
    for config in configs {
        let report = examine(config, &machine.view());
        assert!(report.to_json().len() > 2);
        lines.extend(report.to_string().lines().map(ToOwned::to_owned));
    }
    lines
}

fn machine() -> Machine {
    let machine = Machine::new().facts(|facts| {
        let offloads = Offloads {
            is_veth: true,
            ..Offloads::default()
        };
        let names = ["lg0", "peer0"];
        facts.offloads = names.map(|name| (name.to_owned(), offloads)).into();
        facts.memlock_max = Some(0);
    });
    let links = [
        (
            "sys/bus/pci/devices/0000:03:00.0/driver",
            "->../../drivers/vfio-pci",
        ),
        (
            "sys/bus/pci/devices/0000:03:00.0/iommu_group",
            "->../../../../kernel/iommu_groups/7",
        ),
        ("sys/module/vfio_iommu_type1/refcnt", "1"),
        ("proc/77/fd/3", "->/dev/vfio/7"),
    ];
    machine.with(FILES).with(&links)
}

#[test]
fn no_content_of_a_file_keeps_the_checks_from_ending() {
    let all_cores = "0-65535,".repeat(200_000);
    let contents: &[&[u8]] = &[
        b"",
        b"\n",
        b"\0",
        b"\xff\xfe\n",
        b"-1",
        b"18446744073709551615",
        b"99999999999999999999999999",
        b"0x",
        b"65535-0",
        b"\x1b[2J\x1b]0;title\x07",
        all_cores.as_bytes(),
    ];
    // A port on a kernel's interface, and a card.
    let configs = [kernel_port(), pci_port()];
    let machine = machine();
    let found = examine_all(&configs, &machine);
    for (file, before) in FILES {
        let path = machine.tree.join(file);
        for content in contents {
            fs::write(&path, content).unwrap();
            for line in examine_all(&configs, &machine) {
                assert!(!line.contains('\x1b'), "{file}: {line:?}");
                assert!(line.len() < 1000, "{file}: {} bytes", line.len());
            }
        }
        fs::remove_file(&path).unwrap();
        examine_all(&configs, &machine);
        fs::create_dir(&path).unwrap();
        examine_all(&configs, &machine);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, before).unwrap();
    }
    assert_eq!(examine_all(&configs, &machine), found);
    for name in NAMES {
        machine.tree.write(name, "18446744073709551615");
        examine_all(&configs, &machine);
    }
}

/// A file without an end, as no file of the kernel is.
#[test]
fn a_file_is_read_up_to_a_limit() {
    let machine = machine().with(&[("proc/cpuinfo", "->/dev/zero")]);
    let lines = machine.lines(crypto::check, &config(&[], ""));
    assert!(
        lines[0].contains("doesn't tell the CPU's features"),
        "{lines:?}"
    );
}

use core::net::IpAddr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use lockgate_testing::ScratchDir;

use super::host::{core_list, show_cores};
use super::*;
use crate::config::Config;
use crate::config::tests::{BASE, IN_2026, Scratch};
use crate::privileges::Identity;

mod hostile;

/// A machine that has nothing but what a test gives it.
struct Machine {
    tree: ScratchDir,
    facts: Facts,
}

impl Machine {
    fn new() -> Self {
        let facts = Facts {
            unix_seconds: IN_2026,
            ..Facts::default()
        };
        Self {
            tree: ScratchDir::new(),
            facts,
        }
    }

    /// Adds files; a content that begins with `->` is the target of a symbolic link.
    fn with(self, files: &[(&str, &str)]) -> Self {
        for (name, content) in files {
            match content.strip_prefix("->") {
                None => drop(self.tree.write(name, content)),
                Some(target) => {
                    let path = self.tree.join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let _ = fs::remove_file(&path);
                    symlink(target, path).unwrap();
                }
            }
        }
        self
    }

    fn facts(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.facts);
        self
    }

    fn view(&self) -> HostView {
        HostView::with_root(self.tree.path(), self.facts.clone())
    }

    /// Returns what a check finds, one line each.
    fn lines(&self, check: fn(&Config, &HostView) -> Vec<Finding>, config: &Config) -> Vec<String> {
        let findings = check(config, &self.view());
        findings.iter().map(Finding::to_string).collect()
    }
}

fn config(changes: &[(&str, &str)], more: &str) -> Config {
    let mut text = BASE.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    Scratch::new().parse(&(text + more)).unwrap()
}

fn kernel_port() -> Config {
    config(&[("net_ring0", "net_af_packet0,iface=lg0")], "")
}

fn pci_port() -> Config {
    config(&[("net_ring0", "0000:03:00.0")], "")
}

fn address(interface: &str, address: &str, prefix_len: u32) -> InterfaceAddress {
    InterfaceAddress {
        interface: interface.to_owned(),
        address: address.parse::<IpAddr>().unwrap(),
        prefix_len,
    }
}

/// The longest finding sets the column. Control characters can't break a line.
#[test]
fn a_report_has_a_line_for_each_finding() {
    let report = Report::new(vec![
        Finding::ok("process", "is one"),
        Finding::warning("frequency governor", "slow\nfile").run("set it", "echo x > y"),
        Finding::note("port p0", "may be better").advise("think"),
    ]);
    assert_eq!(
        report.to_string(),
        "ok       process:             is one\n\
         warning  frequency governor:  slow?file; set it: echo x > y\n\
         note     port p0:             may be better; think\n"
    );
    assert!(!report.has_faults());
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["findings"][1]["level"], "warning");
    assert_eq!(json["findings"][1]["command"], "echo x > y");
    assert!(json["findings"][0].get("advice").is_none(), "{json}");
    assert!(Report::new(vec![Finding::fault("a", "b")]).has_faults());
}

#[test]
fn lists_of_cores_are_read_and_written() {
    for (text, cores, shown) in [
        ("0-3,8", &[0, 1, 2, 3, 8][..], "0-3,8"),
        ("5", &[5], "5"),
        ("", &[], ""),
        (" 2,4-5 \n", &[2, 4, 5], "2,4-5"),
        ("x,1,3-y", &[1], "1"),
    ] {
        assert_eq!(core_list(text), cores, "{text:?}");
        assert_eq!(show_cores(cores), shown);
    }
    assert_eq!(show_cores(&[3, 1, 2, 2]), "1-3");
}

const NODE0: &str = "sys/devices/system/node/node0";
const NODE1: &str = "sys/devices/system/node/node1";

/// Files of a pool of huge pages: name, all, free.
fn pages(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect()
}

fn pool(node: &str, kib: u32, all: u64, free: u64) -> Vec<(String, String)> {
    let directory = format!("{node}/hugepages/hugepages-{kib}kB");
    vec![
        (format!("{directory}/nr_hugepages"), all.to_string()),
        (format!("{directory}/free_hugepages"), free.to_string()),
    ]
}

#[test]
fn huge_pages_are_compared_with_what_the_pools_need() {
    let with = |choice: &str| {
        let eal = format!("[eal]\nhugepages = \"{choice}\"\nmemory = \"1GiB\"\n");
        config(&[], &eal)
    };
    let first =
        |machine: &Machine, config: &Config| machine.lines(memory::check, config)[0].clone();
    let cpus = [
        (format!("{NODE0}/cpulist"), "0-1".to_owned()),
        (format!("{NODE1}/cpulist"), "2-3".to_owned()),
        (
            "sys/devices/system/cpu/cpu0/node0/x".to_owned(),
            String::new(),
        ),
    ];
    let machine = |pools: &[Vec<(String, String)>]| {
        let files = [cpus.to_vec(), pools.concat()].concat();
        Machine::new().with(&pages(&files))
    };
    // Each of the three pieces takes a little of a page more.
    for (choice, pools, level, parts) in [
        (
            "auto",
            vec![pool(NODE0, 2048, 600, 513)],
            "ok",
            &["[eal] memory needs 1024 MiB; free: 513 pages of 2 MiB on node 0"][..],
        ),
        (
            "require",
            vec![pool(NODE0, 2048, 600, 500)],
            "fault",
            &[
                "MiB of huge pages on node 0 missing; wanted: ",
                "MiB for page buffers of worker 0 ([limits]), 64 MiB for the file cache",
                "; free: 500 pages of 2 MiB on node 0; reserve more: echo 613 > \
                 /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            ],
        ),
        (
            "auto",
            vec![pool(NODE0, 2048, 600, 500)],
            "warning",
            &["on node 0: ordinary pages will be used; reserve more: echo 613 > "],
        ),
        // The larger size counts, too; the smaller one is reserved.
        (
            "require",
            vec![pool(NODE0, 2048, 0, 2), pool(NODE0, 1 << 20, 1, 1)],
            "ok",
            &["2 pages of 2 MiB on node 0, 1 pages of 1 GiB on node 0"],
        ),
        // The worker is on node 0.
        (
            "auto",
            vec![pool(NODE0, 2048, 100, 12), pool(NODE1, 2048, 600, 600)],
            "note",
            &[
                "MiB will be on another node than its users; reserve more there: echo ",
                " > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            ],
        ),
        (
            "require",
            vec![],
            "fault",
            &["this kernel has no huge pages; set [eal] hugepages = \"off\""],
        ),
        (
            "off",
            vec![],
            "note",
            &["[eal] hugepages is \"off\": packet memory is on ordinary pages"],
        ),
    ] {
        let found = first(&machine(&pools), &with(choice));
        assert!(
            found.starts_with(&format!("{level} huge pages: ")),
            "{choice}: {found}"
        );
        for part in parts {
            assert!(found.contains(part), "{choice}: {part}: {found}");
        }
    }
    // The running instance holds the pages that would be missing.
    let running = machine(&[pool(NODE0, 2048, 600, 0)]).facts(|facts| facts.instance = Some(7));
    assert_eq!(
        first(&running, &with("require")),
        "ok huge pages: [eal] memory needs 1024 MiB; free: 0 pages of 2 MiB on node 0, beside \
         those of process 7"
    );
    // A kernel without NUMA has the pools in one place.
    let flat = "sys/kernel/mm/hugepages/hugepages-2048kB";
    let flat = [
        (format!("{flat}/nr_hugepages"), "8".to_owned()),
        (format!("{flat}/free_hugepages"), "8".to_owned()),
    ];
    let found = first(&Machine::new().with(&pages(&flat)), &with("require"));
    let expected = "echo 513 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    assert!(found.ends_with(expected), "{found}");
}

/// Whatever is free: a start with `require` fails if and only if there is a fault, with the same
/// numbers, and the command beside it is enough.
#[test]
fn huge_pages_are_a_fault_exactly_if_the_start_demands_more() {
    let eal = "[eal]\nhugepages = \"require\"\nmemory = \"1GiB\"\n";
    let config = config(&[], &format!("{eal}[workers]\ncores = [0, 1]\n"));
    let mut faults = 0;
    for (small, large) in [
        ([0, 0], [0, 0]),
        ([513, 0], [0, 0]),
        ([514, 0], [0, 0]),
        ([300, 100], [0, 0]),
        ([300, 300], [0, 0]),
        ([0, 0], [1, 0]),
        ([0, 0], [1, 1]),
        ([100, 20], [0, 1]),
    ] {
        let mut machine = Machine::new();
        for (node, dir) in [NODE0, NODE1].into_iter().enumerate() {
            let cpu = format!("sys/devices/system/cpu/cpu{node}/node{node}/x");
            let files = [
                pool(dir, 2048, small[node], small[node]),
                pool(dir, 1 << 20, large[node], large[node]),
                vec![(cpu, String::new())],
            ];
            machine = machine.with(&pages(&files.concat()));
        }
        // Each command helps for its node, so two of them at most.
        for round in 0.. {
            let [found, _] = &memory::check(&config, &machine.view())[..] else {
                panic!("two findings");
            };
            let sys = machine.tree.join("sys");
            let started = crate::appliance::eal_config(&sys, &config).forecast(&sys);
            let summary = started.shortage.map(|shortage| shortage.summary());
            assert_eq!(found.level == Level::Fault, summary.is_some(), "{found}");
            let Some(summary) = summary else {
                break;
            };
            faults += 1;
            assert_eq!(found.message, summary);
            assert!(round < 2, "{found}");
            for command in found.command.as_ref().expect("a command").split(" && ") {
                let (count, file) = command
                    .strip_prefix("echo ")
                    .and_then(|rest| rest.split_once(" > /"))
                    .expect("it writes a number to a file");
                machine = machine.with(&[(file, count)]);
                machine = machine.with(&[(&file.replace("nr_", "free_"), count)]);
            }
        }
    }
    assert!(faults >= 3, "{faults}");
}

#[test]
fn locked_memory_is_compared_for_ports_that_map_it() {
    let limit = |mib: Option<u64>| {
        Machine::new().facts(|facts| facts.memlock_max = mib.map(|mib| mib << 20))
    };
    let locking = || limit(Some(8)).facts(|facts| facts.may_lock_memory = true);
    let raising = || locking().facts(|facts| facts.may_raise_limits = true);
    let second =
        |machine: Machine, config: &Config| machine.lines(memory::check, config)[1].clone();
    let level = |line: String| line.split(' ').next().unwrap().to_owned();
    let dropping = config(
        &[("net_ring0", "0000:03:00.0")],
        "[process]\nuser = \"nobody\"\n",
    );
    for (machine, config, expected) in [
        (limit(None), &pci_port(), "ok"),
        (limit(Some(8)), &pci_port(), "warning"),
        (limit(Some(100_000)), &pci_port(), "ok"),
        (limit(Some(8)), &kernel_port(), "ok"),
        // Root has CAP_IPC_LOCK, until it drops that: then only CAP_SYS_RESOURCE helps.
        (locking(), &pci_port(), "ok"),
        (locking(), &dropping, "warning"),
        (raising(), &dropping, "ok"),
    ] {
        let line = second(machine, config);
        assert_eq!(level(line.clone()), expected, "{line}");
    }
    let line = second(limit(Some(8)), &pci_port());
    assert!(line.contains("RLIMIT_MEMLOCK is 8 MiB"), "{line}");
    assert!(line.ends_with(": ulimit -l unlimited"), "{line}");
}

const CARD: &str = "sys/bus/pci/devices/0000:03:00.0";

/// A card at 0000:03:00.0 with this driver; none: without.
fn card(driver: Option<&str>) -> Machine {
    let machine = Machine::new().with(&[
        ("sys/bus/pci/devices/0000:03:00.0/vendor", "0x8086"),
        (
            "proc/cpuinfo",
            "vendor_id\t: GenuineIntel\nflags\t\t: aes pclmulqdq\n",
        ),
    ]);
    match driver {
        None => machine,
        Some(name) => {
            let driver = format!("{CARD}/driver");
            let target = format!("->../../../bus/pci/drivers/{name}");
            machine.with(&[(driver.as_str(), target.as_str())])
        }
    }
}

/// A card at vfio-pci in group 17, with these other devices of the group and their drivers.
fn vfio_card(members: &[(&str, &str)]) -> Machine {
    let mut machine = card(Some("vfio-pci")).with(&[
        ("sys/module/vfio_iommu_type1/refcnt", "1"),
        (
            "sys/bus/pci/devices/0000:03:00.0/iommu_group",
            "->../../../kernel/iommu_groups/17",
        ),
        ("sys/kernel/iommu_groups/17/devices/0000:03:00.0", ""),
    ]);
    for (address, driver) in members {
        let member = format!("sys/kernel/iommu_groups/17/devices/{address}");
        let link = format!("sys/bus/pci/devices/{address}/driver");
        let target = format!("->../../../bus/pci/drivers/{driver}");
        machine = machine.with(&[(member.as_str(), ""), (link.as_str(), target.as_str())]);
    }
    machine
}

const BIND: &str = "modprobe -a vfio-pci vfio_iommu_type1 && echo vfio-pci > \
                    /sys/bus/pci/devices/0000:03:00.0/driver_override && echo 0000:03:00.0 > \
                    /sys/bus/pci/devices/0000:03:00.0/driver/unbind && echo 0000:03:00.0 > \
                    /sys/bus/pci/drivers_probe";

#[test]
fn a_card_needs_a_driver_that_dpdk_can_use() {
    let found = |machine: Machine| machine.lines(pci::check, &pci_port()).join("\n");
    assert_eq!(
        found(Machine::new()),
        "fault port p0: there is no PCI device 0000:03:00.0; list the network cards: lspci -D | \
         grep -i net"
    );
    assert_eq!(
        found(card(None)),
        format!(
            "fault port p0: 0000:03:00.0 has no driver; bind it to vfio-pci: {}",
            BIND.replace(
                "echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind && ",
                ""
            )
        )
    );
    assert_eq!(
        found(card(Some("igb"))),
        format!(
            "fault port p0: 0000:03:00.0 belongs to the kernel's driver igb; bind it to vfio-pci: \
             {BIND}"
        )
    );
    // The interface that the operator may be logged in by.
    let managed = card(Some("igb"))
        .with(&[("sys/bus/pci/devices/0000:03:00.0/net/eth0/mtu", "1500")])
        .facts(|facts| facts.addresses = vec![address("eth0", "192.0.2.7", 24)]);
    let line = found(managed);
    for part in [
        "which has 192.0.2.7/24 on eth0",
        "unless the machine is managed over",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let uio = found(card(Some("uio_pci_generic")));
    assert!(
        uio.starts_with("note port p0: 0000:03:00.0 is bound to uio_pci_generic"),
        "{uio}"
    );
    assert!(!uio.contains("modprobe"), "{uio}");
    let with_iommu = found(card(Some("uio_pci_generic")).with(&[("sys/class/iommu/dmar0", "")]));
    assert!(with_iommu.ends_with(BIND), "{with_iommu}");
    let mlx5 = card(Some("mlx5_core"));
    assert!(found(mlx5).ends_with("load its module: modprobe mlx5_ib"));
    let mlx5 =
        card(Some("mlx5_core")).with(&[("sys/bus/pci/devices/0000:03:00.0/infiniband/mlx5_0", "")]);
    assert_eq!(
        found(mlx5),
        "ok port p0: 0000:03:00.0 is shared with the kernel by mlx5_core"
    );
    // Each member of a bond is a card.
    let bond = "net_bonding0,mode=1,slave=0000:03:00.0,slave=0000:04:00.0";
    let lines = card(Some("igb")).lines(pci::check, &config(&[("net_ring0", bond)], ""));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].contains("there is no PCI device 0000:04:00.0"),
        "{lines:?}"
    );
    // Ports without a card have no findings here.
    assert!(card(None).lines(pci::check, &kernel_port()).is_empty());
}

#[test]
fn vfio_needs_an_iommu_and_a_viable_group() {
    let found = |machine: Machine| machine.lines(pci::check, &pci_port()).join("\n");
    assert_eq!(
        found(card(Some("vfio-pci"))),
        "fault port p0: module vfio_iommu_type1 isn't loaded; load it: modprobe vfio_iommu_type1"
    );
    let off = card(Some("vfio-pci")).with(&[("sys/module/vfio_iommu_type1/refcnt", "0")]);
    let line = found(off);
    assert!(
        line.contains("0000:03:00.0 has no IOMMU group: the IOMMU is off"),
        "{line}"
    );
    assert!(
        line.contains("/&intel_iommu=on iommu=pt /' /etc/default/grub"),
        "{line}"
    );
    let amd = card(Some("vfio-pci")).with(&[
        ("sys/module/vfio_iommu_type1/refcnt", "0"),
        ("proc/cpuinfo", "vendor_id\t: AuthenticAMD\n"),
    ]);
    assert!(found(amd).contains("/&iommu=pt /' /etc/default/grub"));

    let viable = [("0000:02:00.0", "pcieport"), ("0000:03:00.1", "vfio-pci")];
    assert_eq!(
        found(vfio_card(&viable)),
        "ok port p0: 0000:03:00.0 is bound to vfio-pci, IOMMU group 17"
    );
    let line = found(vfio_card(&[
        ("0000:02:00.0", "pcieport"),
        ("0000:03:00.1", "igb"),
    ]));
    assert_eq!(
        line,
        format!(
            "fault port p0: IOMMU group 17 isn't viable: 0000:03:00.1 in it belongs to igb; bind \
             every device of the group to vfio-pci: {}",
            BIND.replace("03:00.0", "03:00.1")
        )
    );
}

/// Only one process can have an IOMMU group open.
#[test]
fn the_process_that_has_the_card_is_found() {
    let machine = || {
        vfio_card(&[]).with(&[
            ("proc/41/fd/3", "->/dev/vfio/18"),
            ("proc/42/fd/9", "->/dev/vfio/17"),
            ("proc/42/comm", "testpmd\n"),
        ])
    };
    let lines = machine().lines(pci::check, &pci_port());
    assert_eq!(
        lines.last().unwrap(),
        "fault port p0: process 42 (testpmd) has /dev/vfio/17 open; end it: kill 42"
    );
    let own = machine().facts(|facts| facts.instance = Some(42));
    assert_eq!(own.lines(pci::check, &pci_port()).len(), 1);
}

/// An interface lg0 that is as it should be.
fn kernel_interface() -> Machine {
    Machine::new().with(&[
        ("sys/class/net/lg0/flags", "0x1003\n"),
        ("sys/class/net/lg0/carrier", "1"),
        ("sys/class/net/lg0/mtu", "1500"),
        ("sys/class/net/lg0/ifindex", "5"),
        ("sys/class/net/lg0/iflink", "5"),
        ("proc/sys/net/ipv6/conf/lg0/disable_ipv6", "1"),
        (
            "proc/net/packet",
            "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n\
             0000 3      3    0003   6     1 0      0      1234\n",
        ),
    ])
}

#[test]
fn an_interface_of_the_kernel_is_left_to_the_port() {
    let up = "ok port p0: interface lg0 is up, with a carrier";
    let lines = kernel_interface().lines(interfaces::check, &kernel_port());
    assert_eq!(lines, [up]);
    for (file, text, expected) in [
        (
            "sys/class/net/lg0/flags",
            "0x1002",
            "warning port p0: interface lg0 is down; set it up: ip link set dev lg0 up",
        ),
        (
            "sys/class/net/lg0/carrier",
            "0",
            "warning port p0: interface lg0 has no carrier; check the cable, or the other end",
        ),
        (
            "sys/class/net/lg0/mtu",
            "1400",
            "fault port p0: the MTU of lg0 is 1400, [[port]] mtu is 1500; raise it: ip link set \
             dev lg0 mtu 1500",
        ),
        (
            "sys/class/net/lg0/master",
            "->../br0",
            "warning port p0: interface lg0 belongs to br0; take it out: ip link set dev lg0 \
             nomaster",
        ),
        (
            "proc/sys/net/ipv6/conf/lg0/disable_ipv6",
            "0",
            "warning port p0: the kernel's IPv6 is on at lg0: it sends its own messages; switch \
             it off there: sysctl -w net/ipv6/conf/lg0/disable_ipv6=1",
        ),
        (
            "proc/net/packet",
            "sk RefCnt Type Proto Iface R Rmem User Inode\n0 3 3 0003 5 1 0 0 1\n0 3 3 3 5 1 0 0 2",
            "note port p0: 2 packet sockets are open on lg0; see whose they are: another instance \
             would answer, too: ss --packet --processes",
        ),
    ] {
        let lines = kernel_interface()
            .with(&[(file, text)])
            .lines(interfaces::check, &kernel_port());
        assert!(
            lines.iter().any(|line| line == expected),
            "{file}: {lines:?}"
        );
        assert!(lines.len() <= 2, "{file}: {lines:?}");
    }
    let gro = kernel_interface().facts(|facts| {
        let receive = Offloads {
            receive: true,
            ..Offloads::default()
        };
        facts.offloads.insert("lg0".to_owned(), receive);
    });
    let lines = gro.lines(interfaces::check, &kernel_port());
    assert!(
        lines[1].ends_with(": ethtool -K lg0 gro off lro off"),
        "{lines:?}"
    );
    // /sys was mounted in another network namespace than this process is in.
    let elsewhere = Machine::new().facts(|facts| facts.interfaces = vec!["lg0".to_owned()]);
    let lines = elsewhere.lines(interfaces::check, &kernel_port());
    assert_eq!(
        lines,
        [
            "note port p0: lg0 isn't examined: /sys shows another network namespace; enter the \
          namespace by a program that mounts its /sys: ip netns exec NAMESPACE lockgate doctor"
        ]
    );
    let absent = Machine::new().lines(interfaces::check, &kernel_port());
    assert_eq!(absent.len(), 1);
    assert!(
        absent[0].starts_with("fault port p0: there is no interface lg0 in"),
        "{absent:?}"
    );
}

#[test]
fn addresses_of_the_kernel_are_found() {
    let with = |addresses: Vec<InterfaceAddress>| {
        let machine = kernel_interface().facts(|facts| facts.addresses = addresses);
        machine.lines(interfaces::check, &kernel_port())[1..].to_vec()
    };
    assert_eq!(with(vec![address("eth0", "192.0.2.1", 24)]), [""; 0]);
    assert_eq!(with(vec![address("lg0", "fe80::1", 64)]), [""; 0]);
    assert_eq!(
        with(vec![address("lg0", "192.0.2.1", 24)]),
        [
            "warning port p0: the kernel has 192.0.2.1/24 on lg0: it answers there, too; remove \
             what it doesn't need: ip address del 192.0.2.1/24 dev lg0"
        ]
    );
    // The appliance's own address, on any interface.
    assert_eq!(
        with(vec![address("eth0", "198.18.0.1", 16)]),
        [
            "fault address 198.18.0.1: the kernel has it, too, on eth0; remove it there: ip \
             address del 198.18.0.1/16 dev eth0"
        ]
    );
}

/// A veth's other end that leaves checksums to its card. It is seen only in this namespace.
#[test]
fn the_other_end_of_a_veth_has_to_send_checksums() {
    let with = |files: &[(&str, &str)], tx_checksum| {
        let machine = kernel_interface()
            .with(&[("sys/class/net/lg0/iflink", "6")])
            .with(files)
            .facts(|facts| {
                for (name, tx_checksum) in [("lg0", true), ("lg1", tx_checksum)] {
                    let end = Offloads {
                        tx_checksum,
                        is_veth: true,
                        ..Offloads::default()
                    };
                    facts.offloads.insert(name.to_owned(), end);
                }
            });
        machine.lines(interfaces::check, &kernel_port())[1..].to_vec()
    };
    let peer = [
        ("sys/class/net/lg1/ifindex", "6"),
        ("sys/class/net/lg1/iflink", "5"),
    ];
    assert_eq!(
        with(&peer, true),
        [
            "fault port p0: lg1, the other end of veth lg0, sends no checksums; switch its \
             offload off: ethtool -K lg1 tx off"
        ]
    );
    let sends = "ok port p0: lg1, the other end of veth lg0, sends checksums";
    assert_eq!(with(&peer, false), [sends]);
    let elsewhere = with(&[], true);
    assert!(
        elsewhere[0].contains("is in another network namespace"),
        "{elsewhere:?}"
    );
    // Another namespace's number 6 by chance: its own peer isn't number 5.
    let stranger = [
        ("sys/class/net/lg1/ifindex", "6"),
        ("sys/class/net/lg1/iflink", "6"),
    ];
    assert!(with(&stranger, true)[0].contains("is in another network namespace"));
    // Both ends may have the same number, each in its own namespace.
    let same = with(&[("sys/class/net/lg0/iflink", "5")], true);
    assert!(
        same[0].contains("is in another network namespace"),
        "{same:?}"
    );
    // A VLAN's iflink is the interface below it, which is no other end.
    let vlan = kernel_interface()
        .with(&[("sys/class/net/lg0/iflink", "6")])
        .with(&peer);
    assert_eq!(vlan.lines(interfaces::check, &kernel_port()).len(), 1);
}

#[test]
fn a_tap_that_exists_is_in_the_way() {
    let tap = config(&[("net_ring0", "net_tap0,iface=lgt0")], "");
    let there = || Machine::new().with(&[("sys/class/net/lgt0/mtu", "1500")]);
    assert_eq!(
        there().lines(interfaces::check, &tap),
        [
            "fault port p0: interface lgt0, which the port makes, exists already; remove it: ip link \
          del lgt0"
        ]
    );
    let running = there().facts(|facts| facts.instance = Some(7));
    assert_eq!(running.lines(interfaces::check, &tap), [""; 0]);
}

const CPUS: &str = "sys/devices/system/cpu";

#[test]
fn cores_are_near_isolated_whole_and_fast() {
    let two = config(
        &[("net_ring0", "0000:03:00.0")],
        "[workers]\ncores = [1, 3]\n",
    );
    let node0 = format!("{NODE0}/cpulist");
    let node1 = format!("{NODE1}/cpulist");
    let (isolated, tickless) = (format!("{CPUS}/isolated"), format!("{CPUS}/nohz_full"));
    let sibling = format!("{CPUS}/cpu3/topology/thread_siblings_list");
    let governor = |core: u16| format!("{CPUS}/cpu{core}/cpufreq/scaling_governor");
    let (one, three) = (governor(1), governor(3));
    let numa = format!("{CARD}/numa_node");
    let good = || {
        Machine::new().with(&[
            (node0.as_str(), "0-3"),
            (node1.as_str(), "4-7"),
            (isolated.as_str(), "1-3"),
            (tickless.as_str(), "1-3"),
            (sibling.as_str(), "3,7"),
            (one.as_str(), "performance\n"),
            (three.as_str(), "performance\n"),
            (numa.as_str(), "0"),
        ])
    };
    assert_eq!(
        good().lines(cores::check, &two),
        [
            "ok port p0: on NUMA node 0, as the workers",
            "ok isolated cores: 1,3 are isolated",
            "ok frequency governor: performance on all workers' cores",
        ]
    );
    for (file, text, expected) in [
        (
            &numa,
            "1",
            "warning port p0: on NUMA node 1, but the workers' cores 1,3 aren't; take [workers] \
             cores from 4-7",
        ),
        (
            &isolated,
            "1",
            "note isolated cores: cores 3 of workers run other threads, too; for steady latency, \
             isolate them by the kernel's command line: sed -i \
             's/^GRUB_CMDLINE_LINUX=\"/&isolcpus=1,3 nohz_full=1,3 rcu_nocbs=1,3 /' \
             /etc/default/grub && update-grub && reboot",
        ),
        (
            &sibling,
            "1,3",
            "warning core 3: is a hyperthread of the same core as 1, also a worker's; give each \
             worker a core of its own in [workers] cores",
        ),
        (
            &three,
            "powersave",
            "warning frequency governor: powersave on cores 3; packets wait while the frequency \
             rises; set performance: echo performance | tee \
             /sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
        ),
    ] {
        let lines = good()
            .with(&[(file.as_str(), text)])
            .lines(cores::check, &two);
        assert!(
            lines.iter().any(|line| line == expected),
            "{file}: {lines:#?}"
        );
    }
    let ticking = good()
        .with(&[(tickless.as_str(), "")])
        .lines(cores::check, &two);
    assert!(
        ticking[1].contains("cores 1,3 of workers have the timer's tick"),
        "{ticking:?}"
    );
    let first = Machine::new().lines(cores::check, &pci_port());
    assert!(
        first[0].ends_with("take others in [workers] cores, and isolate those"),
        "{first:?}"
    );
    // A virtual machine says nothing of nodes and frequencies.
    let lines = Machine::new().lines(cores::check, &two);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].starts_with("ok frequency governor: this machine doesn't"),
        "{lines:?}"
    );
}

#[test]
fn instructions_for_the_record_ciphers() {
    let with = |info: &str| {
        let machine = Machine::new().with(&[("proc/cpuinfo", info)]);
        machine.lines(crypto::check, &config(&[], "")).join("\n")
    };
    let all = "processor\t: 0\nflags\t\t: fpu aes pclmulqdq avx2 vaes vpclmulqdq\n";
    assert_eq!(
        with(all),
        "ok crypto instructions: aes, pclmulqdq, avx2, vaes, vpclmulqdq are used"
    );
    assert_eq!(
        with(&all.replace(" vaes vpclmulqdq", "")),
        "note crypto instructions: aes, pclmulqdq are used; no vaes, vpclmulqdq"
    );
    let without = with(&all.replace(" aes", ""));
    assert!(
        without.starts_with("warning crypto instructions: this CPU has no aes"),
        "{without}"
    );
    assert!(without.contains("chacha20-poly1305"), "{without}");
    let arm = with("processor\t: 0\nFeatures\t: fp asimd aes pmull sha2\n");
    assert_eq!(arm, "ok crypto instructions: aes, pmull, sha2 are used");
    assert!(with("processor : 0").starts_with("note "));
    // Nothing is sealed without TLS.
    let plain = config(&[("\ntls = true", "")], "");
    assert!(Machine::new().lines(crypto::check, &plain).is_empty());
}

const DAY: u64 = 86_400;

#[test]
fn certificates_are_valid_for_a_while() {
    let scratch = Scratch::new();
    let config = scratch.parse(BASE).unwrap();
    let end = u64::try_from(config.certificate_files[0].validity.to).unwrap();
    let level = |now: u64| {
        let machine = Machine::new().facts(|facts| facts.unix_seconds = now);
        let lines = machine.lines(files::check, &config);
        let line = lines.iter().find(|line| line.contains("demo.crt")).unwrap();
        line.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(level(IN_2026), "ok");
    assert_eq!(level(end - 14 * DAY), "ok");
    assert_eq!(level(end - 14 * DAY + 1), "warning");
    assert_eq!(level(end + 1), "warning");
    assert_eq!(level(0), "warning");
}

#[test]
fn private_keys_are_for_their_owner() {
    let scratch = Scratch::new();
    let config = scratch.parse(BASE).unwrap();
    let key = scratch.path("demo.key");
    for (mode, expected) in [
        (0o600, None),
        (0o400, None),
        (0o640, Some("note private key: ")),
        (0o644, Some("warning private key: ")),
    ] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let lines = Machine::new().lines(files::check, &config);
        let line = lines.iter().find(|line| line.contains("private key"));
        match expected {
            None => assert_eq!(line, None),
            Some(start) => {
                let line = line.unwrap();
                assert!(line.starts_with(start), "{line}");
                assert!(
                    line.ends_with(&format!(": chmod 600 {}", key.display())),
                    "{line}"
                );
            }
        }
    }
}

/// The user needs the search bit of its class on every directory down to a site's root.
#[test]
fn the_user_may_search_every_directory_on_the_way() {
    let scratch = Scratch::new();
    let root = fs::canonicalize(scratch.path("www")).unwrap();
    let parent = root.parent().unwrap().to_owned();
    let owner = fs::metadata(&root).unwrap();
    let mut config = scratch.parse(BASE).unwrap();
    let mut line = |uid: u32, groups: &[u32]| {
        config.identity = Some(Identity {
            name: "web".to_owned(),
            uid,
            gid: groups[0],
            groups: groups.to_vec(),
        });
        let lines = Machine::new().lines(files::check, &config);
        lines
            .into_iter()
            .find(|line| line.contains(" site: "))
            .unwrap()
    };
    let other = owner.uid() + 7;
    let foreign = owner.gid() + 7;
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (parent_mode, root_mode, uid, group, refused) in [
        (0o755, 0o755, other, foreign, None),
        (0o711, 0o711, other, foreign, None),
        (0o700, 0o755, other, foreign, Some((&parent, 'o'))),
        (0o755, 0o700, other, foreign, Some((&root, 'o'))),
        (0o750, 0o750, other, owner.gid(), None),
        // The class of the group counts, not the wider one of others.
        (0o745, 0o755, other, owner.gid(), Some((&parent, 'g'))),
        (0o700, 0o700, owner.uid(), foreign, None),
    ] {
        set(&parent, parent_mode);
        set(&root, root_mode);
        let found = line(uid, &[group]);
        let expected = match refused {
            None => format!("ok site: user web may search {}", root.display()),
            Some((at, class)) => format!(
                "fault site: user web may not search {0}; allow it: chmod {class}+x {0}",
                at.display()
            ),
        };
        assert_eq!(found, expected, "{parent_mode:o} {root_mode:o}");
    }
    set(&parent, 0o700);
}

/// Nothing is missing in a whole report, in the order of the start, on this very machine.
#[test]
fn this_machine_can_be_examined() {
    let report = examine(&kernel_port(), &HostView::live(IN_2026, None));
    let subjects: Vec<_> = report.findings.iter().map(|f| f.subject.as_str()).collect();
    for subject in [
        "process",
        "certificate",
        "huge pages",
        "locked memory",
        "port p0",
        "isolated cores",
        "frequency governor",
        "crypto instructions",
    ] {
        assert!(subjects.contains(&subject), "{subject}: {subjects:?}");
    }
    // There's no lg0.
    assert!(report.has_faults());
}

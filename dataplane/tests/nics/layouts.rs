//! Other machines and configurations: two cards, the smallest pools.

use lockgate_testing::cases::Case;
use lockgate_testing::network::SERVER4;

use crate::support::appliance::Setup;
use crate::support::card::Card;
use crate::support::spec::{MachineSpec, PageSize};

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::two_cards", two_cards),
    Case::new("rows::physical_e1000e", || physical(Card::E1000e, "pa")),
    Case::new("rows::physical_igb", || physical(Card::Igb, "pa")),
    Case::new("rows::physical_vmxnet3", || physical(Card::Vmxnet3, "pa")),
    Case::new("rows::physical_virtio", || physical(Card::Virtio, "pa")),
    Case::new("rows::physical_auto", || physical(Card::Igb, "auto")),
    Case::new("rows::small_e1000e", || small(Card::E1000e)),
    Case::new("rows::small_igb", || small(Card::Igb)),
    Case::new("rows::small_igb_vf", || small(Card::IgbVf)),
    Case::new("rows::small_vmxnet3", || small(Card::Vmxnet3)),
    Case::new("rows::small_virtio", || small(Card::Virtio)),
    Case::new("rows::pages_e1000e", || pages(Card::E1000e, 1500)),
    Case::new("rows::pages_igb", || pages(Card::Igb, 1500)),
    Case::new("rows::pages_igb_jumbo", || pages(Card::Igb, 9000)),
    Case::new("rows::pages_vmxnet3", || pages(Card::Vmxnet3, 1500)),
    Case::new("rows::pages_missing", missing_pages),
    Case::new("rows::ordinary_e1000", || ordinary(Card::E1000, 1, "off")),
    Case::new("rows::ordinary_virtio", || ordinary(Card::Virtio, 1, "off")),
    Case::new("rows::ordinary_auto", || ordinary(Card::Igb, 1, "auto")),
    Case::new("rows::ordinary_bond", || ordinary(Card::Virtio, 2, "off")),
];

/// One worker polls two cards with different drivers, each with a network of its own.
fn two_cards() {
    let mut machine = MachineSpec::new(Card::E1000e);
    machine.cards.push(Card::Virtio);
    let mut bench = Setup::new(machine).boot();
    bench.start();
    for (port, card) in [Card::E1000e, Card::Virtio].into_iter().enumerate() {
        assert!(bench.port_open(port).contains(card.driver()));
        bench.wait_for_link(port, true);
    }
    bench.transfer_all();
    bench.fetch("https://198.18.1.1/body");
    bench.fetch("https://[fd00:18:1::1]/body");
    let stats = bench.stats();
    for port in 0..2 {
        assert!(stats.port(port, "device.tx_bytes") > 10 << 20, "{stats:?}");
    }
    bench.finish();
}

/// Without an IOMMU devices get physical addresses, by uio_pci_generic. The EAL chooses them itself
/// with `iova = "auto"`: virtual addresses would mean nothing to the card.
fn physical(card: Card, iova: &str) {
    let mut machine = MachineSpec::new(card);
    machine.iommu = false;
    let mut bench = Setup::new(machine).set("eal", "iova", iova).boot();
    let groups = bench.machine.ok("ls /sys/kernel/iommu_groups");
    assert_eq!(groups, "", "there is an IOMMU");
    bench.start();
    bench.transfer_all();
    bench.finish();
}

/// The pools and rings of `configs/small.toml` suffice: transfers are complete, and neither waits
/// for the other for ever.
fn small(card: Card) {
    let mut bench = Setup::new(MachineSpec::new(card)).small().boot();
    bench.start();
    bench.transfer_all();
    std::thread::scope(|scope| {
        for scheme in ["http", "https", "https"] {
            let bench = &bench;
            scope.spawn(move || bench.fetch(&format!("{scheme}://{SERVER4}/body")));
        }
    });
    bench.finish();
}

/// QEMU's card drops a packet with a fragment that crosses the border of two pages which aren't
/// adjacent in the guest's memory, again at each retransmission. No span of page buffers and no
/// packet buffer crosses a page of 2 MiB; all of them together fit into one page of 1 GiB.
fn pages(card: Card, mtu: u16) {
    for (size, shown) in [(PageSize::Huge, "2 MiB"), (PageSize::Gigantic, "1 GiB")] {
        let mut machine = MachineSpec::new(card);
        machine.pages = size;
        machine.mtu = mtu;
        let mut bench = Setup::new(machine).boot();
        bench.start();
        let memory = bench.log_lines("memory: ").concat();
        let parts = memory
            .matches(&format!("MiB of {shown} pages on node 0 for "))
            .count();
        assert_eq!(parts, 3, "{memory}");
        bench.transfer_all();
        for _ in 0..3 {
            bench.fetch(&format!("https://{SERVER4}/body"));
        }
        bench.finish();
    }
}

/// More page buffers than there are huge pages: what the doctor says is what the start says.
fn missing_pages() {
    let setup = Setup::new(MachineSpec::new(Card::Virtio));
    let mut bench = setup.set("limits", "spans_large", 65_536).boot();
    let doctor = bench.doctor();
    let line = doctor.lines().find(|line| line.contains(" huge pages:"));
    let line = line.expect("it checks them");
    assert!(line.starts_with("fault"), "{line}");
    let (_, says) = line.split_once(" huge pages:").expect("as found");
    let (summary, _) = says.split_once("; reserve more: echo").expect("what to do");
    let log = bench.start_refused(FAILED);
    let error = format!(
        "[eal] hugepages = \"require\": {}; to have them: echo",
        summary.trim()
    );
    assert!(log.contains(&error), "{error}: {log}");
}

/// Without huge pages the memory of page buffers and of the cache isn't the EAL's own: it is mapped
/// for each card, and for each card of a bond. With `hugepages = "auto"` a log line has the missing
/// huge pages.
fn ordinary(card: Card, cards: usize, hugepages: &str) {
    let mut machine = MachineSpec::new(card);
    machine.cards = vec![card; cards];
    machine.pages = PageSize::Ordinary;
    let mut setup = Setup::new(machine).set("eal", "hugepages", hugepages);
    if cards > 1 {
        setup = setup.bonded();
    }
    let mut bench = setup.boot();
    bench.start();
    bench.wait_for_link(0, true);
    let memory = bench.log_lines("memory: ").concat();
    let fallback = bench.log_lines("huge pages: ordinary pages are used for a part of memory");
    assert_eq!(
        fallback.len(),
        usize::from(hugepages == "auto"),
        "{fallback:?}"
    );
    for what in ["page buffers of worker 0", "the file cache"] {
        let on = format!("of 4 KiB pages for {what}");
        assert!(memory.contains(&on), "{on}: {memory}");
    }
    let locked = bench.machine.ok("grep VmLck: /proc/$(cat /run/pid)/status");
    let kib = locked.split_whitespace().nth(1).expect("VmLck: N kB");
    let locked_mib = kib.parse::<u64>().expect("a number") >> 10;
    let (_, parts) = memory.rsplit_once("memory: ").expect("as found");
    let mib = parts.split("; ").map(|part| {
        let mib = part.split_whitespace().next().expect("N MiB of …");
        mib.parse::<u64>().expect("a number")
    });
    assert!(locked_mib >= mib.sum(), "{locked}: {memory}");
    bench.transfer_all();
    let opened = bench.port_open(0);
    let chains = opened.contains("port_does=\"chains, ");
    assert_eq!(chains, cards == 1, "{opened}");
    bench.finish();
}

/// The exit code of a start that fails.
const FAILED: u8 = 1;

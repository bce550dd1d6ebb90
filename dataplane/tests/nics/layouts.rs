//! Other machines and configurations: two cards, the smallest pools.

use lockgate_testing::cases::Case;
use lockgate_testing::network::SERVER4;

use crate::support::appliance::Setup;
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::two_cards", two_cards),
    Case::new("rows::physical_e1000e", || physical(Card::E1000e)),
    Case::new("rows::physical_igb", || physical(Card::Igb)),
    Case::new("rows::physical_vmxnet3", || physical(Card::Vmxnet3)),
    Case::new("rows::physical_virtio", || physical(Card::Virtio)),
    Case::new("rows::small_e1000e", || small(Card::E1000e)),
    Case::new("rows::small_igb", || small(Card::Igb)),
    Case::new("rows::small_igb_vf", || small(Card::IgbVf)),
    Case::new("rows::small_vmxnet3", || small(Card::Vmxnet3)),
    Case::new("rows::small_virtio", || small(Card::Virtio)),
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

/// Without an IOMMU devices get physical addresses, by uio_pci_generic.
fn physical(card: Card) {
    let mut machine = MachineSpec::new(card);
    machine.iommu = false;
    let mut bench = Setup::new(machine).set("eal", "iova", "pa").boot();
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

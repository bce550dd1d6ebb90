//! Each card once: a link that comes up after the start, transfers, and a clean end.

use lockgate_testing::cases::Case;

use crate::support::appliance::Setup;
use crate::support::card::Card;
use crate::support::machine::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("boots::e1000", || boots(Card::E1000, 1)),
    Case::new("boots::e1000e", || boots(Card::E1000e, 1)),
    Case::new("boots::igb", || boots(Card::Igb, 2)),
    Case::new("boots::vmxnet3", || boots(Card::Vmxnet3, 2)),
    Case::new("boots::virtio", || boots(Card::Virtio, 1)),
];

fn boots(card: Card, workers: usize) {
    let mut bench = Setup::new(MachineSpec::new(card).workers(workers)).boot();
    bench.machine.set_link(0, false);
    bench.start();
    assert_eq!(bench.stats().port(0, "port.link_up"), 0);
    bench.machine.set_link(0, true);
    bench.wait_for_log("up=true", 1);
    bench.transfer_all();
    let stats = bench.stats();
    assert_eq!(stats.total("stack.bad_checksum"), 0, "{stats:?}");
    assert_eq!(stats.port(0, "device.rx_errors"), 0, "{stats:?}");
    let log = bench.machine.log();
    let opened = log.lines().find(|line| line.contains("port open"));
    let opened = opened.unwrap_or_else(|| panic!("no port is open: {log}"));
    assert!(opened.contains(card.driver()), "{opened}");
    bench.finish();
}

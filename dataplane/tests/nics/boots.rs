//! Each card once, as a part of every test run: a link that comes up after the start, transfers,
//! and a clean end.

use lockgate_testing::cases::Case;

use crate::support::appliance::Setup;
use crate::support::capture::{ANNOUNCEMENTS, Capture};
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("boots::e1000", || boots(Card::E1000)),
    Case::new("boots::e1000e", || boots(Card::E1000e)),
    Case::new("boots::igb", || boots(Card::Igb)),
    Case::new("boots::igb_vf", || boots(Card::IgbVf)),
    Case::new("boots::vmxnet3", || boots(Card::Vmxnet3)),
    Case::new("boots::virtio", || boots(Card::Virtio)),
];

fn boots(card: Card) {
    let mut bench = Setup::new(MachineSpec::new(card)).boot();
    bench.machine.set_link(0, false);
    bench.start();
    assert_eq!(bench.stats().port(0, "port.link_up"), 0);
    let capture = Capture::start(&bench.machine, 0, ANNOUNCEMENTS);
    bench.set_link(0, true);
    capture.wait_for_announcements();
    capture.finish();
    bench.transfer_all();
    let stats = bench.stats();
    assert_eq!(stats.total("stack.bad_checksum"), 0, "{stats:?}");
    assert_eq!(stats.port(0, "device.rx_errors"), 0, "{stats:?}");
    let opened = bench.port_open(0);
    assert!(opened.contains(card.driver()), "{opened}");
    bench.finish();
}

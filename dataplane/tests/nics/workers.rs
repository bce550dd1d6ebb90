//! Several workers: the card spreads connections over their queues.

use lockgate_testing::cases::Case;

use crate::support::appliance::Setup;
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::workers_igb_2", || workers(Card::Igb, 2, 1)),
    Case::new("rows::workers_igb_4", || workers(Card::Igb, 4, 1)),
    Case::new("rows::workers_virtio_2", || workers(Card::Virtio, 2, 1)),
    Case::new("rows::workers_virtio_4", || workers(Card::Virtio, 4, 1)),
    Case::new("rows::nodes_virtio", || workers(Card::Virtio, 4, 2)),
];

/// Each worker accepts connections, and transfers pass on all of them. The machine has so many NUMA
/// nodes.
fn workers(card: Card, workers: usize, nodes: usize) {
    let mut machine = MachineSpec::new(card).workers(workers);
    machine.nodes = nodes;
    let mut bench = Setup::new(machine).boot();
    let online = bench.machine.ok("cat /sys/devices/system/node/online");
    assert_eq!(online.contains('-'), nodes > 1, "{online}");
    bench.start();
    let stats = bench.reach_workers(workers);
    assert_eq!(stats.total("stack.misdirected_lost"), 0, "{stats:?}");
    bench.transfer_all();
    bench.finish();
}

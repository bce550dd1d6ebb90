//! Several workers: the card spreads connections over their queues.

use lockgate_testing::cases::Case;

use crate::support::appliance::{Bench, Setup};
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
    let doctor = bench.doctor();
    let pages = doctor.lines().find(|line| line.contains(" huge pages:"));
    assert!(pages.is_some_and(|line| line.starts_with("ok")), "{doctor}");
    bench.start();
    let stats = bench.reach_workers(workers);
    assert_eq!(stats.total("stack.misdirected_lost"), 0, "{stats:?}");
    bench.transfer_all();
    if nodes > 1 {
        check_nodes(&mut bench, workers, nodes);
    }
    bench.finish();
}

/// The log names the node of each worker's page buffers, and the kernel has so much there.
fn check_nodes(bench: &mut Bench, workers: usize, nodes: usize) {
    let line = bench.log_lines("memory: ").concat();
    let mut logged = vec![0; nodes];
    let (_, text) = line.rsplit_once("memory: ").expect("as found");
    for part in text.split("; ") {
        let (mib, place) = part
            .split_once(" MiB of 2 MiB pages on node ")
            .unwrap_or_else(|| panic!("huge pages on a node: {part}"));
        let (node, _) = place.split_once(' ').expect("what they are for");
        let node: usize = node.parse().expect("a number");
        logged[node] += mib.parse::<u64>().expect("a number");
        for worker in 0..workers {
            if part.contains(&format!("page buffers of worker {worker} ")) {
                let cpu = format!("ls -d /sys/devices/system/cpu/cpu{worker}/node{node}");
                bench.machine.ok(&cpu);
            }
        }
    }
    assert_eq!(
        line.matches("page buffers of worker").count(),
        workers,
        "{line}"
    );
    assert!(logged.iter().all(|mib| *mib > 64), "{line}");

    // Pages of mappings of huge pages, by node: `… huge … N0=12 N1=3 kernelpagesize_kB=2048`.
    let maps = bench
        .machine
        .ok("grep ' huge ' /proc/$(cat /run/pid)/numa_maps");
    let mut mapped = vec![0; nodes];
    for word in maps.split_whitespace() {
        let Some((node, pages)) = word.strip_prefix('N').and_then(|word| word.split_once('='))
        else {
            continue;
        };
        let node: usize = node.parse().expect("a number");
        mapped[node] += 2 * pages.parse::<u64>().expect("a number");
    }
    for (node, (mapped, logged)) in mapped.iter().zip(&logged).enumerate() {
        assert!(
            mapped >= logged,
            "node {node}: {mapped} of {logged} MiB: {line}\n{maps}"
        );
    }
}

//! The drop from root to `[process] user` with cards behind vfio-pci.

use lockgate_testing::cases::Case;
use lockgate_testing::network::{SERVER4, SERVER6, ip};

use crate::support::appliance::{Bench, Setup};
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::user_e1000e", || user(Card::E1000e)),
    Case::new("rows::user_virtio", || user(Card::Virtio)),
];

/// No thread has a privilege left. Then the link goes and comes back, clients find the addresses
/// anew by ARP and neighbour discovery, and large bodies pass.
fn user(card: Card) {
    let setup = Setup::new(MachineSpec::new(card)).set("process", "user", "nobody");
    let mut bench = setup.boot();
    bench.start();
    bench.wait_for_link(0, true);
    let dropped = bench.log_lines("root is dropped in all threads").concat();
    assert!(dropped.contains("capabilities=none"), "{dropped}");
    check_threads(&mut bench);
    bench.transfer_all();
    bench.set_link(0, false);
    bench.set_link(0, true);
    forget_neighbours(&bench);
    bench.transfer_all();
    check_threads(&mut bench);
    // The first answer came from the multicast group, or the next one wouldn't.
    forget_neighbours(&bench);
    bench.fetch(&format!("https://[{SERVER6}]/body"));
    bench.fetch(&format!("https://{SERVER4}/body"));
    let stats = bench.stats();
    assert_eq!(stats.total("stack.bad_checksum"), 0, "{stats:?}");
    bench.finish();
}

/// Each thread is user 65534's, has no capability, and may lock what vfio maps.
fn check_threads(bench: &mut Bench) {
    let status = bench.machine.ok("cat /proc/$(cat /run/pid)/task/*/status");
    let of = |name: &str| -> Vec<String> {
        let values = status.lines().filter_map(|line| line.strip_prefix(name));
        values
            .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let threads = of("Name:").len();
    assert!(threads >= 4, "{status}");
    for (name, expected) in [
        ("Uid:", "65534 65534 65534 65534"),
        ("Gid:", "65534 65534 65534 65534"),
        ("CapPrm:", "0000000000000000"),
        ("CapEff:", "0000000000000000"),
        ("CapInh:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
    ] {
        assert_eq!(of(name), vec![expected; threads], "{name}");
    }
    let limits = bench
        .machine
        .ok("grep 'Max locked memory' /proc/$(cat /run/pid)/limits");
    let words: Vec<&str> = limits.split_whitespace().collect();
    assert_eq!(words[3..5], ["unlimited", "unlimited"], "{limits}");
}

/// Empties the clients' tables of neighbours.
fn forget_neighbours(bench: &Bench) {
    let namespace = bench.machine.namespace();
    ip(&format!("-n {namespace} neigh flush all"));
}

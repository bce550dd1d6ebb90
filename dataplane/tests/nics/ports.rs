//! How each card's port is set up, and that what it says it does is what happens.

use lockgate_testing::cases::Case;

use crate::support::appliance::Setup;
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::ports_e1000_with_two_workers", || {
        two_workers_on_one_queue(Card::E1000);
    }),
    Case::new("rows::ports_e1000e_with_two_workers", || {
        two_workers_on_one_queue(Card::E1000e);
    }),
    Case::new("rows::ports_e1000e_with_three_workers", too_few_queues),
    Case::new("rows::ports_igb_with_one_worker", || {
        serves(Card::Igb, 1, ALL, NOTHING, ONE_QUEUE);
    }),
    Case::new("rows::ports_igb_vf_with_one_worker", || {
        serves(Card::IgbVf, 1, ALL, NOTHING, ONE_QUEUE);
    }),
    Case::new("rows::ports_igb_vf_with_two_workers", || {
        serves(Card::IgbVf, 2, ALL, NOTHING, NO_RSS);
    }),
    Case::new("rows::ports_igb_with_two_workers", || {
        let rss = "by addresses and ports, key of 40 bytes, table of 128";
        serves(Card::Igb, 2, ALL, NOTHING, rss);
    }),
    Case::new("rows::ports_vmxnet3_with_one_worker", || {
        serves(Card::Vmxnet3, 1, NO_IP, NO_IP_WHY, ONE_QUEUE);
    }),
    Case::new("rows::ports_vmxnet3_with_two_workers", || {
        let rss = "by addresses and ports, the driver's key, table of 64";
        serves(Card::Vmxnet3, 2, NO_IP, NO_IP_WHY, rss);
    }),
    Case::new("rows::ports_vmxnet3_with_few_mbufs", few_mbufs),
    Case::new("rows::ports_virtio_with_two_workers", || {
        let rss = "by addresses and ports, key of 40 bytes, table of 128";
        serves(Card::Virtio, 2, NO_IP, NO_IP_WHY, rss);
    }),
];

/// The driver has two queues and no RSS: the log says that one queue receives.
fn two_workers_on_one_queue(card: Card) {
    let port_does = "chains, rx tcp checksums, rx ip checksums";
    serves(card, 2, port_does, ONE_CONTEXT, NO_RSS);
}

/// More workers than queues are refused, at the line of the key.
fn too_few_queues() {
    let mut bench = Setup::new(MachineSpec::new(Card::E1000e).workers(3)).boot();
    let log = bench.start_refused(FAULTS_OF_THE_FILE);
    let says = "workers.cores: port p0: 3 workers need 3 queues, but 0000:01:00.0 has 2 at most; \
                use fewer cores";
    assert!(log.contains(says), "{log}");
}

/// The driver fills two rings a queue. The pool has buffers for both rings and for what the stack
/// may hold.
fn few_mbufs() {
    let setup = Setup::new(MachineSpec::new(Card::Vmxnet3));
    let setup = setup.set("limits", "mbufs", 512);
    let mut bench = setup.set_port("rx_descriptors", 1024).boot();
    bench.start();
    bench.wait_for_link(0, true);
    let opened = bench.port_open(0);
    assert!(opened.contains("rx_descriptors=1024"), "{opened}");
    bench.transfer_all();
    let stats = bench.stats();
    assert_eq!(stats.port(0, "device.rx_no_mbuf"), 0, "{stats:?}");
    bench.finish();
}

/// Opens the port, compares what it says with what is expected of the card, and transfers.
fn serves(card: Card, workers: usize, port_does: &str, stack_does: &str, rss: &str) {
    let mut bench = Setup::new(MachineSpec::new(card).workers(workers)).boot();
    bench.start();
    bench.wait_for_link(0, true);
    bench.transfer_all();
    let opened = bench.port_open(0);
    for says in [
        format!("port_does=\"{port_does}\""),
        format!("stack_does=\"{stack_does}\""),
        format!("rss=\"{rss}\""),
        format!("queues={workers}"),
    ] {
        assert!(opened.contains(&says), "{says}: {opened}");
    }
    let stats = bench.stats();
    let of_port = |name: &str| stats.port(0, name);
    // Each packet that is longer than a frame is segmented by the port, or each by the stack.
    // Beyond the ring's share of page buffers, packets are segmented and copied in software.
    let beyond_share = of_port("port.tx_ring_share") > 0;
    let (used, unused) = if port_does.contains("segmentation") {
        ("port.tx_tso", "port.tx_gso")
    } else {
        ("port.tx_gso", "port.tx_tso")
    };
    assert!(of_port(used) > 100, "{stats:?}");
    for in_software in [unused, "port.tx_payload_copied"] {
        assert!(of_port(in_software) == 0 || beyond_share, "{stats:?}");
    }
    assert!(of_port(used) > of_port(unused), "{stats:?}");
    assert_eq!(of_port("port.tx_dropped_driver"), 0, "{stats:?}");
    assert_eq!(stats.total("stack.bad_checksum"), 0, "{stats:?}");
    bench.finish();
}

/// The exit code of a start that a fault of the configuration prevents.
const FAULTS_OF_THE_FILE: u8 = 2;
const ALL: &str = "chains, tx tcp checksums, tx ip checksums, segmentation, rx tcp checksums, \
                   rx ip checksums";
const NOTHING: &str = "nothing";
/// A port that lacks only the IPv4 header checksum segments and verifies all the same.
const NO_IP: &str = "chains, tx tcp checksums, segmentation, rx tcp checksums";
const NO_IP_WHY: &str = "tx ip checksums (not offered), rx ip checksums (not offered)";
const ONE_CONTEXT: &str = "tx tcp checksums (not with several queues: they share one context), \
                           tx ip checksums (used with segmentation only), \
                           segmentation (not offered)";
const ONE_QUEUE: &str = "off (one queue)";
const NO_RSS: &str = "off (not offered): one queue receives";

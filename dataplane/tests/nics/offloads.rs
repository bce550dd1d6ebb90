//! What a card does for the appliance, as frames on the tap and the appliance's counters show it.

use lockgate_testing::cases::Case;
use lockgate_testing::network::SERVER4;

use crate::support::appliance::Setup;
use crate::support::capture::Capture;
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::offloads_e1000", || offloads(Card::E1000, 1500)),
    Case::new("rows::offloads_e1000e", || offloads(Card::E1000e, 1500)),
    Case::new("rows::offloads_igb", || offloads(Card::Igb, 1500)),
    Case::new("rows::offloads_igb_vf", || offloads(Card::IgbVf, 1500)),
    Case::new("rows::offloads_vmxnet3", || offloads(Card::Vmxnet3, 1500)),
    Case::new("rows::offloads_virtio", || offloads(Card::Virtio, 1500)),
    Case::new("rows::jumbo_e1000", || offloads(Card::E1000, 9000)),
    Case::new("rows::jumbo_e1000e", || offloads(Card::E1000e, 9000)),
    Case::new("rows::jumbo_igb", || offloads(Card::Igb, 9000)),
    Case::new("rows::jumbo_igb_vf", || offloads(Card::IgbVf, 9000)),
    Case::new("rows::jumbo_vmxnet3", || offloads(Card::Vmxnet3, 9000)),
    Case::new("rows::jumbo_virtio", || offloads(Card::Virtio, 9000)),
];

/// Transfers with frames up to the MTU. QEMU's cards leave the work of their offloads to the tap:
/// what the driver gives them to segment arrives uncut, and with checksums that are incomplete.
/// Cards that don't segment send no frame that is longer than the MTU.
fn offloads(card: Card, mtu: u16) {
    let mut machine = MachineSpec::new(card);
    machine.mtu = mtu;
    let mut bench = Setup::new(machine).boot();
    bench.start();
    let frame = ETHERNET_HEADER + usize::from(mtu);
    let filter = |more: &str| format!("tcp and src host {SERVER4} and {more}");
    let full = Capture::start(&bench.machine, 0, &filter(&format!("greater {frame}")));
    let longer = Capture::start(
        &bench.machine,
        0,
        &filter(&format!("greater {}", frame + 1)),
    );
    bench.transfer_all();
    let stats = bench.stats();
    let (full, longer) = (full.finish(), longer.finish());
    // The capture of full frames shows that the filters fit.
    assert!(
        full.contains("Flags"),
        "no frame of {frame} bytes: {stats:?}"
    );
    let leaves_work = card.leaves_work_to_the_tap();
    let expected = card.segments() && leaves_work;
    assert_eq!(longer.contains("Flags"), expected, "{longer:.1000}");
    let [tso, gso] = ["port.tx_tso", "port.tx_gso"].map(|name| stats.port(0, name));
    // Beyond the ring's share of page buffers, packets are segmented and copied in software.
    let beyond_share = stats.port(0, "port.tx_ring_share") > 0;
    if card.segments() {
        assert!(tso > gso && (gso == 0 || beyond_share), "{stats:?}");
    } else {
        assert!(tso == 0 && gso > 0, "{stats:?}");
    }
    assert_eq!(full.contains("(incorrect"), leaves_work, "{full:.1000}");
    let copied = stats.port(0, "port.tx_payload_copied");
    assert!(copied == 0 || beyond_share, "{stats:?}");
    assert_eq!(stats.total("stack.bad_checksum"), 0, "{stats:?}");
    bench.finish();
}

const ETHERNET_HEADER: usize = 14;

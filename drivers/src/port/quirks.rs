//! Properties of drivers that `rte_eth_dev_info` doesn't report, read in the sources of DPDK 22.11.

use super::sent::SentRelease;
use crate::device::{Device, Driver, MTU_ETHERNET};

/// Properties of a driver that `rte_eth_dev_info` doesn't report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Rings that the driver fills with receive buffers, for each queue.
    pub(super) rx_rings: u32,
    /// Rings that hold what was sent, for each queue: one of each member of a bond.
    pub(super) tx_rings: u32,
    /// Multiple that the numbers of descriptors are rounded to, if the driver reports a smaller
    /// one.
    pub(super) descriptors_align: u16,
    /// Longest segment of a packet, in bytes: what one descriptor can describe.
    pub(super) tx_piece_len_max: u32,
    /// Smallest and largest MSS that the port segments with.
    pub(super) tso_mss: (u16, u16),
    /// Most frames that the port segments a packet into.
    pub(super) tso_frames_max: u16,
    /// Longest frame that the port segments a packet into, in bytes.
    pub(super) tso_frame_len_max: u16,
    /// It segments IPv4 packets only, although it offers TSO.
    pub(super) tso_ipv4_only: bool,
    /// Checksums are wrong if a piece of payload other than the last has an odd length.
    pub(super) tx_csum_even_only: bool,
    /// All queues share one checksum context, so only one queue may use checksum offload.
    pub(super) one_csum_context: bool,
    /// A full receive ring stalls the other queues unless `rx_drop_en` is set. If false, the driver
    /// has no such setting.
    pub(super) has_rx_drop: bool,
    /// When the driver frees what it has sent, if that isn't to be asked.
    pub(super) sent_release: Option<SentRelease>,
    /// Each segment of a packet takes a transmit descriptor at least. virtio can have one for all.
    pub(super) has_descriptor_per_segment: bool,
}

impl Quirks {
    /// Returns the properties of a device's driver: `name` is DPDK's name for it.
    pub(super) fn of(device: &Device, name: &str) -> Self {
        let any = Self {
            rx_rings: 1,
            tx_rings: 1,
            descriptors_align: 1,
            tx_piece_len_max: u32::MAX,
            tso_mss: (1, u16::MAX),
            tso_frames_max: u16::MAX,
            tso_frame_len_max: u16::MAX,
            tso_ipv4_only: false,
            tx_csum_even_only: false,
            one_csum_context: false,
            has_rx_drop: false,
            sent_release: None,
            has_descriptor_per_segment: false,
        };
        match device.driver() {
            Driver::Tap => Self {
                // It segments in software, into at most 64 packets from a pool of 128.
                tso_frames_max: 32,
                // It compares the whole frame with its MTU.
                tso_frame_len_max: MTU_ETHERNET,
                // librte_gso has no TCP over IPv6. Then 22.11 sends the packet unsegmented, and
                // 24.11 never sends it, nor those behind it.
                tso_ipv4_only: true,
                // It sums each segment as if it were padded to an even length.
                tx_csum_even_only: true,
                ..any
            },
            Driver::Pci | Driver::OtherVirtual | Driver::VirtioUser => {
                let card = Self {
                    tx_piece_len_max: if LONG_PIECES.contains(&name) {
                        u32::MAX
                    } else {
                        PIECE_LEN_MAX
                    },
                    tso_mss: TSO_MSS,
                    has_rx_drop: true,
                    ..any
                };
                let members = device.bond_members().len();
                let members = u32::try_from(members).unwrap_or(u32::MAX);
                if members > 0 {
                    // Each member fills its rings from the bond's pool, and may have two a queue.
                    return Self {
                        rx_rings: RINGS_MAX.saturating_mul(members),
                        tx_rings: members,
                        ..card
                    };
                }
                Self::of_card(card, name)
            }
            Driver::AfPacket
            | Driver::AfXdp
            | Driver::Ring
            | Driver::Memif
            | Driver::Null
            | Driver::Pcap => any,
        }
    }

    fn of_card(card: Self, name: &str) -> Self {
        match name {
            "net_vmxnet3" => Self {
                // Both rings of a queue are filled from its pool, the second for merged packets.
                rx_rings: RINGS_MAX,
                // It rounds down to a multiple of 32.
                descriptors_align: 32,
                has_rx_drop: false,
                sent_release: Some(SentRelease::InEachCall),
                ..card
            },
            // Its rte_eth_tx_done_cleanup makes each descriptor of a packet the last one. Only the
            // last one is ever marked as done, so the ring then looks full for ever.
            "net_e1000_igb" | "net_e1000_igb_vf" => Self {
                sent_release: Some(SentRelease::OnReuse),
                has_descriptor_per_segment: true,
                ..card
            },
            "net_e1000_em" => Self {
                one_csum_context: true,
                has_descriptor_per_segment: true,
                has_rx_drop: false,
                ..card
            },
            "net_virtio" | "net_virtio_user" => Self {
                has_rx_drop: false,
                ..card
            },
            _ => card,
        }
    }

    /// Returns, before the device is open, the properties that need the most memory.
    pub(super) fn worst_case(device: &Device) -> Self {
        let name = if device.driver() == Driver::Pci {
            "net_vmxnet3"
        } else {
            ""
        };
        Self::of(device, name)
    }
}

/// Most rings of one queue that a driver fills with receive buffers.
const RINGS_MAX: u32 = 2;
/// Most descriptors that a card's driver demands of a queue: vmxnet3 of a transmit queue.
pub(super) const DESCRIPTORS_MIN_MAX: u16 = 512;
/// Drivers whose descriptors hold 16 bits of length or more, or that split longer segments
/// themselves.
const LONG_PIECES: &[&str] = &[
    "mlx5_pci",
    "net_bnxt",
    "net_e1000_igb",
    "net_e1000_igb_vf",
    "net_ena",
    "net_i40e",
    "net_iavf",
    "net_ice",
    "net_ixgbe",
    "net_ixgbe_vf",
    "net_virtio",
    "net_virtio_user",
];
/// 14 bits of length: descriptors of vmxnet3 and enic. A record of TLS with its header and tag is
/// longer.
const PIECE_LEN_MAX: u32 = (1 << 14) - 1;
/// Least and largest MSS that every driver segments with: i40e and iavf refuse less than 256, igb
/// and igc more than 9216.
const TSO_MSS: (u16, u16) = (256, 9216);

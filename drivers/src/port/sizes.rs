//! Number of packet buffers that a port needs, as a sum.

use super::quirks::{DESCRIPTORS_MIN_MAX, Quirks};
use super::sent::HELD_PIECES_MAX;
use super::{PortConfig, mtu};
use crate::device::{Device, Driver};
use crate::pool::{CACHE_MAX, PoolSpec};
use crate::worker::FRAMES;

/// Sizes of a port's rings and mempools, for each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Receive descriptors.
    pub rx_descriptors: u16,
    /// Transmit descriptors.
    pub tx_descriptors: u16,
    /// Packet buffers for receiving.
    pub rx_mbufs: u32,
    /// Packet buffers for sending.
    pub tx_mbufs: u32,
    /// Bytes of data in a receive buffer, headroom included.
    pub rx_data_room: u16,
    /// Bytes of data in a transmit buffer, headroom included.
    pub tx_data_room: u16,
    /// Bytes of data in a transmit buffer, without headroom.
    pub tx_room: u16,
    /// Longest frame in bytes, without its CRC.
    pub frame_max: u16,
}

impl PortConfig {
    /// Returns the most bytes of packet memory that each queue's pools can take.
    ///
    /// What the device can do is only known once it's open, so this is the larger of the sums for a
    /// port that sends chains, held in its ring as long as a driver may, and for one that doesn't,
    /// with the largest needs of any card's driver.
    pub fn queue_bytes_max(&self) -> u64 {
        let mut device = self.device.clone();
        mtu::af_packet_arguments(self, &mut device);
        let (rx, tx) = self.descriptors();
        let quirks = Quirks::worst_case(&device);
        let at_least = if device.pci_addresses().is_empty() {
            0
        } else {
            DESCRIPTORS_MIN_MAX
        };
        let (rx, tx) = (rx.max(at_least), tx.max(at_least));
        // A driver may round up.
        let tx = if at_least > 0 {
            tx.checked_next_power_of_two().unwrap_or(u16::MAX)
        } else {
            tx
        };
        let bytes = |multi_segs| {
            let needs = BufferNeeds {
                multi_segs,
                rx_scatter: false,
                rx_rings: quirks.rx_rings,
                tx_rings: quirks.tx_rings,
                rx_bufsize_min: 0,
                holds_sent: multi_segs && self.may_be_late(),
            };
            let sizes = Sizes::sum(self, &device, &needs, rx, tx);
            sizes.rx_pool(0, self).bytes() + sizes.tx_pool(0, self).bytes()
        };
        bytes(true).max(bytes(false))
    }

    /// Receive and transmit descriptors, before the device adjusts them.
    pub(super) fn descriptors(&self) -> (u16, u16) {
        let or_default = |n: u16| if n == 0 { DESCRIPTORS } else { n };
        (
            or_default(self.rx_descriptors),
            or_default(self.tx_descriptors),
        )
    }
}

/// What a port needs of its packet buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferNeeds {
    /// It sends chains.
    pub(super) multi_segs: bool,
    /// A received frame may lie in several buffers.
    pub(super) rx_scatter: bool,
    /// Rings that the driver fills with receive buffers, for each queue.
    pub(super) rx_rings: u32,
    /// Rings that hold what was sent, for each queue.
    pub(super) tx_rings: u32,
    /// Least data room of a receive buffer, headroom included.
    pub(super) rx_bufsize_min: u32,
    /// Chains that were sent stay in the ring until descriptors are reused.
    pub(super) holds_sent: bool,
}

impl Sizes {
    pub(super) fn sum(
        config: &PortConfig,
        device: &Device,
        needs: &BufferNeeds,
        rx_descriptors: u16,
        tx_descriptors: u16,
    ) -> Self {
        // SAFETY: returns a constant.
        let headroom = unsafe { dpdk_sys::lg_headroom() };
        let frame_max = mtu::frame_max(config.mtu);
        let rx_room = mtu::rx_room(device, config.mtu, !needs.rx_scatter);
        let rx_data_room = headroom
            .saturating_add(rx_room)
            .max(u16::try_from(needs.rx_bufsize_min).unwrap_or(u16::MAX));
        let tx_room = if needs.holds_sent {
            frame_max.div_ceil(HELD_PIECES_MAX).max(HEADERS)
        } else if needs.multi_segs {
            HEADERS
        } else {
            frame_max
        };
        let threads = CACHE_MAX + CACHE_MAX / 2;

        let rx_mbufs = u32::from(rx_descriptors) * needs.rx_rings // in the device's rings
            + BURST // in the burst that the worker handles
            + threads // in the worker's mempool cache
            + config.rx_buffers // held by the stack
            + if device.driver() == Driver::AfXdp { AF_XDP_RINGS } else { 0 };
        let per_frame = if needs.holds_sent {
            // None comes back without another frame, so this is the most that a frame can have.
            u32::from(HELD_PIECES_MAX) + 1
        } else if needs.multi_segs {
            SEGS_PER_FRAME
        } else {
            1
        };
        let tx_mbufs = u32::from(tx_descriptors) * needs.tx_rings * per_frame // in its rings
            + BURST * per_frame // built and pending
            + 2 * threads // in the caches of the threads that send and that free
            // A ring's peer holds these very buffers.
            + if device.driver() == Driver::Ring { config.rx_buffers } else { 0 };
        Self {
            rx_descriptors,
            tx_descriptors,
            rx_mbufs,
            tx_mbufs: if config.tx_buffers == 0 {
                tx_mbufs
            } else {
                config.tx_buffers
            },
            rx_data_room,
            tx_data_room: headroom.saturating_add(tx_room),
            tx_room,
            frame_max,
        }
    }

    pub(super) fn rx_pool(&self, numa_node: i32, config: &PortConfig) -> PoolSpec {
        PoolSpec {
            // The driver forgets what is in these rings.
            kept_max: match config.device.driver() {
                Driver::AfXdp => AF_XDP_RINGS,
                _ => 0,
            },
            ..pool(self.rx_mbufs, self.rx_data_room, numa_node, config)
        }
    }

    pub(super) fn tx_pool(&self, numa_node: i32, config: &PortConfig) -> PoolSpec {
        pool(self.tx_mbufs, self.tx_data_room, numa_node, config)
    }
}

#[cfg_attr(
    not(feature = "fault-injection"),
    expect(unused_variables, reason = "only its injected failures are looked at")
)]
fn pool(mbufs: u32, data_room: u16, numa_node: i32, config: &PortConfig) -> PoolSpec {
    PoolSpec {
        mbufs,
        kept_max: 0,
        data_room,
        numa_node,
        #[cfg(feature = "fault-injection")]
        inject: config.inject,
    }
}

/// Descriptors of a queue where the configuration leaves them open.
const DESCRIPTORS: u16 = 1024;
const BURST: u32 = dpdk_sys::LG_BURST;
/// Headers only; the payload is elsewhere.
const HEADERS: u16 = 128;
const _: () = assert!(HEADERS as u32 == dpdk_sys::LG_HEAD_MAX);
/// mbufs per frame: the headers, and on average one or two records, each one piece.
const SEGS_PER_FRAME: u32 = 4;
/// Buffers in the fill ring of net_af_xdp, and in its completion ring: it copies what is sent into
/// buffers of the receive pool.
const AF_XDP_RINGS: u32 = 2 * 2048;
/// A full backlog must get buffers for some of its frames.
const _: () = assert!(FRAMES >= BURST as usize);

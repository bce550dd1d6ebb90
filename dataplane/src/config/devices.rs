//! What is known of DPDK's device drivers before one is opened.

use lockgate_drivers::{Device, Driver};

/// The bounds of a kind of device, as far as they're known without opening it. The port itself is
/// asked when it's opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceLimits {
    /// Queue pairs, hence workers.
    pub(super) queues_max: u16,
    /// The largest IP packet.
    pub(super) mtu_max: u16,
    /// Whether packets stay in this machine's memory, so that nothing corrupts them.
    pub(super) in_memory: bool,
    /// Whether it sits on a kernel's interface, which has to be named.
    pub(super) needs_interface: bool,
}

impl DeviceLimits {
    /// From the drivers of DPDK 22.11.
    pub(super) fn of(device: &Device) -> Self {
        let any = Self {
            queues_max: u16::MAX,
            mtu_max: u16::MAX,
            in_memory: false,
            needs_interface: false,
        };
        match device.driver() {
            Driver::Ring => Self {
                queues_max: 16,
                in_memory: true,
                ..any
            },
            Driver::Memif => Self {
                queues_max: 255,
                in_memory: true,
                ..any
            },
            Driver::Tap => Self {
                queues_max: 16,
                mtu_max: 1500,
                ..any
            },
            Driver::Pcap => Self {
                queues_max: 1,
                ..any
            },
            Driver::AfPacket => Self {
                needs_interface: true,
                ..any
            },
            Driver::AfXdp => Self {
                mtu_max: 1500,
                needs_interface: true,
                ..any
            },
            Driver::Null | Driver::VirtioUser | Driver::OtherVirtual | Driver::Pci => any,
        }
    }
}

//! Limits of DPDK's drivers that are known before a device is opened.

use lockgate_drivers::{Device, Driver};

/// The limits of a driver's devices, as far as they're known without opening one. The port reads
/// the device's own limits when it's opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceLimits {
    /// Queue pairs: one for each worker.
    pub(super) queues_max: u16,
    /// The largest IP packet.
    pub(super) mtu_max: u16,
    /// Whether packets stay in this machine's memory, where nothing corrupts them.
    pub(super) in_memory: bool,
    /// Whether it needs a kernel interface (`iface=`).
    pub(super) needs_interface: bool,
}

impl DeviceLimits {
    /// Returns the limits of a device's driver (DPDK 22.11).
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

//! What is known of DPDK's device drivers before one is opened.

/// The bounds of a kind of device, as far as they're known without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// The driver's name: what the device string begins with, up to its number.
    pub driver: &'static str,
    /// Queue pairs, hence workers.
    pub queues_max: u16,
    /// The largest IP packet.
    pub mtu_max: u16,
    /// Whether packets stay in this machine's memory, so that nothing corrupts them.
    pub in_memory: bool,
}

impl DeviceLimits {
    /// The limits of a device string; none for drivers that aren't known here, which may still
    /// be opened.
    pub fn of(device: &str) -> Option<&'static Self> {
        let driver = device
            .split(',')
            .next()?
            .trim_end_matches(|c: char| c.is_ascii_digit());
        KNOWN.iter().find(|k| k.driver == driver)
    }
}

/// From the drivers of DPDK 22.11: only what is certain. The port itself is asked when it's opened.
const KNOWN: &[DeviceLimits] = &[
    known("net_ring", 16, 9000, true),
    known("net_memif", 255, 9000, true),
    known("net_null", 1024, 9000, false),
    known("net_af_packet", 64, 9000, false),
    known("net_af_xdp", 64, 1500, false),
    known("net_tap", 16, 1500, false),
    known("net_pcap", 1, 9000, false),
];

const fn known(
    driver: &'static str,
    queues_max: u16,
    mtu_max: u16,
    in_memory: bool,
) -> DeviceLimits {
    DeviceLimits {
        driver,
        queues_max,
        mtu_max,
        in_memory,
    }
}

//! When drivers free what they have sent.

use std::fmt;

use dpdk_sys::lg_queue_conf;

use super::PortConfig;
use crate::device::Driver;

/// When a driver frees what it has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SentRelease {
    /// In the call that sends.
    #[default]
    AtOnce,
    /// In a later call of `rte_eth_tx_burst`, also one without packets.
    InEachCall,
    /// On request (`rte_eth_tx_done_cleanup`), else when the descriptor is reused.
    OnRequest,
    /// When the descriptor is reused.
    OnReuse,
}

impl SentRelease {
    /// Returns whether a driver may keep packets after the call that sends them.
    pub(super) fn may_be_late(driver: Driver) -> bool {
        match driver {
            // They copy, or pass the packet on.
            Driver::AfPacket
            | Driver::AfXdp
            | Driver::Tap
            | Driver::Ring
            | Driver::Memif
            | Driver::Null
            | Driver::Pcap => false,
            Driver::VirtioUser | Driver::OtherVirtual | Driver::Pci => true,
        }
    }

    /// Returns when a port's driver frees what it has sent, by what is known of the driver or by
    /// asking it. The port's queues are set up.
    pub(super) fn of_port(port: u16, config: &PortConfig, known: Option<Self>) -> Self {
        if !config.may_be_late() {
            return Self::AtOnce;
        }
        if let Some(known) = known {
            return known;
        }
        // SAFETY: a port whose first queue is set up.
        let can_clean = unsafe { dpdk_sys::lg_tx_can_clean(port, 0) };
        if can_clean != 0 {
            Self::OnRequest
        } else {
            Self::OnReuse
        }
    }
}

impl fmt::Display for SentRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtOnce => "at once",
            Self::InEachCall => "in each call",
            Self::OnRequest => "on request",
            Self::OnReuse => "when descriptors are reused",
        })
    }
}

/// Sets up the transmit queues of a configured, stopped port. Returns the first error.
///
/// This is before the mempools are sized, because only a queue that is set up tells whether its
/// driver frees what was sent on request.
pub(super) fn set_up_tx_queues(port: u16, config: &PortConfig, conf: &lg_queue_conf) -> i32 {
    for queue in 0..config.queues {
        // SAFETY: a configured, stopped port, and a valid configuration to read.
        let rc = unsafe { dpdk_sys::lg_port_tx_queue(port, queue, conf) };
        if rc < 0 {
            return rc;
        }
        #[cfg(feature = "fault-injection")]
        if let Some(release) = config.hold_sent {
            let can_clean = i32::from(release == SentRelease::OnRequest);
            // SAFETY: a port whose queues aren't used yet.
            let rc = unsafe { dpdk_sys::lg_hold_sent(port, queue, conf.tx_desc, can_clean) };
            if rc < 0 {
                return rc;
            }
        }
    }
    0
}

/// Returns the descriptors that the transmit queues of a port really have; 0: the driver doesn't
/// tell.
pub(super) fn tx_descriptors(port: u16) -> u16 {
    // SAFETY: a configured port, whose queues are set up.
    let rc = unsafe { dpdk_sys::lg_port_tx_descs(port, 0) };
    u16::try_from(rc).unwrap_or(0)
}

/// Most pieces of payload in one frame where the ring holds them until descriptors are reused, so
/// that the sum of all packet buffers in a ring has a bound: nearly 64 KiB of whole records, or a
/// copy.
pub(crate) const HELD_PIECES_MAX: u16 = 4;

//! Checks of the MTU. The limits that drivers report are unreliable, so they are decided here:
//! net_af_packet drops and truncates frames silently, and its `rte_eth_dev_set_mtu` changes the
//! *kernel interface's* MTU.

use dpdk_sys::lg_port_caps;

use super::{PortConfig, PortError};
use crate::device::{Device, Driver, MTU_ETHERNET};
use crate::sys::{Errno, c_string};

/// Checks the MTU as far as possible before the device exists, and adds the arguments that the
/// driver needs for it.
pub(super) fn prepare(config: &PortConfig, device: &mut Device) -> Result<(), PortError> {
    if config.mtu < MTU_MIN {
        return Err(mtu_error(config, MTU_MIN, "IPv4 asks for at least"));
    }
    let kernel = match (device.driver(), device.kernel_interface()) {
        (Driver::AfPacket | Driver::AfXdp, None) => {
            return Err(PortError::Argument {
                port: config.name.clone(),
                device: device.to_string(),
                argument: "iface",
            });
        }
        (_, Some(interface)) => Some(kernel_mtu(config, interface)?),
        (_, None) => None,
    };
    af_packet_arguments(config, device);
    let limit = device.limits().mtu_max;
    if config.mtu > limit {
        return Err(mtu_error(config, limit, "the driver does at most"));
    }
    if device.driver() == Driver::AfPacket {
        let limit = af_packet_framesz(device).saturating_sub(AF_PACKET_OVERHEAD);
        if config.mtu > limit {
            return Err(mtu_error(
                config,
                limit,
                "with this framesz the driver does at most",
            ));
        }
    }
    if let Some(limit) = kernel
        && config.mtu > limit
    {
        return Err(mtu_error(config, limit, "the kernel interface's MTU is"));
    }
    if config.mtu > MTU_MAX {
        return Err(mtu_error(config, MTU_MAX, "any port does at most"));
    }
    Ok(())
}

/// Gives net_af_packet slots that frames of this MTU fit into.
pub(super) fn af_packet_arguments(config: &PortConfig, device: &mut Device) {
    if device.driver() != Driver::AfPacket || config.mtu <= MTU_ETHERNET {
        return;
    }
    let framesz = config.mtu.saturating_add(AF_PACKET_OVERHEAD);
    let framesz = framesz.checked_next_multiple_of(1024).unwrap_or(u16::MAX);
    // A block must hold whole frames only, and be whole pages: four multiples of 1024.
    // The three depend on each other, so they are only added together.
    if ["blocksz", "framesz", "framecnt"]
        .iter()
        .all(|k| device.argument(k).is_none())
    {
        device.default_argument("blocksz", u32::from(framesz) * 4);
        device.default_argument("framesz", framesz);
        device.default_argument("framecnt", 512);
    }
}

/// Checks the MTU against the driver's limits, where they are reliable. Returns the MTU to
/// configure; 0: leave it to the driver.
pub(super) fn check(config: &PortConfig, caps: &lg_port_caps) -> Result<u16, PortError> {
    match config.device.driver() {
        Driver::AfPacket
        | Driver::AfXdp
        | Driver::Tap
        | Driver::Ring
        | Driver::Memif
        | Driver::Null
        | Driver::Pcap => Ok(0),
        Driver::VirtioUser | Driver::OtherVirtual | Driver::Pci => {
            let limit = device_mtu_max(caps);
            if config.mtu > limit {
                return Err(mtu_error(config, limit, "the device does at most"));
            }
            if config.mtu < caps.min_mtu {
                return Err(mtu_error(config, caps.min_mtu, "the device does at least"));
            }
            Ok(config.mtu)
        }
    }
}

/// Returns the largest MTU of a device, by the rules of `rte_eth_dev_configure`.
fn device_mtu_max(caps: &lg_port_caps) -> u16 {
    let mtu_max = match caps.max_mtu {
        0 => u16::MAX,
        limit => limit,
    };
    // A driver without a limit of its own has the default, the type's largest value.
    let overhead = match caps.max_rx_pktlen.checked_sub(u32::from(mtu_max)) {
        Some(overhead) if mtu_max != u16::MAX && overhead > 0 => overhead,
        _ => ETHER_HEADER_AND_CRC,
    };
    let by_frame = caps.max_rx_pktlen.saturating_sub(overhead);
    mtu_max.min(u16::try_from(by_frame).unwrap_or(u16::MAX))
}

/// Returns whether frames of this MTU are longer than a receive buffer. Only cards scatter them
/// then; other devices get longer buffers.
pub(super) fn needs_scatter(driver: Driver, mtu: u16) -> bool {
    driver == Driver::Pci && rx_frame_max(mtu) > RX_ROOM_MIN
}

/// Returns the most bytes that a device writes into a receive buffer for a packet of the MTU: the
/// frame, its CRC, and the header of virtio.
fn rx_frame_max(mtu: u16) -> u16 {
    frame_max(mtu).saturating_add(4 + 12)
}

/// Returns the longest frame in bytes: IP packet, Ethernet header and two VLAN tags.
pub(super) fn frame_max(mtu: u16) -> u16 {
    mtu.saturating_add(14 + 8)
}

/// Returns the bytes that a receive buffer must hold. `frames_whole`: a frame must fit into one.
pub(super) fn rx_room(device: &Device, mtu: u16, frames_whole: bool) -> u16 {
    match device.driver() {
        // The driver compares the buffer with the size of its slots, not with the MTU.
        Driver::AfPacket => af_packet_framesz(device).max(RX_ROOM_MIN),
        // Cards round buffers down to a multiple of 128 bytes or 1 KiB.
        _ if frames_whole => rx_frame_max(mtu)
            .max(RX_ROOM_MIN)
            .checked_next_multiple_of(1024)
            .unwrap_or(u16::MAX),
        _ => RX_ROOM_MIN,
    }
}

fn af_packet_framesz(device: &Device) -> u16 {
    device
        .argument("framesz")
        .and_then(|v| v.parse().ok())
        .unwrap_or(AF_PACKET_FRAMESZ)
}

fn kernel_mtu(config: &PortConfig, interface: &str) -> Result<u16, PortError> {
    let name = c_string(interface);
    // SAFETY: a NUL-terminated name.
    let rc = unsafe { dpdk_sys::lg_kernel_mtu(name.as_ptr()) };
    let mtu = Errno::check(rc).map_err(|errno| PortError::Interface {
        port: config.name.clone(),
        interface: interface.into(),
        errno,
    })?;
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

fn mtu_error(config: &PortConfig, limit: u16, why: &'static str) -> PortError {
    PortError::Mtu {
        port: config.name.clone(),
        mtu: config.mtu,
        limit,
        why,
    }
}

/// Smallest MTU that IPv4 allows (RFC 791).
const MTU_MIN: u16 = 68;
/// Largest MTU: frame, headroom and bookkeeping have to fit into a data room of 16 bits.
const MTU_MAX: u16 = 65_000;
const ETHER_HEADER_AND_CRC: u32 = 18;
/// Least bytes in a receive buffer, which a received packet pins. Some devices accept no smaller
/// one.
pub const RX_ROOM_MIN: u16 = 2048;
/// net_af_packet's default `framesz`, in bytes.
const AF_PACKET_FRAMESZ: u16 = 2048;
/// Bytes of a slot besides the IP packet: 66 of the driver, Ethernet header, one VLAN tag.
const AF_PACKET_OVERHEAD: u16 = 66 + 14 + 4;

//! Settings of the kernel's interfaces, as ethtool(8) shows them.

use crate::sys::{Errno, c_string};

/// An offload of a kernel interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offload {
    /// The interface completes checksums on transmit, so the kernel leaves them to it.
    TxChecksum,
    /// The kernel merges received segments (GRO), also for packet sockets.
    Receive,
}

/// Returns whether an offload is on, in the calling thread's network namespace. Needs no
/// privileges.
///
/// # Errors
/// There's no such interface, or it doesn't know the offload.
pub fn kernel_offload(interface: &str, offload: Offload) -> Result<bool, Errno> {
    let command = match offload {
        Offload::TxChecksum => ETHTOOL_GTXCSUM,
        Offload::Receive => ETHTOOL_GGRO,
    };
    let interface = c_string(interface);
    // SAFETY: a NUL-terminated name.
    let rc = unsafe { dpdk_sys::lg_kernel_offload(interface.as_ptr(), command) };
    Errno::check(rc).map(|on| on != 0)
}

/// Returns whether an interface is an end of a veth pair.
///
/// # Errors
/// There's no such interface, or it doesn't tell its driver.
pub fn kernel_is_veth(interface: &str) -> Result<bool, Errno> {
    let interface = c_string(interface);
    // SAFETY: a NUL-terminated name.
    let rc = unsafe { dpdk_sys::lg_kernel_is_veth(interface.as_ptr()) };
    Errno::check(rc).map(|is_veth| is_veth != 0)
}

/// Commands of linux/ethtool.h, part of the kernel's interface.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GGRO: u32 = 0x2b;

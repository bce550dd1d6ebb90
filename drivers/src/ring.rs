//! Two ports in one process that send to each other.

use crate::device::Device;
use crate::eal::Eal;
use crate::port::PortError;
use crate::sys::{Errno, c_string};

/// Two `net_ring` devices with crossed rings: what one sends the other receives, queue by queue.
/// Packets aren't copied: the receiver gets the sender's memory.
#[derive(Clone, Debug)]
pub struct RingPair {
    /// One end.
    pub a: Device,
    /// The other end.
    pub b: Device,
}

impl RingPair {
    /// Makes the devices `net_ring_<name>_a` and `_b` (`rte_eth_from_rings`), each with `queues`
    /// queue pairs of `entries` packets, a power of two. They are never freed.
    ///
    /// # Errors
    /// [`PortError::Create`] with DPDK's error.
    pub fn new(_eal: Eal, name: &str, entries: u32, queues: u16) -> Result<Self, PortError> {
        let error = |errno| PortError::Create {
            device: format!("net_ring_{name}"),
            errno,
        };
        let mut a_to_b = Vec::new();
        let mut b_to_a = Vec::new();
        for q in 0..queues {
            a_to_b.push(ring(&format!("lg_{name}_{q}_ab"), entries).map_err(error)?);
            b_to_a.push(ring(&format!("lg_{name}_{q}_ba"), entries).map_err(error)?);
        }
        let end = |side: char, rx: &[_], tx: &[_]| {
            let name = format!("{name}_{side}");
            let port = from_rings(&name, rx, tx).map_err(error)?;
            Ok::<_, PortError>(Device::from_port(format!("net_ring_{name}"), port))
        };
        Ok(Self {
            a: end('a', &b_to_a, &a_to_b)?,
            b: end('b', &a_to_b, &b_to_a)?,
        })
    }
}

fn ring(name: &str, entries: u32) -> Result<*mut dpdk_sys::rte_ring, Errno> {
    let name = c_string(name);
    // SAFETY: a NUL-terminated name; the EAL runs; the function checks the numbers.
    let ring = unsafe { dpdk_sys::lg_ring_create(name.as_ptr(), entries, NUMA_ANY) };
    if ring.is_null() {
        Err(Errno::last())
    } else {
        Ok(ring)
    }
}

fn from_rings(
    name: &str,
    rx: &[*mut dpdk_sys::rte_ring],
    tx: &[*mut dpdk_sys::rte_ring],
) -> Result<u16, Errno> {
    let name = c_string(name);
    let count = |list: &[_]| u32::try_from(list.len()).unwrap_or(u32::MAX);
    // SAFETY: live rings, which the driver keeps, in lists of these lengths.
    let rc = unsafe {
        dpdk_sys::rte_eth_from_rings(
            name.as_ptr(),
            rx.as_ptr(),
            count(rx),
            tx.as_ptr(),
            count(tx),
            0,
        )
    };
    u16::try_from(rc).map_err(|_| Errno::last())
}

const NUMA_ANY: i32 = -1;

//! What is read with the link state: the MAC address, and resets that the device reports.

use std::sync::atomic::Ordering;

use lockgate_wire::MacAddr;

use super::Shared;
use crate::sys::c_string;

impl Shared {
    pub(crate) fn mac(&self) -> MacAddr {
        mac_of(self.mac.load(Ordering::Relaxed))
    }

    /// Reads the MAC address. A kernel interface has its own; DPDK knows the one at the start only.
    pub(super) fn poll_mac(&self) {
        let mut mac = [0; 6];
        let rc = match self.device.kernel_interface() {
            Some(interface) => {
                let interface = c_string(interface);
                // SAFETY: a NUL-terminated name, and six bytes to write.
                unsafe { dpdk_sys::lg_kernel_mac(interface.as_ptr(), mac.as_mut_ptr()) }
            }
            // SAFETY: any port number is allowed; six bytes to write.
            None => unsafe { dpdk_sys::lg_port_mac(self.id, mac.as_mut_ptr()) },
        };
        let (read, known) = (MacAddr(mac), self.mac());
        // Without an address of its own a port keeps the one that was made for it.
        if rc < 0 || read == known || !read.is_unicast() {
            return;
        }
        self.mac.store(bits_of(read), Ordering::Relaxed);
        // Release: a reader of the count sees the new address.
        self.mac_changes.fetch_add(1, Ordering::Release);
        tracing::info!(port = self.name, mac = %read, before = %known, "MAC address changed");
    }

    /// Starts to count resets of the device, and of the members of a bond: the bond reports none.
    pub(super) fn count_resets(&self) {
        for port in self.cards() {
            // SAFETY: any port number is allowed.
            let rc = unsafe { dpdk_sys::lg_port_count_resets(port) };
            if rc < 0 {
                tracing::debug!(port = self.name, errno = rc, "resets aren't counted");
            }
        }
    }

    pub(super) fn poll_resets(&self) {
        // SAFETY: any port number is allowed.
        let of_port = |port| u64::from(unsafe { dpdk_sys::lg_port_resets(port) });
        let resets = self.cards().map(of_port).sum();
        if self.resets_seen.swap(resets, Ordering::Relaxed) != resets {
            tracing::error!(
                port = self.name,
                device = %self.device,
                resets,
                "the device was reset (RTE_ETH_EVENT_INTR_RESET), for a virtual function by its \
                 physical function's driver: it may send and receive nothing from now on; restart \
                 the appliance"
            );
        }
    }

    /// Returns the port's number and the port numbers of a bond's members.
    fn cards(&self) -> impl Iterator<Item = u16> {
        self.members.iter().copied().chain([self.id])
    }
}

pub(super) fn bits_of(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn mac_of(bits: u64) -> MacAddr {
    let [_, _, mac @ ..] = bits.to_be_bytes();
    MacAddr(mac)
}

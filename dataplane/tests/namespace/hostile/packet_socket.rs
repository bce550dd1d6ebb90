//! A packet socket: sends frames that no kernel would send.

use std::os::fd::{AsRawFd as _, OwnedFd};

use lockgate_wire::MacAddr;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
use rustix::net::SendFlags;

/// A packet socket (`packet(7)`) that sends on one interface and receives nothing.
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket for an interface of the namespace of this thread.
    #[track_caller]
    pub(super) fn open(interface: &str) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None);
        let fd = fd.expect("root may send frames");
        // Its protocol is 0, with which the kernel delivers nothing.
        bind(fd.as_raw_fd(), &link_address(interface)).expect("the interface exists");
        Self(fd)
    }

    /// Sends a frame. It may be lost: queues may be full.
    pub(super) fn send(&self, frame: &[u8]) {
        let _ = rustix::net::send(&self.0, frame, SendFlags::empty());
    }
}

/// The MAC address of an interface of the namespace of this thread.
#[track_caller]
pub(super) fn mac_of(interface: &str) -> MacAddr {
    let address = link_address(interface);
    let mac = address.as_link_addr().and_then(|link| link.addr());
    MacAddr(mac.expect("an Ethernet interface has an address"))
}

#[track_caller]
fn link_address(interface: &str) -> SockaddrStorage {
    let mut addresses = getifaddrs().expect("a namespace has interfaces");
    let found = addresses.find_map(|entry| {
        let address = entry.address?;
        let is_link = address.as_link_addr().is_some();
        (entry.interface_name == interface && is_link).then_some(address)
    });
    found.expect("the interface exists")
}

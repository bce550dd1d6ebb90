//! The kernel's end of an interface: a packet socket, in this process's own network namespace.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::{fs, mem};

use lockgate_testing::HANG_LIMIT;

use lockgate_testing::cases::skip_case;

/// Moves this thread, and those that it starts later, into a new network namespace. The kernel
/// removes it with the process.
pub(crate) fn fresh_network() {
    if !rustix::process::geteuid().is_root() {
        skip_case("needs root");
    }
    // SAFETY: concerns this thread only; no file descriptors are given up.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        skip_case("can't make a network namespace");
    }
    ip("link set lo up");
}

/// Runs `ip` (or skips the case, if there's none).
pub(crate) fn ip(arguments: &str) {
    command("ip", arguments);
}

/// Runs a command that has to succeed.
pub(crate) fn command(program: &str, arguments: &str) {
    match Command::new(program)
        .args(arguments.split_whitespace())
        .output()
    {
        Ok(output) => assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => skip_case(format!("needs the command {program}")),
    }
}

/// A pair of interfaces, one for a port and one for the kernel, in a fresh network namespace.
/// Returns the kernel's.
pub(crate) fn veth(port_end: &str, mtu: u16) -> PacketSocket {
    fresh_network();
    ip(&format!("link add {port_end} type veth peer name kernel0"));
    for name in [port_end, "kernel0"] {
        quiet(name);
        ip(&format!("link set {name} mtu {mtu} up"));
    }
    // Otherwise the kernel leaves checksums to the network card.
    command("ethtool", "-K kernel0 tx off");
    PacketSocket::new("kernel0")
}

/// Switches off IPv6, so that the kernel sends no packets of its own.
pub(crate) fn quiet(interface: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if fs::exists(&path).unwrap_or(false) {
        fs::write(&path, "1").expect("IPv6 can be switched off");
    }
}

/// A packet socket with all frames of one interface.
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    pub(crate) fn new(interface: &str) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all)) };
        assert!(fd >= 0, "a packet socket: {}", Error::last_os_error());
        // SAFETY: a descriptor that was just opened.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: a NUL-terminated name.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert!(index > 0, "interface {interface}");
        // SAFETY: all zeroes is a valid address structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index as i32;
        // SAFETY: an address of this length.
        let rc = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        assert_eq!(rc, 0, "bind: {}", Error::last_os_error());
        let limit = libc::timeval {
            tv_sec: HANG_LIMIT.as_secs() as libc::time_t,
            tv_usec: 0,
        };
        // SAFETY: a value of this length.
        let rc = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of_val(&limit) as libc::socklen_t,
            )
        };
        assert_eq!(rc, 0, "time limit: {}", Error::last_os_error());
        Self { fd }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: a buffer of this length.
        let n = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(n, frame.len() as isize, "send: {}", Error::last_os_error());
    }

    /// The next frame that came in on the interface; `None` if none comes within [`HANG_LIMIT`].
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        loop {
            let mut frame = vec![0; 70_000];
            // SAFETY: all zeroes is a valid address structure.
            let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
            let mut from_len = size_of_val(&from) as libc::socklen_t;
            // SAFETY: a buffer and an address of these lengths.
            let n = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            if n < 0 {
                let error = Error::last_os_error();
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "receive: {error}");
                return None;
            }
            if u32::from(from.sll_pkttype) != u32::from(libc::PACKET_OUTGOING) {
                frame.truncate(n as usize);
                return Some(frame);
            }
        }
    }
}

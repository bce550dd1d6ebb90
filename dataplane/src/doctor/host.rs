//! What the checks know of a machine: its files below a root directory, and facts from system
//! calls.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;
use rustix::process::Resource;
use rustix::thread::CapabilitySet;

use crate::control;

/// A machine, as the checks see it.
#[derive(Clone, Debug)]
pub struct HostView {
    root: PathBuf,
    /// What system calls report.
    pub facts: Facts,
}

/// What is known by system calls only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// CAP_IPC_LOCK: the limit of locked memory doesn't hold.
    pub may_lock_memory: bool,
    /// CAP_SYS_RESOURCE: limits can be raised.
    pub may_raise_limits: bool,
    /// The hard limit of locked memory in bytes; none: no limit.
    pub memlock_max: Option<u64>,
    /// The kernel's interfaces in the network namespace of this process. A mounted /sys shows those
    /// of the namespace that it was mounted in.
    pub interfaces: Vec<String>,
    /// The addresses of the kernel's interfaces.
    pub addresses: Vec<InterfaceAddress>,
    /// The offloads of the kernel's interfaces.
    pub offloads: BTreeMap<String, Offloads>,
    /// The process of an instance that answers on the configuration's control socket.
    pub instance: Option<u32>,
}

/// An address of one of the kernel's interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u32,
}

/// Offloads of one of the kernel's interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It completes checksums on transmit, so the kernel leaves them to it.
    pub tx_checksum: bool,
    /// Received segments are merged before a packet socket sees them (GRO).
    pub receive: bool,
    /// It is an end of a veth pair, which leaves what it offloads to the other end.
    pub is_veth: bool,
}

impl HostView {
    /// Looks at this machine. `control_socket` is that of the configuration.
    pub fn live(unix_seconds: u64, control_socket: Option<&Path>) -> Self {
        let offloads = interfaces().into_iter().map(|name| {
            let is_on = |command| lockgate_drivers::kernel_offload(&name, command);
            let offloads = Offloads {
                tx_checksum: is_on(lockgate_drivers::Offload::TxChecksum).unwrap_or(false),
                receive: is_on(lockgate_drivers::Offload::Receive).unwrap_or(false),
                is_veth: lockgate_drivers::kernel_is_veth(&name).unwrap_or(false),
            };
            (name, offloads)
        });
        let offloads = offloads.collect();
        let held = rustix::thread::capabilities(None).ok();
        let has = |capability| held.is_some_and(|sets| sets.effective.contains(capability));
        let facts = Facts {
            unix_seconds,
            may_lock_memory: has(CapabilitySet::IPC_LOCK),
            may_raise_limits: has(CapabilitySet::SYS_RESOURCE),
            memlock_max: rustix::process::getrlimit(Resource::Memlock).maximum,
            interfaces: interfaces(),
            addresses: addresses(),
            offloads,
            instance: control_socket
                .and_then(|path| control::stats_within(path, INSTANCE_LIMIT).ok())
                .map(|stats| stats.pid),
        };
        Self::with_root(Path::new("/"), facts)
    }

    /// A view of the files below `root`, as if it were `/`.
    pub fn with_root(root: &Path, facts: Facts) -> Self {
        Self {
            root: root.to_path_buf(),
            facts,
        }
    }

    /// Returns the path of a file or directory of the machine.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the text of a file without surrounding white space, up to a limit; none if it can't
    /// be read. Names in it are bytes of anyone's choice.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.root.join(path)).ok()?;
        file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Returns the name in a file, which is shown: no more of it than a name has.
    pub(super) fn name(&self, path: &str) -> Option<String> {
        Some(self.read(path)?.chars().take(NAME_MAX).collect())
    }

    /// Returns the number in a file.
    pub(super) fn number<T: core::str::FromStr>(&self, path: &str) -> Option<T> {
        self.read(path)?.parse().ok()
    }

    /// Returns the cores of a list such as `0-3,8`.
    pub(super) fn cores(&self, path: &str) -> Vec<u16> {
        self.read(path)
            .as_deref()
            .map(core_list)
            .unwrap_or_default()
    }

    /// Returns the names in a directory, sorted; none if there's no such directory.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Returns the target of a symbolic link.
    pub(super) fn link_target(&self, path: &str) -> Option<PathBuf> {
        fs::read_link(self.root.join(path)).ok()
    }

    /// Returns the last component of a symbolic link's target.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        Some(self.link_target(path)?.file_name()?.to_str()?.to_owned())
    }

    /// Returns whether a file or directory exists.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Returns the NUMA node of a core; none on a machine without NUMA.
    pub(super) fn node_of_core(&self, core: u16) -> Option<u16> {
        let nodes = self.list("sys/devices/system/node").into_iter();
        let mut nodes = nodes.filter_map(|name| name.strip_prefix("node")?.parse::<u16>().ok());
        nodes.find(|node| self.cores_of_node(*node).contains(&core))
    }

    /// Returns the cores of a NUMA node.
    pub(super) fn cores_of_node(&self, node: u16) -> Vec<u16> {
        self.cores(&format!("sys/devices/system/node/node{node}/cpulist"))
    }
}

fn interfaces() -> Vec<String> {
    let found = if_nameindex().ok();
    let names = found
        .iter()
        .flatten()
        .map(|found| found.name().to_string_lossy().into_owned());
    names.collect()
}

fn addresses() -> Vec<InterfaceAddress> {
    let found = getifaddrs().into_iter().flatten().filter_map(|entry| {
        let storage = entry.address?;
        let v4 = storage.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
        let v6 = || storage.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip()));
        let address = v4.or_else(v6)?;
        let mask = entry.netmask.as_ref().and_then(|mask| {
            let v4 = mask
                .as_sockaddr_in()
                .map(|at| at.ip().to_bits().count_ones());
            v4.or_else(|| {
                mask.as_sockaddr_in6()
                    .map(|at| at.ip().to_bits().count_ones())
            })
        });
        Some(InterfaceAddress {
            interface: entry.interface_name,
            address,
            prefix_len: mask.unwrap_or(0),
        })
    });
    found.collect()
}

/// Parses a list of cores as the kernel writes it: `0-3,8`. What isn't one is left out.
pub(super) fn core_list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    ranges.flatten().take(CORES_MAX).collect()
}

/// Writes cores as the kernel's parameters take them: `0-3,8`.
pub(super) fn show_cores(cores: &[u16]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(u16, u16)> = Vec::new();
    for core in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let parts = parts.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The most that is read of a file: more than the files of /sys have, and enough of those of /proc.
const FILE_MAX: u64 = 256 << 10;

/// The most characters of a name.
const NAME_MAX: usize = 64;

/// The most cores of a list.
const CORES_MAX: usize = 1 << 16;

/// How long a running instance may take to answer. The findings come without it otherwise.
const INSTANCE_LIMIT: Duration = Duration::from_secs(2);

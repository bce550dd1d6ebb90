//! Privileges: a process that was started as root becomes `[process] user` once devices, sockets
//! and keys are open.
//!
//! Linux keeps credentials for each thread, so the drop has two steps:
//!
//! 1. [`Privileges::prepare`], on the main thread while it is the only one. It sets no_new_privs,
//!    empties the bounding, inheritable and ambient sets, and raises RLIMIT_MEMLOCK. Later threads
//!    inherit that, DPDK's included.
//! 2. [`Privileges::drop_root`], when everything is open. glibc's `setgroups`, `setresgid` and
//!    `setresuid` change every thread of the process (nptl(7)). The kernel clears the permitted and
//!    effective set of a thread whose user ids all become nonzero (capabilities(7)). Only the
//!    calling thread keeps what the ports' drivers need ([`capabilities_needed`]).
//!
//! glibc waits until every thread has changed, so none may hang in a file system at that time:
//! [`config::load_to_run`](crate::config::load_to_run) leaves what could hang to the time after it.
//!
//! A process that was started as that user may have capabilities (capabilities(7): ambient ones, or
//! those of its file). Then each other thread empties its own sets ([`ThreadCapabilities`]).
//!
//! Then the status of every thread is read back, and the start fails if one has kept anything.
//! Threads that are spawned by [`Privileges::without_capabilities`] inherit no capability.

mod status;

use core::time::Duration;
use std::io;
use std::thread;

use lockgate_drivers::{Driver, ThreadCapabilities};
use nix::unistd::{Gid, Uid, getresuid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

pub use self::status::ThreadStatus;

/// The user and groups that the process takes after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user as the configuration names it.
    pub name: String,
    /// The user's number, never 0.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Supplementary groups, that group included.
    pub groups: Vec<u32>,
}

/// Why privileges can't be dropped. The appliance doesn't start then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// The process may not become another user.
    #[error(
        "[process] user: started as user {0}, which can't become {1}; start as root, or remove \
         the key"
    )]
    NotRoot(u32, String),
    /// A system call failed.
    #[error("[process] user: can't drop root: {0}: {1}")]
    Call(&'static str, io::Error),
    /// The threads' status can't be read or parsed.
    #[error("[process] user: can't verify that root is dropped: {0}; is /proc mounted?")]
    Unverified(String),
    /// A thread has kept privileges.
    #[error("[process] user: thread {0} has kept privileges: {1}")]
    Kept(String, String),
}

/// A process on its way from root to `[process] user`.
#[derive(Debug)]
pub struct Privileges {
    identity: Option<Identity>,
    is_dropped: bool,
}

impl Privileges {
    /// Takes the steps that have to come before the first thread is spawned. Without an identity
    /// the process keeps its own, and being root is logged as a warning.
    ///
    /// # Errors
    /// The process isn't root nor that user, or the system refuses a step.
    pub fn prepare(identity: Option<Identity>) -> Result<Self, PrivilegesError> {
        let current = getresuid().map_err(failed("getresuid"))?.effective;
        match &identity {
            None if current.is_root() => tracing::warn!(
                "process: runs as root; set [process] user to a user that it becomes after the \
                 start"
            ),
            None => {}
            Some(identity) if current.is_root() || current.as_raw() == identity.uid => confine()?,
            Some(identity) => {
                let name = identity.name.clone();
                return Err(PrivilegesError::NotRoot(current.as_raw(), name));
            }
        }
        Ok(Self {
            identity,
            is_dropped: false,
        })
    }

    /// Leaves a process as it is: for an appliance on a thread of another program.
    pub fn unchanged() -> Self {
        Self {
            identity: None,
            is_dropped: false,
        }
    }

    /// Returns the user that the process becomes, if it does.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Becomes the user, in every thread. The calling thread keeps the capabilities in `needed`.
    ///
    /// # Errors
    /// The system refuses a step, or a thread has kept privileges.
    pub fn drop_root(&mut self, needed: CapabilitySet) -> Result<(), PrivilegesError> {
        let Some(identity) = &self.identity else {
            return Ok(());
        };
        let held = rustix::thread::capabilities(None).map_err(failed("capget"))?;
        let kept = held.permitted & needed;
        if getresuid()
            .map_err(failed("getresuid"))?
            .effective
            .is_root()
        {
            rustix::thread::set_keep_capabilities(true).map_err(failed("PR_SET_KEEPCAPS"))?;
            become_user(identity)?;
            rustix::thread::set_keep_capabilities(false).map_err(failed("PR_SET_KEEPCAPS"))?;
        } else {
            // Started as this user with capabilities, which the threads so far have inherited.
            empty_other_threads()?;
        }
        set_capabilities(kept)?;
        // The memory holds private keys: no core dumps, no ptrace(2) by the same user.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(failed("PR_SET_DUMPABLE"))?;
        verify(identity, kept)?;
        self.is_dropped = true;
        tracing::info!(
            user = identity.name,
            uid = identity.uid,
            gid = identity.gid,
            groups = ?identity.groups,
            capabilities = %names(kept),
            "process: root is dropped in all threads; one thread keeps these capabilities"
        );
        Ok(())
    }

    /// Runs `work` on a thread without capabilities, if root was dropped; else on this one. The
    /// threads that it spawns inherit that.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn without_capabilities<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if !self.is_dropped {
            return Ok(work());
        }
        let confined = || -> io::Result<T> {
            set_capabilities(CapabilitySet::empty()).map_err(io::Error::other)?;
            Ok(work())
        };
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("start".to_owned());
            let ended = builder.spawn_scoped(scope, confined)?.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Returns the capabilities that a port of this driver needs after it was opened.
///
/// | driver | capabilities | for |
/// |---|---|---|
/// | `net_af_packet`, `net_af_xdp` | CAP_NET_ADMIN | promiscuous and multicast mode: SIOCSIFFLAGS |
/// | `net_tap`, `net_virtio_user` | CAP_NET_ADMIN | flags, MTU and queues of its interface |
/// | other virtual devices | CAP_NET_ADMIN | they may have any of the above below them |
/// | PCI, kernel's driver (mlx5) | CAP_NET_ADMIN, CAP_NET_RAW | flags, MTU; raw queues, flows |
/// | PCI with vfio-pci or uio | none | its registers are mapped |
/// | `net_ring`, `net_null`, `net_memif`, `net_pcap` | none | |
///
/// CAP_IPC_LOCK isn't among them: [`Privileges::prepare`] raises RLIMIT_MEMLOCK instead.
/// CAP_SYS_ADMIN neither: /proc/self/pagemap is read when memory is reserved, before the drop.
pub fn capabilities_needed(driver: Driver, pci_driver: Option<&str>) -> CapabilitySet {
    match driver {
        Driver::AfPacket
        | Driver::AfXdp
        | Driver::Tap
        | Driver::VirtioUser
        | Driver::OtherVirtual => CapabilitySet::NET_ADMIN,
        Driver::Pci => match pci_driver {
            Some("vfio-pci" | "uio_pci_generic" | "igb_uio") | None => CapabilitySet::empty(),
            Some(_) => CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW,
        },
        Driver::Ring | Driver::Null | Driver::Memif | Driver::Pcap => CapabilitySet::empty(),
    }
}

/// Limits what this thread and its descendants can ever gain.
fn confine() -> Result<(), PrivilegesError> {
    rustix::thread::set_no_new_privs(true).map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    rustix::thread::clear_ambient_capability_set().map_err(failed("PR_CAP_AMBIENT"))?;
    let mut sets = rustix::thread::capabilities(None).map_err(failed("capget"))?;
    // Without CAP_SETPCAP the bounding set stays. It only matters to programs that are executed,
    // and no_new_privs keeps those from gaining anything.
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel doesn't know it.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(failed("PR_CAPBSET_DROP")(error)),
            }
        }
    }
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).map_err(failed("capset"))?;
    raise_memlock();
    Ok(())
}

/// Raises RLIMIT_MEMLOCK as far as the system allows. Memory that vfio maps for DMA after the drop
/// counts towards it.
fn raise_memlock() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if rustix::process::setrlimit(Resource::Memlock, unlimited).is_ok() {
        return;
    }
    let maximum = rustix::process::getrlimit(Resource::Memlock).maximum;
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    let raised = rustix::process::setrlimit(Resource::Memlock, most);
    tracing::debug!(?maximum, ?raised, "RLIMIT_MEMLOCK: can't be unlimited");
}

fn become_user(identity: &Identity) -> Result<(), PrivilegesError> {
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups).map_err(failed("setgroups"))?;
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))
}

fn set_capabilities(kept: CapabilitySet) -> Result<(), PrivilegesError> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(failed("capset"))
}

/// Empties the capability sets of all threads but this one. A thread that doesn't run in time keeps
/// its sets, and [`verify`] finds them.
fn empty_other_threads() -> Result<(), PrivilegesError> {
    let handler = ThreadCapabilities::install().map_err(failed("sigaction"))?;
    let own = rustix::thread::gettid().as_raw_pid();
    for _ in 0..EMPTY_ROUNDS_MAX {
        let mut left = false;
        for thread in threads()? {
            if thread.tid != own && !thread.capabilities.is_empty() {
                handler.empty(thread.tid).map_err(failed("tgkill"))?;
                left = true;
            }
        }
        if !left {
            break;
        }
        thread::sleep(EMPTY_ROUND_PERIOD);
    }
    Ok(())
}

fn threads() -> Result<Vec<ThreadStatus>, PrivilegesError> {
    status::threads().map_err(|error| PrivilegesError::Unverified(error.to_string()))
}

/// Reads back the status of every thread: this one may have `kept`, the others nothing.
fn verify(identity: &Identity, kept: CapabilitySet) -> Result<(), PrivilegesError> {
    let own = rustix::thread::gettid().as_raw_pid();
    for thread in threads()? {
        let allowed = if thread.tid == own {
            kept
        } else {
            CapabilitySet::empty()
        };
        if let Some(kept) = thread.excess(identity, allowed) {
            return Err(PrivilegesError::Kept(thread.name, kept));
        }
    }
    Ok(())
}

fn names(set: CapabilitySet) -> String {
    if set.is_empty() {
        return "none".to_owned();
    }
    let names = set.iter_names().map(|(name, _)| format!("CAP_{name}"));
    names.collect::<Vec<_>>().join(" ")
}

fn failed<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> PrivilegesError {
    move |error| PrivilegesError::Call(call, error.into())
}

/// Threads have 5 s at least to empty their sets. A thread in a system call takes a moment, on a
/// busy machine longer.
const EMPTY_ROUNDS_MAX: u32 = 1000;
const EMPTY_ROUND_PERIOD: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_driver_keeps_what_it_needs_and_no_more() {
        let (none, admin) = (CapabilitySet::empty(), CapabilitySet::NET_ADMIN);
        for (driver, pci_driver, expected) in [
            (Driver::AfPacket, None, admin),
            (Driver::AfXdp, None, admin),
            (Driver::Tap, None, admin),
            (Driver::VirtioUser, None, admin),
            (Driver::OtherVirtual, None, admin),
            (Driver::Ring, None, none),
            (Driver::Null, None, none),
            (Driver::Memif, None, none),
            (Driver::Pcap, None, none),
            (Driver::Pci, Some("vfio-pci"), none),
            (Driver::Pci, Some("uio_pci_generic"), none),
            (Driver::Pci, Some("igb_uio"), none),
            (Driver::Pci, None, none),
            (
                Driver::Pci,
                Some("mlx5_core"),
                admin | CapabilitySet::NET_RAW,
            ),
        ] {
            let needed = capabilities_needed(driver, pci_driver);
            assert_eq!(needed, expected, "{driver:?} {pci_driver:?}");
        }
        assert_eq!(names(none), "none");
        assert_eq!(
            names(admin | CapabilitySet::NET_RAW),
            "CAP_NET_ADMIN CAP_NET_RAW"
        );
    }
}

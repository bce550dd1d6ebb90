//! The EAL, DPDK's environment abstraction layer. It is started once in a process and never
//! stopped.

mod hugepages;
mod log;

use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::thread;

use thiserror::Error;

use crate::sys::{Errno, c_string};

/// Whether DPDK's memory is on huge pages. Decided before the start, by the number of free ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hugepages {
    /// Use them if enough are free.
    #[default]
    Auto,
    /// Fail if too few are free.
    Require,
    /// Use ordinary pages.
    Off,
}

/// Configuration of the EAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// Whether to use huge pages.
    pub hugepages: Hugepages,
    /// Memory in MiB, at least 16. With huge pages it must be free in them, for packet buffers and
    /// [`Eal::region`], and is taken as needed. Without, it is for packet buffers only.
    pub memory_mib: u32,
    /// PCI devices to probe (`-a`), by address and with their arguments
    /// ([`crate::Device::allow_list`]); empty: none (`--no-pci`).
    pub pci: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            hugepages: Hugepages::Auto,
            memory_mib: 512,
            pci: Vec::new(),
        }
    }
}

/// Why the EAL didn't start, or a thread can't be registered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EalError {
    /// The EAL was started before in this process.
    #[error("the EAL was started before: a process can do that once")]
    AlreadyStarted,
    /// An earlier start failed. `rte_eal_init` can't be retried in one process.
    #[error("an earlier start of the EAL failed: it can't be tried again in one process")]
    FailedBefore,
    /// Huge pages are required, and too few are free.
    #[error(
        "[eal] hugepages = \"require\": {free_mib} MiB of huge pages are free, \
         [eal] memory asks for {wanted_mib} MiB (see /sys/kernel/mm/hugepages)"
    )]
    Hugepages {
        /// MiB free in huge pages of all sizes.
        free_mib: u64,
        /// MiB wanted.
        wanted_mib: u32,
    },
    /// [`EalConfig::memory_mib`] is too small.
    #[error("[eal] memory = {0}MiB: at least {min}MiB are needed", min = MEMORY_MIB_MIN)]
    Memory(u32),
    /// The thread that starts the EAL can't be made.
    #[error("can't make a thread to start the EAL: {0}")]
    Thread(#[source] std::io::Error),
    /// `rte_eal_init` failed; its messages are in the log.
    #[error("the EAL doesn't start: {0} (its messages are in the log)")]
    Init(Errno),
    /// `rte_thread_register` failed: too many threads are registered.
    #[error("can't register a worker thread with the EAL: {0}")]
    Register(Errno),
}

/// Proof that the EAL runs. All copies stand for the same one.
#[derive(Clone, Copy, Debug)]
pub struct Eal {
    hugepages: bool,
    required: bool,
}

impl Eal {
    /// Starts the EAL (`rte_eal_init`), once in a process. The calling thread's CPU affinity
    /// doesn't change.
    ///
    /// # Errors
    /// See [`EalError`]. After a failure of `rte_eal_init` itself it can't be retried.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        if config.memory_mib < MEMORY_MIB_MIN {
            return Err(EalError::Memory(config.memory_mib));
        }
        let hugepages = hugepages::decide(config)?;
        let mut state = STATE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match *state {
            State::New => {}
            State::Running => return Err(EalError::AlreadyStarted),
            State::Failed => return Err(EalError::FailedBefore),
        }
        *state = State::Failed;
        let arguments = arguments(config, hugepages);
        tracing::debug!(?arguments, "starting the EAL");
        // rte_eal_init pins the calling thread to one core, and its later threads inherit that: so
        // it runs on a thread of its own, which then ends.
        thread::Builder::new()
            .name("eal-init".into())
            .spawn(move || start(&arguments))
            .map_err(EalError::Thread)?
            .join()
            .unwrap_or(Err(EalError::FailedBefore))?;
        *state = State::Running;
        tracing::info!(version = Self::version(), hugepages, "EAL started");
        Ok(Self {
            hugepages,
            required: config.hugepages == Hugepages::Require,
        })
    }

    /// Returns DPDK's version (`rte_version`), such as `DPDK 22.11.11`.
    pub fn version() -> String {
        // SAFETY: returns a constant.
        let text = unsafe { dpdk_sys::rte_version() };
        // SAFETY: a NUL-terminated constant string.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }

    /// Returns whether memory is on huge pages.
    pub fn uses_hugepages(self) -> bool {
        self.hugepages
    }

    /// Returns whether huge pages are required.
    pub(crate) fn requires_hugepages(self) -> bool {
        self.required
    }

    /// Stands for an EAL that wasn't started, so that every memzone is refused.
    #[cfg(test)]
    pub(crate) fn without_memory_but_required() -> Self {
        Self {
            hugepages: false,
            required: true,
        }
    }

    /// Registers the calling thread with the EAL (`rte_thread_register`), so that it has a mempool
    /// cache. Set the thread's affinity first. Dropping the result unregisters it.
    ///
    /// # Errors
    /// [`EalError::Register`] if too many threads are registered.
    pub fn register_worker(self) -> Result<Worker, EalError> {
        // SAFETY: the EAL runs, as `self` shows; registering twice is allowed.
        let rc = unsafe { dpdk_sys::rte_thread_register() };
        if rc < 0 {
            return Err(EalError::Register(Errno::last()));
        }
        Ok(Worker {
            _this_thread: PhantomData,
        })
    }
}

/// A worker thread's registration with the EAL. It can't leave its thread; dropping it unregisters.
#[derive(Debug)]
pub struct Worker {
    _this_thread: PhantomData<*mut ()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: this thread is registered (the type can't leave it).
        unsafe { dpdk_sys::rte_thread_unregister() }
    }
}

fn start(arguments: &[String]) -> Result<(), EalError> {
    log::open();
    // The EAL reorders the list and may keep the strings: they are never freed.
    let mut argv: Vec<*mut std::ffi::c_char> =
        arguments.iter().map(|a| c_string(a).into_raw()).collect();
    let argc = i32::try_from(argv.len()).unwrap_or(i32::MAX);
    argv.push(std::ptr::null_mut());
    // SAFETY: a NULL-terminated list of strings that live as long as the process; first call.
    let rc = unsafe { dpdk_sys::rte_eal_init(argc, argv.leak().as_mut_ptr()) };
    if rc < 0 {
        Err(EalError::Init(Errno::last()))
    } else {
        Ok(())
    }
}

/// Returns the EAL's command line. With it several processes can run side by side: nothing of the
/// EAL has a name in the file system.
fn arguments(config: &EalConfig, hugepages: bool) -> Vec<String> {
    let mut list: Vec<String> = ["lockgate", "--no-telemetry"].map(Into::into).into();
    let core = core_affinity::get_core_ids()
        .and_then(|ids| ids.first().map(|c| c.id))
        .unwrap_or(0);
    // lcore 0 on that core: core numbers beyond RTE_MAX_LCORE work, too.
    list.extend(["--lcores".into(), format!("0@{core}")]);
    // Packets refer to memory by virtual address; PCI devices need an IOMMU for that.
    list.extend(["--iova-mode".into(), "va".into()]);
    if hugepages {
        list.push("--in-memory".into());
    } else {
        list.extend(["--no-huge".into(), "--no-shconf".into()]);
        list.extend(["-m".into(), config.memory_mib.to_string()]);
    }
    if config.pci.is_empty() {
        list.push("--no-pci".into());
    }
    for address in &config.pci {
        list.extend(["-a".into(), address.clone()]);
    }
    list
}

enum State {
    New,
    Running,
    Failed,
}

static STATE: Mutex<State> = Mutex::new(State::New);

/// Least memory in MiB with which the EAL starts.
const MEMORY_MIB_MIN: u32 = 16;

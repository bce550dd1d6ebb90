//! The environment abstraction layer: started once, for life.

mod hugepages;
mod log;

use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::thread;

use thiserror::Error;

use crate::sys::{Errno, c_string};

/// Whether DPDK's memory is on huge pages. It can't be changed after the start, so it's decided
/// before, from what the kernel has free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hugepages {
    /// If enough of them are free.
    #[default]
    Auto,
    /// It's an error if there aren't enough.
    Require,
    /// Ordinary pages.
    Off,
}

/// How to start the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// Huge pages or not.
    pub hugepages: Hugepages,
    /// Memory in MiB. Without huge pages it's for packet buffers, and [`Eal::region`] comes on
    /// top. With huge pages it's what has to be free of them for both, taken as it's needed.
    pub memory_mib: u32,
    /// PCI addresses of the devices that will be opened; no other is touched.
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

/// Why the environment didn't start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EalError {
    /// A process has one environment, and this one has it already.
    #[error("the EAL was started before: a process can do that once")]
    AlreadyStarted,
    /// An earlier start failed; it can't be tried again, with other arguments either.
    #[error("an earlier start of the EAL failed: it can't be tried again in one process")]
    FailedBefore,
    /// `hugepages = "require"`, and too few are free.
    #[error(
        "[eal] hugepages = \"require\": {free_mib} MiB of huge pages are free, \
         [eal] memory asks for {wanted_mib} MiB (see /sys/kernel/mm/hugepages)"
    )]
    Hugepages {
        /// MiB free in huge pages of all sizes.
        free_mib: u64,
        /// MiB asked for.
        wanted_mib: u32,
    },
    /// The key's value can't be meant.
    #[error("[eal] memory = {0}MiB: at least {min}MiB are needed", min = MEMORY_MIB_MIN)]
    Memory(u32),
    /// No thread for the start.
    #[error("can't make a thread to start the EAL: {0}")]
    Thread(#[source] std::io::Error),
    /// `rte_eal_init` failed; what it said is in the log.
    #[error("the EAL doesn't start: {0} (its messages are in the log)")]
    Init(Errno),
    /// There are as many registered threads as there can be.
    #[error("can't register a worker thread with the EAL: {0}")]
    Register(Errno),
}

/// The running environment. Copies are the same one.
#[derive(Clone, Copy, Debug)]
pub struct Eal {
    hugepages: bool,
    required: bool,
}

impl Eal {
    /// Starts the environment. It can be done once in a process.
    ///
    /// The calling thread's CPU affinity stays as it is.
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
        // The EAL binds the thread that starts it to one core, and threads made by that thread
        // inherit it: so a thread of its own, which then ends.
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

    /// DPDK's own name for its version.
    pub fn version() -> String {
        // SAFETY: returns a constant.
        let text = unsafe { dpdk_sys::rte_version() };
        // SAFETY: a NUL-terminated constant string.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }

    /// Whether memory is on huge pages.
    pub fn uses_hugepages(self) -> bool {
        self.hugepages
    }

    /// Whether memory on other pages is an error.
    pub(crate) fn requires_hugepages(self) -> bool {
        self.required
    }

    /// An environment that wasn't started, and so has no memzone that is long enough.
    #[cfg(test)]
    pub(crate) fn without_memory_but_required() -> Self {
        Self {
            hugepages: false,
            required: true,
        }
    }

    /// Makes the calling thread known to the EAL, or it would have no cache of packet buffers.
    /// Set the thread's affinity first. It stays registered while the result lives.
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

/// A thread's registration with the EAL, ended by dropping it on the same thread.
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

/// The EAL's command line. Both forms let several processes run side by side: nothing of the
/// environment has a name in the file system.
fn arguments(config: &EalConfig, hugepages: bool) -> Vec<String> {
    let mut list: Vec<String> = ["lockgate", "--no-telemetry"].map(Into::into).into();
    let core = core_affinity::get_core_ids()
        .and_then(|ids| ids.first().map(|c| c.id))
        .unwrap_or(0);
    // The number in front is the EAL's own, so that cores beyond its limit work too.
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

/// Below this the EAL itself doesn't start.
const MEMORY_MIB_MIN: u32 = 16;

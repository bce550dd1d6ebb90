//! The EAL, DPDK's environment abstraction layer. It is started once in a process and never
//! stopped.

mod iova;
mod log;
mod machine;
mod plan;

use std::ffi::CStr;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use thiserror::Error;

pub use self::iova::{Iova, IovaError, IovaMode};
pub use self::plan::PageForecast;
use self::plan::Plan;
use crate::device::PciAddress;
use crate::hugepages::{self, Demand, HeapLimits, Shortage, free_pages};
use crate::sys::{Errno, c_string};

/// Whether packet memory is on huge pages. Decided before the start, by the number of free ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hugepages {
    /// Use those that are free, and ordinary pages for the rest.
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
    /// Which addresses devices use.
    pub iova: Iova,
    /// Memory in MiB that the EAL allocates itself, at least 16: the packet buffers of all ports,
    /// and what it needs. On huge pages it is taken as needed.
    pub memory_mib: u32,
    /// NUMA nodes of the ports, whose packet buffers that is for; empty: any.
    pub nodes: Vec<u16>,
    /// The regions that will be made ([`Eal::regions`]), in this order. Huge pages are counted for
    /// them before the start.
    pub regions: Vec<Demand>,
    /// Most MiB of one region; 0: as many as the EAL can have in one piece.
    pub region_mib_max: u32,
    /// PCI devices to probe (`-a`), by address and with their arguments
    /// ([`crate::Device::allow_list`]); empty: none (`--no-pci`).
    pub pci: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            hugepages: Hugepages::Auto,
            iova: Iova::Auto,
            memory_mib: 512,
            nodes: Vec::new(),
            regions: Vec::new(),
            region_mib_max: 0,
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
    #[error("[eal] hugepages = \"require\": {0}")]
    Hugepages(Shortage),
    /// The addresses that devices should use, or have to, can't be used.
    #[error(transparent)]
    Iova(#[from] IovaError),
    /// [`EalConfig::memory_mib`] is too small.
    #[error("[eal] memory = {0}MiB: at least {min}MiB are needed", min = MEMORY_MIB_MIN)]
    Memory(u32),
    /// More ordinary pages are wanted than the machine has. The EAL would describe each of its own,
    /// for minutes, until memory is used up; regions are mapped, and fail when they are used.
    #[error(
        "[eal] memory: {wanted} MiB are wanted on ordinary pages, and this machine has {there} MiB \
         in all; ask for less in [eal] memory, [limits] and [cache] memory_max"
    )]
    Machine {
        /// MiB wanted.
        wanted: u64,
        /// MiB that the machine has.
        there: u64,
    },
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
    iova: IovaMode,
    has_cards: bool,
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
        let plan = Plan::new(config, &free_pages(Path::new(SYSFS)), heap_limits(config))?;
        let (iova, why) = decide_iova(config, &plan)?;
        machine::check(config, &plan, machine::memory_mib(Path::new(PROCFS)))?;
        let mut state = STATE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match *state {
            State::New => {}
            State::Running => return Err(EalError::AlreadyStarted),
            State::Failed => return Err(EalError::FailedBefore),
        }
        *state = State::Failed;
        if let Some(shortage) = &plan.shortage {
            tracing::warn!("huge pages: ordinary pages are used for a part of memory: {shortage}");
        }
        let hugepages = plan.hugepages;
        let arguments = arguments(config, hugepages, iova);
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
        hugepages::set_budget(plan.budget);
        tracing::info!(version = Self::version(), hugepages, %iova, why, "EAL started");
        Ok(Self {
            hugepages,
            required: config.hugepages == Hugepages::Require,
            iova,
            has_cards: !config.pci.is_empty(),
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

    /// Returns whether the EAL's own memory is on huge pages.
    pub fn uses_hugepages(self) -> bool {
        self.hugepages
    }

    /// Returns which addresses devices use.
    pub fn iova(self) -> IovaMode {
        self.iova
    }

    /// Returns whether PCI cards were probed.
    pub(crate) fn has_cards(self) -> bool {
        self.has_cards
    }

    /// Returns the setting for which all memory must be on huge pages, if there is one.
    pub(crate) fn needs_hugepages(self) -> Option<&'static str> {
        match self.iova {
            IovaMode::Physical => Some("[eal] iova = \"pa\""),
            IovaMode::Virtual if self.required => Some("[eal] hugepages = \"require\""),
            IovaMode::Virtual => None,
        }
    }

    /// Stands for an EAL that wasn't started, so that every memzone is refused.
    #[cfg(test)]
    pub(crate) fn without_memory_but_required() -> Self {
        Self {
            hugepages: false,
            required: true,
            iova: IovaMode::Virtual,
            has_cards: false,
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

/// Decides which addresses devices use, and checks that they can.
fn decide_iova(config: &EalConfig, plan: &Plan) -> Result<(IovaMode, String), IovaError> {
    let addresses = config.pci.iter().filter_map(|device| {
        let address = device.split(',').next()?;
        address.parse().ok()
    });
    let cards: Vec<PciAddress> = addresses.collect();
    let (iova, why) = iova::decide(Path::new(SYSFS), config.iova, &cards)?;
    if iova == IovaMode::Physical {
        // Ordinary pages may move, and spans cross them.
        match &plan.shortage {
            Some(shortage) => {
                let pages = shortage.to_string();
                return Err(IovaError::OrdinaryPages { why, pages });
            }
            None if !plan.hugepages => {
                let pages = "[eal] hugepages = \"off\"".into();
                return Err(IovaError::OrdinaryPages { why, pages });
            }
            None if !iova::physical_addresses_visible() => return Err(IovaError::Hidden { why }),
            None => {}
        }
    }
    Ok((iova, why))
}

/// Returns what the EAL's heaps can hold.
fn heap_limits(config: &EalConfig) -> HeapLimits {
    let mut limits = dpdk_sys::lg_heap_limits {
        list_pages: 0,
        list_bytes: 0,
        kind_pages: 0,
        kind_bytes: 0,
    };
    // SAFETY: a structure of ours to write.
    unsafe { dpdk_sys::lg_heap_limits(&raw mut limits) };
    // Half a list, because something else may be in it.
    let piece = (limits.list_pages / 2, limits.list_bytes / 2);
    HeapLimits {
        kind: (limits.kind_pages, limits.kind_bytes),
        piece: match u64::from(config.region_mib_max) << 20 {
            0 => piece,
            bytes => (piece.0, piece.1.min(bytes)),
        },
    }
}

/// Returns the EAL's command line. With it several processes can run side by side: nothing of the
/// EAL has a name in the file system.
fn arguments(config: &EalConfig, hugepages: bool, iova: IovaMode) -> Vec<String> {
    let mut list: Vec<String> = ["lockgate", "--no-telemetry"].map(Into::into).into();
    let core = core_affinity::get_core_ids()
        .and_then(|ids| ids.first().map(|c| c.id))
        .unwrap_or(0);
    // lcore 0 on that core: core numbers beyond RTE_MAX_LCORE work, too.
    list.extend(["--lcores".into(), format!("0@{core}")]);
    list.extend(["--iova-mode".into(), iova.to_string()]);
    if hugepages {
        list.push("--in-memory".into());
    } else {
        list.extend(["--no-huge".into(), "--no-shconf".into()]);
        // No packet buffer crosses a page, so most have an ordinary page each. What isn't used
        // takes no memory.
        let mib = config.memory_mib.saturating_mul(2);
        list.extend(["-m".into(), mib.to_string()]);
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

const SYSFS: &str = "/sys";
const PROCFS: &str = "/proc";

/// Least memory in MiB with which the EAL starts.
const MEMORY_MIB_MIN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_all_that_was_decided() {
        let pci = |list: &[&str]| EalConfig {
            memory_mib: 77,
            pci: list.iter().map(ToString::to_string).collect(),
            ..EalConfig::default()
        };
        let line = |config: &EalConfig, hugepages, iova| {
            let line = arguments(config, hugepages, iova);
            // Behind the program's name, --no-telemetry and the core.
            line[4..].join(" ")
        };
        assert_eq!(
            line(&pci(&[]), false, IovaMode::Virtual),
            "--iova-mode va --no-huge --no-shconf -m 154 --no-pci"
        );
        assert_eq!(
            line(
                &pci(&["0000:00:0a.0,arg=1", "0000:00:0b.0"]),
                true,
                IovaMode::Physical
            ),
            "--iova-mode pa --in-memory -a 0000:00:0a.0,arg=1 -a 0000:00:0b.0"
        );
    }

    #[test]
    fn physical_addresses_need_huge_pages_for_everything() {
        let physical = EalConfig {
            iova: Iova::Physical,
            memory_mib: 100,
            regions: vec![Demand::new("a region", 100 << 20)],
            ..EalConfig::default()
        };
        let decide = |config: &EalConfig, free| {
            let free = hugepages::FreePages {
                node: 0,
                page_bytes: 2 << 20,
                free,
                total: free,
                by_node: true,
            };
            let plan = Plan::new(config, &[free], HeapLimits::UNLIMITED).unwrap();
            decide_iova(config, &plan).map(|(iova, _)| iova)
        };
        let error = decide(&physical, 60).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "[eal] iova: physical addresses (configured) need all packet memory on huge \
                 pages: 81 MiB of huge pages on node 0 missing"
            ),
            "{error}"
        );
        let off = EalConfig {
            hugepages: Hugepages::Off,
            ..physical.clone()
        };
        let error = decide(&off, 600).unwrap_err().to_string();
        assert!(error.ends_with("[eal] hugepages = \"off\""), "{error}");
        // Only a process with CAP_SYS_ADMIN sees physical addresses.
        match decide(&physical, 600) {
            Ok(iova) => assert_eq!(iova, IovaMode::Physical),
            Err(error) => assert!(matches!(error, IovaError::Hidden { .. }), "{error}"),
        }
        let auto = EalConfig {
            iova: Iova::Auto,
            ..physical
        };
        assert_eq!(decide(&auto, 0), Ok(IovaMode::Virtual));
    }
}

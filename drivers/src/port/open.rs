//! Opens a port, step by step, in DPDK's order.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use dpdk_sys::{lg_port_caps, lg_port_conf};
use lockgate_wire::MacAddr;

use super::{Capabilities, Port, PortConfig, PortError, Queue, Shared, Sizes, mtu};
use crate::counters::QueueCells;
use crate::device::{Device, Driver};
use crate::eal::Eal;
use crate::memory;
use crate::pool::{MbufPool, PoolSpec};
use crate::sys::{Errno, c_string};

impl Port {
    /// Opens a port: creates the device (`rte_vdev_init`), reads its capabilities
    /// (`rte_eth_dev_info_get`), configures it, makes mempools and queues, and starts it
    /// (`rte_eth_dev_start`). Logs in one line what the port does and what is done in software.
    ///
    /// A kernel interface must be in the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`PortError`]; the device was closed again.
    pub fn open(_eal: Eal, config: &PortConfig) -> Result<Self, PortError> {
        let mut device = config.device.clone();
        check_assumptions(config)?;
        if config.queues == 0 {
            return Err(PortError::NoQueues {
                port: config.name.clone(),
            });
        }
        mtu::prepare(config, &mut device)?;
        queue_arguments(config, &mut device);
        let created = Created::new(device)?;
        let raw = created.capabilities(config)?;
        let limit = raw.max_rx_queues.min(raw.max_tx_queues);
        if config.queues > limit {
            return Err(PortError::Queues {
                port: config.name.clone(),
                device: created.device.to_string(),
                wanted: config.queues,
                limit,
            });
        }
        let mtu = mtu::check(config, &raw)?;
        let driver = created.device.driver();
        let mut caps = Capabilities::decide(driver, &raw, config.assume, config.queues);
        let offloads = caps.wanted(&raw);
        // Scattered receive is slower, and only needed where frames are longer than buffers.
        let offloads = if driver == Driver::Pci {
            offloads
        } else {
            offloads & !dpdk_sys::LG_CAP_RX_SCATTER
        };
        let conf = lg_port_conf {
            queues: config.queues,
            mtu,
            offloads,
        };
        // SAFETY: a port that was just made, and a valid configuration to read.
        let rc = unsafe { dpdk_sys::lg_port_configure(created.id, &raw const conf) };
        created.setup(config, "its configuration", rc)?;
        let sizes = created.sizes(config, &caps)?;
        if caps.multi_segs {
            // A frame must never need more buffers than the pool has.
            let pieces = u16::try_from(sizes.tx_mbufs - 1).unwrap_or(u16::MAX);
            caps.tx_pieces_max = caps.tx_pieces_max.min(pieces);
        }
        let (rx_pools, tx_pools) = pools(config, &sizes, raw.numa_node)?;
        created.start(config, &sizes, raw.numa_node, &rx_pools)?;
        if driver == Driver::Pci {
            map_external(config, created.id)?;
        }
        let shared = Arc::new(Shared {
            name: config.name.clone(),
            id: created.id,
            mac: mac_address(&raw, config),
            mtu: config.mtu,
            caps,
            sizes,
            link_up: AtomicBool::new(false),
            partial_checksums_warned: AtomicBool::new(false),
            cells: (0..config.queues).map(|_| QueueCells::default()).collect(),
            rx_pools,
            tx_pools,
            device: created.keep(),
            open_queues: AtomicU16::new(0),
            closed: AtomicBool::new(false),
        });
        log(&shared, &raw);
        shared.poll_link();
        let queues = (0..config.queues).map(|n| Queue::new(&shared, n)).collect();
        Ok(Self { shared, queues })
    }
}

/// A created device, closed again on drop unless [`Created::keep`] was called.
struct Created {
    device: Device,
    id: u16,
    keep: bool,
}

impl Created {
    fn new(device: Device) -> Result<Self, PortError> {
        if let Some(id) = device.existing() {
            return Ok(Self {
                device,
                id,
                keep: false,
            });
        }
        let name = c_string(device.name());
        let error = |errno| PortError::Create {
            device: device.to_string(),
            errno,
        };
        if device.driver() != Driver::Pci {
            let arguments = c_string(&device.arguments());
            // SAFETY: two NUL-terminated strings, which the bus copies.
            let rc = unsafe { dpdk_sys::rte_vdev_init(name.as_ptr(), arguments.as_ptr()) };
            Errno::check(rc).map_err(error)?;
        }
        let mut id = 0;
        // SAFETY: a NUL-terminated name and a number of ours to write.
        let rc = unsafe { dpdk_sys::lg_port_find(name.as_ptr(), &raw mut id) };
        match Errno::check(rc) {
            Ok(_) => Ok(Self {
                device,
                id,
                keep: false,
            }),
            Err(_) if device.driver() == Driver::Pci => Err(PortError::NoPciPort {
                device: device.to_string(),
            }),
            Err(errno) => {
                let error = error(errno);
                // SAFETY: a NUL-terminated name of a device that was just made.
                let _ = unsafe { dpdk_sys::rte_vdev_uninit(name.as_ptr()) };
                Err(error)
            }
        }
    }

    fn keep(mut self) -> Device {
        self.keep = true;
        self.device.clone()
    }

    fn setup(&self, config: &PortConfig, step: &'static str, rc: i32) -> Result<(), PortError> {
        Errno::check(rc)
            .map(|_| ())
            .map_err(|errno| PortError::Setup {
                port: config.name.clone(),
                device: self.device.to_string(),
                step,
                errno,
            })
    }

    fn capabilities(&self, config: &PortConfig) -> Result<lg_port_caps, PortError> {
        let mut caps = MaybeUninit::<lg_port_caps>::zeroed();
        // SAFETY: a live port, and memory of ours to write.
        let rc = unsafe { lg_port_caps(self.id, caps.as_mut_ptr()) };
        self.setup(config, "to say what it can do", rc)?;
        // SAFETY: zeroed, then written; numbers and bytes only, so any value is valid.
        Ok(unsafe { caps.assume_init() })
    }

    fn sizes(&self, config: &PortConfig, caps: &Capabilities) -> Result<Sizes, PortError> {
        let (mut rx, mut tx) = config.descriptors();
        // SAFETY: a configured port, and two numbers of ours to change.
        let rc = unsafe { dpdk_sys::lg_port_adjust_descs(self.id, &raw mut rx, &raw mut tx) };
        self.setup(config, "these numbers of descriptors", rc)?;
        Ok(Sizes::sum(config, &self.device, caps, rx, tx))
    }

    fn start(
        &self,
        config: &PortConfig,
        sizes: &Sizes,
        numa_node: i32,
        rx_pools: &[MbufPool],
    ) -> Result<(), PortError> {
        for (queue, pool) in (0..config.queues).zip(rx_pools) {
            // SAFETY: a configured, stopped port; the pool outlives it (see `Shared`: the
            // device is closed before pools are dropped).
            let rc = unsafe {
                dpdk_sys::lg_port_queue(
                    self.id,
                    queue,
                    sizes.rx_descriptors,
                    sizes.tx_descriptors,
                    numa_node,
                    pool.as_ptr(),
                )
            };
            self.setup(config, "a queue", rc)?;
        }
        // SAFETY: a port with all its queues set up.
        let rc = unsafe { dpdk_sys::rte_eth_dev_start(self.id) };
        self.setup(config, "to start", rc)?;
        // SAFETY: a started port.
        let rc = unsafe { dpdk_sys::lg_port_receive_all(self.id) };
        self.setup(config, "to receive multicast", rc)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if !self.keep {
            close_device(&self.device, self.id);
        }
    }
}

/// Stops and closes a port, and removes its device.
pub(super) fn close_device(device: &Device, id: u16) {
    // SAFETY: any port may be stopped, in any state.
    let stop = unsafe { dpdk_sys::rte_eth_dev_stop(id) };
    // SAFETY: any port may be closed; one that isn't stopped returns an error.
    let close = unsafe { dpdk_sys::rte_eth_dev_close(id) };
    if device.driver() != Driver::Pci {
        let name = c_string(device.name());
        // SAFETY: a NUL-terminated name.
        let _ = unsafe { dpdk_sys::rte_vdev_uninit(name.as_ptr()) };
    }
    if stop < 0 || close < 0 {
        tracing::debug!(%device, stop, close, "the device didn't close cleanly");
    }
}

/// # Safety
///
/// `context` points to a `Vec<(String, u64)>` and `name` to a NUL-terminated string.
pub(super) unsafe extern "C" fn on_xstat(context: *mut c_void, name: *const c_char, value: u64) {
    // SAFETY: the caller's promise.
    let list = unsafe { &mut *context.cast::<Vec<(String, u64)>>() };
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    list.push((name.to_string_lossy().into_owned(), value));
}

fn check_assumptions(config: &PortConfig) -> Result<(), PortError> {
    match (config.assume.first(), config.device.driver()) {
        (None, _) | (_, Driver::Ring | Driver::Memif) => Ok(()),
        (Some(what), _) => Err(PortError::Assume {
            port: config.name.clone(),
            device: config.device.to_string(),
            what,
        }),
    }
}

/// Adds the argument for the number of queues, for drivers that have one.
fn queue_arguments(config: &PortConfig, device: &mut Device) {
    let argument = match device.driver() {
        Driver::AfPacket => "qpairs",
        Driver::AfXdp => "queue_count",
        Driver::VirtioUser => "queues",
        _ => return,
    };
    if config.queues > 1 {
        device.default_argument(argument, config.queues);
    }
}

fn pools(
    config: &PortConfig,
    sizes: &Sizes,
    numa_node: i32,
) -> Result<(Vec<MbufPool>, Vec<MbufPool>), PortError> {
    let make = |what: &'static str, key: &'static str, spec: PoolSpec| {
        let one = |queue: u16| {
            // Pool names have 26 bytes and must be unique; port names may be long.
            let number = POOLS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{what}{queue}_{number}");
            MbufPool::new(name, &spec).map_err(|errno| PortError::Memory {
                port: config.name.clone(),
                what,
                buffers: spec.mbufs,
                mib: spec.bytes().div_ceil(1 << 20),
                key,
                errno,
            })
        };
        (0..config.queues).map(one).collect::<Result<Vec<_>, _>>()
    };
    let rx = make(
        "receive",
        "[limits] mbufs",
        sizes.rx_pool(numa_node, config),
    )?;
    let tx = make(
        "transmit",
        "the port's tx_descriptors",
        sizes.tx_pool(numa_node, config),
    )?;
    Ok((rx, tx))
}

/// Maps external memory for DMA (`rte_dev_dma_map`). Not verified on hardware.
fn map_external(config: &PortConfig, id: u16) -> Result<(), PortError> {
    for (base, len) in memory::external() {
        let base = std::ptr::with_exposed_provenance_mut(base);
        // SAFETY: memory that stays for the life of the process.
        let rc = unsafe { dpdk_sys::lg_port_dma_map(id, base, len) };
        Errno::check(rc).map_err(|errno| PortError::Setup {
            port: config.name.clone(),
            device: config.device.to_string(),
            step: "to map memory for DMA",
            errno,
        })?;
    }
    Ok(())
}

/// Returns the device's MAC address. For virtual devices without one it is a locally administered
/// address, derived from process, port and device.
fn mac_address(raw: &lg_port_caps, config: &PortConfig) -> MacAddr {
    if raw.mac != [0; 6] {
        return MacAddr(raw.mac);
    }
    // FNV-1a
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let device = config.device.to_string();
    let process = std::process::id().to_le_bytes();
    for &byte in device
        .as_bytes()
        .iter()
        .chain(config.name.as_bytes())
        .chain(&process)
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let h = hash.to_le_bytes();
    MacAddr([0x02, h[0], h[1], h[2], h[3], h[4]])
}

/// Logs what the port does and what is done in software.
fn log(shared: &Shared, raw: &lg_port_caps) {
    let (port_does, stack_does) = shared.caps.split();
    let driver: Vec<u8> = raw
        .driver
        .iter()
        .take_while(|&&c| c != 0)
        .map(|c| c.to_ne_bytes()[0])
        .collect();
    tracing::info!(
        port = shared.name,
        device = %shared.device,
        driver = %String::from_utf8_lossy(&driver),
        mac = %shared.mac,
        mtu = shared.mtu,
        queues = shared.cells.len(),
        port_does = %port_does,
        stack_does = %stack_does,
        assumed = ?shared.caps.assumed,
        "port open"
    );
}

static POOLS: AtomicU16 = AtomicU16::new(0);

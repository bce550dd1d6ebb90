//! Opens a port, step by step, in DPDK's order.

use std::ffi::{CStr, c_char, c_void};
use std::mem::{self, MaybeUninit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64};

use dpdk_sys::{
    LG_MULTICAST_ALL, LG_MULTICAST_GROUPS, LG_MULTICAST_PROMISCUOUS, LG_MULTICAST_UNFILTERED,
    lg_port_caps, lg_port_conf, lg_queue_conf,
};
use lockgate_wire::MacAddr;

use super::multicast::{self, Multicast};
use super::plan::{self, Plan};
use super::pools::Pools;
use super::rss::Spread;
use super::sent::{self, SentRelease};
use super::{Port, PortConfig, PortError, Queue, Shared, Sizes, dma, mtu, watch};
use crate::counters::QueueCells;
use crate::device::{Device, Driver};
use crate::eal::Eal;
use crate::pool::MbufPool;
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
        let mut created = Created::new(device)?;
        created.add_members(config)?;
        let raw = created.capabilities(config)?;
        let mut plan = Plan::decide(config, &created.device, &raw)?;
        // SAFETY: a port that was just made, and a valid configuration to read.
        let rc = unsafe { dpdk_sys::lg_port_configure(created.id, &raw const plan.conf) };
        created.setup(config, "its configuration", rc)?;
        let conf = queue_conf(&plan, raw.numa_node);
        let rc = sent::set_up_tx_queues(created.id, config, &conf);
        created.setup(config, "a transmit queue", rc)?;
        let release = SentRelease::of_port(created.id, config, plan.known_release);
        plan.set_tx_ring(sent::tx_descriptors(created.id));
        plan.set_sent_release(config, &created.device, release);
        created.pools = Pools::new(config, &plan.sizes, raw.numa_node)?;
        let mac = mac_address(&raw, config);
        let started = created.start(config, &plan, &raw, mac)?;
        dma::map_external(config, &created.device)?;
        let id = created.id;
        let (device, pools) = created.keep();
        let shared = Arc::new(Shared {
            name: config.name.clone(),
            id,
            members: member_ids(&device),
            mac: AtomicU64::new(watch::bits_of(mac)),
            mac_changes: AtomicU64::new(0),
            resets_seen: AtomicU64::new(0),
            mtu: config.mtu,
            caps: plan.caps,
            sizes: plan.sizes,
            ring_pages_max: config.ring_pages_max,
            link_up: AtomicBool::new(false),
            link_changes: AtomicU64::new(0),
            partial_checksums_warned: AtomicBool::new(false),
            refused_warned: AtomicBool::new(false),
            stuck_warned: AtomicU64::new(0),
            cells: (0..config.queues).map(|_| QueueCells::default()).collect(),
            rx_pools: pools.rx,
            tx_pools: pools.tx,
            device,
            open_queues: AtomicU16::new(0),
            closed: AtomicBool::new(false),
        });
        shared.count_resets();
        log(&shared, &raw, &plan, &started);
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
    /// Dropped after the device was closed, which puts the buffers of its rings back.
    pools: Pools,
}

impl Created {
    fn new(device: Device) -> Result<Self, PortError> {
        if let Some(id) = device.existing() {
            return Ok(Self {
                device,
                id,
                keep: false,
                pools: Pools::default(),
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
                pools: Pools::default(),
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

    fn keep(mut self) -> (Device, Pools) {
        self.keep = true;
        (self.device.clone(), mem::take(&mut self.pools))
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

    /// Makes a bond add its members, which it does when it is configured for the first time. Only
    /// then it has their MAC address, limits and offloads.
    fn add_members(&self, config: &PortConfig) -> Result<(), PortError> {
        if self.device.bond_members().is_empty() {
            return Ok(());
        }
        let conf = lg_port_conf {
            queues: 1,
            mtu: 0,
            offloads: 0,
            rss: 0,
        };
        // SAFETY: a port that was just made, and a valid configuration to read.
        let rc = unsafe { dpdk_sys::lg_port_configure(self.id, &raw const conf) };
        self.setup(config, "its members", rc)
    }

    fn capabilities(&self, config: &PortConfig) -> Result<lg_port_caps, PortError> {
        let mut caps = MaybeUninit::<lg_port_caps>::zeroed();
        // SAFETY: a live port, and memory of ours to write.
        let rc = unsafe { lg_port_caps(self.id, caps.as_mut_ptr()) };
        self.setup(config, "to say what it can do", rc)?;
        // SAFETY: zeroed, then written; numbers and bytes only, so any value is valid.
        Ok(unsafe { caps.assume_init() })
    }

    /// Sets up the receive queues, starts the port and sets its filters.
    fn start(
        &self,
        config: &PortConfig,
        plan: &Plan,
        raw: &lg_port_caps,
        mac: MacAddr,
    ) -> Result<Started, PortError> {
        let mut rx_drop = plan.rx_drop;
        for (queue, pool) in (0..config.queues).zip(&self.pools.rx) {
            let mut rc = self.rx_queue(queue, plan, raw.numa_node, rx_drop, pool);
            if rc < 0 && rx_drop {
                // The driver may refuse the setting.
                rx_drop = false;
                rc = self.rx_queue(queue, plan, raw.numa_node, false, pool);
            }
            self.setup(config, "a receive queue", rc)?;
            // SAFETY: a configured port, and a queue that was set up. Not every driver answers.
            let rc = unsafe { dpdk_sys::lg_port_rx_descs(self.id, queue) };
            plan.check_ring(config, u32::try_from(rc).unwrap_or(0))?;
        }
        // SAFETY: a port with all its queues set up.
        let rc = unsafe { dpdk_sys::rte_eth_dev_start(self.id) };
        self.setup(config, "to start", rc)?;
        // SAFETY: a started port.
        let rc = unsafe { dpdk_sys::lg_port_vlan_off(self.id) };
        if rc < 0 {
            tracing::warn!(
                port = config.name,
                errno = rc,
                "the driver removes VLAN tags, and that can't be switched off"
            );
        }
        if raw.mac == [0; 6] {
            self.assign_mac(config, mac);
        }
        Ok(Started {
            rx_drop,
            spread: self.spread(config, plan),
            multicast: self.receive_multicast(config, mac)?,
        })
    }

    fn rx_queue(
        &self,
        queue: u16,
        plan: &Plan,
        numa_node: i32,
        rx_drop: bool,
        pool: &MbufPool,
    ) -> i32 {
        let conf = lg_queue_conf {
            rx_drop: u8::from(rx_drop),
            ..queue_conf(plan, numa_node)
        };
        // SAFETY: a configured, stopped port; the pool outlives it (see `Shared`: the device is
        // closed before pools are dropped).
        unsafe { dpdk_sys::lg_port_rx_queue(self.id, queue, &raw const conf, pool.as_ptr()) }
    }

    /// Gives a device without a MAC address the one that was made for it. A card that doesn't take
    /// it has to receive everything.
    fn assign_mac(&self, config: &PortConfig, mac: MacAddr) {
        // SAFETY: a started port, and six bytes to read.
        let rc = unsafe { dpdk_sys::lg_port_set_mac(self.id, mac.0.as_ptr()) };
        if rc < 0 && self.device.driver() == Driver::Pci {
            // SAFETY: a started port.
            let promiscuous = unsafe { dpdk_sys::lg_port_promiscuous(self.id) };
            tracing::warn!(
                port = config.name,
                %mac,
                errno = rc,
                promiscuous = promiscuous == 0,
                "the device has no MAC address and takes none"
            );
        }
    }

    /// Writes the redirection table, where there is one.
    fn spread(&self, config: &PortConfig, plan: &Plan) -> Spread {
        if !plan.rss.is_on() {
            return Spread::None;
        }
        // SAFETY: a started port with so many queues.
        let rc = unsafe { dpdk_sys::lg_port_spread(self.id, config.queues) };
        match (u16::try_from(rc), Errno::check(rc)) {
            (Ok(entries), _) if entries > 0 => Spread::Table(entries),
            (_, Err(errno)) => {
                tracing::warn!(
                    port = config.name,
                    %errno,
                    "the RSS redirection table can't be set: the driver's own may leave workers \
                     without connections"
                );
                Spread::Driver
            }
            _ => Spread::Driver,
        }
    }

    fn receive_multicast(&self, config: &PortConfig, mac: MacAddr) -> Result<Multicast, PortError> {
        let groups = multicast::groups(mac, &config.ipv6_addresses);
        if groups.is_empty() {
            return Ok(Multicast::NotNeeded);
        }
        let n = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let list = groups.as_flattened().as_ptr();
        // SAFETY: a started port, and so many addresses of six bytes to read.
        let rc = unsafe { dpdk_sys::lg_port_multicast(self.id, list, n) };
        self.setup(config, "to receive multicast", rc)?;
        Ok(match u32::try_from(rc).unwrap_or(LG_MULTICAST_UNFILTERED) {
            LG_MULTICAST_GROUPS => Multicast::Groups(groups.len()),
            LG_MULTICAST_ALL => Multicast::All,
            LG_MULTICAST_PROMISCUOUS => {
                if self.device.driver() == Driver::Pci {
                    tracing::warn!(
                        port = config.name,
                        "the port is promiscuous: it has no other way to receive multicast, \
                         which IPv6 needs"
                    );
                }
                Multicast::Promiscuous
            }
            _ => Multicast::Unfiltered,
        })
    }
}

fn queue_conf(plan: &Plan, numa_node: i32) -> lg_queue_conf {
    lg_queue_conf {
        rx_desc: plan.sizes.rx_descriptors,
        tx_desc: plan.sizes.tx_descriptors,
        numa_node,
        rx_drop: 0,
    }
}

/// What the driver accepted when the port was started.
struct Started {
    rx_drop: bool,
    spread: Spread,
    multicast: Multicast,
}

impl Drop for Created {
    fn drop(&mut self) {
        if !self.keep {
            close_device(&self.device, self.id);
        }
    }
}

/// Stops and closes a port, and removes its device. Members of a bond are closed after it: their
/// rings hold packet buffers of its pools.
pub(super) fn close_device(device: &Device, id: u16) {
    let members = member_ids(device);
    for port in members.iter().chain([&id]) {
        // SAFETY: any port number is allowed.
        unsafe { dpdk_sys::lg_port_ignore_resets(*port) };
    }
    // SAFETY: any port may be stopped, in any state.
    let stop = unsafe { dpdk_sys::rte_eth_dev_stop(id) };
    // SAFETY: the port is stopped, so no queue is used.
    #[cfg(feature = "fault-injection")]
    unsafe {
        dpdk_sys::lg_hold_end(id);
    }
    // SAFETY: any port may be closed; one that isn't stopped returns an error.
    let close = unsafe { dpdk_sys::rte_eth_dev_close(id) };
    if device.driver() != Driver::Pci {
        let name = c_string(device.name());
        // SAFETY: a NUL-terminated name.
        let _ = unsafe { dpdk_sys::rte_vdev_uninit(name.as_ptr()) };
    }
    for member in members {
        // SAFETY: any port may be stopped, in any state.
        let stop = unsafe { dpdk_sys::rte_eth_dev_stop(member) };
        // SAFETY: the port is stopped, so no queue is used.
        let close = unsafe { dpdk_sys::rte_eth_dev_close(member) };
        if stop < 0 || close < 0 {
            tracing::debug!(%device, member, stop, close, "a member didn't close cleanly");
        }
    }
    if stop < 0 || close < 0 {
        tracing::debug!(%device, stop, close, "the device didn't close cleanly");
    }
}

/// Returns the port numbers of a bond's members; none if it is no bond.
pub(super) fn member_ids(device: &Device) -> Vec<u16> {
    let members = device.bond_members();
    members.iter().filter_map(|name| port_id(name)).collect()
}

/// Returns the number of the port with this name; none if there is no such port.
pub(super) fn port_id(name: &str) -> Option<u16> {
    let name = c_string(name);
    let mut id = 0;
    // SAFETY: a NUL-terminated name and a number of ours to write.
    let rc = unsafe { dpdk_sys::lg_port_find(name.as_ptr(), &raw mut id) };
    Errno::check(rc).ok().map(|_| id)
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

/// Logs what the port does, what is done in software, and why.
fn log(shared: &Shared, raw: &lg_port_caps, plan: &Plan, started: &Started) {
    let Sizes {
        rx_descriptors,
        tx_descriptors,
        ..
    } = plan.sizes;
    tracing::info!(
        port = shared.name,
        device = %shared.device,
        driver = %plan::driver_name(raw),
        mac = %shared.mac(),
        mtu = shared.mtu,
        queues = shared.cells.len(),
        port_does = plan.reasons.port_does(),
        stack_does = plan.reasons.stack_does(),
        rss = format!("{}{}", plan.rss, started.spread),
        multicast = started.multicast.to_string(),
        rx_descriptors,
        tx_descriptors,
        rx_drop = started.rx_drop,
        rx_scatter = shared.caps.rx_scatter,
        frees_sent = %shared.caps.sent_release,
        assumed = %shared.caps.assumed,
        "port open"
    );
}

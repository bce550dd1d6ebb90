//! Ports: opened from a device string, with capabilities that are read once.

mod capabilities;
mod dma;
mod error;
mod mtu;
mod multicast;
mod open;
mod plan;
mod pools;
mod quirks;
mod reasons;
mod rss;
mod sent;
mod sizes;
mod watch;

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use lockgate_wire::{Instant, MacAddr};

pub use capabilities::{Assume, Capabilities, Disable};
pub use error::PortError;
pub use mtu::RX_ROOM_MIN;
pub(crate) use sent::HELD_PIECES_MAX;
pub use sent::SentRelease;
pub use sizes::Sizes;

use crate::counters::{DeviceCounters, PortCounters, QueueCells};
use crate::device::{Device, Driver};
use crate::memory::Holding;
#[cfg(feature = "fault-injection")]
use crate::pool::FaultInjection;
use crate::pool::{MbufPool, PoolUsage};
use crate::sys::{Errno, c_string};

/// Configuration of a port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its name in messages.
    pub name: String,
    /// Its device.
    pub device: Device,
    /// MTU: the longest IP packet, in bytes, from 68 to 65 000.
    pub mtu: u16,
    /// Number of queue pairs: one for each worker, at least 1.
    pub queues: u16,
    /// Receive descriptors of a queue; 0: a default. Adjusted to the driver's limits.
    pub rx_descriptors: u16,
    /// Transmit descriptors of a queue; 0: a default. Adjusted to the driver's limits.
    pub tx_descriptors: u16,
    /// Received packet buffers of each queue that the stack may hold.
    pub rx_buffers: u32,
    /// Packet buffers of each queue for sending; 0: the sum in [`Sizes`].
    pub tx_buffers: u32,
    /// Page buffers that the TX ring of each queue may hold, if the driver frees them only when
    /// descriptors are reused. Beyond that, payload is copied.
    pub ring_pages_max: u32,
    /// Offloads to assume, on ports that can neither corrupt nor truncate a packet.
    pub assume: Assume,
    /// Offloads that the port offers and that are done in software all the same.
    pub disable: Disable,
    /// IPv6 addresses of the interfaces on it. It receives their solicited-node groups.
    pub ipv6_addresses: Vec<Ipv6Addr>,
    /// Allocation failures on purpose, in all of the port's mempools.
    #[cfg(feature = "fault-injection")]
    pub inject: Option<FaultInjection>,
    /// Makes the TX rings hold what is sent, as network cards' drivers do.
    #[cfg(feature = "fault-injection")]
    pub hold_sent: Option<SentRelease>,
}

impl PortConfig {
    /// Makes a configuration with defaults: MTU 1500, one queue.
    pub fn new(name: impl Into<String>, device: Device) -> Self {
        Self {
            name: name.into(),
            device,
            mtu: 1500,
            queues: 1,
            rx_descriptors: 0,
            tx_descriptors: 0,
            rx_buffers: 4096,
            tx_buffers: 0,
            ring_pages_max: 1024,
            assume: Assume::default(),
            disable: Disable::default(),
            ipv6_addresses: Vec::new(),
            #[cfg(feature = "fault-injection")]
            inject: None,
            #[cfg(feature = "fault-injection")]
            hold_sent: None,
        }
    }

    /// Returns whether the driver may hold packets after they were sent.
    fn may_be_late(&self) -> bool {
        #[cfg(feature = "fault-injection")]
        if self.hold_sent.is_some() {
            return true;
        }
        SentRelease::may_be_late(self.device.driver())
    }
}

/// An open port: its properties, link state and counters, for any thread. Workers have its queues.
pub struct Port {
    shared: Arc<Shared>,
    queues: Vec<Queue>,
}

impl Port {
    /// Returns the queues, one for each worker; none on later calls.
    pub fn take_queues(&mut self) -> Vec<Queue> {
        std::mem::take(&mut self.queues)
    }

    /// Returns its name in messages.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns its MAC address, as [`Port::poll_link`] has read it last.
    pub fn mac(&self) -> MacAddr {
        self.shared.mac()
    }

    /// Returns its MTU in bytes.
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// Returns what the port does, so that software needn't.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.caps
    }

    /// Returns the sizes of its rings and mempools.
    pub fn sizes(&self) -> Sizes {
        self.shared.sizes
    }

    /// Polls the link state, the MAC address, and resets that the device reports. A change is
    /// logged, and the queues see it. Returns whether the link is up.
    ///
    /// Most drivers report no change by themselves, so call it regularly, on a thread in the port's
    /// network namespace, and on no two threads at a time: drivers read a card's PHY for it.
    pub fn poll_link(&self) -> bool {
        self.shared.poll_mac();
        self.shared.poll_resets();
        self.shared.poll_link()
    }

    /// Returns whether the link was up at the last [`Port::poll_link`].
    pub fn is_link_up(&self) -> bool {
        self.shared.link_up.load(Ordering::Relaxed)
    }

    /// Returns how often [`Port::poll_link`] has seen the MAC address change.
    pub fn mac_changes(&self) -> u64 {
        self.shared.mac_changes.load(Ordering::Acquire)
    }

    /// Returns how often the device has reported that it was reset, as of the last
    /// [`Port::poll_link`]. A virtual function reports a reset of its physical function. It may
    /// send and receive nothing from then on, until the port is opened anew.
    pub fn resets(&self) -> u64 {
        self.shared.resets_seen.load(Ordering::Relaxed)
    }

    /// Returns how often [`Port::poll_link`] has seen the link change, on any thread. The first
    /// time that it is up counts.
    pub fn link_changes(&self) -> u64 {
        self.shared.link_changes.load(Ordering::Acquire)
    }

    /// Returns a snapshot of the counters.
    pub fn counters(&self) -> PortCounters {
        PortCounters {
            queues: self.shared.cells.iter().map(QueueCells::snapshot).collect(),
            device: self.shared.device_counters(),
            extended: self.shared.extended_counters(),
        }
    }

    /// Returns the usage of its mempools.
    pub fn pools(&self) -> Vec<PoolUsage> {
        self.shared.pools().map(MbufPool::usage).collect()
    }

    /// Returns where the memory of its mempools is.
    pub fn memory(&self) -> Vec<Holding> {
        let what = format!("packet buffers of {}", self.shared.name);
        let mut list: Vec<Holding> = Vec::new();
        for pool in self.shared.pools() {
            let one = pool.memory(&what);
            let same = list
                .iter_mut()
                .find(|other| (other.page_bytes, other.node) == (one.page_bytes, one.node));
            match same {
                Some(other) => other.bytes += one.bytes,
                None => list.push(one),
            }
        }
        list
    }

    /// Stops the port and closes the device (`rte_eth_dev_stop`, `rte_eth_dev_close`). Returns the
    /// usage of the mempools afterwards: a missing buffer is still in use elsewhere.
    ///
    /// # Errors
    /// [`PortError::InUse`] if a worker still has a queue.
    pub fn close(&mut self) -> Result<Vec<PoolUsage>, PortError> {
        self.queues.clear();
        let in_use = self.shared.open_queues.load(Ordering::Acquire);
        if in_use > 0 {
            return Err(PortError::InUse {
                port: self.shared.name.clone(),
                queues: in_use,
            });
        }
        self.shared.shut();
        Ok(self.pools())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("name", &self.shared.name)
            .field("device", &self.shared.device)
            .finish_non_exhaustive()
    }
}

/// One queue pair of a port, for one worker ([`crate::WorkerPorts`]).
pub struct Queue {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: u16,
    /// The port whose packet buffers it sends in, if these aren't its own.
    #[cfg(feature = "fault-injection")]
    pub(crate) receiver: Option<Arc<Shared>>,
}

impl Queue {
    fn new(shared: &Arc<Shared>, number: u16) -> Self {
        shared.open_queues.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: Arc::clone(shared),
            number,
            #[cfg(feature = "fault-injection")]
            receiver: None,
        }
    }

    /// Makes the queue send each frame as a copy in a packet buffer of `receiver`, the other end of
    /// a [`RingPair`](crate::RingPair): what a network card does that writes a frame to memory of
    /// its host. Frames have at most `receiver`'s MTU.
    #[cfg(feature = "fault-injection")]
    pub fn copy_to(&mut self, receiver: &Port) {
        self.receiver = Some(Arc::clone(&receiver.shared));
    }

    /// Returns the port's name.
    pub fn port(&self) -> &str {
        &self.shared.name
    }

    /// Returns its number among the port's queues.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.open_queues.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} of {})", self.number, self.shared.name)
    }
}

/// State that a port shares with its queues.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) id: u16,
    /// Port numbers of a bond's members.
    members: Vec<u16>,
    /// The MAC address in the low bytes.
    mac: AtomicU64,
    mac_changes: AtomicU64,
    resets_seen: AtomicU64,
    pub(crate) mtu: u16,
    pub(crate) caps: Capabilities,
    pub(crate) sizes: Sizes,
    pub(crate) ring_pages_max: u32,
    pub(crate) link_up: AtomicBool,
    link_changes: AtomicU64,
    partial_checksums_warned: AtomicBool,
    refused_warned: AtomicBool,
    /// Milliseconds of the last warning of stuck packets; 0: none yet.
    stuck_warned: AtomicU64,
    pub(crate) cells: Vec<QueueCells>,
    pub(crate) rx_pools: Vec<MbufPool>,
    pub(crate) tx_pools: Vec<MbufPool>,
    device: Device,
    open_queues: AtomicU16,
    closed: AtomicBool,
}

impl Shared {
    fn pools(&self) -> impl Iterator<Item = &MbufPool> {
        self.rx_pools.iter().chain(&self.tx_pools)
    }

    fn poll_link(&self) -> bool {
        let up = self.link_state().unwrap_or(false);
        if self.link_up.swap(up, Ordering::Relaxed) != up {
            // Release: whoever learns of the change sees the new state.
            self.link_changes.fetch_add(1, Ordering::Release);
            tracing::info!(port = self.name, up, "link");
        }
        up
    }

    /// Warns, once per port, that segments arrive whose checksums the sender left to its network
    /// card. Only on ports that sit on a kernel interface: elsewhere a card completes them.
    pub(crate) fn warn_of_partial_checksums(&self) {
        let Some(interface) = self.device.kernel_interface() else {
            return;
        };
        if self.partial_checksums_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            port = self.name,
            interface,
            "TCP segments with partial checksums are dropped: the other end of {interface} leaves \
             checksums to its network card; switch that off there: \
             ethtool -K PEER_INTERFACE tx off"
        );
    }

    /// Warns, once per port, that its driver refuses packets.
    pub(crate) fn warn_of_refused_packets(&self) {
        if self.refused_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            port = self.name,
            device = %self.device,
            "the driver refuses packets to send (rte_eth_tx_prepare); \
             set disable = [\"tso\", \"txcsum\"] in this [[port]]"
        );
    }

    /// Warns, once a second at most, that a queue's driver has taken nothing and a packet was
    /// dropped for that.
    pub(crate) fn warn_of_stuck_packets(&self, now: Instant) {
        let (last, now) = (&self.stuck_warned, now.as_millis().max(1));
        let before = last.load(Ordering::Relaxed);
        if before != 0 && now.saturating_sub(before) < STUCK_WARN_PERIOD_MS
            || last
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let dropped: u64 = self.cells.iter().map(|q| q.tx_dropped_stuck.read()).sum();
        tracing::warn!(
            port = self.name,
            device = %self.device,
            dropped,
            "the driver has taken no packet to send for 400 ms (rte_eth_tx_burst), and the oldest \
             one was dropped; if that goes on while the link is up, set \
             disable = [\"tso\", \"txcsum\"] in this [[port]]"
        );
    }

    fn link_state(&self) -> Result<bool, Errno> {
        // net_af_packet and net_af_xdp report "up" even when their interface is down.
        if let Some(interface) = self.device.kernel_interface() {
            let interface = c_string(interface);
            // SAFETY: a NUL-terminated name.
            let rc = unsafe { dpdk_sys::lg_kernel_running(interface.as_ptr()) };
            return Errno::check(rc).map(|up| up != 0);
        }
        // SAFETY: any port number is allowed.
        let rc = unsafe { dpdk_sys::lg_port_link_up(self.id) };
        Errno::check(rc).map(|up| up != 0)
    }

    fn device_counters(&self) -> DeviceCounters {
        let mut s = dpdk_sys::lg_port_stats {
            ipackets: 0,
            opackets: 0,
            ibytes: 0,
            obytes: 0,
            imissed: 0,
            ierrors: 0,
            oerrors: 0,
            rx_nombuf: 0,
        };
        if !self.closed.load(Ordering::Acquire) {
            // SAFETY: an open port; `s` may be written. A driver without counters doesn't.
            let _ = unsafe { dpdk_sys::lg_port_stats(self.id, &raw mut s) };
        }
        DeviceCounters {
            rx_packets: s.ipackets,
            rx_bytes: s.ibytes,
            tx_packets: s.opackets,
            tx_bytes: s.obytes,
            rx_missed: s.imissed,
            rx_errors: s.ierrors,
            tx_errors: s.oerrors,
            rx_no_mbuf: s.rx_nombuf,
        }
    }

    fn extended_counters(&self) -> Vec<(String, u64)> {
        let mut list: Vec<(String, u64)> = Vec::new();
        let context = (&raw mut list).cast();
        if !self.closed.load(Ordering::Acquire) {
            // SAFETY: the function is called back with `context` before it returns, on this
            // thread.
            let _ = unsafe { dpdk_sys::lg_port_xstats(self.id, Some(open::on_xstat), context) };
        }
        list
    }

    /// Stops and closes the device, on the first call only.
    fn shut(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.link_up.store(false, Ordering::Relaxed);
        if self.device.driver() == Driver::Ring {
            // The packets that its peer sent are in the peer's memory.
            let queues = u16::try_from(self.cells.len()).unwrap_or(u16::MAX);
            // SAFETY: a started port, whose queues aren't used any more.
            unsafe { dpdk_sys::lg_port_drain(self.id, queues) };
        }
        open::close_device(&self.device, self.id);
    }
}

impl Drop for Shared {
    /// Closes the device before its mempools are dropped.
    fn drop(&mut self) {
        self.shut();
    }
}

/// Milliseconds between two warnings of stuck packets.
const STUCK_WARN_PERIOD_MS: u64 = 1000;

//! Ports: opened from a device string, asked once what they can do.

mod capabilities;
mod error;
mod mtu;
mod open;
mod sizes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use lockgate_wire::MacAddr;

pub use capabilities::{Assume, Capabilities};
pub use error::PortError;
pub use sizes::Sizes;

use crate::counters::{DeviceCounters, PortCounters, QueueCells};
use crate::device::{Device, Driver};
#[cfg(feature = "fault-injection")]
use crate::pool::Inject;
use crate::pool::{MbufPool, PoolUsage};
use crate::sys::{Errno, c_string};

/// How to open a port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// What messages call it.
    pub name: String,
    /// Which device.
    pub device: Device,
    /// The longest IP packet, in bytes.
    pub mtu: u16,
    /// Queue pairs: one for each worker.
    pub queues: u16,
    /// Receive descriptors of a queue; 0: a default. Adjusted to what the driver can do.
    pub rx_descriptors: u16,
    /// Transmit descriptors of a queue; 0: a default. Adjusted to what the driver can do.
    pub tx_descriptors: u16,
    /// Received packet buffers that the stack may hold, of each queue.
    pub rx_buffers: u32,
    /// Packet buffers for sending, of each queue; 0: as many as the sum in [`Sizes`] says.
    pub tx_buffers: u32,
    /// What to take for granted, on ports where nothing can corrupt or cut a packet.
    pub assume: Assume,
    /// Allocation failures on purpose.
    #[cfg(feature = "fault-injection")]
    pub inject: Option<Inject>,
}

impl PortConfig {
    /// A configuration with defaults: MTU 1500, one queue.
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
            assume: Assume::default(),
            #[cfg(feature = "fault-injection")]
            inject: None,
        }
    }
}

/// An open port. Workers have its queues; this is what the rest of the process sees of it, from
/// any thread.
pub struct Port {
    shared: Arc<Shared>,
    queues: Vec<Queue>,
}

impl Port {
    /// The queues, one for each worker. They're given out once.
    pub fn take_queues(&mut self) -> Vec<Queue> {
        std::mem::take(&mut self.queues)
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its link-layer address.
    pub fn mac(&self) -> MacAddr {
        self.shared.mac
    }

    /// The longest IP packet.
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// What the port does, and so what the stack needn't do.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.caps
    }

    /// The sizes of rings and pools.
    pub fn sizes(&self) -> Sizes {
        self.shared.sizes
    }

    /// Asks for the link's state and tells the workers' queues. Drivers don't report changes by
    /// themselves, so call it now and then (on a thread of the namespace that the port is in).
    pub fn poll_link(&self) -> bool {
        self.shared.poll_link()
    }

    /// The counters now.
    pub fn counters(&self) -> PortCounters {
        PortCounters {
            queues: self.shared.cells.iter().map(QueueCells::snapshot).collect(),
            device: self.shared.device_counters(),
            extended: self.shared.extended_counters(),
        }
    }

    /// How full its pools are.
    pub fn pools(&self) -> Vec<PoolUsage> {
        self.shared.pools().map(MbufPool::usage).collect()
    }

    /// Stops the port. With no queue left it gives up the device, and returns how full the pools
    /// are then: a buffer that is missing is still held by somebody.
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
}

impl Queue {
    fn new(shared: &Arc<Shared>, number: u16) -> Self {
        shared.open_queues.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: Arc::clone(shared),
            number,
        }
    }

    /// The port's name.
    pub fn port(&self) -> &str {
        &self.shared.name
    }

    /// Which of the port's queues.
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

/// A port as its owner and its queues share it.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) id: u16,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u16,
    pub(crate) caps: Capabilities,
    pub(crate) sizes: Sizes,
    pub(crate) link_up: AtomicBool,
    partial_checksums_warned: AtomicBool,
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

    fn link_state(&self) -> Result<bool, Errno> {
        // These drivers say "up" even when their interface is down.
        if let Some(interface) = self.device.kernel_interface() {
            let interface = c_string(interface);
            // SAFETY: a NUL-terminated name.
            let rc = unsafe { dpdk_sys::lg_kernel_running(interface.as_ptr()) };
            return Errno::check(rc).map(|up| up != 0);
        }
        // SAFETY: any port number may be asked about.
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
            // SAFETY: an open port; `s` is ours to write. A driver that counts nothing leaves it
            // as it is.
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

    /// Stops and closes the device, once.
    fn shut(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.link_up.store(false, Ordering::Relaxed);
        if self.device.driver() == Driver::Ring {
            // What its peer has sent is the peer's memory.
            let queues = u16::try_from(self.cells.len()).unwrap_or(u16::MAX);
            // SAFETY: a started port, whose queues nobody uses any more.
            unsafe { dpdk_sys::lg_port_drain(self.id, queues) };
        }
        open::close_device(&self.device, self.id);
    }
}

impl Drop for Shared {
    /// The device goes before the pools that it has.
    fn drop(&mut self) {
        self.shut();
    }
}

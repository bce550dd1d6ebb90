//! Safe DPDK for Lockgate: the EAL, memory, ports, and a worker's view of all ports.
//!
//! # What it owns
//!
//! - [`Eal`]: DPDK's environment abstraction layer, started once in a process ([`Eal::init`]), and
//!   memory for page buffers and the page cache ([`Eal::regions`]).
//! - [`Port`]: an Ethernet device of DPDK, opened from a [`Device`] string. It reads what the
//!   device can do, decides once what the port does and what is done in software
//!   ([`Capabilities`]), and logs that in one line.
//! - [`Queue`]: one queue pair of a port, for one worker.
//! - [`WorkerPorts`]: a worker's queues of all ports. It receives [`pktbuf::Buffer`]s and is the
//!   [`pktbuf::Output`] that the stack sends to.
//! - [`ThreadCapabilities`]: drops capabilities of threads that DPDK has spawned.
//! - [`PortCounters`]: packets, bytes, and drops by reason.
//!
//! A *driver* here is a poll-mode driver (PMD) of DPDK, and nothing else: see [`Driver`].
//!
//! # Invariants
//!
//! - Calls to the C shim take a whole burst, never one packet.
//! - Frames that a port didn't accept are retried with the next flush. Every dropped one is counted
//!   with its reason ([`QueueCounters`]).
//! - A port without scattered transmit never gets a chain of mbufs: its frames are copied into one.
//! - A port is closed before its mempools are freed, and a mempool that still misses buffers is
//!   never freed.
//! - All `unsafe` code of the workspace is in this crate, in `pktbuf` and in `dpdk-sys`.
//!
//! # Example
//!
//! ```
//! use lockgate_drivers::{Device, Driver, PortConfig};
//!
//! let device: Device = "net_af_packet0,iface=eth0".parse()?;
//! assert_eq!(device.driver(), Driver::AfPacket);
//! assert_eq!(device.kernel_interface(), Some("eth0"));
//! let config = PortConfig { queues: 2, ..PortConfig::new("wan", device) };
//! assert_eq!((config.mtu, config.queues), (1500, 2));
//! // With a running EAL: Port::open(Eal::init(&EalConfig::default())?, &config)?
//! # Ok::<(), lockgate_drivers::DeviceError>(())
//! ```

mod counters;
mod credentials;
mod device;
mod eal;
mod hugepages;
mod interface;
mod memory;
mod numa;
mod pool;
mod port;
mod ring;
mod sys;
mod worker;

pub use counters::{DeviceCounters, PortCounters, QueueCounters};
pub use credentials::ThreadCapabilities;
pub use device::{Device, DeviceError, DeviceLimits, Driver, NotPci, PciAddress};
pub use eal::{
    Eal, EalConfig, EalError, Hugepages, Iova, IovaError, IovaMode, PageForecast, Worker,
};
pub use hugepages::{
    Chunk, Demand, FreePages, Grant, HeapLimits, PageBudget, Shortage, free_pages, show_free,
};
pub use interface::{Offload, kernel_is_veth, kernel_offload};
pub use memory::{Holding, MemoryError};
pub use numa::{node_of_card, node_of_core};
#[cfg(feature = "fault-injection")]
pub use pool::FaultInjection;
pub use pool::PoolUsage;
pub use port::{
    Assume, Capabilities, Disable, Port, PortConfig, PortError, Queue, RX_ROOM_MIN, SentRelease,
    Sizes,
};
pub use ring::RingPair;
pub use sys::Errno;
pub use worker::{RX_BURST, WorkerPorts};

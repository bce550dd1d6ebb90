//! Safe DPDK for Lockgate: the environment, memory, ports, and a worker's view of all ports.
//!
//! [`Eal::init`] starts the one environment abstraction layer a process can have.
//! [`Port::open`] takes any device string, reads what the port can do and decides, once, what
//! the port does and what is done in software instead; the decision is logged in one line.
//! Each worker gets one [`Queue`] of every port and wraps them into [`WorkerPorts`], which
//! receives [`pktbuf::Buffer`]s and is the [`pktbuf::Output`] that the stack sends to.
//!
//! Packets cross the border to C a burst at a time. What a port didn't take stays here and is
//! offered again; whatever is dropped is counted with its reason ([`QueueCounters`]).

mod counters;
mod device;
mod eal;
mod memory;
mod pool;
mod port;
mod ring;
mod sys;
mod worker;

pub use counters::{DeviceCounters, PortCounters, QueueCounters};
pub use device::{Device, DeviceError, DeviceLimits, Driver};
pub use eal::{Eal, EalConfig, EalError, Hugepages, Worker};
pub use memory::MemoryError;
#[cfg(feature = "fault-injection")]
pub use pool::Inject;
pub use pool::PoolUsage;
pub use port::{Assume, Capabilities, Port, PortConfig, PortError, Queue, Sizes};
pub use ring::RingPair;
pub use sys::Errno;
pub use worker::WorkerPorts;

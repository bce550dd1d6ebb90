//! Why a port can't be opened.

use thiserror::Error;

use crate::device::DeviceError;
use crate::sys::Errno;

/// Why a port can't be opened or closed, in terms of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PortError {
    /// The device string names no device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// `rte_vdev_init` failed: no such driver, or it refuses the arguments.
    #[error("device {device} can't be created: {errno} (the driver's messages are in the log)")]
    Create {
        /// The device.
        device: String,
        /// The driver's error.
        errno: Errno,
    },
    /// The EAL found no port at this PCI address.
    #[error(
        "device {device}: there is no port at this PCI address; is it listed in the EAL's \
         devices, bound to vfio-pci (or a bifurcated driver), and is there an IOMMU?"
    )]
    NoPciPort {
        /// The address.
        device: String,
    },
    /// A required argument of the driver is missing.
    #[error("port {port}: device {device} needs the argument \"{argument}=…\"")]
    Argument {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// The missing argument.
        argument: &'static str,
    },
    /// The kernel interface doesn't exist in this network namespace.
    #[error("port {port}: there is no kernel interface \"{interface}\" here: {errno}")]
    Interface {
        /// The port.
        port: String,
        /// The interface.
        interface: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// There are more workers than queues.
    #[error(
        "port {port}: {wanted} workers need {wanted} queues, but {device} has {limit} at most; \
         use fewer cores"
    )]
    Queues {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// Queues wanted.
        wanted: u16,
        /// Queues that it has.
        limit: u16,
    },
    /// The MTU is out of range.
    #[error("port {port}: mtu = {mtu} is {}: {why} {limit}", direction(*mtu, *limit))]
    Mtu {
        /// The port.
        port: String,
        /// The MTU wanted.
        mtu: u16,
        /// The limit that it breaks.
        limit: u16,
        /// Whose limit it is.
        why: &'static str,
    },
    /// Offloads can only be assumed on `net_ring` and `net_memif`.
    #[error(
        "port {port}: assume = [\"{what}\"] is for net_ring and net_memif only, where nothing \
         can corrupt a packet; this is {device}"
    )]
    Assume {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// What was assumed.
        what: &'static str,
    },
    /// The number of queues is 0.
    #[error("port {port}: a port needs at least one queue")]
    NoQueues {
        /// The port.
        port: String,
    },
    /// There is too little memory for the mempools.
    #[error(
        "port {port}: no memory for {buffers} {what} packet buffers a queue ({mib} MiB): \
         {errno}; raise [eal] memory, or lower {key}"
    )]
    Memory {
        /// The port.
        port: String,
        /// Receive or transmit.
        what: &'static str,
        /// How many.
        buffers: u32,
        /// How much that is.
        mib: u64,
        /// The key that makes it less.
        key: &'static str,
        /// The allocator's error.
        errno: Errno,
    },
    /// The driver refuses a step of the set-up.
    #[error("port {port}: {device} refuses {step}: {errno} (its messages are in the log)")]
    Setup {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// Which step.
        step: &'static str,
        /// The driver's error.
        errno: Errno,
    },
    /// A receive ring is larger than its pool was made for.
    #[error(
        "port {port}: {device} has {descriptors} receive descriptors a queue where {wanted} were \
         asked for, and {buffers} packet buffers are too few for them; set rx_descriptors = \
         {descriptors}"
    )]
    Ring {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// Descriptors that the queue has.
        descriptors: u32,
        /// Descriptors that were asked for.
        wanted: u16,
        /// Packet buffers of the queue.
        buffers: u32,
    },
    /// Workers still have queues.
    #[error("port {port}: {queues} of its queues are still in use")]
    InUse {
        /// The port.
        port: String,
        /// How many.
        queues: u16,
    },
}

fn direction(mtu: u16, limit: u16) -> &'static str {
    if mtu > limit { "too big" } else { "too small" }
}

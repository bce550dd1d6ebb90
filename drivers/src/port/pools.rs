//! The mempools of a port's queues.

use std::sync::atomic::{AtomicU16, Ordering};

use super::{PortConfig, PortError, Sizes};
use crate::pool::{MbufPool, PoolSpec};

/// The mempools of a port, one for each queue and direction.
#[derive(Default)]
pub(super) struct Pools {
    pub(super) rx: Vec<MbufPool>,
    pub(super) tx: Vec<MbufPool>,
}

impl Pools {
    /// Makes them.
    ///
    /// # Errors
    /// [`PortError::Memory`].
    pub(super) fn new(
        config: &PortConfig,
        sizes: &Sizes,
        numa_node: i32,
    ) -> Result<Self, PortError> {
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
        Ok(Self { rx, tx })
    }
}

static POOLS: AtomicU16 = AtomicU16::new(0);

//! Mempools of packet buffers (mbufs).

use std::ffi::CStr;
use std::ptr::NonNull;

use dpdk_sys::rte_mempool;

use crate::memory::Holding;
use crate::sys::{Errno, c_string};

/// Allocation failures on purpose, for tests, drawn from a seed.
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultInjection {
    /// Seed of the generator.
    pub seed: u64,
    /// About one allocation in so many fails; 0: none.
    pub one_in: u32,
}

/// Usage of a mempool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Name of the mempool.
    pub name: String,
    /// Number of its packet buffers.
    pub size: u32,
    /// Free packet buffers, those in the caches of threads included.
    pub available: u32,
    /// Most packet buffers that the driver doesn't give back when it is closed.
    pub kept_max: u32,
    /// Allocations that were refused on purpose.
    #[cfg(feature = "fault-injection")]
    pub injected: u64,
}

impl PoolUsage {
    /// Returns whether every buffer is free.
    pub fn is_full(&self) -> bool {
        self.available == self.size
    }

    /// Returns how many buffers are missing once the port is closed. Buffers that its driver keeps
    /// aren't counted.
    pub fn missing(&self) -> u32 {
        let out = self.size.saturating_sub(self.available);
        out.saturating_sub(self.kept_max)
    }
}

/// A mempool. Dropping it frees its memory if all buffers are free; otherwise it is kept, because a
/// buffer is still in use.
#[derive(Debug)]
pub(crate) struct MbufPool {
    raw: NonNull<rte_mempool>,
    name: String,
    size: u32,
    kept_max: u32,
}

// SAFETY: DPDK's mempools may be used by any thread.
unsafe impl Send for MbufPool {}
// SAFETY: as above; allocation and free are synchronised by DPDK.
unsafe impl Sync for MbufPool {}

/// Sizes of a mempool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSpec {
    pub(crate) mbufs: u32,
    /// Most buffers that the driver doesn't give back when it is closed.
    pub(crate) kept_max: u32,
    pub(crate) data_room: u16,
    pub(crate) numa_node: i32,
    #[cfg(feature = "fault-injection")]
    pub(crate) inject: Option<FaultInjection>,
}

impl PoolSpec {
    /// Returns the bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: arithmetic.
        let each = unsafe { dpdk_sys::lg_mbuf_footprint(self.data_room) };
        u64::from(self.mbufs) * u64::from(each)
    }

    /// Returns the size of a thread's cache: 0 for small pools, because no other thread can use
    /// what is in a cache.
    fn cache(&self) -> u32 {
        if self.mbufs < CACHE_MAX * 8 {
            0
        } else {
            CACHE_MAX
        }
    }
}

impl MbufPool {
    pub(crate) fn new(name: String, spec: &PoolSpec) -> Result<Self, Errno> {
        let c_name = c_string(&name);
        let mut raw = create(&c_name, spec);
        if raw.is_null() && spec.numa_node >= 0 {
            tracing::warn!(
                pool = name,
                node = spec.numa_node,
                "packet buffers: no memory on the port's NUMA node; another one is tried"
            );
            let numa_node = NUMA_ANY;
            raw = create(&c_name, &PoolSpec { numa_node, ..*spec });
        }
        let raw = NonNull::new(raw).ok_or_else(Errno::last)?;
        Ok(Self {
            raw,
            name,
            size: spec.mbufs,
            kept_max: spec.kept_max,
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.raw.as_ptr()
    }

    /// Returns where its memory is, as a part of `what`.
    pub(crate) fn memory(&self, what: &str) -> Holding {
        let mut zone = dpdk_sys::lg_zone {
            addr: std::ptr::null_mut(),
            page_bytes: 0,
            node: NUMA_ANY,
        };
        // SAFETY: a live pool, and a structure of ours to write.
        let bytes = unsafe { dpdk_sys::lg_pool_memory(self.as_ptr(), &raw mut zone) };
        Holding {
            what: what.to_owned(),
            bytes,
            page_bytes: zone.page_bytes,
            node: u16::try_from(zone.node).ok(),
        }
    }

    pub(crate) fn usage(&self) -> PoolUsage {
        // SAFETY: a live pool; the count is a sum of atomics.
        let available = unsafe { dpdk_sys::lg_pool_available(self.as_ptr()) };
        // SAFETY: a live pool of ours.
        #[cfg(feature = "fault-injection")]
        let injected = unsafe { dpdk_sys::lg_pool_injected(self.as_ptr()) };
        PoolUsage {
            name: self.name.clone(),
            size: self.size,
            available,
            kept_max: self.kept_max,
            #[cfg(feature = "fault-injection")]
            injected,
        }
    }
}

impl Drop for MbufPool {
    fn drop(&mut self) {
        let usage = self.usage();
        if usage.is_full() {
            // SAFETY: all buffers are free, so there is no pointer into it.
            unsafe { dpdk_sys::lg_pool_free(self.as_ptr()) }
        } else {
            tracing::debug!(
                ?usage,
                "a packet buffer pool is kept: not all buffers are back"
            );
        }
    }
}

/// Creates the mempool. Returns null on failure, with `rte_errno` set.
fn create(name: &CStr, spec: &PoolSpec) -> *mut rte_mempool {
    #[cfg(feature = "fault-injection")]
    if let Some(inject) = spec.inject.filter(|inject| inject.one_in > 0) {
        // SAFETY: a NUL-terminated name, and numbers that the function checks.
        return unsafe {
            dpdk_sys::lg_pool_create_injecting(
                name.as_ptr(),
                spec.mbufs,
                spec.data_room,
                spec.numa_node,
                inject.seed,
                inject.one_in,
            )
        };
    }
    // SAFETY: a NUL-terminated name, and numbers that the function checks.
    unsafe {
        dpdk_sys::lg_pool_create(
            name.as_ptr(),
            spec.mbufs,
            spec.cache(),
            spec.data_room,
            spec.numa_node,
        )
    }
}

/// SOCKET_ID_ANY
const NUMA_ANY: i32 = -1;

/// Buffers in a thread's cache; it holds up to half as many more before it is flushed.
pub(crate) const CACHE_MAX: u32 = 256;

//! Memory for page buffers and the page cache that devices may read.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use pktbuf::Region;
use thiserror::Error;

use crate::eal::Eal;
use crate::sys::{Errno, c_string};

/// Why a region can't be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// There is too little memory.
    #[error(
        "no memory for {what}: {mib} MiB wanted, {errno}; raise [eal] memory (or the number of \
         huge pages), or ask for less"
    )]
    Exhausted {
        /// Purpose of the memory.
        what: &'static str,
        /// MiB wanted, rounded up.
        mib: u64,
        /// The system's error.
        errno: Errno,
    },
    /// There is too little memory on huge pages, which are required.
    #[error(
        "[eal] hugepages = \"require\": no {mib} MiB of huge pages in one piece for {what}; free \
         more of them, or ask for less"
    )]
    Hugepages {
        /// Purpose of the memory.
        what: &'static str,
        /// MiB wanted, rounded up.
        mib: u64,
    },
}

impl Eal {
    /// Allocates `bytes`, rounded up to pages, for [`pktbuf::PagePool`]s and
    /// [`pktbuf::PageArena`]s. It is never freed. Make regions before ports: a port with DMA maps
    /// them when it is opened.
    ///
    /// - With huge pages it is a memzone (`rte_memzone_reserve`).
    /// - Without them, or if no memzone is long enough and huge pages aren't required, it is
    ///   anonymous memory, registered by `rte_extmem_register`.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn region(self, what: &'static str, bytes: usize) -> Result<Region, MemoryError> {
        let bytes = bytes.next_multiple_of(PAGE);
        let mib = bytes.div_ceil(1 << 20) as u64;
        let zone = if self.uses_hugepages() {
            memzone(bytes)
        } else {
            None
        };
        let base = match (zone, self.requires_hugepages()) {
            (Some(base), _) => base,
            (None, true) => return Err(MemoryError::Hugepages { what, mib }),
            (None, false) => {
                anonymous(bytes).map_err(|errno| MemoryError::Exhausted { what, mib, errno })?
            }
        };
        // SAFETY: both kinds are zeroed, not otherwise used, and never freed.
        Ok(unsafe { Region::from_raw(base, bytes) })
    }
}

/// Returns the anonymous memory that ports with DMA have to map: address and length in bytes.
pub(crate) fn external() -> Vec<(usize, usize)> {
    EXTERNAL
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clone()
}

fn memzone(bytes: usize) -> Option<NonNull<u8>> {
    let number = ZONES.fetch_add(1, Ordering::Relaxed);
    let name = c_string(&format!("lockgate_region_{number}"));
    // SAFETY: a NUL-terminated name; any length is allowed.
    let zone = unsafe { dpdk_sys::lg_memzone_reserve(name.as_ptr(), bytes, NUMA_ANY) };
    let base = NonNull::new(zone.cast::<u8>())?;
    // SAFETY: the memzone is `bytes` long. (It needs zeroing: the EAL may reuse memory.)
    unsafe { base.write_bytes(0, bytes) };
    Some(base)
}

fn anonymous(bytes: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: any length is allowed.
    let base = unsafe { dpdk_sys::lg_anonymous_memory(bytes) };
    let base = NonNull::new(base.cast::<u8>()).ok_or(Errno(ENOMEM))?;
    // SAFETY: page-aligned memory of this length, which stays.
    let rc = unsafe { dpdk_sys::lg_extmem_register(base.as_ptr().cast::<c_void>(), bytes) };
    if let Err(errno) = Errno::check(rc) {
        // Only ports with DMA need it, and mapping it fails for them later.
        tracing::debug!(%errno, "external memory isn't known to the EAL");
    }
    EXTERNAL
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .push((base.as_ptr().addr(), bytes));
    Ok(base)
}

static ZONES: AtomicU32 = AtomicU32::new(0);
static EXTERNAL: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

const PAGE: usize = 4096;
const NUMA_ANY: i32 = -1;
const ENOMEM: i32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_huge_pages_are_not_replaced_by_ordinary_ones() {
        let error = Eal::without_memory_but_required()
            .region("x", 1)
            .unwrap_err();
        assert_eq!(error, MemoryError::Hugepages { what: "x", mib: 1 });
        let message = error.to_string();
        assert!(
            message.contains("[eal] hugepages = \"require\""),
            "{message}"
        );
    }

    #[test]
    fn a_lack_of_memory_names_the_key_that_there_is() {
        let (what, mib, errno) = ("x", 1, Errno(ENOMEM));
        let message = MemoryError::Exhausted { what, mib, errno }.to_string();
        assert!(message.contains("raise [eal] memory (or"), "{message}");
    }
}

//! Memory for page buffers and the page cache that devices may read.

use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use pktbuf::Region;
use thiserror::Error;

use crate::eal::Eal;
use crate::hugepages::{self, Chunk, Demand, Grant, page_size};
use crate::sys::{Errno, c_string};

/// Why memory can't be allocated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// There is too little memory.
    #[error("no memory for {what}: {mib} MiB wanted, {errno}; ask for less, or add memory")]
    Exhausted {
        /// Purpose of the memory.
        what: String,
        /// MiB wanted, rounded up.
        mib: u64,
        /// The system's error.
        errno: Errno,
    },
    /// There is too little memory on huge pages, which are required.
    #[error(
        "{why} needs huge pages, and {mib} MiB of them are missing for {what}: another process \
         took them; free more of them, or ask for less"
    )]
    Hugepages {
        /// Purpose of the memory.
        what: String,
        /// MiB missing, rounded up.
        mib: u64,
        /// The setting that needs them.
        why: &'static str,
    },
    /// Memory can't be locked.
    #[error(
        "memory can't be locked, so the kernel may swap it out: {errno}, RLIMIT_MEMLOCK is \
         {limit}; raise it (`ulimit -l unlimited`, or LimitMEMLOCK=infinity in a systemd unit), \
         or start with CAP_IPC_LOCK"
    )]
    Lock {
        /// The system's error.
        errno: Errno,
        /// The limit, as ulimit(1) shows it.
        limit: String,
    },
}

/// Memory in use: where it is, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Purpose.
    pub what: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// NUMA node; none for ordinary pages, which the kernel places.
    pub node: Option<u16>,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes.div_ceil(1 << 20);
        let page = page_size(self.page_bytes);
        write!(f, "{mib} MiB of {page} pages")?;
        if let Some(node) = self.node {
            write!(f, " on node {node}")?;
        }
        write!(f, " for {}", self.what)
    }
}

impl Eal {
    /// Allocates memory for [`pktbuf::PagePool`]s and [`pktbuf::PageArena`]s. It is never freed.
    /// Make regions before ports: a port with DMA maps them when it is opened.
    ///
    /// It is in several regions if it can't be in one: on several NUMA nodes, in pages of several
    /// sizes, or because one would be too long for the EAL. Each has some room beyond its part of
    /// the demand, so that items that don't fit at its end don't count.
    ///
    /// - On huge pages a region is a memzone (`rte_memzone_reserve`), on the nodes that are wanted
    ///   as far as possible.
    /// - What doesn't fit there is on ordinary pages, unless huge pages are needed. For cards it is
    ///   registered by `rte_extmem_register`.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn regions(self, demand: &Demand) -> Result<Vec<Region>, MemoryError> {
        let demand = &Demand {
            bytes: demand.bytes.next_multiple_of(PAGE),
            ..demand.clone()
        };
        let grant = if self.uses_hugepages() {
            hugepages::take(demand)
        } else {
            Grant::default()
        };
        let mut regions = Vec::with_capacity(grant.chunks.len());
        let mut left = demand.bytes;
        for chunk in &grant.chunks {
            left -= zones(&demand.what, *chunk, &mut regions);
        }
        if !grant.strayed.is_empty() {
            tracing::warn!(
                what = demand.what,
                mib = grant.strayed_bytes().div_ceil(MIB),
                nodes = ?demand.nodes,
                "memory: on another NUMA node than wanted, where huge pages are free"
            );
        }
        if left == 0 {
            return Ok(regions);
        }
        let (what, mib) = (demand.what.clone(), left.div_ceil(MIB));
        if let Some(why) = self.needs_hugepages() {
            return Err(MemoryError::Hugepages { what, mib, why });
        }
        let bytes = usize::try_from(left + SLACK).unwrap_or(usize::MAX);
        let base = anonymous(bytes, self.has_cards()).map_err(|errno| MemoryError::Exhausted {
            what: what.clone(),
            mib,
            errno,
        })?;
        hold(what, bytes, PAGE, None);
        // SAFETY: mapped and zeroed, not otherwise used, and never unmapped.
        regions.push(unsafe { Region::from_raw(base, bytes) });
        Ok(regions)
    }

    /// Returns where the memory of all regions is.
    pub fn holdings(self) -> Vec<Holding> {
        lock(&HELD).clone()
    }

    /// Locks the memory of this process (`mlockall`): everything that is mapped now stays in memory
    /// once it was used.
    ///
    /// # Errors
    /// [`MemoryError::Lock`]
    pub fn lock_memory(self) -> Result<(), MemoryError> {
        let mut limit = 0;
        // SAFETY: a number of ours to write.
        let rc = unsafe { dpdk_sys::lg_lock_memory(&raw mut limit) };
        let limit = match limit {
            u64::MAX => "unlimited".to_owned(),
            bytes => format!("{} KiB", bytes >> 10),
        };
        Errno::check(rc)
            .map(|_| ())
            .map_err(|errno| MemoryError::Lock { errno, limit })
    }
}

/// Returns the anonymous memory that ports with DMA have to map: address and length in bytes.
pub(crate) fn external() -> Vec<(usize, usize)> {
    lock(&EXTERNAL).clone()
}

/// Allocates memzones for a chunk: one, or several shorter ones where one isn't possible. Returns
/// the bytes of the chunk that are had.
fn zones(what: &str, chunk: Chunk, regions: &mut Vec<Region>) -> u64 {
    let mut left = chunk.bytes;
    let mut piece = left;
    while left > 0 {
        piece = piece.min(left);
        if let Some((region, zone)) = memzone(piece + SLACK, chunk) {
            let node = u16::try_from(zone.node).ok();
            hold(what.to_owned(), region.left(), zone.page_bytes, node);
            regions.push(region);
            left -= piece;
        } else if piece > PIECE_MIN {
            piece = (piece / 2).next_multiple_of(PAGE);
        } else {
            tracing::warn!(
                what,
                mib = left.div_ceil(MIB),
                node = chunk.node,
                page = page_size(chunk.page_bytes),
                "memory: the EAL has not all of the huge pages that were free when it started"
            );
            break;
        }
    }
    chunk.bytes - left
}

fn memzone(bytes: u64, chunk: Chunk) -> Option<(Region, dpdk_sys::lg_zone)> {
    let bytes = usize::try_from(bytes).ok()?;
    let number = ZONES.fetch_add(1, Ordering::Relaxed);
    let name = c_string(&format!("lockgate_region_{number}"));
    let mut zone = MaybeUninit::<dpdk_sys::lg_zone>::zeroed();
    // SAFETY: a NUL-terminated name, and a structure of ours to write; any length is allowed.
    let rc = unsafe {
        dpdk_sys::lg_memzone_reserve(
            name.as_ptr(),
            bytes,
            i32::from(chunk.node),
            chunk.page_bytes,
            zone.as_mut_ptr(),
        )
    };
    Errno::check(rc).ok()?;
    // SAFETY: zeroed, then written; numbers and a pointer only.
    let zone = unsafe { zone.assume_init() };
    let base = NonNull::new(zone.addr.cast::<u8>())?;
    // SAFETY: the memzone is `bytes` long. (It needs zeroing: the EAL may reuse memory.)
    unsafe { base.write_bytes(0, bytes) };
    // SAFETY: zeroed just now, not otherwise used, and never freed.
    Some((unsafe { Region::from_raw(base, bytes) }, zone))
}

/// Maps ordinary pages. With `for_cards` the EAL knows them, or cards can't map them; virtio_user
/// doesn't come up beside memory that it knows and can't share.
fn anonymous(bytes: usize, for_cards: bool) -> Result<NonNull<u8>, Errno> {
    // SAFETY: any length is allowed.
    let base = unsafe { dpdk_sys::lg_anonymous_memory(bytes) };
    let base = NonNull::new(base.cast::<u8>()).ok_or(Errno(ENOMEM))?;
    if for_cards {
        // SAFETY: page-aligned memory of this length, which stays.
        let rc = unsafe { dpdk_sys::lg_extmem_register(base.as_ptr().cast::<c_void>(), bytes) };
        if let Err(errno) = Errno::check(rc) {
            // Mapping it fails for them later.
            tracing::debug!(%errno, "external memory isn't known to the EAL");
        }
    }
    lock(&EXTERNAL).push((base.as_ptr().addr(), bytes));
    Ok(base)
}

fn hold(what: String, bytes: usize, page_bytes: u64, node: Option<u16>) {
    let bytes = bytes as u64;
    let mut held = lock(&HELD);
    let same = held
        .iter_mut()
        .find(|held| held.what == what && held.page_bytes == page_bytes && held.node == node);
    match same {
        Some(held) => held.bytes += bytes,
        None => held.push(Holding {
            what,
            bytes,
            page_bytes,
            node,
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

static ZONES: AtomicU32 = AtomicU32::new(0);
static HELD: Mutex<Vec<Holding>> = Mutex::new(Vec::new());
static EXTERNAL: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Bytes of an ordinary page.
const PAGE: u64 = 4096;
/// Room of each region beyond its part of the demand: an item of each size that doesn't fit.
const SLACK: u64 = 64 << 10;
/// The shortest piece that is tried.
const PIECE_MIN: u64 = 2 << 20;
const MIB: u64 = 1 << 20;
const ENOMEM: i32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_huge_pages_are_not_replaced_by_ordinary_ones() {
        let error = Eal::without_memory_but_required()
            .regions(&Demand::new("x", 1))
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("[eal] hugepages = \"require\" needs huge pages, and 1 MiB"),
            "{message}"
        );
    }

    #[test]
    fn a_holding_says_which_pages_hold_what() {
        let mut holding = Holding {
            what: "the file cache".into(),
            bytes: 64 << 20,
            page_bytes: 2 << 20,
            node: Some(1),
        };
        assert_eq!(
            holding.to_string(),
            "64 MiB of 2 MiB pages on node 1 for the file cache"
        );
        holding.page_bytes = 4096;
        holding.node = None;
        assert_eq!(
            holding.to_string(),
            "64 MiB of 4 KiB pages for the file cache"
        );
    }
}

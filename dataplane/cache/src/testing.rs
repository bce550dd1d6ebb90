//! What tests need: a scratch directory and a cache over it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pktbuf::{PageArena, Region};
use rustix::time::{ClockId, clock_gettime};

use super::{CacheConfig, FileCache, FileClient, WallClock};

/// A directory that goes away by itself.
#[derive(Debug)]
pub struct Tree(PathBuf);

#[expect(clippy::new_without_default, reason = "it makes a directory")]
impl Tree {
    /// An empty one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lockgate-files-{}-{n}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of what is called `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, in place.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Replaces a file as a deployment should: by renaming.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, self.path(name)).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A cache of `bytes` with some clients, and the kernel's clock.
pub fn start(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
) -> (FileCache, Vec<FileClient>) {
    start_with_clock(tree, bytes, config, workers, kernel_clock())
}

/// A cache of `bytes` with some clients.
pub fn start_with_clock(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
) -> (FileCache, Vec<FileClient>) {
    let mut region = Region::heap(bytes).unwrap();
    let arena = PageArena::new(&mut region, bytes).unwrap();
    let roots = std::slice::from_ref(&tree.0);
    FileCache::start(arena, roots, config, workers, clock).unwrap()
}

/// The clock that the kernel stamps files with.
pub fn kernel_clock() -> WallClock {
    WallClock::new(kernel_time)
}

/// What the clock reads that the kernel stamps files with.
pub fn kernel_time() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap())
}

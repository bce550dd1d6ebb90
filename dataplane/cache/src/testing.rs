//! A cache over a scratch directory, for tests of this crate and others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lockgate_testing::ScratchDir;
use pktbuf::{PageArena, Region};
use rustix::time::{ClockId, clock_gettime};

use super::{CacheConfig, FileCache, FileClient, WallClock};

/// A root directory of its own, which is removed on drop.
#[derive(Debug)]
pub struct Tree(ScratchDir);

#[expect(clippy::new_without_default, reason = "it makes a directory")]
impl Tree {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self(ScratchDir::new())
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, in place.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        self.0.write(name, bytes);
    }

    /// Replaces a file as a deployment should: by renaming.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        let new = self.0.write(format!("{name}.new"), bytes);
        fs::rename(&new, self.path(name)).unwrap();
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

/// A cache of `bytes` with some clients. Change times are trusted, whatever file system the scratch
/// directory is on.
pub fn start_with_clock(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
) -> (FileCache, Vec<FileClient>) {
    start_with(tree, bytes, config, workers, clock, true)
}

/// The same, with change times that are trusted or not.
pub(crate) fn start_with(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
    is_trusted: bool,
) -> (FileCache, Vec<FileClient>) {
    let mut region = Region::heap(bytes).unwrap();
    let arena = PageArena::new(&mut region, bytes).unwrap();
    let roots = [tree.0.path().to_owned()];
    let check = if is_trusted {
        |_: &_| true
    } else {
        |_: &_| false
    };
    FileCache::start_with(arena, &roots, config, workers, clock, check).unwrap()
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

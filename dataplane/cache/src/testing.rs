//! What tests need: a scratch directory and a cache over it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pktbuf::{PageArena, Region};

use super::{CacheConfig, FileCache, FileClient};

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

/// A cache of `bytes` with some clients.
pub fn start(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
) -> (FileCache, Vec<FileClient>) {
    let mut region = Region::heap(bytes).unwrap();
    let arena = PageArena::new(&mut region, bytes).unwrap();
    FileCache::start(arena, std::slice::from_ref(&tree.0), config, workers).unwrap()
}

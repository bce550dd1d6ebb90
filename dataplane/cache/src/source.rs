//! Sources: they load representations and make their validators.
//!
//! A source takes tasks from the [store](crate::store) and ends them. It decides what a version is,
//! makes the validators of each, and keeps what it needs to read more of it in the object's
//! [`SourceHandle`](handle::SourceHandle). Files are the only source so far: loader threads open
//! them below a root directory and read them.

pub(crate) mod clock;
mod digests;
pub(crate) mod filesystem;
mod fingerprint;
pub(crate) mod handle;
mod loader;
mod root;
mod validators;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use hashbrown::DefaultHashBuilder;

use self::clock::WallClock;
use self::filesystem::ChangeTimeCheck;
use self::loader::Files;
use self::root::Root;
use crate::config::CacheConfig;
use crate::counters::LoaderCounters;
use crate::queue::RequestQueue;
use crate::store::Store;

/// Trees of files, and the loader threads that read them. The threads end when this is dropped.
pub(crate) struct FileSource {
    files: Arc<Files>,
    threads: Vec<JoinHandle<()>>,
}

/// Why a file source can't be started.
pub(crate) enum SourceError {
    /// A root directory can't be opened.
    Root(PathBuf, io::Error),
    /// A loader thread can't be spawned.
    Thread(io::Error),
}

impl FileSource {
    /// Opens the root directories and spawns the loader threads.
    pub(crate) fn start(
        store: &Arc<Store>,
        queue: &Arc<RequestQueue>,
        roots: &[PathBuf],
        config: &CacheConfig,
        clock: WallClock,
        has_reliable_change_time: ChangeTimeCheck,
    ) -> Result<Self, SourceError> {
        let roots = roots
            .iter()
            .map(|path| Root::open(path).map_err(|error| SourceError::Root(path.clone(), error)))
            .collect::<Result<Vec<_>, _>>()?;
        let files = Arc::new(Files {
            store: Arc::clone(store),
            queue: Arc::clone(queue),
            roots,
            revalidate: config.revalidate,
            whole_bytes_max: config.whole_bytes_max,
            open_max: config.open_max,
            open: Arc::default(),
            counters: LoaderCounters::default(),
            clock,
            has_reliable_change_time,
            hasher: DefaultHashBuilder::default(),
        });
        let mut source = Self {
            files,
            threads: Vec::new(),
        };
        for at in 0..usize::from(config.loaders) {
            let files = Arc::clone(&source.files);
            let thread = thread::Builder::new().name(format!("files-{at}"));
            source.threads.push(
                thread
                    .spawn(move || files.run_loader(at))
                    .map_err(SourceError::Thread)?,
            );
        }
        Ok(source)
    }

    /// The number of large files that are open.
    pub(crate) fn files_open(&self) -> u32 {
        self.files.open.load(Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> &LoaderCounters {
        &self.files.counters
    }

    #[cfg(test)]
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("roots", &self.files.roots)
            .finish_non_exhaustive()
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.files.queue.stop();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // The panic hook has reported a loader that panicked.
            let _ = thread.join();
        }
    }
}

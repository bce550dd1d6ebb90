//! Sources: they load representations and make their validators.
//!
//! A source takes tasks from the [store](crate::store) and ends them. It decides what a version is,
//! makes the validators of each, and keeps what it needs to read more of it in the object's
//! [`SourceHandle`](handle::SourceHandle). Files are the only source so far: loader threads open
//! them below a root directory and read them.
//!
//! The [`pool`] has the threads, the [`scheduler`] decides what they do next, and [`loader`] does
//! it. All system calls go through [`FileSystem`].

pub(crate) mod clock;
mod digests;
mod fair_queue;
pub(crate) mod filesystem;
mod fingerprint;
pub(crate) mod handle;
mod job;
mod loader;
mod open_files;
mod pool;
pub(crate) mod reader;
mod root;
mod scheduler;
mod validators;

use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use hashbrown::DefaultHashBuilder;
use rustix::io::Errno;

use self::clock::WallClock;
use self::filesystem::FileSystem;
use self::loader::Files;
use self::open_files::OpenFiles;
use self::pool::LoaderPool;
use self::reader::NewReader;
use self::root::Root;
use self::scheduler::Shares;
use crate::config::CacheConfig;
use crate::counters::{FileCounters, LoaderCounters};
use crate::patience::results_within;
use crate::queue::RequestQueue;
use crate::store::Store;
use crate::store::object::SPAN_BYTES;

/// Trees of files, and the threads that read them.
pub(crate) struct FileSource {
    files: Arc<Files>,
    pool: LoaderPool,
}

/// Why a file source can't be started.
pub(crate) enum SourceError {
    /// A root directory can't be opened.
    Root(PathBuf, io::Error),
    /// A thread can't be spawned.
    Thread(io::Error),
}

impl FileSource {
    /// Opens the root directories and spawns the first threads. A root whose file system doesn't
    /// answer within [`CacheConfig::root_wait`] is opened later.
    pub(crate) fn start(
        store: &Arc<Store>,
        queue: &Arc<RequestQueue>,
        roots: &[PathBuf],
        config: &CacheConfig,
        clock: WallClock,
        system: Arc<dyn FileSystem>,
        new_reader: Option<NewReader>,
    ) -> Result<Self, SourceError> {
        let open = |path: &PathBuf| {
            let (system, path) = (Arc::clone(&system), path.clone());
            move || system.open_directory(&path)
        };
        let opened = results_within(config.root_wait, roots.iter().map(open));
        let root = |(path, opened): (&PathBuf, Option<Result<_, Errno>>)| {
            let directory = opened.transpose();
            let directory = directory.map_err(|e| SourceError::Root(path.clone(), e.into()))?;
            Ok(Root::new(path, directory))
        };
        let roots = roots.iter().zip(opened).map(root);
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        let wake = Arc::clone(queue);
        let open = OpenFiles::new(config.open_max, roots.len(), move || wake.wake());
        let files = Arc::new(Files {
            store: Arc::clone(store),
            system,
            new_reader,
            roots,
            revalidate: config.revalidate,
            whole_bytes_max: config.whole_bytes_max,
            is_direct: config.is_direct,
            open: Arc::new(open),
            counters: LoaderCounters::default(),
            clock,
            digest_seed: DefaultHashBuilder::default().hash_one(0),
            is_memory_short: false.into(),
        });
        let has_ring = files.new_reader.is_some();
        let spans = store.memory().bytes / SPAN_BYTES as usize;
        let shares = Shares {
            loaders: u32::from(config.loaders),
            depth: if has_ring { u32::from(READS_MAX) } else { 1 },
            jobs: u32::try_from(spans / READING_DIVISOR).unwrap_or(u32::MAX),
        };
        let pool = LoaderPool::start(&files, queue, shares).map_err(SourceError::Thread)?;
        Ok(Self { files, pool })
    }

    /// Ends the threads, and waits for them for at most `wait`. Returns how many are left: they
    /// hang in a file system, and end when it lets them go.
    pub(crate) fn shut_down(&mut self, wait: Duration) -> usize {
        self.pool.shut_down(wait)
    }

    /// Adds what the source counts.
    pub(crate) fn count(&self, counters: &mut FileCounters) {
        let open = &self.files.open;
        counters.files_open = u64::from(open.open());
        counters.files_open_max = u64::from(open.max());
        counters.files_closing = u64::from(open.closing());
        self.pool.count(counters);
        counters.add_loaders(&self.files.counters);
    }

    #[cfg(test)]
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }
}

/// Reads that a loader may have in flight.
pub(crate) const READS_MAX: u16 = 32;

/// Jobs in progress may be as many as this part of the memory has spans.
const READING_DIVISOR: usize = 2;

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("roots", &self.files.roots)
            .finish_non_exhaustive()
    }
}

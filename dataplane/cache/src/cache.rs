//! The cache: a store, its sources and its clients, joined.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use lockgate_uring::{Limits, Refused};
use pktbuf::PageArena;
use rustix::process::{Resource, getrlimit};

use crate::budget::RequestBudget;
use crate::client::FileClient;
use crate::config::CacheConfig;
use crate::counters::{ClientCounters, FileCounters};
use crate::queue::RequestQueue;
use crate::source::clock::WallClock;
use crate::source::filesystem::{FileSystem, Kernel};
use crate::source::reader::{FileIo, NewReader, uring_readers};
use crate::source::{FileSource, READS_MAX, SourceError};
use crate::store::Store;
use crate::store::object::SPAN_BYTES;

/// The cache. It owns the reader threads, which end when it is dropped; see
/// [`FileCache::shut_down`].
#[derive(Debug)]
pub struct FileCache {
    store: Arc<Store>,
    source: FileSource,
    clients: Vec<Arc<ClientCounters>>,
    requests_max: u64,
    objects_max: u64,
    pinned_bytes_max: u64,
    reads_by: ReadsBy,
}

/// How a cache reads files.
#[derive(Debug)]
pub enum ReadsBy {
    /// Through io_uring.
    Uring,
    /// By `pread`, as configured.
    Pread,
    /// By `pread`, because the kernel refuses io_uring.
    PreadFor(Refused),
}

/// Why a cache can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A tree's top directory can't be opened.
    #[error("can't open {}: {error}", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// More trees or workers than can be numbered.
    #[error("too many sites or workers")]
    TooMany,
    /// The arena can't hold two of the largest spans.
    #[error("the file cache needs at least {} bytes", 2 * SPAN_BYTES)]
    TooSmall,
    /// The configuration has io_uring only, and the kernel refuses it.
    #[error("files can't be read through io_uring: {0}")]
    Uring(Refused),
    /// A thread can't be started.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
}

impl FileCache {
    /// Starts a cache for the trees below `roots` and one client for each worker. Tree `i` is
    /// [`RootId::new(i)`](crate::RootId::new). `clock` has to be the clock that stamps the files.
    ///
    /// # Errors
    ///
    /// If the arena is too small, a tree's directory can't be opened or a thread can't be spawned.
    pub fn start(
        arena: PageArena,
        roots: &[PathBuf],
        config: &CacheConfig,
        workers: usize,
        clock: WallClock,
    ) -> Result<(Self, Vec<FileClient>), StartError> {
        let limits = Limits {
            reads: READS_MAX,
            kernel_threads: KERNEL_THREADS,
        };
        let new_reader = uring_readers(limits);
        let system = Arc::new(Kernel);
        Self::start_with(arena, roots, config, workers, clock, system, new_reader)
    }

    /// The same, with other system calls, and readers other than those of io_uring.
    pub(crate) fn start_with(
        arena: PageArena,
        roots: &[PathBuf],
        config: &CacheConfig,
        workers: usize,
        clock: WallClock,
        system: Arc<dyn FileSystem>,
        new_reader: NewReader,
    ) -> Result<(Self, Vec<FileClient>), StartError> {
        let Ok(workers) = u16::try_from(workers) else {
            return Err(StartError::TooMany);
        };
        if roots.len() > usize::from(u16::MAX) {
            return Err(StartError::TooMany);
        }
        if arena.usage().bytes < 2 * SPAN_BYTES as usize {
            return Err(StartError::TooSmall);
        }
        let open_limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let config = config.clone().clamped(open_limit);
        let waiting = RequestBudget::outstanding_max(config.outstanding_max, roots.len());
        let (completions, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| bounded(waiting)).unzip();
        let store = Arc::new(Store::new(
            arena,
            config.objects_max,
            config.freshness(),
            completions,
        ));
        let queue = Arc::new(RequestQueue::new(usize::from(workers), waiting));
        let reads_by = choose(config.io, &new_reader)?;
        let new_reader = matches!(reads_by, ReadsBy::Uring).then_some(new_reader);
        let source = FileSource::start(&store, &queue, roots, &config, clock, system, new_reader)?;
        let counters: Vec<_> = (0..workers).map(|_| Arc::default()).collect();
        let bytes = store.memory().bytes as u64;
        let pinned_bytes_max = bytes / PINNED_DIVISOR / u64::from(workers.max(1));
        let clients = (0..workers)
            .zip(inboxes)
            .zip(&counters)
            .map(|((id, inbox), counters)| {
                FileClient::new(
                    id,
                    &config,
                    roots.len(),
                    &queue,
                    inbox,
                    counters,
                    pinned_bytes_max,
                )
            })
            .collect();
        let cache = Self {
            store,
            source,
            clients: counters,
            requests_max: u64::from(config.outstanding_max) * u64::from(workers),
            objects_max: u64::from(config.objects_max),
            pinned_bytes_max: pinned_bytes_max * u64::from(workers),
            reads_by,
        };
        Ok((cache, clients))
    }

    /// The counters so far. Takes the store's lock for a moment, so it's not for workers.
    pub fn counters(&self) -> FileCounters {
        let memory = self.store.memory();
        let mut counters = FileCounters {
            requests_max: self.requests_max,
            objects: self.store.objects() as u64,
            objects_max: self.objects_max,
            pinned_bytes_max: self.pinned_bytes_max,
            bytes_used: memory.bytes_used as u64,
            bytes_max: memory.bytes as u64,
            ..FileCounters::default()
        };
        counters.add_store(self.store.counters());
        self.source.count(&mut counters);
        for client in &self.clients {
            counters.add_client(client);
        }
        counters
    }

    /// How files are read.
    pub fn reads_by(&self) -> &ReadsBy {
        &self.reads_by
    }

    /// Ends the reader threads, and waits for them for at most `wait`. Returns how many are left.
    ///
    /// Those hang in a system call of a file system that doesn't answer. They keep the memory that
    /// they read to, and end when the file system lets them go, or with the process.
    pub fn shut_down(mut self, wait: Duration) -> usize {
        self.source.shut_down(wait)
    }

    #[cfg(test)]
    pub(crate) fn source(&self) -> &FileSource {
        &self.source
    }

    /// The number of spans that eviction knows of.
    #[cfg(test)]
    pub(crate) fn known_spans(&self) -> usize {
        self.store.known_spans()
    }

    /// Stops every reader and the dispatcher until the guard is dropped.
    #[cfg(any(test, feature = "testing"))]
    pub fn stall(&self) -> impl Drop + '_ {
        self.store.hold()
    }
}

/// Makes a reader for a try, if the configuration has it.
fn choose(io: FileIo, new_reader: &NewReader) -> Result<ReadsBy, StartError> {
    let refused = match io {
        FileIo::Pread => return Ok(ReadsBy::Pread),
        FileIo::Auto | FileIo::Uring => new_reader().err(),
    };
    match refused {
        None => Ok(ReadsBy::Uring),
        Some(refused) if io == FileIo::Uring => Err(StartError::Uring(refused)),
        Some(refused) => Ok(ReadsBy::PreadFor(refused)),
    }
}

/// Threads of the kernel for each loader's reads, on file systems that can't read asynchronously.
const KERNEL_THREADS: u16 = 8;

/// Send queues of all workers may pin half of the memory.
const PINNED_DIVISOR: u64 = 2;

impl From<SourceError> for StartError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Root(path, error) => Self::Root { path, error },
            SourceError::Thread(error) => Self::Thread(error),
        }
    }
}

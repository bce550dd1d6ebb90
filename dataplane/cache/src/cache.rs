//! The cache: a store, its sources and its clients, joined.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::bounded;
use pktbuf::PageArena;
use rustix::process::{Resource, getrlimit};

use crate::client::FileClient;
use crate::config::CacheConfig;
use crate::counters::{ClientCounters, FileCounters};
use crate::queue::RequestQueue;
use crate::source::clock::WallClock;
use crate::source::filesystem::{ChangeTimeCheck, has_reliable_change_time};
use crate::source::{FileSource, SourceError};
use crate::store::Store;
use crate::store::object::SPAN_BYTES;

/// The cache. It owns the loader threads, which end when it is dropped.
#[derive(Debug)]
pub struct FileCache {
    store: Arc<Store>,
    source: FileSource,
    clients: Vec<Arc<ClientCounters>>,
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
        Self::start_with(
            arena,
            roots,
            config,
            workers,
            clock,
            has_reliable_change_time,
        )
    }

    /// The same, with another decision about which files' change times are trusted.
    pub(crate) fn start_with(
        arena: PageArena,
        roots: &[PathBuf],
        config: &CacheConfig,
        workers: usize,
        clock: WallClock,
        has_reliable_change_time: ChangeTimeCheck,
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
        let outstanding = usize::from(config.outstanding_max);
        let (completions, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| bounded(outstanding)).unzip();
        let store = Arc::new(Store::new(
            arena,
            config.objects_max,
            config.revalidate,
            completions,
        ));
        let capacity = outstanding * usize::from(workers.max(1));
        let queue = Arc::new(RequestQueue::new(capacity, config.loaders));
        let source = FileSource::start(
            &store,
            &queue,
            roots,
            &config,
            clock,
            has_reliable_change_time,
        )?;
        let counters: Vec<_> = (0..workers).map(|_| Arc::default()).collect();
        let clients = (0..workers)
            .zip(inboxes)
            .zip(&counters)
            .map(|((id, inbox), counters)| FileClient::new(id, &config, &queue, inbox, counters))
            .collect();
        let cache = Self {
            store,
            source,
            clients: counters,
        };
        Ok((cache, clients))
    }

    /// The counters so far. Takes the store's lock for a moment, so it's not for workers.
    pub fn counters(&self) -> FileCounters {
        let memory = self.store.memory();
        let mut counters = FileCounters {
            objects: self.store.objects() as u64,
            files_open: u64::from(self.source.files_open()),
            bytes_used: memory.bytes_used as u64,
            bytes_max: memory.bytes as u64,
            ..FileCounters::default()
        };
        counters.add_store(self.store.counters());
        counters.add_loaders(self.source.counters());
        for client in &self.clients {
            counters.add_client(client);
        }
        counters
    }

    #[cfg(test)]
    pub(crate) fn source(&self) -> &FileSource {
        &self.source
    }

    /// Stops every loader until the guard is dropped.
    #[cfg(any(test, feature = "testing"))]
    pub fn stall(&self) -> impl Drop + '_ {
        self.store.hold()
    }
}

impl From<SourceError> for StartError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Root(path, error) => Self::Root { path, error },
            SourceError::Thread(error) => Self::Thread(error),
        }
    }
}

//! The cache, and what its clients and loaders share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::{fmt, io};

use crossbeam_channel::{Sender, bounded};
use pktbuf::PageArena;
use rustix::process::{Resource, getrlimit};

use super::client::{Completion, FileClient, Job, Outcome, Reply};
use super::config::CacheConfig;
use super::counters::{ClientCounters, FileCounters, LoaderCounters};
use super::index::Index;
use super::loader::Loader;
use super::object::SPAN_BYTES;
use super::root::Root;

/// The cache: owns the loader threads, which stop when it is dropped.
#[derive(Debug)]
pub struct FileCache {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
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

/// What clients and loaders share.
pub(super) struct Shared {
    pub(super) config: CacheConfig,
    pub(super) requests: Sender<Job>,
    pub(super) clients: Vec<Arc<ClientCounters>>,
    pub(super) parkers: Vec<Parker>,
    pub(super) arena: PageArena,
    pub(super) roots: Vec<Root>,
    index: Mutex<Index>,
    completions: Vec<Sender<Completion>>,
    pub(super) counters: LoaderCounters,
    pub(super) files_open: Arc<AtomicU32>,
    pub(super) next_id: AtomicU64,
    pub(super) stop: AtomicBool,
}

/// Where a loader waits for work. Waking it takes no lock: a channel's own blocking would.
#[derive(Debug, Default)]
pub(super) struct Parker {
    pub(super) idle: AtomicBool,
    pub(super) thread: OnceLock<Thread>,
}

impl FileCache {
    /// Starts a cache for the trees below `roots` and as many clients as there are workers. Tree
    /// `i` is [`RootId::new(i)`](super::RootId::new).
    pub fn start(
        arena: PageArena,
        roots: &[PathBuf],
        config: &CacheConfig,
        workers: usize,
    ) -> Result<(Self, Vec<FileClient>), StartError> {
        if roots.len() > usize::from(u16::MAX) || workers > usize::from(u16::MAX) {
            return Err(StartError::TooMany);
        }
        if arena.usage().bytes < 2 * SPAN_BYTES as usize {
            return Err(StartError::TooSmall);
        }
        let open_limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let config = config.clone().sane(open_limit);
        let roots = roots
            .iter()
            .map(|path| {
                Root::open(path).map_err(|error| StartError::Root {
                    path: path.clone(),
                    error,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let outstanding = usize::from(config.outstanding_max);
        let (requests, jobs) = bounded(outstanding * workers.max(1));
        let (completions, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| bounded(outstanding)).unzip();
        let shared = Arc::new(Shared {
            requests,
            clients: (0..workers).map(|_| Arc::default()).collect(),
            parkers: (0..config.loaders).map(|_| Parker::default()).collect(),
            arena,
            roots,
            index: Mutex::new(Index::new(config.objects_max)),
            completions,
            counters: LoaderCounters::default(),
            files_open: Arc::default(),
            next_id: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            config,
        });
        let mut cache = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        for at in 0..shared.parkers.len() {
            let loader = Loader::new(Arc::clone(&shared), jobs.clone(), at);
            let thread = thread::Builder::new().name(format!("files-{at}"));
            cache.threads.push(
                thread
                    .spawn(move || loader.run())
                    .map_err(StartError::Thread)?,
            );
        }
        let clients = inboxes
            .into_iter()
            .enumerate()
            .map(|(id, inbox)| FileClient::new(id, Arc::clone(&shared), inbox))
            .collect();
        Ok((cache, clients))
    }

    /// What was counted so far. It takes the loaders' lock for a moment, so it's not for workers.
    pub fn counters(&self) -> FileCounters {
        let shared = &*self.shared;
        let usage = shared.arena.usage();
        let mut counters = FileCounters {
            objects: shared.index().objects() as u64,
            files_open: u64::from(shared.files_open.load(Ordering::Relaxed)),
            bytes_used: usage.bytes_used as u64,
            bytes_max: usage.bytes as u64,
            ..FileCounters::default()
        };
        counters.add_loaders(&shared.counters);
        for client in &shared.clients {
            counters.add_client(client);
        }
        counters
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Keeps every loader from doing anything, as long as what this returns lives.
    #[cfg(any(test, feature = "testing"))]
    pub fn stall(&self) -> impl Drop + '_ {
        self.shared.index()
    }
}

impl Drop for FileCache {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A loader that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Wakes a loader, if one sleeps.
    pub(super) fn wake_loader(&self) {
        // The request is in the channel before this looks for sleepers; a loader says that it
        // sleeps before it looks at the channel once more.
        fence(Ordering::SeqCst);
        for parker in &self.parkers {
            if parker.idle.load(Ordering::SeqCst)
                && parker.idle.swap(false, Ordering::SeqCst)
                && let Some(thread) = parker.thread.get()
            {
                thread.unpark();
                return;
            }
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn complete(&self, reply: Reply, outcome: Outcome) {
        let Some(inbox) = self.completions.get(usize::from(reply.client)) else {
            return;
        };
        // There's room for all that a client may have outstanding; a client that's gone has
        // disconnected its channel.
        let sent = inbox.try_send(Completion {
            token: reply.token,
            ticket: reply.ticket,
            outcome,
        });
        debug_assert!(
            !sent.is_err_and(|error| error.is_full()),
            "more answers than requests"
        );
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

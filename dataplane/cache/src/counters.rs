//! Counters of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter for any number of threads. It orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ClientCounters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) span_hits: Counter,
    pub(crate) span_misses: Counter,
    pub(crate) starved: Counter,
}

/// The counters of the store.
#[derive(Debug, Default)]
pub(crate) struct StoreCounters {
    pub(crate) evictions: Counter,
    pub(crate) waits: Counter,
    pub(crate) revalidations: Counter,
    pub(crate) changed_files: Counter,
    pub(crate) absent: Counter,
}

/// The counters of all loaders.
#[derive(Debug, Default)]
pub(crate) struct LoaderCounters {
    pub(crate) loads: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) read_errors: Counter,
}

/// A snapshot of the cache's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Lookups answered by a worker itself.
    pub hits: u64,
    /// Lookups that a loader had to answer.
    pub misses: u64,
    /// Requests for spans of large files that were in memory.
    pub span_hits: u64,
    /// Requests for spans of large files that had to be read.
    pub span_misses: u64,
    /// Requests that waited in a client for room in the queue.
    pub starved: u64,
    /// Spans read.
    pub loads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Spans evicted.
    pub evictions: u64,
    /// Loads that were deferred for lack of memory, or of open files.
    pub waits: u64,
    /// Lookups that found the stored version.
    pub revalidations: u64,
    /// Stored files that were found changed, replaced or removed.
    pub changed_files: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Lookups that found nothing to serve.
    pub absent: u64,
    /// Objects that are stored now.
    pub objects: u64,
    /// Large files that are open now.
    pub files_open: u64,
    /// Bytes of the arena in use now.
    pub bytes_used: u64,
    /// Bytes of the arena.
    pub bytes_max: u64,
}

impl FileCounters {
    /// All counters with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("files.hits", self.hits),
            ("files.misses", self.misses),
            ("files.span_hits", self.span_hits),
            ("files.span_misses", self.span_misses),
            ("files.starved", self.starved),
            ("files.loads", self.loads),
            ("files.bytes_read", self.bytes_read),
            ("files.evictions", self.evictions),
            ("files.waits", self.waits),
            ("files.revalidations", self.revalidations),
            ("files.changed_files", self.changed_files),
            ("files.read_errors", self.read_errors),
            ("files.absent", self.absent),
            ("files.objects", self.objects),
            ("files.files_open", self.files_open),
            ("files.bytes_used", self.bytes_used),
            ("files.bytes_max", self.bytes_max),
        ]
        .into_iter()
    }

    pub(crate) fn add_client(&mut self, client: &ClientCounters) {
        self.hits += client.hits.read();
        self.misses += client.misses.read();
        self.span_hits += client.span_hits.read();
        self.span_misses += client.span_misses.read();
        self.starved += client.starved.read();
    }

    pub(crate) fn add_store(&mut self, store: &StoreCounters) {
        self.evictions += store.evictions.read();
        self.waits += store.waits.read();
        self.revalidations += store.revalidations.read();
        self.changed_files += store.changed_files.read();
        self.absent += store.absent.read();
    }

    pub(crate) fn add_loaders(&mut self, loaders: &LoaderCounters) {
        self.loads += loaders.loads.read();
        self.bytes_read += loaders.bytes_read.read();
        self.read_errors += loaders.read_errors.read();
    }
}

//! Counters of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter for any number of threads. It orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge, which one thread writes.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
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
    pub(crate) stale: Counter,
    pub(crate) starved: Counter,
    pub(crate) starved_root: Counter,
    pub(crate) starved_dropped: Counter,
    /// A gauge.
    pub(crate) outstanding: Counter,
    /// A gauge.
    pub(crate) pinned_bytes: Counter,
    pub(crate) pins_refused: Counter,
}

/// The counters of the store.
#[derive(Debug, Default)]
pub(crate) struct StoreCounters {
    pub(crate) evictions: Counter,
    pub(crate) stale: Counter,
    pub(crate) objects_refused: Counter,
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
    pub(crate) waits: Counter,
    pub(crate) file_waits: Counter,
    pub(crate) dropped: Counter,
    pub(crate) readers_refused: Counter,
    pub(crate) rings_refused: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) direct_files: Counter,
}

/// A snapshot of the cache's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Lookups answered by a worker itself.
    pub hits: u64,
    /// Lookups answered from memory while a check of the file was due or in progress.
    pub stale: u64,
    /// Lookups that had to wait for an answer.
    pub misses: u64,
    /// Requests for spans of large files that were in memory.
    pub span_hits: u64,
    /// Requests for spans of large files that had to be read.
    pub span_misses: u64,
    /// Requests that workers have outstanding now.
    pub requests: u64,
    /// Requests that workers may have outstanding.
    pub requests_max: u64,
    /// Requests that waited in a client: it had as many outstanding as it may.
    pub starved: u64,
    /// Requests that waited in a client: their root had its share of the client's requests.
    pub starved_root: u64,
    /// Waiting requests that were dropped, the oldest ones of their root. Their connections time
    /// out.
    pub starved_dropped: u64,
    /// Tasks that wait for a reader now.
    pub queued: u64,
    /// Read-ahead and checks that were dropped, because their root's queue was full or memory
    /// short.
    pub dropped: u64,
    /// Reader threads now.
    pub readers: u64,
    /// Reader threads that read, or hang in a file system.
    pub readers_busy: u64,
    /// Reader threads that there may be.
    pub readers_max: u64,
    /// Reader threads that the system refused to start.
    pub readers_refused: u64,
    /// Reader threads that read by `pread`, because the system refused them an io_uring.
    pub rings_refused: u64,
    /// Queued reads of spans that weren't made, because all bodies of their file were gone.
    pub abandoned: u64,
    /// Large files that were opened to be read past the kernel's page cache.
    pub direct_files: u64,
    /// Spans read.
    pub loads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Spans evicted.
    pub evictions: u64,
    /// Loads that were deferred for lack of memory.
    pub waits: u64,
    /// Lookups that were deferred for lack of open files.
    pub file_waits: u64,
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
    /// Objects that may be stored.
    pub objects_max: u64,
    /// Objects that weren't stored, because all that were are in use.
    pub objects_refused: u64,
    /// Large files that are open now.
    pub files_open: u64,
    /// Large files that may be open.
    pub files_open_max: u64,
    /// Large files that wait to be closed.
    pub files_closing: u64,
    /// Bytes of spans that send queues refer to, as far as they weren't found dropped.
    pub pinned_bytes: u64,
    /// Bytes of spans that send queues may refer to.
    pub pinned_bytes_max: u64,
    /// Pieces that were copied because their worker's share of these was used up.
    pub pins_refused: u64,
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
            ("files.stale", self.stale),
            ("files.misses", self.misses),
            ("files.span_hits", self.span_hits),
            ("files.span_misses", self.span_misses),
            ("files.requests", self.requests),
            ("files.requests_max", self.requests_max),
            ("files.starved", self.starved),
            ("files.starved_root", self.starved_root),
            ("files.starved_dropped", self.starved_dropped),
            ("files.queued", self.queued),
            ("files.dropped", self.dropped),
            ("files.readers", self.readers),
            ("files.readers_busy", self.readers_busy),
            ("files.readers_max", self.readers_max),
            ("files.readers_refused", self.readers_refused),
            ("files.rings_refused", self.rings_refused),
            ("files.abandoned", self.abandoned),
            ("files.direct_files", self.direct_files),
            ("files.loads", self.loads),
            ("files.bytes_read", self.bytes_read),
            ("files.evictions", self.evictions),
            ("files.waits", self.waits),
            ("files.file_waits", self.file_waits),
            ("files.revalidations", self.revalidations),
            ("files.changed_files", self.changed_files),
            ("files.read_errors", self.read_errors),
            ("files.absent", self.absent),
            ("files.objects", self.objects),
            ("files.objects_max", self.objects_max),
            ("files.objects_refused", self.objects_refused),
            ("files.files_open", self.files_open),
            ("files.files_open_max", self.files_open_max),
            ("files.files_closing", self.files_closing),
            ("files.pinned_bytes", self.pinned_bytes),
            ("files.pinned_bytes_max", self.pinned_bytes_max),
            ("files.pins_refused", self.pins_refused),
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
        self.stale += client.stale.read();
        self.starved += client.starved.read();
        self.starved_root += client.starved_root.read();
        self.starved_dropped += client.starved_dropped.read();
        self.requests += client.outstanding.read();
        self.pinned_bytes += client.pinned_bytes.read();
        self.pins_refused += client.pins_refused.read();
    }

    pub(crate) fn add_store(&mut self, store: &StoreCounters) {
        self.evictions += store.evictions.read();
        self.stale += store.stale.read();
        self.objects_refused += store.objects_refused.read();
        self.revalidations += store.revalidations.read();
        self.changed_files += store.changed_files.read();
        self.absent += store.absent.read();
    }

    pub(crate) fn add_loaders(&mut self, loaders: &LoaderCounters) {
        self.loads += loaders.loads.read();
        self.bytes_read += loaders.bytes_read.read();
        self.read_errors += loaders.read_errors.read();
        self.waits += loaders.waits.read();
        self.file_waits += loaders.file_waits.read();
        self.dropped += loaders.dropped.read();
        self.readers_refused += loaders.readers_refused.read();
        self.rings_refused += loaders.rings_refused.read();
        self.abandoned += loaders.abandoned.read();
        self.direct_files += loaders.direct_files.read();
    }
}

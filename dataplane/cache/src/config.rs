//! The limits of the cache.

use core::time::Duration;

use crate::freshness::Freshness;
use crate::source::reader::FileIo;
use crate::store::object::SPAN_BYTES;

/// The limits of the cache. [The crate](crate) has what they add up to.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The age at which an object is revalidated.
    pub revalidate: Duration,
    /// How long an object is served beyond that age while it is revalidated.
    pub stale_max: Duration,
    /// How long a client's negative cache keeps that there is nothing to serve at a path.
    pub negative: Duration,
    /// The largest file that is kept in one span, without an open file. At most [`SPAN_BYTES`].
    pub whole_bytes_max: u32,
    /// Objects that are stored at a time.
    pub objects_max: u32,
    /// Large files that are open at a time. Never more than a quarter of what the process may open.
    pub open_max: u32,
    /// How long the start waits for the file systems of all trees. A tree whose top directory isn't
    /// open by then is opened with its first file.
    pub root_wait: Duration,
    /// Threads that read files of one tree at a time.
    pub loaders: u8,
    /// Requests that a client may have outstanding. More of them wait in the client. One tree has
    /// at most a half, the next one a half of the remainder, and so on; each may have one.
    pub outstanding_max: u16,
    /// Cached paths of each client.
    pub table_entries: u32,
    /// Spans loaded ahead of a body's current span. A body that goes through an object has up to
    /// four times as many.
    pub read_ahead: u8,
    /// How files are read.
    pub io: FileIo,
    /// Whether files that are read span by span are read past the kernel's page cache, where the
    /// file system says how.
    pub is_direct: bool,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            revalidate: Duration::from_secs(1),
            stale_max: Duration::from_secs(10),
            negative: Duration::from_secs(1),
            whole_bytes_max: SPAN_BYTES,
            objects_max: 16_384,
            open_max: 1_024,
            root_wait: Duration::from_secs(2),
            loaders: 2,
            outstanding_max: 1_024,
            table_entries: 8_192,
            read_ahead: 2,
            io: FileIo::default(),
            is_direct: false,
        }
    }
}

impl CacheConfig {
    pub(crate) fn freshness(&self) -> Freshness {
        Freshness {
            revalidate: self.revalidate,
            stale_max: self.stale_max,
        }
    }

    /// Clamps values to what works. `open_limit` is the number of files that the process may open.
    pub(crate) fn clamped(mut self, open_limit: u64) -> Self {
        self.whole_bytes_max = self.whole_bytes_max.min(SPAN_BYTES);
        self.objects_max = self.objects_max.max(1);
        // As many again may wait to be closed.
        let quarter = u32::try_from(open_limit / 4).unwrap_or(u32::MAX);
        self.open_max = self.open_max.min(quarter).max(1);
        self.loaders = self.loaders.max(1);
        self.outstanding_max = self.outstanding_max.max(1);
        self.table_entries = self.table_entries.clamp(1, 1 << 24);
        self
    }
}

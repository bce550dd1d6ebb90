//! Objects: one version of a file, and what is in memory of it.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use super::root::{RootId, Version};

/// The length of a large file's spans, its last one excepted: four records of the largest size.
pub const SPAN_BYTES: u32 = 64 * 1024;

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) root: RootId,
    pub(super) path: Box<[u8]>,
}

/// One version of a file. It never changes: a file that does gets a new object.
pub struct Object {
    pub(super) key: Key,
    pub(super) content: Content,
    version: Version,
    /// When a loader last saw this version at its path.
    checked: AtomicU64,
    /// Another look at the path is on its way.
    pub(super) checking: AtomicBool,
    /// Something else is at its path now.
    retired: AtomicBool,
    /// Used since eviction last came by.
    pub(super) touched: AtomicBool,
}

/// What HTTP has to know about an object.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// Length in bytes.
    pub len: u64,
    /// When it was modified: seconds and nanoseconds since the epoch.
    pub modified: (i64, u32),
    /// The number of its inode.
    pub inode: u64,
    /// Its path in its tree.
    pub path: &'a Path,
}

/// Where an object's bytes are.
pub(super) enum Content {
    /// All in one span; none if there are no bytes.
    Whole(Option<Arc<SharedSpan>>),
    /// In spans that come and go.
    Paged(Paged),
}

/// A large file.
pub(super) struct Paged {
    /// Tells paged objects apart.
    pub(super) id: u64,
    pub(super) file: OpenFile,
    /// As it was opened, names of it that were removed since then taken off.
    version: Mutex<Version>,
    /// The file isn't this version any more: nothing more can be read of it.
    changed: AtomicBool,
    /// Span `i` is in slot `i % slots`, if it is in memory: so many slots as the file has spans, or
    /// the arena has room for, whichever is less. Only loaders write.
    slots: Box<[ArcSwapOption<Loaded>]>,
}

/// A span in memory.
pub(super) struct Loaded {
    pub(super) index: u64,
    pub(super) span: Arc<SharedSpan>,
    /// Used since eviction last came by.
    pub(super) touched: AtomicBool,
}

/// An open file, counted.
pub(super) struct OpenFile {
    file: OwnedFd,
    count: Arc<AtomicU32>,
}

impl Object {
    pub(super) fn new(key: Key, version: Version, content: Content, checked: Instant) -> Self {
        Self {
            key,
            content,
            version,
            checked: AtomicU64::new(checked.as_nanos()),
            checking: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            touched: AtomicBool::new(false),
        }
    }

    /// What HTTP has to know about it.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata {
            len: self.version.len,
            modified: self.version.modified,
            inode: self.version.inode,
            path: Path::new(OsStr::from_bytes(&self.key.path)),
        }
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.version.len
    }

    /// All of its bytes, if they are kept in one span.
    pub fn whole(&self) -> Option<&Arc<SharedSpan>> {
        match &self.content {
            Content::Whole(span) => span.as_ref(),
            Content::Paged(_) => None,
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn checked(&self) -> Instant {
        Instant::from_nanos(self.checked.load(Ordering::Relaxed))
    }

    pub(super) fn set_checked(&self, now: Instant) {
        self.checked.fetch_max(now.as_nanos(), Ordering::Relaxed);
        self.checking.store(false, Ordering::Relaxed);
    }

    pub(super) fn touch(&self) {
        touch(&self.touched);
    }

    /// Whether it is what was found at its path, give or take names of it.
    pub(super) fn is_version(&self, found: &Version) -> bool {
        match &self.content {
            Content::Whole(_) => self.version.still_holds(found),
            Content::Paged(paged) => paged.is_version(found),
        }
    }

    pub(super) fn spans(&self) -> u64 {
        self.len().div_ceil(u64::from(SPAN_BYTES))
    }

    /// How long span `index` is.
    pub(super) fn span_len(&self, index: u64) -> usize {
        let start = index.saturating_mul(u64::from(SPAN_BYTES));
        let left = self.len().saturating_sub(start);
        usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(SPAN_BYTES as usize)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.key.path);
        f.debug_struct("Object")
            .field("path", &path)
            .field("version", &self.version)
            .finish()
    }
}

impl Paged {
    pub(super) fn new(id: u64, file: OpenFile, version: Version, slots: usize) -> Self {
        let slots = (0..slots.max(1)).map(|_| ArcSwapOption::empty()).collect();
        let changed = AtomicBool::new(false);
        Self {
            id,
            file,
            version: Mutex::new(version),
            changed,
            slots,
        }
    }

    /// Span `index`, if it's in memory. Takes no lock.
    pub(super) fn span(&self, index: u64) -> Option<Arc<SharedSpan>> {
        let loaded = self.slot(index).load();
        let loaded = loaded.as_ref().filter(|loaded| loaded.index == index)?;
        touch(&loaded.touched);
        Some(Arc::clone(&loaded.span))
    }

    /// Whether span `index` is in memory.
    pub(super) fn has(&self, index: u64) -> bool {
        self.slot(index)
            .load()
            .as_ref()
            .is_some_and(|loaded| loaded.index == index)
    }

    pub(super) fn slot(&self, index: u64) -> &ArcSwapOption<Loaded> {
        // The remainder is less than the number of slots, which is a usize.
        let at = usize::try_from(index % self.slots.len() as u64).unwrap_or(0);
        &self.slots[at]
    }

    /// Asks the open file whether it's still the version that it was opened as.
    pub(super) fn is_unchanged(&self) -> bool {
        if self.is_changed() {
            return false;
        }
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        match Version::of(self.file.fd()) {
            Ok(now) if version.still_holds(&now) => {
                *version = now;
                true
            }
            Ok(_) | Err(_) => {
                self.set_changed();
                false
            }
        }
    }

    /// Nothing more can be read of this version.
    pub(super) fn set_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    fn is_version(&self, found: &Version) -> bool {
        !self.is_changed()
            && self
                .version
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .still_holds(found)
    }
}

impl OpenFile {
    pub(super) fn new(file: OwnedFd, count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self {
            file,
            count: Arc::clone(count),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.file
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sets a flag, writing to its cache line only if that changes it.
fn touch(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}

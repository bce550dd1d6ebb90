//! What an object keeps of the source that it came from.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fingerprint::Fingerprint;

/// What an object keeps of its source: one variant for each kind of source. The store never looks
/// inside.
pub(crate) enum SourceHandle {
    File(FileHandle),
}

/// One version of a file.
pub(crate) struct FileHandle {
    /// The open file, if its contents are read span by span.
    file: Option<OpenFile>,
    /// As it was opened, or as it was last seen if only names of it were removed since.
    fingerprint: Mutex<Fingerprint>,
    /// The file isn't this version any more: no more of it can be read.
    is_changed: AtomicBool,
}

/// An open file that counts towards the limit of open files.
pub(crate) struct OpenFile {
    file: OwnedFd,
    count: Arc<AtomicU32>,
}

impl FileHandle {
    pub(crate) fn new(file: Option<OpenFile>, fingerprint: Fingerprint) -> Self {
        Self {
            file,
            fingerprint: Mutex::new(fingerprint),
            is_changed: AtomicBool::new(false),
        }
    }

    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref().map(|open| &open.file)
    }

    /// Asks the kernel whether the open file is still this version.
    pub(crate) fn check(&self) -> bool {
        let Some(file) = self.file() else {
            return false;
        };
        if self.is_changed() {
            return false;
        }
        let mut fingerprint = self
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match Fingerprint::of(file) {
            Ok(now) if fingerprint.still_holds(&now) => {
                *fingerprint = now;
                true
            }
            Ok(_) | Err(_) => {
                self.set_changed();
                false
            }
        }
    }

    /// Whether this is the version that was found at its path now.
    pub(crate) fn is_version(&self, found: &Fingerprint) -> bool {
        !self.is_changed()
            && self
                .fingerprint
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .still_holds(found)
    }

    /// No more of this version can be read.
    pub(crate) fn set_changed(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed.load(Ordering::Relaxed)
    }
}

impl OpenFile {
    /// Counts `file` as open. Returns it if `max` are open already.
    pub(crate) fn new(file: OwnedFd, count: &Arc<AtomicU32>, max: u32) -> Result<Self, OwnedFd> {
        let next = |open: u32| (open < max).then_some(open + 1);
        if count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_err()
        {
            return Err(file);
        }
        Ok(Self {
            file,
            count: Arc::clone(count),
        })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

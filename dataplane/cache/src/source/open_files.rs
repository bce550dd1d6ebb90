//! The open files of all roots, and their limits.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::key::RootId;
use crate::share::may_take;

/// The open files of all roots.
///
/// - All roots together have at most `max`, and one for each root.
/// - One root has at most [`SHARE`] times what is free, or one. So files of a hung file system,
///   which its connections keep open, leave some for other roots.
/// - A loader of the root closes a file, because a file system may block there, too. At most as
///   many again wait for that.
pub(crate) struct OpenFiles {
    max: u32,
    roots: Box<[AtomicU32]>,
    open: AtomicU32,
    closing: AtomicU32,
    closed: Sender<(RootId, OwnedFd)>,
    to_close: Receiver<(RootId, OwnedFd)>,
    /// Wakes the dispatcher.
    wake: Box<dyn Fn() + Send + Sync>,
}

/// An open file that counts towards the limits.
pub(crate) struct OpenFile {
    root: RootId,
    /// None once it was dropped.
    file: Option<OwnedFd>,
    files: Arc<OpenFiles>,
}

impl OpenFiles {
    pub(crate) fn new(max: u32, roots: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (closed, to_close) = unbounded();
        Self {
            max,
            roots: (0..roots).map(|_| AtomicU32::new(0)).collect(),
            open: AtomicU32::new(0),
            closing: AtomicU32::new(0),
            closed,
            to_close,
            wake: Box::new(wake),
        }
    }

    /// Whether the root may have one more.
    pub(crate) fn has_room(&self, root: RootId) -> bool {
        let Some(used) = self.roots.get(root.index()) else {
            return false;
        };
        let closing = self.closing.load(Ordering::Relaxed);
        let taken = self.open.load(Ordering::Relaxed) + closing.saturating_sub(self.max);
        let free = self.max.saturating_sub(taken);
        // A single root has all of them.
        let share = if self.roots.len() == 1 {
            u32::MAX
        } else {
            SHARE
        };
        may_take(used.load(Ordering::Relaxed), free, share)
    }

    /// Counts `file` as open. Returns it if the root has no room for it.
    pub(crate) fn count(
        self: &Arc<Self>,
        root: RootId,
        file: OwnedFd,
    ) -> Result<OpenFile, OwnedFd> {
        let Some(used) = self.roots.get(root.index()).filter(|_| self.has_room(root)) else {
            return Err(file);
        };
        used.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(OpenFile {
            root,
            file: Some(file),
            files: Arc::clone(self),
        })
    }

    /// The next file to close, and its root.
    pub(crate) fn next_to_close(&self) -> Option<(RootId, OwnedFd)> {
        self.to_close.try_recv().ok()
    }

    /// Notes that a file was closed.
    pub(crate) fn on_closed(&self) {
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of files that are open.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// The number of files that wait to be closed.
    pub(crate) fn closing(&self) -> u32 {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn max(&self) -> u32 {
        self.max
    }
}

impl OpenFile {
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Self { root, file, files } = self;
        files.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(used) = files.roots.get(root.index()) {
            used.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(file) = file.take() else {
            return;
        };
        files.closing.fetch_add(1, Ordering::Relaxed);
        // The receiver lives as long as this: the send can't fail.
        let _ = files.closed.send((*root, file));
        (files.wake)();
    }
}

/// A root may open a file while it has less than this many times what is free: four fifths of all
/// for the first one, four fifths of the remainder for the next.
const SHARE: u32 = 4;

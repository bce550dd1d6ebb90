//! Trees of files: opening what a path names, and reading the status of the file.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockgate_wire::Instant;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::clock::WallClock;
use super::filesystem::FileSystem;
use super::fingerprint::{Change, Fingerprint};
use crate::absence::Absence;

/// A tree's top directory. It is opened again now and then, so that a deployment may replace the
/// directory itself, or the symbolic link that leads to it.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    open: Mutex<RootDirectory>,
}

#[derive(Debug)]
struct RootDirectory {
    /// None until a file system that hung at the start has answered.
    directory: Option<Arc<OwnedFd>>,
    opened: Instant,
}

/// A regular file that was opened.
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) found: Fingerprint,
    /// The time before its status was read, and before its contents are.
    pub(crate) now: Duration,
    /// It grew each time that it was looked at, and did nothing else.
    pub(crate) is_growing: bool,
}

/// What was seen of a file that changes, at the attempts to open it so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settling {
    attempts: u32,
    /// Its status at the first attempt and at the last one.
    seen: Option<(Fingerprint, Fingerprint)>,
    /// Something else happened to it than that it grew.
    was_rewritten: bool,
}

/// The result of an attempt to open a file.
pub(crate) enum OpenOutcome {
    Opened(Opened),
    /// It was changed just now. The next attempt has to be some milliseconds later.
    Unsettled,
    Absent(Absence),
}

impl Root {
    /// A tree below `path`. A directory that isn't open yet is opened with the first file.
    pub(crate) fn new(path: &Path, directory: Option<OwnedFd>) -> Self {
        Self {
            path: path.to_owned(),
            open: Mutex::new(RootDirectory {
                directory: directory.map(Arc::new),
                opened: Instant::ZERO,
            }),
        }
    }

    /// Opens what `path` names in this tree.
    pub(crate) fn open_file(
        &self,
        system: &dyn FileSystem,
        path: &[u8],
        now: Instant,
        reopen_after: Duration,
    ) -> Result<OwnedFd, Absence> {
        let directory = self.directory(system, now, reopen_after).map_err(absence)?;
        system.open_beneath(&directory, path).map_err(absence)
    }

    fn directory(
        &self,
        system: &dyn FileSystem,
        now: Instant,
        reopen_after: Duration,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.directory.is_none() || now.saturating_since(open.opened) >= reopen_after {
            match system.open_directory(&self.path) {
                Ok(directory) => open.directory = Some(Arc::new(directory)),
                Err(error) if open.directory.is_none() => return Err(error),
                // The directory from before stays in use.
                Err(_) => {}
            }
            open.opened = now;
        }
        open.directory.clone().ok_or(Errno::NOENT)
    }
}

impl Settling {
    /// Reads the status of the file, which is certain to show every later change.
    ///
    /// Two changes within one tick of the kernel's clock have the same time, and a write is stamped
    /// when it begins, not when it ends. So a file that was changed just now is opened again a few
    /// milliseconds later, at most 30 times. A file that doesn't come to rest is served only if it
    /// grows.
    pub(crate) fn examine(
        &mut self,
        system: &dyn FileSystem,
        file: OwnedFd,
        clock: &WallClock,
    ) -> OpenOutcome {
        let now = clock.now();
        let Ok(stat) = system.status(&file) else {
            return OpenOutcome::Absent(Absence::Failed);
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return OpenOutcome::Absent(Absence::Directory),
            _ => return OpenOutcome::Absent(Absence::Forbidden),
        }
        let found = Fingerprint::from_stat(&stat);
        let opened = |is_growing| {
            OpenOutcome::Opened(Opened {
                file,
                found,
                now,
                is_growing,
            })
        };
        if found.is_settled(now) {
            return opened(false);
        }
        let first = self.observe(&found);
        self.attempts += 1;
        if self.attempts < SETTLE_ATTEMPTS {
            return OpenOutcome::Unsettled;
        }
        if !self.was_rewritten && found.len > first.len {
            return opened(true);
        }
        // It is rewritten all the time: its versions can't be distinguished.
        OpenOutcome::Absent(Absence::Changing)
    }

    /// Notes the status of a file that isn't at rest. Returns its status at the first attempt.
    fn observe(&mut self, found: &Fingerprint) -> Fingerprint {
        let is_same_file =
            |seen: &Fingerprint| (seen.device, seen.inode) == (found.device, found.inode);
        let first = match &self.seen {
            Some((first, last)) if is_same_file(last) => {
                self.was_rewritten |= last.change_to(found) == Change::Other;
                *first
            }
            // The first attempt, or another file was renamed over it since.
            Some(_) | None => {
                self.was_rewritten = false;
                *found
            }
        };
        self.seen = Some((first, *found));
        first
    }
}

fn absence(error: Errno) -> Absence {
    match error {
        // XDEV: it leads out of the tree. LOOP: it has too many links, or a magic one.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::LOOP => {
            Absence::NotFound
        }
        Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV => Absence::Forbidden,
        Errno::ISDIR => Absence::Directory,
        Errno::AGAIN => Absence::Changing,
        _ => Absence::Failed,
    }
}

const SETTLE_ATTEMPTS: u32 = 30;

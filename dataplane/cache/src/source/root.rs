//! Trees of files: opening what a path names, and reading the status of the file.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lockgate_wire::Instant;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use super::clock::WallClock;
use super::fingerprint::{Change, Fingerprint};
use crate::absence::Absence;

/// A tree's top directory. It is opened again now and then, so that a deployment may replace the
/// directory itself, or the symbolic link that leads to it.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    open: Mutex<(Arc<OwnedFd>, Instant)>,
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

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = Arc::new(open_directory(path)?);
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new((directory, Instant::ZERO)),
        })
    }

    /// Opens what `path` names in this tree, if it's a regular file, and reads its status.
    pub(crate) fn open_file(
        &self,
        path: &[u8],
        now: Instant,
        reopen_after: Duration,
        clock: &WallClock,
    ) -> Result<Opened, Absence> {
        let directory = self.directory(now, reopen_after);
        let file = open_beneath(&directory, path).map_err(absence)?;
        settle(file, clock)
    }

    fn directory(&self, now: Instant, reopen_after: Duration) -> Arc<OwnedFd> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_since(open.1) >= reopen_after {
            // If it can't be opened now, the one from before stays in use.
            if let Ok(directory) = open_directory(&self.path) {
                open.0 = Arc::new(directory);
            }
            open.1 = now;
        }
        Arc::clone(&open.0)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn open_beneath(directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    // Opening a FIFO would wait for a writer, opening a terminal could make it ours.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path: &Path = Path::new(OsStr::from_bytes(path));
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..RACES_MAX {
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            // A directory was renamed while the kernel resolved `..`.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Reads the status of the file, once every later change is certain to show in it.
///
/// Two changes within one tick of the kernel's clock have the same time, and a write is stamped
/// when it begins, not when it ends. So a file that was changed just now is looked at again 3 ms
/// later, at most 30 times. A file that doesn't come to rest is served only if it grows.
fn settle(file: OwnedFd, clock: &WallClock) -> Result<Opened, Absence> {
    let mut first: Option<Fingerprint> = None;
    let mut last: Option<(Fingerprint, Duration)> = None;
    let mut only_grows = true;
    for _ in 0..SETTLE_TRIES {
        let now = clock.now();
        let stat = fstat(&file).map_err(|_| Absence::Failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Absence::Directory),
            _ => return Err(Absence::Forbidden),
        }
        let found = Fingerprint::from_stat(&stat);
        if found.is_settled(now) {
            return Ok(Opened {
                file,
                found,
                now,
                is_growing: false,
            });
        }
        only_grows &= last.is_none_or(|(last, _)| last.change_to(&found) != Change::Other);
        first.get_or_insert(found);
        last = Some((found, now));
        thread::sleep(SETTLE_PAUSE);
    }
    match (first, last) {
        (Some(first), Some((found, now))) if only_grows && found.len > first.len => Ok(Opened {
            file,
            found,
            now,
            is_growing: true,
        }),
        // It is rewritten all the time: its versions can't be distinguished.
        _ => Err(Absence::Changing),
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

/// Attempts at a path that changes while it is resolved.
const RACES_MAX: u32 = 16;

const SETTLE_PAUSE: Duration = Duration::from_millis(3);
const SETTLE_TRIES: u32 = 30;

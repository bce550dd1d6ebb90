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
use rustix::time::{ClockId, clock_gettime};

use super::fingerprint::Fingerprint;
use crate::absence::Absence;

/// A tree's top directory. It's opened anew now and then, so that a deployment may replace the
/// directory itself, or the symbolic link that leads to it.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    open: Mutex<(Arc<OwnedFd>, Instant)>,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = Arc::new(open_directory(path)?);
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new((directory, Instant::ZERO)),
        })
    }

    /// Opens what `path` names in this tree, if it's a regular file, and says which version it is.
    pub(crate) fn open_file(
        &self,
        path: &[u8],
        now: Instant,
        reopen_after: Duration,
    ) -> Result<(OwnedFd, Fingerprint), Absence> {
        let directory = self.directory(now, reopen_after);
        let file = open_beneath(&directory, path).map_err(absence)?;
        let found = settled(&file)?;
        Ok((file, found))
    }

    fn directory(&self, now: Instant, reopen_after: Duration) -> Arc<OwnedFd> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_since(open.1) >= reopen_after {
            // If it can't be opened now, what was opened before serves on.
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
            // Something was renamed while the kernel made sure that `..` stays inside.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// The file's version, once a change to come is certain to show.
///
/// Times are stamped with the kernel's coarse clock: two changes within one of its ticks may leave
/// the same times behind. And they are stamped when a write begins, not when it ends. So a file
/// that was changed just now is looked at again a little later, when any tick of then is over, and
/// any single write that isn't huge. This compares two times of the kernel's making, and isn't the
/// time of anything here.
fn settled(file: &OwnedFd) -> Result<Fingerprint, Absence> {
    for _ in 0..SETTLE_TRIES {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let stat = fstat(file).map_err(|_| Absence::Failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Absence::Directory),
            _ => return Err(Absence::Forbidden),
        }
        let found = Fingerprint::from_stat(&stat);
        let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        let age = now - found.changed.as_nanos();
        // A time well in the future is somebody else's clock: a change stamped now will show, too.
        if age.abs() > SETTLED_NANOS {
            return Ok(found);
        }
        thread::sleep(SETTLE_PAUSE);
    }
    // Somebody writes all the time: no version of it can be told from the next one.
    Err(Absence::Changing)
}

fn absence(error: Errno) -> Absence {
    match error {
        // XDEV: it leads out of the tree. LOOP: through too many links, or a magic one.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::LOOP => {
            Absence::NotFound
        }
        Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV => Absence::Forbidden,
        Errno::ISDIR => Absence::Directory,
        Errno::AGAIN => Absence::Changing,
        _ => Absence::Failed,
    }
}

/// How often a path is tried that changes while it is resolved.
const RACES_MAX: u32 = 16;

/// A tick is ten milliseconds at most.
const SETTLED_NANOS: i128 = 20_000_000;
const SETTLE_PAUSE: Duration = Duration::from_millis(3);
const SETTLE_TRIES: u32 = 30;

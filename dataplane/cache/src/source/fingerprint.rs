//! What tells one version of a file from another: its status, as the kernel keeps it.

use std::os::fd::OwnedFd;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

/// The status of a file that identifies a version of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) len: u64,
    /// Time of modification: programs can set it to anything.
    pub(crate) modified: FileTime,
    /// Time of the last change of contents or status: only the kernel sets it.
    pub(crate) changed: FileTime,
    pub(crate) links: u64,
}

/// A time that the kernel stamped on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileTime {
    /// Since the Unix epoch.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Fingerprint {
    pub(crate) fn of(file: &OwnedFd) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::from_stat(&stat))
    }

    pub(crate) fn from_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: FileTime::new(stat.st_mtime, stat.st_mtime_nsec),
            changed: FileTime::new(stat.st_ctime, stat.st_ctime_nsec),
            links: stat.st_nlink,
        }
    }

    /// Whether an open file that was `self` and is now `later` still has the same contents. Its
    /// time of change may only differ if names of it were removed, as when another file is renamed
    /// over it: the time of modification shows that nothing was written.
    pub(crate) fn still_holds(&self, later: &Self) -> bool {
        let is_unlinked = later.links < self.links;
        (self.device, self.inode, self.len, self.modified)
            == (later.device, later.inode, later.len, later.modified)
            && (self.changed == later.changed || is_unlinked)
    }
}

impl FileTime {
    fn new(seconds: i64, nanos: u64) -> Self {
        Self {
            seconds,
            nanos: u32::try_from(nanos).unwrap_or(0),
        }
    }

    pub(crate) fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS_PER_SECOND + i128::from(self.nanos)
    }
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

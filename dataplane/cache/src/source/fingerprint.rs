//! Fingerprints: the status of a file, which distinguishes its versions.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::filesystem::FileSystem;

/// The status of a file that identifies a version of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) len: u64,
    /// Time of modification. Programs can set it to anything.
    pub(crate) modified: FileTime,
    /// Time of the last change of contents or status. Only the kernel sets it, to its own clock.
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

/// The difference between two fingerprints of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// None.
    None,
    /// Names of it were removed, as when another file is renamed over it. This moves the change
    /// time. The modification time shows that nothing was written, unless a program put it back.
    Unlinked,
    /// It is longer. Its first bytes may or may not be the same.
    Grown,
    /// Its times are later, its length is the same: it was rewritten, or an append is in progress.
    /// The kernel stamps the times before it moves the end.
    Touched,
    /// Anything else.
    Other,
}

/// How long ago a file was changed, as far as validators depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChangeAge {
    /// At most two seconds ago: another change may have the same change time.
    Young,
    /// It was modified at most five minutes ago. It may be a log that grows while it is served.
    Recent,
    /// Longer ago.
    Old,
}

impl Fingerprint {
    pub(crate) fn of(system: &dyn FileSystem, file: &OwnedFd) -> Result<Self, Errno> {
        system.status(file).map(|stat| Self::from_stat(&stat))
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

    /// Whether `other` is the status of the same version: all that a tag is made of is equal. The
    /// number of names isn't compared, because a change of it moves the change time.
    pub(crate) fn is_same_version(&self, other: &Self) -> bool {
        let parts = |f: &Self| (f.device, f.inode, f.len, f.modified, f.changed);
        parts(self) == parts(other)
    }

    /// Returns the change of a file that was `self` and is now `later`.
    pub(crate) fn change_to(&self, later: &Self) -> Change {
        if self.is_same_version(later) {
            return Change::None;
        }
        if (self.device, self.inode) != (later.device, later.inode) {
            return Change::Other;
        }
        if (self.len, self.modified) == (later.len, later.modified) && later.links < self.links {
            return Change::Unlinked;
        }
        // A modification time that went back was set by a program, as after a rewrite.
        let is_later = later.modified >= self.modified && later.changed >= self.changed;
        if later.len > self.len && is_later {
            return Change::Grown;
        }
        if later.len == self.len && is_later && later.modified > self.modified {
            return Change::Touched;
        }
        Change::Other
    }

    /// Whether every later change shows in the status, `now` being a time before the status was
    /// read. Two changes within one tick of the kernel's clock may have the same stamp.
    ///
    /// A change time far in the future was stamped by another clock: a change stamped now differs.
    pub(crate) fn is_settled(&self, now: Duration) -> bool {
        self.changed.age_nanos(now).abs() > SETTLED_NANOS
    }

    /// Returns how long ago the file was changed, `now` being a time before it is read.
    ///
    /// - A change time in the future is young: the clock was set back, and may come to it again.
    /// - A modification time in the future isn't recent: a program has set it.
    /// - A file that `is_read_at_once` is never recent: it can't grow while it is served.
    pub(crate) fn change_age(&self, now: Duration, is_read_at_once: bool) -> ChangeAge {
        let recent = 0..=RECENT_NANOS;
        if self.changed.age_nanos(now) <= YOUNG_NANOS {
            ChangeAge::Young
        } else if !is_read_at_once && recent.contains(&self.modified.age_nanos(now)) {
            ChangeAge::Recent
        } else {
            ChangeAge::Old
        }
    }
}

impl FileTime {
    fn new(seconds: i64, nanos: u64) -> Self {
        Self {
            seconds,
            nanos: u32::try_from(nanos).unwrap_or(0),
        }
    }

    fn age_nanos(self, now: Duration) -> i128 {
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        now - (i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos))
    }
}

/// Twice the longest tick of a kernel's clock (10 ms at 100 Hz).
const SETTLED_NANOS: i128 = 20_000_000;

/// The coarsest stamps of a file system (2 s on FAT; 1 s on ext3 and older NFS). It also covers
/// single writes that take that long: they are stamped when they begin.
const YOUNG_NANOS: i128 = 2_000_000_000;

/// A log that is appended to once in this time can always be downloaded.
const RECENT_NANOS: i128 = 300_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: Duration = Duration::from_secs(1_000);

    fn at(seconds: i64, nanos: u32) -> FileTime {
        FileTime { seconds, nanos }
    }

    fn base() -> Fingerprint {
        Fingerprint {
            device: 1,
            inode: 2,
            len: 3_000,
            modified: at(900, 5),
            changed: at(1_000, 0),
            links: 2,
        }
    }

    #[test]
    fn each_change_of_the_status_has_its_kind() {
        let same = base();
        let (len, modified, changed) = (same.len, same.modified, same.changed);
        let later = at(1_001, 0);
        let with = |change: &dyn Fn(&mut Fingerprint)| {
            let mut later = base();
            change(&mut later);
            base().change_to(&later)
        };
        assert_eq!(base().change_to(&same), Change::None);
        type Case<'a> = (&'a str, Change, &'a dyn Fn(&mut Fingerprint));
        let cases: &[Case<'_>] = &[
            ("renamed over", Change::Unlinked, &|f| {
                (f.links, f.changed) = (1, later)
            }),
            ("unlinked, clock set back", Change::Unlinked, &|f| {
                (f.links, f.changed) = (0, at(999, 0))
            }),
            ("unlinked within a tick", Change::None, &|f| f.links = 1),
            ("a new name", Change::Other, &|f| {
                (f.links, f.changed) = (3, later)
            }),
            (
                "chmod, or rewritten with its mtime put back",
                Change::Other,
                &|f| f.changed = later,
            ),
            ("rewritten", Change::Touched, &|f| {
                (f.modified, f.changed) = (later, later)
            }),
            ("appended", Change::Grown, &|f| {
                (f.len, f.modified, f.changed) = (len + 1, later, later)
            }),
            ("appended within a tick", Change::Grown, &|f| {
                f.len = len + 1
            }),
            ("appended, mtime put back", Change::Grown, &|f| {
                (f.len, f.changed) = (len + 1, later)
            }),
            ("longer and older", Change::Other, &|f| {
                (f.len, f.modified) = (len + 1, at(899, 0))
            }),
            ("longer, clock set back", Change::Other, &|f| {
                (f.len, f.changed) = (len + 1, at(999, 0))
            }),
            ("truncated", Change::Other, &|f| {
                (f.len, f.modified, f.changed) = (len - 1, later, later)
            }),
            ("emptied within a tick", Change::Other, &|f| f.len = 0),
            ("another inode", Change::Other, &|f| {
                (f.inode, f.len) = (3, len + 1)
            }),
            ("another device", Change::Other, &|f| f.device = 9),
            ("unlinked and rewritten", Change::Touched, &|f| {
                (f.links, f.modified) = (0, later)
            }),
        ];
        for (name, expected, change) in cases {
            assert_eq!(with(*change), *expected, "{name}");
            // A version at a path ends with each change, whatever running bodies make of it.
            let mut later = base();
            change(&mut later);
            let is_same = *expected == Change::None;
            assert_eq!(base().is_same_version(&later), is_same, "{name}");
        }
        assert_eq!((modified, changed), (base().modified, base().changed));
    }

    #[test]
    fn a_change_time_settles_after_two_ticks_and_is_young_for_two_seconds() {
        let nano = Duration::from_nanos(1);
        let ms = Duration::from_millis;
        for (now, is_settled, age) in [
            (CHANGED, false, ChangeAge::Young),
            (CHANGED + ms(20), false, ChangeAge::Young),
            (CHANGED + ms(20) + nano, true, ChangeAge::Young),
            (CHANGED + ms(2_000), true, ChangeAge::Young),
            (CHANGED + ms(2_000) + nano, true, ChangeAge::Old),
            (CHANGED + ms(1_000_000), true, ChangeAge::Old),
            // In the future.
            (CHANGED - ms(20), false, ChangeAge::Young),
            (CHANGED - ms(21), true, ChangeAge::Young),
            (Duration::ZERO, true, ChangeAge::Young),
        ] {
            assert_eq!(base().is_settled(now), is_settled, "{now:?}");
            assert_eq!(base().change_age(now, true), age, "{now:?}");
        }
    }

    #[test]
    fn a_file_that_is_read_in_spans_is_recent_for_five_minutes_after_it_was_modified() {
        let nano = Duration::from_nanos(1);
        let seconds = Duration::from_secs;
        let modified_at = |modified: FileTime| Fingerprint { modified, ..base() };
        let written = modified_at(base().changed);
        for (found, now, age) in [
            (written, CHANGED + seconds(2), ChangeAge::Young),
            (written, CHANGED + seconds(2) + nano, ChangeAge::Recent),
            (written, CHANGED + seconds(300), ChangeAge::Recent),
            (written, CHANGED + seconds(300) + nano, ChangeAge::Old),
            // Copied or renamed now, modified long ago.
            (
                modified_at(at(0, 0)),
                CHANGED + seconds(2),
                ChangeAge::Young,
            ),
            (modified_at(at(0, 0)), CHANGED + seconds(3), ChangeAge::Old),
            // A program has set it to the future.
            (
                modified_at(at(1_004, 0)),
                CHANGED + seconds(3),
                ChangeAge::Old,
            ),
            (
                modified_at(at(1_004, 0)),
                CHANGED + seconds(4),
                ChangeAge::Recent,
            ),
        ] {
            assert_eq!(found.change_age(now, false), age, "{now:?}");
        }
        assert_eq!(
            written.change_age(CHANGED + seconds(3), true),
            ChangeAge::Old
        );
        assert!(ChangeAge::Young < ChangeAge::Recent && ChangeAge::Recent < ChangeAge::Old);
    }
}

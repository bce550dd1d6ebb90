//! Handles: what an object keeps of its source.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::digests::SpanDigests;
use super::fingerprint::{Change, ChangeAge, Fingerprint};

/// What an object keeps of its source: one variant for each kind of source. The store never looks
/// inside.
pub(crate) enum SourceHandle {
    File(FileHandle),
}

/// One version of a file.
pub(crate) struct FileHandle {
    /// The open file, if its contents are read span by span.
    file: Option<OpenFile>,
    /// As it was when it was opened. Its validators are made of this.
    opened: Fingerprint,
    /// How long ago it was changed when it was opened.
    age: ChangeAge,
    /// Its tag is strong: no byte of another version may go out under it.
    is_strong: bool,
    /// The file isn't this version any more: no more of it can be read.
    is_changed: AtomicBool,
    reads: Mutex<Reads>,
}

/// What is known of the file from reading it.
struct Reads {
    /// As it was last seen, if it had the same contents then, or only more of them.
    fingerprint: Fingerprint,
    /// Every change since then shows in its status.
    is_settled: bool,
    digests: SpanDigests,
}

/// An open file that counts towards the limit of open files.
pub(crate) struct OpenFile {
    file: OwnedFd,
    count: Arc<AtomicU32>,
}

/// A span that was just read.
pub(crate) struct ReadSpan {
    pub(crate) index: u64,
    pub(crate) digest: u64,
    /// No span of the file is behind it.
    pub(crate) is_last: bool,
    /// The time before it was read.
    pub(crate) now: Duration,
}

/// Whether what was read belongs to the version of the handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadVerdict {
    Unchanged,
    /// It does, as far as can be known: the file is longer now. Its tag is weak.
    Grown,
    Changed,
}

impl FileHandle {
    /// A file that was `opened` at `now`, in `spans` spans.
    pub(crate) fn new(
        file: Option<OpenFile>,
        opened: Fingerprint,
        now: Duration,
        age: ChangeAge,
        is_strong: bool,
        spans: u64,
    ) -> Self {
        Self {
            file,
            opened,
            age,
            is_strong,
            is_changed: AtomicBool::new(false),
            reads: Mutex::new(Reads {
                fingerprint: opened,
                is_settled: opened.is_settled(now),
                digests: SpanDigests::new(spans),
            }),
        }
    }

    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref().map(|open| &open.file)
    }

    /// Whether this is the version that was found at its path. It is compared with the status that
    /// its validators were made of, whatever a running body has accepted since.
    pub(crate) fn is_version(&self, found: &Fingerprint) -> bool {
        !self.is_changed() && self.opened.is_same_version(found)
    }

    /// Whether the file has to be read again, although it `is_version`, because it is in a later
    /// `age` now. What was read while its change time was young may lack a change with the same
    /// time. Running bodies of what was recent may continue when it grows, under its weak tag only.
    pub(crate) fn has_matured(&self, age: ChangeAge) -> bool {
        self.age < age
    }

    /// Decides whether a span that was just read belongs to this version.
    ///
    /// - The status is as before, and would show any change: it does.
    /// - The file grew, and its tag is strong: it doesn't, because the span may have been
    ///   overwritten before the file grew. Spans in memory were read before, and stay.
    /// - The file grew and its tag is weak, or names of it were removed, or a change within the
    ///   same tick might not show: it does if the spans that were read before have their old
    ///   digests still. `reread` finds the digest that a span has now. At most 64 are read again
    ///   for each span, and all that are known for the last one and after names were removed.
    /// - Anything else: it doesn't, and nothing more can be read of this version.
    pub(crate) fn check_read(
        &self,
        span: &ReadSpan,
        reread: impl FnMut(u64) -> Option<u64>,
    ) -> ReadVerdict {
        let Some(file) = self.file().filter(|_| !self.is_changed()) else {
            return ReadVerdict::Changed;
        };
        let mut reads = self.reads();
        let change = change_since(file, &reads.fingerprint);
        let verdict = match change {
            Ok((Change::None, _)) if reads.is_settled => ReadVerdict::Unchanged,
            Ok((Change::Grown, _)) if self.is_strong => ReadVerdict::Changed,
            Ok((change @ (Change::None | Change::Unlinked | Change::Grown), found)) => {
                let limit = if span.is_last || change == Change::Unlinked {
                    usize::MAX
                } else {
                    VERIFIED_MAX
                };
                if reads.digests.verify(limit, reread) {
                    reads.fingerprint = found;
                    reads.is_settled = found.is_settled(span.now);
                    if change == Change::Grown {
                        ReadVerdict::Grown
                    } else {
                        ReadVerdict::Unchanged
                    }
                } else {
                    ReadVerdict::Changed
                }
            }
            Ok((Change::Touched | Change::Other, _)) | Err(_) => ReadVerdict::Changed,
        };
        if verdict == ReadVerdict::Changed || !reads.digests.insert(span.index, span.digest) {
            self.set_changed();
            return ReadVerdict::Changed;
        }
        verdict
    }

    /// No more of this version can be read.
    pub(crate) fn set_changed(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed.load(Ordering::Relaxed)
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Returns what happened to an open file since it had a fingerprint, and its fingerprint now. Waits
/// for an append that may be in progress.
fn change_since(file: &OwnedFd, before: &Fingerprint) -> Result<(Change, Fingerprint), Errno> {
    let mut found = Fingerprint::of(file)?;
    for _ in 0..APPEND_TRIES {
        if before.change_to(&found) != Change::Touched {
            break;
        }
        thread::sleep(APPEND_PAUSE);
        found = Fingerprint::of(file)?;
    }
    Ok((before.change_to(&found), found))
}

/// How long an append may take from its times to its length, as often as it's looked for.
const APPEND_PAUSE: Duration = Duration::from_millis(1);
const APPEND_TRIES: u32 = 20;

/// Spans of a growing file that are read again for each new one: 4 MiB, less than a millisecond
/// from the kernel's page cache.
const VERIFIED_MAX: usize = 64;

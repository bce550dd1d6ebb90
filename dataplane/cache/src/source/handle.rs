//! Handles: what an object keeps of its source.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::digests::SpanDigests;
use super::filesystem::FileSystem;
use super::fingerprint::{Change, ChangeAge, Fingerprint};
use super::open_files::OpenFile;

/// What an object keeps of its source: one variant for each kind of source. The store never looks
/// inside.
pub(crate) enum SourceHandle {
    File(FileHandle),
}

/// Which version of a representation an object is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version(Fingerprint);

/// One version of a file.
pub(crate) struct FileHandle {
    /// The open file, if its contents are read span by span.
    file: Option<OpenFile>,
    /// What offsets and lengths of reads have to be a multiple of, if they pass the kernel's page
    /// cache by.
    direct: Option<NonZeroU32>,
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
    /// None while a loader verifies them.
    digests: Option<SpanDigests>,
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

/// The verification of spans that were read before. It has the digests of the file meanwhile.
pub(crate) struct Verification {
    digests: SpanDigests,
    change: Change,
    found: Fingerprint,
    /// The number of spans that are left to verify.
    left: usize,
}

/// The result of a step of checking a span that was just read.
pub(crate) enum CheckStep {
    Done(ReadVerdict),
    /// Other spans have to be read again first. Call again with the verification.
    Verifying(Verification),
    /// An append seems to be in progress: the span has to be read again a little later.
    Touched,
    /// Another loader verifies spans of the file: the span has to be read again a little later.
    Busy,
}

/// Whether what was read belongs to the version of the handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadVerdict {
    Unchanged,
    /// It does, as far as can be known: the file is longer now. Its tag is weak.
    Grown,
    Changed,
}

impl SourceHandle {
    pub(crate) fn version(&self) -> Version {
        let Self::File(handle) = self;
        Version(handle.opened)
    }

    /// Whether this is the same version of the same representation.
    pub(crate) fn is_version(&self, version: &Version) -> bool {
        let Self::File(handle) = self;
        handle.is_version(&version.0)
    }
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
            direct: None,
            opened,
            age,
            is_strong,
            is_changed: AtomicBool::new(false),
            reads: Mutex::new(Reads {
                fingerprint: opened,
                is_settled: opened.is_settled(now),
                digests: Some(SpanDigests::new(spans)),
            }),
        }
    }

    /// The same, with reads that pass the kernel's page cache by.
    pub(crate) fn with_direct(mut self, direct: Option<NonZeroU32>) -> Self {
        self.direct = direct;
        self
    }

    pub(crate) fn direct(&self) -> Option<NonZeroU32> {
        self.direct
    }

    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref().and_then(OpenFile::file)
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

    /// Whether a loader verifies spans of the file: no other span can be checked meanwhile.
    pub(crate) fn is_verifying(&self) -> bool {
        self.reads().digests.is_none()
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
    ///
    /// A step reads at most 17 spans, so that a loader can do other work between two of them.
    pub(crate) fn check_read(
        &self,
        system: &dyn FileSystem,
        span: &ReadSpan,
        verification: Option<Verification>,
        reread: impl FnMut(u64) -> Option<u64>,
    ) -> CheckStep {
        let verification = match verification {
            Some(verification) => Ok(verification),
            None => self.begin_check(system, span),
        };
        match verification {
            Ok(verification) => self.verify(span, verification, reread),
            Err(CheckStep::Done(ReadVerdict::Changed)) => {
                self.set_changed();
                CheckStep::Done(ReadVerdict::Changed)
            }
            Err(step) => step,
        }
    }

    /// Compares the status with the last one. Takes the digests if they have to be verified.
    fn begin_check(
        &self,
        system: &dyn FileSystem,
        span: &ReadSpan,
    ) -> Result<Verification, CheckStep> {
        let changed = CheckStep::Done(ReadVerdict::Changed);
        let Some(file) = self.file().filter(|_| !self.is_changed()) else {
            return Err(changed);
        };
        let before = self.reads().fingerprint;
        let Ok(found) = Fingerprint::of(system, file) else {
            return Err(changed);
        };
        let mut reads = self.reads();
        let reads = &mut *reads;
        if !reads.fingerprint.is_same_version(&before) {
            return Err(CheckStep::Busy);
        }
        let Some(digests) = &mut reads.digests else {
            return Err(CheckStep::Busy);
        };
        let change = before.change_to(&found);
        match change {
            Change::None if reads.is_settled => {
                let is_same = digests.insert(span.index, span.digest);
                let verdict = if is_same {
                    ReadVerdict::Unchanged
                } else {
                    ReadVerdict::Changed
                };
                Err(CheckStep::Done(verdict))
            }
            Change::Grown if self.is_strong => Err(changed),
            Change::None | Change::Unlinked | Change::Grown => {
                let all = digests.others();
                let left = if span.is_last || change == Change::Unlinked {
                    all
                } else {
                    all.min(VERIFIED_MAX)
                };
                let digests = reads.digests.take().ok_or(CheckStep::Busy)?;
                Ok(Verification {
                    digests,
                    change,
                    found,
                    left,
                })
            }
            Change::Touched => Err(CheckStep::Touched),
            Change::Other => Err(changed),
        }
    }

    /// Verifies a few spans. Returns the digests to the handle after the last one.
    fn verify(
        &self,
        span: &ReadSpan,
        mut verification: Verification,
        reread: impl FnMut(u64) -> Option<u64>,
    ) -> CheckStep {
        let count = verification.left.min(STEP_SPANS);
        let is_same = verification.digests.verify(count, reread);
        verification.left -= count;
        if is_same && verification.left > 0 && !self.is_changed() {
            return CheckStep::Verifying(verification);
        }
        let Verification {
            mut digests,
            change,
            found,
            ..
        } = verification;
        let is_same = is_same && digests.insert(span.index, span.digest);
        let mut reads = self.reads();
        reads.digests = Some(digests);
        if !is_same || self.is_changed() {
            self.set_changed();
            return CheckStep::Done(ReadVerdict::Changed);
        }
        reads.fingerprint = found;
        reads.is_settled = found.is_settled(span.now);
        CheckStep::Done(if change == Change::Grown {
            ReadVerdict::Grown
        } else {
            ReadVerdict::Unchanged
        })
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

/// Spans of a growing file that are read again for each new one: 4 MiB, less than a millisecond
/// from the kernel's page cache.
const VERIFIED_MAX: usize = 64;

/// Spans that are read again in one step: a mebibyte, and the first span.
const STEP_SPANS: usize = 16;

//! What loaders do: they look up files and read their spans.

use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use lockgate_wire::Instant;
use pktbuf::{PageMut, SharedSpan};
use rustix::io::Errno;

use super::clock::WallClock;
use super::filesystem::FileSystem;
use super::fingerprint::{Change, Fingerprint};
use super::handle::{CheckStep, FileHandle, ReadSpan, ReadVerdict, SourceHandle};
use super::job::{Job, JobEnd, Reading};
use super::open_files::{OpenFile, OpenFiles};
use super::root::{OpenOutcome, Opened, Root};
use super::validators::entity;
use crate::absence::Absence;
use crate::counters::LoaderCounters;
use crate::key::{Key, RootId};
use crate::request::Task;
use crate::store::Store;
use crate::store::index::Class;
use crate::store::object::{Content, Object, SPAN_BYTES};

/// What all loaders of a file source share.
pub(crate) struct Files {
    pub(crate) store: Arc<Store>,
    pub(crate) system: Arc<dyn FileSystem>,
    pub(crate) roots: Vec<Root>,
    /// How long a root directory is used before it is opened again.
    pub(crate) revalidate: Duration,
    pub(crate) whole_bytes_max: u32,
    pub(crate) open: Arc<OpenFiles>,
    pub(crate) counters: LoaderCounters,
    pub(crate) clock: WallClock,
    /// Makes digests of spans.
    pub(crate) hasher: DefaultHashBuilder,
    /// Jobs wait for memory: what is freed is for them.
    pub(crate) is_memory_short: AtomicBool,
}

impl Files {
    /// Does a job, or a step of it.
    pub(crate) fn run(&self, mut job: Job) -> JobEnd {
        if !job.is_started && !self.store.start(&job.task) {
            return JobEnd::Done;
        }
        job.is_started = true;
        match &job.task {
            Task::Lookup { key, now } => {
                let (key, now) = (key.clone(), *now);
                self.load_object(job, key, now)
            }
            Task::ReadSpan { object, index } => {
                let (object, index) = (Arc::clone(object), *index);
                self.load_span(job, object, index)
            }
            Task::Close { .. } => {
                if let Task::Close { file, .. } = job.task {
                    self.system.close(file);
                    self.open.on_closed();
                }
                JobEnd::Done
            }
        }
    }

    /// Opens what is at a path. If it isn't the stored version, loads it.
    fn load_object(&self, mut job: Job, key: Key, now: Instant) -> JobEnd {
        let opened = match self.open(&mut job, &key, now) {
            OpenOutcome::Opened(opened) => opened,
            OpenOutcome::Unsettled => return JobEnd::Later(job),
            OpenOutcome::Absent(absence) => {
                self.store.absent(&key, absence);
                return JobEnd::Done;
            }
        };
        let is_whole = opened.found.len <= u64::from(self.whole_bytes_max);
        let age = opened.found.change_age(opened.now, is_whole);
        let stored = self.store.find(&key);
        let stored = stored.filter(|object| file_of(object).is_version(&opened.found));
        if let Some(object) = &stored
            && !file_of(object).has_matured(age)
        {
            self.store.revalidated(object, now);
            return JobEnd::Done;
        }
        let is_trusted = self.system.has_reliable_change_time(&opened.file);
        let entity = entity(&key, &opened.found, opened.now, age, is_trusted);
        let is_strong = !entity.validators().tag().is_weak();
        let spans = entity.len().div_ceil(u64::from(SPAN_BYTES));
        let (content, file) = if is_whole {
            match self.read_whole(&opened, job.page.take()) {
                Ok(span) => (Content::Whole(span), None),
                Err(ReadError::NoMemory(len)) => return JobEnd::NoMemory(job, len),
                Err(ReadError::Changed) => return self.open_again(job, &key),
                Err(ReadError::Failed) => {
                    self.store.absent(&key, Absence::Failed);
                    return JobEnd::Done;
                }
            }
        } else {
            let Some(file) = self.keep_open(key.root, opened.file) else {
                return JobEnd::NoFile(job);
            };
            (Content::Spans(self.store.new_span_table(spans)), Some(file))
        };
        let spans_read = if file.is_some() { spans } else { 0 };
        let Opened { found, now: at, .. } = opened;
        let handle = FileHandle::new(file, found, at, age, is_strong, spans_read);
        let source = SourceHandle::File(handle);
        let object = Arc::new(Object::new(key, entity, content, source, now));
        if stored.is_some() {
            self.store.replace_same_version(&object);
        } else {
            self.store.insert(&object);
        }
        JobEnd::Done
    }

    fn open(&self, job: &mut Job, key: &Key, now: Instant) -> OpenOutcome {
        let Some(root) = self.roots.get(key.root.index()) else {
            return OpenOutcome::Absent(Absence::NotFound);
        };
        let system = &*self.system;
        match root.open_file(system, &key.path, now, self.revalidate) {
            Ok(file) => {
                let settling = job.settling.get_or_insert_default();
                settling.examine(system, file, &self.clock)
            }
            Err(absence) => OpenOutcome::Absent(absence),
        }
    }

    /// Decides whether to try a small file again that changed while it was read.
    fn open_again(&self, mut job: Job, key: &Key) -> JobEnd {
        job.attempts += 1;
        job.settling = None;
        if job.attempts < CHANGES_MAX {
            return JobEnd::Yield(job);
        }
        self.store.absent(key, Absence::Changing);
        JobEnd::Done
    }

    /// Reads a small file. It has the contents of its fingerprint only if its status is the same
    /// afterwards. A file that keeps growing has to have the same contents when it is read again.
    fn read_whole(
        &self,
        opened: &Opened,
        granted: Option<PageMut>,
    ) -> Result<Option<Arc<SharedSpan>>, ReadError> {
        let Opened { file, found, .. } = opened;
        let len = usize::try_from(found.len).map_err(|_| ReadError::Changed)?;
        if len == 0 {
            return Ok(None);
        }
        let mut page = self.allocate(len, granted)?;
        self.read(file, &mut page[..len], 0)?;
        let later = Fingerprint::of(&*self.system, file).map_err(|_| ReadError::Failed)?;
        let is_same = match found.change_to(&later) {
            Change::None => true,
            Change::Grown | Change::Touched if opened.is_growing => {
                let mut again = vec![0; len];
                self.read(file, &mut again, 0)?;
                *again == page[..len]
            }
            Change::Unlinked | Change::Grown | Change::Touched | Change::Other => false,
        };
        if is_same {
            Ok(Some(page.freeze(len)))
        } else {
            Err(ReadError::Changed)
        }
    }

    /// Returns the memory that was granted, if it is enough. Else allocates some, unless other jobs
    /// wait for it.
    fn allocate(&self, len: usize, granted: Option<PageMut>) -> Result<PageMut, ReadError> {
        if let Some(page) = granted.filter(|page| page.len() >= len) {
            return Ok(page);
        }
        let is_short = self.is_memory_short.load(Ordering::Relaxed);
        let page = (!is_short).then(|| self.store.allocate(len)).flatten();
        page.ok_or(ReadError::NoMemory(len))
    }

    /// Counts a large file as open. Returns none if its root has as many as it may, all of them in
    /// use.
    fn keep_open(&self, root: RootId, mut file: OwnedFd) -> Option<OpenFile> {
        loop {
            match self.open.count(root, file) {
                Ok(open) => return Some(open),
                Err(refused) => file = refused,
            }
            if !self.make_room(root) {
                return None;
            }
        }
    }

    /// Whether the root may open a file, after closing unused ones.
    pub(crate) fn make_room(&self, root: RootId) -> bool {
        while !self.open.has_room(root) {
            if !self.store.evict_object(Class::Large) {
                return false;
            }
        }
        true
    }

    /// Reads a span of a large file and publishes it, or fails it if the file has changed.
    fn load_span(&self, mut job: Job, object: Arc<Object>, index: u64) -> JobEnd {
        let handle = file_of(&object);
        let (page, span, verification) = match job.reading.take() {
            Some(reading) => (reading.page, reading.span, Some(reading.verification)),
            None if handle.is_verifying() => return JobEnd::Later(job),
            None => match self.read_span(&object, index, job.page.take()) {
                Ok((page, span)) => (page, span, None),
                Err(ReadError::NoMemory(len)) => return JobEnd::NoMemory(job, len),
                Err(ReadError::Changed) => return self.fail(&object, index, Absence::Changing),
                Err(ReadError::Failed) => return self.fail(&object, index, Absence::Failed),
            },
        };
        let mut again = Vec::new();
        let reread = |index| {
            let file = handle.file()?;
            again.resize(object.span_len(index), 0);
            self.read(file, &mut again, offset_of(index)).ok()?;
            Some(self.digest(&again))
        };
        match handle.check_read(&*self.system, &span, verification, reread) {
            CheckStep::Done(ReadVerdict::Changed) => self.fail(&object, index, Absence::Changing),
            CheckStep::Done(verdict) => {
                let span = page.freeze(object.span_len(index));
                self.store.publish_span(&object, index, &span);
                if verdict == ReadVerdict::Grown {
                    // Running bodies continue. The next lookup finds the longer version.
                    self.store.retire(&object);
                }
                JobEnd::Done
            }
            CheckStep::Verifying(verification) => {
                job.reading = Some(Box::new(Reading {
                    page,
                    span,
                    verification,
                }));
                JobEnd::Yield(job)
            }
            CheckStep::Busy => JobEnd::Later(job),
            CheckStep::Touched => {
                job.attempts += 1;
                if job.attempts < APPEND_TRIES {
                    JobEnd::Later(job)
                } else {
                    self.fail(&object, index, Absence::Changing)
                }
            }
        }
    }

    /// Fails a span: the file has changed or can't be read. The next lookup opens it anew.
    fn fail(&self, object: &Arc<Object>, index: u64, absence: Absence) -> JobEnd {
        file_of(object).set_changed();
        self.store.fail_span(object, index, absence);
        JobEnd::Done
    }

    fn read_span(
        &self,
        object: &Object,
        index: u64,
        granted: Option<PageMut>,
    ) -> Result<(PageMut, ReadSpan), ReadError> {
        let handle = file_of(object);
        let len = object.span_len(index);
        let file = handle.file().filter(|_| len > 0 && !handle.is_changed());
        let file = file.ok_or(ReadError::Changed)?;
        let mut page = self.allocate(len, granted)?;
        let now = self.clock.now();
        self.read(file, &mut page[..len], offset_of(index))?;
        let span = ReadSpan {
            index,
            digest: self.digest(&page[..len]),
            is_last: index + 1 == object.span_count(),
            now,
        };
        Ok((page, span))
    }

    fn digest(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buffer.len() {
            match self
                .system
                .read(file, &mut buffer[done..], offset + done as u64)
            {
                // It is shorter now.
                Ok(0) => return Err(ReadError::Changed),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.counters.read_errors.add(1);
                    return Err(ReadError::Failed);
                }
            }
        }
        self.counters.loads.add(1);
        self.counters.bytes_read.add(done as u64);
        Ok(())
    }
}

/// The file that an object is a version of.
fn file_of(object: &Object) -> &FileHandle {
    let SourceHandle::File(handle) = object.source();
    handle
}

fn offset_of(index: u64) -> u64 {
    index.saturating_mul(u64::from(SPAN_BYTES))
}

/// Why a read has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadError {
    /// So many bytes are needed.
    NoMemory(usize),
    Changed,
    Failed,
}

/// Attempts at a small file that changes while it is read.
const CHANGES_MAX: u8 = 4;

/// How often a span is read again because an append seems to be in progress: the kernel stamps the
/// times before it moves the end.
const APPEND_TRIES: u8 = 20;

#[cfg(test)]
mod tests;

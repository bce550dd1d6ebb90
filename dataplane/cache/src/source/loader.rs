//! What loaders do: they look up files and read their spans.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockgate_http::Entity;
use lockgate_uring::{Completion, Read};
use lockgate_wire::Instant;
use pktbuf::{PageFill, SharedSpan};
use twox_hash::XxHash3_64;

use super::clock::WallClock;
use super::filesystem::FileSystem;
use super::fingerprint::{Change, ChangeAge, Fingerprint};
use super::handle::{CheckStep, FileHandle, ReadSpan, ReadVerdict, SourceHandle, Verification};
use super::job::{Job, JobEnd, Reading};
use super::open_files::{OpenFile, OpenFiles};
use super::reader::{NewReader, PendingRead, ReadError, aligned, is_transient, read_for};
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
    /// Makes the readers of loaders; none if they read by `system`.
    pub(crate) new_reader: Option<NewReader>,
    pub(crate) roots: Vec<Root>,
    /// How long a root directory is used before it is opened again.
    pub(crate) revalidate: Duration,
    pub(crate) whole_bytes_max: u32,
    /// Files that are read span by span are read past the kernel's page cache.
    pub(crate) is_direct: bool,
    pub(crate) open: Arc<OpenFiles>,
    pub(crate) counters: LoaderCounters,
    pub(crate) clock: WallClock,
    /// Of digests of spans: another one in each process.
    pub(crate) digest_seed: u64,
    /// Jobs wait for memory: what is freed is for them.
    pub(crate) is_memory_short: AtomicBool,
}

impl Files {
    /// Does a job, or a step of it, unless it reads a span that no body waits for any more.
    pub(crate) fn run_if_wanted(&self, job: Job) -> JobEnd {
        match &job.task {
            Task::ReadSpan { object, index } if job.reading.is_none() && !object.has_bodies() => {
                self.counters.abandoned.add(1);
                self.store.abandon_span(object, *index);
                JobEnd::Done
            }
            Task::ReadSpan { .. } | Task::Lookup { .. } | Task::Close { .. } => self.run(job),
        }
    }

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
                self.load_span(job, &object, index)
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
        if !is_whole {
            return self.keep_large(job, opened, stored.is_some());
        }
        let Ok(len) = usize::try_from(opened.found.len) else {
            return self.open_again(job, &key);
        };
        if len == 0 {
            return self.store_small(&key, now, &opened, None);
        }
        let page = match self.allocate(len, job.page.take()) {
            Ok(page) => page,
            Err(NoMemory(len)) => return JobEnd::NoMemory(job, len),
        };
        let began = opened.now;
        JobEnd::Read(read_for(job, Some(opened), page, 0, len, began))
    }

    /// Stores an object that is read span by span.
    fn keep_large(&self, job: Job, opened: Opened, is_same_version: bool) -> JobEnd {
        let Task::Lookup { key, now } = &job.task else {
            return JobEnd::Done;
        };
        let spans = opened.found.len.div_ceil(u64::from(SPAN_BYTES));
        let age = opened.found.change_age(opened.now, false);
        let entity = self.entity(key, &opened, age);
        let is_strong = !entity.validators().tag().is_weak();
        let Opened {
            file,
            found,
            now: at,
            ..
        } = opened;
        let Some(file) = self.keep_open(key.root, file) else {
            return JobEnd::NoFile(job);
        };
        let direct = file.file().filter(|_| self.is_direct);
        let direct = direct.and_then(|file| self.system.set_direct(file));
        self.counters.direct_files.add(u64::from(direct.is_some()));
        let handle = FileHandle::new(Some(file), found, at, age, is_strong, spans);
        let handle = handle.with_direct(direct);
        let content = Content::Spans(self.store.new_span_table(spans));
        let source = SourceHandle::File(handle);
        let object = Object::new(key.clone(), entity, content, source, *now);
        self.store_object(&Arc::new(object), is_same_version);
        JobEnd::Done
    }

    /// Stores an object that is kept in one span; none if it is empty.
    fn store_small(
        &self,
        key: &Key,
        now: Instant,
        opened: &Opened,
        span: Option<Arc<SharedSpan>>,
    ) -> JobEnd {
        let age = opened.found.change_age(opened.now, true);
        let entity = self.entity(key, opened, age);
        let is_strong = !entity.validators().tag().is_weak();
        let handle = FileHandle::new(None, opened.found, opened.now, age, is_strong, 0);
        let stored = self.store.find(key);
        let is_same = |object: Arc<Object>| file_of(&object).is_version(&opened.found);
        let content = Content::Whole(span);
        let source = SourceHandle::File(handle);
        let object = Object::new(key.clone(), entity, content, source, now);
        self.store_object(&Arc::new(object), stored.is_some_and(is_same));
        JobEnd::Done
    }

    fn entity(&self, key: &Key, opened: &Opened, age: ChangeAge) -> Entity {
        let is_trusted = self.system.has_reliable_change_time(&opened.file);
        entity(key, &opened.found, opened.now, age, is_trusted)
    }

    fn store_object(&self, object: &Arc<Object>, is_same_version: bool) {
        if is_same_version {
            self.store.replace_same_version(object);
        } else {
            self.store.insert(object);
        }
    }

    /// Continues a job with what was read. The read may have to go on behind that.
    pub(crate) fn on_read(&self, done: Completion<PendingRead>) -> JobEnd {
        let Completion { mut read, result } = done;
        match result {
            // It is shorter now. A direct read ends inside of a block at the end of the file only.
            Ok(count)
                if count == 0
                    || read.page.filled().len() < read.file.wanted
                        && !read.file.is_aligned(count) =>
            {
                return self.on_read_failed(read.file, ReadError::Changed);
            }
            Ok(count) if read.page.filled().len() < read.file.wanted => {
                read.offset += count as u64;
                read.len = read.len.saturating_sub(count);
                return JobEnd::Read(Box::new(read));
            }
            Ok(_) => {}
            Err(error) if is_transient(&error) && read.file.retries < RETRIES_MAX => {
                read.file.retries += 1;
                return JobEnd::Read(Box::new(read));
            }
            Err(_) => {
                self.counters.read_errors.add(1);
                return self.on_read_failed(read.file, ReadError::Failed);
            }
        }
        let Read {
            file: pending,
            page,
            ..
        } = read;
        self.counters.loads.add(1);
        self.counters.bytes_read.add(pending.wanted as u64);
        match (pending.opened, &pending.job.task) {
            (Some(opened), Task::Lookup { .. }) => self.on_whole_read(pending.job, &opened, page),
            (_, Task::ReadSpan { object, index }) => {
                let (object, index) = (Arc::clone(object), *index);
                let span = ReadSpan {
                    index,
                    digest: self.digest(&page.filled()[..pending.wanted]),
                    is_last: index + 1 == object.span_count(),
                    now: pending.began,
                };
                self.check_span(pending.job, &object, page, span, None)
            }
            (_, Task::Lookup { .. } | Task::Close { .. }) => JobEnd::Done,
        }
    }

    fn on_read_failed(&self, pending: PendingRead, error: ReadError) -> JobEnd {
        match (&pending.job.task, error) {
            (Task::Lookup { key, .. }, ReadError::Changed) => {
                let key = key.clone();
                self.open_again(pending.job, &key)
            }
            (Task::Lookup { key, .. }, ReadError::Failed) => {
                self.store.absent(key, Absence::Failed);
                JobEnd::Done
            }
            (Task::ReadSpan { object, index }, ReadError::Changed) => {
                self.fail(object, *index, Absence::Changing)
            }
            (Task::ReadSpan { object, index }, ReadError::Failed) => {
                self.fail(object, *index, Absence::Failed)
            }
            (Task::Close { .. }, _) => JobEnd::Done,
        }
    }

    /// Stores a small file that was read.
    fn on_whole_read(&self, job: Job, opened: &Opened, page: PageFill) -> JobEnd {
        let Task::Lookup { key, now } = &job.task else {
            return JobEnd::Done;
        };
        match self.check_whole(opened, page) {
            Ok(span) => self.store_small(key, *now, opened, Some(span)),
            Err(ReadError::Changed) => {
                let key = key.clone();
                self.open_again(job, &key)
            }
            Err(ReadError::Failed) => {
                self.store.absent(key, Absence::Failed);
                JobEnd::Done
            }
        }
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

    /// Decides whether a small file that was read has the contents of its fingerprint: only if its
    /// status is the same afterwards. A file that keeps growing has to have the same contents when
    /// it is read again.
    fn check_whole(&self, opened: &Opened, page: PageFill) -> Result<Arc<SharedSpan>, ReadError> {
        let Opened { file, found, .. } = opened;
        let later = Fingerprint::of(&*self.system, file).map_err(|_| ReadError::Failed)?;
        let is_same = match found.change_to(&later) {
            Change::None => true,
            Change::Grown | Change::Touched if opened.is_growing => {
                let mut again = vec![0; page.filled().len()];
                let len = again.len();
                self.read(file, &mut again, len, 0)?;
                *again == *page.filled()
            }
            Change::Unlinked | Change::Grown | Change::Touched | Change::Other => false,
        };
        if is_same {
            Ok(page.freeze(usize::MAX))
        } else {
            Err(ReadError::Changed)
        }
    }

    /// Returns the memory that was granted, if it is enough. Else allocates some, unless other jobs
    /// wait for it.
    fn allocate(&self, len: usize, granted: Option<PageFill>) -> Result<PageFill, NoMemory> {
        if let Some(page) = granted.filter(|page| page.capacity() >= len) {
            return Ok(page);
        }
        let is_short = self.is_memory_short.load(Ordering::Relaxed);
        let page = (!is_short).then(|| self.store.allocate(len)).flatten();
        page.ok_or(NoMemory(len))
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
    fn load_span(&self, mut job: Job, object: &Arc<Object>, index: u64) -> JobEnd {
        let handle = file_of(object);
        if let Some(reading) = job.reading.take() {
            let Reading {
                page,
                span,
                verification,
            } = *reading;
            return self.check_span(job, object, page, span, Some(verification));
        }
        if handle.is_verifying() {
            return JobEnd::Later(job);
        }
        let len = object.span_len(index);
        if len == 0 || handle.file().is_none() || handle.is_changed() {
            return self.fail(object, index, Absence::Changing);
        }
        let page = match self.allocate(len, job.page.take()) {
            Ok(page) => page,
            Err(NoMemory(len)) => return JobEnd::NoMemory(job, len),
        };
        let (offset, now) = (offset_of(index), self.clock.now());
        JobEnd::Read(read_for(job, None, page, offset, len, now))
    }

    /// Publishes a span that was read, or fails it if the file has changed.
    fn check_span(
        &self,
        mut job: Job,
        object: &Arc<Object>,
        page: PageFill,
        span: ReadSpan,
        verification: Option<Verification>,
    ) -> JobEnd {
        let (handle, index) = (file_of(object), span.index);
        let mut again = Vec::new();
        let reread = |index| {
            let (file, len) = (handle.file()?, object.span_len(index));
            let to = aligned(&mut again, len, handle.direct());
            self.read(file, to, len, offset_of(index)).ok()?;
            Some(self.digest(&to[..len]))
        };
        match handle.check_read(&*self.system, &span, verification, reread) {
            CheckStep::Done(ReadVerdict::Changed) => self.fail(object, index, Absence::Changing),
            CheckStep::Done(verdict) => {
                let span = page.freeze(object.span_len(index));
                self.store.publish_span(object, index, &span);
                if verdict == ReadVerdict::Grown {
                    // Running bodies continue. The next lookup finds the longer version.
                    self.store.retire(object);
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
                    self.fail(object, index, Absence::Changing)
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

    fn digest(&self, bytes: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.digest_seed, bytes)
    }
}

/// The file that an object is a version of.
pub(super) fn file_of(object: &Object) -> &FileHandle {
    let SourceHandle::File(handle) = object.source();
    handle
}

fn offset_of(index: u64) -> u64 {
    index.saturating_mul(u64::from(SPAN_BYTES))
}

/// So many bytes are needed.
#[derive(Debug)]
struct NoMemory(usize);

/// Attempts at a small file that changes while it is read.
const CHANGES_MAX: u8 = 4;

/// How often a read is made again that the kernel couldn't make.
const RETRIES_MAX: u8 = 100;

/// How often a span is read again because an append seems to be in progress: the kernel stamps the
/// times before it moves the end.
const APPEND_TRIES: u8 = 20;

#[cfg(test)]
mod tests;

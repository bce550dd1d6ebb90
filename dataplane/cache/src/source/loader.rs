//! Loader threads: they look up files and read their spans.

use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;
use rustix::io::{Errno, pread};

use super::clock::WallClock;
use super::filesystem::ChangeTimeCheck;
use super::fingerprint::{Change, Fingerprint};
use super::handle::{FileHandle, OpenFile, ReadSpan, ReadVerdict, SourceHandle};
use super::root::{Opened, Root};
use super::validators::entity;
use crate::absence::Absence;
use crate::counters::LoaderCounters;
use crate::key::Key;
use crate::queue::RequestQueue;
use crate::request::Task;
use crate::store::Store;
use crate::store::index::Class;
use crate::store::object::{Content, Object, SPAN_BYTES};

/// What all loader threads of a file source share.
pub(crate) struct Files {
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<RequestQueue>,
    pub(crate) roots: Vec<Root>,
    /// How long a root directory is used before it is opened again.
    pub(crate) revalidate: Duration,
    pub(crate) whole_bytes_max: u32,
    pub(crate) open_max: u32,
    /// Large files that are open.
    pub(crate) open: Arc<AtomicU32>,
    pub(crate) counters: LoaderCounters,
    pub(crate) clock: WallClock,
    pub(crate) has_reliable_change_time: ChangeTimeCheck,
    /// Makes digests of spans.
    pub(crate) hasher: DefaultHashBuilder,
}

/// A task that can't be done before memory is free or a file closed.
#[derive(Debug)]
pub(crate) struct MustWait(Task);

impl Files {
    /// The loop of loader thread number `at`: serves requests until the queue is stopped.
    pub(crate) fn run_loader(&self, at: usize) {
        self.queue.register_loader(at);
        let mut since_retry = 0;
        while !self.queue.is_stopped() {
            since_retry += 1;
            if since_retry > RETRY_AFTER {
                since_retry = 0;
                self.retry_deferred();
            }
            if let Some(request) = self.queue.try_receive() {
                if let Some(task) = self.store.admit(request)
                    && let Err(MustWait(task)) = self.load(task, false)
                {
                    self.store.defer(task);
                }
                continue;
            }
            if self.retry_deferred() {
                continue;
            }
            // No event comes when a worker drops a span.
            self.queue
                .park(at, || self.store.has_deferred().then_some(RETRY_PAUSE));
        }
    }

    /// Retries the task that was deferred first. Returns false if there is none, or if it still has
    /// to wait.
    fn retry_deferred(&self) -> bool {
        let Some(task) = self.store.next_deferred() else {
            return false;
        };
        match self.load(task, true) {
            Ok(()) => true,
            Err(MustWait(task)) => {
                self.store.defer_again(task);
                false
            }
        }
    }

    fn load(&self, task: Task, was_deferred: bool) -> Result<(), MustWait> {
        match task {
            Task::Lookup { key, now } => self.load_object(key, now, was_deferred),
            Task::ReadSpan { object, index } => self.load_span(object, index, was_deferred),
        }
    }

    /// Opens what is at a path. If it isn't the stored version, loads it.
    fn load_object(&self, key: Key, now: Instant, was_deferred: bool) -> Result<(), MustWait> {
        let Some(root) = self.roots.get(key.root.index()) else {
            self.store.absent(&key, Absence::NotFound);
            return Ok(());
        };
        for _ in 0..CHANGES_MAX {
            let opened = match root.open_file(&key.path, now, self.revalidate, &self.clock) {
                Ok(opened) => opened,
                Err(absence) => {
                    self.store.absent(&key, absence);
                    return Ok(());
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
                return Ok(());
            }
            let is_trusted = (self.has_reliable_change_time)(&opened.file);
            let entity = entity(&key, &opened.found, opened.now, age, is_trusted);
            let is_strong = !entity.validators().tag().is_weak();
            let spans = entity.len().div_ceil(u64::from(SPAN_BYTES));
            let (content, file) = if is_whole {
                match self.read_whole(&opened, was_deferred) {
                    Ok(span) => (Content::Whole(span), None),
                    Err(ReadError::NoMemory) => return Err(MustWait(Task::Lookup { key, now })),
                    Err(ReadError::Changed) => continue,
                    Err(ReadError::Failed) => {
                        self.store.absent(&key, Absence::Failed);
                        return Ok(());
                    }
                }
            } else {
                let Some(file) = self.keep_open(opened.file) else {
                    return Err(MustWait(Task::Lookup { key, now }));
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
            return Ok(());
        }
        self.store.absent(&key, Absence::Changing);
        Ok(())
    }

    /// Reads a small file. It has the contents of its fingerprint only if its status is the same
    /// afterwards. A file that keeps growing has to have the same contents when it is read again.
    fn read_whole(
        &self,
        opened: &Opened,
        was_deferred: bool,
    ) -> Result<Option<Arc<SharedSpan>>, ReadError> {
        let Opened { file, found, .. } = opened;
        let len = usize::try_from(found.len).map_err(|_| ReadError::Changed)?;
        if len == 0 {
            return Ok(None);
        }
        let page = self.store.allocate(len, was_deferred);
        let mut page = page.ok_or(ReadError::NoMemory)?;
        self.read(file, &mut page[..len], 0)?;
        let later = Fingerprint::of(file).map_err(|_| ReadError::Failed)?;
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

    /// Counts a large file as open. Returns none if as many are open as may be, all of them in use.
    fn keep_open(&self, mut file: OwnedFd) -> Option<OpenFile> {
        loop {
            match OpenFile::new(file, &self.open, self.open_max) {
                Ok(open) => return Some(open),
                Err(refused) => file = refused,
            }
            if !self.store.evict_object(Class::Large) {
                return None;
            }
        }
    }

    /// Reads a span of a large file and publishes it, or fails it if the file has changed.
    fn load_span(
        &self,
        object: Arc<Object>,
        index: u64,
        was_deferred: bool,
    ) -> Result<(), MustWait> {
        let handle = file_of(&object);
        match self.read_span(&object, index, was_deferred) {
            Ok((span, verdict)) => {
                self.store.publish_span(&object, index, &span);
                if verdict == ReadVerdict::Grown {
                    // Running bodies continue. The next lookup finds the longer version.
                    self.store.retire(&object);
                }
            }
            Err(ReadError::NoMemory) => return Err(MustWait(Task::ReadSpan { object, index })),
            Err(error) => {
                // Changed or unreadable: the next lookup opens the file anew.
                handle.set_changed();
                let absence = match error {
                    ReadError::Changed | ReadError::NoMemory => Absence::Changing,
                    ReadError::Failed => Absence::Failed,
                };
                self.store.fail_span(&object, index, absence);
            }
        }
        Ok(())
    }

    fn read_span(
        &self,
        object: &Object,
        index: u64,
        was_deferred: bool,
    ) -> Result<(Arc<SharedSpan>, ReadVerdict), ReadError> {
        let handle = file_of(object);
        let len = object.span_len(index);
        let file = handle.file().filter(|_| len > 0 && !handle.is_changed());
        let file = file.ok_or(ReadError::Changed)?;
        let page = self.store.allocate(len, was_deferred);
        let mut page = page.ok_or(ReadError::NoMemory)?;
        let now = self.clock.now();
        self.read(file, &mut page[..len], offset_of(index))?;
        let span = ReadSpan {
            index,
            digest: self.digest(&page[..len]),
            is_last: index + 1 == object.span_count(),
            now,
        };
        let mut again = Vec::new();
        let reread = |index| {
            again.resize(object.span_len(index), 0);
            self.read(file, &mut again, offset_of(index)).ok()?;
            Some(self.digest(&again))
        };
        match handle.check_read(&span, reread) {
            ReadVerdict::Changed => Err(ReadError::Changed),
            verdict => Ok((page.freeze(len), verdict)),
        }
    }

    fn digest(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(file, &mut buffer[done..], offset + done as u64) {
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
    NoMemory,
    Changed,
    Failed,
}

/// Attempts at a small file that changes while it is read.
const CHANGES_MAX: u32 = 4;

/// Requests between two attempts at the oldest deferred task.
const RETRY_AFTER: u32 = 64;

/// How long an idle loader sleeps before it retries the oldest deferred task.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;

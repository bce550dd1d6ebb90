//! The threads that look at files.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;
use lockgate_wire::Instant;
use pktbuf::{PageMut, SharedSpan};
use rustix::io::{Errno, pread};

use super::cache::Shared;
use super::client::{Job, Outcome};
use super::index::Work;
use super::object::{Content, Key, Object, OpenFile, Paged, SPAN_BYTES};
use super::root::{Absence, Version};

/// One loader thread.
pub(super) struct Loader {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    at: usize,
}

/// Work that can't be done before memory is free, or a file closed.
struct MustWait(Work);

impl Loader {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<Job>, at: usize) -> Self {
        Self { shared, jobs, at }
    }

    pub(super) fn run(self) {
        let parker = &self.shared.parkers[self.at];
        let _ = parker.thread.set(thread::current());
        let mut since_retry = 0;
        while !self.shared.stop.load(Ordering::SeqCst) {
            since_retry += 1;
            if since_retry > RETRY_AFTER {
                since_retry = 0;
                self.retry();
            }
            if let Ok(job) = self.jobs.try_recv() {
                self.serve(job);
                continue;
            }
            if self.retry() {
                continue;
            }
            parker.idle.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.jobs.is_empty() && !self.shared.stop.load(Ordering::SeqCst) {
                if self.shared.index().is_waiting() {
                    // Nobody tells when a worker drops a span.
                    thread::park_timeout(RETRY_PAUSE);
                } else {
                    thread::park();
                }
            }
            parker.idle.store(false, Ordering::SeqCst);
        }
    }

    /// Tries again what has waited longest. False if there is nothing, or it has to wait on.
    fn retry(&self) -> bool {
        let Some(work) = self.shared.index().next_waiting() else {
            return false;
        };
        match self.work(work, true) {
            Ok(()) => true,
            Err(MustWait(work)) => {
                self.shared.index().wait(work, true);
                false
            }
        }
    }

    fn serve(&self, job: Job) {
        let ahead = job.is_ahead();
        let Some(work) = self.admit(job) else {
            return;
        };
        let Err(MustWait(work)) = self.work(work, false) else {
            return;
        };
        let mut index = self.shared.index();
        if let Work::Fill { object, index: at } = &work
            && ahead
            && let Content::Paged(paged) = &object.content
            && index.give_up_fill(paged.id, *at)
        {
            return;
        }
        self.shared.counters.waits.add(1);
        index.wait(work, false);
    }

    /// Answers at once if the answer is known; else notes who waits for it. The work that this
    /// makes, if nobody is at it yet.
    fn admit(&self, job: Job) -> Option<Work> {
        let mut index = self.shared.index();
        match job {
            Job::Look { key, now, reply } => {
                if let Some(object) = index.find(&key)
                    && now.saturating_since(object.checked()) <= self.shared.config.revalidate
                {
                    let object = Arc::clone(object);
                    drop(index);
                    if let Some(reply) = reply {
                        self.shared.complete(reply, Outcome::Found(object));
                    }
                    return None;
                }
                index
                    .want_look(&key, reply)
                    .then_some(Work::Look { key, now })
            }
            Job::Fill {
                object,
                index: at,
                reply,
            } => {
                let Content::Paged(paged) = &object.content else {
                    return None;
                };
                let span = paged.span(at);
                if let Some(span) = span {
                    drop(index);
                    if let Some(reply) = reply {
                        self.shared
                            .complete(reply, Outcome::Span { index: at, span });
                    }
                    return None;
                }
                if reply.is_none() && index.is_waiting() {
                    return None;
                }
                let first = index.want_fill(paged.id, at, reply);
                first.then_some(Work::Fill { object, index: at })
            }
        }
    }

    fn work(&self, work: Work, waited: bool) -> Result<(), MustWait> {
        match work {
            Work::Look { key, now } => self.look(key, now, waited),
            Work::Fill { object, index } => self.fill(object, index, waited),
        }
    }

    fn look(&self, key: Key, now: Instant, waited: bool) -> Result<(), MustWait> {
        let shared = &*self.shared;
        let Some(root) = shared.roots.get(key.root.index()) else {
            self.absent(key, Absence::NotFound);
            return Ok(());
        };
        for _ in 0..CHANGES_MAX {
            let (file, version) = match root.open_file(&key.path, now, shared.config.revalidate) {
                Ok(found) => found,
                Err(absence) => {
                    self.absent(key, absence);
                    return Ok(());
                }
            };
            // Bound first, so that the index isn't locked any more in the branch.
            let same = shared.index().find_version(&key, &version);
            if let Some(object) = same {
                shared.counters.revalidations.add(1);
                object.set_checked(now);
                self.found(&key, &object, false);
                return Ok(());
            }
            let content = if version.len <= u64::from(shared.config.whole_bytes_max) {
                match self.read_whole(&file, &version, waited) {
                    Ok(span) => Content::Whole(span),
                    Err(Unread::NoMemory) => return Err(MustWait(Work::Look { key, now })),
                    Err(Unread::Changed) => continue,
                    Err(Unread::Error) => {
                        self.absent(key, Absence::Failed);
                        return Ok(());
                    }
                }
            } else {
                match self.keep_open(file, version) {
                    Some(paged) => Content::Paged(paged),
                    None => return Err(MustWait(Work::Look { key, now })),
                }
            };
            let object = Arc::new(Object::new(key.clone(), version, content, now));
            self.found(&key, &object, true);
            return Ok(());
        }
        self.absent(key, Absence::Changing);
        Ok(())
    }

    /// Reads a small file. It is what was looked at only if it is still that afterwards.
    fn read_whole(
        &self,
        file: &OwnedFd,
        version: &Version,
        waited: bool,
    ) -> Result<Option<Arc<SharedSpan>>, Unread> {
        let len = usize::try_from(version.len).map_err(|_| Unread::Changed)?;
        if len == 0 {
            return Ok(None);
        }
        let mut page = self.allocate(len, waited).ok_or(Unread::NoMemory)?;
        self.read(file, &mut page[..len], 0)?;
        match Version::of(file) {
            Ok(now) if version.still_holds(&now) => Ok(Some(page.freeze(len))),
            Ok(_) => Err(Unread::Changed),
            Err(_) => Err(Unread::Error),
        }
    }

    /// Keeps a large file open, if one more may be.
    fn keep_open(&self, file: OwnedFd, version: Version) -> Option<Paged> {
        let shared = &*self.shared;
        let mut index = shared.index();
        while shared.files_open.load(Ordering::Relaxed) >= shared.config.open_max {
            if !index.evict_object(true) {
                return None;
            }
        }
        let file = OpenFile::new(file, &shared.files_open);
        drop(index);
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let spans = version.len.div_ceil(u64::from(SPAN_BYTES));
        let room = shared.arena.usage().bytes / SPAN_BYTES as usize;
        let slots = usize::try_from(spans).map_or(room, |spans| spans.min(room));
        Some(Paged::new(id, file, version, slots))
    }

    fn fill(&self, object: Arc<Object>, at: u64, waited: bool) -> Result<(), MustWait> {
        let shared = &*self.shared;
        let Content::Paged(paged) = &object.content else {
            return Ok(());
        };
        let len = object.span_len(at);
        let mut outcome = Err(Unread::Changed);
        if !paged.is_changed() && len > 0 {
            let Some(mut page) = self.allocate(len, waited) else {
                return Err(MustWait(Work::Fill { object, index: at }));
            };
            let offset = at.saturating_mul(u64::from(SPAN_BYTES));
            outcome = self.read(paged.file.fd(), &mut page[..len], offset);
            if outcome.is_ok() && !paged.is_unchanged() {
                outcome = Err(Unread::Changed);
            }
            if outcome.is_ok() {
                let span = page.freeze(len);
                let mut index = shared.index();
                index.publish(&object, at, &span);
                let waiters = index.filled(paged.id, at);
                drop(index);
                for reply in waiters {
                    let span = Arc::clone(&span);
                    shared.complete(reply, Outcome::Span { index: at, span });
                }
                return Ok(());
            }
        }
        let absence = if outcome == Err(Unread::Changed) {
            if !object.is_retired() {
                shared.counters.changed_files.add(1);
            }
            Absence::Changing
        } else {
            Absence::Failed
        };
        // Whether it changed or can't be read: whoever asks next gets it opened anew.
        paged.set_changed();
        let mut index = shared.index();
        index.forget(&object);
        let waiters = index.filled(paged.id, at);
        drop(index);
        for reply in waiters {
            shared.complete(reply, Outcome::Failed(absence));
        }
        Ok(())
    }

    /// Memory for a span; none while others wait, unless this has waited itself.
    fn allocate(&self, len: usize, waited: bool) -> Option<PageMut> {
        let mut index = self.shared.index();
        if !waited && index.is_waiting() {
            return None;
        }
        let (page, evicted) = index.make_room(&self.shared.arena, len);
        self.shared.counters.evictions.add(evicted);
        page
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<(), Unread> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(file, &mut buffer[done..], offset + done as u64) {
                // It has become shorter.
                Ok(0) => return Err(Unread::Changed),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.shared.counters.read_errors.add(1);
                    return Err(Unread::Error);
                }
            }
        }
        self.shared.counters.loads.add(1);
        self.shared.counters.bytes_read.add(done as u64);
        Ok(())
    }

    fn found(&self, key: &Key, object: &Arc<Object>, new: bool) {
        let mut index = self.shared.index();
        if new {
            if index.find(key).is_some() {
                self.shared.counters.changed_files.add(1);
            }
            index.insert(object);
        }
        let waiters = index.looked(key);
        drop(index);
        for reply in waiters {
            self.shared
                .complete(reply, Outcome::Found(Arc::clone(object)));
        }
    }

    fn absent(&self, key: Key, absence: Absence) {
        self.shared.counters.absent.add(1);
        let mut index = self.shared.index();
        if index.remove(&key) {
            self.shared.counters.changed_files.add(1);
        }
        let waiters = index.looked(&key);
        drop(index);
        for reply in waiters {
            self.shared.complete(
                reply,
                Outcome::Absent {
                    key: key.clone(),
                    absence,
                },
            );
        }
    }
}

/// Why a span isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    NoMemory,
    Changed,
    Error,
}

/// How often a small file is read that changes meanwhile.
const CHANGES_MAX: u32 = 4;

/// Requests between two attempts at what waits.
const RETRY_AFTER: u32 = 64;

/// How long a loader with nothing else to do leaves what waits alone.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;

//! Which job a loader does next: a share for each root, and in it for each client.

use std::collections::VecDeque;

use pktbuf::PageMut;

use super::fair_queue::FairQueue;
use super::job::Job;
use crate::key::RootId;

/// The jobs of all roots.
///
/// - Roots are served in turn, and in each root its clients. Jobs that continue alternate with new
///   ones.
/// - At most `running_max` jobs of a root run at a time: a file system that hangs keeps so many
///   threads and no more.
/// - Freed memory is granted in turn to the clients with a job that waits for it. A job of a root
///   that has no thread for it is passed over.
/// - Of the jobs that no client waits for, each root has [`BACKGROUND_MAX`] queued.
pub(super) struct Scheduler {
    running_max: usize,
    roots: Box<[RootQueue]>,
    /// The roots with a job to run and a thread to run it; each is in it once.
    ready: VecDeque<usize>,
    /// Jobs that wait for memory, and how many bytes of it.
    memory: FairQueue<(Job, usize)>,
    /// The roots with a job that waits for an open file to be closed.
    files: VecDeque<usize>,
}

/// The jobs of a root.
#[derive(Default)]
struct RootQueue {
    new: FairQueue<Job>,
    /// Jobs that continue: with memory, after a pause, or after a step.
    resumed: VecDeque<Job>,
    /// Jobs that wait for memory, and were passed over for lack of a thread.
    passed_over: VecDeque<(Job, usize)>,
    /// Jobs that wait for an open file to be closed.
    files: VecDeque<Job>,
    running: usize,
    /// Resumed jobs that were granted memory.
    granted: usize,
    background: usize,
    is_ready: bool,
    was_resumed: bool,
}

impl Scheduler {
    pub(super) fn new(roots: usize, running_max: usize) -> Self {
        Self {
            running_max,
            roots: (0..roots).map(|_| RootQueue::default()).collect(),
            ready: VecDeque::new(),
            memory: FairQueue::default(),
            files: VecDeque::new(),
        }
    }

    /// Queues a new job. Returns it if no client waits for it and its root has too many such jobs.
    pub(super) fn push(&mut self, job: Job) -> Result<(), Job> {
        let at = job.root().index();
        let Some(root) = self.roots.get_mut(at) else {
            return Err(job);
        };
        if job.is_background {
            if root.background >= BACKGROUND_MAX {
                return Err(job);
            }
            root.background += 1;
        }
        root.new.push_back(job.client, job);
        self.mark_ready(at);
        Ok(())
    }

    /// Queues a job that continues.
    pub(super) fn resume(&mut self, job: Job) {
        let at = job.root().index();
        if let Some(root) = self.roots.get_mut(at) {
            root.resumed.push_back(job);
            self.mark_ready(at);
        }
    }

    /// Takes the next job to run. [`Scheduler::finish`] ends it.
    pub(super) fn next(&mut self) -> Option<Job> {
        let at = self.ready.pop_front()?;
        let root = &mut self.roots[at];
        root.is_ready = false;
        let job = root.next()?;
        root.running += 1;
        self.mark_ready(at);
        Some(job)
    }

    /// Ends a job, or a step of it.
    pub(super) fn finish(&mut self, root: RootId) {
        let at = root.index();
        let Some(root) = self.roots.get_mut(at) else {
            return;
        };
        root.running = root.running.saturating_sub(1);
        if let Some((job, len)) = root.passed_over.pop_front() {
            self.memory.push_front(job.client, (job, len));
        }
        self.mark_ready(at);
    }

    /// Queues a job until memory is free. A job that was granted too little goes to the front.
    pub(super) fn wait_for_memory(&mut self, job: Job, len: usize) {
        if job.was_granted {
            self.memory.push_front(job.client, (job, len));
        } else {
            self.memory.push_back(job.client, (job, len));
        }
    }

    /// Queues a job until a file was closed.
    pub(super) fn wait_for_file(&mut self, job: Job) {
        let at = job.root().index();
        if let Some(root) = self.roots.get_mut(at) {
            if root.files.is_empty() {
                self.files.push_back(at);
            }
            root.files.push_back(job);
        }
    }

    /// Grants memory to the jobs that wait for it, as far as there is some.
    pub(super) fn grant_memory(&mut self, mut allocate: impl FnMut(usize) -> Option<PageMut>) {
        while let Some((job, len)) = self.memory.peek() {
            let (at, len) = (job.root().index(), *len);
            let root = &mut self.roots[at];
            if root.running + root.granted >= self.running_max {
                root.passed_over.extend(self.memory.pass_over());
                continue;
            }
            let Some(page) = allocate(len) else {
                return;
            };
            if let Some((mut job, _)) = self.memory.pop() {
                job.page = Some(page);
                job.was_granted = true;
                root.granted += 1;
                self.resume(job);
            }
        }
    }

    /// Resumes jobs that wait for an open file to be closed, for roots that `may_open` one.
    pub(super) fn grant_files(&mut self, mut may_open: impl FnMut(RootId) -> bool) {
        for _ in 0..self.files.len().min(FILES_STEP) {
            let Some(at) = self.files.pop_front() else {
                return;
            };
            let root = &mut self.roots[at];
            if may_open(root_id(at)) {
                root.resumed.extend(root.files.pop_front());
            }
            if !root.files.is_empty() {
                self.files.push_back(at);
            }
            self.mark_ready(at);
        }
    }

    /// Whether a loader would find a job.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether jobs wait for memory that could run if they had it.
    pub(super) fn is_memory_short(&self) -> bool {
        !self.memory.is_empty()
    }

    /// Whether jobs wait for memory or for an open file.
    pub(super) fn has_deferred(&self) -> bool {
        self.is_memory_short() || !self.files.is_empty()
    }

    /// The jobs that are queued and not started, of all roots.
    pub(super) fn queued(&self) -> usize {
        self.roots.iter().map(|root| root.new.len()).sum()
    }

    fn mark_ready(&mut self, at: usize) {
        let root = &mut self.roots[at];
        let has_job = !root.new.is_empty() || !root.resumed.is_empty();
        if has_job && root.running < self.running_max && !root.is_ready {
            root.is_ready = true;
            self.ready.push_back(at);
        }
    }
}

impl RootQueue {
    fn next(&mut self) -> Option<Job> {
        self.was_resumed = !self.was_resumed;
        let resumed = if self.was_resumed || self.new.is_empty() {
            self.resumed.pop_front()
        } else {
            None
        };
        if let Some(job) = resumed {
            self.granted = self.granted.saturating_sub(usize::from(job.page.is_some()));
            return Some(job);
        }
        let job = self.new.pop()?;
        self.background = self
            .background
            .saturating_sub(usize::from(job.is_background));
        Some(job)
    }
}

fn root_id(at: usize) -> RootId {
    RootId::new(u16::try_from(at).unwrap_or(u16::MAX))
}

/// Read-ahead and checks of one root that are queued. More of them are dropped: a body requests
/// what it needs, and a check is requested again.
const BACKGROUND_MAX: usize = 256;

/// Roots that are looked at in one step.
const FILES_STEP: usize = 16;

#[cfg(test)]
mod tests;

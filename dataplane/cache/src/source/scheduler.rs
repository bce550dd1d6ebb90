//! Which job a loader does next: a share for each root, and in it for each client.

use std::collections::VecDeque;

use pktbuf::PageFill;

use super::fair_queue::FairQueue;
use super::job::Job;
use super::reader::Wake;
use crate::key::RootId;
use crate::share::may_take;

/// The jobs of all roots.
///
/// - Roots are served in turn, and in each root its clients. Jobs that continue alternate with new
///   ones.
/// - At most [`Shares::loaders`] loaders are bound to a root at a time: a file system that hangs
///   keeps so many threads and no more. A loader is bound while it does a job of the root and while
///   it has reads in flight, and then does other jobs of the root, too.
/// - A root has a share of the jobs in progress, with the memory that is read to; see
///   [`Scheduler::may_run`].
/// - Freed memory is granted in turn to the clients with a job that waits for it. A job of a root
///   that may not run it is passed over.
/// - Of the jobs that no client waits for, each root has [`BACKGROUND_MAX`] queued.
pub(super) struct Scheduler {
    shares: Shares,
    roots: Box<[RootQueue]>,
    /// The roots with a job to run and a loader to be had for it; each is in it once.
    ready: VecDeque<usize>,
    /// The roots with a job to run and a parked loader that can take it; each is in it once.
    to_wake: VecDeque<usize>,
    /// Jobs that wait for memory, and how many bytes of it.
    memory: FairQueue<(Job, usize)>,
    /// The roots with a job that waits for an open file to be closed.
    files: VecDeque<usize>,
    /// Jobs in progress, of all roots.
    running: u32,
}

/// What roots may have at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Loaders that are bound to a root.
    pub(super) loaders: u32,
    /// Jobs in progress of each loader.
    pub(super) depth: u32,
    /// Jobs in progress of all roots, beside as many for each root as it may have loaders.
    pub(super) jobs: u32,
}

/// The jobs of a root.
#[derive(Default)]
struct RootQueue {
    new: FairQueue<Job>,
    /// Jobs that continue: with memory, after a pause, or after a step.
    resumed: VecDeque<Job>,
    /// Jobs that wait for memory, and were passed over because the root may run no more.
    passed_over: VecDeque<(Job, usize)>,
    /// Jobs that wait for an open file to be closed.
    files: VecDeque<Job>,
    /// Bound loaders.
    loaders: u32,
    /// Of these, the ones that wait for their reads or for a job, and what wakes them.
    parked: Vec<(LoaderId, Wake)>,
    /// The ones that wait for their reads and take no job before one of these ends.
    full: Vec<(LoaderId, Wake)>,
    /// Jobs in progress.
    running: u32,
    /// Resumed jobs that were granted memory.
    granted: u32,
    background: usize,
    is_ready: bool,
    is_to_wake: bool,
    was_resumed: bool,
}

/// Identifies a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoaderId(pub(super) u64);

impl Scheduler {
    pub(super) fn new(roots: usize, shares: Shares) -> Self {
        Self {
            shares,
            roots: (0..roots).map(|_| RootQueue::default()).collect(),
            ready: VecDeque::new(),
            to_wake: VecDeque::new(),
            memory: FairQueue::default(),
            files: VecDeque::new(),
            running: 0,
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

    /// Takes the next job to run, and binds the calling loader to its root until
    /// [`Scheduler::release`]. [`Scheduler::finish`] ends the job.
    pub(super) fn next(&mut self) -> Option<Job> {
        while let Some(at) = self.ready.pop_front() {
            self.roots[at].is_ready = false;
            if let Some(job) = self.take(at) {
                self.roots[at].loaders += 1;
                self.mark_ready(at);
                return Some(job);
            }
        }
        None
    }

    /// Takes the next job of the root that the calling loader is bound to.
    pub(super) fn next_of(&mut self, root: RootId) -> Option<Job> {
        let job = self.take(root.index())?;
        self.mark_ready(root.index());
        Some(job)
    }

    /// Ends a job, or a step of it.
    pub(super) fn finish(&mut self, root: RootId) {
        let at = root.index();
        let Some(root) = self.roots.get_mut(at) else {
            return;
        };
        root.running = root.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        if let Some((job, len)) = root.passed_over.pop_front() {
            self.memory.push_front(job.client, (job, len));
        }
        self.mark_ready(at);
    }

    /// Unbinds the calling loader from the root.
    pub(super) fn release(&mut self, root: RootId) {
        let at = root.index();
        if let Some(root) = self.roots.get_mut(at) {
            root.loaders = root.loaders.saturating_sub(1);
            self.mark_ready(at);
        }
    }

    /// Notes that a bound loader waits for its reads, and for a job of the root if it `takes_jobs`.
    /// Jobs are left to other loaders if it doesn't, and none wakes it.
    pub(super) fn park(&mut self, root: RootId, loader: LoaderId, wake: Wake, takes_jobs: bool) {
        let at = root.index();
        if let Some(root) = self.roots.get_mut(at) {
            let parked = if takes_jobs {
                &mut root.parked
            } else {
                &mut root.full
            };
            parked.push((loader, wake));
            self.mark_ready(at);
        }
    }

    /// Notes that a loader doesn't wait any more.
    pub(super) fn unpark(&mut self, root: RootId, loader: LoaderId) {
        if let Some(root) = self.roots.get_mut(root.index()) {
            root.parked.retain(|(parked, _)| *parked != loader);
            root.full.retain(|(parked, _)| *parked != loader);
        }
    }

    /// Takes what wakes a parked loader for whose root there is a job to run.
    pub(super) fn next_to_wake(&mut self) -> Option<Wake> {
        while let Some(at) = self.to_wake.pop_front() {
            self.roots[at].is_to_wake = false;
            if self.can_run(at)
                && let Some((_, wake)) = self.roots[at].parked.pop()
            {
                return Some(wake);
            }
            self.mark_ready(at);
        }
        None
    }

    /// Takes what wakes any parked loader, at the end.
    pub(super) fn next_parked(&mut self) -> Option<Wake> {
        let mut roots = self.roots.iter_mut();
        roots
            .find_map(|root| root.parked.pop().or_else(|| root.full.pop()))
            .map(|(_, wake)| wake)
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
    pub(super) fn grant_memory(&mut self, mut allocate: impl FnMut(usize) -> Option<PageFill>) {
        while let Some((job, len)) = self.memory.peek() {
            let (at, len) = (job.root().index(), *len);
            if !self.may_run(at, self.roots[at].granted) {
                self.roots[at].passed_over.extend(self.memory.pass_over());
                continue;
            }
            let Some(page) = allocate(len) else {
                return;
            };
            if let Some((mut job, _)) = self.memory.pop() {
                job.page = Some(page);
                job.was_granted = true;
                self.roots[at].granted += 1;
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

    fn take(&mut self, at: usize) -> Option<Job> {
        if !self.may_run(at, 0) {
            return None;
        }
        let root = self.roots.get_mut(at)?;
        let job = root.next()?;
        root.running += 1;
        self.running += 1;
        Some(job)
    }

    /// Whether a root may have one more job in progress than it has, and `more`. In any case it may
    /// have as many as loaders. A root whose reads hang keeps a half of the others, the next such
    /// root a half of the remainder, and so on.
    fn may_run(&self, at: usize, more: u32) -> bool {
        let Some(root) = self.roots.get(at) else {
            return false;
        };
        let Shares {
            loaders,
            depth,
            jobs,
        } = self.shares;
        let used = root.running + more;
        // A single root has all of them.
        let share = if self.roots.len() == 1 { u32::MAX } else { 1 };
        used < loaders
            || used < loaders * depth && may_take(used, jobs.saturating_sub(self.running), share)
    }

    fn can_run(&self, at: usize) -> bool {
        let root = &self.roots[at];
        let has_job = !root.new.is_empty() || !root.resumed.is_empty();
        has_job && self.may_run(at, 0)
    }

    fn mark_ready(&mut self, at: usize) {
        if !self.can_run(at) {
            return;
        }
        let root = &mut self.roots[at];
        if !root.parked.is_empty() {
            if !root.is_to_wake {
                root.is_to_wake = true;
                self.to_wake.push_back(at);
            }
        } else if root.loaders < self.shares.loaders && !root.is_ready {
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
            self.granted = self.granted.saturating_sub(u32::from(job.page.is_some()));
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

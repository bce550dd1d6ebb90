//! The threads of a file source: loaders, and one dispatcher.
//!
//! - A *loader* does one job at a time, and may hang in it. A job whose file has to be read waits
//!   for that in the loader's [`Reader`]; the loader does other jobs of the same root meanwhile. So
//!   its reads, and the threads that the kernel has for them, are of one root at a time. Without
//!   another job it *parks* until a read is complete or there is one. With as many reads as it may
//!   have, it parks until a read is complete: other loaders take the jobs.
//! - Of the idle loaders, one watches the clients' queues: it takes requests and has the store
//!   answer them, or queues jobs. The other idle loaders sleep. A job without a parked or idle
//!   loader spawns a loader. The scheduler gives a root at most [`CacheConfig::loaders`] at a time.
//!   A sleeping loader ends after ten seconds.
//! - The *dispatcher* takes requests while no loader watches, and wakes or spawns loaders. It makes
//!   no system call on a file, so no file system can stop it: what is in memory is served, and
//!   other roots have their loaders, whatever the loaders do. It is woken by the first request that
//!   no loader is there for, and looks every millisecond from then on, until there was none for a
//!   while: a loader that is busy for some microseconds is left to take the next request itself.
//!
//! [`CacheConfig::loaders`]: crate::CacheConfig::loaders

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, after};

use super::job::{Job, JobEnd};
use super::loader::Files;
use super::reader::{PreadReader, Reader};
use super::scheduler::{LoaderId, Scheduler, Shares};
use crate::counters::FileCounters;
use crate::key::RootId;
use crate::queue::RequestQueue;
use crate::request::{Request, Task};
use crate::store::Admitted;

/// The threads. They end when this is dropped.
pub(super) struct LoaderPool {
    shared: Arc<Shared>,
    dispatcher: Option<JoinHandle<()>>,
}

/// What all threads share.
struct Shared {
    files: Arc<Files>,
    queue: Arc<RequestQueue>,
    threads_max: usize,
    state: Mutex<State>,
    /// A loader has to look for a job, or to end.
    work: Condvar,
    /// A loader has ended.
    ended: Condvar,
}

/// The lock is held for moments, never while a loader does a job.
struct State {
    scheduler: Scheduler,
    /// Jobs that continue after a pause, and what tells that it's over. All pauses are equally
    /// long, so the first one ends first.
    paused: VecDeque<(Receiver<std::time::Instant>, Job)>,
    threads: usize,
    /// Loaders that sleep and don't watch.
    idle: usize,
    /// A loader watches the queues.
    has_watcher: bool,
    /// The system refused to spawn the last loader. The existing loaders serve all roots.
    is_short_of_threads: bool,
    /// Loaders that were spawned so far.
    spawned: u64,
    /// Loaders that were woken for a job, or spawned, and don't run yet.
    woken: usize,
    is_stopped: bool,
}

impl LoaderPool {
    /// Spawns the dispatcher and the first loader.
    pub(super) fn start(
        files: &Arc<Files>,
        queue: &Arc<RequestQueue>,
        shares: Shares,
    ) -> io::Result<Self> {
        let roots = files.roots.len();
        let loaders_per_root = usize::try_from(shares.loaders).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            files: Arc::clone(files),
            queue: Arc::clone(queue),
            threads_max: roots.saturating_mul(loaders_per_root).max(1),
            state: Mutex::new(State {
                scheduler: Scheduler::new(roots, shares),
                paused: VecDeque::new(),
                threads: 0,
                idle: 0,
                has_watcher: false,
                is_short_of_threads: false,
                spawned: 0,
                woken: 0,
                is_stopped: false,
            }),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let mut pool = Self {
            shared: Arc::clone(&shared),
            dispatcher: None,
        };
        shared.spawn_loader(&mut shared.state())?;
        let name = "files-dispatch".to_owned();
        let thread = thread::Builder::new().name(name);
        pool.dispatcher = Some(thread.spawn(move || shared.run_dispatcher())?);
        Ok(pool)
    }

    pub(super) fn shut_down(&mut self, wait: Duration) -> usize {
        self.shared.queue.stop();
        let mut state = self.shared.state();
        state.is_stopped = true;
        while let Some(wake) = state.scheduler.next_parked() {
            wake();
        }
        drop(state);
        self.shared.work.notify_all();
        if let Some(dispatcher) = self.dispatcher.take() {
            // The panic hook has reported a thread that panicked.
            let _ = dispatcher.join();
        }
        let state = self.shared.state();
        let waited = self
            .shared
            .ended
            .wait_timeout_while(state, wait, |state| state.threads > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.threads
    }

    pub(super) fn count(&self, counters: &mut FileCounters) {
        let state = self.shared.state();
        counters.readers = state.threads as u64;
        let idle = state.idle + usize::from(state.has_watcher);
        counters.readers_busy = state.threads.saturating_sub(idle) as u64;
        counters.readers_max = self.shared.threads_max as u64;
        counters.queued = state.scheduler.queued() as u64;
    }
}

impl Drop for LoaderPool {
    fn drop(&mut self) {
        if !self.shared.state().is_stopped {
            self.shut_down(SHUTDOWN_WAIT);
        }
    }
}

impl Shared {
    fn run_dispatcher(self: &Arc<Self>) {
        let mut looks = 0;
        while !self.queue.is_stopped() {
            let has_taken = self.dispatch();
            self.wake_loader(&mut self.state());
            if has_taken {
                looks = LOOKS;
            } else if looks > 0 {
                looks -= 1;
                thread::park_timeout(LOOK_AGAIN);
            } else {
                // No event comes when a worker drops a span, or at the end of a pause.
                let look_again = || self.state().has_to_look().then_some(LOOK_AGAIN);
                if self.queue.park(look_again) {
                    looks = LOOKS;
                }
            }
        }
    }

    fn run_loader(self: &Arc<Self>, id: LoaderId) {
        let mut reader = self.new_reader();
        let mut state = self.state();
        loop {
            state.woken = state.woken.saturating_sub(1);
            while !state.is_stopped
                && let Some(job) = state.scheduler.next()
            {
                self.wake_loader(&mut state);
                drop(state);
                self.serve(id, &mut *reader, job);
                state = self.state();
            }
            if state.is_stopped {
                break;
            }
            if state.has_watcher {
                state.idle += 1;
                let waited = self.work.wait_timeout(state, IDLE_MAX);
                let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = next;
                state.idle -= 1;
                if timeout.timed_out() && state.has_watcher && !state.scheduler.has_ready() {
                    // It may have been woken in the same moment.
                    state.woken = state.woken.saturating_sub(1);
                    break;
                }
            } else {
                state.has_watcher = true;
                drop(state);
                self.queue.watch(|| self.state().scheduler.has_ready());
                self.state().has_watcher = false;
                self.dispatch();
                state = self.state();
            }
        }
        drop(state);
        // This waits for the reads that are in flight.
        drop(reader);
        self.state().threads -= 1;
        self.ended.notify_all();
    }

    fn new_reader(&self) -> Box<dyn Reader> {
        if let Some(new_reader) = &self.files.new_reader {
            match new_reader() {
                Ok(reader) => return reader,
                Err(_) => self.files.counters.rings_refused.add(1),
            }
        }
        Box::new(PreadReader::new(Arc::clone(&self.files.system)))
    }

    /// Does a job, and others of its root as long as reads are in flight.
    fn serve(self: &Arc<Self>, id: LoaderId, reader: &mut dyn Reader, job: Job) {
        let root = job.root();
        let mut next = Some(job);
        loop {
            if let Some(job) = next.take() {
                let end = self.files.run_if_wanted(job);
                self.end_step(root, reader, end);
            }
            while let Some(done) = reader.next() {
                let end = self.files.on_read(done);
                self.end_step(root, reader, end);
            }
            self.dispatch();
            let mut state = self.state();
            if state.is_stopped || reader.in_flight() == 0 {
                state.scheduler.release(root);
                return;
            }
            let takes_jobs = reader.has_room() && !state.is_short_of_threads;
            if takes_jobs {
                next = state.scheduler.next_of(root);
            }
            if next.is_some() {
                self.wake_loader(&mut state);
                continue;
            }
            state.scheduler.park(root, id, reader.wake(), takes_jobs);
            state.wake_parked();
            // What it doesn't take is another loader's.
            self.wake_loader(&mut state);
            drop(state);
            reader.wait();
            self.state().scheduler.unpark(root, id);
        }
    }

    /// Begins the read that a job has to wait for, or ends the step of the job.
    fn end_step(&self, root: RootId, reader: &mut dyn Reader, end: JobEnd) {
        match end {
            JobEnd::Read(read) => reader.begin(read),
            end => self.end_job(root, end),
        }
    }

    /// Takes requests and resumes jobs that can continue. Returns false if there was no request.
    fn dispatch(self: &Arc<Self>) -> bool {
        let is_short = self.files.is_memory_short.load(Ordering::Relaxed);
        let has_taken = self.queue.drain(DRAINED_MAX, |client, request| {
            self.admit(client, request, is_short)
        });
        let mut state = self.state();
        while let Some((root, file)) = self.files.open.next_to_close() {
            let task = Task::Close { root, file };
            let is_background = false;
            let admitted = Admitted {
                task,
                is_background,
            };
            state.scheduler.resume(Job::new(0, admitted));
        }
        while let Some((end, _)) = state.paused.front()
            && end.try_recv().is_ok()
            && let Some((_, job)) = state.paused.pop_front()
        {
            state.scheduler.resume(job);
        }
        state
            .scheduler
            .grant_memory(|len| self.files.store.allocate(len));
        state
            .scheduler
            .grant_files(|root| self.files.make_room(root));
        self.note_memory(&state);
        state.wake_parked();
        has_taken
    }

    fn admit(&self, client: u16, request: Request, is_memory_short: bool) {
        let Some(admitted) = self.files.store.admit(request, is_memory_short) else {
            return;
        };
        let refused = self.state().scheduler.push(Job::new(client, admitted));
        let Err(mut job) = refused else {
            return;
        };
        if self.files.store.cancel(&job.task) {
            self.files.counters.dropped.add(1);
            return;
        }
        // A client waits for it by now.
        job.is_background = false;
        let pushed = self.state().scheduler.push(job);
        debug_assert!(pushed.is_ok(), "only background jobs are refused");
    }

    /// Ends a job, or queues its next step.
    fn end_job(&self, root: RootId, end: JobEnd) {
        if let JobEnd::NoMemory(job, _) = &end
            && matches!(job.task, Task::ReadSpan { .. })
            && self.files.store.cancel(&job.task)
        {
            self.files.counters.dropped.add(1);
            self.state().scheduler.finish(root);
            return;
        }
        let mut state = self.state();
        state.scheduler.finish(root);
        match end {
            // The read was begun before this.
            JobEnd::Done | JobEnd::Read(_) => {}
            JobEnd::NoMemory(job, len) => {
                self.files.counters.waits.add(u64::from(!job.was_granted));
                state.scheduler.wait_for_memory(job, len);
            }
            JobEnd::NoFile(job) => {
                self.files.counters.file_waits.add(1);
                state.scheduler.wait_for_file(job);
            }
            JobEnd::Later(job) => state.paused.push_back((after(PAUSE), job)),
            JobEnd::Yield(job) => state.scheduler.resume(job),
        }
        self.note_memory(&state);
        state.wake_parked();
        let has_to_look = state.has_to_look();
        drop(state);
        if has_to_look {
            self.queue.wake_dispatcher();
        }
    }

    fn note_memory(&self, state: &State) {
        let is_short = state.scheduler.is_memory_short();
        self.files
            .is_memory_short
            .store(is_short, Ordering::Relaxed);
    }

    /// Wakes a loader if there is a job for it, or spawns one. That one wakes the next.
    fn wake_loader(self: &Arc<Self>, state: &mut State) {
        if !state.scheduler.has_ready() || state.woken > 0 || state.is_stopped {
            return;
        }
        if state.idle > 0 {
            state.woken += 1;
            self.work.notify_one();
        } else if state.has_watcher {
            state.woken += 1;
            self.queue.wake_watcher();
        } else if state.threads < self.threads_max {
            state.is_short_of_threads = self.spawn_loader(state).is_err();
            if state.is_short_of_threads {
                // A running loader takes the job when it has done its own.
                self.files.counters.readers_refused.add(1);
            }
        }
    }

    fn spawn_loader(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name(format!("files-{}", state.threads));
        let id = LoaderId(state.spawned);
        thread
            .stack_size(STACK_BYTES)
            .spawn(move || shared.run_loader(id))?;
        state.spawned += 1;
        state.threads += 1;
        state.woken += 1;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes the parked loaders that have a job.
    fn wake_parked(&mut self) {
        while let Some(wake) = self.scheduler.next_to_wake() {
            wake();
        }
    }

    /// Whether a job waits for what no event tells of: memory, a file, the end of a pause, or a
    /// loader that the system refused to start.
    fn has_to_look(&self) -> bool {
        let has_idle = self.idle > 0 || self.has_watcher;
        let needs_loader = self.scheduler.has_ready() && !has_idle;
        self.scheduler.has_deferred() || !self.paused.is_empty() || needs_loader
    }
}

/// Requests of each client that are taken in turn.
const DRAINED_MAX: usize = 16;

/// How long a job pauses that has to look at a file again.
const PAUSE: Duration = Duration::from_millis(3);

/// How many times the dispatcher polls for requests before it sleeps.
const LOOKS: u32 = 16;

/// How often it's looked for memory, open files, ends of pauses and new loaders, if a job waits for
/// one.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How long a loader may be idle.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long dropping the cache waits for loaders.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

/// A loader's stack: a few system calls deep, with buffers on the heap.
const STACK_BYTES: usize = 256 << 10;

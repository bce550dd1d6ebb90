//! KTLS workers: threads that seal and open records for the workers of the dataplane.
//!
//! Each KTLS worker has one queue, which all workers submit to. A connection's records go to the
//! queue that its flow hash chooses, so they are sealed in order. A worker has at most 128 records
//! in a queue and does the rest itself: neither its connections nor other workers wait for it.
//! Records come back by a channel of the worker's own.
//!
//! After a panic a KTLS worker returns its current and queued records, and accepts no more. The
//! log says so. The records in progress have failed, and their connection is reset. The queued
//! records return unchanged. Their workers seal and open them, and all later records, themselves.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use lockgate_ktls::{Away, Ciphers, SessionId, Work};

/// The threads.
#[derive(Debug, Default)]
pub struct KtlsWorkers {
    threads: Vec<JoinHandle<()>>,
    /// The number of threads that run: panicked threads don't count.
    serving: Arc<AtomicUsize>,
}

/// How the threads are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KtlsWorkersConfig {
    /// How many there are.
    pub workers: NonZeroUsize,
    /// The cores that they are bound to, in turns. Without any they run wherever the process may.
    pub cores: Vec<u16>,
}

/// One worker's ends of the queues.
#[derive(Debug)]
pub struct KtlsQueues {
    /// The worker's number.
    number: usize,
    queues: Vec<Queue>,
    back: Receiver<Done>,
    polls: u32,
}

/// One worker's end of the queue of one KTLS worker.
#[derive(Debug)]
struct Queue {
    to: Sender<Message>,
    /// Whether its thread has panicked.
    is_failed: Arc<AtomicBool>,
    /// Records that are in the queue, being worked on, or on their way back.
    in_flight: usize,
    /// Sessions that have ended. The KTLS worker may have their expanded keys.
    forgotten: Vec<SessionId>,
}

/// What a worker sends to a KTLS worker.
#[derive(Debug)]
struct Message {
    worker: usize,
    work: Option<Work>,
    forgotten: Vec<SessionId>,
}

/// What a KTLS worker sends back.
#[derive(Debug)]
struct Done {
    queue: usize,
    work: Work,
}

impl KtlsWorkers {
    /// Starts the threads, each with ciphers that `ciphers` makes. Returns them, and the queues of
    /// each of `workers` workers.
    ///
    /// # Errors
    /// The system has no thread left: the name of the missing thread, and the error.
    pub fn start(
        config: &KtlsWorkersConfig,
        workers: usize,
        ciphers: impl Fn() -> Ciphers,
    ) -> Result<(Self, Vec<KtlsQueues>), (String, std::io::Error)> {
        let count = config.workers.get();
        let back: Vec<_> = (0..workers)
            .map(|_| bounded::<Done>(count * QUEUE_RECORDS))
            .collect();
        let mut threads = Self {
            threads: Vec::with_capacity(count),
            serving: Arc::new(AtomicUsize::new(count)),
        };
        let mut queues = Vec::with_capacity(count);
        for number in 0..count {
            // Messages have a record at least, but for those with ids of ended sessions only.
            let (to, messages) = bounded(workers * QUEUE_RECORDS);
            let is_failed = Arc::new(AtomicBool::new(false));
            let thread = KtlsWorker {
                number,
                current: None,
                is_failed: is_failed.clone(),
                serving: threads.serving.clone(),
                messages,
                back: back.iter().map(|(to, _)| to.clone()).collect(),
                ciphers: ciphers(),
            };
            let core = config
                .cores
                .get(number % config.cores.len().max(1))
                .copied();
            let name = format!("ktls-{number}");
            let spawned = thread::Builder::new()
                .name(name.clone())
                .spawn(move || thread.run(core));
            threads
                .threads
                .push(spawned.map_err(|error| (name, error))?);
            queues.push((to, is_failed));
        }
        let ends = back.into_iter().enumerate().map(|(number, (_, back))| {
            let queues = queues.iter().map(|(to, is_failed)| Queue {
                to: to.clone(),
                is_failed: is_failed.clone(),
                in_flight: 0,
                forgotten: Vec::new(),
            });
            KtlsQueues {
                number,
                queues: queues.collect(),
                back,
                polls: 0,
            }
        });
        let ends = ends.collect();
        Ok((threads, ends))
    }

    /// Whether a thread has ended though workers still submit to it.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Returns the number of threads that run. Panicked threads don't count.
    pub fn serving(&self) -> Arc<AtomicUsize> {
        self.serving.clone()
    }

    /// Waits for the threads to end, which they do when every worker has dropped its queues.
    /// Returns whether none has panicked.
    pub fn join(self) -> bool {
        let started = self.threads.len();
        // All are waited for.
        let joined = self.threads.into_iter().map(JoinHandle::join);
        let ended = joined.filter(Result::is_ok).count();
        ended == started && self.serving.load(Ordering::Relaxed) == started
    }
}

impl KtlsQueues {
    /// Sends the ids of sessions that have ended, to the queues that have room.
    fn flush_forgotten(&mut self) {
        for queue in &mut self.queues {
            if queue.forgotten.is_empty() {
                continue;
            }
            let message = Message {
                worker: self.number,
                work: None,
                forgotten: core::mem::take(&mut queue.forgotten),
            };
            if let Err(TrySendError::Full(message)) = queue.to.try_send(message) {
                queue.forgotten = message.forgotten;
            }
        }
    }

    fn queue_of(&self, flow: u32) -> usize {
        flow as usize % self.queues.len().max(1)
    }
}

impl Away for KtlsQueues {
    fn room(&self, flow: u32) -> usize {
        let queue = self.queues.get(self.queue_of(flow));
        queue.map_or(0, Queue::room)
    }

    fn submit(&mut self, flow: u32, work: Work) -> Result<(), Work> {
        let at = self.queue_of(flow);
        let Some(queue) = self.queues.get_mut(at) else {
            return Err(work);
        };
        let records = work.records();
        if records > queue.room() {
            return Err(work);
        }
        let message = Message {
            worker: self.number,
            work: Some(work),
            forgotten: core::mem::take(&mut queue.forgotten),
        };
        match queue.to.try_send(message) {
            Ok(()) => {
                queue.in_flight += records;
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                queue.forgotten = message.forgotten;
                message.work.map_or(Ok(()), Err)
            }
        }
    }

    fn poll(&mut self) -> Option<Work> {
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(POLLS_PER_FLUSH) {
            self.flush_forgotten();
        }
        let Done { queue, work } = self.back.try_recv().ok()?;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.in_flight = queue.in_flight.saturating_sub(work.records());
        }
        Some(work)
    }

    fn in_flight(&self) -> usize {
        self.queues.iter().map(|queue| queue.in_flight).sum()
    }

    fn forget(&mut self, id: SessionId) {
        for queue in &mut self.queues {
            // Beyond that the expanded key goes when it is the least recently used one.
            if queue.forgotten.len() < FORGOTTEN_KEPT_MAX {
                queue.forgotten.push(id);
            }
        }
        if self
            .queues
            .iter()
            .any(|q| q.forgotten.len() >= FORGOTTEN_MAX)
        {
            self.flush_forgotten();
        }
    }
}

impl Queue {
    fn room(&self) -> usize {
        if self.is_failed.load(Ordering::Relaxed) {
            return 0;
        }
        QUEUE_RECORDS.saturating_sub(self.in_flight)
    }
}

/// A thread's part.
struct KtlsWorker {
    number: usize,
    /// What it works on, and for which worker.
    current: Option<(usize, Work)>,
    is_failed: Arc<AtomicBool>,
    serving: Arc<AtomicUsize>,
    messages: Receiver<Message>,
    back: Vec<Sender<Done>>,
    ciphers: Ciphers,
}

impl KtlsWorker {
    /// Runs until every worker has dropped its end of the queue.
    fn run(mut self, core: Option<u16>) {
        if let Some(core) = core {
            let id = usize::from(core);
            if !core_affinity::set_for_current(core_affinity::CoreId { id }) {
                let number = self.number;
                tracing::warn!(number, core, "KTLS worker: can't be bound to its core");
            }
        }
        // The ciphers aren't used after a panic.
        if panic::catch_unwind(AssertUnwindSafe(|| self.serve())).is_ok() {
            return;
        }
        self.is_failed.store(true, Ordering::Relaxed);
        self.serving.fetch_sub(1, Ordering::Relaxed);
        tracing::error!(
            number = self.number,
            "KTLS worker: panicked, see above; the workers seal and open its records themselves \
             until the next start"
        );
        if let Some((_, work)) = &mut self.current {
            work.fail();
        }
        // It wipes the expanded keys. Whatever it does, the records go back.
        let ciphers = core::mem::replace(&mut self.ciphers, Ciphers::with_backends(Vec::new()));
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(ciphers)));
        self.give_up();
    }

    fn serve(&mut self) {
        while let Some(message) = self.next() {
            // Before all else, so that no panic loses it.
            self.current = message.work.map(|work| (message.worker, work));
            for id in message.forgotten {
                self.ciphers.forget(id);
            }
            if let Some((_, work)) = &mut self.current {
                work.run(&mut self.ciphers);
            }
            self.give_back();
        }
    }

    /// Gives back what it worked on.
    fn give_back(&mut self) {
        if let Some((worker, work)) = self.current.take()
            && let Some(back) = self.back.get(worker)
        {
            let queue = self.number;
            // If the worker has ended, the memory is freed here.
            let _ = back.send(Done { queue, work });
        }
    }

    /// Gives everything back as it is, until every worker has dropped its end of the queue: a
    /// worker may have submitted something before it saw that the thread has failed.
    fn give_up(&mut self) {
        self.give_back();
        while let Ok(message) = self.messages.recv() {
            self.current = message.work.map(|work| (message.worker, work));
            self.give_back();
        }
    }

    /// Waits for the next message: at first by polling, because being woken takes longer than
    /// sealing a record.
    fn next(&self) -> Option<Message> {
        for _ in 0..POLLS_BEFORE_SLEEP {
            match self.messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => core::hint::spin_loop(),
            }
        }
        self.messages.recv().ok()
    }
}

/// Records that a worker may have in a queue: two mebibytes, which take a fifth of a millisecond.
const QUEUE_RECORDS: usize = 128;
/// How often a KTLS worker polls its queue before it sleeps: for some 50 µs.
const POLLS_BEFORE_SLEEP: u32 = 1024;
/// Polls of a worker after which it sends the ids of sessions that have ended.
const POLLS_PER_FLUSH: u32 = 256;
/// Ids of ended sessions that a worker keeps before it sends them at once.
const FORGOTTEN_MAX: usize = 16;
/// Ids of ended sessions that a worker keeps while a queue has no room.
const FORGOTTEN_KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests;

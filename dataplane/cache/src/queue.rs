//! The bounded queues of requests, one from each client, and the wake-up of their readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::request::Request;

/// The queues of requests. Sending takes no lock, also when it wakes a reader: a channel's own
/// blocking receive would take one.
///
/// Two threads may sleep here: a loader that watches the queues, which is woken for a request, and
/// the dispatcher, which is woken if no loader watches.
#[derive(Debug)]
pub(crate) struct RequestQueue {
    clients: Box<[ClientQueue]>,
    watcher: Parker,
    dispatcher: Parker,
    is_stopped: AtomicBool,
}

/// Where a thread sleeps.
#[derive(Debug, Default)]
struct Parker {
    /// [`BUSY`], [`IDLE`] or [`WOKEN`].
    state: AtomicU8,
    thread: ArcSwapOption<Thread>,
}

#[derive(Debug)]
struct ClientQueue {
    requests: Sender<Request>,
    receiver: Receiver<Request>,
}

impl RequestQueue {
    /// A queue for each of `clients`, with room for `waiting` requests that have a waiter and as
    /// many that have none.
    pub(crate) fn new(clients: usize, waiting: usize) -> Self {
        let queue = || {
            let (requests, receiver) = bounded(2 * waiting);
            ClientQueue { requests, receiver }
        };
        Self {
            clients: (0..clients).map(|_| queue()).collect(),
            watcher: Parker::default(),
            dispatcher: Parker::default(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Queues a client's request and wakes a reader. Returns false, and drops the request, if
    /// the client's queue is full.
    pub(crate) fn try_send(&self, client: u16, request: Request) -> bool {
        let queue = self.clients.get(usize::from(client));
        let is_sent = queue.is_some_and(|queue| queue.requests.try_send(request).is_ok());
        if is_sent {
            self.wake();
        }
        is_sent
    }

    /// Whether the rest of the client's queue is reserved for requests that have a waiter.
    pub(crate) fn is_half_full(&self, client: u16) -> bool {
        let queue = self
            .clients
            .get(usize::from(client))
            .map(|queue| &queue.requests);
        queue.is_none_or(|queue| queue.len() >= queue.capacity().unwrap_or(0) / 2)
    }

    /// Takes up to `limit` requests of each client, the oldest ones. Returns false if there were
    /// none.
    pub(crate) fn drain(&self, limit: usize, mut take: impl FnMut(u16, Request)) -> bool {
        let mut has_taken = false;
        for (client, queue) in (0..).zip(&self.clients) {
            for request in queue.receiver.try_iter().take(limit) {
                has_taken = true;
                take(client, request);
            }
        }
        has_taken
    }

    /// Sleeps as the loader that watches the queues, until it is woken for a request or by
    /// [`RequestQueue::wake_watcher`], unless it `has_job`. It yields a few times before: requests
    /// that come meanwhile wake no thread.
    pub(crate) fn watch(&self, has_job: impl Fn() -> bool) {
        let is_idle = || self.is_empty() && !self.is_stopped() && !has_job();
        self.watcher.begin_looking();
        for _ in 0..YIELDS {
            if !is_idle() {
                self.watcher.end();
                return;
            }
            thread::yield_now();
        }
        self.watcher.begin();
        if is_idle() {
            thread::park();
        }
        self.watcher.end();
    }

    /// Sleeps as the dispatcher, until it is woken or `timeout` has passed. Returns whether it was
    /// woken.
    pub(crate) fn park(&self, timeout: impl FnOnce() -> Option<Duration>) -> bool {
        self.dispatcher.begin();
        if self.is_empty() && !self.is_stopped() {
            match timeout() {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        self.dispatcher.end()
    }

    /// Wakes a reader: the loader that watches. If none does, the dispatcher, unless it looks for
    /// requests by itself.
    pub(crate) fn wake(&self) {
        // The request is in the channel before this looks for readers. A reader marks itself idle
        // before it looks at the channels once more.
        fence(Ordering::SeqCst);
        if !self.watcher.wake() {
            self.dispatcher.wake();
        }
    }

    /// Wakes the loader that watches, if it sleeps.
    pub(crate) fn wake_watcher(&self) {
        self.watcher.wake();
    }

    /// Wakes the dispatcher, if it sleeps.
    pub(crate) fn wake_dispatcher(&self) {
        self.dispatcher.wake();
    }

    /// Tells all readers to end.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.watcher.wake();
        self.dispatcher.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn is_empty(&self) -> bool {
        self.clients.iter().all(|queue| queue.receiver.is_empty())
    }
}

impl Parker {
    /// Counts the calling thread among the threads that look for work.
    fn begin_looking(&self) {
        self.state.store(WOKEN, Ordering::SeqCst);
    }

    /// Marks the calling thread idle. It has to look for work once more before it sleeps.
    fn begin(&self) {
        let current = thread::current();
        let is_known = self
            .thread
            .load()
            .as_ref()
            .is_some_and(|known| known.id() == current.id());
        if !is_known {
            self.thread.store(Some(Arc::new(current)));
        }
        self.state.store(IDLE, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Marks the thread busy. Returns whether it was woken. It looks for work after this.
    fn end(&self) -> bool {
        let state = self.state.swap(BUSY, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        state == WOKEN
    }

    /// Wakes the thread. Returns false if it is busy. A thread that was woken and doesn't run yet
    /// looks for this work, too: another wake-up would cost a system call.
    fn wake(&self) -> bool {
        let change = (Ordering::SeqCst, Ordering::SeqCst);
        match self.state.compare_exchange(IDLE, WOKEN, change.0, change.1) {
            Ok(_) => {
                if let Some(thread) = &*self.thread.load() {
                    thread.unpark();
                }
                true
            }
            Err(state) => state == WOKEN,
        }
    }
}

/// The thread does something else.
const BUSY: u8 = 0;
/// The thread sleeps, or looks for work for the last time before.
const IDLE: u8 = 1;
/// The thread was woken, or yields, and will look for work.
const WOKEN: u8 = 2;

/// How often the loader that watches the queues yields before it sleeps: long enough for a client
/// on the same core to take its answers and make the next requests.
const YIELDS: usize = 8;

#[cfg(test)]
mod tests {
    use lockgate_wire::Instant;

    use super::*;
    use crate::key::{Key, RootId};

    fn send(queue: &RequestQueue) {
        let key = Key {
            root: RootId::new(0),
            path: b"file"[..].into(),
        };
        let request = Request::Lookup {
            key,
            now: Instant::ZERO,
            waiter: None,
        };
        assert!(queue.try_send(0, request));
    }

    /// A wake-up is a system call of the worker: of requests that come together, one makes it.
    #[test]
    fn requests_that_come_together_wake_one_thread_once() {
        let queue = RequestQueue::new(1, 8);
        let state = |parker: &Parker| parker.state.load(Ordering::Relaxed);
        queue.watcher.begin();
        queue.dispatcher.begin();
        for _ in 0..3 {
            send(&queue);
            assert_eq!(state(&queue.watcher), WOKEN);
            assert_eq!(
                state(&queue.dispatcher),
                IDLE,
                "the watcher takes all of them"
            );
        }
        assert!(queue.watcher.end(), "it was woken");
        assert!(queue.drain(8, |_, _| {}));
        // The watcher does a job, which may hang.
        for _ in 0..2 {
            send(&queue);
            assert_eq!(
                (state(&queue.watcher), state(&queue.dispatcher)),
                (BUSY, WOKEN)
            );
        }
        assert!(queue.dispatcher.end());
        send(&queue);
        assert!(
            !queue.watcher.end() && !queue.dispatcher.end(),
            "they look for it now"
        );
        // A watcher that yields wakes for nothing.
        assert!(queue.drain(8, |_, _| {}));
        queue.watcher.begin_looking();
        queue.dispatcher.begin();
        send(&queue);
        assert_eq!(state(&queue.dispatcher), IDLE);
    }
}

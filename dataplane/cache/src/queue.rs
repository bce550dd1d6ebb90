//! The bounded queues of requests, one from each client, and the wake-up of their reader.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::request::Request;

/// The queues of requests. Sending takes no lock, also when it wakes the dispatcher: a channel's
/// own blocking receive would take one.
#[derive(Debug)]
pub(crate) struct RequestQueue {
    clients: Box<[ClientQueue]>,
    /// The dispatcher sleeps.
    is_idle: AtomicBool,
    dispatcher: OnceLock<Thread>,
    is_stopped: AtomicBool,
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
            is_idle: AtomicBool::new(false),
            dispatcher: OnceLock::new(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Queues a client's request and wakes the dispatcher. Returns false, and drops the request, if
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

    /// Registers the calling thread as the dispatcher, so that it can be woken.
    pub(crate) fn register_dispatcher(&self) {
        let _ = self.dispatcher.set(thread::current());
    }

    /// Sleeps until a request comes, it is woken, the queue is stopped, or `timeout` has passed.
    pub(crate) fn park(&self, timeout: impl FnOnce() -> Option<Duration>) {
        self.is_idle.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_empty = self.clients.iter().all(|queue| queue.receiver.is_empty());
        if is_empty && !self.is_stopped() {
            match timeout() {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        self.is_idle.store(false, Ordering::SeqCst);
    }

    /// Wakes the dispatcher, if it sleeps.
    pub(crate) fn wake(&self) {
        // The request is in the channel before this looks at the flag. The dispatcher sets the flag
        // before it looks at the channel once more.
        fence(Ordering::SeqCst);
        if self.is_idle.load(Ordering::SeqCst)
            && self.is_idle.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.dispatcher.get()
        {
            thread.unpark();
        }
    }

    /// Tells the dispatcher to end.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.dispatcher.get() {
            thread.unpark();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }
}

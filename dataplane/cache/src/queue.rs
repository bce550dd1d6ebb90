//! The bounded queue of requests from clients to loader threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::request::Request;

/// The bounded queue of requests. Sending takes no lock, also when it wakes a loader: a channel's
/// own blocking receive would take one.
#[derive(Debug)]
pub(crate) struct RequestQueue {
    requests: Sender<Request>,
    receiver: Receiver<Request>,
    /// One for each loader thread.
    parkers: Box<[Parker]>,
    is_stopped: AtomicBool,
}

/// Where a loader thread sleeps.
#[derive(Debug, Default)]
struct Parker {
    is_idle: AtomicBool,
    thread: OnceLock<Thread>,
}

impl RequestQueue {
    pub(crate) fn new(capacity: usize, loaders: u8) -> Self {
        let (requests, receiver) = bounded(capacity);
        Self {
            requests,
            receiver,
            parkers: (0..loaders).map(|_| Parker::default()).collect(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Queues a request and wakes a loader. Returns false, and drops the request, if the queue is
    /// full.
    pub(crate) fn try_send(&self, request: Request) -> bool {
        let is_sent = self.requests.try_send(request).is_ok();
        if is_sent {
            self.wake_loader();
        }
        is_sent
    }

    pub(crate) fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    /// Whether the rest of the queue is reserved for requests that have a waiter.
    pub(crate) fn is_half_full(&self) -> bool {
        self.requests.len() > self.requests.capacity().unwrap_or(0) / 2
    }

    /// The oldest request.
    pub(crate) fn try_receive(&self) -> Option<Request> {
        self.receiver.try_recv().ok()
    }

    /// Registers the calling thread as loader number `at`, so that it can be woken.
    pub(crate) fn register_loader(&self, at: usize) {
        if let Some(parker) = self.parkers.get(at) {
            let _ = parker.thread.set(thread::current());
        }
    }

    /// Sleeps until a request comes, the queue is stopped, or `timeout` has passed.
    pub(crate) fn park(&self, at: usize, timeout: impl FnOnce() -> Option<Duration>) {
        let Some(parker) = self.parkers.get(at) else {
            return;
        };
        parker.is_idle.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.receiver.is_empty() && !self.is_stopped() {
            match timeout() {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        parker.is_idle.store(false, Ordering::SeqCst);
    }

    /// Tells all loaders to end. The caller has to unpark their threads.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Wakes one loader, if one sleeps.
    fn wake_loader(&self) {
        // The request is in the channel before this looks for idle loaders. A loader marks itself
        // idle before it looks at the channel once more.
        fence(Ordering::SeqCst);
        for parker in &self.parkers {
            if parker.is_idle.load(Ordering::SeqCst)
                && parker.is_idle.swap(false, Ordering::SeqCst)
                && let Some(thread) = parker.thread.get()
            {
                thread.unpark();
                return;
            }
        }
    }
}

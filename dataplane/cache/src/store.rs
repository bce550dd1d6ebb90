//! The store: objects and their spans in memory, within their budgets.
//!
//! Sources fill it. What they use of it is the whole seam between them:
//!
//! 1. [`Store::admit`] answers a request at once if it can; else it registers the waiter, and
//!    returns a task to queue. [`Store::start`] says whether the task is still to be done when its
//!    turn has come, and [`Store::cancel`] drops it.
//! 2. The source does the task in its own time: it looks at what is [stored](Store::find), gets
//!    [memory](Store::allocate) or waits for it, and makes an [`Object`].
//! 3. It ends a lookup by [`Store::revalidated`], [`Store::insert`] or [`Store::absent`], and a
//!    read by [`Store::publish_span`] or [`Store::fail_span`]. Each of them answers the waiters.
//!
//! A source may have any number of tasks in progress, and end them in any order, on any thread.

pub(crate) mod index;
pub(crate) mod object;
mod resident;
mod s3fifo;
mod waiters;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use lockgate_wire::Instant;
use pktbuf::{ArenaUsage, PageArena, PageFill, SharedSpan};

use self::index::{Class, Index};
use self::object::{Object, SPAN_BYTES, SpanTable};
use self::waiters::Waiters;
use crate::absence::Absence;
use crate::counters::StoreCounters;
use crate::freshness::{Age, Freshness};
use crate::key::Key;
use crate::request::{Completion, Outcome, Request, Task, Waiter};

/// Objects and their spans in memory, shared by all sources. Workers have no handle to it.
pub(crate) struct Store {
    arena: PageArena,
    /// One for each client, with room for all that it may have outstanding.
    completions: Vec<Sender<Completion>>,
    freshness: Freshness,
    next_table_id: AtomicU64,
    state: Mutex<State>,
    counters: StoreCounters,
}

/// What sources share. The lock is held for moments, never while a source reads.
struct State {
    index: Index,
    waiters: Waiters,
}

/// What a source has to do for a request.
pub(crate) struct Admitted {
    pub(crate) task: Task,
    /// No client waits for it: it may be dropped.
    pub(crate) is_background: bool,
}

impl Store {
    /// An empty store that answers by `completions`, one channel for each client.
    pub(crate) fn new(
        arena: PageArena,
        objects_max: u32,
        freshness: Freshness,
        completions: Vec<Sender<Completion>>,
    ) -> Self {
        Self {
            arena,
            completions,
            freshness,
            next_table_id: AtomicU64::new(0),
            state: Mutex::new(State {
                index: Index::new(objects_max),
                waiters: Waiters::default(),
            }),
            counters: StoreCounters::default(),
        }
    }

    /// Answers a request at once if the answer is known. Else registers its waiter, and returns a
    /// task if one has to be queued. Read-ahead is dropped while `is_memory_short`.
    pub(crate) fn admit(&self, request: Request, is_memory_short: bool) -> Option<Admitted> {
        match request {
            Request::Lookup { key, now, waiter } => self.admit_lookup(key, now, waiter),
            Request::ReadSpan {
                object,
                index,
                waiter,
            } => self.admit_read(object, index, waiter, is_memory_short),
        }
    }

    /// Notes that a source starts a task. Returns false if it must not: the same task was started
    /// for another client.
    pub(crate) fn start(&self, task: &Task) -> bool {
        self.state().waiters.start(task)
    }

    /// Drops a task that no client waits for. Returns false, and changes nothing, if one does.
    pub(crate) fn cancel(&self, task: &Task) -> bool {
        self.state().waiters.cancel(task)
    }

    /// The object that is stored under `key`.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Object>> {
        self.state().index.find(key).cloned()
    }

    /// An empty table for an object of `spans` spans.
    pub(crate) fn new_span_table(&self, spans: u64) -> SpanTable {
        let id = self.next_table_id.fetch_add(1, Ordering::Relaxed);
        let resident_max = self.arena.usage().bytes / SPAN_BYTES as usize;
        SpanTable::new(id, spans, resident_max)
    }

    /// Allocates memory for a span, evicting others.
    pub(crate) fn allocate(&self, len: usize) -> Option<PageFill> {
        let (page, evicted) = self.state().index.allocate(&self.arena, len);
        self.counters.evictions.add(evicted);
        page
    }

    /// Evicts one unused object of a class. Returns false if there is none.
    pub(crate) fn evict_object(&self, class: Class) -> bool {
        self.state().index.evict_object(class)
    }

    /// Ends a lookup: the stored object is what the source found at `now`.
    pub(crate) fn revalidated(&self, object: &Arc<Object>, now: Instant) {
        self.counters.revalidations.add(1);
        object.set_validated(now);
        let waiters = self.state().waiters.take_for_lookup(object.key());
        self.answer_found(waiters, object);
    }

    /// Ends a lookup: stores what the source found, in the place of another version.
    pub(crate) fn insert(&self, object: &Arc<Object>) {
        self.store_found(object, false);
    }

    /// Ends a lookup: the source found the stored version, and has read it again for better
    /// validators.
    pub(crate) fn replace_same_version(&self, object: &Arc<Object>) {
        self.counters.revalidations.add(1);
        self.store_found(object, true);
    }

    /// Removes an object that the next lookup must not find. Its spans can still be read.
    pub(crate) fn retire(&self, object: &Arc<Object>) {
        if !object.is_retired() {
            self.counters.changed_files.add(1);
        }
        self.state().index.retire(object);
    }

    /// Ends a lookup: the source found nothing to serve.
    pub(crate) fn absent(&self, key: &Key, absence: Absence) {
        self.counters.absent.add(1);
        let mut state = self.state();
        if state.index.remove(key) {
            self.counters.changed_files.add(1);
        }
        let waiters = state.waiters.take_for_lookup(key);
        drop(state);
        for waiter in waiters {
            let key = key.clone();
            self.answer(waiter, Outcome::Absent { key, absence });
        }
    }

    /// Ends a read: publishes the span, so that workers find it.
    pub(crate) fn publish_span(&self, object: &Arc<Object>, index: u64, span: &Arc<SharedSpan>) {
        let Some(table) = object.spans() else {
            return;
        };
        let mut state = self.state();
        let waiters = state.waiters.take_for_span(table.id(), index);
        state
            .index
            .publish(object, index, span, !waiters.is_empty());
        drop(state);
        for waiter in waiters {
            let span = Arc::clone(span);
            self.answer(waiter, Outcome::Span { index, span });
        }
    }

    /// Ends a read: the span can't be had, and no other of this object. The next lookup makes a new
    /// one.
    pub(crate) fn fail_span(&self, object: &Arc<Object>, index: u64, absence: Absence) {
        let Some(table) = object.spans() else {
            return;
        };
        if absence == Absence::Changing && !object.is_retired() {
            self.counters.changed_files.add(1);
        }
        let mut state = self.state();
        state.index.retire(object);
        let waiters = state.waiters.take_for_span(table.id(), index);
        drop(state);
        for waiter in waiters {
            self.answer(waiter, Outcome::Failed(absence));
        }
    }

    /// Ends a read that no body waits for, without reading. Its waiters are closed connections;
    /// any other makes its request again.
    pub(crate) fn abandon_span(&self, object: &Object, index: u64) {
        let Some(table) = object.spans() else {
            return;
        };
        let waiters = self.state().waiters.take_for_span(table.id(), index);
        for waiter in waiters {
            self.answer(waiter, Outcome::Retry);
        }
    }

    /// The number of objects that are stored.
    pub(crate) fn objects(&self) -> usize {
        self.state().index.len()
    }

    /// The number of spans that eviction knows of.
    #[cfg(test)]
    pub(crate) fn known_spans(&self) -> usize {
        self.state().index.known_spans()
    }

    pub(crate) fn memory(&self) -> ArenaUsage {
        self.arena.usage()
    }

    pub(crate) fn counters(&self) -> &StoreCounters {
        &self.counters
    }

    /// Stops all sources until the guard is dropped.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.state()
    }

    fn admit_lookup(&self, key: Key, now: Instant, waiter: Option<Waiter>) -> Option<Admitted> {
        let mut state = self.state();
        if let Some(object) = state.index.find(&key) {
            let object = Arc::clone(object);
            match self.freshness.of(&object, now) {
                Age::Fresh => {
                    drop(state);
                    self.answer_found(waiter, &object);
                    return None;
                }
                // The waiter gets it now, the check follows.
                Age::Stale if waiter.is_some() => {
                    let is_first = object.begin_revalidation(now)
                        && state.waiters.register_for_lookup(&key, None);
                    drop(state);
                    self.counters.stale.add(1);
                    self.answer_found(waiter, &object);
                    return is_first.then_some(Admitted {
                        task: Task::Lookup { key, now },
                        is_background: true,
                    });
                }
                Age::Stale | Age::Expired => {}
            }
        }
        let is_background = waiter.is_none();
        state
            .waiters
            .register_for_lookup(&key, waiter)
            .then_some(Admitted {
                task: Task::Lookup { key, now },
                is_background,
            })
    }

    fn admit_read(
        &self,
        object: Arc<Object>,
        index: u64,
        waiter: Option<Waiter>,
        is_memory_short: bool,
    ) -> Option<Admitted> {
        let mut state = self.state();
        let table = object.spans()?;
        let is_background = waiter.is_none();
        if let Some(span) = table.get(index, true) {
            drop(state);
            if let Some(waiter) = waiter {
                self.answer(waiter, Outcome::Span { index, span });
            }
            return None;
        }
        // Freed memory goes to waiting tasks first.
        if is_background && is_memory_short {
            return None;
        }
        state
            .waiters
            .register_for_span(table.id(), index, waiter)
            .then_some(Admitted {
                task: Task::ReadSpan { object, index },
                is_background,
            })
    }

    fn store_found(&self, object: &Arc<Object>, is_same_version: bool) {
        let mut state = self.state();
        if !is_same_version && state.index.find(object.key()).is_some() {
            self.counters.changed_files.add(1);
        }
        if !state.index.insert(object) {
            self.counters.objects_refused.add(1);
        }
        let waiters = state.waiters.take_for_lookup(object.key());
        drop(state);
        self.answer_found(waiters, object);
    }

    fn answer_found(&self, waiters: impl IntoIterator<Item = Waiter>, object: &Arc<Object>) {
        for waiter in waiters {
            self.answer(waiter, Outcome::Found(Arc::clone(object)));
        }
    }

    fn answer(&self, waiter: Waiter, outcome: Outcome) {
        let Some(completions) = self.completions.get(usize::from(waiter.client)) else {
            return;
        };
        // A client that was dropped has disconnected its channel.
        let sent = completions.try_send(Completion {
            token: waiter.token,
            ticket: waiter.ticket,
            root: waiter.root,
            outcome,
        });
        debug_assert!(
            !sent.is_err_and(|error| error.is_full()),
            "more answers than requests"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("memory", &self.arena.usage())
            .finish_non_exhaustive()
    }
}

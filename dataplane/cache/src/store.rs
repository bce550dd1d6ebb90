//! The store: objects and their spans in memory, within their budgets.
//!
//! Sources fill it. What they use of it is the whole seam between them:
//!
//! 1. [`Store::admit`] answers a request at once if it can; else it registers the waiter, and
//!    returns a task if no source is at it yet.
//! 2. The source does the task in its own time: it looks at what is [stored](Store::find), gets
//!    [memory](Store::allocate) or [defers](Store::defer) the task, and makes an [`Object`].
//! 3. It ends a lookup by [`Store::revalidated`], [`Store::insert`] or [`Store::absent`], and a
//!    read by [`Store::publish_span`] or [`Store::fail_span`]. Each of them answers the waiters.
//!
//! A source may have any number of tasks in progress, and end them in any order, on any thread.

pub(crate) mod index;
pub(crate) mod object;
mod resident;
mod waiters;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use lockgate_wire::Instant;
use pktbuf::{ArenaUsage, PageArena, PageMut, SharedSpan};

use self::index::{Class, Index};
use self::object::{Object, SPAN_BYTES, SpanTable};
use self::waiters::Waiters;
use crate::absence::Absence;
use crate::counters::StoreCounters;
use crate::key::Key;
use crate::request::{Completion, Outcome, Request, Task, Waiter};

/// Objects and their spans in memory, shared by all sources. Workers have no handle to it.
pub(crate) struct Store {
    arena: PageArena,
    /// One for each client, with room for all that it may have outstanding.
    completions: Vec<Sender<Completion>>,
    revalidate: Duration,
    next_table_id: AtomicU64,
    state: Mutex<State>,
    counters: StoreCounters,
}

/// What sources share. The lock is held for moments, never while a source reads.
struct State {
    index: Index,
    waiters: Waiters,
    /// Tasks that wait for memory or for an open file, in their order of arrival.
    deferred: VecDeque<Task>,
}

impl Store {
    /// An empty store that answers by `completions`, one channel for each client.
    pub(crate) fn new(
        arena: PageArena,
        objects_max: u32,
        revalidate: Duration,
        completions: Vec<Sender<Completion>>,
    ) -> Self {
        Self {
            arena,
            completions,
            revalidate,
            next_table_id: AtomicU64::new(0),
            state: Mutex::new(State {
                index: Index::new(objects_max),
                waiters: Waiters::default(),
                deferred: VecDeque::new(),
            }),
            counters: StoreCounters::default(),
        }
    }

    /// Answers a request at once if the answer is known. Else registers its waiter, and returns a
    /// task if no source is at it yet.
    pub(crate) fn admit(&self, request: Request) -> Option<Task> {
        match request {
            Request::Lookup { key, now, waiter } => self.admit_lookup(key, now, waiter),
            Request::ReadSpan {
                object,
                index,
                waiter,
            } => self.admit_read(object, index, waiter),
        }
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

    /// Allocates memory for a span, evicting others. Returns none as long as older tasks wait,
    /// unless the caller's own is the oldest and `was_deferred`.
    pub(crate) fn allocate(&self, len: usize, was_deferred: bool) -> Option<PageMut> {
        let mut state = self.state();
        if !was_deferred && !state.deferred.is_empty() {
            return None;
        }
        let (page, evicted) = state.index.allocate(&self.arena, len);
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
        state.index.publish(object, index, span);
        let waiters = state.waiters.take_for_span(table.id(), index);
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

    /// Queues a task until memory or an open file is available. A read-ahead that has no
    /// waiters is cancelled instead.
    pub(crate) fn defer(&self, task: Task) {
        let mut state = self.state();
        if let Task::ReadSpan { object, index } = &task
            && let Some(table) = object.spans()
            && state.waiters.cancel_read_ahead(table.id(), *index)
        {
            return;
        }
        self.counters.waits.add(1);
        state.deferred.push_back(task);
    }

    /// Puts the oldest deferred task back, because it still can't be done.
    pub(crate) fn defer_again(&self, task: Task) {
        self.state().deferred.push_front(task);
    }

    /// Takes the oldest deferred task, to try it again.
    pub(crate) fn next_deferred(&self) -> Option<Task> {
        self.state().deferred.pop_front()
    }

    pub(crate) fn has_deferred(&self) -> bool {
        !self.state().deferred.is_empty()
    }

    /// The number of objects that are stored.
    pub(crate) fn objects(&self) -> usize {
        self.state().index.len()
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

    fn admit_lookup(&self, key: Key, now: Instant, waiter: Option<Waiter>) -> Option<Task> {
        let mut state = self.state();
        if let Some(object) = state.index.find(&key)
            && now.saturating_since(object.validated_at()) <= self.revalidate
        {
            let object = Arc::clone(object);
            drop(state);
            self.answer_found(waiter, &object);
            return None;
        }
        state
            .waiters
            .register_for_lookup(&key, waiter)
            .then_some(Task::Lookup { key, now })
    }

    fn admit_read(&self, object: Arc<Object>, index: u64, waiter: Option<Waiter>) -> Option<Task> {
        let mut state = self.state();
        let table = object.spans()?;
        let is_read_ahead = waiter.is_none();
        if let Some(span) = table.get(index) {
            drop(state);
            if let Some(waiter) = waiter {
                self.answer(waiter, Outcome::Span { index, span });
            }
            return None;
        }
        // Freed memory goes to waiting tasks first.
        if is_read_ahead && !state.deferred.is_empty() {
            return None;
        }
        state
            .waiters
            .register_for_span(table.id(), index, waiter)
            .then_some(Task::ReadSpan { object, index })
    }

    fn store_found(&self, object: &Arc<Object>, is_same_version: bool) {
        let mut state = self.state();
        if !is_same_version && state.index.find(object.key()).is_some() {
            self.counters.changed_files.add(1);
        }
        state.index.insert(object);
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

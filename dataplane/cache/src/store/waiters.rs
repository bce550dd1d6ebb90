//! Clients' requests that wait for a lookup or for a span.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::key::Key;
use crate::request::{Task, Waiter};

/// Clients' requests that wait for lookups and reads.
#[derive(Default)]
pub(super) struct Waiters {
    /// Paths that are looked up.
    lookups: HashMap<Key, Pending>,
    /// Spans that are read: the table's id and the span's index.
    spans: HashMap<(u64, u64), Pending>,
}

/// A lookup or a read that was admitted, and its waiters.
#[derive(Default)]
struct Pending {
    waiters: Vec<Waiter>,
    /// A source is at it.
    is_started: bool,
}

impl Waiters {
    /// Registers a waiter for the path. Returns true if the caller has to queue a task for it: none
    /// was queued, or another client's was.
    pub(super) fn register_for_lookup(&mut self, key: &Key, waiter: Option<Waiter>) -> bool {
        register(&mut self.lookups, key, waiter)
    }

    /// Ends the lookup of the path and returns its waiters.
    pub(super) fn take_for_lookup(&mut self, key: &Key) -> Vec<Waiter> {
        let pending = self.lookups.remove(key);
        pending.map(|pending| pending.waiters).unwrap_or_default()
    }

    /// Registers a waiter for the span. Returns true if the caller has to queue a task for it.
    pub(super) fn register_for_span(
        &mut self,
        table: u64,
        index: u64,
        waiter: Option<Waiter>,
    ) -> bool {
        register(&mut self.spans, &(table, index), waiter)
    }

    /// Ends the read of the span and returns its waiters.
    pub(super) fn take_for_span(&mut self, table: u64, index: u64) -> Vec<Waiter> {
        let pending = self.spans.remove(&(table, index));
        pending.map(|pending| pending.waiters).unwrap_or_default()
    }

    /// Notes that a source starts a task. Returns false if it must not: another one has started it,
    /// or it has ended.
    pub(super) fn start(&mut self, task: &Task) -> bool {
        let pending = match task {
            Task::Lookup { key, .. } => self.lookups.get_mut(key),
            Task::ReadSpan { object, index } => object
                .spans()
                .and_then(|table| self.spans.get_mut(&(table.id(), *index))),
            Task::Close { .. } => return true,
        };
        pending.is_some_and(|pending| !std::mem::replace(&mut pending.is_started, true))
    }

    /// Cancels a task that has no waiters. Returns false, and changes nothing, if it has some.
    pub(super) fn cancel(&mut self, task: &Task) -> bool {
        match task {
            Task::Lookup { key, .. } => cancel(&mut self.lookups, key),
            Task::ReadSpan { object, index } => object
                .spans()
                .is_none_or(|table| cancel(&mut self.spans, &(table.id(), *index))),
            Task::Close { .. } => false,
        }
    }
}

fn register<K: Clone + Eq + Hash>(
    pending: &mut HashMap<K, Pending>,
    key: &K,
    waiter: Option<Waiter>,
) -> bool {
    if let Some(pending) = pending.get_mut(key) {
        // The task that was queued before may be far back in another client's queue.
        let last = pending.waiters.last().map(|waiter| waiter.client);
        let needs_task = waiter.as_ref().is_some_and(|new| last != Some(new.client));
        let needs_task = needs_task && !pending.is_started;
        pending.waiters.extend(waiter);
        return needs_task;
    }
    let waiters = waiter.into_iter().collect();
    let is_started = false;
    pending.insert(
        key.clone(),
        Pending {
            waiters,
            is_started,
        },
    );
    true
}

fn cancel<K: Eq + Hash>(pending: &mut HashMap<K, Pending>, key: &K) -> bool {
    if pending
        .get(key)
        .is_some_and(|pending| !pending.waiters.is_empty())
    {
        return false;
    }
    pending.remove(key);
    true
}

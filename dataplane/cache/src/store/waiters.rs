//! Clients' requests that wait for a lookup or for a span.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::key::Key;
use crate::request::Waiter;

/// Clients' requests that wait for lookups and reads in progress.
#[derive(Default)]
pub(super) struct Waiters {
    /// Paths that a source is looking up.
    lookups: HashMap<Key, Vec<Waiter>>,
    /// Spans that a source is reading: the table's id and the span's index.
    spans: HashMap<(u64, u64), Vec<Waiter>>,
}

impl Waiters {
    /// Registers a waiter for the path. Returns true if the caller has to start the lookup.
    pub(super) fn register_for_lookup(&mut self, key: &Key, waiter: Option<Waiter>) -> bool {
        register(&mut self.lookups, key, waiter)
    }

    /// Ends the lookup of the path and returns its waiters.
    pub(super) fn take_for_lookup(&mut self, key: &Key) -> Vec<Waiter> {
        self.lookups.remove(key).unwrap_or_default()
    }

    /// Registers a waiter for the span. Returns true if the caller has to start the read.
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
        self.spans.remove(&(table, index)).unwrap_or_default()
    }

    /// Cancels reading the span ahead. Returns false, and changes nothing, if it has waiters.
    pub(super) fn cancel_read_ahead(&mut self, table: u64, index: u64) -> bool {
        match self.spans.get(&(table, index)) {
            Some(waiters) if !waiters.is_empty() => false,
            Some(_) | None => {
                self.spans.remove(&(table, index));
                true
            }
        }
    }
}

fn register<K: Clone + Eq + Hash>(
    waiters: &mut HashMap<K, Vec<Waiter>>,
    key: &K,
    waiter: Option<Waiter>,
) -> bool {
    if let Some(waiters) = waiters.get_mut(key) {
        waiters.extend(waiter);
        return false;
    }
    waiters.insert(key.clone(), waiter.into_iter().collect());
    true
}

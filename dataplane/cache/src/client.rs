//! A worker's handle to the cache. Nothing in it blocks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use crate::absence::Absence;
use crate::config::CacheConfig;
use crate::counters::ClientCounters;
use crate::key::{Key, RootId};
use crate::queue::RequestQueue;
use crate::request::{Completion, Outcome, Request, Ticket, Token, Waiter};
use crate::store::object::Object;
use crate::table::{CachedPath, PathTable};

/// The immediate result of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// The object.
    Found(Arc<Object>),
    /// Nothing to serve.
    Absent(Absence),
    /// A [`Completion`] with this ticket will have the result.
    Pending(Ticket),
}

/// A worker's handle to the cache.
pub struct FileClient {
    id: u16,
    config: CacheConfig,
    queue: Arc<RequestQueue>,
    inbox: Receiver<Completion>,
    table: PathTable,
    outstanding: u16,
    next_ticket: u32,
    starved: VecDeque<(Token, Ticket)>,
    counters: Arc<ClientCounters>,
}

impl FileClient {
    pub(crate) fn new(
        id: u16,
        config: &CacheConfig,
        queue: &Arc<RequestQueue>,
        inbox: Receiver<Completion>,
        counters: &Arc<ClientCounters>,
    ) -> Self {
        Self {
            id,
            config: config.clone(),
            queue: Arc::clone(queue),
            inbox,
            table: PathTable::new(config.table_entries),
            outstanding: 0,
            next_ticket: 0,
            starved: VecDeque::new(),
            counters: Arc::clone(counters),
        }
    }

    /// Looks up `path`, relative to a tree's top, without a slash at either end.
    ///
    /// With `r` for [`CacheConfig::revalidate`], an object that was validated `age` ago is
    ///
    /// - returned if `age <= r`;
    /// - returned and revalidated in the background if `r < age <= 2 * r`;
    /// - revalidated before it is returned if `2 * r < age`.
    pub fn lookup(&mut self, now: Instant, root: RootId, path: &[u8], token: Token) -> Lookup {
        match self.table.find(now, root, path) {
            Some(CachedPath::Object(object)) => {
                let age = now.saturating_since(object.validated_at());
                let limit = self.config.revalidate;
                if age > limit && age <= 2 * limit {
                    self.request_revalidation(now, &object);
                }
                if age <= 2 * limit {
                    object.mark_referenced();
                    self.counters.hits.add(1);
                    return Lookup::Found(object);
                }
            }
            Some(CachedPath::Absent(absence)) => {
                self.counters.hits.add(1);
                return Lookup::Absent(absence);
            }
            None => {}
        }
        self.counters.misses.add(1);
        let key = Key {
            root,
            path: path.into(),
        };
        let ticket = self.request(token, |waiter| Request::Lookup {
            key,
            now,
            waiter: Some(waiter),
        });
        Lookup::Pending(ticket)
    }

    /// Returns the next answer. To be called until there is none, once a turn.
    pub fn poll(&mut self, now: Instant) -> Option<Completion> {
        if let Ok(completion) = self.inbox.try_recv() {
            debug_assert!(self.outstanding > 0, "an answer without a request");
            self.outstanding = self.outstanding.saturating_sub(1);
            match &completion.outcome {
                Outcome::Found(object) => self.table.insert_object(object),
                Outcome::Absent { key, absence } if absence.is_lasting() => {
                    let until = now + self.config.negative;
                    self.table.insert_absence(key.clone(), *absence, until);
                }
                Outcome::Absent { .. }
                | Outcome::Span { .. }
                | Outcome::Failed(_)
                | Outcome::Retry => {}
            }
            return Some(completion);
        }
        if self.starved.is_empty() || !self.has_room() {
            return None;
        }
        let (token, ticket) = self.starved.pop_front()?;
        Some(Completion {
            token,
            ticket,
            outcome: Outcome::Retry,
        })
    }

    /// The number of requests that weren't answered yet.
    pub fn outstanding(&self) -> usize {
        usize::from(self.outstanding) + self.starved.len()
    }

    /// Returns span `index` of a large object if it is in memory. Else requests it and returns the
    /// ticket.
    pub(crate) fn span(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        token: Token,
    ) -> Result<Arc<SharedSpan>, Ticket> {
        if let Some(span) = object.spans().and_then(|spans| spans.get(index)) {
            self.counters.span_hits.add(1);
            return Ok(span);
        }
        self.counters.span_misses.add(1);
        let object = Arc::clone(object);
        Err(self.request(token, |waiter| Request::ReadSpan {
            object,
            index,
            waiter: Some(waiter),
        }))
    }

    /// Requests the spans behind `at` that a body will need next, from `from` on, as long as the
    /// queue is less than half full. Returns the first span that it has to be called for again.
    pub(crate) fn read_ahead(&self, object: &Arc<Object>, from: u64, at: u64) -> u64 {
        let Some(spans) = object.spans() else {
            return from;
        };
        let to = (at + 1 + u64::from(self.config.read_ahead)).min(object.span_count());
        for index in from.max(at + 1)..to {
            if spans.contains(index) {
                continue;
            }
            let request = Request::ReadSpan {
                object: Arc::clone(object),
                index,
                waiter: None,
            };
            if self.queue.is_half_full() || !self.queue.try_send(request) {
                return index;
            }
        }
        to.max(from)
    }

    fn has_room(&self) -> bool {
        self.outstanding < self.config.outstanding_max && !self.queue.is_full()
    }

    fn request(&mut self, token: Token, request: impl FnOnce(Waiter) -> Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let waiter = Waiter {
            client: self.id,
            token,
            ticket,
        };
        if self.outstanding < self.config.outstanding_max && self.queue.try_send(request(waiter)) {
            self.outstanding += 1;
        } else {
            self.counters.starved.add(1);
            if self.starved.len() >= STARVED_MAX {
                // The oldest has most likely timed out; if not, HTTP's own time-out answers it.
                self.starved.pop_front();
            }
            self.starved.push_back((token, ticket));
        }
        ticket
    }

    /// Requests revalidation of the object, unless a request is on its way. It has no waiter.
    fn request_revalidation(&self, now: Instant, object: &Object) {
        if !object.begin_revalidation() {
            return;
        }
        let request = Request::Lookup {
            key: object.key().clone(),
            now,
            waiter: None,
        };
        if !self.queue.try_send(request) {
            object.end_revalidation();
        }
    }
}

impl fmt::Debug for FileClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileClient")
            .field("id", &self.id)
            .field("outstanding", &self.outstanding)
            .field("starved", &self.starved.len())
            .finish_non_exhaustive()
    }
}

/// Requests that wait for room in the queue. Those of closed connections stay until their turn.
const STARVED_MAX: usize = 65_536;

//! A worker's handle to the cache. Nothing in it blocks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use crate::absence::Absence;
use crate::budget::{Refusal, RequestBudget};
use crate::config::CacheConfig;
use crate::counters::ClientCounters;
use crate::freshness::{Age, Freshness};
use crate::key::{Key, RootId};
use crate::pinned::PinnedSpans;
use crate::queue::RequestQueue;
use crate::request::{Completion, Outcome, Request, Ticket, Token, Waiter};
use crate::store::object::{Object, SPAN_BYTES};
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
    freshness: Freshness,
    roots: usize,
    queue: Arc<RequestQueue>,
    inbox: Receiver<Completion>,
    table: PathTable,
    budget: RequestBudget,
    pinned: PinnedSpans,
    /// The most spans that are read ahead of a body.
    ahead_max: u64,
    /// The time of the last call.
    now: Instant,
    next_ticket: u32,
    counters: Arc<ClientCounters>,
}

impl FileClient {
    pub(crate) fn new(
        id: u16,
        config: &CacheConfig,
        roots: usize,
        queue: &Arc<RequestQueue>,
        inbox: Receiver<Completion>,
        counters: &Arc<ClientCounters>,
        pinned_bytes_max: u64,
    ) -> Self {
        Self {
            id,
            config: config.clone(),
            freshness: config.freshness(),
            roots,
            queue: Arc::clone(queue),
            inbox,
            table: PathTable::new(config.table_entries),
            budget: RequestBudget::new(config.outstanding_max, roots),
            pinned: PinnedSpans::new(pinned_bytes_max),
            ahead_max: (pinned_bytes_max / u64::from(SPAN_BYTES) / AHEAD_DIVISOR)
                .min(AHEAD_FACTOR * u64::from(config.read_ahead)),
            now: Instant::ZERO,
            next_ticket: 0,
            counters: Arc::clone(counters),
        }
    }

    /// Looks up `path`, relative to a tree's top, without a slash at either end.
    ///
    /// With `r` for [`CacheConfig::revalidate`] and `s` for [`CacheConfig::stale_max`], an object
    /// that was validated `age` ago is
    ///
    /// - returned if `age <= r`;
    /// - returned and revalidated in the background if `r < age <= r + s`;
    /// - revalidated before it is returned if `r + s < age`.
    pub fn lookup(&mut self, now: Instant, root: RootId, path: &[u8], token: Token) -> Lookup {
        self.now = now;
        match self.table.find(now, root, path) {
            Some(CachedPath::Object(object)) => {
                let age = self.freshness.of(&object, now);
                if age == Age::Stale {
                    self.counters.stale.add(1);
                    self.request_revalidation(now, &object);
                }
                if age != Age::Expired {
                    object.add_use();
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
        // No file has such a name: it isn't worth a request.
        if path.len() >= PATH_MAX || root.index() >= self.roots {
            return Lookup::Absent(Absence::NotFound);
        }
        self.counters.misses.add(1);
        let key = Key {
            root,
            path: path.into(),
        };
        let ticket = self.request(root, token, |waiter| Request::Lookup {
            key,
            now,
            waiter: Some(waiter),
        });
        Lookup::Pending(ticket)
    }

    /// Returns the next answer. To be called until there is none, once a turn.
    pub fn poll(&mut self, now: Instant) -> Option<Completion> {
        self.now = now;
        if let Ok(completion) = self.inbox.try_recv() {
            self.budget.on_answer(completion.root);
            self.note_outstanding();
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
        let (root, token, ticket) = self.budget.next_starved()?;
        Some(Completion {
            token,
            ticket,
            root,
            outcome: Outcome::Retry,
        })
    }

    /// The number of requests that weren't answered yet.
    pub fn outstanding(&self) -> usize {
        (self.budget.outstanding() + self.budget.starved()) as usize
    }

    /// Looks up an object that a body had released.
    pub(crate) fn lookup_again(&mut self, key: &Key, token: Token) -> Lookup {
        self.lookup(self.now, key.root, &key.path, token)
    }

    /// Counts the span `index` of an object, to which a send queue is to refer, until all send
    /// queues have dropped it. Returns false if this client's share of the memory has no room for
    /// another span.
    pub(crate) fn try_pin(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        span: &Arc<SharedSpan>,
    ) -> bool {
        let is_pinned = self.pinned.try_pin(object, index, span);
        self.counters.pinned_bytes.set(self.pinned.bytes());
        if !is_pinned {
            self.counters.pins_refused.add(1);
        }
        is_pinned
    }

    /// Returns span `index` of a large object if it is in memory, which is counted for eviction if
    /// it `is_use`. Else requests it and returns the ticket.
    pub(crate) fn span(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        is_use: bool,
        token: Token,
    ) -> Result<Arc<SharedSpan>, Ticket> {
        if let Some(span) = object.spans().and_then(|spans| spans.get(index, is_use)) {
            self.counters.span_hits.add(1);
            return Ok(span);
        }
        self.counters.span_misses.add(1);
        let (root, object) = (object.key().root, Arc::clone(object));
        Err(self.request(root, token, |waiter| Request::ReadSpan {
            object,
            index,
            waiter: Some(waiter),
        }))
    }

    /// Requests the first of the spans `next` that a body will need next, as long as the queue is
    /// less than half full. The body has `taken` so many spans before these. Returns the first
    /// span that this has to be called for again.
    ///
    /// A body that goes through an object has more read ahead, up to [`AHEAD_FACTOR`] times
    /// [`CacheConfig::read_ahead`]: unless memory is small, or many requests wait. Requests are
    /// made several at a time, so that a reader is woken for all of them once.
    pub(crate) fn read_ahead(
        &self,
        object: &Arc<Object>,
        ahead: u64,
        taken: u64,
        next: Range<u64>,
    ) -> u64 {
        let Some(spans) = object.spans() else {
            return ahead;
        };
        let least = u64::from(self.config.read_ahead);
        let window = if self.budget.outstanding() > AHEAD_OUTSTANDING_MAX {
            least
        } else {
            (least + taken).min(self.ahead_max).max(least)
        };
        let from = ahead.max(next.start);
        let to = next.end.min(next.start + window);
        if to < next.end && to.saturating_sub(from) < window / 2 {
            return from;
        }
        for index in from..to {
            if spans.contains(index) {
                continue;
            }
            let request = Request::ReadSpan {
                object: Arc::clone(object),
                index,
                waiter: None,
            };
            if self.queue.is_half_full(self.id) || !self.queue.try_send(self.id, request) {
                return index;
            }
        }
        to.max(from)
    }

    fn request(
        &mut self,
        root: RootId,
        token: Token,
        request: impl FnOnce(Waiter) -> Request,
    ) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let waiter = Waiter {
            client: self.id,
            root,
            token,
            ticket,
        };
        let refusal = match self.budget.try_take(root) {
            Ok(()) if self.queue.try_send(self.id, request(waiter)) => {
                self.note_outstanding();
                return ticket;
            }
            Ok(()) => {
                self.budget.on_answer(root);
                Refusal::Client
            }
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Client => self.counters.starved.add(1),
            Refusal::Root => self.counters.starved_root.add(1),
        }
        if !self.budget.starve(root, token, ticket) {
            self.counters.starved_dropped.add(1);
        }
        ticket
    }

    /// Requests revalidation of the object, unless a request is on its way. It has no waiter.
    fn request_revalidation(&self, now: Instant, object: &Object) {
        if !object.begin_revalidation(now) {
            return;
        }
        let request = Request::Lookup {
            key: object.key().clone(),
            now,
            waiter: None,
        };
        if self.queue.is_half_full(self.id) || !self.queue.try_send(self.id, request) {
            object.end_revalidation();
        }
    }

    fn note_outstanding(&self) {
        self.counters
            .outstanding
            .set(u64::from(self.budget.outstanding()));
    }
}

impl fmt::Debug for FileClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileClient")
            .field("id", &self.id)
            .field("outstanding", &self.budget.outstanding())
            .field("starved", &self.budget.starved())
            .finish_non_exhaustive()
    }
}

/// By what read-ahead grows.
const AHEAD_FACTOR: u64 = 4;

/// A body has at most this part of what send queues may refer to read ahead of it.
const AHEAD_DIVISOR: u64 = 16;

/// Read-ahead doesn't grow while more requests than these wait.
const AHEAD_OUTSTANDING_MAX: u32 = 16;

/// The kernel resolves no path of this length (`PATH_MAX`, with the zero byte at its end).
const PATH_MAX: usize = 4_096;

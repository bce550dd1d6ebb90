//! A worker's handle to the cache. Nothing in it waits.

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crossbeam_channel::Receiver;
use hashbrown::DefaultHashBuilder;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use super::cache::Shared;
use super::counters::ClientCounters;
use super::object::{Content, Key, Object};
use super::root::{Absence, RootId};

/// Names, to the worker, whoever waits for an answer: a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Names a request, so that an answer that nobody waits for any more isn't taken for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u32);

/// What a lookup found at once.
#[derive(Debug)]
pub enum Lookup {
    /// The object.
    Found(Arc<Object>),
    /// There's nothing to serve.
    Absent(Absence),
    /// A [`Completion`] with this ticket will tell.
    Pending(Ticket),
}

/// The answer to a request.
#[derive(Debug)]
pub struct Completion {
    /// Who waits for it.
    pub token: Token,
    /// For which request.
    pub ticket: Ticket,
    pub(super) outcome: Outcome,
}

/// What a request led to.
#[derive(Debug)]
pub(super) enum Outcome {
    Found(Arc<Object>),
    Absent {
        key: Key,
        absence: Absence,
    },
    Span {
        index: u64,
        span: Arc<SharedSpan>,
    },
    /// A span can't be had, for this reason.
    Failed(Absence),
    /// The request wasn't sent, because there was no room; there is now.
    Retry,
}

/// A request to the loaders.
pub(super) enum Job {
    Look {
        key: Key,
        now: Instant,
        reply: Option<Reply>,
    },
    Fill {
        object: Arc<Object>,
        index: u64,
        reply: Option<Reply>,
    },
}

/// Whom to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) client: u16,
    pub(super) token: Token,
    pub(super) ticket: Ticket,
}

/// A worker's handle to the cache.
pub struct FileClient {
    id: u16,
    shared: Arc<Shared>,
    inbox: Receiver<Completion>,
    table: Table,
    outstanding: u16,
    next_ticket: u32,
    starved: VecDeque<(Token, Ticket)>,
    counters: Arc<ClientCounters>,
}

impl Completion {
    /// The answer to a lookup; none if it has to be made again, or this isn't the answer to one.
    pub fn into_lookup(self) -> Option<Result<Arc<Object>, Absence>> {
        match self.outcome {
            Outcome::Found(object) => Some(Ok(object)),
            Outcome::Absent { absence, .. } => Some(Err(absence)),
            Outcome::Failed(absence) => Some(Err(absence)),
            Outcome::Span { .. } | Outcome::Retry => None,
        }
    }
}

impl FileClient {
    pub(super) fn new(id: usize, shared: Arc<Shared>, inbox: Receiver<Completion>) -> Self {
        let counters = Arc::clone(&shared.clients[id]);
        let table = Table::new(shared.config.table_entries);
        let id = u16::try_from(id).unwrap_or(u16::MAX);
        Self {
            id,
            shared,
            inbox,
            table,
            outstanding: 0,
            next_ticket: 0,
            starved: VecDeque::new(),
            counters,
        }
    }

    /// What there is at `path`, relative to a tree's top, without a slash at either end.
    pub fn lookup(&mut self, now: Instant, root: RootId, path: &[u8], token: Token) -> Lookup {
        match self.table.find(now, root, path) {
            Some(Known::Object(object)) => {
                let age = now.saturating_since(object.checked());
                let limit = self.shared.config.revalidate;
                if age > limit && age <= 2 * limit {
                    self.look_again(now, &object);
                }
                if age <= 2 * limit {
                    object.touch();
                    self.counters.hits.add(1);
                    return Lookup::Found(object);
                }
            }
            Some(Known::Absent(absence)) => {
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
        let ticket = self.request(token, |reply| Job::Look {
            key,
            now,
            reply: Some(reply),
        });
        Lookup::Pending(ticket)
    }

    /// The next answer. To be called until there is none, once a turn.
    pub fn poll(&mut self, now: Instant) -> Option<Completion> {
        if let Ok(completion) = self.inbox.try_recv() {
            debug_assert!(self.outstanding > 0, "an answer without a request");
            self.outstanding = self.outstanding.saturating_sub(1);
            match &completion.outcome {
                Outcome::Found(object) => self.table.insert_object(object),
                Outcome::Absent { key, absence } if absence.lasts() => {
                    let until = now + self.shared.config.negative;
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

    /// Requests that weren't answered yet.
    pub fn outstanding(&self) -> usize {
        usize::from(self.outstanding) + self.starved.len()
    }

    /// The span `index` of a large object, if it's in memory, or the ticket of the request for it.
    pub(super) fn span(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        token: Token,
    ) -> Result<Arc<SharedSpan>, Ticket> {
        if let Content::Paged(paged) = &object.content
            && let Some(span) = paged.span(index)
        {
            self.counters.span_hits.add(1);
            return Ok(span);
        }
        self.counters.span_misses.add(1);
        let object = Arc::clone(object);
        Err(self.request(token, |reply| Job::Fill {
            object,
            index,
            reply: Some(reply),
        }))
    }

    /// Has the spans from `from` up to and without `to` loaded, if that's easily done. Says up to
    /// where it need not be asked again.
    pub(super) fn read_ahead(&self, object: &Arc<Object>, from: u64, at: u64) -> u64 {
        let Content::Paged(paged) = &object.content else {
            return from;
        };
        let to = (at + 1 + u64::from(self.shared.config.read_ahead)).min(object.spans());
        let requests = &self.shared.requests;
        for index in from.max(at + 1)..to {
            if paged.has(index) {
                continue;
            }
            let busy = requests.len() > requests.capacity().unwrap_or(0) / 2;
            let job = Job::Fill {
                object: Arc::clone(object),
                index,
                reply: None,
            };
            if busy || requests.try_send(job).is_err() {
                return index;
            }
            self.shared.wake_loader();
        }
        to.max(from)
    }

    fn has_room(&self) -> bool {
        self.outstanding < self.shared.config.outstanding_max && !self.shared.requests.is_full()
    }

    fn request(&mut self, token: Token, job: impl FnOnce(Reply) -> Job) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let reply = Reply {
            client: self.id,
            token,
            ticket,
        };
        if self.outstanding < self.shared.config.outstanding_max
            && self.shared.requests.try_send(job(reply)).is_ok()
        {
            self.outstanding += 1;
            self.shared.wake_loader();
        } else {
            self.counters.starved.add(1);
            if self.starved.len() >= STARVED_MAX {
                // Whoever waited longest has most likely gone; if not, HTTP's own limit answers.
                self.starved.pop_front();
            }
            self.starved.push_back((token, ticket));
        }
        ticket
    }

    /// Has a loader look whether the object is still what is at its path; nobody waits for that.
    fn look_again(&self, now: Instant, object: &Object) {
        if object.checking.swap(true, Ordering::Relaxed) {
            return;
        }
        let job = Job::Look {
            key: object.key.clone(),
            now,
            reply: None,
        };
        if self.shared.requests.try_send(job).is_ok() {
            self.shared.wake_loader();
        } else {
            object.checking.store(false, Ordering::Relaxed);
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

impl Job {
    /// Whether nobody waits for it.
    pub(super) fn is_ahead(&self) -> bool {
        match self {
            Self::Look { reply, .. } | Self::Fill { reply, .. } => reply.is_none(),
        }
    }
}

/// What a worker remembers of paths: a few entries for each hash, the oldest of which makes room.
struct Table {
    sets: Box<[[Entry; WAYS]]>,
    hasher: DefaultHashBuilder,
    mask: u64,
}

#[derive(Default)]
enum Entry {
    #[default]
    Empty,
    /// The cache owns the object; when it's evicted, this is nothing.
    Object { hash: u64, object: Weak<Object> },
    Absent {
        hash: u64,
        key: Key,
        absence: Absence,
        until: Instant,
    },
}

enum Known {
    Object(Arc<Object>),
    Absent(Absence),
}

impl Table {
    fn new(entries: u32) -> Self {
        let sets = (entries as usize).div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Default::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            mask: sets as u64 - 1,
        }
    }

    fn find(&self, now: Instant, root: RootId, path: &[u8]) -> Option<Known> {
        let wanted = self.hash(root, path);
        let is = |key: &Key| key.root == root && *key.path == *path;
        self.sets[self.set(wanted)]
            .iter()
            .find_map(|entry| match entry {
                Entry::Object { hash, object } if *hash == wanted => {
                    let object = object.upgrade().filter(|o| is(&o.key) && !o.is_retired())?;
                    Some(Known::Object(object))
                }
                Entry::Absent {
                    hash,
                    key,
                    absence,
                    until,
                } if *hash == wanted && is(key) && now < *until => Some(Known::Absent(*absence)),
                Entry::Empty | Entry::Object { .. } | Entry::Absent { .. } => None,
            })
    }

    fn insert_object(&mut self, object: &Arc<Object>) {
        let hash = self.hash(object.key.root, &object.key.path);
        self.insert(
            hash,
            Entry::Object {
                hash,
                object: Arc::downgrade(object),
            },
        );
    }

    fn insert_absence(&mut self, key: Key, absence: Absence, until: Instant) {
        let hash = self.hash(key.root, &key.path);
        self.insert(
            hash,
            Entry::Absent {
                hash,
                key,
                absence,
                until,
            },
        );
    }

    fn insert(&mut self, hash: u64, new: Entry) {
        let at = self.set(hash);
        let set = &mut self.sets[at];
        let same = set
            .iter()
            .position(|entry| entry.hash() == Some(hash) || entry.is_dead());
        // The first is the newest.
        set[..=same.unwrap_or(WAYS - 1)].rotate_right(1);
        set[0] = new;
    }

    fn hash(&self, root: RootId, path: &[u8]) -> u64 {
        self.hasher.hash_one((root, path))
    }

    fn set(&self, hash: u64) -> usize {
        // Not more than the mask, which is a length in memory.
        usize::try_from(hash & self.mask).unwrap_or(0)
    }
}

impl Entry {
    fn hash(&self) -> Option<u64> {
        match self {
            Self::Empty => None,
            Self::Object { hash, .. } | Self::Absent { hash, .. } => Some(*hash),
        }
    }

    fn is_dead(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Object { object, .. } => object.strong_count() == 0,
            Self::Absent { .. } => false,
        }
    }
}

const WAYS: usize = 4;

/// Requests that wait for room: those of connections that are gone stay until it's their turn.
const STARVED_MAX: usize = 65_536;

//! What clients ask of the loaders, and what they get back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use crate::absence::Absence;
use crate::key::{Key, RootId};
use crate::store::object::Object;

/// Identifies, to the worker, what waits for an answer: a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Identifies a request, so that a late answer isn't taken for the answer to another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u32);

/// The answer to a request.
#[derive(Debug)]
pub struct Completion {
    /// What waits for the answer.
    pub token: Token,
    /// The request that is answered.
    pub ticket: Ticket,
    pub(crate) root: RootId,
    pub(crate) outcome: Outcome,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Found(Arc<Object>),
    Absent {
        key: Key,
        absence: Absence,
    },
    Span {
        index: u64,
        span: Arc<SharedSpan>,
    },
    /// The span can't be read.
    Failed(Absence),
    /// The request has to be made again now: it was never sent, for lack of room in the queue, or
    /// it was dropped because no body was there for it.
    Retry,
}

/// A request to a source.
pub(crate) enum Request {
    /// Looks a path up, or revalidates the object that is stored under it.
    Lookup {
        key: Key,
        now: Instant,
        waiter: Option<Waiter>,
    },
    /// Reads a span of a large object.
    ReadSpan {
        object: Arc<Object>,
        index: u64,
        /// None for read-ahead.
        waiter: Option<Waiter>,
    },
}

/// A client's request that waits for a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) client: u16,
    pub(crate) root: RootId,
    pub(crate) token: Token,
    pub(crate) ticket: Ticket,
}

/// A task for a source. The waiters of a lookup and of a read are registered in the store.
#[derive(Debug)]
pub(crate) enum Task {
    Lookup {
        key: Key,
        now: Instant,
    },
    ReadSpan {
        object: Arc<Object>,
        index: u64,
    },
    /// Closes a file that no object has any more.
    Close {
        root: RootId,
        file: OwnedFd,
    },
}

impl Task {
    /// The tree that it is about.
    pub(crate) fn root(&self) -> RootId {
        match self {
            Self::Lookup { key, .. } => key.root,
            Self::ReadSpan { object, .. } => object.key().root,
            Self::Close { root, .. } => *root,
        }
    }
}

impl Completion {
    /// Returns the result of a lookup. None if the lookup has to be made again, or if this answers
    /// another kind of request.
    pub fn into_lookup(self) -> Option<Result<Arc<Object>, Absence>> {
        match self.outcome {
            Outcome::Found(object) => Some(Ok(object)),
            Outcome::Absent { absence, .. } | Outcome::Failed(absence) => Some(Err(absence)),
            Outcome::Span { .. } | Outcome::Retry => None,
        }
    }
}

//! A client's cached paths: objects, and a negative cache.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;
use lockgate_wire::Instant;

use crate::absence::Absence;
use crate::key::{Key, RootId};
use crate::store::object::Object;

/// The cached paths of a client, in sets of a few entries each. A new entry takes the place of
/// the oldest in its set.
pub(crate) struct PathTable {
    sets: Box<[[PathEntry; WAYS]]>,
    hasher: DefaultHashBuilder,
    mask: u64,
}

#[derive(Default)]
enum PathEntry {
    #[default]
    Empty,
    /// The store owns the object. Once it is evicted, the entry is dead.
    Object { hash: u64, object: Weak<Object> },
    Absent {
        hash: u64,
        key: Key,
        absence: Absence,
        until: Instant,
    },
}

/// What the table has of a path.
pub(crate) enum CachedPath {
    Object(Arc<Object>),
    Absent(Absence),
}

impl PathTable {
    pub(crate) fn new(entries: u32) -> Self {
        let sets = (entries as usize).div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Default::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            mask: sets as u64 - 1,
        }
    }

    pub(crate) fn find(&self, now: Instant, root: RootId, path: &[u8]) -> Option<CachedPath> {
        let wanted = self.hash(root, path);
        let is = |key: &Key| key.root == root && *key.path == *path;
        self.sets[self.set(wanted)]
            .iter()
            .find_map(|entry| match entry {
                PathEntry::Object { hash, object } if *hash == wanted => {
                    let object = object
                        .upgrade()
                        .filter(|o| is(o.key()) && !o.is_retired())?;
                    Some(CachedPath::Object(object))
                }
                PathEntry::Absent {
                    hash,
                    key,
                    absence,
                    until,
                } if *hash == wanted && is(key) && now < *until => {
                    Some(CachedPath::Absent(*absence))
                }
                PathEntry::Empty | PathEntry::Object { .. } | PathEntry::Absent { .. } => None,
            })
    }

    pub(crate) fn insert_object(&mut self, object: &Arc<Object>) {
        let hash = self.hash(object.key().root, &object.key().path);
        self.insert(
            hash,
            PathEntry::Object {
                hash,
                object: Arc::downgrade(object),
            },
        );
    }

    pub(crate) fn insert_absence(&mut self, key: Key, absence: Absence, until: Instant) {
        let hash = self.hash(key.root, &key.path);
        self.insert(
            hash,
            PathEntry::Absent {
                hash,
                key,
                absence,
                until,
            },
        );
    }

    fn insert(&mut self, hash: u64, new: PathEntry) {
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

impl PathEntry {
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

//! A client's cached paths: objects, and a negative cache.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;
use lockgate_wire::Instant;

use crate::absence::Absence;
use crate::key::{Key, RootId};
use crate::store::object::Object;

/// The cached paths of a client.
///
/// Objects and absences have tables of their own: however many absent names are requested, they
/// evict no object.
pub(crate) struct PathTable {
    objects: Sets<Weak<Object>>,
    absences: Sets<Absent>,
    hasher: DefaultHashBuilder,
}

struct Absent {
    key: Key,
    absence: Absence,
    until: Instant,
}

/// What the table has of a path.
pub(crate) enum CachedPath {
    Object(Arc<Object>),
    Absent(Absence),
}

impl PathTable {
    /// A table of `entries` objects, and a quarter as many absences.
    pub(crate) fn new(entries: u32) -> Self {
        Self {
            objects: Sets::new(entries),
            absences: Sets::new(entries / 4),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(crate) fn find(&mut self, now: Instant, root: RootId, path: &[u8]) -> Option<CachedPath> {
        let hash = self.hash(root, path);
        let is = |key: &Key| key.root == root && *key.path == *path;
        let object = self.objects.find(hash, |object| {
            // The store owns the object. Once it is evicted, the entry is dead.
            object.upgrade().filter(|o| is(o.key()) && !o.is_retired())
        });
        if let Some(object) = object {
            return Some(CachedPath::Object(object));
        }
        let absence = self.absences.find(hash, |absent| {
            (is(&absent.key) && now < absent.until).then_some(absent.absence)
        });
        absence.map(CachedPath::Absent)
    }

    pub(crate) fn insert_object(&mut self, object: &Arc<Object>) {
        let hash = self.hash(object.key().root, &object.key().path);
        let is_dead = |old: &Weak<Object>| old.strong_count() == 0;
        self.objects.insert(hash, Arc::downgrade(object), is_dead);
    }

    pub(crate) fn insert_absence(&mut self, key: Key, absence: Absence, until: Instant) {
        if key.path.len() > ABSENT_PATH_MAX {
            return;
        }
        let hash = self.hash(key.root, &key.path);
        let absent = Absent {
            key,
            absence,
            until,
        };
        self.absences.insert(hash, absent, |_| false);
    }

    fn hash(&self, root: RootId, path: &[u8]) -> u64 {
        self.hasher.hash_one((root, path))
    }
}

/// Entries by their hash, in sets of a few each. A new entry takes the place of the one in its set
/// that was found least recently.
struct Sets<T> {
    sets: Box<[[Option<SetEntry<T>>; WAYS]]>,
    mask: u64,
}

struct SetEntry<T> {
    hash: u64,
    value: T,
}

impl<T> Sets<T> {
    fn new(entries: u32) -> Self {
        let sets = (entries as usize).div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Default::default()).collect(),
            mask: sets as u64 - 1,
        }
    }

    /// Returns what `take` makes of the entry with this hash, and notes that it was found.
    fn find<R>(&mut self, hash: u64, take: impl Fn(&T) -> Option<R>) -> Option<R> {
        let set = self.set(hash);
        for at in 0..WAYS {
            if let Some(entry) = &set[at]
                && entry.hash == hash
                && let Some(taken) = take(&entry.value)
            {
                // The entry that was found last is the first.
                set[..=at].rotate_right(1);
                return Some(taken);
            }
        }
        None
    }

    fn insert(&mut self, hash: u64, value: T, is_dead: impl Fn(&T) -> bool) {
        let set = self.set(hash);
        let is_free = |entry: &Option<SetEntry<T>>| {
            entry
                .as_ref()
                .is_none_or(|old| old.hash == hash || is_dead(&old.value))
        };
        // A free place may precede the entry with the same hash.
        let has_hash = |entry: &Option<SetEntry<T>>| entry.as_ref().is_some_and(|e| e.hash == hash);
        let place = set
            .iter()
            .position(has_hash)
            .or_else(|| set.iter().position(is_free));
        set[..=place.unwrap_or(WAYS - 1)].rotate_right(1);
        set[0] = Some(SetEntry { hash, value });
    }

    fn set(&mut self, hash: u64) -> &mut [Option<SetEntry<T>>; WAYS] {
        // Not more than the mask, which is a length in memory.
        &mut self.sets[usize::try_from(hash & self.mask).unwrap_or(0)]
    }
}

const WAYS: usize = 4;

/// Longer paths aren't kept: their memory isn't counted.
const ABSENT_PATH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_found_least_recently_is_replaced() {
        let mut sets = Sets::new(4);
        let take = |value: &u64| Some(*value);
        for hash in 1..=4 {
            sets.insert(hash, hash, |_| false);
        }
        // The first one is hot.
        for hash in 5..1_000 {
            assert_eq!(sets.find(1, take), Some(1));
            sets.insert(hash, hash, |_| false);
            assert_eq!(sets.find(hash, take), Some(hash));
        }
        sets.insert(1, 77, |_| false);
        assert_eq!(sets.find(1, take), Some(77));
        assert_eq!(sets.find(2, take), None);
        // A dead one goes first.
        sets.insert(1_000, 1_000, |value| *value == 77);
        assert_eq!(sets.find(1, take), None);
        assert_eq!(sets.find(999, take), Some(999));
    }

    #[test]
    fn a_million_absent_names_take_bounded_memory() {
        let mut table = PathTable::new(64);
        let key = |name: String| Key {
            root: RootId::new(0),
            path: name.into_bytes().into(),
        };
        let until = Instant::from_secs(2);
        for name in 0..1_000_000 {
            table.insert_absence(key(name.to_string()), Absence::NotFound, until);
        }
        let kept = table.absences.sets.iter().flatten().flatten();
        assert_eq!(kept.count(), 16);
        table.insert_absence(key("x".repeat(257)), Absence::NotFound, until);
        table.insert_absence(key("y".repeat(256)), Absence::NotFound, until);
        let now = Instant::from_secs(1);
        let root = RootId::new(0);
        assert!(table.find(now, root, "x".repeat(257).as_bytes()).is_none());
        assert!(table.find(now, root, "y".repeat(256).as_bytes()).is_some());
        assert!(
            table
                .find(until, root, "y".repeat(256).as_bytes())
                .is_none()
        );
    }
}

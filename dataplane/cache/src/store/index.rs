//! The objects that the store knows, by their keys, and eviction.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::{DefaultHashBuilder, HashTable};
use pktbuf::{PageArena, PageFill, SharedSpan};

use super::object::{Content, LoadedSpan, Object, Uses};
use super::resident::ResidentSpans;
use super::s3fifo::USES_MAX;
use crate::key::Key;

/// The objects that the store knows, by their keys, at most [`Index::new`]'s number of them.
pub(super) struct Index {
    objects: HashTable<Arc<Object>>,
    hasher: DefaultHashBuilder,
    objects_max: usize,
    /// Objects in the order in which eviction looks at them, one queue for each [`Class`].
    small: VecDeque<Weak<Object>>,
    large: VecDeque<Weak<Object>>,
    spans: ResidentSpans,
}

/// What an object holds besides its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing: it is kept in one span.
    Small,
    /// An open file.
    Large,
}

impl Index {
    pub(super) fn new(objects_max: u32) -> Self {
        Self {
            objects: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            objects_max: objects_max as usize,
            small: VecDeque::new(),
            large: VecDeque::new(),
            spans: ResidentSpans::default(),
        }
    }

    /// The object that is stored under `key`.
    pub(super) fn find(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects
            .find(self.hasher.hash_one(key), |object| object.key() == key)
    }

    /// Stores an object in the place of the one with the same key. If as many are stored as may be,
    /// and all are in use, this one isn't, and false is returned: it lives as long as a body or a
    /// lookup's answer holds it.
    pub(super) fn insert(&mut self, object: &Arc<Object>) -> bool {
        self.remove(object.key());
        let class = match object.content() {
            // Nothing of it could be evicted, so each lookup asks the source.
            Content::Whole(None) => return true,
            Content::Whole(Some(span)) => {
                self.spans.insert(object, None, span);
                Class::Small
            }
            Content::Spans(_) => Class::Large,
        };
        let objects_max = self.objects_max;
        let queue = self.queue(class);
        if queue.len() > 2 * objects_max {
            queue.retain(|object| object.strong_count() > 0);
        }
        queue.push_back(Arc::downgrade(object));
        while self.objects.len() >= self.objects_max {
            if !self.evict_object(Class::Small) && !self.evict_object(Class::Large) {
                object.retire();
                return false;
            }
        }
        let Self {
            objects, hasher, ..
        } = self;
        let hash = hasher.hash_one(object.key());
        objects.insert_unique(hash, Arc::clone(object), |object| {
            hasher.hash_one(object.key())
        });
        true
    }

    /// Removes the object under `key`. Returns whether there was one.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let hash = self.hasher.hash_one(key);
        match self.objects.find_entry(hash, |object| object.key() == key) {
            Ok(entry) => {
                entry.remove().0.retire();
                true
            }
            Err(_) => false,
        }
    }

    /// Retires an object, and removes it if it is still stored under its key.
    pub(super) fn retire(&mut self, object: &Arc<Object>) {
        if self.contains(object) {
            self.remove(object.key());
        }
        object.retire();
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The number of spans that eviction knows of.
    #[cfg(test)]
    pub(super) fn known_spans(&self) -> usize {
        self.spans.len()
    }

    /// Publishes a span of a large object, so that workers find it. If none `is_requested`, it was
    /// read ahead.
    pub(super) fn publish(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        span: &Arc<SharedSpan>,
        is_requested: bool,
    ) {
        let Content::Spans(spans) = object.content() else {
            return;
        };
        let loaded = LoadedSpan {
            index,
            span: Arc::clone(span),
            uses: Uses::new(is_requested),
        };
        spans.slot(index).store(Some(Arc::new(loaded)));
        self.spans.insert(object, Some(index), span);
    }

    /// Allocates memory for `len` bytes, evicting spans as long as there is none. Also returns how
    /// many spans were evicted.
    pub(super) fn allocate(&mut self, arena: &PageArena, len: usize) -> (Option<PageFill>, u64) {
        let mut evicted = 0;
        let mut page = arena.alloc_unfilled(len);
        let mut sweep = self.spans.sweep();
        while page.is_none()
            && let Some(victims) = self.spans.sweep_next(&mut sweep, len)
        {
            for victim in &victims {
                evicted += 1;
                if let Some(object) = victim.evict() {
                    self.retire(&object);
                }
            }
            if !victims.is_empty() {
                page = arena.alloc_unfilled(len);
            }
        }
        (page, evicted)
    }

    /// Evicts one unused object of a class. Returns false if there is none.
    pub(super) fn evict_object(&mut self, class: Class) -> bool {
        let rounds = usize::from(USES_MAX) + 1;
        for _ in 0..rounds * self.queue(class).len() {
            let Some(weak) = self.queue(class).pop_front() else {
                return false;
            };
            let Some(object) = weak.upgrade().filter(|object| !object.is_retired()) else {
                continue;
            };
            // This holds it, and the index does, if it is in it.
            let is_used = Arc::strong_count(&object) > 2 || !self.contains(&object);
            if is_used || object.uses().take_one() {
                self.queue(class).push_back(weak);
                continue;
            }
            return self.remove(object.key());
        }
        false
    }

    fn contains(&self, object: &Arc<Object>) -> bool {
        self.find(object.key())
            .is_some_and(|stored| Arc::ptr_eq(stored, object))
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Weak<Object>> {
        match class {
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        }
    }
}

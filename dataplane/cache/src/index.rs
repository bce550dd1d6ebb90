//! What the loaders know in common: objects, who waits for what, and what can be evicted.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pktbuf::{PageArena, PageMut, SharedSpan};

use super::client::Reply;
use super::object::{Content, Key, Loaded, Object};
use super::root::Version;

/// The loaders' common state. It is behind a mutex that only loaders take, and never during a read.
#[derive(Default)]
pub(super) struct Index {
    objects: HashTable<Arc<Object>>,
    hasher: DefaultHashBuilder,
    objects_max: usize,
    /// Objects in the order in which eviction looks at them: those in one span, and large ones.
    wholes: VecDeque<Weak<Object>>,
    larges: VecDeque<Weak<Object>>,
    /// What is in memory, by address: frames of the size of the largest span.
    frames: BTreeMap<usize, Vec<Resident>>,
    /// The frame that eviction looked at last.
    hand: usize,
    /// Paths that a loader is looking at, and who waits for that.
    looking: HashMap<Key, Vec<Reply>>,
    /// Spans that a loader is reading, and who waits for that.
    filling: HashMap<(u64, u64), Vec<Reply>>,
    /// Work that waits for memory, or for an open file to be closed.
    waiting: VecDeque<Work>,
}

/// A request that was admitted: whoever wants its result is noted in the index.
pub(super) enum Work {
    /// Look at a path.
    Look {
        key: Key,
        now: lockgate_wire::Instant,
    },
    /// Read a span.
    Fill { object: Arc<Object>, index: u64 },
}

/// A span of memory and what it holds.
struct Resident {
    address: usize,
    len: usize,
    object: Weak<Object>,
    /// Which span of a large file.
    index: Option<u64>,
}

/// What eviction may do with a resident.
enum Use {
    /// Nobody would miss it.
    None,
    /// Nobody uses it now, somebody did lately.
    Lately,
    /// Somebody uses it: evicting it would free nothing.
    Now,
    /// It's gone already.
    Gone,
}

impl Index {
    pub(super) fn new(objects_max: u32) -> Self {
        Self {
            objects_max: objects_max as usize,
            ..Self::default()
        }
    }

    /// The object that is known at a path.
    pub(super) fn find(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects
            .find(self.hasher.hash_one(key), |object| object.key == *key)
    }

    /// The object that is known at a path, if it is the version that was found there.
    pub(super) fn find_version(&self, key: &Key, version: &Version) -> Option<Arc<Object>> {
        self.find(key)
            .filter(|object| object.is_version(version))
            .cloned()
    }

    /// Makes an object known at its path, in the place of the one before. If as many are known as
    /// may be, and all are in use, this one isn't: it lives as long as somebody uses it.
    pub(super) fn insert(&mut self, object: &Arc<Object>) {
        self.remove(&object.key);
        let (ring, address) = match &object.content {
            // Nothing of it could be evicted: it costs a look at the path each time.
            Content::Whole(None) => return,
            Content::Whole(Some(span)) => (&mut self.wholes, Some((address(span), span.len()))),
            Content::Paged(_) => (&mut self.larges, None),
        };
        if ring.len() > 2 * self.objects_max {
            ring.retain(|object| object.strong_count() > 0);
        }
        ring.push_back(Arc::downgrade(object));
        if let Some((address, len)) = address {
            self.add_resident(Resident {
                address,
                len,
                object: Arc::downgrade(object),
                index: None,
            });
        }
        while self.objects.len() >= self.objects_max {
            if !self.evict_object(false) && !self.evict_object(true) {
                object.retire();
                return;
            }
        }
        let Self {
            objects, hasher, ..
        } = self;
        let hash = hasher.hash_one(&object.key);
        objects.insert_unique(hash, Arc::clone(object), |object| {
            hasher.hash_one(&object.key)
        });
    }

    /// Forgets what is known at a path; says whether anything was.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let hash = self.hasher.hash_one(key);
        match self.objects.find_entry(hash, |object| object.key == *key) {
            Ok(entry) => {
                entry.remove().0.retire();
                true
            }
            Err(_) => false,
        }
    }

    /// Forgets an object that can't be read any more.
    pub(super) fn forget(&mut self, object: &Arc<Object>) {
        if self.knows(object) {
            self.remove(&object.key);
        }
        object.retire();
    }

    /// How many objects are known.
    pub(super) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Notes that somebody wants a path looked at. True if nobody is doing it yet.
    pub(super) fn want_look(&mut self, key: &Key, reply: Option<Reply>) -> bool {
        want(&mut self.looking, key, reply)
    }

    /// Who waits for a path.
    pub(super) fn looked(&mut self, key: &Key) -> Vec<Reply> {
        self.looking.remove(key).unwrap_or_default()
    }

    /// Notes that somebody wants a span. True if nobody is reading it yet.
    pub(super) fn want_fill(&mut self, file: u64, index: u64, reply: Option<Reply>) -> bool {
        want(&mut self.filling, &(file, index), reply)
    }

    /// Who waits for a span.
    pub(super) fn filled(&mut self, file: u64, index: u64) -> Vec<Reply> {
        self.filling.remove(&(file, index)).unwrap_or_default()
    }

    /// Gives up reading a span ahead, unless somebody waits for it by now. True if it was given up.
    pub(super) fn give_up_fill(&mut self, file: u64, index: u64) -> bool {
        match self.filling.get(&(file, index)) {
            Some(waiters) if !waiters.is_empty() => false,
            Some(_) | None => {
                self.filling.remove(&(file, index));
                true
            }
        }
    }

    /// Puts a span where workers find it.
    pub(super) fn publish(&mut self, object: &Arc<Object>, index: u64, span: &Arc<SharedSpan>) {
        let Content::Paged(paged) = &object.content else {
            return;
        };
        let loaded = Loaded {
            index,
            span: Arc::clone(span),
            touched: false.into(),
        };
        paged.slot(index).store(Some(Arc::new(loaded)));
        self.add_resident(Resident {
            address: address(span),
            len: span.len(),
            object: Arc::downgrade(object),
            index: Some(index),
        });
    }

    /// Whether any work waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Work waits, behind what waits already or in front of it.
    pub(super) fn wait(&mut self, work: Work, in_front: bool) {
        if in_front {
            self.waiting.push_front(work);
        } else {
            self.waiting.push_back(work);
        }
    }

    /// The work that has waited longest.
    pub(super) fn next_waiting(&mut self) -> Option<Work> {
        self.waiting.pop_front()
    }

    /// Memory for `len` bytes, evicting what nobody uses; and how many spans that were.
    ///
    /// Eviction goes round by address, so that what it frees lies together: in the order of use,
    /// freeing a large span among small ones would take most of the cache.
    pub(super) fn make_room(&mut self, arena: &PageArena, len: usize) -> (Option<PageMut>, u64) {
        let mut evicted = 0;
        let mut page = arena.alloc(len);
        let mut steps = 2 * self.frames.len() + 1;
        while page.is_none() && steps > 0 {
            steps -= 1;
            let behind = self.frames.range(self.hand + 1..).next();
            let Some((&frame, _)) = behind.or_else(|| self.frames.iter().next()) else {
                break;
            };
            self.hand = frame;
            let freed = self.sweep(frame, len > PAGE_BYTES);
            evicted += freed;
            if freed > 0 {
                page = arena.alloc(len);
            }
        }
        (page, evicted)
    }

    /// Evicts one object that nobody uses, small ones or large ones, for its place or its open
    /// file. False if there is none.
    pub(super) fn evict_object(&mut self, large: bool) -> bool {
        let steps = 2 * if large {
            self.larges.len()
        } else {
            self.wholes.len()
        };
        for _ in 0..steps {
            let ring = if large {
                &mut self.larges
            } else {
                &mut self.wholes
            };
            let Some(weak) = ring.pop_front() else {
                return false;
            };
            let Some(object) = weak.upgrade().filter(|object| !object.is_retired()) else {
                continue;
            };
            // Ours and the index's; one that isn't in the index is somebody else's.
            let used = Arc::strong_count(&object) > 2 || !self.knows(&object);
            if used || object.touched.swap(false, Ordering::Relaxed) {
                let ring = if large {
                    &mut self.larges
                } else {
                    &mut self.wholes
                };
                ring.push_back(weak);
                continue;
            }
            return self.remove(&object.key);
        }
        false
    }

    fn knows(&self, object: &Arc<Object>) -> bool {
        self.find(&object.key)
            .is_some_and(|known| Arc::ptr_eq(known, object))
    }

    fn add_resident(&mut self, resident: Resident) {
        let frame = self
            .frames
            .entry(resident.address / FRAME_BYTES)
            .or_default();
        // What was there before has gone by itself.
        let end = resident.address + resident.len;
        frame.retain(|old| old.address >= end || old.address + old.len <= resident.address);
        frame.push(resident);
    }

    /// Evicts from a frame what nobody used since the last time: each span for itself, or all of
    /// them or none. How many that were.
    fn sweep(&mut self, frame: usize, together: bool) -> u64 {
        let Some(mut residents) = self.frames.remove(&frame) else {
            return 0;
        };
        residents.retain(|resident| !matches!(resident.used(), Use::Gone));
        let mut kept = Vec::with_capacity(residents.len());
        let mut unused = Vec::new();
        let mut lately = false;
        let pinned = residents
            .iter()
            .any(|resident| matches!(resident.used(), Use::Now));
        for resident in residents {
            match resident.used() {
                Use::None => unused.push(resident),
                Use::Lately => {
                    lately = true;
                    resident.rest();
                    kept.push(resident);
                }
                Use::Now | Use::Gone => kept.push(resident),
            }
        }
        let mut evicted = 0;
        if together && (pinned || lately) {
            kept.append(&mut unused);
        }
        for resident in unused {
            self.evict(&resident);
            evicted += 1;
        }
        if !kept.is_empty() {
            self.frames.insert(frame, kept);
        }
        evicted
    }

    fn evict(&mut self, resident: &Resident) {
        let Some(object) = resident.object.upgrade() else {
            return;
        };
        match (&object.content, resident.index) {
            (Content::Paged(paged), Some(index)) => paged.slot(index).store(None),
            (Content::Whole(_), _) | (Content::Paged(_), None) => self.forget(&object),
        }
    }
}

impl Resident {
    fn used(&self) -> Use {
        // The object is known by the index, and held here for the moment.
        let Some(object) = self.object.upgrade() else {
            return Use::Gone;
        };
        let of = |used: bool, touched: bool| match (used, touched) {
            (true, _) => Use::Now,
            (false, true) => Use::Lately,
            (false, false) => Use::None,
        };
        match (&object.content, self.index) {
            (Content::Whole(Some(span)), _) => {
                // One that was retired is nobody's but its users'.
                let own = if object.is_retired() { 1 } else { 2 };
                let used = Arc::strong_count(&object) > own || Arc::strong_count(span) > 1;
                of(used, object.touched.load(Ordering::Relaxed))
            }
            (Content::Paged(paged), Some(index)) => match &*paged.slot(index).load() {
                Some(loaded) if address(&loaded.span) == self.address => {
                    let used = Arc::strong_count(&loaded.span) > 1;
                    of(used, loaded.touched.load(Ordering::Relaxed))
                }
                Some(_) | None => Use::Gone,
            },
            (Content::Whole(None), _) | (Content::Paged(_), None) => Use::Gone,
        }
    }

    /// Forgets that it was used.
    fn rest(&self) {
        let Some(object) = self.object.upgrade() else {
            return;
        };
        match (&object.content, self.index) {
            (Content::Paged(paged), Some(index)) => {
                if let Some(loaded) = &*paged.slot(index).load() {
                    loaded.touched.store(false, Ordering::Relaxed);
                }
            }
            (Content::Whole(_), _) | (Content::Paged(_), None) => {
                object.touched.store(false, Ordering::Relaxed);
            }
        }
    }
}

fn want<K: Clone + Eq + std::hash::Hash>(
    wanted: &mut HashMap<K, Vec<Reply>>,
    key: &K,
    reply: Option<Reply>,
) -> bool {
    if let Some(waiters) = wanted.get_mut(key) {
        waiters.extend(reply);
        return false;
    }
    wanted.insert(key.clone(), reply.into_iter().collect());
    true
}

fn address(span: &SharedSpan) -> usize {
    span.as_ptr().addr()
}

/// As long as the longest span that is asked for.
const FRAME_BYTES: usize = super::object::SPAN_BYTES as usize;

const PAGE_BYTES: usize = 4_096;

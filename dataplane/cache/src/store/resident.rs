//! Spans in memory, and which of them are evicted.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;
use pktbuf::SharedSpan;

use super::object::{Content, Object, SPAN_BYTES, Uses};
use super::s3fifo::{Cached, Entry, S3Fifo, SMALL_BYTES_MIN, Step, Sweep, Usage};

/// All spans in memory, in the order in which [`S3Fifo`] evicts them.
///
/// For memory that is longer than the span which is next, all spans in its *frame* are evicted, or
/// none: a frame is a stretch of addresses as long as the longest span. In the order of use alone,
/// freeing a large span among small ones would take most of the cache.
pub(super) struct ResidentSpans {
    order: S3Fifo<Arc<Resident>>,
    by_address: BTreeMap<usize, Arc<Resident>>,
    /// With more entries than these, the ones of spans that are gone are removed.
    len_max: usize,
    hasher: DefaultHashBuilder,
}

/// A span in memory and the object that it belongs to.
pub(super) struct Resident {
    address: usize,
    len: usize,
    object: Weak<Object>,
    /// Which span of a large object.
    index: Option<u64>,
    hash: u64,
}

impl Default for ResidentSpans {
    fn default() -> Self {
        Self {
            order: S3Fifo::new(SMALL_BYTES_MIN),
            by_address: BTreeMap::new(),
            len_max: GONE_MAX,
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl ResidentSpans {
    /// Adds a span: the whole of an object, or the span `index` of a large one.
    pub(super) fn insert(&mut self, object: &Arc<Object>, index: Option<u64>, span: &SharedSpan) {
        let (address, len) = (address(span), span.len());
        // Spans that had this memory before were dropped by their last user.
        let before = self.by_address.range(..address).next_back();
        let before = before.filter(|(_, old)| old.address + old.len > address);
        let within = self.by_address.range(address..address + len);
        let old: Vec<_> = before
            .into_iter()
            .chain(within)
            .map(|(at, _)| *at)
            .collect();
        for at in old {
            self.by_address.remove(&at);
        }
        let hash = self.hasher.hash_one((object.key(), index));
        let resident = Arc::new(Resident {
            address,
            len,
            object: Arc::downgrade(object),
            index,
            hash,
        });
        self.by_address.insert(address, Arc::clone(&resident));
        self.order.insert(Entry {
            item: resident,
            bytes: len as u64,
            hash,
            site: object.key().root.index(),
        });
        if self.len() > self.len_max {
            self.forget_gone();
        }
    }

    /// The number of spans that this knows. Spans that are gone count, too: at most as many as were
    /// in memory at a time, and [`GONE_MAX`].
    pub(super) fn len(&self) -> usize {
        self.order.len().max(self.by_address.len())
    }

    /// Removes the spans that are gone. As long as memory is free, no sweep does. Then there are at
    /// least as many insertions before the next time as there are spans now, so that each insertion
    /// takes a constant time on average.
    fn forget_gone(&mut self) {
        self.by_address
            .retain(|_, resident| resident.usage() != Usage::Gone);
        self.order.forget_gone();
        self.len_max = 2 * self.len() + GONE_MAX;
    }

    /// Begins to look for spans to evict.
    pub(super) fn sweep(&self) -> Sweep {
        self.order.sweep()
    }

    /// Looks at the next span. Returns the spans to evict for memory of `len` bytes, which may be
    /// none, or `None` at the end of the sweep.
    pub(super) fn sweep_next(
        &mut self,
        sweep: &mut Sweep,
        len: usize,
    ) -> Option<Vec<Arc<Resident>>> {
        let entry = match self.order.step(sweep) {
            Step::Evict(entry) => entry,
            Step::Moved => return Some(Vec::new()),
            Step::End => return None,
        };
        let victims = if pages(entry.item.len) >= pages(len) {
            vec![Arc::clone(&entry.item)]
        } else {
            let first = entry.item.address / FRAME_BYTES * FRAME_BYTES;
            let frame = self.by_address.range(first..first + FRAME_BYTES);
            frame.map(|(_, resident)| Arc::clone(resident)).collect()
        };
        let is_free = |resident: &Arc<Resident>| {
            Arc::ptr_eq(resident, &entry.item)
                || matches!(resident.usage(), Usage::Gone | Usage::Uses(0))
        };
        if !victims.iter().all(is_free) {
            self.order.put_back(entry);
            return Some(Vec::new());
        }
        for victim in &victims {
            self.by_address.remove(&victim.address);
            self.order.remember(victim.hash);
        }
        Some(victims)
    }
}

impl Resident {
    /// Evicts the span, if it's one of a large object's. Returns the object if it has to be
    /// removed instead.
    pub(super) fn evict(&self) -> Option<Arc<Object>> {
        let object = self.object.upgrade()?;
        match (object.content(), self.index) {
            (Content::Spans(spans), Some(index)) => {
                let slot = spans.slot(index);
                // Another span may have taken its slot.
                let is_own = matches!(&*slot.load(), Some(loaded)
                    if address(&loaded.span) == self.address);
                if is_own {
                    slot.store(None);
                }
                None
            }
            (Content::Whole(_), _) | (Content::Spans(_), None) => Some(object),
        }
    }

    fn usage(&self) -> Usage {
        // The index knows the object, and this holds it for the moment.
        let Some(object) = self.object.upgrade() else {
            return Usage::Gone;
        };
        let of = |is_pinned: bool, uses: &Uses| {
            if is_pinned {
                Usage::Pinned
            } else {
                Usage::Uses(uses.count())
            }
        };
        match (object.content(), self.index) {
            (Content::Whole(Some(span)), _) => {
                // A retired object is not in the index.
                let own = if object.is_retired() { 1 } else { 2 };
                let is_pinned = Arc::strong_count(&object) > own || Arc::strong_count(span) > 1;
                of(is_pinned, object.uses())
            }
            (Content::Spans(spans), Some(index)) => match &*spans.slot(index).load() {
                Some(loaded) if address(&loaded.span) == self.address => {
                    of(Arc::strong_count(&loaded.span) > 1, &loaded.uses)
                }
                Some(_) | None => Usage::Gone,
            },
            (Content::Whole(None), _) | (Content::Spans(_), None) => Usage::Gone,
        }
    }
}

impl Cached for Arc<Resident> {
    fn usage(&self) -> Usage {
        // Another span has its memory.
        if Self::strong_count(self) == 1 {
            return Usage::Gone;
        }
        Resident::usage(self)
    }

    fn set_uses(&self, uses: u8) {
        let Some(object) = self.object.upgrade() else {
            return;
        };
        match (object.content(), self.index) {
            (Content::Spans(spans), Some(index)) => {
                if let Some(loaded) = &*spans.slot(index).load() {
                    loaded.uses.set(uses);
                }
            }
            (Content::Whole(_), _) | (Content::Spans(_), None) => object.uses().set(uses),
        }
    }
}

fn address(span: &SharedSpan) -> usize {
    span.as_ptr().addr()
}

fn pages(len: usize) -> usize {
    len.div_ceil(PAGE_BYTES)
}

/// Spans that may be gone, beside as many as are in memory.
const GONE_MAX: usize = 64;

const FRAME_BYTES: usize = SPAN_BYTES as usize;
const PAGE_BYTES: usize = 4_096;

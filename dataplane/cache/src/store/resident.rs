//! Spans in memory, by address, and which of them can be evicted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use pktbuf::SharedSpan;

use super::object::{Content, Object, SPAN_BYTES};

/// All spans in memory, in frames: stretches of addresses as long as the longest span.
///
/// Eviction is CLOCK over frames in the order of their addresses, so that what it frees lies
/// together. In the order of use, freeing a large span among small ones would take most of the
/// cache.
#[derive(Default)]
pub(super) struct ResidentSpans {
    frames: BTreeMap<usize, Vec<Resident>>,
    /// The frame that eviction looked at last.
    hand: usize,
}

/// A span in memory and the object that it belongs to.
pub(super) struct Resident {
    address: usize,
    len: usize,
    object: Weak<Object>,
    /// Which span of a large object.
    index: Option<u64>,
}

/// Whether a span can be evicted.
enum Usage {
    /// Yes.
    Unused,
    /// Not this time: it was used since eviction last passed it.
    Referenced,
    /// No: a body or a send queue holds it, so that evicting it would free nothing.
    Pinned,
    /// It is evicted already.
    Gone,
}

impl ResidentSpans {
    /// Adds a span: the whole of an object, or the span `index` of a large one.
    pub(super) fn insert(&mut self, object: &Arc<Object>, index: Option<u64>, span: &SharedSpan) {
        let resident = Resident {
            address: address(span),
            len: span.len(),
            object: Arc::downgrade(object),
            index,
        };
        let frame = self
            .frames
            .entry(resident.address / FRAME_BYTES)
            .or_default();
        // Spans that had this memory before were dropped by their last user.
        let end = resident.address + resident.len;
        frame.retain(|old| old.address >= end || old.address + old.len <= resident.address);
        frame.push(resident);
    }

    /// The most frames that have to be swept to find every span that can be evicted: the first
    /// round clears the marks of referenced spans.
    pub(super) fn sweeps_max(&self) -> usize {
        2 * self.frames.len() + 1
    }

    /// Sweeps the next frame and returns the spans to evict from it: each that is unused or, if
    /// `is_together`, all of them or none.
    pub(super) fn sweep_next(&mut self, is_together: bool) -> Vec<Resident> {
        let behind = self.frames.range(self.hand + 1..).next();
        let next = behind.or_else(|| self.frames.iter().next());
        let Some(frame) = next.map(|(&frame, _)| frame) else {
            return Vec::new();
        };
        self.hand = frame;
        self.sweep(frame, is_together)
    }

    fn sweep(&mut self, frame: usize, is_together: bool) -> Vec<Resident> {
        let Some(residents) = self.frames.remove(&frame) else {
            return Vec::new();
        };
        let mut kept = Vec::with_capacity(residents.len());
        let mut unused = Vec::new();
        let mut is_in_use = false;
        for resident in residents {
            match resident.usage() {
                Usage::Unused => unused.push(resident),
                Usage::Referenced => {
                    is_in_use = true;
                    resident.clear_referenced();
                    kept.push(resident);
                }
                Usage::Pinned => {
                    is_in_use = true;
                    kept.push(resident);
                }
                Usage::Gone => {}
            }
        }
        if is_together && is_in_use {
            kept.append(&mut unused);
        }
        if !kept.is_empty() {
            self.frames.insert(frame, kept);
        }
        unused
    }
}

impl Resident {
    /// Evicts the span, if it's one of a large object's. Returns the object if it has to be
    /// removed instead.
    pub(super) fn evict(&self) -> Option<Arc<Object>> {
        let object = self.object.upgrade()?;
        match (object.content(), self.index) {
            (Content::Spans(spans), Some(index)) => {
                spans.slot(index).store(None);
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
        let of = |is_pinned: bool, is_referenced: bool| match (is_pinned, is_referenced) {
            (true, _) => Usage::Pinned,
            (false, true) => Usage::Referenced,
            (false, false) => Usage::Unused,
        };
        match (object.content(), self.index) {
            (Content::Whole(Some(span)), _) => {
                // A retired object is not in the index.
                let own = if object.is_retired() { 1 } else { 2 };
                let is_pinned = Arc::strong_count(&object) > own || Arc::strong_count(span) > 1;
                of(is_pinned, object.is_referenced())
            }
            (Content::Spans(spans), Some(index)) => match &*spans.slot(index).load() {
                Some(loaded) if address(&loaded.span) == self.address => {
                    let is_pinned = Arc::strong_count(&loaded.span) > 1;
                    of(is_pinned, loaded.is_referenced.load(Ordering::Relaxed))
                }
                Some(_) | None => Usage::Gone,
            },
            (Content::Whole(None), _) | (Content::Spans(_), None) => Usage::Gone,
        }
    }

    fn clear_referenced(&self) {
        let Some(object) = self.object.upgrade() else {
            return;
        };
        match (object.content(), self.index) {
            (Content::Spans(spans), Some(index)) => {
                if let Some(loaded) = &*spans.slot(index).load() {
                    loaded.is_referenced.store(false, Ordering::Relaxed);
                }
            }
            (Content::Whole(_), _) | (Content::Spans(_), None) => {
                object.clear_referenced();
            }
        }
    }
}

fn address(span: &SharedSpan) -> usize {
    span.as_ptr().addr()
}

const FRAME_BYTES: usize = SPAN_BYTES as usize;

//! Objects: one version of a representation, and its spans in memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use lockgate_http::Entity;
use lockgate_wire::Instant;
use pktbuf::SharedSpan;

use super::s3fifo::USES_MAX;
use crate::key::Key;
use crate::source::handle::SourceHandle;

/// The length of a large object's spans, its last one excepted: four records of the largest size.
pub const SPAN_BYTES: u32 = 64 * 1024;

/// One version of a representation. It never changes: a file that changes gets a new object.
pub struct Object {
    key: Arc<Key>,
    content: Content,
    entity: Entity,
    source: SourceHandle,
    /// When the source last found this version current.
    validated_at: AtomicU64,
    /// When a check was requested that has no result yet; 0 if there is none.
    check_requested_at: AtomicU64,
    /// It is not in the index any more: its path has another version, or none.
    is_retired: AtomicBool,
    uses: Uses,
    /// Bodies that may request spans.
    bodies: AtomicU32,
}

/// Where an object's bytes are.
pub(crate) enum Content {
    /// All in one span; none if there are no bytes.
    Whole(Option<Arc<SharedSpan>>),
    /// In spans that are loaded and evicted one by one.
    Spans(SpanTable),
}

/// The spans of a large object.
pub(crate) struct SpanTable {
    /// Identifies the table while it lives.
    id: u64,
    /// Span `i` is in slot `i % slots`, if it is in memory. The number of slots is the object's
    /// number of spans, or what the arena has room for, whichever is less. Only sources and
    /// eviction write.
    slots: Box<[ArcSwapOption<LoadedSpan>]>,
}

/// A span in memory.
pub(crate) struct LoadedSpan {
    pub(super) index: u64,
    pub(super) span: Arc<SharedSpan>,
    pub(super) uses: Uses,
}

/// How often something was used since eviction last passed it, up to [`USES_MAX`].
pub(super) struct Uses(AtomicU8);

impl Object {
    pub(crate) fn new(
        key: Key,
        entity: Entity,
        content: Content,
        source: SourceHandle,
        now: Instant,
    ) -> Self {
        Self {
            key: Arc::new(key),
            content,
            entity,
            source,
            validated_at: AtomicU64::new(now.as_nanos()),
            check_requested_at: AtomicU64::new(0),
            is_retired: AtomicBool::new(false),
            uses: Uses::new(true),
            bodies: AtomicU32::new(0),
        }
    }

    /// Length, media type and validators, as the source stated them.
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    /// All of its bytes, if they are kept in one span.
    pub fn whole(&self) -> Option<&Arc<SharedSpan>> {
        match &self.content {
            Content::Whole(span) => span.as_ref(),
            Content::Spans(_) => None,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn shared_key(&self) -> &Arc<Key> {
        &self.key
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn source(&self) -> &SourceHandle {
        &self.source
    }

    /// The table of its spans, if it is a large object.
    pub(crate) fn spans(&self) -> Option<&SpanTable> {
        match &self.content {
            Content::Whole(_) => None,
            Content::Spans(spans) => Some(spans),
        }
    }

    /// Whether this span is in memory as the object's span `index`.
    pub(crate) fn has_span(&self, index: u64, span: *const SharedSpan) -> bool {
        match &self.content {
            Content::Whole(own) => own.as_ref().is_some_and(|own| Arc::as_ptr(own) == span),
            Content::Spans(spans) => {
                let loaded = spans.slot(index).load();
                let own = loaded.as_ref().map(|loaded| Arc::as_ptr(&loaded.span));
                own == Some(span)
            }
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn validated_at(&self) -> Instant {
        Instant::from_nanos(self.validated_at.load(Ordering::Relaxed))
    }

    /// Notes that the source found this version current at `now`.
    pub(crate) fn set_validated(&self, now: Instant) {
        self.validated_at
            .fetch_max(now.as_nanos(), Ordering::Relaxed);
        self.end_revalidation();
    }

    /// Returns true if the caller has to request revalidation. A request that has no result after
    /// [`CHECK_AGAIN`] may have been dropped, and is made again.
    pub(crate) fn begin_revalidation(&self, now: Instant) -> bool {
        let requested = self.check_requested_at.load(Ordering::Relaxed);
        let age = now.saturating_since(Instant::from_nanos(requested));
        (requested == 0 || age >= CHECK_AGAIN)
            && self
                .check_requested_at
                .compare_exchange(
                    requested,
                    now.as_nanos().max(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    pub(crate) fn end_revalidation(&self) {
        self.check_requested_at.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add_use(&self) {
        self.uses.add();
    }

    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    pub(crate) fn add_body(&self) {
        self.bodies.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_body(&self) {
        self.bodies.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a body may still take what is read of it.
    pub(crate) fn has_bodies(&self) -> bool {
        self.bodies.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn span_count(&self) -> u64 {
        self.entity.len().div_ceil(u64::from(SPAN_BYTES))
    }

    /// The length of span `index`; 0 if there is none.
    pub(crate) fn span_len(&self, index: u64) -> usize {
        let start = index.saturating_mul(u64::from(SPAN_BYTES));
        let left = self.entity.len().saturating_sub(start);
        usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(SPAN_BYTES as usize)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.key.path);
        f.debug_struct("Object")
            .field("path", &path)
            .field("entity", &self.entity)
            .finish_non_exhaustive()
    }
}

impl SpanTable {
    /// An empty table for `spans` spans, of which at most `resident_max` are in memory at a time.
    pub(super) fn new(id: u64, spans: u64, resident_max: usize) -> Self {
        let slots = usize::try_from(spans).map_or(resident_max, |spans| spans.min(resident_max));
        Self {
            id,
            slots: (0..slots.max(1)).map(|_| ArcSwapOption::empty()).collect(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns span `index`, if it is in memory, and counts that as a use if it `is_use`. Takes no
    /// lock.
    pub(crate) fn get(&self, index: u64, is_use: bool) -> Option<Arc<SharedSpan>> {
        let loaded = self.slot(index).load();
        let loaded = loaded.as_ref().filter(|loaded| loaded.index == index)?;
        if is_use {
            loaded.uses.add();
        }
        Some(Arc::clone(&loaded.span))
    }

    /// Whether span `index` is in memory.
    pub(crate) fn contains(&self, index: u64) -> bool {
        self.slot(index)
            .load()
            .as_ref()
            .is_some_and(|loaded| loaded.index == index)
    }

    /// Uses of a span that are counted; none if it isn't in memory.
    #[cfg(test)]
    pub(crate) fn uses(&self, index: u64) -> Option<u8> {
        let loaded = self.slot(index).load();
        let loaded = loaded.as_ref().filter(|loaded| loaded.index == index)?;
        Some(loaded.uses.count())
    }

    pub(super) fn slot(&self, index: u64) -> &ArcSwapOption<LoadedSpan> {
        // The remainder is less than the number of slots, which is a usize.
        let at = usize::try_from(index % self.slots.len() as u64).unwrap_or(0);
        &self.slots[at]
    }
}

impl Uses {
    /// None yet. Of what was read ahead, the request that it was read for isn't counted when it
    /// comes.
    pub(super) fn new(is_requested: bool) -> Self {
        Self(AtomicU8::new(if is_requested { 0 } else { READ_AHEAD }))
    }

    /// Counts a use. In the end it writes nothing: the cache line stays with all workers. Two at a
    /// time may be counted as one.
    fn add(&self) {
        match self.0.load(Ordering::Relaxed) {
            READ_AHEAD => self.set(0),
            uses if uses < USES_MAX => self.set(uses + 1),
            _ => {}
        }
    }

    pub(super) fn count(&self) -> u8 {
        match self.0.load(Ordering::Relaxed) {
            READ_AHEAD => 0,
            uses => uses,
        }
    }

    pub(super) fn set(&self, uses: u8) {
        self.0.store(uses, Ordering::Relaxed);
    }

    /// Forgets a use. Returns false if there was none.
    pub(super) fn take_one(&self) -> bool {
        let uses = self.count();
        self.set(uses.saturating_sub(1));
        uses > 0
    }
}

/// What was read ahead and not requested yet.
const READ_AHEAD: u8 = u8::MAX;

/// How long a requested check may have no result before it is requested again.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

//! What the send queues of a client's connections pin of the cache.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use hashbrown::HashSet;
use pktbuf::SharedSpan;

use crate::store::object::Object;

/// The spans that a client's connections refer to, within the client's share of the memory.
///
/// A span counts once, with its whole length, however many send queues refer to it. Nothing tells
/// when the last of them drops it, so pins are examined in turn, oldest first:
///
/// - two for each new pin, once an eighth of the share is used. So what was dropped leaves faster
///   than new pins come;
/// - [`EXAMINED_MAX`] for each span that has no room.
///
/// A span that connections of another client refer to counts here, too, if it was ever pinned here.
pub(crate) struct PinnedSpans {
    /// The addresses of the spans in `order`. They are unique, because a weak reference keeps the
    /// address from being used again.
    addresses: HashSet<usize>,
    order: VecDeque<Pin>,
    bytes: u64,
    bytes_max: u64,
}

struct Pin {
    span: Weak<SharedSpan>,
    bytes: u64,
    /// Where the cache has it, until it is evicted.
    object: Weak<Object>,
    index: u64,
}

impl PinnedSpans {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            addresses: HashSet::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Counts the span `index` of an object, to which a send queue is to refer. Returns false if
    /// the share has no room for it.
    pub(crate) fn try_pin(
        &mut self,
        object: &Arc<Object>,
        index: u64,
        span: &Arc<SharedSpan>,
    ) -> bool {
        if self.addresses.contains(&address(span)) {
            return true;
        }
        let bytes = span.len() as u64;
        if self.has_room(bytes) {
            if self.bytes > self.bytes_max / 8 {
                self.examine(2);
            }
        } else {
            self.examine(EXAMINED_MAX);
            if !self.has_room(bytes) {
                return false;
            }
        }
        self.addresses.insert(address(span));
        self.bytes += bytes;
        self.order.push_back(Pin {
            span: Arc::downgrade(span),
            bytes,
            object: Arc::downgrade(object),
            index,
        });
        true
    }

    /// The bytes of all pins that weren't found dropped.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One span always has room.
    fn has_room(&self, bytes: u64) -> bool {
        self.bytes == 0 || self.bytes + bytes <= self.bytes_max
    }

    /// Examines the oldest pins.
    fn examine(&mut self, count: usize) {
        for _ in 0..count.min(self.order.len()) {
            let Some(pin) = self.order.pop_front() else {
                return;
            };
            if pin.is_held() {
                self.order.push_back(pin);
            } else {
                self.addresses.remove(&pin.span.as_ptr().addr());
                self.bytes -= pin.bytes;
            }
        }
    }
}

impl Pin {
    /// Whether there are references beside the cache's own.
    fn is_held(&self) -> bool {
        let references = self.span.strong_count();
        let is_cached = references > 0
            && self
                .object
                .upgrade()
                .is_some_and(|object| object.has_span(self.index, self.span.as_ptr()));
        references > usize::from(is_cached)
    }
}

fn address(span: &Arc<SharedSpan>) -> usize {
    Arc::as_ptr(span).addr()
}

/// Pins that are examined for a span without room.
const EXAMINED_MAX: usize = 32;

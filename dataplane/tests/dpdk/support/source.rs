//! A stream of known bytes.

use std::sync::Arc;

use lockgate_testing::Random;
use pktbuf::{PageArena, SharedSpan};

/// An endless stream: random bytes of a prime length, over and over. Bytes at the wrong place are
/// wrong bytes, unless they are a multiple of that length away.
pub(crate) struct Source {
    bytes: Vec<u8>,
    spans: Vec<Arc<SharedSpan>>,
}

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            bytes: random.bytes(PERIOD),
            spans: Vec::new(),
        }
    }

    /// With a copy in a page cache, to send by reference.
    pub(crate) fn in_cache(seed: u64, arena: &PageArena) -> Self {
        let mut source = Self::new(seed);
        let copies = source.bytes.chunks(SPAN).map(|piece| {
            let mut page = arena
                .alloc(piece.len())
                .expect("the arena has room for the source");
            page[..piece.len()].copy_from_slice(piece);
            page.freeze(piece.len())
        });
        source.spans = copies.collect();
        source
    }

    /// What an arena needs for one source.
    pub(crate) const ARENA_BYTES: usize = PERIOD.div_ceil(SPAN) * SPAN + SPAN;

    /// Some of the stream from `at` on: at least one byte, at most `len`.
    pub(crate) fn bytes(&self, at: u64, len: u64) -> &[u8] {
        let from = place(at);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        &self.bytes[from..PERIOD.min(from.saturating_add(len))]
    }

    /// The span that has the byte at `at`, and where in it; none if it's not in a cache.
    pub(crate) fn span(&self, at: u64) -> Option<(&Arc<SharedSpan>, u32)> {
        let from = place(at);
        let span = self.spans.get(from / SPAN)?;
        Some((span, u32::try_from(from % SPAN).expect("spans are short")))
    }

    /// Asserts that no reference to a span is left.
    #[track_caller]
    pub(crate) fn assert_unreferenced(&self) {
        assert!(
            self.spans.iter().all(|span| Arc::strong_count(span) == 1),
            "spans are still held"
        );
    }

    /// Fails unless `piece` is what the stream has at `at`.
    #[track_caller]
    pub(crate) fn check(&self, mut at: u64, mut piece: &[u8]) {
        while !piece.is_empty() {
            let expected = self.bytes(at, piece.len() as u64);
            let (now, rest) = piece.split_at(expected.len());
            assert!(
                now == expected,
                "wrong bytes somewhere in {at}..{}",
                at + now.len() as u64
            );
            at += now.len() as u64;
            piece = rest;
        }
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at % PERIOD as u64).expect("shorter than memory")
}

/// A prime, so that records, segments and spans begin at ever other places.
const PERIOD: usize = 3_999_971;
const SPAN: usize = 256 << 10;

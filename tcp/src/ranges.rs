//! The slab of ranges: what a worker's connections remember of what they sent and of what they
//! received out of order. Its size is fixed at start; a free list links what is unused.

use lockgate_wire::Instant;

/// One remembered range of a stream.
///
/// Of a sent range it keeps what loss detection by time (RFC 8985) and delivery rate samples
/// need as well. Received out-of-order pieces use the offsets only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRange {
    /// First offset.
    pub(crate) start: u64,
    /// When it was last sent.
    pub(crate) last_sent: Instant,
    /// The connection's count of delivered bytes at that time.
    pub(crate) delivered: u64,
    /// Bytes, a FIN counted as one.
    pub(crate) len: u32,
    pub(crate) next: Link,
    pub(crate) prev: Link,
    /// How often it was sent, saturating.
    pub(crate) times_sent: u8,
    /// The receiver reported it by SACK.
    pub(crate) sacked: bool,
    /// It is thought to be lost.
    pub(crate) lost: bool,
    /// It was sent again since it was last thought lost.
    pub(crate) resent: bool,
}

const _: () = assert!(size_of::<SentRange>() <= 48);

impl SentRange {
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// The index of a range in the slab, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn get(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// The slab.
#[derive(Debug)]
pub(crate) struct Ranges {
    nodes: Box<[SentRange]>,
    free: Link,
    used: u32,
    /// How many of them are received pieces, and how many may be: receivers must not starve senders.
    pieces: u32,
}

impl Ranges {
    pub(crate) fn new(total: u32) -> Self { todo!() }
    pub(crate) fn used(&self) -> u32 { self.used }
    pub(crate) fn total(&self) -> u32 { todo!() }
    pub(crate) fn memory_bytes(&self) -> usize { size_of_val(&*self.nodes) }
}

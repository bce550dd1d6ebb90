//! A received record.

use core::fmt;

use crate::job::RecordMemory;
use crate::suite::ContentType;

/// Metadata of a received record: the fields of ktls(4)'s `TLS_GET_RECORD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// The content type: the inner one in TLS 1.3.
    pub kind: ContentType,
    /// The version on the wire: 3.3, in TLS 1.3 too.
    pub version: [u8; 2],
    /// Bytes of content.
    pub length: u16,
}

/// A received record: content and metadata.
pub struct RxRecord {
    meta: RecordMeta,
    memory: RecordMemory,
}

impl RxRecord {
    /// Creates a record whose content is the first `meta.length` bytes of `memory`. The bytes after
    /// it are dropped.
    pub(super) fn new(meta: RecordMeta, mut memory: RecordMemory) -> Self {
        memory.truncate(u32::from(meta.length));
        Self { meta, memory }
    }

    /// Returns type, version and length.
    pub const fn meta(&self) -> RecordMeta {
        self.meta
    }

    /// Returns the content.
    pub fn as_slice(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// Returns the bytes of memory that the record pins.
    pub fn true_size(&self) -> u32 {
        self.memory.true_size()
    }
}

impl fmt::Debug for RxRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxRecord")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

//! A received record.

use core::fmt;

use pktbuf::{Buffer, PageBuf};

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
    opened: Opened,
}

/// Memory of an opened record: the received buffer, or the page buffer it was copied to.
pub(super) enum Opened {
    Buffer(Buffer),
    Page(PageBuf),
}

impl RxRecord {
    /// Creates a record whose content is the first `meta.length` bytes of `opened`. The bytes after
    /// it are dropped.
    pub(super) fn new(meta: RecordMeta, mut opened: Opened) -> Self {
        let len = u32::from(meta.length);
        match &mut opened {
            Opened::Buffer(buffer) => buffer.truncate(len),
            Opened::Page(page) => page.truncate(len),
        }
        Self { meta, opened }
    }

    /// Returns type, version and length.
    pub const fn meta(&self) -> RecordMeta {
        self.meta
    }

    /// Returns the content.
    pub fn as_slice(&self) -> &[u8] {
        match &self.opened {
            Opened::Buffer(buffer) => buffer.front(),
            Opened::Page(page) => page.bytes().unwrap_or_default(),
        }
    }

    /// Returns the bytes of memory that the record pins.
    pub fn true_size(&self) -> u32 {
        match &self.opened {
            Opened::Buffer(buffer) => buffer.true_size(),
            Opened::Page(page) => page.true_size(),
        }
    }
}

impl fmt::Debug for RxRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxRecord")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl Opened {
    pub(super) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Buffer(buffer) => buffer.front_mut(),
            Self::Page(page) => page.body_mut(),
        }
    }
}

//! A received record.

use core::fmt;

use pktbuf::{Buffer, PageBuf};

use crate::suite::ContentType;

/// What is known about a received record: the fields of `TLS_GET_RECORD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// The content type; the inner one of TLS 1.3.
    pub kind: ContentType,
    /// The version on the wire: 3.3, of TLS 1.3 too.
    pub version: [u8; 2],
    /// Bytes of content.
    pub length: u16,
}

/// A received record: its content and what is known about it.
pub struct RxRecord {
    meta: RecordMeta,
    opened: Opened,
}

/// Where a record was opened: where it came in, or where it was gathered.
pub(super) enum Opened {
    Buffer(Buffer),
    Page(PageBuf),
}

impl RxRecord {
    /// Content is at the front of `opened`, as long as `meta` says; whatever comes after is
    /// dropped.
    pub(super) fn new(meta: RecordMeta, mut opened: Opened) -> Self {
        let len = u32::from(meta.length);
        match &mut opened {
            Opened::Buffer(buffer) => buffer.truncate(len),
            Opened::Page(page) => page.truncate(len),
        }
        Self { meta, opened }
    }

    /// Type, version and length.
    pub const fn meta(&self) -> RecordMeta {
        self.meta
    }

    /// The content.
    pub fn as_slice(&self) -> &[u8] {
        match &self.opened {
            Opened::Buffer(buffer) => buffer.front(),
            Opened::Page(page) => page.bytes().unwrap_or_default(),
        }
    }

    /// Bytes of memory that the record pins.
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

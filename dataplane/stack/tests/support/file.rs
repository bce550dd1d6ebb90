//! Objects in memory that tests send by reference.

use std::sync::{Arc, Mutex};

use lockgate_stack::{FileSource, FileSpan};
use pktbuf::{PageArena, Region, SharedSpan};

/// An object in memory of which pieces can be missing, or unreadable.
pub(crate) struct File {
    pub(crate) spans: Mutex<Vec<Option<Arc<SharedSpan>>>>,
    len: u64,
    fails_at: Option<u64>,
    _arena: PageArena,
}

pub(crate) const SPAN: usize = 64 * 1024;

impl File {
    pub(crate) fn new(content: &[u8]) -> Arc<Self> {
        Arc::new(Self::with(content, None))
    }

    pub(crate) fn with(content: &[u8], fails_at: Option<u64>) -> Self {
        let bytes = content.len().next_multiple_of(SPAN) + SPAN;
        let mut region = Region::heap(bytes + 8192).unwrap();
        let arena = PageArena::new(&mut region, bytes).unwrap();
        // Its memory stays for as long as the process, as a worker's does.
        std::mem::forget(region);
        let spans = content.chunks(SPAN).map(|piece| {
            let mut page = arena.alloc(piece.len()).unwrap();
            page[..piece.len()].copy_from_slice(piece);
            Some(page.freeze(piece.len()))
        });
        Self {
            spans: Mutex::new(spans.collect()),
            len: content.len() as u64,
            fails_at,
            _arena: arena,
        }
    }
}

impl FileSource for File {
    fn span(&self, offset: u64) -> FileSpan {
        if offset >= self.len || self.fails_at.is_some_and(|at| offset >= at) {
            return FileSpan::Failed;
        }
        let at = usize::try_from(offset).unwrap();
        match &self.spans.lock().unwrap()[at / SPAN] {
            Some(span) => FileSpan::Ready {
                span: span.clone(),
                at: u32::try_from(at % SPAN).unwrap(),
            },
            None => FileSpan::Pending,
        }
    }
}

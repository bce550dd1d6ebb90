//! What `sendfile` sends: bytes that are in memory when they are framed, by reference.

use std::sync::Arc;

use pktbuf::SharedSpan;

/// A file, or another object, that a socket sends by reference; see
/// [`Stack::sendfile`](crate::Stack::sendfile).
///
/// The socket asks for spans in order, as it has room for them, and holds none that isn't queued.
/// An implementation never blocks: it starts a read and reports
/// [`Pending`](FileSpan::Pending).
pub trait FileSource: Send + Sync {
    /// Returns the span that has the byte at this offset of the file.
    fn span(&self, offset: u64) -> FileSpan;
}

/// The memory of a piece of a file.
#[derive(Debug)]
pub enum FileSpan {
    /// The byte is in memory.
    Ready {
        /// Where it is, with bytes that follow it.
        span: Arc<SharedSpan>,
        /// Its place in the span, in bytes.
        at: u32,
    },
    /// It is being read. [`Stack::resume_sendfile`](crate::Stack::resume_sendfile) has to be called
    /// when it is in memory, or when reading failed.
    Pending,
    /// It can't be read, or the file is shorter. The connection is reset.
    Failed,
}

//! The bytes behind a response's head.

use std::ops::Range;
use std::sync::Arc;

use lockgate_cache::{Absence, Completion, FileBody, FileClient, Object, Piece, Token};
use pktbuf::SharedSpan;

/// The source of a response's body. The server pulls from it as fast as the client takes it.
#[derive(Debug, Default)]
pub enum BodySource {
    /// No body.
    #[default]
    Empty,
    /// A file.
    File(FileBody),
}

/// What a source returns.
#[derive(Debug)]
pub enum Pull<'a> {
    /// Bytes of a span to send by reference: position, and length in bytes.
    Span(&'a Arc<SharedSpan>, u32, u32),
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// Nothing yet: the file cache will complete a read.
    Pending,
    /// The end of the body.
    End,
    /// The rest can't be read.
    Failed(Absence),
}

impl BodySource {
    /// Returns the source of the bytes `range` of an object. They are copied if the object is in
    /// one span and there are at most `copy_bytes_max` of them.
    pub fn of(object: &Arc<Object>, range: Range<u64>, copy_bytes_max: u32) -> Self {
        if range.is_empty() {
            return Self::Empty;
        }
        let is_small = range.end - range.start <= u64::from(copy_bytes_max);
        let body = if object.whole().is_some() && is_small {
            FileBody::copied
        } else {
            FileBody::new
        };
        Self::File(body(Arc::clone(object), range))
    }

    /// Returns the next bytes: the same ones until [`BodySource::advance`].
    pub fn pull(&mut self, files: &mut FileClient, token: Token) -> Pull<'_> {
        match self {
            Self::Empty => Pull::End,
            Self::File(body) => match body.pull(files, token) {
                Piece::Span(span, at, len) => Pull::Span(span, at, len),
                Piece::Copy(bytes) => Pull::Bytes(bytes),
                Piece::Pending => Pull::Pending,
                Piece::End => Pull::End,
                Piece::Failed(absence) => Pull::Failed(absence),
            },
        }
    }

    /// Consumes so many of the bytes that were pulled last.
    pub fn advance(&mut self, bytes: u32) {
        match self {
            Self::Empty => {}
            Self::File(body) => body.advance(bytes),
        }
    }

    /// Handles a completion of the file cache. Returns false if this source doesn't wait for it.
    pub fn on_completion(&mut self, completion: Completion) -> bool {
        match self {
            Self::Empty => false,
            Self::File(body) => body.on_completion(completion),
        }
    }
}

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
    /// A small object, which is copied, so that it shares a record with its head.
    Bytes {
        /// The object's bytes.
        span: Arc<SharedSpan>,
        /// What is left of it.
        left: Range<u32>,
    },
    /// A file, which is sent by reference.
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
        if let (Some(span), Ok(start), Ok(end)) = (
            object.whole(),
            u32::try_from(range.start),
            u32::try_from(range.end),
        ) && end - start <= copy_bytes_max
        {
            return Self::Bytes {
                span: Arc::clone(span),
                left: start..end,
            };
        }
        Self::File(FileBody::new(Arc::clone(object), range))
    }

    /// Returns the next bytes: the same ones until [`BodySource::advance`].
    pub fn pull(&mut self, files: &mut FileClient, token: Token) -> Pull<'_> {
        match self {
            Self::Empty => Pull::End,
            Self::Bytes { left, .. } if left.start >= left.end => Pull::End,
            Self::Bytes { span, left } => match span.get(left.start as usize..left.end as usize) {
                Some(bytes) => Pull::Bytes(bytes),
                None => Pull::Failed(Absence::Failed),
            },
            Self::File(body) => match body.pull(files, token) {
                Piece::Span(span, at, len) => Pull::Span(span, at, len),
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
            Self::Bytes { left, .. } => left.start = left.start.saturating_add(bytes).min(left.end),
            Self::File(body) => body.advance(bytes),
        }
    }

    /// Handles a completion of the file cache. Returns false if this source doesn't wait for it.
    pub fn on_completion(&mut self, completion: Completion) -> bool {
        match self {
            Self::Empty | Self::Bytes { .. } => false,
            Self::File(body) => body.on_completion(completion),
        }
    }
}

//! Where the bytes behind a response's head come from.

use std::ops::Range;
use std::sync::Arc;

use lockgate_cache::{Absence, Completion, FileBody, FileClient, Object, Piece, Token};
use pktbuf::SharedSpan;

/// A source that a response's body is pulled from, as fast as the client takes it.
#[derive(Debug, Default)]
pub enum BodySource {
    /// No body.
    #[default]
    Empty,
    /// A small one, which is copied, to go out in one record with its head.
    Bytes {
        /// Where it is.
        span: Arc<SharedSpan>,
        /// What is left of it.
        left: Range<u32>,
    },
    /// A file, given by reference.
    File(FileBody),
}

/// What a source gives.
#[derive(Debug)]
pub enum Pull<'a> {
    /// So many bytes of a span, from a position in it, to be sent by reference.
    Span(&'a Arc<SharedSpan>, u32, u32),
    /// Bytes to be copied.
    Bytes(&'a [u8]),
    /// Nothing now: an answer of the file cache will come.
    Pending,
    /// There's no more.
    End,
    /// What follows can't be had.
    Failed(Absence),
}

impl BodySource {
    /// The bytes `range` of an object, to be copied if the object is kept in one span and there are
    /// at most `copy_bytes_max` of them.
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

    /// What comes next. Nothing moves on before [`BodySource::advance`].
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

    /// So many bytes of what was last pulled were taken.
    pub fn advance(&mut self, bytes: u32) {
        match self {
            Self::Empty => {}
            Self::Bytes { left, .. } => left.start = left.start.saturating_add(bytes).min(left.end),
            Self::File(body) => body.advance(bytes),
        }
    }

    /// An answer of the file cache has come. False if this source doesn't wait for it.
    pub fn on_completion(&mut self, completion: Completion) -> bool {
        match self {
            Self::Empty | Self::Bytes { .. } => false,
            Self::File(body) => body.on_completion(completion),
        }
    }
}

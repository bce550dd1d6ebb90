//! Bodies: a range of an object, pulled span by span.

use std::ops::Range;
use std::sync::Arc;

use pktbuf::SharedSpan;

use crate::absence::Absence;
use crate::client::FileClient;
use crate::request::{Completion, Outcome, Ticket, Token};
use crate::store::object::{Object, SPAN_BYTES};

/// A range of an object, given out from front to back as references to spans.
///
/// It holds the object, so its bytes are of one version: a file that was replaced goes on in the
/// old one, a file that was written to ends in [`Piece::Failed`].
#[derive(Debug)]
pub struct FileBody {
    object: Arc<Object>,
    at: u64,
    end: u64,
    /// The span that `at` is in, once it's there.
    current: Option<(u64, Arc<SharedSpan>)>,
    wait: Option<Ticket>,
    /// Up to where reading ahead was asked for.
    ahead: u64,
    failed: Option<Absence>,
}

/// What a body gives.
#[derive(Debug)]
pub enum Piece<'a> {
    /// So many bytes of a span, from a position in it.
    Span(&'a Arc<SharedSpan>, u32, u32),
    /// Nothing now: a [`Completion`] will come.
    Pending,
    /// There's no more.
    End,
    /// What follows can't be had: the response has to be cut off.
    Failed(Absence),
}

impl FileBody {
    /// The bytes `range` of `object`, as far as it has them.
    pub fn new(object: Arc<Object>, range: Range<u64>) -> Self {
        let end = range.end.min(object.entity().len());
        let at = range.start.min(end);
        let current = object.whole().map(|span| (0, Arc::clone(span)));
        Self {
            object,
            at,
            end,
            current,
            wait: None,
            ahead: 0,
            failed: None,
        }
    }

    /// What comes next. Nothing moves on before [`FileBody::advance`]: a caller that has no room
    /// asks again later.
    pub fn pull(&mut self, files: &mut FileClient, token: Token) -> Piece<'_> {
        if self.at >= self.end {
            return Piece::End;
        }
        if let Some(absence) = self.failed {
            return Piece::Failed(absence);
        }
        let index = self.at / u64::from(SPAN_BYTES);
        if self
            .current
            .as_ref()
            .is_none_or(|(current, _)| *current != index)
        {
            self.current = None;
            if self.wait.is_some() {
                return Piece::Pending;
            }
            match files.span(&self.object, index, token) {
                Ok(span) => self.current = Some((index, span)),
                Err(ticket) => self.wait = Some(ticket),
            }
            self.ahead = self.read_ahead(files, index);
        }
        let Some((_, span)) = &self.current else {
            return Piece::Pending;
        };
        let at = self.at % u64::from(SPAN_BYTES);
        let left = (span.len() as u64)
            .saturating_sub(at)
            .min(self.end - self.at);
        match (u32::try_from(at), u32::try_from(left)) {
            (Ok(at), Ok(left)) if left > 0 => Piece::Span(span, at, left),
            // A span is as long as the object says, or it isn't handed out.
            _ => Piece::Failed(Absence::Failed),
        }
    }

    /// So many bytes of what was last pulled were taken.
    pub fn advance(&mut self, bytes: u32) {
        self.at = (self.at + u64::from(bytes)).min(self.end);
        if self.at >= self.end {
            self.current = None;
        }
    }

    /// An answer has come. False if it isn't the one that this body waits for.
    pub fn on_completion(&mut self, completion: Completion) -> bool {
        if self.wait != Some(completion.ticket) {
            return false;
        }
        self.wait = None;
        match completion.outcome {
            Outcome::Span { index, span } => self.current = Some((index, span)),
            Outcome::Retry => {}
            Outcome::Failed(absence) | Outcome::Absent { absence, .. } => {
                self.failed = Some(absence);
            }
            // Not an answer to this question.
            Outcome::Found(_) => self.failed = Some(Absence::Failed),
        }
        true
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    fn read_ahead(&self, files: &FileClient, index: u64) -> u64 {
        let last = (self.end - 1) / u64::from(SPAN_BYTES);
        if index >= last {
            return self.ahead;
        }
        files.read_ahead(&self.object, self.ahead, index)
    }
}

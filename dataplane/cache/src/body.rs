//! Bodies: ranges of objects, pulled span by span.

use std::ops::Range;
use std::sync::{Arc, Weak};

use pktbuf::SharedSpan;

use crate::absence::Absence;
use crate::client::{FileClient, Lookup};
use crate::key::Key;
use crate::request::{Completion, Outcome, Ticket, Token};
use crate::source::handle::Version;
use crate::store::object::{Object, SPAN_BYTES};

/// A range of an object, from front to back, as references to spans.
///
/// Its bytes are of one version. If the file is replaced by renaming, or if it only grows and its
/// tag is weak, the body continues in the old version. If the file is changed otherwise, the body
/// ends in [`Piece::Failed`] at the first span that isn't in memory.
///
/// A client that reads nothing pins no memory: the body holds no span, and no object that is kept
/// in one span, while its caller has no room for more. If such an object is evicted meanwhile, the
/// body looks its file up again, and ends in [`Piece::Failed`] if that was changed or replaced.
#[derive(Debug)]
pub struct FileBody {
    object: BodyObject,
    at: u64,
    end: u64,
    /// The span that `at` is in, with its index, from its arrival until a part of it was taken.
    current: Option<(u64, Arc<SharedSpan>)>,
    wait: Option<Ticket>,
    /// The span that it began in.
    first: u64,
    /// The span that was requested last.
    used: Option<u64>,
    /// The first span that read-ahead wasn't requested for.
    ahead: u64,
    failed: Option<Absence>,
    is_copied: bool,
}

/// The object of a body.
#[derive(Debug)]
enum BodyObject {
    Held(HeldObject),
    /// It may be evicted.
    Released {
        object: Weak<Object>,
        key: Arc<Key>,
        version: Version,
    },
    /// The body is at its end.
    Done,
}

/// An object of which a body may request spans: queued reads of it are wanted.
#[derive(Debug)]
struct HeldObject(Arc<Object>);

/// The next piece of a body.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A span, the position in it, and the number of bytes from there. Send queues may refer to it.
    Span(&'a Arc<SharedSpan>, u32, u32),
    /// Bytes to copy: the body is small, or the client's send queues refer to as much of the memory
    /// as they may.
    Copy(&'a [u8]),
    /// Not loaded yet. A [`Completion`] will come.
    Pending,
    /// The body is at its end.
    End,
    /// The rest can't be read: the response has to be cut off.
    Failed(Absence),
}

impl FileBody {
    /// A body of the bytes `range` of `object`, as far as it has them.
    pub fn new(object: Arc<Object>, range: Range<u64>) -> Self {
        let end = range.end.min(object.entity().len());
        let at = range.start.min(end);
        Self {
            object: BodyObject::Held(HeldObject::new(object)),
            at,
            end,
            current: None,
            wait: None,
            first: at / u64::from(SPAN_BYTES),
            used: None,
            ahead: 0,
            failed: None,
            is_copied: false,
        }
    }

    /// The same, but all of its pieces are to be copied.
    pub fn copied(object: Arc<Object>, range: Range<u64>) -> Self {
        Self {
            is_copied: true,
            ..Self::new(object, range)
        }
    }

    /// Returns the next piece. A caller that has no room for all of it calls [`FileBody::advance`]
    /// with what it has taken, which may be nothing, and calls again later.
    pub fn pull(&mut self, files: &mut FileClient, token: Token) -> Piece<'_> {
        if self.at >= self.end {
            return Piece::End;
        }
        if let Some(absence) = self.failed {
            return Piece::Failed(absence);
        }
        let index = self.at / u64::from(SPAN_BYTES);
        let is_current = |current: &(u64, _)| current.0 == index;
        if !self.current.as_ref().is_some_and(is_current) {
            self.current = None;
            if self.wait.is_some() {
                return Piece::Pending;
            }
            self.request(files, index, token);
        }
        if let Some(absence) = self.failed {
            return Piece::Failed(absence);
        }
        let Some((_, span)) = &self.current else {
            return Piece::Pending;
        };
        let is_copied = self.is_copied
            || match &self.object {
                BodyObject::Held(object) => !files.try_pin(&object.0, index, span),
                BodyObject::Released { .. } | BodyObject::Done => true,
            };
        let at = self.at % u64::from(SPAN_BYTES);
        let left = (span.len() as u64)
            .saturating_sub(at)
            .min(self.end - self.at);
        match (u32::try_from(at), u32::try_from(left)) {
            (Ok(at), Ok(left)) if left > 0 && is_copied => {
                let piece = span.get(at as usize..).unwrap_or_default();
                Piece::Copy(piece.get(..left as usize).unwrap_or(piece))
            }
            (Ok(at), Ok(left)) if left > 0 => Piece::Span(span, at, left),
            // A span has its length, or it isn't published.
            _ => Piece::Failed(Absence::Failed),
        }
    }

    /// Moves on by `bytes` of the piece that was pulled last.
    pub fn advance(&mut self, bytes: u32) {
        self.at = (self.at + u64::from(bytes)).min(self.end);
        self.current = None;
        if self.at >= self.end {
            self.object = BodyObject::Done;
        } else if let BodyObject::Held(HeldObject(object)) = &self.object
            && object.whole().is_some()
        {
            self.object = BodyObject::Released {
                object: Arc::downgrade(object),
                key: Arc::clone(object.shared_key()),
                version: object.source().version(),
            };
        }
    }

    /// Takes an answer. Returns false if the body doesn't wait for it.
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
            Outcome::Found(object) => self.hold(object),
        }
        true
    }

    /// The number of bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// Finds the span `index`, or requests it or its object.
    fn request(&mut self, files: &mut FileClient, index: u64, token: Token) {
        if let BodyObject::Released { object, key, .. } = &self.object {
            if let Some(object) = object.upgrade() {
                self.object = BodyObject::Held(HeldObject::new(object));
            } else {
                match files.lookup_again(&Arc::clone(key), token) {
                    Lookup::Found(object) => self.hold(object),
                    Lookup::Absent(absence) => self.failed = Some(absence),
                    Lookup::Pending(ticket) => self.wait = Some(ticket),
                }
            }
        }
        let BodyObject::Held(HeldObject(object)) = &self.object else {
            return;
        };
        if let Some(span) = object.whole() {
            self.current = Some((index, Arc::clone(span)));
            return;
        }
        // A body that takes a span in pieces uses it once.
        let is_use = self.used != Some(index);
        self.used = Some(index);
        match files.span(object, index, is_use, token) {
            Ok(span) => self.current = Some((index, span)),
            Err(ticket) => self.wait = Some(ticket),
        }
        // At least one byte is left.
        let next = index + 1..(self.end - 1) / u64::from(SPAN_BYTES) + 1;
        if !next.is_empty() {
            let taken = index - self.first;
            self.ahead = files.read_ahead(object, self.ahead, taken, next);
        }
    }

    /// Takes the object that was looked up again, if it is of the same version.
    fn hold(&mut self, found: Arc<Object>) {
        if let BodyObject::Released { version, .. } = &self.object {
            if found.whole().is_some() && found.source().is_version(version) {
                self.object = BodyObject::Held(HeldObject::new(found));
            } else {
                self.failed = Some(Absence::Changing);
            }
        }
    }
}

impl HeldObject {
    fn new(object: Arc<Object>) -> Self {
        object.add_body();
        Self(object)
    }
}

impl Drop for HeldObject {
    fn drop(&mut self) {
        self.0.remove_body();
    }
}

//! Collects the head of a request, line by line.

use crate::grammar::is_token;
use crate::head_budget::ORDINARY_BYTES;
use crate::limits::Limits;
use crate::method::Method;
use crate::status::Status;

/// The bytes of a head so far. The outcome depends on the bytes alone, not on how they were split:
/// each line is judged when its last byte is received, and limits are judged by position. Only a
/// head that exceeds its share of the worker's memory is refused by what other heads take.
#[derive(Debug, Default)]
pub(crate) struct HeadBytes {
    bytes: Vec<u8>,
    /// Start of the incomplete line.
    line: usize,
    /// Start of the header section, behind the request line. Zero while that is incomplete.
    section: usize,
    fields: u32,
    blank_lines: u8,
}

/// What a piece of input led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Everything was taken; the head isn't complete.
    More,
    /// The head is complete. The rest of the input is a body or the next request.
    Complete,
    /// The head is refused. The start of the next request is uncertain.
    Refused(Status),
    /// The head is longer than its share of the memory.
    NoMemory,
}

impl HeadBytes {
    /// Takes bytes up to the end of the head, which may be `share` bytes long. Returns how many,
    /// and what they led to.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        limits: &Limits,
        share: usize,
    ) -> (usize, Collected) {
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty()) {
            let newline = rest.iter().position(|b| *b == b'\n');
            let piece = newline.map_or(rest, |at| &rest[..=at]);
            taken += piece.len();
            if let Err(status) = self.check_room(piece, limits) {
                return (taken, Collected::Refused(status));
            }
            if self.bytes.len() + piece.len() > share {
                return (taken, Collected::NoMemory);
            }
            if self.bytes.capacity() < ORDINARY_BYTES {
                self.bytes.reserve_exact(ORDINARY_BYTES - self.bytes.len());
            }
            self.bytes.extend_from_slice(piece);
            if newline.is_none() {
                break;
            }
            match self.end_line(limits) {
                Collected::More => {}
                done => return (taken, done),
            }
        }
        (taken, Collected::More)
    }

    /// Clears the head, and keeps the memory that an ordinary one needs.
    pub(crate) fn clear(&mut self) {
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.shrink_to(ORDINARY_BYTES);
        *self = Self {
            bytes,
            ..Self::default()
        };
    }

    /// The bytes of memory that it takes beyond those of an ordinary head.
    pub(crate) fn long_bytes(&self) -> usize {
        self.bytes.capacity().saturating_sub(ORDINARY_BYTES)
    }

    /// The request line without its CRLF, and the header section with the empty line that ends it.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        let (line, section) = self.bytes.split_at(self.section);
        (line.strip_suffix(b"\r\n").unwrap_or(line), section)
    }

    /// Part of the head by position, as [`HeadBytes::range_of`] found it.
    pub(crate) fn slice(&self, range: HeadRange) -> &[u8] {
        let start = range.at as usize;
        self.bytes
            .get(start..start + range.len as usize)
            .unwrap_or_default()
    }

    /// Where `part`, a slice of this head, lies in it.
    pub(crate) fn range_of(&self, part: &[u8]) -> HeadRange {
        let at = part
            .as_ptr()
            .addr()
            .saturating_sub(self.bytes.as_ptr().addr());
        debug_assert!(
            at + part.len() <= self.bytes.len(),
            "the part is of this head"
        );
        HeadRange {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            len: u32::try_from(part.len()).unwrap_or(0),
        }
    }

    fn check_room(&self, piece: &[u8], limits: &Limits) -> Result<(), Status> {
        let len = self.bytes.len() + piece.len();
        let head_max = limits.head_bytes_max.bytes();
        if self.section > 0 {
            return if len > head_max {
                Err(Status::HeaderFieldsTooLarge)
            } else {
                Ok(())
            };
        }
        let line_max = limits.request_line_bytes_max.bytes().min(head_max);
        if len > line_max {
            let seen = self.bytes.iter().chain(piece).copied().take(line_max);
            return Err(refusal_of_long_line(seen));
        }
        Ok(())
    }

    /// Judges the line whose newline was just received.
    fn end_line(&mut self, limits: &Limits) -> Collected {
        let line = self.bytes.get(self.line..).unwrap_or_default();
        // RFC 9112, section 2.2, lets a recipient take a bare LF for the end of a line, and says
        // that a bare CR is to be refused or replaced. Proxies differ in both: refuse both.
        // (A CR elsewhere in the line is refused when the line is parsed.)
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Collected::Refused(Status::BadRequest);
        };
        if self.section == 0 {
            if line.is_empty() {
                return self.skip_blank_line();
            }
            self.section = self.bytes.len();
        } else if line.is_empty() {
            return Collected::Complete;
        } else {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-5.2
            //# A server that receives an obs-fold in a request message that is not within a
            //# "message/http" container MUST either reject the message by sending a 400 (Bad
            //# Request)
            if matches!(line.first(), Some(b' ' | b'\t')) {
                return Collected::Refused(Status::BadRequest);
            }
            self.fields += 1;
            if self.fields > limits.headers_max.value() {
                return Collected::Refused(Status::HeaderFieldsTooLarge);
            }
        }
        self.line = self.bytes.len();
        Collected::More
    }

    //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
    //# In the interest of robustness, a server that is expecting to receive and parse a
    //# request-line SHOULD ignore at least one empty line (CRLF) received prior to the
    //# request-line.
    fn skip_blank_line(&mut self) -> Collected {
        self.blank_lines += 1;
        if self.blank_lines > BLANK_LINES_MAX {
            return Collected::Refused(Status::BadRequest);
        }
        self.bytes.clear();
        Collected::More
    }
}

/// The status for a request line that is too long, by as much of it as the limit allows.
fn refusal_of_long_line(line: impl Iterator<Item = u8>) -> Status {
    let method: Vec<u8> = line.take_while(|b| *b != b' ').collect();
    if !is_token(&method) {
        return Status::BadRequest;
    }
    //= https://www.rfc-editor.org/rfc/rfc9112#section-3
    //# A server that receives a method longer than any that it implements SHOULD respond with a 501
    //# (Not Implemented) status code. A server that receives a request-target longer than any URI
    //# it wishes to parse MUST respond with a 414 (URI Too Long) status code
    if Method::of(&method) == Method::Unknown {
        Status::NotImplemented
    } else {
        Status::UriTooLong
    }
}

/// A part of a head, by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadRange {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// Empty lines that are skipped before a request line.
const BLANK_LINES_MAX: u8 = 4;

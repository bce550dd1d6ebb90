//! Preconditions and ranges (RFC 9110, sections 13 and 14).

use crate::date;
use crate::entity::Entity;
use crate::grammar::list;
use crate::method::Method;
use crate::request::{Field, Request};
use crate::status::Status;
use crate::validators::{Comparison, EntityTag, ReceivedTag, Validators};

/// The part of a representation that a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it: 200.
    Whole,
    /// The bytes from `first` to `last`, both included: 206.
    Part {
        /// The first byte's position.
        first: u64,
        /// The last byte's position.
        last: u64,
    },
    /// Nothing, because the client has the current version: 304.
    NotModified,
    /// Nothing, because it isn't the version that the client asked for: 412.
    PreconditionFailed,
    /// Nothing, because the range begins at or behind the end: 416.
    RangeNotSatisfiable,
}

impl Selection {
    /// Evaluates the conditions of `request`, a GET or HEAD, for `entity` at `now` (seconds since
    /// the Unix epoch), in the order of RFC 9110, section 13.2.2.
    pub fn of(request: &Request, entity: &Entity, now: u64) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
        //# When recipient is the origin server and If-Match is present, evaluate the If-Match
        //# precondition [...] if false, respond 412 (Precondition Failed)
        let (tag, modified) = (entity.validators().tag(), entity.validators().modified());
        if request.has(Field::IfMatch) {
            if !any_tag(request, Field::IfMatch, tag, Comparison::Strong) {
                return Self::PreconditionFailed;
            }
        } else if let Some(unmodified) = date_of(request, Field::IfUnmodifiedSince)
            && modified > unmodified
        {
            return Self::PreconditionFailed;
        }
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
        //# A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match
        //# header field
        if request.has(Field::IfNoneMatch) {
            if any_tag(request, Field::IfNoneMatch, tag, Comparison::Weak) {
                return Self::NotModified;
            }
        } else if let Some(since) = date_of(request, Field::IfModifiedSince)
            && modified <= since
        {
            return Self::NotModified;
        }
        Self::range(request, entity, now)
    }

    /// The status of the response.
    pub fn status(self) -> Status {
        match self {
            Self::Whole => Status::Ok,
            Self::Part { .. } => Status::PartialContent,
            Self::NotModified => Status::NotModified,
            Self::PreconditionFailed => Status::PreconditionFailed,
            Self::RangeNotSatisfiable => Status::RangeNotSatisfiable,
        }
    }

    fn range(request: &Request, entity: &Entity, now: u64) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        //# A server MUST ignore a Range header field received with a request method that is
        //# unrecognized or for which range handling is not defined. For this specification, GET is
        //# the only method for which range handling is defined.
        if request.method() != Method::Get {
            return Self::Whole;
        }
        let Some(range) = request.value(Field::Range) else {
            return Self::Whole;
        };
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
        //# If the condition is false, the recipient SHOULD ignore the Range header field
        if request.has(Field::IfRange) {
            let current = request
                .value(Field::IfRange)
                .is_some_and(|v| is_current(v, entity.validators(), now));
            if !current {
                return Self::Whole;
            }
        }
        match single_range(range) {
            Some(spec) => spec.resolve(entity.len()),
            None => Self::Whole,
        }
    }
}

/// Returns whether one of the field's tags, or its `*`, matches the current tag.
fn any_tag(request: &Request, field: Field, tag: &EntityTag, comparison: Comparison) -> bool {
    request.values(field).any(|value| {
        value.trim_ascii() == b"*"
            || ReceivedTag::parse_list(value).any(|received| received.matches(tag, comparison))
    })
}

fn date_of(request: &Request, field: Field) -> Option<u64> {
    date::parse(request.value(field)?)
}

/// Returns whether an If-Range's validator is the current one. A weak one never is (RFC 9110,
/// section 13.1.5).
fn is_current(value: &[u8], validators: &Validators, now: u64) -> bool {
    if let Some(received) = ReceivedTag::parse(value) {
        return received.matches(validators.tag(), Comparison::Strong);
    }
    //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    //# If the HTTP-date validator provided is not a strong validator in the sense defined by
    //# Section 8.8.2.2, the condition is false.
    date::parse(value) == Some(validators.modified()) && validators.is_date_strong(now)
}

/// One range as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RangeSpec {
    From { first: u64, last: Option<u64> },
    Suffix { length: u64 },
}

impl RangeSpec {
    fn resolve(self, len: u64) -> Selection {
        match self {
            //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
            //# A server MAY ignore the Range header field.
            //
            // A range from the first byte on covers all of an empty object, but Content-Range can't
            // express an empty range. So the answer is 200 with no bytes, as from nginx, instead of
            // the 416 of section 15.5.17.
            Self::From { first: 0, .. } if len == 0 => Selection::Whole,
            Self::From { first, .. } if first >= len => Selection::RangeNotSatisfiable,
            Self::From { first, last } => {
                let end = len - 1;
                Selection::Part {
                    first,
                    last: last.map_or(end, |last| last.min(end)),
                }
            }
            Self::Suffix { length: 0 } => Selection::RangeNotSatisfiable,
            Self::Suffix { .. } if len == 0 => Selection::Whole,
            Self::Suffix { length } => Selection::Part {
                first: len.saturating_sub(length),
                last: len - 1,
            },
        }
    }
}

/// Parses a Range field that has one range of bytes. Several ranges, other units and invalid ranges
/// are ignored (RFC 9110, section 14.2): they get the whole object.
fn single_range(value: &[u8]) -> Option<RangeSpec> {
    let equals = value.iter().position(|b| *b == b'=')?;
    let (unit, ranges) = value.split_at(equals);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = list(&ranges[1..]);
    let (range, None) = (ranges.next()?, ranges.next()) else {
        return None;
    };
    let dash = range.iter().position(|b| *b == b'-')?;
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    if first.is_empty() {
        return Some(RangeSpec::Suffix {
            length: number(last)?,
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() {
        None
    } else {
        Some(number(last)?)
    };
    //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.1
    //# An int-range is invalid if the last-pos value is present and less than first-pos.
    if last.is_some_and(|last| last < first) {
        return None;
    }
    Some(RangeSpec::From { first, last })
}

/// Parses a decimal number. One that doesn't fit becomes the largest that does.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests;

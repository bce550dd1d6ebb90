//! Writes the heads of responses, and error pages, into a buffer of the caller.
//!
//! The buffer is a `Vec` because a redirect is as long as its target. A head allocates nothing if
//! the buffer has room for [`HEAD_BYTES`].

use std::io::Write as _;

use crate::conditional::Selection;
use crate::date::HttpDate;
use crate::entity::{ContentType, Entity};
use crate::method::Method;
use crate::request::Version;
use crate::status::Status;
use crate::target::encode_path;

/// What a response's head depends on beside its representation.
#[derive(Clone, Copy, Debug)]
pub struct HeadContext {
    /// The request's method: a HEAD gets no body.
    pub method: Method,
    /// The request's version.
    pub version: Version,
    /// Whether the connection persists after the response.
    pub keep_alive: bool,
    /// The current date.
    pub date: HttpDate,
    /// The same in seconds since the Unix epoch.
    pub now: u64,
}

/// The interim response that asks the client for the request's body (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An ordinary head's length is less than this.
pub const HEAD_BYTES: usize = 512;

/// Writes the head of a response with the selected part of a representation; for 412 and 416 the
/// error page as well. Returns which bytes of the representation have to follow.
pub fn object(
    out: &mut Vec<u8>,
    cx: &HeadContext,
    entity: &Entity,
    selection: Selection,
) -> core::ops::Range<u64> {
    let (status, body) = match selection {
        Selection::Whole => (Status::Ok, 0..entity.len()),
        Selection::Part { first, last } => (Status::PartialContent, first..last + 1),
        Selection::NotModified => {
            start(out, Status::NotModified, cx);
            //= https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
            //# The server generating a 304 response MUST generate any of the following header
            //# fields that would have been sent in a 200 (OK) response to the same request: [...]
            //# ETag
            validators(out, cx, entity);
            out.extend_from_slice(b"\r\n");
            return 0..0;
        }
        Selection::PreconditionFailed => {
            page(out, cx, Status::PreconditionFailed, |_| {});
            return 0..0;
        }
        Selection::RangeNotSatisfiable => {
            //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.17
            //# A server that generates a 416 response to a byte-range request SHOULD generate a
            //# Content-Range header field specifying the current length of the selected
            //# representation
            page(out, cx, Status::RangeNotSatisfiable, |out| {
                put(
                    out,
                    format_args!("Content-Range: bytes */{}\r\n", entity.len()),
                );
            });
            return 0..0;
        }
    };
    start(out, status, cx);
    let content_type = entity.content_type();
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(content_type.name().as_bytes());
    out.extend_from_slice(content_type.parameters().as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    number(out, body.end - body.start);
    out.extend_from_slice(b"\r\n");
    if let Selection::Part { first, last } = selection {
        let len = entity.len();
        put(
            out,
            format_args!("Content-Range: bytes {first}-{last}/{len}\r\n"),
        );
    }
    validators(out, cx, entity);
    out.extend_from_slice(b"Accept-Ranges: bytes\r\n\r\n");
    if cx.method == Method::Head {
        0..0
    } else {
        body
    }
}

/// Writes a whole response with an error page.
pub fn error(out: &mut Vec<u8>, cx: &HeadContext, status: Status) {
    page(out, cx, status, |out| match status {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.6
        //# The origin server MUST generate an Allow header field in a 405 response
        Status::MethodNotAllowed => out.extend_from_slice(b"Allow: GET, HEAD\r\n"),
        Status::ServiceUnavailable => out.extend_from_slice(b"Retry-After: 1\r\n"),
        _ => {}
    });
}

/// Writes a redirect from a directory's path without a slash to the path with it (301). `path` is
/// decoded and relative, `query` is as it was received.
pub fn redirect_to_directory(
    out: &mut Vec<u8>,
    cx: &HeadContext,
    path: &[u8],
    query: Option<&[u8]>,
) {
    page(out, cx, Status::MovedPermanently, |out| {
        out.extend_from_slice(b"Location: ");
        encode_path(path, out);
        out.push(b'/');
        // A target has visible characters only, so the query can't end the line.
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
        out.extend_from_slice(b"\r\n");
    });
}

/// Writes the status line and the fields that every response has.
fn start(out: &mut Vec<u8>, status: Status, cx: &HeadContext) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(b"\r\nServer: lockgate\r\nDate: ");
    out.extend_from_slice(cx.date.as_bytes());
    out.extend_from_slice(match (cx.keep_alive, cx.version) {
        (true, Version::Http11) => b"\r\n",
        (true, Version::Http10) => b"\r\nConnection: keep-alive\r\n",
        //= https://www.rfc-editor.org/rfc/rfc9112#section-9.6
        //# A server that does not support persistent connections MUST send the "close" connection
        //# option in every response message that does not have a 1xx (Informational) status code.
        (false, _) => b"\r\nConnection: close\r\n",
    });
}

fn validators(out: &mut Vec<u8>, cx: &HeadContext, entity: &Entity) {
    out.extend_from_slice(b"ETag: ");
    entity.validators().tag().write(out);
    out.extend_from_slice(b"\r\nLast-Modified: ");
    //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
    //# An origin server with a clock [...] MUST NOT generate a Last-Modified date that is later
    //# than the server's time of message origination (Date, Section 6.6.1).
    let future = entity.validators().modified() > cx.now;
    let date = if future {
        &cx.date
    } else {
        entity.validators().last_modified()
    };
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a whole response with a page that shows the status. `extra` writes more fields.
fn page(out: &mut Vec<u8>, cx: &HeadContext, status: Status, extra: impl FnOnce(&mut Vec<u8>)) {
    start(out, status, cx);
    extra(out);
    let line = status.line();
    let length = PAGE[0].len() + PAGE[1].len() + PAGE[2].len() + 2 * line.len();
    put(
        out,
        format_args!(
            "Content-Type: {}{}\r\nContent-Length: {length}\r\n\r\n",
            ContentType::HTML.name(),
            ContentType::HTML.parameters()
        ),
    );
    if cx.method == Method::Head {
        return;
    }
    for piece in [PAGE[0], line, PAGE[1], line, PAGE[2]] {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, n: u64) {
    put(out, format_args!("{n}"));
}

fn put(out: &mut Vec<u8>, text: core::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to memory doesn't fail");
}

const PAGE: [&str; 3] = ["<!doctype html>\n<title>", "</title>\n<h1>", "</h1>\n"];

#[cfg(test)]
mod tests;

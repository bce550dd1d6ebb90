//! Parses a request's head.

use httparse::{EMPTY_HEADER, Header};

use crate::grammar::{is_token, list};
use crate::head::{HeadBytes, HeadRange};
use crate::limits::Limits;
use crate::method::Method;
use crate::request_body::RequestBody;
use crate::status::Status;
use crate::target::{Target, decode_path};

/// A minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a later minor version, which is served as 1.1
    Http11,
}

/// The header fields whose values are kept for conditions and ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// If-Match
    IfMatch,
    /// If-None-Match
    IfNoneMatch,
    /// If-Modified-Since
    IfModifiedSince,
    /// If-Unmodified-Since
    IfUnmodifiedSince,
    /// If-Range
    IfRange,
    /// Range
    Range,
}

/// A parsed request. It holds the head's bytes and positions in them. Its memory is reused for
/// later requests.
#[derive(Debug)]
pub struct Request {
    pub(crate) head: HeadBytes,
    pub(crate) body: RequestBody,
    pub(crate) expects_continue: bool,
    method: Method,
    version: Version,
    keep_alive: bool,
    host: HeadRange,
    path: Vec<u8>,
    directory: bool,
    query: Option<HeadRange>,
    fields: Vec<(Field, HeadRange)>,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
            head: HeadBytes::default(),
            body: RequestBody::None,
            expects_continue: false,
            method: Method::Unknown,
            version: Version::Http10,
            keep_alive: false,
            host: HeadRange::default(),
            path: Vec::new(),
            directory: false,
            query: None,
            fields: Vec::new(),
        }
    }

    /// Clears the request, and keeps the memory that an ordinary one needs.
    pub(crate) fn clear(&mut self) {
        let (mut head, mut path, mut fields) = (
            core::mem::take(&mut self.head),
            core::mem::take(&mut self.path),
            core::mem::take(&mut self.fields),
        );
        head.clear();
        path.clear();
        path.shrink_to(PATH_KEPT_BYTES);
        fields.clear();
        fields.shrink_to(FIELDS_KEPT);
        *self = Self {
            head,
            path,
            fields,
            ..Self::new()
        };
    }

    /// The bytes of memory that it takes beyond those of an ordinary request.
    pub(crate) fn long_bytes(&self) -> u64 {
        let path = self.path.capacity().saturating_sub(PATH_KEPT_BYTES);
        (self.head.long_bytes() + path) as u64
    }

    /// Parses the complete head: where a request is parsed.
    ///
    /// # Errors
    ///
    /// The status of the refusal. The connection has to close then: the start of the next request
    /// is uncertain.
    pub(crate) fn parse(&mut self, limits: &Limits) -> Result<(), Status> {
        let (line, section) = self.head.parts();
        let (method, target, version) = request_line(line)?;
        (self.method, self.version) = (method, version);
        if target.len() > limits.target_bytes_max.bytes() {
            return Err(Status::UriTooLong);
        }
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let headers = match httparse::parse_headers(section, &mut headers) {
            Ok(httparse::Status::Complete((used, headers))) if used == section.len() => headers,
            Ok(_) | Err(_) => return Err(Status::BadRequest),
        };
        let mut known = KnownFields::default();
        self.fields.clear();
        for header in headers.iter() {
            if let Some(field) = known.take(header)? {
                self.fields.push((field, self.head.range_of(header.value)));
            }
        }
        self.body = known.framing(version)?;
        self.keep_alive = known.keeps_alive(version);
        self.expects_continue = known.expects_continue(version)?;
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
        //# A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request
        //# message that lacks a Host header field and to any request message that contains more
        //# than one Host header field line or a Host header field with an invalid field value.
        let host = match known.host {
            Some(host) => host_name(host)?,
            None if version == Version::Http11 => return Err(Status::BadRequest),
            None => b"",
        };
        self.host = self.head.range_of(host);
        if !matches!(method, Method::Get | Method::Head) {
            // Its target may have another form, and isn't used.
            return Ok(());
        }
        let target = Target::parse(target).map_err(|_| Status::BadRequest)?;
        if let Some(authority) = target.authority {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
            //# When an origin server receives a request with an absolute-form of request-target,
            //# the origin server MUST ignore the received Host header field (if any) and instead
            //# use the host information of the request-target.
            let name = host_name(authority)?;
            if name.is_empty() {
                return Err(Status::BadRequest);
            }
            self.host = self.head.range_of(name);
        }
        self.query = target.query.map(|query| self.head.range_of(query));
        self.directory =
            decode_path(target.path, &mut self.path).map_err(|_| Status::BadRequest)?;
        Ok(())
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The host that was asked, without a port. Empty if the client named none.
    pub fn host(&self) -> &[u8] {
        self.head.slice(self.host)
    }

    /// The decoded path: relative, without `.`, `..` or empty segments, without a slash at the end.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether the path was written with a slash at the end.
    pub fn names_directory(&self) -> bool {
        self.directory
    }

    /// The query as it was written, without its `?`; `None` if there is no `?`.
    pub fn query(&self) -> Option<&[u8]> {
        self.query.map(|query| self.head.slice(query))
    }

    /// Whether the client wants the connection to persist (RFC 9112, section 9.3).
    pub fn wants_keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// The values of all lines of a field.
    pub fn values(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        let lines = self.fields.iter().filter(move |(found, _)| *found == field);
        lines.map(|(_, range)| self.head.slice(*range))
    }

    /// The value of a field that isn't a list. `None` if it is missing or came twice.
    pub fn value(&self, field: Field) -> Option<&[u8]> {
        let mut values = self.values(field);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether the request has a field.
    pub fn has(&self, field: Field) -> bool {
        self.values(field).next().is_some()
    }
}

/// Values of fields that are judged once all fields are parsed.
#[derive(Default)]
struct KnownFields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    codings: Codings,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_else: bool,
}

#[derive(Default)]
struct Codings {
    /// A Transfer-Encoding line was there.
    any: bool,
    chunked: u32,
    last_is_chunked: bool,
    others: bool,
}

impl<'a> KnownFields<'a> {
    fn take(&mut self, header: &Header<'a>) -> Result<Option<Field>, Status> {
        let value = header.value;
        let name = header.name;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => return self.host(value),
            5 if is("range") => return Ok(Some(Field::Range)),
            6 if is("expect") => self.expect(value),
            8 if is("if-match") => return Ok(Some(Field::IfMatch)),
            8 if is("if-range") => return Ok(Some(Field::IfRange)),
            10 if is("connection") => self.connection(value),
            13 if is("if-none-match") => return Ok(Some(Field::IfNoneMatch)),
            14 if is("content-length") => self.content_length(value)?,
            17 if is("transfer-encoding") => self.transfer_encoding(value),
            17 if is("if-modified-since") => return Ok(Some(Field::IfModifiedSince)),
            19 if is("if-unmodified-since") => return Ok(Some(Field::IfUnmodifiedSince)),
            _ => {}
        }
        Ok(None)
    }

    fn host(&mut self, value: &'a [u8]) -> Result<Option<Field>, Status> {
        match self.host.replace(value) {
            None => Ok(None),
            Some(_) => Err(Status::BadRequest),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn expect(&mut self, value: &[u8]) {
        for expectation in list(value) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_else = true;
            }
        }
    }

    /// Parses a Content-Length. Refuses a repeated one: RFC 9112, section 6.3, lets a recipient
    /// accept equal values, and two recipients that choose differently see different requests.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Status> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = str::from_utf8(value)
            .ok()
            .filter(|_| digits)
            .and_then(|v| v.parse().ok());
        let length = length.ok_or(Status::BadRequest)?;
        if self.length.replace(length).is_some() {
            return Err(Status::BadRequest);
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        self.codings.any = true;
        for coding in list(value) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.codings.chunked += u32::from(chunked);
            self.codings.others |= !chunked;
            self.codings.last_is_chunked = chunked;
        }
    }

    fn framing(&self, version: Version) -> Result<RequestBody, Status> {
        if !self.codings.any {
            return Ok(self
                .length
                .map_or(RequestBody::None, RequestBody::of_length));
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        //# A server MAY reject a request that contains both Content-Length and Transfer-Encoding
        //
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        //# A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding
        //# header field MUST treat the message as if the framing is faulty
        if self.length.is_some() || version == Version::Http10 {
            return Err(Status::BadRequest);
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
        //# If a Transfer-Encoding header field is present in a request and the chunked transfer
        //# coding is not the final encoding, the message body length cannot be determined
        //# reliably; the server MUST respond with the 400 (Bad Request) status code and then close
        //# the connection.
        if !self.codings.last_is_chunked || self.codings.chunked != 1 {
            return Err(Status::BadRequest);
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        //# A server that receives a request message with a transfer coding it does not understand
        //# SHOULD respond with 501 (Not Implemented).
        if self.codings.others {
            return Err(Status::NotImplemented);
        }
        Ok(RequestBody::chunked())
    }

    //= https://www.rfc-editor.org/rfc/rfc9112#section-9.3
    //# If the "close" connection option is present, the connection will not persist after the
    //# current response; else, if the received protocol is HTTP/1.1 (or later), the connection
    //# will persist after the current response; else, if the received protocol is HTTP/1.0, the
    //# "keep-alive" connection option is present, [...] the connection will persist
    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn expects_continue(&self, version: Version) -> Result<bool, Status> {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
        //# A server that receives an Expect field value containing a member other than
        //# 100-continue MAY respond with a 417 (Expectation Failed) status code
        if self.expects_else {
            return Err(Status::ExpectationFailed);
        }
        //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
        //# A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore
        //# that expectation.
        Ok(self.expects_continue && version == Version::Http11)
    }
}

/// Splits `method SP request-target SP HTTP-version`, exactly one space each.
fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), Status> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    if !is_token(method) {
        return Err(Status::BadRequest);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Status::BadRequest);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        //= https://www.rfc-editor.org/rfc/rfc9110#section-2.5
        //# A recipient that receives a message with a major version number that it implements and
        //# a minor version number higher than what it implements SHOULD process the message as if
        //# it was in the highest minor version within that major version
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Status::VersionNotSupported);
        }
        _ => return Err(Status::BadRequest),
    };
    Ok((Method::of(method), target, version))
}

/// Takes the port off `uri-host [ ":" port ]`, and the dot off a fully qualified name.
fn host_name(host: &[u8]) -> Result<&[u8], Status> {
    let bad = Err(Status::BadRequest);
    let (name, rest) = if host.first() == Some(&b'[') {
        let Some(end) = host.iter().position(|b| *b == b']') else {
            return bad;
        };
        let (literal, rest) = host.split_at(end + 1);
        let inside = &literal[1..end];
        let address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        if inside.is_empty() || !inside.iter().all(address) {
            return bad;
        }
        (literal, rest)
    } else {
        let end = host.iter().position(|b| *b == b':').unwrap_or(host.len());
        let (name, rest) = host.split_at(end);
        if !name.iter().all(|b| is_host_byte(*b)) {
            return bad;
        }
        (name.strip_suffix(b".").unwrap_or(name), rest)
    };
    match rest.split_first() {
        None => Ok(name),
        Some((b':', port)) if port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => Ok(name),
        Some(_) => bad,
    }
}

/// `reg-name` of RFC 3986, section 3.2.2.
fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b)
}

/// The largest value of [`Limits::headers_max`].
const HEADERS_MAX: usize = 128;

/// Memory that a request keeps between uses.
const PATH_KEPT_BYTES: usize = 256;
const FIELDS_KEPT: usize = 8;

#[cfg(test)]
mod tests;

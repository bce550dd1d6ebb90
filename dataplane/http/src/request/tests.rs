use super::*;
use crate::head::Collected;
use crate::limits::Bounded;

fn parse_in(text: &[u8], step: usize, limits: &Limits) -> Result<Request, Status> {
    let mut request = Request::new();
    for piece in text.chunks(step) {
        match request.head.push(piece, limits, usize::MAX) {
            (taken, Collected::More) => assert_eq!(taken, piece.len()),
            (_, Collected::Complete) => {
                request.parse(limits)?;
                return Ok(request);
            }
            (_, Collected::Refused(status)) => return Err(status),
            (_, Collected::NoMemory) => unreachable!("its share is no limit"),
        }
    }
    panic!(
        "the head is incomplete: {:?}",
        String::from_utf8_lossy(text)
    );
}

fn parse(text: &str) -> Result<Request, Status> {
    parse_in(text.as_bytes(), text.len(), &Limits::default())
}

/// A request for `/` with more lines.
fn with(lines: &str) -> Result<Request, Status> {
    parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

#[test]
fn what_an_ordinary_request_says() {
    let request = parse(concat!(
        "GET /a/%62.html?q=1 HTTP/1.1\r\n",
        "Host: Example.com:8080\r\n",
        "If-None-Match: \"x\", \"y\"\r\n",
        "if-none-match:\t\"z\" \r\n",
        "Range: bytes=0-1\r\n",
        "Empty:\r\n",
        "\r\n"
    ))
    .unwrap();
    assert_eq!(request.method(), Method::Get);
    assert_eq!(request.version(), Version::Http11);
    assert_eq!(request.host(), b"Example.com");
    assert_eq!(request.path(), b"a/b.html");
    assert!(!request.names_directory() && request.wants_keep_alive());
    assert_eq!(request.query(), Some(&b"q=1"[..]));
    let tags: Vec<&[u8]> = request.values(Field::IfNoneMatch).collect();
    assert_eq!(tags, [&b"\"x\", \"y\""[..], b"\"z\""]);
    assert_eq!(request.value(Field::IfNoneMatch), None);
    assert_eq!(request.value(Field::Range), Some(&b"bytes=0-1"[..]));
    assert!(!request.has(Field::IfRange));
    assert!(request.body.is_done() && !request.expects_continue);
}

#[test]
fn request_lines() {
    for (line, expected) in [
        ("GET / HTTP/1.1", Ok(Method::Get)),
        ("HEAD / HTTP/1.1", Ok(Method::Head)),
        ("POST / HTTP/1.1", Ok(Method::NotAllowed)),
        ("OPTIONS * HTTP/1.1", Ok(Method::NotAllowed)),
        ("CONNECT a:443 HTTP/1.1", Ok(Method::Connect)),
        ("BREW / HTTP/1.1", Ok(Method::Unknown)),
        ("get / HTTP/1.1", Ok(Method::Unknown)),
        ("GET / HTTP/1.2", Ok(Method::Get)),
        ("GET / HTTP/2.0", Err(Status::VersionNotSupported)),
        ("GET / HTTP/0.9", Err(Status::VersionNotSupported)),
        ("PRI * HTTP/2.0", Err(Status::VersionNotSupported)),
        ("GET / HTTP/1", Err(Status::BadRequest)),
        ("GET / HTTP/1.10", Err(Status::BadRequest)),
        ("GET / http/1.1", Err(Status::BadRequest)),
        ("GET / HTTP/1.1 ", Err(Status::BadRequest)),
        ("GET  / HTTP/1.1", Err(Status::BadRequest)),
        (" GET / HTTP/1.1", Err(Status::BadRequest)),
        ("GET\t/ HTTP/1.1", Err(Status::BadRequest)),
        ("GET /", Err(Status::BadRequest)),
        ("GET", Err(Status::BadRequest)),
        ("GET /a b HTTP/1.1", Err(Status::BadRequest)),
        ("GET /\u{e4} HTTP/1.1", Err(Status::BadRequest)),
        ("GET /\0 HTTP/1.1", Err(Status::BadRequest)),
        ("GET /a\rb HTTP/1.1", Err(Status::BadRequest)),
        ("GET a HTTP/1.1", Err(Status::BadRequest)),
        ("GET * HTTP/1.1", Err(Status::BadRequest)),
        ("GET /../x HTTP/1.1", Err(Status::BadRequest)),
        ("GET /%00 HTTP/1.1", Err(Status::BadRequest)),
        ("GET ftp://a/ HTTP/1.1", Err(Status::BadRequest)),
        ("GET http://user@a/ HTTP/1.1", Err(Status::BadRequest)),
        ("GET http:///x HTTP/1.1", Err(Status::BadRequest)),
        ("G(T / HTTP/1.1", Err(Status::BadRequest)),
    ] {
        let found = parse(&format!("{line}\r\nHost: a\r\n\r\n")).map(|r| r.method());
        assert_eq!(found, expected, "{line:?}");
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    for lines in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 1\r\n",
        "Content-Length\t: 1\r\n",
        " Content-Length: 1\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tTransfer-Encoding: chunked\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "X: a\n\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\r\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        "X: \x7f\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "X(: a\r\n",
        "Host: b\r\n",
        "Host:\r\n",
    ] {
        assert_eq!(with(lines).err(), Some(Status::BadRequest), "{lines:?}");
    }
    assert_eq!(
        with("Transfer-Encoding: gzip, chunked\r\n").err(),
        Some(Status::NotImplemented)
    );
    let http10 = "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse(http10).err(), Some(Status::BadRequest));
}

#[test]
fn bodies() {
    assert_eq!(
        with("Content-Length: 0\r\n").unwrap().body,
        RequestBody::None
    );
    assert_eq!(
        with("Content-Length: 007\r\n").unwrap().body,
        RequestBody::Length(7)
    );
    for lines in [
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: , chunked ,\r\n",
    ] {
        assert_eq!(with(lines).unwrap().body, RequestBody::chunked());
    }
}

#[test]
fn hosts() {
    for (host, name) in [
        ("example.com", "example.com"),
        ("example.com.", "example.com"),
        ("example.com:443", "example.com"),
        ("example.com:", "example.com"),
        ("", ""),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[::1]", "[::1]"),
        ("[2001:db8::1]:8443", "[2001:db8::1]"),
    ] {
        let request = parse(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(request.host(), name.as_bytes(), "{host}");
    }
    for host in [
        "a b", "a/b", "a@b", "a:x", "a:1:2", "a:123456", "[", "[]", "[::1", "::1", "[::1]x", "a\"",
        "a,b:c", "[g]", "a?b", "a#b",
    ] {
        let request = parse(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(request.err(), Some(Status::BadRequest), "{host}");
    }
    assert_eq!(
        parse("GET / HTTP/1.1\r\n\r\n").err(),
        Some(Status::BadRequest)
    );
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host(), b"");
    let absolute = parse("GET http://b:8080/x?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((absolute.host(), absolute.path()), (&b"b"[..], &b"x"[..]));
    assert_eq!(absolute.query(), Some(&b"y"[..]));
    let no_host = parse("GET http://b/ HTTP/1.1\r\n\r\n");
    assert_eq!(no_host.err(), Some(Status::BadRequest));
}

#[test]
fn queries() {
    for (target, path, query) in [
        ("/a", "a", None),
        ("/a?", "a", Some("")),
        ("/a?b=c&d", "a", Some("b=c&d")),
        ("/a??b?c", "a", Some("?b?c")),
        ("/a/?%20/..", "a", Some("%20/..")),
        ("http://h?q", "", Some("q")),
    ] {
        let request = parse(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        assert_eq!(request.path(), path.as_bytes(), "{target}");
        assert_eq!(request.query(), query.map(str::as_bytes), "{target}");
    }
}

#[test]
fn keeping_the_connection() {
    for (version, lines, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE ,y\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let request = parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).unwrap();
        assert_eq!(request.wants_keep_alive(), keep, "{version} {lines}");
    }
}

#[test]
fn expectations() {
    assert!(with("Expect: 100-Continue\r\n").unwrap().expects_continue);
    assert_eq!(
        with("Expect: 200-ok\r\n").err(),
        Some(Status::ExpectationFailed)
    );
    let http10 = parse("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!http10.expects_continue);
}

#[test]
fn limits_hold_to_the_byte_in_any_split() {
    let limits = Limits {
        request_line_bytes_max: Bounded::clamped(64),
        target_bytes_max: Bounded::clamped(40),
        head_bytes_max: Bounded::clamped(256),
        headers_max: Bounded::clamped(4),
        ..Limits::default()
    };
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    let head = |len: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
    };
    let fields = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(n - 1)
        )
    };
    for (text, expected) in [
        (target(40), None),
        (target(41), Some(Status::UriTooLong)),
        (target(49), Some(Status::UriTooLong)),
        (target(5_000), Some(Status::UriTooLong)),
        (head(256), None),
        (head(257), Some(Status::HeaderFieldsTooLarge)),
        (head(5_000), Some(Status::HeaderFieldsTooLarge)),
        // A method longer than any known one, cut off or not.
        (
            "x".repeat(60) + " / HTTP/1.1\r\n",
            Some(Status::NotImplemented),
        ),
        (
            "x".repeat(65) + " / HTTP/1.1\r\n",
            Some(Status::NotImplemented),
        ),
        ("x".repeat(9_000), Some(Status::NotImplemented)),
        // What doesn't begin with a method isn't a request for anything.
        ("\x16\x03".repeat(40), Some(Status::BadRequest)),
        ("(".repeat(70) + " / HTTP/1.1\r\n", Some(Status::BadRequest)),
        (" ".repeat(70), Some(Status::BadRequest)),
        (fields(4), None),
        (fields(5), Some(Status::HeaderFieldsTooLarge)),
    ] {
        for step in 1..=text.len().min(300) {
            let found = parse_in(text.as_bytes(), step, &limits).err();
            assert_eq!(found, expected, "{} bytes by {step}", text.len());
        }
    }
}

#[test]
fn a_request_line_is_part_of_the_head() {
    let limits = Limits {
        head_bytes_max: Bounded::clamped(256),
        ..Limits::default()
    };
    let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300));
    for step in [1, 7, 1_000] {
        let found = parse_in(text.as_bytes(), step, &limits).err();
        assert_eq!(found, Some(Status::UriTooLong));
    }
}

#[test]
fn blank_lines_before_a_request_are_skipped() {
    assert!(parse("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    let many = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(5));
    assert_eq!(parse(&many).err(), Some(Status::BadRequest));
    assert_eq!(
        parse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").err(),
        Some(Status::BadRequest)
    );
}

#[test]
fn memory_is_given_back() {
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x".repeat(4_000),
        "If-None-Match: \"\"\r\n".repeat(90)
    );
    let mut request = parse(&long).unwrap();
    request.clear();
    assert!(request.path.capacity() <= PATH_KEPT_BYTES);
    assert!(request.fields.capacity() <= FIELDS_KEPT);
    assert_eq!((request.path(), request.host()), (&b""[..], &b""[..]));
    assert_eq!(request.query(), None);
}

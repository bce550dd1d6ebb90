use std::path::Path;

use super::*;
use crate::date::HttpDate;
use crate::validators::{EntityTag, Validators};

const NOW: u64 = 784_111_777;

fn context(method: Method, version: Version, keep_alive: bool) -> HeadContext {
    HeadContext {
        method,
        version,
        keep_alive,
        date: HttpDate::from_unix(NOW),
        now: NOW,
    }
}

fn entity(modified: i64) -> Entity {
    let validators = Validators::new(EntityTag::strong(b"ab-4d2").unwrap(), modified);
    Entity::new(1_234, validators, ContentType::of(Path::new("a.html")))
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(HEAD_BYTES);
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_whole_object() {
    let get = context(Method::Get, Version::Http11, true);
    let mut range = 0..0;
    let head = text(|out| range = object(out, &get, &entity(0), Selection::Whole));
    assert_eq!(range, 0..1_234);
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\n\
         Server: lockgate\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: 1234\r\n\
         ETag: \"ab-4d2\"\r\n\
         Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Accept-Ranges: bytes\r\n\r\n"
    );
    let asked = context(Method::Head, Version::Http11, true);
    let same = text(|out| range = object(out, &asked, &entity(0), Selection::Whole));
    assert_eq!((same, range), (head, 0..0));
}

#[test]
fn a_weak_tag_says_so() {
    let cx = context(Method::Get, Version::Http11, true);
    let validators = Validators::new(EntityTag::weak(b"x").unwrap(), 0);
    let entity = Entity::new(1, validators, ContentType::UNKNOWN);
    let head = text(|out| assert_eq!(object(out, &cx, &entity, Selection::Whole), 0..1));
    assert!(head.contains("\r\nETag: W/\"x\"\r\n"), "{head}");
}

#[test]
fn a_part() {
    let cx = context(Method::Get, Version::Http10, true);
    let mut range = 0..0;
    let part = Selection::Part {
        first: 10,
        last: 19,
    };
    let head = text(|out| range = object(out, &cx, &entity(0), part));
    assert_eq!(range, 10..20);
    assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"));
    assert!(head.contains("\r\nContent-Length: 10\r\nContent-Range: bytes 10-19/1234\r\n"));
    assert!(head.contains("\r\nConnection: keep-alive\r\n"));
}

#[test]
fn nothing_of_it() {
    let cx = context(Method::Get, Version::Http11, false);
    let write = |selection| text(|out| assert_eq!(object(out, &cx, &entity(0), selection), 0..0));
    assert_eq!(
        write(Selection::NotModified),
        "HTTP/1.1 304 Not Modified\r\n\
         Server: lockgate\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Connection: close\r\n\
         ETag: \"ab-4d2\"\r\n\
         Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
    );
    let unsatisfiable = write(Selection::RangeNotSatisfiable);
    assert!(unsatisfiable.starts_with("HTTP/1.1 416 Range Not Satisfiable\r\n"));
    assert!(unsatisfiable.contains("\r\nContent-Range: bytes */1234\r\n"));
    assert!(write(Selection::PreconditionFailed).starts_with("HTTP/1.1 412 Precondition Failed"));
}

#[test]
fn a_modification_in_the_future_is_now() {
    let cx = context(Method::Get, Version::Http11, true);
    let future = entity(i64::try_from(NOW).unwrap() + 9);
    let head = text(|out| {
        object(out, &cx, &future, Selection::Whole);
    });
    assert!(
        head.contains("\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        "{head}"
    );
}

#[test]
fn every_error_page_has_its_own_length_and_fits() {
    for status in Status::ALL {
        for method in [Method::Get, Method::Head] {
            let cx = context(method, Version::Http11, false);
            let response = text(|out| error(out, &cx, status));
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {}\r\n", status.line())));
            let length = head.split_once("Content-Length: ").unwrap().1;
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if method == Method::Head {
                assert_eq!(body, "");
            } else {
                assert_eq!(body.len(), length);
                assert!(body.contains(&format!("<h1>{}</h1>", status.line())));
            }
            assert!(response.len() <= HEAD_BYTES, "{}", response.len());
            assert_eq!(
                head.contains("Allow: GET, HEAD"),
                status == Status::MethodNotAllowed
            );
        }
    }
}

#[test]
fn redirects_are_encoded() {
    let cx = context(Method::Get, Version::Http11, true);
    let response = text(|out| {
        redirect_to_directory(out, &cx, b"a b/\r\nX: y\xff", None);
    });
    assert!(
        response.contains("\r\nLocation: /a%20b/%0D%0AX%3A%20y%FF/\r\n"),
        "{response}"
    );
}

#[test]
fn redirects_keep_the_query() {
    let cx = context(Method::Get, Version::Http11, true);
    for (query, location) in [(&b"a=b&c=%20?/"[..], "/dir/?a=b&c=%20?/"), (b"", "/dir/?")] {
        let response = text(|out| redirect_to_directory(out, &cx, b"dir", Some(query)));
        let line = format!("\r\nLocation: {location}\r\n");
        assert!(response.contains(&line), "{response}");
    }
}

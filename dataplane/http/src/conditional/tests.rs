use super::*;
use crate::entity::ContentType;
use crate::head::Collected;
use crate::limits::Limits;

const MODIFIED: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn strong() -> Validators {
    Validators::new(EntityTag::strong(b"7-3e8").unwrap(), 784_111_777).with_strong_date()
}

fn weak() -> Validators {
    Validators::new(EntityTag::weak(b"7-3e8").unwrap(), 784_111_777)
}

fn select(method: &str, lines: &str, len: u64) -> Selection {
    select_of(strong(), method, lines, len)
}

fn select_of(validators: Validators, method: &str, lines: &str, len: u64) -> Selection {
    let entity = Entity::new(len, validators, ContentType::UNKNOWN);
    let lines = lines
        .replace("TAG", "\"7-3e8\"")
        .replace("DATE", DATE)
        .replace("EARLIER", EARLIER)
        .replace("LATER", LATER);
    let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut request = Request::new();
    let limits = Limits::default();
    assert_eq!(
        request.head.push(text.as_bytes(), &limits, usize::MAX).1,
        Collected::Complete
    );
    request.parse(&limits).unwrap();
    Selection::of(&request, &entity, MODIFIED + 100)
}

#[test]
fn preconditions() {
    use Selection::{NotModified, PreconditionFailed, Whole};
    for (lines, expected) in [
        ("", Whole),
        ("If-None-Match: TAG\r\n", NotModified),
        ("If-None-Match: W/TAG\r\n", NotModified),
        ("If-None-Match: *\r\n", NotModified),
        ("If-None-Match: \"x\"\r\n", Whole),
        ("If-None-Match: \"x\", \"a,b\" ,, W/TAG\r\n", NotModified),
        (
            "If-None-Match: \"x\"\r\nIf-None-Match: TAG\r\n",
            NotModified,
        ),
        ("If-None-Match: \"x, TAG\r\n", Whole),
        ("If-None-Match: x, TAG\r\n", Whole),
        ("If-None-Match:\r\n", Whole),
        ("If-Modified-Since: DATE\r\n", NotModified),
        ("If-Modified-Since: LATER\r\n", NotModified),
        ("If-Modified-Since: EARLIER\r\n", Whole),
        ("If-Modified-Since: yesterday\r\n", Whole),
        (
            "If-Modified-Since: DATE\r\nIf-Modified-Since: DATE\r\n",
            Whole,
        ),
        // The tag counts, the date doesn't.
        ("If-None-Match: \"x\"\r\nIf-Modified-Since: DATE\r\n", Whole),
        (
            "If-None-Match: TAG\r\nIf-Modified-Since: EARLIER\r\n",
            NotModified,
        ),
        ("If-Match: TAG\r\n", Whole),
        ("If-Match: *\r\n", Whole),
        ("If-Match: \"x\", TAG\r\n", Whole),
        ("If-Match: W/TAG\r\n", PreconditionFailed),
        ("If-Match: \"x\"\r\n", PreconditionFailed),
        ("If-Match:\r\n", PreconditionFailed),
        ("If-Unmodified-Since: DATE\r\n", Whole),
        ("If-Unmodified-Since: EARLIER\r\n", PreconditionFailed),
        ("If-Unmodified-Since: yesterday\r\n", Whole),
        ("If-Match: TAG\r\nIf-Unmodified-Since: EARLIER\r\n", Whole),
        ("If-Match: TAG\r\nIf-None-Match: TAG\r\n", NotModified),
        (
            "If-Match: \"x\"\r\nIf-None-Match: TAG\r\n",
            PreconditionFailed,
        ),
    ] {
        assert_eq!(select("GET", lines, 1_000), expected, "{lines}");
        assert_eq!(select("HEAD", lines, 1_000), expected, "HEAD {lines}");
    }
}

#[test]
fn ranges() {
    use Selection::{Part, RangeNotSatisfiable, Whole};
    for (range, expected) in [
        ("bytes=0-0", Part { first: 0, last: 0 }),
        (
            "bytes=0-",
            Part {
                first: 0,
                last: 999,
            },
        ),
        (
            "bytes=10-19",
            Part {
                first: 10,
                last: 19,
            },
        ),
        (
            "BYTES= 10-19 ",
            Part {
                first: 10,
                last: 19,
            },
        ),
        (
            "bytes=10-19,",
            Part {
                first: 10,
                last: 19,
            },
        ),
        (
            "bytes=999-5000",
            Part {
                first: 999,
                last: 999,
            },
        ),
        (
            "bytes=0-99999999999999999999999",
            Part {
                first: 0,
                last: 999,
            },
        ),
        (
            "bytes=-1",
            Part {
                first: 999,
                last: 999,
            },
        ),
        (
            "bytes=-1000",
            Part {
                first: 0,
                last: 999,
            },
        ),
        (
            "bytes=-99999999999999999999999",
            Part {
                first: 0,
                last: 999,
            },
        ),
        ("bytes=1000-", RangeNotSatisfiable),
        ("bytes=1000-2000", RangeNotSatisfiable),
        ("bytes=99999999999999999999999-", RangeNotSatisfiable),
        ("bytes=-0", RangeNotSatisfiable),
        ("bytes=5-4", Whole),
        ("bytes=0-1,3-4", Whole),
        ("bytes=", Whole),
        ("bytes=-", Whole),
        ("bytes=a-", Whole),
        ("bytes=1-x", Whole),
        ("bytes=+1-2", Whole),
        ("bytes=1 - 2", Whole),
        ("bytes", Whole),
        ("lines=1-2", Whole),
        ("", Whole),
    ] {
        assert_eq!(
            select("GET", &format!("Range: {range}\r\n"), 1_000),
            expected,
            "{range}"
        );
        assert_eq!(
            select("HEAD", &format!("Range: {range}\r\n"), 1_000),
            Whole,
            "{range}"
        );
    }
    assert_eq!(
        select("GET", "Range: bytes=0-1\r\nRange: bytes=0-1\r\n", 1_000),
        Whole
    );
}

#[test]
fn ranges_of_nothing() {
    use Selection::{RangeNotSatisfiable, Whole};
    for (range, expected) in [
        ("bytes=0-", Whole),
        ("bytes=0-0", Whole),
        ("bytes=0-99", Whole),
        ("bytes=-5", Whole),
        ("bytes=1-", RangeNotSatisfiable),
        ("bytes=1-5", RangeNotSatisfiable),
        ("bytes=-0", RangeNotSatisfiable),
    ] {
        let line = format!("Range: {range}\r\n");
        assert_eq!(select("GET", &line, 0), expected, "{range}");
        assert_eq!(select("HEAD", &line, 0), Whole, "HEAD {range}");
    }
}

#[test]
fn ranges_on_condition() {
    use Selection::{NotModified, Part, PreconditionFailed, Whole};
    let part = Part { first: 0, last: 1 };
    for (lines, expected) in [
        ("If-Range: TAG\r\n", part),
        ("If-Range: W/TAG\r\n", Whole),
        ("If-Range: \"x\"\r\n", Whole),
        ("If-Range: DATE\r\n", part),
        ("If-Range: LATER\r\n", Whole),
        ("If-Range: EARLIER\r\n", Whole),
        ("If-Range: yesterday\r\n", Whole),
        ("If-Range: TAG\r\nIf-Range: TAG\r\n", Whole),
        ("If-None-Match: TAG\r\n", NotModified),
        ("If-Match: \"x\"\r\n", PreconditionFailed),
    ] {
        let lines = format!("Range: bytes=0-1\r\n{lines}");
        assert_eq!(select("GET", &lines, 1_000), expected, "{lines}");
    }
}

#[test]
fn a_date_is_no_strong_validator_within_its_second() {
    assert!(is_current(DATE.as_bytes(), &strong(), MODIFIED + 1));
    assert!(!is_current(DATE.as_bytes(), &strong(), MODIFIED));
}

/// What is served under a weak tag may change without a new one: it answers If-None-Match, and
/// nothing that would join bytes or overwrite them.
#[test]
fn weak_validators() {
    use Selection::{NotModified, Part, PreconditionFailed, Whole};
    let range = "Range: bytes=0-1\r\n";
    for (lines, expected) in [
        ("If-None-Match: TAG\r\n".to_owned(), NotModified),
        ("If-None-Match: W/TAG\r\n".to_owned(), NotModified),
        ("If-None-Match: \"x\"\r\n".to_owned(), Whole),
        ("If-Modified-Since: DATE\r\n".to_owned(), NotModified),
        ("If-Match: TAG\r\n".to_owned(), PreconditionFailed),
        ("If-Match: W/TAG\r\n".to_owned(), PreconditionFailed),
        ("If-Match: *\r\n".to_owned(), Whole),
        ("If-Unmodified-Since: DATE\r\n".to_owned(), Whole),
        (range.to_owned(), Part { first: 0, last: 1 }),
        (format!("{range}If-Range: TAG\r\n"), Whole),
        (format!("{range}If-Range: W/TAG\r\n"), Whole),
        (format!("{range}If-Range: DATE\r\n"), Whole),
    ] {
        assert_eq!(select_of(weak(), "GET", &lines, 1_000), expected, "{lines}");
    }
}

//! Parses request targets, and decodes their paths.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The authority of an absolute form: it replaces the Host header.
    pub(crate) authority: Option<&'a [u8]>,
    /// The path, still percent-encoded.
    pub(crate) path: &'a [u8],
    /// The query, as it was written, without its `?`.
    pub(crate) query: Option<&'a [u8]>,
}

/// A malformed target, or one with a path that leads out of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidTarget;

impl<'a> Target<'a> {
    /// Parses the origin form and the absolute form of `http` and `https` (RFC 9112, section 3.2).
    /// The authority form and the asterisk form belong to methods that aren't served.
    pub(crate) fn parse(target: &'a [u8]) -> Result<Self, InvalidTarget> {
        if target.iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(InvalidTarget);
        }
        if target.first() == Some(&b'/') {
            let (path, query) = split_query(target);
            return Ok(Self {
                authority: None,
                path,
                query,
            });
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
        //# a server MUST accept the absolute-form in requests
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| strip_prefix_ignoring_case(target, scheme.as_bytes()))
            .ok_or(InvalidTarget)?;
        let end = rest
            .iter()
            .position(|b| matches!(b, b'/' | b'?'))
            .unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = split_query(rest);
        let path = if path.is_empty() { b"/" } else { path };
        Ok(Self {
            authority: Some(authority),
            path,
            query,
        })
    }
}

/// Decodes a path, once, into the relative name of a file: segments joined by `/`, without a
/// leading one, empty segments and `.` dropped. Says whether it names a directory (it ends in `/`).
///
/// A `..` segment is refused in any spelling, as are an encoded slash and control characters: the
/// result can't name anything above the root, and has one meaning only.
pub(crate) fn decode_path(path: &[u8], out: &mut Vec<u8>) -> Result<bool, InvalidTarget> {
    out.clear();
    let mut directory = true;
    for raw in path.split(|b| *b == b'/') {
        let start = out.len();
        if start > 0 {
            out.push(b'/');
        }
        let begin = out.len();
        decode_segment(raw, out)?;
        match out.get(begin..) {
            Some(b"..") => return Err(InvalidTarget),
            Some(b"" | b".") | None => {
                out.truncate(start);
                directory = true;
            }
            Some(_) => directory = false,
        }
    }
    Ok(directory)
}

/// Appends a decoded path, encoded again, for a Location header: a `/` first, and no second one, so
/// that it can't be read as the name of another host.
pub(crate) fn encode_path(path: &[u8], out: &mut Vec<u8>) {
    out.push(b'/');
    for piece in percent_encode(path, ESCAPED) {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn decode_segment(raw: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidTarget> {
    let mut rest = raw.iter();
    while let Some(&byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let (high, low) = (hex(rest.next())?, hex(rest.next())?);
                high << 4 | low
            }
            plain => plain,
        };
        if byte == b'/' || byte.is_ascii_control() {
            return Err(InvalidTarget);
        }
        out.push(byte);
    }
    Ok(())
}

fn hex(digit: Option<&u8>) -> Result<u8, InvalidTarget> {
    match digit {
        Some(d @ b'0'..=b'9') => Ok(d - b'0'),
        Some(d @ b'a'..=b'f') => Ok(d - b'a' + 10),
        Some(d @ b'A'..=b'F') => Ok(d - b'A' + 10),
        Some(_) | None => Err(InvalidTarget),
    }
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|b| *b == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

fn strip_prefix_ignoring_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Everything but the unreserved characters of RFC 3986 and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(path: &str) -> Result<(String, bool), InvalidTarget> {
        let mut out = b"left over".to_vec();
        let directory = decode_path(path.as_bytes(), &mut out)?;
        Ok((String::from_utf8_lossy(&out).into_owned(), directory))
    }

    #[test]
    fn forms() {
        for (text, authority, path) in [
            ("/", None, "/"),
            ("/a/b?c=/d", None, "/a/b"),
            ("//a//", None, "//a//"),
            ("http://host/x", Some("host"), "/x"),
            ("HTTPS://host:8443?q", Some("host:8443"), "/"),
            ("http://host", Some("host"), "/"),
            ("http://", Some(""), "/"),
        ] {
            let target = Target::parse(text.as_bytes()).unwrap();
            assert_eq!(
                target.authority.map(|a| str::from_utf8(a).unwrap()),
                authority,
                "{text}"
            );
            assert_eq!(str::from_utf8(target.path).unwrap(), path, "{text}");
        }
        for bad in [
            "",
            "*",
            "host:443",
            "ftp://host/",
            "a/b",
            "/a#b",
            "/\u{e4}",
            "/a b",
            "/\0",
        ] {
            assert_eq!(Target::parse(bad.as_bytes()), Err(InvalidTarget), "{bad}");
        }
    }

    #[test]
    fn paths_that_name_something() {
        for (path, name, directory) in [
            ("/", "", true),
            ("", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b.txt", "a/b.txt", false),
            ("//a///b", "a/b", false),
            ("/./a/./b/.", "a/b", true),
            ("/a%20b", "a b", false),
            ("/%41%62", "Ab", false),
            ("/%252e%252e/x", "%2e%2e/x", false),
            ("/...", "...", false),
            ("/..a/b..", "..a/b..", false),
            ("/a\\..\\b", "a\\..\\b", false),
        ] {
            let (found, is_directory) = decoded(path).unwrap();
            assert_eq!((found.as_str(), is_directory), (name, directory), "{path}");
        }
    }

    #[test]
    fn paths_that_are_refused() {
        for path in [
            "/..",
            "/../x",
            "/a/../b",
            "/a/..",
            "/%2e%2e/x",
            "/.%2E/x",
            "/%2e./x",
            "/a%2fb",
            "/a%2Fb",
            "/..%2f",
            "/%00",
            "/a%0ab",
            "/%7f",
            "/%",
            "/%4",
            "/%4g",
            "/%zz",
            "/a%",
        ] {
            assert_eq!(decoded(path), Err(InvalidTarget), "{path}");
        }
    }

    #[test]
    fn a_location_stays_on_this_host() {
        let mut out = Vec::new();
        let mut name = Vec::new();
        decode_path(b"//evil.example/%41 \xff?", &mut name).unwrap();
        encode_path(&name, &mut out);
        assert_eq!(out, b"/evil.example/A%20%FF%3F");
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn no_path_leaves_the_root(path in "[/.%a-f0-9]{0,40}") {
            let mut out = Vec::new();
            if decode_path(path.as_bytes(), &mut out).is_ok() {
                for segment in out.split(|b| *b == b'/').filter(|_| !out.is_empty()) {
                    prop_assert!(!segment.is_empty() && segment != b"." && segment != b"..");
                }
            }
        }

        #[test]
        fn encoding_is_undone_by_decoding(name in "[^/\\x00-\\x1f\\x7f]{1,20}") {
            prop_assume!(name != "." && name != "..");
            let (mut encoded, mut out) = (Vec::new(), Vec::new());
            encode_path(name.as_bytes(), &mut encoded);
            prop_assert!(Target::parse(&encoded).is_ok());
            prop_assert_eq!(decode_path(&encoded, &mut out), Ok(false));
            prop_assert_eq!(out, name.as_bytes());
        }
    }
}

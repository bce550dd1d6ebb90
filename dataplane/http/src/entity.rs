//! What HTTP has to know about an object before it answers with it.

use std::io::Write as _;
use std::path::Path;

use crate::date::HttpDate;

/// The metadata of one version of an object, made once when it is opened and written into every
/// response's head as it stands.
#[derive(Clone, Debug)]
pub struct Entity {
    len: u64,
    modified: u64,
    last_modified: HttpDate,
    etag: ETag,
    content_type: ContentType,
}

impl Entity {
    /// An object of `len` bytes, of which nothing else is known than what identifies its version:
    /// when it was modified (seconds and nanoseconds since the epoch) and its inode's number.
    pub fn new(len: u64, modified: (i64, u32), inode: u64, content_type: ContentType) -> Self {
        let seconds = u64::try_from(modified.0).unwrap_or(0);
        Self {
            len,
            modified: seconds,
            last_modified: HttpDate::from_unix(seconds),
            etag: ETag::new(len, modified, inode),
            content_type,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When it was last modified, in seconds since the Unix epoch.
    pub fn modified(&self) -> u64 {
        self.modified
    }

    /// The same as a date.
    pub fn last_modified(&self) -> &HttpDate {
        &self.last_modified
    }

    /// Its strong validator.
    pub fn etag(&self) -> &ETag {
        &self.etag
    }

    /// Its media type.
    pub fn content_type(&self) -> ContentType {
        self.content_type
    }
}

/// A strong entity tag, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag {
    bytes: [u8; 64],
    len: u8,
}

impl ETag {
    /// The tag of a version: inode, size and time of modification, each in hexadecimal.
    fn new(len: u64, modified: (i64, u32), inode: u64) -> Self {
        let mut bytes = [0; 64];
        let room = bytes.len();
        let mut rest = &mut bytes[..];
        // Longest: two quotes, two dashes, 16 + 16 + 16 + 8 digits, a point: 61 bytes.
        let (seconds, nanos) = modified;
        let written = write!(rest, "\"{inode:x}-{len:x}-{seconds:x}.{nanos:x}\"");
        debug_assert!(
            written.is_ok(),
            "an entity tag has room for its longest text"
        );
        let len = u8::try_from(room - rest.len()).unwrap_or(0);
        Self { bytes, len }
    }

    /// The text, quotes included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A media type, with `charset=utf-8` for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType {
    name: &'static str,
    text: bool,
}

impl ContentType {
    /// Bytes of unknown meaning.
    pub const UNKNOWN: Self = Self {
        name: "application/octet-stream",
        text: false,
    };
    /// The pages that this server writes itself.
    pub const HTML: Self = Self {
        name: "text/html",
        text: true,
    };

    /// The type that a file's extension stands for.
    pub fn of(path: &Path) -> Self {
        match mime_guess::from_path(path).first_raw() {
            Some(name) => Self {
                name,
                text: is_text(name),
            },
            None => Self::UNKNOWN,
        }
    }

    /// The type's name, without parameters.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The parameters that follow the name.
    pub fn parameters(self) -> &'static str {
        if self.text { "; charset=utf-8" } else { "" }
    }
}

/// Types that are text in the sense that a client has to be told their encoding.
fn is_text(name: &str) -> bool {
    name.starts_with("text/") || matches!(name, "application/javascript" | "application/x-sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tag_fits() {
        let tag = ETag::new(u64::MAX, (i64::MIN, u32::MAX), u64::MAX);
        let text = "\"ffffffffffffffff-ffffffffffffffff-8000000000000000.ffffffff\"";
        assert_eq!(tag.as_bytes(), text.as_bytes());
    }

    #[test]
    fn tags_differ_with_each_part() {
        let base = ETag::new(1, (2, 3), 4);
        assert_eq!(base.as_bytes(), b"\"4-1-2.3\"");
        for other in [
            ETag::new(2, (2, 3), 4),
            ETag::new(1, (3, 3), 4),
            ETag::new(1, (2, 4), 4),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(base, ETag::new(1, (2, 3), 5));
    }

    #[test]
    fn types_by_extension() {
        for (path, name, parameters) in [
            ("a/index.html", "text/html", "; charset=utf-8"),
            ("x.CSS", "text/css", "; charset=utf-8"),
            ("x.js", "text/javascript", "; charset=utf-8"),
            ("x.png", "image/png", ""),
            ("x.json", "application/json", ""),
            ("x.nothing-known", "application/octet-stream", ""),
            ("Makefile", "application/octet-stream", ""),
        ] {
            let found = ContentType::of(Path::new(path));
            assert_eq!(
                (found.name(), found.parameters()),
                (name, parameters),
                "{path}"
            );
        }
    }

    #[test]
    fn times_before_the_epoch_are_the_epoch() {
        let entity = Entity::new(5, (-7, 0), 1, ContentType::UNKNOWN);
        assert_eq!(entity.modified(), 0);
        assert_eq!(
            entity.last_modified().as_bytes(),
            b"Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }
}

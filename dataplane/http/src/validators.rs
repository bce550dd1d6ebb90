//! Validators: what tells one version of a representation from another (RFC 9110, section 8.8).

use crate::date::HttpDate;

/// The validators of one version of a representation: its entity tag and its modification date.
///
/// The source of a representation makes them when it opens or loads one, because only the source
/// knows how reliably it notices a change. This crate compares them with a request's conditions
/// ([`crate::Selection`]) and prints them into responses' heads.
///
/// # What a source promises
///
/// - A *strong* tag changes whenever the representation's bytes do. A client may join bytes that it
///   got under equal strong tags (RFC 9110, section 8.8.1), so a source that can't be sure gives a
///   weak one.
/// - A *strong* date is one in whose second the representation didn't change twice (RFC 9110,
///   section 8.8.2.2). A date is weak unless the source says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators {
    tag: EntityTag,
    modified: u64,
    last_modified: HttpDate,
    has_strong_date: bool,
}

impl Validators {
    /// The validators of a representation that was last modified `modified` seconds after the Unix
    /// epoch, with a weak date. A time before the epoch becomes the epoch.
    pub fn new(tag: EntityTag, modified: i64) -> Self {
        let modified = u64::try_from(modified).unwrap_or(0);
        Self {
            tag,
            modified,
            last_modified: HttpDate::from_unix(modified),
            has_strong_date: false,
        }
    }

    /// The same with a strong date: the representation didn't change twice in that second, and
    /// another representation doesn't get the same date.
    pub fn with_strong_date(self) -> Self {
        Self {
            has_strong_date: true,
            ..self
        }
    }

    /// The entity tag.
    pub fn tag(&self) -> &EntityTag {
        &self.tag
    }

    /// The time of the last modification, in seconds since the Unix epoch.
    pub fn modified(&self) -> u64 {
        self.modified
    }

    /// The time of the last modification as a date.
    pub fn last_modified(&self) -> &HttpDate {
        &self.last_modified
    }

    /// Whether the date is a strong validator at `now`, in seconds since the Unix epoch.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.2
    //# A Last-Modified time, when used as a validator in a request, is implicitly weak unless it is
    //# possible to deduce that it is strong, using the following rules: [...] That origin server
    //# reliably knows that the associated representation did not change twice during the second
    //# covered by the presented validator
    pub fn is_date_strong(&self, now: u64) -> bool {
        self.has_strong_date && self.modified < now
    }
}

/// An entity tag (RFC 9110, section 8.8.3): an opaque text, strong or weak. Kept without memory of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag {
    is_weak: bool,
    len: u8,
    opaque: [u8; Self::OPAQUE_BYTES_MAX],
}

impl EntityTag {
    /// The longest opaque text, in bytes, without its quotes.
    pub const OPAQUE_BYTES_MAX: usize = 96;

    /// A strong tag: it changes whenever a byte of the representation does. `None` if `opaque` is
    /// longer than [`EntityTag::OPAQUE_BYTES_MAX`] or has a byte that a tag can't contain.
    pub fn strong(opaque: &[u8]) -> Option<Self> {
        Self::new(false, opaque)
    }

    /// A weak tag: it may stay while bytes change. `None` as in [`EntityTag::strong`].
    pub fn weak(opaque: &[u8]) -> Option<Self> {
        Self::new(true, opaque)
    }

    /// Whether the tag is weak.
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// The opaque text, without quotes and without the `W/` of a weak tag.
    pub fn opaque(&self) -> &[u8] {
        &self.opaque[..usize::from(self.len)]
    }

    /// Appends the tag as it stands in a field: `"opaque"` or `W/"opaque"`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.is_weak { b"W/\"" } else { b"\"" });
        out.extend_from_slice(self.opaque());
        out.push(b'"');
    }

    fn new(is_weak: bool, opaque: &[u8]) -> Option<Self> {
        if !opaque.iter().all(|b| is_tag_byte(*b)) {
            return None;
        }
        let mut bytes = [0; Self::OPAQUE_BYTES_MAX];
        bytes.get_mut(..opaque.len())?.copy_from_slice(opaque);
        Some(Self {
            is_weak,
            len: u8::try_from(opaque.len()).ok()?,
            opaque: bytes,
        })
    }
}

/// How entity tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Equal if neither is weak and their texts are the same.
    Strong,
    /// Equal if their texts are the same.
    Weak,
}

/// An entity tag of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedTag<'a> {
    is_weak: bool,
    opaque: &'a [u8],
}

impl<'a> ReceivedTag<'a> {
    /// Parses a field's value that is one tag and nothing else.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::parse_front(value)?;
        rest.is_empty().then_some(tag)
    }

    /// Parses the tags of a list, up to the first member that isn't one. A tag may contain commas.
    pub(crate) fn parse_list(mut rest: &'a [u8]) -> impl Iterator<Item = Self> {
        core::iter::from_fn(move || {
            let start = rest
                .iter()
                .position(|b| !matches!(b, b' ' | b'\t' | b','))?;
            let (tag, behind) = Self::parse_front(&rest[start..])?;
            rest = behind;
            Some(tag)
        })
    }

    /// Returns whether this is the tag of the current representation.
    pub(crate) fn matches(&self, current: &EntityTag, comparison: Comparison) -> bool {
        let both_strong = !self.is_weak && !current.is_weak();
        self.opaque == current.opaque() && (comparison == Comparison::Weak || both_strong)
    }

    fn parse_front(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_weak, quoted) = match value.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let text = quoted.strip_prefix(b"\"")?;
        let end = text.iter().position(|b| *b == b'"')?;
        let opaque = &text[..end];
        let tag = Self { is_weak, opaque };
        opaque
            .iter()
            .all(|b| is_tag_byte(*b))
            .then_some((tag, &text[end + 1..]))
    }
}

/// `etagc` of RFC 9110, section 8.8.3: visible characters but the quote, and all bytes above ASCII.
fn is_tag_byte(b: u8) -> bool {
    (b.is_ascii_graphic() && b != b'"') || !b.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tag: &EntityTag) -> String {
        let mut out = Vec::new();
        tag.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tags_are_printed_with_their_strength() {
        let strong = EntityTag::strong(b"a-1.b").unwrap();
        let weak = EntityTag::weak(b"a-1.b").unwrap();
        assert_eq!(
            (text(&strong).as_str(), strong.is_weak()),
            ("\"a-1.b\"", false)
        );
        assert_eq!(
            (text(&weak).as_str(), weak.is_weak()),
            ("W/\"a-1.b\"", true)
        );
        assert_eq!(strong.opaque(), weak.opaque());
        assert_ne!(strong, weak);
        assert_eq!(text(&EntityTag::strong(b"").unwrap()), "\"\"");
    }

    #[test]
    fn a_tag_has_a_longest_text_and_allowed_bytes() {
        let longest = [b'f'; EntityTag::OPAQUE_BYTES_MAX];
        assert_eq!(EntityTag::strong(&longest).unwrap().opaque(), longest);
        assert_eq!(
            EntityTag::strong(&[b'f'; EntityTag::OPAQUE_BYTES_MAX + 1]),
            None
        );
        for bad in [&b"a\"b"[..], b"a b", b"\r\n", b"\0", b"\x7f"] {
            assert_eq!(EntityTag::weak(bad), None, "{bad:?}");
        }
        assert!(EntityTag::weak(b"!#~\x80\xff").is_some());
    }

    /// The table of RFC 9110, section 8.8.3.2.
    #[test]
    fn comparison() {
        for (received, current, strong, weak) in [
            (&b"W/\"1\""[..], EntityTag::weak(b"1"), false, true),
            (b"W/\"1\"", EntityTag::weak(b"2"), false, false),
            (b"W/\"1\"", EntityTag::strong(b"1"), false, true),
            (b"\"1\"", EntityTag::weak(b"1"), false, true),
            (b"\"1\"", EntityTag::strong(b"1"), true, true),
            (b"\"1\"", EntityTag::strong(b"11"), false, false),
        ] {
            let (received, current) = (ReceivedTag::parse(received).unwrap(), current.unwrap());
            assert_eq!(received.matches(&current, Comparison::Strong), strong);
            assert_eq!(received.matches(&current, Comparison::Weak), weak);
        }
    }

    #[test]
    fn one_tag_and_nothing_else() {
        for bad in [
            &b""[..],
            b"x",
            b"\"",
            b"\"x",
            b"x\"",
            b"\"x\" ",
            b"\"x\", \"y\"",
            b"w/\"x\"",
            b"W/ \"x\"",
            b"W/",
            b"*",
            b"\"a b\"",
        ] {
            assert_eq!(ReceivedTag::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_end_at_the_first_fault() {
        let list = |value: &'static [u8]| -> Vec<(bool, &[u8])> {
            ReceivedTag::parse_list(value)
                .map(|tag| (tag.is_weak, tag.opaque))
                .collect()
        };
        assert_eq!(
            list(b"\"a\", W/\"b,c\" ,,\t\"\""),
            [(false, &b"a"[..]), (true, b"b,c"), (false, b"")]
        );
        assert_eq!(list(b"\"a\", x, \"b\""), [(false, &b"a"[..])]);
        assert_eq!(list(b"\"a\", \"b c\", \"d\""), [(false, &b"a"[..])]);
        assert_eq!(list(b" , "), []);
    }

    #[test]
    fn dates_are_weak_unless_the_source_vouches_and_their_second_is_over() {
        let tag = EntityTag::strong(b"x").unwrap();
        let weak = Validators::new(tag, 1_000);
        assert!(!weak.is_date_strong(2_000));
        let strong = weak.with_strong_date();
        assert!(!strong.is_date_strong(999) && !strong.is_date_strong(1_000));
        assert!(strong.is_date_strong(1_001));
    }

    #[test]
    fn times_before_the_epoch_are_the_epoch() {
        let validators = Validators::new(EntityTag::strong(b"x").unwrap(), -7);
        assert_eq!(validators.modified(), 0);
        assert_eq!(
            validators.last_modified().as_bytes(),
            b"Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }
}

//! Pieces of grammar that several fields share (RFC 9110, section 5.6).

/// Returns whether a byte is a `tchar` (RFC 9110, section 5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Returns whether `text` is a `token`: at least one `tchar` and nothing else.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token_byte(*b))
}

/// Returns whether a byte may stand in a field's value: anything but control characters, and a tab.
pub(crate) fn is_field_byte(b: u8) -> bool {
    b == b'\t' || !b.is_ascii_control()
}

/// The members of a comma-separated list, empty ones left out (RFC 9110, section 5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

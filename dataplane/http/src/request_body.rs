//! Finds the end of a request's body, which is discarded.

use crate::grammar::{is_field_byte, is_token_byte};
use crate::limits::Limits;
use crate::status::Status;

/// How a request's body is delimited (RFC 9112, section 6.3), and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    /// Nothing is left.
    None,
    /// So many bytes are left.
    Length(u64),
    /// Chunks. `read` bytes of framing and data were read.
    Chunked { state: ChunkState, read: u64 },
}

/// Where in the chunked coding of RFC 9112, section 7.1, the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// In the size; so many digits were read.
    Size { size: u64, digits: u8 },
    /// In the extensions, which are checked and ignored.
    Extension { size: u64, state: ExtensionState },
    /// At the LF of the size's line.
    SizeEnd { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// At the CR behind the data.
    DataCr,
    /// At the LF behind that.
    DataLf,
    /// At the beginning of a trailer field, or of the empty line that ends the body.
    TrailerStart,
    /// In a trailer field's name.
    TrailerName,
    /// In a trailer field's value, which is ignored.
    TrailerValue,
    /// At the LF of a trailer field.
    TrailerEnd,
    /// At the last LF.
    End,
}

/// Where in the extensions of a chunk (RFC 9112, section 7.1.1) the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtensionState {
    /// In the space in front of a semicolon.
    BeforeSemicolon,
    /// Behind a semicolon, or in the space behind it.
    BeforeName,
    /// In a name.
    Name,
    /// In the space between a name and its equals sign or the next semicolon.
    AfterName,
    /// Behind an equals sign, or in the space behind it.
    BeforeValue,
    /// In a value that is a token.
    Token,
    /// In a value that is a quoted string.
    Quoted,
    /// Behind a backslash of a quoted string.
    Escaped,
    /// Behind the quote that ends a quoted string.
    AfterQuoted,
}

impl RequestBody {
    pub(crate) fn of_length(length: u64) -> Self {
        if length == 0 {
            Self::None
        } else {
            Self::Length(length)
        }
    }

    pub(crate) fn chunked() -> Self {
        Self::Chunked {
            state: ChunkState::Size { size: 0, digits: 0 },
            read: 0,
        }
    }

    /// Whether nothing of it is left to read.
    pub(crate) fn is_done(&self) -> bool {
        *self == Self::None
    }

    /// Whether its announced length is over the limit.
    pub(crate) fn is_too_long(&self, limits: &Limits) -> bool {
        match self {
            Self::Length(length) => *length > u64::from(limits.body_bytes_max.value()),
            Self::None | Self::Chunked { .. } => false,
        }
    }

    /// Discards bytes up to the body's end. Returns how many.
    ///
    /// # Errors
    ///
    /// The status of the refusal. The start of the next request is uncertain then.
    pub(crate) fn discard(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Status> {
        match self {
            Self::None => Ok(0),
            Self::Length(left) => {
                let taken = clamp(*left, input.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::None;
                }
                Ok(taken)
            }
            Self::Chunked { state, read } => {
                let budget = u64::from(limits.body_bytes_max.value()).saturating_sub(*read);
                let shown = &input[..clamp(budget, input.len())];
                let (taken, done) = state.discard(shown)?;
                *read += taken as u64;
                if done {
                    *self = Self::None;
                } else if shown.len() < input.len() {
                    return Err(Status::ContentTooLarge);
                }
                Ok(taken)
            }
        }
    }
}

impl ChunkState {
    /// Reads bytes. Returns how many it took, and whether the body ended with the last of them.
    fn discard(&mut self, input: &[u8]) -> Result<(usize, bool), Status> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let Self::Data { left } = self {
                let taken = clamp(*left, input.len() - at);
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            at += 1;
            if *self == Self::End {
                return if byte == b'\n' {
                    Ok((at, true))
                } else {
                    Err(Status::BadRequest)
                };
            }
            *self = self.step(byte).ok_or(Status::BadRequest)?;
        }
        Ok((at, false))
    }

    /// The state behind a byte of framing.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits >= SIZE_DIGITS_MAX {
                    return None;
                }
                let digit = (byte as char).to_digit(16)?;
                Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return None,
            (Self::Size { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size, .. }, _) => Self::Extension {
                size,
                state: ExtensionState::BeforeSemicolon.step(byte)?,
            },
            (Self::Extension { size, state }, b'\r') if state.can_end() => Self::SizeEnd { size },
            (Self::Extension { size, state }, _) => Self::Extension {
                size,
                state: state.step(byte)?,
            },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::End,
            (Self::TrailerStart | Self::TrailerName, _) if is_token_byte(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\r') => Self::TrailerEnd,
            (Self::TrailerValue, _) if is_field_byte(byte) => Self::TrailerValue,
            (Self::TrailerEnd, b'\n') => Self::TrailerStart,
            (
                Self::SizeEnd { .. }
                | Self::DataCr
                | Self::DataLf
                | Self::TrailerStart
                | Self::TrailerName
                | Self::TrailerValue
                | Self::TrailerEnd
                | Self::Data { .. }
                | Self::End,
                _,
            ) => return None,
        })
    }
}

impl ExtensionState {
    /// The state behind a byte.
    //= https://www.rfc-editor.org/rfc/rfc9112#section-7.1.1
    //# chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (
                Self::BeforeSemicolon | Self::BeforeName | Self::AfterName | Self::BeforeValue,
                b' ' | b'\t',
            ) => self,
            (Self::Name, b' ' | b'\t') => Self::AfterName,
            (Self::Token | Self::AfterQuoted, b' ' | b'\t') => Self::BeforeSemicolon,
            (
                Self::BeforeSemicolon
                | Self::Name
                | Self::AfterName
                | Self::Token
                | Self::AfterQuoted,
                b';',
            ) => Self::BeforeName,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::BeforeName | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::BeforeValue | Self::Token, _) if is_token_byte(byte) => Self::Token,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, _) if is_field_byte(byte) => Self::Quoted,
            (
                Self::BeforeSemicolon
                | Self::BeforeName
                | Self::Name
                | Self::AfterName
                | Self::BeforeValue
                | Self::Token
                | Self::Quoted
                | Self::Escaped
                | Self::AfterQuoted,
                _,
            ) => return None,
        })
    }

    /// Whether the line may end here.
    fn can_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::AfterQuoted)
    }
}

/// The smaller of a length of the stream and one in memory.
fn clamp(length: u64, room: usize) -> usize {
    usize::try_from(length).map_or(room, |length| length.min(room))
}

/// Digits of a chunk's size: 64 bits would take 16.
const SIZE_DIGITS_MAX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `step` bytes; how many bytes were taken, and whether it ended.
    fn read(text: &[u8], step: usize, limit: u32) -> Result<(usize, bool), Status> {
        let limits = Limits {
            body_bytes_max: crate::limits::Bounded::clamped(limit),
            ..Limits::default()
        };
        let mut body = RequestBody::chunked();
        let mut taken = 0;
        for piece in text.chunks(step) {
            let n = body.discard(piece, &limits)?;
            taken += n;
            if body.is_done() {
                break;
            }
            assert_eq!(n, piece.len(), "an unfinished body takes everything");
        }
        Ok((taken, body.is_done()))
    }

    #[test]
    fn chunked_bodies_end_where_they_end() {
        for (text, end) in [
            (&b"0\r\n\r\nGET"[..], 5),
            (b"3\r\nabc\r\n0\r\n\r\nGET", 13),
            (b"3;a=\"b\";c\r\nabc\r\n0;x\r\n\r\n", 23),
            (b"0a\r\n0123456789\r\n00\r\n\r\n", 22),
            (b"1\r\n\n\r\n0\r\nTrailer: x\r\nOther:\r\n\r\nmore", 31),
            (b"0;a\r\n\r\n", 7),
            (b"0;a;b;c\r\n\r\n", 11),
            (b"0;a=b;c=d\r\n\r\n", 13),
            (b"0 \t; a \t= \tb ;c\r\n\r\n", 19),
            (b"0;a=\"\"\r\n\r\n", 10),
            (b"0;a=\"b;\\\"\\\\ c\t\xff\" ;d\r\n\r\n", 23),
            (b"0;a=\"0\";b=\"1\"\r\n\r\n", 17),
            (b"0\r\nX-y!:\t a:b \r\n\r\n", 18),
        ] {
            for step in 1..=text.len() {
                assert_eq!(read(text, step, 1_000), Ok((end, true)), "{step} {text:?}");
            }
        }
    }

    #[test]
    fn an_unfinished_body_wants_more() {
        let text = b"3\r\nabc\r\n0\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(read(&text[..end], 4, 1_000), Ok((end, false)));
        }
    }

    #[test]
    fn faulty_framing_is_refused_in_any_split() {
        for text in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1;\n\r\n",
            b"1;\0\r\n",
            b"0\r\n\rx",
            // Extensions: no name, no value, no token, nothing behind a space or a quote.
            b"0;\r\n\r\n",
            b"0;;a\r\n\r\n",
            b"0;a;\r\n\r\n",
            b"0; \r\n\r\n",
            b"0;=b\r\n\r\n",
            b"0;a=\r\n\r\n",
            b"0;a= ;b\r\n\r\n",
            b"0;a==b\r\n\r\n",
            b"0;a b\r\n\r\n",
            b"0;a \r\n\r\n",
            b"0;a=b \r\n\r\n",
            b"0;a=b c\r\n\r\n",
            b"0;a=b=c\r\n\r\n",
            b"0;a(\r\n\r\n",
            b"0;a=b,c\r\n\r\n",
            b"0;\x80\r\n\r\n",
            b"0;a=\"b\r\n\r\n",
            b"0;a=\"b\"c\r\n\r\n",
            b"0;a=b\"c\"\r\n\r\n",
            b"0;a=\"\x01\"\r\n\r\n",
            b"0;a=\"\\\x7f\"\r\n\r\n",
            b"0;a=\"\\\r\n\r\n",
            b"0;\"a\"\r\n\r\n",
            b"0 a\r\n\r\n",
            b"0 \r\n\r\n",
            // Trailers: no colon, no name, a space in the name, a folded line.
            b"0\r\nX\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\nX y: z\r\n\r\n",
            b"0\r\nX(: y\r\n\r\n",
            b"0\r\nX: y\r\n z\r\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX: \0\r\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\nX: y\rz\r\n\r\n",
            b"0000000000000001\r\na\r\n",
            b"ffffffffffffffff\r\n",
        ] {
            for step in 1..=text.len() {
                assert_eq!(
                    read(text, step, 1_000),
                    Err(Status::BadRequest),
                    "{step} {text:?}"
                );
            }
        }
    }

    #[test]
    fn the_limit_counts_framing_and_holds_in_any_split() {
        let text = b"5\r\nabcde\r\n0\r\n\r\n";
        for step in 1..=text.len() {
            assert_eq!(read(text, step, 15), Ok((15, true)));
            assert_eq!(read(text, step, 14), Err(Status::ContentTooLarge));
            assert_eq!(read(b"fffffffffffffff\r\naaaaaa", step, 20), {
                Err(Status::ContentTooLarge)
            });
        }
    }

    #[test]
    fn lengths() {
        let limits = Limits::default();
        let mut body = RequestBody::of_length(5);
        assert_eq!(body.discard(b"abc", &limits), Ok(3));
        assert_eq!(body.discard(b"deGET", &limits), Ok(2));
        assert!(body.is_done() && RequestBody::of_length(0).is_done());
        assert!(!RequestBody::of_length(65_536).is_too_long(&limits));
        assert!(RequestBody::of_length(65_537).is_too_long(&limits));
    }
}

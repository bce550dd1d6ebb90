//! The body of a request: nobody wants it, but where it ends has to be known exactly.

use crate::limits::Limits;
use crate::status::Status;

/// How a request's body is delimited, and how far reading it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    /// There is none, or none of it is left.
    None,
    /// So many more bytes.
    Length(u64),
    /// Chunks; so many bytes of framing and data were read.
    Chunked { state: ChunkState, read: u64 },
}

/// Where in the chunked coding of RFC 9112, section 7.1, the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// In the size; so many digits were read.
    Size { size: u64, digits: u8 },
    /// In an extension, which is ignored.
    Extension { size: u64 },
    /// At the LF of the size's line.
    SizeEnd { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// At the CR behind the data.
    DataCr,
    /// At the LF behind that.
    DataLf,
    /// At the beginning of a trailer line, or of the empty one that ends the body.
    LineStart,
    /// In a trailer line, which is ignored.
    Line,
    /// At the LF of a trailer line.
    LineEnd,
    /// At the last LF.
    End,
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

    /// Whether it is known from the start to be longer than what is read and thrown away.
    pub(crate) fn is_too_long(&self, limits: &Limits) -> bool {
        match self {
            Self::Length(length) => *length > u64::from(limits.body_bytes_max.value()),
            Self::None | Self::Chunked { .. } => false,
        }
    }

    /// Throws bytes away up to the body's end: how many. An error is the status to answer with;
    /// where the next request begins isn't known then.
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
    /// Reads on; says how many bytes it took and whether the body ended with the last of them.
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
            (Self::Size { size, .. }, b';') => Self::Extension { size },
            (Self::Size { .. }, _) => return None,
            (Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size }, _) if is_text(byte) => Self::Extension { size },
            (Self::Extension { .. }, _) => return None,
            (Self::SizeEnd { size: 0 }, b'\n') => Self::LineStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::LineStart, b'\r') => Self::End,
            (Self::Line, b'\r') => Self::LineEnd,
            (Self::LineStart | Self::Line, _) if is_text(byte) => Self::Line,
            (Self::LineEnd, b'\n') => Self::LineStart,
            (
                Self::SizeEnd { .. }
                | Self::DataCr
                | Self::DataLf
                | Self::LineStart
                | Self::Line
                | Self::LineEnd
                | Self::Data { .. }
                | Self::End,
                _,
            ) => return None,
        })
    }
}

/// What may stand in an extension or a trailer: no control characters but a tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
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

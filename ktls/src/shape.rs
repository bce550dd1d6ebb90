//! The form of a suite's records: every length that framing, sealing and opening need.

use crate::suite::{CONTENT_MAX, EXPLICIT_NONCE, HEADER, HEADER_LEN, Params, Suite, TAG, Version};

/// The form of a suite's records: what stands before and behind the content.
///
/// ```text
/// header | explicit | content | inner type | tag or MAC | padding
///        '---------------------- length field ------------------'
/// ```
///
/// It also has room for what no suite here needs yet: an explicit IV and the padding of CBC, a tag
/// of 8 bytes, and the chained IVs of TLS 1.0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordShape {
    /// Bytes between header and ciphertext: the explicit nonce of TLS 1.2 AES-GCM, or an IV.
    pub explicit_len: u8,
    /// Bytes of the inner content type: 1 in TLS 1.3.
    pub inner_type_len: u8,
    /// Bytes of the AEAD's tag, or of the MAC.
    pub tag_len: u8,
    /// Content, MAC and padding together are a multiple of so many bytes; 1: there is no padding.
    pub block_len: u8,
    /// In which order records may be sealed.
    pub order: SealOrder,
}

/// In which order the records of a key may be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealOrder {
    /// In any: a record's nonce or IV depends on nothing but its number.
    Any,
    /// In the order of their numbers, each after the one before: TLS 1.0 CBC takes the last block
    /// of a record as the IV of the next.
    Sequence,
}

impl RecordShape {
    /// Bytes of header and explicit part at most, of any suite: an IV of 16.
    pub const HEAD_MAX: usize = HEADER_LEN + 16;
    /// Bytes behind the content at most, of any suite: HMAC-SHA384 and a block of padding.
    pub const TAIL_MAX: usize = 48 + 16;
    /// Bytes of a record at most, of any suite.
    pub const RECORD_MAX: usize = Self::HEAD_MAX + CONTENT_MAX as usize + Self::TAIL_MAX;
    /// The least length field of a protected record, of all supported suites.
    pub const LENGTH_MIN: u16 = length_min_of_all();

    /// Returns the form of the records of this suite and version.
    pub const fn of(params: Params) -> Self {
        let (explicit_len, inner_type_len) = match (params.version, params.suite.is_gcm()) {
            //= https://www.rfc-editor.org/rfc/rfc5288#section-3
            //# The nonce_explicit is the "explicit" part of the nonce.  It is
            //# chosen by the sender and is carried in each TLS record in the
            //# GenericAEADCipher.nonce_explicit field.
            (Version::Tls12, true) => (EXPLICIT_NONCE, 0),
            (Version::Tls12, false) => (0, 0),
            (Version::Tls13, _) => (0, 1),
        };
        let tag_len = match params.suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm | Suite::Chacha20Poly1305 => TAG,
        };
        Self {
            explicit_len,
            inner_type_len,
            tag_len,
            block_len: 1,
            order: SealOrder::Any,
        }
    }

    /// Returns the length of header and explicit part.
    pub const fn head_len(self) -> u8 {
        HEADER + self.explicit_len
    }

    /// Returns the bytes behind so many bytes of content: inner type, tag or MAC, and the least
    /// padding that fills a block.
    pub const fn tail_len(self, content: u16) -> u8 {
        let fixed = self.inner_type_len + self.tag_len;
        if self.block_len <= 1 {
            return fixed;
        }
        let block = self.block_len as u32;
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3.2
        //# Padding that is added to force the length of the plaintext to be
        //# an integral multiple of the block cipher's block length.
        //
        // It has at least one byte, which holds its length.
        let last = (content as u32 + fixed as u32) % block;
        #[expect(clippy::cast_possible_truncation, reason = "at most a block")]
        let padding = (block - last) as u8;
        fixed + padding
    }

    /// Returns what the length field is for so many bytes of content.
    pub const fn length(self, content: u16) -> u16 {
        self.explicit_len as u16 + content + self.tail_len(content) as u16
    }

    /// Returns the length of a record with so many bytes of content, header included.
    pub const fn record_len(self, content: u16) -> u32 {
        HEADER as u32 + self.length(content) as u32
    }

    /// Returns the least value of the length field: a record without content.
    pub const fn length_min(self) -> u16 {
        self.length(0)
    }

    /// Returns the greatest value of the length field.
    ///
    /// RFC 8446 would let TLSCiphertext.length reach 2^14 + 256, but its plaintext may not exceed
    /// 2^14 + 1 with type and padding, and no AEAD here adds more than its tag.
    pub const fn length_max(self) -> u16 {
        let fixed = self.explicit_len + self.inner_type_len + self.tag_len;
        let padding = if self.block_len <= 1 {
            0
        } else {
            self.block_len
        };
        CONTENT_MAX + fixed as u16 + padding as u16
    }
}

const fn length_min_of_all() -> u16 {
    let mut min = u16::MAX;
    let mut n = 0;
    while n < Params::ALL.len() {
        let length = RecordShape::of(Params::ALL[n]).length_min();
        if length < min {
            min = length;
        }
        n += 1;
    }
    min
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapes of suites that ktls(4) and tls.rst have and this crate doesn't have yet.
    const CBC_SHA384: RecordShape = RecordShape {
        explicit_len: 16,
        inner_type_len: 0,
        tag_len: 48,
        block_len: 16,
        order: SealOrder::Any,
    };
    const CCM_8: RecordShape = RecordShape {
        tag_len: 8,
        ..RecordShape::of(Params::ALL[0])
    };

    /// (header, explicit nonce, trailer, least length, greatest length)
    #[test]
    fn sizes_of_every_suite() {
        let rows = [
            (Suite::Aes128Gcm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Aes256Gcm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Chacha20Poly1305, Version::Tls12, 5, 16, 16, 16400),
            (Suite::Aes128Gcm, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Aes256Gcm, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Chacha20Poly1305, Version::Tls13, 5, 17, 17, 16401),
        ];
        for (suite, version, head, tail, min, max) in rows {
            let params = Params::new(suite, version);
            let shape = params.shape();
            let sizes = (
                shape.head_len(),
                shape.tail_len(77),
                shape.length_min(),
                shape.length_max(),
            );
            assert_eq!(sizes, (head, tail, min, max), "{params}");
            assert_eq!(shape.length_max(), shape.length(CONTENT_MAX));
            assert_eq!(shape.record_len(2), 7 + u32::from(min), "{params}");
        }
        assert_eq!(RecordShape::LENGTH_MIN, 16);
    }

    /// The sizes of `tls_params.tls_hlen` and `tls_tlen` in FreeBSD's `uipc_ktls.c`.
    #[test]
    fn there_is_room_for_cbc_and_short_tags() {
        assert_eq!(usize::from(CBC_SHA384.head_len()), RecordShape::HEAD_MAX);
        for content in (0..100).chain(CONTENT_MAX - 40..=CONTENT_MAX) {
            let tail = CBC_SHA384.tail_len(content);
            let filled = u32::from(content) + u32::from(tail);
            assert!(filled.is_multiple_of(16) && (49..=64).contains(&tail));
            assert_eq!(tail, 64 - u8::try_from((content + 64) % 16).unwrap());
            let length = CBC_SHA384.length(content);
            assert!((CBC_SHA384.length_min()..=CBC_SHA384.length_max()).contains(&length));
            assert!(CBC_SHA384.record_len(content) as usize <= RecordShape::RECORD_MAX);
        }
        assert_eq!(CBC_SHA384.length_min(), 16 + 64);
        assert_eq!((CCM_8.head_len(), CCM_8.tail_len(1)), (13, 8));
        assert_eq!((CCM_8.length_min(), CCM_8.length_max()), (16, 16400));
    }

    /// What pktbuf's spans and blocks have room for.
    #[test]
    fn every_record_fits_the_largest() {
        for params in Params::ALL {
            let shape = params.shape();
            assert!(usize::from(shape.head_len()) <= RecordShape::HEAD_MAX);
            assert!(usize::from(shape.tail_len(0)) <= RecordShape::TAIL_MAX);
            assert!(shape.record_len(CONTENT_MAX) as usize <= RecordShape::RECORD_MAX);
        }
    }
}

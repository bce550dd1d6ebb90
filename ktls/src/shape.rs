//! The form of a suite's records: every length that framing, sealing and opening need.

use crate::suite::{
    BLOCK, CONTENT_MAX, CipherKind, EXPLICIT_NONCE, HEADER, HEADER_LEN, Params, Version,
};

/// The form of a suite's records: what stands before and behind the content.
///
/// ```text
/// header | explicit | content | inner type | tag or MAC | padding
///        '---------------------- length field ------------------'
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordShape {
    /// Bytes between header and ciphertext: the explicit nonce of TLS 1.2 AES-GCM and AES-CCM, or
    /// the IV of CBC since TLS 1.1.
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
    /// The least length field of a protected record, of the suites that handshakes negotiate:
    /// AES-GCM and ChaCha20-Poly1305.
    pub const LENGTH_MIN: u16 = length_min_of_handshakes();

    /// Returns the form of the records of this suite and version.
    pub const fn of(params: Params) -> Self {
        let kind = params.suite.kind();
        let explicit_len = match (params.version, kind) {
            //= https://www.rfc-editor.org/rfc/rfc5288#section-3
            //# The nonce_explicit is the "explicit" part of the nonce.  It is
            //# chosen by the sender and is carried in each TLS record in the
            //# GenericAEADCipher.nonce_explicit field.
            //
            // RFC 6655, 3 has the same for CCM.
            (Version::Tls12, CipherKind::Gcm | CipherKind::Ccm) => EXPLICIT_NONCE,
            //= https://www.rfc-editor.org/rfc/rfc4346#section-6.2.3.2
            //# IV
            //#    Unlike previous versions of SSL and TLS, TLS 1.1 uses an explicit
            //#    IV in order to prevent the attacks described by [CBCATT].
            (Version::Tls11 | Version::Tls12, CipherKind::Cbc) => BLOCK,
            (Version::Tls10 | Version::Tls11 | Version::Tls12 | Version::Tls13, _) => 0,
        };
        let (block_len, order) = match (params.version, kind) {
            (_, CipherKind::Gcm | CipherKind::Ccm | CipherKind::Chacha20) => (1, SealOrder::Any),
            (Version::Tls10, CipherKind::Cbc) => (BLOCK, SealOrder::Sequence),
            (Version::Tls11 | Version::Tls12 | Version::Tls13, CipherKind::Cbc) => {
                (BLOCK, SealOrder::Any)
            }
        };
        Self {
            explicit_len,
            inner_type_len: matches!(params.version, Version::Tls13) as u8,
            tag_len: params.suite.tag(),
            block_len,
            order,
        }
    }

    /// Whether there is padding to a multiple of the cipher's block.
    pub const fn has_padding(self) -> bool {
        self.block_len > 1
    }

    /// Returns the length of header and explicit part.
    pub const fn head_len(self) -> u8 {
        HEADER + self.explicit_len
    }

    /// Returns the bytes behind so many bytes of content: inner type, tag or MAC, and the least
    /// padding that fills a block.
    pub const fn tail_len(self, content: u16) -> u8 {
        let fixed = self.inner_type_len + self.tag_len;
        if !self.has_padding() {
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

    /// Returns the most content of a record that is `wire` bytes long at most, header included.
    pub const fn content_within(self, wire: u32) -> u16 {
        let fixed = (self.inner_type_len + self.tag_len) as u32;
        let body = wire.saturating_sub(self.head_len() as u32);
        let (whole, padding_min) = match self.has_padding() {
            true => (body - body % self.block_len as u32, 1),
            false => (body, 0),
        };
        let content = whole.saturating_sub(fixed + padding_min);
        #[expect(clippy::cast_possible_truncation, reason = "compared with a u16")]
        if content < CONTENT_MAX as u32 {
            content as u16
        } else {
            CONTENT_MAX
        }
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
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3.2
        //# The padding MAY be any length up to 255 bytes, as long
        //# as it results in the TLSCiphertext.length being an integral
        //# multiple of the block length.
        //
        // One more byte holds the padding's length.
        let padding = if self.has_padding() { 256 } else { 0 };
        let most = CONTENT_MAX + fixed as u16 + padding;
        most - (most - self.explicit_len as u16) % self.block_len as u16
    }

    /// Whether a length field of so much leaves whole blocks of ciphertext.
    pub const fn is_whole_blocks(self, length: u16) -> bool {
        length
            .saturating_sub(self.explicit_len as u16)
            .is_multiple_of(self.block_len as u16)
    }
}

const fn length_min_of_handshakes() -> u16 {
    let mut min = u16::MAX;
    let mut n = 0;
    while n < Params::ALL.len() {
        let length = RecordShape::of(Params::ALL[n]).length_min();
        let negotiated = match Params::ALL[n].suite.kind() {
            CipherKind::Gcm | CipherKind::Chacha20 => true,
            CipherKind::Ccm | CipherKind::Cbc => false,
        };
        if negotiated && length < min {
            min = length;
        }
        n += 1;
    }
    min
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    /// The most content that fits, not a byte less.
    #[test]
    fn the_content_that_fits_fills_the_record() {
        for params in Params::ALL {
            let shape = params.shape();
            assert_eq!(shape.content_within(0), 0);
            assert_eq!(shape.content_within(u32::MAX), CONTENT_MAX);
            for wire in shape.record_len(0)..3000 {
                let content = shape.content_within(wire);
                assert!(shape.record_len(content) <= wire, "{params:?} {wire}");
                assert!(shape.record_len(content + 1) > wire, "{params:?} {wire}");
            }
        }
    }

    /// The sizes of `tls_params.tls_hlen` and `tls_tlen` in FreeBSD's `uipc_ktls.c`; CCM as in
    /// Linux's `tls.h`. (header, trailer of 77 bytes, least length, greatest length)
    #[test]
    fn sizes_of_every_suite() {
        let rows = [
            (Suite::Aes128Gcm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Aes256Gcm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Chacha20Poly1305, Version::Tls12, 5, 16, 16, 16400),
            (Suite::Aes128Gcm, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Aes256Gcm, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Chacha20Poly1305, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Aes128Ccm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Aes256Ccm, Version::Tls12, 13, 16, 24, 16408),
            (Suite::Aes128Ccm8, Version::Tls12, 13, 8, 16, 16400),
            (Suite::Aes128Ccm, Version::Tls13, 5, 17, 17, 16401),
            (Suite::Aes128Ccm8, Version::Tls13, 5, 9, 9, 16393),
            (Suite::Aes128CbcSha1, Version::Tls10, 5, 35, 32, 16656),
            (Suite::Aes256CbcSha1, Version::Tls10, 5, 35, 32, 16656),
            (Suite::Aes128CbcSha1, Version::Tls11, 21, 35, 48, 16672),
            (Suite::Aes256CbcSha1, Version::Tls11, 21, 35, 48, 16672),
            (Suite::Aes128CbcSha1, Version::Tls12, 21, 35, 48, 16672),
            (Suite::Aes256CbcSha1, Version::Tls12, 21, 35, 48, 16672),
            (Suite::Aes128CbcSha256, Version::Tls12, 21, 35, 64, 16688),
            (Suite::Aes256CbcSha256, Version::Tls12, 21, 35, 64, 16688),
            (Suite::Aes128CbcSha384, Version::Tls12, 21, 51, 80, 16704),
            (Suite::Aes256CbcSha384, Version::Tls12, 21, 51, 80, 16704),
        ];
        assert_eq!(rows.len(), Params::ALL.len());
        for (row, params) in rows.into_iter().zip(Params::ALL) {
            let (suite, version, head, tail, min, max) = row;
            assert_eq!(params, Params::new(suite, version));
            let shape = params.shape();
            let sizes = (
                shape.head_len(),
                shape.tail_len(77),
                shape.length_min(),
                shape.length_max(),
            );
            assert_eq!(sizes, (head, tail, min, max), "{params}");
            // The longest padding is a multiple of the block longer than the shortest.
            let more = u32::from(max) - u32::from(shape.length(CONTENT_MAX));
            assert_eq!(more, if suite.is_cbc() { 240 } else { 0 }, "{params}");
            if !suite.is_cbc() {
                assert_eq!(shape.record_len(2), 7 + u32::from(min), "{params}");
            }
            let in_sequence = version == Version::Tls10;
            assert_eq!(shape.order == SealOrder::Sequence, in_sequence, "{params}");
        }
        assert_eq!(RecordShape::LENGTH_MIN, 16);
    }

    /// `tlen - (payload + tlen) % 16` of FreeBSD's `ktls_frame`, for every payload.
    #[test]
    fn padding_is_minimal_and_fills_blocks() {
        for params in Params::ALL {
            let shape = params.shape();
            for content in 0..=CONTENT_MAX {
                let (tail, length) = (shape.tail_len(content), shape.length(content));
                if params.suite.is_cbc() {
                    let most = params.suite.tag() + 16;
                    let filled = u32::from(content) + u32::from(tail);
                    assert!(filled.is_multiple_of(16), "{params} {content}");
                    assert_eq!(u32::from(tail), {
                        let most = u32::from(most);
                        most - (u32::from(content) + most) % 16
                    });
                }
                assert!((shape.length_min()..=shape.length_max()).contains(&length));
                assert!(shape.is_whole_blocks(length));
                assert!(!shape.has_padding() || !shape.is_whole_blocks(length + 1));
            }
        }
    }

    /// What pktbuf's spans and blocks have room for.
    #[test]
    fn every_record_fits_the_largest() {
        const { assert!(RecordShape::HEAD_MAX <= pktbuf::RECORD_HEAD_MAX) };
        const { assert!(RecordShape::TAIL_MAX <= pktbuf::RECORD_TAIL_MAX) };
        for params in Params::ALL {
            let shape = params.shape();
            assert!(usize::from(shape.head_len()) <= RecordShape::HEAD_MAX);
            for content in CONTENT_MAX - 16..=CONTENT_MAX {
                assert!(usize::from(shape.tail_len(content)) <= RecordShape::TAIL_MAX);
                assert!(shape.record_len(content) as usize <= RecordShape::RECORD_MAX);
            }
            let gathered = u32::from(shape.length_max()) - u32::from(shape.explicit_len);
            assert!(gathered <= pktbuf::LARGE_CAPACITY, "{params}");
        }
    }
}

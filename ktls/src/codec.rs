//! The bytes of a record: header, nonce, additional data, inner content type.

use crate::error::RxError;
use crate::shape::RecordShape;
use crate::suite::{
    CONTENT_MAX, ContentType, EXPLICIT_NONCE_LEN, HEADER, HEADER_LEN, NONCE_LEN, Params, Version,
};

/// The five bytes that begin every record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// The outer type.
    pub kind: ContentType,
    /// The version as on the wire.
    pub version: [u8; 2],
    /// Bytes that follow the header.
    pub length: u16,
}

impl RecordHeader {
    /// Parses a header. Every value of the five bytes is one.
    pub const fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        let [kind, major, minor, high, low] = bytes;
        Self {
            kind: ContentType(kind),
            version: [major, minor],
            length: u16::from_be_bytes([high, low]),
        }
    }

    /// Returns the header's five bytes.
    pub const fn emit(self) -> [u8; HEADER_LEN] {
        let [major, minor] = self.version;
        let [high, low] = self.length.to_be_bytes();
        [self.kind.0, major, minor, high, low]
    }

    /// Checks the header of a received record and returns the record's length in bytes, header
    /// included.
    ///
    /// # Errors
    ///
    /// [`RxError::BadVersion`], [`RxError::Unprotected`], [`RxError::RecordTooLong`],
    /// [`RxError::RecordTooShort`] or [`RxError::RecordNotBlocks`]. After an error the boundaries
    /// of the following records are unknown.
    pub fn check(self, params: Params) -> Result<u32, RxError> {
        // RFC 8446 wants legacy_record_version ignored. Both kernels require 3.3, which every TLS
        // 1.3 peer writes (5.1: "MUST be set to 0x0303 for all records ... other than an initial
        // ClientHello"), and so detect a stream that has lost its record boundaries.
        if self.version != params.version.wire() {
            return Err(RxError::BadVersion);
        }
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.2
        //# opaque_type:  The outer opaque_type field of a TLSCiphertext record
        //# is always set to the value 23 (application_data)
        if params.version == Version::Tls13 && self.kind != ContentType::APPLICATION_DATA {
            return Err(RxError::Unprotected);
        }
        let shape = params.shape();
        if self.length > shape.length_max() {
            return Err(RxError::RecordTooLong);
        }
        if self.length < shape.length_min() {
            return Err(RxError::RecordTooShort);
        }
        if !shape.is_whole_blocks(self.length) {
            return Err(RxError::RecordNotBlocks);
        }
        Ok(u32::from(HEADER) + u32::from(self.length))
    }
}

/// Header and explicit nonce or IV of a record to be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    bytes: [u8; RecordShape::HEAD_MAX],
    len: usize,
}

impl Head {
    /// Frames `content` bytes of type `kind`. `explicit` is as long as the suite's explicit nonce
    /// or IV.
    ///
    /// `content` is at most 2^14; the caller splits longer content.
    pub(crate) fn new(params: Params, explicit: &[u8], kind: ContentType, content: u16) -> Self {
        debug_assert!(content <= CONTENT_MAX, "the framer cuts records");
        let outer = match params.version {
            Version::Tls10 | Version::Tls11 | Version::Tls12 => kind,
            Version::Tls13 => ContentType::APPLICATION_DATA,
        };
        let shape = params.shape();
        let header = RecordHeader {
            kind: outer,
            version: params.version.wire(),
            length: shape.length(content),
        };
        let mut bytes = [0; RecordShape::HEAD_MAX];
        bytes[..HEADER_LEN].copy_from_slice(&header.emit());
        let len = usize::from(shape.head_len());
        if !explicit.is_empty() {
            bytes[HEADER_LEN..len].copy_from_slice(explicit);
        }
        Self { bytes, len }
    }

    /// Returns header and explicit nonce or IV.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Returns the nonce of record `number`: the IV XOR the number.
pub fn nonce(iv: &[u8; NONCE_LEN], number: u64) -> [u8; NONCE_LEN] {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-5.3
    //# The padded sequence number is XORed with either the static
    //# client_write_iv or server_write_iv (depending on the role).
    let mut nonce = *iv;
    for (byte, mask) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= mask;
    }
    nonce
}

/// Returns the nonce of a received record. The sender chooses the explicit part, if there is one.
pub(crate) fn received_nonce(
    params: Params,
    iv: &[u8; NONCE_LEN],
    number: u64,
    head: &[u8],
) -> [u8; NONCE_LEN] {
    let explicit_len = usize::from(params.shape().explicit_len);
    match head
        .get(HEADER_LEN..)
        .and_then(|explicit| explicit.first_chunk::<EXPLICIT_NONCE_LEN>())
    {
        Some(explicit) if explicit_len == explicit.len() => {
            let mut nonce = *iv;
            nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..].copy_from_slice(explicit);
            nonce
        }
        Some(_) | None => nonce(iv, number),
    }
}

/// Additional authenticated data of a record: 5 bytes in TLS 1.3, 13 in older versions. With CBC it
/// is what the MAC covers besides the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aad {
    bytes: [u8; AAD_MAX],
    len: usize,
}

impl Aad {
    /// Creates the additional data of record `number` with this header and `content` bytes of
    /// content.
    pub fn new(params: Params, number: u64, header: [u8; HEADER_LEN], content: u16) -> Self {
        let mut bytes = [0; AAD_MAX];
        let len = match params.version {
            //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3.3
            //# additional_data = seq_num + TLSCompressed.type +
            //# TLSCompressed.version + TLSCompressed.length;
            Version::Tls10 | Version::Tls11 | Version::Tls12 => {
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                bytes[8..11].copy_from_slice(&header[..3]);
                bytes[11..].copy_from_slice(&content.to_be_bytes());
                AAD_MAX
            }
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5.2
            //# The additional data input is the record header.
            Version::Tls13 => {
                bytes[..HEADER_LEN].copy_from_slice(&header);
                HEADER_LEN
            }
        };
        Self { bytes, len }
    }
}

impl AsRef<[u8]> for Aad {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Finds the inner content type of a TLS 1.3 record's plaintext. Returns type and length of the
/// content, or `None` if all bytes are zero.
pub fn inner_type(plaintext: &[u8]) -> Option<(ContentType, usize)> {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-5.4
    //# the receiving implementation scans the field from the end toward the
    //# beginning until it finds a non-zero octet.
    let at = plaintext.iter().rposition(|&byte| byte != 0)?;
    Some((ContentType(plaintext[at]), at))
}

const AAD_MAX: usize = 13;

#[cfg(test)]
mod tests;

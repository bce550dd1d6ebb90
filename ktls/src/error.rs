//! Errors, with the errno for the application and the alert for the peer.

use thiserror::Error;

use crate::alert::AlertDescription;

/// Error numbers that the record layer reports to applications.
///
/// The names are POSIX's, the numbers Linux's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Errno {
    /// Input/output error.
    Eio = 5,
    /// No such device or address.
    Enxio = 6,
    /// Bad file descriptor.
    Ebadf = 9,
    /// Resource temporarily unavailable.
    Eagain = 11,
    /// Device or resource busy.
    Ebusy = 16,
    /// Invalid argument.
    Einval = 22,
    /// Broken pipe.
    Epipe = 32,
    /// Protocol error.
    Eproto = 71,
    /// Bad message.
    Ebadmsg = 74,
    /// Message too long.
    Emsgsize = 90,
    /// Protocol not supported.
    Eprotonosupport = 93,
    /// Operation not supported. On Linux `EOPNOTSUPP` has the same number.
    Enotsup = 95,
    /// Software caused connection abort.
    Econnaborted = 103,
    /// Connection reset by peer.
    Econnreset = 104,
    /// Transport endpoint is not connected.
    Enotconn = 107,
    /// Connection timed out.
    Etimedout = 110,
    /// Connection refused.
    Econnrefused = 111,
    /// Operation already in progress.
    Ealready = 114,
    /// Key has expired.
    Ekeyexpired = 127,
}

impl Errno {
    /// Returns the number.
    pub const fn raw(self) -> i32 {
        self as i32
    }
}

/// Error of the receive side.
///
/// Two errors leave the stream readable, because the boundary of the record is known:
/// [`BadRecord`](Self::BadRecord) and [`NoContentType`](Self::NoContentType). The record is dropped
/// and the next one follows. [`KeyExpired`](Self::KeyExpired) lasts until new keys are set. After
/// any other error the record boundaries or the peer's state are unknown, so the error is returned
/// again and the connection has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RxError {
    /// A record's tag or padding is wrong: corrupted, forged, or sealed with another key.
    #[error("a record could not be authenticated")]
    BadRecord,
    /// An authentic TLS 1.3 record holds nothing but padding.
    #[error("a record has no content type")]
    NoContentType,
    /// A header's version is not the connection's.
    #[error("a record header has the wrong version")]
    BadVersion,
    /// A TLS 1.3 record that isn't protected.
    #[error("a record is not protected")]
    Unprotected,
    /// A header's length is more than a record can have.
    #[error("a record is too long")]
    RecordTooLong,
    /// A header's length leaves no room for nonce, type and tag.
    #[error("a record is too short")]
    RecordTooShort,
    /// A CBC record whose ciphertext isn't a multiple of the block.
    #[error("a record is no whole number of blocks")]
    RecordNotBlocks,
    /// The stream ended inside a record or a message.
    #[error("the stream ended inside a record")]
    Truncated,
    /// Too many records under one key could not be authenticated.
    #[error("too many records could not be authenticated")]
    Forgeries,
    /// The peer used up its sequence numbers.
    #[error("the sequence numbers are used up")]
    SequenceExhausted,
    /// A KeyUpdate was delivered to the application, which hasn't set the next keys yet.
    #[error("the peer changed its key, and the next one isn't set")]
    KeyExpired,
    /// Too many consecutive records that carry no data.
    #[error("too many records in a row that carry no data")]
    Flood,
    /// A record or message that is not allowed after the handshake, or an empty alert or handshake
    /// record.
    #[error("an unexpected message")]
    Unexpected,
    /// A message that cannot be parsed, or whose length is not the type's.
    #[error("a malformed message")]
    Malformed,
    /// A handshake message longer than is accepted after the handshake.
    #[error("a handshake message is too long")]
    MessageTooLong,
    /// A field with a value that is not allowed.
    #[error("a message has an illegal value")]
    IllegalValue,
    /// The peer ended the connection with this alert.
    #[error("the peer sent fatal alert {}", .0.0)]
    PeerAlert(AlertDescription),
    /// No backend supports the session's suite, or the backend failed.
    #[error("the cipher backend failed")]
    Backend,
}

impl RxError {
    /// Returns the errno for a reader of the socket.
    pub const fn errno(self) -> Errno {
        match self {
            Self::BadRecord | Self::NoContentType | Self::Forgeries | Self::SequenceExhausted => {
                Errno::Ebadmsg
            }
            Self::BadVersion | Self::Unprotected => Errno::Einval,
            Self::RecordTooLong
            | Self::RecordTooShort
            | Self::RecordNotBlocks
            | Self::Truncated => Errno::Emsgsize,
            Self::Flood
            | Self::Unexpected
            | Self::Malformed
            | Self::MessageTooLong
            | Self::IllegalValue => Errno::Eproto,
            Self::PeerAlert(_) => Errno::Econnreset,
            Self::KeyExpired => Errno::Ekeyexpired,
            Self::Backend => Errno::Eio,
        }
    }

    /// Returns the alert to send to the peer; `None` if the peer has closed.
    pub const fn alert(self) -> Option<AlertDescription> {
        Some(match self {
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5.2
            //# If the decryption fails, the receiver MUST
            //# terminate the connection with a "bad_record_mac" alert.
            //
            // So it is with a record that has no room for a tag; RFC 5246, 7.2.2 says the same of
            // whatever is decrypted "in an invalid way".
            Self::BadRecord | Self::Forgeries | Self::RecordTooShort | Self::RecordNotBlocks => {
                AlertDescription::BAD_RECORD_MAC
            }
            Self::BadVersion => AlertDescription::PROTOCOL_VERSION,
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5.4
            //# If a receiving implementation does not
            //# find a non-zero octet in the cleartext, it MUST terminate the
            //# connection with an "unexpected_message" alert.
            Self::NoContentType | Self::Unprotected | Self::Flood | Self::Unexpected => {
                AlertDescription::UNEXPECTED_MESSAGE
            }
            Self::RecordTooLong => AlertDescription::RECORD_OVERFLOW,
            Self::Malformed => AlertDescription::DECODE_ERROR,
            Self::MessageTooLong | Self::IllegalValue => AlertDescription::ILLEGAL_PARAMETER,
            Self::SequenceExhausted | Self::Backend => AlertDescription::INTERNAL_ERROR,
            Self::Truncated | Self::PeerAlert(_) | Self::KeyExpired => return None,
        })
    }

    /// Whether the records after this one can be read, at once or with the next keys.
    pub const fn is_recoverable(self) -> bool {
        matches!(
            self,
            Self::BadRecord | Self::NoContentType | Self::KeyExpired
        )
    }
}

/// Error of a write to the send queue. Nothing of the write was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TxError {
    /// No page buffer is free. Retry when the pool has refilled.
    #[error("no page buffer is free")]
    Exhausted,
    /// A record without content.
    #[error("a record needs content")]
    Empty,
    /// A typed message that doesn't fit one record.
    #[error("the message is longer than a record")]
    MessageSize,
    /// A range that isn't in its span.
    #[error("the range is not in the span")]
    OutOfSpan,
    /// A typed message on a socket without keys, or plain bytes on one with keys.
    #[error("the socket's record layer is not in the right mode")]
    WrongMode,
    /// The queue has keys already.
    #[error("keys have already been set")]
    AlreadyEnabled,
    /// The key may protect no more records, or the sequence number would wrap.
    #[error("the key is used up")]
    KeySpent,
    /// Records of the previous key are still unsealed.
    #[error("an earlier key change has not drained yet")]
    RekeyBusy,
    /// The session cannot change keys: TLS 1.2, or keys without their traffic secret.
    #[error("the session cannot change its keys")]
    RekeyUnsupported,
    /// A record is open, and its length limit can't be changed.
    #[error("a record is open")]
    OpenRecord,
    /// A length limit that isn't allowed.
    #[error("the length limit is out of range")]
    LengthLimit,
    /// The cipher backend failed, and the connection has to be closed.
    #[error("the cipher backend failed")]
    Crypto(#[from] CryptoError),
}

impl TxError {
    /// Returns the errno for a writer to the socket.
    pub const fn errno(self) -> Errno {
        match self {
            Self::Exhausted => Errno::Eagain,
            Self::Empty | Self::OutOfSpan | Self::WrongMode | Self::LengthLimit => Errno::Einval,
            Self::MessageSize => Errno::Emsgsize,
            Self::AlreadyEnabled => Errno::Ealready,
            Self::KeySpent => Errno::Ebadmsg,
            Self::RekeyBusy | Self::OpenRecord => Errno::Ebusy,
            Self::RekeyUnsupported => Errno::Enotsup,
            Self::Crypto(_) => Errno::Eio,
        }
    }
}

/// Error of a cipher backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CryptoError {
    /// The tag is wrong. Only when opening.
    #[error("authentication failed")]
    BadTag,
    /// No backend supports the session's suite and version.
    #[error("no backend takes this suite")]
    Unsupported,
    /// The backend reports a failure.
    #[error("the cipher backend failed")]
    Backend,
}

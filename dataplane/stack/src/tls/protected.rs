//! Checks a client's protected records of TLS 1.3 before the library sees them.
//!
//! Between the ServerHello and its Finished a client sends, protected, nothing but its Finished and
//! alerts. The library answers several faults there with the wrong alert, drops some records in
//! silence, and charges a record of rejected early data again with every record after it. So each
//! record is opened here first, on a copy: a forged or skipped one never reaches the library.

use lockgate_ktls::{
    Alert, AlertDescription, ContentType, CryptoError, HEADER_LEN, LEGACY_VERSION, OpenParts,
    PLAINTEXT_MAX, RecordOpener, Session, Suite, inner_type,
};

use super::capture::Secret;
use super::failure::{Failure, Fault};
use super::handshake::MESSAGE_BYTES_MAX;
use super::hello::MESSAGE_HEADER_LEN;

/// State of a client's records after the ServerHello.
pub(super) struct ProtectedRecords {
    opener: RecordOpener,
    /// Number of the next record.
    number: u64,
    /// Bytes of rejected early data that may still be skipped.
    early_data: usize,
    /// The first bytes of the Finished, at most its header.
    header: Vec<u8>,
    /// Length of the Finished without its header: the hash's.
    finished_len: usize,
}

impl ProtectedRecords {
    /// Starts after a hello that announced early data, or didn't. Returns `None` if `secret` isn't
    /// of the suite.
    pub(super) fn new(suite: Suite, secret: &Secret, has_early_data: bool) -> Option<Self> {
        let session = Session::from_secret(suite, secret.as_bytes())?;
        Some(Self {
            opener: RecordOpener::new(&session).ok()?,
            number: 0,
            early_data: if has_early_data { EARLY_DATA_MAX } else { 0 },
            header: Vec::new(),
            finished_len: suite.secret_len(),
        })
    }

    /// Checks one record, given without its header. Returns false for early data to be skipped.
    pub(super) fn admit(&mut self, ciphertext: &[u8]) -> Result<bool, Fault> {
        let Some(plaintext) = self.open(ciphertext)? else {
            return Ok(false);
        };
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.2.10
        //# Once a record is deprotected successfully, it is treated as
        //# the start of the client's second flight and the server proceeds as with
        //# an ordinary 1-RTT handshake.
        self.early_data = 0;
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.4
        //# If a receiving
        //# implementation does not find a non-zero octet in the cleartext, it
        //# MUST terminate the connection with an "unexpected_message" alert.
        let (kind, len) = inner_type(&plaintext).ok_or(Fault::UNEXPECTED)?;
        if len > PLAINTEXT_MAX {
            let alert = AlertDescription::RECORD_OVERFLOW;
            return Err(Fault::of(Failure::Misbehaved, alert));
        }
        let content = &plaintext[..len];
        match kind {
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5.4
            //# Implementations MUST NOT send
            //# Handshake and Alert records that have a zero-length
            //# TLSInnerPlaintext.content; if such a message is received, the
            //# receiving implementation MUST terminate the connection with an
            //# "unexpected_message" alert.
            ContentType::HANDSHAKE | ContentType::ALERT if content.is_empty() => {
                Err(Fault::UNEXPECTED)
            }
            ContentType::HANDSHAKE => self.admit_finished(content),
            ContentType::ALERT if self.header.is_empty() => admit_alert(content),
            _ => Err(Fault::UNEXPECTED),
        }
    }

    /// Opens a copy of a record. Returns `None` for early data to be skipped.
    fn open(&mut self, ciphertext: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut body = ciphertext.to_vec();
        let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        let [major, minor] = LEGACY_VERSION;
        let head: [u8; HEADER_LEN] = [ContentType::APPLICATION_DATA.0, major, minor, high, low];
        let opened = self.opener.open(OpenParts {
            number: self.number,
            head: &head,
            body: &mut body,
        });
        match opened {
            Ok(len) => {
                self.number += 1;
                body.truncate(len);
                Ok(Some(body))
            }
            //= https://www.rfc-editor.org/rfc/rfc8446#section-4.2.10
            //# The server then skips past early data by
            //# attempting to deprotect received records using the handshake
            //# traffic key, discarding records which fail deprotection (up to the
            //# configured max_early_data_size).
            Err(CryptoError::BadTag) => {
                let overhead = self.opener.params().shape().length_min();
                let data = ciphertext.len().saturating_sub(overhead.into()).max(1);
                let left = self.early_data.checked_sub(data);
                self.early_data = left.ok_or_else(|| {
                    Fault::of(Failure::Misbehaved, AlertDescription::BAD_RECORD_MAC)
                })?;
                Ok(None)
            }
            Err(CryptoError::Unsupported | CryptoError::Backend) => Err(Fault::of(
                Failure::Internal,
                AlertDescription::INTERNAL_ERROR,
            )),
        }
    }

    /// Checks the header of the only message that a client without a certificate sends.
    fn admit_finished(&mut self, content: &[u8]) -> Result<bool, Fault> {
        let missing = MESSAGE_HEADER_LEN - self.header.len();
        self.header.extend(content.iter().take(missing));
        if self.header.first() != Some(&FINISHED) {
            return Err(Fault::UNEXPECTED);
        }
        let Some(&[_, high, mid, low]) = self.header.first_chunk() else {
            return Ok(true);
        };
        match u32::from_be_bytes([0, high, mid, low]) as usize {
            len if len == self.finished_len => Ok(true),
            len if len > MESSAGE_BYTES_MAX => Err(Fault::TOO_LONG),
            //= https://www.rfc-editor.org/rfc/rfc8446#section-6.2
            //# decode_error:  A message could not be decoded because some field was
            //# out of the specified range or the length of the message was
            //# incorrect.
            _ => Err(Fault::MALFORMED),
        }
    }
}

fn admit_alert(content: &[u8]) -> Result<bool, Fault> {
    match Alert::parse(content) {
        Some(alert) if alert.description == AlertDescription::CLOSE_NOTIFY => Err(Fault::CLOSED),
        Some(_) => Ok(true),
        None => Err(Fault::MALFORMED),
    }
}

const FINISHED: u8 = 20;
/// Most bytes of early data that are skipped, without their records' types and tags. Tickets of
/// ours allow none, and what tickets of others allow isn't known: servers commonly allow 2^14.
const EARLY_DATA_MAX: usize = 1 << 14;

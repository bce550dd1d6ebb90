//! Checks of a record before rustls gets it, and the joining of messages in several records.

use lockgate_ktls::{Alert, AlertDescription, ContentType, HEADER_LEN, RecordHeader};
use rustls::ProtocolVersion;

use super::{Conn, Handshake, INCOMING_BYTES_MAX, server_random};
use crate::tls::failure::{Failure, Fault};
use crate::tls::hello::{HelloFacts, MESSAGE_HEADER_LEN};
use crate::tls::protected::ProtectedRecords;
use crate::tls::screen::{PeerProtection, check_header};

impl Handshake {
    /// Checks a record and appends it to what the library gets next. Returns false if the library
    /// gets nothing: the record is dropped, or kept until its message is complete.
    pub(super) fn admit(
        &mut self,
        record: &[u8],
        protection: PeerProtection,
    ) -> Result<bool, Fault> {
        let (header, content) = record
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Fault::UNEXPECTED)?;
        let header = RecordHeader::parse(*header);
        check_header(header, protection)?;
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# Handshake messages MUST NOT be interleaved with other record
        //# types.
        let is_partial = !self.incoming.is_empty() || !self.partial.is_empty();
        let is_plaintext = protection == PeerProtection::Plaintext
            || protection == PeerProtection::Tls13 && header.kind != ContentType::APPLICATION_DATA;
        if is_partial && is_plaintext && header.kind != ContentType::HANDSHAKE {
            return Err(Fault::UNEXPECTED);
        }
        let is_server = matches!(self.conn, Conn::Server(_));
        let is_admitted = match header.kind {
            ContentType::CHANGE_CIPHER_SPEC => self.admit_change_cipher_spec(content)?,
            ContentType::ALERT if is_plaintext => self.admit_alert(content)?,
            ContentType::HANDSHAKE if is_plaintext && is_server => {
                return self.join(record, content);
            }
            ContentType::HANDSHAKE if is_plaintext => {
                self.server_random = self.server_random.or_else(|| server_random(content));
                true
            }
            ContentType::APPLICATION_DATA if protection == PeerProtection::Tls13 && is_server => {
                self.admit_protected(content)?
            }
            _ => true,
        };
        if is_admitted {
            self.incoming.extend_from_slice(record);
        }
        Ok(is_admitted)
    }

    /// Joins a client's message in plaintext. The library gets it when it is complete, in records
    /// as long as possible: it looks at all records of a message again with each new one, which
    /// would make short ones costly.
    fn join(&mut self, record: &[u8], content: &[u8]) -> Result<bool, Fault> {
        let expects_hello = self.expects_hello();
        if self.partial.is_empty()
            && let Some(len) = message_len(content, expects_hello)?
        {
            self.read_hello(content.get(..len), expects_hello);
            self.incoming.extend_from_slice(record);
            return Ok(true);
        }
        self.partial_records_len += record.len();
        if self.partial_records_len > INCOMING_BYTES_MAX {
            return Err(Fault::TOO_LONG);
        }
        self.partial.extend_from_slice(content);
        let Some(len) = message_len(&self.partial, expects_hello)? else {
            return Ok(false);
        };
        let joined = core::mem::take(&mut self.partial);
        self.partial_records_len = 0;
        self.read_hello(joined.get(..len), expects_hello);
        let [kind, major, minor, ..] = *record else {
            return Err(Fault::silent(Failure::Internal));
        };
        for content in joined.chunks(CONTENT_MAX) {
            let [high, low] = u16::try_from(content.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes();
            self.incoming
                .extend_from_slice(&[kind, major, minor, high, low]);
            self.incoming.extend_from_slice(content);
        }
        Ok(true)
    }

    fn read_hello(&mut self, message: Option<&[u8]>, expects_hello: bool) {
        if expects_hello {
            self.hello = message.and_then(HelloFacts::parse);
        }
    }

    /// Checks a client's protected record in TLS 1.3.
    fn admit_protected(&mut self, content: &[u8]) -> Result<bool, Fault> {
        if self.protected.is_none()
            && let Some(suite) = self.conn.suite()
            && let Some(secret) = &self.captured.client_handshake
        {
            let has_early_data = self.hello.is_some_and(|hello| hello.has_early_data);
            self.protected = ProtectedRecords::new(suite, secret, has_early_data);
        }
        match &mut self.protected {
            Some(protected) => protected.admit(content),
            None => Err(Fault::silent(Failure::Internal)),
        }
    }

    fn admit_change_cipher_spec(&mut self, content: &[u8]) -> Result<bool, Fault> {
        // The library answers another value in TLS 1.2 by decode_error.
        if content != [1] && !self.peer_changed_cipher {
            return Err(Fault::UNEXPECTED);
        }
        let version = self.conn.version();
        if version == Some(ProtocolVersion::TLSv1_3) {
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5
            //# An implementation may receive an unencrypted record of type
            //# change_cipher_spec consisting of the single byte value 0x01 at any
            //# time after the first ClientHello message has been sent or received
            //# and before the peer's Finished message has been received and MUST
            //# simply drop it without further processing.
            //
            // The library refuses the third.
            self.count_idle()?;
            return Ok(false);
        }
        self.peer_changed_cipher |= version == Some(ProtocolVersion::TLSv1_2);
        Ok(true)
    }

    /// Checks an alert in plaintext.
    fn admit_alert(&self, content: &[u8]) -> Result<bool, Fault> {
        let Some(alert) = Alert::parse(content) else {
            return Err(Fault::MALFORMED);
        };
        if alert.description == AlertDescription::CLOSE_NOTIFY {
            //= https://www.rfc-editor.org/rfc/rfc5246#section-7.2.1
            //# The other party MUST respond with a close_notify
            //# alert of its own and close down the connection immediately,
            //# discarding any pending writes.
            return Err(Fault::CLOSED);
        }
        if self.conn.version() != Some(ProtocolVersion::TLSv1_3) && !alert.level.is_known() {
            let alert = AlertDescription::ILLEGAL_PARAMETER;
            return Err(Fault::of(Failure::Misbehaved, alert));
        }
        Ok(true)
    }

    /// Whether the next handshake message in plaintext has to be a ClientHello.
    fn expects_hello(&self) -> bool {
        let undecided = match self.conn.version() {
            None => true,
            // A HelloRetryRequest was sent.
            Some(version) => version == ProtocolVersion::TLSv1_3,
        };
        matches!(self.conn, Conn::Server(_))
            && undecided
            && self.protection() == PeerProtection::Plaintext
    }
}

/// Returns the length of a message with its header, once it is complete. Fails if another message
/// begins where a ClientHello is expected, or if it is too long.
fn message_len(message: &[u8], expects_hello: bool) -> Result<Option<usize>, Fault> {
    if expects_hello && message.first() != Some(&CLIENT_HELLO) {
        return Err(Fault::UNEXPECTED);
    }
    let Some(&[_, high, mid, low]) = message.first_chunk() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([0, high, mid, low]) as usize;
    if len > MESSAGE_BYTES_MAX {
        return Err(Fault::TOO_LONG);
    }
    let len = MESSAGE_HEADER_LEN + len;
    Ok((message.len() >= len).then_some(len))
}

/// The content of the longest record (RFC 8446, 5.1).
const CONTENT_MAX: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
/// The longest handshake message, without its header: the library's limit.
pub(in crate::tls) const MESSAGE_BYTES_MAX: usize = 0xffff;

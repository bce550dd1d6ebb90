//! Checks of a record before rustls gets it.

use lockgate_ktls::{Alert, AlertDescription, ContentType, HEADER_LEN, RecordHeader};
use rustls::ProtocolVersion;

use super::{Conn, Handshake, server_random};
use crate::tls::failure::{Failure, Fault};
use crate::tls::hello::{HelloFacts, MESSAGE_HEADER_LEN};
use crate::tls::protected::ProtectedRecords;
use crate::tls::screen::{PeerProtection, check_header};

impl Handshake {
    /// Checks a record before the library gets it. Returns false for one to be dropped.
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
        let is_partial = !self.incoming.is_empty();
        let is_plaintext = protection == PeerProtection::Plaintext
            || protection == PeerProtection::Tls13 && header.kind != ContentType::APPLICATION_DATA;
        if is_partial && is_plaintext && header.kind != ContentType::HANDSHAKE {
            return Err(Fault::UNEXPECTED);
        }
        match header.kind {
            ContentType::CHANGE_CIPHER_SPEC => self.admit_change_cipher_spec(content),
            ContentType::ALERT if is_plaintext => self.admit_alert(content),
            ContentType::HANDSHAKE if self.expects_hello() => {
                self.admit_hello(content)?;
                Ok(true)
            }
            ContentType::HANDSHAKE if is_plaintext => {
                self.server_random = self.server_random.or_else(|| server_random(content));
                Ok(true)
            }
            ContentType::APPLICATION_DATA
                if protection == PeerProtection::Tls13 && matches!(self.conn, Conn::Server(_)) =>
            {
                self.admit_protected(content)
            }
            _ => Ok(true),
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

    /// Checks the first bytes of a ClientHello, and reads its facts once it is complete.
    fn admit_hello(&mut self, content: &[u8]) -> Result<(), Fault> {
        if self.partial_hello.is_empty()
            && let Some(len) = hello_len(content)?
        {
            self.hello = HelloFacts::parse(&content[..len]);
            return Ok(());
        }
        self.partial_hello.extend_from_slice(content);
        if let Some(len) = hello_len(&self.partial_hello)? {
            self.hello = HelloFacts::parse(&self.partial_hello[..len]);
            self.partial_hello = Vec::new();
        }
        Ok(())
    }
}

/// Returns the length of a ClientHello with its header, once it is complete. Fails if `message`
/// begins another message, or one that is too long.
fn hello_len(message: &[u8]) -> Result<Option<usize>, Fault> {
    if message.first() != Some(&CLIENT_HELLO) {
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

const CLIENT_HELLO: u8 = 1;
/// The longest handshake message, without its header: the library's limit.
pub(in crate::tls) const MESSAGE_BYTES_MAX: usize = 0xffff;

//! What the content of a received record means: data, alerts, handshake messages.

use super::flood::{EMPTY_MAX, FloodLimits, MESSAGES_MAX, WARNINGS_MAX};
use super::messages::Message;
use super::{Reader, Received, RecordMeta, Rx, RxRecord, State};
use crate::alert::{Alert, AlertDescription, AlertLevel};
use crate::cipher::Ciphers;
use crate::codec;
use crate::counters::Counter;
use crate::error::{CryptoError, RxError};
use crate::job::OpenJob;
use crate::limits::KeyLimits;
use crate::role::Role;
use crate::suite::{CONTENT_MAX, ContentType, Version};

impl Rx {
    /// Returns the event of a record that was opened, well or badly. `is_older`: the application
    /// has set other keys since the record was detached.
    pub(super) fn on_opened(
        &mut self,
        job: OpenJob,
        is_older: bool,
        ciphers: &mut Ciphers,
    ) -> Result<Received, RxError> {
        let (header, memory, result) = job.end();
        let plaintext = result.map_err(|error| {
            ciphers.counters.add(Counter::FailedCrypto, 1);
            match error {
                // The key that it is counted for is gone.
                CryptoError::BadTag if is_older => RxError::BadRecord,
                CryptoError::BadTag => self.forgery(),
                CryptoError::Unsupported | CryptoError::Backend => RxError::Backend,
            }
        })?;
        let text = memory.bytes().get(..plaintext).ok_or(RxError::Backend)?;
        let (kind, content) = match self.session.params().version {
            Version::Tls10 | Version::Tls11 | Version::Tls12 => (header.kind, plaintext),
            Version::Tls13 => codec::inner_type(text).ok_or(RxError::NoContentType)?,
        };
        // Behind the content there is the inner type, then padding.
        let is_padded = self.session.params().version == Version::Tls13 && plaintext > content + 1;
        if is_padded && self.reader.expects_no_pad() {
            ciphers.counters.add(Counter::RxNoPadViolation, 1);
        }
        // Only CBC gets here with more: its length field doesn't tell content and padding apart.
        let length = u16::try_from(content)
            .ok()
            .filter(|&length| length <= CONTENT_MAX)
            .ok_or(RxError::RecordTooLong)?;
        let meta = RecordMeta {
            kind,
            version: header.version,
            length,
        };
        let record = RxRecord::new(meta, memory);
        match self.reader {
            Reader::Stack { role, .. } => self.on_record(kind, record, role, ciphers),
            Reader::Application { .. } => {
                let is_tls13 = self.session.params().version == Version::Tls13;
                // The keys that a KeyUpdate of an older key asks for were set.
                if is_tls13
                    && !is_older
                    && kind == ContentType::HANDSHAKE
                    && self.joiner.scan_for_key_update(record.as_slice())
                {
                    ciphers.counters.add(Counter::RxRekeyReceived, 1);
                    self.state = State::KeyExpired;
                }
                Ok(Received::Record(record))
            }
        }
    }

    /// Counts a record that isn't authentic. The next ones can be read until the key's limit.
    fn forgery(&mut self) -> RxError {
        self.forgeries = self.forgeries.saturating_add(1);
        if self.forgeries >= KeyLimits::of(self.session.params().suite).forgeries {
            RxError::Forgeries
        } else {
            RxError::BadRecord
        }
    }

    pub(super) fn on_record(
        &mut self,
        kind: ContentType,
        record: RxRecord,
        role: Role,
        ciphers: &mut Ciphers,
    ) -> Result<Received, RxError> {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
        //# Handshake messages MUST NOT be interleaved with other record
        //# types.
        if kind != ContentType::HANDSHAKE && !self.joiner.is_empty() {
            return Err(RxError::Unexpected);
        }
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.4
        //# Implementations MUST NOT send Handshake and Alert records that have a
        //# zero-length TLSInnerPlaintext.content; if such a message is received,
        //# the receiving implementation MUST terminate the connection with an
        //# "unexpected_message" alert.
        //
        // RFC 5246, 6.2.1 forbids them, too, and names no alert.
        if matches!(kind, ContentType::HANDSHAKE | ContentType::ALERT)
            && record.as_slice().is_empty()
        {
            return Err(RxError::Unexpected);
        }
        match kind {
            ContentType::HANDSHAKE => {
                self.joiner.add(record.as_slice());
                match self.take_message(role)? {
                    Some(message) => self.on_message(message, ciphers),
                    None => Ok(Received::Nothing),
                }
            }
            ContentType::ALERT => self.on_alert(record.as_slice()),
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5
            //# If an implementation detects a change_cipher_spec record
            //# received before the first ClientHello message or after the peer's
            //# Finished message, it MUST be treated as an unexpected record type
            ContentType::CHANGE_CIPHER_SPEC => Err(RxError::Unexpected),
            _ => {
                if record.as_slice().is_empty() {
                    self.count(|flood| &mut flood.empty, EMPTY_MAX)?;
                } else if let Reader::Stack { flood, .. } = &mut self.reader {
                    *flood = FloodLimits::default();
                }
                Ok(Received::Record(record))
            }
        }
    }

    pub(super) fn on_alert(&mut self, content: &[u8]) -> Result<Received, RxError> {
        let alert = Alert::parse(content).ok_or(RxError::Malformed)?;
        let is_tls13 = self.session.params().version == Version::Tls13;
        if !is_tls13 && !alert.level.is_known() {
            return Err(RxError::IllegalValue);
        }
        if alert.description == AlertDescription::CLOSE_NOTIFY {
            return Ok(Received::Closed);
        }
        let warning = match self.session.params().version {
            Version::Tls10 | Version::Tls11 | Version::Tls12 => alert.level == AlertLevel::WARNING,
            //= https://www.rfc-editor.org/rfc/rfc8446#section-6
            //# All the alerts listed in Section 6.2 MUST be sent with
            //# AlertLevel=fatal and MUST be treated as error alerts when received
            //# regardless of the AlertLevel in the message.
            Version::Tls13 => alert.description == AlertDescription::USER_CANCELED,
        };
        if !warning {
            return Err(RxError::PeerAlert(alert.description));
        }
        self.count(|flood| &mut flood.warnings, WARNINGS_MAX)?;
        Ok(Received::Nothing)
    }

    pub(super) fn take_message(&mut self, role: Role) -> Result<Option<Message>, RxError> {
        self.joiner
            .take_message(self.session.params().version, role)
    }

    pub(super) fn on_message(
        &mut self,
        message: Message,
        ciphers: &mut Ciphers,
    ) -> Result<Received, RxError> {
        self.count(|flood| &mut flood.messages, MESSAGES_MAX)?;
        match message {
            Message::KeyUpdate { answer } => {
                ciphers.counters.add(Counter::RxRekeyReceived, 1);
                //= https://www.rfc-editor.org/rfc/rfc8446#section-5.1
                //# Handshake messages MUST NOT span key changes. Implementations
                //# MUST verify that all messages immediately preceding a key change
                //# align with a record boundary; if not, then they MUST terminate the
                //# connection with an "unexpected_message" alert.
                if !self.joiner.is_empty() {
                    return Err(RxError::Unexpected);
                }
                let next = self.session.next().ok_or(RxError::Unexpected)?;
                let old = core::mem::replace(&mut self.session, next);
                ciphers.forget(old.id());
                self.number = 0;
                self.forgeries = 0;
                ciphers.counters.add(Counter::RxRekeyOk, 1);
                Ok(Received::KeyUpdated { answer })
            }
            Message::Ticket(body) => Ok(Received::Ticket(body)),
            Message::Renegotiation => {
                self.count(|flood| &mut flood.warnings, WARNINGS_MAX)?;
                Ok(Received::Renegotiation)
            }
        }
    }

    /// Counts a record that carries no data. An application limits them itself.
    fn count(
        &mut self,
        records: impl FnOnce(&mut FloodLimits) -> &mut u8,
        max: u8,
    ) -> Result<(), RxError> {
        match &mut self.reader {
            Reader::Stack { flood, .. } => FloodLimits::count(records(flood), max),
            Reader::Application { .. } => Ok(()),
        }
    }
}

//! Changes of the sending key: by the queue itself, or by an application that sets keys.

use pktbuf::PagePool;

use super::RecordQueue;
use super::seal::seal_alone;
use super::write::filled;
use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::enable::{EnableError, InvalidKeys};
use crate::error::TxError;
use crate::session::Session;
use crate::suite::{ContentType, Version};

impl RecordQueue {
    /// Queues a KeyUpdate under the current key and switches to the next key (RFC 8446, 4.6.3).
    /// With `ask_peer` it requests the same of the peer. TLS 1.3 only.
    ///
    /// Records that are queued keep the current key. An open record stays open, and will have the
    /// next key.
    ///
    /// # Errors
    ///
    /// - [`TxError::RekeyBusy`] while records of the previous key aren't sealed: at most two keys
    ///   live at a time.
    /// - [`TxError::RekeyUnsupported`] in TLS 1.2 and for keys without their traffic secret.
    /// - [`TxError::KeySpent`], [`TxError::WrongMode`], [`TxError::Exhausted`].
    /// - [`TxError::Crypto`] if sealing fails; the connection has to be closed.
    pub fn update_keys(
        &mut self,
        ask_peer: bool,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
    ) -> Result<(), TxError> {
        let sealed_to = self.sealed_to();
        let keys = self.keys.as_mut().ok_or(TxError::WrongMode)?;
        keys.drop_previous(sealed_to, ciphers);
        if keys.has_previous() {
            return Err(TxError::RekeyBusy);
        }
        if !keys.can_frame_as(ContentType::HANDSHAKE, 1) {
            return Err(TxError::KeySpent);
        }
        let next = keys.session().next().ok_or(TxError::RekeyUnsupported)?;
        let mut buf = filled(&key_update(ask_peer), pool)?;
        let at = self.stream.end();
        keys.frame(ContentType::HANDSHAKE, &mut buf)?;
        // Sealed at once, so that no cut can remove the record that a key change depends on.
        let sealed = seal_alone(&mut buf, keys.session(), ciphers, pool);
        if let Err(error) = sealed {
            ciphers.counters.add(Counter::FailedCrypto, 1);
            return Err(TxError::Crypto(error));
        }
        self.stream.push(buf);
        let end = self.stream.end();
        keys.control_end = end;
        if self.unsubmitted == at {
            self.unsubmitted = end;
        }
        keys.start_epoch(next, 0, end);
        let sealed_to = self.sealed_to();
        if let Some(keys) = self.keys.as_mut() {
            keys.drop_previous(sealed_to, ciphers);
        }
        ciphers.counters.add(Counter::TxRekeyOk, 1);
        Ok(())
    }

    /// Installs other keys of the same suite and version, which the application derived after the
    /// KeyUpdate that it sent. Everything pushed from now on has them, numbered from
    /// `first_number`. Records that are queued keep their key, and so does the open record, which
    /// is closed.
    ///
    /// # Errors
    ///
    /// - [`EnableError::RekeyBusy`] while records of the key before the current one aren't sealed:
    ///   at most two keys live at a time.
    /// - [`EnableError::RekeyMismatch`] for another suite or version, and in TLS 1.2.
    /// - [`EnableError::Invalid`] if the current key is the same: its numbers would be used twice.
    /// - [`EnableError::OpenRecord`] if the open record can't be closed.
    pub fn replace_keys(
        &mut self,
        session: Session,
        first_number: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), EnableError> {
        ciphers.counters.add(Counter::EnableCalls, 1);
        let replaced = self.try_replace_keys(session, first_number, ciphers);
        let counter = match replaced {
            Ok(()) => Counter::TxRekeyOk,
            Err(_) => Counter::TxRekeyError,
        };
        ciphers.counters.add(counter, 1);
        replaced
    }

    fn try_replace_keys(
        &mut self,
        session: Session,
        first_number: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), EnableError> {
        let sealed_to = self.sealed_to();
        let keys = self.keys.as_mut().ok_or(EnableError::RekeyMismatch)?;
        let params = keys.params();
        if params != session.params() || params.version != Version::Tls13 {
            return Err(EnableError::RekeyMismatch);
        }
        if keys.session().has_keys_of(&session) {
            return Err(EnableError::Invalid(InvalidKeys::KeyInUse));
        }
        keys.drop_previous(sealed_to, ciphers);
        if keys.has_previous() {
            return Err(EnableError::RekeyBusy);
        }
        self.flush().map_err(EnableError::OpenRecord)?;
        let (end, sealed_to) = (self.stream.end(), self.sealed_to());
        if let Some(keys) = self.keys.as_mut() {
            keys.start_epoch(session, first_number, end);
            keys.drop_previous(sealed_to, ciphers);
        }
        self.debug_check();
        Ok(())
    }
}

/// The message that announces the sender's next key.
const fn key_update(ask_peer: bool) -> [u8; 5] {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3
    //# struct {
    //#     KeyUpdateRequest request_update;
    //# } KeyUpdate;
    [crate::deframer::KEY_UPDATE, 0, 0, 1, ask_peer as u8]
}

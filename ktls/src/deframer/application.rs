//! Receiving with keys that an application set.

use pktbuf::{Buffer, Stream};

use super::messages::HandshakeJoiner;
use super::{Deframer, Reader, Rx, State};
use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::enable::{EnableError, KeyInfo};
use crate::error::TxError;
use crate::session::Session;
use crate::suite::Version;

impl Deframer {
    /// Creates a deframer for keys that an application set. It delivers every record: alerts,
    /// handshake messages, empty records, types that it doesn't know, as many as come. After a
    /// KeyUpdate there are no more records until [`replace_keys`](Self::replace_keys).
    ///
    /// `chain` starts with the first byte of record `first_number`.
    pub fn for_application(
        session: Session,
        first_number: u64,
        chain: Stream<Buffer>,
        ciphers: &mut Ciphers,
    ) -> Self {
        let reader = Reader::Application {
            expects_no_pad: false,
            is_detached_older: false,
        };
        Self::with_reader(session, first_number, reader, chain, ciphers)
    }

    /// Installs other keys of the same suite and version, which the application derived after a
    /// KeyUpdate. They open what isn't detached yet, from record `first_number` on. A record that
    /// is detached has the old key, and comes first.
    ///
    /// # Errors
    ///
    /// [`EnableError::AlreadyEnabled`] for keys of the stack's own handshake,
    /// [`EnableError::RekeyMismatch`] for another suite or version and in TLS 1.2.
    pub fn replace_keys(
        &mut self,
        session: Session,
        first_number: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), EnableError> {
        ciphers.counters.add(Counter::EnableCalls, 1);
        let replaced = self.rx.replace_keys(session, first_number, ciphers);
        let counter = match replaced {
            Ok(()) => Counter::RxRekeyOk,
            Err(_) => Counter::RxRekeyError,
        };
        ciphers.counters.add(counter, 1);
        replaced
    }

    /// Expects that the peer pads no record: Linux's `TLS_RX_EXPECT_NO_PAD`. Padded records are
    /// opened all the same, and counted. Opening doesn't depend on it, because every record is
    /// opened in place.
    ///
    /// # Errors
    ///
    /// [`TxError::WrongMode`] in TLS 1.2, which has no padding, and for keys of the stack's own
    /// handshake.
    pub fn set_expect_no_pad(&mut self, expected: bool) -> Result<(), TxError> {
        let is_tls13 = self.params().version == Version::Tls13;
        match &mut self.rx.reader {
            Reader::Application { expects_no_pad, .. } if is_tls13 => {
                *expects_no_pad = expected;
                Ok(())
            }
            Reader::Application { .. } | Reader::Stack { .. } => Err(TxError::WrongMode),
        }
    }

    /// Whether the application has to set the next keys before a record can be read.
    pub fn is_key_expired(&self) -> bool {
        matches!(self.rx.state, State::KeyExpired)
    }

    /// Whether padded records are counted; see [`set_expect_no_pad`](Self::set_expect_no_pad).
    pub fn expects_no_pad(&self) -> bool {
        self.rx.reader.expects_no_pad()
    }

    /// Returns the state of the keys.
    pub fn key_info(&self) -> KeyInfo {
        KeyInfo {
            params: self.params(),
            iv: self.rx.session.iv(),
            rec_seq: self.rx.number,
        }
    }
}

impl Rx {
    fn replace_keys(
        &mut self,
        session: Session,
        first_number: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), EnableError> {
        if let Reader::Stack { .. } = self.reader {
            return Err(EnableError::AlreadyEnabled);
        }
        let params = self.session.params();
        if params != session.params() || params.version != Version::Tls13 {
            return Err(EnableError::RekeyMismatch);
        }
        self.reader.set_detached_older(self.detached.is_some());
        let old = core::mem::replace(&mut self.session, session);
        ciphers.forget(old.id());
        self.number = first_number;
        self.forgeries = 0;
        // The next message begins with the first record of its key.
        self.joiner = HandshakeJoiner::default();
        if let State::KeyExpired = self.state {
            self.state = State::Open;
        }
        Ok(())
    }
}

impl Reader {
    /// Whether padded records are counted.
    pub(super) fn expects_no_pad(self) -> bool {
        match self {
            Self::Stack { .. } => false,
            Self::Application { expects_no_pad, .. } => expects_no_pad,
        }
    }

    /// Whether the detached record has a key before the current one.
    pub(super) fn is_detached_older(self) -> bool {
        match self {
            Self::Stack { .. } => false,
            Self::Application {
                is_detached_older, ..
            } => is_detached_older,
        }
    }

    /// Notes whether the detached record has a key before the current one. Keys of the stack's
    /// handshake change with a record that isn't detached any more.
    pub(super) fn set_detached_older(&mut self, older: bool) {
        if let Self::Application {
            is_detached_older, ..
        } = self
        {
            *is_detached_older = older;
        }
    }
}

//! The keys of a send queue: sessions, record numbers, and limits of a key's use.

use pktbuf::{PageBuf, RecordFields};

use super::seal::NONE_AWAY;
use super::size::RecordSize;
use crate::cipher::Ciphers;
use crate::error::{CryptoError, TxError};
use crate::limits::KeyLimits;
use crate::session::Session;
use crate::suite::{ContentType, IV_LEN, Params};

/// Use of the current key, compared with its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyUse {
    /// Far from its limits, or there are no keys.
    Fine,
    /// In TLS 1.3 call [`RecordQueue::update_keys`](super::RecordQueue::update_keys) soon. If that
    /// isn't possible, and in TLS 1.2, close soon.
    RefreshDue,
    /// No more records can be framed.
    Spent,
}

/// The keys of a queue: the current session, the previous one while records of it are unsealed, and
/// the next record's number.
pub(super) struct Protection {
    current: Session,
    earlier: Option<Box<Earlier>>,
    /// Number of the next record.
    next: u64,
    /// Number of the first record under the current session.
    first: u64,
    /// Offset after the last record that was ever submitted to be sealed. Nothing before it can be
    /// cut.
    pub(super) submitted: u64,
    /// Offset of the first record that is away, or [`NONE_AWAY`].
    pub(super) away: u64,
    /// Whether that one is lost: it stays away for ever.
    pub(super) is_lost: bool,
    /// Offset after the last record that isn't application data, or that has another key.
    pub(super) control_end: u64,
    /// The record that `more` left open: plain, and not in the queue yet.
    pub(super) open: Option<PageBuf>,
    /// Records after which a key change is due; `u16::MAX`: as the suite says.
    refresh_after: u16,
    /// How long records of application data are.
    pub(super) size: RecordSize,
    epoch: u8,
}

/// What is kept of records before the current ones.
enum Earlier {
    /// TLS 1.3, after a KeyUpdate: the previous key.
    Previous(Previous),
    /// TLS 1.0: the IV of the first record that isn't sealed.
    ChainedIv([u8; IV_LEN]),
}

struct Previous {
    session: Session,
    epoch: u8,
    /// Offset after its last record: the KeyUpdate, unless an application set the keys.
    until: u64,
}

impl Protection {
    pub(super) fn new(session: Session, first: u64, queued: u64) -> Self {
        Self {
            earlier: session.first_iv().map(Earlier::ChainedIv).map(Box::new),
            current: session,
            next: first,
            first,
            submitted: queued,
            away: NONE_AWAY,
            is_lost: false,
            control_end: 0,
            open: None,
            refresh_after: u16::MAX,
            size: RecordSize::new(),
            epoch: 0,
        }
    }

    /// Frames `buf` as the next record: fixes header, number and length.
    pub(super) fn frame(&mut self, kind: ContentType, buf: &mut PageBuf) -> Result<(), TxError> {
        if !self.can_frame_as(kind, 1) {
            return Err(TxError::KeySpent);
        }
        let params = self.current.params();
        let content = u16::try_from(buf.body_len()).map_err(|_| TxError::MessageSize)?;
        let head = self.current.head(self.next, kind, content);
        let record = RecordFields {
            number: self.next,
            kind: kind.0,
            epoch: self.epoch,
        };
        let framed = buf.frame(record, head.as_bytes(), params.shape().tail_len(content));
        debug_assert!(
            framed.is_ok(),
            "the queue frames fresh plain buffers only: {framed:?}"
        );
        framed.map_err(|_| TxError::Crypto(CryptoError::Backend))?;
        if kind == ContentType::APPLICATION_DATA {
            self.size.on_data_framed();
        }
        self.next += 1;
        Ok(())
    }

    /// Makes the numbers from this record's on available again. None of them was sealed.
    ///
    /// # Errors
    ///
    /// If the record isn't one of the current key's: its number would be used for two plaintexts.
    pub(super) fn roll_back(&mut self, first_cut: RecordFields) -> Result<(), CryptoError> {
        if first_cut.epoch != self.epoch || !(self.first..self.next).contains(&first_cut.number) {
            return Err(CryptoError::Backend);
        }
        self.next = first_cut.number;
        Ok(())
    }

    /// Switches to `session`, whose first record has the number `first`. `until` is the offset
    /// after the last record under the current one.
    pub(super) fn start_epoch(&mut self, session: Session, first: u64, until: u64) {
        debug_assert!(self.earlier.is_none(), "at most two keys live");
        self.earlier = Some(Box::new(Earlier::Previous(Previous {
            session: core::mem::replace(&mut self.current, session),
            epoch: self.epoch,
            until,
        })));
        self.submitted = until;
        self.control_end = until;
        self.epoch = self.epoch.wrapping_add(1);
        self.first = first;
        self.next = first;
    }

    /// Drops the previous session once all its records are sealed.
    pub(super) fn drop_previous(&mut self, sealed_to: u64, ciphers: &mut Ciphers) {
        if let Some(previous) = self.previous()
            && previous.until <= sealed_to
        {
            ciphers.forget(previous.session.id());
            self.earlier = None;
        }
    }

    /// Removes the expanded keys.
    pub(super) fn forget(&self, ciphers: &mut Ciphers) {
        ciphers.forget(self.current.id());
        if let Some(previous) = self.previous() {
            ciphers.forget(previous.session.id());
        }
    }

    pub(super) fn set_refresh_after(&mut self, records: u16) {
        self.refresh_after = records;
    }

    /// Returns the session of an epoch, if it is one of the two that live.
    pub(super) fn session_of(&self, epoch: u8) -> Option<&Session> {
        if epoch == self.epoch {
            return Some(&self.current);
        }
        let previous = self.previous()?;
        (epoch == previous.epoch).then_some(&previous.session)
    }

    /// Returns the IV of the next record to be sealed in TLS 1.0.
    pub(super) fn chained_iv(&self) -> Option<[u8; IV_LEN]> {
        match self.earlier.as_deref()? {
            Earlier::ChainedIv(iv) => Some(*iv),
            Earlier::Previous(_) => None,
        }
    }

    /// Takes over the end of a sealed record as the next one's IV in TLS 1.0.
    pub(super) fn chain(&mut self, wire: &[u8]) {
        //= https://www.rfc-editor.org/rfc/rfc2246#section-6.2.3.2
        //# The IV for subsequent records is the last ciphertext
        //# block from the previous record.
        if let Some(Earlier::ChainedIv(iv)) = self.earlier.as_deref_mut()
            && let Some(last) = wire.last_chunk()
        {
            *iv = *last;
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.current
    }

    pub(super) fn params(&self) -> Params {
        self.current.params()
    }

    pub(super) fn has_previous(&self) -> bool {
        self.previous().is_some()
    }

    fn previous(&self) -> Option<&Previous> {
        match self.earlier.as_deref()? {
            Earlier::Previous(previous) => Some(previous),
            Earlier::ChainedIv(_) => None,
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    #[cfg(test)]
    pub(super) fn set_next_number(&mut self, number: u64) {
        self.next = number;
    }

    #[cfg(test)]
    pub(super) fn set_epoch(&mut self, epoch: u8) {
        self.epoch = epoch;
    }

    /// Whether `records` more records of application data can be framed.
    pub(super) fn can_frame(&self, records: u64) -> bool {
        self.can_frame_as(ContentType::APPLICATION_DATA, records)
    }

    /// Whether `records` more records of a type can be framed. With a key that is used up, a few of
    /// other types than data can, so that a close_notify or a KeyUpdate can follow the data.
    pub(super) fn can_frame_as(&self, kind: ContentType, records: u64) -> bool {
        let kept = match kind {
            ContentType::APPLICATION_DATA => 0,
            _ => MESSAGES_KEPT,
        };
        let end = self.limits().1.saturating_add(kept);
        let next = self.next.checked_add(records);
        next.is_some_and(|next| next <= end)
    }

    pub(super) fn key_use(&self) -> KeyUse {
        let (refresh, spent) = self.limits();
        if self.next >= spent {
            KeyUse::Spent
        } else if self.next >= refresh {
            KeyUse::RefreshDue
        } else {
            KeyUse::Fine
        }
    }

    /// Returns the number from which a key change is due, and the first that cannot be framed.
    fn limits(&self) -> (u64, u64) {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-5.3
        //# Because the size of sequence numbers is 64-bit, they should not wrap.
        let (mut refresh, mut spent) = (u64::MAX - WRAP_MARGIN, u64::MAX);
        let limits = KeyLimits::of(self.params().suite);
        refresh = refresh.min(self.first.saturating_add(limits.refresh));
        spent = spent.min(self.first.saturating_add(limits.spent));
        if self.refresh_after < u16::MAX {
            refresh = refresh.min(self.first.saturating_add(u64::from(self.refresh_after)));
        }
        (refresh, spent)
    }

    /// Whether a record may be the first of its key.
    pub(super) fn may_begin(&self, record: RecordFields) -> bool {
        record.epoch != self.epoch || record.number == self.first
    }

    /// Checks that the queue's last record is the one before the next.
    pub(super) fn check(&self, epoch: u8, last: u64) -> Result<(), &'static str> {
        if epoch == self.epoch && last.wrapping_add(1) != self.next {
            return Err("the next number doesn't follow the last record's");
        }
        Ok(())
    }
}

/// Numbers of a used up key for alerts and handshake messages. They are short: the margin of the
/// limit is for full records.
const MESSAGES_KEPT: u64 = 16;
/// Numbers left when `RefreshDue` begins: enough for what is queued and an alert.
const WRAP_MARGIN: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Suite, Version};

    fn keys() -> Protection {
        let params = Params::new(Suite::Aes128Gcm, Version::Tls13);
        let session = Session::from_secret(params.suite, &[1; 32]).unwrap();
        Protection::new(session, 10, 0)
    }

    #[test]
    fn an_epoch_that_does_not_live_has_no_session() {
        let mut keys = keys();
        let first = keys.current.id();
        assert_eq!(keys.session_of(0).map(Session::id), Some(first));
        assert!(keys.session_of(1).is_none() && keys.session_of(255).is_none());

        let next = keys.current.next().unwrap();
        let second = next.id();
        keys.start_epoch(next, 0, 100);
        assert_eq!(keys.session_of(0).map(Session::id), Some(first));
        assert_eq!(keys.session_of(1).map(Session::id), Some(second));
        assert!(keys.session_of(2).is_none() && keys.session_of(255).is_none());

        let mut ciphers = Ciphers::new(crate::BackendChoice::Auto, 2);
        keys.drop_previous(100, &mut ciphers);
        assert!(keys.session_of(0).is_none(), "its records are sealed");
    }

    /// The number of another key's record, or one that wasn't framed, is never given out again.
    #[test]
    fn only_framed_numbers_of_the_current_key_are_taken_back() {
        let mut keys = keys();
        keys.set_next_number(13);
        let record = |epoch, number| RecordFields {
            number,
            kind: 23,
            epoch,
        };
        for (epoch, number) in [(1, 11), (255, 11), (0, 13), (0, 14), (0, 9)] {
            let error = keys.roll_back(record(epoch, number));
            assert_eq!(error, Err(CryptoError::Backend), "{epoch} {number}");
            assert_eq!(keys.next_number(), 13);
        }
        keys.roll_back(record(0, 11)).unwrap();
        assert_eq!(keys.next_number(), 11);
    }
}

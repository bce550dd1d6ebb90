//! The receive side: takes encrypted bytes, returns records.

mod messages;
mod record;

use pktbuf::{Buffer, PageBuf, PagePool, Stream};

use crate::alert::{Alert, AlertDescription, AlertLevel};
use crate::cipher::{Ciphers, OpenJob};
use crate::codec::{self, RecordHeader};
use crate::counters::Counter;
use crate::error::{CryptoError, RxError};
use crate::pages;
use crate::role::Role;
use crate::session::Session;
use crate::shape::RecordShape;
use crate::suite::{ContentType, HEADER_LEN, Params, Version};

pub(crate) use messages::KEY_UPDATE;
use messages::{HandshakeJoiner, Message};
use record::Opened;
pub use record::{RecordMeta, RxRecord};

/// Parses a stream of encrypted bytes into records, opens them, and handles key changes, alerts and
/// session tickets.
///
/// Order of calls: [`push`](Self::push) bytes as they arrive in order, then [`next`](Self::next)
/// until it returns `NeedBytes` or `NeedPages`; at the stream's end [`finish`](Self::finish).
pub struct Deframer {
    /// Encrypted bytes, from the header of record `number` on.
    chain: Stream<Buffer>,
    rx: Box<Rx>,
}

/// State of a receiving direction besides its bytes.
struct Rx {
    session: Session,
    /// Number of the record at the front.
    number: u64,
    /// Handshake messages that are incomplete or not handled yet.
    joiner: HandshakeJoiner,
    state: State,
    role: Role,
    flood: FloodLimits,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// close_notify came.
    Closed,
    /// An error ended the stream.
    Failed(RxError),
}

/// Counts of consecutive records that carried no data, by kind. Each has a limit, against a peer
/// that keeps a worker busy with records that cost it nothing.
#[derive(Clone, Copy, Default)]
struct FloodLimits {
    empty: u8,
    messages: u8,
    warnings: u8,
}

/// An event of the received stream, returned by [`Deframer::next`].
#[derive(Debug)]
pub enum Received {
    /// No complete record has arrived.
    NeedBytes,
    /// A complete record has arrived, but no page buffer is free to open it in. Retry when the pool
    /// has refilled.
    NeedPages,
    /// A record for the application: application data, which may be empty, or a type that the
    /// record layer doesn't know.
    Record(RxRecord),
    /// A KeyUpdate arrived and the receiving keys were changed (RFC 8446, 4.6.3). If `answer` is
    /// set, call [`RecordQueue::update_keys`](crate::RecordQueue::update_keys)`(false, ..)`.
    KeyUpdated {
        /// Whether the peer requests a change of our sending keys too.
        answer: bool,
    },
    /// The body of a NewSessionTicket message (RFC 8446, 4.6.1). Clients only.
    Ticket(Box<[u8]>),
    /// TLS 1.2: the peer asks to renegotiate. Answer with the warning
    /// [`NO_RENEGOTIATION`](AlertDescription::NO_RENEGOTIATION).
    Renegotiation,
    /// A record without an event: a warning alert or a part of a message.
    Nothing,
    /// close_notify: the peer has ended its stream. Later bytes are ignored.
    Closed,
}

impl Deframer {
    /// Creates a deframer with the encrypted bytes that have arrived already. `chain` starts with
    /// the first byte of record `first_number`.
    pub fn new(
        session: Session,
        first_number: u64,
        role: Role,
        chain: Stream<Buffer>,
        ciphers: &mut Ciphers,
    ) -> Self {
        ciphers.counters.add(Counter::EnableCalls, 1);
        ciphers.counters.session_opened(session.params());
        let rx = Rx {
            session,
            number: first_number,
            joiner: HandshakeJoiner::default(),
            state: State::Open,
            role,
            flood: FloodLimits::default(),
        };
        Self {
            chain,
            rx: Box::new(rx),
        }
    }

    /// Ends the direction and removes its expanded key. Dropping a deframer instead leaves its
    /// session counted as active.
    pub fn retire(self, ciphers: &mut Ciphers) {
        ciphers.counters.session_closed(self.rx.session.params());
        ciphers.forget(self.rx.session.id());
    }

    /// Appends encrypted bytes, in stream order.
    pub fn push(&mut self, buffer: Buffer) {
        match self.rx.state {
            State::Open => self.chain.push_compact(buffer),
            //= https://www.rfc-editor.org/rfc/rfc8446#section-6.1
            //# Any data received after a closure alert has been received MUST be
            //# ignored.
            State::Closed | State::Failed(_) => drop(buffer),
        }
    }

    /// Returns the next event of the stream. A call opens at most one record.
    ///
    /// # Errors
    ///
    /// [`RxError::BadRecord`] is returned once, and the following records can be read. Any other
    /// error ends the stream, and every later call returns it again.
    pub fn next(
        &mut self,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
    ) -> Result<Received, RxError> {
        self.next_with_reserve(ciphers, pool, &mut None)
    }

    /// As [`next`](Self::next), but a record for which the pool has no page buffer is opened in
    /// `reserve`, which is taken.
    ///
    /// The buffer is handed over as it is. Were it returned to the pool instead, the pool's own
    /// reserve for sealing, or another socket, could keep it from the reader.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_with_reserve(
        &mut self,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Result<Received, RxError> {
        match self.rx.state {
            State::Open => {}
            State::Closed => return Ok(Received::NeedBytes),
            State::Failed(error) => return Err(error),
        }
        let result = self.step(ciphers, pool, reserve);
        match &result {
            Err(error) => {
                ciphers.counters.add(Counter::of(*error), 1);
                if !error.is_recoverable() {
                    self.rx.state = State::Failed(*error);
                    self.chain.release(self.chain.end());
                }
            }
            Ok(Received::NeedPages) => ciphers.counters.add(Counter::WaitedForPages, 1),
            Ok(Received::Closed) => {
                self.rx.state = State::Closed;
                self.chain.release(self.chain.end());
            }
            Ok(_) => {}
        }
        result
    }

    /// Reports the end of the stream, after [`next`](Self::next) returned `NeedBytes`.
    ///
    /// Without an error the peer may still have omitted close_notify: see
    /// [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    ///
    /// [`RxError::Truncated`] if the stream ended inside a record or message.
    pub fn finish(&mut self, ciphers: &mut Ciphers) -> Result<(), RxError> {
        if !matches!(self.rx.state, State::Open)
            || self.chain.is_empty() && self.rx.joiner.is_empty()
        {
            return Ok(());
        }
        ciphers.counters.add(Counter::of(RxError::Truncated), 1);
        self.rx.state = State::Failed(RxError::Truncated);
        self.chain.release(self.chain.end());
        Err(RxError::Truncated)
    }

    /// Whether the peer closed its direction with a close_notify.
    pub fn is_closed(&self) -> bool {
        matches!(self.rx.state, State::Closed)
    }

    /// Returns the number of encrypted bytes that are buffered.
    pub fn buffered(&self) -> u64 {
        self.chain.len()
    }

    /// Returns the bytes of memory that they pin, together with an incomplete handshake message.
    pub fn true_size(&self) -> u32 {
        self.chain
            .true_size()
            .saturating_add(self.rx.joiner.true_size())
    }

    /// Returns the number of the next record.
    pub fn next_number(&self) -> u64 {
        self.rx.number
    }

    /// Returns suite and version.
    pub fn params(&self) -> Params {
        self.rx.session.params()
    }

    fn step(
        &mut self,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Result<Received, RxError> {
        if let Some(message) = self.rx.take_message()? {
            return self.rx.on_message(message, ciphers);
        }
        let Some((header, total)) = self.header(ciphers)? else {
            return Ok(Received::NeedBytes);
        };
        if self.chain.len() < u64::from(total) {
            return Ok(Received::NeedBytes);
        }
        // The last number before a wrap is never used.
        if self.rx.number == u64::MAX {
            return Err(RxError::SequenceExhausted);
        }
        let Some((kind, record)) = self.open(header, total, ciphers, pool, reserve)? else {
            return Ok(Received::NeedPages);
        };
        self.rx.on_record(kind, record, ciphers)
    }

    /// Checks the header at the front and returns it with the record's length. Returns `None` if it
    /// is incomplete.
    fn header(&self, ciphers: &mut Ciphers) -> Result<Option<(RecordHeader, u32)>, RxError> {
        let mut bytes = [0; HEADER_LEN];
        if self.chain.copy_to(self.chain.start(), &mut bytes) < HEADER_LEN {
            return Ok(None);
        }
        let header = RecordHeader::parse(bytes);
        match header.check(self.rx.session.params()) {
            Ok(total) => Ok(Some((header, total))),
            Err(error) => {
                ciphers.counters.add(Counter::CorruptedRecords, 1);
                Err(error)
            }
        }
    }

    /// Detaches the record at the front and opens it. Returns `None`, and leaves the record, if no
    /// page buffer is free.
    fn open(
        &mut self,
        header: RecordHeader,
        total: u32,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Result<Option<(ContentType, RxRecord)>, RxError> {
        let params = self.rx.session.params();
        let mut head = [0; RecordShape::HEAD_MAX];
        let head_len = params.shape().head_len();
        let head = &mut head[..usize::from(head_len)];
        let head_len = u32::from(head_len);
        self.chain.copy_to(self.chain.start(), head);

        let mut opened = if self.is_in_one_piece(total) {
            let Some((mut buffer, released)) = self.chain.pop_front() else {
                return Ok(None);
            };
            buffer.trim_front(released + head_len);
            ciphers.counters.add(Counter::RxInplace, 1);
            Opened::Buffer(buffer)
        } else {
            let Some(page) = self.gather(head_len, total, pool, reserve) else {
                return Ok(None);
            };
            ciphers.counters.add(Counter::RxGathered, 1);
            ciphers
                .counters
                .add(Counter::RxGatheredBytes, u64::from(total - head_len));
            Opened::Page(page)
        };
        let number = self.rx.number;
        self.rx.number += 1;

        let body = opened.bytes_mut().ok_or(RxError::Backend)?;
        let job = OpenJob { number, head, body };
        let plaintext = ciphers.open(&self.rx.session, job).map_err(|error| {
            ciphers.counters.add(Counter::FailedCrypto, 1);
            match error {
                CryptoError::BadTag => RxError::BadRecord,
                CryptoError::Unsupported | CryptoError::Backend => RxError::Backend,
            }
        })?;
        let body = opened.bytes_mut().ok_or(RxError::Backend)?;
        let (kind, content) = match params.version {
            Version::Tls12 => (header.kind, plaintext),
            Version::Tls13 => {
                codec::inner_type(&body[..plaintext]).ok_or(RxError::NoContentType)?
            }
        };
        let length = u16::try_from(content).map_err(|_| RxError::RecordTooLong)?;
        let meta = RecordMeta {
            kind,
            version: header.version,
            length,
        };
        Ok(Some((kind, RxRecord::new(meta, opened))))
    }

    /// Whether the record at the front can be opened in place: it lies in one writable buffer and
    /// ends where that buffer ends.
    fn is_in_one_piece(&self, total: u32) -> bool {
        self.chain
            .find(self.chain.start())
            .is_some_and(|(buffer, at)| {
                buffer.len() - at == total && buffer.is_contiguous() && buffer.is_writable()
            })
    }

    /// Copies the record at the front, without its head, into one page buffer.
    fn gather(
        &mut self,
        head_len: u32,
        total: u32,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Option<PageBuf> {
        let len = total - head_len;
        let start = self.chain.start();
        let reserved = || reserve.take_if(|page| page.room() >= len);
        let mut page = pages::alloc_for_copy(len, pool).or_else(reserved)?;
        let chain = &self.chain;
        page.append_with(len, |out| chain.copy_to(start + u64::from(head_len), out));
        self.chain.release(start + u64::from(total));
        Some(page)
    }
}

impl Rx {
    fn on_record(
        &mut self,
        kind: ContentType,
        record: RxRecord,
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
                match self.take_message()? {
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
                    FloodLimits::count(&mut self.flood.empty, EMPTY_MAX)?;
                } else {
                    self.flood = FloodLimits::default();
                }
                Ok(Received::Record(record))
            }
        }
    }

    fn on_alert(&mut self, content: &[u8]) -> Result<Received, RxError> {
        let alert = Alert::parse(content).ok_or(RxError::Malformed)?;
        let is_tls12 = self.session.params().version == Version::Tls12;
        if is_tls12 && !alert.level.is_known() {
            return Err(RxError::IllegalValue);
        }
        if alert.description == AlertDescription::CLOSE_NOTIFY {
            return Ok(Received::Closed);
        }
        let warning = match self.session.params().version {
            Version::Tls12 => alert.level == AlertLevel::WARNING,
            //= https://www.rfc-editor.org/rfc/rfc8446#section-6
            //# All the alerts listed in Section 6.2 MUST be sent with
            //# AlertLevel=fatal and MUST be treated as error alerts when received
            //# regardless of the AlertLevel in the message.
            Version::Tls13 => alert.description == AlertDescription::USER_CANCELED,
        };
        if !warning {
            return Err(RxError::PeerAlert(alert.description));
        }
        FloodLimits::count(&mut self.flood.warnings, WARNINGS_MAX)?;
        Ok(Received::Nothing)
    }

    fn take_message(&mut self) -> Result<Option<Message>, RxError> {
        self.joiner
            .take_message(self.session.params().version, self.role)
    }

    fn on_message(&mut self, message: Message, ciphers: &mut Ciphers) -> Result<Received, RxError> {
        FloodLimits::count(&mut self.flood.messages, MESSAGES_MAX)?;
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
                ciphers.counters.add(Counter::RxRekeyOk, 1);
                Ok(Received::KeyUpdated { answer })
            }
            Message::Ticket(body) => Ok(Received::Ticket(body)),
            Message::Renegotiation => {
                FloodLimits::count(&mut self.flood.warnings, WARNINGS_MAX)?;
                Ok(Received::Renegotiation)
            }
        }
    }
}

impl FloodLimits {
    fn count(records: &mut u8, max: u8) -> Result<(), RxError> {
        *records += 1;
        if *records > max {
            Err(RxError::Flood)
        } else {
            Ok(())
        }
    }
}

/// Consecutive empty records: rustls's limit too.
const EMPTY_MAX: u8 = 32;
/// Consecutive handshake messages: rustls's limit for key updates too.
const MESSAGES_MAX: u8 = 32;
/// Consecutive warnings and attempts to renegotiate: rustls's limit too.
const WARNINGS_MAX: u8 = 4;

const _: () = assert!(size_of::<Deframer>() <= 72, "an idle direction is thin");

#[cfg(test)]
mod tests;

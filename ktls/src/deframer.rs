//! The receive side: takes encrypted bytes, returns records.

mod application;
mod assembler;
mod content;
mod flood;
mod messages;
mod record;

use core::num::NonZeroU8;

use pktbuf::{Buffer, PageBuf, PagePool, Stream};

use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::enable::Direction;
use crate::error::RxError;
use crate::job::OpenJob;
use crate::role::Role;
use crate::session::Session;
use crate::suite::Params;

use assembler::Assembler;
use flood::FloodLimits;
use messages::HandshakeJoiner;
pub(crate) use messages::KEY_UPDATE;
pub use record::{RecordMeta, RxRecord};

/// Parses a stream of encrypted bytes into records, opens them, and handles key changes, alerts and
/// session tickets.
///
/// Order of calls: [`push`](Self::push) bytes as they arrive in order, then [`next`](Self::next)
/// until it returns `NeedBytes` or `NeedPages`; at the stream's end [`finish`](Self::finish).
/// [`detach`](Self::detach) and [`opened`](Self::opened) are the two halves of `next`: between them
/// a record can be opened elsewhere. Records are returned in order, because the next record is
/// detached after the one before is back.
pub struct Deframer {
    /// Encrypted bytes, from the header of record `number` on.
    assembler: Assembler,
    /// Not in a box: the box would cost an idle connection its header and its pointer.
    rx: Rx,
}

/// State of a receiving direction besides its bytes.
struct Rx {
    session: Session,
    /// Number of the record at the front.
    number: u64,
    /// Records under this key that weren't authentic.
    forgeries: u8,
    /// Memory that the detached record pins, in KiB, if there is one.
    detached: Option<NonZeroU8>,
    /// Handshake messages that are incomplete or not handled yet.
    joiner: HandshakeJoiner,
    state: State,
    reader: Reader,
}

/// What handles alerts, handshake messages and key changes.
#[derive(Clone, Copy)]
enum Reader {
    /// The record layer.
    Stack { role: Role, flood: FloodLimits },
    /// The application that set the keys. It gets every record.
    Application {
        /// Padded records are counted.
        expects_no_pad: bool,
        /// The detached record has a key before the current one.
        is_detached_older: bool,
    },
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// A KeyUpdate was delivered to the application, which hasn't set the next keys.
    KeyExpired,
    /// close_notify came.
    Closed,
    /// An error ended the stream.
    Failed(RxError),
}

/// What comes next in the stream.
enum Found {
    /// A complete record of so many bytes.
    Record(u32),
    /// An event that needs no cipher.
    Event(Received),
}

/// What [`Deframer::detach`] returns.
#[derive(Debug)]
pub enum Detached {
    /// A record to be opened, then [`Deframer::opened`].
    Job(OpenJob),
    /// An event that needs no cipher: [`NeedBytes`](Received::NeedBytes),
    /// [`NeedPages`](Received::NeedPages), or a message of an earlier record.
    Event(Received),
}

/// An event of the received stream, returned by [`Deframer::next`].
#[derive(Debug)]
pub enum Received {
    /// No complete record has arrived, or the one before it is still
    /// [detached](Deframer::detach).
    NeedBytes,
    /// A complete record has arrived, but no page buffer is free to open it in. Retry when the pool
    /// has refilled.
    NeedPages,
    /// A record for the application: application data, which may be empty, or a type that the
    /// record layer doesn't know. With keys [of the application](Deframer::for_application) every
    /// record is one.
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
    /// [`NO_RENEGOTIATION`](crate::AlertDescription::NO_RENEGOTIATION).
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
        let flood = FloodLimits::default();
        let reader = Reader::Stack { role, flood };
        Self::with_reader(session, first_number, reader, chain, ciphers)
    }

    fn with_reader(
        session: Session,
        first_number: u64,
        reader: Reader,
        chain: Stream<Buffer>,
        ciphers: &mut Ciphers,
    ) -> Self {
        ciphers.counters.add(Counter::EnableCalls, 1);
        ciphers
            .counters
            .session_opened(session.params(), Direction::Rx);
        let rx = Rx {
            session,
            number: first_number,
            forgeries: 0,
            detached: None,
            joiner: HandshakeJoiner::default(),
            state: State::Open,
            reader,
        };
        Self {
            assembler: Assembler::new(chain),
            rx,
        }
    }

    /// Ends the direction and removes its expanded key. Dropping a deframer instead leaves its
    /// session counted as active.
    pub fn retire(self, ciphers: &mut Ciphers) {
        let params = self.rx.session.params();
        ciphers.counters.session_closed(params, Direction::Rx);
        ciphers.forget(self.rx.session.id());
    }

    /// Appends encrypted bytes, in stream order.
    pub fn push(&mut self, buffer: Buffer) {
        match self.rx.state {
            State::Open | State::KeyExpired => self.assembler.push(buffer),
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
    /// [`RxError::BadRecord`] and [`RxError::NoContentType`] are returned once, and the following
    /// records can be read. [`RxError::KeyExpired`] is returned until new keys are set. Any other
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
        if let Some(event) = self.ended()? {
            return Ok(event);
        }
        let event = match self.find_record(ciphers) {
            Ok(Found::Record(total)) => match self.detach_record(total, ciphers, pool, reserve) {
                Some(mut job) => {
                    // The job has the result as well.
                    let _ = ciphers.open(&mut job);
                    return self.opened(job, ciphers);
                }
                None => Ok(Received::NeedPages),
            },
            Ok(Found::Event(event)) => Ok(event),
            Err(error) => Err(error),
        };
        self.on_event(&event, ciphers);
        event
    }

    /// Detaches the next record, to be opened here or elsewhere, if no event comes before it. The
    /// record uses up its number. One record is detached at a time: after a KeyUpdate the next one
    /// has another key.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn detach(
        &mut self,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Result<Detached, RxError> {
        if let Some(event) = self.ended()? {
            return Ok(Detached::Event(event));
        }
        let event = match self.find_record(ciphers) {
            Ok(Found::Record(total)) => match self.detach_record(total, ciphers, pool, reserve) {
                Some(job) => return Ok(Detached::Job(job)),
                None => Ok(Received::NeedPages),
            },
            Ok(Found::Event(event)) => Ok(event),
            Err(error) => Err(error),
        };
        self.on_event(&event, ciphers);
        event.map(Detached::Event)
    }

    /// Takes the detached record's job back, and returns the record's event. A job of another
    /// deframer, or one that comes back after the stream has ended, is dropped.
    ///
    /// If the keys [were replaced](Self::replace_keys) meanwhile, the record is one of the old key
    /// and the last that has it. Then a job of another deframer with old keys can't be told apart,
    /// so jobs have to be returned to the deframer that made them.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next). A job that wasn't run is [`RxError::Backend`].
    pub fn opened(&mut self, job: OpenJob, ciphers: &mut Ciphers) -> Result<Received, RxError> {
        let is_older = !job.session().is_same(&self.rx.session);
        if self.rx.detached.is_none() || is_older != self.rx.reader.is_detached_older() {
            return Ok(Received::NeedBytes);
        }
        self.rx.detached = None;
        self.rx.reader.set_detached_older(false);
        if let Some(event) = self.ended()? {
            return Ok(event);
        }
        let event = self.rx.on_opened(job, is_older, ciphers);
        self.on_event(&event, ciphers);
        event
    }

    /// Whether a record is detached. Until it is back, [`next`](Self::next) returns `NeedBytes`,
    /// and the end of the stream can't be judged.
    pub fn has_detached(&self) -> bool {
        self.rx.detached.is_some()
    }

    /// Reports the end of the stream, after [`next`](Self::next) returned `NeedBytes` and while no
    /// record is detached.
    ///
    /// Without an error the peer may still have omitted close_notify: see
    /// [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    ///
    /// [`RxError::Truncated`] if the stream ended inside a record or message.
    pub fn finish(&mut self, ciphers: &mut Ciphers) -> Result<(), RxError> {
        if !matches!(self.rx.state, State::Open | State::KeyExpired)
            || self.assembler.is_empty() && self.rx.joiner.is_empty()
        {
            return Ok(());
        }
        ciphers.counters.add(Counter::of(RxError::Truncated), 1);
        self.rx.state = State::Failed(RxError::Truncated);
        self.assembler.clear();
        Err(RxError::Truncated)
    }

    /// Whether the peer closed its direction with a close_notify.
    pub fn is_closed(&self) -> bool {
        matches!(self.rx.state, State::Closed)
    }

    /// Whether bytes are buffered that [`next`](Self::next) has an event for: a complete record, or
    /// a header that is invalid. The bytes of an incomplete record are nothing to read yet.
    pub fn is_readable(&self) -> bool {
        if !matches!(self.rx.state, State::Open) || self.rx.detached.is_some() {
            return false;
        }
        let params = self.rx.session.params();
        self.assembler.header().is_some_and(|header| {
            let total = header.check(params);
            total.map_or(true, |total| self.assembler.len() >= u64::from(total))
        })
    }

    /// Returns the number of encrypted bytes that are buffered.
    pub fn buffered(&self) -> u64 {
        self.assembler.len()
    }

    /// Returns the bytes of memory that they pin, together with a detached record and an incomplete
    /// handshake message.
    pub fn true_size(&self) -> u32 {
        let detached = self.rx.detached.map_or(0, |kib| u32::from(kib.get()) << 10);
        self.assembler
            .true_size()
            .saturating_add(detached)
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

    /// Counts an event, and ends the stream if it does.
    fn on_event(&mut self, event: &Result<Received, RxError>, ciphers: &mut Ciphers) {
        match event {
            Err(error) => {
                ciphers.counters.add(Counter::of(*error), 1);
                if !error.is_recoverable() {
                    self.rx.state = State::Failed(*error);
                    self.assembler.clear();
                }
            }
            Ok(Received::NeedPages) => ciphers.counters.add(Counter::WaitedForPages, 1),
            Ok(Received::Closed) => {
                self.rx.state = State::Closed;
                self.assembler.clear();
            }
            Ok(_) => {}
        }
    }

    /// Returns what every call returns after the stream has ended.
    fn ended(&self) -> Result<Option<Received>, RxError> {
        match self.rx.state {
            State::Open | State::KeyExpired => Ok(None),
            State::Closed => Ok(Some(Received::NeedBytes)),
            State::Failed(error) => Err(error),
        }
    }

    /// Looks for an event that needs no cipher, then for a complete record.
    fn find_record(&mut self, ciphers: &mut Ciphers) -> Result<Found, RxError> {
        if let Reader::Stack { role, .. } = self.rx.reader
            && let Some(message) = self.rx.take_message(role)?
        {
            return self.rx.on_message(message, ciphers).map(Found::Event);
        }
        if matches!(self.rx.state, State::KeyExpired) {
            return Err(RxError::KeyExpired);
        }
        if self.rx.detached.is_some() {
            return Ok(Found::Event(Received::NeedBytes));
        }
        let Some(header) = self.assembler.header() else {
            return Ok(Found::Event(Received::NeedBytes));
        };
        let total = header
            .check(self.rx.session.params())
            .inspect_err(|_| ciphers.counters.add(Counter::CorruptedRecords, 1))?;
        if self.assembler.len() < u64::from(total) {
            return Ok(Found::Event(Received::NeedBytes));
        }
        // The last number before a wrap is never used.
        if self.rx.number == u64::MAX {
            return Err(RxError::SequenceExhausted);
        }
        Ok(Found::Record(total))
    }

    /// Detaches the complete record of `total` bytes. Returns `None`, and leaves the record, if no
    /// page buffer is free.
    fn detach_record(
        &mut self,
        total: u32,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Option<OpenJob> {
        let head_len = self.rx.session.params().shape().head_len();
        let record = self.assembler.detach(head_len, total, pool, reserve)?;
        if record.copied == 0 {
            ciphers.counters.add(Counter::RxInplace, 1);
        } else {
            ciphers.counters.add(Counter::RxGathered, 1);
            let bytes = u64::from(record.copied);
            ciphers.counters.add(Counter::RxGatheredBytes, bytes);
        }
        let number = self.rx.number;
        self.rx.number += 1;
        let session = self.rx.session.clone();
        let job = OpenJob::new(record.memory, session, number, record.head);
        let kib = u8::try_from(job.true_size() >> 10).unwrap_or(u8::MAX);
        self.rx.detached = NonZeroU8::new(kib.saturating_add(1));
        Some(job)
    }
}

const _: () = assert!(size_of::<Deframer>() <= 96, "an idle direction is thin");

#[cfg(test)]
mod tests;

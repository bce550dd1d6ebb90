//! Records on their way through a cipher: owned, so that any thread or device can run them.

use core::fmt;

use pktbuf::{Buffer, PageBuf, SealMemory, SealParts};

use crate::codec::RecordHeader;
use crate::error::CryptoError;
use crate::session::Session;
use crate::shape::RecordShape;
use crate::suite::{ContentType, HEADER_LEN, IV_LEN};

/// A framed record to be sealed, with the key of its epoch and the memory for its ciphertext.
///
/// It owns what it needs, and nothing of the queue that made it: a reference of the record's block,
/// where plaintext and ciphertext are, and a reference of the session. So another thread can run
/// it, also while the queue is cut or dropped. [`RecordQueue::jobs`](crate::RecordQueue::jobs)
/// makes jobs, a [`RecordCipher`](crate::RecordCipher) runs them,
/// [`RecordQueue::sealed`](crate::RecordQueue::sealed) takes them back in any order.
///
/// A job that is dropped instead keeps its record away for ever.
pub struct SealJob {
    memory: SealMemory,
    session: Session,
    chained_iv: [u8; IV_LEN],
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Waiting,
    Sealed,
    Failed(CryptoError),
}

impl SealJob {
    /// Creates the job of a record, whose epoch is the session's. In TLS 1.0 it needs the IV as
    /// well.
    pub fn new(memory: SealMemory, session: Session) -> Self {
        Self {
            memory,
            session,
            chained_iv: [0; IV_LEN],
            progress: Progress::Waiting,
        }
    }

    /// Sets the IV of a TLS 1.0 record.
    #[must_use]
    pub(crate) fn with_chained_iv(mut self, iv: [u8; IV_LEN]) -> Self {
        self.chained_iv = iv;
        self
    }

    /// Returns the IV of a TLS 1.0 record: the last block of the record before. Records of other
    /// versions don't have one.
    pub fn chained_iv(&self) -> [u8; 16] {
        self.chained_iv
    }

    /// Returns the record's key.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the record's sequence number.
    pub fn number(&self) -> u64 {
        self.memory.record().number
    }

    /// Returns the content type.
    pub fn kind(&self) -> ContentType {
        ContentType(self.memory.record().kind)
    }

    /// Whether the ciphertext replaces the content.
    pub fn is_in_place(&self) -> bool {
        self.memory.is_in_place()
    }

    /// Returns the memory to read and to write: as many bytes of ciphertext as there are bytes of
    /// content, and behind them the inner content type of TLS 1.3 and the tag.
    pub fn parts(&mut self) -> SealParts<'_> {
        self.memory.parts()
    }

    /// Notes how sealing ended. With an error, content that was to be sealed in place must be as it
    /// was.
    ///
    /// # Errors
    ///
    /// The error that it was given.
    pub fn set_result(&mut self, result: Result<(), CryptoError>) -> Result<(), CryptoError> {
        self.progress = match result {
            Ok(()) => Progress::Sealed,
            Err(error) => Progress::Failed(error),
        };
        result
    }

    /// Whether it was sealed.
    pub fn is_sealed(&self) -> bool {
        self.progress == Progress::Sealed
    }

    /// Whether no cipher has ended with it, well or badly.
    pub fn is_waiting(&self) -> bool {
        self.progress == Progress::Waiting
    }

    /// Leaves the outcome in the record's block. A job that wasn't run is given back.
    pub(crate) fn end(self) -> Result<(), CryptoError> {
        match self.progress {
            Progress::Sealed => {
                self.memory.finish();
                Ok(())
            }
            Progress::Failed(error) => {
                self.memory.give_back();
                Err(error)
            }
            // If a cipher began without ending, the content may be lost.
            Progress::Waiting => Ok(()),
        }
    }
}

impl fmt::Debug for SealJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob")
            .field("memory", &self.memory)
            .field("session", &self.session)
            .field("progress", &self.progress)
            .finish()
    }
}

/// A received record to be opened, with the key of its direction and the memory that holds it.
///
/// It owns what it needs, so another thread can run it, also while the connection ends.
/// [`Deframer::detach`](crate::Deframer::detach) makes a job, a
/// [`RecordCipher`](crate::RecordCipher) runs it, [`Deframer::opened`](crate::Deframer::opened)
/// takes it back. A backend that fails without an answer, as opposed to a wrong tag, leaves it to
/// the caller to run the job again elsewhere.
pub struct OpenJob {
    memory: RecordMemory,
    session: Session,
    number: u64,
    head: ReceivedHead,
    progress: OpenProgress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OpenProgress {
    /// The memory holds ciphertext.
    Waiting,
    /// A cipher has begun, and may have written to the memory.
    Begun,
    Ended(Result<usize, CryptoError>),
}

/// What a cipher reads and writes to open a record.
#[derive(Debug)]
pub struct OpenParts<'a> {
    /// The record's sequence number.
    pub number: u64,
    /// Header and explicit nonce or IV, as received.
    pub head: &'a [u8],
    /// Ciphertext, with the tag, to be opened in place: the plaintext is at its front afterwards.
    /// In TLS 1.3 that includes inner content type and padding; with CBC it is the content alone.
    pub body: &'a mut [u8],
}

impl OpenJob {
    /// Creates the job of record `number`. `memory` holds ciphertext and tag.
    pub(crate) fn new(
        memory: RecordMemory,
        session: Session,
        number: u64,
        head: ReceivedHead,
    ) -> Self {
        Self {
            memory,
            session,
            number,
            head,
            progress: OpenProgress::Waiting,
        }
    }

    /// Returns the record's key.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the record's sequence number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the memory to read and to write.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Backend`] if it can't be written to.
    pub fn parts(&mut self) -> Result<OpenParts<'_>, CryptoError> {
        let body = self.memory.bytes_mut().ok_or(CryptoError::Backend)?;
        self.progress = OpenProgress::Begun;
        Ok(OpenParts {
            number: self.number,
            head: self.head.as_bytes(),
            body,
        })
    }

    /// Notes how opening ended: the length of the plaintext.
    ///
    /// # Errors
    ///
    /// The error that it was given.
    pub fn set_result(&mut self, result: Result<usize, CryptoError>) -> Result<(), CryptoError> {
        self.progress = OpenProgress::Ended(result);
        result.map(drop)
    }

    /// Whether it was opened.
    pub fn is_opened(&self) -> bool {
        matches!(self.progress, OpenProgress::Ended(Ok(_)))
    }

    /// Whether no cipher has ended with it, well or badly.
    pub(crate) fn is_given_up(&self) -> bool {
        !matches!(self.progress, OpenProgress::Ended(_))
    }

    /// Whether no cipher has had it: it can be run by another one.
    pub fn is_waiting(&self) -> bool {
        self.progress == OpenProgress::Waiting
    }

    /// Returns the bytes of memory that the record pins.
    pub fn true_size(&self) -> u32 {
        self.memory.true_size()
    }

    /// Returns the record's header, the memory, and the length of the plaintext in it. A job that
    /// wasn't run, or that a cipher never ended, has failed.
    pub(crate) fn end(self) -> (RecordHeader, RecordMemory, Result<usize, CryptoError>) {
        let result = match self.progress {
            OpenProgress::Ended(result) => result,
            OpenProgress::Waiting | OpenProgress::Begun => Err(CryptoError::Backend),
        };
        (self.head.header(), self.memory, result)
    }
}

impl fmt::Debug for OpenJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenJob")
            .field("session", &self.session)
            .field("number", &self.number)
            .field("head", &self.head)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// Memory of a received record: the buffer it came in, or the page buffer it was copied to.
pub(crate) enum RecordMemory {
    Buffer(Buffer),
    Page(PageBuf),
}

impl RecordMemory {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.front(),
            Self::Page(page) => page.bytes().unwrap_or_default(),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Buffer(buffer) => buffer.front_mut(),
            Self::Page(page) => page.body_mut(),
        }
    }

    pub(crate) fn truncate(&mut self, len: u32) {
        match self {
            Self::Buffer(buffer) => buffer.truncate(len),
            Self::Page(page) => page.truncate(len),
        }
    }

    pub(crate) fn true_size(&self) -> u32 {
        match self {
            Self::Buffer(buffer) => buffer.true_size(),
            Self::Page(page) => page.true_size(),
        }
    }
}

/// Header and explicit part of a received record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReceivedHead {
    bytes: [u8; RecordShape::HEAD_MAX],
    len: u8,
}

impl ReceivedHead {
    /// Fills `len` bytes by `fill`, which returns how many it wrote.
    pub(crate) fn filled(len: u8, fill: impl FnOnce(&mut [u8]) -> usize) -> Self {
        let mut bytes = [0; RecordShape::HEAD_MAX];
        let written = fill(&mut bytes[..usize::from(len)]);
        debug_assert_eq!(written, usize::from(len), "the record is complete");
        Self { bytes, len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn header(&self) -> RecordHeader {
        RecordHeader::parse(*self.bytes.first_chunk().unwrap_or(&[0; HEADER_LEN]))
    }
}

//! The receive side: encrypted bytes in, records out.

use pktbuf::{Buffer, PagePool, Stream};

use crate::cipher::Ciphers;
use crate::error::RxError;
use crate::session::Session;
use crate::suite::ContentType;

/// Which end of the handshake this was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one that connected.
    Client,
    /// The one that listened.
    Server,
}

/// What is known about a received record: `TLS_GET_RECORD`'s fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// The content type; the inner one of TLS 1.3.
    pub kind: ContentType,
    /// The version on the wire: 3.3, of TLS 1.3 too.
    pub version: [u8; 2],
    /// Bytes of content.
    pub length: u16,
}

/// A received record: its content and what is known about it.
pub struct RxRecord {
    meta: RecordMeta,
}

impl RxRecord {
    /// Type, version and length.
    pub fn meta(&self) -> RecordMeta { todo!() }
    /// The content.
    pub fn as_slice(&self) -> &[u8] { todo!() }
    /// Bytes of memory that the record pins.
    pub fn true_size(&self) -> u32 { todo!() }
}

/// What [`Deframer::next`] found.
pub enum Received {
    /// No whole record is there.
    NeedBytes,
    /// A whole record is there, but no page buffer to open it in: try again later.
    NeedPages,
    /// A record for the application: application data, or a type nobody here knows.
    Record(RxRecord),
    /// The peer changed its keys (done already); if `answer`, it wants ours changed:
    /// `RecordQueue::update_keys(false, ..)`.
    KeyUpdated {
        /// Whether the peer asks for the same.
        answer: bool,
    },
    /// A NewSessionTicket (client only): the message's body.
    Ticket(Box<[u8]>),
    /// TLS 1.2: the peer wants to renegotiate: answer with the warning `NO_RENEGOTIATION`.
    Renegotiation,
    /// A warning alert that changes nothing.
    Warning,
    /// close_notify: the peer will send no more. Bytes after it are ignored.
    Closed,
}

/// Takes records out of the encrypted stream.
pub struct Deframer {
    chain: Stream<Buffer>,
}

impl Deframer {
    /// Takes over `chain`, whose first byte is the first of record `first_number`.
    pub fn new(session: Session, first_number: u64, role: Role, chain: Stream<Buffer>, ciphers: &mut Ciphers) -> Self { todo!() }
    /// The end of the direction with its keys.
    pub fn retire(self, ciphers: &mut Ciphers) { todo!() }
    /// More encrypted bytes, in order.
    pub fn push(&mut self, buffer: Buffer) { todo!() }
    /// The next event of the stream; at most one record is opened per call.
    pub fn next(&mut self, ciphers: &mut Ciphers, pool: &mut PagePool) -> Result<Received, RxError> { todo!() }
    /// The stream has ended (FIN) and `next` says `NeedBytes`: `Truncated` if that was inside a record.
    pub fn finish(&self, ciphers: &mut Ciphers) -> Result<(), RxError> { todo!() }
    /// Encrypted bytes that wait here.
    pub fn buffered(&self) -> u64 { todo!() }
}

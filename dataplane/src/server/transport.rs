//! The byte stream to a client.

use std::sync::Arc;

use lockgate_http::SendProgress;
use pktbuf::SharedSpan;

/// A byte stream to a client, borrowed for one call of the server.
///
/// If a sending method takes fewer bytes than it was given, the caller drives the connection again
/// when there is room for more.
pub trait Transport {
    /// Shows received bytes, in order, to `take`, which returns how many of them it took. The
    /// transport keeps the others (they belong to a pipelined request) and shows them again next
    /// time. Returns [`RecvOutcome::End`] each time once the peer has closed its side and all bytes
    /// were taken.
    fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> RecvOutcome;

    /// Copies the bytes of all parts, in order, into the send queue. Returns how many it took. They
    /// share records, whose memory has the size of what they hold.
    fn send(&mut self, parts: &[&[u8]]) -> u32;

    /// Sends `len` bytes of a span by reference, from position `at` on. Returns how many it took.
    fn send_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> u32;

    /// Whether received bytes are being decrypted elsewhere, or are back and weren't shown yet:
    /// there may be a request in them. The caller drives the connection again when they are back.
    fn awaits_bytes(&self) -> bool;

    /// What the peer has acknowledged, records' overhead included.
    fn progress(&self) -> SendProgress;

    /// Closes the sending side. Receiving stays possible.
    fn shutdown(&mut self);

    /// Closes both sides in order: what is queued is still sent.
    fn close(&mut self);

    /// Resets the connection, so that the peer can't take a part of a response for all of it.
    fn abort(&mut self);
}

/// What [`Transport::recv`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvOutcome {
    /// Bytes were received. The callback took this many of them.
    Taken(usize),
    /// Nothing is received and unread.
    Nothing,
    /// The peer has closed its side.
    End,
}

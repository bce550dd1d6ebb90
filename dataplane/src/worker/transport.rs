//! A socket of the stack as the transport of an HTTP connection.

use std::sync::Arc;

use lockgate_http::SendProgress;
use lockgate_ktls::Ciphers;
use lockgate_stack::{Chunk, Recv, SendError, SocketId, Stack};
use pktbuf::{PagePool, SharedSpan};

use crate::server::{RecvOutcome, Transport};

/// The worker's parts that a socket needs to receive and send.
#[derive(Debug)]
pub(super) struct StackContext<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) pages: &'a mut PagePool,
    pub(super) ciphers: &'a mut Ciphers,
}

/// A socket, for the time of one call of the HTTP server.
#[derive(Debug)]
pub(super) struct StackTransport<'a, 'b> {
    pub(super) cx: &'a mut StackContext<'b>,
    pub(super) id: SocketId,
}

impl StackTransport<'_, '_> {
    /// Receives the next chunk that isn't empty.
    fn recv_chunk(&mut self) -> Result<Chunk, RecvOutcome> {
        loop {
            match self.cx.stack.recv(self.id, self.cx.ciphers, self.cx.pages) {
                // An empty record has no bytes for HTTP.
                Ok(Recv::Data(chunk)) if chunk.is_empty() => {}
                Ok(Recv::Data(chunk)) => return Ok(chunk),
                Ok(Recv::Nothing) => return Err(RecvOutcome::Nothing),
                // An error ends the stream, too. The stack sends the alert, counts it and closes.
                Ok(Recv::End { .. }) | Err(_) => return Err(RecvOutcome::End),
            }
        }
    }
}

impl StackTransport<'_, '_> {
    fn bytes_accepted(&mut self, sent: Result<u32, SendError>) -> u32 {
        match sent {
            Ok(taken) => taken,
            // The key has reached its limit, and TLS 1.2 can't change keys. What is queued is still
            // sent; the response stays incomplete.
            Err(SendError::Record(_)) => {
                self.cx.stack.close(self.id);
                0
            }
            // The socket has ended. Its Closed notice follows.
            Err(SendError::NoSocket | SendError::NotReady | SendError::Closed) => 0,
        }
    }
}

impl Transport for StackTransport<'_, '_> {
    fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> RecvOutcome {
        let mut chunk = match self.recv_chunk() {
            Ok(chunk) => chunk,
            Err(none) => return none,
        };
        let piece = chunk.pieces().find(|piece| !piece.is_empty());
        let taken = piece.map_or(0, |piece| take(piece).min(piece.len()));
        chunk.advance(taken);
        // The tail belongs to a pipelined request.
        if !chunk.is_empty() {
            self.cx.stack.unread(self.id, chunk);
        }
        RecvOutcome::Taken(taken)
    }

    fn send(&mut self, parts: &[&[u8]]) -> u32 {
        let stack = &mut *self.cx.stack;
        let sent = stack.send_parts(self.id, parts, false, self.cx.pages);
        self.bytes_accepted(sent)
    }

    fn send_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> u32 {
        let sent = self
            .cx
            .stack
            .send_span(self.id, span, at, len, self.cx.pages);
        self.bytes_accepted(sent)
    }

    fn awaits_bytes(&self) -> bool {
        self.cx.stack.awaits_record(self.id)
    }

    fn progress(&self) -> SendProgress {
        SendProgress {
            acknowledged: self.cx.stack.acknowledged(self.id),
            unacknowledged: self.cx.stack.send_queued(self.id),
            waits_for_peer: self.cx.stack.waits_for_peer(self.id),
        }
    }

    fn shutdown(&mut self) {
        self.cx.stack.shutdown(self.id);
    }

    fn close(&mut self) {
        self.cx.stack.close(self.id);
    }

    fn abort(&mut self) {
        self.cx.stack.abort(self.id);
    }
}

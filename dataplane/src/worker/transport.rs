//! A socket of the stack as HTTP's transport.

use std::sync::Arc;

use lockgate_ktls::Ciphers;
use lockgate_stack::{Chunk, Recv, SendError, SocketId, Stack};
use pktbuf::{PagePool, SharedSpan};

use crate::http::{Received, Transport};

/// What a worker lends to its connections.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) pages: &'a mut PagePool,
    pub(super) ciphers: &'a mut Ciphers,
}

/// Received bytes that HTTP did not take yet: the rest of a pipelined request.
#[derive(Debug)]
pub(super) struct Held {
    chunk: Chunk,
    taken: usize,
}

/// A socket, for one call of the driver.
#[derive(Debug)]
pub(super) struct Socket<'a, 'b> {
    pub(super) lent: &'a mut Lent<'b>,
    pub(super) id: SocketId,
    pub(super) held: &'a mut Option<Box<Held>>,
}

impl Held {
    /// Shows the bytes that are left; returns how many were taken, and whether that's all.
    fn show(&mut self, take: impl FnOnce(&[u8]) -> usize) -> (usize, bool) {
        let mut skip = self.taken;
        for piece in self.chunk.pieces() {
            if skip < piece.len() {
                let shown = &piece[skip..];
                let taken = take(shown).min(shown.len());
                self.taken += taken;
                return (taken, self.taken >= self.chunk.len());
            }
            skip -= piece.len();
        }
        (0, true)
    }
}

impl Socket<'_, '_> {
    /// The next piece of the stream.
    fn fetch(&mut self) -> Result<Held, Received> {
        loop {
            match self
                .lent
                .stack
                .recv(self.id, self.lent.ciphers, self.lent.pages)
            {
                // An empty record is nothing to HTTP.
                Ok(Recv::Data(chunk)) if chunk.is_empty() => {}
                Ok(Recv::Data(chunk)) => return Ok(Held { chunk, taken: 0 }),
                Ok(Recv::Nothing) => return Err(Received::Nothing),
                // A stream that ended by an error ends here too: the stack tells the peer, counts
                // it and closes.
                Ok(Recv::End { .. }) | Err(_) => return Err(Received::End),
            }
        }
    }
}

impl Socket<'_, '_> {
    fn taken(&mut self, sent: Result<u32, SendError>) -> u32 {
        match sent {
            Ok(taken) => taken,
            // The keys are used up, and TLS 1.2 can't change them: what was sent is finished, and
            // the stream ends in the middle of a response.
            Err(SendError::Record(_)) => {
                self.lent.stack.close(self.id);
                0
            }
            // The socket is at its end already, and the notice of that on its way.
            Err(SendError::NoSocket | SendError::NotReady | SendError::Closed) => 0,
        }
    }
}

impl Transport for Socket<'_, '_> {
    fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> Received {
        if let Some(held) = self.held {
            let (taken, all) = held.show(take);
            if all {
                *self.held = None;
            }
            return Received::Taken(taken);
        }
        // A request that comes alone is taken whole: only what's left of others needs a place.
        let mut fetched = match self.fetch() {
            Ok(fetched) => fetched,
            Err(none) => return none,
        };
        let (taken, all) = fetched.show(take);
        if !all {
            *self.held = Some(Box::new(fetched));
        }
        Received::Taken(taken)
    }

    fn send(&mut self, bytes: &[u8], more: bool) -> u32 {
        let sent = self.lent.stack.send(self.id, bytes, more, self.lent.pages);
        self.taken(sent)
    }

    fn send_span(&mut self, span: &Arc<SharedSpan>, at: u32, len: u32) -> u32 {
        let sent = self
            .lent
            .stack
            .send_span(self.id, span, at, len, self.lent.pages);
        self.taken(sent)
    }

    fn unacknowledged(&self) -> u64 {
        self.lent.stack.send_queued(self.id)
    }

    fn shutdown(&mut self) {
        self.lent.stack.shutdown(self.id);
    }

    fn close(&mut self) {
        self.lent.stack.close(self.id);
    }

    fn abort(&mut self) {
        self.lent.stack.abort(self.id);
    }
}

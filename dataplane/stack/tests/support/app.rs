//! An application that sends a known stream and checks another.

use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::{CloseReason, Failure, Notice, Recv, SendError, SocketId, TlsInfo};
use lockgate_testing::Random;
use lockgate_wire::Instant;
use pktbuf::{PageArena, Region, SharedSpan};

use super::Host;

/// A stretch of the stream with this seed.
pub(crate) fn stretch(seed: u64, from: u64, len: u64) -> Vec<u8> {
    let first = from >> 3;
    let words = first..=(from + len) >> 3;
    let bytes: Vec<u8> = words
        .flat_map(|at| {
            at.wrapping_add(seed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect();
    let skip = usize::try_from(from & 7).unwrap();
    bytes[skip..skip + usize::try_from(len).unwrap()].to_vec()
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "App(sent {} of {}, received {}, end {:?}, closed {:?}, handshake {})",
            self.sent,
            self.total,
            self.received,
            self.end,
            self.closed,
            self.info.is_some(),
        )
    }
}

/// One side of a conversation.
pub(crate) struct App {
    pub(crate) socket: Option<SocketId>,
    pub(crate) tls: bool,
    /// The stream to send: its seed and length.
    pub(crate) seed: u64,
    pub(crate) total: u64,
    pub(crate) sent: u64,
    /// The stream to receive.
    pub(crate) peer_seed: u64,
    pub(crate) received: u64,
    pub(crate) wrong: Option<u64>,
    pub(crate) info: Option<Box<TlsInfo>>,
    pub(crate) end: Option<bool>,
    pub(crate) closed: Option<CloseReason>,
    /// Closes its sending side when everything is sent, and the socket when the peer did too.
    pub(crate) closes: bool,
    /// Reads only so often, to close windows.
    pub(crate) lazy: Duration,
    read_at: Instant,
    ready: bool,
    shut: bool,
    spans: bool,
    random: Random,
    span: Option<(u64, Arc<SharedSpan>)>,
    arena: PageArena,
    _region: Region,
}

impl App {
    pub(crate) fn new(seed: u64, total: u64, peer_seed: u64, tls: bool) -> Self {
        let mut region = Region::heap(ARENA_BYTES + 8192).unwrap();
        let arena = PageArena::new(&mut region, ARENA_BYTES).unwrap();
        let mut random = Random::new(seed ^ 0xabcd);
        Self {
            socket: None,
            tls,
            seed,
            total,
            sent: 0,
            peer_seed,
            received: 0,
            wrong: None,
            info: None,
            end: None,
            closed: None,
            closes: true,
            lazy: Duration::ZERO,
            read_at: Instant::ZERO,
            ready: false,
            shut: false,
            spans: random.chance(500, 1000),
            random,
            span: None,
            arena,
            _region: region,
        }
    }

    /// Sends the whole stream by reference, or by copy.
    pub(crate) fn by_reference(mut self, spans: bool) -> Self {
        self.spans = spans;
        self
    }

    pub(crate) fn handshake_failure(&self) -> Option<Failure> {
        match self.closed {
            Some(CloseReason::Handshake(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Takes notice, if it's about its socket; one without a socket takes the next that's accepted.
    pub(crate) fn on_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Accepted { socket, .. } if self.socket.is_none_or(|own| own == *socket) => {
                self.socket = Some(*socket);
                self.ready = !self.tls;
            }
            Notice::Connected(socket) if Some(*socket) == self.socket => self.ready = !self.tls,
            Notice::HandshakeDone(socket, info) if Some(*socket) == self.socket => {
                self.info = Some(info.clone());
                self.ready = true;
            }
            Notice::Closed(socket, reason) if Some(*socket) == self.socket => {
                self.closed = Some(*reason);
            }
            _ => {}
        }
    }

    /// Time of the next turn without an event.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let alive = self.ready && self.closed.is_none() && self.end.is_none();
        (alive && !self.lazy.is_zero()).then_some(self.read_at)
    }

    /// Sends, reads and closes. Returns whether anything was done.
    pub(crate) fn turn(&mut self, now: Instant, host: &mut Host) -> bool {
        let Some(socket) = self.socket.filter(|_| self.ready && self.closed.is_none()) else {
            return false;
        };
        let mut any = self.fill(host, socket);
        if now >= self.read_at {
            any |= self.read(host, socket);
            self.read_at = now + self.lazy;
        }
        if self.closes && self.sent == self.total && !self.shut {
            self.shut = true;
            host.stack.shutdown(socket);
            any = true;
        }
        if self.closes && self.shut && self.end.is_some() {
            host.stack.close(socket);
        }
        any
    }

    fn fill(&mut self, host: &mut Host, socket: SocketId) -> bool {
        let before = self.sent;
        while self.sent < self.total {
            // With no room, a send of a few bytes still arms the Writable notice.
            let space = u64::from(host.stack.send_space(socket)).max(16);
            let want = self
                .random
                .between(1, 40_000)
                .min(self.total - self.sent)
                .min(space);
            let taken = if self.spans {
                self.send_span(host, socket, want)
            } else {
                let bytes = stretch(self.seed, self.sent, want);
                let more = self.sent + want < self.total && self.random.chance(300, 1000);
                host.stack.send(socket, &bytes, more, &mut host.pages)
            };
            match taken {
                Ok(0) | Err(SendError::NoSocket | SendError::Closed) => break,
                Ok(taken) => self.sent += u64::from(taken),
                Err(error) => panic!("{error}"),
            }
        }
        self.sent > before
    }

    fn send_span(
        &mut self,
        host: &mut Host,
        socket: SocketId,
        want: u64,
    ) -> Result<u32, SendError> {
        let start = self.sent / SPAN_BYTES * SPAN_BYTES;
        if self.span.as_ref().is_none_or(|(at, _)| *at != start) {
            self.span = None;
            let len = usize::try_from(SPAN_BYTES.min(self.total - start)).unwrap();
            let Some(mut page) = self.arena.alloc(len) else {
                return Ok(0);
            };
            page[..len].copy_from_slice(&stretch(self.seed, start, len as u64));
            self.span = Some((start, page.freeze(len)));
        }
        let Some((_, span)) = &self.span else {
            return Ok(0);
        };
        let at = u32::try_from(self.sent - start).unwrap();
        let len = u32::try_from(want)
            .unwrap()
            .min(u32::try_from(span.len()).unwrap() - at);
        host.stack.send_span(socket, span, at, len, &mut host.pages)
    }

    fn read(&mut self, host: &mut Host, socket: SocketId) -> bool {
        let mut any = false;
        loop {
            match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
                Ok(Recv::Data(chunk)) => {
                    any = true;
                    for piece in chunk.pieces() {
                        self.check(piece);
                    }
                }
                Ok(Recv::Nothing) | Err(_) => return any,
                Ok(Recv::End { clean }) => {
                    any |= self.end.is_none();
                    self.end = Some(clean);
                    return any;
                }
            }
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        let wanted = stretch(self.peer_seed, self.received, bytes.len() as u64);
        if bytes != wanted {
            let at = bytes
                .iter()
                .zip(&wanted)
                .position(|(got, want)| got != want)
                .unwrap();
            self.wrong.get_or_insert(self.received + at as u64);
        }
        self.received += bytes.len() as u64;
    }
}

const SPAN_BYTES: u64 = 64 * 1024;
const ARENA_BYTES: usize = 1 << 20;

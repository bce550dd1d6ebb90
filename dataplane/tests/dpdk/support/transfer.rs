//! Two ends of one connection that send each other known streams.

use std::net::SocketAddr;
use std::sync::Arc;

use lockgate_stack::tls::pki_types::ServerName;
use lockgate_stack::tls::{TlsClient, TlsServer};
use lockgate_stack::{
    CloseReason, ConnectConfig, ListenConfig, Notice, Recv, SendError, SocketId, TlsInfo,
};
use lockgate_wire::Instant;

use super::host::{App, Host};
use super::source::Source;

/// How the connection comes about.
pub(crate) enum Open {
    Listen(SocketAddr, Option<Arc<TlsServer>>),
    Connect(SocketAddr, Option<(Arc<TlsClient>, ServerName<'static>)>),
}

/// One end: sends so much of its source, by reference if it's in a cache and by copy if not, and
/// expects so much of the peer's.
pub(crate) struct Transfer {
    open: Open,
    pub(crate) source: Source,
    total: u64,
    sent: u64,
    peer: Source,
    expected: u64,
    pub(crate) received: u64,
    socket: Option<SocketId>,
    tls: bool,
    can_send: bool,
    can_receive: bool,
    shut: bool,
    left: bool,
    pub(crate) info: Option<Box<TlsInfo>>,
    pub(crate) end: Option<bool>,
    pub(crate) closed: Option<CloseReason>,
}

impl Transfer {
    pub(crate) fn new(open: Open, send: (Source, u64), expect: (Source, u64)) -> Self {
        let tls = match &open {
            Open::Listen(_, tls) => tls.is_some(),
            Open::Connect(_, tls) => tls.is_some(),
        };
        Self {
            open,
            source: send.0,
            total: send.1,
            sent: 0,
            peer: expect.0,
            expected: expect.1,
            received: 0,
            socket: None,
            tls,
            can_send: false,
            can_receive: false,
            shut: false,
            left: false,
            info: None,
            end: None,
            closed: None,
        }
    }

    /// Fails unless everything was said and heard, and the end was clean.
    #[track_caller]
    pub(crate) fn assert_complete(&self) {
        assert_eq!((self.sent, self.received), (self.total, self.expected));
        assert_eq!(self.end, Some(true), "the peer's end");
        assert_eq!(self.closed, Some(CloseReason::Clean));
        assert_eq!(self.info.is_some(), self.tls);
    }

    fn fill(&mut self, host: &mut Host, socket: SocketId) -> bool {
        let before = self.sent;
        while self.can_send && self.sent < self.total {
            let left = self.total - self.sent;
            let (asked, taken) = match self.source.span(self.sent) {
                Some((span, at)) => {
                    let len = span.len() as u64 - u64::from(at);
                    let len = u32::try_from(len.min(left)).expect("spans are short");
                    (
                        len,
                        host.stack.send_span(socket, span, at, len, &mut host.pages),
                    )
                }
                None => {
                    let bytes = self.source.bytes(self.sent, left.min(WRITE_BYTES));
                    let len = u32::try_from(bytes.len()).expect("writes are short");
                    (len, host.stack.send(socket, bytes, false, &mut host.pages))
                }
            };
            match taken {
                Ok(taken) => {
                    self.sent += u64::from(taken);
                    // What wasn't taken is asked for by a notice.
                    self.can_send = taken == asked;
                }
                Err(SendError::NoSocket | SendError::Closed) => self.can_send = false,
                Err(error) => panic!("sending: {error}"),
            }
        }
        self.sent > before
    }

    fn read(&mut self, host: &mut Host, socket: SocketId) -> bool {
        let mut any = false;
        while self.can_receive {
            match host.stack.recv(socket, &mut host.ciphers, &mut host.pages) {
                Ok(Recv::Data(chunk)) => {
                    any = true;
                    for piece in chunk.pieces() {
                        self.peer.check(self.received, piece);
                        self.received += piece.len() as u64;
                    }
                }
                Ok(Recv::Nothing) => self.can_receive = false,
                Ok(Recv::End { clean }) => {
                    self.end = Some(clean);
                    self.can_receive = false;
                }
                Err(error) => panic!("receiving after {}: {error}", self.received),
            }
        }
        any
    }
}

impl App for Transfer {
    fn start(&mut self, now: Instant, host: &mut Host) {
        match &self.open {
            Open::Listen(at, tls) => {
                let config = ListenConfig {
                    tls: tls.clone(),
                    ..ListenConfig::default()
                };
                host.stack.listen(*at, config).expect("a listener");
            }
            Open::Connect(to, tls) => {
                let config = ConnectConfig {
                    tls: tls.clone(),
                    ..ConnectConfig::default()
                };
                self.socket = Some(host.stack.connect(now, *to, config).expect("a way there"));
            }
        }
    }

    fn notice(&mut self, _now: Instant, notice: Notice, _host: &mut Host) {
        match notice {
            Notice::Accepted { socket, .. } => {
                assert_eq!(self.socket.replace(socket), None, "one connection");
                self.can_send = !self.tls;
            }
            Notice::Connected(_) => self.can_send = !self.tls,
            Notice::HandshakeDone(_, info) => {
                self.info = Some(info);
                self.can_send = true;
            }
            Notice::Readable(_) => self.can_receive = true,
            Notice::Writable(_) => self.can_send = true,
            Notice::PeerClosed { .. } => {}
            Notice::Closed(_, reason) => self.closed = Some(reason),
        }
    }

    fn turn(&mut self, _now: Instant, host: &mut Host) -> bool {
        let Some(socket) = self.socket.filter(|_| self.closed.is_none()) else {
            return false;
        };
        let any = self.fill(host, socket) | self.read(host, socket);
        if self.sent == self.total && self.can_send && !self.shut {
            self.shut = true;
            host.stack.shutdown(socket);
        }
        if self.shut && self.end.is_some() && !self.left {
            self.left = true;
            host.stack.close(socket);
        }
        any
    }

    fn is_done(&self) -> bool {
        self.closed.is_some()
    }

    fn describe(&self, host: &Host) -> String {
        format!(
            "sent {} of {}, received {} of {}, end {:?}, closed {:?}, {:?}",
            self.sent,
            self.total,
            self.received,
            self.expected,
            self.end,
            self.closed,
            self.socket.and_then(|socket| host.stack.tcp_info(socket))
        )
    }
}

const WRITE_BYTES: u64 = 40_000;

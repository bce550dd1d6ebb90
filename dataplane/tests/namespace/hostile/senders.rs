//! Hostile peers that send at full speed and never wait.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use lockgate_testing::wait_until;

/// A connection that sends what `next` returns, piece after piece, and discards what it receives.
pub(super) struct Sender<'a> {
    tcp: TcpStream,
    next: Box<dyn FnMut() -> Vec<u8> + 'a>,
    unsent: Vec<u8>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(tcp: TcpStream, next: impl FnMut() -> Vec<u8> + 'a) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        Ok(Self {
            tcp,
            next: Box::new(next),
            unsent: Vec::new(),
        })
    }

    /// Receives and sends what is possible now, a bounded number of pieces. Returns false if the
    /// connection has ended.
    fn run(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        for _ in 0..PIECES {
            if self.unsent.is_empty() {
                self.unsent = (self.next)();
            }
            let sent = match self.tcp.write(&self.unsent) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return false,
                Ok(sent) => sent,
            };
            self.unsent.drain(..sent);
            match self.tcp.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return false,
                Ok(_) => continue,
            }
            if sent == 0 {
                break;
            }
        }
        true
    }
}

/// Connections, each replaced by a new one when it ends.
pub(super) struct Senders<'a> {
    open: Box<dyn Fn(usize) -> io::Result<Sender<'a>> + 'a>,
    list: Vec<Sender<'a>>,
    /// Whether a connection has ended.
    has_ended: bool,
}

impl<'a> Senders<'a> {
    /// Opens `count` connections.
    #[track_caller]
    pub(super) fn open(count: usize, open: impl Fn(usize) -> io::Result<Sender<'a>> + 'a) -> Self {
        let list: io::Result<_> = (0..count).map(&open).collect();
        Self {
            list: list.expect("hostile peers are served while they do nothing wrong"),
            open: Box::new(open),
            has_ended: false,
        }
    }

    /// Gives each connection its turn.
    pub(super) fn run(&mut self) {
        for (number, sender) in self.list.iter_mut().enumerate() {
            if sender.run() {
                continue;
            }
            self.has_ended = true;
            // It may be refused because there are too many.
            if let Ok(other) = (self.open)(number) {
                *sender = other;
            }
        }
    }

    /// Gives turns until a connection has ended.
    #[track_caller]
    pub(super) fn run_until_ended(&mut self, what: &str) {
        wait_until(what, || {
            self.run();
            self.has_ended
        });
    }
}

/// Pieces that a connection sends in its turn.
const PIECES: usize = 16;

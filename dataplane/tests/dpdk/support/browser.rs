//! Many HTTP clients on one host: they check every byte that they get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockgate_stack::tls::TlsClient;
use lockgate_stack::{CloseReason, ConnectConfig, Notice, Recv, SocketId};
use lockgate_testing::Random;
use lockgate_wire::Instant;

use super::host::{App, Host};
use super::pki::name;

/// What the clients do.
pub(crate) struct Plan {
    pub(crate) to: SocketAddr,
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) files: Arc<Vec<(String, Vec<u8>)>>,
    /// Connections that ask for files, and how many each; they close then.
    pub(crate) active: usize,
    pub(crate) requests: usize,
    /// Connections that say nothing, until the server closes them.
    pub(crate) idle: usize,
    /// Connections that are being made at a time.
    pub(crate) at_once: usize,
    pub(crate) seed: u64,
}

/// All clients.
pub(crate) struct Browser {
    plan: Plan,
    random: Random,
    begun: usize,
    /// By the sockets' numbers.
    tabs: Vec<Option<Tab>>,
    making: usize,
    /// Connections whose work is done, and idle ones that are there: others may look.
    pub(crate) settled: Arc<AtomicUsize>,
    pub(crate) handshakes: usize,
    pub(crate) resumed: usize,
    pub(crate) answers: usize,
    pub(crate) bytes: u64,
    pub(crate) ends: Vec<CloseReason>,
}

/// One connection.
struct Tab {
    socket: SocketId,
    /// It came about.
    made: bool,
    ready: bool,
    readable: bool,
    left: usize,
    /// What is not sent yet of a request.
    request: Vec<u8>,
    /// The file that was asked for, and how much of it is here; what is here of the head.
    answer: Option<(usize, usize)>,
    head: Vec<u8>,
    closing: bool,
}

impl Browser {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            random: Random::new(plan.seed),
            plan,
            begun: 0,
            tabs: Vec::new(),
            making: 0,
            settled: Arc::default(),
            handshakes: 0,
            resumed: 0,
            answers: 0,
            bytes: 0,
            ends: Vec::new(),
        }
    }

    fn total(&self) -> usize {
        self.plan.active + self.plan.idle
    }

    fn connect(&mut self, now: Instant, host: &mut Host) -> bool {
        let before = self.begun;
        while self.begun < self.total() && self.making < self.plan.at_once {
            let tls = self.plan.tls.clone().map(|tls| (tls, name()));
            let config = ConnectConfig {
                tls,
                ..ConnectConfig::default()
            };
            let socket = host
                .stack
                .connect(now, self.plan.to, config)
                .expect("a way there");
            let idle = self.begun < self.plan.idle;
            let tab = Tab {
                socket,
                made: false,
                ready: false,
                readable: false,
                left: if idle { 0 } else { self.plan.requests },
                request: Vec::new(),
                answer: None,
                head: Vec::new(),
                closing: idle,
            };
            let index = socket.index();
            if index >= self.tabs.len() {
                self.tabs.resize_with(index + 1, || None);
            }
            self.tabs[index] = Some(tab);
            self.begun += 1;
            self.making += 1;
        }
        self.begun > before
    }

    fn tab(&mut self, socket: SocketId) -> Option<&mut Tab> {
        self.tabs
            .get_mut(socket.index())?
            .as_mut()
            .filter(|tab| tab.socket == socket)
    }

    fn made(&mut self, socket: SocketId) {
        self.making -= 1;
        let settled = self.settled.clone();
        let tab = self.tab(socket).expect("a connection of ours");
        (tab.made, tab.ready) = (true, true);
        if tab.closing {
            settled.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What a connection can do now; whether that was anything.
    fn drive(&mut self, index: usize, host: &mut Host) -> bool {
        let Some(mut tab) = self.tabs[index].take() else {
            return false;
        };
        let mut any = false;
        if tab.ready {
            any |= self.ask(&mut tab, host);
            any |= self.read(&mut tab, host);
        }
        self.tabs[index] = Some(tab);
        any
    }

    fn ask(&mut self, tab: &mut Tab, host: &mut Host) -> bool {
        if tab.answer.is_none() && !tab.closing {
            if tab.left == 0 {
                tab.closing = true;
                self.settled.fetch_add(1, Ordering::AcqRel);
                host.stack.close(tab.socket);
                return true;
            }
            tab.left -= 1;
            let file = self.random.between(0, self.plan.files.len() as u64 - 1) as usize;
            let path = &self.plan.files[file].0;
            tab.request = format!("GET {path} HTTP/1.1\r\nHost: server.test\r\n\r\n").into_bytes();
            tab.answer = Some((file, 0));
        }
        if tab.request.is_empty() {
            return false;
        }
        let sent = host
            .stack
            .send(tab.socket, &tab.request, false, &mut host.pages);
        // An error is the end, of which there's a notice.
        let sent = sent.unwrap_or(0) as usize;
        tab.request.drain(..sent);
        sent > 0
    }

    fn read(&mut self, tab: &mut Tab, host: &mut Host) -> bool {
        let mut any = false;
        while tab.readable && tab.ready {
            match host
                .stack
                .recv(tab.socket, &mut host.ciphers, &mut host.pages)
            {
                Ok(Recv::Data(chunk)) => {
                    any = true;
                    for piece in chunk.pieces() {
                        self.take(tab, piece);
                    }
                }
                Ok(Recv::Nothing) | Err(_) => tab.readable = false,
                Ok(Recv::End { clean }) => {
                    assert!(clean, "the server said goodbye");
                    assert!(tab.answer.is_none(), "in the middle of an answer");
                    tab.readable = false;
                    tab.ready = false;
                    host.stack.close(tab.socket);
                }
            }
        }
        any
    }

    fn take(&mut self, tab: &mut Tab, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (file, at) = tab.answer.as_mut().expect("an answer was asked for");
            let body = &self.plan.files[*file].1;
            if !tab.head.ends_with(b"\r\n\r\n") {
                tab.head.push(piece[0]);
                piece = &piece[1..];
                if tab.head.ends_with(b"\r\n\r\n") {
                    check_head(&tab.head, body.len());
                }
            } else {
                let n = piece.len().min(body.len() - *at);
                assert!(n > 0, "more than was announced");
                assert!(
                    piece[..n] == body[*at..*at + n],
                    "wrong bytes in file {file} from {at}"
                );
                *at += n;
                piece = &piece[n..];
            }
            if tab.head.ends_with(b"\r\n\r\n") && *at == body.len() {
                self.answers += 1;
                self.bytes += body.len() as u64;
                tab.answer = None;
                tab.head.clear();
            }
        }
    }
}

impl App for Browser {
    fn start(&mut self, _now: Instant, _host: &mut Host) {}

    fn notice(&mut self, _now: Instant, notice: Notice, _host: &mut Host) {
        match notice {
            Notice::Connected(socket) if self.plan.tls.is_none() => self.made(socket),
            Notice::HandshakeDone(socket, info) => {
                self.handshakes += 1;
                self.resumed += usize::from(info.resumed);
                self.made(socket);
            }
            Notice::Readable(socket) => {
                if let Some(tab) = self.tab(socket) {
                    tab.readable = true;
                }
            }
            Notice::Closed(socket, reason) => {
                let tab = self.tabs[socket.index()]
                    .take()
                    .expect("a connection of ours");
                assert!(tab.answer.is_none(), "cut off in an answer: {reason:?}");
                self.ends.push(reason);
                if !tab.made {
                    self.making -= 1;
                    self.settled.fetch_add(1, Ordering::AcqRel);
                }
            }
            Notice::Connected(_)
            | Notice::Writable(_)
            | Notice::PeerClosed { .. }
            | Notice::Accepted { .. } => {}
        }
    }

    fn turn(&mut self, now: Instant, host: &mut Host) -> bool {
        let mut any = self.connect(now, host);
        for index in 0..self.tabs.len() {
            any |= self.drive(index, host);
        }
        any
    }

    fn is_done(&self) -> bool {
        self.ends.len() == self.total()
    }

    fn describe(&self, host: &Host) -> String {
        let mut text = format!(
            "{} answers; {} begun, {} being made, {} settled, {} closed\n",
            self.answers,
            self.begun,
            self.making,
            self.settled.load(Ordering::Acquire),
            self.ends.len()
        );
        for tab in self.tabs.iter().flatten().take(5) {
            let info = host.stack.tcp_info(tab.socket);
            let (left, answer, closing) = (tab.left, tab.answer, tab.closing);
            text += &format!("{left} left, {answer:?}, closing {closing}, {info:?}\n");
        }
        text
    }
}

fn check_head(head: &[u8], len: usize) {
    let head = std::str::from_utf8(head)
        .expect("ASCII")
        .to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains(&format!("\r\ncontent-length: {len}\r\n")),
        "{len}: {head}"
    );
}

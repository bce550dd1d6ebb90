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

/// Number and behaviour of the clients.
pub(crate) struct Plan {
    pub(crate) to: SocketAddr,
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) files: Arc<Vec<(String, Vec<u8>)>>,
    /// Connections that ask for files, and how many each; they close then.
    pub(crate) active: usize,
    pub(crate) requests: usize,
    /// Connections that send no request, until the server closes them.
    pub(crate) idle: usize,
    /// Connections that are being made at a time.
    pub(crate) at_once: usize,
    pub(crate) seed: u64,
}

/// All clients.
pub(crate) struct HttpClients {
    plan: Plan,
    random: Random,
    begun: usize,
    /// By the sockets' numbers.
    clients: Vec<Option<ClientState>>,
    making: usize,
    /// Connections that have all their responses, and established idle ones. Other threads read it.
    pub(crate) settled: Arc<AtomicUsize>,
    pub(crate) handshakes: usize,
    pub(crate) resumed: usize,
    pub(crate) answers: usize,
    pub(crate) bytes: u64,
    pub(crate) ends: Vec<CloseReason>,
}

/// One connection.
struct ClientState {
    socket: SocketId,
    /// It is established.
    made: bool,
    ready: bool,
    readable: bool,
    left: usize,
    /// Rest of a request that isn't sent yet.
    request: Vec<u8>,
    /// The requested file and the bytes received of its body; `head` is what was received of the
    /// head.
    answer: Option<(usize, usize)>,
    head: Vec<u8>,
    closing: bool,
}

impl HttpClients {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            random: Random::new(plan.seed),
            plan,
            begun: 0,
            clients: Vec::new(),
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
                .expect("a route");
            let idle = self.begun < self.plan.idle;
            let client = ClientState {
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
            if index >= self.clients.len() {
                self.clients.resize_with(index + 1, || None);
            }
            self.clients[index] = Some(client);
            self.begun += 1;
            self.making += 1;
        }
        self.begun > before
    }

    fn client(&mut self, socket: SocketId) -> Option<&mut ClientState> {
        self.clients
            .get_mut(socket.index())?
            .as_mut()
            .filter(|client| client.socket == socket)
    }

    fn made(&mut self, socket: SocketId) {
        self.making -= 1;
        let settled = self.settled.clone();
        let client = self.client(socket).expect("a connection of ours");
        (client.made, client.ready) = (true, true);
        if client.closing {
            settled.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Advances a connection. Returns whether anything was done.
    fn drive(&mut self, index: usize, host: &mut Host) -> bool {
        let Some(mut client) = self.clients[index].take() else {
            return false;
        };
        let mut any = false;
        if client.ready {
            any |= self.ask(&mut client, host);
            any |= self.read(&mut client, host);
        }
        self.clients[index] = Some(client);
        any
    }

    fn ask(&mut self, client: &mut ClientState, host: &mut Host) -> bool {
        if client.answer.is_none() && !client.closing {
            if client.left == 0 {
                client.closing = true;
                self.settled.fetch_add(1, Ordering::AcqRel);
                host.stack.close(client.socket);
                return true;
            }
            client.left -= 1;
            let file = self.random.between(0, self.plan.files.len() as u64 - 1) as usize;
            let path = &self.plan.files[file].0;
            client.request =
                format!("GET {path} HTTP/1.1\r\nHost: server.test\r\n\r\n").into_bytes();
            client.answer = Some((file, 0));
        }
        if client.request.is_empty() {
            return false;
        }
        let sent = host
            .stack
            .send(client.socket, &client.request, false, &mut host.pages);
        // A notice reports the end of the connection.
        let sent = sent.unwrap_or(0) as usize;
        client.request.drain(..sent);
        sent > 0
    }

    fn read(&mut self, client: &mut ClientState, host: &mut Host) -> bool {
        let mut any = false;
        while client.readable && client.ready {
            match host
                .stack
                .recv(client.socket, &mut host.ciphers, &mut host.pages)
            {
                Ok(Recv::Data(chunk)) => {
                    any = true;
                    for piece in chunk.pieces() {
                        self.take(client, piece);
                    }
                }
                Ok(Recv::Nothing) | Err(_) => client.readable = false,
                Ok(Recv::End { clean }) => {
                    assert!(clean, "the server sent close_notify");
                    assert!(client.answer.is_none(), "in the middle of an answer");
                    client.readable = false;
                    client.ready = false;
                    host.stack.close(client.socket);
                }
            }
        }
        any
    }

    fn take(&mut self, client: &mut ClientState, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (file, at) = client.answer.as_mut().expect("an answer was asked for");
            let body = &self.plan.files[*file].1;
            if !client.head.ends_with(b"\r\n\r\n") {
                client.head.push(piece[0]);
                piece = &piece[1..];
                if client.head.ends_with(b"\r\n\r\n") {
                    check_head(&client.head, body.len());
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
            if client.head.ends_with(b"\r\n\r\n") && *at == body.len() {
                self.answers += 1;
                self.bytes += body.len() as u64;
                client.answer = None;
                client.head.clear();
            }
        }
    }
}

impl App for HttpClients {
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
                if let Some(client) = self.client(socket) {
                    client.readable = true;
                }
            }
            Notice::Closed(socket, reason) => {
                let client = self.clients[socket.index()]
                    .take()
                    .expect("a connection of ours");
                assert!(client.answer.is_none(), "cut off in an answer: {reason:?}");
                self.ends.push(reason);
                if !client.made {
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
        for index in 0..self.clients.len() {
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
        for client in self.clients.iter().flatten().take(5) {
            let info = host.stack.tcp_info(client.socket);
            let (left, answer, closing) = (client.left, client.answer, client.closing);
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

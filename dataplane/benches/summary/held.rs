//! A child process whose connections a server has to keep: idle ones, or hostile ones.
//!
//! Each connection is a socket of the kernel. Nothing is read from it after its handshake.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustls::ClientConfig;

use crate::clients;
use crate::nginx::{Network, terminate};

/// What the peers of a process do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// They do a TLS handshake, and nothing after it.
    Idle,
    /// They pipeline a hundred requests of a small file.
    UnreadAnswers,
    /// Each requests a range of a large file that no other peer requests.
    UnreadRanges,
    /// Half of them send a long ClientHello byte by byte. The others don't answer the server's
    /// flight.
    Handshakes,
}

impl PeerKind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Idle,
        Self::UnreadAnswers,
        Self::UnreadRanges,
        Self::Handshakes,
    ];

    /// The name in arguments and in rows.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::UnreadAnswers => "unread answers",
            Self::UnreadRanges => "unread ranges",
            Self::Handshakes => "handshakes",
        }
    }
}

/// A child process that holds connections open until it is dropped.
pub(crate) struct HeldPeers {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl HeldPeers {
    /// Starts the process, without connections.
    pub(crate) fn start(network: Network<'_>, kind: PeerKind) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = network.client(Path::new(&own));
        command
            .args(["--hold", kind.name(), network.address()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            reports: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Opens so many connections more.
    pub(crate) fn open(&mut self, count: u32) {
        writeln!(self.orders, "{count}").unwrap();
        let mut report = String::new();
        self.reports.read_line(&mut report).unwrap();
        assert_eq!(report.trim(), "open", "the connections are there");
    }
}

impl Drop for HeldPeers {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// The child process: reads from standard input how many connections to open, and opens them.
pub(crate) fn hold(kind: &str, address: &str) {
    clients::raise_file_limit();
    let kind = PeerKind::ALL.into_iter().find(|known| known.name() == kind);
    let (kind, address) = (kind.expect("a known kind"), address.parse().unwrap());
    let config = clients::config();
    let mut held = Vec::new();
    let mut number = 0;
    for line in io::stdin().lines() {
        let count: usize = line.unwrap().parse().unwrap();
        if kind == PeerKind::Handshakes {
            let mut peers: Vec<_> = (0..count)
                .map(|peer| UnfinishedHandshake::begin(address, &config, peer % 2 == 0))
                .collect();
            thread::spawn(move || drip(&mut peers, address));
        } else {
            held.extend((number..number + count).map(|number| {
                let (requests, narrow) = requests(kind, number);
                established(address, &config, requests.as_bytes(), narrow)
            }));
        }
        number += count;
        println!("open");
    }
}

/// What a peer sends after its handshake, and whether its kernel takes in as little as it can.
fn requests(kind: PeerKind, number: usize) -> (String, bool) {
    match kind {
        PeerKind::Idle | PeerKind::Handshakes => (String::new(), false),
        PeerKind::UnreadAnswers => (get("/1k", "").repeat(100), true),
        PeerKind::UnreadRanges => {
            let (first, last) = (number * RANGE, (number + 1) * RANGE - 1);
            let range = format!("Range: bytes={first}-{last}\r\n");
            (get(LARGE, &range), true)
        }
    }
}

fn get(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 198.18.0.1\r\n{header}\r\n")
}

/// Connects, does the handshake, sends the requests, and drops the TLS library's state.
fn established(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    requests: &[u8],
    narrow: bool,
) -> TcpStream {
    let (mut tls, mut tcp) = clients::handshake(connect(address, narrow).unwrap(), config);
    tls.writer().write_all(requests).unwrap();
    while tls.wants_write() {
        tls.write_tls(&mut tcp).unwrap();
    }
    tcp
}

/// Connects. With `narrow` the kernel takes in as little as it can.
fn connect(address: SocketAddr, narrow: bool) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if narrow {
        sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
    }
    // At its end a connection is reset: no client has TIME-WAIT left from the round before.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    rustix::net::connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

/// A handshake that doesn't end.
struct UnfinishedHandshake {
    tcp: TcpStream,
    hello: Vec<u8>,
    sent: usize,
}

impl UnfinishedHandshake {
    /// Connects, and sends a complete ClientHello, or most of a long one.
    fn begin(address: SocketAddr, config: &Arc<ClientConfig>, is_whole: bool) -> Self {
        let mut hello = Vec::new();
        if is_whole {
            clients::client(config).write_tls(&mut hello).unwrap();
        } else {
            // The header of a record of 16 KiB, and that of a ClientHello that fills it.
            hello.extend([0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]);
            hello.resize(5 + (16 << 10), 0);
        }
        let mut peer = Self {
            tcp: connect(address, false).unwrap(),
            sent: if is_whole {
                hello.len()
            } else {
                hello.len() - BYTES_KEPT
            },
            hello,
        };
        // The server may have reset the connection to make room for another.
        let _ = peer.send_begin();
        peer
    }

    fn send_begin(&mut self) -> io::Result<()> {
        self.tcp.set_nonblocking(true)?;
        self.tcp.write_all(&self.hello[..self.sent])
    }

    /// Sends the next byte, if it isn't the last one.
    fn drip(&mut self) -> io::Result<()> {
        let next = self.hello[..self.hello.len() - 1].get(self.sent);
        if let Some(byte) = next {
            self.tcp.write_all(&[*byte])?;
            self.sent += 1;
        } else if let Some(error) = self.tcp.take_error()? {
            return Err(error);
        }
        Ok(())
    }
}

/// Continues the ClientHellos. Connections that the server has reset are replaced, some at a time,
/// so that this process leaves the core to the fair clients.
fn drip(peers: &mut [UnfinishedHandshake], address: SocketAddr) {
    loop {
        let mut replaced = 0;
        for peer in &mut *peers {
            if peer.drip().is_err() && replaced < REPLACED_MAX {
                replaced += 1;
                if let Ok(tcp) = connect(address, false) {
                    peer.tcp = tcp;
                    let _ = peer.send_begin();
                }
            }
        }
        thread::sleep(DRIP_INTERVAL);
    }
}

/// The path of the file whose ranges are requested.
pub(crate) const LARGE: &str = "/large";
/// The length of a range.
pub(crate) const RANGE: usize = 1 << 20;

/// Bytes of a long ClientHello that aren't sent at its begin.
const BYTES_KEPT: usize = 905;
const DRIP_INTERVAL: Duration = Duration::from_millis(100);
/// Connections that are replaced in one interval.
const REPLACED_MAX: usize = 10;

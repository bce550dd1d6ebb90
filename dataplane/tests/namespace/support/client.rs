//! Clients of our own: HTTP over TCP and TLS, read strictly.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::material::HOST;
use lockgate_testing::network::{SERVER4, SERVER6};

/// What a byte stream has to do.
pub(crate) trait Stream: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Tls {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A connection that speaks HTTP.
pub(crate) struct Conn<S> {
    stream: BufReader<S>,
}

impl<S: Stream> Conn<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(16 << 10, stream),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().tcp()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Asks for a path; the whole answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.ask("GET", path, "")
    }

    /// Sends a request with more header lines (each with its CRLF); the whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str) -> io::Result<Reply> {
        self.send(request(method, path, headers).as_bytes())?;
        self.reply(method)
    }

    /// Reads an answer whose body has a length.
    pub(crate) fn reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut reply = self.head()?;
        let empty = method == "HEAD" || matches!(reply.status, 100..=199 | 204 | 304);
        if !empty {
            let len = reply
                .header("content-length")
                .and_then(|len| len.parse().ok());
            let len: usize = len.ok_or_else(|| bad("no content-length"))?;
            reply.body = self.exactly(len)?;
        }
        Ok(reply)
    }

    /// Reads an answer's head.
    pub(crate) fn head(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| bad(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Reply {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads so many bytes.
    pub(crate) fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads to the end of the stream; for TLS an end without close_notify is an error.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line
            .strip_suffix("\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(line.to_owned())
    }
}

/// A request's head.
pub(crate) fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n")
}

/// Where the appliance listens.
pub(crate) fn address4(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER4.parse().expect("it's an address"), port)
}

/// As above.
pub(crate) fn address6(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER6.parse().expect("it's an address"), port)
}

/// A connection, whose operations take a minute at most.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    prepare(TcpStream::connect_timeout(&to, PATIENCE)?)
}

/// A connection whose kernel takes in as little as it can.
pub(crate) fn connect_narrow(to: SocketAddr) -> io::Result<TcpStream> {
    connect_with(to, |socket| {
        Ok(sockopt::set_socket_recv_buffer_size(socket, 4096)?)
    })
}

/// A connection of a socket that `set` gives its options.
pub(crate) fn connect_with(
    to: SocketAddr,
    set: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    set(&socket)?;
    rustix::net::connect(&socket, &to)?;
    prepare(TcpStream::from(socket))
}

/// HTTP without TLS.
pub(crate) fn plain() -> io::Result<Conn<TcpStream>> {
    connect(address4(80)).map(Conn::new)
}

/// HTTP with TLS, the handshake done.
pub(crate) fn secure(roots: &Arc<RootCertStore>) -> io::Result<Conn<Tls>> {
    handshake(connect(address4(443))?, roots).map(Conn::new)
}

/// A TLS handshake over a connection.
pub(crate) fn handshake(mut tcp: TcpStream, roots: &Arc<RootCertStore>) -> io::Result<Tls> {
    let mut session = tls_client(roots);
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(session, tcp))
}

/// A TLS client that knows the appliance's name.
pub(crate) fn tls_client(roots: &Arc<RootCertStore>) -> ClientConnection {
    tls_client_of(roots, rustls::DEFAULT_VERSIONS)
}

/// As above, of these versions only.
pub(crate) fn tls_client_of(
    roots: &Arc<RootCertStore>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConnection {
    let config = ClientConfig::builder_with_protocol_versions(versions);
    let config = config
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("it's a name");
    ClientConnection::new(Arc::new(config), name).expect("the defaults do")
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const PATIENCE: Duration = Duration::from_secs(60);

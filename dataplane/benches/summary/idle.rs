//! The memory of an idle TLS connection.
//!
//! A client in another process opens TLS connections and keeps them idle. The server's resident
//! memory is read at two counts of connections. The difference divided by the connections between
//! them is the cost of one: page buffers, tables and heap. The kernel's memory for nginx's sockets
//! isn't in nginx's resident memory and isn't counted.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::nginx::Network;
use crate::rows::Row;
use crate::tls::NAME;
use crate::wire::Servers;

pub(crate) fn measure() {
    let extra = [("http", "header_timeout = \"10m\"\nidle_timeout = \"10m\"")];
    let Some(servers) = Servers::start("idle connections", &extra) else {
        return;
    };
    let ours = cost(servers.lockgate.network(), servers.lockgate.process());
    servers.lockgate.pause();
    let network = servers.nginx.network();
    let theirs = cost(network, servers.nginx.worker());
    Row::new("memory of an idle TLS connection (at most)", "bytes", ours)
        .against(theirs)
        .aim(1024.0)
        .emit();
}

/// Returns the bytes of resident memory that one more connection costs a process.
fn cost(network: Network<'_>, process: u32) -> f64 {
    let mut holder = ConnectionHolder::start(network);
    holder.open(FEW);
    let before = resident(process);
    holder.open(MANY - FEW);
    let after = resident(process);
    (after - before) / f64::from(MANY - FEW)
}

/// Returns the resident bytes of a process, huge pages included.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kilobytes = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.map_or(0.0, |number| number.parse::<f64>().unwrap())
    };
    (kilobytes("VmRSS:") + kilobytes("HugetlbPages:")) * 1024.0
}

/// A child process that holds connections open.
struct ConnectionHolder {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl ConnectionHolder {
    fn start(network: Network<'_>) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = network.client(Path::new(&own));
        command
            .args(["--hold", network.address()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            reports: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn open(&mut self, count: u32) {
        writeln!(self.orders, "{count}").unwrap();
        let mut report = String::new();
        self.reports.read_line(&mut report).unwrap();
        assert_eq!(report.trim(), "open", "the connections are there");
    }
}

impl Drop for ConnectionHolder {
    fn drop(&mut self) {
        crate::nginx::terminate(&mut self.child);
    }
}

/// The child process: reads from standard input how many connections to open, and opens them.
pub(crate) fn hold(address: &str) {
    let limit = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let config = config();
    let mut held = Vec::new();
    for line in std::io::stdin().lines() {
        for _ in 0..line.unwrap().parse::<u32>().unwrap() {
            held.push(connect(address, &config));
        }
        println!("open");
    }
}

/// Connects, does the handshake, and drops the TLS library's state.
fn connect(address: &str, config: &Arc<ClientConfig>) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut stream).unwrap();
    }
    stream
}

fn config() -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate))
    .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Accepts every certificate: only memory is measured.
#[derive(Debug)]
struct AcceptAnyCertificate;

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const FEW: u32 = 2_000;
const MANY: u32 = 12_000;

//! An application that does what ktls(4) describes: its own TLS handshake, with rustls over a plain
//! connection of the stack, then the keys go to the stack, which sends a file and receives records.
//!
//! Two stacks are joined in memory, so it runs anywhere: `cargo run --example ktls`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an example ends at the first error")]

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lockgate_ip::{Cidr, Interface};
use lockgate_ktls::{BackendChoice, CipherAlgorithm, Ciphers, ContentType, TlsEnable};
use lockgate_stack::{
    Chunk, ConnectConfig, Env, FileSource, FileSpan, ListenConfig, Notice, Recv, RecvRecord,
    SocketId, Stack, StackConfig,
};
use lockgate_testing::certificates::{Authority, KeyKind};
use lockgate_wire::{IfaceId, Instant, MacAddr};
use pktbuf::{
    HeapBuffers, Info, NotSent, Output, Packet, PageArena, PagePool, PoolConfig, Region, Room,
    SharedSpan, TxError, gso,
};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

#[cfg_attr(test, expect(dead_code, reason = "a test calls what it calls"))]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}

/// All of it.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let mut pair = Pair::new();
    let (client, server) = pair.connect();
    let (client_keys, server_keys) = handshake(&mut pair, client, server)?;
    // Nothing of rustls is left: from here on the stacks have the records.
    pair.set_keys(0, client, &client_keys);
    pair.set_keys(1, server, &server_keys);

    let request = b"GET /object";
    let host = &mut pair.hosts[0];
    host.stack.send(client, request, false, &mut host.pages)?;
    pair.run();
    let received = pair.records(1, server);
    assert_eq!(
        received,
        [(ContentType::APPLICATION_DATA, request.to_vec())]
    );

    // The answer: a head, the object by reference, close_notify, FIN.
    let object = Object::new(1_000_000);
    let len = object.len();
    let host = &mut pair.hosts[1];
    host.stack.send(server, b"200\n", false, &mut host.pages)?;
    host.stack
        .sendfile(server, Arc::new(object), 0..len, false, &mut host.pages)?;
    let mut body = Vec::new();
    let mut closed = false;
    let mut alert_sent = false;
    while !closed {
        pair.run();
        let host = &mut pair.hosts[1];
        if !alert_sent {
            let notify = [1, 0];
            let alert = ContentType::ALERT;
            alert_sent = host
                .stack
                .send_record(server, alert, &notify, &mut host.pages)?;
        }
        for (kind, content) in pair.records(0, client) {
            match kind {
                ContentType::APPLICATION_DATA => body.extend_from_slice(&content),
                ContentType::ALERT => closed = true,
                other => println!("client: a record of type {}", other.0),
            }
        }
    }
    let (head, object) = body.split_at(4);
    assert_eq!(head, b"200\n");
    assert!(
        object
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == Object::byte(at))
    );
    println!(
        "client: {} bytes in records that the server's stack sealed",
        object.len()
    );
    let info = pair.hosts[1].stack.txtls_info(server)?;
    println!("server: {}, next record {}", info.params, info.rec_seq);
    Ok(())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Keys and next record numbers of one end.
struct EndKeys(ExtractedSecrets);

/// Runs rustls at both ends until the handshake is done, over plain bytes of the connection.
fn handshake(
    pair: &mut Pair,
    client: SocketId,
    server: SocketId,
) -> Result<(EndKeys, EndKeys), Box<dyn Error>> {
    let authority = Authority::new("example root");
    let identity = authority.issue(&["server.test"], KeyKind::Ecdsa);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().into())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let mut a = ClientConnection::new(Arc::new(config), "server.test".try_into()?)?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.key());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate().into()], key.into())?;
    config.enable_secret_extraction = true;
    // A ticket would be a record that the client has to handle.
    config.send_tls13_tickets = 0;
    let mut b = ServerConnection::new(Arc::new(config))?;

    while a.is_handshaking() || b.is_handshaking() || a.wants_write() || b.wants_write() {
        let mut flight = Vec::new();
        while a.wants_write() {
            a.write_tls(&mut flight)?;
        }
        pair.send(0, client, &flight);
        let bytes = pair.plain(1, server);
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            b.read_tls(&mut bytes)?;
            b.process_new_packets()?;
        }
        let mut flight = Vec::new();
        while b.wants_write() {
            b.write_tls(&mut flight)?;
        }
        pair.send(1, server, &flight);
        let bytes = pair.plain(0, client);
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            a.read_tls(&mut bytes)?;
            a.process_new_packets()?;
        }
    }
    let keys = (
        a.dangerous_extract_secrets()?,
        b.dangerous_extract_secrets()?,
    );
    Ok((EndKeys(keys.0), EndKeys(keys.1)))
}

// ---- two stacks in memory

/// Two hosts, and the time. Frames arrive at once.
struct Pair {
    hosts: [Host; 2],
    now: Instant,
}

struct Host {
    stack: Stack,
    pages: PagePool,
    ciphers: Ciphers,
    wire: Wire,
    buffers: HeapBuffers,
    notices: Vec<Notice>,
    _region: Region,
}

impl Pair {
    fn new() -> Self {
        Self {
            hosts: [Host::new(1), Host::new(2)],
            now: Instant::from_millis(1000),
        }
    }

    /// Opens a plain connection from the first host to the second.
    fn connect(&mut self) -> (SocketId, SocketId) {
        let at = SocketAddr::new(address(2), 443);
        let listening = ListenConfig::default();
        self.hosts[1].stack.listen(at, listening).unwrap();
        let config = ConnectConfig::default();
        let client = self.hosts[0].stack.connect(self.now, at, config).unwrap();
        loop {
            self.run();
            for notice in self.hosts[1].notices.drain(..) {
                if let Notice::Accepted { socket, .. } = notice {
                    return (client, socket);
                }
            }
        }
    }

    /// Delivers frames in both directions until there are none, and advances the time.
    fn run(&mut self) {
        for _ in 0..1000 {
            let mut idle = true;
            for n in 0..2 {
                self.hosts[n].turn(self.now);
                for frame in std::mem::take(&mut self.hosts[n].wire.frames) {
                    idle = false;
                    self.hosts[1 - n].receive(self.now, &frame);
                }
            }
            if idle {
                break;
            }
        }
        self.now += std::time::Duration::from_millis(50);
    }

    fn send(&mut self, n: usize, socket: SocketId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let host = &mut self.hosts[n];
            let taken = host.stack.send(socket, bytes, false, &mut host.pages);
            bytes = &bytes[taken.unwrap() as usize..];
            self.run();
        }
    }

    /// Received bytes of a connection without keys.
    fn plain(&mut self, n: usize, socket: SocketId) -> Vec<u8> {
        self.run();
        let mut bytes = Vec::new();
        let host = &mut self.hosts[n];
        while let Ok(Recv::Data(chunk)) =
            host.stack.recv(socket, &mut host.ciphers, &mut host.pages)
        {
            append(&mut bytes, &chunk);
        }
        bytes
    }

    /// Received records: type and content.
    fn records(&mut self, n: usize, socket: SocketId) -> Vec<(ContentType, Vec<u8>)> {
        let mut records = Vec::new();
        let host = &mut self.hosts[n];
        while let Ok(RecvRecord::Record(meta, chunk)) =
            host.stack
                .recv_record(socket, &mut host.ciphers, &mut host.pages)
        {
            let mut content = Vec::new();
            append(&mut content, &chunk);
            records.push((meta.kind, content));
        }
        records
    }

    /// Gives both directions' keys to the stack: `TCP_TXTLS_ENABLE` and `TCP_RXTLS_ENABLE`.
    fn set_keys(&mut self, n: usize, socket: SocketId, keys: &EndKeys) {
        let host = &mut self.hosts[n];
        let (tx, rx) = (&keys.0.tx, &keys.0.rx);
        let enable = tls_enable(tx.0, &tx.1);
        host.stack
            .set_txtls(socket, &enable, &mut host.ciphers)
            .unwrap();
        let enable = tls_enable(rx.0, &rx.1);
        host.stack
            .set_rxtls(socket, &enable, &mut host.ciphers)
            .unwrap();
    }
}

/// rustls's keys of TLS 1.3, as ktls(4) takes them.
fn tls_enable(rec_seq: u64, secrets: &ConnectionTrafficSecrets) -> TlsEnable<'_> {
    use ConnectionTrafficSecrets as Secrets;
    let (cipher, key, iv) = match secrets {
        Secrets::Aes128Gcm { key, iv } | Secrets::Aes256Gcm { key, iv } => {
            (CipherAlgorithm::AesGcm, key, iv)
        }
        Secrets::Chacha20Poly1305 { key, iv } => (CipherAlgorithm::Chacha20Poly1305, key, iv),
        _ => panic!("rustls has no other suites"),
    };
    TlsEnable {
        cipher,
        cipher_key: key.as_ref(),
        iv: iv.as_ref(),
        auth: None,
        auth_key: &[],
        flags: 0,
        version: [3, 4],
        rec_seq,
    }
}

fn append(bytes: &mut Vec<u8>, chunk: &Chunk) {
    for piece in chunk.pieces() {
        bytes.extend_from_slice(piece);
    }
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

impl Host {
    fn new(number: u8) -> Self {
        let pool = PoolConfig {
            blocks: 1024,
            small_spans: 256,
            large_spans: 64,
        };
        let mut region = Region::heap(PagePool::bytes_needed(pool)).unwrap();
        let interface = Interface {
            id: IfaceId(0),
            mac: Some(MacAddr([2, 0, 0, 0, 0, number])),
            mtu: 1500,
            vlan: None,
        };
        let config = StackConfig {
            interfaces: vec![(interface, vec![Cidr::new(address(number), 24).unwrap()])],
            ..StackConfig::default()
        };
        // In production the secrets are random.
        let secret = u64::from(number);
        Self {
            stack: Stack::new(Instant::ZERO, config, [secret; 4]).unwrap(),
            pages: PagePool::new(&mut region, pool).unwrap(),
            ciphers: Ciphers::new(BackendChoice::Auto, 16),
            wire: Wire::default(),
            buffers: HeapBuffers::new(1024),
            notices: Vec::new(),
            _region: region,
        }
    }

    fn receive(&mut self, now: Instant, frame: &[u8]) {
        if let Some(buffer) = self.buffers.alloc(frame) {
            let mut env = Env {
                pages: &mut self.pages,
                ciphers: &mut self.ciphers,
                net: &mut self.wire,
            };
            self.stack.on_packet(now, IfaceId(0), buffer, &mut env);
        }
    }

    fn turn(&mut self, now: Instant) {
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.wire,
        };
        if self.stack.next_timer().is_some_and(|at| at <= now) {
            self.stack.on_timer(now, &mut env);
        }
        while let Some(notice) = self.stack.poll_notice() {
            self.notices.push(notice);
        }
        while self.stack.poll(now, &mut env, 64) && env.net.frames.len() < 256 {}
    }
}

/// An interface that keeps the frames it is given.
#[derive(Default)]
struct Wire {
    frames: Vec<Vec<u8>>,
}

impl Output for Wire {
    fn info(&self, _on: IfaceId) -> Info {
        Info {
            mtu: 1500,
            entries_max: 17,
            link_up: true,
            ..Info::default()
        }
    }

    fn room(&self, _on: IfaceId) -> Room {
        Room {
            packets: 64,
            entries: 1024,
        }
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        let frames = &mut self.frames;
        gso::segment(&packet, |head, payload| {
            if packet.meta.protocol == pktbuf::L4::Tcp {
                gso::finish_checksum(head, payload)?;
            }
            let len = head.len() + payload.iter().map(|s| s.len as usize).sum::<usize>();
            let mut frame = vec![0; len];
            pktbuf::copy_frame(head, payload, &mut frame)?;
            frames.push(frame);
            Ok::<(), NotSent>(())
        })?;
        Ok(())
    }
}

/// An object in memory, as a page cache has it: spans of 64 KiB.
struct Object {
    spans: Vec<Arc<SharedSpan>>,
    len: u64,
}

impl Object {
    const SPAN: usize = 64 * 1024;

    fn new(len: usize) -> Self {
        let bytes = len.next_multiple_of(Self::SPAN);
        let mut region = Region::heap(bytes + 8192).unwrap();
        let arena = PageArena::new(&mut region, bytes).unwrap();
        // Its memory stays for as long as the process.
        std::mem::forget(region);
        let spans = (0..len).step_by(Self::SPAN).map(|at| {
            let piece = Self::SPAN.min(len - at);
            let mut page = arena.alloc(piece).unwrap();
            for (n, byte) in page[..piece].iter_mut().enumerate() {
                *byte = Self::byte(at + n);
            }
            page.freeze(piece)
        });
        Self {
            spans: spans.collect(),
            len: len as u64,
        }
    }

    fn len(&self) -> u64 {
        self.len
    }

    /// The byte at an offset.
    fn byte(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap()
    }
}

impl FileSource for Object {
    fn span(&self, offset: u64) -> FileSpan {
        let at = usize::try_from(offset).unwrap();
        match self.spans.get(at / Self::SPAN) {
            Some(span) => FileSpan::Ready {
                span: span.clone(),
                at: u32::try_from(at % Self::SPAN).unwrap(),
            },
            None => FileSpan::Failed,
        }
    }
}

//! Small requests to a whole worker, with HTTP and the file cache, on one core.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use lockgate::clock::{Clock, unix_time};
use lockgate::server::{HostPattern, Server, Site, Sites};
use lockgate::worker::{IdlePolicy, Worker, WorkerCommand, WorkerParts};
use lockgate_cache::{CacheConfig, FileCache, FileClient, RootId, WallClock};
use lockgate_drivers::{Assume, Eal, WorkerPorts};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::tls::TlsServer;
use lockgate_stack::{Limits, Notice, SocketId, Stack};
use lockgate_testing::ScratchDir;
use pktbuf::PagePool;

use crate::nginx::{self, Network, Nginx};
use crate::pages;
use crate::peer::Peer;
use crate::rows::{Row, median, skip};
use crate::side::{Endpoint, EndpointSpec, PEER_CORE, POOL, SUBJECT_CORE, eal, link, pin, service};
use crate::tls::{Identity, Sealer};

pub(crate) fn measure() {
    let eal = eal();
    let scratch = ScratchDir::new();
    let identity = Identity::new();
    identity.write(scratch.path());
    scratch.write("www/1k", [b'x'; 1024]);
    // All responses must have one length, and the entity tag of a young file is weak.
    thread::sleep(YOUNG);

    let (near, far) = link(eal, "rps", Assume::ALL);
    let arena = pages::arena(eal, 16 << 20);
    let roots = [scratch.path().join("www")];
    let (_cache, mut clients) = FileCache::start(
        arena,
        &roots,
        &CacheConfig::default(),
        1,
        WallClock::new(unix_time),
    )
    .unwrap();
    let (orders, commands) = bounded(1);
    let (files, tls) = (clients.remove(0), identity.stack_server(0));
    let worker = thread::Builder::new()
        .name("subject".to_owned())
        .spawn(move || serve(near, eal, files, tls, commands))
        .unwrap();

    let mut side = far.enter(PEER_CORE, Limits::default());
    let mut clients = Clients::connect(&mut side, &identity);
    clients.window(&mut side);
    let beside = nginx::missing().is_none().then(|| {
        let nginx = Nginx::start(scratch.path(), Network::Loopback, &identity);
        nginx.wrk("/1k", CONNECTIONS, 1, &[]);
        nginx
    });
    let (mut subject, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        subject.push(clients.window(&mut side));
        if let Some(nginx) = &beside {
            baseline.push(nginx.wrk("/1k", CONNECTIONS, 2, &[]).requests_per_second);
        }
    }
    orders.send(WorkerCommand::Stop).unwrap();
    worker.join().unwrap();

    let row = Row::new(
        "1 KiB over keep-alive TLS, one core, ring port",
        "requests/s",
        median(subject),
    );
    match nginx::missing() {
        None => row.against(median(baseline)).aim(5.0).emit(),
        Some(why) => {
            skip("nginx on loopback beside 1 KiB requests", why);
            row.emit();
        }
    }
}

/// Runs the subject: a worker that sleeps when it's idle, so that it doesn't disturb the baseline.
fn serve(
    end: EndpointSpec,
    eal: Eal,
    files: FileClient,
    tls: Arc<TlsServer>,
    commands: Receiver<WorkerCommand>,
) {
    pin(SUBJECT_CORE);
    let registered = eal.register_worker().unwrap();
    let limits = Limits::default();
    let config = end.stack_config(limits);
    let EndpointSpec {
        queues,
        mut memory,
        port,
        ..
    } = end;
    let mut sites = Sites::new();
    let site = Site {
        root: RootId::new(0),
        index: None,
    };
    sites.insert(HostPattern::Any, site);
    let clock = Clock::new();
    let mut worker = Worker::new(WorkerParts {
        siblings: lockgate::worker::Siblings::none(),
        nagle: false,
        number: 0,
        ports: WorkerPorts::new(queues, &[0]),
        pages: PagePool::from_regions(&mut memory, POOL).unwrap(),
        ciphers: Ciphers::new(BackendChoice::AwsLcRs, 1024),
        stack: Stack::new(clock.now(), config, [1, 2, 3, 4]).unwrap(),
        server: Server::new(lockgate_http::Limits::default(), sites, files, 8 << 10),
        connections_max: limits.connections_max,
        idle: IdlePolicy::Sleep,
        clock,
        commands,
    });
    worker.listen(service(), Some(tls)).unwrap();
    worker.run();
    if std::env::var_os("LOCKGATE_BENCH_VERBOSE").is_some() {
        for value in worker.snapshot().values {
            eprintln!("{value:?}");
        }
    }
    drop(worker);
    drop(registered);
    drop(port);
}

/// Connections with one outstanding request each. Requests are sealed by the bare cipher; responses
/// are counted, not opened, so that the client's core isn't the slower one.
struct Clients {
    /// Indexed by the socket's number.
    table: Vec<Option<Connection>>,
    answer_len: usize,
    record: Vec<u8>,
}

struct Connection {
    socket: SocketId,
    sealer: Sealer,
    /// Bytes of the response that haven't arrived.
    missing: usize,
}

impl Clients {
    fn connect(side: &mut Endpoint, identity: &Identity) -> Self {
        let config = identity.rustls_client();
        let mut clients = Self {
            table: Vec::new(),
            answer_len: 0,
            record: Vec::new(),
        };
        for _ in 0..CONNECTIONS {
            let mut peer = Peer::connect(side, &config);
            // The first response is opened and checked; all others have its length.
            clients.answer_len = peer.request(side, REQUEST, |answer| {
                assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
                answer.ends_with(&[b'x'; 1024])
            });
            let (socket, sealer) = peer.into_sealer();
            if clients.table.len() <= socket.index() {
                clients.table.resize_with(socket.index() + 1, || None);
            }
            clients.table[socket.index()] = Some(Connection {
                socket,
                sealer,
                missing: 0,
            });
        }
        clients
    }

    /// Measures the requests per second of a period. At its end none is outstanding.
    fn window(&mut self, side: &mut Endpoint) -> f64 {
        let start = side.clock.now();
        for index in 0..self.table.len() {
            self.send_request(side, index);
        }
        let (mut answers, mut waiting, mut open) = (0_u32, CONNECTIONS, true);
        let mut elapsed = core::time::Duration::ZERO;
        while waiting > 0 {
            side.transmit();
            side.receive();
            while let Some(notice) = side.notice() {
                let Notice::Readable(socket) = notice else {
                    assert!(!matches!(notice, Notice::Closed(..)), "{notice:?}");
                    continue;
                };
                if !self.on_data(side, socket) {
                    continue;
                }
                answers += 1;
                elapsed = side.clock.now().saturating_since(start);
                open &= elapsed < WINDOW;
                if open {
                    self.send_request(side, socket.index());
                } else {
                    waiting -= 1;
                }
            }
        }
        f64::from(answers) / elapsed.as_secs_f64()
    }

    fn send_request(&mut self, side: &mut Endpoint, index: usize) {
        let Some(connection) = &mut self.table[index] else {
            return;
        };
        self.record.clear();
        connection.sealer.seal(REQUEST, &mut self.record);
        connection.missing = self.answer_len;
        side.send(connection.socket, &self.record);
    }

    /// Counts received bytes. Returns whether the response is complete.
    fn on_data(&mut self, side: &mut Endpoint, socket: SocketId) -> bool {
        let Some(connection) = &mut self.table[socket.index()] else {
            return false;
        };
        let before = connection.missing;
        while let Some(chunk) = side.recv(socket) {
            connection.missing -= chunk.len();
        }
        before > 0 && connection.missing == 0
    }
}

const REQUEST: &[u8] = b"GET /1k HTTP/1.1\r\nHost: 198.18.0.1\r\n\r\n";
const CONNECTIONS: u32 = 64;
/// Longer than a file counts as young.
const YOUNG: core::time::Duration = core::time::Duration::from_millis(2500);
const WINDOW: core::time::Duration = core::time::Duration::from_millis(500);
const ROUNDS: usize = 5;

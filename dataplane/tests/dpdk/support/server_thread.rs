//! The appliance's worker as the server on a port, over a tree of files.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crossbeam_channel as crossbeam;
use lockgate::clock::{Clock, unix_time};
use lockgate::server::{HostPattern, Server, Site, Sites};
use lockgate::worker::{IdlePolicy, Siblings, Worker, WorkerCommand, WorkerParts};
use lockgate_cache::{CacheConfig, FileCache, FileClient, RootId, WallClock};
use lockgate_drivers::{Demand, Eal};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::Stack;
use lockgate_stack::tls::TlsServer;
use lockgate_testing::{Random, ScratchDir, wait_until};
use pktbuf::{PageArena, PagePool, PoolUsage};

use super::host::{Attached, Busy, Spec, interface};

/// Random files in a scratch directory that is removed on drop.
pub(crate) struct Tree {
    root: ScratchDir,
    pub(crate) files: Arc<Vec<(String, Vec<u8>)>>,
}

impl Tree {
    /// Files of these lengths.
    pub(crate) fn new(lengths: &[usize]) -> Self {
        let root = ScratchDir::new();
        let mut random = Random::new(lengths.len() as u64);
        let file = |(number, len): (usize, &usize)| {
            let bytes = random.bytes(*len);
            let name = format!("f{number}.bin");
            root.write(&name, &bytes);
            (format!("/{name}"), bytes)
        };
        let files = lengths.iter().enumerate().map(file).collect();
        Self {
            files: Arc::new(files),
            root,
        }
    }
}

/// The file cache of one or several workers.
pub(crate) struct Cache {
    arena: PageArena,
    cache: FileCache,
    pub(crate) clients: Vec<FileClient>,
}

impl Cache {
    pub(crate) fn start(eal: Eal, tree: &Tree, bytes: usize, workers: usize) -> Self {
        let demand = Demand::new("a file cache", bytes as u64);
        let mut regions = eal.regions(&demand).expect("memory");
        let arena = PageArena::from_regions(&mut regions, bytes).expect("an arena");
        let config = CacheConfig::default();
        let (cache, clients) = FileCache::start(
            arena.clone(),
            &[tree.root.path().to_owned()],
            &config,
            workers,
            WallClock::new(unix_time),
        )
        .expect("a cache");
        Self {
            arena,
            cache,
            clients,
        }
    }

    /// Asserts that all of the cache's memory was returned.
    pub(crate) fn close(self) {
        let Self {
            arena,
            cache,
            clients,
        } = self;
        drop(clients);
        let hanging = cache.shut_down(Duration::from_secs(60));
        assert_eq!(hanging, 0, "readers hang");
        // A reader that has ended may not have dropped its part yet.
        wait_until("return of the cache's memory", || {
            arena.usage().bytes_used == 0
        });
    }
}

/// Heap allocations of the worker's thread while it ran.
pub(crate) const ALLOCATIONS: &str = "test.allocations";

/// A worker's counters at its end.
pub(crate) type Counts = HashMap<String, u64>;

/// A thread that runs the appliance's worker.
pub(crate) struct ServerThread {
    pub(crate) commands: crossbeam::Sender<WorkerCommand>,
    counts: Receiver<Counts>,
    release: Sender<()>,
    pages: Receiver<PoolUsage>,
}

/// Address and TLS configuration of a listener.
pub(crate) type Listen = (SocketAddr, Option<Arc<TlsServer>>);

impl ServerThread {
    pub(crate) fn spawn(
        eal: Eal,
        spec: Spec,
        port: Attached,
        (files, siblings): (FileClient, Siblings),
        listen: Vec<Listen>,
        busy: &Busy,
    ) -> Self {
        busy.begin();
        let busy = busy.clone();
        let (commands, receiver) = crossbeam::bounded(4);
        let (to_counts, counts) = channel();
        let (release, released) = channel::<()>();
        let (to_pages, pages) = channel();
        let work = move || {
            let registered = eal.register_worker().expect("a place among the workers");
            let mut worker = worker(eal, spec, port, (files, siblings), receiver);
            for (at, tls) in listen {
                worker.listen(at, tls).expect("a listener");
            }
            let heap = allocation_counter::measure(|| worker.run());
            busy.end();
            let values = worker.snapshot().values.into_iter();
            let values = values
                .map(|value| (value.name.into_owned(), value.value))
                .chain([(ALLOCATIONS.to_owned(), heap.count_total)])
                .collect();
            let pool = worker.into_page_pool();
            to_counts.send(values).ok();
            released.recv().ok();
            to_pages.send(pool.adopt().usage()).ok();
            drop(registered);
        };
        thread::Builder::new()
            .name("worker".to_owned())
            .spawn(work)
            .expect("a thread");
        Self {
            commands,
            counts,
            release,
            pages,
        }
    }

    /// Drains the worker: it ends when its connections have ended, or at the deadline.
    pub(crate) fn drain(&self, deadline: Duration) {
        let deadline = Clock::new().now() + deadline;
        self.commands
            .send(WorkerCommand::Drain(deadline))
            .expect("the worker runs");
    }

    /// Returns the state, for a time-out's message.
    pub(crate) fn describe(&self) -> String {
        let (to, answer) = crossbeam::bounded(1);
        let asked = self
            .commands
            .send_timeout(WorkerCommand::Snapshot(to), Duration::from_secs(1));
        let Some(group) = asked.ok().and_then(|()| answer.recv_timeout(PATIENCE).ok()) else {
            return "the worker doesn't answer".to_owned();
        };
        let values = group.values.iter().filter(|value| value.value != 0);
        values
            .map(|value| format!("{} {}\n", value.name, value.value))
            .collect()
    }

    /// Waits for the worker's end. Returns its counters.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.recv_timeout(PATIENCE).expect("the worker ends")
    }

    /// Ends the thread after ports are closed. Asserts that every page buffer was returned.
    pub(crate) fn release(self) {
        self.release.send(()).expect("the worker waits");
        let usage = self
            .pages
            .recv_timeout(PATIENCE)
            .expect("the worker counts its pages");
        let used = (
            usage.blocks_used,
            usage.small_spans_used,
            usage.large_spans_used,
        );
        assert_eq!(used, (0, 0, 0), "page buffers are missing: {usage:?}");
    }
}

fn worker(
    eal: Eal,
    spec: Spec,
    port: Attached,
    (files, siblings): (FileClient, Siblings),
    commands: crossbeam::Receiver<WorkerCommand>,
) -> Worker {
    let clock = Clock::new();
    let mut config = spec.config;
    config.interfaces = vec![interface(spec.number, port.mac, port.mtu)];
    let connections_max = config.limits.connections_max;
    let demand = Demand::new("page buffers", PagePool::bytes_needed(spec.pool) as u64);
    let mut regions = eal.regions(&demand).expect("memory for page buffers");
    let mut pages = PagePool::from_regions(&mut regions, spec.pool).expect("a pool fits");
    pages.inject_failures(spec.seed, spec.failures_one_in);
    let mut sites = Sites::new();
    let site = Site {
        root: RootId::new(0),
        index: None,
    };
    sites.insert(HostPattern::Any, site);
    let secret = [spec.seed, 1, 2, 3];
    Worker::new(WorkerParts {
        nagle: false,
        number: 0,
        ports: port.ports,
        pages,
        ciphers: Ciphers::new(BackendChoice::Auto, 256),
        stack: Stack::new(clock.now(), config, secret).expect("a stack"),
        server: Server::new(long_timeouts(), sites, files, 8 << 10),
        connections_max,
        idle: IdlePolicy::Yield,
        clock,
        commands,
        siblings,
    })
}

/// Timeouts long enough for slow machines.
fn long_timeouts() -> lockgate_http::Limits {
    let long = lockgate_http::Timeout::clamped(PATIENCE_MILLIS);
    lockgate_http::Limits {
        header_timeout: long,
        idle_timeout: long,
        lookup_timeout: long,
        send_timeout: long,
        ..lockgate_http::Limits::default()
    }
}

const PATIENCE_MILLIS: u32 = 300_000;
const PATIENCE: Duration = Duration::from_secs(300);

//! What is needed to start: memory, ports, and a briefing for each worker.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use lockgate_cache::{FileClient, RootId};
use lockgate_drivers::{self as drivers, Eal, Port, PortError, Queue, WorkerPorts};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::tls::TlsServer;
use lockgate_stack::{Stack, StackConfig};
use pktbuf::{PageArena, PagePool, PoolConfig, Region};

use super::{StartError, translate};
use crate::clock::Clock;
use crate::config::{self, Config, HostPattern, Listener, Place};
use crate::control::Group;
use crate::http::{self, Driver, Site, Sites};
use crate::worker::{Command, Parts, Policy, Siblings, Worker};

/// The memory of the cache and of each worker's page buffers.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) arena: PageArena,
    pub(super) pools: Vec<Region>,
}

impl Memory {
    pub(super) fn reserve(eal: Eal, config: &Config) -> Result<Self, StartError> {
        let bytes = usize::try_from(config.cache.memory_max).unwrap_or(usize::MAX);
        let mut cache = eal.region("the file cache ([cache] memory_max)", bytes)?;
        let arena = PageArena::new(&mut cache, bytes).map_err(|_| StartError::Pool("the cache"))?;
        let bytes = PagePool::bytes_needed(translate::pool(config.limits));
        let pools = config
            .workers
            .cores
            .iter()
            .map(|_| eal.region("page buffers ([limits])", bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { arena, pools })
    }
}

/// Opens the ports. What a device can't do of what the file asks for is a fault of the file.
pub(super) fn ports(eal: Eal, config: &Config) -> Result<Vec<Port>, StartError> {
    let mut ports = Vec::with_capacity(config.ports.len());
    for port in &config.ports {
        let at = |place: &Place, error: &dyn core::fmt::Display| {
            StartError::Config(config.fault(place.clone(), error.to_string()).into())
        };
        let wanted =
            translate::port(config, port).map_err(|error| at(&port.device_place, &error))?;
        ports.push(Port::open(eal, &wanted).map_err(|error| match error {
            PortError::Mtu { .. } => at(&port.mtu_place, &error),
            PortError::Queues { .. } => at(&config.workers.cores_place, &error),
            PortError::Device(_)
            | PortError::Create { .. }
            | PortError::NoPciPort { .. }
            | PortError::Argument { .. }
            | PortError::Interface { .. }
            | PortError::Assume { .. } => at(&port.device_place, &error),
            error => StartError::Port(error),
        })?);
    }
    Ok(ports)
}

/// What all workers are told.
#[derive(Clone, Debug)]
pub(super) struct Common {
    eal: Eal,
    clock: Clock,
    stack: StackConfig,
    secret: [u64; 4],
    tls: Option<Arc<TlsServer>>,
    backend: BackendChoice,
    record_max: u16,
    pool: PoolConfig,
    test: config::Test,
    listeners: Vec<Listener>,
    sites: Sites,
    http: http::Limits,
    nagle: bool,
    idle: Policy,
    cores: Vec<u16>,
    /// For each interface, its port.
    interfaces: Vec<usize>,
}

impl Common {
    pub(super) fn new(
        eal: Eal,
        clock: Clock,
        config: &Config,
        ports: &[Port],
        tls: Option<Arc<TlsServer>>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            eal,
            clock,
            stack: translate::stack(config, ports),
            secret: secret().map_err(StartError::Random)?,
            tls,
            backend: translate::backend(config.ktls),
            record_max: config.ktls.record_max,
            pool: translate::pool(config.limits),
            test: config.test,
            listeners: config.listeners.clone(),
            sites: sites(config)?,
            http: translate::http(&config.http),
            nagle: config.tcp.nagle,
            idle: match config.workers.idle {
                config::Idle::Spin => Policy::Spin,
                config::Idle::Yield => Policy::Yield,
                config::Idle::Sleep => Policy::Sleep,
            },
            cores: config.workers.cores.clone(),
            interfaces: config
                .interfaces
                .iter()
                .map(|interface| interface.port)
                .collect(),
        })
    }
}

/// Everything that one worker needs, before it's on its thread.
#[derive(Debug)]
pub(super) struct Briefing {
    common: Arc<Common>,
    number: usize,
    core: u16,
    queues: Vec<Queue>,
    memory: Region,
    files: FileClient,
    siblings: Siblings,
}

/// One briefing for each worker: its queue of every port, its memory, its handle to the cache.
pub(super) fn briefings(
    common: Common,
    pools: Vec<Region>,
    ports: &mut [Port],
    clients: Vec<FileClient>,
) -> Vec<Briefing> {
    let common = Arc::new(common);
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|port| port.take_queues().into_iter())
        .collect();
    let siblings = Siblings::family(common.cores.len());
    let each = pools.into_iter().zip(clients).zip(siblings);
    let each = each.zip(common.cores.clone());
    each.enumerate()
        .map(|(number, (((memory, files), siblings), core))| Briefing {
            common: Arc::clone(&common),
            number,
            core,
            queues: queues.iter_mut().filter_map(Iterator::next).collect(),
            memory,
            files,
            siblings,
        })
        .collect()
}

impl Briefing {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Puts the worker together, on the thread that will run it.
    pub(super) fn worker(
        mut self,
        mailbox: Receiver<Command>,
    ) -> Result<(Worker, drivers::Worker), StartError> {
        let common = &*self.common;
        let core = core_affinity::CoreId {
            id: usize::from(self.core),
        };
        if !core_affinity::set_for_current(core) {
            return Err(StartError::Core(self.core));
        }
        let registered = common.eal.register_worker()?;
        let mut pages = PagePool::new(&mut self.memory, common.pool)
            .map_err(|_| StartError::Pool("a worker's page buffers"))?;
        // Ports have number 0.
        if let Some(failures) = translate::failures(common.test, self.number + 1) {
            tracing::warn!(
                worker = self.number,
                ?failures,
                "allocations fail on purpose"
            );
            pages.inject_failures(failures.seed, failures.one_in);
        }
        let now = common.clock.now();
        let stack = Stack::new(now, common.stack.clone(), common.secret)?;
        let mut worker = Worker::new(Parts {
            number: self.number,
            ports: WorkerPorts::new(self.queues, &common.interfaces),
            pages,
            ciphers: Ciphers::new(common.backend, EXPANDED_KEYS),
            stack,
            driver: Driver::new(
                common.http.clone(),
                common.sites.clone(),
                self.files,
                COPY_MAX.min(u32::from(common.record_max)),
            ),
            connections_max: common.stack.limits.connections_max,
            nagle: common.nagle,
            idle: common.idle,
            clock: common.clock,
            mailbox,
            siblings: self.siblings,
        });
        for listener in &common.listeners {
            let tls = common.tls.clone().filter(|_| listener.tls);
            worker
                .listen(listener.address, tls)
                .map_err(|error| StartError::Listen(listener.address, error))?;
        }
        // One worker is enough to say that the addresses are here (again).
        if self.number == 0 {
            worker.announce();
        }
        Ok((worker, registered))
    }
}

/// Takes a worker apart and says so if page buffers are missing. Its counters are what's left.
pub(super) fn put_away(worker: Worker) -> Group {
    let counters = worker.snapshot();
    let (number, pages) = worker.dismantle();
    if !pages.is_full() {
        tracing::warn!(worker = number, usage = ?pages.usage(), "page buffers did not come back");
    }
    counters
}

fn sites(config: &Config) -> Result<Sites, StartError> {
    let mut sites = Sites::new();
    for (number, site) in config.sites.iter().enumerate() {
        let root = RootId::new(u16::try_from(number).unwrap_or(u16::MAX));
        let index = site.index.as_deref().map(Arc::from);
        for host in &site.hosts {
            let host = match host {
                HostPattern::Any => "*".to_owned(),
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Suffix(suffix) => format!("*{suffix}"),
            };
            sites
                .add(
                    &host,
                    Site {
                        root,
                        index: index.clone(),
                    },
                )
                .map_err(|why| StartError::Host { host, why })?;
        }
    }
    Ok(sites)
}

fn secret() -> std::io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut secret = [0; 4];
    for (word, bytes) in secret.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(secret)
}

/// Expanded keys that a worker keeps: a megabyte of them, about.
const EXPANDED_KEYS: usize = 1024;

/// Objects up to this length are copied behind their response's head, into the same record.
const COPY_MAX: u32 = 8 << 10;

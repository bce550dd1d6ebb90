//! What is needed to start: memory, ports, and a spec for each worker.

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
use crate::control::MetricGroup;
use crate::server::{Driver, Site, Sites};
use crate::worker::{IdlePolicy, Siblings, Worker, WorkerCommand, WorkerParts};

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

/// What all workers are sent.
#[derive(Clone, Debug)]
pub(super) struct SharedSpec {
    eal: Eal,
    clock: Clock,
    stack: StackConfig,
    secret: [u64; 4],
    tls: Option<Arc<TlsServer>>,
    backend: BackendChoice,
    record_max: u16,
    pool: PoolConfig,
    #[cfg(feature = "fault-injection")]
    test: config::Test,
    listeners: Vec<Listener>,
    sites: Sites,
    http: lockgate_http::Limits,
    nagle: bool,
    idle: IdlePolicy,
    cores: Vec<u16>,
    /// For each interface, its port.
    interfaces: Vec<usize>,
}

impl SharedSpec {
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
            #[cfg(feature = "fault-injection")]
            test: config.test,
            listeners: config.listeners.clone(),
            sites: sites(config)?,
            http: translate::http(&config.http),
            nagle: config.tcp.nagle,
            idle: match config.workers.idle {
                config::Idle::Spin => IdlePolicy::Spin,
                config::Idle::Yield => IdlePolicy::Yield,
                config::Idle::Sleep => IdlePolicy::Sleep,
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
pub(super) struct WorkerSpec {
    shared: Arc<SharedSpec>,
    number: usize,
    core: u16,
    queues: Vec<Queue>,
    memory: Region,
    files: FileClient,
    siblings: Siblings,
}

/// One spec for each worker: its queue of every port, its memory, its handle to the cache.
pub(super) fn worker_specs(
    shared: SharedSpec,
    pools: Vec<Region>,
    ports: &mut [Port],
    clients: Vec<FileClient>,
) -> Vec<WorkerSpec> {
    let shared = Arc::new(shared);
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|port| port.take_queues().into_iter())
        .collect();
    let siblings = Siblings::full_mesh(shared.cores.len());
    let each = pools.into_iter().zip(clients).zip(siblings);
    let each = each.zip(shared.cores.clone());
    each.enumerate()
        .map(|(number, (((memory, files), siblings), core))| WorkerSpec {
            shared: Arc::clone(&shared),
            number,
            core,
            queues: queues.iter_mut().filter_map(Iterator::next).collect(),
            memory,
            files,
            siblings,
        })
        .collect()
}

impl WorkerSpec {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Puts the worker together, on the thread that will run it.
    pub(super) fn build(
        mut self,
        commands: Receiver<WorkerCommand>,
    ) -> Result<(Worker, drivers::Worker), StartError> {
        let shared = &*self.shared;
        let core = core_affinity::CoreId {
            id: usize::from(self.core),
        };
        if !core_affinity::set_for_current(core) {
            return Err(StartError::Core(self.core));
        }
        let registered = shared.eal.register_worker()?;
        #[cfg_attr(
            not(feature = "fault-injection"),
            expect(unused_mut, reason = "only to inject failures")
        )]
        let mut pages = PagePool::new(&mut self.memory, shared.pool)
            .map_err(|_| StartError::Pool("a worker's page buffers"))?;
        // Ports have number 0.
        #[cfg(feature = "fault-injection")]
        if let Some(failures) = translate::failures(shared.test, self.number + 1) {
            tracing::warn!(
                worker = self.number,
                ?failures,
                "allocations fail on purpose"
            );
            pages.inject_failures(failures.seed, failures.one_in);
        }
        let now = shared.clock.now();
        let stack = Stack::new(now, shared.stack.clone(), shared.secret)?;
        let mut worker = Worker::new(WorkerParts {
            number: self.number,
            ports: WorkerPorts::new(self.queues, &shared.interfaces),
            pages,
            ciphers: Ciphers::new(shared.backend, EXPANDED_KEYS),
            stack,
            driver: Driver::new(
                shared.http.clone(),
                shared.sites.clone(),
                self.files,
                COPY_MAX.min(u32::from(shared.record_max)),
            ),
            connections_max: shared.stack.limits.connections_max,
            nagle: shared.nagle,
            idle: shared.idle,
            clock: shared.clock,
            commands,
            siblings: self.siblings,
        });
        for listener in &shared.listeners {
            let tls = shared.tls.clone().filter(|_| listener.tls);
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
pub(super) fn shutdown_worker(worker: Worker) -> MetricGroup {
    let counters = worker.snapshot();
    let (number, pages) = worker.into_page_pool();
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

fn secret() -> Result<[u64; 4], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
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

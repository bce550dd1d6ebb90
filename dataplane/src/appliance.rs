//! The appliance: starts what a configuration describes, watches it, and shuts it down.
//!
//! Order of the start: control socket, EAL, memory, ports, drop of root, links, file cache, KTLS
//! workers, workers. The shutdown runs backwards, once all workers have ended. Page buffers are
//! counted last: until its port is closed, a TX ring holds some.

mod ends;
mod links;
mod memory;
mod pending;
mod snapshot;
mod start;
mod translate;

use core::time::Duration;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use lockgate_cache::{FileCache, ReadsBy, WallClock};
use lockgate_drivers::{Eal, EalError, MemoryError, Port, PortError};
use lockgate_stack::tls::TlsConfigError;
use lockgate_stack::{ConfigError, ListenError};
use lockgate_wire::Instant;

pub(crate) use self::memory::eal_config;

use self::ends::{EndTotals, WorkerEnd};
use self::links::{LINK_POLL_PERIOD, LinkWatch};
use crate::clock::{Clock, unix_time};
use crate::config::{Config, Faults};
use crate::control::{ControlError, ControlServer, Stop, StopLevel};
use crate::ktls_workers::{KtlsQueues, KtlsWorkers};
use crate::privileges::{Privileges, PrivilegesError};
use crate::worker::WorkerCommand;

/// Runs the appliance until it's asked to stop and all workers have ended.
///
/// # Errors
/// The appliance can't start, or a worker failed. A fault of the configuration that only the device
/// can find is [`ApplianceError::Config`]: it has file, line and key.
pub fn run(config: Config, privileges: Privileges, stop: &Stop) -> Result<(), ApplianceError> {
    let running = Running::start(config, privileges, stop)?;
    running.wait(stop)
}

/// Why the appliance doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum ApplianceError {
    /// The configuration asks for what a device can't do.
    #[error("{0}")]
    Config(#[from] Faults),
    /// The EAL doesn't start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// Packet memory can't be reserved.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A pool doesn't fit into the region that was reserved by its sum.
    #[error("memory: {0} doesn't fit into the region that was reserved for it")]
    Pool(&'static str),
    /// A port can't be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No TLS server can be made of the certificates and `[tls]`.
    #[error("TLS: {0}")]
    Tls(#[from] TlsConfigError),
    /// The file cache can't start.
    #[error(transparent)]
    Files(#[from] lockgate_cache::StartError),
    /// A worker's stack refuses its configuration.
    #[error("stack: can't start: {0}")]
    Stack(#[from] ConfigError),
    /// The stack refuses a listener.
    #[error("listener {0}: {1}")]
    Listen(core::net::SocketAddr, ListenError),
    /// The system has no random bytes.
    #[error("random numbers: the system has none for secrets: {0}")]
    Random(getrandom::Error),
    /// A worker can't be bound to its core.
    #[error(
        "worker: can't be bound to core {0}; check [workers] cores against the process's affinity"
    )]
    Core(u16),
    /// A thread can't be spawned.
    #[error("thread {name}: can't be spawned: {error}")]
    Thread {
        /// Its name.
        name: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// A worker's thread ended during its start.
    #[error("worker {0}: start failed; see the log lines above")]
    WorkerGone(usize),
    /// A worker's thread panicked.
    #[error("worker {0}: panicked; see the log lines above")]
    WorkerFailed(usize),
    /// A KTLS worker's thread panicked.
    #[error("a KTLS worker panicked; see the log lines above")]
    KtlsWorkerFailed,
    /// Root can't be dropped.
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    /// The control socket can't be served.
    #[error("control socket: {0}")]
    Control(#[from] ControlError),
}

/// A running appliance.
#[derive(Debug)]
struct Running {
    config: Arc<Config>,
    clock: Clock,
    ports: Arc<Vec<Port>>,
    links: LinkWatch,
    workers: Vec<WorkerHandle>,
    ktls_workers: KtlsWorkers,
    /// Answers requests until the workers have ended.
    control: Option<ControlServer>,
    cache: Arc<FileCache>,
}

/// A running worker: its thread and its command channel.
#[derive(Debug)]
struct WorkerHandle {
    commands: Sender<WorkerCommand>,
    /// Returns what the worker leaves behind; nothing if it didn't start.
    thread: JoinHandle<Option<WorkerEnd>>,
    /// The last command to stop that it was sent.
    sent: StopLevel,
}

impl Running {
    fn start(
        config: Config,
        mut privileges: Privileges,
        stop: &Stop,
    ) -> Result<Self, ApplianceError> {
        let clock = Clock::new();
        // First, so that a second instance fails before it touches a device.
        let socket = config.control_socket.as_deref();
        let control = socket.map(pending::PendingRequests::listen).transpose()?;
        let plan = eal_config(Path::new("/sys"), &config);
        let eal = Eal::init(&plan)?;
        let tls = start::tls(&config)?;
        // Before the ports, which map the regions for DMA when they're opened.
        let memory = memory::Memory::reserve(eal, &config, &plan.regions)?;
        let mut ports = start::ports(eal, &config)?;
        memory::settle(eal, &ports);
        if let (Some(control), Some(identity)) = (&control, privileges.identity()) {
            control.give_to(identity)?;
        }
        privileges.drop_root(start::capabilities(&config))?;
        // Nothing below opens a file, a directory or a device as root.
        links::wait_for_links(&ports, &config, clock, stop);
        let links = LinkWatch::new(&ports, &config);
        let config = Arc::new(config);
        let shared = start::SharedSpec::new(eal, clock, Arc::clone(&config), &ports, tls)?;
        let started = privileges.without_capabilities(|| spawn_all(shared, memory, &mut ports));
        let (cache, workers, ktls_workers) =
            started.map_err(|error| ApplianceError::Thread {
                name: "start".to_owned(),
                error,
            })??;
        let (ports, cache) = (Arc::new(ports), Arc::new(cache));
        let control = control.map(|pending| {
            let command_queues = workers.iter().map(|worker| worker.commands.clone());
            pending.answer_from(snapshot::MetricSources {
                ports: Arc::clone(&ports),
                cache: Arc::clone(&cache),
                command_queues: command_queues.collect(),
                ktls_threads: ktls_workers.serving(),
            })
        });
        for listener in &config.listeners {
            tracing::info!(address = %listener.address, tls = listener.tls, "listening");
        }
        Ok(Self {
            config,
            clock,
            ports,
            links,
            workers,
            ktls_workers,
            control,
            cache,
        })
    }

    /// Polls link states until it's asked to stop, then waits for the workers to end.
    fn wait(mut self, stop: &Stop) -> Result<(), ApplianceError> {
        let mut deadline = None;
        while self
            .workers
            .iter()
            .any(|worker| !worker.thread.is_finished())
        {
            let workers = self.workers.iter().map(|worker| &worker.commands);
            self.links.poll(&self.ports, workers);
            let mut asked = stop.level();
            // The connections that the flow hash gives to a worker that has ended are lost.
            let has_ended = self.workers.iter().any(|w| w.thread.is_finished())
                || self.ktls_workers.has_ended();
            if asked == StopLevel::Run && has_ended {
                tracing::error!(
                    "worker: ended by itself; draining the others, see the lines above for the \
                     cause"
                );
                asked = StopLevel::Drain;
            }
            if asked > StopLevel::Run {
                let now = self.clock.now();
                let deadline = *deadline.get_or_insert(now + self.config.drain_deadline);
                self.send_stop(asked, deadline);
            }
            thread::sleep(if deadline.is_none() {
                LINK_POLL_PERIOD
            } else {
                JOIN_POLL_PERIOD
            });
        }
        let mut failed = None;
        let mut ends = EndTotals::default();
        let mut page_pools = Vec::with_capacity(self.workers.len());
        for (number, worker) in self.workers.into_iter().enumerate() {
            match worker.thread.join() {
                Ok(Some(WorkerEnd { counters, pages })) => {
                    ends.add(&counters.values);
                    page_pools.push((number, pages));
                }
                Ok(None) => {}
                Err(_) => failed = Some(number),
            }
        }
        // The workers have dropped their queues.
        let is_ktls_ended = self.ktls_workers.join();
        // In this order: the reader of counters first, then their sources.
        drop(self.control);
        let now = self.clock.now();
        let left = deadline.map_or(Duration::ZERO, |at: Instant| at.saturating_since(now));
        close_cache(self.cache, left);
        if let Ok(ports) = Arc::try_unwrap(self.ports) {
            ends::close_ports(ports);
        }
        // After the ports: until they are closed, their TX rings hold page buffers.
        for (number, pages) in page_pools {
            ends::count_pages(number, pages);
        }
        // The control socket has closed, so only this line tells how the drain ended.
        tracing::info!(%ends, "stopped");
        match failed {
            Some(number) => Err(ApplianceError::WorkerFailed(number)),
            None if !is_ktls_ended => Err(ApplianceError::KtlsWorkerFailed),
            None => Ok(()),
        }
    }

    /// Sends the command to every worker that hasn't got it yet. A full queue is retried at the
    /// next call.
    fn send_stop(&mut self, asked: StopLevel, deadline: Instant) {
        for worker in self.workers.iter_mut().filter(|worker| worker.sent < asked) {
            let command = match asked {
                StopLevel::Run => return,
                StopLevel::Drain => WorkerCommand::Drain(deadline),
                StopLevel::Now => WorkerCommand::Stop,
            };
            if worker.commands.try_send(command).is_ok() {
                worker.sent = asked;
            }
        }
    }
}

/// Spawns the threads that read files, the KTLS workers, then the workers. Returns when all
/// workers have started.
///
/// # Errors
/// A thread can't be spawned, or a part can't start.
fn spawn_all(
    shared: start::SharedSpec,
    memory: memory::Memory,
    ports: &mut [Port],
) -> Result<(FileCache, Vec<WorkerHandle>, KtlsWorkers), ApplianceError> {
    let config = shared.config();
    let (cache, clients) = FileCache::start(
        memory.arena,
        &config.roots,
        &config.cache,
        config.workers.cores.len(),
        WallClock::new(unix_time),
    )
    .map_err(|error| start::root_fault(&config, error))?;
    log_reads(cache.reads_by());
    let (ktls_workers, queues) = spawn_ktls(&config)?;
    let specs = start::worker_specs(shared, memory.pools, ports, clients, queues);
    let mut workers = Vec::with_capacity(specs.len());
    let mut started = Vec::with_capacity(specs.len());
    for spec in specs {
        let (handle, ready) = spawn_worker(spec)?;
        workers.push(handle);
        started.push(ready);
    }
    for (number, ready) in started.into_iter().enumerate() {
        ready
            .recv()
            .map_err(|_| ApplianceError::WorkerGone(number))??;
    }
    Ok((cache, workers, ktls_workers))
}

/// Spawns the KTLS workers, if there are any.
///
/// # Errors
/// The system has no thread left.
fn spawn_ktls(config: &Config) -> Result<(KtlsWorkers, Vec<KtlsQueues>), ApplianceError> {
    let Some(ktls) = &config.ktls.workers else {
        return Ok(Default::default());
    };
    tracing::info!(workers = ktls.workers, cores = ?ktls.cores, "KTLS workers");
    let workers = config.workers.cores.len();
    KtlsWorkers::start(ktls, workers, || start::ciphers(config))
        .map_err(|(name, error)| ApplianceError::Thread { name, error })
}

/// Spawns a worker's thread. The receiver gets the outcome of its start.
///
/// # Errors
/// The system has no thread left.
fn spawn_worker(
    spec: start::WorkerSpec,
) -> Result<(WorkerHandle, Receiver<Result<(), ApplianceError>>), ApplianceError> {
    let (commands, receiver) = bounded(COMMANDS_QUEUED_MAX);
    let (ready, started) = bounded(1);
    let name = format!("worker-{}", spec.number());
    let work = move || match spec.build(receiver) {
        Ok((mut worker, registered)) => {
            let _ = ready.send(Ok(()));
            worker.run();
            let end = WorkerEnd::of(worker);
            drop(registered);
            Some(end)
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            None
        }
    };
    let thread = thread::Builder::new().name(name.clone()).spawn(work);
    let thread = thread.map_err(|error| ApplianceError::Thread { name, error })?;
    Ok((
        WorkerHandle {
            commands,
            thread,
            sent: StopLevel::Run,
        },
        started,
    ))
}

/// Logs how files are read, with a warning if it isn't as fast as it could be.
fn log_reads(by: &ReadsBy) {
    match by {
        ReadsBy::Uring => tracing::debug!("file cache: reads through io_uring"),
        ReadsBy::Pread => tracing::debug!("file cache: reads by pread"),
        ReadsBy::PreadFor(reason) => tracing::warn!(
            "file cache: the kernel refuses io_uring ({reason}); reads by pread, one at a time \
             for each reader; raise [cache] readers, or set io = \"pread\" if that's intended"
        ),
    }
}

/// Ends the threads that read files. A thread that hangs in a file system ends with the process.
fn close_cache(cache: Arc<FileCache>, left: Duration) {
    let wait = left.clamp(READERS_END_MIN, READERS_END_MAX);
    let readers = Arc::into_inner(cache).map_or(0, |cache| cache.shut_down(wait));
    if readers > 0 {
        tracing::warn!(
            readers,
            "file cache: readers hang in a file system; the process ends without them"
        );
    }
}

/// How often it's polled whether the workers have ended.
const JOIN_POLL_PERIOD: Duration = Duration::from_millis(5);

/// How long readers of files may take to end: what is left of the drain, within these limits. A
/// read from a disk takes milliseconds.
const READERS_END_MIN: Duration = Duration::from_millis(100);
const READERS_END_MAX: Duration = Duration::from_secs(1);

/// Commands that may be queued for a worker.
const COMMANDS_QUEUED_MAX: usize = 16;

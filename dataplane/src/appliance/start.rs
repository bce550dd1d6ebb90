//! The steps of the start: ports, and the specification of each worker.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use lockgate_cache::{FileClient, StartError};
use lockgate_drivers::{
    self as drivers, Driver, Eal, Port, PortConfig, PortError, Queue, WorkerPorts,
};
use lockgate_ktls::Ciphers;
use lockgate_stack::tls::{TlsConfigError, TlsServer};
use lockgate_stack::{FlowDirectory, SiblingPlace, Stack, StackConfig};
use pktbuf::{PagePool, Region, SMALL_CAPACITY};
use rustix::thread::CapabilitySet;

use super::{ApplianceError, translate};
use crate::clock::Clock;
use crate::config::{Config, Place};
use crate::ktls_workers::KtlsQueues;
use crate::privileges::capabilities_needed;
use crate::server::{HEAD_BYTES_EXPECTED, Server};
use crate::worker::{Siblings, Worker, WorkerCommand, WorkerParts};

/// Opens the ports.
///
/// # Errors
/// If a device can't do what the file asks for, that's a fault of the file, at the key's line.
pub(super) fn ports(eal: Eal, config: &Config) -> Result<Vec<Port>, ApplianceError> {
    let mut ports = Vec::with_capacity(config.ports.len());
    for port in &config.ports {
        let at = |place: &Place, error: &dyn core::fmt::Display| {
            ApplianceError::Config(config.fault(place.clone(), error.to_string()).into())
        };
        let settings = PortConfig {
            #[cfg(feature = "fault-injection")]
            inject: translate::failures(config.test, 0),
            ..port.settings.clone()
        };
        ports.push(Port::open(eal, &settings).map_err(|error| match error {
            PortError::Mtu { .. } => at(&port.mtu_place, &error),
            PortError::Queues { .. } => at(&config.workers.cores_place, &error),
            PortError::Device(_)
            | PortError::Create { .. }
            | PortError::NoPciPort { .. }
            | PortError::Argument { .. }
            | PortError::Interface { .. }
            | PortError::Assume { .. } => at(&port.device_place, &error),
            error => ApplianceError::Port(error),
        })?);
    }
    Ok(ports)
}

/// The part of the specification that all workers share.
#[derive(Debug)]
pub(super) struct SharedSpec {
    eal: Eal,
    clock: Clock,
    config: Arc<Config>,
    stack: StackConfig,
    /// Seeds the flow table's hash and TCP's initial sequence numbers.
    secret: [u64; 4],
    tls: Option<Arc<TlsServer>>,
}

impl SharedSpec {
    pub(super) fn new(
        eal: Eal,
        clock: Clock,
        config: Arc<Config>,
        ports: &[Port],
        tls: Option<Arc<TlsServer>>,
    ) -> Result<Self, ApplianceError> {
        Ok(Self {
            eal,
            clock,
            stack: translate::stack(&config, ports),
            secret: secret().map_err(ApplianceError::Random)?,
            tls,
            config,
        })
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }
}

/// Makes a fault of the file, at the key's line, of a site's directory that can't be opened.
pub(super) fn root_fault(config: &Config, error: StartError) -> ApplianceError {
    if let StartError::Root { path, error } = &error {
        let mut roots = config.roots.iter().zip(&config.root_places);
        if let Some((_, place)) = roots.find(|(root, _)| *root == path) {
            let message = match &config.identity {
                Some(user) => format!("{}: {error} (as user {})", path.display(), user.name),
                None => format!("{}: {error}", path.display()),
            };
            return ApplianceError::Config(config.fault(place.clone(), message).into());
        }
    }
    error.into()
}

/// Returns the capabilities that the drivers of all ports need after the ports were opened.
pub(super) fn capabilities(config: &Config) -> CapabilitySet {
    let devices = config.ports.iter().map(|port| &port.settings.device);
    let needed = devices.flat_map(|device| {
        let cards = device.pci_addresses().into_iter();
        let of_cards = cards.map(|address| {
            capabilities_needed(Driver::Pci, pci_driver(&address.to_string()).as_deref())
        });
        of_cards.chain([capabilities_needed(device.driver(), None)])
    });
    needed.collect()
}

/// Returns the kernel's driver of a PCI device; none if it has none, or isn't there.
fn pci_driver(address: &str) -> Option<String> {
    let link = std::fs::read_link(Path::new(PCI_DEVICES).join(address).join("driver"));
    let name = link.ok()?.file_name()?.to_str()?.to_owned();
    Some(name)
}

/// The specification of a worker, made before its thread is spawned.
#[derive(Debug)]
pub(super) struct WorkerSpec {
    shared: Arc<SharedSpec>,
    number: usize,
    core: u16,
    queues: Vec<Queue>,
    memory: Vec<Region>,
    files: FileClient,
    siblings: Siblings,
    place: Option<SiblingPlace>,
    ktls: Option<KtlsQueues>,
}

/// Makes one specification for each worker: its queue of every port, its memory, its client of the
/// file cache.
pub(super) fn worker_specs(
    shared: SharedSpec,
    pools: Vec<Vec<Region>>,
    ports: &mut [Port],
    clients: Vec<FileClient>,
    ktls: Vec<KtlsQueues>,
) -> Vec<WorkerSpec> {
    let shared = Arc::new(shared);
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|port| port.take_queues().into_iter())
        .collect();
    let cores = shared.config.workers.cores.clone();
    let siblings = Siblings::full_mesh(cores.len());
    let workers = u16::try_from(cores.len()).unwrap_or(u16::MAX);
    let [hash_secret, ..] = shared.secret;
    let directory =
        (workers > 1).then(|| FlowDirectory::new(workers, &shared.stack.limits, hash_secret));
    let place = |number| {
        let directory = Arc::clone(directory.as_ref()?);
        Some(SiblingPlace {
            directory,
            number: u16::try_from(number).ok()?,
        })
    };
    let mut ktls = ktls.into_iter();
    let each = pools.into_iter().zip(clients).zip(siblings).zip(cores);
    each.enumerate()
        .map(|(number, (((memory, files), siblings), core))| WorkerSpec {
            shared: Arc::clone(&shared),
            number,
            core,
            queues: queues.iter_mut().filter_map(Iterator::next).collect(),
            memory,
            files,
            siblings,
            place: place(number),
            ktls: ktls.next(),
        })
        .collect()
}

impl WorkerSpec {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Builds the worker, on the thread that will run it: binds the thread to its core, registers
    /// it with the EAL, and opens the listeners.
    pub(super) fn build(
        mut self,
        commands: Receiver<WorkerCommand>,
    ) -> Result<(Worker, drivers::Worker), ApplianceError> {
        let shared = &*self.shared;
        let config = &*shared.config;
        let core = core_affinity::CoreId {
            id: usize::from(self.core),
        };
        if !core_affinity::set_for_current(core) {
            return Err(ApplianceError::Core(self.core));
        }
        let registered = shared.eal.register_worker()?;
        #[cfg_attr(
            not(feature = "fault-injection"),
            expect(unused_mut, reason = "only to inject failures")
        )]
        let mut pages = PagePool::from_regions(&mut self.memory, config.pool)
            .map_err(|_| ApplianceError::Pool("a worker's page buffers"))?;
        // Ports have number 0.
        #[cfg(feature = "fault-injection")]
        if let Some(failures) = translate::failures(config.test, self.number + 1) {
            tracing::warn!(
                worker = self.number,
                ?failures,
                "worker: allocations fail on purpose, as [test] says"
            );
            pages.inject_failures(failures.seed, failures.one_in);
        }
        #[cfg(feature = "fault-injection")]
        for _ in 0..config.test.leak_pages {
            core::mem::forget(pages.alloc(1));
        }
        let now = shared.clock.now();
        let stack = StackConfig {
            siblings: self.place,
            ..shared.stack.clone()
        };
        let stack = Stack::new(now, stack, shared.secret)?;
        // The port of each interface.
        let ports: Vec<_> = config.interfaces.iter().map(|on| on.port).collect();
        let mut worker = Worker::new(WorkerParts {
            number: self.number,
            ports: WorkerPorts::new(self.queues, &ports),
            pages,
            ciphers: match self.ktls {
                Some(queues) => ciphers(config).with_away(Box::new(queues)),
                None => ciphers(config),
            },
            stack,
            server: Server::new(
                config.http.clone(),
                config.sites.clone(),
                self.files,
                COPY_MAX.min(u32::from(config.ktls.record_max)),
            ),
            connections_max: config.limits.connections_max,
            nagle: !config.tcp.nodelay,
            idle: config.workers.idle,
            clock: shared.clock,
            commands,
            siblings: self.siblings,
        });
        for listener in &config.listeners {
            let tls = shared.tls.clone().filter(|_| listener.tls);
            worker
                .listen(listener.address, tls)
                .map_err(|error| ApplianceError::Listen(listener.address, error))?;
        }
        // The workers share their addresses: one announces them.
        if self.number == 0 {
            worker.announce();
        }
        Ok((worker, registered))
    }
}

/// Makes the ciphers of a worker, or of a KTLS worker.
pub(super) fn ciphers(config: &Config) -> Ciphers {
    Ciphers::new(config.ktls.backend, EXPANDED_KEYS)
}

/// Makes the TLS server that all listeners share; none if there are no certificates.
pub(super) fn tls(config: &Config) -> Result<Option<Arc<TlsServer>>, TlsConfigError> {
    if config.certificates.is_empty() {
        return Ok(None);
    }
    let server = TlsServer::new(config.certificates.clone(), &config.tls.options)?;
    Ok(Some(Arc::new(server)))
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

const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// Expanded keys that a worker caches: about a megabyte.
const EXPANDED_KEYS: usize = 1024;

/// Objects up to this length are copied into the record of their response's head. Both fit into a
/// small span. What is longer is sent by reference: the ciphertext of it can be dropped and made
/// again when memory is short, that of a copy can't.
const COPY_MAX: u32 = SMALL_CAPACITY - HEAD_BYTES_EXPECTED;

//! An endpoint of two crossed rings: a stack with a port, on a core of its own.

use core::net::{Ipv4Addr, SocketAddr};

use lockgate::clock::Clock;
use lockgate_drivers::{
    Assume, Demand, Eal, EalConfig, Hugepages, Port, PortConfig, Queue, RingPair, Worker,
    WorkerPorts,
};
use lockgate_ip::{Cidr, Interface};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::{Env, Limits, Notice, Recv, SocketId, Stack, StackConfig};
use lockgate_wire::IfaceId;
use pktbuf::{Buffer, PagePool, PoolConfig, Region};

/// An endpoint before it's on its thread.
pub(crate) struct EndpointSpec {
    eal: Eal,
    pub(crate) port: Port,
    pub(crate) queues: Vec<Queue>,
    pub(crate) memory: Vec<Region>,
    pub(crate) address: Ipv4Addr,
}

/// An endpoint on its thread.
pub(crate) struct Endpoint {
    pub(crate) clock: Clock,
    pub(crate) stack: Stack,
    pub(crate) ciphers: Ciphers,
    pub(crate) pages: PagePool,
    ports: WorkerPorts,
    inbox: Vec<(IfaceId, Buffer)>,
    _registered: Worker,
    _port: Port,
}

/// Starts the EAL.
pub(crate) fn eal() -> Eal {
    let config = EalConfig {
        hugepages: Hugepages::Auto,
        memory_mib: 512,
        regions: vec![Demand::new("pages", 512 << 20)],
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    if !eal.uses_hugepages() {
        eprintln!("without huge pages: figures will be lower");
    }
    eal
}

/// Makes both endpoints of a pair of rings, with the same assumed offloads.
pub(crate) fn link(eal: Eal, name: &str, assume: Assume) -> (EndpointSpec, EndpointSpec) {
    let demand = Demand::new("pages", PagePool::bytes_needed(POOL) as u64);
    let [a, b] = [SUBJECT, PEER].map(|_| eal.regions(&demand).unwrap());
    let pair = RingPair::new(eal, name, RING_ENTRIES, 1).unwrap();
    let end = |device, side, memory, address| {
        let config = PortConfig {
            assume,
            rx_buffers: 8192,
            ..PortConfig::new(format!("{name}-{side}"), device)
        };
        let mut port = Port::open(eal, &config).unwrap();
        EndpointSpec {
            eal,
            queues: port.take_queues(),
            port,
            memory,
            address,
        }
    };
    (end(pair.a, 'a', a, SUBJECT), end(pair.b, 'b', b, PEER))
}

impl EndpointSpec {
    /// Returns the configuration of a stack at this endpoint.
    pub(crate) fn stack_config(&self, limits: Limits) -> StackConfig {
        let on = Interface {
            id: IfaceId(0),
            mac: Some(self.port.mac()),
            mtu: self.port.mtu(),
            vlan: None,
        };
        let address = Cidr::new(self.address.into(), 24).unwrap();
        StackConfig {
            interfaces: vec![(on, vec![address])],
            limits,
            ..StackConfig::default()
        }
    }

    /// Binds the calling thread to a core and makes the endpoint there.
    pub(crate) fn enter(self, core: usize, limits: Limits) -> Endpoint {
        pin(core);
        let config = self.stack_config(limits);
        let Self {
            eal,
            port,
            queues,
            mut memory,
            ..
        } = self;
        let registered = eal.register_worker().unwrap();
        let clock = Clock::new();
        Endpoint {
            clock,
            stack: Stack::new(clock.now(), config, [1, 2, 3, 4]).unwrap(),
            ciphers: Ciphers::new(BackendChoice::AwsLcRs, 1024),
            pages: PagePool::from_regions(&mut memory, POOL).unwrap(),
            ports: WorkerPorts::new(queues, &[0]),
            inbox: Vec::new(),
            _registered: registered,
            _port: port,
        }
    }
}

impl Endpoint {
    /// The first half of a worker's turn: receives and fires timers. Returns the packets received.
    pub(crate) fn receive(&mut self) -> usize {
        let now = self.clock.now();
        self.pages.reclaim();
        let inbox = &mut self.inbox;
        let received = self.ports.rx_burst(|on, packet| inbox.push((on, packet)));
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        self.stack.on_burst(now, &mut self.inbox, &mut env);
        self.stack.on_timer(now, &mut env);
        self.stack.step_handshake(now, &mut env);
        received
    }

    /// The second half of a worker's turn: sends.
    pub(crate) fn transmit(&mut self) {
        let now = self.clock.now();
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        self.stack.poll(now, &mut env, 256);
        self.ports.flush();
    }

    pub(crate) fn notice(&mut self) -> Option<Notice> {
        self.stack.poll_notice()
    }

    /// Receives the next chunk of a socket, if there is one.
    pub(crate) fn recv(&mut self, socket: SocketId) -> Option<lockgate_stack::Chunk> {
        match self
            .stack
            .recv(socket, &mut self.ciphers, &mut self.pages)
            .unwrap()
        {
            Recv::Data(chunk) => Some(chunk),
            Recv::Nothing | Recv::End { .. } => None,
        }
    }

    pub(crate) fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        let sent = self.stack.send(socket, bytes, false, &mut self.pages);
        assert_eq!(sent, Ok(bytes.len() as u32), "the queue has room");
    }
}

/// The address that the subject listens on.
pub(crate) fn service() -> SocketAddr {
    (SUBJECT, 443).into()
}

/// Binds the calling thread to a core.
pub(crate) fn pin(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap();
    // Subject and baseline run on the same core; on a machine with one core, so does the peer.
    let id = cores[core % cores.len()];
    assert!(core_affinity::set_for_current(id), "a core to run on");
}

pub(crate) const SUBJECT_CORE: usize = 0;
pub(crate) const PEER_CORE: usize = 1;

const SUBJECT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const RING_ENTRIES: u32 = 4096;

pub(crate) const POOL: PoolConfig = PoolConfig {
    blocks: 8192,
    small_spans: 2048,
    large_spans: 2048,
};

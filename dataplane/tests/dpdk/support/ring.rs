//! Two ports with crossed rings.

use lockgate_drivers::{Eal, Port, PortConfig, QueueCounters, RingPair, WorkerPorts};

use super::host::Attached;

/// A pair of ports, one for each host.
pub(crate) struct Net {
    pub(crate) eal: Eal,
    ports: [Port; 2],
}

/// What two ports have counted.
pub(crate) struct Ending {
    pub(crate) ports: [QueueCounters; 2],
    /// Allocations of packet buffers that failed on purpose.
    pub(crate) injected: u64,
}

impl Net {
    /// Opens both ports. Rings last as long as the process, so each pair has its own name.
    pub(crate) fn open(eal: Eal, name: &str, change: impl Fn(&mut PortConfig)) -> Self {
        Self::with_queues(eal, name, 1, change)
    }

    pub(crate) fn with_queues(
        eal: Eal,
        name: &str,
        queues: u16,
        change: impl Fn(&mut PortConfig),
    ) -> Self {
        let pair = RingPair::new(eal, name, ENTRIES, queues).expect("two rings");
        let open = |side: &str, device| {
            let mut config = PortConfig::new(format!("{name}_{side}"), device);
            config.queues = queues;
            change(&mut config);
            Port::open(eal, &config).expect("the port opens")
        };
        Self {
            eal,
            ports: [open("a", pair.a), open("b", pair.b)],
        }
    }

    /// The first queue of each port, for a host each.
    pub(crate) fn attach(mut self) -> (Self, [Attached; 2]) {
        let [a, b] = self.attach_all();
        let first = |mut queues: Vec<Attached>| queues.swap_remove(0);
        (self, [first(a), first(b)])
    }

    /// Every queue of each port.
    pub(crate) fn attach_all(&mut self) -> [Vec<Attached>; 2] {
        let attach = |port: &mut Port| {
            let (mac, mtu) = (port.mac(), port.mtu());
            let queues = port.take_queues().into_iter();
            let each = queues.map(|queue| Attached {
                ports: WorkerPorts::new(vec![queue], &[0]),
                mac,
                mtu,
            });
            each.collect()
        };
        self.ports.each_mut().map(attach)
    }

    /// What was counted, at the end.
    pub(crate) fn ending(&self) -> Ending {
        let pools = self.ports.iter().flat_map(Port::pools);
        Ending {
            ports: self.ports.each_ref().map(|port| port.counters().total()),
            injected: pools.map(|pool| pool.injected).sum(),
        }
    }

    /// Each queue's, of both ports.
    pub(crate) fn queue_counters(&self) -> Vec<QueueCounters> {
        self.ports
            .iter()
            .flat_map(|port| port.counters().queues)
            .collect()
    }

    /// Closes both ports; every packet buffer is back then.
    pub(crate) fn close(&mut self) {
        // What one has sent is the other's until that is closed too.
        for port in &mut self.ports {
            port.close().expect("no queue is out");
        }
        for pool in self.ports.iter().flat_map(Port::pools) {
            assert!(pool.is_full(), "packet buffers are missing: {pool:?}");
        }
    }
}

const ENTRIES: u32 = 1024;
